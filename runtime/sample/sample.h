/* SPDX-License-Identifier: MIT */
/* sample.h: from logits to a token. */
#ifndef SL_SAMPLE_H
#define SL_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* One candidate; scratch for sl_sample() is an array of them. */
struct sl_candidate {
    float p;
    int32_t id;
};

struct sl_sampler {
    float temperature; /* 0: the most likely token */
    float top_p;       /* (0, 1] */
    uint64_t seed;
    uint64_t draw;                /* number of this draw: (seed, draw) fixes the random number */
    const uint8_t *allowed;       /* [n]: non-zero for ids that may be drawn; NULL: all */
    float (*exponential)(float);  /* exp with fixed bits */
    struct sl_candidate *scratch; /* [n] */
};

/*
 * Draws from softmax(logits / temperature), cut to the smallest set of most likely tokens whose
 * probabilities reach top_p.  Ties: lower id.  −1 when no id is allowed or every logit is NaN.
 */
int32_t sl_sample(const struct sl_sampler *s, const float *logits, size_t n);

#endif
