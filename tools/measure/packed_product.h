/* SPDX-License-Identifier: MIT */
/* oneDNN's product of INT8 matrices: what another library makes of the processor. */
#ifndef SL_TOOLS_PACKED_PRODUCT_H
#define SL_TOOLS_PACKED_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/team.h"

/*
 * y[n][rows] = x[n][cols] times w[rows][cols], exact in int32.  W is brought into the order that
 * oneDNN likes best here, once; X and Y are used in place and have to stay.  NULL when this build
 * has no oneDNN, or when it cannot do it.
 */
struct sl_packed_product;
struct sl_packed_product *sl_packed_open(const struct sl_team *team, const int8_t *w, size_t rows,
                                         size_t cols, const int8_t *x, size_t n, int32_t *y);
void sl_packed_close(struct sl_packed_product *p);

/* Multiplies by the team, never inside a phase; returns the seconds it took, 0 when it failed. */
double sl_packed_run(const struct sl_packed_product *p);

/* "oneDNN 2.6.3", or NULL without it. */
const char *sl_packed_name(void);

#endif
