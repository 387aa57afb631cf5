/* SPDX-License-Identifier: MIT */
/* Limits that control groups set. */
#include "runtime/base/cgroup.h"
#include "runtime/base/system_text.h"
#include "tools/doctor/doctor.h"

bool sl_cgroup_limit(const char *root, const char *controller, const char *file,
                     const char *old_file, double *limit)
{
    struct sl_cgroup g;
    char text[128];
    bool found = false, more = sl_cgroup_find(&g, root, controller);
    const char *name = more && g.version == 1 ? old_file : file;
    for (; more && name; more = sl_cgroup_up(&g)) {
        double here;
        sl_system_text(root, text, sizeof text, "%s/%s", g.path, name);
        if (sl_cgroup_number(text, &here) && (!found || here < *limit)) {
            *limit = here;
            found = true;
        }
    }
    return found;
}
