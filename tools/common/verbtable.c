/* SPDX-License-Identifier: MIT */
/* Finds a verb in a table and runs it.  Knows nothing about options. */
#include "tools/common/verbtable.h"

#include <stdbool.h>
#include <string.h>

#include "tools/common/status.h"
#include "tools/common/suggest.h"

static void print_help(const struct sl_verb_table *table, FILE *out)
{
    fprintf(out, "Usage: %s VERB [ARGUMENT]...\n\n%s\n\nVerbs:\n", table->program,
            table->description);
    for (const struct sl_verb *verb = table->verbs; verb->name; verb++)
        fprintf(out, "  %-10s %s\n", verb->name, verb->summary);
    fprintf(out, "\n'%s VERB --help' or '%s help VERB' tells more.\n", table->program,
            table->program);
    if (table->remarks)
        fprintf(out, "\n%s\n", table->remarks);
    fputc('\n', out);
    sl_print_exit_codes(out);
}

static int refuse_verb(const struct sl_verb_table *table, const char *name, FILE *err)
{
    struct sl_suggestion suggestion = {.found = name, .len = strlen(name)};
    for (const struct sl_verb *verb = table->verbs; verb->name; verb++)
        sl_suggestion_offer(&suggestion, verb->name);
    const char *best = suggestion.best;
    fprintf(err, "%s: unknown %s '%s'%s%s%s\ntry '%s --help'\n", table->program,
            name[0] == '-' ? "option" : "verb", name, best ? "; did you mean " : "",
            best ? best : "", best ? "?" : "", table->program);
    return SL_EXIT_USAGE;
}

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

int sl_verb_table_run(const struct sl_verb_table *table, int argc, char **argv, FILE *out,
                      FILE *err)
{
    static char help_option[] = "--help";
    if (argc < 2) {
        fprintf(err, "%s: no verb given\ntry '%s --help'\n", table->program, table->program);
        return SL_EXIT_USAGE;
    }
    if (asks_for_help(argv[1])) {
        if (argc == 2 || argv[1][0] == '-') {
            print_help(table, out);
            return SL_EXIT_OK;
        }
        memmove(argv + 1, argv + 2, (size_t)(argc - 2) * sizeof *argv);
        argv[argc - 1] = help_option;
    }
    for (const struct sl_verb *verb = table->verbs; verb->name; verb++)
        if (strcmp(argv[1], verb->name) == 0)
            return verb->run(argc - 1, argv + 1);
    return refuse_verb(table, argv[1], err);
}
