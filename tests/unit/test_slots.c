/* SPDX-License-Identifier: MIT */
/* Which experts are kept: against a slow definition, through long random lives.  Usage files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/stream/slots.h"
#include "runtime/stream/usage.h"
#include "tests/random.h"
#include "tests/unit/scratch.h"

/* ---- the definition ------------------------------------------------------------------------- */

enum { LAYERS = 2, EXPERTS = 19, SLOTS = 11 };

/* Everything that sl_slots promises, from its header alone. */
struct model {
    enum sl_slot_policy policy;
    uint32_t limit, pass; /* pass: tokens of it */
    uint64_t uses;
    struct {
        long double halved256, halved16, never_halved;
        uint64_t last;
        int32_t slot;
    } expert[LAYERS][EXPERTS];
    struct {
        int32_t expert;
        uint32_t pins;
    } slot[LAYERS][SLOTS];
};

static void model_open(struct model *m, enum sl_slot_policy policy)
{
    memset(m, 0, sizeof *m);
    m->policy = policy;
    m->limit = SLOTS;
    m->pass = 1;
    for (int l = 0; l < LAYERS; l++) {
        for (int e = 0; e < EXPERTS; e++)
            m->expert[l][e].slot = -1;
        for (int s = 0; s < SLOTS; s++)
            m->slot[l][s].expert = -1;
    }
}

static void model_tick(struct model *m, uint32_t tokens)
{
    m->pass = tokens;
    for (int l = 0; l < LAYERS; l++)
        for (int e = 0; e < EXPERTS; e++) {
            m->expert[l][e].halved256 *= exp2l(-(long double)tokens / 256);
            m->expert[l][e].halved16 *= exp2l(-(long double)tokens / 16);
        }
}

/* The mean of 2^(−age/half_life) over the tokens of a pass. */
static long double spread(uint32_t pass, long double half_life)
{
    long double sum = 0;
    for (uint32_t age = 0; age < pass; age++)
        sum += exp2l(-(long double)age / half_life);
    return sum / pass;
}

static void model_use(struct model *m, uint32_t l, uint32_t e, uint32_t times)
{
    m->expert[l][e].halved256 += times * spread(m->pass, 256);
    m->expert[l][e].halved16 += times * spread(m->pass, 16);
    m->expert[l][e].never_halved += times;
    m->expert[l][e].last = ++m->uses;
}

static long double worth(const struct model *m, uint32_t l, uint32_t e)
{
    return m->policy == SL_POLICY_LRU   ? (long double)m->expert[l][e].last
           : m->policy == SL_POLICY_LFU ? m->expert[l][e].never_halved
                                        : m->expert[l][e].halved256 + 4 * m->expert[l][e].halved16;
}

static uint32_t model_held(const struct model *m, uint32_t l)
{
    uint32_t n = 0;
    for (int s = 0; s < SLOTS; s++)
        n += m->slot[l][s].expert >= 0;
    return n;
}

/* The unpinned slot that is worth least, or -1. */
static int32_t model_worst(const struct model *m, uint32_t l)
{
    int32_t found = -1;
    for (int32_t s = 0; s < SLOTS; s++)
        if (m->slot[l][s].expert >= 0 && m->slot[l][s].pins == 0 &&
            (found < 0 || worth(m, l, (uint32_t)m->slot[l][s].expert) <
                              worth(m, l, (uint32_t)m->slot[l][found].expert)))
            found = s;
    return found;
}

static void model_drop(struct model *m, uint32_t l, int32_t s)
{
    if (m->slot[l][s].expert >= 0)
        m->expert[l][m->slot[l][s].expert].slot = -1;
    m->slot[l][s].expert = -1;
}

static void model_put(struct model *m, uint32_t l, int32_t s, uint32_t e)
{
    model_drop(m, l, s);
    m->slot[l][s].expert = (int32_t)e;
    m->expert[l][e].slot = s;
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* Different worths that a double cannot be asked to tell apart. */
static bool near(long double a, long double b)
{
    return a != b && fabsl(a - b) <= 1e-9L * fmaxl(a, b) + 1e-200L;
}

static void same_state(const struct model *m, const struct sl_slots *s)
{
    for (uint32_t l = 0; l < LAYERS; l++) {
        assert_int_equal(sl_slots_held(s, l), model_held(m, l));
        for (uint32_t e = 0; e < EXPERTS; e++)
            assert_int_equal(sl_slots_find(s, l, e), m->expert[l][e].slot);
        for (int32_t slot = 0; slot < SLOTS; slot++)
            assert_int_equal(sl_slots_expert(s, l, slot), m->slot[l][slot].expert);
    }
}

/* Slot GOT is as good a choice as WANTED. */
static void same_choice(const struct model *m, uint32_t l, int32_t got, int32_t wanted)
{
    if (got == wanted)
        return;
    assert_true(got >= 0 && got < SLOTS && wanted >= 0);
    assert_true(m->slot[l][got].expert >= 0 && m->slot[l][wanted].expert >= 0);
    assert_int_equal(m->slot[l][got].pins, 0);
    assert_true(near(worth(m, l, (uint32_t)m->slot[l][got].expert),
                     worth(m, l, (uint32_t)m->slot[l][wanted].expert)));
}

static int32_t model_victim(const struct model *m, uint32_t l)
{
    int32_t empty = 0;
    if (model_held(m, l) >= m->limit)
        return model_worst(m, l);
    while (m->slot[l][empty].expert >= 0)
        empty++;
    return empty;
}

/* How many experts go before E, and whether some are too near to tell. */
static uint32_t model_rank(const struct model *m, uint32_t l, uint32_t e, bool *unclear)
{
    uint32_t before = 0;
    for (uint32_t other = 0; other < EXPERTS; other++) {
        *unclear = *unclear || near(worth(m, l, other), worth(m, l, e));
        before += worth(m, l, other) > worth(m, l, e) ||
                  (worth(m, l, other) == worth(m, l, e) && other < e);
    }
    return before;
}

static void same_order(const struct model *m, const struct sl_slots *s, uint32_t l)
{
    uint32_t ids[EXPERTS], wanted[EXPERTS], n = 1 + random_bits() % EXPERTS, n_wanted = 0;
    bool unclear = false;
    for (uint32_t e = 0; e < EXPERTS; e++) {
        bool this_unclear = false;
        uint32_t rank = model_rank(m, l, e, &this_unclear);
        if (!this_unclear)
            assert_int_equal(sl_slots_deserves(s, l, e), rank < m->limit);
        /* below what a double holds, nothing is worth something */
        unclear = unclear || this_unclear || (worth(m, l, e) > 0 && worth(m, l, e) < 1e-200L);
        if (rank < n && worth(m, l, e) > 0)
            wanted[n_wanted++] = e;
    }
    if (unclear)
        return;
    assert_int_equal(sl_slots_best(s, l, ids, n), n_wanted);
    assert_memory_equal(ids, wanted, n_wanted * sizeof *ids);
}

/* ---- lives ---------------------------------------------------------------------------------- */

static uint32_t random_below(uint32_t n)
{
    return random_bits() % n;
}

/* Experts of small ids are used more; sometimes two alike, so that there are ties. */
static void use_some(struct model *m, struct sl_slots *s)
{
    uint32_t l = random_below(LAYERS),
             times = 1 + (random_below(4) == 0 ? random_below(m->pass) : 0);
    uint32_t e = random_below(1 + random_below(EXPERTS)), n = 1 + (random_below(3) == 0);
    for (uint32_t i = 0; i < n; i++) {
        model_use(m, l, (e + i) % EXPERTS, times);
        sl_slots_use(s, l, (e + i) % EXPERTS, times);
    }
}

static void tick_some(struct model *m, struct sl_slots *s)
{
    uint32_t tokens = random_below(16) ? 1 : 1 + random_below(random_below(200) ? 600 : 40000);
    model_tick(m, tokens);
    sl_slots_tick(s, tokens);
}

static void put_one(struct model *m, struct sl_slots *s)
{
    uint32_t l = random_below(LAYERS), e = random_below(EXPERTS);
    int32_t slot = sl_slots_victim(s, l);
    same_choice(m, l, slot, model_victim(m, l));
    if (slot < 0 || m->expert[l][e].slot >= 0)
        return;
    model_put(m, l, slot, e);
    sl_slots_put(s, l, slot, e);
}

static void touch_slot(struct model *m, struct sl_slots *s)
{
    uint32_t l = random_below(LAYERS);
    int32_t slot = (int32_t)random_below(SLOTS);
    switch (random_below(5)) {
    case 0:
        if (m->slot[l][slot].pins == 0) {
            model_drop(m, l, slot);
            sl_slots_drop(s, l, slot);
        }
        break;
    case 1:
    case 2:
        if (m->slot[l][slot].expert >= 0 && m->slot[l][slot].pins < 3) {
            m->slot[l][slot].pins++;
            sl_slots_pin(s, l, slot);
        }
        break;
    default:
        if (m->slot[l][slot].pins > 0) {
            m->slot[l][slot].pins--;
            sl_slots_unpin(s, l, slot);
        }
    }
}

static void change_limit(struct model *m, struct sl_slots *s)
{
    uint32_t limit = random_below(SLOTS + 3);
    m->limit = limit < 1 ? 1 : limit < SLOTS ? limit : SLOTS;
    sl_slots_limit(s, limit);
    for (uint32_t l = 0; l < LAYERS; l++)
        for (int32_t slot = 0; slot >= 0;) {
            int32_t wanted = model_held(m, l) > m->limit ? model_worst(m, l) : -1;
            slot = sl_slots_surplus(s, l);
            same_choice(m, l, slot, wanted);
            if (slot >= 0)
                model_drop(m, l, slot);
        }
}

static void live(enum sl_slot_policy policy)
{
    static struct model m;
    struct sl_slots *s;
    struct sluice_err err;
    const struct sl_slots_opts opts = {LAYERS, EXPERTS, SLOTS, policy};
    assert_int_equal(sl_slots_open(&s, &opts, &err), 0);
    model_open(&m, policy);
    for (int i = 0; i < 40000; i++) {
        uint32_t what = random_below(100);
        if (what < 40)
            use_some(&m, s);
        else if (what < 55)
            tick_some(&m, s);
        else if (what < 80)
            put_one(&m, s);
        else if (what < 98)
            touch_slot(&m, s);
        else
            change_limit(&m, s);
        same_state(&m, s);
        if (i % 7 == 0)
            same_order(&m, s, random_below(LAYERS));
    }
    sl_slots_close(&s);
    assert_null(s);
}

static void ours_is_as_defined(void **unused)
{
    (void)unused;
    live(SL_POLICY_SLUICE);
}

static void lru_is_as_defined(void **unused)
{
    (void)unused;
    live(SL_POLICY_LRU);
}

static void lfu_is_as_defined(void **unused)
{
    (void)unused;
    live(SL_POLICY_LFU);
}

/* ---- in particular -------------------------------------------------------------------------- */

static struct sl_slots *open_one(uint32_t experts, uint32_t slots)
{
    struct sl_slots *s;
    struct sluice_err err;
    const struct sl_slots_opts opts = {.layers = 1, .experts = experts, .slots = slots};
    assert_int_equal(sl_slots_open(&s, &opts, &err), 0);
    return s;
}

/* Ten million tokens, one by one: counts neither overflow nor lose the order. */
static void counts_last(void **unused)
{
    (void)unused;
    struct sl_slots *s = open_one(3, 2);
    for (uint32_t token = 0; token < 10000000; token++) {
        sl_slots_tick(s, 1);
        sl_slots_use(s, 0, 0, 1);
        if (token % 2 == 0)
            sl_slots_use(s, 0, 1, 1);
    }
    /* Σ 2^(−age/256) */
    double all = 1 / (1 - exp2(-1.0 / 256));
    assert_true(fabs(sl_slots_count(s, 0, 0) / all - 1) < 1e-9);
    assert_true(fabs(sl_slots_count(s, 0, 1) / (exp2(-1.0 / 256) / (1 - exp2(-2.0 / 256))) - 1) <
                1e-9);
    assert_true(sl_slots_count(s, 0, 2) == 0);
    assert_true(sl_slots_deserves(s, 0, 0) && sl_slots_deserves(s, 0, 1));
    assert_false(sl_slots_deserves(s, 0, 2));
    sl_slots_close(&s);
}

/* What is in use stays, though nothing else is left. */
static void pinned_slots_stay(void **unused)
{
    (void)unused;
    struct sl_slots *s = open_one(4, 2);
    for (uint32_t e = 0; e < 2; e++) {
        int32_t slot = sl_slots_victim(s, 0);
        assert_int_equal(slot, e);
        sl_slots_put(s, 0, slot, e);
        sl_slots_pin(s, 0, slot);
    }
    assert_int_equal(sl_slots_victim(s, 0), -1);
    sl_slots_limit(s, 1);
    assert_int_equal(sl_slots_surplus(s, 0), -1);
    sl_slots_unpin(s, 0, 1);
    assert_int_equal(sl_slots_surplus(s, 0), 1);
    assert_int_equal(sl_slots_surplus(s, 0), -1);
    assert_int_equal(sl_slots_victim(s, 0), -1); /* the empty slot is beyond the limit */
    sl_slots_unpin(s, 0, 0);
    assert_int_equal(sl_slots_victim(s, 0), 0);
    sl_slots_limit(s, 2);
    assert_int_equal(sl_slots_victim(s, 0), 1);
    sl_slots_close(&s);
}

/* What a usage file restores is ordered as before. */
static void counts_can_be_set(void **unused)
{
    (void)unused;
    uint32_t ids[3];
    struct sl_slots *s = open_one(5, 3);
    sl_slots_tick(s, 1000);
    for (uint32_t e = 0; e < 5; e++)
        sl_slots_set_count(s, 0, e, e == 2 ? 0 : 10.0 - e);
    assert_int_equal(sl_slots_best(s, 0, ids, 3), 3);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 1);
    assert_int_equal(ids[2], 3);
    sl_slots_tick(s, 256);
    assert_true(fabs(sl_slots_count(s, 0, 0) - 5) < 1e-12);
    sl_slots_close(&s);
}

/* ---- usage files ---------------------------------------------------------------------------- */

static struct sl_slots *open_two_layers(void)
{
    struct sl_slots *s;
    struct sluice_err err;
    const struct sl_slots_opts opts = {.layers = 2, .experts = 3, .slots = 2};
    assert_int_equal(sl_slots_open(&s, &opts, &err), 0);
    return s;
}

static void usage_comes_back(void **unused)
{
    (void)unused;
    static const double counts[2][3] = {{0, 1.5, 1e-7}, {1e9, 0.333333, 7}};
    struct sluice_err err = {0};
    struct sl_slots *s = open_two_layers(), *again = open_two_layers();
    sl_slots_tick(s, 12345);
    for (uint32_t i = 0; i < 6; i++)
        sl_slots_set_count(s, i / 3, i % 3, counts[i / 3][i % 3]);
    assert_int_equal(sl_usage_load(again, at("usage.json"), "xxh3:1", &err), 0); /* none yet */
    assert_int_equal(sl_usage_save(s, at("usage.json"), "xxh3:1", &err), 0);
    assert_int_equal(sl_usage_load(again, at("usage.json"), "xxh3:1", &err), 1);
    for (uint32_t i = 0; i < 6; i++) {
        double wanted = counts[i / 3][i % 3], found = sl_slots_count(again, i / 3, i % 3);
        assert_true(fabs(found - wanted) <= 1e-5 * wanted);
    }
    assert_int_equal(sl_usage_load(again, at("usage.json"), "xxh3:2", &err), SLUICE_EARG);
    expect_text(err.msg, "usage.json");
    expect_text(err.msg, "xxh3:1");
    sl_slots_close(&s);
    sl_slots_close(&again);
}

static void refuses(const char *text, int code, const char *word)
{
    struct sluice_err err = {0};
    struct sl_slots *s = open_two_layers();
    put_text("bad.json", text);
    assert_int_equal(sl_usage_load(s, at("bad.json"), "x", &err), code);
    expect_text(err.msg, "bad.json");
    expect_text(err.msg, word);
    sl_slots_close(&s);
}

#define HEAD "{\"sluice_usage\": 1, \"source\": \"x\", \"counts\": "

static void bad_usage_is_refused(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    struct sl_slots *s = open_two_layers();
    put_text("good.json", HEAD "[[1, 2, 3], [4, 5.5, 6e3]]}");
    assert_int_equal(sl_usage_load(s, at("good.json"), "x", &err), 1);
    refuses("", SLUICE_EFORMAT, "JSON");
    refuses("{}", SLUICE_EFORMAT, "sluice_usage");
    refuses("{\"sluice_usage\": 2}", SLUICE_EVERSION, "version 2");
    refuses("{\"sluice_usage\": 1, \"counts\": []}", SLUICE_EFORMAT, "source");
    refuses("{\"sluice_usage\": 1, \"source\": \"x\"}", SLUICE_EFORMAT, "0 layers");
    refuses(HEAD "[[1, 2, 3]]}", SLUICE_EFORMAT, "1 layers");
    refuses(HEAD "[[1, 2, 3], [1, 2, 3], [1, 2, 3]]}", SLUICE_EFORMAT, "3 layers");
    refuses(HEAD "[[1, 2, 3], [4, 5]]}", SLUICE_EFORMAT, "layer 1 has 2");
    refuses(HEAD "[[1, 2, 3, 4], [4, 5, 6]]}", SLUICE_EFORMAT, "layer 0 has 4");
    refuses(HEAD "[[1, 2, 3], 7]}", SLUICE_EFORMAT, "layer 1");
    refuses(HEAD "[[1, 2, 3], [4, -5, 6]]}", SLUICE_EFORMAT, "layer 1, expert 1");
    refuses(HEAD "[[1, 2, 3], [4, \"5\", 6]]}", SLUICE_EFORMAT, "layer 1, expert 1");
    refuses(HEAD "[[1, 2, 3], [4, 5, 1e300]]}", SLUICE_EFORMAT, "layer 1, expert 2");
    assert_int_equal(sl_usage_load(s, root, "x", &err), SLUICE_EFORMAT); /* a directory */
    assert_int_equal(sl_usage_save(s, at("none/usage.json"), "x", &err), SLUICE_EIO);
    sl_slots_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours_is_as_defined), cmocka_unit_test(lru_is_as_defined),
        cmocka_unit_test(lfu_is_as_defined),  cmocka_unit_test(counts_last),
        cmocka_unit_test(pinned_slots_stay),  cmocka_unit_test(counts_can_be_set),
        cmocka_unit_test(usage_comes_back),   cmocka_unit_test(bad_usage_is_refused),
    };
    return cmocka_run_group_tests_name("slots", tests, make_root, remove_root);
}
