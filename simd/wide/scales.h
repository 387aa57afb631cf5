/* SPDX-License-Identifier: MIT */
/* The scales of a superblock, whatever their type. */
#ifndef SL_SIMD_SCALES_H
#define SL_SIMD_SCALES_H

#include "simd/simd.h"
#include "simd/wide/lanes.h"

/* Those of the 16 rows for group number GROUP. */
static inline vf load_scales(enum sl_scale kind, const uint8_t *scales, size_t group)
{
    if (kind == SL_SCALE_S8)
        return vf_load_s8(scales + SL_PANEL * group);
    const uint8_t *at = scales + 2 * SL_PANEL * group;
    return kind == SL_SCALE_F16 ? vf_load_f16(at) : vf_load_bf16(at);
}

#endif
