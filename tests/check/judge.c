/* SPDX-License-Identifier: MIT */
/* Owns the comparison of a run with ref's, element by element, and the words for a difference. */
#include "tests/check/judge.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool judge_silent;

struct run {
    struct trial *trial;
    const struct subject *subject;
    enum place place;
};

static void describe_run(const struct run *r, char *text, size_t size)
{
    static const char *const place[PLACES] = {"end of buffer", "start of buffer", "shifted"};
    char args[200];
    trial_describe(r->trial, args, sizeof args);
    snprintf(text, size, "%s, %s, %s, case %zu: %s", r->trial->kernel->name, r->subject->name,
             place[r->place], r->trial->number, args);
}

/* Returns false, for the caller to return. */
__attribute__((format(printf, 2, 3))) static bool wrong(const struct run *r, const char *format,
                                                        ...)
{
    char where[300];
    va_list args;
    if (judge_silent)
        return false;
    describe_run(r, where, sizeof where);
    fprintf(stderr, "FAIL %s\n     ", where);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return false;
}

/* ---- one run -------------------------------------------------------------------------------- */

static void call_kernel(const void *context)
{
    const struct run *r = context;
    const struct subject *s = r->subject;
    r->trial->kernel->run(s->ops, r->trial);
    if (s->fault)
        s->fault->make(&r->trial->buffer[s->fault_buffer]);
}

/* Offset behind the end, or before the start, in words. */
static const char *relative(const struct buffer *b, ptrdiff_t offset, char *text, size_t size)
{
    ptrdiff_t end = (ptrdiff_t)buffer_bytes(b);
    if (offset < 0)
        snprintf(text, size, "%td bytes before %s", -offset, b->name);
    else
        snprintf(text, size, "byte %td behind the end of %s", offset - end, b->name);
    return text;
}

static bool survived(const struct run *r, const struct crash *crash)
{
    char text[80];
    if (crash->signal == 0)
        return true;
    if (!crash->known)
        return wrong(r, "ended by signal %d", crash->signal);
    const struct buffer *b = &r->trial->buffer[crash->slot];
    return wrong(r, "touched %s", relative(b, crash->offset, text, sizeof text));
}

static bool run_kernel(const struct run *r)
{
    char name[300];
    trial_place(r->trial, r->place);
    describe_run(r, name, sizeof name);
    struct crash crash = guard_call(call_kernel, r, name);
    return survived(r, &crash);
}

/* ---- comparison ----------------------------------------------------------------------------- */

static uint32_t element(const struct buffer *b, const uint8_t *p, size_t i)
{
    uint32_t u = 0;
    size_t size = buffer_size(b);
    memcpy(&u, p + i * size, size); /* little-endian */
    return u;
}

static bool is_nan(uint32_t u)
{
    return (u & 0x7fffffff) > 0x7f800000;
}

static bool equal(const struct buffer *b, uint32_t x, uint32_t y)
{
    return x == y || (b->kind == KIND_FLOATS && is_nan(x) && is_nan(y));
}

static bool differ(const struct run *r, const struct buffer *b, size_t i, uint32_t want)
{
    uint32_t got = element(b, b->at, i);
    float f, g;
    memcpy(&f, &got, 4);
    memcpy(&g, &want, 4);
    const char *who = b->rule[i] == RULE_KEEP ? "had, and must not change," : "of ref is";
    if (b->kind == KIND_FLOATS)
        return wrong(r, "%s[%zu] = %.9g (%08" PRIx32 "), the one %s %.9g (%08" PRIx32 ")", b->name,
                     i, (double)f, got, who, (double)g, want);
    return wrong(r, "%s[%zu] = 0x%" PRIx32 ", the one %s 0x%" PRIx32, b->name, i, got, who, want);
}

static bool compare_buffer(const struct run *r, const struct buffer *b)
{
    if (memcmp(b->at, b->want, buffer_bytes(b)) == 0)
        return true;
    for (size_t i = 0; i < b->n; i++) {
        bool keep = b->rule[i] == RULE_KEEP;
        uint32_t want = element(b, keep ? b->before : b->want, i), got = element(b, b->at, i);
        bool fine = keep ? got == want : b->rule[i] == RULE_ANY || equal(b, got, want);
        if (!fine)
            return differ(r, b, i, want);
    }
    return true;
}

static bool inspect(const struct run *r)
{
    for (size_t i = 0; i < r->trial->buffers; i++) {
        const struct buffer *b = &r->trial->buffer[i];
        ptrdiff_t offset;
        char text[80];
        if (!b->name)
            continue;
        if (guard_written(i, &offset))
            return wrong(r, "wrote %s", relative(b, offset, text, sizeof text));
        if (!compare_buffer(r, b))
            return false;
    }
    return true;
}

/* What ref leaves is what all others have to leave, if ref left alone what it must keep. */
static bool take_ref(const struct run *r)
{
    if (!run_kernel(r))
        return false;
    for (size_t i = 0; i < r->trial->buffers; i++) {
        struct buffer *b = &r->trial->buffer[i];
        if (!b->name)
            continue;
        memcpy(b->want, b->at, buffer_bytes(b));
        for (size_t j = 0; j < b->n; j++)
            if (b->rule[j] == RULE_KEEP && element(b, b->at, j) != element(b, b->before, j))
                return differ(r, b, j, element(b, b->before, j));
    }
    return inspect(r);
}

static struct subject ref_subject(void)
{
    const struct sl_rung *rung = sl_rung_at(0);
    return (struct subject){.name = rung->name, .ops = rung->ops};
}

bool judge_ref(struct trial *t)
{
    struct subject ref = ref_subject();
    return take_ref(&(struct run){.trial = t, .subject = &ref, .place = PLACE_END});
}

unsigned judge_trial(struct trial *t, const struct subject *subjects, size_t n)
{
    struct subject ref = ref_subject();
    unsigned failures = 0;
    if (!judge_ref(t))
        return 1;
    for (enum place place = PLACE_END; place < PLACES; place++) {
        struct run r = {.trial = t, .subject = &ref, .place = place};
        if (place != PLACE_END)
            failures += !run_kernel(&r) || !inspect(&r);
        for (size_t i = 0; i < n; i++) {
            r.subject = &subjects[i];
            failures += !run_kernel(&r) || !inspect(&r);
        }
    }
    return failures;
}
