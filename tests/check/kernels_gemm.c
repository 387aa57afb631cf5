/* SPDX-License-Identifier: MIT */
/* Trials of packed matrices times vectors. */
#include <math.h>
#include <string.h>

#include "tests/check/trial.h"

enum { CODE, GROUP, SCALE, COLS, VECTORS, ROWS, VALUES, BOOK, VARIANT };
enum { DATA, PACKING, ROW, X, X_SCALE, X_SUM, Y };

/* Bits of VARIANT. */
enum { GATHERED = 1, SOME_PANELS = 2, GAPS = 4, VARIANTS = 8 };

static bool has(const struct trial *t, size_t bit)
{
    return arg(t, VARIANT) & bit;
}

static bool integer(const struct trial *t)
{
    return sl_is_integer((enum sl_code)arg(t, CODE));
}

static struct sl_packing packing_of(const struct trial *t)
{
    bool codes = integer(t);
    struct sl_packing p = {.code = (enum sl_code)arg(t, CODE),
                           .scale = codes ? (enum sl_scale)arg(t, SCALE) : SL_SCALE_NONE,
                           .group = codes ? (uint32_t)arg(t, GROUP) : 0,
                           .rows = (uint32_t)arg(t, ROWS),
                           .cols = (uint32_t)arg(t, COLS),
                           .count = 1};
    fill_book(p.codebook, t->arg[BOOK]);
    return p;
}

/* Panels [from, to) of the call. */
static void panels_of(const struct trial *t, size_t *from, size_t *to)
{
    size_t panels = sl_padded_rows(arg(t, ROWS)) / SL_PANEL;
    *from = has(t, SOME_PANELS) ? panels / 3 : 0;
    *to = has(t, SOME_PANELS) && panels > 1 ? panels - 1 : panels;
}

static size_t stored_vectors(const struct trial *t)
{
    return arg(t, VECTORS) + (has(t, GATHERED) ? 2 : 0);
}

static size_t x_stride(const struct trial *t)
{
    return sl_padded_cols(arg(t, COLS)) + (has(t, GAPS) ? SL_BLOCK : 0);
}

static size_t y_stride(const struct trial *t)
{
    return arg(t, ROWS) + (has(t, GAPS) ? 5 : 0);
}

/* Elements of N rows of WIDTH, STRIDE apart. */
static size_t strided(size_t n, size_t stride, size_t width)
{
    return n ? (n - 1) * stride + width : 0;
}

/* Vector numbers with repetitions, the last stored vector among them. */
static void add_rows(struct trial *t)
{
    size_t n = arg(t, VECTORS), stored = stored_vectors(t);
    if (!has(t, GATHERED)) {
        absent(t);
        return;
    }
    uint32_t *row = input(t, "row", KIND_WORDS, n);
    for (size_t i = 0; i < n; i++)
        row[i] = i ? random_word() % (uint32_t)stored : (uint32_t)stored - 1;
}

static void add_integer_acts(struct trial *t)
{
    size_t n = stored_vectors(t), ld = x_stride(t), cols = sl_padded_cols(arg(t, COLS));
    size_t blocks = strided(n, ld / SL_BLOCK, cols / SL_BLOCK);
    int8_t *q = input(t, "q", KIND_BYTES, strided(n, ld, cols));
    fill_codes(q, strided(n, ld, cols), t->arg[VALUES]);
    float *scale = input_floats(t, "scale", blocks, t->arg[VALUES]);
    int32_t *sum = input(t, "sum", KIND_WORDS, blocks);
    for (size_t b = 0; b < blocks; b++) {
        scale[b] = fabsf(scale[b]);
        sum[b] = 0;
        for (size_t i = 0; i < SL_BLOCK; i++)
            sum[b] += q[b * SL_BLOCK + i];
    }
}

/* Only rows of the panels asked for may change. */
static void add_y(struct trial *t)
{
    size_t from, to, rows = arg(t, ROWS), n = arg(t, VECTORS), ldy = y_stride(t);
    panels_of(t, &from, &to);
    from *= SL_PANEL;
    to = to * SL_PANEL < rows ? to * SL_PANEL : rows;
    output(t, "y", KIND_FLOATS, strided(n, ldy, rows));
    set_rule(t, 0, strided(n, ldy, rows), RULE_KEEP);
    for (size_t i = 0; i < n && from < to; i++)
        set_rule(t, i * ldy + from, to - from, RULE_SAME);
}

static bool prepare_gemm(struct trial *t)
{
    if (!integer(t) && (t->arg[GROUP] > 16 || t->arg[SCALE] > SL_SCALE_S8))
        return false; /* float matrices have neither */
    struct sl_packing p = packing_of(t);
    fill_matrix(&p, input(t, "data", KIND_MATRIX, sl_packing_bytes(&p)), t->arg[VALUES]);
    memcpy(input(t, "packing", KIND_WORDS, sizeof p / 4), &p, sizeof p);
    add_rows(t);
    if (integer(t)) {
        add_integer_acts(t);
    } else {
        size_t stored = stored_vectors(t);
        input_floats(t, "x", strided(stored, x_stride(t), arg(t, COLS)), t->arg[VALUES]);
        absent(t);
        absent(t);
    }
    add_y(t);
    return true;
}

static void run_gemm(const struct sl_ops *ops, const struct trial *t)
{
    struct sl_matrix w = {.data = at(t, DATA)};
    struct sl_acts x = {.ld = x_stride(t), .row = at(t, ROW)};
    size_t from, to;
    memcpy(&w.packing, at(t, PACKING), sizeof w.packing);
    panels_of(t, &from, &to);
    if (integer(t))
        x.q = at(t, X), x.scale = at(t, X_SCALE), x.sum = at(t, X_SUM);
    else
        x.f = at(t, X);
    ops->gemm(&w, from, to, x, arg(t, VECTORS), at(t, Y), y_stride(t));
}

static double gemm_operations(const struct trial *t)
{
    return 2.0 * (double)arg(t, ROWS) * (double)arg(t, COLS) * (double)arg(t, VECTORS);
}

/* ---- weights in BF16 ------------------------------------------------------------------------ */

enum { UNPACK_STRIDE = 4, UNPACK_VALUES, UNPACK_BOOK, PANEL_ASKED = 1 };

/* The second of three panels. */
static bool prepare_unpack(struct trial *t)
{
    size_t pairs = sl_padded_cols(arg(t, COLS)) / 2, stride = arg(t, UNPACK_STRIDE);
    size_t n = strided(pairs, stride, 2 * SL_PANEL);
    struct sl_packing p = {.code = (enum sl_code)arg(t, CODE),
                           .scale = (enum sl_scale)arg(t, SCALE),
                           .group = (uint32_t)arg(t, GROUP),
                           .rows = 3 * SL_PANEL,
                           .cols = (uint32_t)arg(t, COLS),
                           .count = 1};
    fill_book(p.codebook, t->arg[UNPACK_BOOK]);
    fill_matrix(&p, input(t, "data", KIND_MATRIX, sl_packing_bytes(&p)), t->arg[UNPACK_VALUES]);
    memcpy(input(t, "packing", KIND_WORDS, sizeof p / 4), &p, sizeof p);
    output(t, "out", KIND_HALVES, n);
    set_rule(t, 0, n, RULE_KEEP);
    for (size_t i = 0; i < pairs; i++)
        set_rule(t, i * stride, 2 * SL_PANEL, RULE_SAME);
    return true;
}

static void run_unpack(const struct sl_ops *ops, const struct trial *t)
{
    struct sl_matrix w = {.data = at(t, DATA)};
    memcpy(&w.packing, at(t, PACKING), sizeof w.packing);
    ops->weights_bf16(&w, PANEL_ASKED, arg(t, UNPACK_STRIDE), at(t, 2));
}

/* Widths of the matrices of a layer, three panels of each: query, output and latent projections,
 * experts, dense layers, the absorbed heads, the router and the indexer's weights, and what joins
 * two vectors for the MTP layer. */
/* clang-format off */
static const long real_gemm[][AXES] = {
    {SL_CODE_LUT4,  32, SL_SCALE_S8,   7168, 1, 48, 0, 0, 0},
    {SL_CODE_LUT4,  32, SL_SCALE_S8,   7168, 8, 48, 0, 0, 0},
    {SL_CODE_LUT4,  32, SL_SCALE_S8,   2048, 1, 48, 0, 0, 0},
    {SL_CODE_LUT4,  64, SL_SCALE_F16,  2048, 8, 48, 0, 0, GATHERED},
    {SL_CODE_LUT4, 128, SL_SCALE_BF16, 7168, 1, 48, 0, 0, 0},
    {SL_CODE_LUT4,  16, SL_SCALE_S8,   7168, 1, 48, 0, 0, 0},
    {SL_CODE_LUT4,  64, SL_SCALE_S8,  18432, 1, 48, 0, 0, 0},
    {SL_CODE_INT8, 128, SL_SCALE_F16,  7168, 1, 48, 0, 0, 0},
    {SL_CODE_INT8, 128, SL_SCALE_F16,  7168, 8, 48, 0, 0, 0},
    {SL_CODE_INT8, 128, SL_SCALE_F16,  1536, 1, 48, 0, 0, 0},
    {SL_CODE_INT8,  64, SL_SCALE_S8,  16384, 1, 40, 0, 0, 0},
    {SL_CODE_INT8, 128, SL_SCALE_F16, 14336, 1, 48, 0, 0, 0},
    {SL_CODE_INT8,  32, SL_SCALE_BF16,  512, 8, 128, 0, 0, GAPS},
    {SL_CODE_INT8, 128, SL_SCALE_S8,    128, 1, 512, 0, 0, 0},
    {SL_CODE_BF16,   0, SL_SCALE_NONE, 7168, 1, 48, 0, 0, 0},
    {SL_CODE_BF16,   0, SL_SCALE_NONE, 7168, 8, 48, 0, 0, 0},
    {SL_CODE_F32,    0, SL_SCALE_NONE, 7168, 1, 64, 0, 0, 0},
    {SL_CODE_F32,    0, SL_SCALE_NONE, 7168, 8, 64, 0, 0, 0},
};

static const long real_unpack[][AXES] = {
    {SL_CODE_LUT4,  32, SL_SCALE_S8,   7168, 128, 0, 0},
    {SL_CODE_INT8, 128, SL_SCALE_BF16, 7168, 128, 0, 0},
};

/* Up to sixteen blocks of 32 inputs, which are a superblock of the largest groups, the last block
 * with one more input each time. */
#define TAILS 1, 34, 67, 100, 133, 166, 199, 232, 265, 298, 331, 364, 397, 430, 463, 496

const struct kernel gemm_kernels[] = {
    {"gemm",
     {{"code", EVERY, 0, MORE(SL_CODE_LUT4, SL_CODE_INT8, SL_CODE_BF16, SL_CODE_F32)},
      {"group", EVERY, 0, MORE(16, 32, 64, 128)},
      {"scale", EVERY, 0, MORE(SL_SCALE_S8, SL_SCALE_F16, SL_SCALE_BF16)},
      {"cols", EVERY, 0, MORE(TAILS, 2, 31, 32, 33, 63, 96, 514, 1056)},
      {"vectors", EVERY, 10, NULL, 0},
      {"rows", SOME, 0, MORE(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 23, 24, 25,
                             31, 32, 33, 47, 48, 61, 79, 96, 143)},
      {"values", SOME, VALUES_KINDS, NULL, 0},
      {"book", SOME, BOOKS, NULL, 0},
      {"variant", SOME, VARIANTS, NULL, 0}},
     REAL(real_gemm), prepare_gemm, run_gemm, gemm_operations},
    {"weights_bf16",
     {{"code", EVERY, 0, MORE(SL_CODE_LUT4, SL_CODE_INT8)},
      {"group", EVERY, 0, MORE(16, 32, 64, 128)},
      {"scale", EVERY, 0, MORE(SL_SCALE_S8, SL_SCALE_F16, SL_SCALE_BF16)},
      {"cols", EVERY, 0, MORE(TAILS, 31, 32, 33, 63, 96, 514, 1056)},
      {"stride", SOME, 0, MORE(32, 37, 128)},
      {"values", EVERY, VALUES_KINDS, NULL, 0},
      {"book", SOME, BOOKS, NULL, 0}},
     REAL(real_unpack), prepare_unpack, run_unpack, NULL},
    {0},
};
/* clang-format on */
