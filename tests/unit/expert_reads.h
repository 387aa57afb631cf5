/* SPDX-License-Identifier: MIT */
/* Expert files of every shape, with known bytes, and reads of them.  Failures fail the test. */
#ifndef SL_TESTS_EXPERT_READS_H
#define SL_TESTS_EXPERT_READS_H

#include "runtime/stream/reader.h"

enum { PAGE = 4096, MIB = 1 << 20, EXPERTS = 6, SHAPES = 6, KINDS = 2 };

struct shape {
    size_t stride, down_offset;
    unsigned n_parts;
};

/* HALVED has the border between two chunks, STRIPED three parts. */
extern const struct shape shapes[SHAPES], *const halved, *const striped;

/* The eight bytes number I of an expert. */
uint64_t word_at(const struct sl_expert_file *f, uint32_t expert, size_t i);

extern const char *folder; /* of new files, below `root`: "" or "NAME/" */

/* Makes LAYER's files, with EXPERTS experts, and opens them. */
void open_file(struct sl_expert_file *f, const struct shape *s, unsigned layer);
void close_file(struct sl_expert_file *f);

extern const enum sluice_reader kinds[KINDS]; /* that read from drives */

/* NULL: this machine has no such reader. */
struct sl_reader *open_reader(const struct sl_reader_opts *o, const struct sl_expert_file *files,
                              size_t n);

/* N blocks, to be freed; wiped, so that nothing of an earlier test is taken for read. */
uint8_t *blocks_for(const struct sl_expert_file *f, size_t n);

void submit(struct sl_reader *r, struct sl_read *read);
bool is_over(enum sl_read_state state);
enum sl_read_state wait_for(struct sl_reader *r, const struct sl_read *read);

/* The first N bytes of READ's block are right. */
void expect_bytes(const struct sl_read *read, size_t n);

/* Wait for READ; every byte is right, or it failed with CODE and a message that contains PART. */
void expect_done(struct sl_reader *r, const struct sl_read *read);
void expect_failed(struct sl_reader *r, const struct sl_read *read, int code, const char *part);

#endif
