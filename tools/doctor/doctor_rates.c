/* SPDX-License-Identifier: MIT */
/* What doctor measures, and keeps for `sluice plan`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/file.h"
#include "runtime/model/rung.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/doctor/doctor.h"
#include "tools/measure/kernels.h"

/* ---- instruction sets ------------------------------------------------------------------------ */

/* Kernels by rung, in the order in which rungs are met. */
struct count {
    const char *rung;
    unsigned kernels;
};

enum { MAX_RUNGS = 8 };

/* "avxvnni 2, avx2 20, ref 1"; returns the number of kernels in plain C. */
static unsigned count_kernels(const struct sl_rung *chosen, char *out, size_t size)
{
    struct count counts[MAX_RUNGS] = {{0}};
    const char *rung;
    unsigned in_c = 0;
    for (size_t i = 0, k; sl_kernel_name(chosen->ops, i, &rung); i++) {
        for (k = 0; k < MAX_RUNGS - 1 && counts[k].rung && strcmp(counts[k].rung, rung) != 0; k++)
            ;
        counts[k].rung = rung;
        counts[k].kernels++;
        in_c += strcmp(rung, "ref") == 0;
    }
    size_t used = 0;
    for (size_t k = 0; k < MAX_RUNGS && counts[k].rung && used < size; k++)
        used += (size_t)snprintf(out + used, size - used, "%s%s %u", k ? ", " : "", counts[k].rung,
                                 counts[k].kernels);
    return in_c;
}

/* False when SLUICE_CPU names what cannot run here: nothing can be measured then. */
static bool check_rungs(const struct sl_doctor_measuring *m)
{
    char text[256];
    struct sluice_err err = {0};
    const char *set = getenv("SLUICE_CPU"), *fix = NULL;
    const struct sl_rung *chosen = sl_rung_chosen(&err);
    if (!chosen) {
        sl_find(m->findings, SL_BAD, "kernels", "unset SLUICE_CPU", "%s", err.msg);
        return false;
    }
    unsigned in_c = count_kernels(chosen, text, sizeof text);
    if (set && *set)
        fix = "unset SLUICE_CPU to get the best that the CPU has";
    else if (in_c > 0)
        fix = "a CPU with AVX2, FMA and F16C, or ARM's dot product; a compiler that knows them";
    sl_find(m->findings, fix ? SL_WARN : SL_FINE, "kernels", fix, "%s%s",
            set && *set ? "chosen by SLUICE_CPU: " : "", text);
    return true;
}

/* ---- memory and computing -------------------------------------------------------------------- */

static void report_memory(const struct sl_doctor_measuring *m)
{
    const struct sl_machine *r = m->machine;
    bool slower = r->memory_all < 0.9 * r->memory_one;
    sl_find(m->findings, slower ? SL_WARN : SL_FINE, "memory reads",
            slower ? "end other work, or try fewer threads: -t" : NULL,
            "%.1f GB/s on one thread, %.1f GB/s on %u", r->memory_one * 1e-9, r->memory_all * 1e-9,
            m->threads);
}

/* Decoding should wait for memory, not for arithmetic. */
static void report_kernels(const struct sl_doctor_measuring *m)
{
    const struct sl_machine *r = m->machine;
    bool slow = r->lut4_vector < 0.6 * r->memory_all || r->int8_vector < 0.6 * r->memory_all;
    sl_find(m->findings, slow ? SL_WARN : SL_FINE, "computing",
            slow ? "more threads (-t), or a CPU with more: arithmetic is slower than memory" : NULL,
            "one token: LUT4 %.1f, INT8 %.1f GB/s; a block: LUT4 %.0f, INT8 %.0f GMAC/s; "
            "indexer %.0f, attention %.0f GMAC/s",
            r->lut4_vector * 1e-9, r->int8_vector * 1e-9, r->lut4_block * 1e-9,
            r->int8_block * 1e-9, r->index_score * 1e-9, r->attend * 1e-9);
}

static void check_computing(const struct sl_doctor_measuring *m)
{
    struct sluice_err err = {0};
    if (sl_measure_kernels(m->machine, m->threads, &err) < 0) {
        sl_find(m->findings, SL_BAD, "computing", NULL, "%s", err.msg);
        return;
    }
    report_memory(m);
    report_kernels(m);
}

/* ---- the drive ------------------------------------------------------------------------------- */

/* The chunk by which experts are read, and as many in flight as readers of runtime/stream/ keep.
 * Around a fault the kernel reads more than is wanted, so a
 * mapping is touched in pieces of the size of an expert's matrix. */
static const struct sl_drive_test tests[SL_DRIVE_READERS] = {
    [SL_DRIVE_PREAD] = {SL_DRIVE_PREAD, 1 << 20, 16, 1.0},
    [SL_DRIVE_URING] = {SL_DRIVE_URING, 1 << 20, 32, 1.0},
    [SL_DRIVE_MMAP] = {SL_DRIVE_MMAP, 4 << 20, 4, 1.0},
};

/* Slower than any NVMe drive. */
static const double slow = 1e9;

static void check_direct(const struct sl_doctor_measuring *m, bool direct)
{
    if (direct)
        sl_find(m->findings, SL_FINE, "O_DIRECT", NULL, "works");
    else
        sl_find(m->findings, SL_WARN, "O_DIRECT", "put models on ext4 or xfs",
                "refused by the file system: reads go through the page cache");
}

static void check_reader(const struct sl_doctor_measuring *m, enum sl_drive_reader reader)
{
    const struct sl_drive_test *t = &tests[reader];
    const struct sl_drive_files *f = &m->target->files;
    struct sl_drive_result r;
    struct sluice_err err = {0};
    char name[32];
    snprintf(name, sizeof name, "drive, %s", sl_drive_readers[reader]);
    int status = sl_drive_measure((const char *const *)f->paths, f->n, t, &r, &err);
    if (status == SLUICE_EUNSUPPORTED) {
        sl_find(m->findings, SL_WARN, name, "see io_uring above", "%s", err.msg);
    } else if (status < 0) {
        sl_find(m->findings, SL_BAD, name, "look into the kernel's log: dmesg", "%s", err.msg);
    } else {
        bool bad = reader != SL_DRIVE_MMAP && r.rate < slow;
        sl_find(m->findings, bad ? SL_WARN : SL_FINE, name,
                bad ? "put models on an NVMe drive; end other work on this one" : NULL,
                "%.2f GB/s, %u reads of %zu MiB in flight, %.1f ms each%s", r.rate * 1e-9, t->depth,
                t->bytes >> 20, 1e3 * r.latency_mean,
                r.direct || reader == SL_DRIVE_MMAP ? "" : ", through the page cache");
        if (reader == SL_DRIVE_PREAD)
            check_direct(m, r.direct);
        if (reader != SL_DRIVE_MMAP && !m->target->in_memory)
            *(reader == SL_DRIVE_PREAD ? &m->machine->drive_pread
                                       : &m->machine->drive_uring) = r.rate;
    }
}

void sl_doctor_measure(const struct sl_doctor_measuring *m)
{
    struct sl_progress progress;
    unsigned n = m->target->files.n > 0 ? 1 + SL_DRIVE_READERS : 1;
    if (!check_rungs(m))
        return;
    sl_progress_open(&progress, stderr, "measuring", SL_PROGRESS_SHARE);
    for (unsigned i = 0; i < n && !sl_interrupted(); i++) {
        sl_progress_update(&progress, i, n);
        if (i == 0)
            check_computing(m);
        else
            check_reader(m, (enum sl_drive_reader)(i - 1));
    }
    sl_progress_close(&progress);
    if (!m->target->path)
        sl_find(m->findings, SL_WARN, "drive", "sluice doctor DIR, with a model or a large file",
                "not measured");
}

/* ---- the file -------------------------------------------------------------------------------- */

/* The drive's rates are the earlier ones where none were measured. */
static void keep_earlier(struct sl_machine *m, const char *path)
{
    struct sl_machine earlier;
    if (sl_machine_load(&earlier, path, NULL) != 1)
        return;
    if (m->drive_pread == 0)
        m->drive_pread = earlier.drive_pread;
    if (m->drive_uring == 0)
        m->drive_uring = earlier.drive_uring;
}

void sl_doctor_keep(struct sl_findings *f, struct sl_machine *m)
{
    char path[SL_PATH_MAX];
    struct sluice_err err = {0};
    int status = sl_machine_path(path, sizeof path, &err);
    if (status == 0) {
        keep_earlier(m, path);
        status = sl_machine_save(m, path, &err);
    }
    if (status < 0)
        sl_find(f, SL_WARN, "measurements", "set SLUICE_MACHINE to a file that can be written",
                "not kept for 'sluice plan': %s", err.msg);
    else
        sl_find(f, SL_FINE, "measurements", NULL, "kept in %s for 'sluice plan'", path);
}
