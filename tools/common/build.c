/* SPDX-License-Identifier: MIT */
/* What this binary was built with: facts of the preprocessor, for bug reports. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "tools/common/build.h"

#if defined(__x86_64__)
#define ARCHITECTURE "x86_64"
#elif defined(__aarch64__)
#define ARCHITECTURE "aarch64"
#else
#define ARCHITECTURE "other"
#endif

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

#ifdef _OPENMP
#define THREADS "OpenMP " TEXT(_OPENMP)
#else
#define THREADS "none"
#endif

#ifdef HAVE_ONEDNN
#define ONEDNN HAVE_ONEDNN
#else
#define ONEDNN "no"
#endif

#ifdef HAVE_HWLOC
#define HWLOC "found; nothing uses it yet"
#else
#define HWLOC "no"
#endif

#ifdef HAVE_URING
#define URING "liburing"
#else
#define URING "no"
#endif

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

int sl_print_build(FILE *out, struct sluice_err *err)
{
    static const struct {
        const char *name, *value;
    } facts[] = {
        {"compiler", COMPILER}, {"architecture", ARCHITECTURE},
        {"threads", THREADS},   {"oneDNN", ONEDNN},
        {"hwloc", HWLOC},       {"io_uring", URING},
    };
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        fprintf(out, "%-13s %s\n", facts[i].name, facts[i].value);
    const char *kernel, *instructions;
    for (size_t i = 0; (kernel = sluice_kernel(i, &instructions, err)) != NULL; i++)
        fprintf(out, "kernel %-20s %s\n", kernel, instructions);
    return err->code;
}
