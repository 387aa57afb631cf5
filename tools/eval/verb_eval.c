/* SPDX-License-Identifier: MIT */
/* `sluice eval`: measurements on a model. */
#include "tools/common/verbtable.h"
#include "tools/eval/eval.h"
#include "tools/verbs.h"

static const struct sl_verb verbs[] = {
    {"logits", "write the logits of every position of a token file", sl_verb_eval_logits},
    {0},
};

static const struct sl_verb_table table = {
    .program = "sluice eval",
    .description = "Measurements on a model.",
    .verbs = verbs,
};

int sl_verb_eval(int argc, char **argv)
{
    return sl_verb_table_run(&table, argc, argv, stdout, stderr);
}
