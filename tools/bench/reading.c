/* SPDX-License-Identifier: MIT */
#include "tools/bench/reading.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "tools/measure/drive.h"

enum { READ_BYTES = 1 << 20 }; /* a chunk of an expert */

uint64_t sl_bytes_from_drives(void)
{
    char line[128];
    uint64_t bytes = 0;
    FILE *f = fopen("/proc/self/io", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "read_bytes: %" SCNu64, &bytes) != 1)
        ;
    if (f)
        fclose(f);
    return bytes;
}

void sl_reading_of(struct sl_reading *r, const sluice_engine *engine,
                   const struct sluice_model_info *info)
{
    struct sluice_drive drive;
    *r = (struct sl_reading){
        .mapped = strcmp(info->reader, "memory") == 0,
        .uring = strcmp(info->reader, "uring") == 0,
    };
    for (; sluice_engine_drive(engine, r->drives, &drive); r->drives++)
        r->depth += drive.depth;
    if (r->mapped)
        r->depth = info->threads;
    r->depth = (unsigned)sl_min(r->depth, SL_DRIVE_DEPTH_MAX);
}

double sl_drive_limit(const char *dir, const struct sl_reading *how)
{
    struct sl_drive_files files;
    struct sl_drive_result result = {0};
    struct sluice_err err = {0};
    const struct sl_drive_test test = {
        .reader = how->mapped  ? SL_DRIVE_MMAP
                  : how->uring ? SL_DRIVE_URING
                               : SL_DRIVE_PREAD,
        .bytes = READ_BYTES,
        .depth = how->depth,
        .seconds = 1,
    };
    int status = sl_drive_files_find(&files, dir, &err);
    if (status == 0)
        status = sl_drive_measure((const char *const *)files.paths, files.n, &test, &result, &err);
    sl_drive_files_close(&files);
    if (status < 0)
        fprintf(stderr, "the drive's speed is not known: %s\n", err.msg);
    else
        fprintf(stderr, "the drive gives %.2f GB/s to reads of %d KiB, %u at a time\n",
                result.rate * 1e-9, READ_BYTES >> 10, test.depth);
    return status < 0 ? 0 : result.rate;
}
