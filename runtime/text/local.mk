# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libtext.la
libtext_la_LIBADD = $(PCRE2_LIBS)
libtext_la_SOURCES = \
	runtime/text/text.h \
	runtime/text/text_private.h \
	runtime/text/bpe.c \
	runtime/text/detokenizer.c \
	runtime/text/encode.c \
	runtime/text/pattern.c \
	runtime/text/pretokenize.c \
	runtime/text/settings.c \
	runtime/text/table.c \
	runtime/text/tokenizer.c \
	runtime/text/trie.c \
	runtime/text/utf8.c \
	runtime/text/vocabulary.c
libtext_la_CPPFLAGS = $(AM_CPPFLAGS) $(PCRE2_CFLAGS)
