/* SPDX-License-Identifier: MIT */
/*
 * sluice.json: the list of a container's files with their checksums, sealed by a checksum over
 * itself.  Owns reading, checking and serialising it; what goes in is the writer's affair.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/json.h"
#include "runtime/container/container.h"
#include "runtime/container/container_private.h"

enum {
    MAX_MANIFEST = 64 << 20, /* bytes */
    MAX_FILES = 1 << 16,
    HASH_DIGITS = 16,
};

static const int64_t max_file_bytes = (int64_t)1 << 46; /* with MAX_FILES: sums fit */

/* The end of the text: what is in front of the digits is hashed, too. */
static const char seal[] = "  \"self\": \"";
static const char tail[] = "\"\n}\n";

/* ---- the seal ------------------------------------------------------------------------------- */

char *sl_manifest_text(const json_t *root)
{
    char *body = NULL, *text = NULL;
    json_t *copy = json_is_object(root) ? json_copy((json_t *)(uintptr_t)root) : NULL;
    if (!copy)
        return NULL;
    json_object_del(copy, "self");
    body = json_dumps(copy, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!body)
        goto done;
    size_t len = strlen(body); /* "{…\n}", or "{}" */
    bool empty = json_object_size(copy) == 0;
    len -= empty ? 1 : 2;
    if (asprintf(&text, "%.*s%s\n%s", (int)len, body, empty ? "" : ",", seal) < 0) {
        text = NULL;
        goto done;
    }
    char *sealed = NULL;
    if (asprintf(&sealed, "%s%016" PRIx64 "%s", text, sl_hash(text, strlen(text)), tail) < 0)
        sealed = NULL;
    free(text);
    text = sealed;
done:
    free(body);
    json_decref(copy);
    return text;
}

static int check_seal(const char *path, const char *text, size_t size, struct sluice_err *err)
{
    const size_t seal_len = sizeof seal - 1, tail_len = sizeof tail - 1;
    const size_t end_len = seal_len + HASH_DIGITS + tail_len;
    const char *hint = "changed after it was written, or cut short; copy it again from where it "
                       "came, or run sluice quantize again";
    char want[HASH_DIGITS + 1];
    if (size < end_len || memcmp(text + size - end_len, seal, seal_len) != 0 ||
        memcmp(text + size - tail_len, tail, tail_len) != 0)
        return sl_fail(err, SLUICE_EDAMAGED, "%.500s: does not end in its own checksum: %s", path,
                       hint);
    const char *digits = text + size - tail_len - HASH_DIGITS;
    snprintf(want, sizeof want, "%016" PRIx64, sl_hash(text, (size_t)(digits - text)));
    if (memcmp(digits, want, HASH_DIGITS) == 0)
        return 0;
    char found[SL_SHOWN], raw[HASH_DIGITS + 1] = {0};
    memcpy(raw, digits, HASH_DIGITS);
    return sl_fail(err, SLUICE_EDAMAGED, "%.500s: its checksum is %s, but it says %s: %s", path,
                   want, sl_shown(raw, found), hint);
}

/* ---- a directory without one ---------------------------------------------------------------- */

struct sight {
    bool container, checkpoint;
};

static bool look(void *arg, const char *name)
{
    struct sight *s = arg;
    if (strncmp(name, "resident-", 9) == 0 || strncmp(name, "experts-", 8) == 0 ||
        strncmp(name, "mtp-", 4) == 0 || strncmp(name, SL_HEAD_FILE, sizeof SL_HEAD_FILE - 1) == 0)
        s->container = true;
    else if (strstr(name, ".safetensors") || strcmp(name, "snapshots") == 0)
        s->checkpoint = true;
    return true;
}

static int no_manifest(const char *dir, struct sluice_err *err)
{
    struct sight s = {0};
    if (!sl_is_directory(dir))
        return sl_fail(err, SLUICE_EARG, "%s: no such directory", dir);
    sl_each_name(dir, look, &s);
    return sl_fail(err, SLUICE_EFORMAT, "%.500s: no " SL_MANIFEST ": %s", dir,
                   s.container    ? "an unfinished conversion; run sluice quantize again with the "
                                    "same arguments, it continues where it stopped"
                   : s.checkpoint ? "a checkpoint, not a container; convert it with sluice quantize"
                                  : "not a container");
}

/* ---- reading -------------------------------------------------------------------------------- */

static int read_file_entry(const struct sl_manifest *m, const char *name, const json_t *value,
                           struct sl_manifest_file *f, struct sluice_err *err)
{
    char shown[SL_SHOWN];
    int64_t bytes = 0;
    const char *digits = NULL;
    if (!sl_is_file_name(name) || strcmp(name, SL_MANIFEST) == 0)
        return sl_fail(err, SLUICE_EFORMAT, "%.500s: lists %s, which is no name of a file in it",
                       m->path, sl_shown(name, shown));
    int status = 0;
    if (!json_is_object(value))
        status = sl_fail(err, SLUICE_EFORMAT, "%.500s: JSON object wanted", m->path);
    if (status == 0)
        status = sl_json_int(value, m->path, "bytes", 0, max_file_bytes, NULL, &bytes, err);
    if (status == 0)
        status = sl_json_string(value, m->path, "xxh3", NULL, &digits, err);
    if (status == 0 && !sl_parse_hash(digits, &f->xxh3))
        status = sl_fail(err, SLUICE_EFORMAT, "%.500s: \"xxh3\" is not 16 hexadecimal digits",
                         m->path);
    if (status < 0)
        return err ? sl_err_prefix(err, "entry of %s", sl_shown(name, shown)) : status;
    f->name = name;
    f->bytes = (uint64_t)bytes;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct sl_manifest_file *s = a, *t = b;
    return strcmp(s->name, t->name);
}

static int read_files(struct sl_manifest *m, struct sluice_err *err)
{
    json_t *files = json_object_get(m->root, "files"), *value;
    size_t n = json_object_size(files);
    const char *name;
    if (n == 0 || n > MAX_FILES)
        return sl_fail(err, SLUICE_EFORMAT, "%s: \"files\" lists %zu files, 1 to %d wanted",
                       m->path, n, MAX_FILES);
    m->files = calloc(n, sizeof *m->files);
    if (!m->files)
        return sl_fail_nomem(err, m->path, n * sizeof *m->files);
    json_object_foreach (files, name, value) {
        int status = read_file_entry(m, name, value, &m->files[m->n_files], err);
        if (status < 0)
            return status;
        m->n_files++;
    }
    qsort(m->files, m->n_files, sizeof *m->files, by_name);
    return 0;
}

static int read_members(struct sl_manifest *m, struct sluice_err *err)
{
    int64_t version = 0;
    int status = sl_json_int(m->root, m->path, "format", 1, INT64_MAX, NULL, &version, err);
    if (status < 0)
        return status;
    if (version > SL_FORMAT_VERSION)
        return sl_fail(err, SLUICE_EVERSION,
                       "%s: container format %" PRId64 ", this build reads %d; use a newer sluice",
                       m->path, version, SL_FORMAT_VERSION);
    const json_t *source = json_object_get(m->root, "source");
    status = sl_json_string(m->root, m->path, "tool", NULL, &m->tool_version, err);
    if (status == 0)
        status = sl_json_string(m->root, m->path, "profile", NULL, &m->profile, err);
    if (status == 0 && !json_is_object(source))
        status = sl_fail(err, SLUICE_EFORMAT, "%s: no \"source\" object", m->path);
    if (status == 0)
        status = sl_json_string(source, m->path, "digest", NULL, &m->source_digest, err);
    return status < 0 ? status : read_files(m, err);
}

/* A file that the runtime would read although nothing vouches for it. */
static int refuse_strangers(const struct sl_manifest *m, const char *dir, struct sluice_err *err)
{
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[SL_PATH_MAX];
        int status = sl_path_join(path, dir, names[i], err);
        if (status < 0)
            return status;
        if (sl_file_exists(path) && !sl_manifest_find(m, names[i]))
            return sl_fail(err, SLUICE_EFORMAT,
                           "%s: not listed in " SL_MANIFEST "; remove it, or convert into a new "
                           "directory",
                           path);
    }
    return 0;
}

int sl_manifest_open(struct sl_manifest **out, const char *dir, struct sluice_err *err)
{
    char *text = NULL;
    size_t size = 0;
    struct sl_manifest *m = *out = calloc(1, sizeof *m);
    if (!m)
        return sl_fail_nomem(err, "manifest", sizeof *m);
    int status = sl_path_join(m->path, dir, SL_MANIFEST, err);
    if (status == 0 && !sl_file_exists(m->path))
        status = no_manifest(dir, err);
    if (status < 0 || (status = sl_file_read(m->path, MAX_MANIFEST, &text, &size, err)) < 0 ||
        (status = check_seal(m->path, text, size, err)) < 0 ||
        (status = sl_json_parse(m->path, text, size, &m->root, err)) < 0)
        goto done;
    status = read_members(m, err);
    if (status == 0)
        status = refuse_strangers(m, dir, err);
done:
    free(text);
    if (status < 0)
        sl_manifest_close(out);
    return status;
}

void sl_manifest_close(struct sl_manifest **out)
{
    struct sl_manifest *m = *out;
    if (!m)
        return;
    free(m->files);
    json_decref(m->root);
    free(m);
    *out = NULL;
}

const struct sl_manifest_file *sl_manifest_find(const struct sl_manifest *m, const char *name)
{
    const struct sl_manifest_file key = {.name = name};
    if (m->n_files == 0)
        return NULL;
    return bsearch(&key, m->files, m->n_files, sizeof key, by_name);
}
