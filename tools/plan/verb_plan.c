/* SPDX-License-Identifier: MIT */
/* `sluice plan`: will it run here, how fast, at what cost, and what would help most. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/available.h"
#include "runtime/container/container.h"
#include "tools/common/engine_options.h"
#include "tools/common/layers.h"
#include "tools/common/status.h"
#include "tools/plan/plan.h"
#include "tools/verbs.h"

enum { MAX_PROFILES = 16, DEFAULT_CONTEXT = 32768 };

struct plan_options {
    const char *model, *like, *layers;
    int profile;
    uint64_t memory, context;
    size_t chunk, sessions;
    enum sluice_multiplier multiplier;
    enum sluice_drafting mtp;
    struct sl_prices prices;
    double hits; /* percent */
    bool json;
};

static const char *profile_names[MAX_PROFILES + 1];

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "model", .letter = 'm', SL_FIELD(SL_STRING, struct plan_options, model),
     .value = "DIR", .help = "Container directory", .group = "Model"},
    {.name = "like", SL_FIELD(SL_STRING, struct plan_options, like), .value = "v3|v3.2|FILE",
     .help = "A container that does not exist yet: DeepSeek-V3 (also R1, V3.1), V3.2, or a model "
             "with this config.json", .group = "Model"},
    {.name = "layers", SL_FIELD(SL_STRING, struct plan_options, layers), .value = "DENSE+MOE",
     .help = "With --like: so many layers; default: as the model has", .group = "Model"},
    {.name = "profile", SL_FIELD(SL_ENUM, struct plan_options, profile), .names = profile_names,
     .help = "Precision (docs/quantisation.md), or a table of all; default: the container's own, "
             "else quality", .group = "Model"},
    {.name = "ctx", .letter = 'c', SL_FIELD(SL_SIZE, struct plan_options, context), .value = "N",
     .low = 1, .high = 16777216,
     .help = "Tokens of context to make room for; default: 32k, or what the model was made for",
     .group = "Task"},
    {.name = "chunk", SL_FIELD(SL_COUNT, struct plan_options, chunk), .value = "N",
     .fallback = "512", .low = 1, .high = 1048576,
     .help = "Most prompt tokens computed in one pass", .group = "Task"},
    {.name = "sessions", SL_FIELD(SL_COUNT, struct plan_options, sessions), .value = "N",
     .fallback = "1", .low = 1, .high = 65536,
     .help = "Sessions to make room for, each with its own context", .group = "Task"},
    {.name = "mtp", SL_FIELD(SL_ENUM, struct plan_options, mtp), .fallback = "auto",
     .names = sl_mtp_names,
     .help = "Make room for the MTP layer, which drafts; auto: if everything fits with it, as "
             "`run` does", .group = "Task"},
    SL_MULTIPLIER_ROW(struct plan_options, multiplier),
    {.name = "memory", SL_FIELD(SL_SIZE, struct plan_options, memory), .value = "SIZE",
     .help = "Memory that may be used; default: what is available, less the larger of 4 GiB and a "
             "tenth", .group = "Machine"},
    {.name = "hits", SL_FIELD(SL_REAL, struct plan_options, hits), .value = "PERCENT",
     .fallback = "0", .low = 0, .high = 100,
     .help = "Expert uses found in memory, where it is known: `run` says it at the end, `replay` "
             "for other sizes of memory; 0: an estimate", .group = "Machine"},
    {.name = "watts", SL_FIELD(SL_REAL, struct plan_options, prices.watts), .value = "W",
     .fallback = "0", .low = 0, .high = 1e6, .help = "Power that the machine takes at work",
     .group = "Cost"},
    {.name = "price-kwh", SL_FIELD(SL_REAL, struct plan_options, prices.kwh), .value = "X",
     .fallback = "0", .low = 0, .high = 1e6, .help = "Price of a kilowatt-hour", .group = "Cost"},
    {.name = "machine-price", SL_FIELD(SL_REAL, struct plan_options, prices.machine), .value = "Y",
     .fallback = "0", .low = 0, .high = 1e12, .help = "Price of the machine", .group = "Cost"},
    {.name = "years", SL_FIELD(SL_REAL, struct plan_options, prices.years), .value = "N",
     .fallback = "3", .low = 0.01, .high = 100,
     .help = "Years of uninterrupted work that use the machine up", .group = "Cost"},
    {.name = "json", SL_FIELD(SL_FLAG, struct plan_options, json), .help = "Report as JSON",
     .group = "Output"},
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice plan --like v3.2 --memory 96G",
    "sluice plan -m /models/v32 -c 128k --watts 250 --price-kwh 0.3",
    "sluice plan --like v3 --profile all",
    NULL,
};

static const struct sl_command command = {
    .name = "plan",
    .summary = "what a model needs and how fast it will be, before loading it",
    .description = "Computed from the model's shapes and from what `sluice doctor` measured on "
                   "this machine, or typical figures.",
    .rows = rows,
    .examples = examples,
};

struct plan {
    struct sl_config config;
    struct sl_machine machine;
    char filled[160];
    struct sl_manifest *manifest; /* of -m */
    struct sl_wish wish;
};

static int open_model(struct plan *p, const struct plan_options *o, struct sluice_err *err)
{
    struct sl_synth_opts like = {.like = o->like, .all_layers = !o->layers};
    if (o->layers && !sl_parse_layers(o->layers, &like.dense_layers, &like.moe_layers))
        return sl_fail(err, SLUICE_EARG, "--layers wants DENSE+MOE, for example 3+58");
    if (o->like)
        return sl_like_config(&p->config, &like, err);
    int status = sl_manifest_open(&p->manifest, o->model, err);
    return status < 0 ? status : sl_config_read(&p->config, o->model, err);
}

static int open_machine(struct plan *p, struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    int status = sl_machine_path(path, sizeof path, err);
    if (status == 0)
        status = sl_machine_load(&p->machine, path, err);
    sl_machine_fill(&p->machine, p->filled, sizeof p->filled);
    return status < 0 ? status : 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static int open_plan(struct plan *p, const struct plan_options *o, struct sluice_err *err)
{
    int status = open_model(p, o, err);
    if (status == 0)
        status = open_machine(p, err);
    if (status < 0)
        return status;
    p->wish = (struct sl_wish){
        .config = &p->config,
        .machine = &p->machine,
        .profile = p->manifest ? p->manifest->profile : "quality",
        .container = o->model,
        .memory = o->memory,
        .context = o->context ? o->context : smaller(DEFAULT_CONTEXT, p->config.context),
        .chunk = o->chunk,
        .sessions = (unsigned)o->sessions,
        .multiplier = o->multiplier,
        .mtp = o->mtp,
        .drives = 1,
        .hits = o->hits / 100,
        .prices = o->prices,
    };
    if (!o->memory && !(p->wish.memory = sl_memory_budget(sl_memory_available())))
        return sl_fail(err, SLUICE_ENOMEM,
                       "less than 4 GiB of memory available: free some, or say --memory SIZE");
    return 0;
}

static int make_report(struct sl_plan_report *r, const struct plan *p, const char *model,
                       const char *profile, struct sluice_err *err)
{
    struct sl_wish wish = p->wish;
    if (profile && strcmp(profile, wish.profile) != 0) {
        wish.profile = profile;
        wish.container = NULL;
    }
    *r = (struct sl_plan_report){.model = model, .filled = p->filled};
    int status = sl_forecast(&r->forecast, &wish, err);
    if (status == 0)
        r->n_changes = status = sl_changes(r->changes, &r->forecast, err);
    return status < 0 ? status : 0;
}

static void print(const struct sl_plan_report *reports, size_t n, bool all, bool json)
{
    json_t *list = json_array();
    for (size_t i = 0; json && i < n; i++)
        json_array_append_new(list, sl_plan_json(&reports[i]));
    if (json) {
        json_dumpf(all ? list : json_array_get(list, 0), stdout,
                   JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        printf("\n");
    } else if (all) {
        sl_plan_print_table(stdout, reports, n);
    } else {
        sl_plan_print(stdout, &reports[0]);
    }
    json_decref(list);
}

/* Prints the plan; returns an exit code: nothing that fits is a lack of resources. */
static int run(const struct plan_options *o, struct plan *p, size_t n_profiles,
               struct sluice_err *err)
{
    bool all = o->profile == (int)n_profiles, fits = false;
    size_t n = all ? n_profiles : 1;
    const char *model = o->model ? o->model : o->like;
    struct sl_plan_report *reports = calloc(n, sizeof *reports);
    int status = reports ? open_plan(p, o, err) : sl_fail_nomem(err, "reports", sizeof *reports);
    for (size_t i = 0; status == 0 && i < n; i++) {
        const char *profile = o->profile < 0 ? NULL : profile_names[all ? (int)i : o->profile];
        status = make_report(&reports[i], p, model, profile, err);
        fits = fits || reports[i].forecast.memory.fits;
    }
    if (status == 0)
        print(reports, n, all, o->json);
    free(reports);
    sl_manifest_close(&p->manifest);
    if (status < 0)
        return sl_report(err);
    return fits ? SL_EXIT_OK : SL_EXIT_RESOURCES;
}

int sl_verb_plan(int argc, char **argv)
{
    struct plan_options o = {.profile = -1};
    struct plan p = {0};
    struct sluice_err err = {0};
    const char *text;
    size_t n = 0;
    while (n < MAX_PROFILES - 1 && sl_profile_list(n, &profile_names[n], &text))
        n++;
    profile_names[n] = "all";
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    if (!o.model == !o.like)
        return sl_usage_error(&command, stderr, "either -m DIR or --like MODEL is wanted");
    if (o.layers && !o.like)
        return sl_usage_error(&command, stderr, "--layers goes with --like");
    return run(&o, &p, n, &err);
}
