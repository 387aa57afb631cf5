/* SPDX-License-Identifier: MIT */
/* Files cut into pieces that are handed out in a random order.  Private to tools/measure. */
#ifndef SL_TOOLS_PIECES_H
#define SL_TOOLS_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/file.h"

struct sl_piece_file {
    const char *path; /* borrowed */
    int fd;           /* -1: mapped instead */
    struct sl_map map;
    uint64_t pieces;
};

struct sl_pieces {
    struct sl_piece_file *files; /* [n] */
    size_t n;
    size_t bytes;   /* of a piece */
    uint64_t total; /* pieces of all files */
    uint64_t next;  /* pieces handed out; atomic */
    bool direct;    /* opened with O_DIRECT: every file can be read so */
};

struct sl_piece {
    const struct sl_piece_file *file;
    uint64_t offset;
};

/* Opens PATHS, or maps them.  The tail of a file that is no whole piece is left out. */
int sl_pieces_open(struct sl_pieces *p, const char *const *paths, size_t n, size_t bytes,
                   bool mapped, struct sluice_err *err);
void sl_pieces_close(struct sl_pieces *p);

/*
 * The next piece; any thread may ask.  After the last one a new round begins with the same order,
 * and the page cache, when it is used, is emptied of the files.
 */
struct sl_piece sl_pieces_take(struct sl_pieces *p);

/* Number I < TOTAL of a random order of [0, TOTAL). */
uint64_t sl_shuffled(uint64_t i, uint64_t total);

#endif
