# SPDX-License-Identifier: MIT
EXTRA_DIST += simd/README.md
noinst_LTLIBRARIES += libsimd.la
libsimd_la_CFLAGS = $(KERNEL_CFLAGS)
libsimd_la_LIBADD = $(rungs) -lm
libsimd_la_SOURCES = \
    simd/simd.h simd/rungs.h simd/cpu.c simd/dispatch.c simd/pack.c simd/math.c \
    simd/ref/ref.h simd/ref/sums.h simd/ref/codes.h simd/ref/ref_ops.c \
    simd/ref/gemm.c simd/ref/acts.c simd/ref/elementwise.c simd/ref/index.c simd/ref/topk.c \
    simd/ref/attend.c simd/ref/decode.c simd/ref/unpack.c simd/ref/fit.c simd/ref/peaks.c

# The wide kernels, compiled once per rung with its instruction set.  Objects with such flags hold
# kernels and their table, nothing that runs before the CPU has been asked.
wide_sources = \
    simd/wide/lanes.h simd/wide/wide_kernels.h simd/wide/wide_ops.c simd/x86/lanes_avx2.h \
    simd/x86/lanes_avx512.h simd/arm/lanes_neon.h \
    simd/wide/panels.h simd/wide/wide_gemm.c simd/wide/wide_gemv.c simd/wide/wide_unpack.c \
    simd/wide/wide_acts.c simd/wide/wide_elementwise.c \
    simd/wide/wide_index.c simd/wide/wide_topk.c simd/wide/wide_attend.c \
    simd/wide/wide_attend_int8.c simd/wide/softmax.h simd/wide/wide_decode.c simd/wide/wide_fit.c \
    simd/wide/wide_peaks.c
rungs =
if RUNG_AVX2
rungs += libsimd_avx2.la
libsimd_avx2_la_CFLAGS = $(KERNEL_CFLAGS) $(AVX2_CFLAGS) -DSL_RUNG=avx2
libsimd_avx2_la_SOURCES = $(wide_sources)
endif
if RUNG_AVXVNNI
rungs += libsimd_avxvnni.la
libsimd_avxvnni_la_CFLAGS = $(KERNEL_CFLAGS) $(AVXVNNI_CFLAGS) -DSL_RUNG=avxvnni
libsimd_avxvnni_la_SOURCES = $(wide_sources)
endif
if RUNG_AVX512VNNI
rungs += libsimd_avx512vnni.la
libsimd_avx512vnni_la_CFLAGS = $(KERNEL_CFLAGS) $(AVX512VNNI_CFLAGS) -DSL_RUNG=avx512vnni
libsimd_avx512vnni_la_SOURCES = $(wide_sources)
endif
if RUNG_NEON
rungs += libsimd_neon.la
libsimd_neon_la_CFLAGS = $(KERNEL_CFLAGS) $(NEON_CFLAGS) -DSL_RUNG=neon
libsimd_neon_la_SOURCES = $(wide_sources)
endif
if RUNG_I8MM
rungs += libsimd_i8mm.la
libsimd_i8mm_la_CFLAGS = $(KERNEL_CFLAGS) $(I8MM_CFLAGS) -DSL_RUNG=i8mm
libsimd_i8mm_la_SOURCES = $(wide_sources)
endif
noinst_LTLIBRARIES += $(rungs)
