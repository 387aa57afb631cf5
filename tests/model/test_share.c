/* SPDX-License-Identifier: MIT */
/*
 * Sessions that share blocks of rows: the memory is the same, and whatever one of them does, what
 * the others hold are the bytes that a session by itself would hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/arith.h"
#include "tests/model/harness.h"
#include "tests/random.h"
#include "tests/unit/scratch.h"

enum { SHIFT = 4, BLOCK = 1 << SHIFT, N = 100, CONTEXT = 140, SESSIONS = 4 };

struct scene {
    sluice_engine *engine;
    struct sluice_session_opts opts;
    sluice_session *s[SESSIONS];
    sluice_session *alone; /* computes all itself */
    size_t vocab;
};

static void open_one(struct scene *c, sluice_session **s)
{
    struct sluice_err err = {0};
    check_status(sluice_session_open(s, c->engine, &c->opts, &err), &err);
}

static void scene_open(struct scene *c, const char *model, bool mtp,
                       struct sluice_session_opts opts)
{
    struct sluice_err err = {0};
    struct sluice_model_info info;
    const struct sluice_engine_opts engine = {.threads = 2, .mtp = mtp};
    *c = (struct scene){.opts = opts};
    check_status(sluice_engine_open(&c->engine, converted(model, "quality"), &engine, &err), &err);
    sluice_engine_info(c->engine, &info);
    c->vocab = (size_t)info.vocab;
    c->opts.context = opts.context ? opts.context : CONTEXT;
    c->opts.chunk = 24;
    c->opts.alone = 1;
    open_one(c, &c->alone);
    c->opts.alone = 0;
    for (size_t i = 0; i < SESSIONS; i++)
        open_one(c, &c->s[i]);
}

/* Every block that was mapped is gone. */
static void scene_close(struct scene *c)
{
    for (size_t i = 0; i < SESSIONS; i++)
        sluice_session_close(&c->s[i]);
    sluice_session_close(&c->alone);
    assert_null(c->engine->spare);
    assert_int_equal(c->engine->session_bytes, 0);
    sluice_engine_close(&c->engine);
}

/* Text KIND, which is text 0 up to BRANCH. */
static void make_text(const struct scene *c, int kind, size_t branch, int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t k = i < branch ? 0 : (size_t)kind;
        tokens[i] = (int32_t)((i * (31 + 2 * k) + 7 + k) % c->vocab);
    }
}

static void sync_to(sluice_session *s, const int32_t *tokens, size_t n)
{
    struct sluice_err err = {0};
    check_status(sluice_session_sync(s, tokens, n, NULL, &err), &err);
}

static void step(sluice_session *s, int32_t token)
{
    struct sluice_err err = {0};
    check_status(sluice_session_step(s, token, &err), &err);
}

/* What S holds, to the byte, is what a session by itself would hold. */
static void expect_right(struct scene *c, sluice_session *s)
{
    struct sluice_err err = {0};
    sync_to(c->alone, s->tokens, s->length);
    assert_true(s->have_logits);
    check_status(sluice_session_save(s, at("a"), NULL, NULL, &err), &err);
    check_status(sluice_session_save(c->alone, at("b"), NULL, NULL, &err), &err);
    expect_same_files("a", "b");
}

/* Rows that all layers have: the MTP layer may lag behind. */
static size_t rows_of(const sluice_session *s)
{
    return s->has_mtp ? s->mtp_length : s->length;
}

/* Rows are at one place for both: of the first SAME blocks, and of no others. */
static void expect_shared(const sluice_session *a, const sluice_session *b, size_t same)
{
    for (size_t i = 0; i < a->n_layers; i++)
        for (size_t row = 0; row < sl_min(a->capacity, b->capacity); row++) {
            const struct sl_layer_cache *x = &a->caches[i], *y = &b->caches[i];
            bool one = row < same * BLOCK;
            assert_int_equal(sl_kv_latent(&x->kv, row) == sl_kv_latent(&y->kv, row), one);
            assert_int_equal(sl_kv_tail(&x->kv, row) == sl_kv_tail(&y->kv, row), one);
            if (x->keys)
                assert_int_equal(sl_cache_panel(x, row) == sl_cache_panel(y, row), one);
        }
}

/* What any session may write nobody else reads, and every block has as many users as it says. */
static void expect_order(const struct scene *c)
{
    for (size_t i = 0; i < SESSIONS; i++)
        for (size_t b = 0; b < c->s[i]->n_blocks; b++) {
            const sluice_session *s = c->s[i];
            size_t held = s->has_mtp ? sl_min(s->length, s->mtp_length) : s->length;
            unsigned users = 0;
            for (size_t k = 0; k < SESSIONS; k++)
                users += b < c->s[k]->n_blocks && c->s[k]->blocks[b] == s->blocks[b];
            assert_int_equal(s->blocks[b]->sessions, users);
            assert_true(users == 1 || (b + 1) * BLOCK <= held);
        }
}

/* ---- memory --------------------------------------------------------------------------------- */

static size_t resident_pages(const struct sl_arena *memory)
{
    unsigned char here[256];
    size_t pages = sl_ceil_div(memory->size, (size_t)sysconf(_SC_PAGESIZE)), n = 0;
    assert_true(pages <= sizeof here);
    assert_int_equal(mincore(memory->base, memory->size, here), 0);
    for (size_t i = 0; i < pages; i++)
        n += here[i] & 1;
    return n;
}

/* Sessions that had rows of their own give their memory back. */
static void test_memory(void **unused)
{
    (void)unused;
    struct scene c;
    int32_t text[CONTEXT], other[CONTEXT];
    scene_open(&c, "tiny-v32", false, (struct sluice_session_opts){0});
    make_text(&c, 0, 0, text, CONTEXT);
    make_text(&c, 1, 0, other, CONTEXT);
    sync_to(c.s[0], text, N);
    assert_true(resident_pages(&c.s[0]->blocks[0]->memory) > 0);
    size_t spare = 0, whole = N / BLOCK;
    for (size_t i = 1; i < SESSIONS; i++) {
        sync_to(c.s[i], other, N);
        sync_to(c.s[i], text, N);
        expect_shared(c.s[0], c.s[i], whole);
    }
    for (const struct sl_block *b = c.engine->spare; b; b = b->next, spare++)
        assert_int_equal(resident_pages(&b->memory), 0);
    assert_int_equal(spare, (SESSIONS - 1) * whole);
    expect_order(&c);
    scene_close(&c);
}

static size_t mapped_pages(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    return pages;
}

/* To part costs nothing that could be refused; what sessions are charged stays the same. */
static void test_parting(void **unused)
{
    (void)unused;
    struct scene c;
    int32_t text[CONTEXT];
    scene_open(&c, "tiny-v32", true, (struct sluice_session_opts){0});
    make_text(&c, 0, 0, text, CONTEXT);
    mapped_pages();
    uint64_t charged = c.engine->session_bytes;
    for (size_t i = 0; i < SESSIONS; i++)
        sync_to(c.s[i], text, N);
    size_t mapped = mapped_pages();
    for (size_t i = 0; i < SESSIONS; i++)
        sl_session_cut(c.s[i], BLOCK + 3 * i);
    assert_int_equal(mapped_pages(), mapped);
    size_t spare = 0; /* all still have the first block */
    for (const struct sl_block *b = c.engine->spare; b; b = b->next)
        spare++;
    assert_int_equal(spare, SESSIONS - 1);
    assert_int_equal(c.engine->session_bytes, charged);
    expect_order(&c);
    scene_close(&c);
}

/* ---- who rewrites, who closes --------------------------------------------------------------- */

/* The giver goes back and another way, while the taker goes on; and the other way round. */
static void check_rewriting(const char *model, bool mtp, struct sluice_session_opts opts,
                            size_t back)
{
    struct scene c;
    int32_t text[CONTEXT], other[CONTEXT];
    scene_open(&c, model, mtp, opts);
    make_text(&c, 0, 0, text, CONTEXT);
    make_text(&c, 1, back, other, CONTEXT);
    for (size_t giver = 0; giver < 2; giver++) {
        sluice_session *rewritten = c.s[giver], *kept = c.s[1 - giver];
        sync_to(c.s[0], text, N);
        if (back % 2)
            sl_mtp_catch_up(c.s[0]);
        sync_to(c.s[1], text, N);
        expect_shared(c.s[0], c.s[1], rows_of(c.s[0]) / BLOCK);
        sync_to(rewritten, other, N - 20);
        step(kept, text[N]);
        step(rewritten, other[N - 20]);
        expect_order(&c);
        expect_right(&c, kept);
        expect_right(&c, rewritten);
        step(kept, text[N + 1]);
        expect_right(&c, kept);
        sync_to(c.s[0], other + 5, 3); /* nothing is the same any more */
        sync_to(c.s[1], other + 7, 3);
    }
    scene_close(&c);
}

static void test_rewriting(void **unused)
{
    static const size_t back[] = {1, 2, 15, 16, 17, 18, 31, 32, 33, 48, 64, 70, 79};
    (void)unused;
    for (size_t i = 0; i < sizeof back / sizeof *back; i++)
        for (int mtp = 0; mtp < 2; mtp++)
            check_rewriting("tiny-v32", mtp, (struct sluice_session_opts){0}, back[i]);
    const struct sluice_session_opts bf16 = {.kv = SLUICE_CACHE_BF16, .index = SLUICE_CACHE_F32};
    check_rewriting("tiny-v32", true, bf16, 45);
    check_rewriting("tiny-v32", true, (struct sluice_session_opts){.dense = 1}, 48);
    check_rewriting("tiny-v3", false, (struct sluice_session_opts){.kv = SLUICE_CACHE_F32}, 40);
    check_rewriting("demo", true, (struct sluice_session_opts){0}, 50);
}

/* A session that goes back to the end of a shared block, is stopped there, and steps: with MTP it
 * computes the last token of that block once more. */
static void test_stopped(void **unused)
{
    (void)unused;
    for (int mtp = 0; mtp < 2; mtp++) {
        struct scene c;
        struct sluice_err err = {0};
        int32_t text[CONTEXT], other[CONTEXT];
        size_t back = 3 * BLOCK;
        scene_open(&c, "tiny-v32", mtp, (struct sluice_session_opts){0});
        make_text(&c, 0, 0, text, CONTEXT);
        make_text(&c, 1, back + (size_t)mtp, other, CONTEXT);
        sync_to(c.s[0], text, N);
        sync_to(c.s[1], text, N);
        sluice_session_cancel(c.s[1]);
        assert_int_equal(sluice_session_sync(c.s[1], other, N, NULL, &err), SLUICE_ECANCELLED);
        assert_int_equal(c.s[1]->length, back);
        step(c.s[1], other[back + 1]);
        expect_order(&c);
        expect_right(&c, c.s[1]);
        expect_right(&c, c.s[0]);
        scene_close(&c);
    }
}

/* One has it from another, and a third from that one; they close in every order. */
static void test_chain(void **unused)
{
    (void)unused;
    for (unsigned order = 0; order < 6; order++) {
        struct scene c;
        int32_t text[CONTEXT];
        size_t first = order % 3, second = (first + 1 + order / 3) % 3;
        scene_open(&c, "tiny-v32", true, (struct sluice_session_opts){0});
        make_text(&c, 0, 0, text, CONTEXT);
        for (size_t i = 0; i < 3; i++) {
            sync_to(c.s[i], text, 40 + 30 * i);
            if (order % 2)
                sl_mtp_catch_up(c.s[i]);
        }
        expect_shared(c.s[0], c.s[1], rows_of(c.s[0]) / BLOCK);
        expect_shared(c.s[1], c.s[2], rows_of(c.s[1]) / BLOCK);
        sluice_session_close(&c.s[first]);
        sluice_session_close(&c.s[second]);
        expect_right(&c, c.s[3 - first - second]);
        open_one(&c, &c.s[first]);
        open_one(&c, &c.s[second]);
        sync_to(c.s[second], text, 30);
        step(c.s[3 - first - second], text[9]);
        sync_to(c.s[first], text, N);
        for (size_t i = 0; i < 3; i++)
            expect_right(&c, c.s[i]);
        expect_order(&c);
        scene_close(&c);
    }
}

/* Contexts of other lengths have other last blocks, which are never shared. */
static void test_contexts(void **unused)
{
    static const size_t context[] = {N, N + 1, 112, 3 * BLOCK, BLOCK - 1};
    (void)unused;
    for (size_t i = 0; i < sizeof context / sizeof *context; i++) {
        struct scene c;
        int32_t text[CONTEXT];
        size_t n = context[i] < N ? context[i] : N;
        scene_open(&c, "demo", false, (struct sluice_session_opts){.dense = 1});
        make_text(&c, 0, 0, text, CONTEXT);
        sluice_session_close(&c.s[1]);
        c.opts.context = context[i];
        open_one(&c, &c.s[1]);
        sync_to(c.s[0], text, N);
        sync_to(c.s[1], text, n);
        expect_shared(c.s[0], c.s[1], n < N ? (n - 1) / BLOCK : n / BLOCK);
        sluice_session_close(&c.s[0]);
        expect_right(&c, c.s[1]);
        c.opts.context = CONTEXT;
        open_one(&c, &c.s[0]);
        scene_close(&c);
    }
}

/* ---- steps of several ----------------------------------------------------------------------- */

static void check_batch(bool mtp)
{
    struct scene c;
    struct sluice_err err = {0};
    int32_t text[CONTEXT];
    scene_open(&c, "tiny-v32", mtp, (struct sluice_session_opts){0});
    make_text(&c, 0, 0, text, CONTEXT);
    for (size_t i = 0; i < SESSIONS; i++)
        sync_to(c.s[i], text, 97 - 16 * i); /* the last token ends a block, or begins one */
    for (size_t n = 0; n < 20; n++) {
        int32_t tokens[SESSIONS];
        for (size_t i = 0; i < SESSIONS; i++)
            tokens[i] = (int32_t)((n * 5 + i * i) % c.vocab);
        check_status(sluice_sessions_step(c.s, tokens, SESSIONS, &err), &err);
    }
    expect_order(&c);
    for (size_t i = 0; i < SESSIONS; i++)
        expect_right(&c, c.s[i]);
    scene_close(&c);
}

static void test_batch(void **unused)
{
    (void)unused;
    check_batch(false);
    check_batch(true);
}

/* ---- files ---------------------------------------------------------------------------------- */

static void flip_in_data(const char *path)
{
    unsigned char byte;
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -4096, SEEK_END), 0);
    assert_int_equal(fread(&byte, 1, 1, f), 1);
    byte ^= 1;
    assert_int_equal(fseek(f, -4096, SEEK_END), 0);
    assert_int_equal(fwrite(&byte, 1, 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

/* Sessions with shared blocks are saved, and restored to, with good files and bad ones. */
static void test_files(void **unused)
{
    (void)unused;
    struct scene c;
    struct sluice_err err = {0};
    int32_t text[CONTEXT], other[CONTEXT];
    scene_open(&c, "tiny-v32", true, (struct sluice_session_opts){0});
    make_text(&c, 0, 0, text, CONTEXT);
    make_text(&c, 1, 0, other, CONTEXT);
    sync_to(c.s[0], other, N - 1);
    check_status(sluice_session_save(c.s[0], at("other"), NULL, NULL, &err), &err);
    check_status(sluice_session_save(c.s[0], at("bad"), NULL, NULL, &err), &err);
    flip_in_data(at("bad"));
    sync_to(c.s[0], text, N);
    for (size_t i = 1; i < SESSIONS; i++)
        sync_to(c.s[i], text, N);
    check_status(sluice_session_restore(c.s[0], at("other"), NULL, NULL, &err), &err);
    assert_int_equal(sluice_session_restore(c.s[1], at("bad"), NULL, NULL, &err), SLUICE_EDAMAGED);
    assert_int_equal(c.s[1]->length, 0);
    check_status(sluice_session_fill(c.s[2], other, N, &err), &err);
    expect_order(&c);
    expect_right(&c, c.s[0]);
    expect_right(&c, c.s[3]);
    sync_to(c.s[1], text, N);
    expect_shared(c.s[1], c.s[3], (N - 1) / BLOCK);
    expect_right(&c, c.s[1]);
    assert_int_equal(sluice_session_restore(c.s[1], at("none"), NULL, NULL, &err), SLUICE_EARG);
    expect_shared(c.s[1], c.s[3], (N - 1) / BLOCK);
    scene_close(&c);
}

/* ---- anything ------------------------------------------------------------------------------- */

static void random_work(struct scene *c, size_t i)
{
    struct sluice_err err = {0};
    int32_t text[CONTEXT];
    sluice_session *s = c->s[i];
    make_text(c, (int)(random_bits() % 3), random_bits() % N, text, CONTEXT);
    switch (random_bits() % 6) {
    case 0:
        sluice_session_close(&c->s[i]);
        open_one(c, &c->s[i]);
        break;
    case 1:
        if (s->length > 0)
            check_status(sluice_session_save(s, at("some"), NULL, NULL, &err), &err);
        break;
    case 2:
        check_status(sluice_session_restore(s, at("some"), NULL, NULL, &err), &err);
        break;
    case 3:
        for (size_t n = 0; n < 20 && s->length > 0 && s->length < CONTEXT; n++)
            step(s, text[n]);
        break;
    default:
        sync_to(s, text, 1 + random_bits() % N);
    }
}

static void test_anything(void **unused)
{
    (void)unused;
    for (int mtp = 0; mtp < 2; mtp++) {
        struct scene c;
        struct sluice_err err = {0};
        int32_t text[CONTEXT];
        scene_open(&c, "tiny-v32", mtp, (struct sluice_session_opts){0});
        make_text(&c, 0, 0, text, CONTEXT);
        sync_to(c.s[0], text, N);
        check_status(sluice_session_save(c.s[0], at("some"), NULL, NULL, &err), &err);
        random_state = 1;
        for (int round = 0; round < 150; round++) {
            random_work(&c, random_bits() % SESSIONS);
            expect_order(&c);
            sluice_session *s = c.s[random_bits() % SESSIONS];
            if (s->length > 0)
                expect_right(&c, s);
        }
        scene_close(&c);
    }
}

/* ---- blocks of any size --------------------------------------------------------------------- */

/* A session by itself is the same bytes, however its rows are divided: with every selection, of
 * prompts and of steps. */
static void check_sizes(const char *model, struct sluice_session_opts opts, size_t n)
{
    static const unsigned shift[] = {4, 5, 7, SL_ONE_BLOCK}, chunk[] = {50, 7, 64, 33};
    struct sluice_err err = {0};
    sluice_engine *engine;
    struct sluice_model_info info;
    const struct sluice_engine_opts engine_opts = {.threads = 2};
    check_status(sluice_engine_open(&engine, converted(model, "quality"), &engine_opts, &err),
                 &err);
    sluice_engine_info(engine, &info);
    opts.context = n + 40;
    for (size_t i = 0; i < sizeof shift / sizeof *shift; i++) {
        sluice_session *s;
        sl_block_shift = shift[i];
        opts.chunk = chunk[i];
        check_status(sluice_session_open(&s, engine, &opts, &err), &err);
        for (size_t t = 0, at_once = n; t < n + 30; t += at_once, at_once = 1) {
            int32_t tokens[1024];
            assert_true(n + 30 <= sizeof tokens / sizeof *tokens);
            for (size_t k = 0; k < t + at_once; k++)
                tokens[k] = (int32_t)(k * k * 7 % 1001 % (size_t)info.vocab);
            sync_to(s, tokens, t + at_once);
        }
        assert_int_equal(s->owner.sparse_queries > 0, s->ws.attention.types.index != 0);
        check_status(sluice_session_save(s, at(i ? "got" : "want"), NULL, NULL, &err), &err);
        if (i > 0)
            expect_same_files("got", "want");
        sluice_session_close(&s);
    }
    sl_block_shift = SHIFT;
    sluice_engine_close(&engine);
}

static void test_sizes(void **unused)
{
    (void)unused;
    check_sizes("tiny-v32", (struct sluice_session_opts){0}, 200);
    check_sizes("tiny-v32",
                (struct sluice_session_opts){.kv = SLUICE_CACHE_BF16, .index = SLUICE_CACHE_BF16},
                150);
    check_sizes("tiny-v3", (struct sluice_session_opts){.kv = SLUICE_CACHE_F32}, 150);
    check_sizes("demo", (struct sluice_session_opts){0}, 700);
    check_sizes("demo", (struct sluice_session_opts){.dense = 1}, 600);
}

static int make_all(void **state)
{
    sl_block_shift = SHIFT;
    return make_root(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_parting),
        cmocka_unit_test(test_rewriting), cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_chain),     cmocka_unit_test(test_contexts),
        cmocka_unit_test(test_batch),     cmocka_unit_test(test_files),
        cmocka_unit_test(test_anything),  cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests_name("share", tests, make_all, remove_root);
}
