/* SPDX-License-Identifier: MIT */
/*
 * For tests of runtime/stream: a container of two expert files, written by hand, in the scratch
 * directory; opening its experts, and what must be in their blocks.
 */
#ifndef SL_TESTS_STORES_H
#define SL_TESTS_STORES_H

#include "tests/unit/open_experts.h"

enum { PAGE = 4096 };

/* Layer 3: many small experts of one chunk; layer 4: experts of 3 chunks, the last one short. */
struct layer {
    unsigned number;
    const char *name;
    uint32_t experts;
    const char *gate_up, *down; /* packings */
    size_t stride;
};
extern const struct layer layers[2];
#define small (&layers[0])
#define large (&layers[1])

/* What an expert file says of itself; a test changes one of them. */
struct file_form {
    const char *gate_up, *down;
    uint64_t experts, stride, chunks; /* of the tensors' shapes */
    const char *dtype, *sums_dtype;
    const char *experts_name, *sums_name;
    size_t align;
    bool shape_1d;
};
struct file_form form_of(const struct layer *l);

void put_experts(const struct layer *l, const struct file_form *f);
void put_layer(const struct layer *l);
/* The manifest of both files as they are; EXTRA is added to the second one's bytes. */
void put_manifest(uint64_t extra, bool both);

/* Group set-up: the scratch directory with the container. */
int make_container(void **state);

/* Offset of an expert's byte in its file. */
size_t offset_of(const struct layer *l, uint32_t expert, size_t byte);

/* The first LEN bytes of EXPERT must be at BLOCK. */
void expect_bytes(const struct layer *l, uint32_t expert, const uint8_t *block, size_t len);
void expect_block(const struct layer *l, uint32_t expert, const uint8_t *block);

/* Of the container at hand; failing fails the test. */
struct sl_experts *open_store(unsigned first, unsigned n, const struct sl_experts_opts *opts);

#endif
