# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libquant.la
libquant_la_CPPFLAGS = $(AM_CPPFLAGS) $(XXHASH_CFLAGS)
libquant_la_LIBADD = $(JANSSON_LIBS) $(XXHASH_LIBS)
libquant_la_SOURCES = \
    quant/quant.h quant/conversion.h \
    quant/work.c quant/profile.c quant/source.c quant/panel.c quant/matrix.c quant/rows.c \
    quant/rehearse.c \
    quant/writer.c quant/expert_writer.c quant/stripe.c quant/restripe.c quant/plan.c quant/files.c quant/finish.c quant/room.c quant/convert.c \
    quant/synth.h quant/noise.c quant/imitate.c quant/synth.c quant/shards.c quant/sizes.c \
    quant/evaluation.h quant/evaluate.c quant/evaluate_layer.c quant/evaluate_reference.c \
    quant/evaluate_compare.c
