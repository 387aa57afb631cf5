/* SPDX-License-Identifier: MIT */
/* Trials of kernels over one vector: codes, norms, activation functions, rotations, decoding. */
#include <string.h>

#include "tests/check/trial.h"

/* All tails behind none to four times 16, and some longer ones. */
#define LENGTHS                                                                                    \
    {                                                                                              \
        "n", EVERY, 80, MORE(95, 111, 127, 128, 129, 143, 255, 256, 257, 511, 512, 527, 1031)      \
    }
#define ALL_VALUES                                                                                 \
    {                                                                                              \
        "values", EVERY, VALUES_KINDS, NULL, 0                                                     \
    }
enum { N, VALUES };

/* ---- codes ---------------------------------------------------------------------------------- */

static bool prepare_quantize_acts(struct trial *t)
{
    size_t n = arg(t, N), padded = sl_padded_cols(n);
    input_floats(t, "x", n, t->arg[VALUES]);
    output(t, "q", KIND_BYTES, padded);
    output(t, "scale", KIND_FLOATS, padded / SL_BLOCK);
    output(t, "sum", KIND_WORDS, padded / SL_BLOCK);
    return true;
}

static void run_quantize_acts(const struct sl_ops *ops, const struct trial *t)
{
    ops->quantize_acts(at(t, 0), arg(t, N), at(t, 1), at(t, 2), at(t, 3));
}

static bool prepare_quantize_groups(struct trial *t)
{
    size_t n = arg(t, N), group = arg(t, 2);
    input_floats(t, "x", n, t->arg[VALUES]);
    output(t, "q", KIND_BYTES, n);
    output(t, "scale", KIND_FLOATS, (n + group - 1) / group);
    return true;
}

static void run_quantize_groups(const struct sl_ops *ops, const struct trial *t)
{
    ops->quantize_groups(at(t, 0), arg(t, N), arg(t, 2), at(t, 1), at(t, 2));
}

/* ---- norms ---------------------------------------------------------------------------------- */

enum { IN_PLACE = 2 };
enum { NORM_Y, NORM_W, NORM_B, NORM_X };

/* y may be x. */
static bool prepare_norm(struct trial *t)
{
    size_t n = arg(t, N);
    if (t->arg[IN_PLACE])
        output_floats(t, "x", n, t->arg[VALUES]);
    else
        output(t, "y", KIND_FLOATS, n);
    input_floats(t, "w", n, VALUES_UNIFORM);
    input_floats(t, "b", n, VALUES_UNIFORM);
    if (!t->arg[IN_PLACE])
        input_floats(t, "x", n, t->arg[VALUES]);
    return true;
}

static const float *norm_x(const struct trial *t)
{
    return at(t, t->arg[IN_PLACE] ? NORM_Y : NORM_X);
}

static void run_rmsnorm(const struct sl_ops *ops, const struct trial *t)
{
    ops->rmsnorm(norm_x(t), at(t, NORM_W), 1e-6f, arg(t, N), at(t, NORM_Y));
}

static void run_layernorm(const struct sl_ops *ops, const struct trial *t)
{
    ops->layernorm(norm_x(t), at(t, NORM_W), at(t, NORM_B), 1e-6f, arg(t, N), at(t, NORM_Y));
}

/* ---- element by element --------------------------------------------------------------------- */

static bool prepare_swiglu(struct trial *t)
{
    input_floats(t, "gate_up", 2 * sl_padded_rows(arg(t, N)), t->arg[VALUES]);
    output(t, "y", KIND_FLOATS, arg(t, N));
    return true;
}

static void run_swiglu(const struct sl_ops *ops, const struct trial *t)
{
    ops->swiglu(at(t, 0), arg(t, N), at(t, 1));
}

static bool prepare_sum(struct trial *t)
{
    input_floats(t, "x", arg(t, N), t->arg[VALUES]);
    output_floats(t, "y", arg(t, N), random_word() % 2 ? t->arg[VALUES] : VALUES_UNIFORM);
    input_floats(t, "a", 1, random_word() % 4 ? VALUES_UNIFORM : t->arg[VALUES]);
    return true;
}

static void run_axpy(const struct sl_ops *ops, const struct trial *t)
{
    const float *a = at(t, 2);
    ops->axpy(*a, at(t, 0), arg(t, N), at(t, 1));
}

static void run_add(const struct sl_ops *ops, const struct trial *t)
{
    ops->add(at(t, 0), arg(t, N), at(t, 1));
}

static bool prepare_map(struct trial *t)
{
    input_floats(t, "x", arg(t, N), t->arg[VALUES]);
    output(t, "y", KIND_FLOATS, arg(t, N));
    return true;
}

static void run_sigmoid(const struct sl_ops *ops, const struct trial *t)
{
    ops->sigmoid(at(t, 0), arg(t, N), at(t, 1));
}

/* ---- rotations ------------------------------------------------------------------------------ */

static bool prepare_rope(struct trial *t)
{
    size_t pairs = arg(t, N);
    output_floats(t, "x", 2 * pairs, t->arg[VALUES]);
    float *cosine = input(t, "cosine", KIND_FLOATS, pairs);
    float *sine = input(t, "sine", KIND_FLOATS, pairs);
    for (size_t i = 0; i < pairs; i++)
        sl_sincosf((float)(random_word() % 200000) * 0.37f, &sine[i], &cosine[i]);
    return true;
}

static void run_rope_interleaved(const struct sl_ops *ops, const struct trial *t)
{
    ops->rope_interleaved(at(t, 0), at(t, 1), at(t, 2), arg(t, N));
}

static void run_rope_half(const struct sl_ops *ops, const struct trial *t)
{
    ops->rope_half(at(t, 0), at(t, 1), at(t, 2), arg(t, N));
}

static bool prepare_hadamard(struct trial *t)
{
    output_floats(t, "x", arg(t, N), t->arg[VALUES]);
    return true;
}

static void run_hadamard(const struct sl_ops *ops, const struct trial *t)
{
    ops->hadamard(at(t, 0), arg(t, N));
}

/* ---- decoding ------------------------------------------------------------------------------- */

enum { SOME_NAN = 2 };

static bool prepare_fp8_decode(struct trial *t)
{
    size_t n = arg(t, N);
    uint8_t *code = input(t, "code", KIND_BYTES, n);
    for (size_t i = 0; i < n; i++)
        if ((code[i] & 0x7f) == 0x7f)
            code[i] ^= 1;
    if (t->arg[SOME_NAN] && n)
        code[random_word() % n] = random_word() % 2 ? 0x7f : 0xff;
    input_floats(t, "factor", 1, t->arg[VALUES]);
    output(t, "out", KIND_FLOATS, n);
    output(t, "result", KIND_BYTES, 1);
    return true;
}

static void run_fp8_decode(const struct sl_ops *ops, const struct trial *t)
{
    const float *factor = at(t, 1);
    bool *result = at(t, 3);
    *result = ops->fp8_decode(at(t, 0), arg(t, N), *factor, at(t, 2));
}

static bool prepare_bf16_decode(struct trial *t)
{
    input(t, "code", KIND_HALVES, arg(t, N));
    output(t, "out", KIND_FLOATS, arg(t, N));
    return true;
}

static void run_bf16_decode(const struct sl_ops *ops, const struct trial *t)
{
    ops->bf16_decode(at(t, 0), arg(t, N), at(t, 1));
}

/* ---- table ---------------------------------------------------------------------------------- */

/* clang-format off */
static const long hidden_vectors[][AXES] = {{7168}, {1536}, {512}};
static const long inner_vectors[][AXES] = {{2048}, {18432}};
static const long all_vectors[][AXES] = {{7168}, {1536}, {2048}, {18432}, {16384}, {14336},
                                           {512}};
static const long latents[][AXES] = {{512, 0, 128}, {128, 0, 128}};
static const long key_norm[][AXES] = {{128}};
static const long router[][AXES] = {{256}};
static const long rope_pairs[][AXES] = {{32}};

const struct kernel vector_kernels[] = {
    {"quantize_acts", {LENGTHS, ALL_VALUES}, REAL(all_vectors),
     prepare_quantize_acts, run_quantize_acts, NULL},
    {"quantize_groups",
     {LENGTHS, ALL_VALUES, {"group", SOME, 0, MORE(1, 7, 16, 32, 100, 128, 999)}},
     REAL(latents), prepare_quantize_groups, run_quantize_groups, NULL},
    {"rmsnorm", {LENGTHS, ALL_VALUES, {"in_place", EVERY, 2, NULL, 0}}, REAL(hidden_vectors),
     prepare_norm, run_rmsnorm, NULL},
    {"layernorm", {LENGTHS, ALL_VALUES, {"in_place", EVERY, 2, NULL, 0}}, REAL(key_norm),
     prepare_norm, run_layernorm, NULL},
    {"swiglu", {LENGTHS, ALL_VALUES}, REAL(inner_vectors), prepare_swiglu, run_swiglu, NULL},
    {"axpy", {LENGTHS, ALL_VALUES}, REAL(hidden_vectors), prepare_sum, run_axpy, NULL},
    {"add", {LENGTHS, ALL_VALUES}, REAL(hidden_vectors), prepare_sum, run_add, NULL},
    {"sigmoid", {LENGTHS, ALL_VALUES}, REAL(router), prepare_map, run_sigmoid, NULL},
    {"rope_interleaved", {LENGTHS, ALL_VALUES}, REAL(rope_pairs),
     prepare_rope, run_rope_interleaved, NULL},
    {"rope_half", {LENGTHS, ALL_VALUES}, REAL(rope_pairs), prepare_rope, run_rope_half, NULL},
    {"hadamard", {{"n", EVERY, 0, MORE(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)}, ALL_VALUES},
     REAL(key_norm), prepare_hadamard, run_hadamard, NULL},
    {"fp8_decode", {LENGTHS, ALL_VALUES, {"nan", EVERY, 2, NULL, 0}}, REAL(hidden_vectors),
     prepare_fp8_decode, run_fp8_decode, NULL},
    {"bf16_decode", {LENGTHS}, REAL(hidden_vectors), prepare_bf16_decode, run_bf16_decode, NULL},
    {0},
};
/* clang-format on */
