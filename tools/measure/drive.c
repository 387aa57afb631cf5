/* SPDX-License-Identifier: MIT */
/* One measurement of a drive, whatever the reader. */
#include "tools/measure/drive.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "tools/measure/drive_private.h"

enum { HUGE_PAGE = 2 << 20 };

const char *const sl_drive_readers[] = {"pread", "uring", "mmap", NULL};

void sl_drive_count(struct sl_drive_tally *tally, double begin, double end)
{
    tally->reads++;
    tally->seconds += end - begin;
    tally->longest = end - begin > tally->longest ? end - begin : tally->longest;
}

static int check(size_t n, const struct sl_drive_test *t, struct sluice_err *err)
{
    if (n == 0)
        return sl_fail(err, SLUICE_EARG, "no file to measure a drive with");
    if (t->bytes == 0 || t->bytes % SL_DRIVE_ALIGN || t->bytes > SL_DRIVE_BYTES_MAX)
        return sl_fail(err, SLUICE_EARG, "reads of %zu bytes; wanted a multiple of %d up to %d",
                       t->bytes, SL_DRIVE_ALIGN, SL_DRIVE_BYTES_MAX);
    if (t->depth < 1 || t->depth > SL_DRIVE_DEPTH_MAX)
        return sl_fail(err, SLUICE_EARG, "%u reads in flight; wanted 1 to %d", t->depth,
                       SL_DRIVE_DEPTH_MAX);
    return 0;
}

/* Opens the files; takes memory for the reads and touches it, which is not to be timed. */
static int prepare(struct sl_drive_run *run, const char *const *files, size_t n,
                   struct sluice_err *err)
{
    const struct sl_drive_test *t = run->test;
    size_t all;
    int status = check(n, t, err);
    if (status == 0)
        status = sl_pieces_open(&run->pieces, files, n, t->bytes, t->reader == SL_DRIVE_MMAP, err);
    if (status < 0 || t->reader == SL_DRIVE_MMAP)
        return status;
    if (!sl_mul(t->bytes, t->depth, &all) || all > SIZE_MAX - HUGE_PAGE ||
        !(run->buffers = aligned_alloc(HUGE_PAGE, sl_ceil_div(all, HUGE_PAGE) * HUGE_PAGE)))
        return sl_fail_nomem(err, "buffers for reads", t->bytes);
    madvise(run->buffers, all, MADV_HUGEPAGE); /* as experts' are: a request is not cut up */
    memset(run->buffers, 0, all);
    return 0;
}

int sl_drive_measure(const char *const *files, size_t n, const struct sl_drive_test *test,
                     struct sl_drive_result *result, struct sluice_err *err)
{
    struct sl_drive_run run = {.test = test};
    *result = (struct sl_drive_result){0};
    int status = prepare(&run, files, n, err);
    double begin = sl_now();
    run.deadline = begin + test->seconds;
    if (status == 0)
        status = test->reader == SL_DRIVE_URING ? sl_drive_uring(&run, err)
                                                : sl_drive_threads(&run, err);
    if (status == 0) {
        result->bytes = run.tally.reads * test->bytes;
        result->rate = (double)result->bytes / (sl_now() - begin);
        result->latency_mean = run.tally.seconds / (double)run.tally.reads;
        result->latency_max = run.tally.longest;
        result->direct = run.pieces.direct;
    }
    free(run.buffers);
    sl_pieces_close(&run.pieces);
    return status;
}
