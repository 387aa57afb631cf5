/* SPDX-License-Identifier: MIT */
/*
 * What is done to vectors, for 64 tokens with data in the caches (the shorter ones for 1,024); and
 * the quantiser's decoding and fitting, for 64 rows of weights.
 */
#include <stdio.h>

#include "runtime/base/arith.h"
#include "tools/measure/kernel_cases.h"

enum { ROWS = 64, MANY = 1024, HIDDEN = 7168, INNER = 2048, EXPERTS = 256, FP8_BLOCK = 128 };
enum { LATENT = 512, ROPE = 64, HEADS = 128, HEAD = 128 + ROPE };
enum { INDEX_HEADS = 64, INDEX_DIM = 128 };

/* A row is TIMES calls with N values each, STRIDE apart. */
struct vector_kernel {
    size_t times, n, stride;
    size_t in, out; /* bytes read and written for 32 values, each once; 0: no limit */
    /* AT is the place of the first value in the arrays. */
    void (*run)(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at);
};

/* ---- one call ------------------------------------------------------------------------------- */

static void quantize_acts(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->quantize_acts(d->x + at, HIDDEN, d->code + at, d->scale + at / SL_BLOCK,
                       d->sum + at / SL_BLOCK);
}

static void quantize_groups(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->quantize_groups(d->x + at, INDEX_DIM, INDEX_DIM, d->code + at, d->scale + at / INDEX_DIM);
}

static void rmsnorm(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->rmsnorm(d->x + at, d->w, 1e-6f, HIDDEN, d->y + at);
}

static void layernorm(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->layernorm(d->x + at, d->w, d->w, 1e-6f, INDEX_DIM, d->y + at);
}

static void swiglu(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->swiglu(d->x + 2 * at, INNER, d->y + at);
}

static void axpy(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->axpy(0.125f, d->x + at, HIDDEN, d->y + at);
}

static void add(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->add(d->x + at, HIDDEN, d->y + at);
}

static void sigmoid(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->sigmoid(d->x + at, EXPERTS, d->y + at);
}

/* A table of cosine 1 and sine 0: the vectors are turned again and again and must not grow. */
static void rope_interleaved(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->rope_interleaved(d->y + at, d->w, d->sine, ROPE / 2);
}

static void rope_half(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->rope_half(d->y + at, d->w, d->sine, ROPE / 2);
}

static void hadamard(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->hadamard(d->y + at, INDEX_DIM);
}

static void index_store(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->index_store(SL_CACHE_INT8, d->x + at, INDEX_DIM, d->rows, at / INDEX_DIM);
}

static void kv_store(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    struct sl_kv_block all_rows = {d->rows, d->rows + d->room};
    const struct sl_kv kv = {
        .type = SL_CACHE_INT8,
        .latent_dim = LATENT,
        .rope_dim = ROPE,
        .shift = SL_ONE_BLOCK,
        .block = &all_rows,
        .latent_stride = LATENT,
        .tail_stride = sl_kv_tail_bytes(SL_CACHE_INT8, LATENT, ROPE),
    };
    ops->kv_store(&kv, at / (LATENT + ROPE), d->x + at, d->x + at + LATENT);
}

static void attend_merge(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    float max = 1, sum = 2;
    ops->attend_merge(d->y + at, &max, &sum, d->x + at, 0.5f, 2, LATENT);
}

static void attend_finish(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->attend_finish(d->y + at, 1, LATENT);
}

static void fp8_decode(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->fp8_decode(d->rows + at, FP8_BLOCK, 0.5f, d->y + at);
}

static void bf16_decode(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    ops->bf16_decode((const uint16_t *)(const void *)d->rows + at, HIDDEN, d->y + at);
}

static const int8_t codebook[SL_CODEBOOK] = {-127, -101, -76, -58, -43, -30, -19, -9,
                                             1,    12,   22,  34,  46,  61,  80,  104};

static void fit_scale_lut4(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    const struct sl_fit fit = {.x = d->x + at, .n = 32, .codebook = codebook};
    d->scale[at / 32] = ops->fit_scale(&fit, d->code + at);
}

static void fit_codes_lut4(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    const struct sl_fit fit = {.x = d->x + at, .n = 32, .codebook = codebook};
    d->scale[at / 32] = ops->fit_codes(&fit, 0x1p-7f, d->code + at);
}

static void fit_scale_int8(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    const struct sl_fit fit = {.x = d->x + at, .n = 128};
    d->scale[at / 128] = ops->fit_scale(&fit, d->code + at);
}

static void fit_codes_int8(const struct sl_ops *ops, const struct sl_vector_data *d, size_t at)
{
    const struct sl_fit fit = {.x = d->x + at, .n = 128};
    d->scale[at / 128] = ops->fit_codes(&fit, 0x1p-7f, d->code + at);
}

/* ---- all of them ---------------------------------------------------------------------------- */

static void work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct vector_kernel *k = c->detail;
    (void)thread;
    for (size_t i = begin * k->times; i < end * k->times; i++)
        k->run(c->ops, &c->vector, i * k->stride);
}

static void lay(struct sl_call *c, struct sl_arena *arena)
{
    const struct vector_kernel *k = c->detail;
    struct sl_vector_data *d = &c->vector;
    size_t rows = sl_max(c->n / c->shrink, SL_KEY_PANEL), values = rows * k->times * k->n;
    size_t room = rows * k->times * k->stride * 2;
    d->room = room;
    d->x = sl_arena_take(arena, room, sizeof(float));
    d->y = sl_arena_take(arena, room, sizeof(float));
    d->spare = sl_arena_take(arena, room, sizeof(float));
    d->rows = sl_arena_take(arena, room, sizeof(uint16_t));
    d->code = sl_arena_take(arena, room, 1);
    d->scale = sl_arena_take(arena, room, sizeof(float));
    d->sum = sl_arena_take(arena, room, sizeof(int32_t));
    d->w = sl_arena_take(arena, HIDDEN, sizeof(float));
    d->sine = sl_arena_take(arena, ROPE, sizeof(float));
    c->work = work;
    c->items = rows;
    c->grain = sl_ceil_div(rows, ROWS);
    c->inputs = values / 32 * k->in;
    c->outputs = values / 32 * k->out;
    c->amount = k->in ? (double)(c->inputs + c->outputs) : (double)values;
    c->in = (const uint8_t *)d->x;
    c->spare = (uint8_t *)d->spare;
    if (k->times > 1)
        snprintf(c->shape, sizeof c->shape, "%zu × %zu × %zu", rows, k->times, k->n);
    else
        snprintf(c->shape, sizeof c->shape, "%zu × %zu", rows, k->n);
}

static void fill(struct sl_call *c)
{
    struct sl_vector_data *d = &c->vector;
    sl_random_floats(1, 2, d->x, d->room);
    sl_random_floats(2, 2, d->y, d->room);
    sl_random_bytes(3, d->rows, d->room * sizeof(uint16_t));
    for (size_t i = 0; i < d->room * sizeof(uint16_t); i++)
        d->rows[i] &= 0xf7; /* no code of FP8 or BF16 is NaN */
    for (size_t i = 0; i < HIDDEN; i++)
        d->w[i] = 1;
}

/* clang-format off */
static const struct vector_kernel
    acts   = {1,           HIDDEN,        HIDDEN,        128, 40,  quantize_acts},
    groups = {INDEX_HEADS, INDEX_DIM,     INDEX_DIM,     128, 33,  quantize_groups},
    rms    = {1,           HIDDEN,        HIDDEN,        128, 128, rmsnorm},
    layer  = {1,           INDEX_DIM,     INDEX_DIM,     128, 128, layernorm},
    glu    = {1,           INNER,         INNER,         256, 128, swiglu},
    axpys  = {1,           HIDDEN,        HIDDEN,        256, 128, axpy},
    adds   = {1,           HIDDEN,        HIDDEN,        256, 128, add},
    sigma  = {1,           EXPERTS,       EXPERTS,       128, 128, sigmoid},
    turn   = {HEADS,       ROPE,          HEAD,          128, 128, rope_interleaved},
    half   = {INDEX_HEADS, ROPE,          INDEX_DIM,     128, 128, rope_half},
    walsh  = {INDEX_HEADS, INDEX_DIM,     INDEX_DIM,     128, 128, hadamard},
    key    = {1,           INDEX_DIM,     INDEX_DIM,     128, 33,  index_store},
    kv     = {1,           LATENT + ROPE, LATENT + ROPE, 128, 37,  kv_store},
    merge  = {1,           LATENT,        LATENT,        256, 128, attend_merge},
    finish = {1,           LATENT,        LATENT,        128, 128, attend_finish},
    fp8    = {HIDDEN / FP8_BLOCK, FP8_BLOCK, FP8_BLOCK,  32,  128, fp8_decode},
    half16 = {1,           HIDDEN,        HIDDEN,        64,  128, bf16_decode},
    scale4 = {HIDDEN / 32,  32,  32,  0, 0, fit_scale_lut4},
    codes4 = {HIDDEN / 32,  32,  32,  0, 0, fit_codes_lut4},
    scale8 = {HIDDEN / 128, 128, 128, 0, 0, fit_scale_int8},
    codes8 = {HIDDEN / 128, 128, 128, 0, 0, fit_codes_int8};

const struct sl_kernel_case sl_vector_cases[] = {
    {"quantize_acts",       "GB/s",      ROWS, &acts,   lay, fill},
    {"quantize_groups",     "GB/s",      ROWS, &groups, lay, fill},
    {"rmsnorm",             "GB/s",      ROWS, &rms,    lay, fill},
    {"layernorm",           "GB/s",      MANY, &layer,  lay, fill},
    {"swiglu",              "GB/s",      ROWS, &glu,    lay, fill},
    {"axpy",                "GB/s",      ROWS, &axpys,  lay, fill},
    {"add",                 "GB/s",      ROWS, &adds,   lay, fill},
    {"sigmoid",             "GB/s",      MANY, &sigma,  lay, fill},
    {"rope_interleaved",    "GB/s",      ROWS, &turn,   lay, fill},
    {"rope_half",           "GB/s",      ROWS, &half,   lay, fill},
    {"hadamard",            "GB/s",      ROWS, &walsh,  lay, fill},
    {"index_store int8",    "GB/s",      MANY, &key,    lay, fill},
    {"kv_store int8",       "GB/s",      MANY, &kv,     lay, fill},
    {"attend_merge",        "GB/s",      MANY, &merge,  lay, fill},
    {"attend_finish",       "GB/s",      MANY, &finish, lay, fill},
    {"fp8_decode",          "GB/s",      ROWS, &fp8,    lay, fill},
    {"bf16_decode",         "GB/s",      ROWS, &half16, lay, fill},
    {"fit_scale lut4 g32",  "Gweight/s", ROWS, &scale4, lay, fill},
    {"fit_codes lut4 g32",  "Gweight/s", ROWS, &codes4, lay, fill},
    {"fit_scale int8 g128", "Gweight/s", ROWS, &scale8, lay, fill},
    {"fit_codes int8 g128", "Gweight/s", ROWS, &codes8, lay, fill},
    {0},
};
/* clang-format on */
