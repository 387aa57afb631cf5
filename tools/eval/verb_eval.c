/* SPDX-License-Identifier: MIT */
/* `sluice eval`: measurements on a model. */
#include "tools/common/verbtable.h"
#include "tools/eval/eval.h"
#include "tools/verbs.h"

static const struct sl_verb verbs[] = {
    {"logits", "write the logits of every position of a token file", sl_verb_eval_logits},
    {"ppl", "perplexity of a text", sl_verb_eval_ppl},
    {"kld", "divergence of a container from the checkpoint it was made from", sl_verb_eval_kld},
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
