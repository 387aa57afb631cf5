/* SPDX-License-Identifier: MIT */
/* The command line and the environment against a table.  Prints only to the streams it is given;
 * never exits. */
#include "tools/common/options.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tools/common/option_value.h"
#include "tools/common/status.h"
#include "tools/common/suggest.h"

const struct sl_option sl_help_row = {
    .name = "help", .letter = 'h', .type = SL_FLAG, .help = "Print this text", .env = ""};

struct parse {
    const struct sl_command *command;
    int argc;
    char **argv;
    int next;                /* first argument not looked at */
    bool given[SL_ROWS_MAX]; /* rows that already have their value */
    void *values;
    FILE *out, *err;
    int status; /* what sl_options_parse() returns when a step below says false */
};

int sl_usage_error(const struct sl_command *command, FILE *err, const char *format, ...)
{
    va_list args;
    fprintf(err, "sluice %s: ", command->name);
    va_start(args, format);
    vfprintf(err, format, args);
    va_end(args);
    fprintf(err, "\ntry 'sluice %s --help'\n", command->name);
    return SL_EXIT_USAGE;
}

bool sl_option_env(const struct sl_option *option, char out[SL_ENV_MAX])
{
    out[0] = '\0';
    if (option->env) {
        snprintf(out, SL_ENV_MAX, "%s", option->env);
    } else if (!option->positional) {
        snprintf(out, SL_ENV_MAX, "SLUICE_%s", option->name);
        for (char *c = out; *c; c++)
            *c = (char)(*c == '-' ? '_' : toupper((unsigned char)*c));
    }
    return out[0] != '\0';
}

static const char *dashes(const struct sl_option *option)
{
    return option->positional ? "" : "--";
}

/* PREFIX and NAME together say where TEXT came from: "--temp", "SLUICE_TEMP", "default of temp". */
static bool store(struct parse *p, const struct sl_option *option, const char *prefix,
                  const char *name, const char *text)
{
    if (!sl_option_store(option, p->values, text)) {
        char wanted[SL_VALUE_TEXT];
        sl_option_wanted(option, wanted);
        p->status = sl_usage_error(p->command, p->err, "%s%s: found '%s', wanted %s", prefix, name,
                                   text, wanted);
        return false;
    }
    size_t row = (size_t)(option - p->command->rows);
    assert(row < SL_ROWS_MAX);
    p->given[row] = true;
    return true;
}

static bool store_argument(struct parse *p, const struct sl_option *option, const char *text)
{
    return store(p, option, dashes(option), option->name, text);
}

static bool store_next_argument(struct parse *p, const struct sl_option *option)
{
    if (p->next < p->argc)
        return store_argument(p, option, p->argv[p->next++]);
    char wanted[SL_VALUE_TEXT];
    sl_option_wanted(option, wanted);
    p->status = sl_usage_error(p->command, p->err, "--%s: found no value, wanted %s", option->name,
                               wanted);
    return false;
}

static bool show_help(struct parse *p)
{
    sl_options_help(p->command, p->out);
    p->status = SL_EXIT_OK;
    return false;
}

static bool refuse_option(struct parse *p, const char *name, size_t len)
{
    struct sl_suggestion suggestion = {.found = name, .len = len};
    for (const struct sl_option *o = p->command->rows; o->name; o++)
        if (!o->positional)
            sl_suggestion_offer(&suggestion, o->name);
    sl_suggestion_offer(&suggestion, sl_help_row.name);
    const char *best = suggestion.best;
    p->status = sl_usage_error(p->command, p->err, "unknown option '--%.*s'%s%s%s", (int)len, name,
                               best ? "; did you mean --" : "", best ? best : "", best ? "?" : "");
    return false;
}

static const struct sl_option *find_long(const struct sl_command *command, const char *name,
                                         size_t len)
{
    const struct sl_option *o;
    for (o = command->rows; o->name; o++)
        if (!o->positional && strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    return len == 4 && memcmp(name, "help", 4) == 0 ? &sl_help_row : NULL;
}

static const struct sl_option *find_letter(const struct sl_command *command, char letter)
{
    for (const struct sl_option *o = command->rows; o->name; o++)
        if (o->letter == letter)
            return o;
    return letter == sl_help_row.letter ? &sl_help_row : NULL;
}

/* The row that is meant: an enum with the flag's name, when VALUE is one of its names. */
static const struct sl_option *choose_row(const struct sl_command *command,
                                          const struct sl_option *flag, const char *value)
{
    for (const struct sl_option *o = command->rows; value && flag->type == SL_FLAG && o->name; o++)
        for (size_t i = 0; o->type == SL_ENUM && o->names[i]; i++)
            if (strcmp(o->name, flag->name) == 0 && strcmp(o->names[i], value) == 0)
                return o;
    return flag;
}

/* NAME points behind the two dashes: "temp" or "temp=0.6". */
static bool take_long(struct parse *p, const char *name)
{
    size_t len = strcspn(name, "=");
    const struct sl_option *option = find_long(p->command, name, len);
    if (!option)
        return refuse_option(p, name, len);
    const char *next = p->next < p->argc ? p->argv[p->next] : NULL;
    option = choose_row(p->command, option, name[len] ? name + len + 1 : next);
    if (option == &sl_help_row)
        return show_help(p);
    if (name[len] == '=')
        return store_argument(p, option, name + len + 1);
    if (option->type == SL_FLAG)
        return store_argument(p, option, "yes");
    return store_next_argument(p, option);
}

/* LETTERS points behind the dash: flags, then perhaps an option with its value: "vn16". */
static bool take_letters(struct parse *p, const char *letters)
{
    for (const char *c = letters; *c; c++) {
        const struct sl_option *option = find_letter(p->command, *c);
        if (!option) {
            p->status = sl_usage_error(p->command, p->err, "unknown option '-%c' in '-%s'", *c,
                                       letters);
            return false;
        }
        if (option == &sl_help_row)
            return show_help(p);
        if (option->type != SL_FLAG)
            return c[1] ? store_argument(p, option, c + 1) : store_next_argument(p, option);
        if (!store_argument(p, option, "yes"))
            return false;
    }
    return true;
}

static bool take_positional(struct parse *p, const char *text)
{
    const struct sl_option *rows = p->command->rows;
    size_t places = 0;
    for (size_t i = 0; rows[i].name; i++) {
        if (rows[i].positional && !p->given[i])
            return store_argument(p, &rows[i], text);
        places += rows[i].positional;
    }
    p->status = sl_usage_error(p->command, p->err,
                               "unexpected argument '%s', 'sluice %s' takes %zu", text,
                               p->command->name, places);
    return false;
}

static bool take_arguments(struct parse *p)
{
    bool options_end = false;
    while (p->next < p->argc) {
        const char *text = p->argv[p->next++];
        bool taken;
        if (options_end || text[0] != '-' || text[1] == '\0') {
            taken = take_positional(p, text);
        } else if (strcmp(text, "--") == 0) {
            taken = options_end = true;
        } else {
            taken = text[1] == '-' ? take_long(p, text + 2) : take_letters(p, text + 1);
        }
        if (!taken)
            return false;
    }
    return true;
}

static bool refuse_missing(struct parse *p, const struct sl_option *option)
{
    char placeholder[SL_VALUE_TEXT] = "", env[SL_ENV_MAX];
    if (!option->positional)
        sl_option_placeholder(option, placeholder);
    bool has_env = sl_option_env(option, env);
    p->status = sl_usage_error(p->command, p->err, "missing %s%s%s%s%s%s (%s)", dashes(option),
                               option->name, *placeholder ? " " : "", placeholder,
                               has_env ? " or " : "", env, option->help);
    return false;
}

/* Environment and default of a row that the command line leaves open.  An empty variable counts as
 * not set. */
static bool complete_row(struct parse *p, const struct sl_option *option)
{
    char env[SL_ENV_MAX];
    const char *text = sl_option_env(option, env) ? getenv(env) : NULL;
    if (text && *text)
        return store(p, option, "", env, text);
    if (option->fallback)
        return store(p, option, "default of ", option->name, option->fallback);
    return option->required ? refuse_missing(p, option) : true;
}

static bool complete_rows(struct parse *p)
{
    const struct sl_option *rows = p->command->rows;
    for (size_t i = 0; rows[i].name; i++)
        if (!p->given[i] && !complete_row(p, &rows[i]))
            return false;
    return true;
}

int sl_options_parse(const struct sl_command *command, int argc, char **argv, void *values,
                     FILE *out, FILE *err)
{
    struct parse p = {.command = command,
                      .argc = argc,
                      .argv = argv,
                      .next = 1,
                      .values = values,
                      .out = out,
                      .err = err,
                      .status = -1};
    if (take_arguments(&p))
        complete_rows(&p);
    return p.status;
}
