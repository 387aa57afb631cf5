/* SPDX-License-Identifier: MIT */
/* Saved sessions: the file's first page, and what its data are in memory (docs/session-file.md). */
#ifndef SL_SNAPSHOT_H
#define SL_SNAPSHOT_H

#include "runtime/session/session.h"

enum {
    SL_SNAPSHOT_VERSION = 1,
    SL_SNAPSHOT_PAGE = 4096,     /* the header's; the data begin behind it */
    SL_SNAPSHOT_PIECE = 4 << 20, /* data are read, written and checksummed in pieces of this */
};

#define SL_COMPUTE_ANEW "remove it, and the session is computed anew" /* for messages */

enum sl_snapshot_flag {
    SL_SNAPSHOT_LOGITS = 1, /* those of the last token are in the file */
    SL_SNAPSHOT_ONEDNN = 2, /* the session multiplied by oneDNN */
};

/* The first bytes of the page, little-endian, as they are in memory; its last 8 are its XXH3. */
struct sl_snapshot {
    uint8_t magic[8];
    uint32_t version;
    uint32_t flags;
    uint64_t file_bytes, data_bytes;
    uint64_t model; /* sl_manifest_digest() */
    uint64_t tokens, mtp_tokens;
    uint64_t table_xxh3; /* of the pieces' XXH3s, which follow the data */
    uint32_t layers;     /* with the MTP layer */
    uint32_t has_mtp;
    uint32_t kv, index;                /* enum sl_cache; index 0: no keys */
    uint32_t latent_bytes, tail_bytes; /* of a row */
    uint32_t panel_bytes;              /* of SL_KEY_PANEL keys; 0: no keys */
    uint32_t hidden, vocab;
    uint32_t piece_bytes;
};

/* What the header of S as it is now says; all but the checksums. */
int sl_snapshot_describe(const sluice_session *s, struct sl_snapshot *h, struct sluice_err *err);

/* Bytes of the checksums of DATA_BYTES. */
size_t sl_snapshot_table_bytes(uint64_t data_bytes);

/* H as the first page of a file, with its checksum; and back, for a file of FILE_BYTES called PATH:
 * whatever a header says by itself is checked. */
void sl_snapshot_print(const struct sl_snapshot *h, uint8_t page[SL_SNAPSHOT_PAGE]);
int sl_snapshot_parse(struct sl_snapshot *h, const uint8_t page[SL_SNAPSHOT_PAGE],
                      uint64_t file_bytes, const char *path, struct sluice_err *err);

/* Opens PATH, a regular file, and reads its header. */
int sl_snapshot_open(int *fd, struct sl_snapshot *h, const char *path, struct sluice_err *err);

/* ---- the data ------------------------------------------------------------------------------- */

/* A stretch of the data, which begins at byte BEGIN of them, and where it is in memory. */
struct sl_stretch {
    uint64_t begin;
    size_t bytes;
    uint8_t *memory; /* NULL: the session has no place for it */
};

struct sl_stretches {
    size_t n;
    uint64_t bytes; /* of all */
    struct sl_stretch *list;
    uint8_t *panels; /* [layers]: copies of the last, partly filled key panels, or NULL */
};

/*
 * The data that H describes, in the memory of S, which has room for them, though not for those of
 * an MTP layer that it does not have.  SAVING: without what a key panel holds behind the last
 * token, so that equal sessions are equal files.
 */
int sl_stretches_open(struct sl_stretches *d, sluice_session *s, const struct sl_snapshot *h,
                      bool saving, struct sluice_err *err);
void sl_stretches_close(struct sl_stretches *d);

/* Moves data between memory and a file, some pieces at once, and checksums them. */
struct sl_transfer {
    int fd; /* past the page cache while it is O_DIRECT */
    bool saving;
    const char *path;
    const struct sl_stretches *data;
    uint64_t *xxh3; /* [pieces]: made when saving, wanted when restoring */
    void *user;
    sluice_loading_fn *progress; /* or NULL */
};

/* When saving, the last piece is followed by zeros up to a whole page. */
int sl_transfer_run(const struct sl_transfer *t, struct sluice_err *err);

#endif
