/* SPDX-License-Identifier: MIT */
/* Help from the table: usage line, description, options by group, examples, exit status.  Reads
 * rows, writes to one stream. */
#include <string.h>

#include "tools/common/option_value.h"
#include "tools/common/status.h"

enum { WIDTH = 80, HELP_COLUMN = 26, TEXT_BYTES = 2048 };

static size_t columns_of(const char *text, size_t bytes)
{
    size_t columns = 0;
    for (size_t i = 0; i < bytes; i++)
        columns += ((unsigned char)text[i] & 0xc0) != 0x80; /* UTF-8: continuation bytes */
    return columns;
}

/* Prints words up to WIDTH, further lines starting at INDENT; the cursor is at COLUMN. */
static void print_wrapped(FILE *out, const char *text, size_t indent, size_t column)
{
    bool fresh = true; /* nothing since INDENT */
    while (*text) {
        size_t bytes = strcspn(text, " \n"), columns = columns_of(text, bytes);
        if (!fresh && column + 1 + columns > WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            fresh = true;
        }
        fprintf(out, "%s%.*s", fresh ? "" : " ", (int)bytes, text);
        column += columns + !fresh;
        fresh = false;
        text += bytes;
        if (*text == '\n') {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            fresh = true;
        }
        text += *text != '\0';
    }
    fputc('\n', out);
}

static void print_usage_line(const struct sl_command *command, FILE *out)
{
    char placeholder[SL_VALUE_TEXT];
    fprintf(out, "Usage: sluice %s [OPTION]...", command->name);
    for (const struct sl_option *o = command->rows; o->name; o++) {
        if (o->positional) {
            fprintf(out, o->required ? " %s" : " [%s]", o->name);
        } else if (o->required) {
            sl_option_placeholder(o, placeholder);
            fprintf(out, " --%s %s", o->name, placeholder);
        }
    }
    fputs("\n", out);
}

/* "  -m, --model DIR" */
static size_t print_left_side(const struct sl_option *option, FILE *out)
{
    char placeholder[SL_VALUE_TEXT];
    if (option->positional)
        return (size_t)fprintf(out, "  %s", option->name);
    sl_option_placeholder(option, placeholder);
    const char *space = *placeholder ? " " : "";
    if (option->letter)
        return (size_t)fprintf(out, "  -%c, --%s%s%s", option->letter, option->name, space,
                               placeholder);
    return (size_t)fprintf(out, "      --%s%s%s", option->name, space, placeholder);
}

/* Adds LABEL and VALUE to the bracketed remarks in TEXT: " [required; env SLUICE_MODEL". */
static void add_remark(char text[TEXT_BYTES], bool *open, const char *label, const char *value)
{
    size_t used = strlen(text);
    snprintf(text + used, TEXT_BYTES - used, "%s%s%s", *open ? "; " : " [", label, value);
    *open = true;
}

static void format_right_side(const struct sl_option *option, char text[TEXT_BYTES])
{
    char range[SL_VALUE_TEXT], env[SL_ENV_MAX];
    bool open = false;
    snprintf(text, TEXT_BYTES, "%s", option->help);
    if (option->required && !option->positional)
        add_remark(text, &open, "required", "");
    sl_option_range(option, range);
    if (range[0])
        add_remark(text, &open, range, "");
    if (option->fallback)
        add_remark(text, &open, "default ", option->fallback);
    if (sl_option_env(option, env))
        add_remark(text, &open, "env ", env);
    if (open)
        strncat(text, "]", TEXT_BYTES - strlen(text) - 1);
}

static void print_row(const struct sl_option *option, FILE *out)
{
    char text[TEXT_BYTES];
    size_t column = print_left_side(option, out);
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", (int)(HELP_COLUMN - column), "");
    format_right_side(option, text);
    print_wrapped(out, text, HELP_COLUMN, HELP_COLUMN);
}

static const char *group_of(const struct sl_option *option)
{
    if (option->positional)
        return "Arguments";
    return option->group ? option->group : "Options";
}

static bool group_seen_before(const struct sl_command *command, const struct sl_option *option)
{
    for (const struct sl_option *o = command->rows; o < option; o++)
        if (strcmp(group_of(o), group_of(option)) == 0)
            return true;
    return false;
}

/* Groups in the order in which their first rows come. */
static void print_groups(const struct sl_command *command, FILE *out)
{
    for (const struct sl_option *first = command->rows; first->name; first++) {
        if (group_seen_before(command, first))
            continue;
        fprintf(out, "\n%s:\n", group_of(first));
        for (const struct sl_option *o = first; o->name; o++)
            if (strcmp(group_of(o), group_of(first)) == 0)
                print_row(o, out);
    }
    fputs("\nHelp:\n", out);
    print_row(&sl_help_row, out);
}

void sl_options_help(const struct sl_command *command, FILE *out)
{
    print_usage_line(command, out);
    fputc('\n', out);
    print_wrapped(out, command->description ? command->description : command->summary, 0, 0);
    print_groups(command, out);
    if (command->examples) {
        fputs("\nExamples:\n", out);
        for (const char *const *line = command->examples; *line; line++)
            fprintf(out, "  %s\n", *line);
    }
    fputc('\n', out);
    sl_print_exit_codes(out);
}
