/* SPDX-License-Identifier: MIT */
/* The verbs of `sluice eval`. */
#ifndef SL_TOOLS_EVAL_H
#define SL_TOOLS_EVAL_H

int sl_verb_eval_logits(int argc, char **argv);
int sl_verb_eval_ppl(int argc, char **argv);
int sl_verb_eval_kld(int argc, char **argv);

#endif
