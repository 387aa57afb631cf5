/* SPDX-License-Identifier: MIT */
/* Forecasts for programs. */
#include "tools/plan/plan.h"

static double per_second(double seconds)
{
    return seconds > 0 ? 1 / seconds : 0;
}

static json_int_t whole(uint64_t n)
{
    return (json_int_t)n;
}

static json_t *machine_json(const struct sl_machine *m, const char *filled)
{
    return json_pack("{s:b, s:s, s:s, s:s, s:I, s:f, s:f, s:f, s:s}", "measured", (int)m->measured,
                     "date", m->date, "cpu", m->cpu, "rung", m->rung, "threads",
                     (json_int_t)m->threads, "memory_all", m->memory_all, "drive_pread",
                     m->drive_pread, "drive_uring", m->drive_uring, "typical", filled);
}

static json_t *sizes_json(const struct sl_sizes *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "head_file", whole(s->head_file),
                     "resident_files", whole(s->resident_files), "expert_files",
                     whole(s->expert_files), "mtp_resident_file", whole(s->mtp_resident_file),
                     "mtp_expert_file", whole(s->mtp_expert_file), "embedding", whole(s->embedding),
                     "embedding_row", whole(s->embedding_row), "stride", whole(s->stride));
}

static json_t *memory_json(const struct sl_forecast *f)
{
    const struct sl_memory_plan *p = &f->memory;
    return json_pack("{s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:i, s:f, s:i, s:b}", "budget",
                     whole(f->wish.memory), "fits", (int)p->fits, "need", whole(p->need),
                     "resident", whole(p->resident), "kv", whole(p->kv), "scratch",
                     whole(p->scratch), "experts", whole(p->slot_bytes), "slots", (int)p->slots,
                     "share", p->share, "sessions", (int)f->session.sessions, "mtp", (int)f->mtp);
}

static json_t *speed_json(const struct sl_speed *s)
{
    static const char *const parts[SLUICE_PARTS] = {
        "projections", "indexer", "topk",   "attention", "router",
        "experts",     "io_wait", "shared", "dense",     "head",
    };
    json_t *ms = json_object();
    for (int i = 0; i < SLUICE_PARTS; i++)
        json_object_set_new(ms, parts[i], json_real(1000 * s->part_seconds[i]));
    return json_pack("{s:f, s:s, s:f, s:f, s:o}", "tps", per_second(s->seconds), "bound",
                     sl_bound_names[s->bound], "ram_bytes", s->ram_bytes, "drive_bytes",
                     s->drive_bytes, "ms", ms);
}

static json_t *rows_json(const struct sl_forecast *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->n_rows; i++)
        json_array_append_new(
            list, json_pack("{s:I, s:o, s:I, s:o}", "depth", whole(f->rows[i].depth), "decode",
                            speed_json(&f->rows[i].decode), "prompt", whole(f->rows[i].prompt),
                            "prefill", speed_json(&f->rows[i].prefill)));
    return list;
}

static json_t *cost_json(const struct sl_forecast *f)
{
    const struct sl_prices *p = &f->wish.prices;
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "watts", p->watts, "price_kwh", p->kwh,
                     "machine_price", p->machine, "years", p->years, "kwh", f->cost.kwh, "energy",
                     f->cost.energy, "machine", f->cost.machine);
}

static json_t *changes_json(const struct sl_plan_report *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->n_changes; i++) {
        const struct sl_forecast *f = &r->changes[i].forecast;
        json_array_append_new(list,
                              json_pack("{s:s, s:b, s:f, s:f, s:f}", "what", r->changes[i].what,
                                        "fits", (int)f->memory.fits, "share", f->memory.share,
                                        "decode_tps", per_second(f->rows[0].decode.seconds),
                                        "prefill_tps", per_second(f->rows[0].prefill.seconds)));
    }
    return list;
}

json_t *sl_plan_json(const struct sl_plan_report *r)
{
    const struct sl_forecast *f = &r->forecast;
    const struct sl_wish *w = &f->wish;
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:{s:f, s:f, s:f}, s:o, s:I, s:f, s:I, s:f, s:o, "
        "s:o}",
        "model", r->model, "architecture", w->config->architecture, "profile", w->profile,
        "context", whole(w->context), "chunk", whole(w->chunk), "machine",
        machine_json(w->machine, r->filled), "sizes", sizes_json(&f->sizes), "memory",
        memory_json(f), "hits", "low", f->hits.low, "central", f->hits.central, "high",
        f->hits.high, "speed", rows_json(f), "prompt", whole(f->prompt), "prompt_seconds",
        f->prompt_seconds, "answer", whole(f->answer), "answer_seconds", f->answer_seconds,
        "per_million_tokens", cost_json(f), "changes", changes_json(r));
}
