/* SPDX-License-Identifier: MIT */
/*
 * One table per verb from which parsing, --help and the SLUICE_* environment come.
 *
 *     struct run_options { const char *model; size_t threads; double temp; };
 *     static const struct sl_option run_rows[] = {
 *         {.name = "model", .letter = 'm', SL_FIELD(SL_STRING, struct run_options, model),
 *          .value = "DIR", .required = true, .help = "Container to run", .group = "Model"},
 *         {.name = "temp", SL_FIELD(SL_REAL, struct run_options, temp), .value = "T",
 *          .low = 0, .high = 5, .help = "Sampling temperature", .group = "Sampling"},
 *         {0}};
 *     static const struct sl_command command = {.name = "run", .summary = "…", .rows = run_rows};
 *
 *     struct run_options options = {.temp = -1};
 *     int status = sl_options_parse(&command, argc, argv, &options, stdout, stderr);
 *     if (status >= 0)
 *         return status;
 *
 * A flag and, below it, an enum may share a name: "--name" is the flag unless one of the enum's
 * names follows.  They need different environment variables.
 *
 * Order: command line, then environment, then default.  A field whose row has no default and that
 * nobody gave keeps what the caller put there.
 */
#ifndef SL_TOOLS_OPTIONS_H
#define SL_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum sl_option_type {
    SL_FLAG,   /* bool; "--name", "--name=yes", "--name=no" (also 1/0, on/off, true/false) */
    SL_COUNT,  /* size_t, also for seeds; decimal digits only */
    SL_INT,    /* int64_t */
    SL_REAL,   /* double; never NaN or infinite */
    SL_STRING, /* const char *, borrowed from argv, the environment or the table */
    SL_SIZE,   /* uint64_t bytes: "4096", "96G", "1.5GiB"; k M G are KiB MiB GiB */
    SL_ENUM,   /* an enum: index into .names */
};

#define SL_FIELD_IS(S, field, T) __builtin_types_compatible_p(__typeof__(((S *)0)->field), T)
#define SL_FIELD_SUITS(kind, S, field)                                                             \
    ((kind) == SL_FLAG     ? SL_FIELD_IS(S, field, bool)                                           \
     : (kind) == SL_COUNT  ? SL_FIELD_IS(S, field, size_t)                                         \
     : (kind) == SL_INT    ? SL_FIELD_IS(S, field, int64_t)                                        \
     : (kind) == SL_REAL   ? SL_FIELD_IS(S, field, double)                                         \
     : (kind) == SL_STRING ? SL_FIELD_IS(S, field, const char *)                                   \
     : (kind) == SL_SIZE   ? SL_FIELD_IS(S, field, uint64_t)                                       \
                           : sizeof(((S *)0)->field) == sizeof(int))

/* Type and place of a row's value; does not compile when the field's type is another. */
#define SL_FIELD(kind, S, field)                                                                   \
    .type = (kind),                                                                                \
    .offset = offsetof(S, field) +                                                                 \
              0 * sizeof(struct {                                                                  \
                  char unused;                                                                     \
                  _Static_assert(SL_FIELD_SUITS(kind, S, field), "field does not suit " #kind);    \
              })

struct sl_option {
    const char *name;         /* long name without dashes; of a positional argument: as shown */
    char letter;              /* or 0 */
    enum sl_option_type type; /* with .offset: from SL_FIELD() */
    size_t offset;
    const char *value;        /* placeholder in help, "N"; NULL: the names of an enum, "VALUE" */
    const char *fallback;     /* default as text; NULL: none */
    const char *help;         /* one sentence without a full stop */
    const char *group;        /* heading in help; NULL: "Options" */
    const char *env;          /* NULL: SLUICE_ + name in capitals (positional: none); "": none */
    const char *const *names; /* SL_ENUM; NULL-terminated */
    double low, high;         /* numbers: inclusive range if low < high; HUGE_VAL: no upper end */
    bool positional;          /* an argument without a name, in the order of the rows */
    bool required;
};

/* Rows end with {0}: generators walk them with `for (o = command->rows; o->name; o++)`. */
struct sl_command {
    const char *name;        /* as typed after "sluice": "run", "eval logits" */
    const char *summary;     /* one line */
    const char *description; /* for people who ask for help; '\n' breaks a line; or NULL */
    const struct sl_option *rows;
    const char *const *examples; /* lines; NULL-terminated; or NULL */
};

enum { SL_ROWS_MAX = 64, SL_ENV_MAX = 64 };

/*
 * Fills VALUES, the options struct the rows point into.  ARGV[0] is the verb.  Returns -1 when the
 * verb is to run and otherwise the exit code to leave with: SL_EXIT_OK after --help (on OUT),
 * SL_EXIT_USAGE after a message on ERR.
 */
int sl_options_parse(const struct sl_command *command, int argc, char **argv, void *values,
                     FILE *out, FILE *err);

/* For what a table cannot say ("--a and --b exclude each other"): prints the message and where to
 * find help, returns SL_EXIT_USAGE. */
__attribute__((format(printf, 3, 4))) int sl_usage_error(const struct sl_command *command,
                                                         FILE *err, const char *format, ...);

void sl_options_help(const struct sl_command *command, FILE *out);

/* The row's environment variable, false when it has none. */
bool sl_option_env(const struct sl_option *option, char out[SL_ENV_MAX]);

/* The row that every command has: -h, --help. */
extern const struct sl_option sl_help_row;

#endif
