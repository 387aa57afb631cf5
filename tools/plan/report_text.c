/* SPDX-License-Identifier: MIT */
/* Forecasts for people. */
#include <inttypes.h>
#include <string.h>

#include "tools/common/status.h"
#include "tools/plan/plan.h"

static double per_second(double seconds)
{
    return seconds > 0 ? 1 / seconds : 0;
}

static void print_model(FILE *out, const struct sl_plan_report *r)
{
    const struct sl_config *c = r->forecast.wish.config;
    const struct sl_sizes *s = &r->forecast.sizes;
    fprintf(out, "%s: %s, %u layers (%u dense)%s", r->model, c->architecture, c->layers,
            c->dense_layers, c->mtp_layers ? " + MTP" : "");
    if (s->stride)
        fprintf(out, ", %u experts, %u per token", c->experts, c->experts_used);
    fprintf(out, "; profile %s\n", r->forecast.wish.profile);
    uint64_t mtp = s->mtp_resident_file + s->mtp_expert_file;
    fprintf(out, "  drive      %s: experts %s, the rest %s",
            sl_human_bytes(s->head_file + s->resident_files + s->expert_files + mtp).text,
            sl_human_bytes(s->expert_files).text,
            sl_human_bytes(s->head_file + s->resident_files).text);
    if (mtp)
        fprintf(out, ", MTP layer %s", sl_human_bytes(mtp).text);
    fprintf(out, "\n");
}

static void print_machine(FILE *out, const struct sl_plan_report *r)
{
    const struct sl_machine *m = r->forecast.wish.machine;
    double drive = m->drive_uring > m->drive_pread ? m->drive_uring : m->drive_pread;
    fprintf(out, "  machine    %s, %s, %" PRId64 " threads, memory %.1f GB/s, drive %.1f GB/s\n",
            m->cpu[0] ? m->cpu : "this one", m->rung, m->threads, m->memory_all * 1e-9,
            drive * 1e-9);
    if (!m->measured)
        fprintf(out, "             typical figures: `sluice doctor` measures this machine\n");
    else
        fprintf(out, "             measured %s by `sluice doctor`%s%s\n", m->date,
                r->filled[0] ? "; typical figures for " : "", r->filled);
}

static void print_memory(FILE *out, const struct sl_forecast *f)
{
    const struct sl_memory_plan *p = &f->memory;
    fprintf(out, "  memory     %s may be used\n", sl_human_bytes(f->wish.memory).text);
    fprintf(out, "    %10s  weights that every token needs%s\n", sl_human_bytes(p->resident).text,
            f->mtp ? ", and the MTP layer's" : "");
    fprintf(out, "    %10s  KV cache%s of ", sl_human_bytes(p->kv).text,
            f->session.sessions > 1 ? "s" : "");
    if (f->session.sessions > 1)
        fprintf(out, "%u sessions of ", f->session.sessions);
    fprintf(out, "%zu tokens\n", f->wish.context);
    fprintf(out, "    %10s  scratch, chunks of %zu tokens\n", sl_human_bytes(p->scratch).text,
            f->wish.chunk);
    if (p->staging)
        fprintf(out, "    %10s  staging: blocks that experts pass through\n",
                sl_human_bytes(p->staging).text);
    if (p->fits && f->sizes.stride)
        fprintf(out, "    %10s  experts: %u of %u in each of %u layers (%.0f %%), %s each\n",
                sl_human_bytes(p->slot_bytes).text, p->slots, f->wish.config->experts,
                p->moe_layers, 100 * p->share, sl_human_bytes(f->sizes.stride).text);
}

static void print_hits(FILE *out, const struct sl_forecast *f)
{
    if (f->memory.share == 1)
        return;
    if (f->wish.hits > 0)
        fprintf(out, "  hits       %.0f %% of expert uses, as given\n", 100 * f->hits.central);
    else
        fprintf(
            out,
            "  hits       %.0f %% of expert uses, between %.0f and %.0f %%: an estimate from what "
            "other\n             programs measured on similar models, share^0.32 (0.45 … 0.25)\n",
            100 * f->hits.central, 100 * f->hits.low, 100 * f->hits.high);
    if (f->memory.slots < SL_FEW_SLOTS)
        fprintf(out, "             fewer than %d slots per layer: hits collapse below %.0f %%\n",
                SL_FEW_SLOTS, 100 * SL_FEW_HITS);
}

static void print_speeds(FILE *out, const struct sl_forecast *f)
{
    fprintf(out, "\n  after tokens  answer tok/s  limit        prompt tok/s  limit\n");
    for (size_t i = 0; i < f->n_rows; i++) {
        const struct sl_speed *d = &f->rows[i].decode, *p = &f->rows[i].prefill;
        fprintf(out, "  %12zu  %12.2f  %-11s  %12.1f  %s\n", f->rows[i].depth,
                per_second(d->seconds), sl_bound_names[d->bound], per_second(p->seconds),
                sl_bound_names[p->bound]);
    }
    const struct sl_speed *d = &f->rows[0].decode;
    fprintf(out, "  a token of the answer goes over %s of memory and reads %s\n",
            sl_human_bytes((uint64_t)d->ram_bytes).text,
            sl_human_bytes((uint64_t)d->drive_bytes).text);
    fprintf(out, "  a prompt of %zu tokens takes %s, an answer of %zu tokens after it %s\n",
            f->prompt, sl_human_seconds(f->prompt_seconds).text, f->answer,
            sl_human_seconds(f->answer_seconds).text);
}

static void print_cost(FILE *out, const struct sl_forecast *f)
{
    const struct sl_prices *p = &f->wish.prices;
    if (p->watts <= 0 && p->machine <= 0)
        return;
    fprintf(out, "\n  a million tokens of answers:");
    if (p->watts > 0)
        fprintf(out, " %.1f kWh", f->cost.kwh);
    if (p->watts > 0 && p->kwh > 0)
        fprintf(out, ", %.2f for energy", f->cost.energy);
    if (p->machine > 0)
        fprintf(out, "%s %.2f for the machine (used up in %g years of work)",
                p->watts > 0 ? "," : "", f->cost.machine, p->years);
    fprintf(out, "\n");
}

static double percent(double before, double after)
{
    return 100 * (before / after - 1);
}

static void print_changes(FILE *out, const struct sl_plan_report *r)
{
    const struct sl_forecast *f = &r->forecast;
    if (r->n_changes == 0)
        return;
    fprintf(out, "\n  with …                     answer tok/s          prompt tok/s\n");
    for (int i = 0; i < r->n_changes; i++) {
        const struct sl_forecast *to = &r->changes[i].forecast;
        fprintf(out, "  %-25s", r->changes[i].what);
        if (to->memory.fits)
            fprintf(out, "  %12.2f (%+.0f %%)  %12.1f (%+.0f %%)\n",
                    per_second(to->rows[0].decode.seconds),
                    percent(f->rows[0].decode.seconds, to->rows[0].decode.seconds),
                    per_second(to->rows[0].prefill.seconds),
                    percent(f->rows[0].prefill.seconds, to->rows[0].prefill.seconds));
        else
            fprintf(out, "  does not fit\n");
    }
}

/* What would make it fit. */
static void print_misfit(FILE *out, const struct sl_plan_report *r)
{
    const struct sl_forecast *f = &r->forecast;
    const struct sl_memory_plan *p = &f->memory;
    uint64_t least = p->need - p->resident - p->kv - p->scratch;
    size_t context = sl_context_that_fits(f);
    char memory[32];
    const char *found = "", *between = "";
    if (least)
        fprintf(out, "    %10s  the %u experts of one token in each of %u layers, and staging\n",
                sl_human_bytes(least).text, f->wish.config->experts_used, p->moe_layers);
    fprintf(out, "    %10s  together: %s too much\n", sl_human_bytes(p->need).text,
            sl_human_bytes(p->need - f->wish.memory).text);
    fprintf(out, "\n  It does not fit.  What would:\n");
    sl_budget_print(memory, p->need);
    fprintf(out, "    --memory %s, with as much free\n", memory);
    if (context)
        fprintf(out, "    -c %zu\n", context);
    for (int i = 0; i < r->n_changes; i++) {
        if (!r->changes[i].forecast.memory.fits)
            continue;
        fprintf(out, "%s%s", found[0] ? "" : "    ", between);
        found = r->changes[i].what;
        between = ", ";
        fprintf(out, "%s", found);
    }
    fprintf(out, "%s", found[0] ? "\n" : "");
}

void sl_plan_print(FILE *out, const struct sl_plan_report *r)
{
    const struct sl_forecast *f = &r->forecast;
    print_model(out, r);
    print_machine(out, r);
    print_memory(out, f);
    if (!f->memory.fits) {
        print_misfit(out, r);
        return;
    }
    print_hits(out, f);
    print_speeds(out, f);
    print_cost(out, f);
    print_changes(out, r);
}

void sl_plan_print_table(FILE *out, const struct sl_plan_report *reports, size_t n)
{
    print_machine(out, &reports[0]);
    fprintf(out, "  memory     %s may be used\n\n",
            sl_human_bytes(reports[0].forecast.wish.memory).text);
    fprintf(out, "  %-10s %11s %11s %9s %6s %13s %13s\n", "profile", "drive", "resident", "experts",
            "hits", "answer tok/s", "prompt tok/s");
    for (size_t i = 0; i < n; i++) {
        const struct sl_forecast *f = &reports[i].forecast;
        const struct sl_sizes *s = &f->sizes;
        fprintf(out, "  %-10s %11s %11s", f->wish.profile,
                sl_human_bytes(s->head_file + s->resident_files + s->expert_files +
                               s->mtp_resident_file + s->mtp_expert_file)
                    .text,
                sl_human_bytes(f->memory.resident).text);
        if (f->memory.fits)
            fprintf(out, " %7.0f %% %4.0f %% %13.2f %13.1f\n", 100 * f->memory.share,
                    100 * f->hits.central, per_second(f->rows[0].decode.seconds),
                    per_second(f->rows[0].prefill.seconds));
        else
            fprintf(out, "  does not fit: needs %s\n", sl_human_bytes(f->memory.need).text);
    }
}
