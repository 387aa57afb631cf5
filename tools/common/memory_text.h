/* SPDX-License-Identifier: MIT */
/* The division of memory, for people and for programs. */
#ifndef SL_TOOLS_MEMORY_TEXT_H
#define SL_TOOLS_MEMORY_TEXT_H

#include <jansson.h>
#include <stdio.h>

#include "runtime/sluice.h"

/* A few aligned lines. */
void sl_memory_print(FILE *out, const struct sluice_memory_plan *plan);

/* The same as a JSON object; NULL without memory. */
json_t *sl_memory_json(const struct sluice_memory_plan *plan);

#endif
