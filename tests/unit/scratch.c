/* SPDX-License-Identifier: MIT */
/* Files of a unit test. */
#include "tests/unit/scratch.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/file.h"

char root[256];

int make_root(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)state;
    snprintf(root, sizeof root, "%.200s/sluice-unit-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *at(const char *name)
{
    static char ring[4][600];
    static unsigned turn;
    char *out = ring[turn++ % 4];
    snprintf(out, sizeof ring[0], "%s/%s", root, name);
    return out;
}

void put(const char *name, const void *data, size_t len)
{
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

void put_safetensors(const char *name, const char *header, size_t align, const void *data,
                     size_t len)
{
    size_t n = (8 + strlen(header) + align - 1) / align * align - 8;
    uint8_t *file = malloc(8 + n + len);
    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(n >> 8 * i);
    memset(file + 8, ' ', n);
    memcpy(file + 8, header, strlen(header));
    memcpy(file + 8 + n, data, len);
    put(name, file, 8 + n + len);
    free(file);
}

void remove_tree(const char *name)
{
    assert_int_equal(nftw(at(name), remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void expect_same_files(const char *a, const char *b)
{
    struct sl_map x, y;
    assert_int_equal(sl_map_open(&x, at(a), NULL), 0);
    assert_int_equal(sl_map_open(&y, at(b), NULL), 0);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    sl_map_close(&x);
    sl_map_close(&y);
}

size_t size_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(at(name), &st), 0);
    return (size_t)st.st_size;
}

void flip(const char *name, size_t byte, int bit)
{
    uint8_t b;
    int fd = open(at(name), O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &b, 1, (off_t)byte), 1);
    b = (uint8_t)(b ^ 1 << bit);
    assert_int_equal(pwrite(fd, &b, 1, (off_t)byte), 1);
    close(fd);
}

void expect_text(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %s", part, text);
}
