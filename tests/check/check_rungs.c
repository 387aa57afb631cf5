/* SPDX-License-Identifier: MIT */
/*
 * Every kernel on every rung that this CPU can run gives the bits of ref, reads and writes nothing
 * outside of its buffers, and changes only what it should.  Run with --help.
 */
#include "tests/check/check_rungs.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/check/ladder.h"

enum { QUICK = 16, MOST_FAILURES = 5 };

static struct {
    const char *kernel; /* NULL: all */
    const char *rung;
    uint64_t seed;
    size_t number; /* of the only trial; SIZE_MAX: all */
    bool quick, bench, selftest;
} options = {.seed = 20260905, .number = SIZE_MAX};

/* ---- rungs ---------------------------------------------------------------------------------- */

/* The rung whose code OPS has for kernel K; NULL when there is no such kernel. */
static const char *owner_of(const struct sl_ops *ops, const struct kernel *k)
{
    const char *name, *rung;
    for (size_t i = 0; (name = sl_kernel_name(ops, i, &rung)) != NULL; i++)
        if (strcmp(name, k->name) == 0)
            return rung;
    return NULL;
}

size_t rungs_of(const struct kernel *k, struct subject subjects[MOST_RUNGS])
{
    const struct sl_rung *rung;
    size_t n = 0;
    for (size_t i = 1; (rung = checked_rung_at(i)) != NULL && n < MOST_RUNGS; i++) {
        const char *owner = sl_rung_at(i) ? owner_of(rung->ops, k) : rung->name;
        bool asked = !options.rung || strcmp(options.rung, rung->name) == 0;
        if (asked && owner && strcmp(owner, rung->name) == 0)
            subjects[n++] = (struct subject){.name = rung->name, .ops = rung->ops};
    }
    return n;
}

static void list_rungs(void)
{
    const struct sl_rung *rung;
    const struct kernel *k;
    for (size_t i = 0; (rung = checked_rung_at(i)) != NULL; i++)
        printf("%s%s", i ? " " : "rungs: ", rung->name);
    printf("\nkernels:\n");
    for (size_t i = 0; (k = kernel_at(i)) != NULL; i++)
        printf("    %-18s %6zu cases\n", k->name, trial_count(k));
}

/* Every slot of struct sl_ops has its row; returns how many have none. */
static unsigned missing_kernels(void)
{
    const char *name, *rung;
    const struct kernel *k;
    unsigned missing = 0;
    for (size_t i = 0; (name = sl_kernel_name(sl_rung_at(0)->ops, i, &rung)) != NULL; i++) {
        bool found = false;
        for (size_t j = 0; (k = kernel_at(j)) != NULL; j++)
            found |= strcmp(k->name, name) == 0;
        if (!found)
            fprintf(stderr, "FAIL kernel %s has no trials\n", name);
        missing += !found;
    }
    return missing;
}

/* ---- checks --------------------------------------------------------------------------------- */

/* Quick: a few trials of the sweep, spread so that all values of all arguments occur.  The
 * benchmark takes the real ones. */
static bool wanted(const struct kernel *k, size_t number)
{
    if (options.number != SIZE_MAX)
        return number == options.number;
    if (options.bench)
        return number >= trial_count(k) - k->reals;
    return !options.quick || (uint32_t)number * 2654435761u >> 16 < 65536 / QUICK ||
           number == trial_count(k) - k->reals;
}

static unsigned check_kernel(const struct kernel *k)
{
    struct subject subjects[MOST_RUNGS];
    size_t n = rungs_of(k, subjects), trials = 0;
    unsigned failures = 0;
    clock_t start = clock();
    for (size_t i = 0; i < trial_count(k) && failures < MOST_FAILURES; i++) {
        struct trial t;
        if (!wanted(k, i))
            continue;
        if (trial_open(&t, k, i, options.seed)) {
            failures += judge_trial(&t, subjects, n);
            trials++;
        }
        trial_close(&t);
    }
    printf("%-18s %6zu cases, %.2f s: ref", k->name, trials,
           (double)(clock() - start) / CLOCKS_PER_SEC);
    for (size_t i = 0; i < n; i++)
        printf(" %s", subjects[i].name);
    printf("%s\n", failures ? " FAILED" : "");
    fflush(stdout);
    return failures;
}

static void bench_kernel(const struct kernel *k)
{
    for (size_t i = 0; i < trial_count(k); i++)
        if (wanted(k, i))
            bench_case(k, i, options.seed);
}

static unsigned run_kernel(const struct kernel *k)
{
    if (options.bench) {
        bench_kernel(k);
        return 0;
    }
    unsigned failures = test_judge(k, options.seed);
    return failures || options.selftest ? failures : check_kernel(k);
}

/* ---- options -------------------------------------------------------------------------------- */

static void usage(FILE *to)
{
    fputs("usage: check_rungs [OPTION…] [KERNEL]\n"
          "  --bench        time the real calls instead, or the one --case\n"
          "  --case NUMBER  only this one, as a failure names it\n"
          "  --list         the rungs that run here, and the kernels\n"
          "  --quick        a sixteenth of the cases (also: SLUICE_CHECK_QUICK=1)\n"
          "  --rung NAME    only this rung besides ref\n"
          "  --seed NUMBER  other random values\n"
          "  --selftest     only: does the check notice mistakes?\n",
          to);
}

static void read_options(int argc, char **argv)
{
    enum { BENCH = 1, CASE, HELP, LIST, ONLY_QUICK, RUNG, SEED, SELFTEST };
    static const struct option known[] = {
        {"bench", no_argument, NULL, BENCH},
        {"case", required_argument, NULL, CASE},
        {"help", no_argument, NULL, HELP},
        {"list", no_argument, NULL, LIST},
        {"quick", no_argument, NULL, ONLY_QUICK},
        {"rung", required_argument, NULL, RUNG},
        {"seed", required_argument, NULL, SEED},
        {"selftest", no_argument, NULL, SELFTEST},
        {0},
    };
    int option;
    options.quick = getenv("SLUICE_CHECK_QUICK") != NULL;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        /* clang-format off */
        switch (option) {
        case BENCH:      options.bench = true; break;
        case CASE:       options.number = strtoull(optarg, NULL, 10); break;
        case HELP:       usage(stdout); exit(0);
        case LIST:       list_rungs(); exit(0);
        case ONLY_QUICK: options.quick = true; break;
        case RUNG:       options.rung = optarg; break;
        case SEED:       options.seed = strtoull(optarg, NULL, 0); break;
        case SELFTEST:   options.selftest = true; break;
        default:         usage(stderr); exit(2);
        }
    /* clang-format on */
    options.kernel = optind < argc ? argv[optind] : NULL;
    if (options.rung && !checked_rung_find(options.rung)) {
        fprintf(stderr, "rung %s cannot run here; --list shows which can\n", options.rung);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    const struct kernel *k;
    size_t run = 0;
    read_options(argc, argv);
    printf("seed %" PRIu64 "%s\n", options.seed, options.quick ? ", quick" : "");
    unsigned failures = missing_kernels();
    for (size_t i = 0; (k = kernel_at(i)) != NULL; i++)
        if (!options.kernel || strcmp(options.kernel, k->name) == 0) {
            failures += run_kernel(k);
            run++;
        }
    if (run == 0) {
        fprintf(stderr, "no kernel is called %s; --list shows all\n", options.kernel);
        return 2;
    }
    if (failures)
        fprintf(stderr, "%u failures, seed %" PRIu64 "\n", failures, options.seed);
    return failures ? 1 : 0;
}
