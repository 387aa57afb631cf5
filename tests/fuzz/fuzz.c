/* SPDX-License-Identifier: MIT */
/* Files and checks of the fuzz targets.  Owns the scratch directory. */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[256];

void fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "fuzz: broken promise: %s\n", what);
    abort();
}

/* ---- files ---------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void remove_root(void)
{
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_path(const char *name)
{
    static char path[sizeof root + 400];
    if (!root[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(root, sizeof root, "%.200s/sluice-fuzz-XXXXXX", tmp ? tmp : "/tmp");
        fuzz_check(mkdtemp(root) != NULL, "no scratch directory");
        atexit(remove_root);
    }
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

const char *fuzz_directory(const char *name)
{
    const char *path = fuzz_path(name);
    fuzz_check(mkdir(path, 0777) == 0 || errno == EEXIST, "cannot make a directory");
    return path;
}

/* Opens PATH empty. */
static int create(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    fuzz_check(fd >= 0, "cannot create a file");
    return fd;
}

static void write_all(int fd, const void *data, size_t len)
{
    fuzz_check(write(fd, data, len) == (ssize_t)len, "cannot write a file");
}

const char *fuzz_put(const char *name, const void *data, size_t len)
{
    const char *path = fuzz_path(name);
    int fd = create(path);
    write_all(fd, data, len);
    close(fd);
    return path;
}

const char *fuzz_put_text(const char *name, const char *text)
{
    return fuzz_put(name, text, strlen(text));
}

const char *fuzz_put_safetensors(const char *name, const void *header, size_t header_len,
                                 size_t align, size_t len)
{
    const char *path = fuzz_path(name);
    size_t start = (8 + header_len + align - 1) / align * align;
    uint8_t *front = malloc(start);
    fuzz_check(front != NULL, "no memory");
    memset(front, ' ', start);
    for (int i = 0; i < 8; i++)
        front[i] = (uint8_t)((start - 8) >> 8 * i);
    memcpy(front + 8, header, header_len);
    int fd = create(path);
    write_all(fd, front, start);
    fuzz_check(ftruncate(fd, (off_t)(start + len)) == 0, "cannot lengthen a file");
    close(fd);
    free(front);
    return path;
}

/* ---- checks --------------------------------------------------------------------------------- */

void fuzz_err_prepare(struct sluice_err *err)
{
    memset(err, 0x7f, sizeof *err);
}

bool fuzz_succeeded(int64_t status, const struct sluice_err *err)
{
    if (status >= 0)
        return true;
    fuzz_check(err->code == status, "the error has another code than the function returned");
    size_t n = strnlen(err->msg, sizeof err->msg);
    fuzz_check(n > 0 && n < sizeof err->msg, "an error without a message");
    for (size_t i = 0; i < n; i++)
        fuzz_check((unsigned char)err->msg[i] >= ' ' && err->msg[i] != 0x7f,
                   "a message with control characters");
    return false;
}

size_t fuzz_split(const uint8_t *data, size_t size, const uint8_t **rest, size_t *len)
{
    const uint8_t *blank = size ? memmem(data, size, "\n\n", 2) : NULL;
    size_t n = blank ? (size_t)(blank - data) : size;
    *rest = blank ? blank + 2 : data + size;
    *len = (size_t)(data + size - *rest);
    return n;
}
