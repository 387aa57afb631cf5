/* SPDX-License-Identifier: MIT */
/*
 * Tokenizer and detokenizer: equality with the Hugging Face library on recorded vectors, the
 * published behaviour of the DeepSeek patterns, refusal of what is not implemented, damaged UTF-8,
 * and time on long texts.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/text/text.h"

#define REPLACEMENT "\xef\xbf\xbd"

static void source_path(char out[4096], const char *name)
{
    const char *top = getenv("top_srcdir");
    snprintf(out, 4096, "%s/%s", top ? top : ".", name);
}

static struct sl_tokenizer *open_source(const char *name)
{
    char path[4096];
    struct sluice_err err = {0};
    struct sl_tokenizer *t = NULL;
    source_path(path, name);
    if (sl_tokenizer_open(&t, path, &err) < 0)
        fail_msg("%s", err.msg);
    return t;
}

/* ---- recorded vectors ---------------------------------------------------------------------- */

struct reader {
    unsigned char *data;
    size_t size, at;
};

static void reader_open(struct reader *r, const char *name)
{
    static const char magic[] = "sluice tokenizer vectors 1\n";
    char path[4096];
    source_path(path, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    r->size = (size_t)ftell(f);
    rewind(f);
    r->data = malloc(r->size);
    assert_non_null(r->data);
    assert_int_equal(fread(r->data, 1, r->size, f), r->size);
    fclose(f);
    assert_memory_equal(r->data, magic, sizeof magic - 1);
    r->at = sizeof magic - 1;
}

static uint32_t read_leb(struct reader *r)
{
    uint32_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(r->at < r->size && shift < 32);
        unsigned byte = r->data[r->at++];
        value |= (byte & 127) << shift;
        if (byte < 128)
            return value;
    }
}

/* Whole characters only: what push and end may emit. */
static bool is_whole_utf8(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len) {
        unsigned char lead = (unsigned char)text[i];
        size_t more = lead < 0x80 ? 0 : lead < 0xc2 ? 9 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        for (i++; more > 0; i++, more--)
            if (i >= len || ((unsigned char)text[i] & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* Pushes token by token and compares the whole text. */
static void check_decode(struct sl_detokenizer *d, const int32_t *ids, size_t n, const char *want,
                         size_t want_len)
{
    size_t done = 0;
    for (size_t i = 0; i <= n; i++) {
        const char *text;
        size_t len;
        if (i < n)
            sl_detokenizer_push(d, ids[i], &text, &len);
        else
            sl_detokenizer_end(d, &text, &len);
        assert_true(is_whole_utf8(text, len));
        assert_true(len <= want_len - done);
        assert_memory_equal(text, want + done, len);
        done += len;
    }
    assert_int_equal(done, want_len);
}

static void check_encode(const struct sl_tokenizer *t, const char *text, size_t len, unsigned flags,
                         const int32_t *want, size_t n)
{
    int32_t *ids;
    struct sluice_err err = {0};
    /* A copy of exact size lets the address sanitizer see reads past the end. */
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    int64_t got = sl_tokenizer_encode(t, copy, len, flags, &ids, &err);
    if (got != (int64_t)n || (n && memcmp(ids, want, n * sizeof *ids) != 0))
        fail_msg("%lld ids, %zu wanted, or other ids (%s): \"%.*s\"", (long long)got, n, err.msg,
                 (int)len, text);
    free(copy);
    free(ids);
}

static size_t check_vectors(const char *tokenizer, const char *vectors)
{
    struct sl_tokenizer *t = open_source(tokenizer);
    struct sl_detokenizer *d = NULL;
    struct reader r;
    size_t n_records = 0;
    assert_int_equal(sl_detokenizer_open(&d, t, NULL), 0);
    reader_open(&r, vectors);
    for (; r.at < r.size; n_records++) {
        int kind = r.data[r.at++];
        size_t len = read_leb(&r);
        assert_true(len <= r.size - r.at);
        const char *text = (const char *)r.data + r.at;
        r.at += len;
        size_t n = read_leb(&r);
        int32_t *ids = calloc(n + 1, sizeof *ids);
        assert_non_null(ids);
        for (size_t i = 0; i < n; i++)
            ids[i] = (int32_t)read_leb(&r);
        if (kind != 'd')
            check_encode(t, text, len, kind == 'p' ? SLUICE_PLAIN_TEXT : 0, ids, n);
        check_decode(d, ids, n, text, len);
        free(ids);
    }
    free(r.data);
    sl_detokenizer_close(&d);
    sl_tokenizer_close(&t);
    return n_records;
}

static void demo_vectors(void **state)
{
    (void)state;
    assert_int_equal(
        check_vectors("tests/vectors/tokenizer-demo.json", "tests/vectors/tokenizer-demo.bin"),
        11500);
}

static void variant_vectors(void **state)
{
    (void)state;
    assert_int_equal(check_vectors("tests/vectors/tokenizer-variant.json",
                                   "tests/vectors/tokenizer-variant.bin"),
                     3000);
}

/* ---- tokenizers made here ------------------------------------------------------------------ */

/* TEXT in the byte-level alphabet. */
static void to_alphabet(const char *text, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        unsigned byte = (unsigned char)text[i], next = 256, character = 0;
        for (unsigned b = 0; b <= byte; b++) {
            bool printable = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
            character = printable ? b : next++;
        }
        if (character >= 0x80)
            *out++ = (char)(0xc0 | character >> 6);
        *out++ = (char)(character >= 0x80 ? 0x80 | (character & 0x3f) : character);
    }
    *out = 0;
}

/* The demo's settings with the 256 bytes, "th" = 256 and "the" = 257, and "<x>" = 300 added. */
static json_t *small_tokenizer(void)
{
    char path[4096], key[8];
    source_path(path, "tests/vectors/tokenizer-demo.json");
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    json_t *vocab = json_object();
    for (int byte = 0; byte < 256; byte++) {
        char text = (char)byte;
        to_alphabet(&text, 1, key);
        json_object_set_new(vocab, key, json_integer(byte));
    }
    json_object_set_new(vocab, "th", json_integer(256));
    json_object_set_new(vocab, "the", json_integer(257));
    json_t *model = json_object_get(root, "model");
    json_object_set_new(model, "vocab", vocab);
    json_object_set_new(model, "merges", json_pack("[[ss][ss]]", "t", "h", "th", "e"));
    json_object_set_new(root, "added_tokens",
                        json_pack("[{s:i,s:s,s:b,s:b,s:b,s:b,s:b}]", "id", 300, "content", "<x>",
                                  "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0,
                                  "special", 0));
    return root;
}

/* Sets the member at PATH ("model/merges/0") to the JSON text VALUE; NULL deletes it. */
static void set_member(json_t *root, const char *path, const char *value)
{
    char part[64];
    json_t *at = root;
    const char *slash;
    for (; (slash = strchr(path, '/')); path = slash + 1) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        at = json_is_array(at) ? json_array_get(at, strtoul(part, NULL, 10))
                               : json_object_get(at, part);
        assert_non_null(at);
    }
    json_t *new = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(new || !value);
    if (!new)
        json_object_del(at, path);
    else if (json_is_object(at))
        json_object_set_new(at, path, new);
    else if (strtoul(path, NULL, 10) < json_array_size(at))
        json_array_set_new(at, strtoul(path, NULL, 10), new);
    else
        json_array_append_new(at, new);
}

static int open_text(struct sl_tokenizer **t, const char *data, size_t len, struct sluice_err *err)
{
    char path[] = "/tmp/test_tokenizer.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
    int status = sl_tokenizer_open(t, path, err);
    unlink(path);
    if (status < 0)
        assert_non_null(strstr(err->msg, path));
    return status;
}

/* Takes ROOT. */
static int open_json(struct sl_tokenizer **t, json_t *root, struct sluice_err *err)
{
    char *data = json_dumps(root, 0);
    assert_non_null(data);
    int status = open_text(t, data, strlen(data), err);
    free(data);
    json_decref(root);
    return status;
}

static struct sl_tokenizer *open_small(void)
{
    struct sluice_err err = {0};
    struct sl_tokenizer *t = NULL;
    if (open_json(&t, small_tokenizer(), &err) < 0)
        fail_msg("%s", err.msg);
    return t;
}

/* ---- published behaviour ------------------------------------------------------------------- */

/* PIECES, separated by "|", must be what the demo's patterns cut their concatenation into. */
static void check_pieces(const char *pieces)
{
    char text[256] = "", key[512];
    int32_t want[64];
    size_t n = 0;
    struct sluice_err err = {0};
    struct sl_tokenizer *t = NULL;
    json_t *root = small_tokenizer();
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    set_member(root, "model/ignore_merges", "true");
    for (const char *p = pieces; *p; n++) {
        size_t len = strcspn(p, "|");
        to_alphabet(p, len, key);
        if (!json_object_get(vocab, key))
            json_object_set_new(vocab, key, json_integer(1000 + (json_int_t)n));
        want[n] = (int32_t)json_integer_value(json_object_get(vocab, key));
        strncat(text, p, len);
        p += len + (p[len] == '|');
    }
    if (open_json(&t, root, &err) < 0)
        fail_msg("%s", err.msg);
    check_encode(t, text, strlen(text), 0, want, n);
    sl_tokenizer_close(&t);
}

static void deepseek_pieces(void **state)
{
    (void)state;
    check_pieces("179|819|193|798|891|92");
    check_pieces("a| |1");
    check_pieces("a|  |1"); /* one alternation instead of stages would cut the two spaces */
    check_pieces("a| | b");
    check_pieces("a|  | b|\n");
    check_pieces("x|.com|(foo|_bar|-baz");
    check_pieces("\u00b2\u2167\u0663|4");       /* ², Ⅷ and an Arabic digit are \p{N} */
    check_pieces("e\u0301a\u0301| e\u0301");    /* combining marks continue words */
    check_pieces("\u6f22\u5b57\u304b\u306a|x"); /* Han and kana together */
    check_pieces("\u30ab|\u30fb|\u30fc");       /* stage 3 cuts kana punctuation again */
    check_pieces("\U00020000|\u6f22");          /* Extension B is outside stage 2 */
    check_pieces("hello|  \n| x|!!\n\n|y| !\r\n\r\n");
    check_pieces("a|\u00a0|1|\u3000b|\u2003|\u2003c"); /* Unicode spaces */
    check_pieces("a|\u180e|1");                        /* U+180E is no space */
    check_pieces("Hello|!| |\u6bd5\u8001\u5e08|\uff01|1| +| |1| =| |2");
}

static void merges_by_rank(void **state)
{
    (void)state;
    static const int32_t the[] = {257, 257, 256, 'T', 'h', 'e'};
    struct sl_tokenizer *t = open_small();
    check_encode(t, "thethethThe", 8, 0, the, 3);
    check_encode(t, "thethethThe", 11, 0, the, 6);
    sl_tokenizer_close(&t);
}

static void plain_text_switch(void **state)
{
    (void)state;
    static const int32_t on[] = {'a', 300, 300, '<', 'x'}, off[] = {'<', 'x', '>'};
    struct sl_tokenizer *t = open_small();
    check_encode(t, "a<x><x><x", 9, 0, on, 5);
    check_encode(t, "<x>", 3, SLUICE_PLAIN_TEXT, off, 3);
    check_encode(t, "<x>", 3, SLUICE_PLAIN_TEXT | SLUICE_ADD_BOS, off, 3);
    sl_tokenizer_close(&t);
}

static void lookups(void **state)
{
    (void)state;
    const char *bytes;
    size_t len;
    struct sl_tokenizer *t = open_small();
    assert_int_equal(sl_tokenizer_size(t), 301);
    assert_int_equal(sl_tokenizer_find(t, "<x>"), 300);
    assert_int_equal(sl_tokenizer_find(t, "the"), 257);
    assert_int_equal(sl_tokenizer_find(t, " "), ' ');
    assert_int_equal(sl_tokenizer_find(t, "no such"), -1);
    assert_int_equal(sl_tokenizer_find(t, ""), -1);
    assert_true(sl_tokenizer_token(t, 300, &bytes, &len));
    assert_int_equal(len, 3);
    assert_memory_equal(bytes, "<x>", 3);
    assert_true(sl_tokenizer_token(t, 0xff, &bytes, &len));
    assert_int_equal(len, 1);
    assert_memory_equal(bytes, "\xff", 1);
    static const int32_t none[] = {-1, 258, 299, 301, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(sl_tokenizer_token(t, none[i], &bytes, &len));
    sl_tokenizer_close(&t);
    assert_null(t);
    sl_tokenizer_close(&t);
}

/* ---- refusals ------------------------------------------------------------------------------ */

static const struct refusal {
    const char *path, *value; /* member of small_tokenizer() and its new JSON text */
    int code;
    const char *message; /* part of it */
} refusals[] = {
    {"version", "\"2.0\"", SLUICE_EUNSUPPORTED, "\"1.0\""},
    {"surprise", "1", SLUICE_EUNSUPPORTED, "unknown key \"surprise\""},
    {"truncation", "{\"max_length\": 5}", SLUICE_EUNSUPPORTED, "truncation"},
    {"padding", "{}", SLUICE_EUNSUPPORTED, "padding"},
    {"normalizer", "{\"type\": \"NFC\"}", SLUICE_EUNSUPPORTED, "NFC"},
    {"normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}]}",
     SLUICE_EUNSUPPORTED, "normalizer"},
    {"decoder", "null", SLUICE_EUNSUPPORTED, "decoder"},
    {"decoder/type", "\"Metaspace\"", SLUICE_EUNSUPPORTED, "Metaspace"},
    {"pre_tokenizer", "null", SLUICE_EUNSUPPORTED, "pre_tokenizer"},
    {"pre_tokenizer", "{\"type\": \"Metaspace\"}", SLUICE_EUNSUPPORTED, "Metaspace"},
    {"pre_tokenizer/pretokenizers", "[]", SLUICE_EUNSUPPORTED, "pre_tokenizer"},
    {"pre_tokenizer/pretokenizers/0", "{\"type\": \"Digits\"}", SLUICE_EUNSUPPORTED, "Digits"},
    {"pre_tokenizer/pretokenizers/0/extra", "0", SLUICE_EUNSUPPORTED, "extra"},
    {"pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", SLUICE_EUNSUPPORTED, "Removed"},
    {"pre_tokenizer/pretokenizers/0/invert", "true", SLUICE_EUNSUPPORTED, "invert"},
    {"pre_tokenizer/pretokenizers/0/pattern", "{\"String\": \"a\"}", SLUICE_EUNSUPPORTED, "String"},
    {"pre_tokenizer/pretokenizers/3/use_regex", "true", SLUICE_EUNSUPPORTED, "use_regex"},
    {"pre_tokenizer/pretokenizers/3/use_regex", NULL, SLUICE_EUNSUPPORTED, "use_regex"},
    {"pre_tokenizer/pretokenizers/3/add_prefix_space", "true", SLUICE_EUNSUPPORTED, "prefix"},
    {"pre_tokenizer/pretokenizers/9", "{\"type\": \"Digits\"}", SLUICE_EUNSUPPORTED, "ByteLevel"},
    {"model", "null", SLUICE_EFORMAT, "\"model\""},
    {"model/type", "\"Unigram\"", SLUICE_EUNSUPPORTED, "Unigram"},
    {"model/surprise", "1", SLUICE_EUNSUPPORTED, "surprise"},
    {"model/dropout", "0.1", SLUICE_EUNSUPPORTED, "dropout"},
    {"model/unk_token", "\"a\"", SLUICE_EUNSUPPORTED, "unk_token"},
    {"model/continuing_subword_prefix", "\"##\"", SLUICE_EUNSUPPORTED, "##"},
    {"model/end_of_word_suffix", "\"</w>\"", SLUICE_EUNSUPPORTED, "</w>"},
    {"model/byte_fallback", "true", SLUICE_EUNSUPPORTED, "byte_fallback"},
    {"model/ignore_merges", "3", SLUICE_EFORMAT, "ignore_merges"},
    {"model/vocab", "[]", SLUICE_EFORMAT, "model.vocab"},
    {"model/vocab/a", NULL, SLUICE_EFORMAT, "byte 0x61"},
    {"model/vocab/q", "\"1\"", SLUICE_EFORMAT, "\"q\": id must be"},
    {"model/vocab/q", "-1", SLUICE_EFORMAT, "\"q\": id must be"},
    {"model/vocab/q", "16777216", SLUICE_EFORMAT, "\"q\": id must be"},
    {"model/vocab/q", "1e3", SLUICE_EFORMAT, "\"q\": id must be"},
    {"model/vocab/qq", "257", SLUICE_EFORMAT, "same id"},
    {"model/vocab/qq", "300", SLUICE_EFORMAT, "same id"},
    {"model/vocab/<x>", "301", SLUICE_EFORMAT, "<x>"},
    {"model/vocab/\xe6\xbc\xa2", "301", SLUICE_EFORMAT, "outside the byte-level alphabet"},
    {"model/vocab/a b", "301", SLUICE_EFORMAT, "outside the byte-level alphabet"},
    {"model/vocab/", "301", SLUICE_EFORMAT, "empty"},
    {"model/merges", "{}", SLUICE_EFORMAT, "model.merges"},
    {"model/merges/0", "[\"t\"]", SLUICE_EFORMAT, "merge 0"},
    {"model/merges/0", "[\"t\", 5]", SLUICE_EFORMAT, "merge 0"},
    {"model/merges/0", "7", SLUICE_EFORMAT, "merge 0"},
    {"model/merges/0", "\"th\"", SLUICE_EFORMAT, "merge 0"},
    {"model/merges/0", "\"t h e\"", SLUICE_EFORMAT, "merge 0"},
    {"model/merges/1", "[\"zz\", \"e\"]", SLUICE_EFORMAT, "merge 1 of \"zz\" and \"e\""},
    {"model/merges/1", "\"e zz\"", SLUICE_EFORMAT, "merge 1 of \"e\" and \"zz\""},
    {"model/merges/2", "[\"e\", \"z\"]", SLUICE_EFORMAT, "concatenation"},
    {"model/merges/2", "[\"\", \"z\"]", SLUICE_EFORMAT, "merge 2"},
    {"model/merges/2", "[\"\xe6\xbc\xa2\", \"z\"]", SLUICE_EFORMAT, "merge 2"},
    {"added_tokens", "{}", SLUICE_EFORMAT, "added_tokens"},
    {"added_tokens/0", "5", SLUICE_EFORMAT, "added token 0"},
    {"added_tokens/0/id", "null", SLUICE_EFORMAT, "\"<x>\": id must be"},
    {"added_tokens/0/id", "16777216", SLUICE_EFORMAT, "\"<x>\": id must be"},
    {"added_tokens/0/id", "97", SLUICE_EFORMAT, "same id"},
    {"added_tokens/0/content", "\"\"", SLUICE_EFORMAT, "empty"},
    {"added_tokens/0/content", "\"the\"", SLUICE_EFORMAT, "one id in"},
    {"added_tokens/0/content", "\"\xc3\xa9\"", SLUICE_EUNSUPPORTED, "byte-level text"},
    {"added_tokens/0/content", "\"\xc4\xa0<\"", SLUICE_EUNSUPPORTED, "byte-level text"},
    {"added_tokens/0/lstrip", "true", SLUICE_EUNSUPPORTED, "\"<x>\" sets \"lstrip\""},
    {"added_tokens/0/rstrip", "true", SLUICE_EUNSUPPORTED, "rstrip"},
    {"added_tokens/0/single_word", "true", SLUICE_EUNSUPPORTED, "single_word"},
    {"added_tokens/0/special", "1", SLUICE_EFORMAT, "special"},
    {"added_tokens/0/surprise", "1", SLUICE_EUNSUPPORTED, "surprise"},
    {"added_tokens/1", "{\"id\": 300, \"content\": \"<y>\"}", SLUICE_EFORMAT, "same id"},
    {"added_tokens/1", "{\"id\": 301, \"content\": \"<x>\"}", SLUICE_EFORMAT, "twice"},
    {"added_tokens/1", "{\"id\": 301, \"content\": \"<x>\", \"normalized\": false}", SLUICE_EFORMAT,
     "twice"},
};

static void refuses_what_it_cannot(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        struct sluice_err err = {0};
        struct sl_tokenizer *t = NULL;
        json_t *root = small_tokenizer();
        set_member(root, r->path, r->value);
        int status = open_json(&t, root, &err);
        assert_null(t);
        if (status != r->code || err.code != status || !strstr(err.msg, r->message))
            fail_msg("%s = %s: status %d, wanted %d; \"%s\" should have \"%s\"", r->path,
                     r->value ? r->value : "(deleted)", status, r->code, err.msg, r->message);
    }
}

static int open_with_pattern(struct sl_tokenizer **t, const char *pattern, struct sluice_err *err)
{
    json_t *root = small_tokenizer();
    json_t *list = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    json_t *split = json_object_get(json_array_get(list, 0), "pattern");
    json_object_set_new(split, "Regex", json_string(pattern));
    return open_json(t, root, err);
}

static void refuses_patterns(void **state)
{
    (void)state;
    static const char *const unsupported[] = {"\\w+",     "\\bx",        "^a",
                                              "a$",       "\\h",         "\\R",
                                              "\\x41",    "\\u0041",     "a\\",
                                              "\\p{Han}", "\\p{L",       "\\pL",
                                              "\\p{L&}",  "\\p{Any}",    "[[a]b]",
                                              "[a&&b]",   "[]a]",        "[a",
                                              "[a\\S]",   "[\\d-z]",     "[a-\\d]",
                                              "[a-c-e]",  "[[:alpha:]]", "a{,3}",
                                              "a{2}+",    "a{2}?",       "a{2}{3}",
                                              "a{x}",     "a**",         "*a",
                                              "a|*",      "(*UTF)a",     "(?i)a",
                                              "(?x: a)",  "(?P<n>a)",    "(?#c)a",
                                              "(?i:ss)",  "(?i:a.)",     "(?i:\xc3\xa9)",
                                              "(?i:a",    "a*",          "(?=a)",
                                              "a||b",     "()",          "a{1",
                                              "]"};
    static const char *const broken[] = {"(a", "a)", "[b-a]", "\\p{Lz}", "(?<=a+)b", "a{3,2}"};
    struct sl_tokenizer *t;
    struct sluice_err err;
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (open_with_pattern(&t, unsupported[i], &err) != SLUICE_EUNSUPPORTED)
            fail_msg("%s: %s", unsupported[i], err.msg);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        if (open_with_pattern(&t, broken[i], &err) > SLUICE_EFORMAT)
            fail_msg("%s: %s", broken[i], err.msg);
    static char endless[20000];
    memset(endless, 'a', sizeof endless - 1);
    assert_int_equal(open_with_pattern(&t, endless, &err), SLUICE_EUNSUPPORTED);
}

static void refuses_files(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{",
                                      "{}x",
                                      "{\"a\": 1, \"a\": 2}",
                                      "{\"version\": \"\xff\"}",
                                      "{\"version\": \"\\u0000\"}"};
    struct sl_tokenizer *t;
    struct sluice_err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(open_text(&t, bad[i], strlen(bad[i]), &err), SLUICE_EFORMAT);
    assert_int_equal(open_text(&t, "{}", 2, &err), SLUICE_EUNSUPPORTED);

    size_t len = 11 << 20; /* a bomb: small text, many values */
    char *bomb = malloc(len);
    assert_non_null(bomb);
    memset(bomb, '[', len);
    assert_int_equal(open_text(&t, bomb, len, &err), SLUICE_EFORMAT);
    assert_non_null(strstr(err.msg, "JSON values"));
    free(bomb);
    assert_true(sl_tokenizer_open(&t, "/nonexistent/tokenizer.json", &err) < 0);
    assert_null(t);
    assert_true(sl_tokenizer_open(&t, "/nonexistent/tokenizer.json", NULL) < 0);
}

/* A pattern that backtracks without end gives a status, and soon. */
static void match_limit(void **state)
{
    (void)state;
    char text[200];
    int32_t *ids;
    struct sl_tokenizer *t = NULL;
    struct sluice_err err = {0};
    memset(text, 'a', sizeof text);
    assert_int_equal(open_with_pattern(&t, "(?:a|aa)+[bc]", &err), 0);
    assert_int_equal(sl_tokenizer_encode(t, text, sizeof text, 0, &ids, &err), SLUICE_EUNSUPPORTED);
    assert_null(ids);
    assert_non_null(strstr(err.msg, "too much work"));
    sl_tokenizer_close(&t);
}

/* ---- damaged and unusual text -------------------------------------------------------------- */

/* Bytes and what Python's bytes.decode(errors="replace") makes of them; "?" stands for U+FFFD. */
static const struct damage {
    const char *bytes, *want;
} damages[] = {
    {"a\x80z", "a?z"},
    {"\xc0\xaf", "??"},
    {"\xc3", "?"},
    {"\xc3(", "?("},
    {"\xe2\x82", "?"},
    {"\xe2\x82z", "?z"},
    {"\xe2(\xa1", "?(?"},
    {"\xe0\x80\x80", "???"},
    {"\xed\xa0\x80", "???"},
    {"\xed\x9f\xbf", "\xed\x9f\xbf"},
    {"\xf0\x9f\x98", "?"},
    {"\xf0\x9f\x98\x80\xf0\x9f", "\xf0\x9f\x98\x80?"},
    {"\xf0\x8f\x98\x80", "????"},
    {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
    {"\xf4\x90\x80\x80", "????"},
    {"\xf5\xff\xfe", "???"},
    {"\xe1\xe2\xf0\x91\xf1\x81\xa1z", "????z"},
    {"\xff", "?"},
};

static size_t put_replacements(const char *want, char *out)
{
    char *start = out;
    for (; *want; want++)
        out = *want == '?' ? stpcpy(out, REPLACEMENT) : (*out = *want, out + 1);
    return (size_t)(out - start);
}

static void damaged_utf8(void **state)
{
    (void)state;
    struct sl_tokenizer *t = open_small();
    struct sl_detokenizer *d = NULL;
    assert_int_equal(sl_detokenizer_open(&d, t, NULL), 0);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const char *bytes = damages[i].bytes;
        char want[64];
        int32_t bytewise[32], wanted[64];
        size_t len = put_replacements(damages[i].want, want);
        for (size_t k = 0; k < strlen(bytes); k++)
            bytewise[k] = (unsigned char)bytes[k];
        for (size_t k = 0; k < len; k++)
            wanted[k] = (unsigned char)want[k];
        check_decode(d, bytewise, strlen(bytes), want, len);
        check_encode(t, bytes, strlen(bytes), 0, wanted, len);
    }
    sl_detokenizer_close(&d);
    assert_null(d);
    sl_detokenizer_close(&d);
    sl_tokenizer_close(&t);
}

/* All strings of up to four bytes from the ones that matter: encode and decode must agree. */
static void all_damage_agrees(void **state)
{
    (void)state;
    static const unsigned char matter[] = {'a',  0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1,
                                           0xc2, 0xe0, 0xe1, 0xed, 0xf0, 0xf1, 0xf4, 0xf5};
    struct sl_tokenizer *t = open_small();
    struct sl_detokenizer *d = NULL;
    assert_int_equal(sl_detokenizer_open(&d, t, NULL), 0);
    for (unsigned n = 0; n < 1u << 16; n += 3) {
        char bytes[4], text[64];
        int32_t in[4], *ids;
        for (unsigned i = 0; i < 4; i++)
            bytes[i] = (char)(in[i] = matter[n >> 4 * i & 15]);
        int64_t len = sl_tokenizer_encode(t, bytes, 4, 0, &ids, NULL);
        assert_in_range(len, 4, 12);
        for (int64_t i = 0; i < len; i++)
            text[i] = (char)ids[i];
        assert_true(is_whole_utf8(text, (size_t)len));
        check_decode(d, in, 4, text, (size_t)len);
        free(ids);
    }
    sl_detokenizer_close(&d);
    sl_tokenizer_close(&t);
}

static void empty_and_nul(void **state)
{
    (void)state;
    static const int32_t nul[] = {0, 'a', 0};
    int32_t *ids = NULL;
    struct sl_tokenizer *t = open_small();
    assert_int_equal(sl_tokenizer_encode(t, "", 0, 0, &ids, NULL), 0);
    assert_non_null(ids);
    free(ids);
    check_encode(t, "\0a\0", 3, 0, nul, 3);
    assert_int_equal(sl_tokenizer_encode(t, "", SIZE_MAX, 0, &ids, NULL), SLUICE_EARG);
    assert_null(ids);
    sl_tokenizer_close(&t);
}

/* Unknown ids are nothing, even between the bytes of one character. */
static void unknown_ids(void **state)
{
    (void)state;
    static const int32_t ids[] = {-1, 0xe2, 299, 0x82, INT32_MAX, 0xac, 301};
    struct sl_tokenizer *t = open_small();
    struct sl_detokenizer *d = NULL;
    assert_int_equal(sl_detokenizer_open(&d, t, NULL), 0);
    check_decode(d, ids, sizeof ids / sizeof *ids, "\u20ac", 3);
    sl_detokenizer_close(&d);
    sl_tokenizer_close(&t);
}

/* A megabyte of each: quadratic work would take minutes. */
static void long_texts(void **state)
{
    (void)state;
    static const char *const units[] = {
        "a",   " ",    "\n",  "1",   "!",  "<",       "the", "\u306e", " a", " \n",
        "\t ", "\xff", "ab ", "<x>", "<x", "e\u0301", "\r",  "\x01",   "=",  "\xf0\x9f\x98\x80"};
    enum { SIZE = 1 << 20 };
    struct sl_tokenizer *t = open_source("tests/vectors/tokenizer-demo.json");
    char *text = malloc(SIZE);
    assert_non_null(text);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        int32_t *ids;
        struct sluice_err err = {0};
        for (size_t i = 0; i < SIZE; i++)
            text[i] = units[u][i % strlen(units[u])];
        clock_t start = clock();
        int64_t n = sl_tokenizer_encode(t, text, SIZE, 0, &ids, &err);
        if (n <= 0)
            fail_msg("%s", err.msg);
        assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20);
        free(ids);
    }
    free(text);
    sl_tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demo_vectors),
        cmocka_unit_test(variant_vectors),
        cmocka_unit_test(deepseek_pieces),
        cmocka_unit_test(merges_by_rank),
        cmocka_unit_test(plain_text_switch),
        cmocka_unit_test(lookups),
        cmocka_unit_test(refuses_what_it_cannot),
        cmocka_unit_test(refuses_patterns),
        cmocka_unit_test(refuses_files),
        cmocka_unit_test(match_limit),
        cmocka_unit_test(damaged_utf8),
        cmocka_unit_test(all_damage_agrees),
        cmocka_unit_test(empty_and_nul),
        cmocka_unit_test(unknown_ids),
        cmocka_unit_test(long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
