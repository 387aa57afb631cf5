/* SPDX-License-Identifier: MIT */
/* Programs of several verbs: `sluice VERB`, `sluice eval VERB`. */
#ifndef SL_TOOLS_VERBTABLE_H
#define SL_TOOLS_VERBTABLE_H

#include <stdio.h>

struct sl_verb {
    const char *name;
    const char *summary;               /* one line */
    int (*run)(int argc, char **argv); /* argv[0] is the verb; returns an exit code */
};

struct sl_verb_table {
    const char *program;         /* "sluice", "sluice eval" */
    const char *description;     /* lines */
    const struct sl_verb *verbs; /* ends with {0} */
    const char *remarks;         /* lines after the verbs; or NULL */
};

/*
 * Runs the verb ARGV[1] with the arguments from there on; "help VERB …" becomes "VERB … --help".
 * Help goes to OUT, the message about a wrong or missing verb to ERR.  Returns the exit code.
 */
int sl_verb_table_run(const struct sl_verb_table *table, int argc, char **argv, FILE *out,
                      FILE *err);

#endif
