# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libcontainer.la
libcontainer_la_CPPFLAGS = $(AM_CPPFLAGS) $(XXHASH_CFLAGS)
libcontainer_la_LIBADD = $(JANSSON_LIBS) $(XXHASH_LIBS)
libcontainer_la_SOURCES = \
    runtime/container/container.h runtime/container/container_private.h \
    runtime/container/safetensors.h runtime/container/safetensors.c \
    runtime/container/checkpoint.h runtime/container/checkpoint.c \
    runtime/container/names.c \
    runtime/container/packing.c runtime/container/parts.c \
    runtime/container/container_manifest.c \
    runtime/container/hash.c runtime/container/load.c runtime/container/model_digest.c \
    runtime/container/verify.c
