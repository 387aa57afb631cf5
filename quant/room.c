/* SPDX-License-Identifier: MIT */
/*
 * Room on the drive: what a conversion has yet to write, what DEST's file system has.  Measures and
 * words messages; deletes nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

struct room {
    struct sl_conversion *c;
    uint64_t block; /* what the file system hands out */
    uint64_t free;
    int64_t grown; /* by the files so far; the ones that they replace are subtracted */
    int64_t need;  /* at the worst moment: a file is complete before the old one goes */
};

/* False when the file system does not tell. */
static bool room_open(struct room *r, struct sl_conversion *c)
{
    struct statvfs fs;
    if (statvfs(c->dest, &fs) != 0 || fs.f_blocks == 0 || fs.f_frsize == 0)
        return false;
    *r = (struct room){.c = c, .block = fs.f_frsize};
    r->free = (uint64_t)(geteuid() == 0 ? fs.f_bfree : fs.f_bavail) * fs.f_frsize;
    return true;
}

static void add_file(struct room *r, const char *name, uint64_t bytes)
{
    char path[SL_PATH_MAX];
    struct stat old;
    int64_t size = (int64_t)sl_round_up(bytes, r->block);
    r->need = r->grown + size > r->need ? r->grown + size : r->need;
    r->grown += size;
    if (sl_path_join(path, r->c->dest, name, NULL) == 0 && stat(path, &old) == 0)
        r->grown -= (int64_t)old.st_blocks * 512;
}

static int add_copied(struct room *r, struct sluice_err *err)
{
    char *names[SL_MAX_COPIED], path[SL_PATH_MAX];
    size_t n;
    struct stat info;
    if (!r->c->checkpoint)
        return 0;
    int status = sl_list_copied(r->c->checkpoint->dir, names, &n, err);
    for (size_t i = 0; i < n; i++) {
        if (sl_path_join(path, r->c->checkpoint->dir, names[i], NULL) == 0 &&
            stat(path, &info) == 0)
            add_file(r, names[i], (uint64_t)info.st_size);
        free(names[i]);
    }
    return status;
}

/* Everything from file FROM of the plan to the last. */
static int add_rest(struct room *r, size_t from, struct sluice_err *err)
{
    const struct sl_plan *plan = &r->c->plan;
    uint64_t bytes;
    int status = 0;
    for (size_t i = 0; status == 0 && i < plan->n_files; i++) {
        const struct sl_plan_file *f = &plan->files[i];
        if (i < from || f->complete)
            continue;
        status = r->c->target->measure(r->c, f, &bytes, err);
        if (status == 0)
            add_file(r, f->name, bytes);
    }
    if (status == 0)
        status = add_copied(r, err);
    add_file(r, r->c->target->last, r->c->target->finish_room(r->c));
    return status;
}

int sl_room_check(struct sl_conversion *c, struct sluice_err *err)
{
    struct room r;
    if (!room_open(&r, c))
        return 0;
    int status = add_rest(&r, 0, err);
    uint64_t need = (uint64_t)r.need;
    if (status < 0 || need <= r.free)
        return status;
    return sl_fail(err, SLUICE_ENOSPC,
                   "%.500s: what is left to write needs %llu bytes, the drive has %llu free; free "
                   "%llu bytes more and run the same command again, or choose another directory",
                   c->dest, (unsigned long long)need, (unsigned long long)r.free,
                   (unsigned long long)(need - r.free));
}

/* What is missing, for a message. */
static void print_missing(const struct room *r, char out[256])
{
    unsigned long long need = (uint64_t)r->need, free = r->free;
    if (need > free)
        snprintf(out, 256,
                 "what is left to write needs %llu bytes, the drive has %llu free: free %llu bytes "
                 "more",
                 need, free, need - free);
    else
        snprintf(out, 256,
                 "what is left to write needs %llu bytes and the drive has %llu free, so a quota "
                 "is used up, or the inodes, or another program fills it: make room",
                 need, free);
}

int sl_room_explain(struct sl_conversion *c, size_t from, struct sluice_err *err)
{
    struct room r;
    struct sluice_err ignored;
    char missing[256] = "make room", what[600];
    if (room_open(&r, c) && add_rest(&r, from, &ignored) == 0)
        print_missing(&r, missing);
    snprintf(what, sizeof what, "%.599s", err ? err->msg : "");
    return sl_fail(err, SLUICE_ENOSPC,
                   "%s; %s, then run the same command again: it keeps finished files and goes on",
                   what, missing);
}
