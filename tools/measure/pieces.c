/* SPDX-License-Identifier: MIT */
/* How the files are opened, how the page cache forgets them, which piece is next. */
#include "tools/measure/pieces.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "tools/measure/drive.h"

uint64_t sl_shuffled(uint64_t i, uint64_t total)
{
    /* Steps that can be undone permute [0, 2^bits); results past TOTAL go round once more. */
    unsigned bits = total > 1 ? 64 - (unsigned)__builtin_clzll(total - 1) : 1;
    uint64_t mask = bits < 64 ? (1ull << bits) - 1 : ~0ull;
    do {
        for (int round = 0; round < 3; round++) {
            i = (i * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u) & mask;
            i ^= i >> (bits / 2 + 1);
        }
    } while (i >= total);
    return i;
}

/* Drops what the page cache holds of the files, also pages that a mapping shows. */
static void forget(const struct sl_pieces *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct sl_piece_file *f = &p->files[i];
        int fd = f->fd >= 0 ? f->fd : open(f->path, O_RDONLY | O_CLOEXEC);
        if (f->map.data)
            madvise((void *)(uintptr_t)f->map.data, f->map.size, MADV_DONTNEED);
        if (fd >= 0)
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        if (fd >= 0 && fd != f->fd)
            close(fd);
    }
}

/* Some file systems take O_DIRECT at opening and refuse it at reading. */
static bool reads_directly(int fd, size_t bytes, void *buffer)
{
    return fd >= 0 && (pread(fd, buffer, bytes, 0) >= 0 || errno != EINVAL);
}

static int open_file(struct sl_piece_file *f, size_t bytes, void *buffer, bool *direct,
                     struct sluice_err *err)
{
    struct stat st;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (!reads_directly(f->fd, bytes, buffer)) {
        if (f->fd >= 0)
            close(f->fd);
        f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
        *direct = false;
    }
    if (f->fd < 0 || fstat(f->fd, &st) != 0)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot open %s", f->path);
    f->pieces = (uint64_t)st.st_size / bytes;
    return 0;
}

static int open_all(struct sl_pieces *p, bool mapped, void *buffer, struct sluice_err *err)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < p->n; i++) {
        struct sl_piece_file *f = &p->files[i];
        if (mapped && (status = sl_map_open(&f->map, f->path, err)) == 0)
            f->pieces = f->map.size / p->bytes;
        else if (!mapped)
            status = open_file(f, p->bytes, buffer, &p->direct, err);
        if (status == 0 && f->pieces == 0)
            status = sl_fail(err, SLUICE_EARG, "%s: smaller than one read of %zu bytes", f->path,
                             p->bytes);
        p->total += f->pieces;
    }
    return status;
}

int sl_pieces_open(struct sl_pieces *p, const char *const *paths, size_t n, size_t bytes,
                   bool mapped, struct sluice_err *err)
{
    *p = (struct sl_pieces){.bytes = bytes, .direct = !mapped};
    void *buffer = aligned_alloc(SL_DRIVE_ALIGN, bytes);
    p->files = calloc(n, sizeof *p->files);
    int status = buffer && p->files ? 0 : sl_fail_nomem(err, "files to measure with", bytes);
    for (size_t i = 0; status == 0 && i < n; i++)
        p->files[p->n++] = (struct sl_piece_file){.path = paths[i], .fd = -1};
    if (status == 0)
        status = open_all(p, mapped, buffer, err);
    free(buffer);
    if (status < 0)
        sl_pieces_close(p);
    else if (!p->direct)
        forget(p);
    return status;
}

void sl_pieces_close(struct sl_pieces *p)
{
    for (size_t i = 0; i < p->n; i++) {
        sl_map_close(&p->files[i].map);
        if (p->files[i].fd >= 0)
            close(p->files[i].fd);
    }
    free(p->files);
    *p = (struct sl_pieces){0};
}

struct sl_piece sl_pieces_take(struct sl_pieces *p)
{
    uint64_t i = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED);
    const struct sl_piece_file *f = p->files;
    if (i > 0 && i % p->total == 0 && !p->direct)
        forget(p);
    for (i = sl_shuffled(i % p->total, p->total); i >= f->pieces; f++)
        i -= f->pieces;
    return (struct sl_piece){f, i * p->bytes};
}
