/* SPDX-License-Identifier: MIT */
/* The profiles: which packing each class of tensor gets.  Data and lookup, no I/O. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/err.h"

/* Raised when the same recipe begins to give other bytes: a resumed run must not mix them. */
enum { REVISION = 1 };

/* Lloyd–Max values for weights between a normal and a Student-t(8) distribution. */
static const int8_t nonlinear[SL_CODEBOOK] = {-127, -101, -76, -58, -43, -30, -19, -9,
                                              1,    12,   22,  34,  46,  61,  80,  104};
static const int8_t linear[SL_CODEBOOK] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

static const struct sl_format lut4_g32 = {SL_CODE_LUT4, SL_SCALE_S8, 32, nonlinear};
static const struct sl_format lut4_g64 = {SL_CODE_LUT4, SL_SCALE_S8, 64, nonlinear};
static const struct sl_format linear4_g32 = {SL_CODE_LUT4, SL_SCALE_BF16, 32, linear};
/* On the demo's experts F16 scales leave 0.593 %, S8 0.597 %, BF16 0.600 %: the codes are fitted to
 * the rounded scale, so its precision hardly counts, and BF16 neither over- nor underflows where a
 * tensor's weights are below 0.008 and F16 scales become subnormal. */
static const struct sl_format int8_g128 = {SL_CODE_INT8, SL_SCALE_BF16, 128, NULL};
static const struct sl_format bf16 = {SL_CODE_BF16, SL_SCALE_NONE, 0, NULL};
static const struct sl_format f32 = {SL_CODE_F32, SL_SCALE_NONE, 0, NULL};

static const struct sl_profile profiles[] = {
    {"quality", "experts 4.25 bit, everything else 8 bit (default)", &lut4_g32, &int8_g128,
     &int8_g128},
    {"balanced", "quality with the large attention matrices at 4.25 bit", &lut4_g32, &lut4_g32,
     &int8_g128},
    {"small", "experts 4.125 bit, attention and dense layers 4.25 bit", &lut4_g64, &lut4_g32,
     &lut4_g32},
    {"int4", "experts plain INT4 in groups of 32 with BF16 scales, for exchange", &linear4_g32,
     &int8_g128, &int8_g128},
    {"max", "everything 8 bit", &int8_g128, &int8_g128, &int8_g128},
    {"reference", "lossless, BF16 or F32: for small models and tests", NULL, NULL, NULL},
};

enum { N_PROFILES = sizeof profiles / sizeof profiles[0] };

bool sl_profile_list(size_t i, const char **name, const char **text)
{
    if (i >= N_PROFILES)
        return false;
    *name = profiles[i].name;
    *text = profiles[i].text;
    return true;
}

const struct sl_profile *sl_profile_find(const char *name, struct sluice_err *err)
{
    char known[256] = "";
    for (size_t i = 0; i < N_PROFILES; i++) {
        if (strcmp(profiles[i].name, name) == 0)
            return &profiles[i];
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", profiles[i].name);
    }
    sl_fail(err, SLUICE_EARG, "no profile \"%.40s\"; there are %s", name, known);
    return NULL;
}

static const struct sl_format *format_of(const struct sl_profile *p, enum sl_class class, bool mtp)
{
    switch (class) {
    case SL_CLASS_VECTOR:
    case SL_CLASS_EXACT:
        return &f32;
    case SL_CLASS_EXPERT:
        return p->experts;
    case SL_CLASS_ATTN_BIG:
        return mtp ? &int8_g128 : p->attn_big;
    case SL_CLASS_ATTN:
    case SL_CLASS_FFN:
        return mtp ? &int8_g128 : p->dense;
    case SL_CLASS_EMBED:
    case SL_CLASS_HEAD:
    case SL_CLASS_KV_UP:
    case SL_CLASS_INDEX:
    case SL_CLASS_MTP:
        break;
    }
    return &int8_g128;
}

struct sl_packing sl_profile_packing(const struct sl_profile *p, const struct sl_config *c,
                                     enum sl_role role, bool mtp, bool bf16_exact)
{
    enum sl_class class = sl_tensor_rules()[role].class;
    struct sl_shape shape = sl_tensor_shape_of(c, role);
    const struct sl_format *f = format_of(p, class, mtp);
    if (sl_profile_is_reference(p))
        f = class != SL_CLASS_EXACT && bf16_exact ? &bf16 : &f32;
    struct sl_packing out = {
        .code = f->code,
        .scale = f->scale,
        .group = f->group,
        .rows = shape.rows,
        .cols = shape.cols,
        .count = shape.count,
    };
    if (f->codebook)
        memcpy(out.codebook, f->codebook, sizeof out.codebook);
    return out;
}

static const char *code_name(const struct sl_format *f)
{
    return f->code == SL_CODE_INT8 ? "int8" : f->codebook == linear ? "int4" : "lut4";
}

/* OBJECT[key] = "lut4 group=32 scale=s8". */
static int put_format(json_t *object, const char *key, const struct sl_format *f)
{
    char text[64] = "bf16 or f32";
    if (f)
        snprintf(text, sizeof text, "%s group=%" PRIu32 " scale=%s", code_name(f), f->group,
                 f->scale == SL_SCALE_S8 ? "s8" : "bf16");
    return json_object_set_new(object, key, json_string(text));
}

json_t *sl_recipe_json(const struct sl_profile *p, bool fast)
{
    const struct sl_format *rest = sl_profile_is_reference(p) ? NULL : &int8_g128;
    char digest[SL_DIGEST_CHARS];
    json_t *object = json_object();
    int failed = json_object_set_new(object, "revision", json_integer(REVISION)) |
                 json_object_set_new(object, "scales", json_string(fast ? "absmax" : "search")) |
                 put_format(object, "experts", p->experts) |
                 put_format(object, "q_b, o", p->attn_big) |
                 put_format(object, "q_a, kv_a, dense, shared", p->dense) |
                 put_format(object, "kv_b, head, indexer, eh_proj, MTP layer", rest) |
                 json_object_set_new(object, "embedding",
                                     json_string(rest ? "int8 per row" : "bf16 or f32")) |
                 json_object_set_new(object, "router, norms, biases, weights_proj",
                                     json_string("f32"));
    char *text = failed ? NULL : json_dumps(object, JSON_COMPACT);
    if (text)
        sl_digest_print(digest, sl_hash(text, strlen(text)));
    if (!text || json_object_set_new(object, "digest", json_string(digest)) != 0) {
        json_decref(object);
        object = NULL;
    }
    free(text);
    return object;
}

void sl_digest_print(char out[SL_DIGEST_CHARS], uint64_t hash)
{
    snprintf(out, SL_DIGEST_CHARS, "%016" PRIx64, hash);
}
