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
    runtime/layer.h runtime/layer.c runtime/sizing.h runtime/engine.h runtime/engine.c runtime/budget.h runtime/budget.c \
    runtime/allotment.c \
    runtime/session/session.h runtime/session/session.c runtime/session/span.c runtime/session/fill.c \
    runtime/session/mtp.c runtime/session/head.c runtime/session/draft.c runtime/session/batch.c \
    runtime/session/prefix.c runtime/session/blocks.c runtime/session/workbench.h runtime/session/workbench.c \
    runtime/session/snapshot.h runtime/session/snapshot.c runtime/session/snapshot_header.c \
    runtime/session/snapshot_data.c
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
