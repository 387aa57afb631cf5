/* SPDX-License-Identifier: MIT */
/* `sluice verify`: reads and checks every byte of a container. */
#include <inttypes.h>

#include "runtime/base/json.h"
#include "runtime/container/container.h"
#include "tools/common/options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/verbs.h"

struct verify_options {
    const char *dir;
    bool json;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "DIR", .positional = true, .required = true,
     SL_FIELD(SL_STRING, struct verify_options, dir), .help = "Container directory"},
    {.name = "json", SL_FIELD(SL_FLAG, struct verify_options, json), .help = "Report as JSON",
     .group = "Output"},
    {0},
};
/* clang-format on */

static const struct sl_command command = {
    .name = "verify",
    .summary = "check every byte of a container against its checksums",
    .description = "Prints one line per problem: file and tensor, or layer, expert and chunk.  "
                   "Exit status 3 when there is any.",
    .rows = rows,
};

struct verifying {
    struct sl_progress progress;
    json_t *problems; /* array, or NULL for plain text */
};

static void show_progress(void *user, uint64_t done, uint64_t total)
{
    struct verifying *v = user;
    sl_progress_update(&v->progress, done, total);
}

static void show_problem(void *user, const char *text)
{
    struct verifying *v = user;
    sl_progress_close(&v->progress);
    if (v->problems)
        json_array_append_new(v->problems, sl_json_text(text));
    else
        printf("%s\n", text);
}

int sl_verb_verify(int argc, char **argv)
{
    struct verify_options o = {0};
    struct sluice_err err = {0};
    struct verifying v = {0};
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    v.problems = o.json ? json_array() : NULL;
    sl_progress_open(&v.progress, stderr, "verifying", SL_PROGRESS_BYTES);
    const struct sl_verify_events events = {&v, show_progress, show_problem};
    int64_t problems = sl_container_verify(o.dir, &events, &err);
    sl_progress_close(&v.progress);
    if (problems >= 0 && o.json) {
        json_t *report = json_pack("{s:b, s:O}", "ok", problems == 0, "problems", v.problems);
        json_dumpf(report, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(report);
    } else if (problems == 0) {
        printf("%s: good\n", o.dir);
    }
    json_decref(v.problems);
    if (problems < 0)
        return sl_report(&err);
    if (problems > 0)
        fprintf(stderr,
                "sluice: %s: %" PRId64 " problem%s; copy the damaged files again, or delete them "
                "and run sluice quantize again\n",
                o.dir, problems, problems == 1 ? "" : "s");
    return problems ? SL_EXIT_MODEL : SL_EXIT_OK;
}
