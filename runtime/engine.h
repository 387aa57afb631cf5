/* SPDX-License-Identifier: MIT */
/* Inside the runtime: what an engine is made of.  Sessions borrow it. */
#ifndef SL_ENGINE_H
#define SL_ENGINE_H

#include "runtime/model/matmul.h"
#include "runtime/model/weights.h"
#include "runtime/stream/stream.h"
#include "runtime/text/text.h"

struct sluice_engine {
    struct sl_weights *weights;
    struct sl_experts *experts;     /* NULL: no layer has experts */
    struct sl_tokenizer *tokenizer; /* NULL: the container has no tokenizer.json */
    struct sl_compute compute;
    uint8_t *drawable; /* [vocab]: 1 for ids that have a token */
    char dir[SL_PATH_MAX];
};

#endif
