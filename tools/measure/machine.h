/* SPDX-License-Identifier: MIT */
/*
 * What a machine can do: what `sluice doctor` measured and kept in a small file, or typical
 * figures.  `sluice plan` computes with it.
 */
#ifndef SL_TOOLS_MACHINE_H
#define SL_TOOLS_MACHINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/sluice.h"

enum { SL_FEW = 7 };

/* Rates are per second; 0: not known. */
struct sl_machine {
    bool measured;     /* false: typical figures */
    char date[32];     /* of the measurement, ISO 8601 */
    char cpu[96];      /* model name */
    char rung[16];     /* instruction set of the kernels */
    int64_t threads;   /* compute threads of the rates below */
    double memory_one; /* bytes read by a plain loop on one thread */
    double memory_all; /* on all threads */
    /* Bytes of expert-sized reads from the drive, past the page cache. */
    double drive_pread;
    double drive_uring;
    /* Kernels at the shapes of the large models, all threads. */
    double lut4_vector; /* bytes of LUT4 weights, one vector, set larger than the caches */
    double int8_vector; /* bytes of INT8 weights, likewise */
    double lut4_block;  /* multiply-adds, a block of 64 vectors per weight */
    double int8_block;  /* multiply-adds, likewise */
    double f32_block;   /* multiply-adds of F32 weights, likewise */
    /* Multiply-adds with 2 … 8 vectors per weight, set larger than the caches. */
    double lut4_few[SL_FEW], int8_few[SL_FEW];
    double index_score; /* multiply-adds of the indexer, INT8 keys */
    double topk;        /* scores looked at for one query */
    /* Multiply-adds of attention over gathered INT8 rows: one query, and 32 of them, which leave
     * more heads to a thread at once. */
    double attend, attend_block;
};

/* The figures of a common desktop: 2 memory channels, 8 cores with AVX2, one PCIe 4 drive. */
extern const struct sl_machine sl_machine_typical;

/* Replaces rates that are not known by typical ones, but for one of the two drive rates; NAMES
 * receives which, with commas between them. */
void sl_machine_fill(struct sl_machine *m, char *names, size_t size);

/* The file that doctor writes: $SLUICE_MACHINE, or sluice/machine.json in $XDG_CACHE_HOME or
 * ~/.cache; SLUICE_EARG when none of these variables is set. */
int sl_machine_path(char *path, size_t size, struct sluice_err *err);

/* Reads PATH.  1: read; 0: there is no such file, *m has the typical figures; negative: a file
 * that is none of ours or out of range. */
int sl_machine_load(struct sl_machine *m, const char *path, struct sluice_err *err);

/* Writes PATH whole, creating its folder. */
int sl_machine_save(const struct sl_machine *m, const char *path, struct sluice_err *err);

/* What that file holds, a new reference; NULL when memory ran out. */
json_t *sl_machine_json(const struct sl_machine *m);

#endif
