/* SPDX-License-Identifier: MIT */
/* XXH3, by the code that suits this processor best where the library can choose it. */
#ifndef SL_XXH3_H
#define SL_XXH3_H

#include <config.h>
#include <xxhash.h>

#ifdef HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#endif

#endif
