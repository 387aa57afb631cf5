/* SPDX-License-Identifier: MIT */
/* Files.  The only place that maps, renames or syncs; knows nothing about formats. */
#include "runtime/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"

enum { WRITE_BEHIND = 1 << 20 };

int sl_path_join(char out[SL_PATH_MAX], const char *dir, const char *name, struct sluice_err *err)
{
    int n = snprintf(out, SL_PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= SL_PATH_MAX)
        return sl_fail(err, SLUICE_EARG, "%.200s…: path longer than %d bytes", dir, SL_PATH_MAX);
    return 0;
}

bool sl_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool sl_is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The directory that PATH is in. */
static void parent_of(const char *path, char dir[SL_PATH_MAX])
{
    snprintf(dir, SL_PATH_MAX, "%s", path);
    for (size_t n = strlen(dir); n > 1 && dir[n - 1] == '/'; n--)
        dir[n - 1] = 0;
    char *slash = strrchr(dir, '/');
    if (slash)
        *(slash == dir ? slash + 1 : slash) = 0;
    else
        strcpy(dir, ".");
}

/* Makes the directory entry of PATH durable. */
static int sync_parent(const char *path, struct sluice_err *err)
{
    char dir[SL_PATH_MAX];
    parent_of(path, dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    /* Some file systems cannot sync a directory, some parents may not be opened. */
    if (failed && failed != EINVAL && failed != EACCES && failed != EPERM)
        return sl_fail_errno(err, SLUICE_EIO, failed, "cannot sync directory %s", dir);
    return 0;
}

int sl_make_directory(const char *dir, struct sluice_err *err)
{
    if (mkdir(dir, 0777) == 0)
        return sync_parent(dir, err);
    int failed = errno;
    if (failed == EEXIST && sl_is_directory(dir))
        return 0;
    return sl_fail_errno(err, SLUICE_EIO, failed, "cannot create directory %s", dir);
}

/* Opens PATH for reading; *size receives its length.  Only regular files: a FIFO would hang us. */
static int open_regular(const char *path, int *fd, size_t *size, struct sluice_err *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return sl_fail_errno(err, errno == ENOENT ? SLUICE_EFORMAT : SLUICE_EIO, errno,
                             "cannot open %s", path);
    struct stat st;
    int status = 0;
    if (fstat(*fd, &st) != 0)
        status = sl_fail_errno(err, SLUICE_EIO, errno, "cannot stat %s", path);
    else if (!S_ISREG(st.st_mode))
        status = sl_fail(err, SLUICE_EFORMAT, "%s: not a regular file", path);
    if (status < 0) {
        close(*fd);
        *fd = -1;
        return status;
    }
    *size = (size_t)st.st_size;
    return 0;
}

int sl_map_open(struct sl_map *map, const char *path, struct sluice_err *err)
{
    int fd;
    *map = (struct sl_map){0};
    int status = open_regular(path, &fd, &map->size, err);
    if (status < 0)
        return status;
    if (map->size > 0) {
        void *data = mmap(NULL, map->size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
            status = sl_fail_errno(err, SLUICE_EIO, errno, "cannot map %s (%zu bytes)", path,
                                   map->size);
        else
            map->data = data;
    }
    close(fd);
    if (status < 0)
        map->size = 0;
    return status;
}

void sl_map_close(struct sl_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct sl_map){0};
}

int sl_file_read(const char *path, size_t limit, char **data, size_t *size, struct sluice_err *err)
{
    int fd;
    *data = NULL;
    int status = open_regular(path, &fd, size, err);
    if (status < 0)
        return status;
    if (*size > limit) {
        status = sl_fail(err, SLUICE_EFORMAT,
                         "%s: %zu bytes, more than the %zu such a file may have", path, *size,
                         limit);
    } else if (!(*data = malloc(*size + 1))) {
        status = sl_fail_nomem(err, path, *size);
    } else if ((status = sl_read_at(fd, *data, *size, 0, path, err)) < 0) {
        free(*data);
        *data = NULL;
    } else {
        (*data)[*size] = 0;
    }
    close(fd);
    return status;
}

int sl_read_at(int fd, void *data, size_t len, uint64_t offset, const char *name,
               struct sluice_err *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sl_fail_errno(err, SLUICE_EIO, errno, "cannot read %s at %llu", name,
                                 (unsigned long long)(offset + done));
        if (n == 0)
            return sl_fail(err, SLUICE_EFORMAT, "%s: ends at byte %llu, %llu wanted: truncated",
                           name, (unsigned long long)(offset + done),
                           (unsigned long long)(offset + len));
        done += (size_t)n;
    }
    return 0;
}

bool sl_stop_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && flags & O_DIRECT && fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

int sl_newfile_open(struct sl_newfile *f, const char *path, struct sluice_err *err)
{
    f->fd = -1;
    f->nameless = false;
    if (snprintf(f->path, sizeof f->path, "%s", path) >= (int)sizeof f->path)
        return sl_fail(err, SLUICE_EARG, "%.200s…: path too long", path);
    snprintf(f->temporary, sizeof f->temporary, "%s.part", path);
    unlink(f->temporary); /* of a run that was killed; never written through a link */
    f->fd = open(f->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (f->fd < 0)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot create %s", f->temporary);
    return 0;
}

int sl_newfile_open_nameless(struct sl_newfile *f, const char *path, struct sluice_err *err)
{
    char dir[SL_PATH_MAX];
    f->fd = -1;
    if (snprintf(f->path, sizeof f->path, "%s", path) >= (int)sizeof f->path)
        return sl_fail(err, SLUICE_EARG, "%.200s…: path too long", path);
    parent_of(path, dir);
    f->fd = open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
    if (f->fd < 0) /* a directory that is not there is told by this, too */
        return sl_newfile_open(f, path, err);
    f->nameless = true;
    snprintf(f->temporary, sizeof f->temporary, "%s", path);
    return 0;
}

int sl_newfile_reserve(struct sl_newfile *f, uint64_t bytes, struct sluice_err *err)
{
    if (fallocate(f->fd, 0, 0, (off_t)bytes) == 0 || errno == EOPNOTSUPP || errno == ENOSYS)
        return 0;
    return sl_fail_errno(err, SLUICE_EIO, errno, "cannot write %s, which needs %llu bytes",
                         f->temporary, (unsigned long long)bytes);
}

/* Gives a nameless file the temporary name, and then the final one. */
static int name_and_rename(struct sl_newfile *f, struct sluice_err *err)
{
    char open_file[64];
    int failed = 0;
    snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", f->fd);
    snprintf(f->temporary, sizeof f->temporary, "%s.part", f->path);
    unlink(f->temporary); /* of a process that was killed just here */
    if (linkat(AT_FDCWD, open_file, AT_FDCWD, f->temporary, AT_SYMLINK_FOLLOW) != 0)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot create %s", f->temporary);
    if (rename(f->temporary, f->path) != 0) {
        failed = errno;
        unlink(f->temporary);
    }
    return failed ? sl_fail_errno(err, SLUICE_EIO, failed, "cannot rename %s to %s", f->temporary,
                                  f->path)
                  : 0;
}

/* One process after the other: they use the same temporary name.  Where the directory cannot be
 * locked they had better be alone. */
static int commit_nameless(struct sl_newfile *f, struct sluice_err *err)
{
    char dir[SL_PATH_MAX];
    parent_of(f->path, dir);
    int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (lock >= 0 && flock(lock, LOCK_EX) != 0 && errno == EINTR)
        ;
    int status = name_and_rename(f, err);
    if (lock >= 0)
        close(lock);
    return status;
}

void sl_newfile_direct(struct sl_newfile *f, bool direct)
{
    int flags = fcntl(f->fd, F_GETFL);
    if (flags >= 0)
        fcntl(f->fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT);
}

/* Direct writes may be refused one by one, too: where blocks are larger, for example. */
static bool was_direct(struct sl_newfile *f)
{
    int flags = fcntl(f->fd, F_GETFL);
    sl_newfile_direct(f, false);
    return flags >= 0 && flags & O_DIRECT;
}

int sl_newfile_write_at(struct sl_newfile *f, const void *data, size_t len, uint64_t offset,
                        struct sluice_err *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(f->fd, (const char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && (errno == EINTR || (errno == EINVAL && was_direct(f))))
            continue;
        if (n < 0)
            return sl_fail_errno(err, SLUICE_EIO, errno, "cannot write %s at %llu", f->temporary,
                                 (unsigned long long)(offset + done));
        done += (size_t)n;
    }
    /* The drive begins now, not when all is made: only a hint, for whole pages. */
    if (len >= WRITE_BEHIND)
        sync_file_range(f->fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
    return 0;
}

/* True while the temporary name still means the file that F has open. */
static bool still_ours(const struct sl_newfile *f)
{
    struct stat opened, named;
    return fstat(f->fd, &opened) == 0 && lstat(f->temporary, &named) == 0 &&
           opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

int sl_newfile_commit(struct sl_newfile *f, struct sluice_err *err)
{
    if (!f->nameless && !still_ours(f))
        return sl_fail(err, SLUICE_EIO, "%s: another process is writing the same file", f->path);
    if (fsync(f->fd) != 0)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot sync %s", f->temporary);
    if (!f->nameless && rename(f->temporary, f->path) != 0)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot rename %s to %s", f->temporary,
                             f->path);
    int status = f->nameless ? commit_nameless(f, err) : 0;
    if (status < 0)
        return status;
    close(f->fd);
    f->fd = -1;
    return sync_parent(f->path, err);
}

void sl_newfile_close(struct sl_newfile *f)
{
    if (f->fd >= 0) {
        if (!f->nameless && still_ours(f))
            unlink(f->temporary);
        close(f->fd);
        f->fd = -1;
    }
}

int sl_file_replace(const char *path, const void *data, size_t len, struct sluice_err *err)
{
    struct sl_newfile f;
    int status = sl_newfile_open(&f, path, err);
    if (status == 0)
        status = sl_newfile_write_at(&f, data, len, 0, err);
    if (status == 0)
        status = sl_newfile_commit(&f, err);
    sl_newfile_close(&f);
    return status;
}

int sl_link_replace(const char *path, const char *target, struct sluice_err *err)
{
    char temporary[SL_PATH_MAX + 16], found[SL_PATH_MAX];
    ssize_t n = readlink(path, found, sizeof found);
    if (n > 0 && (size_t)n == strlen(target) && memcmp(found, target, (size_t)n) == 0)
        return 0;
    snprintf(temporary, sizeof temporary, "%s.part", path);
    unlink(temporary);
    if (symlink(target, temporary) != 0 || rename(temporary, path) != 0) {
        int failed = errno;
        unlink(temporary);
        return sl_fail_errno(err, SLUICE_EIO, failed, "cannot make the link %s to %s", path,
                             target);
    }
    return sync_parent(path, err);
}
