# SPDX-License-Identifier: MIT
include runtime/base/local.mk
include runtime/container/local.mk
include runtime/stream/local.mk
include runtime/model/local.mk
include runtime/attention/local.mk
include runtime/moe/local.mk
include runtime/text/local.mk
include runtime/sample/local.mk

# Everything of the runtime, for the program and for tests that need internals.
noinst_LTLIBRARIES += libruntime.la
libruntime_la_SOURCES = \
    runtime/layer.h runtime/layer.c runtime/session.h runtime/session.c runtime/span.c runtime/mtp.c runtime/head.c \
    runtime/draft.c runtime/fill.c runtime/prefix.c runtime/sizing.h runtime/workbench.h runtime/workbench.c \
    runtime/batch.c runtime/snapshot.h runtime/snapshot.c runtime/snapshot_header.c runtime/snapshot_data.c \
    runtime/engine.h runtime/engine.c runtime/budget.h runtime/budget.c runtime/allotment.c
libruntime_la_LIBADD = libattention.la libmoe.la libtext.la libsample.la libstream.la \
    libonednn.la libmodel.la libcontainer.la libbase.la libsimd.la

# What is installed: the same code behind the public header.
lib_LTLIBRARIES += libsluice.la
libsluice_la_SOURCES =
libsluice_la_LIBADD = libruntime.la
libsluice_la_LDFLAGS = -version-info 0:0:0 -no-undefined $(SL_NO_UNDEFINED)
include_HEADERS = runtime/sluice.h
pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = runtime/sluice.pc
