/* SPDX-License-Identifier: MIT */
/* tools/common: the option table, verb tables, progress line, exit codes.  No model, no files. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/common/options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/common/verbtable.h"

enum reader { READER_AUTO, READER_MEMORY, READER_PREAD };

struct values {
    bool json, quiet;
    size_t threads, seed;
    int64_t bias;
    double temp;
    const char *model, *src, *dst;
    uint64_t memory, at_least;
    enum reader reader, quiet_by;
};

static const char *const reader_names[] = {"auto", "memory", "pread", NULL};

static const struct sl_option rows[] = {
    {.name = "model",
     .letter = 'm',
     SL_FIELD(SL_STRING, struct values, model),
     .value = "DIR",
     .fallback = "here",
     .help = "Container to run",
     .group = "Model"},
    {.name = "reader",
     SL_FIELD(SL_ENUM, struct values, reader),
     .names = reader_names,
     .fallback = "auto",
     .help = "How routed experts reach memory",
     .group = "Model"},
    {.name = "json", .letter = 'j', SL_FIELD(SL_FLAG, struct values, json), .help = "Print JSON"},
    {.name = "quiet", .letter = 'q', SL_FIELD(SL_FLAG, struct values, quiet), .help = "Say less"},
    {.name = "max-threads",
     .letter = 't',
     SL_FIELD(SL_COUNT, struct values, threads),
     .value = "N",
     .fallback = "3",
     .low = 1,
     .high = 4096,
     .help = "Threads that compute",
     .group = "Machine"},
    {.name = "seed", .letter = 's', SL_FIELD(SL_COUNT, struct values, seed), .help = "Seed"},
    {.name = "bias", SL_FIELD(SL_INT, struct values, bias), .help = "A signed number"},
    {.name = "temp",
     SL_FIELD(SL_REAL, struct values, temp),
     .value = "T",
     .low = 0,
     .high = 5,
     .help = "Temperature of sampling, which is explained here at such length that the text has to "
             "be continued on a second line"},
    {.name = "memory",
     SL_FIELD(SL_SIZE, struct values, memory),
     .value = "SIZE",
     .env = "SLUICE_RAM",
     .help = "Memory to use",
     .group = "Machine"},
    {.name = "at-least",
     SL_FIELD(SL_SIZE, struct values, at_least),
     .low = 1 << 20,
     .high = HUGE_VAL,
     .env = "",
     .help = "A size with a lower end only"},
    {.name = "quiet",
     SL_FIELD(SL_ENUM, struct values, quiet_by),
     .names = reader_names,
     .env = "SLUICE_QUIET_BY",
     .help = "An enum with the name of a flag"},
    {.name = "SRC",
     SL_FIELD(SL_STRING, struct values, src),
     .positional = true,
     .required = true,
     .help = "Checkpoint"},
    {.name = "DST",
     SL_FIELD(SL_STRING, struct values, dst),
     .positional = true,
     .help = "Container"},
    {0},
};

static const char *const examples[] = {"sluice test a b", NULL};

static const struct sl_command command = {.name = "test",
                                          .summary = "try options",
                                          .description = "Tries options.\nSecond line.",
                                          .rows = rows,
                                          .examples = examples};

/* ---- one parse and what it printed --------------------------------------------------------- */

static struct values values;
static char *out_text, *err_text;

static void forget_texts(void)
{
    free(out_text);
    free(err_text);
    out_text = err_text = NULL;
}

static int parse_command(const struct sl_command *which, char **argv)
{
    size_t out_size, err_size;
    int argc = 0;
    while (argv[argc])
        argc++;
    forget_texts();
    FILE *out = open_memstream(&out_text, &out_size), *err = open_memstream(&err_text, &err_size);
    assert_non_null(out);
    assert_non_null(err);
    values = (struct values){.temp = -1, .seed = 77};
    int status = sl_options_parse(which, argc, argv, &values, out, err);
    fclose(out);
    fclose(err);
    return status;
}

#define PARSE(...) parse_command(&command, (char *[]){"test", __VA_ARGS__, NULL})
#define ACCEPTS(...) assert_int_equal(PARSE(__VA_ARGS__), -1)
#define REFUSES(message, ...)                                                                      \
    do {                                                                                           \
        assert_int_equal(PARSE(__VA_ARGS__), SL_EXIT_USAGE);                                       \
        assert_string_equal(err_text, "sluice test: " message "\ntry 'sluice test --help'\n");     \
        assert_string_equal(out_text, "");                                                         \
    } while (0)

static int forget(void **state)
{
    static const char *const names[] = {"SLUICE_MODEL",       "SLUICE_JSON", "SLUICE_READER",
                                        "SLUICE_MAX_THREADS", "SLUICE_TEMP", "SLUICE_RAM",
                                        "SLUICE_MEMORY",      "SLUICE_SRC",  "SLUICE_AT_LEAST"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    forget_texts();
    return 0;
}

/* ---- values -------------------------------------------------------------------------------- */

static void defaults_fill_what_nobody_gave(void **state)
{
    (void)state;
    ACCEPTS("a");
    assert_string_equal(values.model, "here");
    assert_int_equal(values.reader, READER_AUTO);
    assert_int_equal(values.threads, 3);
    assert_string_equal(values.src, "a");
    assert_null(values.dst);
    assert_false(values.json);
    assert_int_equal(values.seed, 77); /* no default: the caller's value stays */
    assert_true(values.temp == -1);
    assert_string_equal(err_text, "");
}

static void every_spelling_is_accepted(void **state)
{
    (void)state;
    ACCEPTS("a", "--max-threads=5", "--model", "x", "-s9");
    assert_int_equal(values.threads, 5);
    assert_string_equal(values.model, "x");
    assert_int_equal(values.seed, 9);
    ACCEPTS("-t", "6", "a", "-jqm", "y", "b");
    assert_int_equal(values.threads, 6);
    assert_true(values.json && values.quiet);
    assert_string_equal(values.model, "y");
    assert_string_equal(values.dst, "b");
    ACCEPTS("-jqmy", "--", "--model", "-");
    assert_string_equal(values.model, "y");
    assert_string_equal(values.src, "--model");
    assert_string_equal(values.dst, "-");
    ACCEPTS("a", "-t1", "-t2", "--model=", "--json=yes", "--json=no");
    assert_int_equal(values.threads, 2);
    assert_string_equal(values.model, "");
    assert_false(values.json);
}

static void a_flag_and_an_enum_share_a_name(void **state)
{
    (void)state;
    ACCEPTS("--quiet", "a");
    assert_true(values.quiet && values.quiet_by == READER_AUTO);
    assert_string_equal(values.src, "a");
    ACCEPTS("a", "--quiet", "memory");
    assert_true(!values.quiet && values.quiet_by == READER_MEMORY);
    assert_null(values.dst);
    ACCEPTS("a", "--quiet=pread", "--quiet", "b", "--quiet");
    assert_true(values.quiet && values.quiet_by == READER_PREAD);
    assert_string_equal(values.dst, "b");
    ACCEPTS("a", "-q", "memory");
    assert_true(values.quiet && values.quiet_by == READER_AUTO);
    REFUSES("--quiet: found 'disk', wanted yes or no", "a", "--quiet=disk");
    setenv("SLUICE_QUIET_BY", "pread", 1);
    ACCEPTS("a");
    assert_true(!values.quiet && values.quiet_by == READER_PREAD);
    unsetenv("SLUICE_QUIET_BY");
}

static void counts(void **state)
{
    (void)state;
    ACCEPTS("a", "--seed=18446744073709551615");
    assert_true(values.seed == UINT64_MAX);
    ACCEPTS("a", "--seed=0");
    assert_int_equal(values.seed, 0);
    REFUSES("--seed: found '18446744073709551616', wanted a whole number below 2^64", "a",
            "--seed=18446744073709551616");
    static char *const bad[] = {
        "99999999999999999999", "1e3", "-1", "+1", " 1", "1 ", "", "x", "0x10", "1.0", "1k"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(PARSE("a", "--seed", bad[i]), SL_EXIT_USAGE);
    ACCEPTS("a", "-t4096");
    REFUSES("--max-threads: found '0', wanted a whole number from 1 to 4096", "a", "-t0");
    REFUSES("--max-threads: found '4097', wanted a whole number from 1 to 4096", "a", "-t", "4097");
}

static void integers(void **state)
{
    (void)state;
    ACCEPTS("a", "--bias", "-9223372036854775808");
    assert_true(values.bias == INT64_MIN);
    ACCEPTS("a", "--bias=+7");
    assert_int_equal(values.bias, 7);
    REFUSES("--bias: found '9223372036854775808', wanted an integer of 64 bits", "a", "--bias",
            "9223372036854775808");
    static char *const bad[] = {"", "-", "+", "--1", "1.5", "1e3", " 1", "-1x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(PARSE("a", "--bias", bad[i]), SL_EXIT_USAGE);
}

static void reals(void **state)
{
    (void)state;
    ACCEPTS("a", "--temp=0.6");
    assert_true(values.temp == 0.6);
    ACCEPTS("a", "--temp", "5e-1");
    assert_true(values.temp == 0.5);
    ACCEPTS("a", "--temp=5");
    ACCEPTS("a", "--temp=0");
    REFUSES("--temp: found '5.01', wanted a number from 0 to 5", "a", "--temp=5.01");
    REFUSES("--temp: found 'nan', wanted a number from 0 to 5", "a", "--temp=nan");
    static char *const bad[] = {"inf", "-inf", "NAN", "1e999", "-0.1", "",  ".",
                                "1,5", "0x1",  " 1",  "1 ",    "e",    "1e"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(PARSE("a", "--temp", bad[i]), SL_EXIT_USAGE);
}

static void sizes(void **state)
{
    static const struct {
        char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"96G", 96ull << 30},
        {"96g", 96ull << 30},
        {"96GiB", 96ull << 30},
        {"1.5GiB", 3ull << 29},
        {"0.25k", 256},
        {"7KiB", 7 << 10},
        {"3M", 3 << 20},
        {"3mib", 3 << 20},
        {"1.5T", 3ull << 39},
        {"18446744073709551615", UINT64_MAX},
    };
    static char *const bad[] = {"",
                                "G",
                                "1.5",
                                "1.GiB",
                                "1.5.5G",
                                "-1G",
                                "1 GiB",
                                "1GB",
                                "1e3M",
                                "nan",
                                ".5G",
                                "1GiBx",
                                "1P",
                                "99999999999999999999",
                                "17179869184G"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ACCEPTS("a", "--memory", good[i].text);
        assert_true(values.memory == good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(PARSE("a", "--memory", bad[i]), SL_EXIT_USAGE);
    REFUSES("--memory: found '1GB', wanted a size such as 4096, 512MiB or 1.5G, below 2^64 bytes",
            "a", "--memory=1GB");
    REFUSES("--at-least: found '5k', wanted a size such as 4096, 512MiB or 1.5G, at least 1.0 MiB",
            "a", "--at-least=5k");
    ACCEPTS("a", "--at-least=1MiB");
}

static void names_and_flags(void **state)
{
    (void)state;
    ACCEPTS("a", "--reader=pread");
    assert_int_equal(values.reader, READER_PREAD);
    REFUSES("--reader: found 'Pread', wanted one of auto, memory, pread", "a", "--reader=Pread");
    REFUSES("--reader: found '', wanted one of auto, memory, pread", "a", "--reader=");
    ACCEPTS("a", "--json=on");
    assert_true(values.json);
    REFUSES("--json: found 'maybe', wanted yes or no", "a", "--json=maybe");
}

/* ---- environment --------------------------------------------------------------------------- */

static void flag_beats_environment_beats_default(void **state)
{
    (void)state;
    setenv("SLUICE_MAX_THREADS", "8", 1);
    ACCEPTS("a");
    assert_int_equal(values.threads, 8);
    ACCEPTS("a", "-t", "9");
    assert_int_equal(values.threads, 9);
    setenv("SLUICE_MAX_THREADS", "", 1);
    ACCEPTS("a");
    assert_int_equal(values.threads, 3);
    setenv("SLUICE_JSON", "true", 1);
    ACCEPTS("a");
    assert_true(values.json);
    ACCEPTS("a", "--json=off");
    assert_false(values.json);
}

static void environment_names(void **state)
{
    char env[SL_ENV_MAX];
    (void)state;
    setenv("SLUICE_RAM", "2G", 1);
    setenv("SLUICE_MEMORY", "nonsense", 1);
    setenv("SLUICE_AT_LEAST", "nonsense", 1);
    setenv("SLUICE_SRC", "nonsense", 1);
    ACCEPTS("a");
    assert_true(values.memory == 2ull << 30);
    assert_string_equal(values.src, "a");
    assert_true(sl_option_env(&rows[4], env));
    assert_string_equal(env, "SLUICE_MAX_THREADS");
    assert_false(sl_option_env(&sl_help_row, env));
}

static void bad_environment_names_the_variable(void **state)
{
    (void)state;
    setenv("SLUICE_TEMP", "warm", 1);
    REFUSES("SLUICE_TEMP: found 'warm', wanted a number from 0 to 5", "a");
    ACCEPTS("a", "--temp=1"); /* not looked at */
    assert_int_equal(PARSE("--help"), SL_EXIT_OK);
}

/* ---- wrong usage --------------------------------------------------------------------------- */

static void unknown_options(void **state)
{
    (void)state;
    REFUSES("unknown option '--tmp'; did you mean --temp?", "--tmp=1", "a");
    REFUSES("unknown option '--temperature'; did you mean --temp?", "--temperature", "1");
    REFUSES("unknown option '--hlep'; did you mean --help?", "--hlep");
    REFUSES("unknown option '--frobnicate'", "--frobnicate");
    REFUSES("unknown option '--SRC'", "--SRC=a");
    REFUSES("unknown option '--'", "--=a");
    REFUSES("unknown option '-x' in '-jx'", "-jx");
    REFUSES("unknown option '-5' in '-5'", "-5");
}

static void missing_and_extra(void **state)
{
    static const struct sl_option needy_rows[] = {{.name = "model",
                                                   SL_FIELD(SL_STRING, struct values, model),
                                                   .value = "DIR",
                                                   .required = true,
                                                   .help = "Container to run"},
                                                  {0}};
    static const struct sl_command needy = {
        .name = "eval logits", .summary = "s", .rows = needy_rows};
    (void)state;
    REFUSES("missing SRC (Checkpoint)", "-j");
    REFUSES("--temp: found no value, wanted a number from 0 to 5", "a", "--temp");
    REFUSES("--max-threads: found no value, wanted a whole number from 1 to 4096", "a", "-t");
    REFUSES("unexpected argument 'c', 'sluice test' takes 2", "a", "b", "c");
    assert_int_equal(parse_command(&needy, (char *[]){"logits", NULL}), SL_EXIT_USAGE);
    assert_string_equal(err_text,
                        "sluice eval logits: missing --model DIR or SLUICE_MODEL (Container to run)"
                        "\ntry 'sluice eval logits --help'\n");
    setenv("SLUICE_MODEL", "d", 1);
    assert_int_equal(parse_command(&needy, (char *[]){"logits", NULL}), -1);
    assert_string_equal(values.model, "d");
}

static void bad_default_is_reported(void **state)
{
    static const struct sl_option wrong_rows[] = {
        {.name = "seed", SL_FIELD(SL_COUNT, struct values, seed), .fallback = "all", .help = "h"},
        {0}};
    static const struct sl_command wrong = {.name = "wrong", .summary = "s", .rows = wrong_rows};
    (void)state;
    assert_int_equal(parse_command(&wrong, (char *[]){"wrong", NULL}), SL_EXIT_USAGE);
    assert_string_equal(err_text, "sluice wrong: default of seed: found 'all', wanted a whole "
                                  "number below 2^64\ntry 'sluice wrong --help'\n");
}

static void usage_errors_of_verbs(void **state)
{
    size_t size;
    (void)state;
    forget_texts();
    FILE *err = open_memstream(&err_text, &size);
    assert_int_equal(sl_usage_error(&command, err, "%s and %s exclude each other", "--a", "--b"),
                     SL_EXIT_USAGE);
    fclose(err);
    assert_string_equal(err_text, "sluice test: --a and --b exclude each other\n"
                                  "try 'sluice test --help'\n");
}

/* ---- help ---------------------------------------------------------------------------------- */

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void help_shows_every_row(void **state)
{
    char long_name[64], env[SL_ENV_MAX];
    (void)state;
    assert_int_equal(PARSE("a", "--help"), SL_EXIT_OK);
    assert_string_equal(err_text, "");
    for (const struct sl_option *o = rows; o->name; o++) {
        snprintf(long_name, sizeof long_name, "%s%s", o->positional ? "  " : "--", o->name);
        assert_contains(out_text, long_name);
        if (sl_option_env(o, env))
            assert_contains(out_text, env);
    }
    assert_int_equal(PARSE("-h"), SL_EXIT_OK);
}

static void help_is_laid_out(void **state)
{
    static const char *const parts[] = {
        "Usage: sluice test [OPTION]... SRC [DST]\n\nTries options.\nSecond line.\n\nModel:\n",
        "\n  -m, --model DIR         Container to run [default here; env SLUICE_MODEL]\n",
        "\n      --reader auto|memory|pread\n                          How routed experts reach",
        "\nMachine:\n"
        "  -t, --max-threads N     Threads that compute [from 1 to 4096; default 3; env\n"
        "                          SLUICE_MAX_THREADS]\n      --memory SIZE",
        "\n      --at-least VALUE    A size with a lower end only [at least 1.0 MiB]\n",
        "\nArguments:\n  SRC                     Checkpoint\n  DST  ",
        "\nHelp:\n  -h, --help              Print this text\n",
        "\nExamples:\n  sluice test a b\n\nExit status:\n  0 done, 1 failed",
    };
    (void)state;
    assert_int_equal(PARSE("--help"), SL_EXIT_OK);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        assert_contains(out_text, parts[i]);
    for (const char *line = out_text; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 80);
}

/* ---- verbs --------------------------------------------------------------------------------- */

static char seen[64];

static int record_verb(int argc, char **argv)
{
    seen[0] = '\0';
    for (int i = 0; i < argc; i++)
        snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s,", argv[i]);
    return 7;
}

static const struct sl_verb verbs[] = {
    {"quantize", "makes", record_verb}, {"run", "answers", record_verb}, {0}};
static const struct sl_verb_table table = {.program = "sluice", .description = "d", .verbs = verbs};

static int run_table(char **argv)
{
    size_t out_size, err_size;
    int argc = 0;
    while (argv[argc])
        argc++;
    forget_texts();
    FILE *out = open_memstream(&out_text, &out_size), *err = open_memstream(&err_text, &err_size);
    int status = sl_verb_table_run(&table, argc, argv, out, err);
    fclose(out);
    fclose(err);
    return status;
}

#define VERB(...) run_table((char *[]){"sluice", __VA_ARGS__, NULL})

static void verbs_run_with_their_arguments(void **state)
{
    (void)state;
    assert_int_equal(VERB("run", "-x"), 7);
    assert_string_equal(seen, "run,-x,");
    assert_int_equal(VERB("help", "run"), 7);
    assert_string_equal(seen, "run,--help,");
    assert_int_equal(VERB("help", "run", "logits"), 7);
    assert_string_equal(seen, "run,logits,--help,");
    assert_int_equal(VERB("--help"), SL_EXIT_OK);
    assert_contains(out_text, "  quantize   makes\n  run        answers\n");
    assert_int_equal(VERB("help"), SL_EXIT_OK);
    assert_int_equal(VERB("quantise"), SL_EXIT_USAGE);
    assert_string_equal(err_text, "sluice: unknown verb 'quantise'; did you mean quantize?\n"
                                  "try 'sluice --help'\n");
    assert_int_equal(VERB("-z"), SL_EXIT_USAGE);
    assert_contains(err_text, "unknown option '-z'\n");
    assert_int_equal(run_table((char *[]){"sluice", NULL}), SL_EXIT_USAGE);
}

/* ---- progress, exit codes, texts, Ctrl-C --------------------------------------------------- */

static void progress_without_terminal_is_quiet(void **state)
{
    struct sl_progress progress;
    size_t size;
    (void)state;
    forget_texts();
    FILE *out = open_memstream(&out_text, &size);
    sl_progress_open(&progress, out, "quantising", SL_PROGRESS_TOKENS);
    sl_progress_update(&progress, 0, 200);
    progress.started -= 10;
    for (uint64_t done = 21; done <= 200; done++)
        sl_progress_update(&progress, done, 200);
    sl_progress_close(&progress);
    fclose(out);
    assert_string_equal(out_text, "");
}

static void progress_on_terminal_redraws_and_clears(void **state)
{
    struct sl_progress progress;
    size_t size;
    (void)state;
    forget_texts();
    FILE *out = open_memstream(&out_text, &size);
    sl_progress_open(&progress, out, "reading", SL_PROGRESS_BYTES);
    progress.terminal = true;
    sl_progress_update(&progress, 1ull << 30, 5ull << 30); /* goes on from an earlier run */
    sl_progress_update(&progress, 2ull << 30, 5ull << 30); /* too soon to draw again */
    progress.started -= 10;
    progress.drawn_at -= 10;
    sl_progress_update(&progress, 2ull << 30, 5ull << 30);
    sl_progress_close(&progress);
    sl_progress_close(&progress);
    fclose(out);
    assert_string_equal(out_text, "\rreading: 20 %, 1.0 GiB of 5.0 GiB\033[K"
                                  "\rreading: 40 %, 2.0 GiB of 5.0 GiB, 30 s left\033[K"
                                  "\r\033[K");
}

static void progress_survives_an_empty_job(void **state)
{
    struct sl_progress progress;
    size_t size;
    (void)state;
    forget_texts();
    FILE *out = open_memstream(&out_text, &size);
    sl_progress_open(&progress, out, "prompt", SL_PROGRESS_TOKENS);
    progress.terminal = true;
    sl_progress_update(&progress, 0, 0);
    fclose(out);
    assert_string_equal(out_text, "\rprompt: 100 %, 0 of 0 tokens\033[K");
}

static void exit_codes(void **state)
{
    static const int codes[][2] = {
        {SLUICE_OK, 0},
        {5, 0},
        {SLUICE_EARG, 2},
        {SLUICE_EFORMAT, 3},
        {SLUICE_EDAMAGED, 3},
        {SLUICE_EVERSION, 3},
        {SLUICE_EIO, 1},
        {SLUICE_EUNSUPPORTED, 3},
        {SLUICE_ENOMEM, 4},
        {SLUICE_ENOSPC, 4},
        {SLUICE_ECONTEXT, 1},
        {SLUICE_ECANCELLED, 130},
        {-99, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        assert_int_equal(sl_exit_code(codes[i][0]), codes[i][1]);
}

static void human_texts(void **state)
{
    (void)state;
    assert_string_equal(sl_human_bytes(0).text, "0 bytes");
    assert_string_equal(sl_human_bytes(1023).text, "1023 bytes");
    assert_string_equal(sl_human_bytes(1024).text, "1.0 KiB");
    assert_string_equal(sl_human_bytes(12 << 20).text, "12.0 MiB");
    assert_string_equal(sl_human_bytes(UINT64_MAX).text, "17179869184.0 GiB");
    assert_string_equal(sl_human_seconds(0).text, "0.0 s");
    assert_string_equal(sl_human_seconds(9.96).text, "10 s");
    assert_string_equal(sl_human_seconds(59.6).text, "1 min 00 s");
    assert_string_equal(sl_human_seconds(200).text, "3 min 20 s");
    assert_string_equal(sl_human_seconds(7512).text, "2 h 05 min");
    assert_string_equal(sl_human_seconds(HUGE_VAL).text, "277777 h 46 min");
}

static void count_call(void *argument)
{
    ++*(volatile int *)argument;
}

static void first_interrupt_sets_flag_and_calls(void **state)
{
    volatile int calls = 0;
    const struct sl_interrupt_action action = {count_call, (void *)&calls};
    (void)state;
    sl_interrupt_install();
    sl_interrupt_set_action(&action);
    assert_false(sl_interrupted());
    assert_int_equal(calls, 0);
    raise(SIGINT);
    assert_true(sl_interrupted());
    assert_int_equal(calls, 1);
    sl_interrupt_set_action(&action); /* registered late: told at once */
    assert_int_equal(calls, 2);
    sl_interrupt_set_action(NULL);
    signal(SIGINT, SIG_DFL);
}

static void second_interrupt_leaves(void **state)
{
    int status = 0;
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sl_interrupt_install();
        raise(SIGINT);
        raise(SIGINT);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), SL_EXIT_INTERRUPTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(defaults_fill_what_nobody_gave, forget),
        cmocka_unit_test_teardown(every_spelling_is_accepted, forget),
        cmocka_unit_test_teardown(a_flag_and_an_enum_share_a_name, forget),
        cmocka_unit_test_teardown(counts, forget),
        cmocka_unit_test_teardown(integers, forget),
        cmocka_unit_test_teardown(reals, forget),
        cmocka_unit_test_teardown(sizes, forget),
        cmocka_unit_test_teardown(names_and_flags, forget),
        cmocka_unit_test_teardown(flag_beats_environment_beats_default, forget),
        cmocka_unit_test_teardown(environment_names, forget),
        cmocka_unit_test_teardown(bad_environment_names_the_variable, forget),
        cmocka_unit_test_teardown(unknown_options, forget),
        cmocka_unit_test_teardown(missing_and_extra, forget),
        cmocka_unit_test_teardown(bad_default_is_reported, forget),
        cmocka_unit_test_teardown(usage_errors_of_verbs, forget),
        cmocka_unit_test_teardown(help_shows_every_row, forget),
        cmocka_unit_test_teardown(help_is_laid_out, forget),
        cmocka_unit_test_teardown(verbs_run_with_their_arguments, forget),
        cmocka_unit_test_teardown(progress_without_terminal_is_quiet, forget),
        cmocka_unit_test_teardown(progress_on_terminal_redraws_and_clears, forget),
        cmocka_unit_test_teardown(progress_survives_an_empty_job, forget),
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(human_texts),
        cmocka_unit_test(first_interrupt_sets_flag_and_calls),
        cmocka_unit_test(second_interrupt_leaves),
    };
    return cmocka_run_group_tests_name("options", tests, forget, NULL);
}
