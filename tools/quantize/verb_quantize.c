/* SPDX-License-Identifier: MIT */
/* `sluice quantize`: published checkpoint → container. */
#include <inttypes.h>

#include "quant/quant.h"
#include "tools/common/options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/verbs.h"

enum { MAX_PROFILES = 16 };

struct quantize_options {
    const char *source, *dest, *stripe;
    int profile;
    size_t threads;
    bool fast, json;
};

static const char *profile_names[MAX_PROFILES + 1];

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "SRC", .positional = true, .required = true,
     SL_FIELD(SL_STRING, struct quantize_options, source),
     .help = "Checkpoint: a directory, a Hugging Face hub folder or a snapshot in one"},
    {.name = "DST", .positional = true, .required = true,
     SL_FIELD(SL_STRING, struct quantize_options, dest),
     .help = "Container directory to make, or to go on with after an interruption"},
    {.name = "profile", SL_FIELD(SL_ENUM, struct quantize_options, profile), .fallback = "quality",
     .names = profile_names, .help = "Precision of each kind of tensor (docs/quantisation.md)",
     .group = "Conversion"},
    {.name = "fast", SL_FIELD(SL_FLAG, struct quantize_options, fast),
     .help = "Scales from the largest value, without search: quicker and clearly worse",
     .group = "Conversion"},
    {.name = "stripe", SL_FIELD(SL_STRING, struct quantize_options, stripe),
     .value = "DIR2[,DIR3…]", .group = "Conversion",
     .help = "Divide every expert file among DST and these directories, one per drive"},
    {.name = "threads", .letter = 't', SL_FIELD(SL_COUNT, struct quantize_options, threads),
     .value = "N", .fallback = "0", .low = 0, .high = 4096,
     .help = "Threads; 0: one per processor; the output does not depend on it",
     .group = "Conversion"},
    {.name = "json", SL_FIELD(SL_FLAG, struct quantize_options, json),
     .help = "Report as JSON", .group = "Output"},
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice quantize DeepSeek-V3.2 /models/v32-quality",
    "sluice quantize ~/.cache/huggingface/hub/models--deepseek-ai--DeepSeek-V3.2 /models/v32 "
    "--profile balanced",
    "sluice quantize DeepSeek-V3.2 /nvme0/v32 --stripe /nvme1/v32,/nvme2/v32",
    NULL,
};

static const struct sl_command command = {
    .name = "quantize",
    .summary = "convert a published FP8 or BF16 checkpoint into a container",
    .description = "Every file of DST is written under a temporary name and renamed when it is "
                   "complete.  The same command after an interruption goes on where it stopped.",
    .rows = rows,
    .examples = examples,
};

static int show_progress(void *user, uint64_t done, uint64_t total, const char *file)
{
    (void)file;
    sl_progress_update(user, done, total);
    return sl_interrupted();
}

static void print_report(const struct quantize_options *o, const struct sl_quantize_report *r)
{
    if (o->json) {
        printf("{\"profile\": \"%s\", \"source_bytes\": %" PRIu64 ", \"container_bytes\": %" PRIu64
               ", \"weights\": %" PRIu64 ", \"files_written\": %u, \"files_resumed\": %u, "
               "\"seconds\": %.3f}\n",
               profile_names[o->profile], r->source_bytes, r->container_bytes, r->weights,
               r->files_written, r->files_resumed, r->seconds);
        return;
    }
    printf("%s: profile %s, %s from %s, %u files written", o->dest, profile_names[o->profile],
           sl_human_bytes(r->container_bytes).text, sl_human_bytes(r->source_bytes).text,
           r->files_written);
    if (r->files_resumed > 0)
        printf(", %u found complete", r->files_resumed);
    printf(", %s\n", sl_human_seconds(r->seconds).text);
}

int sl_verb_quantize(int argc, char **argv)
{
    struct quantize_options o = {0};
    struct sl_quantize_report report = {0};
    struct sluice_err err = {0};
    struct sl_progress progress;
    const char *text;
    for (size_t i = 0; i < MAX_PROFILES && sl_profile_list(i, &profile_names[i], &text); i++)
        ;
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    struct sl_quantize_opts opts = {
        .profile = profile_names[o.profile],
        .threads = (unsigned)o.threads,
        .fast = o.fast,
        .stripe = o.stripe,
        .user = &progress,
        .progress = show_progress,
    };
    sl_interrupt_install();
    sl_progress_open(&progress, stderr, "quantising", SL_PROGRESS_BYTES);
    status = sl_quantize(o.source, o.dest, &opts, &report, &err);
    sl_progress_close(&progress);
    if (status < 0)
        return sl_report(&err);
    print_report(&o, &report);
    return SL_EXIT_OK;
}
