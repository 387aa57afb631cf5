/* SPDX-License-Identifier: MIT */
/* Which bundles of features the CPU has and the operating system lets us use. */
#include "simd/rungs.h"

#if defined(__x86_64__)
#include <cpuid.h>

static bool has(uint32_t word, int bit)
{
    return word >> bit & 1;
}

/* State components that the operating system saves: 1 SSE, 2 AVX, 5–7 AVX-512. */
static uint32_t enabled_state(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

unsigned sl_cpu_bundles(void)
{
    enum { YMM = 0x06, ZMM = 0xe6 };
    uint32_t a, b, c, d, e = 0, unused;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, 27)) /* OSXSAVE */
        return 0;
    uint32_t state = enabled_state();
    bool avx = has(c, 28) && has(c, 12) && has(c, 29); /* AVX, FMA, F16C */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !avx || !has(b, 5) || (state & YMM) != YMM)
        return 0;
    if (a >= 1)
        __get_cpuid_count(7, 1, &e, &unused, &unused, &unused);
    bool f_dq_bw_vl = has(b, 16) && has(b, 17) && has(b, 30) && has(b, 31);
    unsigned found = SL_CPU_AVX2;
    if (has(e, 4))
        found |= SL_CPU_AVXVNNI;
    if (f_dq_bw_vl && has(c, 11) && (state & ZMM) == ZMM)
        found |= SL_CPU_AVX512VNNI;
    return found;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

unsigned sl_cpu_bundles(void)
{
    unsigned long base = getauxval(AT_HWCAP), more = getauxval(AT_HWCAP2);
    if (!(base & HWCAP_ASIMDDP))
        return 0;
    return SL_CPU_NEON | (more & HWCAP2_I8MM ? SL_CPU_I8MM : 0);
}

#else

unsigned sl_cpu_bundles(void)
{
    return 0;
}

#endif
