/* SPDX-License-Identifier: MIT */
/* Noise in the number formats of weights.  The same on every machine. */
#include <math.h>
#include <string.h>

#include "quant/synth.h"

uint64_t sl_noise_seed(enum sl_role role, unsigned which, uint32_t layer, uint32_t expert,
                       uint64_t piece)
{
    uint64_t state = (uint64_t)(2 * (unsigned)role + which) << 56 | (uint64_t)layer << 40 | expert;
    state = sl_noise(&state) + piece;
    return sl_noise(&state);
}

void sl_noise_bytes(uint64_t *state, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t bits = sl_noise(state);
        memcpy(out + i, &bits, 8);
    }
}

void sl_noise_int8(uint64_t *state, uint8_t *out, size_t n)
{
    sl_noise_bytes(state, out, n);
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] == 0x80 ? 0x81 : out[i];
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

/* The value of a positive E4M3 code below 0x7f. */
static float e4m3(unsigned code)
{
    float mantissa = (float)(code & 7);
    return code < 8 ? mantissa * 0x1p-9f : (8 + mantissa) * 0x1p-10f * (float)(1U << (code >> 3));
}

/* The quantiles of |x| of a triangular distribution on [−top, top] are top · (1 − √(1 − q)). */
void sl_noise_codes_make(struct sl_noise_codes *codes, float ratio)
{
    uint8_t code = 0;
    for (unsigned i = 0; i < 128; i++) {
        float value = ratio * 448 * (1 - sqrtf(1 - ((float)i + 0.5f) / 128));
        while (code < 0x7e && e4m3(code + 1U) - value <= value - e4m3(code))
            code++;
        codes->code[i] = code;
        codes->code[i + 128] = code | 0x80;
    }
}

void sl_noise_e4m3(uint64_t *state, const struct sl_noise_codes *codes, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t bits = sl_noise(state);
        for (size_t k = 0; k < 8; k++)
            out[i + k] = codes->code[bits >> 8 * k & 255];
    }
}
