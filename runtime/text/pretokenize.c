/* SPDX-License-Identifier: MIT */
/*
 * The pre-tokenizer: a Sequence of Split entries, each with a pattern whose matches become pieces
 * of their own ("Isolated"), and ByteLevel at the end, which here means nothing but "BPE works on
 * bytes".  Each stage sees one piece of the stage before as a whole text: look-ahead and
 * look-behind do not reach beyond it.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/json.h"
#include "runtime/text/text_private.h"

static int compile(struct sl_tokenizer *t, const char *pattern, struct sluice_err *err)
{
    char *translated = NULL;
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *context = NULL;
    pcre2_code *stage = NULL;
    int status = sl_pattern_translate(t->path, pattern, &translated, err);
    if (status < 0)
        return status;
    context = pcre2_compile_context_create(NULL);
    if (!context) {
        status = sl_fail_nomem(err, "pattern of the tokenizer", strlen(translated));
        goto out;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    stage = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                          &code, &at, context);
    if (!stage) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        status = sl_fail(err, SLUICE_EFORMAT, "%s: pattern \"%.*s\": %s", t->path,
                         sl_utf8_cut(pattern, 200), pattern, (const char *)why);
        goto out;
    }
    t->stage[t->n_stages++] = stage;
    pcre2_jit_compile(stage, PCRE2_JIT_COMPLETE); /* where it cannot, the interpreter matches */
    uint32_t empty = 0;
    pcre2_pattern_info(stage, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty)
        status = sl_fail(err, SLUICE_EUNSUPPORTED,
                         "%s: pattern \"%.*s\" can match nothing; this build wants matches of at "
                         "least one character",
                         t->path, sl_utf8_cut(pattern, 200), pattern);
out:
    pcre2_compile_context_free(context);
    free(translated);
    return status;
}

static int load_split(struct sl_tokenizer *t, json_t *entry, struct sluice_err *err)
{
    static const char *const known[] = {"type", "pattern", "behavior", "invert", NULL};
    const json_t *pattern = json_object_get(entry, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *behavior = json_string_value(json_object_get(entry, "behavior"));
    int status = sl_settings_known(entry, t->path, "a Split pre-tokenizer", known, err);
    if (status < 0)
        return status;
    if (!regex)
        return sl_settings_refuse(t->path, "pattern", pattern, "{\"Regex\": \"...\"}", err);
    if (!behavior || strcmp(behavior, "Isolated") != 0)
        return sl_settings_refuse(t->path, "behavior", json_object_get(entry, "behavior"),
                                  "\"Isolated\"", err);
    if (!json_is_false(json_object_get(entry, "invert")))
        return sl_settings_refuse(t->path, "invert", json_object_get(entry, "invert"), "false",
                                  err);
    if (t->n_stages == SL_STAGES_MAX)
        return sl_fail(err, SLUICE_EUNSUPPORTED, "%s: more than %d Split pre-tokenizers", t->path,
                       SL_STAGES_MAX);
    return compile(t, regex, err);
}

/* The library's defaults are true: both flags must be there. */
static int check_byte_level(const struct sl_tokenizer *t, json_t *entry, struct sluice_err *err)
{
    static const char *const known[] = {"type", "add_prefix_space", "trim_offsets", "use_regex",
                                        NULL};
    static const char *const flags[] = {"add_prefix_space", "use_regex"};
    int status = sl_settings_known(entry, t->path, "the ByteLevel pre-tokenizer", known, err);
    for (int i = 0; i < 2 && status == 0; i++)
        if (!json_is_false(json_object_get(entry, flags[i])))
            status = sl_settings_refuse(t->path, flags[i], json_object_get(entry, flags[i]),
                                        "false", err);
    return status;
}

int sl_pretokenize_load(struct sl_tokenizer *t, json_t *root, struct sluice_err *err)
{
    static const char *const known[] = {"type", "pretokenizers", NULL};
    static const char wanted[] = "a Sequence of Split entries with ByteLevel at the end";
    json_t *top = json_object_get(root, "pre_tokenizer");
    const json_t *list = json_object_get(top, "pretokenizers");
    const char *type = json_string_value(json_object_get(top, "type"));
    size_t n = json_array_size(list);
    if (!type || strcmp(type, "Sequence") != 0 || n == 0)
        return sl_settings_refuse(t->path, "pre_tokenizer", top, wanted, err);
    int status = sl_settings_known(top, t->path, "\"pre_tokenizer\"", known, err);
    for (size_t i = 0; i < n && status == 0; i++) {
        json_t *entry = json_array_get(list, i);
        type = json_string_value(json_object_get(entry, "type"));
        if (!type || strcmp(type, i + 1 < n ? "Split" : "ByteLevel") != 0)
            status = sl_settings_refuse(t->path, "pretokenizers", entry, wanted, err);
        else if (i + 1 < n)
            status = load_split(t, entry, err);
        else
            status = check_byte_level(t, entry, err);
    }
    return status;
}

/* Status of a failed match of STAGE. */
static int match_error(const struct sl_encoder *e, size_t stage, int code)
{
    PCRE2_UCHAR why[128];
    if (code == PCRE2_ERROR_NOMEMORY)
        return sl_fail_nomem(e->err, "matching a pattern of the tokenizer", 0);
    pcre2_get_error_message(code, why, sizeof why);
    return sl_fail(e->err, SLUICE_EUNSUPPORTED,
                   "%s: pattern of pre-tokenizer %zu takes too much work on this text: %s",
                   e->t->path, stage, (const char *)why);
}

/* First match at or after FROM as [*start, *end); none: both LEN. */
static int match(struct sl_encoder *e, const char *text, size_t len, size_t stage, size_t from,
                 size_t *start, size_t *end)
{
    const pcre2_code *code = e->t->stage[stage];
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int n = pcre2_match(code, subject, len, from, PCRE2_NO_UTF_CHECK, e->match, e->limits);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter's stack is the heap */
        n = pcre2_match(code, subject, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, e->match,
                        e->limits);
    *start = *end = len;
    if (n == PCRE2_ERROR_NOMATCH)
        return 0;
    if (n < 0)
        return match_error(e, stage, n);
    *start = pcre2_get_ovector_pointer(e->match)[0];
    *end = pcre2_get_ovector_pointer(e->match)[1];
    return 0;
}

int sl_pretokenize(struct sl_encoder *e, const char *text, size_t len, size_t stage)
{
    if (len == 0)
        return 0;
    if (stage == e->t->n_stages)
        return sl_bpe_encode(e, text, len);
    int status = 0;
    for (size_t done = 0, start, end; done < len && status == 0; done = end) {
        status = match(e, text, len, stage, done, &start, &end);
        if (status == 0)
            status = sl_pretokenize(e, text + done, start - done, stage + 1);
        if (status == 0)
            status = sl_pretokenize(e, text + start, end - start, stage + 1);
    }
    return status;
}
