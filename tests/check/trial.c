/* SPDX-License-Identifier: MIT */
/* Owns the contents of the buffers of a trial and the choice of its arguments. */
#include "tests/check/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

const struct kernel *kernel_at(size_t i)
{
    static const struct kernel *const tables[] = {gemm_kernels, vector_kernels, index_kernels,
                                                  attend_kernels, fit_kernels};
    for (size_t j = 0; j < sizeof tables / sizeof *tables; j++)
        for (const struct kernel *k = tables[j]; k->name; k++)
            if (i-- == 0)
                return k;
    return NULL;
}

/* ---- arguments ------------------------------------------------------------------------------ */

static size_t axis_values(const struct axis *a)
{
    return (size_t)a->upto + a->mores;
}

static long axis_value(const struct axis *a, size_t i)
{
    return (long)i < a->upto ? (long)i : a->more[i - (size_t)a->upto];
}

static size_t sweep_count(const struct kernel *k)
{
    size_t count = 1;
    for (size_t i = 0; i < AXES && k->axis[i].name; i++)
        if (k->axis[i].choice == EVERY)
            count *= axis_values(&k->axis[i]);
    return count;
}

size_t trial_count(const struct kernel *k)
{
    return sweep_count(k) + k->reals;
}

static void choose_args(struct trial *t)
{
    const struct kernel *k = t->kernel;
    size_t sweep = sweep_count(k), left = t->number;
    if (left >= sweep) {
        memcpy(t->arg, k->real[left - sweep], sizeof t->arg);
        return;
    }
    for (size_t i = 0; i < AXES && k->axis[i].name; i++) {
        size_t values = axis_values(&k->axis[i]), pick;
        if (k->axis[i].choice == EVERY) {
            pick = left % values;
            left /= values;
        } else {
            pick = random_word() % values;
        }
        t->arg[i] = axis_value(&k->axis[i], pick);
    }
}

bool trial_open(struct trial *t, const struct kernel *k, size_t number, uint64_t seed)
{
    for (const char *c = k->name; *c; c++)
        seed = seed * 31 + (uint8_t)*c;
    seed_values(seed + number * 0x10001);
    *t = (struct trial){.kernel = k, .number = number};
    choose_args(t);
    return k->prepare(t);
}

void trial_close(struct trial *t)
{
    for (size_t i = 0; i < t->buffers; i++)
        free(t->buffer[i].before);
    t->buffers = 0;
}

void trial_describe(const struct trial *t, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < AXES && t->kernel->axis[i].name && used < size; i++) {
        const char *name = t->kernel->axis[i].name;
        used += (size_t)snprintf(text + used, size - used, "%s%s=%ld", i ? " " : "", name,
                                 t->arg[i]);
    }
}

/* ---- buffers -------------------------------------------------------------------------------- */

size_t buffer_size(const struct buffer *b)
{
    static const size_t size[] = {
        [KIND_BYTES] = 1, [KIND_HALVES] = 2, [KIND_WORDS] = 4, [KIND_FLOATS] = 4, [KIND_MATRIX] = 1,
    };
    return size[b->kind];
}

size_t buffer_bytes(const struct buffer *b)
{
    return b->n * buffer_size(b);
}

void trial_place(struct trial *t, enum place place)
{
    for (size_t i = 0; i < t->buffers; i++) {
        struct buffer *b = &t->buffer[i];
        if (!b->name)
            continue;
        /* buffers at different offsets, and in the course of the trials each at all of them */
        size_t step = b->kind == KIND_MATRIX ? 64 : buffer_size(b), shift = t->number + 5 * i;
        b->at = guard_place(i, buffer_bytes(b), place, step, shift);
        memcpy(b->at, b->before, buffer_bytes(b));
    }
}

static struct buffer *add_buffer(struct trial *t, const char *name, enum kind kind, size_t n)
{
    struct buffer *b = &t->buffer[t->buffers];
    if (t->buffers++ == BUFFERS) {
        fprintf(stderr, "%s: too many buffers\n", t->kernel->name);
        exit(2);
    }
    *b = (struct buffer){.name = name, .kind = kind, .n = n};
    size_t bytes = buffer_bytes(b);
    b->before = malloc(2 * bytes + n + 1);
    if (!b->before) {
        perror(name);
        exit(2);
    }
    b->want = b->before + bytes;
    b->rule = b->want + bytes;
    fill_bytes(b->before, bytes);
    return b;
}

void set_rule(struct trial *t, size_t from, size_t n, enum rule rule)
{
    memset(t->buffer[t->buffers - 1].rule + from, (int)rule, n);
}

void *input(struct trial *t, const char *name, enum kind kind, size_t n)
{
    struct buffer *b = add_buffer(t, name, kind, n);
    set_rule(t, 0, n, RULE_KEEP);
    return b->before;
}

void *output(struct trial *t, const char *name, enum kind kind, size_t n)
{
    struct buffer *b = add_buffer(t, name, kind, n);
    set_rule(t, 0, n, RULE_SAME);
    return b->before;
}

float *input_floats(struct trial *t, const char *name, size_t n, long values)
{
    float *x = input(t, name, KIND_FLOATS, n);
    fill_floats(x, n, values);
    return x;
}

float *output_floats(struct trial *t, const char *name, size_t n, long values)
{
    float *x = output(t, name, KIND_FLOATS, n);
    fill_floats(x, n, values);
    return x;
}

void absent(struct trial *t)
{
    add_buffer(t, NULL, KIND_BYTES, 0);
}

/* ---- calls ---------------------------------------------------------------------------------- */

void trial_run(struct trial *t, const struct sl_ops *ops)
{
    trial_place(t, PLACE_START);
    t->kernel->run(ops, t);
}

double trial_time(struct trial *t, const struct sl_ops *ops, size_t calls)
{
    trial_run(t, ops);
    double start = sl_now();
    for (size_t i = 0; i < calls; i++)
        t->kernel->run(ops, t);
    return (sl_now() - start) / (double)calls;
}
