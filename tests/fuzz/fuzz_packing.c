/* SPDX-License-Identifier: MIT */
/* Packing descriptors, and the sizes that follow from them. */
#include <stdlib.h>
#include <string.h>

#include "runtime/container/container.h"
#include "tests/fuzz/fuzz.h"

static void check_packing(const char *text, const struct sl_packing *p)
{
    char again[256];
    sl_packing_print(p, again);
    fuzz_check(strcmp(text, again) == 0, "a descriptor is printed in another form");
    fuzz_check(sl_packing_valid(p), "a descriptor of no packing is accepted");
    double weights = (double)p->rows * p->cols * p->count;
    fuzz_check((double)sl_packing_bytes(p) >= weights / 2, "the size of a matrix overflows");
}

/* Experts made of two such matrices. */
static void check_layout(const struct sl_packing *p)
{
    struct sl_expert_layout layout = {.gate_up = *p, .down = *p};
    size_t bytes = sl_packing_bytes(p);
    sl_expert_layout_fill(&layout);
    fuzz_check(layout.down_offset >= bytes && layout.stride >= layout.down_offset + bytes &&
                   layout.stride % SL_DATA_ALIGN == 0 &&
                   layout.chunks * SL_CHUNK_BYTES >= layout.stride,
               "the layout of an expert overflows");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_packing p;
    struct sluice_err err;
    char *text = strndup((const char *)data, size);
    fuzz_check(text != NULL, "no memory");
    fuzz_err_prepare(&err);
    if (fuzz_succeeded(sl_packing_parse(text, "file: tensor", &p, &err), &err)) {
        check_packing(text, &p);
        check_layout(&p);
    }
    free(text);
    return 0;
}
