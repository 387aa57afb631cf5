/* SPDX-License-Identifier: MIT */
/* The quantiser's work between reading and writing, for 16 rows of an expert; on one thread, so
 * that its rate is a core's. */
#include <stdio.h>
#include <string.h>

#include "quant/quant.h"
#include "runtime/base/arith.h"
#include "tools/measure/kernel_cases.h"

enum { HIDDEN = 7168, FP8_BLOCK = 128 };

static void work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct sl_quantize_data *d = &c->quantize;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        sl_rehearse_panel(c->ops, &d->rows, d->panel, d->scratch);
}

static void lay(struct sl_call *c, struct sl_arena *arena)
{
    struct sl_quantize_data *d = &c->quantize;
    size_t cols = sl_max(HIDDEN / c->shrink, FP8_BLOCK);
    d->rows.cols = cols;
    d->code = sl_arena_take(arena, SL_PANEL * cols, 1);
    d->rows.code = d->code;
    d->rows.scale = sl_arena_take(arena, sl_ceil_div(cols, FP8_BLOCK), sizeof(float));
    d->panel = sl_arena_take(arena, sl_rehearse_bytes(cols), 1);
    d->scratch = sl_arena_take(arena, sl_rehearse_scratch(cols), 1);
    c->work = work;
    c->team = sl_team_make(1);
    c->items = 1;
    c->amount = (double)(SL_PANEL * cols);
    snprintf(c->shape, sizeof c->shape, "%d × %zu, 1 thread", SL_PANEL, cols);
}

static void fill(struct sl_call *c)
{
    struct sl_quantize_data *d = &c->quantize;
    size_t cols = d->rows.cols;
    sl_random_bytes(1, d->code, SL_PANEL * cols);
    for (size_t i = 0; i < SL_PANEL * cols; i++)
        d->code[i] &= 0xf7; /* none is NaN */
    for (size_t i = 0; i < sl_ceil_div(cols, FP8_BLOCK); i++)
        d->rows.scale[i] = 0.0625f;
}

const struct sl_kernel_case sl_quantize_cases[] = {
    {"quantize lut4 g32", "Gweight/s", 1, NULL, lay, fill},
    {0},
};
