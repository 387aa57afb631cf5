/* SPDX-License-Identifier: MIT */
/* Noise in the number formats of weights.  The same on every machine. */
#include <math.h>
#include <string.h>

#include "quant/synth.h"

uint64_t sl_noise_seed(enum sl_role role, unsigned which, uint32_t layer, uint32_t expert,
                       uint64_t piece)
{
    uint64_t state = (uint64_t)(2 * (unsigned)role + which) << 56 | (uint64_t)layer << 40 | expert;
    state = sl_splitmix(&state) + piece;
    return sl_splitmix(&state);
}

void sl_noise_bytes(uint64_t *state, uint8_t *out, size_t n)
{
    uint64_t local = *state; /* what OUT points to might be *state, for all the compiler knows */
    for (size_t i = 0; i < n; i += 8) {
        uint64_t bits = sl_splitmix(&local);
        memcpy(out + i, &bits, 8);
    }
    *state = local;
}

/* 0x80 becomes 0x81 in each of eight bytes. */
static uint64_t without_minus_128(uint64_t bytes)
{
    const uint64_t high = 0x8080808080808080;
    uint64_t other = bytes ^ high; /* a byte is 0 where it was 0x80 */
    uint64_t nonzero = ((other & ~high) + ~high) | other;
    return bytes | (~nonzero & high) >> 7;
}

void sl_noise_int8(uint64_t *state, uint8_t *out, size_t n)
{
    uint64_t local = *state;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t bytes = without_minus_128(sl_splitmix(&local));
        memcpy(out + i, &bytes, 8);
    }
    *state = local;
}

void sl_noise_bf16(uint64_t *state, float size, void *out, size_t n)
{
    uint16_t *half = out;
    sl_noise_bytes(state, out, 2 * n);
    for (size_t i = 0; i < n; i++)
        half[i] = sl_to_bf16((float)(int16_t)half[i] * (size * 0x1p-15f));
}

void sl_noise_f32(uint64_t *state, float size, void *out, size_t n)
{
    sl_noise_bytes(state, out, 4 * n);
    for (size_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, (uint8_t *)out + 4 * i, 4);
        float value = (float)bits * (size * 0x1p-31f);
        memcpy((uint8_t *)out + 4 * i, &value, 4);
    }
}

/*
 * Eight E4M3 codes of eight random bytes: as a uniform distribution has them, the largest exponent
 * in one half of all cases, the next in a quarter, …, the fifth in the remaining sixteenth.
 * EXPONENT: eight times the largest one, in bits 3 to 6.
 */
static uint64_t e4m3_codes(uint64_t random, uint64_t exponent)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t first = random & ones, second = first & random >> 1, third = second & random >> 2;
    uint64_t steps = first + second + third + (third & random >> 3);
    return (random & 0x80 * ones) | (exponent - 8 * steps) | (random >> 4 & 7 * ones);
}

void sl_noise_e4m3(uint64_t *state, unsigned doubled, uint8_t *out, size_t n)
{
    const uint64_t step = 0x0808080808080808, exponent = SL_NOISE_E4M3_TOP * step;
    uint64_t local = *state, choice = 0;
    for (size_t i = 0; i < n; i += 8, choice >>= 8) {
        if (i % 64 == 0)
            choice = sl_splitmix(&local);
        uint64_t top = exponent + ((choice & 255) < doubled ? step : 0);
        uint64_t codes = e4m3_codes(sl_splitmix(&local), top);
        memcpy(out + i, &codes, 8);
    }
    *state = local;
}

/* The mean of (8 + mantissa)² is 137.5, that of 4^−steps 2341/4096. */
unsigned sl_noise_e4m3_fit(float deviation, int *exponent)
{
    float one = sqrtf(137.5f * 2341 / 4096) * (float)(1 << SL_NOISE_E4M3_TOP) * 0x1p-10f;
    float half = frexpf(deviation / one, exponent); /* 1/2 … 1 */
    *exponent -= 1;
    return (unsigned)((4 * half * half - 1) / 3 * 256 + 0.5f);
}
