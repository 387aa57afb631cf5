/* SPDX-License-Identifier: MIT */
/* Files: read-only mappings, whole reads and writes, atomic replacement, directories. */
#ifndef SL_BASE_FILE_H
#define SL_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

enum { SL_PATH_MAX = 4096 };

/* out = "DIR/NAME"; SLUICE_EARG when it does not fit in SL_PATH_MAX. */
int sl_path_join(char out[SL_PATH_MAX], const char *dir, const char *name, struct sluice_err *err);

bool sl_file_exists(const char *path);
bool sl_is_directory(const char *path);

/* Creates DIR (its parent must exist) unless it is there already. */
int sl_make_directory(const char *dir, struct sluice_err *err);

/* A file mapped read-only.  Zero-length files map to data == NULL, size == 0. */
struct sl_map {
    const uint8_t *data;
    size_t size;
};

int sl_map_open(struct sl_map *map, const char *path, struct sluice_err *err);
void sl_map_close(struct sl_map *map);

/*
 * Reads a whole text file of at most LIMIT bytes; *data (malloc'ed, NUL-terminated, owned by the
 * caller) and *size.
 */
int sl_file_read(const char *path, size_t limit, char **data, size_t *size, struct sluice_err *err);

/* Reads exactly LEN bytes at OFFSET; a short file is SLUICE_EFORMAT.  NAME is for messages. */
int sl_read_at(int fd, void *data, size_t len, uint64_t offset, const char *name,
               struct sluice_err *err);

/* For a direct read that was refused, as may happen one by one (larger blocks, after a short read):
 * true when FD was read past the page cache; from now on it is not. */
bool sl_stop_direct(int fd);

/*
 * A file being written under a temporary name beside its final one.  commit makes it durable
 * (fsync), renames it into place and syncs the directory; close without commit removes it.
 */
struct sl_newfile {
    int fd; /* -1: closed */
    bool nameless;
    char path[SL_PATH_MAX];
    char temporary[SL_PATH_MAX + 16]; /* for messages the final name as long as there is none */
};

int sl_newfile_open(struct sl_newfile *f, const char *path, struct sluice_err *err);

/*
 * The same without a temporary name until commit, where the file system has such files: nothing is
 * left of a process that is killed, and of several that write one file each completes, the last
 * one's staying.
 */
int sl_newfile_open_nameless(struct sl_newfile *f, const char *path, struct sluice_err *err);

/* Takes room for BYTES on the drive before the first is written, where the file system can. */
int sl_newfile_reserve(struct sl_newfile *f, uint64_t bytes, struct sluice_err *err);
int sl_newfile_write_at(struct sl_newfile *f, const void *data, size_t len, uint64_t offset,
                        struct sluice_err *err);
/* Whether writes go past the page cache, until said otherwise: where the file system allows it, and
 * for whole aligned pages of memory and file only. */
void sl_newfile_direct(struct sl_newfile *f, bool direct);
int sl_newfile_commit(struct sl_newfile *f, struct sluice_err *err);
void sl_newfile_close(struct sl_newfile *f);

/* Writes DATA as the whole of PATH, atomically and durably. */
int sl_file_replace(const char *path, const void *data, size_t len, struct sluice_err *err);

/* Makes PATH a symbolic link to TARGET, there or not, atomically and durably. */
int sl_link_replace(const char *path, const char *target, struct sluice_err *err);

#endif
