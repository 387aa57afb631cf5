/* SPDX-License-Identifier: MIT */
/* A directory of the test's own below $TMPDIR, and files in it.  Failures fail the test. */
#ifndef SL_TESTS_SCRATCH_H
#define SL_TESTS_SCRATCH_H

#include <stddef.h>

/* The directory, once make_root() has run. */
extern char root[256];

/* Group set-up and tear-down of cmocka. */
int make_root(void **state);
int remove_root(void **state);

/* root/NAME; good until four more calls. */
const char *at(const char *name);

/* Writes root/NAME. */
void put(const char *name, const void *data, size_t len);
void put_text(const char *name, const char *text);

/* A safetensors file: HEADER, padded to a multiple of ALIGN, and LEN bytes of data. */
void put_safetensors(const char *name, const char *header, size_t align, const void *data,
                     size_t len);

/* Removes the directory root/NAME with all that is in it. */
void remove_tree(const char *name);

size_t size_of(const char *name);
/* root/A and root/B are the same to the byte. */
void expect_same_files(const char *a, const char *b);
void flip(const char *name, size_t byte, int bit);

/* TEXT must contain PART. */
void expect_text(const char *text, const char *part);

#endif
