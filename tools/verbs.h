/* SPDX-License-Identifier: MIT */
/* The verbs, one per folder.  argv[0] is the verb's name; each returns an exit code of status.h. */
#ifndef SL_TOOLS_VERBS_H
#define SL_TOOLS_VERBS_H

int sl_verb_quantize(int argc, char **argv);
int sl_verb_synth(int argc, char **argv);
int sl_verb_stripe(int argc, char **argv);
int sl_verb_run(int argc, char **argv);
int sl_verb_inspect(int argc, char **argv);
int sl_verb_verify(int argc, char **argv);
int sl_verb_plan(int argc, char **argv);
int sl_verb_bench(int argc, char **argv);
int sl_verb_replay(int argc, char **argv);
int sl_verb_doctor(int argc, char **argv);
int sl_verb_eval(int argc, char **argv);

#endif
