# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libsample.la
libsample_la_SOURCES = runtime/sample/sample.h runtime/sample/sample.c
