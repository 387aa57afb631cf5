/* SPDX-License-Identifier: MIT */
/* What this binary was built with. */
#ifndef SL_TOOLS_BUILD_H
#define SL_TOOLS_BUILD_H

#include <stdio.h>

#include "runtime/sluice.h"

/*
 * One "name  value" line each: compiler, architecture, thread runtime, optional libraries; then a
 * line per kernel with the instruction set that it uses.  Returns 0, or a negative status when
 * SLUICE_CPU names one that cannot run here.
 */
int sl_print_build(FILE *out, struct sluice_err *err);

#endif
