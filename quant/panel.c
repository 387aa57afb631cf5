/* SPDX-License-Identifier: MIT */
/*
 * Float rows → one packed panel, in the layout of struct sl_packing.  Fits scales row by row; works
 * on memory that the caller gives; no I/O, no threads.
 */
#include <math.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"

/* One row being packed. */
struct row {
    const struct sl_fitting *fit;
    const struct sl_packing *p;
    const float *x; /* [cols] */
    size_t groups;
    float *scale;   /* [groups] the ideal scale, then the stored one; × row_scale */
    uint16_t *bits; /* [groups] the stored scale */
    int8_t *code;   /* [padded cols] */
    float row_scale;
};

void sl_error_add(struct sl_error *sum, const struct sl_error *e)
{
    sum->error += e->error;
    sum->square += e->square;
    sum->max = e->max > sum->max ? e->max : sum->max;
}

double sl_error_relative(const struct sl_error *e)
{
    return e->square > 0 ? sqrt(e->error / e->square) : 0;
}

static size_t group_count(const struct sl_packing *p)
{
    return sl_ceil_div(p->cols, p->group);
}

size_t sl_pack_scratch(const struct sl_packing *p)
{
    if (!sl_is_integer(p->code))
        return 0;
    size_t bytes = group_count(p) * (sizeof(float) + sizeof(uint16_t)) + sl_padded_cols(p->cols);
    return sl_round_up(bytes, 8);
}

static struct sl_fit group_fit(const struct row *r, size_t g)
{
    size_t first = g * r->p->group;
    return (struct sl_fit){
        .x = r->x + first,
        .n = sl_min(r->p->group, r->p->cols - first),
        .codebook = r->p->code == SL_CODE_LUT4 ? r->p->codebook : NULL,
    };
}

/* The extreme of the group on the codebook's far end. */
static float absmax_scale(const struct sl_fit *fit)
{
    float extreme = 0, end = 127;
    for (size_t i = 0; i < fit->n; i++)
        extreme = fabsf(fit->x[i]) > fabsf(extreme) ? fit->x[i] : extreme;
    if (!fit->codebook)
        return fabsf(extreme) / end;
    float low = fit->codebook[0], high = fit->codebook[SL_CODEBOOK - 1];
    return extreme / (-low > high ? low : high);
}

static float ideal_scale(const struct row *r, size_t g)
{
    struct sl_fit fit = group_fit(r, g);
    return r->fit->fast ? absmax_scale(&fit) : r->fit->ops->fit_scale(&fit, NULL);
}

/* Tries the S8 scales around the ideal one (fast: the nearest only) and keeps the best. */
static void fit_s8_group(struct row *r, size_t g)
{
    struct sl_fit fit = group_fit(r, g);
    int8_t *code = r->code + g * r->p->group, trial[128];
    r->bits[g] = 0;
    if (r->scale[g] == 0)
        return;
    float ideal = r->scale[g] / r->row_scale, best = INFINITY;
    r->scale[g] = 0;
    int low = r->fit->fast ? (int)rintf(ideal) : (int)floorf(ideal) - 1;
    int high = r->fit->fast ? low : low + 3;
    for (int s = low; s <= high; s++) {
        if (s < -127 || s > 127)
            continue;
        float error = r->fit->ops->fit_codes(&fit, (float)s * r->row_scale, trial);
        if (error < best) {
            best = error;
            memcpy(code, trial, fit.n);
            r->scale[g] = (float)s;
            r->bits[g] = (uint8_t)(int8_t)s;
        }
    }
}

static void fit_s8(struct row *r)
{
    float max = 0;
    for (size_t g = 0; g < r->groups; g++)
        max = fmaxf(max, fabsf(r->scale[g]));
    r->row_scale = max / 127.0f;
    if (r->row_scale < 0x1p-120f) { /* the kernels take such scales for zero */
        r->row_scale = 0;
        memset(r->scale, 0, r->groups * sizeof *r->scale);
        memset(r->bits, 0, r->groups * sizeof *r->bits);
        return;
    }
    for (size_t g = 0; g < r->groups; g++)
        fit_s8_group(r, g);
}

/* F16 saturates: a scale never becomes infinite. */
static void fit_half(struct row *r)
{
    bool f16 = r->p->scale == SL_SCALE_F16;
    r->row_scale = 1;
    for (size_t g = 0; g < r->groups; g++) {
        struct sl_fit fit = group_fit(r, g);
        float s = f16 ? fmaxf(-65504.0f, fminf(65504.0f, r->scale[g])) : r->scale[g];
        r->bits[g] = f16 ? sl_to_f16(s) : sl_to_bf16(s);
        r->scale[g] = f16 ? sl_from_f16(r->bits[g]) : sl_from_bf16(r->bits[g]);
        r->fit->ops->fit_codes(&fit, r->scale[g], r->code + g * r->p->group);
    }
}

static void fit_row(struct row *r)
{
    memset(r->code, 0, sl_padded_cols(r->p->cols));
    for (size_t g = 0; g < r->groups; g++)
        r->scale[g] = ideal_scale(r, g);
    if (r->p->scale == SL_SCALE_S8)
        fit_s8(r);
    else
        fit_half(r);
}

/* W is a weight and V what the runtime makes of it. */
static inline void error_of(struct sl_error *e, float w, float v)
{
    double d = (double)w - (double)v, size = fabs(d);
    e->error += d * d;
    e->square += (double)w * (double)w;
    e->max = size > e->max ? size : e->max;
}

/* The runtime's weight: value · scale · row_scale.  Sums in the order of weights. */
static void measure_row(const struct row *r, struct sl_error *sum)
{
    const int8_t *codebook = r->p->code == SL_CODE_LUT4 ? r->p->codebook : NULL;
    struct sl_error e = *sum;
    for (size_t g = 0; g < r->groups; g++) {
        const struct sl_fit fit = group_fit(r, g);
        const int8_t *code = r->code + g * r->p->group;
        float value[128];
        for (size_t i = 0; i < fit.n; i++)
            value[i] = codebook ? codebook[code[i]] : code[i];
        for (size_t i = 0; i < fit.n; i++)
            error_of(&e, fit.x[i], value[i] * r->scale[g] * r->row_scale);
    }
    *sum = e;
}

static void store_scales(const struct row *r, size_t groups, uint8_t *scales, size_t first,
                         size_t lane)
{
    for (size_t g = 0; g < groups; g++) {
        size_t at = g * SL_PANEL + lane;
        if (r->p->scale == SL_SCALE_S8)
            scales[at] = (uint8_t)r->bits[first + g];
        else
            memcpy(scales + 2 * at, &r->bits[first + g], 2);
    }
}

static void store_codes(const struct row *r, const int8_t *code, size_t n, uint8_t *out,
                        size_t lane)
{
    if (r->p->code == SL_CODE_INT8) {
        for (size_t k = 0; k < n; k += 4)
            memcpy(out + k / 4 * 64 + lane * 4, code + k, 4);
        return;
    }
    for (size_t k = 0; k < n; k += 8) { /* no code has a high nibble: four at once */
        uint32_t low, high;
        memcpy(&low, code + k, 4);
        memcpy(&high, code + k + 4, 4);
        low |= high << 4;
        memcpy(out + k / 8 * 64 + lane * 4, &low, 4);
    }
}

/* 16-bit scales are whole: their row scales are 1, also in the rows of the padding. */
static void store_unit_row_scales(uint8_t *panel)
{
    const float one = 1;
    for (size_t lane = 0; lane < SL_PANEL; lane++)
        memcpy(panel + lane * sizeof one, &one, sizeof one);
}

/* Scatters the row into lane LANE of the panel. */
static void store_row(const struct row *r, uint8_t *panel, size_t lane)
{
    size_t in_super = (size_t)r->p->group * SL_SUPER, cols = sl_padded_cols(r->p->cols);
    size_t scale_bytes = sl_super_scale_bytes(r->p->scale);
    uint8_t *super = panel + SL_ROW_SCALES;
    memcpy(panel + lane * sizeof(float), &r->row_scale, sizeof(float));
    for (size_t k = 0; k < cols; k += in_super) {
        size_t n = sl_min(in_super, cols - k), first = k / r->p->group;
        store_scales(r, sl_min(SL_SUPER, r->groups - first), super, first, lane);
        store_codes(r, r->code + k, n, super + scale_bytes, lane);
        super += scale_bytes + sl_code_bytes(r->p->code, n);
    }
}

static void pack_float(const struct sl_packing *p, const float *x, size_t rows, uint8_t *out,
                       struct sl_error *e)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < p->cols; k++) {
            float w = x[r * p->cols + k];
            size_t at = k * SL_PANEL + r;
            uint16_t half = sl_to_bf16(w);
            if (p->code == SL_CODE_F32)
                memcpy(out + 4 * at, &w, 4);
            else
                memcpy(out + 2 * at, &half, 2);
            error_of(e, w, p->code == SL_CODE_F32 ? w : sl_from_bf16(half));
        }
}

void sl_pack_panel(const struct sl_fitting *fit, const struct sl_packing *p, const float *x,
                   size_t rows, uint8_t *out, void *scratch, struct sl_error *error)
{
    *error = (struct sl_error){0};
    memset(out, 0, sl_panel_bytes(p));
    if (!sl_is_integer(p->code)) {
        pack_float(p, x, rows, out, error);
        return;
    }
    struct row r = {.fit = fit, .p = p, .groups = group_count(p), .scale = scratch};
    r.bits = (uint16_t *)(void *)(r.scale + r.groups);
    r.code = (int8_t *)(r.bits + r.groups);
    if (p->scale != SL_SCALE_S8)
        store_unit_row_scales(out);
    for (size_t lane = 0; lane < rows; lane++) {
        r.x = x + lane * p->cols;
        fit_row(&r);
        measure_row(&r, error);
        store_row(&r, out, lane);
    }
}
