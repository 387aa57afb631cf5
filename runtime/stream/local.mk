# SPDX-License-Identifier: MIT
noinst_LTLIBRARIES += libstream.la
libstream_la_SOURCES = \
    runtime/stream/stream.h runtime/stream/expert_file.c runtime/stream/expert_sizes.c runtime/stream/experts.c \
    runtime/stream/streamed.h runtime/stream/streamed.c \
    runtime/stream/reader.h runtime/stream/reader_queue.h runtime/stream/reader_queue.c \
    runtime/stream/reader_memory.c runtime/stream/reader_pread.c runtime/stream/reader_uring.c \
    runtime/stream/slots.h runtime/stream/slots.c runtime/stream/usage.h runtime/stream/usage.c
