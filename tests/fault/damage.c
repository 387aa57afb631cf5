/* SPDX-License-Identifier: MIT */
/*
 * Containers that changed after they were written: flipped bits in every region of every file,
 * files cut, extended, swapped, missing, or of another container.  `sluice verify` names the file;
 * the runtime refuses it, names it too, or gives the answer of the undamaged container.
 * SLUICE_TEST_LONG=1: five times the flips, and each of them is run; SLUICE_TEST_SEED: other ones.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/container/container.h"
#include "tests/fault/process.h"
#include "tests/random.h"
#include "tests/unit/scratch.h"

enum { MAX_FILES = 64, FLIPS = 1000 };

static struct {
    char name[64];
    size_t bytes;
} files[MAX_FILES]; /* of the container ./good */
static size_t n_files;
static const char *readers[2] = {"memory", "pread"};

/* ---- containers ------------------------------------------------------------------------------ */

static char *contents(const char *name, size_t *size)
{
    char *data;
    assert_int_equal(sl_file_read(at(name), 1 << 26, &data, size, NULL), 0);
    return data;
}

static void copy_file(const char *from, const char *to)
{
    size_t size;
    char *data = contents(from, &size);
    put(to, data, size);
    free(data);
}

/* "DIR/NAME"; good until three more calls. */
static const char *in(const char *dir, const char *name)
{
    static char ring[3][128];
    static unsigned turn;
    char *out = ring[turn++ % 3];
    assert_in_range(snprintf(out, sizeof ring[0], "%s/%s", dir, name), 1, sizeof ring[0] - 1);
    return out;
}

static void list_files(void)
{
    struct dirent **found;
    int n = scandir(at("good"), &found, NULL, alphasort);
    assert_true(n > 0 && n < MAX_FILES);
    for (int i = 0; i < n; i++) {
        if (found[i]->d_name[0] != '.') {
            snprintf(files[n_files].name, sizeof files[0].name, "%.63s", found[i]->d_name);
            files[n_files].bytes = size_of(in("good", files[n_files].name));
            n_files++;
        }
        free(found[i]);
    }
    free(found);
}

static void restore(const char *name)
{
    copy_file(in("good", name), in("bad", name));
}

/* Before each test, ./bad is ./good again. */
static int restore_all(void **state)
{
    (void)state;
    remove_tree("bad");
    assert_int_equal(mkdir(at("bad"), 0777), 0);
    for (size_t i = 0; i < n_files; i++)
        restore(files[i].name);
    return 0;
}

/* A tokenizer of single bytes, made from one with a larger vocabulary. */
static void put_tokenizer(const char *name)
{
    const char *top = getenv("top_srcdir"), *key;
    char path[SL_PATH_MAX];
    json_t *t = NULL, *bytes = json_object(), *value;
    snprintf(path, sizeof path, "%s/tests/vectors/tokenizer-variant.json", top ? top : ".");
    assert_int_equal(sl_json_read(path, 1 << 26, &t, NULL), 0);
    json_t *model = json_object_get(t, "model");
    json_object_foreach (json_object_get(model, "vocab"), key, value)
        if (strlen(key) == 1 || (strlen(key) == 2 && (key[0] & 0x80)))
            json_object_set_new(bytes, key, json_integer((json_int_t)json_object_size(bytes)));
    json_object_set_new(model, "vocab", bytes);
    json_object_set_new(model, "merges", json_array());
    json_object_set_new(t, "added_tokens", json_array());
    char *text = json_dumps(t, JSON_INDENT(1));
    put_text(name, text);
    free(text);
    json_decref(t);
}

static void convert(char *source, char *dest, char *profile)
{
    struct outcome o;
    RUN(&o, "quantize", source, dest, "--fast", "--profile", profile);
    if (o.code != 0)
        fail_msg("%s", o.text);
}

static void logits(struct outcome *o, char *dir, const char *reader, char *out)
{
    RUN(o, "eval", "logits", "-m", dir, "--tokens", "ids", "--out", out, "--mtp", "--threads", "1",
        "--reader", (char *)(uintptr_t)reader);
}

/* Containers good and bad, the same; another profile; another model; the logits of ./good. */
static int make_containers(void **state)
{
    static const int32_t ids[] = {292, 438, 41, 350, 9, 320, 375, 315, 134, 384, 484, 100};
    struct outcome o;
    if (make_root(state) != 0)
        return -1;
    link_checkpoint("source", "tiny-v32");
    link_checkpoint("another", "tiny-v3");
    put_tokenizer("source/tokenizer.json");
    put_text("source/LICENSE", "do what you like\n");
    convert("source", "good", "quality");
    convert("source", "max", "max");
    convert("another", "v3", "quality");
    list_files();
    assert_int_equal(mkdir(at("bad"), 0777), 0);
    put("ids", ids, sizeof ids);
    logits(&o, "good", "memory", "wanted");
    if (o.code != 0)
        fail_msg("%s", o.text);
    random_state = choose_seed();
    return 0;
}

/* ---- what must be found ---------------------------------------------------------------------- */

/* `sluice verify` on ./bad names FILE, whatever it is that WHAT did to it. */
static void expect_found(const char *file, const char *what)
{
    struct outcome o;
    RUN(&o, "verify", "bad");
    if (o.code != 3 || !strstr(o.text, file))
        fail_msg("%s: %s: verify ends with %d: %s", file, what, o.code, o.text);
}

static bool is_wanted(const char *name)
{
    size_t size, want_size;
    char *data = contents(name, &size), *want = contents("wanted", &want_size);
    bool same = size == want_size && memcmp(data, want, size) == 0;
    free(data);
    free(want);
    return same;
}

/* Running ./bad stops with an error that names FILE, or, where that is ALLOWED, gives the right
 * answer.  True when it stopped; the error is in *o. */
static bool expect_stop(struct outcome *o, const char *file, const char *what, const char *reader,
                        bool allowed)
{
    logits(o, "bad", reader, "found");
    if (o->code == 0 && allowed && is_wanted("found")) {
        assert_int_equal(unlink(at("found")), 0);
        return false;
    }
    if (o->code != 3 || !strstr(o->text, file))
        fail_msg("%s: %s: with reader %s, logits end with %d: %s", file, what, reader, o->code,
                 o->text);
    assert_int_equal(access(at("found"), F_OK), -1);
    assert_int_equal(access(at("found.part"), F_OK), -1);
    return true;
}

/* Both. */
static void expect_damage(const char *file, const char *what)
{
    static unsigned turn;
    struct outcome o;
    expect_found(file, what);
    expect_stop(&o, file, what, readers[turn++ % 2], false);
}

/* ---- flips ----------------------------------------------------------------------------------- */

struct region {
    size_t file;
    size_t begin, end;
    char what[96];
    bool streamed; /* part of an expert: read only when it is used */
};

static struct region *regions;
static size_t n_regions;

__attribute__((format(printf, 5, 6))) static void add_region(size_t file, size_t begin, size_t end,
                                                             bool streamed, const char *format, ...)
{
    va_list args;
    if (begin == end)
        return;
    regions = realloc(regions, (n_regions + 1) * sizeof *regions);
    assert_non_null(regions);
    struct region *r = &regions[n_regions++];
    *r = (struct region){.file = file, .begin = begin, .end = end, .streamed = streamed};
    va_start(args, format);
    vsnprintf(r->what, sizeof r->what, format, args);
    va_end(args);
}

/* Panels and the zeros behind them, expert by expert. */
static void add_experts(size_t file, const struct sl_safetensors *st, const struct sl_tensor *t)
{
    struct sl_expert_layout l;
    struct sluice_err err;
    assert_int_equal(
        sl_packing_parse(sl_safetensors_meta(st, "pack:gate_up"), "", &l.gate_up, &err), 0);
    assert_int_equal(sl_packing_parse(sl_safetensors_meta(st, "pack:down"), "", &l.down, &err), 0);
    sl_expert_layout_fill(&l);
    assert_int_equal(l.stride, t->dims[1]);
    for (uint64_t e = 0; e < t->dims[0]; e++) {
        size_t at_e = t->offset + e * l.stride, down = at_e + l.down_offset;
        size_t gate_end = at_e + sl_packing_bytes(&l.gate_up);
        size_t down_end = down + sl_packing_bytes(&l.down);
        add_region(file, at_e, gate_end, true, "gate_up of expert %d", (int)e);
        add_region(file, gate_end, down, true, "zeros behind gate_up of expert %d", (int)e);
        add_region(file, down, down_end, true, "down of expert %d", (int)e);
        add_region(file, down_end, at_e + l.stride, true, "zeros behind expert %d", (int)e);
    }
}

static void add_tensor_file(size_t file)
{
    struct sl_safetensors *st = NULL;
    struct sluice_err err;
    size_t size;
    const char *name = in("good", files[file].name);
    char *data = contents(name, &size);
    if (sl_safetensors_open(&st, at(name), &err) < 0)
        fail_msg("%s", err.msg);
    size_t text_end = st->data_start;
    while (data[text_end - 1] == ' ')
        text_end--;
    add_region(file, 0, 8, false, "length word");
    add_region(file, 8, text_end, false, "header");
    add_region(file, text_end, st->data_start, false, "blanks behind the header");
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct sl_tensor *t = &st->tensors[i];
        if (strcmp(t->name, "experts") == 0)
            add_experts(file, st, t);
        else
            add_region(file, t->offset, t->offset + t->bytes, false, "tensor %.80s", t->name);
    }
    sl_safetensors_close(&st);
    free(data);
}

static void list_regions(void)
{
    for (size_t i = 0; i < n_files; i++) {
        if (sl_is_tensor_file(files[i].name))
            add_tensor_file(i);
        else
            add_region(i, 0, files[i].bytes, false, "text");
    }
}

/* The text names the expert that the region WHAT belongs to, and its chunk. */
static void expect_expert(const struct region *r, const char *text)
{
    char want[64];
    snprintf(want, sizeof want, "layer %lu, expert %s, chunk ",
             strtoul(files[r->file].name + sizeof "experts-" - 1, NULL, 10),
             strrchr(r->what, ' ') + 1);
    expect_text(text, want);
}

static void flip_at(const struct region *r, size_t byte, bool and_run)
{
    const char *file = files[r->file].name, *name = in("bad", file);
    int bit = (int)(random_bits() % 8);
    char what[256];
    struct outcome o;
    snprintf(what, sizeof what, "bit %d of byte %zu (%s)", bit, byte, r->what);
    flip(name, byte, bit);
    expect_found(file, what);
    if (and_run && expect_stop(&o, file, what, readers[random_bits() % 2], r->streamed) &&
        r->streamed)
        expect_expert(r, o.text);
    flip(name, byte, bit);
}

static size_t somewhere(const struct region *r)
{
    return r->begin + random_bits() % (r->end - r->begin);
}

/* Damage is what the other tests find, not a copy in another place. */
static void passes_a_copy(void **state)
{
    struct outcome o;
    (void)state;
    RUN(&o, "verify", "bad");
    expect_text(o.text, "bad: good");
    for (int reader = 0; reader < 2; reader++)
        assert_false(expect_stop(&o, "", "a copy", readers[reader], true));
}

static void finds_flips(void **state)
{
    size_t n = is_long() ? 5 * FLIPS : FLIPS, done = 0;
    (void)state;
    list_regions();
    assert_true(n_regions > 0);
    for (size_t i = 0; i < n_regions; i++) { /* the ends of every region */
        const struct region *r = &regions[i];
        flip_at(r, r->begin, !r->streamed || is_long());
        flip_at(r, r->end - 1, is_long());
        done += 2;
    }
    for (; done < n; done++) { /* every file as often as the others */
        size_t file = random_bits() % n_files;
        const struct region *r;
        do
            r = &regions[random_bits() % n_regions];
        while (r->file != file);
        flip_at(r, somewhere(r), is_long());
    }
    print_message("%zu flips, %zu regions in %zu files\n", done, n_regions, n_files);
}

/* One flip in one expert after the other, with each reader: those in use stop the run and are
 * named; the others change nothing. */
static void stops_at_used_experts(void **state)
{
    size_t stopped = 0, ran = 0;
    (void)state;
    for (size_t i = 0; i < n_regions; i++) {
        const struct region *r = &regions[i];
        const char *file = files[r->file].name;
        size_t byte = somewhere(r);
        struct outcome o;
        if (!r->streamed || (!is_long() && strncmp(r->what, "gate_up", 7) != 0))
            continue;
        flip(in("bad", file), byte, 7);
        for (int reader = 0; reader < 2; reader++) {
            if (expect_stop(&o, file, r->what, readers[reader], true)) {
                expect_expert(r, o.text);
                stopped++;
            } else {
                ran++;
            }
        }
        flip(in("bad", file), byte, 7);
    }
    print_message("%zu runs stopped at a damaged expert, %zu did not use it\n", stopped, ran);
    assert_true(stopped > 0 && stopped % 2 == 0);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void finds_other_lengths(void **state)
{
    static const char garbage[4096] = "{}";
    (void)state;
    for (size_t i = 0; i < n_files; i++) {
        const char *file = files[i].name;
        size_t bytes = files[i].bytes;
        size_t cut[] = {0, 1, 7, 8, 9, bytes / 2, bytes - 4096, bytes - 1, random_bits() % bytes};
        for (size_t k = 0; k < sizeof cut / sizeof cut[0]; k++) {
            char what[64];
            if (cut[k] >= bytes)
                continue;
            snprintf(what, sizeof what, "cut to %zu bytes", cut[k]);
            assert_int_equal(truncate(at(in("bad", file)), (off_t)cut[k]), 0);
            expect_damage(file, what);
            restore(file);
        }
        for (size_t more = 1; more <= sizeof garbage; more *= 64) {
            int fd = open(at(in("bad", file)), O_WRONLY | O_APPEND);
            assert_int_equal(write(fd, garbage + (more == 64 ? 64 : 0), more), more);
            close(fd);
            expect_damage(file, "extended");
            restore(file);
        }
    }
}

static void finds_missing_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_files; i++) {
        const char *file = files[i].name;
        assert_int_equal(unlink(at(in("bad", file))), 0);
        expect_damage(file, "missing");
        assert_int_equal(mkdir(at(in("bad", file)), 0777), 0);
        expect_damage(file, "a directory");
        assert_int_equal(rmdir(at(in("bad", file))), 0);
        assert_int_equal(mkfifo(at(in("bad", file)), 0666), 0);
        expect_damage(file, "a pipe");
        assert_int_equal(unlink(at(in("bad", file))), 0);
        restore(file);
    }
}

static void finds_swapped_files(void **state)
{
    size_t same_size = 0;
    (void)state;
    for (size_t i = 0; i < n_files; i++)
        for (size_t k = 0; k < i; k++) {
            const char *a = files[i].name, *b = files[k].name;
            struct outcome o;
            copy_file(in("good", a), in("bad", b));
            copy_file(in("good", b), in("bad", a));
            bool manifest = strcmp(a, SL_MANIFEST) == 0 || strcmp(b, SL_MANIFEST) == 0;
            expect_found(manifest ? SL_MANIFEST : a, b);
            expect_found(manifest ? SL_MANIFEST : b, a);
            logits(&o, "bad", readers[i % 2], "found");
            if (o.code != 3 || !(strstr(o.text, a) || strstr(o.text, b)))
                fail_msg("%s and %s swapped: %d, %s", a, b, o.code, o.text);
            same_size += files[i].bytes == files[k].bytes;
            restore(a);
            restore(b);
        }
    assert_true(same_size > 0);
}

/* Files of DIR, one at a time, in the place of ours; the manifest in the end. */
static void expect_strangers(const char *dir)
{
    size_t n = 0;
    for (size_t i = 0; i < n_files; i++) {
        const char *file = files[i].name;
        size_t size, other_size;
        if (access(at(in(dir, file)), F_OK) != 0)
            continue;
        char *data = contents(in("good", file), &size);
        char *other = contents(in(dir, file), &other_size);
        if (size != other_size || memcmp(data, other, size) != 0) {
            put(in("bad", file), other, other_size);
            expect_damage(strcmp(file, SL_MANIFEST) == 0 ? "bad/" : file, dir);
            restore(file);
            n++;
        }
        free(data);
        free(other);
    }
    assert_true(n > 5);
}

static void finds_files_of_others(void **state)
{
    (void)state;
    expect_strangers("max");
    expect_strangers("v3");
}

static int remove_containers(void **state)
{
    free(regions);
    return remove_root(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(passes_a_copy, restore_all),
        cmocka_unit_test_setup(finds_flips, restore_all),
        cmocka_unit_test_setup(stops_at_used_experts, restore_all),
        cmocka_unit_test_setup(finds_other_lengths, restore_all),
        cmocka_unit_test_setup(finds_missing_files, restore_all),
        cmocka_unit_test_setup(finds_swapped_files, restore_all),
        cmocka_unit_test_setup(finds_files_of_others, restore_all),
    };
    return cmocka_run_group_tests(tests, make_containers, remove_containers);
}
