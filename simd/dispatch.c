/* SPDX-License-Identifier: MIT */
/* The ladder: which tables of kernels this build has, and which of them can run here. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <string.h>

#include "simd/rungs.h"

static const struct {
    struct sl_rung rung;
    unsigned needs;
} ladder[] = {
    {{"ref", &sl_ref_ops, &sl_ref_peaks}, 0},
#ifdef HAVE_RUNG_AVX2
    {{"avx2", &sl_avx2_ops, &sl_avx2_peaks}, SL_CPU_AVX2},
#endif
#ifdef HAVE_RUNG_AVXVNNI
    {{"avxvnni", &sl_avxvnni_ops, &sl_avxvnni_peaks}, SL_CPU_AVXVNNI},
#endif
#ifdef HAVE_RUNG_AVX512VNNI
    {{"avx512vnni", &sl_avx512vnni_ops, &sl_avx512vnni_peaks}, SL_CPU_AVX512VNNI},
#endif
#ifdef HAVE_RUNG_NEON
    {{"neon", &sl_neon_ops, &sl_neon_peaks}, SL_CPU_NEON},
#endif
#ifdef HAVE_RUNG_I8MM
    {{"i8mm", &sl_i8mm_ops, &sl_i8mm_peaks}, SL_CPU_I8MM},
#endif
};

enum { RUNGS = sizeof ladder / sizeof *ladder };

const struct sl_rung *sl_rung_at(size_t i)
{
    unsigned bundles = sl_cpu_bundles();
    for (size_t j = 0; j < RUNGS; j++)
        if ((ladder[j].needs & ~bundles) == 0 && i-- == 0)
            return &ladder[j].rung;
    return NULL;
}

const struct sl_rung *sl_rung_find(const char *name)
{
    const struct sl_rung *found = NULL, *rung;
    for (size_t i = 0; (rung = sl_rung_at(i)) != NULL; i++)
        if (!name || strcmp(rung->name, name) == 0)
            found = rung;
    return found;
}

typedef void any_fn(void);

/* The table as an array; every slot is a pointer to a function. */
static any_fn *slot(const struct sl_ops *ops, size_t i)
{
    any_fn *f;
    memcpy(&f, (const char *)ops + i * sizeof f, sizeof f);
    return f;
}

const char *sl_kernel_name(const struct sl_ops *ops, size_t i, const char **rung)
{
    static const char *const names[] = {
        "gemm",         "weights_bf16",  "quantize_acts",    "quantize_groups",
        "rmsnorm",      "layernorm",     "swiglu",           "axpy",
        "add",          "sigmoid",       "rope_interleaved", "rope_half",
        "hadamard",     "index_store",   "index_score",      "topk",
        "group_max",    "reach",         "kv_store",         "attend",
        "attend_merge", "attend_finish", "fp8_decode",       "bf16_decode",
        "fit_scale",    "fit_codes",
    };
    _Static_assert(sizeof names / sizeof *names == sizeof(struct sl_ops) / sizeof(any_fn *),
                   "a name for every slot");
    if (i >= sizeof names / sizeof *names)
        return NULL;
    size_t j = 0;
    while (j < RUNGS - 1 && slot(ladder[j].rung.ops, i) != slot(ops, i))
        j++;
    *rung = ladder[j].rung.name;
    return names[i];
}
