/* SPDX-License-Identifier: MIT */
/* The checks of `sluice doctor`, in the order in which they are made.  Each adds findings. */
#ifndef SL_TOOLS_DOCTOR_H
#define SL_TOOLS_DOCTOR_H

#include <stdbool.h>

#include "tools/doctor/findings.h"
#include "tools/measure/drive.h"
#include "tools/measure/machine.h"

/* ---- what the kernel says; ROOT is "" but for tests ------------------------------------------ */

/* Cores, NUMA, limits on processors, clock, other work.  THREADS: those of the measurements. */
void sl_doctor_processors(struct sl_findings *f, const char *root, unsigned threads);

/* RAM, its limits, pressure, huge pages.  Returns the bytes that a model could have; 0: unknown. */
double sl_doctor_memory(struct sl_findings *f, const char *root);

/* Locked memory and io_uring.  REFUSED: sl_drive_uring_errno(). */
void sl_doctor_limits(struct sl_findings *f, const char *root, int refused);

/* Model name of the first processor; "not known". */
void sl_doctor_cpu_name(const char *root, char *out, size_t size);

/* The smallest limit that FILE of the process's control groups (version 2: FILE, 1: OLD_FILE of
 * CONTROLLER, NULL: not looked for) and of those above sets.  False when none does. */
bool sl_cgroup_limit(const char *root, const char *controller, const char *file,
                     const char *old_file, double *limit);

/* ---- a container, a checkpoint or any large file --------------------------------------------- */

struct sl_doctor_target {
    const char *path;            /* NULL: none was given */
    bool in_memory;              /* on a file system that has no drive */
    struct sl_drive_files files; /* to measure with; n == 0: none is large enough */
};

/* File system, space, and whether a container suits AVAILABLE bytes of memory (0: unknown).  PATH
 * may be NULL; false when there is no such file or directory.  T->files is to be closed. */
bool sl_doctor_target(struct sl_findings *f, struct sl_doctor_target *t, const char *path,
                      double available);

/* ---- measurements: they fill M --------------------------------------------------------------- */

struct sl_doctor_measuring {
    struct sl_findings *findings;
    struct sl_machine *machine;
    unsigned threads;
    const struct sl_doctor_target *target;
};

/* Instruction sets, memory, kernels and drive.  Stops early after Ctrl-C. */
void sl_doctor_measure(const struct sl_doctor_measuring *m);

/* The file that `sluice plan` reads.  What was not measured is kept from the earlier one. */
void sl_doctor_keep(struct sl_findings *f, struct sl_machine *m);

#endif
