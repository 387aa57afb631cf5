/* SPDX-License-Identifier: MIT */
/*
 * Experts on demand: whatever is asked for, in whatever order, with right and wrong guesses before,
 * the bytes are those of the file; what is held is not read again; nothing is left behind by asks
 * that are cancelled or fail.  And when guessing pays.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/random.h"
#include "tests/unit/scratch.h"
#include "tests/unit/stores.h"

enum { MOST = 80 }; /* experts of a layer */

static uint32_t below(uint32_t n)
{
    return random_bits() % n;
}

static const enum sluice_reader readers[] = {
    SLUICE_READER_PREAD,
#ifdef HAVE_URING
    SLUICE_READER_URING,
#endif
};
enum { READERS = sizeof readers / sizeof *readers };

static struct sl_experts *open_streamed(enum sluice_reader reader, uint32_t slots, unsigned stages)
{
    const struct sl_experts_opts opts = {
        .reader = reader, .wave = 8, .slots = slots, .stages = stages};
    return open_store(3, 2, &opts);
}

/* What is asked for, and what has come of it. */
struct errand {
    struct sl_experts *x;
    const struct layer *layer;
    uint32_t ids[MOST], uses[MOST];
    struct sl_ask ask;
    const uint8_t *block[MOST];
    bool gate_up[MOST], down[MOST];
};

static void prepare(struct errand *e, struct sl_experts *x, const struct layer *l, bool in_order)
{
    memset(e, 0, sizeof *e);
    e->x = x;
    e->layer = l;
    e->ask = (struct sl_ask){
        .layer = l->number, .ids = e->ids, .uses = e->uses, .in_order = in_order};
}

static void add(struct errand *e, uint32_t expert, uint32_t uses)
{
    e->uses[e->ask.n] = uses;
    e->ids[e->ask.n++] = expert;
}

/* Each expert of the layer with a chance of SHARE in 256, at most MOST_IDS. */
static void draw(struct errand *e, uint32_t share, size_t most_ids)
{
    for (uint32_t i = 0; i < e->layer->experts && e->ask.n < most_ids; i++)
        if (below(256) < share)
            add(e, i, 1 + below(3));
}

static void check_ready(struct errand *e, const struct sl_ready *ready, int n)
{
    const struct sl_expert_layout *layout = sl_experts_layout(e->x, e->layer->number);
    for (int i = 0; i < n; i++) {
        uint32_t at = ready[i].index;
        assert_true(at < e->ask.n && (ready[i].gate_up || ready[i].down));
        assert_false((ready[i].gate_up && e->gate_up[at]) || (ready[i].down && e->down[at]));
        assert_true(!e->block[at] || e->block[at] == ready[i].block);
        e->block[at] = ready[i].block;
        e->gate_up[at] |= ready[i].gate_up;
        e->down[at] |= ready[i].down;
        assert_true(e->gate_up[at]); /* it comes first */
        if (e->down[at])
            expect_block(e->layer, e->ids[at], ready[i].block);
        else
            expect_bytes(e->layer, e->ids[at], ready[i].block, layout->down_offset);
    }
}

/* Asks and takes everything. */
static void run(struct errand *e)
{
    struct sl_ready ready[8];
    struct sluice_err err = {0};
    int n;
    uint32_t next = 0;
    if (sl_experts_ask(e->x, &e->ask, &err) != 0)
        fail_msg("%s", err.msg);
    while ((n = sl_experts_take(e->x, ready, 8, &err)) > 0) {
        check_ready(e, ready, n);
        for (int i = 0; e->ask.in_order && i < n; i++)
            assert_int_equal(ready[i].index, next++);
    }
    if (n < 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < e->ask.n; i++) {
        assert_true(e->gate_up[i] && e->down[i]);
        if (!e->ask.in_order) /* all are good until the release */
            expect_block(e->layer, e->ids[i], e->block[i]);
    }
    const struct sl_asked asked = sl_experts_asked(e->x);
    assert_int_equal(asked.hits + asked.misses + asked.ahead, e->ask.n);
    sl_experts_release(e->x);
}

static void guess(struct sl_experts *x, const struct layer *l)
{
    struct errand guessed;
    prepare(&guessed, x, l, false);
    draw(&guessed, 40, MOST);
    sl_experts_expect(x, l->number, guessed.ids, guessed.ask.n, 0);
}

static void gives_what_is_asked_for(void **state)
{
    (void)state;
    for (int k = 0; k < READERS; k++)
        for (uint32_t slots = 1; slots <= 80; slots = 3 * slots + 2) {
            struct sl_experts *x = open_streamed(readers[k], slots, 2 + slots % 15);
            for (int round = 0; round < 60; round++) {
                struct errand e;
                const struct layer *l = &layers[round % 3 == 0];
                bool in_order = below(2);
                sl_experts_pass(x, 1 + below(4), below(2), NULL);
                prepare(&e, x, l, in_order);
                draw(&e, 1 + below(255), in_order ? MOST : sl_experts_at_once(x));
                if (below(2))
                    guess(x, &layers[below(2)]);
                run(&e);
            }
            sl_experts_close(&x);
        }
}

static uint64_t bytes_of(const struct sl_experts *x)
{
    return sl_experts_use(x).bytes_read;
}

static void keeps_what_fits(void **state)
{
    (void)state;
    for (int k = 0; k < READERS; k++) {
        struct sl_experts *x = open_streamed(readers[k], 8, 4);
        struct errand e;
        for (int round = 0; round < 3; round++) {
            uint64_t before = bytes_of(x);
            prepare(&e, x, small, false);
            for (uint32_t i = 0; i < 8; i++)
                add(&e, 9 * i, 1);
            sl_experts_pass(x, 1, false, NULL);
            run(&e);
            assert_int_equal(sl_experts_asked(x).hits, round ? 8 : 0);
            assert_int_equal(bytes_of(x) - before, round ? 0 : 8 * small->stride);
        }
        sl_experts_close(&x);
    }
}

/* A prompt leaves behind the experts that it chose most. */
static void prompts_seed_the_slots(void **state)
{
    (void)state;
    for (int k = 0; k < READERS; k++) {
        struct sl_experts *x = open_streamed(readers[k], 6, 5);
        struct errand e;
        prepare(&e, x, small, true);
        for (uint32_t i = 0; i < small->experts; i++)
            add(&e, i, i % 13 == 5 ? 40 : 1); /* 5, 18, 31, 44, 57, 70 */
        sl_experts_pass(x, 100, false, NULL);
        run(&e);
        assert_int_equal(sl_experts_asked(x).misses, small->experts);
        assert_int_equal(bytes_of(x), small->experts * small->stride);
        prepare(&e, x, small, false);
        for (uint32_t i = 5; i < small->experts; i += 13)
            add(&e, i, 1);
        sl_experts_pass(x, 1, false, NULL);
        run(&e);
        assert_int_equal(sl_experts_asked(x).hits, 6);
        sl_experts_close(&x);
    }
}

/* A prompt that will want all reads ahead into a quarter of the slots' blocks, too, those of the
 * least worth; then they are slots again. */
static void prompts_borrow_blocks(void **state)
{
    enum { SLOTS = 8, STAGES = 2, LENT = 2, AHEAD = STAGES + 2 * LENT - 1 };
    const uint32_t hits[] = {0, SLOTS, SLOTS - LENT, SLOTS - LENT, SLOTS, SLOTS - LENT};
    uint32_t all[MOST];
    (void)state;
    for (uint32_t i = 0; i < small->experts; i++)
        all[i] = i;
    for (int k = 0; k < READERS; k++) {
        struct sl_experts *x = open_streamed(readers[k], SLOTS, STAGES);
        struct errand e;
        for (int round = 0; round < 6; round++) {
            bool prompt = round % 3 == 2;
            sl_experts_pass(x, 1, prompt, NULL);
            assert_int_equal(sl_experts_at_once(x), prompt ? SLOTS - LENT : SLOTS);
            prepare(&e, x, small, prompt);
            for (uint32_t i = 0; i < (prompt ? small->experts : SLOTS); i++)
                add(&e, prompt ? i : i + 20, 1);
            if (prompt)
                sl_experts_expect(x, small->number, all, small->experts, 0);
            run(&e);
            const struct sl_asked asked = sl_experts_asked(x);
            assert_int_equal(asked.ahead, prompt ? AHEAD : 0);
            assert_int_equal(asked.hits, hits[round]);
        }
        sl_experts_close(&x);
    }
}

static void right_guesses_are_read_once(void **state)
{
    (void)state;
    for (int k = 0; k < READERS; k++) {
        const uint32_t guessed[4] = {1, 2, 3, 4};
        struct sl_experts *x = open_streamed(readers[k], 4, 5);
        struct errand e;
        sl_experts_pass(x, 1, false, NULL);
        for (int round = 0; round < 20; round++) {
            sl_experts_expect(x, large->number, guessed, 4, 0);
            prepare(&e, x, large, round % 2);
            for (uint32_t i = 1; i <= 4; i++)
                add(&e, i, 1);
            run(&e);
            const struct sl_asked asked = sl_experts_asked(x);
            assert_int_equal(round ? asked.hits : asked.ahead, 4);
        }
        assert_int_equal(bytes_of(x), 4 * large->stride);
        sl_experts_close(&x);
    }
}

/* What was hot is read at the next start, and only that. */
static void preloads_what_was_hot(void **state)
{
    (void)state;
    for (int k = 0; k < READERS; k++) {
        struct sluice_err err = {0};
        struct errand e;
        struct sl_experts *x = open_streamed(readers[k], 4, 2);
        assert_int_equal(sl_experts_preload(x, at("usage"), "digest", NULL, NULL, &err), 0);
        assert_int_equal(bytes_of(x), 0);
        for (int round = 0; round < 3; round++) {
            prepare(&e, x, small, false);
            for (uint32_t i = 0; i < 4; i++)
                add(&e, 11 * i + (round == 1), 1); /* the middle round is less hot */
            sl_experts_pass(x, 1, false, NULL);
            run(&e);
        }
        assert_int_equal(sl_experts_save_usage(x, at("usage"), "digest", &err), 0);
        sl_experts_close(&x);
        x = open_streamed(readers[k], 4, 2);
        assert_int_equal(sl_experts_preload(x, at("usage"), "digest", NULL, NULL, &err), 0);
        assert_int_equal(bytes_of(x), 4 * small->stride);
        prepare(&e, x, small, false);
        for (uint32_t i = 0; i < 4; i++)
            add(&e, 11 * i, 1);
        run(&e);
        assert_int_equal(sl_experts_asked(x).hits, 4);
        assert_int_equal(sl_experts_use(x).misses, 0);
        sl_experts_close(&x);
        x = open_streamed(readers[k], 4, 2);
        assert_int_equal(sl_experts_preload(x, at("usage"), "another", NULL, NULL, &err),
                         SLUICE_EARG);
        sl_experts_close(&x);
        assert_int_equal(remove(at("usage")), 0);
    }
}

static size_t resident_pages(void)
{
    unsigned long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &size, &resident), 2);
    fclose(f);
    return resident;
}

/* Memory is given back, and what is asked for afterwards is right all the same. */
static void does_with_fewer_slots(void **state)
{
    (void)state;
    for (int k = 0; k < READERS; k++) {
        struct sl_experts *x = open_streamed(readers[k], 7, 2);
        struct errand e;
        for (int round = 0; round < 7; round++) {
            size_t before = resident_pages();
            if (round % 2) {
                uint32_t slots = sl_experts_use(x).slots;
                sl_experts_shrink(x, 2 * large->stride + 1); /* of a slot in both layers */
                assert_int_equal(sl_experts_use(x).slots, slots > 2 ? slots - 2 : 1);
            }
            if (round == 1) /* one large expert; the system counts in batches */
                assert_true(before - resident_pages() >= large->stride / PAGE / 2);
            prepare(&e, x, large, sl_experts_at_once(x) < 6);
            for (uint32_t i = 0; i < 6; i++)
                add(&e, i, 1);
            sl_experts_pass(x, 1, false, NULL);
            run(&e);
        }
        assert_int_equal(sl_experts_use(x).slots, 1);
        sl_experts_close(&x);
    }
}

static void stops_when_told(void **state)
{
    (void)state;
    for (int k = 0; k < READERS; k++)
        for (int in_order = 0; in_order < 2; in_order++) {
            struct sl_experts *x = open_streamed(readers[k], 3, 3);
            struct sl_ready ready[8];
            struct sluice_err err = {0};
            atomic_int stop = 1;
            struct errand e;
            for (uint32_t round = 0; round < 10; round++) {
                prepare(&e, x, large, in_order);
                for (uint32_t i = 0; i < 3; i++)
                    add(&e, (i + round) % 5 == 4 ? 6 : i, 1);
                sl_experts_pass(x, 1, false, &stop);
                assert_int_equal(sl_experts_ask(x, &e.ask, &err), 0);
                int n = 0; /* what was in memory may be taken all the same */
                while ((n = sl_experts_take(x, ready, 8, &err)) > 0)
                    check_ready(&e, ready, n);
                assert_true(n == 0 || n == SLUICE_ECANCELLED);
                sl_experts_release(x);
                if (round % 3 == 2) { /* nothing was lost, nothing mistaken for read */
                    sl_experts_pass(x, 1, false, NULL);
                    prepare(&e, x, large, in_order);
                    for (uint32_t i = 0; i < 3; i++)
                        add(&e, i + round % 4, 1);
                    run(&e);
                }
            }
            sl_experts_close(&x);
        }
}

/* Those that can be read still can, after as many failures as you like. */
static void survives_bad_experts(void **state)
{
    size_t byte = offset_of(large, 3, large->stride - 1);
    (void)state;
    flip(large->name, byte, 2);
    for (int k = 0; k < READERS; k++)
        for (int in_order = 0; in_order < 2; in_order++) {
            struct sl_experts *x = open_streamed(readers[k], 4, 3);
            struct sl_ready ready[8];
            struct sluice_err err = {0};
            struct errand e;
            for (int round = 0; round < 4; round++) {
                const uint32_t guessed[2] = {2, 3};
                int n = 0;
                sl_experts_pass(x, 1, false, NULL);
                if (round % 2)
                    sl_experts_expect(x, large->number, guessed, 2, 0);
                prepare(&e, x, large, in_order);
                for (uint32_t i = 1; i < 5; i++)
                    add(&e, i, 1);
                assert_int_equal(sl_experts_ask(x, &e.ask, &err), 0);
                while ((n = sl_experts_take(x, ready, 8, &err)) > 0)
                    check_ready(&e, ready, n);
                assert_int_equal(n, SLUICE_EDAMAGED);
                expect_text(err.msg, "layer 4, expert 3, chunk 3 of 3: ");
                sl_experts_release(x);
                prepare(&e, x, large, in_order);
                add(&e, 2, 1);
                add(&e, 4, 1);
                run(&e);
            }
            sl_experts_close(&x);
        }
    flip(large->name, byte, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_what_is_asked_for),     cmocka_unit_test(keeps_what_fits),
        cmocka_unit_test(prompts_seed_the_slots),      cmocka_unit_test(prompts_borrow_blocks),
        cmocka_unit_test(right_guesses_are_read_once), cmocka_unit_test(preloads_what_was_hot),
        cmocka_unit_test(does_with_fewer_slots),       cmocka_unit_test(stops_when_told),
        cmocka_unit_test(survives_bad_experts),
    };
    return cmocka_run_group_tests(tests, make_container, remove_root);
}
