/* SPDX-License-Identifier: MIT */
/* /sys/dev/block/MAJOR:MINOR is a link to the device's directory; that of a partition lies in its
 * drive's and has a file `partition`. */
#include "tools/common/drive_name.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* PATH without its last component, which is returned. */
static const char *cut(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        return NULL;
    *slash = 0;
    return slash + 1;
}

void sl_device_name(const char *sys, dev_t device, char *out, size_t size)
{
    char link[PATH_MAX], path[PATH_MAX], mark[PATH_MAX + 16];
    const char *name = NULL;
    snprintf(link, sizeof link, "%s/dev/block/%u:%u", sys, major(device), minor(device));
    if (realpath(link, path)) {
        snprintf(mark, sizeof mark, "%s/partition", path);
        name = cut(path);
        if (name && access(mark, F_OK) == 0)
            name = cut(path);
    }
    snprintf(out, size, "%s", name ? name : "the drive");
}

void sl_drive_name(const char *path, char *out, size_t size)
{
    struct stat st = {0};
    if (stat(path, &st) != 0)
        st.st_dev = 0;
    sl_device_name("/sys", st.st_dev, out, size);
}
