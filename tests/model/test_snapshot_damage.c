/* SPDX-License-Identifier: MIT */
/*
 * Files that are no saved session, or not one of this model, are refused with a message that says
 * why; every changed bit is found; and the session can be used afterwards.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/file.h"
#include "runtime/base/splitmix.h"
#include "runtime/session/snapshot.h"
#include "tests/model/harness.h"
#include "tests/unit/scratch.h"

enum { N = 50, CONTEXT = 80, TABLE = 8 };

/* A session of N tokens, saved as root/good, and one of half of them that is to be restored. */
struct scene {
    sluice_engine *engine;
    sluice_session *saved, *s;
    int32_t tokens[CONTEXT];
    size_t vocab;
    uint8_t *good; /* the file */
    size_t size;
};

static void scene_open(struct scene *c)
{
    struct sluice_err err = {0};
    struct sluice_model_info info;
    const struct sluice_session_opts opts = {.context = CONTEXT, .alone = 1};
    const struct sluice_engine_opts engine = {.threads = 1, .mtp = 1};
    struct sl_map map;
    *c = (struct scene){0};
    check_status(sluice_engine_open(&c->engine, converted("tiny-v32", "quality"), &engine, &err),
                 &err);
    sluice_engine_info(c->engine, &info);
    c->vocab = (size_t)info.vocab;
    for (size_t i = 0; i < CONTEXT; i++)
        c->tokens[i] = (int32_t)((i * 31 + 7) % c->vocab);
    check_status(sluice_session_open(&c->saved, c->engine, &opts, &err), &err);
    check_status(sluice_session_open(&c->s, c->engine, &opts, &err), &err);
    check_status(sluice_session_sync(c->saved, c->tokens, N, NULL, &err), &err);
    check_status(sluice_session_save(c->saved, at("good"), NULL, NULL, &err), &err);
    check_status(sl_map_open(&map, at("good"), &err), &err);
    c->size = map.size;
    c->good = malloc(map.size);
    memcpy(c->good, map.data, map.size);
    sl_map_close(&map);
}

static void scene_close(struct scene *c)
{
    sluice_session_close(&c->saved);
    sluice_session_close(&c->s);
    sluice_engine_close(&c->engine);
    free(c->good);
}

/* S holds half of the tokens, and is as good as ever. */
static void expect_usable(struct scene *c)
{
    struct sluice_err err = {0};
    check_status(sluice_session_sync(c->s, c->tokens, N, NULL, &err), &err);
    assert_memory_equal(sluice_session_logits(c->s), sluice_session_logits(c->saved),
                        c->vocab * sizeof(float));
    check_status(sluice_session_sync(c->s, c->tokens, N / 2, NULL, &err), &err);
}

/* Restoring root/NAME says CODE and all WORDS; afterwards S holds LEFT tokens. */
static void expect_refused(struct scene *c, const char *name, int code, size_t left,
                           const char *words)
{
    struct sluice_err err = {0};
    check_status(sluice_session_sync(c->s, c->tokens, N / 2, NULL, &err), &err);
    int status = sluice_session_restore(c->s, at(name), NULL, NULL, &err);
    if (status != code)
        fail_msg("status %d, %d wanted: %s", status, code, err.msg);
    assert_int_equal(err.code, code);
    expect_text(err.msg, at(name));
    expect_text(err.msg, words);
    assert_int_equal(sluice_session_length(c->s), left);
    assert_int_equal(sluice_session_logits(c->s) != NULL, left > 0);
}

static void test_truncated(void **unused)
{
    (void)unused;
    struct scene c;
    struct sl_snapshot h;
    struct sl_stretches data;
    struct sluice_err err = {0};
    uint64_t state = 1;
    size_t cuts[200] = {0, 1, 7, 8, sizeof h, SL_SNAPSHOT_PAGE - 8, SL_SNAPSHOT_PAGE - 1}, n = 7;
    scene_open(&c);
    memcpy(&h, c.good, sizeof h);
    check_status(sl_stretches_open(&data, c.saved, &h, false, &err), &err);
    assert_int_equal(data.bytes, h.data_bytes);
    assert_int_equal(SL_SNAPSHOT_PAGE + h.data_bytes + TABLE, c.size);
    for (size_t i = 0; i < data.n; i++)
        cuts[n++] = SL_SNAPSHOT_PAGE + data.list[i].begin;
    cuts[n++] = SL_SNAPSHOT_PAGE + data.bytes;
    cuts[n++] = c.size - 1;
    for (int i = 0; i < 50; i++)
        cuts[n++] = sl_splitmix(&state) % c.size;
    for (size_t i = 0; i < n; i++) {
        put("bad", c.good, cuts[i]);
        bool no_header = cuts[i] < SL_SNAPSHOT_PAGE;
        expect_refused(&c, "bad", no_header ? SLUICE_EFORMAT : SLUICE_EDAMAGED, N / 2,
                       no_header ? "not a saved session, or truncated" : "truncated or changed");
    }
    expect_usable(&c);
    uint8_t *longer = calloc(c.size + 1, 1);
    memcpy(longer, c.good, c.size);
    put("bad", longer, c.size + 1);
    expect_refused(&c, "bad", SLUICE_EDAMAGED, N / 2, "truncated or changed");
    free(longer);
    sl_stretches_close(&data);
    scene_close(&c);
}

/* A page that the checksum does not cover in full, or is not looked at, would let one pass. */
static void test_header_bits(void **unused)
{
    (void)unused;
    struct scene c;
    struct sluice_err err;
    struct sl_snapshot h;
    scene_open(&c);
    assert_int_equal(sl_snapshot_parse(&h, c.good, c.size, "good", &err), 0);
    for (size_t bit = 0; bit < 8 * SL_SNAPSHOT_PAGE; bit++) {
        c.good[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(sl_snapshot_parse(&h, c.good, c.size, "bad", &err),
                         bit < 64 ? SLUICE_EFORMAT : SLUICE_EDAMAGED);
        c.good[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    put("bad", c.good, c.size);
    flip("bad", 0, 0);
    expect_refused(&c, "bad", SLUICE_EFORMAT, N / 2, "not a saved session: name another file");
    put("bad", c.good, c.size);
    flip("bad", 100, 5);
    expect_refused(&c, "bad", SLUICE_EDAMAGED, N / 2, "damaged");
    scene_close(&c);
}

static void test_data_bits(void **unused)
{
    (void)unused;
    struct scene c;
    uint64_t state = 2;
    scene_open(&c);
    size_t table = c.size - TABLE;
    put("bad", c.good, c.size);
    for (int i = 0; i < 300; i++) {
        size_t byte = SL_SNAPSHOT_PAGE + sl_splitmix(&state) % (table - SL_SNAPSHOT_PAGE);
        int bit = (int)(sl_splitmix(&state) % 8);
        flip("bad", byte, bit);
        expect_refused(&c, "bad", SLUICE_EDAMAGED, 0, "damaged between bytes");
        flip("bad", byte, bit);
        if (i % 100 == 0)
            expect_usable(&c);
    }
    for (size_t byte = table; byte < c.size; byte++) {
        flip("bad", byte, (int)(byte % 8));
        expect_refused(&c, "bad", SLUICE_EDAMAGED, N / 2, "damaged near its end");
        flip("bad", byte, (int)(byte % 8));
    }
    scene_close(&c);
}

/* Writes root/bad with the header H, whose checksum is right. */
static void put_header(const struct scene *c, const struct sl_snapshot *h)
{
    uint8_t *file = malloc(c->size);
    memcpy(file, c->good, c->size);
    sl_snapshot_print(h, file);
    put("bad", file, c->size);
    free(file);
}

static void test_other_numbers(void **unused)
{
    (void)unused;
    struct scene c;
    struct sl_snapshot h, good;
    struct sluice_err err = {0};
    scene_open(&c);
    memcpy(&good, c.good, sizeof good);
    h = good;
    h.version++;
    put_header(&c, &h);
    expect_refused(&c, "bad", SLUICE_EVERSION, N / 2, "use a newer sluice");
    static const uint64_t large[] = {0, UINT32_MAX, UINT64_MAX, UINT64_MAX / 2, UINT64_MAX - 4095};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        for (int field = 0; field < 12; field++) {
            h = good;
            uint64_t *wide[] = {&h.tokens, &h.mtp_tokens, &h.data_bytes, &h.file_bytes};
            uint32_t *narrow[] = {&h.layers, &h.latent_bytes, &h.tail_bytes, &h.panel_bytes,
                                  &h.hidden, &h.vocab,        &h.flags,      &h.piece_bytes};
            if (field < 4)
                *wide[field] = large[i];
            else
                *narrow[field - 4] = (uint32_t)large[i];
            put_header(&c, &h);
            expect_refused(&c, "bad", SLUICE_EFORMAT, N / 2, "contradicts itself");
        }
    h = good;
    h.tokens = h.mtp_tokens = UINT64_C(1) << 62; /* with every product too large */
    put_header(&c, &h);
    expect_refused(&c, "bad", SLUICE_EFORMAT, N / 2, "contradicts itself");
    h = good; /* the same sum of other rows */
    h.latent_bytes -= 4;
    h.tail_bytes += 4;
    put_header(&c, &h);
    expect_refused(&c, "bad", SLUICE_EFORMAT, N / 2, "wanted");
    h = good;
    h.model++;
    put_header(&c, &h);
    expect_refused(&c, "bad", SLUICE_EARG, N / 2, "another model");
    c.saved->tokens[3] = (int32_t)c.vocab; /* an id that the model does not have, well written */
    check_status(sluice_session_save(c.saved, at("bad"), NULL, NULL, &err), &err);
    c.saved->tokens[3] = c.tokens[3];
    check_status(sluice_session_sync(c.s, c.tokens, N / 2, NULL, &err), &err);
    assert_int_equal(sluice_session_restore(c.s, at("bad"), NULL, NULL, &err), SLUICE_EARG);
    expect_text(err.msg, "token 3 is");
    assert_int_equal(sluice_session_length(c.s), 0);
    expect_usable(&c);
    scene_close(&c);
}

/* A session of MODEL in PROFILE refuses root/good. */
static void expect_misfit(const char *model, const char *profile, bool mtp,
                          struct sluice_session_opts opts, int code, const char *words)
{
    struct sluice_err err = {0};
    const struct sluice_engine_opts engine_opts = {.threads = 1, .mtp = mtp};
    sluice_engine *engine;
    sluice_session *s;
    check_status(sluice_engine_open(&engine, converted(model, profile), &engine_opts, &err), &err);
    if (!opts.context)
        opts.context = CONTEXT;
    check_status(sluice_session_open(&s, engine, &opts, &err), &err);
    int status = sluice_session_restore(s, at("good"), NULL, NULL, &err);
    if (status != code)
        fail_msg("status %d, %d wanted: %s", status, code, err.msg);
    expect_text(err.msg, at("good"));
    expect_text(err.msg, words);
    assert_int_equal(sluice_session_length(s), 0);
    sluice_session_close(&s);
    sluice_engine_close(&engine);
}

static void test_misfits(void **unused)
{
    (void)unused;
    struct scene c;
    struct sluice_session_opts o = {0};
    scene_open(&c);
    expect_misfit("tiny-v32", "balanced", true, o, SLUICE_EARG, "another profile");
    expect_misfit("tiny-v3", "quality", false, o, SLUICE_EARG, "another model");
    o.kv = SLUICE_CACHE_BF16;
    expect_misfit("tiny-v32", "quality", true, o, SLUICE_EARG, "--kv-type int8");
    o = (struct sluice_session_opts){.index = SLUICE_CACHE_F32};
    expect_misfit("tiny-v32", "quality", true, o, SLUICE_EARG, "--index-type int8");
    o = (struct sluice_session_opts){.dense = 1};
    expect_misfit("tiny-v32", "quality", true, o, SLUICE_EARG, "without --dense");
    o = (struct sluice_session_opts){.context = N - 1};
    expect_misfit("tiny-v32", "quality", true, o, SLUICE_ECONTEXT, "--ctx 50");
    scene_close(&c);
}

/* The reverse is a misfit; this leaves out what is of no use. */
static void test_mtp(void **unused)
{
    (void)unused;
    struct scene c;
    struct sluice_err err = {0};
    const struct sluice_engine_opts engine_opts = {.threads = 1};
    const struct sluice_session_opts opts = {.context = CONTEXT, .alone = 1};
    sluice_engine *engine;
    sluice_session *s;
    scene_open(&c);
    check_status(sluice_engine_open(&engine, converted("tiny-v32", "quality"), &engine_opts, &err),
                 &err);
    check_status(sluice_session_open(&s, engine, &opts, &err), &err);
    check_status(sluice_session_restore(s, at("good"), NULL, NULL, &err), &err);
    for (size_t i = N; i < N + 5; i++) {
        assert_memory_equal(sluice_session_logits(s), sluice_session_logits(c.saved),
                            c.vocab * sizeof(float));
        check_status(sluice_session_step(s, c.tokens[i], &err), &err);
        check_status(sluice_session_step(c.saved, c.tokens[i], &err), &err);
    }
    check_status(sluice_session_save(s, at("bad"), NULL, NULL, &err), &err);
    expect_refused(&c, "bad", SLUICE_EARG, N / 2, "without the MTP layer");
    sluice_session_close(&s);
    sluice_engine_close(&engine);
    scene_close(&c);
}

static int cancel(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    (void)done;
    (void)total;
    return 1;
}

static void test_places(void **unused)
{
    (void)unused;
    struct scene c;
    struct sluice_err err = {0};
    scene_open(&c);
    expect_refused(&c, "missing", SLUICE_EARG, N / 2, "No such file");
    assert_int_equal(mkdir(at("folder"), 0777), 0);
    expect_refused(&c, "folder", SLUICE_EFORMAT, N / 2, "not a regular file");
    assert_int_equal(mkfifo(at("pipe"), 0666), 0);
    expect_refused(&c, "pipe", SLUICE_EFORMAT, N / 2, "not a regular file");
    assert_int_equal(sluice_session_save(c.saved, at("folder"), NULL, NULL, &err), SLUICE_EARG);
    assert_int_equal(sluice_session_save(c.saved, at("pipe"), NULL, NULL, &err), SLUICE_EARG);
    assert_int_equal(sluice_session_save(c.saved, at("none/x"), NULL, NULL, &err), SLUICE_EIO);
    expect_text(err.msg, "none/x");
    assert_int_equal(sluice_session_save(c.saved, at("x"), cancel, NULL, &err), SLUICE_ECANCELLED);
    assert_false(sl_file_exists(at("x")) || sl_file_exists(at("x.part")));
    put_text("x", "old");
    assert_int_equal(sluice_session_save(c.saved, at("x"), cancel, NULL, &err), SLUICE_ECANCELLED);
    assert_int_equal(size_of("x"), 3);
    check_status(sluice_session_sync(c.s, c.tokens, N / 2, NULL, &err), &err);
    assert_int_equal(sluice_session_restore(c.s, at("good"), cancel, NULL, &err),
                     SLUICE_ECANCELLED);
    assert_int_equal(sluice_session_length(c.s), 0);
    assert_int_equal(sluice_session_save(c.s, at("x"), NULL, NULL, &err), SLUICE_EARG);
    expect_text(err.msg, "empty");
    expect_usable(&c);
    scene_close(&c);
}

/* Caches of NaN, well written by somebody who means no good: other answers, and no more. */
static void test_nonsense(void **unused)
{
    (void)unused;
    struct scene c;
    struct sluice_err err = {0};
    scene_open(&c);
    for (uint32_t i = 0; i < c.saved->n_layers; i++)
        for (size_t row = 0; row < CONTEXT; row++) {
            const struct sl_layer_cache *cache = &c.saved->caches[i];
            memset(sl_cache_panel(cache, row), 0xff, cache->panel_bytes);
            memset(sl_kv_tail(&cache->kv, row), 0xff, cache->kv.tail_stride);
        }
    check_status(sluice_session_save(c.saved, at("bad"), NULL, NULL, &err), &err);
    check_status(sluice_session_restore(c.s, at("bad"), NULL, NULL, &err), &err);
    check_status(sluice_session_step(c.s, 1, &err), &err);
    check_status(sluice_session_sync(c.s, c.tokens, CONTEXT, NULL, &err), &err);
    check_status(sluice_session_sync(c.s, c.tokens + 1, N / 2, NULL, &err), &err);
    scene_close(&c);
}

/* ---- several at once ------------------------------------------------------------------------ */

enum { ROUNDS = 30 };

struct writer {
    sluice_session *s;
    const char *path;
    int failures;
};

static void *save_again_and_again(void *arg)
{
    struct writer *w = arg;
    struct sluice_err err = {0};
    for (int i = 0; i < ROUNDS; i++)
        if (sluice_session_save(w->s, w->path, NULL, NULL, &err) < 0 && w->failures++ == 0)
            fprintf(stderr, "%s\n", err.msg);
    return NULL;
}

/* Two save different sessions to one file while another is restored: it always is one of the two,
 * whole. */
static void test_one_file(void **unused)
{
    (void)unused;
    struct scene c;
    struct sluice_err err = {0};
    pthread_t threads[2];
    char path[300];
    scene_open(&c);
    snprintf(path, sizeof path, "%s", at("shared"));
    sluice_session *reader = NULL;
    const struct sluice_session_opts opts = {.context = CONTEXT};
    check_status(sluice_session_open(&reader, c.engine, &opts, &err), &err);
    check_status(sluice_session_sync(c.s, c.tokens, N / 2, NULL, &err), &err);
    check_status(sluice_session_save(c.s, path, NULL, NULL, &err), &err);
    struct writer writers[2] = {{c.saved, path, 0}, {c.s, path, 0}};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, save_again_and_again, &writers[i]), 0);
    for (int i = 0; i < ROUNDS; i++) {
        check_status(sluice_session_restore(reader, path, NULL, NULL, &err), &err);
        size_t n = sluice_session_length(reader);
        assert_true(n == N || n == N / 2);
        assert_memory_equal(sluice_session_logits(reader),
                            sluice_session_logits(n == N ? c.saved : c.s), c.vocab * sizeof(float));
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(writers[i].failures, 0);
    }
    assert_false(sl_file_exists(at("shared.part")));
    sluice_session_close(&reader);
    scene_close(&c);
}

/* ---- kill -9 -------------------------------------------------------------------------------- */

/* Saves sessions of N and of half as many tokens in turn, until it is killed. */
__attribute__((noreturn)) static void save_until_killed(const char *path)
{
    struct scene c;
    struct sluice_err err = {0};
    scene_open(&c);
    if (sluice_session_sync(c.s, c.tokens, N / 2, NULL, &err) < 0)
        _exit(1);
    for (int i = 0;; i++)
        if (sluice_session_save(i % 2 ? c.saved : c.s, path, NULL, NULL, &err) < 0)
            _exit(1);
}

/* root/killed is a saved session in which every checksum is right. */
static void expect_whole(void)
{
    struct sluice_err err = {0};
    struct sl_map map;
    struct sl_snapshot h;
    uint64_t hash;
    check_status(sl_map_open(&map, at("killed"), &err), &err);
    check_status(sl_snapshot_parse(&h, map.data, map.size, "killed", &err), &err);
    assert_int_equal(map.size, SL_SNAPSHOT_PAGE + h.data_bytes + TABLE); /* one piece */
    memcpy(&hash, map.data + map.size - TABLE, TABLE);
    assert_int_equal(hash, sl_hash(map.data + SL_SNAPSHOT_PAGE, h.data_bytes));
    assert_int_equal(h.table_xxh3, sl_hash(map.data + map.size - TABLE, TABLE));
    sl_map_close(&map);
}

static void test_kill(void **unused)
{
    (void)unused;
#ifdef __SANITIZE_THREAD__
    skip(); /* no new threads after a fork */
#endif
    char path[300];
    uint64_t state = 3;
    snprintf(path, sizeof path, "%s", at("killed"));
    converted("tiny-v32", "quality");
    for (int i = 0; i < 12; i++) {
        unlink(path);
        pid_t child = fork();
        if (child == 0)
            save_until_killed(path);
        assert_true(child > 0);
        while (!sl_file_exists(path))
            assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
        usleep((useconds_t)(sl_splitmix(&state) % 20000));
        int how;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));
        expect_whole();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill),          cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_header_bits),   cmocka_unit_test(test_data_bits),
        cmocka_unit_test(test_other_numbers), cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_mtp),           cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_places),        cmocka_unit_test(test_one_file),
    };
    return cmocka_run_group_tests_name("snapshot damage", tests, make_root, remove_root);
}
