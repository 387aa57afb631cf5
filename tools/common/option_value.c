/* SPDX-License-Identifier: MIT */
/* Values of options: text to type, with nothing left over and nothing out of range.  Relies on the
 * C locale, which no part of the program changes. */
#include "tools/common/option_value.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/common/status.h"

_Static_assert(SIZE_MAX == UINT64_MAX, "counts are parsed as 64-bit numbers");

static bool has_range(const struct sl_option *option)
{
    return option->low < option->high;
}

static bool in_range(const struct sl_option *option, double value)
{
    return !has_range(option) || (option->low <= value && value <= option->high);
}

static bool parse_digits(const char *text, const char **rest, uint64_t *out)
{
    if (!isdigit((unsigned char)*text))
        return false;
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    *rest = end;
    return errno == 0;
}

static bool parse_count(const char *text, uint64_t *out)
{
    const char *rest;
    return parse_digits(text, &rest, out) && *rest == '\0';
}

static bool parse_int(const char *text, int64_t *out)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return false;
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno == 0;
}

static bool parse_real(const char *text, double *out)
{
    if (text[strspn(text, "0123456789+-.eE")] != '\0')
        return false; /* strtod would also take "nan", "inf", hexadecimal and leading space */
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out);
}

/* 0: not a unit. */
static uint64_t bytes_of_unit(const char *name)
{
    static const struct {
        const char *brief, *full;
        uint64_t bytes;
    } units[] = {{"k", "KiB", 1 << 10},
                 {"M", "MiB", 1 << 20},
                 {"G", "GiB", 1 << 30},
                 {"T", "TiB", UINT64_C(1) << 40}};
    if (*name == '\0')
        return 1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcasecmp(name, units[i].brief) == 0 || strcasecmp(name, units[i].full) == 0)
            return units[i].bytes;
    return 0;
}

static bool parse_size(const char *text, uint64_t *out)
{
    const char *rest;
    uint64_t whole;
    double fraction = 0;
    if (!parse_digits(text, &rest, &whole))
        return false;
    bool fractional = rest[0] == '.' && isdigit((unsigned char)rest[1]);
    if (fractional) {
        double place = 0.1;
        for (rest++; isdigit((unsigned char)*rest); rest++, place /= 10)
            fraction += place * (*rest - '0');
    }
    uint64_t unit = bytes_of_unit(rest);
    if (unit == 0 || (fractional && unit == 1))
        return false;
    return !__builtin_mul_overflow(whole, unit, &whole) &&
           !__builtin_add_overflow(whole, (uint64_t)(fraction * (double)unit + 0.5), out);
}

static bool parse_flag(const char *text, bool *out)
{
    static const char *const words[][2] = {
        {"no", "yes"}, {"0", "1"}, {"off", "on"}, {"false", "true"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int value = 0; value < 2; value++)
            if (strcmp(text, words[i][value]) == 0) {
                *out = value;
                return true;
            }
    return false;
}

static bool parse_name(const char *const *names, const char *text, int *out)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static bool store_unsigned(const struct sl_option *option, void *field, const char *text)
{
    uint64_t value;
    bool parsed = option->type == SL_SIZE ? parse_size(text, &value) : parse_count(text, &value);
    if (!parsed || !in_range(option, (double)value))
        return false;
    memcpy(field, &value, sizeof value);
    return true;
}

static bool store_int(const struct sl_option *option, int64_t *field, const char *text)
{
    int64_t value;
    if (!parse_int(text, &value) || !in_range(option, (double)value))
        return false;
    *field = value;
    return true;
}

static bool store_real(const struct sl_option *option, double *field, const char *text)
{
    double value;
    if (!parse_real(text, &value) || !in_range(option, value))
        return false;
    *field = value;
    return true;
}

bool sl_option_store(const struct sl_option *option, void *values, const char *text)
{
    void *field = (char *)values + option->offset;
    switch (option->type) {
    case SL_FLAG:
        return parse_flag(text, field);
    case SL_COUNT:
    case SL_SIZE:
        return store_unsigned(option, field, text);
    case SL_INT:
        return store_int(option, field, text);
    case SL_REAL:
        return store_real(option, field, text);
    case SL_STRING:
        *(const char **)field = text;
        return true;
    case SL_ENUM:
        return parse_name(option->names, text, field);
    }
    return false;
}

static struct sl_human limit_text(const struct sl_option *option, double limit)
{
    if (option->type == SL_SIZE)
        return sl_human_bytes((uint64_t)limit);
    struct sl_human human;
    snprintf(human.text, sizeof human.text, "%.15g", limit);
    return human;
}

void sl_option_range(const struct sl_option *option, char out[SL_VALUE_TEXT])
{
    out[0] = '\0';
    if (!has_range(option))
        return;
    struct sl_human low = limit_text(option, option->low);
    if (isinf(option->high))
        snprintf(out, SL_VALUE_TEXT, "at least %s", low.text);
    else
        snprintf(out, SL_VALUE_TEXT, "from %s to %s", low.text,
                 limit_text(option, option->high).text);
}

/* "auto|memory|pread" */
static void join_names(const char *const *names, const char *between, char out[SL_VALUE_TEXT])
{
    out[0] = '\0';
    for (size_t i = 0, used = 0; names[i] && used < SL_VALUE_TEXT; i++)
        used += (size_t)snprintf(out + used, SL_VALUE_TEXT - used, "%s%s", i ? between : "",
                                 names[i]);
}

void sl_option_wanted(const struct sl_option *option, char out[SL_VALUE_TEXT])
{
    static const struct {
        const char *what, *limit; /* the limit holds where the table sets no range */
    } kinds[] = {
        [SL_FLAG] = {"yes or no", ""},
        [SL_COUNT] = {"a whole number", "below 2^64"},
        [SL_INT] = {"an integer", "of 64 bits"},
        [SL_REAL] = {"a number", ""},
        [SL_STRING] = {"a text", ""},
        [SL_SIZE] = {"a size such as 4096, 512MiB or 1.5G", "below 2^64 bytes"},
    };
    char range[SL_VALUE_TEXT];
    if (option->type == SL_ENUM) {
        join_names(option->names, ", ", range);
        snprintf(out, SL_VALUE_TEXT, "one of %.500s", range);
        return;
    }
    sl_option_range(option, range);
    const char *limit = range[0] ? range : kinds[option->type].limit;
    const char *between = option->type == SL_SIZE ? ", " : *limit ? " " : "";
    snprintf(out, SL_VALUE_TEXT, "%s%s%.400s", kinds[option->type].what, between, limit);
}

void sl_option_placeholder(const struct sl_option *option, char out[SL_VALUE_TEXT])
{
    if (option->type == SL_FLAG)
        out[0] = '\0';
    else if (option->type == SL_ENUM && !option->value)
        join_names(option->names, "|", out);
    else
        snprintf(out, SL_VALUE_TEXT, "%s", option->value ? option->value : "VALUE");
}
