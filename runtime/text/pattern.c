/* SPDX-License-Identifier: MIT */
/*
 * Patterns of tokenizer.json are written for Oniguruma.  Most of the syntax means the same to
 * PCRE2; this translator passes on what does, rewrites \s and \S, and refuses the rest (\w, \b,
 * ^, $, {,n}, a{2}+, nested classes, && ...) rather than let it match something else.
 *
 * Known differences that shape the rules: PCRE2's \s includes U+180E; in Oniguruma ^ and $ work at
 * every line and + after an interval is not possessive; ignoring case, it takes "ss" for U+00DF.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/text/text_private.h"

/* White_Space of Unicode, for use inside a class. */
#define SPACE                                                                                      \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"

enum { SPACE_MAX = sizeof "[^" SPACE "]" };

struct translation {
    const char *path;    /* for messages */
    const char *pattern; /* whole, NUL-terminated UTF-8 */
    const char *at;      /* not yet read */
    char *out;           /* where to write; there is room for SPACE_MAX per byte read */
    struct sluice_err *err;
};

static int refuse(const struct translation *p, const char *what)
{
    return sl_fail(p->err, SLUICE_EUNSUPPORTED, "%s: pattern \"%.*s\": %s at byte %zu: \"%.*s\"",
                   p->path, sl_utf8_cut(p->pattern, 200), p->pattern, what,
                   (size_t)(p->at - p->pattern), sl_utf8_cut(p->at, 20), p->at);
}

static void put(struct translation *p, const char *text)
{
    p->out = stpcpy(p->out, text);
}

static void copy(struct translation *p, size_t n)
{
    memcpy(p->out, p->at, n);
    p->out += n;
    p->at += n;
}

static bool is_among(char c, const char *set)
{
    return c && strchr(set, c);
}

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static size_t count_digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* \p{L}, \p{Lu}, \P{...}, \p{^...}: general categories, which have fixed names. */
static int translate_property(struct translation *p)
{
    const char *name = p->at + 2;
    if (*name++ != '{')
        return refuse(p, "\\p{...} wanted");
    name += *name == '^';
    size_t len = strcspn(name, "}");
    if (len == 0 || len > 2 || name[len] != '}' || !is_among(name[0], "CLMNPSZ") ||
        (len == 2 && !is_among(name[1], "cdefiklmnopstu")))
        return refuse(p, "only general categories such as \\p{L} or \\p{Lu} are supported");
    copy(p, (size_t)(name + len + 1 - p->at));
    return 0;
}

/* *is_set: the escape stands for more than one character. */
static int translate_escape(struct translation *p, bool in_class, bool *is_set)
{
    unsigned char c = (unsigned char)p->at[1];
    *is_set = is_among((char)c, "sSdpP");
    if (c == 'p' || c == 'P')
        return translate_property(p);
    if (c == 's' || (c == 'S' && !in_class)) {
        put(p, in_class ? SPACE : c == 's' ? "[" SPACE "]" : "[^" SPACE "]");
        p->at += 2;
        return 0;
    }
    bool same = is_among((char)c, "dfnrt") ||
                (c > ' ' && c < 0x7f && !is_letter((char)c) && !(c >= '0' && c <= '9'));
    if (!same)
        return refuse(p, in_class ? "escape not supported in a class" : "escape not supported");
    copy(p, 2);
    return 0;
}

/* One UTF-8 character. */
static void copy_character(struct translation *p)
{
    size_t used;
    sl_utf8_next(p->at, strlen(p->at), &used);
    copy(p, used);
}

/* An end of a range or a member of a class. */
static int translate_member(struct translation *p, bool *is_set)
{
    *is_set = false;
    if (!*p->at)
        return refuse(p, "] is missing");
    if (*p->at == '\\')
        return translate_escape(p, true, is_set);
    if (*p->at == '[' || strncmp(p->at, "&&", 2) == 0)
        return refuse(p, "classes within classes are not supported");
    copy_character(p);
    return 0;
}

/* A literal '-' may only stand first or last; anything else has readings that differ. */
static int translate_class(struct translation *p)
{
    bool is_set;
    copy(p, p->at[1] == '^' ? 2 : 1);
    if (*p->at == ']')
        return refuse(p, "empty class");
    if (*p->at == '-')
        copy(p, 1);
    while (*p->at != ']') {
        if (*p->at == '-')
            return refuse(p, "- must be first, last or between two characters");
        int status = translate_member(p, &is_set);
        if (status < 0)
            return status;
        if (*p->at != '-')
            continue;
        if (p->at[1] != ']' && is_set)
            return refuse(p, "range from a set of characters");
        copy(p, 1);
        if (*p->at == ']')
            break;
        status = translate_member(p, &is_set);
        if (status == 0 && is_set)
            status = refuse(p, "range to a set of characters");
        if (status < 0)
            return status;
    }
    copy(p, 1);
    return 0;
}

/* (?i:...) of ASCII letters, ' and |, without sequences that fold to one character. */
static int translate_caseless(struct translation *p)
{
    static const char *const folds[] = {"ff", "fi", "fl", "ss", "st"};
    const char *body = p->at + strlen("(?i:");
    size_t len = 0;
    for (; is_letter(body[len]) || is_among(body[len], "'|"); len++)
        for (size_t i = 0; i < sizeof folds / sizeof *folds; i++)
            if (strncasecmp(body + len, folds[i], 2) == 0)
                return refuse(p, "folds to another number of characters");
    if (body[len] != ')')
        return refuse(p, "only ASCII letters, ' and | are supported in (?i:...)");
    copy(p, (size_t)(body + len + 1 - p->at));
    return 0;
}

/* The opening of a group; its body and end are atoms of their own, matched up by PCRE2. */
static int translate_group(struct translation *p)
{
    static const char *const openings[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (strncmp(p->at, "(?i:", 4) == 0)
        return translate_caseless(p);
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
        if (strncmp(p->at, openings[i], strlen(openings[i])) == 0) {
            copy(p, strlen(openings[i]));
            return 0;
        }
    }
    if (p->at[1] == '?' || p->at[1] == '*')
        return refuse(p, "group not supported");
    copy(p, 1);
    return 0;
}

/* What may follow an atom: *, +, ?, each also lazy or possessive, or a greedy {n}, {n,}, {n,m}. */
static int translate_quantifier(struct translation *p)
{
    if (is_among(*p->at, "*+?")) {
        copy(p, 1);
        if (is_among(*p->at, "+?"))
            copy(p, 1);
    } else if (*p->at == '{') {
        size_t n = 1 + count_digits(p->at + 1);
        bool good = n > 1;
        if (p->at[n] == ',')
            n += 1 + count_digits(p->at + n + 1);
        if (!good || p->at[n] != '}')
            return refuse(p, "interval not supported");
        copy(p, n + 1);
    } else {
        return 0;
    }
    return is_among(*p->at, "*+?{") ? refuse(p, "quantifier of a quantifier") : 0;
}

static int translate_atom(struct translation *p)
{
    bool is_set;
    switch (*p->at) {
    case '\\':
        return translate_escape(p, false, &is_set);
    case '[':
        return translate_class(p);
    case '(':
        return translate_group(p);
    case '^':
    case '$':
        return refuse(p, "anchors are not supported");
    case '*':
    case '+':
    case '?':
    case '{':
    case '}':
    case ']':
        return refuse(p, "nothing to repeat or unbalanced");
    default:
        copy_character(p);
        return 0;
    }
}

int sl_pattern_translate(const char *path, const char *pattern, char **out, struct sluice_err *err)
{
    size_t len = strlen(pattern);
    *out = NULL;
    if (len > SL_PATTERN_MAX)
        return sl_fail(err, SLUICE_EUNSUPPORTED,
                       "%s: pattern of %zu bytes; at most %d are supported", path, len,
                       SL_PATTERN_MAX);
    *out = malloc((len + 1) * SPACE_MAX);
    if (!*out)
        return sl_fail_nomem(err, "pattern of the tokenizer", (len + 1) * SPACE_MAX);
    struct translation p = {
        .path = path, .pattern = pattern, .at = pattern, .out = *out, .err = err};
    int status = 0;
    while (*p.at && status == 0) {
        bool opens = *p.at == '|' || (*p.at == '(' && strncmp(p.at, "(?i:", 4) != 0);
        status = translate_atom(&p);
        if (status == 0 && !opens)
            status = translate_quantifier(&p);
    }
    *p.out = 0;
    if (status < 0) {
        free(*out);
        *out = NULL;
    }
    return status;
}
