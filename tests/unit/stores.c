/* SPDX-License-Identifier: MIT */
#include "tests/unit/stores.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

const struct layer layers[2] = {
    {3, "experts-03.safetensors", 80, "panel16 f32 rows=32 cols=20 count=1",
     "panel16 f32 rows=20 cols=16 count=1", 4096 + 4096},
    {4, "experts-04.safetensors", 7, "panel16 f32 rows=512 cols=1024 count=1",
     "panel16 bf16 rows=1024 cols=64 count=1", (2 << 20) + 131072},
};

struct file_form form_of(const struct layer *l)
{
    return (struct file_form){.gate_up = l->gate_up,
                              .down = l->down,
                              .experts = l->experts,
                              .stride = l->stride,
                              .chunks = (l->stride + SL_CHUNK_BYTES - 1) / SL_CHUNK_BYTES,
                              .dtype = "U8",
                              .sums_dtype = "U64",
                              .experts_name = "experts",
                              .sums_name = "checksums",
                              .align = PAGE};
}

static uint8_t byte_at(const struct layer *l, uint32_t expert, size_t i)
{
    return (uint8_t)((i * 2654435761u >> 13) ^ expert * 151 ^ l->number * 29);
}

void put_experts(const struct layer *l, const struct file_form *f)
{
    size_t experts = f->experts * f->stride, sums = f->experts * f->chunks * 8;
    uint8_t *data = malloc(experts + sums + 1);
    char header[1024], shape[64];
    assert_non_null(data);
    for (size_t i = 0; i < experts; i++)
        data[i] = byte_at(l, (uint32_t)(i / f->stride), i % f->stride);
    for (size_t i = 0; i < f->experts * f->chunks; i++) {
        size_t begin = i % f->chunks * SL_CHUNK_BYTES, len = SL_CHUNK_BYTES;
        if (begin + len > f->stride)
            len = begin < f->stride ? f->stride - begin : 0;
        uint64_t hash = sl_hash(data + i / f->chunks * f->stride + begin, len);
        memcpy(data + experts + 8 * i, &hash, 8);
    }
    snprintf(shape, sizeof shape, f->shape_1d ? "[%llu]" : "[%llu,%llu]",
             (unsigned long long)(f->shape_1d ? experts : f->experts),
             (unsigned long long)f->stride);
    snprintf(header, sizeof header,
             "{\"__metadata__\":{\"sluice\":\"1\"%s%s\"%s%s%s\"},"
             "\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[0,%zu]},"
             "\"%s\":{\"dtype\":\"%s\",\"shape\":[%llu,%llu],\"data_offsets\":[%zu,%zu]}}",
             f->gate_up ? ",\"pack:gate_up\":\"" : "", f->gate_up ? f->gate_up : ",\"x\":\"",
             f->down ? ",\"pack:down\":\"" : ",\"y\":\"", f->down ? f->down : "", "",
             f->experts_name, f->dtype, shape, experts, f->sums_name, f->sums_dtype,
             (unsigned long long)f->experts, (unsigned long long)f->chunks, experts,
             experts + sums);
    put_safetensors(l->name, header, f->align, data, experts + sums);
    free(data);
}

void put_manifest(uint64_t extra, bool both)
{
    json_t *m = json_pack("{s:i, s:s, s:s, s:s, s:{s:s}, s:{}}", "format", 1, "tool", "sluice 0",
                          "profile", "reference", "recipe", "-", "source", "digest", "xxh3:0",
                          "files");
    assert_non_null(m);
    for (size_t i = 0; i < (both ? 2 : 1); i++) {
        char digits[17];
        uint64_t hash = 0;
        struct sluice_err err = {0};
        if (sl_file_hash(at(layers[i].name), &hash, &err) != 0)
            fail_msg("%s", err.msg);
        snprintf(digits, sizeof digits, "%016llx", (unsigned long long)hash);
        uint64_t bytes = size_of(layers[i].name) + (i ? extra : 0);
        json_t *entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "xxh3", digits);
        assert_int_equal(json_object_set_new(json_object_get(m, "files"), layers[i].name, entry),
                         0);
    }
    char *text = sl_manifest_text(m);
    assert_non_null(text);
    put(SL_MANIFEST, text, strlen(text));
    free(text);
    json_decref(m);
}

void put_layer(const struct layer *l)
{
    struct file_form f = form_of(l);
    put_experts(l, &f);
}

int make_container(void **state)
{
    if (make_root(state) != 0)
        return -1;
    put_layer(small);
    put_layer(large);
    put_manifest(0, true);
    return 0;
}

size_t offset_of(const struct layer *l, uint32_t expert, size_t byte)
{
    size_t sums = l->experts * ((l->stride + SL_CHUNK_BYTES - 1) / SL_CHUNK_BYTES) * 8;
    return size_of(l->name) - sums - (l->experts - expert) * l->stride + byte;
}

void expect_bytes(const struct layer *l, uint32_t expert, const uint8_t *block, size_t len)
{
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % 64, 0);
    for (size_t i = 0; i < len; i++)
        if (block[i] != byte_at(l, expert, i))
            fail_msg("layer %u, expert %u: byte %zu is wrong", l->number, expert, i);
}

void expect_block(const struct layer *l, uint32_t expert, const uint8_t *block)
{
    expect_bytes(l, expert, block, l->stride);
}

struct sl_experts *open_store(unsigned first, unsigned n, const struct sl_experts_opts *opts)
{
    struct sl_manifest *m;
    struct sl_experts *x;
    struct sluice_err err = {0};
    if (sl_manifest_open(&m, root, &err) != 0 ||
        sl_experts_open(&x, root, m, first, n, opts, &err) != 0)
        fail_msg("%s", err.msg);
    sl_manifest_close(&m); /* not needed any more */
    return x;
}
