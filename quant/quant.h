/* SPDX-License-Identifier: MIT */
/* quant.h: the door of quant/: published checkpoint → container, in one pass of bounded memory. */
#ifndef SL_QUANT_H
#define SL_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

struct sl_quantize_opts {
    const char *profile; /* NULL: "quality" */
    unsigned threads;    /* 0: every processor this process may use */
    bool fast;           /* plain absmax scales, no search */
    void *user;
    /* Bytes of the checkpoint converted so far; a non-zero return stops with SLUICE_ECANCELLED,
     * leaving whole files that the next call continues from. */
    int (*progress)(void *user, uint64_t done, uint64_t total, const char *file);
};

struct sl_quantize_report {
    uint64_t source_bytes;
    uint64_t container_bytes;
    uint64_t weights; /* parameters packed */
    unsigned files_written;
    unsigned files_resumed; /* found complete from an earlier run */
    double seconds;
};

/*
 * Converts the checkpoint at SOURCE (directory, hub folder or snapshot) into the container
 * directory DEST, created if needed.  Every file is written under a temporary name, synced and
 * renamed; sluice.json comes last.  Running again after any interruption continues with the first
 * missing or damaged file.  Refused before anything is written: a drive without room for the rest
 * (SLUICE_ENOSPC), a DEST of another source or recipe, one that another conversion is writing, and
 * one that is neither empty nor a container.  The output does not depend on the number of threads.
 */
int sl_quantize(const char *source, const char *dest, const struct sl_quantize_opts *opts,
                struct sl_quantize_report *report, struct sluice_err *err);

struct sl_synth_opts {
    const char *like; /* "v3", "v3.2", or the path of a config.json; NULL: "v3.2" */
    uint32_t dense_layers, moe_layers; /* in this order; no MTP layer */
    uint32_t experts, vocab;           /* 0: as the model has */
    bool checkpoint;                   /* an FP8 checkpoint, not a container */
    const char *profile;               /* of a container; NULL: "quality" */
    unsigned threads;                  /* 0: every processor this process may use */
    void *user;
    int (*progress)(void *user, uint64_t done, uint64_t total, const char *file);
};

/*
 * Makes the directory DEST of pseudo-random weights with the shapes of a real model, for measuring:
 * a container, or a checkpoint in the published layout, to time sl_quantize() with.  The same
 * options give the same bytes.  Without a tokenizer.  DEST, interruptions and errors as for
 * sl_quantize(); report->source_bytes stays 0.
 */
int sl_synthesize(const char *dest, const struct sl_synth_opts *opts,
                  struct sl_quantize_report *report, struct sluice_err *err);

/* Names and one-line descriptions of the profiles; returns false past the last. */
bool sl_profile_list(size_t i, const char **name, const char **text);

#endif
