/* SPDX-License-Identifier: MIT */
/*
 * Checks every kernel of the table against slow definitions in double precision, written from
 * docs/kernels.md and not from the kernels.  Tolerances are stated with each check.
 */
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simd/simd.h"
#include "tests/check/values.h"
#include "tests/random.h"

static const struct sl_ops *ops;
static unsigned checks, failures;
static const char *current;

__attribute__((format(printf, 2, 3))) static void expect(bool good, const char *format, ...)
{
    checks++;
    if (good)
        return;
    if (failures++ < 20) {
        va_list args;
        va_start(args, format);
        fprintf(stderr, "FAIL %s: ", current);
        vfprintf(stderr, format, args);
        fputc('\n', stderr);
        va_end(args);
    }
}

/* |got − want| ≤ tolerance · scale, NaN never. */
static void expect_near(double got, double want, double tolerance, double scale, size_t i)
{
    expect(fabs(got - want) <= tolerance * scale, "[%zu] got %.9g, want %.9g", i, got, want);
}

/* ---- input ---------------------------------------------------------------------------------- */

/* Values of every kind a kernel may meet. */
static void fill(float *x, size_t n, int mode)
{
    for (size_t i = 0; i < n; i++)
        /* clang-format off */
        switch (mode) {
        case 0: x[i] = uniform(); break;
        case 1: x[i] = uniform() * 1e20f; break;
        case 2: x[i] = uniform() * 1e-42f; break;                    /* denormal */
        case 3: x[i] = i % 2 ? 127.0f : -127.0f; break;
        case 4: x[i] = random_bits() % 50 ? uniform() : uniform() * 300; break; /* outliers */
        default: x[i] = 0;
        }
    /* clang-format on */
}
enum { MODES = 6 };

static void *take(size_t n, size_t size)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, n * size + 64))
        exit(2);
    memset(p, 0x55, n * size + 64);
    return p;
}

/* ---- gemm ----------------------------------------------------------------------------------- */

static uint8_t *random_matrix(const struct sl_packing *p)
{
    uint8_t *data = take(sl_packing_bytes(p), 1);
    fill_matrix(p, data, VALUES_UNIFORM);
    return data;
}

static void check_gemm_one(struct sl_packing p, int mode)
{
    enum { TOKENS = 5 };
    struct sl_matrix m = {p, random_matrix(&p)};
    size_t ld = sl_padded_cols(p.cols), panels = sl_panel_count(&p), ldy = p.rows + 3;
    float *x = take(TOKENS * ld, 4), *y = take(TOKENS * ldy, 4), *z = take(TOKENS * ldy, 4);
    int8_t *q = take(TOKENS * ld, 1);
    float *scale = take(TOKENS * ld / 32, 4);
    int32_t *sum = take(TOKENS * ld / 32, 4);
    uint32_t reversed[TOKENS];
    for (size_t t = 0; t < TOKENS; t++) {
        fill(x + t * ld, p.cols, mode);
        ops->quantize_acts(x + t * ld, p.cols, q + t * ld, scale + t * ld / 32, sum + t * ld / 32);
        reversed[t] = (uint32_t)(TOKENS - 1 - t);
    }
    struct sl_acts acts = {.q = q, .scale = scale, .sum = sum, .f = x, .ld = ld};
    for (size_t i = 0; i < p.count; i++) {
        struct sl_matrix one = sl_matrix_at(&m, i);
        ops->gemm(&one, 0, panels, acts, TOKENS, y, ldy);
        for (size_t t = 0; t < TOKENS; t++)
            for (size_t r = 0; r < p.rows; r++) {
                double want = 0, size = 0;
                for (size_t k = 0; k < p.cols; k++) {
                    double a = sl_is_integer(p.code)
                                   ? (double)q[t * ld + k] * (double)scale[(t * ld + k) / 32]
                                   : (double)x[t * ld + k];
                    double product = a * (double)sl_weight_at(&m, i, r, k);
                    want += product;
                    size += fabs(product);
                }
                /* 2^-24 per step of a chain of cols / 4 (float) or cols / 16 (integer) steps */
                expect_near((double)y[t * ldy + r], want, 6e-8 * (4 + (double)p.cols / 4),
                            size + 1e-38, r);
            }
        /* one vector, reversed rows, and panel by panel: the same bits */
        acts.row = reversed;
        for (size_t b = 0; b < panels; b++)
            ops->gemm(&one, b, b + 1, acts, TOKENS, z, ldy);
        acts.row = NULL;
        for (size_t t = 0; t < TOKENS; t++)
            expect(memcmp(z + t * ldy, y + (TOKENS - 1 - t) * ldy, p.rows * 4) == 0, "row order");
        for (size_t t = 0; t < TOKENS; t++) {
            struct sl_acts single = {
                q + t * ld, scale + t * ld / 32, sum + t * ld / 32, x + t * ld, ld, NULL};
            ops->gemm(&one, 0, panels, single, 1, z, ldy);
            expect(memcmp(z, y + t * ldy, p.rows * 4) == 0, "one vector against many");
        }
    }
    free(x), free(y), free(z), free(q), free(scale), free(sum), free((void *)(uintptr_t)m.data);
}

/* Each weight within two roundings of F32 and one of BF16 of the product in double. */
static void check_weights_one(const struct sl_packing *p)
{
    struct sl_matrix m = {*p, random_matrix(p)};
    size_t pairs = sl_padded_cols(p->cols) / 2, stride = 40;
    uint16_t *out = take(pairs * stride, sizeof *out);
    for (size_t panel = 0; panel < sl_panel_count(p); panel++) {
        ops->weights_bf16(&m, panel, stride, out);
        for (size_t r = 0; r < SL_PANEL && panel * SL_PANEL + r < p->rows; r++)
            for (size_t k = 0; k < p->cols; k++) {
                double want = (double)sl_weight_at(&m, 0, panel * SL_PANEL + r, k);
                expect_near((double)sl_from_bf16(out[k / 2 * stride + 2 * r + k % 2]), want,
                            0x1p-8 + 0x1p-21, fabs(want) + 1e-38, k);
            }
    }
    free(out), free((void *)(uintptr_t)m.data);
}

static void check_weights(void)
{
    static const uint32_t cols[] = {1, 33, 96, 200, 544};
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++)
        for (int code = SL_CODE_LUT4; code <= SL_CODE_INT8; code++)
            for (uint32_t group = 16; group <= 128; group *= 2)
                for (int scale = SL_SCALE_S8; scale <= SL_SCALE_BF16; scale++) {
                    struct sl_packing p = {code, scale, group, 23, cols[i], 1, {0}};
                    fill_book(p.codebook, 2);
                    check_weights_one(&p);
                }
}

static void check_gemm(void)
{
    static const int8_t book[16] = {-127, -101, -76, -58, -43, -30, -19, -9,
                                    1,    12,   22,  34,  46,  61,  80,  104};
    static const uint32_t shapes[][2] = {{1, 1},    {16, 32},  {17, 33},   {40, 96}, {15, 160},
                                         {33, 512}, {16, 544}, {48, 1536}, {5, 200}};
    static const uint32_t groups[] = {16, 32, 64, 128};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int mode = 0; mode < MODES; mode++) {
            struct sl_packing p = {
                .rows = shapes[s][0], .cols = shapes[s][1], .count = s % 3 == 2 ? 3 : 1};
            memcpy(p.codebook, book, 16);
            for (int code = SL_CODE_LUT4; code <= SL_CODE_INT8; code++)
                for (size_t g = 0; g < 4; g++)
                    for (int scale = SL_SCALE_S8; scale <= SL_SCALE_BF16; scale++) {
                        p.code = code, p.group = groups[g], p.scale = scale;
                        expect(sl_packing_valid(&p), "valid packing");
                        check_gemm_one(p, mode);
                    }
            p.scale = SL_SCALE_NONE, p.group = 0;
            for (int code = SL_CODE_BF16; code <= SL_CODE_F32; code++) {
                p.code = code;
                check_gemm_one(p, mode == 2 ? 0 : mode);
            }
        }
}

/* ---- quantisation --------------------------------------------------------------------------- */

static void check_quantize(void)
{
    enum { MAX = 300 };
    float x[MAX], scale[MAX / 32 + 1];
    int8_t q[MAX + 32];
    int32_t sum[MAX / 32 + 1];
    for (size_t n = 1; n < MAX; n += 7)
        for (int mode = 0; mode < MODES; mode++) {
            fill(x, n, mode);
            ops->quantize_acts(x, n, q, scale, sum);
            for (size_t b = 0; b * 32 < n; b++) {
                double max = 0;
                int32_t total = 0;
                for (size_t i = b * 32; i < b * 32 + 32; i++) {
                    max = i < n ? fmax(max, fabs((double)x[i])) : max;
                    total += q[i];
                    expect(q[i] >= -127 && (i < n || q[i] == 0), "code %d at %zu", q[i], i);
                }
                expect(total == sum[b], "sum of block %zu", b);
                expect_near((double)scale[b], max < 0x1p-100 ? 0 : max / 127, 1e-7, max / 127, b);
                for (size_t i = b * 32; i < n && i < b * 32 + 32; i++) /* half a step, or tiny */
                    expect_near((double)q[i] * (double)scale[b], (double)x[i], 0.50001,
                                (double)scale[b] + 0x1p-99, i);
            }
        }
    float odd[4] = {NAN, 1, -1, 0};
    ops->quantize_groups(odd, 4, 128, q, scale);
    expect(q[1] == 127 && q[2] == -127 && q[3] == 0, "a NaN does not spoil its neighbours");
}

/* ---- element-wise --------------------------------------------------------------------------- */

static void check_norms(void)
{
    enum { MAX = 517 };
    float x[MAX], w[MAX], b[MAX], y[MAX];
    for (size_t n = 1; n < MAX; n = n * 3 / 2 + 1) {
        fill(x, n, 4), fill(w, n, 0), fill(b, n, 0);
        double square = 0, mean = 0, variance = 0;
        for (size_t i = 0; i < n; i++) {
            square += (double)x[i] * (double)x[i] / (double)n;
            mean += (double)x[i] / (double)n;
        }
        for (size_t i = 0; i < n; i++)
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
        ops->rmsnorm(x, w, 1e-6f, n, y);
        double r = 1 / sqrt(square + (double)1e-6f), l = 1 / sqrt(variance + (double)1e-6f);
        for (size_t i = 0; i < n; i++)
            expect_near((double)y[i], (double)w[i] * (double)x[i] * r, 1e-6,
                        fabs((double)w[i] * (double)x[i] * r) + 1e-30, i);
        ops->layernorm(x, w, b, 1e-6f, n, y);
        for (size_t i = 0; i < n; i++)
            expect_near((double)y[i], ((double)x[i] - mean) * l * (double)w[i] + (double)b[i], 2e-6,
                        1 + (fabs((double)x[i]) + fabs(mean)) * l * fabs((double)w[i]), i);
        memcpy(b, x, n * sizeof *x);
        ops->rmsnorm(b, w, 1e-6f, n, b);
        ops->rmsnorm(x, w, 1e-6f, n, y);
        expect(memcmp(b, y, n * sizeof *b) == 0, "rmsnorm in place");
    }
}

static double true_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void check_activations(void)
{
    enum { N = 50 };
    float x[2 * 64], y[64];
    for (double at = -110; at < 110; at += 0.37) {
        x[0] = (float)at;
        ops->sigmoid(x, 1, y);
        expect_near((double)y[0], true_sigmoid((double)x[0]), 3e-7,
                    true_sigmoid((double)x[0]) + 1e-31, 0); /* 0 once exp overflows */
    }
    fill(x, 128, 4);
    ops->swiglu(x, N, y);
    for (size_t i = 0; i < N; i++) {
        double gate = (double)x[i / 16 * 32 + i % 16], up = (double)x[i / 16 * 32 + 16 + i % 16];
        double want = gate * true_sigmoid(gate) * up;
        expect_near((double)y[i], want, 5e-7, fabs(want) + 1e-37, i);
    }
    float big[32];
    for (int i = 0; i < 16; i++)
        big[i] = -1000, big[16 + i] = 3;
    ops->swiglu(big, 16, y);
    expect(y[0] == 0, "silu of a large negative gate is 0, not NaN: %g", (double)y[0]);
}

static void check_rotations(void)
{
    float x[256], y[256], cosine[64], sine[64];
    for (size_t pairs = 1; pairs <= 64; pairs *= 2) {
        fill(x, 2 * pairs, 0);
        for (size_t i = 0; i < pairs; i++)
            sl_sincosf((float)i * 17.3f, &sine[i], &cosine[i]);
        for (int half = 0; half < 2; half++) {
            memcpy(y, x, sizeof x);
            (half ? ops->rope_half : ops->rope_interleaved)(y, cosine, sine, pairs);
            for (size_t i = 0; i < pairs; i++) {
                size_t a = half ? i : 2 * i, b = half ? i + pairs : 2 * i + 1;
                double c = (double)cosine[i], s = (double)sine[i];
                expect_near((double)y[a], (double)x[a] * c - (double)x[b] * s, 2e-7, 1, a);
                expect_near((double)y[b], (double)x[a] * s + (double)x[b] * c, 2e-7, 1, b);
            }
        }
    }
    for (size_t n = 1; n <= 256; n *= 2) { /* H[i][j] = (−1)^popcount(i & j) / √n */
        fill(x, n, 0);
        memcpy(y, x, sizeof x);
        ops->hadamard(y, n);
        for (size_t i = 0; i < n; i++) {
            double want = 0;
            for (size_t j = 0; j < n; j++)
                want += (__builtin_popcountl(i & j) % 2 ? -1 : 1) * (double)x[j];
            expect_near((double)y[i], want / sqrt((double)n), 1e-6, 1, i);
        }
    }
}

static void check_vectors(void)
{
    float x[70], y[70], z[70];
    fill(x, 70, 4), fill(y, 70, 0);
    memcpy(z, y, sizeof y);
    ops->axpy(0.3f, x, 70, y);
    for (size_t i = 0; i < 70; i++)
        expect(y[i] == fmaf(0.3f, x[i], z[i]), "axpy at %zu", i);
    memcpy(y, z, sizeof y);
    ops->add(x, 70, y);
    for (size_t i = 0; i < 70; i++)
        expect(y[i] == z[i] + x[i], "add at %zu", i);
}

/* ---- indexer -------------------------------------------------------------------------------- */

static void check_index_one(enum sl_cache type, size_t heads, size_t dim, size_t keys)
{
    float *k = take(keys * dim, 4), *q = take(heads * dim, 4), *weight = take(heads, 4);
    float *folded = take(heads, 4), *score = take(keys + 16, 4);
    int8_t *codes = take(heads * dim, 1);
    uint8_t *panels = take((keys + 15) / 16 * sl_key_panel_bytes(type, dim), 1);
    fill(k, keys * dim, 0), fill(q, heads * dim, 0), fill(weight, heads, 0);
    memset(panels, 0, (keys + 15) / 16 * sl_key_panel_bytes(type, dim));
    for (size_t s = 0; s < keys; s++)
        ops->index_store(type, k + s * dim, dim, panels, s);
    for (size_t h = 0; h < heads; h++) {
        float scale = 1;
        if (type == SL_CACHE_INT8)
            ops->quantize_groups(q + h * dim, dim, dim, codes + h * dim, &scale);
        folded[h] = weight[h] * scale;
    }
    struct sl_index_query query = {codes, q, folded, (uint32_t)heads, (uint32_t)dim};
    ops->index_score(type, &query, panels, 0, keys, score);
    for (size_t i = 0; type == SL_CACHE_BF16 && i < keys * dim; i++)
        k[i] = sl_from_bf16(sl_to_bf16(k[i]));
    /* INT8: half a step in query and key, each of max/127 with |values| < 1 (the exact check is
     * below); float: rounding */
    double each = type == SL_CACHE_INT8 ? (double)dim / 127 : (double)dim * 6e-8;
    for (size_t s = 0; s < keys; s++) {
        double want = 0, slack = 0;
        for (size_t h = 0; h < heads; h++) {
            double dot = 0;
            for (size_t i = 0; i < dim; i++)
                dot += (double)q[h * dim + i] * (double)k[s * dim + i];
            want += (double)weight[h] * fmax(dot, 0);
            slack += fabs((double)weight[h]) * each;
        }
        expect_near((double)score[s], want, 1, slack + 1e-7, s);
    }
    if (type == SL_CACHE_INT8) { /* the integer definition exactly: codes, relu, signed weights */
        const uint8_t *panel = panels;
        for (size_t s = 0; s < keys; s++, panel = panels + s / 16 * sl_key_panel_bytes(type, dim)) {
            float acc = 0, key_scale;
            memcpy(&key_scale, panel + dim * 16 + s % 16 * 4, 4);
            for (size_t h = 0; h < heads; h++) {
                int dot = 0;
                for (size_t i = 0; i < dim; i++)
                    dot += codes[h * dim + i] * (int8_t)panel[i / 4 * 64 + s % 16 * 4 + i % 4];
                acc = fmaf((float)(dot > 0 ? dot : 0), folded[h], acc);
            }
            expect(score[s] == acc * key_scale, "INT8 score %zu to the bit", s);
        }
    }
    free(k), free(q), free(weight), free(folded), free(score), free(codes), free(panels);
}

static void check_index(void)
{
    for (int type = SL_CACHE_INT8; type <= SL_CACHE_F32; type++) {
        check_index_one(type, 64, 128, 70);
        check_index_one(type, 3, 32, 1);
        check_index_one(type, 1, 4, 16);
        check_index_one(type, 8, 36, 33);
    }
}

static const float *sort_score;

static int by_score(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    float x = sort_score[i] == sort_score[i] ? sort_score[i] : -INFINITY;
    float y = sort_score[j] == sort_score[j] ? sort_score[j] : -INFINITY;
    return x != y ? (x < y ? 1 : -1) : (i < j ? -1 : i > j);
}

static int by_index(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    return i < j ? -1 : i > j;
}

/* The largest of each group, and a bar that K of them reach: no score of the WANTED is below. */
static void check_few(const float *score, size_t n, size_t k, const uint32_t *want)
{
    enum { GROUPS = 48 };
    float max[GROUPS], *value = take(n, 4);
    uint32_t *index = take(n, 4), best[GROUPS];
    ops->group_max(score, n, GROUPS, max);
    for (size_t g = 0; g < GROUPS; g++) {
        float largest = -INFINITY;
        for (size_t i = g; i < n; i += GROUPS)
            largest = fmaxf(largest, score[i]);
        expect(max[g] == largest, "n %zu: largest of group %zu", n, g);
    }
    float bar = -INFINITY;
    if (k <= GROUPS) {
        ops->topk(max, GROUPS, k, best);
        bar = max[best[0]];
        for (size_t j = 1; j < k; j++)
            bar = fminf(bar, max[best[j]]);
    }
    size_t found = ops->reach(score, n, bar, index, value), at = 0, wanted = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(score[i] >= bar))
            continue;
        expect(at < found && index[at] == i && value[at] == score[i], "n %zu: %zu reaches", n, i);
        wanted += wanted < k && want[wanted] == i;
        at++;
    }
    expect(at == found, "n %zu: %zu reach, not %zu", n, at, found);
    expect(bar == -INFINITY || wanted == k, "n %zu k %zu: the bar is too high", n, k);
    free(value), free(index);
}

static void check_topk(void)
{
    enum { MAX = 5000 };
    static float score[MAX];
    static uint32_t order[MAX], got[MAX];
    for (size_t n = 1; n <= MAX; n = n * 5 / 3 + 1)
        for (int mode = 0; mode < 6; mode++) {
            for (size_t i = 0; i < n; i++) {
                score[i] = uniform();
                if (mode == 1) /* a plateau of zeros of both signs */
                    score[i] = score[i] < 0.8f ? (i % 2 ? 0.0f : -0.0f) : score[i];
                if (mode == 2)
                    score[i] = (float)(random_bits() % 5) - 2;
                if (mode == 3)
                    score[i] = 1;
                if (mode == 4 && i % 7 == 0)
                    score[i] = i % 2 ? NAN : -INFINITY;
                if (mode == 5)
                    score[i] *= 1e-40f;
                order[i] = (uint32_t)i;
            }
            sort_score = score;
            qsort(order, n, sizeof *order, by_score);
            for (size_t k = 1; k <= n; k = k * 2 + 1) {
                static uint32_t want[MAX];
                memcpy(want, order, k * sizeof *want);
                qsort(want, k, sizeof *want, by_index);
                ops->topk(score, n, k, got);
                expect(memcmp(want, got, k * sizeof *want) == 0, "n %zu k %zu mode %d", n, k, mode);
                check_few(score, n, k, want);
            }
        }
}

/* ---- attention ------------------------------------------------------------------------------ */

enum { SHIFT = 6 }; /* blocks of 64 rows */

/* Reads one stored row back, as the layout in simd.h says, into C and R; checks it against them. */
static void read_row(const struct sl_kv *kv, size_t s, float *c, float *r)
{
    const uint8_t *codes = kv->block[s >> SHIFT].latent + s % (1 << SHIFT) * kv->latent_stride;
    const uint8_t *tail = kv->block[s >> SHIFT].tail + s % (1 << SHIFT) * kv->tail_stride;
    size_t groups = kv->type == SL_CACHE_INT8 ? (kv->latent_dim + 127) / 128 : 0;
    for (size_t i = 0; i < kv->latent_dim + kv->rope_dim; i++) {
        bool latent = i < kv->latent_dim;
        float scale = 0, value, *original = latent ? &c[i] : &r[i - kv->latent_dim];
        const uint8_t *at = latent ? codes : tail + 4 * groups;
        size_t j = latent ? i : i - kv->latent_dim;
        if (latent && kv->type == SL_CACHE_INT8) {
            memcpy(&scale, tail + 4 * (i / 128), 4);
            value = (float)(int8_t)codes[i] * scale;
        } else if (kv->type == SL_CACHE_F32) {
            memcpy(&value, at + 4 * j, 4);
        } else {
            uint16_t half;
            memcpy(&half, at + 2 * j, 2);
            value = sl_from_bf16(half);
        }
        expect_near((double)value, (double)*original, 0.501,
                    scale                      ? (double)scale
                    : kv->type == SL_CACHE_F32 ? 0
                                               : fabs((double)*original) * 0x1p-7,
                    i);
        *original = value;
    }
}

/* Two heads of which the second is looked at. */
static void check_attend_one(enum sl_cache type, uint32_t dim, uint32_t rope, size_t rows,
                             bool pick)
{
    enum { HEADS = 2, ROPE_LD = 70 };
    struct sl_kv kv = {.type = type, .latent_dim = dim, .rope_dim = rope};
    kv.latent_stride = (sl_kv_latent_bytes(type, dim) + 63) / 64 * 64;
    kv.tail_stride = sl_kv_tail_bytes(type, dim, rope);
    size_t n_blocks = rows / (1 << SHIFT) + 1;
    kv.shift = SHIFT;
    kv.block = take(n_blocks, sizeof *kv.block);
    for (size_t b = 0; b < n_blocks; b++)
        kv.block[b] = (struct sl_kv_block){take(1 << SHIFT, kv.latent_stride),
                                           take(1 << SHIFT, kv.tail_stride)};
    float *c = take(rows * dim, 4), *r = take(rows * rope, 4);
    float *qs = take(HEADS * dim, 4), *q = qs + dim, *q_ropes = take(HEADS * ROPE_LD, 4);
    float *q_rope = q_ropes + ROPE_LD, *scales = take(HEADS * 8, 4);
    float *outs = take(HEADS * dim, 4), *out = outs + dim, *blocks = take(HEADS * dim, 4);
    int8_t *codes = take(HEADS * dim, 1);
    void *scratch = take(1, sl_attend_scratch(&kv) + 64);
    size_t groups = sl_latent_groups(dim);
    uint32_t *index = take(rows, 4);
    size_t n = 0;
    fill(c, rows * dim, 0), fill(r, rows * rope, 0), fill(qs, HEADS * dim, 0);
    fill(q_ropes, HEADS * ROPE_LD, 0);
    for (size_t s = 0; s < rows; s++) {
        ops->kv_store(&kv, s, c + s * dim, r + s * rope);
        read_row(&kv, s, c + s * dim, r + s * rope);
        if (!pick || s % 3 == 1 || s == 0)
            index[n++] = (uint32_t)s;
    }
    struct sl_queries queries = {HEADS, codes, scales, qs, q_ropes, ROPE_LD};
    for (size_t h = 0; h < HEADS; h++)
        ops->quantize_groups(qs + h * dim, dim, SL_LATENT_GROUP, codes + h * dim,
                             scales + h * groups);
    for (size_t i = 0; type == SL_CACHE_INT8 && i < dim; i++)
        q[i] = (float)codes[dim + i] * scales[groups + i / 128];
    float max[HEADS], sum[HEADS], block_max[HEADS], block_sum[HEADS], softmax_scale = 0.4f;
    const struct sl_attended first = {outs, max, sum}, next = {blocks, block_max, block_sum};
    for (size_t s = 0; s < n; s += SL_ATTEND_BLOCK) {
        size_t count = n - s < SL_ATTEND_BLOCK ? n - s : SL_ATTEND_BLOCK;
        ops->attend(&kv, &queries, softmax_scale, pick ? index + s : NULL, s, count,
                    s ? &next : &first, scratch);
        if (s)
            ops->attend_merge(out, &max[1], &sum[1], blocks + dim, block_max[1], block_sum[1], dim);
    }
    ops->attend_finish(out, sum[1], dim);
    double *want = calloc(dim, sizeof *want), total = 0, top = -1e300;
    double *score = calloc(n, sizeof *score);
    for (size_t j = 0; j < n; j++) {
        size_t s = index[j];
        for (size_t i = 0; i < dim; i++)
            score[j] += (double)q[i] * (double)c[s * dim + i] * (double)softmax_scale;
        for (size_t i = 0; i < rope; i++)
            score[j] += (double)q_rope[i] * (double)r[s * rope + i] * (double)softmax_scale;
        top = fmax(top, score[j]);
    }
    for (size_t j = 0; j < n; j++) {
        total += exp(score[j] - top);
        for (size_t i = 0; i < dim; i++)
            want[i] += exp(score[j] - top) * (double)c[index[j] * dim + i];
    }
    /* Stored values and query codes are exact inputs: only rounding is left. */
    for (size_t i = 0; i < dim; i++)
        expect_near((double)out[i], want[i] / total, 3e-6, 1, i);
    for (size_t b = 0; b < n_blocks; b++)
        free(kv.block[b].latent), free(kv.block[b].tail);
    free(kv.block), free(c), free(r), free(outs), free(blocks), free(index);
    free(want), free(score), free(qs), free(q_ropes), free(scales), free(codes), free(scratch);
}

static void check_attend(void)
{
    for (int type = SL_CACHE_INT8; type <= SL_CACHE_F32; type++)
        for (int pick = 0; pick < 2; pick++) {
            check_attend_one(type, 512, 64, 1, pick);
            check_attend_one(type, 512, 64, 700, pick);
            check_attend_one(type, 64, 16, 1600, pick);
            check_attend_one(type, 200, 10, 513, pick);
        }
}

/* ---- decoding and elementary functions ------------------------------------------------------ */

static void check_decode(void)
{
    uint8_t code[256];
    float out[256];
    double sum = 0;
    for (int i = 0; i < 256; i++)
        code[i] = (uint8_t)i;
    expect(ops->fp8_decode(code, 0x7f, 1.0f, out), "finite codes");
    for (int i = 0; i < 0x7f; i++)
        sum += (double)out[i];
    expect(sum == 5407.875, "sum of the positive E4M3 values is %.9g", sum);
    expect(out[0x7e] == 448 && out[0x78] == 256 && out[1] == 0x1p-9f && out[8] == 0x1p-6f, "E4M3");
    expect(ops->fp8_decode(code + 128, 127, 2.0f, out), "negative codes");
    expect(out[0x7e] == -896 && signbit(out[0]), "E4M3 signs and scale");
    expect(!ops->fp8_decode(code, 128, 1.0f, out), "0x7f is NaN");
    expect(!ops->fp8_decode(code + 250, 6, 1.0f, out), "0xff is NaN");
    uint16_t half[3] = {0x3f80, 0xc000, 0x0001};
    ops->bf16_decode(half, 3, out);
    expect(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-133f, "BF16");
    for (unsigned h = 0; h < 65536; h++) {
        float f = sl_from_f16((uint16_t)h);
        int e = (int)(h >> 10 & 31);
        double want = e == 31 ? (h & 0x3ff ? NAN : INFINITY)
                      : e     ? ldexp(1024 + (h & 0x3ff), e - 25)
                              : ldexp(h & 0x3ff, -24);
        want = h & 0x8000 ? -want : want;
        expect((double)f == want || (f != f && want != want), "f16 %04x", h);
        expect(f != f || sl_to_f16(f) == h, "f16 round trip %04x", h);
    }
    expect(sl_to_f16(65520.0f) == 0x7c00 && sl_to_f16(65519.0f) == 0x7bff, "f16 overflow");
    expect(sl_to_bf16(1.00390625f) == 0x3f80 && sl_to_bf16(1.01171875f) == 0x3f82, "ties to even");
}

static void check_math(void)
{
    for (double x = -103.5; x < 88.7; x += 0.00731) {
        double want = exp((double)(float)x);
        float near = (float)want;
        double ulp = (double)nextafterf(near, INFINITY) - (double)near;
        expect_near((double)sl_expf((float)x), want, 1, ulp, 0);
    }
    expect(sl_expf(-200) == 0 && sl_expf(100) == INFINITY && sl_expf(NAN) != sl_expf(NAN) &&
               sl_expf(0) == 1 && sl_expf(-INFINITY) == 0,
           "exp at the ends");
    for (int i = 0; i < 100000; i++) {
        float x = uniform() * (i % 2 ? 3.5f : 163840.0f), s, c;
        sl_sincosf(x, &s, &c);
        expect_near((double)s, sin((double)x), 6e-8, 1, 0);
        expect_near((double)c, cos((double)x), 6e-8, 1, 0);
        double b = exp((double)uniform() * 12), e = (double)uniform() * 2;
        expect_near(sl_log(b), log(b), 1e-15, fabs(log(b)) + 1, 0);
        expect_near(sl_pow(b, e), pow(b, e), 1e-14, pow(b, e), 0);
    }
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {
        {"gemm", check_gemm},
        {"weights", check_weights},
        {"quantize", check_quantize},
        {"norms", check_norms},
        {"activations", check_activations},
        {"rotations", check_rotations},
        {"vectors", check_vectors},
        {"index", check_index},
        {"topk", check_topk},
        {"attend", check_attend},
        {"decode", check_decode},
        {"math", check_math},
    };
    const struct sl_rung *rung;
    for (size_t r = 0; (rung = sl_rung_at(r)) != NULL; r++) {
        ops = rung->ops;
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            unsigned before = checks;
            current = all[i].name;
            all[i].run();
            printf("%-12s %-12s %u checks\n", rung->name, all[i].name, checks - before);
        }
    }
    printf("%u checks, %u failures\n", checks, failures);
    return failures ? 1 : 0;
}
