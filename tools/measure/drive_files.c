/* SPDX-License-Identifier: MIT */
/* Which files a drive is measured with. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "tools/measure/drive.h"

/* Keeps PATH among the largest, which are in descending order; the order of equals is by name, so
 * that every run takes the same. */
static int keep(struct sl_drive_files *f, const char *path, uint64_t bytes, struct sluice_err *err)
{
    size_t at = f->n;
    while (at > 0 && (f->bytes[at - 1] < bytes ||
                      (f->bytes[at - 1] == bytes && strcmp(f->paths[at - 1], path) > 0)))
        at--;
    if (at == SL_DRIVE_FILES_MAX)
        return 0;
    char *copy = strdup(path);
    if (!copy)
        return sl_fail_nomem(err, "a file's name", strlen(path) + 1);
    if (f->n == SL_DRIVE_FILES_MAX)
        free(f->paths[--f->n]);
    memmove(f->paths + at + 1, f->paths + at, (f->n - at) * sizeof *f->paths);
    memmove(f->bytes + at + 1, f->bytes + at, (f->n - at) * sizeof *f->bytes);
    f->paths[at] = copy;
    f->bytes[at] = bytes;
    f->n++;
    return 0;
}

static int keep_file(struct sl_drive_files *f, const char *path, struct sluice_err *err)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < SL_DRIVE_FILE_MIN)
        return 0;
    return keep(f, path, (uint64_t)st.st_size, err);
}

static int search(struct sl_drive_files *f, const char *path, DIR *dir, struct sluice_err *err)
{
    int status = 0;
    char file[SL_PATH_MAX];
    struct dirent *entry;
    while (status == 0 && (entry = readdir(dir)) != NULL)
        if ((status = sl_path_join(file, path, entry->d_name, err)) == 0)
            status = keep_file(f, file, err);
    return status;
}

int sl_drive_files_find(struct sl_drive_files *f, const char *path, struct sluice_err *err)
{
    int status;
    *f = (struct sl_drive_files){0};
    DIR *dir = opendir(path);
    if (dir)
        status = search(f, path, dir, err);
    else if (errno == ENOTDIR)
        status = keep_file(f, path, err);
    else
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot open %s", path);
    if (dir)
        closedir(dir);
    if (status == 0 && f->n == 0)
        status = sl_fail(err, SLUICE_EARG,
                         "%s: no file of %d MiB or more to measure the drive with; give a "
                         "container, a checkpoint or any large file",
                         path, SL_DRIVE_FILE_MIN >> 20);
    if (status < 0)
        sl_drive_files_close(f);
    return status;
}

void sl_drive_files_close(struct sl_drive_files *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->paths[i]);
    *f = (struct sl_drive_files){0};
}
