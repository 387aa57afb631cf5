/* SPDX-License-Identifier: MIT */
/* What this binary was built with. */
#ifndef SL_TOOLS_BUILD_H
#define SL_TOOLS_BUILD_H

#include <stdio.h>

/* One "name  value" line each: compiler, architecture, thread runtime, optional libraries. */
void sl_print_build(FILE *out);

#endif
