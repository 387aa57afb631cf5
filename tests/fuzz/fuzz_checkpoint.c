/* SPDX-License-Identifier: MIT */
/*
 * Finding the shards of a checkpoint.  What an input is depends on its beginning:
 *   "model-"       names of shards, one per line, of a checkpoint without an index; a name with a
 *                  slash behind it is a folder's;
 *   "refs "        the rest is the text of refs/main in a hub folder;
 *   anything else  model.safetensors.index.json beside a few shards.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/container/checkpoint.h"
#include "tests/fuzz/fuzz.h"

enum { NAMES = 8, NAME_ROOM = 300 };

#define U8_TENSOR "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":"
#define ONE_TENSOR(name) "{\"" name U8_TENSOR "[0,4]}}"
#define TWO_TENSORS(a, b) "{\"" a U8_TENSOR "[0,4]},\"" b U8_TENSOR "[4,8]}}"

static void put_shard(const char *name, const char *header, size_t len)
{
    fuzz_put_safetensors(name, header, strlen(header), 1, len);
}

/* Opens DIR; whatever it holds must be found again. */
static void open_checkpoint(const char *dir)
{
    struct sl_checkpoint *c;
    struct sluice_err err;
    fuzz_err_prepare(&err);
    if (fuzz_succeeded(sl_checkpoint_open(&c, dir, &err), &err)) {
        for (size_t i = 0; i < c->n_tensors; i++) {
            const struct sl_checkpoint_entry *e = &c->entries[i];
            const struct sl_safetensors *st = NULL;
            fuzz_check(sl_checkpoint_find(c, e->tensor->name, &st) == e->tensor &&
                           st == c->shards[e->shard],
                       "a tensor is not found by its name");
        }
    }
    sl_checkpoint_close(&c);
}

/* ---- an index ------------------------------------------------------------------------------- */

static void open_indexed(const uint8_t *data, size_t size)
{
    static bool made;
    if (!made) {
        fuzz_directory("indexed");
        fuzz_put_text("indexed/config.json", "{}");
        put_shard("indexed/a.safetensors", TWO_TENSORS("x", "y"), 8);
        put_shard("indexed/b.safetensors", ONE_TENSOR("z"), 4);
        put_shard("indexed/again.safetensors", ONE_TENSOR("x"), 4);
        put_shard("indexed/cut.safetensors", ONE_TENSOR("w"), 3);
        made = true;
    }
    fuzz_put("indexed/model.safetensors.index.json", data, size);
    open_checkpoint(fuzz_path("indexed"));
}

/* ---- a hub folder --------------------------------------------------------------------------- */

static void open_hub(const uint8_t *data, size_t size)
{
    static bool made;
    if (!made) {
        fuzz_directory("hub");
        fuzz_directory("hub/refs");
        fuzz_directory("hub/snapshots");
        fuzz_directory("hub/snapshots/c0ffee");
        fuzz_put_text("hub/snapshots/c0ffee/config.json", "{}");
        put_shard("hub/snapshots/c0ffee/model.safetensors", ONE_TENSOR("x"), 4);
        made = true;
    }
    fuzz_put("hub/refs/main", data, size);
    open_checkpoint(fuzz_path("hub"));
}

/* ---- names only ----------------------------------------------------------------------------- */

/* Takes a line from *DATA; false when it cannot be a name or nothing is left. */
static bool take_name(const uint8_t **data, size_t *size, char name[NAME_ROOM], bool *is_folder)
{
    const uint8_t *line = *data, *end = *size ? memchr(line, '\n', *size) : NULL;
    size_t whole = end ? (size_t)(end - line) : *size, n = whole;
    *is_folder = n > 0 && line[n - 1] == '/';
    n -= *is_folder;
    *data += whole + (end != NULL);
    *size -= whole + (end != NULL);
    if (n == 0 || n > 255 || line[0] == '.' || memchr(line, '/', n) || memchr(line, 0, n))
        return false;
    snprintf(name, NAME_ROOM, "named/%.*s", (int)n, (const char *)line);
    return true;
}

static void open_named(const uint8_t *data, size_t size)
{
    char names[NAMES][NAME_ROOM], header[128];
    size_t n = 0;
    bool is_folder;
    fuzz_directory("named");
    fuzz_put_text("named/config.json", "{}");
    for (; n < NAMES && take_name(&data, &size, names[n], &is_folder); n++) {
        snprintf(header, sizeof header, ONE_TENSOR("t%zu"), n);
        if (is_folder)
            fuzz_directory(names[n]);
        else if (access(fuzz_path(names[n]), F_OK) != 0)
            put_shard(names[n], header, 4);
    }
    open_checkpoint(fuzz_path("named"));
    while (n > 0)
        remove(fuzz_path(names[--n]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 6 && memcmp(data, "model-", 6) == 0)
        open_named(data, size);
    else if (size >= 5 && memcmp(data, "refs ", 5) == 0)
        open_hub(data + 5, size - 5);
    else
        open_indexed(data, size);
    return 0;
}
