# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libmoe.la
libmoe_la_SOURCES = runtime/moe/moe.h runtime/moe/moe_private.h runtime/moe/router.c \
    runtime/moe/ffn.c runtime/moe/routed.c runtime/moe/guess.c
