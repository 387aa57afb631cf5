/* SPDX-License-Identifier: MIT */
/* A trace in memory: which experts each pass of tokens needs, layer by layer. */
#ifndef SL_TOOLS_CHOICES_H
#define SL_TOOLS_CHOICES_H

#include "tools/common/trace.h"
#include "tools/replay/overlap.h"

/* An expert that a pass needs. */
struct sl_use {
    uint32_t expert;
    uint32_t times; /* tokens that chose it */
    uint32_t last;  /* of them, from 0 */
};

/* Tokens that go through a layer together: of a prompt, or one that was generated. */
struct sl_pass {
    bool decode;
    uint32_t tokens;
    size_t first, n; /* its uses: uses[first … first + n) of the layer, by `last`, then id */
};

struct sl_choice_layer {
    struct sl_pass *passes;
    size_t n_passes, passes_room;
    struct sl_use *uses;
    size_t n_uses, uses_room;
};

struct sl_choices {
    struct sl_trace_model model;
    uint32_t n_layers;              /* with experts */
    struct sl_choice_layer *layers; /* [n_layers] */
    size_t tokens[2], passes[2];    /* of prompts, and generated */
    struct sl_overlap overlap[2];   /* likewise; without tokens when the trace has no times */
};

int sl_choices_load(struct sl_choices *c, const char *path, struct sluice_err *err);
void sl_choices_free(struct sl_choices *c);

#endif
