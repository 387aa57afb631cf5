/* SPDX-License-Identifier: MIT */
#include "tools/bench/reading.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/arith.h"
#include "tools/measure/drive.h"

/* How the pread reader reads (runtime/stream/reader_pread.c). */
enum { READ_BYTES = 1 << 20, READ_DEPTH = 4 };

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

double sl_drive_limit(const char *dir, bool mapped, unsigned threads)
{
    struct sl_drive_files files;
    struct sl_drive_result result = {0};
    struct sluice_err err = {0};
    const struct sl_drive_test test = {
        .reader = mapped ? SL_DRIVE_MMAP : SL_DRIVE_PREAD,
        .bytes = READ_BYTES,
        .depth = mapped ? (unsigned)sl_min(threads, SL_DRIVE_DEPTH_MAX) : READ_DEPTH,
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
