/* SPDX-License-Identifier: MIT */
/*
 * The on-disk format (docs/format.md): names, manifest, opening, verifying.  The writer is in
 * quant/; both sides share what is declared here.
 */
#ifndef SL_CONTAINER_H
#define SL_CONTAINER_H

#include <jansson.h>

#include "runtime/base/file.h"
#include "runtime/container/safetensors.h"
#include "simd/simd.h"

enum {
    SL_FORMAT_VERSION = 1,
    SL_DATA_ALIGN = 4096,     /* data of every file, every expert and its sub-blocks */
    SL_TENSOR_ALIGN = 64,     /* packed matrices inside a file */
    SL_CHUNK_BYTES = 1 << 20, /* experts are read and checksummed in chunks of this */
    SL_PARTS_MAX = 8,         /* an expert file is split in at most this many, one per drive */
};

#define SL_MANIFEST "sluice.json"
#define SL_HEAD_FILE "head.safetensors"

/* "resident-03.safetensors", "experts-03.safetensors", "mtp-61.safetensors". */
void sl_resident_file(char out[64], unsigned layer);
void sl_experts_file(char out[64], unsigned layer);
void sl_mtp_file(char out[64], unsigned layer);

/* True when NAME ends in ".safetensors". */
bool sl_is_tensor_file(const char *name);

/* ---- packing descriptors -------------------------------------------------------------------- */

/* One line of text, e.g. "panel16 lut4 group=32 scale=s8 rows=1536 cols=7168 count=1
 * codebook=-127,-101,…"; docs/format.md has the grammar. */
void sl_packing_print(const struct sl_packing *p, char out[256]);

/* The reverse.  Unknown words are SLUICE_EUNSUPPORTED and named; WHERE ("file: tensor") begins the
 * message. */
int sl_packing_parse(const char *text, const char *where, struct sl_packing *p,
                     struct sluice_err *err);

/* ---- expert blocks -------------------------------------------------------------------------- */

/* Where things lie in one expert's block: gate_up panels at 0, down panels at down_offset. */
struct sl_expert_layout {
    struct sl_packing gate_up; /* rows = 2 · round_up(inner, 16), gate and up panels alternating */
    struct sl_packing down;
    uint64_t down_offset;
    uint64_t stride; /* bytes per expert, a multiple of 4096 */
    uint64_t chunks; /* ceil(stride / 1 MiB) */
};

/* Fills down_offset, stride and chunks from gate_up and down. */
void sl_expert_layout_fill(struct sl_expert_layout *layout);

/* Length of chunk CHUNK of an expert: 1 MiB, the last one shorter. */
size_t sl_chunk_length(const struct sl_expert_layout *layout, uint64_t chunk);

/* ---- parts ---------------------------------------------------------------------------------- */

/*
 * An expert file may be split in N parts, one per drive: chunk i of every expert is chunk i / N of
 * part i % N.  N = 1 is the file as a whole.  Part 0 lies in the container's directory; the others
 * may be symbolic links in it.
 */

/* "experts-03.1.safetensors"; of one part the name of the whole file. */
void sl_experts_part_file(char out[64], unsigned layer, unsigned part, unsigned n_parts);

/* "1/3": what part 1 of 3 says of itself, in its metadata as "part". */
void sl_part_print(char out[16], unsigned part, unsigned n_parts);

/* Chunks, and bytes, of each expert in part PART; 0 when an expert has fewer chunks than parts. */
uint64_t sl_part_chunks(const struct sl_expert_layout *layout, unsigned part, unsigned n_parts);
uint64_t sl_part_stride(const struct sl_expert_layout *layout, unsigned part, unsigned n_parts);

/* ---- manifest ------------------------------------------------------------------------------- */

struct sl_manifest_file {
    const char *name; /* in the container directory */
    uint64_t bytes;
    /* XXH3-64 of the whole file; for an experts file of everything but the tensor `experts`, whose
     * chunks have their own checksums in the file. */
    uint64_t xxh3;
};

struct sl_manifest {
    char path[SL_PATH_MAX];
    const char *profile;
    const char *source_digest;
    const char *tool_version;
    size_t n_files;
    struct sl_manifest_file *files; /* ascending by name */
    json_t *root;                   /* owns the strings; "errors" and "recipe" are read from here */
};

/*
 * Reads DIR/sluice.json: checks its own checksum and version (newer: SLUICE_EVERSION).  A directory
 * with container files but no manifest is an unfinished conversion, and the message says so.
 */
int sl_manifest_open(struct sl_manifest **m, const char *dir, struct sluice_err *err);
void sl_manifest_close(struct sl_manifest **m);
const struct sl_manifest_file *sl_manifest_find(const struct sl_manifest *m, const char *name);

/*
 * What identifies the weights to the bit, however their experts are divided among drives: source,
 * recipe, tool, and every file but those of experts, which follow from them.
 */
int sl_manifest_digest(const struct sl_manifest *m, uint64_t *digest, struct sluice_err *err);

/* In how many parts the experts of LAYER are, by the names of the files; SLUICE_EFORMAT when there
 * are none, not all, or the whole file as well. */
int sl_manifest_parts(const struct sl_manifest *m, unsigned layer, unsigned *n_parts,
                      struct sluice_err *err);

/*
 * Serialises ROOT as the text of sluice.json: indented JSON whose last member is "self", the XXH3
 * of all bytes before it.  Returns a malloc'ed string or NULL.
 */
char *sl_manifest_text(const json_t *root);

/* An error when PATH is a link that leads nowhere: what is missing and how to mend it; 0 for
 * everything else. */
int sl_link_check(const char *path, struct sluice_err *err);

/* ---- checksums ------------------------------------------------------------------------------ */

/* XXH3-64, seed 0. */
uint64_t sl_hash(const void *data, size_t len);

/* XXH3 of a file as struct sl_manifest_file defines it (experts files leave out `experts`).
 * PATH is read in order, in bounded memory. */
int sl_file_hash(const char *path, uint64_t *hash, struct sluice_err *err);

/*
 * Reads the whole of PATH, which must have SIZE bytes, and hashes what was read.  DATA is at a
 * multiple of 4096 bytes and has room for a multiple of as many.  The page cache keeps nothing of
 * the file.
 */
int sl_file_load(const char *path, uint8_t *data, size_t size, uint64_t *hash,
                 struct sluice_err *err);

/* SLUICE_EDAMAGED: PATH is truncated or replaced. */
int sl_wrong_size(const char *path, uint64_t found, uint64_t wanted, struct sluice_err *err);

/* ---- verifying ------------------------------------------------------------------------------ */

struct sl_verify_events {
    void *user;
    void (*progress)(void *user, uint64_t done, uint64_t total);
    /* One problem found; TEXT names file and tensor, or layer, expert and chunk. */
    void (*problem)(void *user, const char *text);
};

/*
 * Reads every byte of the container and checks it; goes on after a problem.  Returns the number of
 * problems, or a negative status when the manifest itself is unusable.  Extra files are ignored.
 */
int64_t sl_container_verify(const char *dir, const struct sl_verify_events *events,
                            struct sluice_err *err);

/*
 * Explains a resident file whose hash is wrong: compares the XXH3 of each tensor with the one in
 * the file's metadata ("xxh3:NAME") and returns SLUICE_EDAMAGED naming the damaged tensors.
 */
int sl_explain_damage(const char *path, struct sluice_err *err);

/* The same comparison for a file that no manifest vouches for yet: 0 when every tensor is intact.
 * Tensors without a checksum of their own (`experts`: its chunks have them) are left out. */
int sl_tensors_check(const char *path, struct sluice_err *err);

#endif
