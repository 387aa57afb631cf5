/* SPDX-License-Identifier: MIT */
/* Limits that control groups set, in both versions. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/file.h"
#include "tools/doctor/doctor.h"
#include "tools/doctor/system_text.h"

/* Whether LIST, "cpu,cpuacct" of LEN bytes, has NAME. */
static bool has_controller(const char *list, size_t len, const char *name)
{
    size_t n = strlen(name);
    for (const char *word = list; word + n <= list + len; word++)
        if (memcmp(word, name, n) == 0 && (word == list || word[-1] == ',') &&
            (word + n == list + len || word[n] == ','))
            return true;
    return false;
}

/*
 * The process's group from /proc/self/cgroup, lines "ID:CONTROLLERS:/path".  Returns 1 when a
 * hierarchy of version 1 has the controller, 2 for version 2 ("0::/path"), 0: not known.
 */
static int find_group(const char *root, const char *controller, char *path, size_t size)
{
    char text[SL_SYSTEM_TEXT];
    int version = 0;
    sl_system_text(root, text, sizeof text, "/proc/self/cgroup");
    for (char *line = strtok(text, "\n"); line && version != 1; line = strtok(NULL, "\n")) {
        char *list = strchr(line, ':');
        char *group = list ? strchr(list + 1, ':') : NULL;
        bool old = group && has_controller(list + 1, (size_t)(group - list - 1), controller);
        if (!old && !(group && group == list + 1))
            continue;
        version = old ? 1 : 2;
        /* A group above the one that this process sees: its own limits are at the top. */
        snprintf(path, size, "%s", strstr(group, "..") ? "" : group + 1);
    }
    return version;
}

/* "MAX" or "MAX PERIOD"; "max" and the huge number of version 1 are no limit. */
static bool parse_limit(const char *text, double *limit)
{
    double period = 1;
    const char *space = strchr(text, ' ');
    if (!sl_text_number(text, "", limit) || *limit < 0 || *limit >= 0x1p60)
        return false;
    if (space && (!sl_text_number(space + 1, "", &period) || period <= 0))
        return false;
    *limit /= period;
    return true;
}

bool sl_cgroup_limit(const char *root, const char *controller, const char *file,
                     const char *old_file, double *limit)
{
    char path[SL_PATH_MAX] = "", text[128];
    int version = find_group(root, controller, path, sizeof path);
    const char *tree = version == 1 ? controller : "", *name = version == 1 ? old_file : file;
    bool found = false, more = version == 2 || (version == 1 && old_file);
    while (more) {
        double here;
        char *slash = strrchr(path, '/');
        sl_system_text(root, text, sizeof text, "/sys/fs/cgroup/%s%s/%s", tree, path, name);
        if (parse_limit(text, &here) && (!found || here < *limit)) {
            *limit = here;
            found = true;
        }
        more = slash != NULL;
        if (slash)
            *slash = 0;
    }
    return found;
}
