/* SPDX-License-Identifier: MIT */
/* Tests the test: mistakes that a wrong kernel would make, each of which has to be reported. */
#include <stdio.h>
#include <string.h>

#include "tests/check/check_rungs.h"

/* Index of the first or last element that may be changed; b->n when there is none. */
static size_t changeable(const struct buffer *b, bool last)
{
    size_t found = b->n;
    for (size_t i = 0; i < b->n; i++)
        if (b->rule[i] == RULE_SAME) {
            found = i;
            if (!last)
                break;
        }
    return found;
}

/* The least that makes an element another one: its lowest bit, or NaN becomes a number. */
static void flip(struct buffer *b, size_t i)
{
    uint8_t *p = b->at + i * buffer_size(b);
    float f = 0;
    if (b->kind == KIND_FLOATS)
        memcpy(&f, p, sizeof f);
    if (f != f)
        p[3] ^= 0x40;
    else
        p[0] ^= 1;
}

static void flip_first(struct buffer *b)
{
    flip(b, changeable(b, false));
}

static void flip_last(struct buffer *b)
{
    flip(b, changeable(b, true));
}

static void change_kept(struct buffer *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->rule[i] == RULE_KEEP) {
            b->at[i * buffer_size(b)] ^= 1;
            return;
        }
}

static void read_byte(const volatile uint8_t *p)
{
    (void)*p;
}

static void read_behind(struct buffer *b)
{
    read_byte(b->at + buffer_bytes(b));
}

static void read_before(struct buffer *b)
{
    read_byte(b->at - 1);
}

static void write_behind(struct buffer *b)
{
    b->at[buffer_bytes(b)] ^= 1;
}

static void write_before(struct buffer *b)
{
    b->at[-1] ^= 1;
}

static bool any_changeable(const struct buffer *b)
{
    return changeable(b, false) < b->n;
}

static bool any_kept(const struct buffer *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->rule[i] == RULE_KEEP)
            return true;
    return false;
}

static bool always(const struct buffer *b)
{
    return b->name != NULL;
}

static const struct {
    struct fault fault;
    bool (*possible)(const struct buffer *b);
} faults[] = {
    {{"flip a bit of the first result", flip_first}, any_changeable},
    {{"flip a bit of the last result", flip_last}, any_changeable},
    {{"change what is to be kept", change_kept}, any_kept},
    {{"read a byte behind the end", read_behind}, always},
    {{"read a byte before the start", read_before}, always},
    {{"write a byte behind the end", write_behind}, always},
    {{"write a byte before the start", write_before}, always},
};

unsigned test_judge(const struct kernel *k, uint64_t seed)
{
    struct trial t;
    unsigned missed = 0;
    trial_open(&t, k, trial_count(k) - k->reals, seed);
    judge_silent = true;
    for (size_t b = 0; b < t.buffers; b++)
        for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
            struct subject wrong = {"wrong", sl_rung_at(0)->ops, &faults[i].fault, b};
            if (!faults[i].possible(&t.buffer[b]) || judge_trial(&t, &wrong, 1))
                continue;
            fprintf(stderr, "FAIL %s: nobody noticed: %s (%s)\n", k->name, faults[i].fault.name,
                    t.buffer[b].name);
            missed++;
        }
    judge_silent = false;
    trial_close(&t);
    return missed;
}
