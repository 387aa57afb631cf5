/* SPDX-License-Identifier: MIT */
/* Typed access to JSON.  Owns nothing; every message names the file and the key. */
#include "runtime/base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/file.h"

int sl_json_parse(const char *name, const char *data, size_t len, json_t **root,
                  struct sluice_err *err)
{
    json_error_t where;
    size_t values = 0;
    *root = NULL;
    for (size_t i = 0; i < len; i++)
        values += data[i] == ',' || data[i] == '[' || data[i] == '{';
    if (values > SL_JSON_MAX_VALUES)
        return sl_fail(err, SLUICE_EFORMAT, "%.500s: more than %d JSON values", name,
                       SL_JSON_MAX_VALUES);
    *root = json_loadb(data, len, JSON_REJECT_DUPLICATES, &where);
    if (!*root)
        return sl_fail(err, SLUICE_EFORMAT, "%s: not valid JSON: line %d column %d: %s", name,
                       where.line, where.column, where.text);
    if (!json_is_object(*root)) {
        json_decref(*root);
        *root = NULL;
        return sl_fail(err, SLUICE_EFORMAT, "%s: JSON object wanted at the top", name);
    }
    return 0;
}

int sl_json_read(const char *path, size_t limit, json_t **root, struct sluice_err *err)
{
    char *data;
    size_t size;
    *root = NULL;
    int status = sl_file_read(path, limit, &data, &size, err);
    if (status < 0)
        return status;
    status = sl_json_parse(path, data, size, root, err);
    free(data);
    return status;
}

/* Short rendering of a JSON value for messages. */
static const char *shown(const json_t *value, char text[64])
{
    char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(text, 64, "%.60s", dump ? dump : "?");
    free(dump);
    return text;
}

static int wrong(const json_t *value, const char *path, const char *key, const char *wanted,
                 struct sluice_err *err)
{
    char text[64];
    if (!value || json_is_null(value))
        return sl_fail(err, SLUICE_EFORMAT, "%s: key \"%s\" is missing, %s wanted", path, key,
                       wanted);
    return sl_fail(err, SLUICE_EFORMAT, "%s: \"%s\" is %s, %s wanted", path, key,
                   shown(value, text), wanted);
}

static const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

int sl_json_int(const json_t *object, const char *path, const char *key, int64_t low, int64_t high,
                const int64_t *fallback, int64_t *out, struct sluice_err *err)
{
    const json_t *value = member(object, key);
    if (!value && fallback) {
        *out = *fallback;
        return 0;
    }
    if (json_is_integer(value) && json_integer_value(value) >= low &&
        json_integer_value(value) <= high) {
        *out = json_integer_value(value);
        return 0;
    }
    char wanted[80];
    snprintf(wanted, sizeof wanted, "an integer from %lld to %lld", (long long)low,
             (long long)high);
    return wrong(value, path, key, wanted, err);
}

int sl_json_number(const json_t *object, const char *path, const char *key, double low, double high,
                   const double *fallback, double *out, struct sluice_err *err)
{
    const json_t *value = member(object, key);
    if (!value && fallback) {
        *out = *fallback;
        return 0;
    }
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (number >= low && number <= high) {
        *out = number;
        return 0;
    }
    char wanted[80];
    snprintf(wanted, sizeof wanted, "a number from %g to %g", low, high);
    return wrong(value, path, key, wanted, err);
}

int sl_json_bool(const json_t *object, const char *path, const char *key, const bool *fallback,
                 bool *out, struct sluice_err *err)
{
    const json_t *value = member(object, key);
    if (!value && fallback) {
        *out = *fallback;
        return 0;
    }
    if (!json_is_boolean(value))
        return wrong(value, path, key, "true or false", err);
    *out = json_is_true(value);
    return 0;
}

int sl_json_string(const json_t *object, const char *path, const char *key, const char *fallback,
                   const char **out, struct sluice_err *err)
{
    const json_t *value = member(object, key);
    if (!value && fallback) {
        *out = fallback;
        return 0;
    }
    if (!json_is_string(value))
        return wrong(value, path, key, "a string", err);
    *out = json_string_value(value);
    for (const char *c = *out; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return wrong(value, path, key, "a string without control characters", err);
    return 0;
}

json_t *sl_json_text(const char *text)
{
    json_t *whole = json_string(text);
    char *ascii = whole ? NULL : strdup(text);
    for (char *c = ascii; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    if (ascii)
        whole = json_string(ascii);
    free(ascii);
    return whole;
}
