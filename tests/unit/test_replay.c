/* SPDX-License-Identifier: MIT */
/* Replayed traces: passes, times, caches against slow definitions, the bound against all ways. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/random.h"
#include "tests/unit/scratch.h"
#include "tools/replay/simulate.h"

/* ---- from lines to passes ------------------------------------------------------------------- */

static void expect_pass(const struct sl_choices *c, uint32_t layer, size_t p, bool decode,
                        uint32_t tokens, const struct sl_use *uses, size_t n)
{
    const struct sl_pass *pass = &c->layers[layer].passes[p];
    assert_int_equal(pass->decode, decode);
    assert_int_equal(pass->tokens, tokens);
    assert_int_equal(pass->n, n);
    assert_memory_equal(&c->layers[layer].uses[pass->first], uses, n * sizeof *uses);
}

static void tokens_become_passes(void **unused)
{
    (void)unused;
    struct sl_choices c;
    struct sluice_err err = {0};
    put_text("passes", "sluice-trace 1 layers 3 dense 1 experts 9 used 2\n"
                       "p 0 1 3 8\np 1 1 0 3\np 2 1 3 4\n" /* three tokens */
                       "p 0 2 1 2\np 1 2 1 2\np 2 2 1 2\n"
                       "p 3 1 5 6\np 3 2 5 7\n" /* the second chunk */
                       "d 4 1 0 1\nd 4 2 0 2\nd 5 1 1 8\nd 5 2 3 4\n"
                       "p 5 1 0 1\n" /* another prompt, cut off */);
    assert_int_equal(sl_choices_load(&c, at("passes"), &err), 0);
    assert_int_equal(c.n_layers, 2);
    assert_int_equal(c.tokens[0], 5);
    assert_int_equal(c.passes[0], 3);
    assert_int_equal(c.tokens[1], 2);
    assert_int_equal(c.passes[1], 2);
    assert_int_equal(c.layers[0].n_passes, 5);
    assert_int_equal(c.layers[1].n_passes, 4);
    const struct sl_use first[] = {{8, 1, 0}, {0, 1, 1}, {3, 3, 2}, {4, 1, 2}};
    expect_pass(&c, 0, 0, false, 3, first, 4);
    expect_pass(&c, 0, 1, false, 1, (const struct sl_use[]){{5, 1, 0}, {6, 1, 0}}, 2);
    expect_pass(&c, 0, 3, true, 1, (const struct sl_use[]){{1, 1, 0}, {8, 1, 0}}, 2);
    expect_pass(&c, 1, 0, false, 3, (const struct sl_use[]){{1, 3, 2}, {2, 3, 2}}, 2);
    expect_pass(&c, 1, 3, true, 1, (const struct sl_use[]){{3, 1, 0}, {4, 1, 0}}, 2);
    sl_choices_free(&c);
    put_text("none", "sluice-trace 1 layers 3 dense 1 experts 9 used 2\n");
    assert_int_equal(sl_choices_load(&c, at("none"), &err), SLUICE_EFORMAT);
    expect_text(err.msg, "no choices");
    put_text("bad", "sluice-trace 1 layers 3 dense 1 experts 9 used 2\np 0 1 3 8\np 0 2 9 1\n");
    assert_int_equal(sl_choices_load(&c, at("bad"), &err), SLUICE_EFORMAT);
    expect_text(err.msg, "line 3");
}

/* One layer after another, chunks of one layer only: an event ends a pass. */
static void events_end_passes(void **unused)
{
    (void)unused;
    struct sl_choices c;
    struct sluice_err err = {0};
    put_text("one", "sluice-trace 1 layers 2 dense 1 experts 9 used 2\n"
                    "p 0 1 3 8\np 1 1 3 8\ne p 0 2 1 0 2 0 10 1 2 3 4 5\n"
                    "p 2 1 3 8\ne p 2 1 1 2 0 0 10 1 2 3 4 5\n");
    assert_int_equal(sl_choices_load(&c, at("one"), &err), 0);
    assert_int_equal(c.passes[0], 2);
    assert_int_equal(c.tokens[0], 3);
    assert_int_equal(c.overlap[0].tokens, 3);
    sl_choices_free(&c);
}

/* ---- times ---------------------------------------------------------------------------------- */

static void times_are_added_up(void **unused)
{
    (void)unused;
    struct sl_choices c;
    struct sluice_err err = {0};
    put_text("times", "sluice-trace 1 layers 3 dense 1 experts 9 used 2\nd 0 1 1 2\nd 0 2 1 2\n"
                      /* before 10, all 100: ideal 10 + max(20, 50) + 5 */
                      "e d 0 1 1 1 1 0 4096 10 20 50 5 100\n"
                      /* 7 + max(40, 3) + 6 */
                      "e d 0 1 2 0 1 1 4096 7 40 3 6 60\n"
                      "d 1 1 1 2\n"
                      /* 1 + max(2, 300) + 3 */
                      "e d 1 1 1 2 0 0 0 1 2 300 3 400\n"
                      /* nothing read: as it ran */
                      "e d 1 1 2 2 0 0 0 10 50 0 40 60\n"
                      "e p 9 70 1 9 0 0 0 1000 1000 1000 1000 9000\n");
    assert_int_equal(sl_choices_load(&c, at("times"), &err), 0);
    const struct sl_overlap *o = &c.overlap[1];
    assert_int_equal(o->tokens, 2);
    assert_true(o->memory == 5 && o->read == 2 && o->ahead == 1);
    assert_true(fabs(o->bytes - 8192) < 1e-9);
    assert_true(fabs(o->measured * 1e6 - (110 + 67 + 401 + 70)) < 1e-6);
    assert_true(fabs(o->ideal * 1e6 - (65 + 53 + 304 + 70)) < 1e-6);
    /* max(10 + 20 + 5 + 7 + 40 + 6, 50 + 3) + max(1 + 2 + 3 + 10 + 60, 300) */
    assert_true(fabs(o->floor * 1e6 - (88 + 300)) < 1e-6);
    assert_int_equal(c.overlap[0].tokens, 70);
    assert_true(fabs(c.overlap[0].measured - 0.010) < 1e-12);
    sl_choices_free(&c);
}

/* ---- random traces -------------------------------------------------------------------------- */

enum { EXPERTS = 6, PASSES = 24 };

struct random_trace {
    struct sl_choices c;
    struct sl_choice_layer layer;
    struct sl_pass passes[PASSES];
    struct sl_use uses[PASSES * EXPERTS];
};

/* A quarter of the passes are prompts of several tokens; small ids are likelier. */
static void make_trace(struct random_trace *t)
{
    *t = (struct random_trace){0};
    for (size_t p = 0; p < PASSES; p++) {
        struct sl_pass *pass = &t->passes[p];
        *pass = (struct sl_pass){.decode = random_bits() % 4 > 0, .first = t->layer.n_uses};
        pass->tokens = pass->decode ? 1 : 1 + random_bits() % 5;
        uint32_t most = pass->decode ? 2 : 1 + random_bits() % EXPERTS;
        for (uint32_t e = 0; e < EXPERTS && pass->n < most; e++)
            if (random_bits() % EXPERTS >= e)
                t->uses[t->layer.n_uses + pass->n++] = (struct sl_use){
                    e, 1 + random_bits() % pass->tokens, pass->tokens - 1};
        t->layer.n_uses += pass->n;
    }
    t->layer.passes = t->passes;
    t->layer.n_passes = PASSES;
    t->layer.uses = t->uses;
    t->c = (struct sl_choices){
        .model = {.layers = 1, .experts = EXPERTS, .used = 2}, .n_layers = 1, .layers = &t->layer};
}

static uint32_t mask_of(const struct random_trace *t, size_t p)
{
    uint32_t mask = 0;
    for (size_t i = 0; i < t->passes[p].n; i++)
        mask |= 1u << t->uses[t->passes[p].first + i].expert;
    return mask;
}

/* The most that passes of a kind can find: every set of experts is tried after every pass. */
static uint64_t most_found(const struct random_trace *t, bool decode, uint32_t slots)
{
    enum { SETS = 1 << EXPERTS };
    int64_t best[SETS], next[SETS], most = 0;
    for (uint32_t set = 0; set < SETS; set++)
        best[set] = set ? -1 : 0; /* −1: cannot be */
    for (size_t p = 0; p < PASSES; p++) {
        uint32_t needs = mask_of(t, p);
        for (uint32_t to = 0; to < SETS; to++)
            next[to] = -1;
        for (uint32_t from = 0; from < SETS; from++)
            for (uint32_t to = 0; best[from] >= 0 && to < SETS; to++) {
                bool can = (to & ~(from | needs)) == 0 && (uint32_t)__builtin_popcount(to) <= slots;
                int64_t found = t->passes[p].decode == decode ? __builtin_popcount(from & needs)
                                                              : 0;
                if (can && best[from] + found > next[to])
                    next[to] = best[from] + found;
            }
        memcpy(best, next, sizeof best);
    }
    for (uint32_t set = 0; set < SETS; set++)
        most = best[set] > most ? best[set] : most;
    return (uint64_t)most;
}

static void replay(const struct random_trace *t, enum sl_replay_policy policy, uint32_t slots,
                   struct sl_replay_count count[2])
{
    struct sluice_err err;
    memset(count, 0, 2 * sizeof *count);
    assert_int_equal(sl_replay(count, &t->c, 0, policy, slots, &err), 0);
}

static void bound_is_the_best(void **unused)
{
    (void)unused;
    static struct random_trace t;
    struct sl_replay_count bound[2], count[2];
    for (int i = 0; i < 300; i++) {
        uint32_t slots = 1 + random_bits() % EXPERTS;
        make_trace(&t);
        replay(&t, SL_REPLAY_BOUND, slots, bound);
        assert_int_equal(bound[0].held, most_found(&t, false, slots));
        assert_int_equal(bound[1].held, most_found(&t, true, slots));
        for (int policy = 0; policy < SL_REPLAY_BOUND; policy++) {
            replay(&t, (enum sl_replay_policy)policy, slots, count);
            for (int kind = 0; kind < 2; kind++) {
                assert_int_equal(count[kind].wanted, bound[kind].wanted);
                assert_true(count[kind].held <= bound[kind].held);
            }
        }
    }
}

/* With a slot for each, only the first use of an expert is not found. */
static void all_slots_hold_all(void **unused)
{
    (void)unused;
    static struct random_trace t;
    struct sl_replay_count count[2];
    for (int i = 0; i < 50; i++) {
        uint32_t seen = 0;
        uint64_t wanted[2] = {0}, held[2] = {0};
        make_trace(&t);
        for (size_t p = 0; p < PASSES; p++) {
            uint32_t needs = mask_of(&t, p);
            wanted[t.passes[p].decode] += (uint64_t)__builtin_popcount(needs);
            held[t.passes[p].decode] += (uint64_t)__builtin_popcount(needs & seen);
            seen |= needs;
        }
        for (int policy = 0; policy < SL_REPLAY_BOUND; policy++) {
            replay(&t, (enum sl_replay_policy)policy, EXPERTS, count);
            for (int kind = 0; kind < 2; kind++) {
                assert_int_equal(count[kind].wanted, wanted[kind]);
                assert_int_equal(count[kind].held, held[kind]);
            }
        }
    }
}

/* A textbook's LRU, over answers only: a list of ids, the latest first. */
static uint64_t textbook(const struct random_trace *t, uint32_t slots)
{
    uint32_t list[EXPERTS], n = 0;
    uint64_t found = 0;
    for (size_t p = 0; p < PASSES; p++) {
        uint32_t needs = mask_of(t, p);
        for (uint32_t i = 0; i < n; i++)
            found += needs >> list[i] & 1;
        for (uint32_t e = 0; e < EXPERTS; e++) {
            if ((needs >> e & 1) == 0)
                continue;
            uint32_t place = 0;
            while (place < n && list[place] != e)
                place++;
            if (place < n) {
                memmove(list + place, list + place + 1, (--n - place) * sizeof *list);
            } else if (n == slots) {
                /* the oldest of those that this token does not need goes */
                uint32_t oldest = n - 1;
                while (needs >> list[oldest] & 1)
                    oldest--;
                memmove(list + oldest, list + oldest + 1, (--n - oldest) * sizeof *list);
            }
            memmove(list + 1, list, n++ * sizeof *list);
            list[0] = e;
        }
    }
    return found;
}

static void lru_is_the_textbooks(void **unused)
{
    (void)unused;
    static struct random_trace t;
    struct sl_replay_count count[2];
    for (int i = 0; i < 200; i++) {
        uint32_t slots = 2 + random_bits() % (EXPERTS - 1);
        make_trace(&t);
        for (size_t p = 0; p < PASSES; p++) {
            t.passes[p].decode = true;
            t.passes[p].n = t.passes[p].n < 2 ? t.passes[p].n : 2;
            t.passes[p].tokens = 1;
        }
        replay(&t, SL_REPLAY_LRU, slots, count);
        assert_int_equal(count[1].held, textbook(&t, slots));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_become_passes), cmocka_unit_test(events_end_passes),
        cmocka_unit_test(times_are_added_up),   cmocka_unit_test(bound_is_the_best),
        cmocka_unit_test(all_slots_hold_all),   cmocka_unit_test(lru_is_the_textbooks),
    };
    return cmocka_run_group_tests_name("replay", tests, make_root, remove_root);
}
