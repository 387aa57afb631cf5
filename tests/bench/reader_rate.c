/* SPDX-License-Identifier: MIT */
/*
 * How fast experts come through a reader, beside what `sluice bench --io` gets from the same files
 * with the same chunks and as many in flight: random experts of a container, in halves as decode
 * asks for them.  Both in turn, for a second each.  Run by hand (docs/benchmarking.md).
 *
 *     reader_rate DIR pread|uring DEPTH ROUNDS [register] [small]
 *
 * register: io_uring knows the buffers beforehand; small: buffers in small pages
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/splitmix.h"
#include "runtime/stream/reader.h"
#include "tools/measure/drive.h"

enum { FILES_MAX = 8, AT_ONCE = 8, HUGE_PAGE = 2 << 20 };

static struct sl_expert_file files[FILES_MAX];
static size_t n_files;
static uint8_t *memory; /* [AT_ONCE][stride] */

static double processor_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static int open_files(const char *dir, struct sluice_err *err)
{
    struct sl_manifest *m;
    int status = sl_manifest_open(&m, dir, err);
    for (unsigned layer = 0; status == 0 && layer < 100 && n_files < FILES_MAX; layer++) {
        unsigned parts;
        if (sl_manifest_parts(m, layer, &parts, NULL) == 0 &&
            (status = sl_expert_file_open(&files[n_files], dir, m, layer, err)) == 0)
            n_files++;
    }
    sl_manifest_close(&m);
    return status == 0 && n_files == 0 ? 1 : status;
}

static int ask(struct sl_reader *r, struct sl_read *read, struct sluice_err *err)
{
    static uint64_t seed = 1;
    read->file = &files[sl_splitmix(&seed) % n_files];
    read->expert = (uint32_t)(sl_splitmix(&seed) % read->file->n_experts);
    read->halves = true;
    return sl_reader_submit(r, read, err);
}

/* Keeps AT_ONCE reads under way for a second. */
static int read_experts(struct sl_reader *r, struct sluice_err *err)
{
    static struct sl_read reads[AT_ONCE];
    double end = sl_now() + 1;
    uint64_t seen = 0;
    size_t idle;
    do {
        idle = 0;
        for (size_t i = 0; i < AT_ONCE; i++) {
            enum sl_read_state state = sl_reader_state(r, &reads[i]);
            reads[i].buffer = memory + i * files[0].layout.stride;
            if (state == SL_READ_FAILED) {
                *err = reads[i].err;
                return err->code;
            }
            if (state == SL_READ_UNDER_WAY || state == SL_READ_HALF)
                continue;
            if (sl_now() > end)
                idle++;
            else if (ask(r, &reads[i], err) < 0)
                return err->code;
        }
    } while (idle < AT_ONCE && (sl_reader_wait(r, &seen, 1) || true));
    return 0;
}

/* What the tool gets, bytes per second. */
static int read_pieces(const struct sl_drive_test *test, double *rate, struct sluice_err *err)
{
    const char *paths[FILES_MAX * SL_PARTS_MAX];
    struct sl_drive_result result;
    size_t n = 0;
    for (size_t i = 0; i < n_files; i++)
        for (unsigned p = 0; p < files[i].n_parts; p++)
            paths[n++] = files[i].parts[p].path;
    int status = sl_drive_measure(paths, n, test, &result, err);
    *rate = result.rate;
    return status;
}

static int round_of(struct sl_reader *r, const struct sl_drive_test *test, double sums[2],
                    struct sluice_err *err)
{
    double rate;
    int status = read_pieces(test, &rate, err);
    if (status < 0)
        return status;
    struct sl_reader_use before = sl_reader_use(r, 0), use;
    double begin = sl_now(), processor = processor_seconds();
    status = read_experts(r, err);
    double seconds = sl_now() - begin;
    use = sl_reader_use(r, 0);
    double gb = (double)(use.bytes - before.bytes) * 1e-9;
    processor = processor_seconds() - processor;
    printf("bench --io %.2f GB/s, reader %.2f GB/s with %.0f ms of a processor per GB\n",
           rate * 1e-9, gb / seconds, processor / gb * 1e3);
    sums[0] += rate * 1e-9;
    sums[1] += gb / seconds;
    return status;
}

static uint8_t *take_memory(size_t bytes, bool small)
{
    uint8_t *p = aligned_alloc(HUGE_PAGE, sl_round_up(bytes, HUGE_PAGE));
    if (p && !small)
        madvise(p, bytes, MADV_HUGEPAGE);
    return p ? memset(p, 0, bytes) : NULL;
}

static bool said(char **argv, const char *word)
{
    while (*argv && strcmp(*argv, word) != 0)
        argv++;
    return *argv;
}

int main(int argc, char **argv)
{
    struct sl_reader *r = NULL;
    struct sluice_err err = {0};
    double sums[2] = {0};
    if (argc < 5)
        return fprintf(stderr, "reader_rate DIR pread|uring DEPTH ROUNDS [register] [small]\n"), 2;
    if (open_files(argv[1], &err) != 0)
        return fprintf(stderr, "%s: no experts %s\n", argv[1], err.msg), 1;
    bool uring = strcmp(argv[2], "uring") == 0;
    size_t bytes = AT_ONCE * files[0].layout.stride;
    memory = take_memory(bytes, said(argv + 5, "small"));
    struct sl_drive_test test = {.reader = uring ? SL_DRIVE_URING : SL_DRIVE_PREAD,
                                 .bytes = SL_CHUNK_BYTES,
                                 .depth = (unsigned)atoi(argv[3]),
                                 .seconds = 1};
    struct sl_reader_opts o = {.kind = uring ? SLUICE_READER_URING : SLUICE_READER_PREAD,
                               .depth = test.depth,
                               .memory = said(argv + 5, "register") ? memory : NULL,
                               .memory_bytes = bytes};
    int status = memory ? sl_reader_open(&r, &o, files, n_files, &err) : SLUICE_ENOMEM;
    if (status == 0)
        printf("%s\n", sl_reader_how(r));
    for (int i = 0; status == 0 && i < atoi(argv[4]); i++)
        status = round_of(r, &test, sums, &err);
    printf("reader ÷ bench --io: %.3f\n", sums[1] / sums[0]);
    sl_reader_close(&r);
    for (size_t i = 0; i < n_files; i++)
        sl_expert_file_close(&files[i]);
    free(memory);
    if (status < 0)
        fprintf(stderr, "%s\n", err.msg);
    return status < 0;
}
