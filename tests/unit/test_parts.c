/* SPDX-License-Identifier: MIT */
/*
 * Expert files in parts: every byte is found where docs/format.md puts it, whatever the number of
 * parts; parts that do not belong together are refused.  Works on a container of two layers that it
 * writes by hand, parts 1 … behind symbolic links.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/stream/stream.h"
#include "tests/unit/scratch.h"
#include "tests/unit/open_experts.h"

/* ---- the container -------------------------------------------------------------------------- */

enum { PAGE = 4096, MiB = 1 << 20, LAYERS = 2 };

/* Layer 0: one chunk; layer 1: 5 chunks, the last one short. */
static const struct layer {
    unsigned number;
    uint32_t experts;
    const char *gate_up, *down;
    size_t stride;
} layers[LAYERS] = {
    {0, 6, "panel16 f32 rows=32 cols=20 count=1", "panel16 f32 rows=20 cols=16 count=1", 2 * PAGE},
    {1, 4, "panel16 f32 rows=1024 cols=1024 count=1", "panel16 bf16 rows=1024 cols=64 count=1",
     4 * MiB + 131072},
};

static uint8_t byte_at(const struct layer *l, uint32_t expert, size_t i)
{
    return (uint8_t)((i * 2654435761u >> 13) ^ expert * 151 ^ l->number * 29);
}

static size_t chunk_count(const struct layer *l)
{
    return (l->stride + MiB - 1) / MiB;
}

static void part_name(char out[64], const struct layer *l, unsigned part, unsigned n)
{
    snprintf(out, 64, n == 1 ? "experts-%02u.safetensors" : "experts-%02u.%u.safetensors",
             l->number, part);
}

/* What a part says of itself; a test changes one of them. */
struct form {
    char name[64];
    const char *part; /* NULL: nothing */
    const char *gate_up;
    uint32_t experts;
};

static struct form form_of(const struct layer *l, unsigned part, unsigned n)
{
    static char text[8];
    struct form f = {.gate_up = l->gate_up, .experts = l->experts};
    snprintf(text, sizeof text, "%u/%u", part, n);
    part_name(f.name, l, part, n);
    f.part = n > 1 ? text : NULL;
    return f;
}

/* Writes one part chunk by chunk, as format.md tells it. */
static void put_form(const struct layer *l, unsigned part, unsigned n, const struct form *f)
{
    char header[1024], descriptor[32] = "";
    size_t stride = 0, chunks = 0, used = 0;
    for (size_t c = part; c < chunk_count(l); c += n, chunks++)
        stride += c + 1 < chunk_count(l) ? MiB : l->stride - c * MiB;
    size_t experts = f->experts * stride, sums = f->experts * chunks * 8;
    uint8_t *data = malloc(experts + sums + 1), *sum = data + experts;
    assert_non_null(data);
    for (uint32_t e = 0; e < f->experts; e++)
        for (size_t c = part; c < chunk_count(l); c += n) {
            size_t begin = used;
            for (size_t i = c * MiB; i < (c + 1) * MiB && i < l->stride; i++)
                data[used++] = byte_at(l, e, i);
            uint64_t hash = sl_hash(data + begin, used - begin);
            memcpy(sum, &hash, 8);
            sum += 8;
        }
    assert_int_equal(used, experts);
    if (f->part)
        snprintf(descriptor, sizeof descriptor, ",\"part\":\"%s\"", f->part);
    snprintf(header, sizeof header,
             "{\"__metadata__\":{\"sluice\":\"1\",\"pack:gate_up\":\"%s\",\"pack:down\":\"%s\"%s},"
             "\"experts\":{\"dtype\":\"U8\",\"shape\":[%u,%zu],\"data_offsets\":[0,%zu]},"
             "\"checksums\":{\"dtype\":\"U64\",\"shape\":[%u,%zu],\"data_offsets\":[%zu,%zu]}}",
             f->gate_up, l->down, descriptor, f->experts, stride, experts, f->experts, chunks,
             experts, experts + sums);
    put_safetensors(f->name, header, PAGE, data, experts + sums);
    free(data);
}

static void put_layer(const struct layer *l, unsigned n)
{
    for (unsigned p = 0; p < n; p++) {
        struct form f = form_of(l, p, n);
        put_form(l, p, n, &f);
    }
}

/* A manifest of the files NAMES as they are; NULL ends the list. */
static void put_manifest(const char *const *names)
{
    json_t *m = json_pack("{s:i, s:s, s:s, s:s, s:{s:s}, s:{}}", "format", 1, "tool", "sluice 0",
                          "profile", "reference", "recipe", "-", "source", "digest", "xxh3:0",
                          "files");
    assert_non_null(m);
    for (; *names; names++) {
        char digits[17];
        uint64_t hash = 0;
        struct sluice_err err = {0};
        if (sl_file_hash(at(*names), &hash, &err) != 0)
            fail_msg("%s", err.msg);
        snprintf(digits, sizeof digits, "%016llx", (unsigned long long)hash);
        json_t *entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)size_of(*names), "xxh3",
                                  digits);
        assert_int_equal(json_object_set_new(json_object_get(m, "files"), *names, entry), 0);
    }
    char *text = sl_manifest_text(m);
    assert_non_null(text);
    put(SL_MANIFEST, text, strlen(text));
    free(text);
    json_decref(m);
}

/* The manifest of both layers in N parts. */
static void put_whole_manifest(unsigned n)
{
    char names[LAYERS * SL_PARTS_MAX][64];
    const char *list[LAYERS * SL_PARTS_MAX + 1] = {NULL};
    for (unsigned i = 0; i < LAYERS * n; i++) {
        part_name(names[i], &layers[i / n], i % n, n);
        list[i] = names[i];
    }
    put_manifest(list);
}

static void put_container(unsigned n)
{
    for (int l = 0; l < LAYERS; l++)
        put_layer(&layers[l], n);
    put_whole_manifest(n);
}

static void remove_container(unsigned n)
{
    char name[64];
    for (unsigned i = 0; i < LAYERS * n; i++) {
        part_name(name, &layers[i / n], i % n, n);
        assert_int_equal(unlink(at(name)), 0);
    }
}

/* Moves a file to root/DIR and leaves a link. */
static void move_away(const char *name, const char *dir)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    mkdir(at(dir), 0777);
    assert_int_equal(rename(at(name), at(path)), 0);
    assert_int_equal(symlink(at(path), at(name)), 0);
}

static struct sl_manifest *open_manifest(void)
{
    struct sl_manifest *m;
    struct sluice_err err = {0};
    if (sl_manifest_open(&m, root, &err) != 0)
        fail_msg("%s", err.msg);
    return m;
}

/* ---- delivery ------------------------------------------------------------------------------- */

static void expect_block(const struct layer *l, uint32_t expert, const uint8_t *block)
{
    for (size_t i = 0; i < l->stride; i++)
        if (block[i] != byte_at(l, expert, i))
            fail_msg("layer %u, expert %u: byte %zu is wrong", l->number, expert, i);
}

/* Puts one expert together by sl_chunk_place() alone. */
static void expect_places(const struct sl_expert_file *f, const struct layer *l, uint32_t expert)
{
    uint8_t *block = malloc(l->stride);
    size_t length = 0;
    assert_non_null(block);
    for (uint64_t c = 0; c < f->layout.chunks; c++) {
        struct sl_chunk_place place = sl_chunk_place(f, expert, c);
        struct sluice_err err = {0};
        assert_int_equal(place.part, c % f->n_parts);
        assert_int_equal(place.offset % PAGE, 0);
        assert_int_equal(place.length, sl_chunk_length(&f->layout, c));
        assert_int_equal(
            pread(f->parts[place.part].fd, block + c * MiB, place.length, (off_t)place.offset),
            place.length);
        if (sl_chunk_check(f, expert, c, block + c * MiB, &err) != 0)
            fail_msg("%s", err.msg);
        length += place.length;
    }
    assert_int_equal(length, l->stride);
    expect_block(l, expert, block);
    free(block);
}

static void finds_every_chunk(void **state)
{
    static const unsigned counts[] = {1, 2, 3, 5, 8};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        put_container(counts[i]);
        struct sl_manifest *m = open_manifest();
        for (int l = 0; l < LAYERS; l++) {
            struct sl_expert_file f;
            struct sluice_err err = {0};
            uint64_t strides = 0;
            if (sl_expert_file_open(&f, root, m, layers[l].number, &err) != 0)
                fail_msg("%s", err.msg);
            assert_int_equal(f.n_parts, counts[i]);
            for (unsigned p = 0; p < f.n_parts; p++) {
                assert_int_equal(f.parts[p].stride % PAGE, 0);
                strides += f.parts[p].stride;
            }
            assert_int_equal(strides, layers[l].stride);
            for (uint32_t e = 0; e < layers[l].experts; e++)
                expect_places(&f, &layers[l], e);
            sl_expert_file_close(&f);
        }
        sl_manifest_close(&m);
        remove_container(counts[i]);
    }
}

static void streams_parts(void **state)
{
    (void)state;
    for (unsigned n = 2; n <= 3; n++) {
        struct sl_experts *x;
        struct sluice_err err = {0};
        const uint32_t ids[3] = {0, 2, 3};
        const uint8_t *blocks[3];
        put_container(n);
        move_away("experts-01.1.safetensors", "drive");
        struct sl_manifest *m = open_manifest();
        if (open_experts(&x, root, m, 0, 2, SLUICE_READER_AUTO, 3, &err) != 0)
            fail_msg("%s", err.msg);
        assert_string_not_equal(sl_experts_reader(x), "memory"); /* although they fit */
        for (int l = 0; l < LAYERS; l++) {
            if (sl_experts_fetch(x, layers[l].number, ids, 3, blocks, &err) != 0)
                fail_msg("%s", err.msg);
            for (int i = 0; i < 3; i++)
                expect_block(&layers[l], ids[i], blocks[i]);
        }
        sl_experts_close(&x);
        assert_int_equal(open_experts(&x, root, m, 0, 2, SLUICE_READER_MEMORY, 3, &err),
                         SLUICE_EUNSUPPORTED);
        assert_null(x);
        expect_text(err.msg, "experts-00.0.safetensors: one of ");
        expect_text(err.msg, "--reader auto");
        sl_manifest_close(&m);
        remove_container(n);
        remove_tree("drive");
    }
}

/* ---- damage --------------------------------------------------------------------------------- */

static void names_the_damaged_part(void **state)
{
    (void)state;
    for (uint64_t chunk = 0; chunk < 5; chunk++) {
        struct sl_expert_file f;
        struct sl_experts *x;
        struct sluice_err err = {0};
        const uint32_t good = 1, bad = 2;
        const uint8_t *block;
        char name[64], text[64];
        put_container(2);
        struct sl_manifest *m = open_manifest();
        assert_int_equal(sl_expert_file_open(&f, root, m, 1, NULL), 0);
        part_name(name, &layers[1], chunk % 2, 2);
        flip(name, sl_chunk_place(&f, bad, chunk).offset + 4711, 3);
        sl_expert_file_close(&f);
        assert_int_equal(open_experts(&x, root, m, 1, 1, SLUICE_READER_PREAD, 3, &err), 0);
        assert_int_equal(sl_experts_fetch(x, 1, &bad, 1, &block, &err), SLUICE_EDAMAGED);
        snprintf(text, sizeof text, "layer 1, expert 2, chunk %d of 5: ", (int)chunk + 1);
        expect_text(err.msg, text);
        expect_text(err.msg, at(name));
        assert_int_equal(sl_experts_fetch(x, 1, &good, 1, &block, &err), 0);
        expect_block(&layers[1], good, block);
        sl_experts_close(&x);
        sl_manifest_close(&m);
    }
    remove_container(2);
}

static void expect_refusal(int code, const char *file, const char *part)
{
    struct sl_manifest *m = open_manifest();
    struct sl_experts *x;
    struct sluice_err err = {0};
    int status = open_experts(&x, root, m, 0, 2, SLUICE_READER_PREAD, 3, &err);
    if (status != code)
        fail_msg("%d, %d wanted for %s: %s", status, code, part, err.msg);
    assert_null(x);
    expect_text(err.msg, file);
    expect_text(err.msg, part);
    sl_manifest_close(&m);
}

static void swap(const char *a, const char *b)
{
    assert_int_equal(rename(at(a), at("aside")), 0);
    assert_int_equal(rename(at(b), at(a)), 0);
    assert_int_equal(rename(at("aside"), at(b)), 0);
}

static void refuses_wrong_parts(void **state)
{
    (void)state;
    put_container(3);
    swap("experts-01.0.safetensors", "experts-01.2.safetensors");
    expect_refusal(SLUICE_EFORMAT, "experts-01.0.safetensors", "part 2/3, part 0/3 wanted");
    swap("experts-01.0.safetensors", "experts-01.2.safetensors");
    swap("experts-01.1.safetensors", "experts-00.1.safetensors"); /* of another layer */
    expect_refusal(SLUICE_EDAMAGED, "experts-00.1.safetensors", "bytes");
    swap("experts-01.1.safetensors", "experts-00.1.safetensors");

    struct form f = form_of(&layers[1], 2, 3);
    f.experts--;
    put_form(&layers[1], 2, 3, &f);
    put_whole_manifest(3);
    expect_refusal(SLUICE_EFORMAT, f.name, "3 experts, 4 wanted as in part 0");
    f = form_of(&layers[1], 2, 3);
    f.gate_up = "panel16 f32 rows=1024 cols=1000 count=1";
    put_form(&layers[1], 2, 3, &f);
    put_whole_manifest(3);
    expect_refusal(SLUICE_EFORMAT, f.name, "pack:gate_up: not that of part 0");
    f = form_of(&layers[1], 2, 3);
    f.part = "2/4";
    put_form(&layers[1], 2, 3, &f);
    put_whole_manifest(3);
    expect_refusal(SLUICE_EFORMAT, f.name, "part 2/4, part 2/3 wanted");
    f.part = NULL;
    put_form(&layers[1], 2, 3, &f);
    put_whole_manifest(3);
    expect_refusal(SLUICE_EFORMAT, f.name, "a whole file, part 2/3 wanted");
    f.part = "0/1";
    snprintf(f.name, sizeof f.name, "experts-01.safetensors");
    put_form(&layers[1], 0, 1, &f);
    put_layer(&layers[0], 1);
    put_whole_manifest(1);
    expect_refusal(SLUICE_EFORMAT, f.name, "part 0/1 of something");
    remove_container(3);
    remove_container(1);
}

static void refuses_mixtures(void **state)
{
    static const char *const both[] = {"experts-00.safetensors", "experts-00.0.safetensors",
                                       "experts-00.1.safetensors", NULL},
                             *const hole[] = {"experts-00.0.safetensors",
                                              "experts-00.2.safetensors", NULL},
                             *const single[] = {"experts-00.0.safetensors", NULL},
                             *const none[] = {"experts-01.0.safetensors", NULL},
                             *const half[] = {
                                 "experts-00.0.safetensors", "experts-00.1.safetensors",
                                 "experts-00.2.safetensors", "experts-01.safetensors", NULL};
    (void)state;
    put_container(1);
    put_container(3);
    put_manifest(both);
    expect_refusal(SLUICE_EFORMAT, "experts-00.safetensors", "and parts of it, too");
    put_manifest(hole);
    expect_refusal(SLUICE_EFORMAT, "experts-00.safetensors", "lists 2 of 3 parts");
    put_manifest(single);
    expect_refusal(SLUICE_EFORMAT, "experts-00.safetensors", "lists 1 of 2 parts");
    put_manifest(none);
    expect_refusal(SLUICE_EFORMAT, "experts-00.safetensors", "does not list");
    put_manifest(half);
    expect_refusal(SLUICE_EFORMAT, "experts-01.safetensors", "sluice stripe was interrupted");
    remove_container(1);
    remove_container(3);
}

static void names_missing_drives(void **state)
{
    (void)state;
    put_container(2);
    move_away("experts-01.1.safetensors", "drive");
    assert_int_equal(unlink(at("drive/experts-01.1.safetensors")), 0);
    expect_refusal(SLUICE_EFORMAT, "drive/experts-01.1.safetensors", "there is no such file");
    assert_int_equal(rmdir(at("drive")), 0);
    expect_refusal(SLUICE_EFORMAT, "drive/experts-01.1.safetensors", "there is no such directory");
    remove_container(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_every_chunk),      cmocka_unit_test(streams_parts),
        cmocka_unit_test(names_the_damaged_part), cmocka_unit_test(refuses_wrong_parts),
        cmocka_unit_test(refuses_mixtures),       cmocka_unit_test(names_missing_drives),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
