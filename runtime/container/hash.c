/* SPDX-License-Identifier: MIT */
/* Checksums of memory and of files. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/xxh3.h"
#include "runtime/container/container.h"
#include "runtime/container/container_private.h"

uint64_t sl_hash(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

bool sl_parse_hash(const char *text, uint64_t *hash)
{
    uint64_t n = 0;
    for (int i = 0; i < 16; i++) {
        char c = text[i];
        if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
            return false;
        n = n << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *hash = n;
    return text[16] == 0;
}

int sl_scan_open(struct sl_scan *s, struct sluice_err *err)
{
    *s = (struct sl_scan){0};
    s->buffer = aligned_alloc(SL_DATA_ALIGN, SL_CHUNK_BYTES);
    s->xxh3 = XXH3_createState();
    if (s->buffer && s->xxh3) {
        sl_scan_reset(s);
        return 0;
    }
    sl_scan_close(s);
    return sl_fail_nomem(err, "buffer for checksums", SL_CHUNK_BYTES);
}

void sl_scan_close(struct sl_scan *s)
{
    free(s->buffer);
    XXH3_freeState(s->xxh3);
    *s = (struct sl_scan){0};
}

void sl_scan_reset(struct sl_scan *s)
{
    XXH3_64bits_reset(s->xxh3);
}

uint64_t sl_scan_hash(const struct sl_scan *s)
{
    return XXH3_64bits_digest(s->xxh3);
}

int sl_scan_add(struct sl_scan *s, int fd, const char *path, uint64_t begin, uint64_t end,
                struct sluice_err *err)
{
    while (begin < end) {
        size_t n = sl_min(end - begin, SL_CHUNK_BYTES);
        int status = sl_read_at(fd, s->buffer, n, begin, path, err);
        if (status < 0)
            return status;
        XXH3_64bits_update(s->xxh3, s->buffer, n);
        begin += n;
        s->done += n;
        if (s->progress)
            s->progress(s->user, s->done, s->total);
    }
    return 0;
}

/* Everything but the data of `experts`: the header that says where it lies is among what counts. */
static int scan_experts_file(struct sl_scan *s, const char *path, struct sluice_err *err)
{
    struct sl_safetensors *st = NULL;
    int status = sl_safetensors_open(&st, path, err);
    if (status < 0)
        return status;
    const struct sl_tensor *experts = sl_safetensors_find(st, "experts");
    if (!experts)
        status = sl_fail(err, SLUICE_EFORMAT, "%s: no tensor experts", path);
    else if ((status = sl_scan_add(s, st->fd, path, 0, experts->offset, err)) == 0)
        status = sl_scan_add(s, st->fd, path, experts->offset + experts->bytes, st->file_bytes,
                             err);
    sl_safetensors_close(&st);
    return status;
}

static int scan_whole_file(struct sl_scan *s, const char *path, struct sluice_err *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), status;
    if (fd < 0)
        return sl_fail_errno(err, errno == ENOENT ? SLUICE_EFORMAT : SLUICE_EIO, errno,
                             "cannot open %s", path);
    if (fstat(fd, &info) != 0)
        status = sl_fail_errno(err, SLUICE_EIO, errno, "cannot stat %s", path);
    else if (!S_ISREG(info.st_mode))
        status = sl_fail(err, SLUICE_EFORMAT, "%s: not a regular file", path);
    else
        status = sl_scan_add(s, fd, path, 0, (uint64_t)info.st_size, err);
    close(fd);
    return status;
}

int sl_scan_file(struct sl_scan *s, const char *path, uint64_t *hash, struct sluice_err *err)
{
    sl_scan_reset(s);
    int status = sl_is_experts_file(path) ? scan_experts_file(s, path, err)
                                          : scan_whole_file(s, path, err);
    if (status == 0)
        *hash = sl_scan_hash(s);
    return status;
}

int sl_file_hash(const char *path, uint64_t *hash, struct sluice_err *err)
{
    struct sl_scan s;
    int status = sl_scan_open(&s, err);
    if (status == 0)
        status = sl_scan_file(&s, path, hash, err);
    sl_scan_close(&s);
    return status;
}
