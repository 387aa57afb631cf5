/* SPDX-License-Identifier: MIT */
/* Reading JSON objects with errors that name file and key.  A thin layer over jansson. */
#ifndef SL_BASE_JSON_H
#define SL_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime/sluice.h"

/* Values in one text, because each costs 50 to 250 bytes of memory and as few as two of text.  A
 * header with the most tensors that a file may have needs 8 for each of them. */
enum { SL_JSON_MAX_VALUES = 10 << 18 };

/* Parses the file; the root must be an object.  *root is released with json_decref(). */
int sl_json_read(const char *path, size_t limit, json_t **root, struct sluice_err *err);

/* The same for LEN bytes in memory; NAME is for messages. */
int sl_json_parse(const char *name, const char *data, size_t len, json_t **root,
                  struct sluice_err *err);

/*
 * Typed members of OBJECT.  PATH is for messages.  A missing key is an error unless FALLBACK is
 * given; a key with null counts as missing; a wrong type or a value outside [low, high] is an error
 * that shows what was found.  Strings are borrowed from OBJECT.
 */
int sl_json_int(const json_t *object, const char *path, const char *key, int64_t low, int64_t high,
                const int64_t *fallback, int64_t *out, struct sluice_err *err);
int sl_json_number(const json_t *object, const char *path, const char *key, double low, double high,
                   const double *fallback, double *out, struct sluice_err *err);
int sl_json_bool(const json_t *object, const char *path, const char *key, const bool *fallback,
                 bool *out, struct sluice_err *err);
int sl_json_string(const json_t *object, const char *path, const char *key, const char *fallback,
                   const char **out, struct sluice_err *err);

/* A JSON string for people: JSON wants UTF-8, which a path or a cut message may not be. */
json_t *sl_json_text(const char *text);

#endif
