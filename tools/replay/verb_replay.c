/* SPDX-License-Identifier: MIT */
/* `sluice replay`: what other caches of experts would have found and read, from a trace. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"
#include "runtime/base/err.h"
#include "runtime/container/container.h"
#include "tools/common/options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/plan/forecast.h"
#include "tools/replay/replay_report.h"
#include "tools/verbs.h"

enum { MAX_PROFILES = 16, DEFAULT_CONTEXT = 32768 };

struct replay_options {
    const char *trace, *model, *like, *slots;
    int profile;
    uint64_t memory, context;
    double drive;
    bool json;
};

static const char *profile_names[MAX_PROFILES + 1];

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "TRACE", SL_FIELD(SL_STRING, struct replay_options, trace), .positional = true,
     .required = true, .help = "What `sluice run --trace` wrote"},
    {.name = "slots", SL_FIELD(SL_STRING, struct replay_options, slots), .value = "N,…",
     .help = "Experts held in each layer; default: 10, 20, 30, 50 and 75 % of them",
     .group = "Cache"},
    {.name = "memory", SL_FIELD(SL_SIZE, struct replay_options, memory), .value = "SIZE",
     .help = "Memory that may be used in all: as many slots as `sluice plan` finds room for; with "
             "-m or --like", .group = "Cache"},
    {.name = "ctx", .letter = 'c', SL_FIELD(SL_SIZE, struct replay_options, context), .value = "N",
     .low = 1, .high = 16777216,
     .help = "With --memory: tokens of context to make room for; default: 32k, or what the model "
             "was made for", .group = "Cache"},
    {.name = "model", .letter = 'm', SL_FIELD(SL_STRING, struct replay_options, model),
     .value = "DIR", .help = "Container of the model that was traced: says how large experts are",
     .group = "Model"},
    {.name = "like", SL_FIELD(SL_STRING, struct replay_options, like), .value = "v3|v3.2|FILE",
     .help = "Instead: a container that does not exist, of DeepSeek-V3, V3.2, or a model with this "
             "config.json", .group = "Model"},
    {.name = "profile", SL_FIELD(SL_ENUM, struct replay_options, profile), .names = profile_names,
     .help = "Precision (docs/quantisation.md); default: the container's own, else quality",
     .group = "Model"},
    {.name = "drive", SL_FIELD(SL_REAL, struct replay_options, drive), .value = "GB/S",
     .low = 0.001, .high = 10000,
     .help = "Speed of the drive; default: what `sluice doctor` measured, or a typical one",
     .group = "Model"},
    {.name = "json", SL_FIELD(SL_FLAG, struct replay_options, json), .help = "Report as JSON",
     .group = "Output"},
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice replay choices.gz",
    "sluice replay choices.gz -m /models/v32 --memory 96G --drive 11",
    "sluice replay choices.gz --like v3.2 --slots 16,32,64",
    NULL,
};

static const struct sl_command command = {
    .name = "replay",
    .summary = "what other caches of experts would have found, from a trace",
    .description = "Goes through the choices of a trace without the model: lru and lfu are the "
                   "textbook's caches, sluice is the runtime's, bound the most that any cache can "
                   "find (docs/replay.md).",
    .rows = rows,
    .examples = examples,
};

/* ---- what the model says -------------------------------------------------------------------- */

struct model {
    struct sl_config config;
    struct sl_manifest *manifest; /* of -m */
    struct sl_machine machine;
    char known[64]; /* how the drive's speed is known */
};

static int open_model(struct model *m, const struct replay_options *o, struct sluice_err *err)
{
    const struct sl_synth_opts like = {.like = o->like, .all_layers = true};
    if (o->like)
        return sl_like_config(&m->config, &like, err);
    int status = sl_manifest_open(&m->manifest, o->model, err);
    return status < 0 ? status : sl_config_read(&m->config, o->model, err);
}

static int open_machine(struct model *m, struct sluice_err *err)
{
    char path[SL_PATH_MAX], filled[160];
    int status = sl_machine_path(path, sizeof path, err);
    if (status == 0)
        status = sl_machine_load(&m->machine, path, err);
    if (status < 0)
        return status;
    sl_machine_fill(&m->machine, filled, sizeof filled);
    if (m->machine.measured)
        snprintf(m->known, sizeof m->known, "measured %s", m->machine.date);
    else
        snprintf(m->known, sizeof m->known, "a typical one: `sluice doctor` measures this machine");
    return 0;
}

static int check_model(const struct sl_config *c, const struct sl_trace_model *t, const char *name,
                       struct sluice_err *err)
{
    if (c->layers == t->layers && c->dense_layers == t->dense && c->experts == t->experts &&
        c->experts_used == t->used)
        return 0;
    return sl_fail(err, SLUICE_EARG,
                   "%s has %u layers, %u of them dense, with %u experts and uses %u; the trace is "
                   "of a model with %u, %u, %u and %u: name that one",
                   name, c->layers, c->dense_layers, c->experts, c->experts_used, t->layers,
                   t->dense, t->experts, t->used);
}

/* Size of experts, and the slots that fit in --memory. */
static int ask_plan(struct sl_replay_report *r, const struct model *m,
                    const struct replay_options *o, struct sluice_err *err)
{
    struct sl_forecast f;
    const char *own = m->manifest ? m->manifest->profile : "quality";
    const char *profile = o->profile < 0 ? own : profile_names[o->profile];
    const struct sl_wish wish = {
        .config = &m->config,
        .machine = &m->machine,
        .profile = profile,
        .container = strcmp(profile, own) == 0 ? o->model : NULL,
        .memory = o->memory ? o->memory : UINT64_MAX,
        .context = o->context                            ? o->context
                   : m->config.context < DEFAULT_CONTEXT ? m->config.context
                                                         : DEFAULT_CONTEXT,
        .chunk = 512,
        .mtp = SLUICE_DRAFTING_OFF,
        .drives = 1,
    };
    int status = sl_forecast(&f, &wish, err);
    if (status < 0)
        return status;
    r->expert_bytes = f.sizes.stride;
    if (o->memory == 0)
        return 0;
    if (!f.memory.fits)
        return sl_fail(err, SLUICE_ENOMEM,
                       "--memory %s: the model needs %s at least; `sluice plan` says what for",
                       sl_human_bytes(o->memory).text, sl_human_bytes(f.memory.need).text);
    r->n = 1;
    r->budgets[0].slots = f.memory.slots;
    return 0;
}

static int use_model(struct sl_replay_report *r, struct model *m, const struct replay_options *o,
                     struct sluice_err *err)
{
    int status = open_model(m, o, err);
    if (status == 0)
        status = check_model(&m->config, &r->choices->model, o->model ? o->model : o->like, err);
    if (status == 0)
        status = open_machine(m, err);
    if (status == 0)
        status = ask_plan(r, m, o, err);
    r->drive = o->drive > 0 ? o->drive * 1e9 : fmax(m->machine.drive_pread, m->machine.drive_uring);
    r->drive_known = o->drive > 0 ? "as told" : m->known;
    return status;
}

/* ---- slots ---------------------------------------------------------------------------------- */

static int parse_slots(struct sl_replay_report *r, const char *text, struct sluice_err *err)
{
    uint32_t experts = r->choices->model.experts;
    const char *at = text;
    for (r->n = 0; r->n < SL_BUDGETS_MAX;) {
        char *end;
        errno = 0;
        unsigned long value = strtoul(at, &end, 10);
        if (errno || *at < '0' || *at > '9' || value < 1 || value > experts)
            break;
        r->budgets[r->n++].slots = (uint32_t)value;
        if (*end == 0)
            return 0;
        if (*end != ',')
            break;
        at = end + 1;
    }
    return sl_fail(err, SLUICE_EARG,
                   "--slots '%s': wanted at most %d numbers from 1 to %u, with commas between them",
                   text, SL_BUDGETS_MAX, experts);
}

/* A layer needs as many slots as a token uses experts. */
static void default_slots(struct sl_replay_report *r)
{
    static const double shares[] = {0.10, 0.20, 0.30, 0.50, 0.75};
    const struct sl_trace_model *m = &r->choices->model;
    for (r->n = 0; r->n < sizeof shares / sizeof *shares; r->n++)
        r->budgets[r->n].slots = (uint32_t)fmax(m->used, round(shares[r->n] * m->experts));
}

/* ---- the work ------------------------------------------------------------------------------- */

static int simulate(struct sl_replay_report *r, struct sluice_err *err)
{
    struct sl_progress progress;
    uint64_t done = 0, total = r->n * SL_REPLAY_POLICIES * (uint64_t)r->choices->n_layers;
    int status = 0;
    sl_progress_open(&progress, stderr, "replaying", SL_PROGRESS_SHARE);
    for (size_t i = 0; i < r->n; i++)
        for (int policy = 0; policy < SL_REPLAY_POLICIES; policy++)
            for (uint32_t l = 0; status == 0 && l < r->choices->n_layers; l++) {
                sl_progress_update(&progress, done++, total);
                status = sl_replay(r->budgets[i].count[policy], r->choices, l,
                                   (enum sl_replay_policy)policy, r->budgets[i].slots, err);
            }
    sl_progress_close(&progress);
    return status;
}

static int print(const struct sl_replay_report *r, bool json, struct sluice_err *err)
{
    if (!json) {
        sl_replay_print(stdout, r);
        return 0;
    }
    json_t *root = sl_replay_json(r);
    if (!root)
        return sl_fail_nomem(err, "report", 0);
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(root);
    return 0;
}

static int replay(const struct replay_options *o, struct sluice_err *err)
{
    struct sl_choices choices;
    struct model model = {0};
    struct sl_replay_report report = {.trace = o->trace, .choices = &choices};
    int status = sl_choices_load(&choices, o->trace, err);
    if (status == 0 && (o->model || o->like))
        status = use_model(&report, &model, o, err);
    if (status == 0 && o->slots)
        status = parse_slots(&report, o->slots, err);
    if (status == 0 && report.n == 0)
        default_slots(&report);
    if (status == 0)
        status = simulate(&report, err);
    if (status == 0)
        status = print(&report, o->json, err);
    sl_manifest_close(&model.manifest);
    sl_choices_free(&choices);
    return status;
}

int sl_verb_replay(int argc, char **argv)
{
    struct replay_options o = {.profile = -1};
    struct sluice_err err = {0};
    const char *text;
    size_t n = 0;
    while (n < MAX_PROFILES && sl_profile_list(n, &profile_names[n], &text))
        n++;
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    if (o.model && o.like)
        return sl_usage_error(&command, stderr, "-m and --like exclude each other");
    if (!o.model && !o.like && (o.memory || o.drive > 0 || o.profile >= 0 || o.context))
        return sl_usage_error(&command, stderr,
                              "--memory, --ctx, --profile and --drive go with -m or --like, which "
                              "say how large experts are");
    if (o.slots && o.memory)
        return sl_usage_error(&command, stderr, "--slots and --memory exclude each other");
    return replay(&o, &err) < 0 ? sl_report(&err) : SL_EXIT_OK;
}
