/* SPDX-License-Identifier: MIT */
/* Private to the room: names from files made fit for messages, reading and hashing in order. */
#ifndef SL_CONTAINER_PRIVATE_H
#define SL_CONTAINER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

enum {
    SL_NAME_MAX = 512,        /* bytes of a tensor's name */
    SL_MAX_TENSORS = 1 << 18, /* per file; a whole 671B checkpoint has 92,425 */
};

/* A string from a file, for a message: control bytes become '?', long text ends in "…". */
enum { SL_SHOWN = 100 };
const char *sl_shown(const char *text, char out[SL_SHOWN]);

/* True for 1 … LIMIT bytes without control characters. */
bool sl_is_name(const char *text, size_t limit);

/* True for a name of a file that lies directly in its directory and is not hidden. */
bool sl_is_file_name(const char *text);

/* "a, b, c … and 117 more": a list of any length for a message of bounded length. */
struct sl_list {
    char text[512];
    size_t used;
    size_t count; /* names given */
    size_t shown; /* names in TEXT */
};
void sl_list_add(struct sl_list *list, const char *name);
const char *sl_list_text(struct sl_list *list);

/* Calls SEEN with every name in DIR, in no order, until it returns false.  A directory that cannot
 * be read is an empty one. */
void sl_each_name(const char *dir, bool (*seen)(void *arg, const char *name), void *arg);

/* Reads files in order through one buffer of SL_CHUNK_BYTES and hashes what it reads. */
struct sl_scan {
    uint8_t *buffer;
    void *xxh3; /* XXH3_state_t */
    void *user;
    void (*progress)(void *user, uint64_t done, uint64_t total); /* NULL: none */
    uint64_t done, total;                                        /* bytes, over all files */
};
int sl_scan_open(struct sl_scan *s, struct sluice_err *err);
void sl_scan_close(struct sl_scan *s);

/* Starts a new hash; adds bytes [begin, end) of a file; the hash of all bytes added. */
void sl_scan_reset(struct sl_scan *s);
int sl_scan_add(struct sl_scan *s, int fd, const char *path, uint64_t begin, uint64_t end,
                struct sluice_err *err);
uint64_t sl_scan_hash(const struct sl_scan *s);

/* sl_file_hash() with a scan that is already open. */
int sl_scan_file(struct sl_scan *s, const char *path, uint64_t *hash, struct sluice_err *err);

/* Exactly 16 lower-case hexadecimal digits. */
bool sl_parse_hash(const char *text, uint64_t *hash);

/* True for "experts-….safetensors", with or without directories before it. */
bool sl_is_experts_file(const char *path);

#endif
