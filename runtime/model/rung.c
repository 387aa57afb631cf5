/* SPDX-License-Identifier: MIT */
#include "runtime/model/rung.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/err.h"

const struct sl_rung *sl_rung_chosen(struct sluice_err *err)
{
    const char *wanted = getenv("SLUICE_CPU");
    const struct sl_rung *rung = sl_rung_find(wanted && *wanted ? wanted : NULL);
    if (rung)
        return rung;
    char names[128] = "";
    size_t len = 0;
    for (size_t i = 0; (rung = sl_rung_at(i)) != NULL && len < sizeof names; i++)
        len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", i ? ", " : "", rung->name);
    sl_fail(err, SLUICE_EARG,
            "SLUICE_CPU=%.64s: this build and CPU have %s; unset it to get the best", wanted,
            names);
    return NULL;
}
