/* SPDX-License-Identifier: MIT */
/* The argument of --layers. */
#ifndef SL_TOOLS_LAYERS_H
#define SL_TOOLS_LAYERS_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

/* "3+58": 3 dense layers, 58 with experts. */
static inline bool sl_parse_layers(const char *text, uint32_t *dense, uint32_t *moe)
{
    int used = 0;
    return sscanf(text, "%9" SCNu32 "+%9" SCNu32 "%n", dense, moe, &used) == 2 && text[used] == 0;
}

#endif
