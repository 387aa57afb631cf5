/* SPDX-License-Identifier: MIT */
/* synth.h: what the makers of synthetic containers and checkpoints share. */
#ifndef SL_QUANT_SYNTH_H
#define SL_QUANT_SYNTH_H

#include "quant/conversion.h"
#include "runtime/base/splitmix.h"

/* ---- noise.c: the same on every machine: integers, and float operations that round exactly --- */

enum { SL_NOISE_PIECE = 64 << 10 }; /* bytes made from one seed where there are no panels */

/* The state for piece PIECE of tensor WHICH (0, 1) of ROLE: each piece is made by itself. */
uint64_t sl_noise_seed(enum sl_role role, unsigned which, uint32_t layer, uint32_t expert,
                       uint64_t piece);

/* N elements; OUT has room for a multiple of 8 bytes.  Floats are uniform in [−SIZE, SIZE). */
void sl_noise_bytes(uint64_t *state, uint8_t *out, size_t n);
void sl_noise_int8(uint64_t *state, uint8_t *out, size_t n); /* −127 … 127 */
void sl_noise_bf16(uint64_t *state, float size, void *out, size_t n);
void sl_noise_f32(uint64_t *state, float size, void *out, size_t n);

/*
 * E4M3 codes, uniform in about five octaves; DOUBLED of 256 words of eight are twice as large, so
 * that any deviation comes out with scales that are powers of two.  Never a NaN: the exponent is at
 * most SL_NOISE_E4M3_TOP + 1.
 */
enum { SL_NOISE_E4M3_TOP = 13 };
void sl_noise_e4m3(uint64_t *state, unsigned doubled, uint8_t *out, size_t n);

/* DOUBLED for codes which, times 2^*exponent, have DEVIATION. */
unsigned sl_noise_e4m3_fit(float deviation, int *exponent);

/* ---- imitate.c: the model to imitate --------------------------------------------------------- */

/* Its configuration with the wanted numbers, and the text of config.json, malloc'ed. */
int sl_imitate(struct sl_config *config, char **text, const struct sl_synth_opts *opts,
               struct sluice_err *err);

/*
 * Standard deviation of the weights of a matrix that sums over INPUTS: 1/√inputs, so that normed
 * activations of order 1 give outputs of order 1; matrices that write to the residual stream are
 * √(2 · 61) smaller, so that the stream stays of order 1 through the 61 layers of the published
 * models.
 */
float sl_synth_deviation(enum sl_role role, size_t inputs);

/* ---- shards.c -------------------------------------------------------------------------------- */

int sl_synthesize_checkpoint(const char *dest, const struct sl_synth_opts *opts,
                             struct sl_quantize_report *report, struct sluice_err *err);

#endif
