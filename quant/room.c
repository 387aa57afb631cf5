/* SPDX-License-Identifier: MIT */
/*
 * Room on the drives: what a conversion has yet to write, what the file systems of its directories
 * have.  Measures and words messages; deletes nothing.
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

void sl_room_open(struct sl_room *r, const struct sl_stripe *s)
{
    *r = (struct sl_room){0};
    for (unsigned part = 0; part < s->n_parts; part++) {
        struct sl_room_drive *d = r->drives;
        const char *dir = sl_stripe_directory(s, part);
        struct statvfs fs;
        struct stat info = {0};
        stat(dir, &info);
        while (d < r->drives + r->n && d->device != info.st_dev)
            d++;
        r->of[part] = (unsigned)(d - r->drives);
        if (r->of[part] < r->n)
            continue;
        r->n++;
        *d = (struct sl_room_drive){
            .device = info.st_dev, .dir = dir, .block = 1, .free = INT64_MAX};
        if (statvfs(dir, &fs) != 0 || fs.f_blocks == 0 || fs.f_frsize == 0)
            continue; /* it does not tell */
        d->block = fs.f_frsize;
        d->free = (uint64_t)(geteuid() == 0 ? fs.f_bfree : fs.f_bavail) * fs.f_frsize;
    }
}

void sl_room_add(struct sl_room *r, unsigned part, uint64_t bytes)
{
    struct sl_room_drive *d = &r->drives[r->of[part]];
    d->grown += (int64_t)sl_round_up(bytes, d->block);
    d->need = d->grown > d->need ? d->grown : d->need;
}

void sl_room_remove(struct sl_room *r, const char *path)
{
    struct stat old;
    if (lstat(path, &old) != 0)
        return;
    for (struct sl_room_drive *d = r->drives; d < r->drives + r->n; d++)
        if (d->device == old.st_dev)
            d->grown -= (int64_t)old.st_blocks * 512;
}

/* The drive that lacks most; the one with the least room to spare when none does. */
static const struct sl_room_drive *tightest(const struct sl_room *r)
{
    const struct sl_room_drive *found = r->drives;
    for (const struct sl_room_drive *d = r->drives; d < r->drives + r->n; d++)
        if (d->need - (int64_t)d->free > found->need - (int64_t)found->free)
            found = d;
    return found;
}

int sl_room_verdict(const struct sl_room *r, const char *what, struct sluice_err *err)
{
    const struct sl_room_drive *d = tightest(r);
    unsigned long long need = (uint64_t)d->need, free = d->free;
    if (need <= free)
        return 0;
    return sl_fail(err, SLUICE_ENOSPC,
                   "%.500s: %s needs %llu bytes, the drive has %llu free; free %llu bytes more and "
                   "run the same command again, or choose another directory",
                   d->dir, what, need, free, need - free);
}

/* ---- conversions ----------------------------------------------------------------------------- */

/* NAME is written anew in the container itself. */
static void add_named(struct sl_room *r, const struct sl_conversion *c, const char *name,
                      uint64_t bytes)
{
    char path[SL_PATH_MAX];
    sl_room_add(r, 0, bytes);
    if (sl_path_join(path, c->dest, name, NULL) == 0)
        sl_room_remove(r, path);
}

static int add_copied(struct sl_room *r, const struct sl_conversion *c, struct sluice_err *err)
{
    char *names[SL_MAX_COPIED], path[SL_PATH_MAX];
    size_t n;
    struct stat info;
    if (!c->checkpoint)
        return 0;
    int status = sl_list_copied(c->checkpoint->dir, names, &n, err);
    for (size_t i = 0; i < n; i++) {
        if (sl_path_join(path, c->checkpoint->dir, names[i], NULL) == 0 && stat(path, &info) == 0)
            add_named(r, c, names[i], (uint64_t)info.st_size);
        free(names[i]);
    }
    return status;
}

static int add_planned(struct sl_room *r, struct sl_conversion *c, const struct sl_plan_file *f,
                       struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    uint64_t bytes;
    int status = 0;
    for (unsigned p = 0; status == 0 && p < sl_file_parts(c, f); p++) {
        status = c->target->measure(c, f, p, &bytes, err);
        if (status == 0)
            status = sl_file_path(c, f, p, path, err);
        if (status < 0)
            break;
        sl_room_add(r, p, bytes);
        sl_room_remove(r, path);
    }
    return status;
}

/* Everything from file FROM of the plan to the last. */
static int add_rest(struct sl_room *r, struct sl_conversion *c, size_t from, struct sluice_err *err)
{
    int status = 0;
    sl_room_open(r, &c->stripe);
    for (size_t i = from; status == 0 && i < c->plan.n_files; i++)
        if (!c->plan.files[i].complete)
            status = add_planned(r, c, &c->plan.files[i], err);
    if (status == 0)
        status = add_copied(r, c, err);
    add_named(r, c, c->target->last, c->target->finish_room(c));
    return status;
}

static const char rest[] = "what is left to write";

int sl_room_check(struct sl_conversion *c, struct sluice_err *err)
{
    struct sl_room r;
    int status = add_rest(&r, c, 0, err);
    return status < 0 ? status : sl_room_verdict(&r, rest, err);
}

/* What is missing, for a message. */
static void print_missing(const struct sl_room *r, char out[256])
{
    const struct sl_room_drive *d = tightest(r);
    unsigned long long need = (uint64_t)d->need, free = d->free;
    if (need > free)
        snprintf(out, 256, "%s needs %llu bytes, the drive has %llu free: free %llu bytes more",
                 rest, need, free, need - free);
    else
        snprintf(out, 256,
                 "%s needs %llu bytes and the drive has %llu free, so a quota is used up, or the "
                 "inodes, or another program fills it: make room",
                 rest, need, free);
}

int sl_room_explain(struct sl_conversion *c, size_t from, struct sluice_err *err)
{
    struct sl_room r;
    struct sluice_err ignored;
    char missing[256] = "make room", what[600];
    if (add_rest(&r, c, from, &ignored) == 0 && tightest(&r)->free < INT64_MAX)
        print_missing(&r, missing);
    snprintf(what, sizeof what, "%.599s", err ? err->msg : "");
    return sl_fail(err, SLUICE_ENOSPC,
                   "%s; %s, then run the same command again: it keeps finished files and goes on",
                   what, missing);
}
