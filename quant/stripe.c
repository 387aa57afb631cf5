/* SPDX-License-Identifier: MIT */
/*
 * The directories that a container's expert files are divided among: made, checked, locked; where
 * each part lies, and the link to it in the container.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/conversion.h"
#include "runtime/base/err.h"

void sl_stripe_init(struct sl_stripe *s, const char *dest)
{
    *s = (struct sl_stripe){.n_parts = 1, .dest = dest};
    for (unsigned i = 0; i < SL_PARTS_MAX; i++)
        s->lock[i] = -1;
}

int sl_lock_directory(const char *dir, int *lock, struct sluice_err *err)
{
    *lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot open %s", dir);
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return 0; /* a file system without locks: nobody else can be told */
    return sl_fail(err, SLUICE_EARG,
                   "%s: another conversion is writing there; wait for it, or choose another "
                   "directory",
                   dir);
}

/* "experts-03.1.safetensors", with or without ".part" behind it. */
static bool is_part_name(const char *name)
{
    unsigned layer, part;
    int n = 0;
    return sscanf(name, "experts-%u.%u.safetensors%n", &layer, &part, &n) == 2 && n > 0 &&
           (name[n] == 0 || strcmp(name + n, ".part") == 0);
}

/* A directory of parts holds nothing else: what is there may be replaced and removed. */
static int refuse_strangers(const char *dir, struct sluice_err *err)
{
    char stranger[256] = "";
    struct dirent *entry;
    DIR *d = opendir(dir);
    if (!d)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot list %s", dir);
    while ((entry = readdir(d)))
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "lost+found") != 0 &&
            !is_part_name(entry->d_name))
            snprintf(stranger, sizeof stranger, "%s", entry->d_name);
    closedir(d);
    if (!stranger[0])
        return 0;
    return sl_fail(err, SLUICE_EARG,
                   "%s: has files that are no parts of experts (%s …); choose a directory of its "
                   "own for them",
                   dir, stranger);
}

/* Parts in one directory would be one drive's. */
static int refuse_twice(const struct sl_stripe *s, unsigned part, struct sluice_err *err)
{
    struct stat a, b;
    for (unsigned i = 0; i < part; i++)
        if (stat(s->dir[part], &a) == 0 && stat(i == 0 ? s->dest : s->dir[i], &b) == 0 &&
            a.st_dev == b.st_dev && a.st_ino == b.st_ino)
            return sl_fail(err, SLUICE_EARG,
                           "%s is given twice; every part needs another directory", s->dir[part]);
    return 0;
}

static int open_directory(struct sl_stripe *s, unsigned part, const char *given,
                          struct sluice_err *err)
{
    int status = sl_make_directory(given, err);
    if (status < 0)
        return status;
    if (!(s->dir[part] = realpath(given, NULL)))
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot find %s", given);
    if ((status = refuse_twice(s, part, err)) == 0 &&
        (status = sl_lock_directory(s->dir[part], &s->lock[part], err)) == 0)
        status = refuse_strangers(s->dir[part], err);
    return status;
}

int sl_stripe_open(struct sl_stripe *s, const char *list, struct sluice_err *err)
{
    char *copy = list ? strdup(list) : NULL, *rest = copy;
    int status = list && !copy ? sl_fail_nomem(err, list, strlen(list)) : 0;
    for (const char *dir; status == 0 && (dir = strsep(&rest, ","));) {
        if (!dir[0])
            status = sl_fail(err, SLUICE_EARG, "\"%.500s\": directories with commas between wanted",
                             list);
        else if (s->n_parts == SL_PARTS_MAX)
            status = sl_fail(err, SLUICE_EARG, "\"%.500s\": at most %d directories wanted", list,
                             SL_PARTS_MAX - 1);
        else
            status = open_directory(s, s->n_parts++, dir, err);
    }
    free(copy);
    return status;
}

void sl_stripe_clean(const struct sl_stripe *s)
{
    for (unsigned i = 1; i < s->n_parts; i++) {
        struct dirent *entry;
        DIR *d = opendir(s->dir[i]);
        while (d && (entry = readdir(d)))
            if (is_part_name(entry->d_name) && !sl_is_tensor_file(entry->d_name))
                unlinkat(s->lock[i], entry->d_name, 0);
        if (d)
            closedir(d);
    }
}

void sl_stripe_close(struct sl_stripe *s)
{
    for (unsigned i = 1; i < s->n_parts; i++) {
        free(s->dir[i]);
        if (s->lock[i] >= 0)
            close(s->lock[i]);
    }
    sl_stripe_init(s, s->dest);
}

const char *sl_stripe_directory(const struct sl_stripe *s, unsigned part)
{
    return part == 0 ? s->dest : s->dir[part];
}

int sl_stripe_path(const struct sl_stripe *s, uint32_t layer, unsigned part, char path[SL_PATH_MAX],
                   struct sluice_err *err)
{
    char name[64];
    sl_experts_part_file(name, layer, part, s->n_parts);
    return sl_path_join(path, sl_stripe_directory(s, part), name, err);
}

int sl_stripe_link(const struct sl_stripe *s, uint32_t layer, unsigned part, struct sluice_err *err)
{
    char name[64], target[SL_PATH_MAX], link[SL_PATH_MAX];
    if (part == 0)
        return 0;
    sl_experts_part_file(name, layer, part, s->n_parts);
    int status = sl_path_join(link, s->dest, name, err);
    if (status == 0)
        status = sl_stripe_path(s, layer, part, target, err);
    return status < 0 ? status : sl_link_replace(link, target, err);
}
