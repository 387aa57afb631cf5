/* SPDX-License-Identifier: MIT */
/* Traces of router choices and what became of them, plain or compressed. */
#include "tests/fuzz/fuzz.h"
#include "tools/common/trace.h"

static void check_route(const struct sl_trace_model *m, const struct sl_trace_route *r)
{
    fuzz_check(r->layer >= m->dense && r->layer < m->layers, "a layer that has no experts");
    for (uint32_t i = 0; i < m->used; i++)
        fuzz_check(r->experts[i] < m->experts && (i == 0 || r->experts[i - 1] < r->experts[i]),
                   "experts that are not there, or not ascending");
}

static void check_event(const struct sl_trace_model *m, const struct sl_trace_event *e)
{
    fuzz_check(e->tokens > 0, "a pass without tokens");
    fuzz_check(e->layer >= m->dense && e->layer < m->layers, "a layer that has no experts");
    fuzz_check(e->memory <= m->experts && e->read <= m->experts && e->ahead <= m->experts,
               "more experts than there are");
    fuzz_check(((e->bytes | e->before | e->resident | e->reading | e->rest | e->all) >> 54) == 0,
               "amounts whose sum could overflow");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_trace *t;
    struct sl_trace_record r;
    struct sluice_err err;
    int status;
    fuzz_err_prepare(&err);
    status = sl_trace_open(&t, fuzz_put("trace", data, size), &err);
    if (fuzz_succeeded(status, &err)) {
        fuzz_err_prepare(&err);
        while ((status = sl_trace_read(t, &r, &err)) > 0)
            if (r.is_event)
                check_event(sl_trace_model(t), &r.event);
            else
                check_route(sl_trace_model(t), &r.route);
        fuzz_succeeded(status, &err);
    }
    sl_trace_close(&t);
    return 0;
}
