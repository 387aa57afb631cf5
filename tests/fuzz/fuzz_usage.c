/* SPDX-License-Identifier: MIT */
/* Usage files of a model with two layers of three experts, made from the source "x". */
#include "runtime/stream/usage.h"
#include "tests/fuzz/fuzz.h"

static void check_counts(const struct sl_slots *s)
{
    uint32_t ids[3];
    for (uint32_t layer = 0; layer < 2; layer++) {
        uint32_t n = sl_slots_best(s, layer, ids, 3);
        fuzz_check(n <= 3, "more experts than there are");
        for (uint32_t i = 0; i < n; i++)
            fuzz_check(ids[i] < 3 && (i == 0 || ids[i - 1] < ids[i]), "experts out of order");
        for (uint32_t expert = 0; expert < 3; expert++)
            fuzz_check(sl_slots_count(s, layer, expert) >= 0, "less than no use");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct sl_slots_opts opts = {.layers = 2, .experts = 3, .slots = 2};
    struct sl_slots *s;
    struct sluice_err err;
    fuzz_check(sl_slots_open(&s, &opts, &err) == 0, "no slots");
    fuzz_err_prepare(&err);
    if (fuzz_succeeded(sl_usage_load(s, fuzz_put("usage", data, size), "x", &err), &err)) {
        check_counts(s);
        fuzz_check(sl_usage_save(s, fuzz_path("again"), "x", &err) == 0 &&
                       sl_usage_load(s, fuzz_path("again"), "x", &err) == 1,
                   "what was read cannot be written and read again");
    }
    sl_slots_close(&s);
    return 0;
}
