/* SPDX-License-Identifier: MIT */
/*
 * simd.h: the door of simd/, arithmetic only.  No allocation, files, threads, logging or errors in
 * here: callers validate, allocate and divide the work.
 *
 * simd/ref/ defines every result to the bit; docs/kernels.md states each order of operations.
 * Matrices are [out, in]: y = W x.  "Rows" are outputs, "cols" are inputs.
 */
#ifndef SL_SIMD_H
#define SL_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- packed weights ------------------------------------------------------------------------ */

enum {
    SL_PANEL = 16,      /* rows interleaved in one panel */
    SL_BLOCK = 32,      /* inputs sharing one activation scale; cols are padded to this */
    SL_SUPER = 4,       /* scale groups in one superblock of a panel */
    SL_CODEBOOK = 16,   /* entries of a 4-bit codebook */
    SL_ROW_SCALES = 64, /* bytes at the head of an integer panel: float row_scale[16] */
};

enum sl_code {
    SL_CODE_LUT4 = 1, /* 4-bit index into an int8 codebook */
    SL_CODE_INT8 = 2, /* -127 … 127 */
    SL_CODE_BF16 = 3,
    SL_CODE_F32 = 4,
};

enum sl_scale {
    SL_SCALE_NONE = 0, /* BF16 and F32 weights */
    SL_SCALE_S8 = 1,   /* int8 per group times float per row; the sign serves lopsided codebooks */
    SL_SCALE_F16 = 2,  /* binary16 per group; row scales are 1 */
    SL_SCALE_BF16 = 3, /* bfloat16 per group; row scales are 1 */
};

/*
 * How a matrix is stored.  A matrix is ceil(rows/16) panels, one behind the other; a `count` > 1
 * stacks that many equal matrices (one per attention head).  All little-endian.
 *
 * Integer panel:  float row_scale[16], then superblocks of 4 groups of `group` inputs:
 *     scales  [4][16]            s8 (64 bytes) or f16/bf16 (128 bytes), group-major; unused ones 0
 *     codes   INT8: [inputs/4][16 rows][4 inputs]                     64 bytes per 4 inputs
 *             LUT4: [inputs/8][16 rows][4]  low nibble = input k, high nibble = input k + 4
 *   The last superblock has all its scales but only the codes of the inputs that exist, padded to
 *   a multiple of 32.  Weight = codebook[code] * scale * row_scale.
 * BF16 and F32 panel:  [cols padded to 32][16 rows].
 */
struct sl_packing {
    enum sl_code code;
    enum sl_scale scale;
    uint32_t group; /* 16, 32, 64 or 128 inputs; 0 for BF16 and F32 */
    uint32_t rows;  /* logical, without padding */
    uint32_t cols;
    uint32_t count;               /* matrices stacked, ≥ 1 */
    int8_t codebook[SL_CODEBOOK]; /* LUT4; ascending */
};

struct sl_matrix {
    struct sl_packing packing;
    const uint8_t *data; /* 64-byte aligned */
};

static inline size_t sl_padded_rows(size_t rows)
{
    return (rows + SL_PANEL - 1) / SL_PANEL * SL_PANEL;
}

static inline size_t sl_padded_cols(size_t cols)
{
    return (cols + SL_BLOCK - 1) / SL_BLOCK * SL_BLOCK;
}

static inline size_t sl_panel_count(const struct sl_packing *p)
{
    return ((size_t)p->rows + SL_PANEL - 1) / SL_PANEL;
}

/* Bytes of the scales at the head of one superblock. */
static inline size_t sl_super_scale_bytes(enum sl_scale scale)
{
    return scale == SL_SCALE_S8 ? SL_SUPER * SL_PANEL : SL_SUPER * SL_PANEL * 2;
}

/* Bytes of the codes of N inputs (a multiple of 8) in one panel. */
static inline size_t sl_code_bytes(enum sl_code code, size_t n)
{
    return code == SL_CODE_LUT4 ? n * SL_PANEL / 2 : n * SL_PANEL;
}

/* Bytes of one panel, one matrix, and all `count` matrices; rows, cols, count ≤ 2^24 cannot
 * overflow a matrix of 2^48 weights; callers bound the product. */
size_t sl_panel_bytes(const struct sl_packing *p);
size_t sl_matrix_bytes(const struct sl_packing *p);
size_t sl_packing_bytes(const struct sl_packing *p);

/* True when the members are a combination that the kernels know. */
bool sl_packing_valid(const struct sl_packing *p);

/* Matrix number I of a stack, as a matrix of its own (count = 1). */
struct sl_matrix sl_matrix_at(const struct sl_matrix *m, size_t i);

/* True when the matrix multiplies INT8 activations (else F32). */
static inline bool sl_is_integer(enum sl_code code)
{
    return code == SL_CODE_LUT4 || code == SL_CODE_INT8;
}

/* Number I of the scales of a superblock, in float. */
float sl_scale_at(enum sl_scale kind, const uint8_t *scales, size_t i);

/* Weight (ROW, COL) of matrix I of the stack, in float.  For tests, tools and embeddings. */
float sl_weight_at(const struct sl_matrix *m, size_t i, size_t row, size_t col);

/* ---- activations --------------------------------------------------------------------------- */

/*
 * N vectors, LD inputs apart, in one of two forms:
 *   integer: q int8 [n][ld], scale float [n][ld/32], sum int32 [n][ld/32] (sum of the 32 codes);
 *            ld a multiple of 32, padding zero
 *   float:   f float [n][ld]
 * With ROW, vector t of a call is row[t] of these arrays.
 */
struct sl_acts {
    const int8_t *q;
    const float *scale;
    const int32_t *sum;
    const float *f;
    size_t ld;
    const uint32_t *row; /* NULL: identity */
};

/* The same activations from input COL on (integer form: a multiple of 32), e.g. one head's. */
static inline struct sl_acts sl_acts_at(struct sl_acts x, size_t col)
{
    if (x.q) {
        x.q += col;
        x.scale += col / SL_BLOCK;
        x.sum += col / SL_BLOCK;
    }
    if (x.f)
        x.f += col;
    return x;
}

/* ---- latent KV cache rows ------------------------------------------------------------------ */

enum sl_cache {
    SL_CACHE_INT8 = 1, /* latent INT8 per 128 + F32 scales, rope BF16; index keys INT8 + F32 */
    SL_CACHE_BF16 = 2,
    SL_CACHE_F32 = 3,
};

enum {
    SL_LATENT_GROUP = 128, /* latent values that share one scale */
    SL_KEY_PANEL = 16,     /* index keys interleaved in one panel */
    SL_ATTEND_BLOCK = 512, /* keys whose softmax is computed on its own, then merged in order */
    SL_HEADS_MAX = 8,      /* heads that an attend kernel computes together, */
    SL_COLUMN_MAX = 64,    /* and parts of a value: for sl_attend_scratch() */
};

/* Consecutive rows of a cache. */
struct sl_kv_block {
    uint8_t *latent, *tail;
};

enum { SL_ONE_BLOCK = 63 }; /* a `shift`: all rows are in block 0 */

/*
 * One layer's cache as the kernels see it, in blocks of 2^shift rows: row s is row s mod 2^shift of
 * block s >> shift.  A row of `latent` is latent_dim codes, rows being latent_stride bytes apart; a
 * row of `tail` is the scales float[ceil(latent_dim/128)] (INT8 only) and then the rope part (BF16;
 * F32 in an F32 cache), rows tail_stride bytes apart.
 */
struct sl_kv {
    enum sl_cache type;
    uint32_t latent_dim;
    uint32_t rope_dim;
    uint32_t shift;
    struct sl_kv_block *block;
    size_t latent_stride;
    size_t tail_stride;
};

/* The place of row S in its block. */
static inline size_t sl_kv_row(const struct sl_kv *kv, size_t s)
{
    return s & (((size_t)1 << kv->shift) - 1);
}

/* How many of the N rows from S on are in its block. */
static inline size_t sl_kv_beside(const struct sl_kv *kv, size_t s, size_t n)
{
    size_t left = ((size_t)1 << kv->shift) - sl_kv_row(kv, s);
    return n < left ? n : left;
}

static inline uint8_t *sl_kv_latent(const struct sl_kv *kv, size_t s)
{
    return kv->block[s >> kv->shift].latent + sl_kv_row(kv, s) * kv->latent_stride;
}

static inline uint8_t *sl_kv_tail(const struct sl_kv *kv, size_t s)
{
    return kv->block[s >> kv->shift].tail + sl_kv_row(kv, s) * kv->tail_stride;
}

static inline size_t sl_latent_groups(size_t latent_dim)
{
    return (latent_dim + SL_LATENT_GROUP - 1) / SL_LATENT_GROUP;
}

static inline size_t sl_kv_latent_bytes(enum sl_cache type, size_t latent_dim)
{
    return latent_dim * (type == SL_CACHE_INT8 ? 1 : type == SL_CACHE_BF16 ? 2 : 4);
}

static inline size_t sl_kv_tail_bytes(enum sl_cache type, size_t latent_dim, size_t rope_dim)
{
    return (type == SL_CACHE_INT8 ? 4 * sl_latent_groups(latent_dim) : 0) +
           rope_dim * (type == SL_CACHE_F32 ? 4 : 2);
}

/*
 * The absorbed queries of some heads of one token.  For an INT8 cache the latent part is INT8 per
 * 128 (q, scale), else float (f); the rope part is float always.
 */
struct sl_queries {
    uint32_t heads;
    const int8_t *q;    /* [heads][latent_dim] */
    const float *scale; /* [heads][ceil(latent_dim/128)] */
    const float *f;     /* [heads][latent_dim] */
    const float *rope;  /* [heads][rope_dim], heads being rope_ld floats apart */
    size_t rope_ld;
};

/* What attention over one block of rows leaves for each head: with p_s = exp(score_s − max), the
 * unnormalised out = Σ p_s c_s, and sum = Σ p_s. */
struct sl_attended {
    float *out; /* [heads][latent_dim]; NULL: only the next two are wanted */
    float *max; /* [heads] */
    float *sum; /* [heads] */
};

/* How many of the HEADS of one of TOKENS tokens to give to a call of attend: as many as possible
 * share the work of bringing rows into order, but every one of THREADS is to have a call. */
static inline size_t sl_attend_heads(size_t heads, size_t tokens, size_t threads)
{
    size_t groups = (threads + tokens - 1) / tokens, each = (heads + groups - 1) / groups;
    size_t whole = (each + SL_HEADS_MAX - 1) / SL_HEADS_MAX * SL_HEADS_MAX;
    return whole < heads ? whole : heads;
}

/* Bytes of scratch, 64-byte aligned, that attend wants for a cache: the rows of one block in the
 * order of computing, and the weights of a few heads. */
size_t sl_attend_scratch(const struct sl_kv *kv);

/* Bytes of one panel of 16 index keys: codes [dim/4][16][4] + float scale[16] for INT8, else
 * [dim][16] elements.  DIM is a multiple of 4. */
static inline size_t sl_key_panel_bytes(enum sl_cache type, size_t dim)
{
    return type == SL_CACHE_INT8 ? dim * SL_KEY_PANEL + 4 * SL_KEY_PANEL
                                 : dim * SL_KEY_PANEL * (type == SL_CACHE_BF16 ? 2 : 4);
}

/* One token's index query: heads × dim, INT8 (q, with the query scales folded into weight) or
 * float (f); weight float[heads], signed, all constants folded in. */
struct sl_index_query {
    const int8_t *q;
    const float *f;
    const float *weight;
    uint32_t heads;
    uint32_t dim;
};

/* ---- kernels ------------------------------------------------------------------------------- */

/*
 * y[t * ldy + r] = W[r] · x[t] for panels [panel0, panel1) and t in [0, n); only rows < rows are
 * written.  Integer matrices read x.q/scale/sum, float ones x.f.
 */
typedef void sl_gemm_fn(const struct sl_matrix *w, size_t panel0, size_t panel1, struct sl_acts x,
                        size_t n, float *y, size_t ldy);

/*
 * Panel number PANEL of an integer matrix in BF16, for products that are not ours: the weight of
 * row r and input k goes to out[k / 2 * stride + 2 * r + k % 2], k with its padding.  STRIDE: from
 * one pair of inputs to the next, ≥ 32.  Every NaN is 0x7fc0.
 */
typedef void sl_weights_bf16_fn(const struct sl_matrix *w, size_t panel, size_t stride,
                                uint16_t *out);

/* INT8 codes of x[0..n): per 32 inputs a scale = max|x|/127 and the sum of the codes.  The tail of
 * the last block is zero; n inputs are read, round_up(n, 32) codes are written. */
typedef void sl_quantize_acts_fn(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum);

/* INT8 codes of x[0..n) with one scale per GROUP values. */
typedef void sl_quantize_groups_fn(const float *x, size_t n, size_t group, int8_t *q, float *scale);

/* y = w · x · 1/sqrt(mean(x²) + eps).  y may be x. */
typedef void sl_rmsnorm_fn(const float *x, const float *w, float eps, size_t n, float *y);

/* y = w · (x − mean) / sqrt(var + eps) + b.  y may be x. */
typedef void sl_layernorm_fn(const float *x, const float *w, const float *b, float eps, size_t n,
                             float *y);

/* y[i] = silu(gate[i]) · up[i], in panels: gate rows and up rows alternate by 16, as the packed
 * gate_up matrix leaves them; GATE_UP has round_up(n, 16) · 2 floats. */
typedef void sl_swiglu_fn(const float *gate_up, size_t n, float *y);

/* y[i] = fmaf(a, x[i], y[i]);  y[i] = y[i] + x[i] */
typedef void sl_axpy_fn(float a, const float *x, size_t n, float *y);
typedef void sl_add_fn(const float *x, size_t n, float *y);

/* y[i] = 1 / (1 + exp(−x[i])) */
typedef void sl_sigmoid_fn(const float *x, size_t n, float *y);

/* Rotates x[0..2·pairs) by the table cos, sin [pairs]: pairs (2i, 2i+1), or (i, i + pairs). */
typedef void sl_rope_fn(float *x, const float *cosine, const float *sine, size_t pairs);

/* Walsh–Hadamard transform in Sylvester order, scaled by 1/sqrt(n).  n: a power of two. */
typedef void sl_hadamard_fn(float *x, size_t n);

/* Stores the index key x[dim] as key number S of KEYS, an array of key panels. */
typedef void sl_index_store_fn(enum sl_cache type, const float *x, size_t dim, uint8_t *keys,
                               size_t s);

/*
 * score[s] = Σ_h weight[h] · relu(query[h] · key[s])  for s in [s0, s1); s0 is a multiple of 16 and
 * score may be written up to the next multiple of 16 behind s1.
 */
typedef void sl_index_score_fn(enum sl_cache type, const struct sl_index_query *query,
                               const uint8_t *keys, size_t s0, size_t s1, float *score);

/*
 * The k largest of score[0..n), as ascending indices into out[0..k).  Higher score first, then
 * lower index; NaN counts as −infinity, −0 as 0.  k ≤ n.
 */
typedef void sl_topk_fn(const float *score, size_t n, size_t k, uint32_t *out);

/*
 * out[g] = the largest of score[g], score[g + groups], … for g in [0, groups); −infinity where
 * there is no number.  GROUPS is a multiple of 16.  The k-th largest of these is never above the
 * k-th largest score: a bar for the next.
 */
typedef void sl_group_max_fn(const float *score, size_t n, size_t groups, float *out);

/* The scores that are ≥ BAR, and their indices, ascending.  Returns how many; INDEX and VALUE have
 * room for n. */
typedef size_t sl_reach_fn(const float *score, size_t n, float bar, uint32_t *index, float *value);

/* Stores one token's latent and rope part as row S of a cache. */
typedef void sl_kv_store_fn(const struct sl_kv *kv, size_t s, const float *latent,
                            const float *rope);

/*
 * Attention of some heads over up to SL_ATTEND_BLOCK cache rows: rows index[0..n), or s0 … s0+n−1
 * when INDEX is NULL.  SCALE multiplies the scores.  The more heads a call has, the less it costs
 * to bring the rows into order.
 */
typedef void sl_attend_fn(const struct sl_kv *kv, const struct sl_queries *queries, float scale,
                          const uint32_t *index, size_t s0, size_t n,
                          const struct sl_attended *result, void *scratch);

/* Merges block result b into a: the softmax over both.  Then *_finish: out[i] /= sum. */
typedef void sl_attend_merge_fn(float *out_a, float *max_a, float *sum_a, const float *out_b,
                                float max_b, float sum_b, size_t n);
typedef void sl_attend_finish_fn(float *out, float sum, size_t n);

/* out[i] = e4m3(code[i]) · scale; returns false when a code is NaN (0x7f, 0xff). */
typedef bool sl_fp8_decode_fn(const uint8_t *code, size_t n, float scale, float *out);
typedef void sl_bf16_decode_fn(const uint16_t *code, size_t n, float *out);

/*
 * The best scale for one group: the s and codes (indices for LUT4, values for INT8) that make
 * Σ weight_i (x_i − s·value(code_i))² small.  WEIGHT may be NULL, and CODE
 * where only s is wanted.  Returns s.
 */
struct sl_fit {
    const float *x;
    const float *weight;
    size_t n;               /* ≤ 128 */
    const int8_t *codebook; /* NULL: INT8 */
};
typedef float sl_fit_scale_fn(const struct sl_fit *fit, int8_t *code);

/* Codes nearest to x / s, and the weighted squared error they leave. */
typedef float sl_fit_codes_fn(const struct sl_fit *fit, float s, int8_t *code);

/* Every kernel. */
struct sl_ops {
    sl_gemm_fn *gemm;
    sl_weights_bf16_fn *weights_bf16;
    sl_quantize_acts_fn *quantize_acts;
    sl_quantize_groups_fn *quantize_groups;
    sl_rmsnorm_fn *rmsnorm;
    sl_layernorm_fn *layernorm;
    sl_swiglu_fn *swiglu;
    sl_axpy_fn *axpy;
    sl_add_fn *add;
    sl_sigmoid_fn *sigmoid;
    sl_rope_fn *rope_interleaved;
    sl_rope_fn *rope_half;
    sl_hadamard_fn *hadamard;
    sl_index_store_fn *index_store;
    sl_index_score_fn *index_score;
    sl_topk_fn *topk;
    sl_group_max_fn *group_max;
    sl_reach_fn *reach;
    sl_kv_store_fn *kv_store;
    sl_attend_fn *attend;
    sl_attend_merge_fn *attend_merge;
    sl_attend_finish_fn *attend_finish;
    sl_fp8_decode_fn *fp8_decode;
    sl_bf16_decode_fn *bf16_decode;
    sl_fit_scale_fn *fit_scale;
    sl_fit_codes_fn *fit_codes;
};

/*
 * What a rung can do at most: loops of the instructions that its kernels spend their time with, on
 * data in registers, and of loads and stores.  To measure kernels against; no kernels.
 */
struct sl_peaks {
    /* sum[r] = N times Σ_i w[4r + i] · x[i], modulo 2^32, by 64 N multiply-adds. */
    void (*dot)(const int8_t w[64], const int8_t x[4], size_t n, uint32_t sum[SL_PANEL]);
    /* sum[i] = N times a[i] · b, added by N fused multiply-adds in any order. */
    void (*fma)(const float a[SL_PANEL], float b, size_t n, float sum[SL_PANEL]);
    /* The exclusive or of all 32-bit words of N bytes; AHEAD: for data in memory, which are fetched
     * before they are read. */
    uint32_t (*read)(const void *p, size_t n, bool ahead);
    /* Writes WORD all over N bytes, 4-byte aligned. */
    void (*write)(void *p, size_t n, uint32_t word);
};

enum {
    SL_PEAK_STEP = 240,  /* N of dot and fma is a multiple of this */
    SL_PEAK_BYTES = 256, /* N of read and write is a multiple of this */
};

/*
 * A rung of the ladder: the kernels for one bundle of CPU features.  Slots that a rung does nothing
 * for hold those of the rung below.
 */
struct sl_rung {
    const char *name; /* "ref", "avx2", … */
    const struct sl_ops *ops;
    const struct sl_peaks *peaks;
};

/* Rung number I of those that this build has and that CPU and operating system can run; 0 is "ref",
 * the last is the best; NULL behind it. */
const struct sl_rung *sl_rung_at(size_t i);

/* The rung called NAME, or the best one when NAME is NULL; NULL when it cannot run here. */
const struct sl_rung *sl_rung_find(const char *name);

/* Name of kernel number I in the order of struct sl_ops, NULL past the last; *rung is the name of
 * the rung whose code OPS has for it. */
const char *sl_kernel_name(const struct sl_ops *ops, size_t i, const char **rung);

/* ---- scalar mathematics with fixed bits (double in, for tables built once) ------------------ */

/* exp(x) in float: |error| ≤ 1 ulp; 0 below −104, +inf above 88.73, NaN for NaN. */
float sl_expf(float x);

/* Cosine and sine of a float angle, |x| ≤ 2^24, correctly rounded but for rare 1-ulp cases. */
void sl_sincosf(float x, float *sine, float *cosine);

/* Natural logarithm, and b^e (b > 0), for tables: in double, |relative error| < 1e-14. */
double sl_log(double x);
double sl_pow(double b, double e);

/* ---- conversions --------------------------------------------------------------------------- */

static inline float sl_from_bf16(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t sl_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    if ((v.u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(v.u >> 16 | 0x40);
    return (uint16_t)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
}

float sl_from_f16(uint16_t h);
uint16_t sl_to_f16(float f);

#endif
