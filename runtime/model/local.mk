# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libmodel.la
libmodel_la_SOURCES = \
    runtime/model/config.h runtime/model/config.c \
    runtime/model/tensors.h runtime/model/tensors.c \
    runtime/model/weights.h runtime/model/weights.c \
    runtime/model/matmul.h runtime/model/matmul.c runtime/model/rung.h runtime/model/rung.c

# Apart from the room's library: only who multiplies by it is linked with oneDNN.
noinst_LTLIBRARIES += libonednn.la
libonednn_la_LIBADD = $(ONEDNN_LIBS)
libonednn_la_SOURCES = runtime/model/onednn.h runtime/model/onednn.c
