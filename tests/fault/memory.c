/* SPDX-License-Identifier: MIT */
/*
 * What a conversion holds in memory while it converts tensors that are much larger: rows, never a
 * tensor.  The checkpoint is tiny-v32 with more words; their embeddings are holes in a file.
 * SLUICE_TEST_LONG=1: tensors of 640 MB, not 64 MB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/container/checkpoint.h"
#include "tests/fault/process.h"
#include "tests/unit/scratch.h"

enum { WORDS = 200000, WORDS_LONG = 2000000 };

static const size_t limit = 300000000; /* bytes, however large the tensors are */

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* True for [words, hidden]: the main ones, and the MTP layer's copies. */
static bool is_per_word(const char *name)
{
    return ends_in(name, "embed_tokens.weight") || ends_in(name, "head.weight");
}

/* The entry of T in a header, data from *END on; *END moves. */
static void add_entry(json_t *header, const struct sl_tensor *t, uint64_t words, uint64_t *end)
{
    uint64_t bytes = t->bytes, begin = *end;
    json_t *dims = json_array();
    for (unsigned i = 0; i < t->n_dims; i++) {
        bool grown = i == 0 && is_per_word(t->name);
        bytes = grown ? t->bytes / t->dims[0] * words : bytes;
        json_array_append_new(dims, json_integer((json_int_t)(grown ? words : t->dims[i])));
    }
    *end += bytes;
    json_object_set_new(header, t->name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", sl_dtype_name(t->dtype), "shape",
                                  dims, "data_offsets", (json_int_t)begin, (json_int_t)*end));
}

static void copy_data(FILE *out, const struct sl_safetensors *st, const struct sl_tensor *t)
{
    void *data = malloc(t->bytes);
    assert_non_null(data);
    assert_int_equal(sl_tensor_read(st, t, data, t->bytes, 0, NULL), 0);
    assert_int_equal(fwrite(data, 1, t->bytes, out), t->bytes);
    free(data);
}

/* root/NAME: all tensors of C, those of the words behind the others, so that the file ends in a
 * hole. */
static void put_grown(const char *name, const struct sl_checkpoint *c, uint64_t words)
{
    json_t *header = json_object();
    uint64_t end = 0, length;
    for (int grown = 0; grown < 2; grown++)
        for (size_t i = 0; i < c->n_tensors; i++)
            if (is_per_word(c->entries[i].tensor->name) == grown)
                add_entry(header, c->entries[i].tensor, words, &end);
    char *text = json_dumps(header, JSON_COMPACT);
    length = strlen(text);
    FILE *out = fopen(at(name), "wb");
    assert_non_null(out);
    fwrite(&length, sizeof length, 1, out);
    fwrite(text, 1, length, out);
    for (size_t i = 0; i < c->n_tensors; i++)
        if (!is_per_word(c->entries[i].tensor->name))
            copy_data(out, c->shards[c->entries[i].shard], c->entries[i].tensor);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(truncate(at(name), (off_t)(sizeof length + length + end)), 0);
    free(text);
    json_decref(header);
}

static void put_config(const char *from, const char *to, uint64_t words)
{
    json_t *config = NULL;
    assert_int_equal(sl_json_read(at(from), 1 << 20, &config, NULL), 0);
    json_object_set_new(config, "vocab_size", json_integer((json_int_t)words));
    char *text = json_dumps(config, JSON_INDENT(2));
    put_text(to, text);
    free(text);
    json_decref(config);
}

static void convert(char *threads, size_t largest)
{
    struct outcome o;
    RUN(&o, "quantize", "grown", "container", "--threads", threads);
    if (o.code != 0)
        fail_msg("%s", o.text);
    print_message("%s threads: %.1f MB at most, largest tensor %.1f MB\n", threads,
                  (double)o.max_rss * 1e-6, (double)largest * 1e-6);
    assert_in_range(o.max_rss, 1, limit);
    assert_in_range(o.max_rss, 1, largest - 1);
    remove_tree("container");
}

static void holds_no_tensor(void **state)
{
    const char *sanitize = getenv("SANITIZE");
    uint64_t words = is_long() ? WORDS_LONG : WORDS;
    struct sl_checkpoint *c = NULL;
    const struct sl_safetensors *st;
    struct sluice_err err;
    (void)state;
    if (sanitize && *sanitize)
        skip(); /* its shadow counts as memory */
    link_checkpoint("small", "tiny-v32");
    if (sl_checkpoint_open(&c, at("small"), &err) < 0)
        fail_msg("%s", err.msg);
    const struct sl_tensor *head = sl_checkpoint_find(c, "lm_head.weight", &st);
    size_t largest = head->bytes / head->dims[0] * words;
    assert_int_equal(mkdir(at("grown"), 0777), 0);
    put_grown("grown/model.safetensors", c, words);
    put_config("small/config.json", "grown/config.json", words);
    sl_checkpoint_close(&c);
    convert("1", largest);
    convert("16", largest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(holds_no_tensor)};
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
