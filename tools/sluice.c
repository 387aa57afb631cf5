/* SPDX-License-Identifier: MIT */
/* The program: picks the verb, and makes sure at the end that what was printed arrived. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/sluice.h"
#include "tools/common/build.h"
#include "tools/common/status.h"
#include "tools/common/verbtable.h"
#include "tools/verbs.h"

static const struct sl_verb verbs[] = {
    {"quantize", "convert a published checkpoint into a container", sl_verb_quantize},
    {"run", "continue a text", sl_verb_run},
    {"inspect", "show what is in a container", sl_verb_inspect},
    {"verify", "check every byte of a container against its checksums", sl_verb_verify},
    {"eval", "measurements on a model", sl_verb_eval},
    {"plan", "what a model needs and how fast it will be, before loading it", sl_verb_plan},
    {"bench", "time prefill and decode", sl_verb_bench},
    {"replay", "what other caches of experts would have found, from a trace", sl_verb_replay},
    {"doctor", "check this machine and measure it", sl_verb_doctor},
    {"stripe", "divide a container's experts among several drives, or join them", sl_verb_stripe},
    {"synth", "make a container of noise with a real model's shapes", sl_verb_synth},
    {0},
};

static const struct sl_verb_table program = {
    .program = "sluice",
    .description = "Runs DeepSeek-V3-class models on CPUs, on machines whose memory is smaller\n"
                   "than the model.",
    .verbs = verbs,
    .remarks = "'sluice --version' prints the version; with -v also how the program was built.\n"
               "Options can be set in the environment as SLUICE_NAME.",
};

static int print_version(int argc, char **argv)
{
    bool verbose = argc == 3 && strcmp(argv[2], "-v") == 0;
    if (argc > 2 && !verbose) {
        fprintf(stderr,
                "sluice: found '%s' after --version, wanted -v or nothing\n"
                "try 'sluice --help'\n",
                argv[argc - 1]);
        return SL_EXIT_USAGE;
    }
    printf("sluice %s\n", sluice_version());
    struct sluice_err err = {0};
    if (verbose && sl_print_build(stdout, &err) < 0)
        return sl_report(&err);
    return SL_EXIT_OK;
}

/* A full drive or a closed pipe shows at the latest here. */
static int flush_stdout(int status)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "sluice: writing to standard output failed%s%s\n", errno ? ": " : "",
            errno ? strerror(errno) : "");
    return status == SL_EXIT_OK ? SL_EXIT_FAILED : status;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error like others, with a message */
    int status = argc > 1 && strcmp(argv[1], "--version") == 0
                     ? print_version(argc, argv)
                     : sl_verb_table_run(&program, argc, argv, stdout, stderr);
    return flush_stdout(status);
}
