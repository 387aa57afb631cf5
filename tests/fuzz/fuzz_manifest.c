/* SPDX-License-Identifier: MIT */
/*
 * sluice.json, and the container that it describes.  An input is the text in front of the seal,
 * which is put behind it; an input with a seal of its own is also taken as it is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/container/container.h"
#include "runtime/model/weights.h"
#include "tests/fuzz/fuzz.h"

static const char seal[] = "  \"self\": \"";

/* ---- what open promises --------------------------------------------------------------------- */

static void check_files(const struct sl_manifest *m)
{
    for (size_t i = 0; i < m->n_files; i++) {
        const char *name = m->files[i].name;
        fuzz_check(name[0] && name[0] != '.' && !strchr(name, '/'), "a file elsewhere");
        fuzz_check(sl_manifest_find(m, name) == &m->files[i], "a file is not found by its name");
    }
    fuzz_check(m->profile && m->source_digest && m->tool_version, "a string is missing");
}

/* What was read can be written and read again. */
static void check_written(const struct sl_manifest *m)
{
    struct sl_manifest *again;
    struct sluice_err err;
    char *text = sl_manifest_text(m->root);
    fuzz_check(text != NULL, "a manifest cannot be written");
    fuzz_put_text("again/" SL_MANIFEST, text);
    free(text);
    fuzz_err_prepare(&err);
    bool good = fuzz_succeeded(sl_manifest_open(&again, fuzz_directory("again"), &err), &err);
    fuzz_check(good && again->n_files == m->n_files, "a manifest is written as another");
    sl_manifest_close(&again);
}

static void hear_problem(void *user, const char *text)
{
    fuzz_check(text[0] != 0, "a problem without a text");
    ++*(int64_t *)user;
}

static void verify(const char *dir)
{
    int64_t heard = 0;
    const struct sl_verify_events events = {.user = &heard, .problem = hear_problem};
    struct sluice_err err;
    fuzz_err_prepare(&err);
    int64_t problems = sl_container_verify(dir, &events, &err);
    if (fuzz_succeeded(problems, &err))
        fuzz_check(problems == heard, "problems are counted wrong");
}

/* ---- one manifest --------------------------------------------------------------------------- */

static void open_container(const char *dir)
{
    struct sl_manifest *m;
    struct sl_weights *w;
    struct sluice_err err;
    fuzz_err_prepare(&err);
    if (fuzz_succeeded(sl_manifest_open(&m, dir, &err), &err)) {
        check_files(m);
        check_written(m);
        verify(fuzz_path("container"));
        fuzz_err_prepare(&err);
        fuzz_succeeded(sl_weights_open(&w, fuzz_path("container"), false, &err), &err);
        sl_weights_close(&w);
    }
    sl_manifest_close(&m);
}

/* A container whose tensor files are whole, as far as they go. */
static void make_container(void)
{
    static bool made;
    static const char head[] =
        "{\"__metadata__\":{\"sluice\":\"1\",\"xxh3:x\":\"0000000000000000\"},"
        "\"x\":{\"dtype\":\"U8\",\"shape\":[64],\"data_offsets\":[0,64]}}";
    static const char experts[] =
        "{\"checksums\":{\"dtype\":\"U64\",\"shape\":[2,1],\"data_offsets\":[8192,8208]},"
        "\"experts\":{\"dtype\":\"U8\",\"shape\":[2,4096],\"data_offsets\":[0,8192]}}";
    if (made)
        return;
    made = true;
    fuzz_directory("again");
    fuzz_directory("container");
    fuzz_put_text("container/config.json", "{}");
    fuzz_put_safetensors("container/head.safetensors", head, sizeof head - 1, SL_DATA_ALIGN, 64);
    fuzz_put_safetensors("container/experts-00.safetensors", experts, sizeof experts - 1,
                         SL_DATA_ALIGN, 8208);
}

static bool has_seal(const uint8_t *data, size_t size)
{
    return size >= 3 && memcmp(data + size - 3, "\n}\n", 3) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + sizeof seal + 32);
    fuzz_check(text != NULL, "no memory");
    make_container();
    if (has_seal(data, size)) {
        fuzz_put("container/" SL_MANIFEST, data, size);
        open_container(fuzz_path("container"));
    }
    if (size)
        memcpy(text, data, size);
    memcpy(text + size, seal, sizeof seal - 1);
    size_t n = size + sizeof seal - 1;
    n += (size_t)sprintf(text + n, "%016" PRIx64 "\"\n}\n", sl_hash(text, n));
    fuzz_put("container/" SL_MANIFEST, text, n);
    free(text);
    open_container(fuzz_path("container"));
    return 0;
}
