/* SPDX-License-Identifier: MIT */
/* `sluice stripe`: divides a container's expert files among several drives, or joins them. */
#include "quant/quant.h"
#include "runtime/base/json.h"
#include "tools/common/options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/verbs.h"

struct stripe_options {
    const char *dir, *list;
    bool join, json;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "DIR", .positional = true, .required = true,
     SL_FIELD(SL_STRING, struct stripe_options, dir), .help = "Container directory"},
    {.name = "DIR2[,DIR3…]", .positional = true,
     SL_FIELD(SL_STRING, struct stripe_options, list),
     .help = "Directories on other drives, at most 7, made if needed; nothing else may be in them"},
    {.name = "join", SL_FIELD(SL_FLAG, struct stripe_options, join),
     .help = "Bring everything back to DIR", .group = "Task"},
    {.name = "json", SL_FIELD(SL_FLAG, struct stripe_options, json),
     .help = "Report as JSON", .group = "Output"},
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice stripe /nvme0/v32 /nvme1/v32,/nvme2/v32",
    "sluice stripe /nvme0/v32 --join",
    NULL,
};

static const struct sl_command command = {
    .name = "stripe",
    .summary = "divide a container's experts among several drives, or join them",
    .description = "Every expert is cut in pieces of 1 MiB that go to the drives in turn, so that "
                   "each read loads all drives.  DIR keeps links to the files elsewhere.\n"
                   "Works layer by layer and needs room for one layer more than the result; the "
                   "same command after an interruption goes on where it stopped.",
    .rows = rows,
    .examples = examples,
};

struct striping {
    struct sl_progress progress;
    json_t *left; /* array of directories */
};

static int show_progress(void *user, uint64_t done, uint64_t total)
{
    struct striping *s = user;
    sl_progress_update(&s->progress, done, total);
    return sl_interrupted();
}

static void note_left(void *user, const char *dir)
{
    struct striping *s = user;
    json_array_append_new(s->left, sl_json_text(dir));
}

static void print_json(const struct sl_restripe_report *r, json_t *left)
{
    json_t *report = json_pack("{s:i, s:i, s:i, s:I, s:f, s:O}", "parts", (int)r->parts,
                               "layers_changed", (int)r->layers_changed, "layers_found",
                               (int)r->layers_found, "bytes", (json_int_t)r->bytes, "seconds",
                               r->seconds, "not_needed", left);
    json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(report);
}

static void print_report(const struct stripe_options *o, const struct sl_restripe_report *r,
                         const json_t *left)
{
    size_t i;
    const json_t *dir;
    printf("%s: ", o->dir);
    if (r->parts == 1)
        printf("expert files are whole");
    else
        printf("expert files are in %u parts", r->parts);
    printf(", %u layers changed, %s", r->layers_changed, sl_human_bytes(r->bytes).text);
    if (r->layers_found > 0)
        printf(", %u found so already", r->layers_found);
    printf(", %s\n", sl_human_seconds(r->seconds).text);
    json_array_foreach (left, i, dir)
        printf("%s: not needed any more, can be deleted\n", json_string_value(dir));
}

int sl_verb_stripe(int argc, char **argv)
{
    struct stripe_options o = {0};
    struct sl_restripe_report report;
    struct sluice_err err = {0};
    struct striping s = {0};
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    if (o.join == (o.list != NULL))
        return sl_usage_error(&command, stderr, "either directories or --join wanted");
    const struct sl_restripe_opts opts = {&s, show_progress, note_left};
    s.left = json_array();
    sl_interrupt_install();
    sl_progress_open(&s.progress, stderr, o.join ? "joining" : "dividing", SL_PROGRESS_BYTES);
    status = sl_restripe(o.dir, o.list, &opts, &report, &err);
    sl_progress_close(&s.progress);
    if (status == 0 && o.json)
        print_json(&report, s.left);
    else if (status == 0)
        print_report(&o, &report, s.left);
    json_decref(s.left);
    return status < 0 ? sl_report(&err) : SL_EXIT_OK;
}
