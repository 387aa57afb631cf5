/* SPDX-License-Identifier: MIT */
/* Running the program `sluice` from a test. */
#include "tests/fault/process.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

enum { TIME_LIMIT = 120 }; /* seconds */

bool (*before_sluice)(void);

static void absolute(char out[PATH_MAX], const char *variable, const char *name)
{
    char path[PATH_MAX];
    const char *top = getenv(variable);
    snprintf(path, sizeof path, "%.2000s/%.2000s", top ? top : ".", name);
    if (!realpath(path, out))
        fail_msg("%s: %s", path, strerror(errno));
}

/* Keeps the beginning; what is behind must be read as well, or the program would wait. */
static void read_all(int fd, char *out, size_t size)
{
    size_t used = 0;
    char rest[4096];
    for (;;) {
        bool room = used + 1 < size;
        ssize_t n = read(fd, room ? out + used : rest, room ? size - 1 - used : sizeof rest);
        if (n <= 0)
            break;
        used += room ? (size_t)n : 0;
    }
    out[used] = 0;
}

void run_sluice(struct outcome *o, char *argv[])
{
    char program[PATH_MAX];
    int ends[2], status = 0;
    struct rusage usage;
    absolute(program, "top_builddir", "sluice");
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (chdir(root) == 0 && dup2(ends[1], 1) == 1 && dup2(ends[1], 2) == 2) {
            close(ends[0]);
            close(ends[1]);
            alarm(TIME_LIMIT);
            if (before_sluice && !before_sluice())
                _exit(126);
            execv(program, argv);
        }
        _exit(127);
    }
    close(ends[1]);
    read_all(ends[0], o->text, sizeof o->text);
    close(ends[0]);
    assert_int_equal(wait4(pid, &status, 0, &usage), pid);
    o->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    o->max_rss = usage.ru_maxrss * 1024;
}

void link_checkpoint(const char *name, const char *golden)
{
    char path[PATH_MAX], dir[PATH_MAX];
    snprintf(path, sizeof path, "tests/golden/%s/checkpoint", golden);
    absolute(dir, "top_srcdir", path);
    assert_int_equal(mkdir(at(name), 0777), 0);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char from[PATH_MAX + 256], to[512];
        if (e->d_name[0] == '.')
            continue;
        snprintf(from, sizeof from, "%s/%s", dir, e->d_name);
        snprintf(to, sizeof to, "%s/%s", name, e->d_name);
        assert_int_equal(symlink(from, at(to)), 0);
    }
    closedir(d);
}

bool is_long(void)
{
    const char *text = getenv("SLUICE_TEST_LONG");
    return text && *text && strcmp(text, "0") != 0;
}

uint64_t choose_seed(void)
{
    const char *text = getenv("SLUICE_TEST_SEED");
    uint64_t seed = text && *text ? strtoull(text, NULL, 10) : 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    return seed;
}
