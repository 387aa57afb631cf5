/* SPDX-License-Identifier: MIT */
/*
 * How many tokens of a prompt to compute in one span.  With more, experts are read less often; with
 * fewer, less is lost when it is cancelled.  What a span will take is known when the first of its
 * layers with experts is done; the tokens that are dropped then come again in the next span.
 */
#include "runtime/base/arith.h"
#include "runtime/session/session.h"

enum { MOST_CHUNKS = 1 << 20 };

/* X, which is not negative, without its fraction. */
static size_t whole(double x)
{
    return x < MOST_CHUNKS ? (size_t)x : MOST_CHUNKS;
}

size_t sl_span_tokens(const struct sl_span_time *t, size_t chunk, double limit)
{
    double chunks = (double)t->tokens / (double)chunk;
    double seconds = t->dense + t->layers * t->compute;
    size_t in_time = whole(chunks * limit / seconds + 0.5);
    size_t worth_reading = whole(chunks * t->read / t->compute) + 1;
    return chunk * sl_max(in_time, worth_reading);
}

struct sl_lap sl_span_lap(const sluice_session *s)
{
    struct sl_lap lap = {.now = sl_now(), .waited = s->meter.seconds[SLUICE_PART_IO]};
    if (s->engine->experts) {
        struct sl_experts_use use = sl_experts_use(s->engine->experts);
        lap.read = use.drives ? use.read_seconds / use.drives : 0;
    }
    return lap;
}

size_t sl_span_shorten(sluice_session *s, const struct sl_lap *start, const struct sl_lap *first,
                       size_t n)
{
    if (s->span_seconds == 0 || n < s->chunk)
        return n;
    struct sl_lap now = sl_span_lap(s);
    const struct sl_span_time time = {
        .tokens = n,
        .layers = s->n_layers - s->engine->weights->config.dense_layers,
        .dense = first->now - start->now,
        .compute = now.now - first->now - (now.waited - first->waited),
        .read = now.read - first->read,
    };
    s->span_now = sl_min(sl_span_tokens(&time, s->chunk, s->span_seconds), s->span);
    return sl_min(n, s->span_now);
}
