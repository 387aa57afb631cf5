/* SPDX-License-Identifier: MIT */
/*
 * The parts of tokenizer.json that must be as this build implements them: whatever would make the
 * ids differ from those of the Hugging Face library is refused by name.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/json.h"
#include "runtime/text/text_private.h"

int sl_settings_refuse(const char *path, const char *key, const json_t *found, const char *wanted,
                       struct sluice_err *err)
{
    char *dump = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
    const char *text = dump ? dump : "missing";
    int cut = sl_utf8_cut(text, 80);
    int status = sl_fail(err, SLUICE_EUNSUPPORTED, "%s: \"%s\" is %.*s%s; this build wants %s",
                         path, key, cut, text, text[cut] ? "..." : "", wanted);
    free(dump);
    return status;
}

int sl_settings_known(json_t *object, const char *path, const char *what, const char *const *known,
                      struct sluice_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach (object, key, value) {
        const char *const *k = known;
        while (*k && strcmp(*k, key) != 0)
            k++;
        if (!*k)
            return sl_fail(err, SLUICE_EUNSUPPORTED,
                           "%s: unknown key \"%.*s\" in %s; this build cannot tell what it does",
                           path, sl_utf8_cut(key, 60), key, what);
    }
    return 0;
}

/* Absent and null are the same to the library. */
static bool is_null(const json_t *value)
{
    return !value || json_is_null(value);
}

static int want_null(const json_t *object, const char *path, const char *key,
                     struct sluice_err *err)
{
    const json_t *value = json_object_get(object, key);
    return is_null(value) ? 0 : sl_settings_refuse(path, key, value, "null", err);
}

static int want_false(const json_t *object, const char *path, const char *key,
                      struct sluice_err *err)
{
    const json_t *value = json_object_get(object, key);
    return is_null(value) || json_is_false(value)
               ? 0
               : sl_settings_refuse(path, key, value, "false", err);
}

static int want_empty(const json_t *object, const char *path, const char *key,
                      struct sluice_err *err)
{
    const json_t *value = json_object_get(object, key);
    bool good = is_null(value) || (json_is_string(value) && json_string_length(value) == 0);
    return good ? 0 : sl_settings_refuse(path, key, value, "null or \"\"", err);
}

static bool has_type(const json_t *object, const char *type)
{
    const char *found = json_string_value(json_object_get(object, "type"));
    return found && strcmp(found, type) == 0;
}

static int check_normalizer(const json_t *root, const char *path, struct sluice_err *err)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *list = json_object_get(normalizer, "normalizers");
    if (is_null(normalizer) ||
        (has_type(normalizer, "Sequence") && json_is_array(list) && json_array_size(list) == 0))
        return 0;
    return sl_settings_refuse(path, "normalizer", normalizer, "null or an empty Sequence", err);
}

static int check_model(json_t *model, const char *path, struct sluice_err *err)
{
    static const char *const known[] = {"type",
                                        "dropout",
                                        "unk_token",
                                        "continuing_subword_prefix",
                                        "end_of_word_suffix",
                                        "fuse_unk",
                                        "byte_fallback",
                                        "ignore_merges",
                                        "vocab",
                                        "merges",
                                        NULL};
    if (!json_is_object(model))
        return sl_fail(err, SLUICE_EFORMAT, "%s: \"model\" is missing or no object", path);
    if (!has_type(model, "BPE"))
        return sl_settings_refuse(path, "model.type", json_object_get(model, "type"), "\"BPE\"",
                                  err);
    int status = sl_settings_known(model, path, "\"model\"", known, err);
    const json_t *dropout = json_object_get(model, "dropout");
    if (status == 0 && !is_null(dropout) &&
        !(json_is_number(dropout) && json_number_value(dropout) == 0))
        status = sl_settings_refuse(path, "dropout", dropout, "null or 0", err);
    if (status == 0)
        status = want_null(model, path, "unk_token", err);
    if (status == 0)
        status = want_empty(model, path, "continuing_subword_prefix", err);
    if (status == 0)
        status = want_empty(model, path, "end_of_word_suffix", err);
    if (status == 0)
        status = want_false(model, path, "byte_fallback", err);
    return status;
}

int sl_settings_check(json_t *root, const char *path, struct sluice_err *err)
{
    static const char *const known[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    const char *version;
    int status = sl_json_string(root, path, "version", "1.0", &version, err);
    if (status == 0 && strcmp(version, "1.0") != 0)
        status = sl_settings_refuse(path, "version", json_object_get(root, "version"), "\"1.0\"",
                                    err);
    if (status == 0)
        status = sl_settings_known(root, path, "the top level", known, err);
    if (status == 0)
        status = want_null(root, path, "truncation", err);
    if (status == 0)
        status = want_null(root, path, "padding", err);
    if (status == 0)
        status = check_normalizer(root, path, err);
    if (status == 0 && !has_type(json_object_get(root, "decoder"), "ByteLevel"))
        status = sl_settings_refuse(path, "decoder", json_object_get(root, "decoder"),
                                    "type ByteLevel", err);
    if (status == 0)
        status = check_model(json_object_get(root, "model"), path, err);
    return status;
}
