# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libattention.la
libattention_la_SOURCES = \
    runtime/attention/attention.h runtime/attention/call.h runtime/attention/cache.c \
    runtime/attention/indexer.c runtime/attention/choose.c runtime/attention/mla.c
