/* SPDX-License-Identifier: MIT */
#include "tools/common/statistics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/common/status.h"

/* Below this share of what was measured a drive is called slow, once it was read for so long. */
static const double slow = 0.7, long_enough = 2;

static double touched_bytes(const struct sluice_stats *s)
{
    double sum = 0;
    for (int i = 0; i < SLUICE_PARTS; i++)
        sum += (double)s->part_bytes[i];
    return sum;
}

/* The limit of READER.  doctor may have found only one. */
static double drive_limit(const struct sl_machine *m, const char *reader)
{
    bool uring = strcmp(reader, "uring") == 0;
    double own = uring ? m->drive_uring : m->drive_pread;
    return own > 0 ? own : uring ? m->drive_pread : m->drive_uring;
}

struct sl_answer sl_answer_make(const struct sluice_stats *prompt, const struct sluice_stats *end,
                                uint64_t tokens, const char *reader,
                                const struct sl_machine *machine)
{
    bool measured = machine->measured;
    return (struct sl_answer){
        .tokens = tokens,
        .prefill_tokens = prompt->prefill_tokens,
        .reused_tokens = prompt->reused_tokens,
        .prefill_seconds = prompt->prefill_seconds,
        .decode_tokens = end->decode_tokens - prompt->decode_tokens,
        .decode_seconds = end->decode_seconds - prompt->decode_seconds,
        .touched = touched_bytes(end) - touched_bytes(prompt),
        .read = (double)(end->expert_bytes - prompt->expert_bytes),
        .expert_hits = end->expert_hits - prompt->expert_hits,
        .expert_misses = end->expert_misses - prompt->expert_misses,
        .expert_ahead = end->expert_ahead - prompt->expert_ahead,
        .slots = end->expert_slots,
        .slots_lost = prompt->expert_slots - end->expert_slots,
        .guessing = end->guessing,
        .guess_seconds = {end->guess_seconds[0], end->guess_seconds[1]},
        .drafts = end->drafts - prompt->drafts,
        .drafts_right = end->drafts_right - prompt->drafts_right,
        .drafting = end->drafting,
        .draft_seconds = {end->draft_seconds[0], end->draft_seconds[1]},
        .draft_experts = {end->draft_experts[0], end->draft_experts[1]},
        .memory_limit = measured ? machine->memory_all : 0,
        .drive_limit = measured ? drive_limit(machine, reader) : 0,
        .prefill_read = (double)prompt->expert_bytes,
        .kv_bytes = end->kv_bytes,
        .reader = reader,
        .multiplier = end->multiplier,
        .multiplier_products = end->multiplier_products,
    };
}

void sl_answer_add_drive(struct sl_answer *a, const char *name, uint64_t bytes, double seconds)
{
    if (a->n_drives == SL_ANSWER_DRIVES)
        return;
    struct sl_answer_drive *d = &a->drives[a->n_drives++];
    snprintf(d->name, sizeof d->name, "%s", name);
    d->bytes = (double)bytes;
    d->seconds = seconds;
}

/* What is left of the text's room. */
struct text {
    char *at;
    size_t room;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->at, t->room, format, args);
    va_end(args);
    size_t used = n > 0 && (size_t)n < t->room ? (size_t)n : 0;
    t->at += used;
    t->room -= used;
}

/* " · RAM 71 %", or the rate where the limit was not measured. */
static void add_rate(struct text *t, const char *what, double rate, double limit)
{
    if (limit > 0)
        add(t, " · %s %.0f %%", what, 100 * rate / limit);
    else
        add(t, " · %s %.1f GB/s", what, rate * 1e-9);
}

static double experts_wanted(const struct sl_answer *a)
{
    return (double)(a->expert_hits + a->expert_misses + a->expert_ahead);
}

const char *sl_verdict(int says)
{
    return says == 0 ? "trying" : says > 0 ? "on" : "off";
}

/* Whether look-ahead pays, once that was tried, by the waiting of some tokens without and with. */
static void add_guessing(struct text *t, const struct sl_answer *a)
{
    double without = a->guess_seconds[0], with = a->guess_seconds[1];
    if (a->guessing != 0 && without > 0)
        add(t, " · look-ahead %s (%+.0f %% waiting)", sl_verdict(a->guessing),
            100 * (with - without) / without);
}

/* Drafts: how many were right, and what they cost and gave, as far as that is known. */
static void add_drafting(struct text *t, const struct sl_answer *a)
{
    const double *seconds = a->draft_seconds, *experts = a->draft_experts;
    if (a->drafts == 0)
        return;
    add(t, " · drafts %s (%.0f %% right", sl_verdict(a->drafting),
        100 * (double)a->drafts_right / (double)a->drafts);
    if (a->drafting != 0 && seconds[0] > 0)
        add(t, ", %.3g → %.3g ms/tok", 1e3 * seconds[0], 1e3 * seconds[1]);
    if (experts[0] > 0)
        add(t, ", %+.0f %% experts", 100 * (experts[1] / experts[0] - 1));
    add(t, ")");
}

static void add_decoding(struct text *t, const struct sl_answer *a)
{
    double wanted = experts_wanted(a);
    add_rate(t, "RAM", a->touched / a->decode_seconds, a->memory_limit);
    if (a->read > 0)
        add_rate(t, "NVMe", a->read / a->decode_seconds, a->drive_limit);
    if (wanted > 0)
        add(t, " · experts %.1f %% hit", 100 * (double)a->expert_hits / wanted);
    if (a->read > 0)
        add(t, ", %s read", sl_human_bytes((uint64_t)a->read).text);
    add_guessing(t, a);
    add_drafting(t, a);
    if (a->slots_lost > 0)
        add(t, " · memory was short: %" PRIu32 " experts per layer kept, of %" PRIu32, a->slots,
            a->slots + a->slots_lost);
}

static void add_slow_drives(struct text *t, const struct sl_answer *a)
{
    for (unsigned i = 0; i < a->n_drives; i++) {
        const struct sl_answer_drive *d = &a->drives[i];
        if (d->seconds >= long_enough && d->bytes < slow * a->drive_limit * d->seconds)
            add(t, " · %s gives %.0f %% of its speed: too hot?", d->name,
                100 * d->bytes / d->seconds / a->drive_limit);
    }
}

void sl_answer_print(const struct sl_answer *a, char *out, size_t size)
{
    struct text t = {out, size};
    bool decoded = a->decode_tokens > 0 && a->decode_seconds > 0;
    add(&t, "%" PRIu64 " tok", a->tokens);
    if (decoded)
        add(&t, " · %.1f tok/s", (double)a->decode_tokens / a->decode_seconds);
    add(&t, " · prefill %" PRIu64 " tok ", a->prefill_tokens);
    if (a->prefill_seconds < 60)
        add(&t, "%.1f s", a->prefill_seconds);
    else
        add(&t, "%s", sl_human_seconds(a->prefill_seconds).text);
    if (a->reused_tokens > 0)
        add(&t, ", %" PRIu64 " reused", a->reused_tokens);
    if (a->multiplier_products > 0)
        add(&t, " by %s", a->multiplier);
    if (decoded)
        add_decoding(&t, a);
    add_slow_drives(&t, a);
}

static json_t *ratio(double value, double by)
{
    return by > 0 ? json_real(value / by) : json_null();
}

static json_t *drives_json(const struct sl_answer *a)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < a->n_drives; i++) {
        const struct sl_answer_drive *d = &a->drives[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:f, s:o, s:o}", "name", d->name, "read_bytes",
                                        (json_int_t)d->bytes, "read_seconds", d->seconds, "gbps",
                                        ratio(d->bytes * 1e-9, d->seconds), "fraction",
                                        ratio(d->bytes, d->seconds * a->drive_limit)));
    }
    return list;
}

/* What is not known yet is null. */
static json_t *drafts_json(const struct sl_answer *a)
{
    if (a->drafts == 0)
        return json_null();
    return json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "state", sl_verdict(a->drafting), //
                     "made", (json_int_t)a->drafts,                                           //
                     "right", (json_int_t)a->drafts_right,                                    //
                     "seconds_without", ratio(a->draft_seconds[0], 1),                        //
                     "seconds_with", ratio(a->draft_seconds[1], 1),                           //
                     "experts_without", ratio(a->draft_experts[0], 1),                        //
                     "experts_with", ratio(a->draft_experts[1], 1));
}

json_t *sl_answer_json(const struct sl_answer *a)
{
    double seconds = a->decode_tokens > 0 ? a->decode_seconds : 0;
    return json_pack(
        "{s:I, s:o, s:I, s:f, s:I, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:s, s:I, s:I, s:I, "
        "s:s, s:s, s:I, s:I, s:o, s:o}",
        "tokens", (json_int_t)a->tokens,                                   //
        "tps", ratio((double)a->decode_tokens, seconds),                   //
        "prefill_tokens", (json_int_t)a->prefill_tokens,                   //
        "prefill_seconds", a->prefill_seconds,                             //
        "decode_tokens", (json_int_t)a->decode_tokens,                     //
        "decode_seconds", a->decode_seconds,                               //
        "mem_gbps", ratio(a->touched * 1e-9, seconds),                     //
        "mem_fraction", ratio(a->touched, seconds * a->memory_limit),      //
        "io_gbps", ratio(a->read * 1e-9, seconds),                         //
        "io_fraction", ratio(a->read, seconds * a->drive_limit),           //
        "expert_hit", ratio((double)a->expert_hits, experts_wanted(a)),    //
        "expert_ahead", ratio((double)a->expert_ahead, experts_wanted(a)), //
        "expert_slots", (json_int_t)a->slots, "look_ahead",
        sl_verdict(a->guessing),                           //
        "read_bytes", (json_int_t)a->read,                 //
        "prefill_read_bytes", (json_int_t)a->prefill_read, //
        "kv_bytes", (json_int_t)a->kv_bytes,               //
        "reader", a->reader, "multiplier", a->multiplier, "multiplier_products",
        (json_int_t)a->multiplier_products, "reused_tokens", (json_int_t)a->reused_tokens, "drives",
        drives_json(a), "drafts", drafts_json(a));
}
