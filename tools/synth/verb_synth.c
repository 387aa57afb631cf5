/* SPDX-License-Identifier: MIT */
/* `sluice synth`: a container or checkpoint of noise with the shapes of a real model. */
#include <inttypes.h>
#include <stdio.h>

#include "quant/quant.h"
#include "tools/common/layers.h"
#include "tools/common/options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/verbs.h"

enum { MAX_PROFILES = 16 };

struct synth_options {
    const char *dest, *like, *layers;
    size_t experts, vocab, threads;
    int profile;
    bool checkpoint, json;
};

static const char *profile_names[MAX_PROFILES + 1];

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "DST", .positional = true, .required = true,
     SL_FIELD(SL_STRING, struct synth_options, dest),
     .help = "Directory to make, or to go on with after an interruption"},
    {.name = "like", SL_FIELD(SL_STRING, struct synth_options, like), .value = "v3|v3.2|FILE",
     .fallback = "v3.2", .help = "Model to imitate: DeepSeek-V3 (also R1, V3.1), V3.2, or one with "
                                 "this config.json", .group = "Model"},
    {.name = "layers", SL_FIELD(SL_STRING, struct synth_options, layers), .value = "DENSE+MOE",
     .fallback = "1+2", .help = "Layers with a dense feed-forward network, and with experts; the "
                                "published models have 3+58", .group = "Model"},
    {.name = "experts", SL_FIELD(SL_COUNT, struct synth_options, experts), .value = "N",
     .fallback = "0", .high = 65536, .help = "Routed experts per layer; 0: as the model has",
     .group = "Model"},
    {.name = "vocab", SL_FIELD(SL_COUNT, struct synth_options, vocab), .value = "N",
     .fallback = "0", .high = 16777216, .help = "Size of the vocabulary; 0: as the model has",
     .group = "Model"},
    {.name = "checkpoint", SL_FIELD(SL_FLAG, struct synth_options, checkpoint),
     .help = "Make an FP8 checkpoint as DeepSeek publishes them, to time `sluice quantize` with",
     .group = "Model"},
    {.name = "profile", SL_FIELD(SL_ENUM, struct synth_options, profile), .fallback = "quality",
     .names = profile_names, .help = "Precision of each kind of tensor of a container "
                                     "(docs/quantisation.md)", .group = "Model"},
    {.name = "threads", .letter = 't', SL_FIELD(SL_COUNT, struct synth_options, threads),
     .value = "N", .fallback = "0", .low = 0, .high = 4096,
     .help = "Threads; 0: one per processor; the output does not depend on it",
     .group = "Machine"},
    {.name = "json", SL_FIELD(SL_FLAG, struct synth_options, json), .help = "Report as JSON",
     .group = "Output"},
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice synth /scratch/synth                 # V3.2's shapes, 1 dense and 2 MoE layers: 14 GB",
    "sluice synth /scratch/synth --like v3 --layers 1+1 --experts 32",
    "sluice synth /scratch/fp8 --checkpoint --layers 1+1 --experts 16    # 4 GB for `quantize`",
    NULL,
};

static const struct sl_command command = {
    .name = "synth",
    .summary = "make a model of noise with the shapes of a real one, for measuring",
    .description = "The weights are pseudo-random, always the same, of a size that keeps "
                   "activations of order 1 through all layers.  The model says nothing sensible "
                   "and has no tokenizer; it takes the time, memory and disk of a real one.",
    .rows = rows,
    .examples = examples,
};

static int show_progress(void *user, uint64_t done, uint64_t total, const char *file)
{
    (void)file;
    sl_progress_update(user, done, total);
    return sl_interrupted();
}

static void print_report(const struct synth_options *o, const struct sl_quantize_report *r)
{
    const char *profile = profile_names[o->profile];
    if (o->json && o->checkpoint)
        printf("{\"checkpoint_bytes\": ");
    else if (o->json)
        printf("{\"profile\": \"%s\", \"container_bytes\": ", profile);
    else if (o->checkpoint)
        printf("%s: checkpoint, ", o->dest);
    else
        printf("%s: profile %s, ", o->dest, profile);
    if (o->json)
        printf("%" PRIu64 ", \"weights\": %" PRIu64 ", \"files_written\": %u, "
               "\"files_resumed\": %u, \"seconds\": %.3f}\n",
               r->container_bytes, r->weights, r->files_written, r->files_resumed, r->seconds);
    else
        printf("%s, %.1f billion weights, %u files written, %s\n",
               sl_human_bytes(r->container_bytes).text, (double)r->weights * 1e-9, r->files_written,
               sl_human_seconds(r->seconds).text);
}

int sl_verb_synth(int argc, char **argv)
{
    struct synth_options o = {0};
    struct sl_quantize_report report = {0};
    struct sluice_err err = {0};
    struct sl_progress progress;
    const char *text;
    for (size_t i = 0; i < MAX_PROFILES && sl_profile_list(i, &profile_names[i], &text); i++)
        ;
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    struct sl_synth_opts opts = {
        .like = o.like,
        .experts = (uint32_t)o.experts,
        .vocab = (uint32_t)o.vocab,
        .checkpoint = o.checkpoint,
        .profile = profile_names[o.profile],
        .threads = (unsigned)o.threads,
        .user = &progress,
        .progress = show_progress,
    };
    if (!sl_parse_layers(o.layers, &opts.dense_layers, &opts.moe_layers))
        return sl_usage_error(&command, stderr, "--layers wants DENSE+MOE, for example 1+2");
    sl_interrupt_install();
    sl_progress_open(&progress, stderr, "making noise", SL_PROGRESS_BYTES);
    status = sl_synthesize(o.dest, &opts, &report, &err);
    sl_progress_close(&progress);
    if (status < 0)
        return sl_report(&err);
    print_report(&o, &report);
    return SL_EXIT_OK;
}
