# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libsimd.la
libsimd_la_CFLAGS = $(KERNEL_CFLAGS)
libsimd_la_LIBADD = -lm
libsimd_la_SOURCES = \
    simd/simd.h simd/dispatch.c simd/pack.c simd/math.c \
    simd/ref/ref.h simd/ref/lanes.h simd/ref/codes.h \
    simd/ref/gemm.c simd/ref/acts.c simd/ref/elementwise.c simd/ref/index.c simd/ref/topk.c \
    simd/ref/attend.c simd/ref/decode.c simd/ref/fit.c
