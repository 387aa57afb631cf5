/* SPDX-License-Identifier: MIT */
/* What the ladder is made of: tables of kernels, and the CPU's features.  Private to simd/. */
#ifndef SL_SIMD_RUNGS_H
#define SL_SIMD_RUNGS_H

#include "simd/simd.h"

extern const struct sl_ops sl_ref_ops, sl_avx2_ops, sl_avxvnni_ops, sl_avx512vnni_ops, sl_neon_ops,
    sl_i8mm_ops;
extern const struct sl_peaks sl_ref_peaks, sl_avx2_peaks, sl_avxvnni_peaks, sl_avx512vnni_peaks,
    sl_neon_peaks, sl_i8mm_peaks;

/* Bundles of features, each usable only when the CPU has all of them and the operating system saves
 * their registers. */
enum {
    SL_CPU_AVX2 = 1,       /* AVX2, FMA, F16C */
    SL_CPU_AVXVNNI = 2,    /* AVX2 bundle and AVX-VNNI */
    SL_CPU_AVX512VNNI = 4, /* AVX2 bundle and AVX-512 F, BW, DQ, VL, VNNI */
    SL_CPU_NEON = 8,       /* Advanced SIMD with dot products */
    SL_CPU_I8MM = 16,      /* NEON bundle and int8 matrix products */
};

/* The bundles of this machine. */
unsigned sl_cpu_bundles(void);

#endif
