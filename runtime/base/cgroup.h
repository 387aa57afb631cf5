/* SPDX-License-Identifier: MIT */
/* Where the files of this process's control groups are, in both versions. */
#ifndef SL_BASE_CGROUP_H
#define SL_BASE_CGROUP_H

#include <stdbool.h>

#include "runtime/base/file.h"

struct sl_cgroup {
    int version;            /* 1 or 2 */
    char path[SL_PATH_MAX]; /* of the group's folder, below the root that it was looked for in */
    size_t top;             /* the length of the path of the uppermost group that is seen */
};

/*
 * The group whose CONTROLLER ("memory") counts for this process: of version 1 where that has the
 * controller.  False when there is none.  ROOT is "" but for tests.
 */
bool sl_cgroup_find(struct sl_cgroup *g, const char *root, const char *controller);

/* The group above, whose limits hold as well; false at the top. */
bool sl_cgroup_up(struct sl_cgroup *g);

/* What a file of a limit says: "max" and the huge number of version 1 are none.  "MAX PERIOD" is a
 * quotient. */
bool sl_cgroup_number(const char *text, double *limit);

#endif
