/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share.  A target is one function that feeds one input to a parser and to
 * the code behind it, and aborts when a promise of their headers is broken.
 */
#ifndef SL_TESTS_FUZZ_H
#define SL_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

/* The target: libFuzzer's entry point, called by replay.c in other builds.  Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of NAME in a directory of this process, below $TMPDIR and removed at exit; good until
 * the next call. */
const char *fuzz_path(const char *name);

/* The path of NAME, a directory that is there now. */
const char *fuzz_directory(const char *name);

/* Writes NAME, in place of what it held; returns its path. */
const char *fuzz_put(const char *name, const void *data, size_t len);
const char *fuzz_put_text(const char *name, const char *text);

/* A safetensors file: HEADER, padded to a multiple of ALIGN, and LEN zeros; returns its path. */
const char *fuzz_put_safetensors(const char *name, const void *header, size_t header_len,
                                 size_t align, size_t len);

/* Ends the process with WHAT unless GOOD. */
void fuzz_check(bool good, const char *what);

/* An error to be filled in: whatever the library leaves as it is will not pass for a message. */
void fuzz_err_prepare(struct sluice_err *err);

/* True when STATUS says that all went well; if not, ERR must have the same code and a message of
 * one line without control characters. */
bool fuzz_succeeded(int64_t status, const struct sluice_err *err);

/* Length of DATA before the first blank line, and what follows it in *rest, LEN bytes. */
size_t fuzz_split(const uint8_t *data, size_t size, const uint8_t **rest, size_t *len);

#endif
