/* SPDX-License-Identifier: MIT */
/*
 * Packing descriptors (docs/format.md has the grammar) and the layout of an expert's block.  The
 * sizes themselves come from simd/; this file sees to it that they cannot overflow.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/container/container.h"
#include "runtime/container/container_private.h"

enum {
    TEXT_MAX = 256,          /* with the NUL */
    MAX_DIMENSION = 1 << 24, /* rows, cols, count */
};

static const uint64_t max_weights = (uint64_t)1 << 48; /* of all matrices, padding included */

static const struct {
    const char *word;
    enum sl_code code;
} codes[] = {
    {"lut4", SL_CODE_LUT4}, {"int8", SL_CODE_INT8}, {"bf16", SL_CODE_BF16}, {"f32", SL_CODE_F32}};

static const struct {
    const char *word;
    enum sl_scale scale;
} scales[] = {{"s8", SL_SCALE_S8}, {"f16", SL_SCALE_F16}, {"bf16", SL_SCALE_BF16}};

static const char *code_word(enum sl_code code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code)
            return codes[i].word;
    return "?";
}

static const char *scale_word(enum sl_scale scale)
{
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        if (scales[i].scale == scale)
            return scales[i].word;
    return "?";
}

void sl_packing_print(const struct sl_packing *p, char out[TEXT_MAX])
{
    size_t used = (size_t)snprintf(out, TEXT_MAX, "panel16 %s", code_word(p->code));
    if (sl_is_integer(p->code))
        used += (size_t)snprintf(out + used, TEXT_MAX - used, " group=%u scale=%s", p->group,
                                 scale_word(p->scale));
    used += (size_t)snprintf(out + used, TEXT_MAX - used, " rows=%u cols=%u count=%u", p->rows,
                             p->cols, p->count);
    if (p->code != SL_CODE_LUT4)
        return;
    for (int i = 0; i < SL_CODEBOOK; i++)
        used += (size_t)snprintf(out + used, TEXT_MAX - used, "%s%d",
                                 i ? "," : " codebook=", p->codebook[i]);
}

/* ---- parsing -------------------------------------------------------------------------------- */

/* A decimal number from 1 to 2^24; false for anything else. */
static bool parse_count(const char *text, uint32_t *out)
{
    uint32_t n = 0;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9' || n > MAX_DIMENSION)
            return false;
        n = 10 * n + (uint32_t)(*c - '0');
    }
    *out = n;
    return n >= 1 && n <= MAX_DIMENSION;
}

/* 16 ascending integers from -128 to 127 with commas between. */
static bool parse_codebook(const char *text, int8_t codebook[SL_CODEBOOK])
{
    for (int i = 0; i < SL_CODEBOOK; i++) {
        char *end;
        long n = strtol(text, &end, 10);
        if (end == text || *end != (i + 1 < SL_CODEBOOK ? ',' : 0) || n < -128 || n > 127 ||
            (i > 0 && n < codebook[i - 1]))
            return false;
        codebook[i] = (int8_t)n;
        text = end + 1;
    }
    return true;
}

static bool parse_code(const char *text, enum sl_code *code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (strcmp(text, codes[i].word) == 0) {
            *code = codes[i].code;
            return true;
        }
    }
    return false;
}

static bool parse_scale(const char *text, enum sl_scale *scale)
{
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        if (strcmp(text, scales[i].word) == 0) {
            *scale = scales[i].scale;
            return true;
        }
    }
    return false;
}

static int unknown_word(const char *where, const char *word, struct sluice_err *err)
{
    char shown[SL_SHOWN];
    return sl_fail(err, SLUICE_EUNSUPPORTED,
                   "%.600s: packing \"%s\" is unknown to this build; use the version of sluice "
                   "that wrote the container, or a newer one",
                   where, sl_shown(word, shown));
}

static int bad_word(const char *where, const char *word, struct sluice_err *err)
{
    char shown[SL_SHOWN];
    return sl_fail(err, SLUICE_EFORMAT, "%.600s: packing descriptor has a bad \"%s\"", where,
                   sl_shown(word, shown));
}

/* If WORD is "KEY=value", the value. */
static const char *value_of(const char *word, const char *key)
{
    size_t n = strlen(key);
    return strncmp(word, key, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

/* Words behind the first, which names the layout. */
static int parse_word(const char *word, const char *where, struct sl_packing *p,
                      struct sluice_err *err)
{
    const char *value;
    bool good = true;
    if (parse_code(word, &p->code))
        return 0;
    if ((value = value_of(word, "scale")))
        return parse_scale(value, &p->scale) ? 0 : unknown_word(where, word, err);
    if ((value = value_of(word, "group")))
        good = parse_count(value, &p->group);
    else if ((value = value_of(word, "rows")))
        good = parse_count(value, &p->rows);
    else if ((value = value_of(word, "cols")))
        good = parse_count(value, &p->cols);
    else if ((value = value_of(word, "count")))
        good = parse_count(value, &p->count);
    else if ((value = value_of(word, "codebook")))
        good = parse_codebook(value, p->codebook);
    else
        return unknown_word(where, word, err);
    return good ? 0 : bad_word(where, word, err);
}

/* Everything was read; is it a whole, and of a size that can be? */
static int check_packing(const char *text, const char *where, const struct sl_packing *p,
                         struct sluice_err *err)
{
    char again[TEXT_MAX], shown[SL_SHOWN];
    size_t weights;
    sl_packing_print(p, again);
    if (strcmp(text, again) != 0)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%.600s: packing descriptor \"%s\": words missing, repeated, misplaced or "
                       "not in their plain form",
                       where, sl_shown(text, shown));
    if (!sl_packing_valid(p))
        return unknown_word(where, text, err);
    if (!sl_mul(sl_padded_rows(p->rows), sl_padded_cols(p->cols), &weights) ||
        !sl_mul(weights, p->count, &weights) || weights > max_weights)
        return sl_fail(err, SLUICE_EFORMAT, "%.600s: packing descriptor \"%s\": beyond any model",
                       where, sl_shown(text, shown));
    return 0;
}

int sl_packing_parse(const char *text, const char *where, struct sl_packing *p,
                     struct sluice_err *err)
{
    char copy[TEXT_MAX], *rest = copy;
    *p = (struct sl_packing){0};
    if (strlen(text) >= sizeof copy)
        return bad_word(where, text, err);
    strcpy(copy, text);
    const char *word = strsep(&rest, " ");
    if (strcmp(word, "panel16") != 0)
        return unknown_word(where, word, err);
    while ((word = strsep(&rest, " "))) {
        int status = parse_word(word, where, p, err);
        if (status < 0)
            return status;
    }
    return check_packing(text, where, p, err);
}

/* ---- expert blocks -------------------------------------------------------------------------- */

void sl_expert_layout_fill(struct sl_expert_layout *layout)
{
    layout->down_offset = sl_round_up(sl_packing_bytes(&layout->gate_up), SL_DATA_ALIGN);
    layout->stride = sl_round_up(layout->down_offset + sl_packing_bytes(&layout->down),
                                 SL_DATA_ALIGN);
    layout->chunks = sl_ceil_div(layout->stride, SL_CHUNK_BYTES);
}

size_t sl_chunk_length(const struct sl_expert_layout *layout, uint64_t chunk)
{
    return sl_min(SL_CHUNK_BYTES, layout->stride - chunk * SL_CHUNK_BYTES);
}
