/* SPDX-License-Identifier: MIT */
/* Exit codes, error reports, numbers for people, Ctrl-C. */
#ifndef SL_TOOLS_STATUS_H
#define SL_TOOLS_STATUS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/sluice.h"

enum {
    SL_EXIT_OK = 0,
    SL_EXIT_FAILED = 1,
    SL_EXIT_USAGE = 2,
    SL_EXIT_MODEL = 3,     /* the model's files: format, damage, version, not supported */
    SL_EXIT_RESOURCES = 4, /* memory or room on the drive */
    SL_EXIT_INTERRUPTED = 130,
};

/* The exit code for an enum sluice_status; a count (>= 0) is SL_EXIT_OK. */
int sl_exit_code(int status);

/* Prints "sluice: MESSAGE" on stderr and returns the exit code: `return sl_report(&err);`. */
int sl_report(const struct sluice_err *err);

/* The paragraph on exit codes that ends every help text. */
void sl_print_exit_codes(FILE *out);

/* Short text by value, for printf: `sl_human_bytes(n).text` lives until the statement's end. */
struct sl_human {
    char text[32];
};

struct sl_human sl_human_bytes(uint64_t bytes);   /* "3.4 GiB", "12.0 MiB", "96 bytes" */
struct sl_human sl_human_seconds(double seconds); /* "4.2 s", "3 min 20 s", "2 h 05 min" */

/*
 * The first Ctrl-C sets the flag and calls the registered function; the second leaves at once
 * with SL_EXIT_INTERRUPTED.  System calls are restarted.
 */
void sl_interrupt_install(void);
bool sl_interrupted(void);

struct sl_interrupt_action {
    void (*call)(void *argument); /* runs in the signal handler: async-signal-safe only */
    void *argument;
};

/*
 * Registers ACTION (borrowed; NULL: none), at once calling it when Ctrl-C came before.  Unregister
 * before ACTION or what it points to goes away.
 */
void sl_interrupt_set_action(const struct sl_interrupt_action *action);

#endif
