/* SPDX-License-Identifier: MIT */
#include "tools/bench/evict.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/file.h"

enum { KEPT_PAGES = 16, KEPT_PERCENT = 1 }; /* single pages may be in use for a moment */

/* Pages of MAP that are in memory. */
static int count_resident(const struct sl_map *map, size_t *pages, size_t *resident,
                          struct sluice_err *err)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *pages = sl_ceil_div(map->size, page);
    *resident = 0;
    unsigned char *seen = malloc(*pages);
    if (!seen)
        return sl_fail_nomem(err, "a map of pages", *pages);
    int failed = mincore((void *)(uintptr_t)map->data, map->size, seen);
    for (size_t i = 0; !failed && i < *pages; i++)
        *resident += seen[i] & 1;
    free(seen);
    return failed ? sl_fail_errno(err, SLUICE_EIO, errno, "mincore") : 0;
}

static int check_gone(const char *path, struct sluice_err *err)
{
    struct sl_map map;
    size_t pages, resident;
    int status = sl_map_open(&map, path, err);
    if (status < 0 || map.size == 0)
        return status;
    status = count_resident(&map, &pages, &resident, err);
    sl_map_close(&map);
    if (status == 0 && resident > KEPT_PAGES + pages * KEPT_PERCENT / 100)
        return sl_fail(
            err, SLUICE_EUNSUPPORTED,
            "%s: %zu of %zu pages stay in memory when they are to be dropped: --cold "
            "needs a file system on a drive, and no other program that has the file open",
            path, resident, pages);
    return status;
}

/* Pages that are not written yet would stay. */
static int evict_file(const char *path, struct sluice_err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int saved = errno;
        if (fd >= 0)
            close(fd);
        return sl_fail_errno(err, SLUICE_EIO, saved, "cannot open %s", path);
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return 0;
    }
    fdatasync(fd);
    int failed = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return failed ? sl_fail_errno(err, SLUICE_EIO, failed, "cannot drop %s from memory", path)
                  : check_gone(path, err);
}

int sl_evict_directory(const char *path, struct sluice_err *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot open %s", path);
    int status = 0;
    char file[SL_PATH_MAX];
    for (struct dirent *entry; status == 0 && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        if ((status = sl_path_join(file, path, entry->d_name, err)) == 0)
            status = evict_file(file, err);
    }
    closedir(dir);
    return status;
}
