/* SPDX-License-Identifier: MIT */
/* Runs a trial on rungs, in every place, and says what is wrong. */
#ifndef SL_TESTS_JUDGE_H
#define SL_TESTS_JUDGE_H

#include "tests/check/trial.h"

/* A deliberate mistake, made right after a kernel's work: what a wrong kernel would do. */
struct fault {
    const char *name;
    void (*make)(struct buffer *b);
};

/* Who runs the trial. */
struct subject {
    const char *name;
    const struct sl_ops *ops;
    const struct fault *fault; /* NULL but in the test of the test */
    size_t fault_buffer;
};

/* Reports on stderr; counts in any case. */
extern bool judge_silent;

/* Runs ref, then all subjects in all places; returns how many runs had something wrong. */
unsigned judge_trial(struct trial *t, const struct subject *subjects, size_t n);

/* Ref's part of it alone: leaves what it wrote in `want`.  False when ref breaks the contract. */
bool judge_ref(struct trial *t);

#endif
