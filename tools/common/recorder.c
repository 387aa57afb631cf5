/* SPDX-License-Identifier: MIT */
#include "tools/common/recorder.h"

#include "runtime/base/err.h"

int sl_recorder_open(struct sl_recorder *r, const char *path, const struct sluice_model_info *info,
                     struct sluice_err *err)
{
    const struct sl_trace_model model = {
        .layers = (uint32_t)info->layers,
        .dense = (uint32_t)info->dense_layers,
        .experts = (uint32_t)info->experts,
        .used = (uint32_t)info->experts_used,
    };
    *r = (struct sl_recorder){0};
    if (model.experts == 0)
        return sl_fail(err, SLUICE_EARG, "--trace: the model has no experts to choose from");
    return sl_trace_create(&r->writer, path, &model, err);
}

void sl_record_route(struct sl_recorder *r, int32_t layer, size_t position, const uint32_t *experts)
{
    if (r->writer)
        sl_trace_write(r->writer, &(struct sl_trace_route){
                                      .decode = r->decoding,
                                      .position = (uint32_t)position,
                                      .layer = (uint32_t)layer,
                                      .experts = experts,
                                  });
}

const uint32_t *sl_recorder_route(void *user, int32_t layer, size_t position,
                                  const uint32_t *experts, const float *weights, size_t n)
{
    (void)weights, (void)n;
    sl_record_route(user, layer, position, experts);
    return NULL;
}

static uint64_t microseconds(double seconds)
{
    return (uint64_t)(seconds * 1e6 + 0.5);
}

void sl_recorder_experts(void *user, const struct sluice_expert_event *e)
{
    const struct sl_recorder *r = user;
    if (r->writer)
        sl_trace_write_event(r->writer, &(struct sl_trace_event){
                                            .decode = r->decoding,
                                            .position = (uint32_t)e->position,
                                            .tokens = (uint32_t)e->tokens,
                                            .layer = (uint32_t)e->layer,
                                            .memory = e->hits,
                                            .read = e->misses,
                                            .ahead = e->ahead,
                                            .bytes = e->bytes,
                                            .before = microseconds(e->before),
                                            .resident = microseconds(e->resident),
                                            .reading = microseconds(e->reading),
                                            .rest = microseconds(e->rest),
                                            .all = microseconds(e->all),
                                        });
}

int sl_recorder_close(struct sl_recorder *r, struct sluice_err *err)
{
    return sl_trace_finish(&r->writer, err);
}
