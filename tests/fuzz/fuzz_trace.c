/* SPDX-License-Identifier: MIT */
/* Traces of router choices, plain or compressed. */
#include "tests/fuzz/fuzz.h"
#include "tools/common/trace.h"

static void check_route(const struct sl_trace_model *m, const struct sl_trace_route *r)
{
    fuzz_check(r->layer >= m->dense && r->layer < m->layers, "a layer that has no experts");
    for (uint32_t i = 0; i < m->used; i++)
        fuzz_check(r->experts[i] < m->experts && (i == 0 || r->experts[i - 1] < r->experts[i]),
                   "experts that are not there, or not ascending");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_trace *t;
    struct sl_trace_route route;
    struct sluice_err err;
    int status;
    fuzz_err_prepare(&err);
    status = sl_trace_open(&t, fuzz_put("trace", data, size), &err);
    if (fuzz_succeeded(status, &err)) {
        fuzz_err_prepare(&err);
        while ((status = sl_trace_next(t, &route, &err)) > 0)
            check_route(sl_trace_model(t), &route);
        fuzz_succeeded(status, &err);
    }
    sl_trace_close(&t);
    return 0;
}
