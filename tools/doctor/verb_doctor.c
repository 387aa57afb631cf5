/* SPDX-License-Identifier: MIT */
/* `sluice doctor`: what this machine has, what slows it, how to mend that. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/base/err.h"
#include "runtime/base/team.h"
#include "tools/common/options.h"
#include "tools/common/status.h"
#include "tools/doctor/doctor.h"
#include "tools/verbs.h"

struct doctor_options {
    const char *path;
    size_t threads;
    bool json;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "PATH", .positional = true, SL_FIELD(SL_STRING, struct doctor_options, path),
     .help = "Container, checkpoint or any large file on the drive to measure"},
    {.name = "threads", .letter = 't', SL_FIELD(SL_COUNT, struct doctor_options, threads),
     .value = "N", .fallback = "0", .low = 0, .high = 4096,
     .help = "Compute threads; 0: one per processor"},
    {.name = "json", SL_FIELD(SL_FLAG, struct doctor_options, json),
     .help = "Print JSON"},
    {0},
};
/* clang-format on */

static const char *const examples[] = {"sluice doctor /models/v32", NULL};

static const struct sl_command command = {
    .name = "doctor",
    .summary = "check this machine and measure it",
    .description = "Takes some 15 seconds.  Nothing is changed but a small file with what was "
                   "measured, which 'sluice plan' reads; and the page cache forgets the files of "
                   "PATH.  The exit status is 1 when a check is FAIL.",
    .rows = rows,
    .examples = examples,
};

static void examine(const struct doctor_options *o, struct sl_findings *f, struct sl_machine *m)
{
    struct sl_doctor_target target;
    unsigned threads = sl_team_make((unsigned)o->threads).threads;
    time_t now = time(NULL);
    struct tm utc;
    *m = (struct sl_machine){.measured = true, .threads = threads};
    strftime(m->date, sizeof m->date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    sl_doctor_cpu_name("", m->cpu, sizeof m->cpu);
    sl_find(f, SL_FINE, "CPU", NULL, "%s", m->cpu);
    sl_doctor_processors(f, "", threads);
    double available = sl_doctor_memory(f, "");
    sl_doctor_limits(f, "", sl_drive_uring_errno());
    if (sl_doctor_target(f, &target, o->path, available))
        sl_doctor_measure(&(struct sl_doctor_measuring){f, m, threads, &target});
    sl_drive_files_close(&target.files);
    if (m->memory_all > 0 && !sl_interrupted())
        sl_doctor_keep(f, m);
}

static int print_json(const struct sl_findings *f, const struct sl_machine *m,
                      struct sluice_err *err)
{
    json_t *machine = sl_machine_json(m);
    json_t *report = json_pack("{s:b, s:O?, s:o?}", "ok", f->count[SL_BAD] == 0, "checks", f->list,
                               "machine", machine);
    if (!report || !f->list || !machine) {
        json_decref(report);
        return sl_fail_nomem(err, "the report", 0);
    }
    json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(report);
    return 0;
}

int sl_verb_doctor(int argc, char **argv)
{
    struct doctor_options o = {0};
    struct sl_findings findings;
    struct sl_machine machine;
    struct sluice_err err = {0};
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    sl_interrupt_install();
    sl_findings_open(&findings, o.json ? NULL : stdout);
    examine(&o, &findings, &machine);
    size_t warn = findings.count[SL_WARN], bad = findings.count[SL_BAD];
    status = 0;
    if (sl_interrupted())
        status = sl_fail(&err, SLUICE_ECANCELLED, "interrupted; nothing was kept");
    else if (o.json)
        status = print_json(&findings, &machine, &err);
    else
        printf("%zu FAIL, %zu WARN\n", bad, warn);
    sl_findings_close(&findings);
    if (status < 0)
        return sl_report(&err);
    return bad > 0 ? SL_EXIT_FAILED : SL_EXIT_OK;
}
