/* SPDX-License-Identifier: MIT */
#include "tools/plan/predict.h"

#include <math.h>

#include "runtime/base/arith.h"
#include "simd/simd.h"

enum { QUERIES_PER_TILE = 8 }; /* that runtime/attention/ scores keys for together */

/* Numbers of vectors that speeds were measured with: all up to FEW, and BLOCK. */
enum { FEW = SL_FEW + 1, BLOCK = 64 };

#define DOWN_SHARE (1.0 / 3) /* of an expert's work: what is left when its last chunk lands */

const char *const sl_bound_names[] = {"memory", "arithmetic", "drive"};

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint32_t moe_layers(const struct sl_config *c)
{
    return c->layers > c->dense_layers ? c->layers - c->dense_layers : 0;
}

struct sl_needs sl_case_needs(const struct sl_case *k)
{
    const struct sl_sizes *s = k->sizes;
    uint32_t layers = moe_layers(k->config) + k->mtp;
    return (struct sl_needs){
        .resident = s->resident_files + s->head_file + (k->mtp ? s->mtp_resident_file : 0),
        .experts = s->stride * layers * k->config->experts,
        .block = s->stride,
        .moe_layers = layers,
        .experts_per_layer = k->config->experts,
        .experts_used = k->config->experts_used,
        .session = k->session,
    };
}

struct sl_memory_plan sl_divide_memory(const struct sl_case *k)
{
    struct sl_needs needs = sl_case_needs(k);
    struct sluice_memory_plan p;
    bool fits = sl_budget_divide(&p, &needs, k->memory);
    return (struct sl_memory_plan){
        .resident = p.resident,
        .kv = p.kv,
        .scratch = p.scratch,
        .staging = p.staging,
        .moe_layers = needs.moe_layers,
        .slots = p.slots,
        .slot_bytes = p.experts,
        .share = p.block ? (double)p.slots / p.experts_per_layer : 1,
        .need = p.need,
        .fits = fits,
        .mapped = p.reader == SLUICE_READER_MEMORY,
    };
}

/* ---- hits ------------------------------------------------------------------------------------ */

struct sl_hit_rate sl_expect_hits(double share, uint32_t slots)
{
    struct sl_hit_rate h = {pow(share, 0.45), pow(share, 0.32), pow(share, 0.25)};
    if (share < 1 && slots < SL_FEW_SLOTS) {
        h.low = fmin(h.low, SL_FEW_HITS);
        h.central = fmin(h.central, SL_FEW_HITS);
        h.high = fmin(h.high, SL_FEW_HITS);
    }
    return h;
}

struct sl_hit_rate sl_case_hits(const struct sl_case *k, const struct sl_memory_plan *plan)
{
    if (k->hits > 0 && plan->share < 1)
        return (struct sl_hit_rate){k->hits, k->hits, k->hits};
    return sl_expect_hits(plan->share, plan->slots);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* What some tokens cost. */
struct work {
    const struct sl_case *k;
    double seconds[SLUICE_PARTS];
    double bytes;        /* weights and cache rows, once per chunk */
    double experts_read; /* experts not in memory, once per layer and chunk */
    double waiting;      /* seconds in which reading is not hidden by computing */
};

/*
 * What a machine needs for matrices of one kind: T vectors take as long as was measured with so
 * many; between the measured numbers, 1 … 8 and 64, the time is a straight line.
 */
struct pace {
    double one;         /* seconds: BYTES from memory, for one vector */
    const double *few;  /* multiply-adds per second; NULL: as the block */
    double block, macs; /* multiply-adds per second; and of one vector */
};

static double seconds_with(const struct pace *p, double t)
{
    if (t <= 1)
        return p->one;
    if (t >= BLOCK)
        return larger(p->one, p->macs * t / p->block);
    if (!p->few)
        return larger(p->one, p->macs * t / p->block);
    double low = floor(fmin(t, FEW)), high = low < FEW ? low + 1 : BLOCK;
    double before = low > 1 ? low * p->macs / p->few[(int)low - 2] : p->one;
    double after = high * p->macs / (high < BLOCK ? p->few[(int)high - 2] : p->block);
    return before + (after - before) * (t - low) / (high - low);
}

static struct pace pace_of(const struct work *w, enum sl_matrix_part part, int kind)
{
    const struct sl_machine *m = w->k->machine;
    const struct sl_matrices *x = &w->k->sizes->part[part];
    const double vector[SL_WEIGHT_KINDS] = {m->lut4_vector, m->int8_vector, m->memory_all};
    const double block[SL_WEIGHT_KINDS] = {m->lut4_block, m->int8_block, m->f32_block};
    const double *const few[SL_WEIGHT_KINDS] = {m->lut4_few, m->int8_few, NULL};
    return (struct pace){
        .one = (double)x->bytes[kind] / vector[kind],
        .few = few[kind],
        .block = block[kind],
        .macs = (double)x->macs[kind],
    };
}

static double bytes_of(const struct work *w, enum sl_matrix_part part)
{
    double sum = 0;
    for (int i = 0; i < SL_WEIGHT_KINDS; i++)
        sum += (double)w->k->sizes->part[part].bytes[i];
    return sum;
}

/* The matrices of PART, N vectors each. */
static void multiply(struct work *w, enum sl_matrix_part part, size_t n, enum sluice_part into)
{
    for (int i = 0; i < SL_WEIGHT_KINDS; i++) {
        struct pace pace = pace_of(w, part, i);
        w->seconds[into] += seconds_with(&pace, (double)n);
    }
    w->bytes += bytes_of(w, part);
}

/* True when the token at POSITION attends to a selection of keys. */
static bool selects(const struct sl_case *k, size_t position)
{
    return k->session.key_panel_bytes > 0 && position + 1 > k->config->index_topk;
}

/* The indexer of tokens [position, position + n), all of which select. */
static void add_selection(struct work *w, size_t position, size_t n)
{
    const struct sl_machine *m = w->k->machine;
    const struct sl_config *c = w->k->config;
    double queries = (double)n, last = (double)(position + n);
    double keys = last * queries - queries * (queries - 1) / 2; /* of all queries */
    double bytes = c->layers * ceil(queries / QUERIES_PER_TILE) * ceil(last / SL_KEY_PANEL) *
                   (double)w->k->session.key_panel_bytes;
    double macs = c->layers * keys * c->index_heads * c->index_dim;
    w->bytes += bytes;
    w->seconds[SLUICE_PART_INDEXER] += larger(bytes / m->memory_all, macs / m->index_score);
    w->seconds[SLUICE_PART_TOPK] += c->layers * keys / m->topk;
}

static void add_attention(struct work *w, size_t position, size_t n)
{
    const struct sl_machine *m = w->k->machine;
    const struct sl_config *c = w->k->config;
    size_t end = position + n, topk = c->index_topk;
    size_t dense = w->k->session.key_panel_bytes ? sl_min(end, sl_max(topk, position)) : end;
    double first = (double)position + 1, last = (double)dense, sparse = (double)(end - dense);
    double rows = (first + last) / 2 * (last - first + 1) + sparse * (double)topk;
    double distinct = sparse > 0 ? fmin((double)end, (double)n * (double)topk) : (double)end;
    double bytes = c->layers * (double)w->k->session.kv_row_bytes * distinct;
    double macs = c->layers * rows * c->heads * (2.0 * c->kv_lora + c->rope);
    w->bytes += bytes;
    w->seconds[SLUICE_PART_ATTENTION] += larger(bytes / m->memory_all,
                                                macs / (n == 1 ? m->attend : m->attend_block));
    if (sparse > 0)
        add_selection(w, dense, end - dense);
}

/*
 * Experts of which each of N tokens uses SHARE, all equally likely: their numbers of vectors are
 * binomial.  Adds the time of all ALL experts; returns how many have any vectors.
 */
static double multiply_experts(struct work *w, double all, double share, size_t n)
{
    double mean = share * (double)n, chance = pow(1 - share, (double)n), touched = all;
    bool even = mean >= BLOCK || share >= 1; /* or near enough */
    for (int i = 0; i < SL_WEIGHT_KINDS; i++) {
        struct pace pace = pace_of(w, SL_M_EXPERT, i);
        double seconds = even ? seconds_with(&pace, mean) : 0, p = chance;
        for (size_t v = 1; !even && v <= n; v++) {
            p *= share / (1 - share) * (double)(n - v + 1) / (double)v;
            seconds += p * seconds_with(&pace, (double)v);
        }
        w->seconds[SLUICE_PART_EXPERTS] += all * seconds;
    }
    touched *= 1 - (even ? 0 : chance);
    w->bytes += touched * bytes_of(w, SL_M_EXPERT);
    return touched;
}

static double drive_rate(const struct sl_case *k)
{
    return larger(k->machine->drive_pread, k->machine->drive_uring) * k->drives;
}

/*
 * A layer computes its shared expert and those in memory while the others are read, and these as
 * they land: COMPUTE seconds in all.  Reading takes longer by what is returned, with MISSES to
 * read; LAST is computed after the last byte.
 */
static double wait_for(const struct sl_case *k, double misses, double compute, double last)
{
    double read = misses * (double)k->sizes->stride;
    double busy = compute + read / k->machine->memory_all; /* what is read is written to memory */
    return misses > 0 ? larger(0, read / drive_rate(k) + last - busy) : 0;
}

/* The mean of that over the numbers of misses among USED experts, each of which is one with a
 * chance of MISS. */
static double mean_wait(const struct sl_case *k, uint32_t used, double miss, double compute,
                        double last)
{
    double sum = 0, p = pow(1 - miss, used);
    for (uint32_t m = 1; miss < 1 && m <= used; m++) {
        p *= miss / (1 - miss) * (used - m + 1) / m;
        sum += p * wait_for(k, m, compute, last);
    }
    return miss < 1 ? sum : wait_for(k, used, compute, last);
}

static void add_experts(struct work *w, const struct sl_memory_plan *plan, size_t n)
{
    const struct sl_config *c = w->k->config;
    const double *seconds = w->seconds;
    uint32_t used = (uint32_t)sl_min(c->experts_used, c->experts), layers = moe_layers(c);
    if (layers == 0)
        return;
    double share = (double)used / c->experts;
    double hits = n == 1 ? sl_case_hits(w->k, plan).central : plan->share;
    double before = seconds[SLUICE_PART_EXPERTS] + seconds[SLUICE_PART_SHARED];
    multiply(w, SL_M_ROUTER, n, SLUICE_PART_ROUTER);
    double touched = multiply_experts(w, c->experts, share, n); /* per layer */
    double experts = seconds[SLUICE_PART_EXPERTS] + seconds[SLUICE_PART_SHARED] - before;
    multiply(w, SL_M_SHARED, n, SLUICE_PART_SHARED);
    double all = seconds[SLUICE_PART_EXPERTS] + seconds[SLUICE_PART_SHARED] - before;
    double last = experts / layers / touched * DOWN_SHARE;
    double wait = n == 1 ? mean_wait(w->k, used, 1 - hits, all / layers, last)
                         : wait_for(w->k, touched * (1 - hits), all / layers, last);
    w->experts_read += layers * touched * (1 - hits);
    w->waiting += layers * wait;
}

/* All but the experts, for tokens [position, position + n). */
static void add_chunk(struct work *w, size_t position, size_t n)
{
    multiply(w, SL_M_PROJECTIONS, n, SLUICE_PART_PROJECTIONS);
    if (w->k->session.key_panel_bytes)
        multiply(w, SL_M_INDEX_KEYS, n, SLUICE_PART_PROJECTIONS);
    if (selects(w->k, position + n - 1))
        multiply(w, SL_M_INDEX_QUERIES, n, SLUICE_PART_PROJECTIONS);
    add_attention(w, position, n);
    multiply(w, SL_M_DENSE, n, SLUICE_PART_DENSE);
}

/* N tokens for which experts are read once. */
static void add_span(struct work *w, const struct sl_memory_plan *plan, size_t position, size_t n)
{
    size_t chunk = w->k->chunk;
    for (size_t done = 0; done < n; done += chunk)
        add_chunk(w, position + done, sl_min(chunk, n - done));
    add_experts(w, plan, n);
}

static struct sl_speed speed_of(const struct work *w, size_t n)
{
    const struct sl_machine *m = w->k->machine;
    double tokens = (double)n;
    double read = w->experts_read * (double)w->k->sizes->stride / tokens;
    struct sl_speed s = {.ram_bytes = w->bytes / tokens + read, .drive_bytes = read};
    s.seconds = read / m->memory_all; /* what is read is written to memory */
    for (int i = 0; i < SLUICE_PARTS; i++) {
        s.part_seconds[i] = (i == SLUICE_PART_IO ? w->waiting : w->seconds[i]) / tokens;
        s.seconds += s.part_seconds[i];
    }
    double busy = s.seconds - s.part_seconds[SLUICE_PART_IO];
    if (read / drive_rate(w->k) > busy)
        s.bound = SL_BOUND_DRIVE;
    else
        s.bound = s.ram_bytes / m->memory_all > busy / 2 ? SL_BOUND_MEMORY : SL_BOUND_ARITHMETIC;
    return s;
}

struct sl_speed sl_predict_prompt(const struct sl_case *k, const struct sl_memory_plan *plan,
                                  size_t depth, size_t n)
{
    struct work w = {.k = k};
    size_t span = sl_max(k->session.span, k->chunk);
    for (size_t done = 0; done < n; done += span)
        add_span(&w, plan, depth + done, sl_min(span, n - done));
    multiply(&w, SL_M_HEAD, 1, SLUICE_PART_HEAD);
    return speed_of(&w, n);
}

struct sl_speed sl_predict_decode(const struct sl_case *k, const struct sl_memory_plan *plan,
                                  size_t depth)
{
    return sl_predict_prompt(k, plan, depth, 1);
}

/* ---- money ----------------------------------------------------------------------------------- */

struct sl_cost sl_cost_of(const struct sl_prices *p, double seconds_per_token)
{
    double seconds = 1e6 * seconds_per_token, kwh = p->watts * seconds / 3.6e6;
    double life = p->years * 365.25 * 86400;
    return (struct sl_cost){
        .kwh = kwh,
        .energy = kwh * p->kwh,
        .machine = p->machine * seconds / life,
    };
}
