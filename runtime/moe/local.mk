# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libmoe.la
libmoe_la_SOURCES = runtime/moe/moe.h runtime/moe/router.c runtime/moe/ffn.c
