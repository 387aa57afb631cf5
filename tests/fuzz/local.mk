# SPDX-License-Identifier: MIT
# Fuzz targets: one function each, run over its corpus by `make check`, and by libFuzzer in a build
# that was configured with --enable-fuzz (`make fuzz`).
fuzz_targets = safetensors packing checkpoint config manifest tokenizer trace usage machine session
fuzz_programs = \
    tests/fuzz/fuzz_safetensors tests/fuzz/fuzz_packing tests/fuzz/fuzz_checkpoint \
    tests/fuzz/fuzz_config tests/fuzz/fuzz_manifest tests/fuzz/fuzz_tokenizer \
    tests/fuzz/fuzz_trace tests/fuzz/fuzz_usage tests/fuzz/fuzz_machine \
    tests/fuzz/fuzz_session
check_PROGRAMS += $(fuzz_programs)
dist_check_SCRIPTS += tests/fuzz/replay.sh
TESTS += tests/fuzz/replay.sh
EXTRA_DIST += tests/fuzz/run.sh tests/fuzz/replay.c

fuzz_common = tests/fuzz/fuzz.h tests/fuzz/fuzz.c
fuzz_cppflags = $(AM_CPPFLAGS) $(PCRE2_CFLAGS) $(XXHASH_CFLAGS)
fuzz_libs = $(JANSSON_LIBS) $(XXHASH_LIBS)
if ENABLE_FUZZ
fuzz_ldflags = -fsanitize=fuzzer
else
fuzz_common += tests/fuzz/replay.c
fuzz_ldflags =
endif

tests_fuzz_fuzz_safetensors_SOURCES = tests/fuzz/fuzz_safetensors.c $(fuzz_common)
tests_fuzz_fuzz_safetensors_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_safetensors_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_safetensors_LDADD = libstream.la libmodel.la libcontainer.la libbase.la \
    libsimd.la $(fuzz_libs) -lm

tests_fuzz_fuzz_packing_SOURCES = tests/fuzz/fuzz_packing.c $(fuzz_common)
tests_fuzz_fuzz_packing_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_packing_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_packing_LDADD = libcontainer.la libbase.la libsimd.la $(fuzz_libs)

tests_fuzz_fuzz_checkpoint_SOURCES = tests/fuzz/fuzz_checkpoint.c $(fuzz_common)
tests_fuzz_fuzz_checkpoint_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_checkpoint_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_checkpoint_LDADD = libcontainer.la libbase.la libsimd.la $(fuzz_libs)

tests_fuzz_fuzz_config_SOURCES = tests/fuzz/fuzz_config.c $(fuzz_common)
tests_fuzz_fuzz_config_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_config_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_config_LDADD = libquant.la libruntime.la $(fuzz_libs) -lm

tests_fuzz_fuzz_manifest_SOURCES = tests/fuzz/fuzz_manifest.c $(fuzz_common)
tests_fuzz_fuzz_manifest_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_manifest_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_manifest_LDADD = libmodel.la libcontainer.la libbase.la libsimd.la $(fuzz_libs) -lm

tests_fuzz_fuzz_tokenizer_SOURCES = tests/fuzz/fuzz_tokenizer.c $(fuzz_common)
tests_fuzz_fuzz_tokenizer_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_tokenizer_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_tokenizer_LDADD = libtext.la libbase.la $(fuzz_libs)

tests_fuzz_fuzz_trace_SOURCES = tests/fuzz/fuzz_trace.c $(fuzz_common)
tests_fuzz_fuzz_trace_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_trace_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_trace_LDADD = libtools.la libbase.la libsimd.la $(fuzz_libs)

tests_fuzz_fuzz_machine_SOURCES = tests/fuzz/fuzz_machine.c $(fuzz_common)
tests_fuzz_fuzz_machine_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_machine_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_machine_LDADD = libtools.la libbase.la libsimd.la $(fuzz_libs)

tests_fuzz_fuzz_usage_SOURCES = tests/fuzz/fuzz_usage.c $(fuzz_common)
tests_fuzz_fuzz_usage_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_usage_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_usage_LDADD = libstream.la libbase.la $(fuzz_libs) -lm

tests_fuzz_fuzz_session_SOURCES = tests/fuzz/fuzz_session.c $(fuzz_common)
tests_fuzz_fuzz_session_CPPFLAGS = $(fuzz_cppflags)
tests_fuzz_fuzz_session_LDFLAGS = $(fuzz_ldflags)
tests_fuzz_fuzz_session_LDADD = libruntime.la $(fuzz_libs) -lm

# make fuzz FUZZ_SECONDS=600 FUZZ_TARGETS='config tokenizer'
FUZZ_SECONDS = 60
FUZZ_TARGETS = $(fuzz_targets)
.PHONY: fuzz
if ENABLE_FUZZ
fuzz: $(fuzz_programs)
	top_srcdir='$(top_srcdir)' $(srcdir)/tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)
else
fuzz:
	@echo 'make fuzz: run configure with CC=clang --enable-fuzz first' >&2; exit 1
endif
