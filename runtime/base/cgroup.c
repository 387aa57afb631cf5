/* SPDX-License-Identifier: MIT */
#include "runtime/base/cgroup.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/system_text.h"

/* Whether LIST, "rw,cpu,cpuacct" of LEN bytes, has NAME. */
static bool has_word(const char *list, size_t len, const char *name)
{
    size_t n = strlen(name);
    for (const char *word = list; word + n <= list + len; word++)
        if (memcmp(word, name, n) == 0 && (word == list || word[-1] == ',') &&
            (word + n == list + len || word[n] == ','))
            return true;
    return false;
}

/* The process's group from /proc/self/cgroup, lines "ID:CONTROLLERS:/path"; 0: not known. */
static int find_group(const char *root, const char *controller, char *path, size_t size)
{
    char text[SL_SYSTEM_TEXT];
    int version = 0;
    sl_system_text(root, text, sizeof text, "/proc/self/cgroup");
    for (char *save, *line = strtok_r(text, "\n", &save); line && version != 1;
         line = strtok_r(NULL, "\n", &save)) {
        char *list = strchr(line, ':');
        char *group = list ? strchr(list + 1, ':') : NULL;
        bool old = group && has_word(list + 1, (size_t)(group - list - 1), controller);
        if (!old && !(group && group == list + 1))
            continue;
        version = old ? 1 : 2;
        /* A group above the one that this process sees: its own limits are at the top. */
        snprintf(path, size, "%s", strstr(group, "..") ? "" : group + 1);
    }
    return version;
}

/* Where the hierarchy is mounted, by /proc/self/mountinfo: "… ROOT POINT … - TYPE SOURCE OPTIONS". */
static void find_mount(const char *root, int version, const char *controller, char *out,
                       size_t size)
{
    char text[SL_SYSTEM_TEXT], point[512], type[32], options[256];
    snprintf(out, size, "/sys/fs/cgroup%s%s", version == 1 ? "/" : "",
             version == 1 ? controller : "");
    sl_system_text(root, text, sizeof text, "/proc/self/mountinfo");
    for (char *save, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        const char *rest = strstr(line, " - ");
        if (!rest || sscanf(line, "%*s %*s %*s %*s %511s", point) != 1 ||
            sscanf(rest, " - %31s %*s %255s", type, options) != 2)
            continue;
        if (version == 1
                ? strcmp(type, "cgroup") == 0 && has_word(options, strlen(options), controller)
                : strcmp(type, "cgroup2") == 0) {
            snprintf(out, size, "%s", point);
            return;
        }
    }
}

bool sl_cgroup_find(struct sl_cgroup *g, const char *root, const char *controller)
{
    char group[SL_PATH_MAX - 512], mount[512];
    *g = (struct sl_cgroup){.version = find_group(root, controller, group, sizeof group)};
    if (g->version == 0)
        return false;
    find_mount(root, g->version, controller, mount, sizeof mount);
    g->top = strlen(mount);
    snprintf(g->path, sizeof g->path, "%s%s", mount, group);
    for (size_t n = strlen(g->path); n > g->top && g->path[n - 1] == '/'; n--)
        g->path[n - 1] = 0;
    return true;
}

bool sl_cgroup_up(struct sl_cgroup *g)
{
    char *slash = strrchr(g->path, '/');
    if (!slash || (size_t)(slash - g->path) < g->top)
        return false;
    *slash = 0;
    return true;
}

bool sl_cgroup_number(const char *text, double *limit)
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
