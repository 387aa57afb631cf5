/* SPDX-License-Identifier: MIT */
/*
 * conversion.h: what the files of quant/ share.  A conversion is a walk over a list of files; each
 * file is a list of tensors; each tensor is read, decoded, fitted and packed in batches of panels.
 */
#ifndef SL_QUANT_CONVERSION_H
#define SL_QUANT_CONVERSION_H

#include <sys/types.h>

#include "quant/quant.h"
#include "runtime/base/behind.h"
#include "runtime/base/file.h"
#include "runtime/base/team.h"
#include "runtime/base/xxh3.h"
#include "runtime/container/checkpoint.h"
#include "runtime/container/container.h"
#include "runtime/model/config.h"
#include "runtime/model/tensors.h"
#include "simd/simd.h"

enum { SL_DIGEST_CHARS = 17 }; /* 16 lower-case hex digits of XXH3-64 and a NUL */

void sl_digest_print(char out[SL_DIGEST_CHARS], uint64_t hash);

/* ---- profile.c: which packing a tensor gets -------------------------------------------------- */

/* A packing without its shape. */
struct sl_format {
    enum sl_code code;
    enum sl_scale scale;
    uint32_t group;
    const int8_t *codebook; /* LUT4 */
};

/* What the profiles differ in; the rest is INT8 or exact in all of them.  `reference` has none of
 * the three: it is lossless, BF16 where that is exact, else F32. */
struct sl_profile {
    const char *name;
    const char *text;
    const struct sl_format *experts;
    const struct sl_format *attn_big; /* q_b, o */
    const struct sl_format *dense;    /* q_a, kv_a, dense FFN, shared experts */
};

static inline bool sl_profile_is_reference(const struct sl_profile *p)
{
    return p->experts == NULL;
}

const struct sl_profile *sl_profile_find(const char *name, struct sluice_err *err);

/* The packing of ROLE; MTP: in the MTP layer; BF16_EXACT: BF16 holds the source (`reference`). */
struct sl_packing sl_profile_packing(const struct sl_profile *p, const struct sl_config *c,
                                     enum sl_role role, bool mtp, bool bf16_exact);

/* The "recipe" of sluice.json, with its own "digest"; NULL without memory. */
json_t *sl_recipe_json(const struct sl_profile *p, bool fast);

/* ---- source.c: tensors of the checkpoint ----------------------------------------------------- */

enum { SL_FP8_BLOCK = 128 }; /* weights that share one scale, in rows and in columns */
#define SL_SCALE_SUFFIX "_scale_inv"

struct sl_input {
    char name[128];
    const struct sl_safetensors *st;
    const struct sl_tensor *tensor;
    size_t rows, cols;
    size_t row_bytes;
    float *scale; /* FP8 only: [ceil(rows/128)][scale_cols]; NULL until sl_input_open() */
    size_t scale_cols;
};

/* Names of the checkpoint tensors that ROLE is made of: 1, or 2 for gate and up. */
unsigned sl_input_names(enum sl_role role, uint32_t layer, uint32_t expert, char names[2][128]);

/* Finds tensor WHICH (0, 1) of ROLE; checks dtype and shape, also of its scales. */
int sl_input_find(struct sl_input *s, const struct sl_checkpoint *c, const struct sl_config *config,
                  enum sl_role role, unsigned which, uint32_t layer, uint32_t expert,
                  struct sluice_err *err);

/* Finds it and reads its scales, which must be finite and positive. */
int sl_input_open(struct sl_input *s, const struct sl_checkpoint *c, const struct sl_config *config,
                  enum sl_role role, unsigned which, uint32_t layer, uint32_t expert,
                  struct sluice_err *err);
void sl_input_close(struct sl_input *s);

int sl_input_read(const struct sl_input *s, size_t row, size_t n_rows, uint8_t *raw,
                  struct sluice_err *err);

/* Columns [col, col + n) of row ROW, whose bytes begin at RAW; false: a weight is not finite. */
bool sl_input_decode(const struct sl_input *s, const struct sl_ops *ops, const uint8_t *raw,
                     size_t row, size_t col, size_t n, float *out);

/* The error for the first weight of row ROW that is not finite; 0 when there is none. */
int sl_input_explain(const struct sl_input *s, const struct sl_ops *ops, const uint8_t *raw,
                     size_t row, struct sluice_err *err);

/* True when BF16 holds every weight: a BF16 tensor, or FP8 with power-of-two scales. */
bool sl_input_fits_bf16(const struct sl_input *s);

/* ---- panel.c: float rows → one packed panel -------------------------------------------------- */

/* Sums over the weights of a panel or a tensor. */
struct sl_error {
    double error;  /* Σ (w − ŵ)² */
    double square; /* Σ w² */
    double max;    /* largest |w − ŵ| */
};

void sl_error_add(struct sl_error *sum, const struct sl_error *e);
double sl_error_relative(const struct sl_error *e); /* sqrt(error / square); 0 for zeros */

/* How to fit: kernels, and whether to skip the search. */
struct sl_fitting {
    const struct sl_ops *ops;
    bool fast;
};

/* Bytes that sl_pack_panel() wants as scratch, a multiple of 8. */
size_t sl_pack_scratch(const struct sl_packing *p);

/* Packs x[rows][p->cols], rows ≤ 16, as one panel at OUT (sl_panel_bytes(), all of it written). */
void sl_pack_panel(const struct sl_fitting *fit, const struct sl_packing *p, const float *x,
                   size_t rows, uint8_t *out, void *scratch, struct sl_error *error);

/* ---- writer.c: a safetensors file, written in order ------------------------------------------ */

struct sl_writer {
    struct sl_newfile file;
    struct sl_behind *behind; /* writes the data */
    json_t *metadata;
    json_t *tensors; /* header entries, in the order of their data */
    struct sl_writer_tensor {
        char name[128];
        uint64_t bytes;
        bool hashed;
    } * list;
    size_t n_tensors;
    uint64_t data_bytes; /* of all tensors */
    uint64_t data_start;
    size_t current; /* tensor being written */
    uint64_t current_done;
    XXH3_state_t *hash; /* of the current tensor */
};

/* RECIPE and SOURCE are the digests that a resumed conversion compares. */
int sl_writer_open(struct sl_writer *w, const char *recipe, const char *source,
                   struct sluice_err *err);
void sl_writer_close(struct sl_writer *w);

/* Declares the next tensor; HASHED: its XXH3 goes into the metadata. */
int sl_writer_add(struct sl_writer *w, const char *name, enum sl_dtype dtype, unsigned n_dims,
                  const uint64_t *dims, bool hashed, struct sluice_err *err);

/* Metadata PREFIX + NAME = TEXT.  After begin: only keys that exist, TEXT as long as before. */
int sl_writer_meta(struct sl_writer *w, const char *prefix, const char *name, const char *text,
                   struct sluice_err *err);

/* "error:NAME"; before begin with NULL to reserve its place. */
int sl_writer_error(struct sl_writer *w, const char *name, const struct sl_error *e,
                    struct sluice_err *err);

/* Bytes of the whole file, known once all is declared. */
int sl_writer_measure(struct sl_writer *w, uint64_t *bytes, struct sluice_err *err);

/* Fixes the header's size and creates the file; then the data of every tensor, in order.  A drive
 * that is full may be noticed later, in commit at the latest.  DIRECT: as in behind.h; not for
 * files of which the manifest has a checksum of all bytes. */
int sl_writer_begin(struct sl_writer *w, const char *path, bool direct, struct sluice_err *err);
int sl_writer_append(struct sl_writer *w, const void *data, size_t len, struct sluice_err *err);
int sl_writer_commit(struct sl_writer *w, struct sluice_err *err);

/* ---- stripe.c: the directories that expert files are divided among --------------------------- */

struct sl_stripe {
    const char *dest;        /* the container: part 0 */
    unsigned n_parts;        /* 1: not split */
    char *dir[SL_PARTS_MAX]; /* of the other parts, absolute */
    int lock[SL_PARTS_MAX];  /* those, open and locked; -1 */
};

/* Not split. */
void sl_stripe_init(struct sl_stripe *s, const char *dest);

/* Makes and locks the directories of parts 1 … in LIST, which has commas between; NULL: none.  DEST
 * is there.  Refused: more than SL_PARTS_MAX - 1, one twice, one that holds other files. */
int sl_stripe_open(struct sl_stripe *s, const char *list, struct sluice_err *err);
void sl_stripe_close(struct sl_stripe *s);

/* Where the files of PART are. */
const char *sl_stripe_directory(const struct sl_stripe *s, unsigned part);

/* The file itself, not the link to it. */
int sl_stripe_path(const struct sl_stripe *s, uint32_t layer, unsigned part, char path[SL_PATH_MAX],
                   struct sluice_err *err);

/* Removes files that a killed run was writing from the directories of parts 1 …. */
void sl_stripe_clean(const struct sl_stripe *s);

/* Sees to it that the container has the link to a part that lies elsewhere. */
int sl_stripe_link(const struct sl_stripe *s, uint32_t layer, unsigned part,
                   struct sluice_err *err);

/* Opens DIR and locks it as long as *lock is open: two writers at once would mix their files. */
int sl_lock_directory(const char *dir, int *lock, struct sluice_err *err);

/* ---- expert_writer.c: the experts of a layer, in one file or in parts ------------------------ */

struct sl_expert_writer {
    struct sl_expert_layout layout;
    uint32_t n_experts;
    unsigned n_parts;
    uint64_t *checksums; /* [n_experts][chunks]; filled by the caller before commit */
    float *errors;       /* [n_experts][2]; likewise */
    struct sl_writer part[SL_PARTS_MAX];
};

/* RECIPE and SOURCE as for sl_writer_open(). */
int sl_expert_writer_open(struct sl_expert_writer *w, const struct sl_expert_layout *layout,
                          uint32_t n_experts, unsigned n_parts, const char *recipe,
                          const char *source, struct sluice_err *err);
void sl_expert_writer_close(struct sl_expert_writer *w);

/* Makes links and creates files in the directories of S; then the blocks of all experts. */
int sl_expert_writer_begin(struct sl_expert_writer *w, const struct sl_stripe *s, uint32_t layer,
                           struct sluice_err *err);
int sl_expert_writer_append(struct sl_expert_writer *w, const uint8_t *block,
                            struct sluice_err *err);
int sl_expert_writer_commit(struct sl_expert_writer *w, struct sluice_err *err);

/* ---- plan.c: the files of a container, and what can be known before writing ------------------ */

enum sl_file_kind { SL_FILE_HEAD, SL_FILE_RESIDENT, SL_FILE_EXPERTS, SL_FILE_SHARD };

struct sl_plan_file {
    char name[64]; /* of experts that are split: of the whole */
    enum sl_file_kind kind;
    uint32_t layer;        /* of a shard: its number, from 0 */
    uint64_t source_bytes; /* read from the checkpoint to make it */
    bool complete;         /* found finished */
};

struct sl_plan {
    size_t n_files;
    struct sl_plan_file *files; /* in the order of writing */
    uint64_t source_bytes;
    uint64_t weights; /* in packed matrices and the embedding */
};

/* True when FILE holds ROLE. */
bool sl_plan_has(const struct sl_config *c, const struct sl_plan_file *file, enum sl_role role);

/* Lists the files only. */
int sl_plan_list(struct sl_plan *plan, const struct sl_config *config, struct sluice_err *err);

/* Lists the files and checks every tensor they need; missing ones are named together. */
int sl_plan_open(struct sl_plan *plan, const struct sl_checkpoint *c,
                 const struct sl_config *config, struct sluice_err *err);
void sl_plan_close(struct sl_plan *plan);

/* ---- conversion ------------------------------------------------------------------------------ */

/* A buffer that grows. */
struct sl_buffer {
    uint8_t *data;
    size_t size;
};
int sl_buffer_reserve(struct sl_buffer *b, size_t size, struct sluice_err *err);

/* Where a container's numbers come from: convert.c's are a checkpoint's, synth.c's are random.  The
 * members are as the functions sl_convert_… and sl_matrix_fits_bf16() below. */
struct sl_conversion;
struct sl_maker {
    int (*matrix)(struct sl_conversion *c, enum sl_role role, uint32_t layer, uint32_t expert,
                  const struct sl_packing *packing, struct sl_writer *writer, uint8_t *out,
                  struct sl_error *error, struct sluice_err *err);
    int (*fits_bf16)(const struct sl_conversion *c, enum sl_role role, uint32_t layer,
                     uint32_t expert, bool *exact, struct sluice_err *err);
    int (*embedding)(struct sl_conversion *c, enum sl_dtype dtype, struct sl_writer *writer,
                     float *scales, struct sl_error *error, struct sluice_err *err);
    int (*vector)(struct sl_conversion *c, enum sl_role role, uint32_t layer,
                  struct sl_writer *writer, struct sluice_err *err);
};

extern const struct sl_maker sl_from_checkpoint;

/* What is made: a container (files.c, finish.c), or a checkpoint (shards.c). */
struct sl_target {
    const char *what; /* "a container" */
    const char *last; /* name of the file that is written last, beside those of the plan */
    /* Bytes that write() will write to part PART of sl_file_parts(). */
    int (*measure)(struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                   uint64_t *bytes, struct sluice_err *err);
    int (*write)(struct sl_conversion *c, const struct sl_plan_file *file, struct sluice_err *err);
    /* Writes the configuration and the last file; room that these may take. */
    int (*finish)(struct sl_conversion *c, struct sluice_err *err);
    uint64_t (*finish_room)(const struct sl_conversion *c);
    /* Bytes of the whole. */
    int (*total)(const struct sl_conversion *c, uint64_t *bytes, struct sluice_err *err);
};
extern const struct sl_target sl_container;

struct sl_conversion {
    const struct sl_target *target;
    const struct sl_maker *make;
    const struct sl_checkpoint *checkpoint; /* NULL: synthetic, with the text of its config.json */
    const char *config_text;
    struct sl_config config;
    const struct sl_profile *profile;
    const struct sl_quantize_opts *opts;
    struct sl_fitting fitting;
    struct sl_team team;
    const char *dest;
    int lock; /* DEST, open and locked: one conversion at a time; -1 */
    struct sl_stripe stripe;
    char recipe[SL_DIGEST_CHARS];
    char source[SL_DIGEST_CHARS];
    struct sl_plan plan;
    const char *file; /* being written, for progress */
    uint64_t done;    /* of plan.source_bytes */
    struct sl_buffer raw, packed, scratch, results;
};

/* Adds BYTES to what is done and reports it; SLUICE_ECANCELLED when the callback says so. */
int sl_conversion_progress(struct sl_conversion *c, uint64_t bytes, struct sluice_err *err);

/* matrix.c.  Converts ROLE to PACKING; the bytes go to OUT, or to WRITER when OUT is NULL. */
int sl_convert_matrix(struct sl_conversion *c, enum sl_role role, uint32_t layer, uint32_t expert,
                      const struct sl_packing *packing, struct sl_writer *writer, uint8_t *out,
                      struct sl_error *error, struct sluice_err *err);

/* matrix.c.  True in *exact when BF16 holds all sources of ROLE. */
int sl_matrix_fits_bf16(const struct sl_conversion *c, enum sl_role role, uint32_t layer,
                        uint32_t expert, bool *exact, struct sluice_err *err);

/* files.c.  The packing that ROLE gets in FILE, one for all experts of a layer; `reference` takes
 * BF16 where that is exact for all of them. */
int sl_file_packing(const struct sl_conversion *c, const struct sl_plan_file *file,
                    enum sl_role role, struct sl_packing *p, struct sluice_err *err);

/* files.c.  The layout of LAYER's experts in C's profile. */
int sl_choose_layout(const struct sl_conversion *c, uint32_t layer, struct sl_expert_layout *layout,
                     struct sluice_err *err);

/* files.c.  The embedding's dtype. */
int sl_embedding_dtype(const struct sl_conversion *c, enum sl_dtype *dtype, struct sluice_err *err);

/* rows.c.  The embedding's rows, followed by the scales when INT8; and a vector. */
int sl_convert_embedding(struct sl_conversion *c, enum sl_dtype dtype, struct sl_writer *writer,
                         float *scales, struct sl_error *error, struct sluice_err *err);
int sl_convert_vector(struct sl_conversion *c, enum sl_role role, uint32_t layer,
                      struct sl_writer *writer, struct sluice_err *err);
int sl_read_vector(struct sl_conversion *c, enum sl_role role, uint32_t layer, float *out,
                   struct sluice_err *err);

/* convert.c.  Opens the checkpoint SOURCE, the caller's to close: configuration, plan, digest. */
int sl_open_source(struct sl_conversion *c, struct sl_checkpoint **checkpoint, const char *source,
                   struct sluice_err *err);

/*
 * convert.c.  Open: threads, kernels, PROFILE, the recipe's digest; make, opts and dest are set.
 * Run: with source, configuration and plan known too, opens DEST and writes what is missing.
 * Close: releases all that C holds but the checkpoint; also after an error.
 */
int sl_conversion_open(struct sl_conversion *c, const char *profile, struct sluice_err *err);
int sl_conversion_run(struct sl_conversion *c, struct sl_quantize_report *report,
                      struct sluice_err *err);
void sl_conversion_close(struct sl_conversion *c);

/* files.c.  Files that one of the plan is written to: its parts, or 1. */
unsigned sl_file_parts(const struct sl_conversion *c, const struct sl_plan_file *file);

/* files.c.  The name in the container of part PART, and the file itself. */
void sl_file_name(const struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                  char name[64]);
int sl_file_path(const struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                 char path[SL_PATH_MAX], struct sluice_err *err);

/* files.c.  Writes one file of the plan. */
int sl_write_file(struct sl_conversion *c, const struct sl_plan_file *file, struct sluice_err *err);

/* files.c.  Bytes that sl_write_file() will write to PART; for `reference`, reads the scales. */
int sl_measure_file(struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                    uint64_t *bytes, struct sluice_err *err);

/* finish.c.  True for the name of a file that is copied as it is. */
bool sl_is_copied(const char *name);

/* finish.c.  Names of the files to copy from DIR, ascending; the caller frees each, also after an
 * error. */
enum { SL_MAX_COPIED = 64 };
int sl_list_copied(const char *dir, char *names[SL_MAX_COPIED], size_t *n, struct sluice_err *err);

/* finish.c.  Copies the configuration and tokenizer, then writes sluice.json. */
int sl_write_manifest(struct sl_conversion *c, struct sluice_err *err);

/* finish.c.  Adds DIR/NAME as it is on the drive to a manifest's "files". */
int sl_manifest_add(json_t *files, const char *dir, const char *name, struct sluice_err *err);

/* finish.c.  Bytes that sluice.json may take, generously. */
uint64_t sl_manifest_room(const struct sl_conversion *c);

/* room.c.  What a stripe's directories have free and will need, by file system. */
struct sl_room {
    unsigned n;
    struct sl_room_drive {
        dev_t device;
        const char *dir; /* the first on it */
        uint64_t block;  /* what the file system hands out */
        uint64_t free;
        int64_t grown; /* by the files so far; what they replace is subtracted */
        int64_t need;  /* at the worst moment: a file is complete before the old one goes */
    } drives[SL_PARTS_MAX];
    unsigned of[SL_PARTS_MAX]; /* part → drive */
};
void sl_room_open(struct sl_room *r, const struct sl_stripe *s);

/* A file of BYTES comes to the directory of PART; the one at PATH, if any, goes. */
void sl_room_add(struct sl_room *r, unsigned part, uint64_t bytes);
void sl_room_remove(struct sl_room *r, const char *path);

/* SLUICE_ENOSPC when a drive cannot hold what WHAT ("what is left to write") needs. */
int sl_room_verdict(const struct sl_room *r, const char *what, struct sluice_err *err);

/* room.c.  SLUICE_ENOSPC when a drive cannot hold what is left to write. */
int sl_room_check(struct sl_conversion *c, struct sluice_err *err);

/* room.c.  Completes the message of a write that found the drive full while file FROM of the plan
 * (n_files: the manifest) was written: what is missing, what to do.  Returns SLUICE_ENOSPC. */
int sl_room_explain(struct sl_conversion *c, size_t from, struct sluice_err *err);

#endif
