/* SPDX-License-Identifier: MIT */
/*
 * How fast files come from a drive: random pieces of them, read past the page cache for a while.
 * Reading is all that is done to the files; but what the page cache holds of them is dropped.
 */
#ifndef SL_TOOLS_DRIVE_H
#define SL_TOOLS_DRIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

enum sl_drive_reader {
    SL_DRIVE_PREAD, /* a thread per read in flight, O_DIRECT */
    SL_DRIVE_URING, /* one thread, io_uring, O_DIRECT */
    SL_DRIVE_MMAP,  /* a thread per read in flight, page faults over a mapping */
    SL_DRIVE_READERS
};
extern const char *const sl_drive_readers[]; /* their names; ends with NULL */

enum { SL_DRIVE_ALIGN = 4096, SL_DRIVE_BYTES_MAX = 1 << 30, SL_DRIVE_DEPTH_MAX = 256 };

struct sl_drive_test {
    enum sl_drive_reader reader;
    size_t bytes;   /* per read, a multiple of SL_DRIVE_ALIGN, at most SL_DRIVE_BYTES_MAX */
    unsigned depth; /* reads in flight, 1 to SL_DRIVE_DEPTH_MAX */
    double seconds; /* no read begins later */
};

struct sl_drive_result {
    double rate; /* bytes per second */
    uint64_t bytes;
    double latency_mean, latency_max; /* seconds, of one read */
    bool direct; /* the page cache was not used; false for pread and io_uring: no O_DIRECT here */
};

/*
 * Reads pieces of FILES in a random order that repeats none before all were read.  Where the file
 * system refuses O_DIRECT the same reads are made through the page cache, emptied of the files
 * before.  A file smaller than one read is SLUICE_EARG.  Without liburing, or where the kernel
 * does not allow io_uring, SL_DRIVE_URING is SLUICE_EUNSUPPORTED and the message says why.
 */
int sl_drive_measure(const char *const *files, size_t n, const struct sl_drive_test *test,
                     struct sl_drive_result *result, struct sluice_err *err);

/* 0 when the kernel lets this process use io_uring, or else errno of io_uring_setup(2). */
int sl_drive_uring_errno(void);

/* Files to measure with. */
enum { SL_DRIVE_FILES_MAX = 8, SL_DRIVE_FILE_MIN = 4 << 20 };

struct sl_drive_files {
    size_t n;
    char *paths[SL_DRIVE_FILES_MAX]; /* owned */
    uint64_t bytes[SL_DRIVE_FILES_MAX];
};

/*
 * PATH itself, or the largest regular files right in the directory PATH: expert files of a
 * container, shards of a checkpoint.  Files below SL_DRIVE_FILE_MIN do not count; SLUICE_EARG when
 * there is no other.
 */
int sl_drive_files_find(struct sl_drive_files *f, const char *path, struct sluice_err *err);
void sl_drive_files_close(struct sl_drive_files *f);

#endif
