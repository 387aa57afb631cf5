/* SPDX-License-Identifier: MIT */
#include "tools/measure/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"

enum { FORMAT = 1, MAX_FILE = 1 << 16 };

const struct sl_machine sl_machine_typical = {
    .cpu = "a desktop with two memory channels",
    .rung = "avx2",
    .threads = 8,
    .memory_one = 25e9,
    .memory_all = 60e9,
    .drive_pread = 5e9,
    .drive_uring = 6e9,
    .lut4_vector = 50e9,
    .int8_vector = 55e9,
    .lut4_block = 500e9,
    .int8_block = 600e9,
    .f32_block = 100e9,
    .lut4_few = {180e9, 230e9, 280e9, 310e9, 340e9, 360e9, 380e9},
    .int8_few = {100e9, 150e9, 200e9, 250e9, 300e9, 340e9, 380e9},
    .index_score = 600e9,
    .topk = 2e9,
    .attend = 150e9,
    .attend_block = 150e9,
};

/* The rates by their keys in the file. */
static const struct {
    const char *key;
    size_t offset;
} rates[] = {
#define RATE(name)                                                                                 \
    {                                                                                              \
#name, offsetof(struct sl_machine, name)                                                   \
    }
#define FEW(kind, n)                                                                               \
    {                                                                                              \
#kind "_" #n, offsetof(struct sl_machine, kind##_few[n - 2])                               \
    }
    RATE(memory_one),  RATE(memory_all), RATE(drive_pread),  RATE(drive_uring), RATE(lut4_vector),
    RATE(int8_vector), RATE(lut4_block), RATE(int8_block),   RATE(f32_block),   RATE(index_score),
    RATE(topk),        RATE(attend),     RATE(attend_block), FEW(lut4, 2),      FEW(lut4, 3),
    FEW(lut4, 4),      FEW(lut4, 5),     FEW(lut4, 6),       FEW(lut4, 7),      FEW(lut4, 8),
    FEW(int8, 2),      FEW(int8, 3),     FEW(int8, 4),       FEW(int8, 5),      FEW(int8, 6),
    FEW(int8, 7),      FEW(int8, 8),
#undef FEW
#undef RATE
};

enum { N_RATES = sizeof rates / sizeof *rates };

static double *rate_of(struct sl_machine *m, size_t i)
{
    return (double *)(void *)((char *)m + rates[i].offset);
}

void sl_machine_fill(struct sl_machine *m, char *names, size_t size)
{
    struct sl_machine typical = sl_machine_typical;
    size_t used = 0;
    names[0] = 0;
    for (size_t i = 0; i < N_RATES; i++) {
        double *rate = rate_of(m, i);
        if (*rate > 0 || (rate == &m->drive_uring && m->drive_pread > 0))
            continue;
        *rate = *rate_of(&typical, i);
        int n = snprintf(names + used, size - used, "%s%s", used ? ", " : "", rates[i].key);
        used = used + (size_t)n < size ? used + (size_t)n : size - 1;
    }
}

int sl_machine_path(char *path, size_t size, struct sluice_err *err)
{
    const char *file = getenv("SLUICE_MACHINE"), *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n;
    if (file && *file)
        n = snprintf(path, size, "%s", file);
    else if (cache && *cache == '/')
        n = snprintf(path, size, "%s/sluice/machine.json", cache);
    else if (home && *home == '/')
        n = snprintf(path, size, "%s/.cache/sluice/machine.json", home);
    else
        return sl_fail(err, SLUICE_EARG,
                       "no place for measurements: set SLUICE_MACHINE to a file's path, or HOME");
    return n < (int)size ? 0 : sl_fail(err, SLUICE_EARG, "%.100s…: path too long", path);
}

static int copy_string(const json_t *root, const char *path, const char *key, char *out,
                       size_t size, struct sluice_err *err)
{
    const char *text;
    int status = sl_json_string(root, path, key, "", &text, err);
    if (status == 0 && strlen(text) >= size)
        status = sl_fail(err, SLUICE_EFORMAT, "%s: \"%s\" has %zu bytes, fewer than %zu wanted",
                         path, key, strlen(text), size);
    if (status == 0)
        snprintf(out, size, "%s", text);
    return status;
}

static int parse(struct sl_machine *m, const json_t *root, const char *path, struct sluice_err *err)
{
    int64_t format;
    const double unknown = 0;
    int status = sl_json_int(root, path, "sluice_machine", FORMAT, FORMAT, NULL, &format, err);
    if (status == 0)
        status = sl_json_int(root, path, "threads", 1, 65536, NULL, &m->threads, err);
    if (status == 0)
        status = copy_string(root, path, "date", m->date, sizeof m->date, err);
    if (status == 0)
        status = copy_string(root, path, "cpu", m->cpu, sizeof m->cpu, err);
    if (status == 0)
        status = copy_string(root, path, "rung", m->rung, sizeof m->rung, err);
    for (size_t i = 0; status == 0 && i < N_RATES; i++)
        status = sl_json_number(root, path, rates[i].key, 0, 1e18, &unknown, rate_of(m, i), err);
    return status;
}

int sl_machine_load(struct sl_machine *m, const char *path, struct sluice_err *err)
{
    json_t *root = NULL;
    *m = sl_machine_typical;
    if (access(path, F_OK) != 0)
        return 0;
    *m = (struct sl_machine){.measured = true};
    int status = sl_json_read(path, MAX_FILE, &root, err);
    if (status == 0)
        status = parse(m, root, path, err);
    json_decref(root);
    if (status == 0)
        return 1;
    sl_err_prefix(err, "measurements of this machine; run sluice doctor to make them anew");
    return status;
}

/* Creates the folders in front of the last slash. */
static int make_folders(const char *path, struct sluice_err *err)
{
    char folder[SL_PATH_MAX];
    int status = 0;
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); status == 0 && slash;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (!sl_is_directory(folder))
            status = sl_make_directory(folder, err);
        *slash = '/';
    }
    return status;
}

json_t *sl_machine_json(const struct sl_machine *m)
{
    struct sl_machine copy = *m;
    json_t *root = json_pack("{s:i, s:s, s:s, s:s, s:I}", "sluice_machine", FORMAT, "date", m->date,
                             "cpu", m->cpu, "rung", m->rung, "threads", (json_int_t)m->threads);
    int failed = root == NULL;
    for (size_t i = 0; !failed && i < N_RATES; i++)
        failed = json_object_set_new(root, rates[i].key, json_real(*rate_of(&copy, i)));
    if (!failed)
        return root;
    json_decref(root);
    return NULL;
}

int sl_machine_save(const struct sl_machine *m, const char *path, struct sluice_err *err)
{
    json_t *root = sl_machine_json(m);
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    int status = text ? make_folders(path, err) : sl_fail_nomem(err, "measurements", 0);
    if (status == 0)
        status = sl_file_replace(path, text, strlen(text), err);
    free(text);
    json_decref(root);
    return status;
}
