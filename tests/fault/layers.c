/* SPDX-License-Identifier: MIT */
/*
 * What `sluice eval kld` holds in memory does not grow with the number of layers.  The models are
 * the demo and the same with its last layer many times over.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/container/checkpoint.h"
#include "tests/fault/process.h"
#include "tests/unit/scratch.h"

enum { MORE = 16 }; /* layers */

/* A checkpoint being written. */
struct growing {
    const struct sl_checkpoint *source;
    unsigned layers; /* of the source */
    json_t *header;
    uint64_t end; /* of the data so far */
    FILE *out;    /* NULL while the header is made */
};

/* Layer number in NAME, −1 without one; *rest: what follows it. */
static int layer_of(const char *name, const char **rest)
{
    static const char prefix[] = "model.layers.";
    char *end;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return -1;
    long layer = strtol(name + sizeof prefix - 1, &end, 10);
    *rest = end;
    return (int)layer;
}

static void add_entry(struct growing *g, const char *name, const struct sl_tensor *t)
{
    json_t *dims = json_array();
    for (unsigned i = 0; i < t->n_dims; i++)
        json_array_append_new(dims, json_integer((json_int_t)t->dims[i]));
    json_object_set_new(g->header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", sl_dtype_name(t->dtype), "shape",
                                  dims, "data_offsets", (json_int_t)g->end,
                                  (json_int_t)(g->end + t->bytes)));
    g->end += t->bytes;
}

static void add_data(struct growing *g, const struct sl_safetensors *st, const struct sl_tensor *t)
{
    void *data = malloc(t->bytes);
    assert_non_null(data);
    assert_int_equal(sl_tensor_read(st, t, data, t->bytes, 0, NULL), 0);
    assert_int_equal(fwrite(data, 1, t->bytes, g->out), t->bytes);
    free(data);
}

/* Every tensor but the MTP layer's; the last layer's 1 + MORE times, under other names. */
static void each_tensor(struct growing *g)
{
    for (size_t i = 0; i < g->source->n_tensors; i++) {
        const struct sl_checkpoint_entry *entry = &g->source->entries[i];
        const char *rest = NULL;
        int layer = layer_of(entry->tensor->name, &rest);
        unsigned copies = layer + 1 == (int)g->layers ? 1 + MORE : layer < (int)g->layers;
        for (unsigned k = 0; k < copies; k++) {
            char name[256];
            snprintf(name, sizeof name, "model.layers.%d%s", layer + (int)k, rest ? rest : "");
            if (g->out)
                add_data(g, g->source->shards[entry->shard], entry->tensor);
            else
                add_entry(g, layer < 0 ? entry->tensor->name : name, entry->tensor);
        }
    }
}

static void put_config(const struct sl_checkpoint *c, unsigned *layers)
{
    char path[SL_PATH_MAX];
    json_t *config = NULL;
    snprintf(path, sizeof path, "%.4000s/config.json", c->dir);
    assert_int_equal(sl_json_read(path, 1 << 20, &config, NULL), 0);
    *layers = (unsigned)json_integer_value(json_object_get(config, "num_hidden_layers"));
    json_object_set_new(config, "num_hidden_layers", json_integer(*layers + MORE));
    json_object_set_new(config, "num_nextn_predict_layers", json_integer(0));
    char *text = json_dumps(config, JSON_INDENT(2));
    put_text("tall/config.json", text);
    free(text);
    json_decref(config);
}

/* root/tall */
static void put_tall(const char *source)
{
    struct sl_checkpoint *c = NULL;
    struct sluice_err err;
    if (sl_checkpoint_open(&c, source, &err) < 0)
        fail_msg("%s", err.msg);
    struct growing g = {.source = c, .header = json_object()};
    assert_int_equal(mkdir(at("tall"), 0777), 0);
    put_config(c, &g.layers);
    each_tensor(&g);
    char *text = json_dumps(g.header, JSON_COMPACT);
    uint64_t length = strlen(text);
    g.out = fopen(at("tall/model.safetensors"), "wb");
    assert_non_null(g.out);
    fwrite(&length, sizeof length, 1, g.out);
    fwrite(text, 1, length, g.out);
    each_tensor(&g);
    assert_int_equal(fclose(g.out), 0);
    free(text);
    json_decref(g.header);
    sl_checkpoint_close(&c);
}

/* The most that an evaluation of NAME, converted from CHECKPOINT, had in memory; without oneDNN,
 * whose buffers (some MB) come and go as it likes. */
static long evaluate(char *checkpoint, char *name)
{
    struct outcome o;
    /* What is freed goes back at once: what malloc keeps of it differs from run to run, by more
     * than a layer. */
    setenv("MALLOC_MMAP_THRESHOLD_", "131072", 1);
    RUN(&o, "quantize", checkpoint, name, "--fast");
    if (o.code != 0)
        fail_msg("%s", o.text);
    RUN(&o, "eval", "kld", "-m", name, "--ref", checkpoint, "--tokens", "ids.i32", "-t", "2",
        "--exact");
    if (o.code != 0)
        fail_msg("%s", o.text);
    expect_text(o.text, "PPL container");
    return o.max_rss;
}

static void holds_one_layer(void **state)
{
    const char *sanitize = getenv("SANITIZE"), *top = getenv("top_srcdir");
    char relative[4096], source[PATH_MAX];
    int32_t ids[64];
    (void)state;
    if (sanitize && *sanitize)
        skip(); /* its shadow counts as memory */
    snprintf(relative, sizeof relative, "%s/demo", top ? top : ".");
    assert_non_null(realpath(relative, source));
    put_tall(source);
    for (int32_t i = 0; i < 64; i++)
        ids[i] = i;
    put("ids.i32", ids, sizeof ids);
    long low = evaluate(source, "low-container"), high = evaluate("tall", "tall-container");
    /* Keeping the least there is to keep of a layer would show. */
    long layer = (long)size_of("low-container/resident-00.safetensors");
    print_message("%.1f MB, with %d more layers of %.1f MB and more %.1f MB\n", (double)low * 1e-6,
                  MORE, (double)layer * 1e-6, (double)high * 1e-6);
    assert_in_range(high, low / 2, low + MORE * layer / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(holds_one_layer)};
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
