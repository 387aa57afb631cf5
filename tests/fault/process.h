/* SPDX-License-Identifier: MIT */
/* Running the program `sluice`, as a user would, and small containers to run it on. */
#ifndef SL_TESTS_PROCESS_H
#define SL_TESTS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outcome {
    int code;         /* exit status; 128 + the signal's number */
    long max_rss;     /* bytes that were in memory at most */
    char text[16384]; /* the beginning of what it wrote to stdout and stderr */
};

/* Runs sluice with these arguments (NULL ends them), in directory `root`; a run of more than two
 * minutes is killed. */
#define RUN(o, ...) run_sluice(o, (char *[]){"sluice", __VA_ARGS__, NULL})
void run_sluice(struct outcome *o, char *argv[]);

/* Called in each process that is to become sluice, before it does; NULL: nothing is.  False ends it
 * with 126. */
extern bool (*before_sluice)(void);

/* root/NAME: links to the files of a checkpoint of tests/golden. */
void link_checkpoint(const char *name, const char *golden);

/* True when the test is to run at full length. */
bool is_long(void);

/* What SLUICE_SEED says, else 1; prints it. */
uint64_t choose_seed(void);

#endif
