/* SPDX-License-Identifier: MIT */
#include "runtime/base/headroom.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/cgroup.h"
#include "runtime/base/system_text.h"

enum { TEXT = 8192 };

/* ---- files ---------------------------------------------------------------------------------- */

static int open_below(const char *root, const char *folder, const char *name)
{
    char path[2 * SL_PATH_MAX];
    snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void close_one(int fd)
{
    if (fd >= 0)
        close(fd);
}

static bool read_text(int fd, char text[TEXT])
{
    ssize_t n = fd >= 0 ? pread(fd, text, TEXT - 1, 0) : -1;
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

static bool read_number(int fd, double *number)
{
    char text[TEXT];
    return read_text(fd, text) && sl_cgroup_number(text, number);
}

/* The sum of those of two KEYS that TEXT has. */
static double sum_of(const char *text, const char *first, const char *second)
{
    double a = 0, b = 0;
    if (!sl_text_number(text, first, &a))
        a = 0;
    return sl_text_number(text, second, &b) ? a + b : a;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void open_group(struct sl_headroom *h, const char *root, const struct sl_cgroup *g)
{
    struct sl_group_files *f = &h->groups[h->n];
    bool old = f->old = g->version == 1;
    f->usage = open_below(root, g->path, old ? "memory.usage_in_bytes" : "memory.current");
    f->limit = open_below(root, g->path, old ? "memory.limit_in_bytes" : "memory.max");
    f->high = old ? -1 : open_below(root, g->path, "memory.high");
    f->stat = open_below(root, g->path, "memory.stat");
    if (!old && h->pressure < 0)
        h->pressure = open_below(root, g->path, "memory.pressure");
    h->n++;
}

void sl_headroom_open(struct sl_headroom *h, const char *root)
{
    struct sl_cgroup g;
    *h = (struct sl_headroom){.meminfo = open_below(root, "/proc", "meminfo"), .pressure = -1};
    for (bool more = sl_cgroup_find(&g, root, "memory"); more && h->n < SL_ROOMS_MAX - 1;
         more = sl_cgroup_up(&g))
        open_group(h, root, &g);
    if (h->pressure < 0)
        h->pressure = open_below(root, "/proc/pressure", "memory");
}

void sl_headroom_close(struct sl_headroom *h)
{
    for (unsigned i = 0; i < h->n; i++) {
        close_one(h->groups[i].limit);
        close_one(h->groups[i].high);
        close_one(h->groups[i].usage);
        close_one(h->groups[i].stat);
    }
    close_one(h->meminfo);
    close_one(h->pressure);
    *h = (struct sl_headroom){.meminfo = -1, .pressure = -1};
}

/* ---- looking -------------------------------------------------------------------------------- */

static bool look_at_machine(const struct sl_headroom *h, struct sl_room *room)
{
    char text[TEXT];
    double all, available;
    if (!read_text(h->meminfo, text) || !sl_text_number(text, "MemTotal:", &all) ||
        !sl_text_number(text, "MemAvailable:", &available) || all < 0 || available < 0)
        return false;
    *room = (struct sl_room){(uint64_t)(1024 * all), (uint64_t)(1024 * available)};
    return true;
}

static bool look_at_group(const struct sl_group_files *f, struct sl_room *room)
{
    char text[TEXT];
    double limit, high, used = 0, cache = 0;
    bool limited = read_number(f->limit, &limit);
    if (read_number(f->high, &high) && (!limited || high < limit)) {
        limit = high;
        limited = true;
    }
    if (!limited)
        return false;
    if (!read_number(f->usage, &used))
        used = 0;
    if (read_text(f->stat, text))
        cache = f->old ? sum_of(text, "total_inactive_file ", "total_active_file ")
                       : sum_of(text, "inactive_file ", "active_file ");
    used = used > cache ? used - cache : 0;
    *room = (struct sl_room){(uint64_t)limit, used < limit ? (uint64_t)(limit - used) : 0};
    return true;
}

unsigned sl_headroom_look(const struct sl_headroom *h, struct sl_room rooms[SL_ROOMS_MAX])
{
    unsigned n = look_at_machine(h, &rooms[0]) ? 1 : 0;
    for (unsigned i = 0; i < h->n; i++)
        n += look_at_group(&h->groups[i], &rooms[n]) ? 1 : 0;
    return n;
}

double sl_headroom_pressure(const struct sl_headroom *h)
{
    char text[TEXT];
    double percent;
    return read_text(h->pressure, text) && sl_text_number(text, "some avg10=", &percent) ? percent
                                                                                         : 0;
}
