/* SPDX-License-Identifier: MIT */
/* Temperature and top-p sampling with a counter-based random number: reproducible from the seed. */
#include "runtime/sample/sample.h"

static int may_draw(const struct sl_sampler *s, const float *logits, size_t i)
{
    return (!s->allowed || s->allowed[i]) && logits[i] == logits[i];
}

static int32_t best_token(const struct sl_sampler *s, const float *logits, size_t n)
{
    int32_t best = -1;
    for (size_t i = 0; i < n; i++)
        if (may_draw(s, logits, i) && (best < 0 || logits[i] > logits[best]))
            best = (int32_t)i;
    return best;
}

/* Uniform in [0, 1) from (seed, draw): two rounds of the splitmix64 mixer. */
static double uniform(uint64_t seed, uint64_t draw)
{
    uint64_t z = seed;
    for (int round = 0; round < 2; round++) {
        z += 0x9e3779b97f4a7c15u * (draw + 1);
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return (double)(z >> 11) * 0x1p-53;
}

/* True when X comes before Y: more likely, or equally likely with the lower id. */
static int before(struct sl_candidate x, struct sl_candidate y)
{
    return x.p > y.p || (x.p == y.p && x.id < y.id);
}

/* Restores the heap (first element foremost) below node I of heap[0..n). */
static void sift_down(struct sl_candidate *heap, size_t n, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], heap[i]))
            return;
        struct sl_candidate swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
    }
}

/* Takes the foremost candidate off the heap and puts it behind its new end. */
static struct sl_candidate pop(struct sl_candidate *heap, size_t *n)
{
    struct sl_candidate top = heap[0];
    heap[0] = heap[--*n];
    heap[*n] = top;
    sift_down(heap, *n, 0);
    return top;
}

/* Fills the heap with every token that may be drawn; returns their number. */
static size_t weigh(const struct sl_sampler *s, const float *logits, size_t n, float most,
                    double *total)
{
    size_t count = 0;
    *total = 0;
    for (size_t i = 0; i < n; i++)
        if (may_draw(s, logits, i)) {
            /* infinity minus itself is no number */
            float p = logits[i] == most ? 1 : s->exponential((logits[i] - most) / s->temperature);
            s->scratch[count++] = (struct sl_candidate){p, (int32_t)i};
            *total += (double)p;
        }
    for (size_t i = count / 2; i-- > 0;)
        sift_down(s->scratch, count, i);
    return count;
}

int32_t sl_sample(const struct sl_sampler *s, const float *logits, size_t n)
{
    int32_t best = best_token(s, logits, n);
    if (best < 0 || s->temperature <= 0)
        return best;
    double total, mass = 0, running = 0;
    size_t count = weigh(s, logits, n, logits[best], &total), left = count;
    do /* popped candidates line up behind the heap, the most likely last */
        mass += (double)pop(s->scratch, &left).p;
    while (left > 0 && mass < (double)s->top_p * total);
    double target = uniform(s->seed, s->draw) * mass;
    for (size_t i = count; i-- > left;) {
        running += (double)s->scratch[i].p;
        if (target < running)
            return s->scratch[i].id;
    }
    return s->scratch[left].id;
}
