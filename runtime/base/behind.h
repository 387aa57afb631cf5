/* SPDX-License-Identifier: MIT */
/*
 * The data of a new file, written front to back by a thread of its own: whoever makes the next
 * piece does not wait for the drive.
 */
#ifndef SL_BASE_BEHIND_H
#define SL_BASE_BEHIND_H

#include "runtime/base/file.h"

struct sl_behind;

/*
 * FILE stays the caller's, open until *out is closed; the data begin at offset START.  DIRECT: past
 * the page cache, where the file system allows it and START is a multiple of 4096, which costs no
 * processor time and leaves the cache to others; not for what is soon read again.
 */
int sl_behind_open(struct sl_behind **out, struct sl_newfile *file, uint64_t start, bool direct,
                   struct sluice_err *err);

/* Copies DATA.  An error may be that of an earlier call's data; it stays. */
int sl_behind_append(struct sl_behind *b, const void *data, size_t len, struct sluice_err *err);

/* Waits until all data are in the file, as after sl_newfile_write_at(). */
int sl_behind_finish(struct sl_behind *b, struct sluice_err *err);

/* Ends the thread; what was not yet written is lost. */
void sl_behind_close(struct sl_behind **out);

#endif
