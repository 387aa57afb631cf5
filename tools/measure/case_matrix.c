/* SPDX-License-Identifier: MIT */
/* Matrix products: an expert's gate and up with one vector and with many, and the router. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "tools/measure/kernel_cases.h"

enum {
    HIDDEN = 7168,
    EXPERT_ROWS = 2 * 2048, /* gate and up */
    EXPERTS = 256,
    EXPERTS_USED = 8,
    GRAIN = 2,             /* panels handed to a thread at a time, as runtime/model/ does; */
    FOUR = 4,              /* with one vector as many fours */
    PIECE_BYTES = 1 << 19, /* as these are */
    FEW = 8,               /* vectors for which the weights' way from memory counts */
    MANY = 256,            /* for which other libraries are at their best */
    LARGE_SET = 512000000, /* bytes; more than caches hold */
    SMALL_SET = 128000000, /* for more vectors */
};

struct format {
    enum sl_code code;
    enum sl_scale scale;
    uint32_t group, rows;
};

static const struct format lut4 = {SL_CODE_LUT4, SL_SCALE_S8, 32, EXPERT_ROWS};
static const struct format int8 = {SL_CODE_INT8, SL_SCALE_BF16, 128, EXPERT_ROWS};
static const struct format bf16 = {SL_CODE_BF16, SL_SCALE_NONE, 0, EXPERTS};
static const struct format f32 = {SL_CODE_F32, SL_SCALE_NONE, 0, EXPERTS};

/* ---- contents ------------------------------------------------------------------------------- */

static void fill_integer_panel(const struct sl_packing *p, uint8_t *panel)
{
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    float row_scale[SL_PANEL];
    for (size_t r = 0; r < SL_PANEL; r++)
        row_scale[r] = p->scale == SL_SCALE_S8 ? 0x1p-15f : 1;
    memcpy(panel, row_scale, sizeof row_scale);
    panel += SL_ROW_SCALES;
    for (size_t k = 0; k < cols; k += super) {
        size_t codes = sl_code_bytes(p->code, sl_min(super, cols - k));
        for (size_t i = 0; p->scale == SL_SCALE_BF16 && i < SL_SUPER * SL_PANEL; i++) {
            uint16_t scale = sl_to_bf16((float)(1 + panel[2 * i]) * 0x1p-16f);
            memcpy(panel + 2 * i, &scale, 2);
        }
        panel += sl_super_scale_bytes(p->scale);
        for (size_t i = 0; p->code == SL_CODE_INT8 && i < codes; i++)
            panel[i] = panel[i] == 0x80 ? 0x81 : panel[i]; /* −128 is no code */
        panel += codes;
    }
}

static void fill_float_panel(const struct sl_packing *p, uint64_t seed, uint8_t *panel,
                             size_t bytes)
{
    size_t size = p->code == SL_CODE_F32 ? 4 : 2;
    float piece[1024];
    for (size_t at = 0, n; at < bytes; at += n * size) {
        n = sl_min(sizeof piece / sizeof *piece, (bytes - at) / size);
        sl_random_floats(seed + at, 0x1p-6f, piece, n);
        for (size_t i = 0; i < n; i++) {
            uint16_t half = sl_to_bf16(piece[i]);
            memcpy(panel + at + i * size, size == 4 ? (void *)&piece[i] : (void *)&half, size);
        }
    }
}

static void fill_panels(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_matrix_data *m = &((struct sl_call *)arg)->matrix;
    size_t bytes = sl_panel_bytes(&m->packing);
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        uint8_t *panel = m->bytes + i * bytes;
        if (sl_is_integer(m->packing.code)) {
            sl_random_bytes(i, panel, bytes);
            fill_integer_panel(&m->packing, panel);
        } else {
            fill_float_panel(&m->packing, i, panel, bytes);
        }
    }
}

static void fill(struct sl_call *c)
{
    struct sl_matrix_data *m = &c->matrix;
    size_t cols = m->packing.cols, blocks = cols / SL_BLOCK;
    sl_team_run(&c->team, sl_panel_count(&m->packing) * m->packing.count, 1, fill_panels, c);
    sl_random_floats(1, 2, m->x, c->n * cols);
    for (size_t t = 0; t < c->n; t++)
        c->ops->quantize_acts(m->x + t * cols, cols, m->q + t * cols, m->scale + t * blocks,
                              m->sum + t * blocks);
}

/* ---- the call ------------------------------------------------------------------------------- */

/* Panels [begin, end) of this call's matrices. */
static void multiply(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct sl_matrix_data *m = &c->matrix;
    const struct sl_matrix stack = {m->packing, m->bytes};
    const struct sl_acts x = {m->q, m->scale, m->sum, m->x, m->packing.cols, NULL};
    size_t panels = sl_panel_count(&m->packing), part = c->number % c->parts * m->per_call;
    (void)thread;
    while (begin < end) {
        size_t i = begin / panels, first = begin % panels;
        size_t count = sl_min(end - begin, panels - first);
        struct sl_matrix w = sl_matrix_at(&stack, part + i);
        c->ops->gemm(&w, first, first + count, x, c->n, m->y + i * c->n * m->packing.rows,
                     m->packing.rows);
        begin += count;
    }
}

static struct sl_packing packing_of(const struct format *f, size_t shrink)
{
    struct sl_packing p = {
        .code = f->code, .scale = f->scale, .group = f->group, .cols = HIDDEN, .count = 1};
    p.rows = (uint32_t)sl_max(f->rows / shrink, GRAIN * SL_PANEL);
    for (int i = 0; i < SL_CODEBOOK; i++)
        p.codebook[i] = (int8_t)(16 * i - 120);
    return p;
}

static void take(struct sl_call *c, struct sl_arena *arena)
{
    struct sl_matrix_data *m = &c->matrix;
    size_t cols = m->packing.cols, blocks = cols / SL_BLOCK;
    m->bytes = sl_arena_take(arena, sl_packing_bytes(&m->packing), 1);
    m->x = sl_arena_take(arena, c->n * cols, sizeof(float));
    m->q = sl_arena_take(arena, c->n, cols);
    m->scale = sl_arena_take(arena, c->n * blocks, sizeof(float));
    m->sum = sl_arena_take(arena, c->n * blocks, sizeof(int32_t));
    m->y = sl_arena_take(arena, m->per_call * c->n * m->packing.rows, sizeof(float));
}

/* With one vector the weights are read from memory: those of the experts of one token, or a
 * router.  With many a single matrix is multiplied at a time. */
static void lay(struct sl_call *c, struct sl_arena *arena)
{
    const struct format *f = c->detail;
    struct sl_matrix_data *m = &c->matrix;
    bool integer = sl_is_integer(f->code);
    m->packing = packing_of(f, c->shrink);
    m->per_call = c->n == 1 && integer ? EXPERTS_USED : 1;
    size_t rows = m->packing.rows, part = sl_matrix_bytes(&m->packing) * m->per_call;
    double macs = (double)(rows * HIDDEN * c->n * m->per_call);
    c->parts = sl_ceil_div((c->n <= FEW ? LARGE_SET : SMALL_SET) / c->shrink, part);
    m->packing.count = (uint32_t)(c->parts * m->per_call);
    take(c, arena);
    c->work = multiply;
    c->items = sl_panel_count(&m->packing) * m->per_call;
    c->grain = GRAIN;
    if (c->n == 1 && integer)
        c->grain = sl_round_up(sl_ceil_div(PIECE_BYTES, sl_panel_bytes(&m->packing)), FOUR);
    c->amount = c->n == 1 ? (double)part : macs;
    if (c->n == 1) {
        c->set = m->bytes;
        c->bytes = part;
    } else if (integer) {
        c->dots = macs;
        c->rows = c->n >= MANY ? rows : 0;
        c->cols = HIDDEN;
    } else {
        c->fmas = macs;
    }
    if (m->per_call > 1)
        snprintf(c->shape, sizeof c->shape, "%zu × %zu × %d, 1 vector", m->per_call, rows, HIDDEN);
    else
        snprintf(c->shape, sizeof c->shape, "%zu × %d, %zu vector%s", rows, HIDDEN, c->n,
                 c->n == 1 ? "" : "s");
}

/* Panels [begin, end) in BF16, each to a place of its own. */
static void unpack(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct sl_matrix_data *m = &c->matrix;
    const struct sl_matrix w = {m->packing, m->bytes};
    (void)thread;
    for (size_t i = begin; i < end; i++)
        c->ops->weights_bf16(&w, i, 2 * SL_PANEL, (uint16_t *)(void *)m->y + i * SL_PANEL * HIDDEN);
}

/* As many rows as fit into the caches, with their BF16 form. */
static void lay_unpack(struct sl_call *c, struct sl_arena *arena)
{
    const struct format *f = c->detail;
    struct sl_matrix_data *m = &c->matrix;
    m->packing = packing_of(f, c->shrink);
    m->packing.rows = (uint32_t)sl_max(c->n / c->shrink, GRAIN * SL_PANEL);
    m->per_call = 1;
    size_t weights = (size_t)m->packing.rows * HIDDEN;
    m->bytes = sl_arena_take(arena, sl_packing_bytes(&m->packing), 1);
    m->y = sl_arena_take(arena, weights, sizeof(uint16_t));
    c->spare = sl_arena_take(arena, weights, sizeof(uint16_t));
    c->work = unpack;
    c->items = sl_panel_count(&m->packing);
    c->grain = 1;
    c->inputs = sl_packing_bytes(&m->packing);
    c->outputs = weights * sizeof(uint16_t);
    c->in = m->bytes;
    c->amount = (double)weights;
    snprintf(c->shape, sizeof c->shape, "%u × %d", m->packing.rows, HIDDEN);
}

static void fill_weights(struct sl_call *c)
{
    sl_team_run(&c->team, sl_panel_count(&c->matrix.packing), 1, fill_panels, c);
}

/* clang-format off */
const struct sl_kernel_case sl_matrix_cases[] = {
    {"gemm lut4 g32",  "GB/s",   1,   &lut4, lay, fill},
    {"gemm lut4 g32",  "GMAC/s", 8,   &lut4, lay, fill},
    {"gemm lut4 g32",  "GMAC/s", 64,  &lut4, lay, fill},
    {"gemm lut4 g32",  "GMAC/s", 256, &lut4, lay, fill},
    {"gemm int8 g128", "GB/s",   1,   &int8, lay, fill},
    {"gemm int8 g128", "GMAC/s", 8,   &int8, lay, fill},
    {"gemm int8 g128", "GMAC/s", 64,  &int8, lay, fill},
    {"gemm int8 g128", "GMAC/s", 256, &int8, lay, fill},
    {"gemm bf16",      "GB/s",   1,   &bf16, lay, fill},
    {"gemm f32",       "GB/s",   1,   &f32,  lay, fill},
    {"gemm f32",       "GMAC/s", 64,  &f32,  lay, fill},
    {"weights_bf16 lut4 g32",  "Gweight/s", 512, &lut4, lay_unpack, fill_weights},
    {"weights_bf16 int8 g128", "Gweight/s", 512, &int8, lay_unpack, fill_weights},
    {0},
};
/* clang-format on */
