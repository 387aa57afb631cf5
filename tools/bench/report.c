/* SPDX-License-Identifier: MIT */
#include "tools/bench/report.h"

#include <inttypes.h>

#include "tools/common/statistics.h"
#include "tools/common/status.h"

const char *const sl_bench_formats[] = {"md", "csv", "json", NULL};

/* Keys of the split, in the order of enum sluice_part. */
static const char *const parts[SLUICE_PARTS] = {
    "projections", "indexer", "topk",   "attention", "router",
    "experts",     "io_wait", "shared", "dense",     "head",
};

/* ---- numbers -------------------------------------------------------------------------------- */

/* What a row says, whatever the format. */
struct numbers {
    double mem_gbps, mem_fraction, io_gbps, io_fraction; /* io_fraction < 0: not known */
    double read_gbps, read_fraction; /* while something was being read; < 0: not known */
    double expert_hit, expert_ahead, bytes_per_token;
    double ms[SLUICE_PARTS];
};

static struct numbers numbers_of(const struct sl_bench_table *t, const struct sl_bench_row *r)
{
    struct numbers n = {0};
    double touched = 0, reading = r->used.read_seconds;
    double wanted = (double)(r->used.expert_hits + r->used.expert_ahead + r->used.expert_misses);
    for (int i = 0; i < SLUICE_PARTS; i++) {
        touched += (double)r->used.part_bytes[i];
        n.ms[i] = 1000 * r->used.part_seconds[i] / r->tokens;
    }
    n.mem_gbps = touched / r->seconds * 1e-9;
    n.mem_fraction = touched / r->seconds / t->bandwidth;
    n.io_gbps = r->read / r->seconds * 1e-9;
    n.io_fraction = r->read > 0 ? (t->drive > 0 ? r->read / r->seconds / t->drive : -1) : 0;
    n.read_gbps = reading > 0 ? r->read / reading * 1e-9 : -1;
    n.read_fraction = reading > 0 && t->drive > 0 ? r->read / reading / t->drive : -1;
    n.expert_ahead = wanted > 0 ? (double)r->used.expert_ahead / wanted : 0;
    n.expert_hit = wanted > 0 ? (double)r->used.expert_hits / wanted : 1;
    n.bytes_per_token = touched / r->tokens;
    return n;
}

static unsigned all_layers(struct sl_layer_count layers)
{
    return layers.dense + layers.moe;
}

/* Of drafts there is something to tell: some were made, or a trial said that they do not pay. */
static bool has_drafts(const struct sl_bench_row *r)
{
    return r->decode && (r->used.drafts > 0 || r->used.draft_seconds[1] > 0);
}

/* Tokens per second that the last trial had without drafts, or with them; < 0: not known. */
static double drafts_tps(const struct sl_bench_row *r, bool with)
{
    double seconds = r->used.draft_seconds[with];
    return seconds > 0 ? 1 / seconds : -1;
}

/* ---- head ----------------------------------------------------------------------------------- */

static void head_csv(FILE *out, const struct sl_bench_table *t)
{
    fprintf(out, "test,depth,n,tps,tps_sd,mem_gbps,mem_fraction,io_gbps,io_fraction,read_gbps,"
                 "read_fraction,expert_hit,expert_ahead,major_faults,bytes_per_token");
    for (int i = 0; i < SLUICE_PARTS; i++)
        fprintf(out, ",ms_%s", parts[i]);
    fprintf(out, "%s%s%s%s\n", t->cold ? ",cold" : "", all_layers(t->layers) ? ",layers" : "",
            t->sessions > 1 ? ",sessions" : "",
            t->drafts ? ",drafts,drafts_made,drafts_right,tps_without,tps_with" : "");
}

void sl_bench_head(FILE *out, const struct sl_bench_table *t)
{
    if (t->format == SL_BENCH_CSV) {
        head_csv(out, t);
    } else if (t->format == SL_BENCH_JSON) {
        fprintf(out, "[");
    } else {
        if (all_layers(t->layers))
            fprintf(out, "%u layers (%u+%u), extrapolated from %u (%u+%u)\n\n",
                    all_layers(t->layers), t->layers.dense, t->layers.moe, all_layers(t->from),
                    t->from.dense, t->from.moe);
        fprintf(out,
                "| test | t/s | memory | read | expert hits | per token | ms per token |%s\n"
                "| --- | ---: | ---: | ---: | ---: | ---: | --- |%s\n",
                t->drafts ? " drafts |" : "", t->drafts ? " --- |" : "");
    }
}

/* ---- rows ----------------------------------------------------------------------------------- */

void sl_bench_name(const struct sl_bench_row *r, char *out, size_t size)
{
    char depth[32] = "", sessions[32] = "";
    if (r->depth > 0)
        snprintf(depth, sizeof depth, " @ d%zu", r->depth);
    if (r->sessions > 1)
        snprintf(sessions, sizeof sessions, " x%zu", r->sessions);
    snprintf(out, size, "%s%zu%s%s%s", r->decode ? "tg" : "pp", r->n, sessions, depth,
             r->cold ? " cold" : "");
}

/* " off, 12 of 32 right, 23.50 → 21.04 t/s |", or empty. */
static void print_drafts_md(FILE *out, const struct sl_bench_row *r)
{
    double without = drafts_tps(r, false), with = drafts_tps(r, true);
    if (has_drafts(r))
        fprintf(out, " %s", sl_verdict(r->used.drafting));
    if (r->used.drafts > 0)
        fprintf(out, ", %" PRIu64 " of %" PRIu64 " right", r->used.drafts_right, r->used.drafts);
    if (has_drafts(r) && without > 0 && with > 0)
        fprintf(out, ", %.2f → %.2f t/s", without, with);
    fprintf(out, " |");
}

static void print_md(FILE *out, const struct sl_bench_table *t, const struct sl_bench_row *r)
{
    const struct numbers n = numbers_of(t, r);
    const char *between = "";
    char name[96];
    sl_bench_name(r, name, sizeof name);
    fprintf(out, "| %s", name);
    if (all_layers(t->layers))
        fprintf(out, ", %u layers", all_layers(t->layers));
    fprintf(out, " | %.2f ± %.2f | %.1f GB/s, %.0f %% | ", r->tps, r->tps_sd, n.mem_gbps,
            100 * n.mem_fraction);
    if (r->read > 0)
        fprintf(out, "%.2f GB/s", n.io_gbps);
    if (n.io_fraction > 0)
        fprintf(out, ", %.0f %%", 100 * n.io_fraction);
    if (n.read_gbps > 0)
        fprintf(out, "; while reading %.2f", n.read_gbps);
    if (n.read_fraction > 0)
        fprintf(out, ", %.0f %%", 100 * n.read_fraction);
    fprintf(out, " | %.1f %%", 100 * n.expert_hit);
    if (n.expert_ahead > 0)
        fprintf(out, ", %.1f %% ahead", 100 * n.expert_ahead);
    fprintf(out, " | %.1f MB | ", n.bytes_per_token * 1e-6);
    for (int i = 0; i < SLUICE_PARTS; i++)
        if (n.ms[i] >= 0.0005) {
            fprintf(out, "%s%s %.3f", between, parts[i], n.ms[i]);
            between = ", ";
        }
    fprintf(out, " |");
    if (t->drafts)
        print_drafts_md(out, r);
    fprintf(out, "\n");
}

/* A number that is not negative, or else WITHOUT. */
static struct sl_human known(double value, const char *without)
{
    struct sl_human h;
    if (value >= 0)
        snprintf(h.text, sizeof h.text, "%.6g", value);
    else
        snprintf(h.text, sizeof h.text, "%s", without);
    return h;
}

static void print_csv(FILE *out, const struct sl_bench_table *t, const struct sl_bench_row *r)
{
    const struct numbers n = numbers_of(t, r);
    fprintf(out, "%s%zu,%zu,%zu,%.6g,%.6g,%.6g,%.6g,%.6g,", r->decode ? "tg" : "pp", r->n, r->depth,
            r->n, r->tps, r->tps_sd, n.mem_gbps, n.mem_fraction, n.io_gbps);
    fprintf(out, "%s,%s,%s,", known(n.io_fraction, "").text, known(n.read_gbps, "").text,
            known(n.read_fraction, "").text);
    fprintf(out, "%.6g,%.6g,%" PRIu64 ",%.0f", n.expert_hit, n.expert_ahead, r->faults,
            n.bytes_per_token);
    for (int i = 0; i < SLUICE_PARTS; i++)
        fprintf(out, ",%.6g", n.ms[i]);
    if (t->cold)
        fprintf(out, ",%d", r->cold);
    if (all_layers(t->layers))
        fprintf(out, ",%u", all_layers(t->layers));
    if (t->sessions > 1)
        fprintf(out, ",%zu", r->sessions);
    if (t->drafts && has_drafts(r))
        fprintf(out, ",%s,%" PRIu64 ",%" PRIu64 ",%s,%s", sl_verdict(r->used.drafting),
                r->used.drafts, r->used.drafts_right, known(drafts_tps(r, false), "").text,
                known(drafts_tps(r, true), "").text);
    else if (t->drafts)
        fprintf(out, ",,,,,");
    fprintf(out, "\n");
}

static void print_drafts_json(FILE *out, const struct sl_bench_row *r)
{
    if (!has_drafts(r)) {
        fprintf(out, "\"drafts\": null, ");
        return;
    }
    fprintf(out,
            "\"drafts\": {\"state\": \"%s\", \"made\": %" PRIu64 ", \"right\": %" PRIu64
            ", \"tps_without\": %s, \"tps_with\": %s}, ",
            sl_verdict(r->used.drafting), r->used.drafts, r->used.drafts_right,
            known(drafts_tps(r, false), "null").text, known(drafts_tps(r, true), "null").text);
}

static void print_json(FILE *out, const struct sl_bench_table *t, const struct sl_bench_row *r)
{
    const struct numbers n = numbers_of(t, r);
    fprintf(out,
            "%s\n  {\"test\": \"%s%zu\", \"depth\": %zu, \"n\": %zu, \"tps\": %.6g, \"tps_sd\": "
            "%.6g, \"mem_gbps\": %.6g, \"mem_fraction\": %.6g, ",
            t->printed ? "," : "", r->decode ? "tg" : "pp", r->n, r->depth, r->n, r->tps, r->tps_sd,
            n.mem_gbps, n.mem_fraction);
    fprintf(out,
            "\"io_gbps\": %.6g, \"io_fraction\": %s, \"read_gbps\": %s, \"read_fraction\": %s, ",
            n.io_gbps, known(n.io_fraction, "null").text, known(n.read_gbps, "null").text,
            known(n.read_fraction, "null").text);
    fprintf(out,
            "\"expert_hit\": %.6g, \"expert_ahead\": %.6g, \"major_faults\": %" PRIu64
            ", \"bytes_per_token\": %.0f, ",
            n.expert_hit, n.expert_ahead, r->faults, n.bytes_per_token);
    if (r->cold)
        fprintf(out, "\"cold\": true, ");
    if (all_layers(t->layers))
        fprintf(out, "\"layers\": %u, ", all_layers(t->layers));
    if (r->sessions > 1)
        fprintf(out, "\"sessions\": %zu, ", r->sessions);
    if (t->drafts)
        print_drafts_json(out, r);
    fprintf(out, "\"ms\": {");
    for (int i = 0; i < SLUICE_PARTS; i++)
        fprintf(out, "%s\"%s\": %.6g", i ? ", " : "", parts[i], n.ms[i]);
    fprintf(out, "}}");
}

void sl_bench_row(FILE *out, struct sl_bench_table *t, const struct sl_bench_row *row)
{
    if (t->format == SL_BENCH_MD)
        print_md(out, t, row);
    else if (t->format == SL_BENCH_CSV)
        print_csv(out, t, row);
    else
        print_json(out, t, row);
    fflush(out);
    t->printed = true;
}

void sl_bench_foot(FILE *out, const struct sl_bench_table *t)
{
    if (t->format == SL_BENCH_JSON)
        fprintf(out, "\n]\n");
}
