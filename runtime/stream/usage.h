/* SPDX-License-Identifier: MIT */
/*
 * usage.h: the usage file, which remembers from one run to the next which experts were hot, so that
 * they can be read before they are asked for.  Written only when the user names one.
 */
#ifndef SL_USAGE_H
#define SL_USAGE_H

#include "runtime/stream/slots.h"

/*
 * Sets the counts of S to those in PATH.  SOURCE: the digest of the model's checkpoint
 * (struct sl_manifest), which the file must be about: SLUICE_EARG.  1: done; 0: there is no such
 * file, as before the first run; on failure some counts may be set.
 */
int sl_usage_load(struct sl_slots *s, const char *path, const char *source, struct sluice_err *err);

/* Writes the counts of S as the whole of PATH. */
int sl_usage_save(const struct sl_slots *s, const char *path, const char *source,
                  struct sluice_err *err);

#endif
