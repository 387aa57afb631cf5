/* SPDX-License-Identifier: MIT */
/*
 * runtime/container: hostile safetensors headers, checkpoints with parts missing, descriptors, the
 * manifest, and that verifying finds every flipped bit.  Works in a directory of its own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/container/checkpoint.h"
#include "runtime/container/container.h"
#include "tests/unit/scratch.h"

static void make_dir(const char *name)
{
    assert_int_equal(mkdir(at(name), 0777), 0);
}

static const char *demo(void)
{
    static char path[4096];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/demo", top ? top : ".");
    return path;
}

/* ---- safetensors ---------------------------------------------------------------------------- */

static void reads_a_published_file(void **state)
{
    char path[SL_PATH_MAX], shape[128];
    struct sl_safetensors *st;
    struct sluice_err err = {0};
    float scale[12];
    (void)state;
    assert_int_equal(sl_path_join(path, demo(), "model-00001-of-00003.safetensors", &err), 0);
    assert_int_equal(sl_safetensors_open(&st, path, &err), 0);
    assert_string_equal(sl_safetensors_meta(st, "format"), "pt");
    assert_null(sl_safetensors_meta(st, "none"));
    const struct sl_tensor *t = sl_safetensors_find(
        st, "model.layers.0.mlp.down_proj.weight_scale_inv");
    assert_non_null(t);
    assert_int_equal(t->dtype, SL_F32);
    assert_string_equal(sl_tensor_shape(t, shape), "[2, 6]");
    assert_int_equal(t->offset, st->data_start);
    assert_int_equal(sl_tensor_read(st, t, scale, 48, 0, &err), 0);
    assert_true(scale[0] > 0 && scale[0] < 1);
    assert_int_equal(sl_tensor_read(st, t, scale, 48, 4, &err), SLUICE_EARG);
    assert_int_equal(sl_tensor_read(st, t, scale, 0, UINT64_MAX, &err), SLUICE_EARG);
    assert_null(sl_safetensors_find(st, "model"));
    for (size_t i = 1; i < st->n_tensors; i++)
        assert_true(strcmp(st->tensors[i - 1].name, st->tensors[i].name) < 0);
    sl_safetensors_close(&st);
    assert_null(st);
    sl_safetensors_close(&st);
}

#define ONE(shape, range)                                                                          \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":" range "}}"
#define U8(name, n, begin, end)                                                                    \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" #n "],\"data_offsets\":[" #begin "," #end "]}"

static const struct hostile {
    const char *header;
    size_t data; /* bytes behind the header */
    int code;
    const char *part; /* of the message */
} hostile[] = {
    {"{}", 0, 0, NULL},
    {"{\"__metadata__\":{}}", 0, 0, NULL},
    {"{" U8("a", 4, 0, 4) "}   ", 4, 0, NULL},
    {ONE("[]", "[0,1]"), 1, 0, NULL},
    {ONE("[2,0,3]", "[0,0]"), 0, 0, NULL},
    {"{" U8("b", 4, 4, 8) "," U8("a", 4, 0, 4) "," U8("e", 0, 4, 4) "}", 8, 0, NULL},
    {ONE("[1,1,1,1,1,1,1,1]", "[0,1]"), 1, 0, NULL},

    {"{}", 1, SLUICE_EFORMAT, "1 bytes behind the last tensor"},
    {ONE("[4]", "[0,4]"), 5, SLUICE_EFORMAT, "1 bytes behind the last tensor"},
    {ONE("[4]", "[0,4]"), 3, SLUICE_EFORMAT, "tensor a: ends at byte"},
    {ONE("[4]", "[0,4]"), 3, SLUICE_EFORMAT, "download it again"},
    {ONE("[4]", "[4,8]"), 8, SLUICE_EFORMAT, "tensor a: begins at byte"},
    {ONE("[4]", "[0,5]"), 5, SLUICE_EFORMAT, "tensor a: 5 bytes, U8 [4] needs 4"},
    {ONE("[4]", "[4,0]"), 4, SLUICE_EFORMAT, "tensor a: \"data_offsets\""},
    {ONE("[4]", "[-4,0]"), 4, SLUICE_EFORMAT, "tensor a: \"data_offsets\""},
    {ONE("[4]", "[0]"), 4, SLUICE_EFORMAT, "tensor a: \"data_offsets\""},
    {ONE("[4]", "[0,4,8]"), 4, SLUICE_EFORMAT, "tensor a: \"data_offsets\""},
    {ONE("[4]", "[0,4.0]"), 4, SLUICE_EFORMAT, "tensor a: \"data_offsets\""},
    {ONE("[4]", "7"), 4, SLUICE_EFORMAT, "tensor a: \"data_offsets\""},
    {ONE("[-4]", "[0,4]"), 4, SLUICE_EFORMAT, "tensor a: dimension 0"},
    {ONE("[2,\"2\"]", "[0,4]"), 4, SLUICE_EFORMAT, "tensor a: dimension 1"},
    {ONE("4", "[0,4]"), 4, SLUICE_EFORMAT, "tensor a: no \"shape\""},
    {ONE("[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, SLUICE_EFORMAT, "tensor a: 9 dimensions"},
    {ONE("[4294967296,4294967296]", "[0,0]"), 0, SLUICE_EFORMAT, "tensor a: shape is beyond"},
    {ONE("[4294967296,4294967296,0]", "[0,0]"), 0, SLUICE_EFORMAT, "tensor a: shape is beyond"},
    {ONE("[9223372036854775807]", "[0,9223372036854775807]"), 4, SLUICE_EFORMAT, "tensor a: ends"},
    {ONE("[99999999999999999999]", "[0,4]"), 4, SLUICE_EFORMAT, "not valid JSON"},
    {"{" U8("a", 4, 0, 4) "," U8("b", 4, 2, 6) "}", 6, SLUICE_EFORMAT, "tensor b: begins"},
    {"{" U8("a", 4, 0, 4) "," U8("b", 4, 0, 4) "}", 4, SLUICE_EFORMAT, "inside the tensor before"},
    {"{" U8("a", 4, 0, 4) "," U8("b", 4, 5, 9) "}", 9, SLUICE_EFORMAT, "a hole"},
    {"{" U8("a", 4, 0, 4) "," U8("a", 4, 4, 8) "}", 8, SLUICE_EFORMAT, "duplicate"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     SLUICE_EFORMAT, "duplicate"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, SLUICE_EUNSUPPORTED,
     "tensor a: dtype F4"},
    {"{\"a\":{\"dtype\":\"\\u001b[2J\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
     SLUICE_EUNSUPPORTED, "dtype ?[2J"},
    {"{\"a\":{\"dtype\":8,\"shape\":[4],\"data_offsets\":[0,4]}}", 4, SLUICE_EFORMAT,
     "tensor a: no \"dtype\""},
    {"{\"a\":{}}", 0, SLUICE_EFORMAT, "tensor a: no \"dtype\""},
    {"{\"a\":[]}", 0, SLUICE_EFORMAT, "tensor a: entry is no JSON object"},
    {"{" U8("", 4, 0, 4) "}", 4, SLUICE_EFORMAT, "name is empty"},
    {"{" U8("a\\nb", 4, 0, 4) "}", 4, SLUICE_EFORMAT, "tensor a?b: name is"},
    {"{" U8("a\\u0000b", 4, 0, 4) "}", 4, SLUICE_EFORMAT, "not valid JSON"},
    {"{\"__metadata__\":{\"x\":1}}", 0, SLUICE_EFORMAT, "\"x\" is no string"},
    {"{\"__metadata__\":[]}", 0, SLUICE_EFORMAT, "__metadata__ is no JSON object"},
    {"[]", 0, SLUICE_EFORMAT, "JSON object wanted"},
    {"{\"a\":", 0, SLUICE_EFORMAT, "not valid JSON"},
    {"{}x", 0, SLUICE_EFORMAT, "not valid JSON"},
};

static void expect_open(const char *name, int code, const char *part)
{
    struct sl_safetensors *st;
    struct sluice_err err = {0};
    int status = sl_safetensors_open(&st, at(name), &err);
    if (status != code)
        fail_msg("%s: %d, %d wanted: %s", name, status, code, err.msg);
    if (code < 0) {
        assert_null(st);
        assert_int_equal(err.code, code);
        expect_text(err.msg, name);
        expect_text(err.msg, part);
        assert_int_equal(sl_safetensors_open(&st, at(name), NULL), code);
    }
    sl_safetensors_close(&st);
}

static void refuses_hostile_headers(void **state)
{
    static const uint8_t data[64];
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        char name[64];
        snprintf(name, sizeof name, "hostile-%zu.safetensors", i);
        put_safetensors(name, hostile[i].header, 1, data, hostile[i].data);
        expect_open(name, hostile[i].code, hostile[i].part);
    }
}

static void refuses_hostile_lengths(void **state)
{
    static const struct {
        uint64_t length;
        size_t rest;
        const char *part;
    } cases[] = {
        {0, 8, "header of 0 bytes"},
        {1, 8, "header of 1 bytes"},
        {9, 8, "truncated"},
        {1000, 8, "truncated"},
        {128 << 20, 8, "truncated"},
        {(128 << 20) + 1, 8, "not a safetensors file"},
        {UINT64_MAX, 8, "not a safetensors file"},
        {UINT64_MAX - 7, 8, "not a safetensors file"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t file[64] = {0};
        memcpy(file, &cases[i].length, 8); /* tests run on little-endian machines */
        put("length.safetensors", file, 8 + cases[i].rest);
        expect_open("length.safetensors", SLUICE_EFORMAT, cases[i].part);
    }
    put_text("lfs.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    expect_open("lfs.safetensors", SLUICE_EFORMAT, "git lfs pull");
    put("short.safetensors", "1234567", 7);
    expect_open("short.safetensors", SLUICE_EFORMAT, "truncated");
    put("empty.safetensors", "", 0);
    expect_open("empty.safetensors", SLUICE_EFORMAT, "truncated");
    expect_open("absent.safetensors", SLUICE_EFORMAT, "cannot open");
    make_dir("dir.safetensors");
    expect_open("dir.safetensors", SLUICE_EFORMAT, "not a regular file");
    assert_int_equal(mkfifo(at("fifo.safetensors"), 0666), 0);
    expect_open("fifo.safetensors", SLUICE_EFORMAT, "not a regular file");
}

static void limits_names_and_nesting(void **state)
{
    char header[8192], name[600];
    (void)state;
    for (size_t len = 512; len <= 513; len++) {
        memset(name, 'n', len);
        name[len] = 0;
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", name);
        put_safetensors("long.safetensors", header, 1, "x", 1);
        expect_open("long.safetensors", len == 512 ? 0 : SLUICE_EFORMAT, "nnn");
    }
    memset(header, '[', sizeof header - 1);
    memcpy(header, "{\"a\":", 5);
    header[sizeof header - 1] = 0;
    put_safetensors("deep.safetensors", header, 1, "", 0);
    expect_open("deep.safetensors", SLUICE_EFORMAT, "depth");

    size_t len = 11 << 20; /* a bomb: small text, many values */
    char *bomb = malloc(len + 1);
    assert_non_null(bomb);
    memset(bomb, ',', len);
    bomb[len] = 0;
    put_safetensors("bomb.safetensors", bomb, 1, "", 0);
    expect_open("bomb.safetensors", SLUICE_EFORMAT, "JSON values");
    free(bomb);
}

/* Every truncation of a good file is found. */
static void finds_every_truncation(void **state)
{
    (void)state;
    put_safetensors("cut.safetensors", "{" U8("a", 4, 0, 4) "," U8("b", 0, 4, 4) "}", 64, "abcd",
                    4);
    for (size_t size = size_of("cut.safetensors"); size-- > 0;) {
        assert_int_equal(truncate(at("cut.safetensors"), (off_t)size), 0);
        expect_open("cut.safetensors", SLUICE_EFORMAT, "truncated");
    }
}

/* ---- checkpoints ---------------------------------------------------------------------------- */

static void put_shard(const char *name, const char *tensor)
{
    char header[256];
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", tensor);
    put_safetensors(name, header, 8, "abcd", 4);
}

static void expect_checkpoint(const char *dir, int code, const char *part)
{
    struct sl_checkpoint *c;
    struct sluice_err err = {0};
    int status = sl_checkpoint_open(&c, at(dir), &err);
    if (status != code)
        fail_msg("%s: %d, %d wanted: %s", dir, status, code, err.msg);
    if (code < 0) {
        assert_null(c);
        expect_text(err.msg, part);
    }
    sl_checkpoint_close(&c);
}

static void opens_the_demo(void **state)
{
    struct sl_checkpoint *c;
    struct sluice_err err = {0};
    const struct sl_safetensors *st = NULL;
    (void)state;
    assert_int_equal(sl_checkpoint_open(&c, demo(), &err), 0);
    assert_int_equal(c->n_shards, 3);
    assert_string_equal(c->dir, demo());
    const struct sl_tensor *t = sl_checkpoint_find(c, "lm_head.weight", &st);
    assert_non_null(t);
    assert_ptr_equal(st, c->shards[0]);
    assert_null(sl_checkpoint_find(c, "lm_head", &st));
    for (size_t i = 0; i < c->n_tensors; i++) {
        t = c->entries[i].tensor;
        assert_ptr_equal(sl_checkpoint_find(c, t->name, &st), t);
        assert_ptr_equal(st, c->shards[c->entries[i].shard]);
    }
    sl_checkpoint_close(&c);
    sl_checkpoint_close(&c);
}

static void names_missing_shards(void **state)
{
    char *index = calloc(1, 1 << 16);
    size_t used = (size_t)snprintf(index, 1 << 16, "{\"weight_map\":{");
    (void)state;
    make_dir("missing");
    put_text("missing/config.json", "{}");
    for (int i = 1; i <= 163; i++)
        used += (size_t)snprintf(index + used, (1 << 16) - used,
                                 "%s\"t%d\":\"model-%05d-of-00163.safetensors\"", i > 1 ? "," : "",
                                 i, i);
    snprintf(index + used, (1 << 16) - used, "}}");
    put_text("missing/model.safetensors.index.json", index);
    expect_checkpoint("missing", SLUICE_EFORMAT, "163 of 163 shards are missing");
    expect_checkpoint("missing", SLUICE_EFORMAT, "model-00001-of-00163.safetensors, model-00002");
    expect_checkpoint("missing", SLUICE_EFORMAT, "more; download them again");
    for (int i = 1; i <= 163; i++) {
        char name[64], tensor[16];
        snprintf(name, sizeof name, "missing/model-%05d-of-00163.safetensors", i);
        snprintf(tensor, sizeof tensor, "t%d", i);
        if (i != 7 && i != 90)
            put_shard(name, tensor);
    }
    expect_checkpoint("missing", SLUICE_EFORMAT,
                      "2 of 163 shards are missing: model-00007-of-00163.safetensors, "
                      "model-00090-of-00163.safetensors;");
    make_dir("missing/.cache");
    make_dir("missing/.cache/huggingface");
    make_dir("missing/.cache/huggingface/download");
    put_text("missing/.cache/huggingface/download/x.incomplete", "");
    expect_checkpoint("missing", SLUICE_EFORMAT, "interrupted");
    put_shard("missing/model-00007-of-00163.safetensors", "t7");
    put_shard("missing/model-00090-of-00163.safetensors", "t90");
    expect_checkpoint("missing", 0, NULL);
    unlink(at("missing/model-00090-of-00163.safetensors"));
    unlink(at("missing/model.safetensors.index.json"));
    expect_checkpoint("missing", SLUICE_EFORMAT, "1 of 163 shards are missing: model-00090-of");
    free(index);
}

static void compares_shards_and_index(void **state)
{
    static const char *const index = "index/model.safetensors.index.json";
    (void)state;
    make_dir("index");
    put_shard("index/one.safetensors", "a");
    expect_checkpoint("index", SLUICE_EFORMAT, "no config.json");
    put_text("index/config.json", "{}");
    expect_checkpoint("index", 0, NULL);
    put_shard("index/two.safetensors", "b");
    put_text(index, "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
    expect_checkpoint("index", 0, NULL);
    put_text(index, "{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}");
    expect_checkpoint("index", SLUICE_EFORMAT,
                      "tensor a should be in two.safetensors, but is in "
                      "one.safetensors");
    put_text(index, "{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}");
    expect_checkpoint("index", SLUICE_EFORMAT, "tensor c should be in two.safetensors, which does");
    put_text(index, "{\"weight_map\":{\"a\":\"../one.safetensors\"}}");
    expect_checkpoint("index", SLUICE_EFORMAT, "tensor a: not the name");
    put_text(index, "{\"weight_map\":{\"a\":\".safetensors\"}}");
    expect_checkpoint("index", SLUICE_EFORMAT, "tensor a: not the name");
    put_text(index, "{\"weight_map\":{\"a\":1}}");
    expect_checkpoint("index", SLUICE_EFORMAT, "tensor a: not the name");
    put_text(index, "{\"weight_map\":{}}");
    expect_checkpoint("index", SLUICE_EFORMAT, "names 0 shards");
    put_text(index, "{}");
    expect_checkpoint("index", SLUICE_EFORMAT, "weight_map");
    put_text(index, "{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}}");
    expect_checkpoint("index", SLUICE_EFORMAT, "duplicate");
    unlink(at(index));
    put_shard("index/two.safetensors", "a");
    expect_checkpoint("index", SLUICE_EFORMAT, "tensor a is both in");
    put("index/two.safetensors", "1234567890", 10);
    expect_checkpoint("index", SLUICE_EFORMAT, "two.safetensors");
    put_text("index/sluice.json", "{}");
    expect_checkpoint("index", SLUICE_EFORMAT, "a Sluice container");
    expect_checkpoint("nowhere", SLUICE_EARG, "no such directory");
    make_dir("bare");
    put_text("bare/config.json", "{}");
    expect_checkpoint("bare", SLUICE_EFORMAT, "nor any *.safetensors");
}

static void resolves_hub_folders(void **state)
{
    struct sl_checkpoint *c;
    struct sluice_err err = {0};
    (void)state;
    make_dir("models--a--b");
    make_dir("models--a--b/blobs");
    make_dir("models--a--b/snapshots");
    make_dir("models--a--b/snapshots/c0ffee");
    expect_checkpoint("models--a--b", SLUICE_EFORMAT, "without refs/main");
    make_dir("models--a--b/refs");
    put_text("models--a--b/refs/main", "beef");
    expect_checkpoint("models--a--b", SLUICE_EFORMAT, "names the snapshot beef");
    put_text("models--a--b/refs/main", "../../etc");
    expect_checkpoint("models--a--b", SLUICE_EFORMAT, "not the name of a commit");
    put_text("models--a--b/refs/main", "c0ffee\n");
    put_text("models--a--b/blobs/1", "{}");
    assert_int_equal(symlink("../../blobs/1", at("models--a--b/snapshots/c0ffee/config.json")), 0);
    assert_int_equal(
        symlink("../../blobs/2", at("models--a--b/snapshots/c0ffee/model.safetensors")), 0);
    expect_checkpoint("models--a--b", SLUICE_EFORMAT, "1 of 1 shards are missing: model.safet");
    put_text("models--a--b/blobs/2.incomplete", "");
    expect_checkpoint("models--a--b", SLUICE_EFORMAT, "interrupted");
    put_shard("models--a--b/blobs/2", "a");
    assert_int_equal(sl_checkpoint_open(&c, at("models--a--b"), &err), 0);
    assert_string_equal(c->dir, at("models--a--b/snapshots/c0ffee"));
    sl_checkpoint_close(&c);
    expect_checkpoint("models--a--b/snapshots/c0ffee", 0, NULL);
}

/* ---- packing descriptors -------------------------------------------------------------------- */

static void round_trip(const struct sl_packing *p)
{
    char text[256], again[256];
    struct sl_packing q;
    struct sluice_err err = {0};
    sl_packing_print(p, text);
    if (sl_packing_parse(text, "f: t", &q, &err) != 0)
        fail_msg("%s: %s", text, err.msg);
    assert_int_equal(q.code, p->code);
    assert_int_equal(q.scale, p->scale);
    assert_int_equal(q.group, p->group);
    assert_int_equal(q.rows, p->rows);
    assert_int_equal(q.cols, p->cols);
    assert_int_equal(q.count, p->count);
    assert_memory_equal(q.codebook, p->codebook, sizeof q.codebook);
    sl_packing_print(&q, again);
    assert_string_equal(text, again);
}

static void round_trips_descriptors(void **state)
{
    static const int8_t books[][SL_CODEBOOK] = {
        {-128, -127, -126, -125, -124, -123, -122, -121, -120, -119, -118, -117, -116, -115, -114,
         -113},
        {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
        {-12, -8, -6, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 6, 8, 12},
    };
    static const uint32_t sizes[][3] = {{1, 1, 1}, {1536, 7168, 1}, {512, 128, 128}, {17, 33, 3}};
    (void)state;
    for (size_t s = 0; s < 4; s++) {
        struct sl_packing p = {.rows = sizes[s][0], .cols = sizes[s][1], .count = sizes[s][2]};
        p.code = SL_CODE_F32;
        round_trip(&p);
        p.code = SL_CODE_BF16;
        round_trip(&p);
        for (p.group = 16; p.group <= 128; p.group *= 2) {
            for (int scale = SL_SCALE_S8; scale <= SL_SCALE_BF16; scale++) {
                p.scale = (enum sl_scale)scale;
                p.code = SL_CODE_INT8;
                memset(p.codebook, 0, sizeof p.codebook);
                round_trip(&p);
                p.code = SL_CODE_LUT4;
                for (size_t b = 0; b < sizeof books / sizeof *books; b++) {
                    memcpy(p.codebook, books[b], sizeof p.codebook);
                    round_trip(&p);
                }
            }
        }
    }
}

#define BOOK "codebook=-8,-7,-6,-5,-4,-3,-2,-1,0,1,2,3,4,5,6,7"

static void refuses_descriptors(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *part;
    } cases[] = {
        {"panel16 int8 group=32 scale=s8 rows=1 cols=1 count=1", 0, NULL},
        {"panel16 lut4 group=32 scale=s8 rows=1 cols=1 count=1 " BOOK, 0, NULL},
        {"panel16 f32 rows=16777216 cols=16777216 count=1", 0, NULL},
        {"", SLUICE_EUNSUPPORTED, "\"\""},
        {"panel32 f32 rows=1 cols=1 count=1", SLUICE_EUNSUPPORTED, "\"panel32\""},
        {"panel16 lut3 rows=1 cols=1 count=1", SLUICE_EUNSUPPORTED, "\"lut3\""},
        {"panel16 int8 group=32 scale=e8m0 rows=1 cols=1 count=1", SLUICE_EUNSUPPORTED,
         "\"scale=e8m0\""},
        {"panel16 int8 group=48 scale=s8 rows=1 cols=1 count=1", SLUICE_EUNSUPPORTED, "group=48"},
        {"panel16 f32 rows=1 cols=1 count=1 zero=3", SLUICE_EUNSUPPORTED, "\"zero=3\""},
        {"panel16 f32 rows=1 cols=1 count=1 \033[2J", SLUICE_EUNSUPPORTED, "\"?[2J\""},
        {"panel16 f32 rows=1 cols=1", SLUICE_EFORMAT, "missing"},
        {"panel16 rows=1 cols=1 count=1", SLUICE_EFORMAT, "missing"},
        {"panel16 int8 rows=1 cols=1 count=1", SLUICE_EFORMAT, "missing"},
        {"panel16 f32 group=32 rows=1 cols=1 count=1", SLUICE_EFORMAT, "misplaced"},
        {"panel16 f32 cols=1 rows=1 count=1", SLUICE_EFORMAT, "misplaced"},
        {"panel16 f32 f32 rows=1 cols=1 count=1", SLUICE_EFORMAT, "repeated"},
        {"panel16 f32 rows=1 rows=1 cols=1 count=1", SLUICE_EFORMAT, "repeated"},
        {"panel16  f32 rows=1 cols=1 count=1", SLUICE_EUNSUPPORTED, "\"\""},
        {"panel16 f32 rows=1 cols=1 count=1 ", SLUICE_EUNSUPPORTED, "\"\""},
        {"panel16 f32 rows=01 cols=1 count=1", SLUICE_EFORMAT, "plain form"},
        {"panel16 f32 rows=0 cols=1 count=1", SLUICE_EFORMAT, "\"rows=0\""},
        {"panel16 f32 rows=-1 cols=1 count=1", SLUICE_EFORMAT, "\"rows=-1\""},
        {"panel16 f32 rows= cols=1 count=1", SLUICE_EFORMAT, "\"rows=\""},
        {"panel16 f32 rows=16777217 cols=1 count=1", SLUICE_EFORMAT, "rows=16777217"},
        {"panel16 f32 rows=42949672970 cols=1 count=1", SLUICE_EFORMAT, "rows=42949672970"},
        {"panel16 f32 rows=16777216 cols=16777216 count=2", SLUICE_EFORMAT, "beyond any model"},
        {"panel16 f32 rows=16777216 cols=16777216 count=16777216", SLUICE_EFORMAT, "beyond"},
        {"panel16 lut4 group=32 scale=s8 rows=1 cols=1 count=1 codebook=1,2", SLUICE_EFORMAT,
         "codebook=1,2"},
        {"panel16 lut4 group=32 scale=s8 rows=1 cols=1 count=1 " BOOK ",8", SLUICE_EFORMAT, "bad"},
        {"panel16 lut4 group=32 scale=s8 rows=1 cols=1 count=1 "
         "codebook=-8,-7,-6,-5,-4,-3,-2,-1,0,1,2,3,4,5,7,6",
         SLUICE_EFORMAT, "bad"},
        {"panel16 lut4 group=32 scale=s8 rows=1 cols=1 count=1 "
         "codebook=-129,-7,-6,-5,-4,-3,-2,-1,0,1,2,3,4,5,6,7",
         SLUICE_EFORMAT, "bad"},
        {"panel16 lut4 group=32 scale=s8 rows=1 cols=1 count=1 "
         "codebook=-8,-7,-6,-5,-4,-3,-2,-1,0,1,2,3,4,5,6, 7",
         SLUICE_EFORMAT, "bad"},
        {"panel16 lut4 group=32 scale=s8 rows=1 cols=1 count=1 "
         "codebook=-8,-7,-6,-5,-4,-3,-2,-1,0,1,2,3,4,5,6,+7",
         SLUICE_EFORMAT, "plain form"},
        {"panel16 int8 group=32 scale=s8 rows=1 cols=1 count=1 " BOOK, SLUICE_EFORMAT, "misplaced"},
        {"panel16 lut4 group=32 scale=s8 rows=1 cols=1 count=1", SLUICE_EFORMAT, "missing"},
    };
    struct sl_packing p;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sluice_err err = {0};
        int status = sl_packing_parse(cases[i].text, "dir/file: tensor", &p, &err);
        if (status != cases[i].code)
            fail_msg("%s: %d, %d wanted: %s", cases[i].text, status, cases[i].code, err.msg);
        if (status < 0) {
            expect_text(err.msg, "dir/file: tensor: ");
            expect_text(err.msg, cases[i].part);
        }
    }
    char long_text[2000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    assert_int_equal(sl_packing_parse(long_text, "f", &p, NULL), SLUICE_EFORMAT);
}

static void lays_out_experts(void **state)
{
    struct sl_expert_layout x = {
        .gate_up = {SL_CODE_LUT4, SL_SCALE_S8, 32, 2 * 2048, 7168, 1, {0}},
        .down = {SL_CODE_LUT4, SL_SCALE_S8, 32, 7168, 2048, 1, {0}},
    };
    (void)state;
    sl_expert_layout_fill(&x);
    assert_int_equal(x.down_offset % SL_DATA_ALIGN, 0);
    assert_int_equal(x.stride % SL_DATA_ALIGN, 0);
    assert_true(x.down_offset >= sl_packing_bytes(&x.gate_up));
    assert_true(x.down_offset < sl_packing_bytes(&x.gate_up) + SL_DATA_ALIGN);
    assert_true(x.stride >= x.down_offset + sl_packing_bytes(&x.down));
    assert_int_equal(x.chunks, (x.stride + SL_CHUNK_BYTES - 1) / SL_CHUNK_BYTES);
    /* 4.25 bits per weight and a float per row: what docs/format.md says of a 671B model. */
    assert_int_equal(sl_packing_bytes(&x.gate_up), 256 * (64 + 7168 / 128 * 64 + 7168 * 8));
}

static void names_files(void **state)
{
    char name[64];
    (void)state;
    sl_resident_file(name, 3);
    assert_string_equal(name, "resident-03.safetensors");
    sl_experts_file(name, 60);
    assert_string_equal(name, "experts-60.safetensors");
    sl_mtp_file(name, 161);
    assert_string_equal(name, "mtp-161.safetensors");
}

/* ---- manifest ------------------------------------------------------------------------------- */

static json_t *manifest_root(int format)
{
    json_t *m = json_pack("{s:i, s:s, s:s, s:{s:s}, s:{s:s, s:i, s:i}, s:{}, s:{s:{s:f, s:f}}}",
                          "format", format, "tool", "sluice 0.1.0", "profile", "quality", "recipe",
                          "experts", "lut4", "source", "digest", "xxh3:0123456789abcdef", "files",
                          3, "tensors", 99, "files", "errors", "lm_head", "rel_rms", 0.00651, "max",
                          0.1);
    assert_non_null(m);
    return m;
}

static void add_file(json_t *m, const char *name, uint64_t bytes, uint64_t hash)
{
    char digits[17];
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)hash);
    json_t *entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "xxh3", digits);
    assert_int_equal(json_object_set_new(json_object_get(m, "files"), name, entry), 0);
}

/* Writes DIR/sluice.json and drops M. */
static void put_manifest(const char *dir, json_t *m)
{
    char name[300];
    char *text = sl_manifest_text(m);
    assert_non_null(text);
    snprintf(name, sizeof name, "%s/sluice.json", dir);
    put_text(name, text);
    free(text);
    json_decref(m);
}

static void expect_manifest(const char *dir, int code, const char *part)
{
    struct sl_manifest *m;
    struct sluice_err err = {0};
    int status = sl_manifest_open(&m, at(dir), &err);
    if (status != code)
        fail_msg("%s: %d, %d wanted: %s", dir, status, code, err.msg);
    if (code < 0) {
        assert_null(m);
        expect_text(err.msg, part);
    }
    sl_manifest_close(&m);
}

static void round_trips_the_manifest(void **state)
{
    struct sl_manifest *m;
    struct sluice_err err = {0};
    (void)state;
    make_dir("m");
    json_t *r = manifest_root(1);
    add_file(r, "tokenizer.json", 5, 0xfedcba9876543210);
    add_file(r, "config.json", 7, 3);
    json_object_set_new(r, "self", json_string("left out")); /* replaced */
    put_manifest("m", r);
    assert_int_equal(sl_manifest_open(&m, at("m"), &err), 0);
    assert_string_equal(m->profile, "quality");
    assert_string_equal(m->source_digest, "xxh3:0123456789abcdef");
    assert_string_equal(m->tool_version, "sluice 0.1.0");
    assert_int_equal(m->n_files, 2);
    assert_string_equal(m->files[0].name, "config.json");
    const struct sl_manifest_file *f = sl_manifest_find(m, "tokenizer.json");
    assert_non_null(f);
    assert_int_equal(f->bytes, 5);
    assert_true(f->xxh3 == 0xfedcba9876543210);
    assert_null(sl_manifest_find(m, "token"));
    char *again = sl_manifest_text(m->root), *text;
    size_t size;
    assert_int_equal(sl_file_read(at("m/sluice.json"), 1 << 20, &text, &size, &err), 0);
    assert_string_equal(text, again);
    expect_text(text, "\"rel_rms\": 0.00651,");
    free(again);
    free(text);
    sl_manifest_close(&m);
    sl_manifest_close(&m);
}

static void refuses_manifests(void **state)
{
    static const struct {
        const char *name;
        int64_t bytes;
        const char *xxh3;
        const char *part;
    } bad[] = {
        {"../x", 1, "0123456789abcdef", "no name of a file"},
        {"a/b", 1, "0123456789abcdef", "no name of a file"},
        {"..", 1, "0123456789abcdef", "no name of a file"},
        {"", 1, "0123456789abcdef", "no name of a file"},
        {"sluice.json", 1, "0123456789abcdef", "no name of a file"},
        {"x", -1, "0123456789abcdef", "entry of x"},
        {"x", INT64_MAX, "0123456789abcdef", "entry of x"},
        {"x", 1, "0123456789abcde", "16 hexadecimal digits"},
        {"x", 1, "0123456789abcdef0", "16 hexadecimal digits"},
        {"x", 1, "0123456789ABCDEF", "16 hexadecimal digits"},
    };
    (void)state;
    make_dir("bad");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *r = manifest_root(1);
        json_object_set_new(
            json_object_get(r, "files"), bad[i].name,
            json_pack("{s:I, s:s}", "bytes", (json_int_t)bad[i].bytes, "xxh3", bad[i].xxh3));
        put_manifest("bad", r);
        expect_manifest("bad", SLUICE_EFORMAT, bad[i].part);
    }
    put_manifest("bad", manifest_root(1));
    expect_manifest("bad", SLUICE_EFORMAT, "lists 0 files");
    put_manifest("bad", manifest_root(2));
    expect_manifest("bad", SLUICE_EVERSION, "format 2, this build reads 1");
    put_manifest("bad", manifest_root(0));
    expect_manifest("bad", SLUICE_EFORMAT, "\"format\" is 0");
    put_manifest("bad", json_object());
    expect_manifest("bad", SLUICE_EFORMAT, "\"format\" is missing");
    static const char *const members[] = {"tool", "profile", "source", "files"};
    for (size_t i = 0; i < 4; i++) {
        json_t *r = manifest_root(1);
        json_object_del(r, members[i]);
        put_manifest("bad", r);
        expect_manifest("bad", SLUICE_EFORMAT, members[i]);
    }
    put_text("bad/sluice.json", "{}");
    expect_manifest("bad", SLUICE_EDAMAGED, "does not end in its own checksum");
    put_text("bad/sluice.json", "");
    expect_manifest("bad", SLUICE_EDAMAGED, "does not end in its own checksum");
    static const char other[] = "{\"format\": 1,\n  \"soul\": \"";
    char text[128];
    snprintf(text, sizeof text, "%s%016llx\"\n}\n", other,
             (unsigned long long)sl_hash(other, sizeof other - 1));
    put_text("bad/sluice.json", text);
    expect_manifest("bad", SLUICE_EDAMAGED, "does not end in its own checksum");
    assert_null(sl_manifest_text(NULL));
}

static void tells_directories_apart(void **state)
{
    (void)state;
    expect_manifest("nowhere", SLUICE_EARG, "no such directory");
    make_dir("apart");
    expect_manifest("apart", SLUICE_EFORMAT, "not a container");
    put_text("apart/model-00001-of-00002.safetensors", "");
    expect_manifest("apart", SLUICE_EFORMAT, "convert it with sluice quantize");
    put_text("apart/resident-00.safetensors.part", "");
    expect_manifest("apart", SLUICE_EFORMAT, "unfinished conversion");
}

static void finds_every_flip_in_the_manifest(void **state)
{
    (void)state;
    make_dir("flips");
    json_t *r = manifest_root(1);
    add_file(r, "config.json", 7, 3);
    put_manifest("flips", r);
    size_t size = size_of("flips/sluice.json");
    for (size_t byte = 0; byte < size; byte++) {
        for (int bit = 0; bit < 8; bit++) {
            flip("flips/sluice.json", byte, bit);
            expect_manifest("flips", SLUICE_EDAMAGED, "checksum");
            flip("flips/sluice.json", byte, bit);
        }
    }
    expect_manifest("flips", 0, NULL);
    while (size-- > 0) {
        assert_int_equal(truncate(at("flips/sluice.json"), (off_t)size), 0);
        expect_manifest("flips", SLUICE_EDAMAGED, "checksum");
    }
}

/* ---- verifying ------------------------------------------------------------------------------ */

/* Layers of the synthetic container: 0 is dense, 3 and 4 have two experts each. */
enum { EXPERTS = 2 };

static void fill(uint8_t *data, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> 24);
    }
}

static void put_resident(const char *name, uint32_t seed)
{
    uint8_t data[64 + 12];
    char header[1024];
    fill(data, sizeof data, seed);
    snprintf(header, sizeof header,
             "{\"__metadata__\":{\"sluice\":\"1\",\"pack:matrix\":\"panel16 f32 rows=1 cols=1 "
             "count=1\",\"xxh3:matrix\":\"%016llx\",\"xxh3:vector\":\"%016llx\"},"
             "\"matrix\":{\"dtype\":\"U8\",\"shape\":[64],\"data_offsets\":[0,64]},"
             "\"vector\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[64,76]}}",
             (unsigned long long)sl_hash(data, 64), (unsigned long long)sl_hash(data + 64, 12));
    put_safetensors(name, header, 64, data, sizeof data);
}

static void put_experts(const char *name, size_t stride, uint32_t seed)
{
    size_t chunks = (stride + SL_CHUNK_BYTES - 1) / SL_CHUNK_BYTES;
    size_t experts = EXPERTS * stride, sums = EXPERTS * chunks * 8, errors = EXPERTS * 2 * 4;
    uint8_t *data = malloc(experts + sums + errors);
    char header[1024];
    assert_non_null(data);
    fill(data, experts + sums + errors, seed);
    for (size_t i = 0; i < EXPERTS * chunks; i++) {
        size_t begin = i % chunks * SL_CHUNK_BYTES;
        size_t len = stride - begin < SL_CHUNK_BYTES ? stride - begin : SL_CHUNK_BYTES;
        uint64_t hash = sl_hash(data + i / chunks * stride + begin, len);
        memcpy(data + experts + 8 * i, &hash, 8);
    }
    snprintf(header, sizeof header,
             "{\"__metadata__\":{\"sluice\":\"1\",\"xxh3:checksums\":\"%016llx\","
             "\"xxh3:errors\":\"%016llx\"},"
             "\"experts\":{\"dtype\":\"U8\",\"shape\":[%d,%zu],\"data_offsets\":[0,%zu]},"
             "\"checksums\":{\"dtype\":\"U64\",\"shape\":[%d,%zu],\"data_offsets\":[%zu,%zu]},"
             "\"errors\":{\"dtype\":\"F32\",\"shape\":[%d,2],\"data_offsets\":[%zu,%zu]}}",
             (unsigned long long)sl_hash(data + experts, sums),
             (unsigned long long)sl_hash(data + experts + sums, errors), EXPERTS, stride, experts,
             EXPERTS, chunks, experts, experts + sums, EXPERTS, experts + sums,
             experts + sums + errors);
    put_safetensors(name, header, 64, data, experts + sums + errors);
    free(data);
}

static const char *const container_files[] = {
    "config.json",
    "resident-00.safetensors",
    "resident-01.safetensors",
    "experts-03.safetensors",
    "experts-04.safetensors",
};
enum { N_FILES = 5 };

static const char *in(const char *dir, const char *file)
{
    static char ring[4][300];
    static unsigned turn;
    char *out = ring[turn++ % 4];
    snprintf(out, sizeof ring[0], "%s/%s", dir, file);
    return out;
}

static void put_container(const char *dir, size_t stride)
{
    json_t *m = manifest_root(1);
    make_dir(dir);
    put_text(in(dir, "config.json"), "{\"model_type\": \"deepseek_v3\"}\n");
    put_resident(in(dir, "resident-00.safetensors"), 1);
    put_resident(in(dir, "resident-01.safetensors"), 2);
    put_experts(in(dir, "experts-03.safetensors"), stride, 3);
    put_experts(in(dir, "experts-04.safetensors"), stride, 4);
    for (size_t i = 0; i < N_FILES; i++) {
        const char *name = in(dir, container_files[i]);
        uint64_t hash;
        assert_int_equal(sl_file_hash(at(name), &hash, NULL), 0);
        add_file(m, container_files[i], size_of(name), hash);
    }
    put_manifest(dir, m);
}

struct heard {
    unsigned problems;
    char text[4096]; /* of all problems, one a line */
    uint64_t done, total;
};

static void hear_problem(void *user, const char *text)
{
    struct heard *h = user;
    size_t used = strlen(h->text);
    h->problems++;
    snprintf(h->text + used, sizeof h->text - used, "%s\n", text);
}

static void hear_progress(void *user, uint64_t done, uint64_t total)
{
    struct heard *h = user;
    assert_true(done >= h->done && done <= total);
    h->done = done;
    h->total = total;
}

static int64_t verify(const char *dir, struct heard *h, struct sluice_err *err)
{
    *h = (struct heard){0};
    const struct sl_verify_events events = {h, hear_progress, hear_problem};
    int64_t n = sl_container_verify(at(dir), &events, err);
    if (n >= 0) {
        assert_int_equal(n, h->problems);
        assert_int_equal(h->done, h->total);
    }
    return n;
}

static void expect_problems(const char *dir, int64_t count, const char *part)
{
    struct heard h;
    struct sluice_err err = {0};
    int64_t n = verify(dir, &h, &err);
    if (n != count)
        fail_msg("%lld problems, %lld wanted: %s%s", (long long)n, (long long)count, h.text,
                 err.msg);
    if (count > 0)
        expect_text(h.text, part);
}

/* Every bit of every file, in a container small enough for that. */
static void finds_every_flip(void **state)
{
    (void)state;
    put_container("small", 128);
    expect_problems("small", 0, NULL);
    for (size_t i = 0; i < N_FILES; i++) {
        const char *name = in("small", container_files[i]);
        size_t size = size_of(name);
        for (size_t byte = 0; byte < size; byte++) {
            for (int bit = 0; bit < 8; bit++) {
                struct heard h;
                struct sluice_err err = {0};
                flip(name, byte, bit);
                if (verify("small", &h, &err) <= 0)
                    fail_msg("%s: bit %d of byte %zu of %zu: no problem", name, bit, byte, size);
                expect_text(h.text, container_files[i]);
                flip(name, byte, bit);
            }
        }
    }
    expect_problems("small", 0, NULL);
}

static void names_the_damage(void **state)
{
    static const size_t stride = SL_CHUNK_BYTES + 4096;
    struct sluice_err err = {0};
    (void)state;
    put_container("named", stride);
    expect_problems("named", 0, NULL);

    const char *name = "named/experts-03.safetensors";
    size_t size = size_of(name), tables = EXPERTS * 2 * 8 + EXPERTS * 8;
    size_t data = size - tables - EXPERTS * stride;
    flip(name, data, 0);
    expect_problems("named", 1, "layer 3, expert 0, chunk 1 of 2 (experts-03.safetensors)");
    flip(name, data + stride + SL_CHUNK_BYTES, 7);
    expect_problems("named", 2, "layer 3, expert 1, chunk 2 of 2 (experts-03.safetensors)");
    flip(name, size - 1, 7); /* in `errors`: the chunks are checked all the same */
    expect_problems("named", 3, "1 damaged of 3 tensors: errors;");
    flip(name, size - tables, 0);
    expect_problems("named", 1, "2 damaged of 3 tensors: checksums, errors;");
    put_experts(name, stride, 3);
    expect_problems("named", 0, NULL);

    name = "named/resident-01.safetensors";
    size = size_of(name);
    flip(name, size - 1, 3);
    expect_problems("named", 1, "1 damaged of 2 tensors: vector;");
    flip(name, size - 13, 3);
    expect_problems("named", 1, "2 damaged of 2 tensors: matrix, vector;");
    assert_int_equal(sl_explain_damage(at(name), &err), SLUICE_EDAMAGED);
    expect_text(err.msg, "matrix, vector;");
    put_resident(name, 2);
    flip(name, size - 77, 1); /* the last byte of the header: a blank */
    expect_problems("named", 1, "resident-01.safetensors");
    put_resident(name, 2);
    flip(name, 0, 0);
    assert_int_equal(sl_explain_damage(at(name), &err), SLUICE_EDAMAGED);
    expect_text(err.msg, "damaged: ");
    put_resident(name, 2);

    flip("named/config.json", 0, 0);
    expect_problems("named", 1, "config.json: checksum");
    flip("named/config.json", 0, 0);
    flip("named/sluice.json", 3, 0);
    expect_problems("named", SLUICE_EDAMAGED, NULL);
}

static void finds_files_missing_cut_and_swapped(void **state)
{
    (void)state;
    put_container("files", 128);
    for (size_t i = 0; i < N_FILES; i++) {
        const char *name = in("files", container_files[i]);
        size_t size = size_of(name);
        assert_int_equal(truncate(at(name), (off_t)size - 1), 0);
        expect_problems("files", 1, "truncated");
        assert_int_equal(truncate(at(name), (off_t)size + 1), 0);
        expect_problems("files", 1, "longer");
        assert_int_equal(truncate(at(name), 0), 0);
        expect_problems("files", 1, container_files[i]);
        unlink(at(name));
        expect_problems("files", 1, "missing");
        remove_tree("files");
        put_container("files", 128);
    }
    expect_problems("files", 0, NULL);
    assert_int_equal(rename(at("files/experts-03.safetensors"), at("files/x")), 0);
    assert_int_equal(rename(at("files/experts-04.safetensors"), at("files/experts-03.safetensors")),
                     0);
    assert_int_equal(rename(at("files/x"), at("files/experts-04.safetensors")), 0);
    expect_problems("files", 2, "experts-03.safetensors: has the contents of experts-04");
    put_resident("files/resident-00.safetensors", 2);
    expect_problems("files", 3, "resident-00.safetensors: has the contents of resident-01");
    put_resident("files/resident-00.safetensors", 9);
    expect_problems("files", 3, "another file is in its place");
}

static void hashes_as_documented(void **state)
{
    static const uint8_t none[1];
    uint64_t whole, part;
    (void)state;
    assert_true(sl_hash(none, 0) == 0x2d06800538d394c2);
    put_experts("experts-07.safetensors", 4096, 7);
    put_experts("other-07.safetensors", 4096, 7);
    assert_int_equal(sl_file_hash(at("experts-07.safetensors"), &part, NULL), 0);
    assert_int_equal(sl_file_hash(at("other-07.safetensors"), &whole, NULL), 0);
    size_t size, tables = EXPERTS * (8 + 8);
    char *file;
    assert_int_equal(sl_file_read(at("experts-07.safetensors"), 1 << 20, &file, &size, NULL), 0);
    size_t data = size - tables - EXPERTS * 4096;
    assert_true(whole == sl_hash(file, size));
    memmove(file + data, file + size - tables, tables);
    assert_true(part == sl_hash(file, data + tables));
    free(file);
    uint64_t again;
    flip("experts-07.safetensors", data, 0);
    flip("experts-07.safetensors", data + EXPERTS * 4096 - 1, 0);
    assert_int_equal(sl_file_hash(at("experts-07.safetensors"), &again, NULL), 0);
    assert_true(again == part);
    flip("experts-07.safetensors", data + EXPERTS * 4096, 0);
    assert_int_equal(sl_file_hash(at("experts-07.safetensors"), &again, NULL), 0);
    assert_true(again != part);
    assert_int_equal(sl_file_hash(at("absent"), &again, NULL), SLUICE_EFORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_published_file),
        cmocka_unit_test(refuses_hostile_headers),
        cmocka_unit_test(refuses_hostile_lengths),
        cmocka_unit_test(limits_names_and_nesting),
        cmocka_unit_test(finds_every_truncation),
        cmocka_unit_test(opens_the_demo),
        cmocka_unit_test(names_missing_shards),
        cmocka_unit_test(compares_shards_and_index),
        cmocka_unit_test(resolves_hub_folders),
        cmocka_unit_test(round_trips_descriptors),
        cmocka_unit_test(refuses_descriptors),
        cmocka_unit_test(lays_out_experts),
        cmocka_unit_test(names_files),
        cmocka_unit_test(round_trips_the_manifest),
        cmocka_unit_test(refuses_manifests),
        cmocka_unit_test(tells_directories_apart),
        cmocka_unit_test(finds_every_flip_in_the_manifest),
        cmocka_unit_test(finds_every_flip),
        cmocka_unit_test(names_the_damage),
        cmocka_unit_test(finds_files_missing_cut_and_swapped),
        cmocka_unit_test(hashes_as_documented),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
