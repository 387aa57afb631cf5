/* SPDX-License-Identifier: MIT */
#include "tools/replay/replay_report.h"

#include "tools/common/status.h"

static const char *const kinds[2] = {"prompt", "answer"};

/* ---- numbers -------------------------------------------------------------------------------- */

/* Fraction found in memory; 1 when nothing was wanted. */
static double hits(const struct sl_replay_count *c)
{
    return c->wanted ? (double)c->held / (double)c->wanted : 1;
}

/* Experts read for a token, in all layers. */
static double reads(const struct sl_replay_report *r, const struct sl_replay_count *c, int kind)
{
    return (double)(c->wanted - c->held) / (double)r->choices->tokens[kind];
}

/* ---- text ----------------------------------------------------------------------------------- */

static void print_head(FILE *out, const struct sl_replay_report *r)
{
    const struct sl_choices *c = r->choices;
    fprintf(out, "%s: %u layers with %u experts, %u per token\n", r->trace, c->n_layers,
            c->model.experts, c->model.used);
    fprintf(out, "  prompt     %zu tokens in %zu passes\n", c->tokens[0], c->passes[0]);
    fprintf(out, "  answer     %zu tokens\n", c->tokens[1]);
    if (r->expert_bytes)
        fprintf(out, "  expert     %s\n", sl_human_bytes(r->expert_bytes).text);
    if (r->drive > 0)
        fprintf(out, "  drive      %.2f GB/s, %s\n", r->drive * 1e-9, r->drive_known);
}

/* Of a policy: what prompts and answers find, and what a token of an answer reads. */
static void print_policy(FILE *out, const struct sl_replay_report *r,
                         const struct sl_replay_count count[2])
{
    for (int kind = 0; kind < 2; kind++)
        if (r->choices->tokens[kind])
            fprintf(out, " %12.2f %%", 100 * hits(&count[kind]));
        else
            fprintf(out, " %14s", "-");
    if (r->choices->tokens[1] == 0) {
        fprintf(out, "\n");
        return;
    }
    double experts = reads(r, &count[1], 1), bytes = experts * (double)r->expert_bytes;
    fprintf(out, " %10.2f", experts);
    if (r->expert_bytes)
        fprintf(out, " %12s", sl_human_bytes((uint64_t)bytes).text);
    if (r->expert_bytes && r->drive > 0)
        fprintf(out, " %11.2f ms", 1e3 * bytes / r->drive);
    fprintf(out, "\n");
}

static void print_table(FILE *out, const struct sl_replay_report *r)
{
    fprintf(out, "\n  %6s %8s  %-8s %14s %14s %10s", "slots", "held", "policy", "prompt hits",
            "answer hits", "read/token");
    if (r->expert_bytes)
        fprintf(out, " %12s", "bytes");
    if (r->expert_bytes && r->drive > 0)
        fprintf(out, " %14s", "reading");
    fprintf(out, "\n");
    for (size_t i = 0; i < r->n; i++)
        for (int policy = 0; policy < SL_REPLAY_POLICIES; policy++) {
            if (policy == 0)
                fprintf(out, "  %6u %6.1f %%", r->budgets[i].slots,
                        100.0 * r->budgets[i].slots / r->choices->model.experts);
            else
                fprintf(out, "  %6s %8s", "", "");
            fprintf(out, "  %-8s", sl_replay_names[policy]);
            print_policy(out, r, r->budgets[i].count[policy]);
        }
}

static void print_run(FILE *out, const struct sl_replay_report *r, int kind)
{
    const struct sl_overlap *o = &r->choices->overlap[kind];
    double tokens = (double)o->tokens, experts = (double)(o->memory + o->read + o->ahead);
    if (o->tokens == 0)
        return;
    fprintf(out,
            "\n  as it ran, %s: %.2f ms per token, %s read; of its experts %.2f %% in memory, "
            "%.2f %% read ahead\n",
            kinds[kind], 1e3 * o->measured / tokens,
            sl_human_bytes((uint64_t)(o->bytes / tokens)).text, 100 * (double)o->memory / experts,
            100 * (double)o->ahead / experts);
    if (kind == 1)
        fprintf(out,
                "    %.3f × the sum over layers of before + max(resident, reading) + rest\n"
                "    %.3f × max(all computing, all reading)\n",
                o->measured / o->ideal, o->measured / o->floor);
}

void sl_replay_print(FILE *out, const struct sl_replay_report *r)
{
    print_head(out, r);
    print_table(out, r);
    for (int kind = 0; kind < 2; kind++)
        print_run(out, r, kind);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static json_t *known(bool is, double value)
{
    return is ? json_real(value) : json_null();
}

static json_t *count_json(const struct sl_replay_report *r, const struct sl_replay_count *c,
                          int kind)
{
    bool any = r->choices->tokens[kind] > 0;
    double experts = any ? reads(r, c, kind) : 0, bytes = experts * (double)r->expert_bytes;
    return json_pack("{s:o, s:o, s:o, s:o}", "hits", known(any, hits(c)), "experts_read",
                     known(any, experts), "bytes_read", known(any && r->expert_bytes, bytes),
                     "seconds", known(any && r->expert_bytes && r->drive > 0, bytes / r->drive));
}

static json_t *budget_json(const struct sl_replay_report *r, size_t i)
{
    json_t *policies = json_object();
    for (int policy = 0; policy < SL_REPLAY_POLICIES; policy++) {
        json_t *object = json_object();
        for (int kind = 0; kind < 2; kind++)
            json_object_set_new(object, kinds[kind],
                                count_json(r, &r->budgets[i].count[policy][kind], kind));
        json_object_set_new(policies, sl_replay_names[policy], object);
    }
    return json_pack("{s:I, s:f, s:o}", "slots", (json_int_t)r->budgets[i].slots, "share",
                     (double)r->budgets[i].slots / r->choices->model.experts, "policies", policies);
}

static json_t *run_json(const struct sl_replay_report *r, int kind)
{
    const struct sl_overlap *o = &r->choices->overlap[kind];
    double tokens = (double)o->tokens;
    if (o->tokens == 0)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:o}", "tokens", (json_int_t)o->tokens,
                     "memory", (json_int_t)o->memory, "read", (json_int_t)o->read, "ahead",
                     (json_int_t)o->ahead, "bytes_read", o->bytes / tokens, "seconds",
                     o->measured / tokens, "to_layers", known(kind == 1, o->measured / o->ideal),
                     "to_floor", known(kind == 1, o->measured / o->floor));
}

json_t *sl_replay_json(const struct sl_replay_report *r)
{
    const struct sl_choices *c = r->choices;
    json_t *budgets = json_array(), *ran = json_object();
    for (size_t i = 0; i < r->n; i++)
        json_array_append_new(budgets, budget_json(r, i));
    for (int kind = 0; kind < 2; kind++)
        json_object_set_new(ran, kinds[kind], run_json(r, kind));
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "trace", r->trace,
                     "layers", (json_int_t)c->n_layers, "experts", (json_int_t)c->model.experts,
                     "used", (json_int_t)c->model.used, "prompt_tokens", (json_int_t)c->tokens[0],
                     "prompt_passes", (json_int_t)c->passes[0], "answer_tokens",
                     (json_int_t)c->tokens[1], "expert_bytes",
                     r->expert_bytes ? json_integer((json_int_t)r->expert_bytes) : json_null(),
                     "drive", known(r->drive > 0, r->drive), "budgets", budgets, "as_it_ran", ran);
}
