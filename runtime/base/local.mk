# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libbase.la
libbase_la_LIBADD = $(JANSSON_LIBS) $(URING_LIBS)
libbase_la_SOURCES = \
    runtime/base/arith.h runtime/base/clock.h runtime/base/meter.h \
    runtime/base/arena.h runtime/base/arena.c \
    runtime/base/behind.h runtime/base/behind.c \
    runtime/base/cgroup.h runtime/base/cgroup.c \
    runtime/base/err.h runtime/base/err.c \
    runtime/base/file.h runtime/base/file.c \
    runtime/base/headroom.h runtime/base/headroom.c \
    runtime/base/huge.h runtime/base/huge.c \
    runtime/base/json.h runtime/base/json.c \
    runtime/base/available.h runtime/base/available.c \
    runtime/base/pressure.h runtime/base/pressure.c \
    runtime/base/splitmix.h \
    runtime/base/system_text.h runtime/base/system_text.c \
    runtime/base/team.h runtime/base/team.c \
    runtime/base/thread.h runtime/base/thread.c \
    runtime/base/payoff.h runtime/base/payoff.c \
    runtime/base/uring.h runtime/base/uring.c \
    runtime/base/xxh3.h
