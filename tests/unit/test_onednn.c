/* SPDX-License-Identifier: MIT */
/*
 * Products by oneDNN against sums of whole numbers, which every order of operations gets exactly,
 * and of random numbers in double, within what any order of F32 operations may lose.  Values around
 * the results must stay as they are.
 *
 * test_onednn --bench THREADS, --bench-packed THREADS: speed beside that of the kernels; with one
 * thread in processor time, which other work on the machine disturbs little.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <dirent.h>
#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/model/onednn.h"
#include "runtime/model/tensors.h"
#include "tests/random.h"
#include "tests/unit/scratch.h"

/* A product, with its weights also as a plain array [count][rows][cols]. */
struct operands {
    struct sl_matrix w;
    struct sl_product product;
    float *plain, *x, *y;
    uint32_t *row;
    size_t y_floats;
};

static void *take(size_t n, size_t size)
{
    void *p = aligned_alloc(64, (n * size / 64 + 1) * 64);
    assert_non_null(p);
    return p;
}

static float whole(void)
{
    return (float)(random_bits() % 17) - 8;
}

/* Numbers that F32 and BF16 hold exactly. */
static float real(void)
{
    return sl_from_bf16(sl_to_bf16(uniform()));
}

/* The padding of rows and columns is NaN: who looks at it shows it. */
static void pack(struct operands *o, float (*value)(void))
{
    struct sl_packing p = o->w.packing;
    size_t cols = sl_padded_cols(p.cols), rows = sl_padded_rows(p.rows);
    uint8_t *data = take(sl_packing_bytes(&p), 1);
    o->plain = take((size_t)p.count * p.rows * p.cols, sizeof(float));
    for (size_t i = 0; i < p.count; i++)
        for (size_t r = 0; r < rows; r++)
            for (size_t k = 0; k < cols; k++) {
                bool inside = r < p.rows && k < p.cols;
                float w = inside ? value() : NAN;
                size_t at = ((i * rows + r / SL_PANEL * SL_PANEL) * cols) + k * SL_PANEL +
                            r % SL_PANEL;
                if (p.code == SL_CODE_F32)
                    memcpy(data + 4 * at, &w, 4);
                else
                    memcpy(data + 2 * at, &(uint16_t){sl_to_bf16(w)}, 2);
                if (inside)
                    o->plain[(i * p.rows + r) * p.cols + k] = w;
            }
    o->w.data = data;
}

/* N vectors; GATHERED: of some more, in any order and repeatedly; SHARED: one input for all. */
static struct operands make(struct sl_packing p, size_t n, bool gathered, bool shared,
                            float (*value)(void))
{
    struct operands o = {.w = {p, NULL}};
    size_t x_step = shared ? 0 : p.cols + 1, y_step = p.rows + 2;
    size_t ld = p.cols + x_step * (p.count - 1) + 3, ldy = y_step * p.count + 1;
    pack(&o, value);
    o.x = take((n + 3) * ld, sizeof(float));
    for (size_t i = 0; i < (n + 3) * ld; i++)
        o.x[i] = value();
    o.row = take(n, sizeof(uint32_t));
    for (size_t t = 0; t < n; t++)
        o.row[t] = random_bits() % (uint32_t)(n + 3);
    o.y_floats = (n + 1) * ldy;
    o.y = take(o.y_floats, sizeof(float));
    memset(o.y, 0xff, o.y_floats * sizeof(float)); /* NaN */
    o.product = (struct sl_product){
        .x = {.f = o.x, .ld = ld, .row = gathered ? o.row : NULL},
        .n = n,
        .y = o.y + 1,
        .ldy = ldy,
        .x_step = x_step,
        .y_step = y_step,
    };
    return o;
}

static void discard(struct operands *o)
{
    free((void *)(uintptr_t)o->w.data);
    free(o->plain);
    free(o->x);
    free(o->row);
    free(o->y);
}

/*
 * Every result within EPS · Σ|w·x| of the sum in double, and nothing written beside the results.
 * Takes the results away while it looks, so that only bytes nobody wrote are left.
 */
static void check(const struct operands *o, double eps)
{
    const struct sl_packing *p = &o->w.packing;
    const struct sl_product *product = &o->product;
    for (size_t t = 0; t < product->n; t++)
        for (size_t i = 0; i < p->count; i++) {
            size_t v = product->x.row ? product->x.row[t] : t;
            const float *x = o->x + v * product->x.ld + i * product->x_step;
            float *y = product->y + t * product->ldy + i * product->y_step;
            for (size_t r = 0; r < p->rows; r++) {
                const float *w = o->plain + (i * p->rows + r) * p->cols;
                double sum = 0, size = 0;
                for (size_t k = 0; k < p->cols; k++) {
                    double term = (double)w[k] * (double)x[k];
                    sum += term;
                    size += fabs(term);
                }
                if (!(fabs((double)y[r] - sum) <= eps * size))
                    fail_msg("[%u × %u] · %zu: matrix %zu, row %zu, vector %zu: %.9g, not %.9g",
                             p->rows, p->cols, product->n, i, r, t, (double)y[r], sum);
                memset(&y[r], 0xff, sizeof *y);
            }
        }
    for (size_t i = 0; i < o->y_floats * sizeof(float); i++)
        assert_int_equal(((const uint8_t *)o->y)[i], 0xff);
}

/* What oneDNN computes; opened by main's set-up, NULL in a build without it. */
static struct sl_multiplier *onednn;
static struct sluice_err open_err;

static struct sl_compute compute(unsigned threads)
{
    if (!onednn)
        skip();
    return (struct sl_compute){
        .ops = sl_rung_find(NULL)->ops, .team = sl_team_make(threads), .multiplier = onednn};
}

static unsigned threads_of_process(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned n = 0;
    assert_non_null(tasks);
    while (readdir(tasks))
        n++;
    closedir(tasks);
    return n;
}

/* First of all, while this process has no other threads. */
static void keeps_to_the_team(void **state)
{
    struct sl_compute c = compute(1);
    struct sl_packing p = {.code = SL_CODE_F32, .rows = 512, .cols = 512, .count = 1};
    struct operands o = make(p, 256, false, true, whole);
    int before = omp_get_max_threads();
    unsigned threads = threads_of_process();
    (void)state;
    o.product.w = &o.w;
    sl_multiply(&c, &o.product, 1);
    assert_int_equal(threads_of_process(), threads);
    assert_int_equal(omp_get_max_threads(), before);
    check(&o, 0);
    discard(&o);
}

static void opens_or_says_how(void **state)
{
    (void)state;
#ifdef HAVE_ONEDNN
    assert_non_null(onednn);
    assert_int_equal(open_err.code, 0);
    expect_text(onednn->name, "oneDNN ");
#else
    assert_null(onednn);
    assert_int_equal(open_err.code, SLUICE_EUNSUPPORTED);
    expect_text(open_err.msg, "libdnnl-dev");
    expect_text(open_err.msg, "--with-onednn");
#endif
}

/* |w|, |x| ≤ 8, so that sums stay below 2^24: one right answer, to the bit. */
static void whole_numbers_are_exact(void **state)
{
    static const struct {
        uint32_t rows, cols, count;
        size_t n;
    } shapes[] = {
        {1, 1, 1, 64},     {16, 32, 1, 65},    {17, 33, 3, 64},   {40, 70, 5, 100},
        {512, 40, 2, 256}, {517, 2048, 1, 64}, {7, 2049, 2, 257}, {530, 2085, 1, 70},
        {521, 5, 1, 600},  {64, 100, 2, 1},    {64, 100, 1, 63},  {3, 4100, 1, 300},
    };
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (unsigned kind = 0; kind < 8; kind++) {
            struct sl_compute c = compute(1 + kind % 3);
            struct sl_packing p = {.code = kind & 1 ? SL_CODE_F32 : SL_CODE_BF16,
                                   .rows = shapes[i].rows,
                                   .cols = shapes[i].cols,
                                   .count = shapes[i].count};
            struct operands o = make(p, shapes[i].n, kind & 2, kind & 4, whole);
            o.product.w = &o.w;
            sl_multiply(&c, &o.product, 1);
            check(&o, 0);
            discard(&o);
        }
}

/* Many vectors, few vectors, and every kind of weights in one call. */
static void products_mix(void **state)
{
    enum { N = 12 };
    struct sl_compute c = compute(2);
    struct operands o[N];
    struct sl_product products[N];
    (void)state;
    for (size_t i = 0; i < N; i++) {
        struct sl_packing p = {.code = i % 2 ? SL_CODE_F32 : SL_CODE_BF16,
                               .rows = 1 + random_bits() % 300,
                               .cols = 1 + random_bits() % 200,
                               .count = 1 + random_bits() % 3};
        size_t n = i % 3 ? 1 + random_bits() % 300 : 1 + random_bits() % 40;
        o[i] = make(p, n, random_bits() % 2, random_bits() % 2, whole);
        products[i] = o[i].product;
        products[i].w = &o[i].w;
    }
    sl_multiply(&c, products, N);
    for (size_t i = 0; i < N; i++) {
        check(&o[i], 0);
        discard(&o[i]);
    }
}

/*
 * Each term of a sum of K goes through at most K roundings of 2^-24, whatever the order:
 * |error| ≤ K u / (1 − K u) · Σ|w·x|.  Weights or inputs cut to BF16 would be 2^-9 off each.
 */
static void real_numbers_keep_f32(void **state)
{
    static const uint32_t cols[] = {1, 3, 10, 100, 1500};
    (void)state;
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++)
        for (unsigned f32 = 0; f32 < 2; f32++) {
            struct sl_compute c = compute(2);
            struct sl_packing p = {
                .code = f32 ? SL_CODE_F32 : SL_CODE_BF16, .rows = 50, .cols = cols[i], .count = 2};
            struct operands o = make(p, 64, false, false, f32 ? uniform : real);
            double ku = cols[i] * 0x1p-24;
            for (size_t j = 0; j < 67 * o.product.x.ld; j++)
                o.x[j] = uniform();
            o.product.w = &o.w;
            sl_multiply(&c, &o.product, 1);
            check(&o, ku / (1 - ku));
            discard(&o);
        }
}

static float tiny(void)
{
    return whole() * 0x1p-70f;
}

/* Products of 2^-140 and their sums are denormal and exact. */
static void denormals_stay(void **state)
{
    struct sl_compute c = compute(2);
    (void)state;
    for (unsigned f32 = 0; f32 < 2; f32++) {
        struct sl_packing p = {
            .code = f32 ? SL_CODE_F32 : SL_CODE_BF16, .rows = 40, .cols = 50, .count = 1};
        struct operands o = make(p, 64, false, false, tiny);
        o.product.w = &o.w;
        sl_multiply(&c, &o.product, 1);
        check(&o, 0);
        discard(&o);
    }
}

/* A NaN or an infinity among the inputs shows in the results of its vector, and in no others. */
static void nan_and_infinity_stay_in_their_vector(void **state)
{
    struct sl_compute c = compute(2);
    struct sl_packing p = {.code = SL_CODE_BF16, .rows = 40, .cols = 50, .count = 1};
    struct operands o = make(p, 64, false, false, real);
    (void)state;
    for (size_t i = 0; i < 40 * 50; i++)
        assert_true(o.plain[i] != 0);
    o.x[5 * o.product.x.ld + 7] = NAN;
    o.x[9 * o.product.x.ld + 49] = INFINITY;
    o.product.w = &o.w;
    sl_multiply(&c, &o.product, 1);
    for (size_t t = 0; t < 64; t++)
        for (size_t r = 0; r < 40; r++) {
            float y = o.product.y[t * o.product.ldy + r];
            assert_int_equal(isnan(y) != 0, t == 5);
            assert_true(t != 9 || y == copysignf(INFINITY, o.plain[r * 50 + 49]));
            assert_true(t == 5 || t == 9 || isfinite(y));
        }
    discard(&o);
}

static void leaves_few_vectors_and_codes_to_the_kernels(void **state)
{
    struct sl_compute c = compute(2);
    struct sl_matrix integer = {{.code = SL_CODE_INT8, .rows = 16, .cols = 32, .count = 1}, NULL};
    struct sl_packing p = {.code = SL_CODE_F32, .rows = 16, .cols = 32, .count = 1};
    struct operands o = make(p, SL_ONEDNN_VECTORS, false, false, whole);
    (void)state;
    o.product.w = &o.w;
    assert_true(onednn->multiply(onednn, &c.team, &o.product));
    o.product.n--;
    assert_false(onednn->multiply(onednn, &c.team, &o.product));
    assert_false(onednn->multiply(onednn, &c.team, &(struct sl_product){.w = &integer, .n = 1000}));
    discard(&o);
}

/* What oneDNN refuses (here: vectors that overlap) is computed by the kernels. */
static void kernels_step_in(void **state)
{
    struct sl_compute c = compute(2);
    struct sl_packing p = {.code = SL_CODE_F32, .rows = 40, .cols = 32, .count = 1};
    struct operands o = make(p, 64, false, false, whole);
    (void)state;
    o.product.w = &o.w;
    o.product.x.ld = 0; /* every vector is the first */
    assert_false(onednn->multiply(onednn, &c.team, &o.product));
    sl_multiply(&c, &o.product, 1);
    check(&o, 0);
    discard(&o);
}

/* ---- integer matrices in BF16 ---------------------------------------------------------------- */

/* Shapes that fit nothing: rows and columns in need of padding, stacks, and a dense FFN of more
 * than one tile. */
static const struct sl_config tiny_model = {.hidden = 2101,
                                            .layers = 2,
                                            .dense_layers = 1,
                                            .heads = 3,
                                            .q_lora = 33,
                                            .kv_lora = 70,
                                            .nope = 17,
                                            .rope = 4,
                                            .v_dim = 9,
                                            .index_heads = 2,
                                            .index_dim = 16,
                                            .ffn_inner = 1050,
                                            .moe_inner = 24,
                                            .experts = 2,
                                            .experts_used = 1,
                                            .shared = 1};
enum { CHUNK = 300 };

static struct sl_multiplier *packed;
static struct sl_arena packed_arena;
static struct sluice_err packed_err;
static unsigned packed_threads;

static void open_packed(const struct sl_config *config, size_t chunk, unsigned threads)
{
    struct sl_compute c = {.ops = sl_rung_find(NULL)->ops, .team = sl_team_make(threads)};
    packed_threads = threads;
    if (sl_onednn_open_packed(&packed, config, chunk, &c, &packed_err) < 0)
        return;
    sl_onednn_take(packed, &packed_arena);
    assert_int_equal(sl_arena_allocate(&packed_arena, "test", NULL), 0);
    sl_onednn_take(packed, &packed_arena);
    assert_int_equal(packed_arena.used, packed_arena.size);
}

static void close_packed(void)
{
    sl_onednn_close(&packed);
    sl_arena_free(&packed_arena);
}

/* AVX512_BF16 or AMX-BF16, in a build with oneDNN that is not told to do without. */
static bool packed_is_wanted(void)
{
#if defined(HAVE_ONEDNN) && defined(__x86_64__)
    unsigned a, b, c, d;
    bool bf16 = (__get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 5 & 1) ||
                (__get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 22 & 1);
    return bf16 && !getenv("DNNL_MAX_CPU_ISA") && !getenv("ONEDNN_MAX_CPU_ISA");
#else
    return false;
#endif
}

/* Where it must be there, and what is said where it is not. */
static void packed_opens_or_says_why(void **state)
{
    (void)state;
    open_packed(&tiny_model, CHUNK, 2);
    assert_int_equal(packed != NULL, packed_is_wanted());
    if (packed) {
        expect_text(packed->name, "oneDNN ");
        expect_text(packed->name, ", brg");
    } else {
        assert_int_equal(packed_err.code, SLUICE_EUNSUPPORTED);
#ifdef HAVE_ONEDNN
        expect_text(packed_err.msg, "AVX512_BF16");
        expect_text(packed_err.msg, "--dense kernels");
#else
        expect_text(packed_err.msg, "--with-onednn");
#endif
    }
    close_packed();
}

/* An integer matrix and N vectors of codes.  EXACT: all scales are 2^-3, so that BF16 holds every
 * weight and every input; otherwise they are any. */
struct codes {
    struct sl_matrix w;
    struct sl_product product;
    int8_t *q;
    float *scale, *y;
    int32_t *sum;
    uint32_t *row;
    size_t y_floats;
};

static void make_panels(struct codes *o, bool exact)
{
    const struct sl_packing *p = &o->w.packing;
    size_t bytes = sl_packing_bytes(p), each = sl_panel_bytes(p);
    size_t in_super = (size_t)p->group * SL_SUPER, cols = sl_padded_cols(p->cols);
    uint8_t *data = take(bytes, 1);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)random_bits();
    for (uint8_t *panel = data; panel < data + bytes; panel += each) {
        uint8_t *at = panel + SL_ROW_SCALES;
        for (size_t r = 0; r < SL_PANEL; r++)
            ((float *)(void *)panel)[r] = exact ? 1 : 0.5f + uniform() / 4;
        for (size_t k = 0; k < cols; k += in_super) {
            for (size_t i = 0; i < SL_SUPER * SL_PANEL; i++) {
                uint16_t half = sl_to_bf16(exact ? 0.125f : 0.2f + uniform() / 9);
                if (p->scale == SL_SCALE_S8)
                    at[i] = exact ? 2 : (uint8_t)(random_bits() | 1);
                else
                    memcpy(at + 2 * i, &half, 2);
            }
            at += sl_super_scale_bytes(p->scale);
            size_t codes = sl_code_bytes(p->code, cols - k < in_super ? cols - k : in_super);
            for (size_t i = 0; p->code == SL_CODE_INT8 && i < codes; i++)
                at[i] = at[i] == 0x80 ? 0 : at[i];
            at += codes;
        }
    }
    o->w.data = data;
}

static struct codes make_codes(struct sl_packing p, size_t n, bool gathered, bool exact)
{
    struct codes o = {.w = {p, NULL}};
    size_t each = sl_padded_cols(p.cols), ld = each * p.count + SL_BLOCK, y_step = p.rows + 2;
    size_t stored = n + 3, blocks = ld / SL_BLOCK;
    for (int i = 0; i < SL_CODEBOOK; i++)
        o.w.packing.codebook[i] = (int8_t)(16 * i - 120);
    make_panels(&o, exact);
    o.q = take(stored, ld);
    o.scale = take(stored * blocks, sizeof(float));
    o.sum = take(stored * blocks, sizeof(int32_t));
    o.row = take(n, sizeof(uint32_t));
    for (size_t i = 0; i < stored * ld; i++)
        o.q[i] = i % ld % each < p.cols ? (int8_t)(random_bits() % 255 - 127) : 0;
    for (size_t i = 0; i < stored * blocks; i++)
        o.scale[i] = exact ? 0.125f : 0.3f + uniform() / 5;
    for (size_t t = 0; t < n; t++)
        o.row[t] = random_bits() % (uint32_t)stored;
    o.y_floats = (n + 1) * (y_step * p.count + 1);
    o.y = take(o.y_floats, sizeof(float));
    memset(o.y, 0xff, o.y_floats * sizeof(float));
    o.product = (struct sl_product){
        .x = {.q = o.q, .scale = o.scale, .sum = o.sum, .ld = ld, .row = gathered ? o.row : NULL},
        .n = n,
        .y = o.y + 1,
        .ldy = y_step * p.count + 1,
        .x_step = each,
        .y_step = y_step,
    };
    return o;
}

static void discard_codes(struct codes *o)
{
    free((void *)(uintptr_t)o->w.data);
    free(o->q);
    free(o->scale);
    free(o->sum);
    free(o->row);
    free(o->y);
}

/* Row R of matrix number I as BF16 has it: by the kernel that check_kernels knows. */
static void round_row(const struct codes *o, size_t i, size_t r, double *w)
{
    struct sl_matrix one = sl_matrix_at(&o->w, i);
    size_t cols = sl_padded_cols(one.packing.cols), at = r % SL_PANEL * 2;
    uint16_t *panel = take(cols * SL_PANEL, sizeof *panel);
    sl_rung_find("ref")->ops->weights_bf16(&one, r / SL_PANEL, 2 * SL_PANEL, panel);
    for (size_t k = 0; k < one.packing.cols; k++)
        w[k] = (double)sl_from_bf16(panel[k / 2 * 2 * SL_PANEL + at + k % 2]);
    free(panel);
}

/*
 * Every result within EPS · Σ|w·x| of the sum in double of weights and inputs rounded to BF16, and
 * nothing written beside the results.  Looks closely at every STEP-th row and vector only.
 */
static void check_codes(const struct codes *o, double eps, size_t step)
{
    const struct sl_packing *p = &o->w.packing;
    const struct sl_product *product = &o->product;
    double *w = take(p->cols, sizeof *w);
    for (size_t i = 0; i < p->count; i++)
        for (size_t r = 0; r < p->rows; r++) {
            if (r % step == 0)
                round_row(o, i, r, w);
            for (size_t t = 0; t < product->n; t++) {
                size_t v = product->x.row ? product->x.row[t] : t, ld = product->x.ld;
                const int8_t *q = o->q + v * ld + i * product->x_step;
                const float *scale = o->scale + (v * ld + i * product->x_step) / SL_BLOCK;
                float *y = product->y + t * product->ldy + i * product->y_step + r;
                bool close = (r + t) % step == 0 && r % step == 0;
                double sum = 0, size = 0;
                for (size_t k = 0; close && k < p->cols; k++) {
                    float x = sl_from_bf16(sl_to_bf16((float)q[k] * scale[k / SL_BLOCK]));
                    sum += w[k] * (double)x;
                    size += fabs(w[k] * (double)x);
                }
                if (close && !(fabs((double)*y - sum) <= eps * size))
                    fail_msg("[%u × %u] · %zu: matrix %zu, row %zu, vector %zu: %.9g, not %.9g",
                             p->rows, p->cols, product->n, i, r, t, (double)*y, sum);
                assert_true(isfinite(*y));
                memset(y, 0xff, sizeof *y);
            }
        }
    for (size_t i = 0; i < o->y_floats * sizeof(float); i++)
        assert_int_equal(((const uint8_t *)o->y)[i], 0xff);
    free(w);
}

static struct sl_compute compute_packed(void)
{
    if (!packed)
        skip();
    return (struct sl_compute){
        .ops = sl_rung_find(NULL)->ops, .team = sl_team_make(packed_threads), .multiplier = packed};
}

/* The matrices of tiny_model that sessions multiply, packed in some way; false: of none. */
static bool packing_of(int role, unsigned kind, struct sl_packing *p)
{
    static const uint32_t groups[] = {16, 32, 64, 128};
    struct sl_shape s = sl_tensor_shape_of(&tiny_model, (enum sl_role)role);
    enum sl_class class = sl_tensor_rules()[role].class;
    bool lut = kind & 1;
    *p = (struct sl_packing){.code = lut ? SL_CODE_LUT4 : SL_CODE_INT8,
                             .scale = lut ? SL_SCALE_S8 : SL_SCALE_BF16,
                             .group = groups[kind / 2 % 4],
                             .rows = s.rows,
                             .cols = s.cols,
                             .count = s.count};
    return class != SL_CLASS_VECTOR && class != SL_CLASS_EXACT && class != SL_CLASS_EMBED &&
           class != SL_CLASS_HEAD && class != SL_CLASS_MTP;
}

/*
 * Every matrix of the model.  EXACT: whole numbers, in some unit, whose sums stay below 2^24.
 * Otherwise a term, whose product is exact, goes through at most K + 1 roundings of 2^-24.
 */
static void check_roles(bool exact)
{
    static const size_t vectors[] = {64, 65, 100, 300};
    for (unsigned threads = 1; threads <= 2; threads++) {
        open_packed(&tiny_model, CHUNK, threads);
        struct sl_compute c = compute_packed();
        struct sl_packing p;
        for (int role = 0; role < SL_N_ROLES; role++) {
            if (!packing_of(role, (unsigned)role + threads, &p))
                continue;
            size_t n = vectors[(unsigned)role % 4], large = (size_t)p.rows * p.cols > 100000;
            struct codes o = make_codes(p, n, role % 3 == 0, exact);
            uint64_t before = packed->products;
            o.product.w = &o.w;
            sl_multiply(&c, &o.product, 1);
            assert_int_equal(packed->products, before + 1);
            double ku = exact ? 0 : (p.cols + 1) * 0x1p-24;
            check_codes(&o, ku / (1 - ku), large ? 13 : 1);
            discard_codes(&o);
        }
        close_packed();
    }
}

static void packed_whole_numbers_are_exact(void **state)
{
    (void)state;
    check_roles(true);
}

static void packed_real_numbers_are_rounded_once(void **state)
{
    (void)state;
    check_roles(false);
}

static void packed_leaves_the_rest_to_the_kernels(void **state)
{
    (void)state;
    open_packed(&tiny_model, CHUNK, 2);
    struct sl_compute c = compute_packed();
    struct sl_packing p;
    assert_true(packing_of(SL_Q_B, 0, &p));
    struct codes o = make_codes(p, CHUNK + 1, false, true);
    struct operands floats = make(
        (struct sl_packing){.code = SL_CODE_F32, .rows = p.rows, .cols = p.cols, .count = 1}, 100,
        false, false, whole);
    o.product.w = &o.w;
    floats.product.w = &floats.w;
    assert_false(packed->multiply(packed, &c.team, &o.product)); /* more than a chunk */
    o.product.n = SL_ONEDNN_VECTORS - 1;
    assert_false(packed->multiply(packed, &c.team, &o.product));
    o.product.n++;
    assert_true(packed->multiply(packed, &c.team, &o.product));
    o.w.packing.rows--; /* of no matrix of the model */
    assert_false(packed->multiply(packed, &c.team, &o.product));
    assert_false(packed->multiply(packed, &c.team, &floats.product));
    discard_codes(&o);
    discard(&floats);
    /* few and many vectors in one call */
    struct codes a = make_codes(p, 10, false, true), b = make_codes(p, 70, true, true);
    a.product.w = &a.w;
    b.product.w = &b.w;
    const struct sl_product both[] = {a.product, b.product, a.product};
    sl_multiply(&c, both, 3);
    assert_int_equal(packed->products, 1);
    check_codes(&a, 0, 1);
    check_codes(&b, 0, 1);
    discard_codes(&a);
    discard_codes(&b);
    close_packed();
}

/* ---- signals --------------------------------------------------------------------------------- */

/* Calls of a signal handler, and those of them that were not on the main thread's stack. */
static volatile sig_atomic_t interruptions, strays;
static uintptr_t stack_begin, stack_end;

static void look_at_the_stack(int number)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    (void)number;
    interruptions++;
    strays += here < stack_begin || here >= stack_end;
}

static void find_the_stack(void)
{
    pthread_attr_t attr;
    void *begin;
    size_t size;
    assert_int_equal(pthread_getattr_np(pthread_self(), &attr), 0);
    assert_int_equal(pthread_attr_getstack(&attr, &begin, &size), 0);
    stack_begin = (uintptr_t)begin;
    stack_end = stack_begin + size;
    pthread_attr_destroy(&attr);
}

/* Signals keep coming: enough of them that one would meet a kernel of oneDNN if it could. */
static void signals_wait_for_a_stack(void **state)
{
    struct sl_packing p = {.code = SL_CODE_F32, .rows = 256, .cols = 1024, .count = 1};
    struct sigaction action = {.sa_handler = look_at_the_stack, .sa_flags = SA_RESTART}, old;
    const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    (void)state;
    for (unsigned threads = 1; threads <= 2; threads++) {
        struct sl_compute c = compute(threads);
        struct operands o = make(p, 512, false, true, whole);
        o.product.w = &o.w;
        find_the_stack();
        interruptions = strays = 0;
        sigaction(SIGALRM, &action, &old);
        setitimer(ITIMER_REAL, &often, NULL);
        while (interruptions < 20)
            sl_multiply(&c, &o.product, 1);
        setitimer(ITIMER_REAL, &never, NULL);
        sigaction(SIGALRM, &old, NULL);
        assert_int_equal(strays, 0);
        check(&o, 0);
        discard(&o);
    }
}

static int shut_packed(void **state)
{
    (void)state;
    close_packed();
    return 0;
}

static int open_onednn(void **state)
{
    (void)state;
    sl_onednn_open(&onednn, &open_err);
    return 0;
}

static int close_onednn(void **state)
{
    (void)state;
    sl_onednn_close(&onednn);
    sl_onednn_close(&onednn);
    return onednn != NULL;
}

static double seconds(unsigned threads)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of kernels and of M, the best of five, alternating. */
static void time_product(struct sl_multiplier *m, const struct sl_product *product,
                         unsigned threads)
{
    static const char *const names[] = {[SL_CODE_LUT4] = "LUT4",
                                        [SL_CODE_INT8] = "INT8",
                                        [SL_CODE_BF16] = "BF16",
                                        [SL_CODE_F32] = "F32"};
    const struct sl_packing *p = &product->w->packing;
    struct sl_compute c = {.ops = sl_rung_find(NULL)->ops, .team = sl_team_make(threads)};
    double best[2] = {INFINITY, INFINITY};
    double flop = 2e-9 * p->rows * p->cols * p->count * (double)product->n;
    for (int i = 0; i < 10; i++) {
        c.multiplier = i % 2 ? m : NULL;
        double begin = seconds(threads);
        sl_multiply(&c, product, 1);
        best[i % 2] = fmin(best[i % 2], seconds(threads) - begin);
    }
    printf("%s %u × [%u × %u] · %zu: kernels %.0f, oneDNN %.0f GFLOP/s\n", names[p->code], p->count,
           p->rows, p->cols, product->n, flop / best[0], flop / best[1]);
    fflush(stdout);
}

static int bench_floats(unsigned threads)
{
    static const struct sl_packing shapes[] = {
        {.code = SL_CODE_F32, .rows = 2048, .cols = 7168, .count = 1},
        {.code = SL_CODE_BF16, .rows = 2048, .cols = 7168, .count = 1},
        {.code = SL_CODE_F32, .rows = 512, .cols = 128, .count = 128},
        {.code = SL_CODE_BF16, .rows = 512, .cols = 128, .count = 128},
    };
    if (sl_onednn_open(&onednn, &open_err) < 0) {
        fprintf(stderr, "%s\n", open_err.msg);
        return 1;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t n = 64; n <= 1024; n *= 4) {
            struct operands o = make(shapes[i], n, false, false, real);
            o.product.w = &o.w;
            time_product(onednn, &o.product, threads);
            discard(&o);
        }
    sl_onednn_close(&onednn);
    return 0;
}

/* An expert's halves and absorbed keys, as V3.2 has them. */
static int bench_packed(unsigned threads)
{
    static const struct sl_config v32 = {.hidden = 7168,
                                         .layers = 1,
                                         .heads = 128,
                                         .q_lora = 1536,
                                         .kv_lora = 512,
                                         .nope = 128,
                                         .rope = 64,
                                         .v_dim = 128,
                                         .moe_inner = 2048,
                                         .experts = 1,
                                         .experts_used = 1,
                                         .shared = 1};
    static const struct sl_packing shapes[] = {
        {SL_CODE_LUT4, SL_SCALE_S8, 32, 4096, 7168, 1, {0}},
        {SL_CODE_INT8, SL_SCALE_BF16, 128, 4096, 7168, 1, {0}},
        {SL_CODE_LUT4, SL_SCALE_S8, 32, 7168, 2048, 1, {0}},
        {SL_CODE_INT8, SL_SCALE_BF16, 128, 512, 128, 128, {0}},
    };
    open_packed(&v32, 1024, threads);
    if (!packed) {
        fprintf(stderr, "%s\n", packed_err.msg);
        return 1;
    }
    printf("%s\n", packed->name);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t n = 64; n <= 1024; n *= 4) {
            struct codes o = make_codes(shapes[i], n, false, false);
            o.product.w = &o.w;
            time_product(packed, &o.product, threads);
            discard_codes(&o);
        }
    close_packed();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--bench") == 0)
        return bench_floats((unsigned)atoi(argv[2]));
    if (argc == 3 && strcmp(argv[1], "--bench-packed") == 0)
        return bench_packed((unsigned)atoi(argv[2]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_to_the_team),
        cmocka_unit_test(opens_or_says_how),
        cmocka_unit_test(whole_numbers_are_exact),
        cmocka_unit_test(products_mix),
        cmocka_unit_test(real_numbers_keep_f32),
        cmocka_unit_test(denormals_stay),
        cmocka_unit_test(nan_and_infinity_stay_in_their_vector),
        cmocka_unit_test(leaves_few_vectors_and_codes_to_the_kernels),
        cmocka_unit_test(kernels_step_in),
        cmocka_unit_test(signals_wait_for_a_stack),
        cmocka_unit_test_teardown(packed_opens_or_says_why, shut_packed),
        cmocka_unit_test_teardown(packed_whole_numbers_are_exact, shut_packed),
        cmocka_unit_test_teardown(packed_real_numbers_are_rounded_once, shut_packed),
        cmocka_unit_test_teardown(packed_leaves_the_rest_to_the_kernels, shut_packed),
    };
    return cmocka_run_group_tests(tests, open_onednn, close_onednn);
}
