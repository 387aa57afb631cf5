# SPDX-License-Identifier: MIT
# `make check`.  A new test is one name in one of these lists; a unit or model test also says below
# which rooms it links: its own and what lies under it, nothing else.
lints = \
    tests/lint/includes.sh tests/lint/text.sh tests/lint/headers.sh tests/lint/symbols.sh \
    tests/lint/format.sh tests/lint/selftest.sh
kernel_tests = tests/check/check_kernels tests/check/check_rungs tests/check/check_peaks
unit_tests = tests/unit/test_team tests/unit/test_behind tests/unit/test_options \
    tests/unit/test_machine tests/unit/test_kernels tests/unit/test_plan tests/unit/test_span tests/unit/test_drive tests/unit/test_trace \
    tests/unit/test_replay \
    tests/unit/test_doctor tests/unit/test_bench tests/unit/test_statistics \
    tests/unit/test_tokenizer tests/unit/test_container tests/unit/test_stream \
    tests/unit/test_streamed \
    tests/unit/test_slots tests/unit/test_reader tests/unit/test_reader_faults tests/unit/test_trial \
    tests/unit/test_budget tests/unit/test_pressure \
    tests/unit/test_parts \
    tests/unit/test_model tests/unit/test_onednn tests/unit/test_moe tests/unit/test_indexer \
    tests/unit/test_sample tests/unit/test_quant
model_tests = tests/model/test_golden tests/model/test_same_bits tests/model/test_profiles \
    tests/model/test_synth tests/model/test_sizes tests/model/test_evaluate \
    tests/model/test_dense tests/model/test_memory tests/model/test_batch \
    tests/model/test_snapshot tests/model/test_snapshot_damage tests/model/test_prefix \
    tests/model/test_share tests/model/test_draft tests/model/test_mtp_rest
cli_tests = tests/cli/verbs.sh tests/cli/bad_input.sh tests/cli/install.sh \
    tests/cli/conversion.sh tests/cli/evaluate.sh tests/cli/bench.sh tests/cli/plan.sh \
    tests/cli/kernels.sh tests/cli/synth.sh tests/cli/doctor.sh tests/cli/dense.sh tests/cli/same_logits.sh \
    tests/cli/stripe.sh tests/cli/replay.sh tests/cli/session.sh
fault_scripts = tests/fault/kill.sh tests/fault/kill_stripe.sh tests/fault/full_disk.sh \
    tests/fault/shrink.sh tests/fault/session.sh
fault_programs = tests/fault/damage tests/fault/memory tests/fault/layers tests/fault/refusals
# `make check-long` runs these at full length; SLUICE_TEST_SEED=N selects other kills, flips, places.
long_tests = $(fault_scripts) $(fault_programs)
EXTRA_DIST += tests/bench/plan_vs_bench.sh tests/bench/make_trace.py tests/qemu/x86.sh tests/qemu/aarch64.sh \
    tests/cli/common.sh tests/fault/private_mounts.sh tests/cli/example.c tests/random.h
# Run by hand: llama.cpp and Sluice side by side.
EXTRA_DIST += tests/peer/README.md tests/peer/run tests/peer/llama.py tests/peer/machine.py \
    tests/peer/make_gguf.py tests/bench/long/README.md tests/bench/long/reach tests/peer/llama_bench.c \
    tests/bench/stream/README.md tests/bench/stream/shares \
    tests/bench/stream/confined.py tests/bench/stream/routes.awk

TEST_EXTENSIONS = .sh
TESTS += $(lints) $(kernel_tests) $(cli_tests) $(fault_scripts)
dist_check_SCRIPTS += $(lints) $(cli_tests) $(fault_scripts)
check_PROGRAMS += $(kernel_tests)
# Tests run side by side and ask for more threads than there are processors: waiting threads sleep.
AM_TESTS_ENVIRONMENT = OMP_WAIT_POLICY=passive; export OMP_WAIT_POLICY; \
    top_srcdir='$(top_srcdir)'; top_builddir='$(top_builddir)'; export top_srcdir top_builddir; \
    CC='$(CC)'; NM='$(NM)'; SANITIZE='$(SL_SANITIZE)'; export SANITIZE; CPPFLAGS='$(CPPFLAGS) $(JANSSON_CFLAGS)'; export CC NM CPPFLAGS;

check-long: tests/bench/equality/equality
	SLUICE_TEST_LONG=1 $(MAKE) $(AM_MAKEFLAGS) check TESTS='$(long_tests)'

# Other processors, emulated: needs qemu-user, and gcc-aarch64-linux-gnu for the second.
check-qemu: all tests/check/check_rungs tests/check/check_peaks
	$(srcdir)/tests/qemu/x86.sh .
	$(srcdir)/tests/qemu/aarch64.sh .
.PHONY: check-long check-qemu

# The kernels of the rung avxvnni for processors that have its instruction only in AVX-512's encoding.
checked_rungs = tests/check/ladder.h tests/check/ladder.c
checked_rungs_libs = libsimd.la -lm
if RUNG_AVX512VNNI
check_LTLIBRARIES += libsimd_avx512vl.la
libsimd_avx512vl_la_CFLAGS = $(KERNEL_CFLAGS) $(AVX512VL_CFLAGS) -DSL_RUNG=avx512vl
libsimd_avx512vl_la_SOURCES = $(wide_sources)
checked_rungs_libs += libsimd_avx512vl.la
endif

check_values = tests/check/values.h tests/check/values.c
tests_check_check_kernels_SOURCES = tests/check/check_kernels.c $(check_values)
tests_check_check_kernels_LDADD = libsimd.la -lm
tests_check_check_rungs_SOURCES = tests/check/check_rungs.h tests/check/check_rungs.c \
    tests/check/guard.h tests/check/guard.c $(check_values) \
    tests/check/trial.h tests/check/trial.c tests/check/judge.h tests/check/judge.c \
    tests/check/kernels_gemm.c tests/check/kernels_vector.c tests/check/kernels_index.c \
    tests/check/kernels_attend.c tests/check/kernels_fit.c tests/check/faults.c \
    tests/check/timing.c $(checked_rungs)
tests_check_check_rungs_LDADD = $(checked_rungs_libs)

tests_check_check_peaks_SOURCES = tests/check/check_peaks.c $(check_values) $(checked_rungs)
tests_check_check_peaks_LDADD = $(checked_rungs_libs)

# Run by hand: what the readers bring, beside sluice bench --io.
EXTRA_PROGRAMS = tests/bench/reader_rate
CLEANFILES = tests/bench/reader_rate
tests_bench_reader_rate_SOURCES = tests/bench/reader_rate.c
tests_bench_reader_rate_CPPFLAGS = $(AM_CPPFLAGS) $(XXHASH_CFLAGS)
tests_bench_reader_rate_LDADD = libtools.la libstream.la libcontainer.la libbase.la libsimd.la \
    $(JANSSON_LIBS) $(XXHASH_LIBS) -lm

EXTRA_PROGRAMS += tests/bench/session_rate
CLEANFILES += tests/bench/session_rate
tests_bench_session_rate_SOURCES = tests/bench/session_rate.c
tests_bench_session_rate_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) $(XXHASH_CFLAGS)
tests_bench_session_rate_LDADD = libtools.la libruntime.la $(JANSSON_LIBS) $(XXHASH_LIBS) -lm

# Run by hand, built by check-long: what bit-equality costs.  Without AVX-512 VNNI it says so.
EXTRA_PROGRAMS += tests/bench/equality/equality
CLEANFILES += tests/bench/equality/equality
tests_bench_equality_equality_SOURCES = tests/bench/equality/equality.c \
    tests/check/guard.h tests/check/guard.c $(check_values) tests/check/trial.h tests/check/trial.c \
    tests/check/kernels_gemm.c tests/check/kernels_vector.c tests/check/kernels_index.c \
    tests/check/kernels_attend.c tests/check/kernels_fit.c
tests_bench_equality_equality_LDADD = libsimd.la -lm
if RUNG_AVX512VNNI
EXTRA_LTLIBRARIES = libfree.la
CLEANFILES += libfree.la
libfree_la_SOURCES = $(wide_sources) tests/bench/equality/by_hand.h \
    tests/bench/equality/free_lanes.h tests/bench/equality/free_matrix.c \
    tests/bench/equality/free_vector.c tests/bench/equality/free_attention.c \
    tests/bench/equality/free_fit.c
libfree_la_CFLAGS = $(KERNEL_CFLAGS) $(AVX512VNNI_CFLAGS) -DSL_RUNG=contracted \
    -ffp-contract=fast -include $(top_srcdir)/tests/bench/equality/free_lanes.h
tests_bench_equality_equality_LDADD += libfree.la
endif

# Unit and model tests are written with cmocka.
if HAVE_CMOCKA
TESTS += $(unit_tests) $(model_tests) tests/model/small_blocks.sh $(fault_programs)
dist_check_SCRIPTS += tests/model/small_blocks.sh
check_PROGRAMS += $(unit_tests) $(model_tests) $(fault_programs)
else
check-local:
	@echo '*** Unit and model tests were SKIPPED: configure found no cmocka (Debian: libcmocka-dev).'
endif

cmocka_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS) $(PCRE2_CFLAGS) $(XXHASH_CFLAGS)
cmocka_libs = $(CMOCKA_LIBS) $(JANSSON_LIBS) $(XXHASH_LIBS)
scratch = tests/unit/scratch.h tests/unit/scratch.c
stores = $(scratch) tests/unit/stores.h tests/unit/stores.c tests/unit/open_experts.h
confine = tests/unit/confine.h tests/unit/confine.c
expert_reads = tests/unit/expert_reads.h tests/unit/expert_reads.c $(scratch)

tests_unit_test_behind_SOURCES = tests/unit/test_behind.c $(scratch)
tests_unit_test_behind_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_behind_LDADD = libbase.la $(cmocka_libs)
tests_unit_test_team_SOURCES = tests/unit/test_team.c
tests_unit_test_team_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_team_LDADD = libbase.la $(cmocka_libs)

tests_unit_test_options_SOURCES = tests/unit/test_options.c
tests_unit_test_options_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_options_LDADD = libtools.la libbase.la $(cmocka_libs)

tests_unit_test_machine_SOURCES = tests/unit/test_machine.c $(scratch)
tests_unit_test_machine_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_machine_LDADD = libtools.la libbase.la libsimd.la $(cmocka_libs)

tests_unit_test_drive_SOURCES = tests/unit/test_drive.c $(scratch) $(confine)
tests_unit_test_drive_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_drive_LDADD = libtools.la libbase.la $(cmocka_libs)

tests_unit_test_replay_SOURCES = tests/unit/test_replay.c $(scratch) tests/random.h
tests_unit_test_replay_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_replay_LDADD = libtools.la libstream.la libbase.la libsimd.la -lm $(cmocka_libs)

tests_unit_test_trace_SOURCES = tests/unit/test_trace.c $(scratch)
tests_unit_test_trace_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_trace_LDADD = libtools.la libbase.la $(cmocka_libs)

tests_unit_test_bench_SOURCES = tests/unit/test_bench.c $(scratch) tools/bench/extrapolate.c \
    tools/bench/routes.c
tests_unit_test_bench_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_bench_LDADD = libtools.la libbase.la $(cmocka_libs)

tests_unit_test_statistics_SOURCES = tests/unit/test_statistics.c $(scratch)
tests_unit_test_statistics_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_statistics_LDADD = libtools.la libbase.la $(cmocka_libs)

tests_unit_test_span_SOURCES = tests/unit/test_span.c
tests_unit_test_span_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_span_LDADD = libruntime.la $(cmocka_libs)

tests_unit_test_plan_SOURCES = tests/unit/test_plan.c
tests_unit_test_plan_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_plan_LDADD = libtools.la libquant.la libruntime.la $(cmocka_libs) -lm

tests_unit_test_budget_SOURCES = tests/unit/test_budget.c
tests_unit_test_budget_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_budget_LDADD = libruntime.la $(cmocka_libs) -lm

tests_unit_test_pressure_SOURCES = tests/unit/test_pressure.c $(scratch)
tests_unit_test_pressure_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_pressure_LDADD = libbase.la $(cmocka_libs)

tests_unit_test_kernels_SOURCES = tests/unit/test_kernels.c
tests_unit_test_kernels_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_kernels_LDADD = libtools.la libquant.la libruntime.la $(cmocka_libs) -lm

tests_unit_test_doctor_SOURCES = tests/unit/test_doctor.c $(scratch)
tests_unit_test_doctor_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_doctor_LDADD = libtools.la libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_unit_test_tokenizer_SOURCES = tests/unit/test_tokenizer.c
tests_unit_test_tokenizer_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_tokenizer_LDADD = libtext.la libbase.la $(cmocka_libs)

tests_unit_test_container_SOURCES = tests/unit/test_container.c $(scratch)
tests_unit_test_container_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_container_LDADD = libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_unit_test_stream_SOURCES = tests/unit/test_stream.c $(stores)
tests_unit_test_stream_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_stream_LDADD = libstream.la libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_unit_test_streamed_SOURCES = tests/unit/test_streamed.c tests/random.h $(stores)
tests_unit_test_streamed_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_streamed_LDADD = libstream.la libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_unit_test_slots_SOURCES = tests/unit/test_slots.c $(scratch) tests/random.h
tests_unit_test_slots_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_slots_LDADD = libstream.la libbase.la -lm $(cmocka_libs)

tests_unit_test_trial_SOURCES = tests/unit/test_trial.c
tests_unit_test_trial_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_trial_LDADD = libbase.la $(cmocka_libs)

tests_unit_test_parts_SOURCES = tests/unit/test_parts.c tests/unit/open_experts.h $(scratch)
tests_unit_test_parts_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_parts_LDADD = libstream.la libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_unit_test_reader_SOURCES = tests/unit/test_reader.c $(expert_reads)
tests_unit_test_reader_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_reader_LDADD = libstream.la libcontainer.la libbase.la libsimd.la $(cmocka_libs) -lm

tests_unit_test_reader_faults_SOURCES = tests/unit/test_reader_faults.c $(expert_reads) $(confine)
tests_unit_test_reader_faults_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_reader_faults_LDADD = libstream.la libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_unit_test_model_SOURCES = tests/unit/test_model.c $(scratch)
tests_unit_test_model_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_model_LDADD = libmodel.la libcontainer.la libbase.la libsimd.la $(cmocka_libs) -lm

tests_unit_test_onednn_SOURCES = tests/unit/test_onednn.c $(scratch)
tests_unit_test_onednn_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_onednn_LDADD = libonednn.la libmodel.la libcontainer.la libbase.la libsimd.la \
    $(cmocka_libs) -lm

tests_unit_test_moe_SOURCES = tests/unit/test_moe.c
tests_unit_test_moe_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_moe_LDADD = libmoe.la libstream.la libmodel.la libcontainer.la libbase.la \
    libsimd.la $(cmocka_libs) -lm

tests_unit_test_indexer_SOURCES = tests/unit/test_indexer.c
tests_unit_test_indexer_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_indexer_LDADD = libattention.la libmodel.la libbase.la libsimd.la $(cmocka_libs) -lm

tests_unit_test_sample_SOURCES = tests/unit/test_sample.c
tests_unit_test_sample_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_sample_LDADD = libsample.la libbase.la $(cmocka_libs) -lm

tests_unit_test_quant_SOURCES = tests/unit/test_quant.c
tests_unit_test_quant_CPPFLAGS = $(cmocka_cppflags)
tests_unit_test_quant_LDADD = libquant.la libruntime.la $(cmocka_libs)

model_harness = tests/model/harness.h tests/model/harness.c
model_libs = libquant.la libruntime.la $(cmocka_libs) -lm
tests_model_test_golden_SOURCES = tests/model/test_golden.c $(model_harness)
tests_model_test_golden_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_golden_LDADD = $(model_libs)
tests_model_test_same_bits_SOURCES = tests/model/test_same_bits.c $(model_harness)
tests_model_test_same_bits_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_same_bits_LDADD = $(model_libs)
tests_model_test_synth_SOURCES = tests/model/test_synth.c $(model_harness) $(scratch)
tests_model_test_synth_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_synth_LDADD = $(model_libs)
tests_model_test_sizes_SOURCES = tests/model/test_sizes.c $(model_harness) $(scratch)
tests_model_test_sizes_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_sizes_LDADD = $(model_libs)
tests_model_test_profiles_SOURCES = tests/model/test_profiles.c $(model_harness)
tests_model_test_profiles_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_profiles_LDADD = $(model_libs)

tests_model_test_dense_SOURCES = tests/model/test_dense.c $(model_harness)
tests_model_test_dense_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_dense_LDADD = $(model_libs)

tests_model_test_draft_SOURCES = tests/model/test_draft.c $(model_harness)
tests_model_test_draft_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_draft_LDADD = $(model_libs)
tests_model_test_mtp_rest_SOURCES = tests/model/test_mtp_rest.c $(model_harness) $(scratch)
tests_model_test_mtp_rest_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_mtp_rest_LDADD = $(model_libs)

tests_model_test_memory_SOURCES = tests/model/test_memory.c $(model_harness) $(scratch)
tests_model_test_memory_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_memory_LDADD = $(model_libs)

tests_model_test_batch_SOURCES = tests/model/test_batch.c $(model_harness) $(scratch)
tests_model_test_batch_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_batch_LDADD = $(model_libs)

tests_model_test_snapshot_SOURCES = tests/model/test_snapshot.c $(model_harness) $(scratch)
tests_model_test_snapshot_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_snapshot_LDADD = $(model_libs)
tests_model_test_prefix_SOURCES = tests/model/test_prefix.c $(model_harness) $(scratch)
tests_model_test_prefix_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_prefix_LDADD = $(model_libs)
tests_model_test_share_SOURCES = tests/model/test_share.c $(model_harness) $(scratch)
tests_model_test_share_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_share_LDADD = $(model_libs)
tests_model_test_snapshot_damage_SOURCES = tests/model/test_snapshot_damage.c $(model_harness) \
    $(scratch)
tests_model_test_snapshot_damage_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_snapshot_damage_LDADD = $(model_libs)

tests_model_test_evaluate_SOURCES = tests/model/test_evaluate.c $(model_harness)
tests_model_test_evaluate_CPPFLAGS = $(cmocka_cppflags)
tests_model_test_evaluate_LDADD = $(model_libs)

process = tests/fault/process.h tests/fault/process.c $(scratch)
tests_fault_damage_SOURCES = tests/fault/damage.c $(process)
tests_fault_damage_CPPFLAGS = $(cmocka_cppflags)
tests_fault_damage_LDADD = libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_fault_memory_SOURCES = tests/fault/memory.c $(process)
tests_fault_memory_CPPFLAGS = $(cmocka_cppflags)
tests_fault_memory_LDADD = libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_fault_layers_SOURCES = tests/fault/layers.c $(process)
tests_fault_layers_CPPFLAGS = $(cmocka_cppflags)
tests_fault_layers_LDADD = libcontainer.la libbase.la libsimd.la $(cmocka_libs)

tests_fault_refusals_SOURCES = tests/fault/refusals.c $(process) $(confine)
tests_fault_refusals_CPPFLAGS = $(cmocka_cppflags)
tests_fault_refusals_LDADD = libcontainer.la libbase.la libsimd.la $(cmocka_libs)

include tests/fuzz/local.mk

# Test data goes into the tarball folder by folder.
dist-hook:
	for folder in tests/vectors tests/golden tests/fuzz/corpus tests/fuzz/dictionary; do \
	    test ! -d "$(srcdir)/$$folder" || \
	    { $(MKDIR_P) "$(distdir)/$$folder" && \
	      cp -R "$(srcdir)/$$folder/." "$(distdir)/$$folder/"; } || \
	    exit 1; \
	done
