/* SPDX-License-Identifier: MIT */
/*
 * Small texts of /proc and /sys, read below a root so that tests can make up machines.  Whatever
 * is missing or not as expected is "not known".
 */
#ifndef SL_BASE_SYSTEM_TEXT_H
#define SL_BASE_SYSTEM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_SYSTEM_TEXT = 16384, SL_CPUS_MAX = 8192 };

/* The beginning of ROOT/FORMAT…, without the newline at its end; "" and false when it cannot be
 * read or is empty. */
__attribute__((format(printf, 4, 5))) bool sl_system_text(const char *root, char *out, size_t size,
                                                          const char *format, ...);

/* The number after KEY at the beginning of a line of TEXT; false when there is none. */
bool sl_text_number(const char *text, const char *key, double *number);

/* Whether the list "0-3,8,10-11" has N. */
bool sl_list_has(const char *list, unsigned n);

/* How many numbers below SL_CPUS_MAX the list has. */
unsigned sl_list_count(const char *list);

#endif
