# SPDX-License-Identifier: MIT
# tools/: the program `sluice`.

noinst_LTLIBRARIES += libtools.la
libtools_la_SOURCES = \
    tools/common/build.c \
    tools/common/engine_options.c \
    tools/common/engine_options.h \
    tools/common/build.h \
    tools/common/drive_name.c \
    tools/common/drive_name.h \
    tools/common/option_help.c \
    tools/common/option_value.c \
    tools/common/option_value.h \
    tools/common/layers.h \
    tools/common/memory_text.c \
    tools/common/memory_text.h \
    tools/common/options.c \
    tools/common/options.h \
    tools/common/progress.c \
    tools/common/progress.h \
    tools/common/recorder.c \
    tools/common/recorder.h \
    tools/common/statistics.c \
    tools/common/statistics.h \
    tools/common/status.c \
    tools/common/status.h \
    tools/common/suggest.c \
    tools/common/suggest.h \
    tools/common/trace.c \
    tools/common/trace.h \
    tools/common/verbtable.c \
    tools/common/verbtable.h \
    tools/doctor/doctor.h tools/doctor/findings.h tools/doctor/findings.c \
    tools/doctor/doctor_cgroup.c tools/doctor/doctor_limits.c tools/doctor/doctor_memory.c \
    tools/doctor/doctor_processors.c tools/doctor/doctor_target.c \
    tools/measure/bandwidth.c tools/measure/bandwidth.h \
    tools/measure/drive.h tools/measure/drive_private.h tools/measure/drive.c \
    tools/measure/drive_files.c tools/measure/drive_threads.c tools/measure/drive_uring.c \
    tools/measure/kernels.c tools/measure/kernels.h tools/measure/kernel_cases.h \
    tools/measure/case_matrix.c tools/measure/case_index.c tools/measure/case_attention.c \
    tools/measure/case_vector.c tools/measure/case_quantize.c \
    tools/measure/machine.c tools/measure/machine.h \
    tools/measure/packed_product.c tools/measure/packed_product.h \
    tools/measure/pieces.h tools/measure/pieces.c \
    tools/plan/predict.h tools/plan/predict.c tools/plan/forecast.h tools/plan/forecast.c \
    tools/replay/belady.h tools/replay/belady.c tools/replay/choices.h tools/replay/choices.c \
    tools/replay/overlap.h tools/replay/overlap.c tools/replay/simulate.h tools/replay/simulate.c
libtools_la_LIBADD = $(ONEDNN_LIBS) $(URING_LIBS) $(ZLIB_LIBS)

bin_PROGRAMS += sluice
sluice_SOURCES = \
    tools/sluice.c \
    tools/verbs.h \
    tools/quantize/verb_quantize.c \
    tools/synth/verb_synth.c \
    tools/stripe/verb_stripe.c \
    tools/bench/verb_bench.c \
    tools/bench/evict.h tools/bench/evict.c \
    tools/bench/extrapolate.h tools/bench/extrapolate.c \
    tools/bench/kernels_table.h tools/bench/kernels_table.c \
    tools/bench/model_rows.h tools/bench/model_rows.c \
    tools/bench/reading.h tools/bench/reading.c \
    tools/bench/report.h tools/bench/report.c \
    tools/bench/routes.h tools/bench/routes.c \
    tools/bench/io_table.h tools/bench/io_table.c \
    tools/doctor/verb_doctor.c tools/doctor/doctor_rates.c \
    tools/run/verb_run.c tools/run/session_file.h tools/run/session_file.c \
    tools/plan/plan.h tools/plan/report_text.c tools/plan/report_json.c tools/plan/hint.c \
    tools/plan/verb_plan.c \
    tools/replay/replay_report.h tools/replay/replay_report.c tools/replay/verb_replay.c \
    tools/inspect/verb_inspect.c \
    tools/verify/verb_verify.c \
    tools/eval/verb_eval.c tools/eval/eval.h tools/eval/verb_logits.c \
    tools/eval/sequences.h tools/eval/sequences.c tools/eval/verb_ppl.c tools/eval/verb_kld.c
sluice_LDADD = libtools.la libquant.la libruntime.la
