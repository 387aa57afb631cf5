/* SPDX-License-Identifier: MIT */
/*
 * config.json and, behind a blank line, generation_config.json; then all arithmetic that trusts
 * them: rotation, the tensor table, packings, sizes of files, memory of a session.
 */
#include <math.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/layer.h"
#include "tests/fuzz/fuzz.h"

enum { CHUNK = 64 };

static void check_numbers(const struct sl_config *c)
{
    static float frequency[1 << 15];
    float scale = sl_softmax_scale(c);
    fuzz_check(scale > 0 && isfinite(scale), "the scale of the softmax is no positive number");
    fuzz_check(c->rope / 2 <= sizeof frequency / sizeof *frequency, "rope is too wide");
    float factor = sl_rope_frequencies(c, frequency);
    fuzz_check(factor > 0 && isfinite(factor), "the factor of the rotation is no positive number");
    for (uint32_t i = 0; i < c->rope / 2; i++)
        fuzz_check(frequency[i] >= 0 && frequency[i] <= 1, "a frequency is not from 0 to 1");
    fuzz_check(c->temperature >= 0 && c->top_p > 0 && c->top_p <= 1, "sampling is out of range");
}

/* ---- tensors -------------------------------------------------------------------------------- */

static void check_packing(const struct sl_config *c, const struct sl_profile *profile,
                          enum sl_role role)
{
    struct sl_packing p = sl_profile_packing(profile, c, role, false, false), again;
    struct sl_shape shape = sl_tensor_shape_of(c, role);
    struct sluice_err err;
    char text[256];
    fuzz_check(sl_shape_fits(c, role, &p), "a packing of another shape than the tensor");
    fuzz_check(shape.rows > 0 && shape.cols > 0 && shape.count > 0, "an empty tensor");
    sl_packing_print(&p, text);
    fuzz_err_prepare(&err);
    fuzz_check(fuzz_succeeded(sl_packing_parse(text, "config", &again, &err), &err),
               "a packing that the format cannot describe");
}

static void check_names(const struct sl_config *c, enum sl_role role, uint32_t layer)
{
    const struct sl_tensor_rule *rule = &sl_tensor_rules()[role];
    char name[128];
    if (rule->where != SL_IN_HEAD && !sl_layer_has(c, layer, role))
        return;
    sl_tensor_name(name, rule, rule->checkpoint, layer, c->experts - 1);
    fuzz_check(strlen(name) < sizeof name - 1, "a name is cut off");
}

static void check_tensors(const struct sl_config *c)
{
    static const char *const profiles[] = {"quality", "balanced", "reference"};
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        const struct sl_profile *profile = sl_profile_find(profiles[i], NULL);
        fuzz_check(profile != NULL, "a profile is gone");
        for (enum sl_role role = 0; role < SL_N_ROLES; role++) {
            bool exists = sl_tensor_rules()[role].where != SL_IN_SPARSE || c->index_heads > 0;
            if (exists && sl_tensor_rules()[role].class != SL_CLASS_VECTOR)
                check_packing(c, profile, role);
            check_names(c, role, 0);
            check_names(c, role, c->layers);
        }
    }
}

/* ---- memory --------------------------------------------------------------------------------- */

/* A session counts all that the largest tensors and caches need, or says that it is too much. */
static void check_memory(const struct sl_config *c, struct sl_cache_types types)
{
    struct sl_workspace ws = {0};
    struct sl_arena arena = {0};
    const struct sl_workspace_opts opts = {.config = c,
                                           .compute.team.threads = 2,
                                           .types = types,
                                           .chunk = CHUNK,
                                           .capacity = c->context};
    double scratch = 4.0 * CHUNK * c->heads * (1.0 * c->kv_lora + c->nope + c->rope + c->v_dim);
    double rows = (double)c->layers * c->context * (1.0 * c->kv_lora + 2.0 * c->rope);
    sl_workspace_take(&ws, &arena, &arena, &opts);
    for (uint32_t layer = 0; layer < c->layers; layer++) {
        struct sl_layer_cache cache = {0};
        sl_cache_take(&cache, &arena, c, types, c->context);
    }
    fuzz_check(arena.overflow || (double)arena.used >= scratch + rows, "memory is counted wrong");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_config c;
    struct sluice_err err;
    const uint8_t *generation;
    size_t generation_size, n = fuzz_split(data, size, &generation, &generation_size);
    fuzz_put("config.json", data, n);
    fuzz_put("generation_config.json", generation_size ? (const char *)generation : "{}",
             generation_size ? generation_size : 2);
    fuzz_err_prepare(&err);
    if (fuzz_succeeded(sl_config_read(&c, fuzz_path("."), &err), &err)) {
        check_numbers(&c);
        check_tensors(&c);
        check_memory(&c, (struct sl_cache_types){SL_CACHE_INT8, SL_CACHE_INT8});
        check_memory(&c, (struct sl_cache_types){SL_CACHE_F32, 0});
    }
    return 0;
}
