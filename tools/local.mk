# SPDX-License-Identifier: MIT
# tools/: the program `sluice`.

noinst_LTLIBRARIES += libtools.la
libtools_la_SOURCES = \
    tools/common/build.c \
    tools/common/engine_options.c \
    tools/common/engine_options.h \
    tools/common/build.h \
    tools/common/option_help.c \
    tools/common/option_value.c \
    tools/common/option_value.h \
    tools/common/options.c \
    tools/common/options.h \
    tools/common/progress.c \
    tools/common/progress.h \
    tools/common/status.c \
    tools/common/status.h \
    tools/common/suggest.c \
    tools/common/suggest.h \
    tools/common/verbtable.c \
    tools/common/verbtable.h \
    tools/measure/bandwidth.c tools/measure/bandwidth.h \
    tools/measure/machine.c tools/measure/machine.h

bin_PROGRAMS += sluice
sluice_SOURCES = \
    tools/sluice.c \
    tools/verbs.h \
    tools/quantize/verb_quantize.c \
    tools/synth/verb_synth.c \
    tools/bench/verb_bench.c tools/bench/report.h tools/bench/report.c \
    tools/run/verb_run.c \
    tools/inspect/verb_inspect.c \
    tools/verify/verb_verify.c \
    tools/eval/verb_eval.c tools/eval/eval.h tools/eval/verb_logits.c \
    tools/eval/sequences.h tools/eval/sequences.c tools/eval/verb_ppl.c tools/eval/verb_kld.c
sluice_LDADD = libtools.la libquant.la libruntime.la
