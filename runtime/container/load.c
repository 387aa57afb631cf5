/* SPDX-License-Identifier: MIT */
/* Reads a whole file into memory once, with its checksum, and leaves nothing of it in the page
 * cache. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/xxh3.h"
#include "runtime/container/container.h"

enum { PIECE = 4 << 20, PAGE = 4096 };

int sl_wrong_size(const char *path, uint64_t found, uint64_t wanted, struct sluice_err *err)
{
    return sl_fail(err, SLUICE_EDAMAGED,
                   "%s: %" PRIu64 " bytes, %" PRIu64 " wanted: truncated or replaced; copy it "
                   "again from where it came, or delete it and run sluice quantize again",
                   path, found, wanted);
}

/* Past the page cache where the file system allows it. */
static int open_direct(const char *path)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
    int fd = open(path, flags | O_DIRECT);
    return fd < 0 && errno == EINVAL ? open(path, flags) : fd;
}

static int read_all(int fd, uint8_t *data, size_t size, const char *path, XXH3_state_t *hash,
                    struct sluice_err *err)
{
    for (size_t done = 0; done < size;) {
        size_t wanted = sl_min(PIECE, sl_round_up(size - done, PAGE));
        ssize_t n = pread(fd, data + done, wanted, (off_t)done);
        if (n < 0 && (errno == EINTR || (errno == EINVAL && sl_stop_direct(fd))))
            continue;
        if (n < 0)
            return sl_fail_errno(err, SLUICE_EIO, errno, "cannot read %s at %zu", path, done);
        if (n == 0)
            return sl_wrong_size(path, done, size, err);
        size_t got = sl_min((size_t)n, size - done);
        XXH3_64bits_update(hash, data + done, got);
        done += got;
    }
    return 0;
}

int sl_file_load(const char *path, uint8_t *data, size_t size, uint64_t *hash,
                 struct sluice_err *err)
{
    struct stat info;
    XXH3_state_t *state = XXH3_createState();
    int fd = open_direct(path), status;
    if (fd < 0)
        status = sl_fail_errno(err, errno == ENOENT ? SLUICE_EFORMAT : SLUICE_EIO, errno,
                               "cannot open %s", path);
    else if (fstat(fd, &info) != 0)
        status = sl_fail_errno(err, SLUICE_EIO, errno, "cannot stat %s", path);
    else if (!S_ISREG(info.st_mode))
        status = sl_fail(err, SLUICE_EFORMAT, "%s: not a regular file", path);
    else if ((uint64_t)info.st_size != size)
        status = sl_wrong_size(path, (uint64_t)info.st_size, size, err);
    else if (!state || XXH3_64bits_reset(state) != XXH_OK)
        status = sl_fail_nomem(err, "checksum", 1024);
    else if ((status = read_all(fd, data, size, path, state, err)) == 0)
        *hash = XXH3_64bits_digest(state);
    if (fd >= 0) {
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    XXH3_freeState(state);
    return status;
}
