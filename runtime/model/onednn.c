/* SPDX-License-Identifier: MIT */
/*
 * The only file that knows oneDNN, 2.x and 3.x.  Two multipliers:
 *
 * F32, for the evaluator's reference.  Panels are unpacked part by part into a plain matrix, which
 * dnnl_sgemm() multiplies, as fast as their matmul primitive (docs/kernels.md).  It allocates
 * inside.
 *
 * BF16, for sessions.  Integer panels are unpacked tile by tile into the layout that oneDNN's BF16
 * kernels read; primitives made at opening multiply them, in memory of the session.
 *
 * Its AVX2 and AVX-512 kernels set the stack pointer to a buffer on the heap (seen in 2.6.3; issue
 * 4845 of oneDNN, mended by its pull request 4855 in March 2026).  When a signal handler interrupts
 * one, the system writes the handler's frame, of some KiB, over what lies below the buffer, and a
 * later free() aborts.  So the team is lent without signals (runtime/base/team.h).
 */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "runtime/model/onednn.h"

#include <stdlib.h>

#include "runtime/base/err.h"

#ifdef HAVE_ONEDNN

#include <dnnl.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/model/tensors.h"

/* ---- F32: parts of float matrices ----------------------------------------------------------- */

/*
 * A part is ROWS × COLS weights (4 MiB): larger ones leave the cache, with smaller ones threads
 * wait for each other more often.  Vectors that lie apart are gathered VECTORS at a time.
 */
enum { ROWS = 512, COLS = 2048, VECTORS = 256, GRAIN = 32 };

struct onednn {
    struct sl_multiplier face; /* first, so that its address is that of the whole */
    char name[32];
    float *weights;  /* [COLS][ROWS] */
    float *gathered; /* [VECTORS][COLS] */
};

/* Rows × columns of one matrix, and vectors [first, first + n) that they meet. */
struct part {
    struct onednn *d;
    const struct sl_team *team;
    struct sl_matrix w;
    struct sl_acts x;
    size_t row, rows; /* row is a multiple of 16 */
    size_t col, cols;
    size_t first, n;
};

/* Columns [begin, end) of the part, of all its panels.  The padding of the last panel comes along
 * and is not looked at. */
static void unpack_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct part *p = arg;
    bool bf16 = p->w.packing.code == SL_CODE_BF16;
    size_t bytes = SL_PANEL * (bf16 ? sizeof(uint16_t) : sizeof(float));
    (void)thread;
    for (size_t r = 0; r < p->rows; r += SL_PANEL) {
        const uint8_t *panel = p->w.data + (p->row + r) / SL_PANEL * sl_panel_bytes(&p->w.packing);
        for (size_t k = begin; k < end; k++) {
            const void *from = panel + (p->col + k) * bytes;
            float *to = p->d->weights + k * ROWS + r;
            if (!bf16)
                memcpy(to, from, SL_PANEL * sizeof(float));
            for (size_t i = 0; bf16 && i < SL_PANEL; i++)
                to[i] = sl_from_bf16(((const uint16_t *)from)[i]);
        }
    }
}

static void gather_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct part *p = arg;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        memcpy(p->d->gathered + t * COLS, p->x.f + p->x.row[p->first + t] * p->x.ld + p->col,
               p->cols * sizeof(float));
}

/* y = W x of the part, or y += W x behind its first columns. */
static bool multiply_part(struct part *p, float *y, size_t ldy)
{
    const float *x = p->x.f + p->first * p->x.ld + p->col;
    size_t ldx = p->x.ld;
    if (p->x.row) {
        sl_team_run(p->team, p->n, GRAIN, gather_work, p);
        x = p->d->gathered;
        ldx = COLS;
    }
    return dnnl_sgemm('N', 'N', (dnnl_dim_t)p->n, (dnnl_dim_t)p->rows, (dnnl_dim_t)p->cols, 1, x,
                      (dnnl_dim_t)ldx, p->d->weights, ROWS, p->col > 0, y + p->first * ldy + p->row,
                      (dnnl_dim_t)ldy) == dnnl_success;
}

/* One matrix of a product's stack. */
static bool multiply_matrix(struct part p, size_t n, float *y, size_t ldy)
{
    size_t rows = p.w.packing.rows, cols = p.w.packing.cols, step = p.x.row ? VECTORS : n;
    for (p.row = 0; p.row < rows; p.row += ROWS) {
        p.rows = sl_min(ROWS, rows - p.row);
        for (p.col = 0; p.col < cols; p.col += COLS) {
            p.cols = sl_min(COLS, cols - p.col);
            sl_team_run(p.team, p.cols, GRAIN, unpack_work, &p);
            for (p.first = 0; p.first < n; p.first += step) {
                p.n = sl_min(step, n - p.first);
                if (!multiply_part(&p, y, ldy))
                    return false;
            }
        }
    }
    return true;
}

static bool multiply(struct sl_multiplier *m, const struct sl_team *team,
                     const struct sl_product *p)
{
    if (sl_is_integer(p->w->packing.code) || p->n < SL_ONEDNN_VECTORS)
        return false;
    struct part part = {.d = (struct onednn *)m, .team = team};
    bool done = true;
    struct sl_lent lent = sl_team_lend(team);
    for (size_t i = 0; done && i < p->w->packing.count; i++) {
        part.w = sl_matrix_at(p->w, i);
        part.x = sl_acts_at(p->x, i * p->x_step);
        done = multiply_matrix(part, p->n, p->y + i * p->y_step, p->ldy);
    }
    sl_team_take_back(&lent);
    return done;
}

static void close_f32(struct sl_multiplier *m)
{
    struct onednn *d = (struct onednn *)m;
    free(d->weights);
    free(d->gathered);
    free(d);
}

static void print_version(char *out, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, size, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

int sl_onednn_open(struct sl_multiplier **m, struct sluice_err *err)
{
    size_t weights = sizeof(float) * ROWS * COLS, gathered = sizeof(float) * VECTORS * COLS;
    struct onednn *d = calloc(1, sizeof *d);
    *m = (struct sl_multiplier *)d;
    if (d) {
        print_version(d->name, sizeof d->name);
        d->face = (struct sl_multiplier){.name = d->name, .multiply = multiply, .close = close_f32};
        d->weights = aligned_alloc(64, weights);
        d->gathered = aligned_alloc(64, gathered);
    }
    if (d && d->weights && d->gathered)
        return 0;
    sl_onednn_close(m);
    return sl_fail_nomem(err, "oneDNN's parts of matrices", weights + gathered);
}

/* ---- BF16: tiles of integer matrices -------------------------------------------------------- */

/*
 * A tile is some rows, in blocks of TILE_BLOCK, and all columns: about TILE_WEIGHTS weights (8 MiB
 * in BF16, for the caches of all threads together), laid out [rows/64][cols/2][64][2].  A call
 * multiplies it by one of `calls` vectors, of which the last ones may be padding.
 */
enum { TILE_WEIGHTS = 4 << 20, TILE_BLOCK = 64, CALLS = 3, VECTOR_GRAIN = 8 };
static const size_t calls[CALLS] = {256, 64, 16};
static const dnnl_format_tag_t tile_layout = dnnl_BA16a64b2a;

/* A primitive, and its arguments without their memory. */
struct call {
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y, scratch;
};

/* Matrices of one shape. */
struct shape {
    uint32_t rows, cols; /* without padding */
    size_t tile;         /* rows */
    struct call call[CALLS];
};

struct packed {
    struct sl_multiplier face; /* first, so that its address is that of the whole */
    char name[96];
    const struct sl_ops *ops;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    size_t chunk;
    size_t shapes;
    struct shape shape[SL_N_ROLES];
    size_t scratch_bytes;
    /* of the session's arena: */
    uint16_t *x;       /* [chunk, to a multiple of 16][padded cols] */
    uint16_t *weights; /* a tile */
    float *y;          /* [256][tile] */
    uint8_t *scratch;
};

/* One matrix of a product's stack. */
struct job {
    struct packed *d;
    const struct sl_team *team;
    const struct shape *shape;
    size_t cols; /* with padding */
    struct sl_matrix w;
    struct sl_acts x;
    size_t n;
    float *y;
    size_t ldy;
    size_t row, rows;    /* the tile at hand */
    size_t first, count; /* the vectors at hand */
};

/* Whole codes times scales.  The rounding leaves the NaN that 0 · infinity gives a NaN. */
static void decode_x_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct job *j = arg;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        size_t v = j->x.row ? j->x.row[t] : t;
        const int8_t *q = j->x.q + v * j->x.ld;
        const float *scale = j->x.scale + v * (j->x.ld / SL_BLOCK);
        uint16_t *to = j->d->x + t * j->cols;
        for (size_t b = 0; b < j->cols; b += SL_BLOCK)
            for (size_t i = b; i < b + SL_BLOCK; i++) {
                union {
                    float f;
                    uint32_t u;
                } value = {.f = (float)q[i] * scale[b / SL_BLOCK]};
                to[i] = (uint16_t)((value.u + 0x7fff + (value.u >> 16 & 1)) >> 16);
            }
    }
}

/* Panels [begin, end) of the tile.  Rows behind the matrix' last keep what was there. */
static void decode_w_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct job *j = arg;
    size_t each = TILE_BLOCK / SL_PANEL, panel = j->row / SL_PANEL;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        uint16_t *block = j->d->weights + i / each * TILE_BLOCK * j->cols;
        j->d->ops->weights_bf16(&j->w, panel + i, 2 * TILE_BLOCK, block + i % each * 2 * SL_PANEL);
    }
}

static void copy_y_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct job *j = arg;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        memcpy(j->y + (j->first + t) * j->ldy + j->row, j->d->y + t * j->shape->tile,
               j->rows * sizeof(float));
}

static bool run_call(const struct call *c, const struct packed *d, uint16_t *x)
{
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, c->x},
                                    {DNNL_ARG_WEIGHTS, c->w},
                                    {DNNL_ARG_DST, c->y},
                                    {DNNL_ARG_SCRATCHPAD, c->scratch}};
    return dnnl_memory_set_data_handle(c->x, x) == dnnl_success &&
           dnnl_memory_set_data_handle(c->w, d->weights) == dnnl_success &&
           dnnl_memory_set_data_handle(c->y, d->y) == dnnl_success &&
           dnnl_memory_set_data_handle(c->scratch, d->scratch) == dnnl_success &&
           dnnl_primitive_execute(c->primitive, d->stream, 4, args) == dnnl_success &&
           dnnl_stream_wait(d->stream) == dnnl_success;
}

/* The tile at hand times all vectors. */
static bool multiply_tile(struct job *j)
{
    for (j->first = 0; j->first < j->n; j->first += j->count) {
        size_t left = j->n - j->first, i = 0;
        while (i < CALLS - 1 && calls[i] > left)
            i++;
        j->count = sl_min(calls[i], left);
        if (!run_call(&j->shape->call[i], j->d, j->d->x + j->first * j->cols))
            return false;
        sl_team_run(j->team, j->count, VECTOR_GRAIN, copy_y_work, j);
    }
    return true;
}

static bool multiply_tiles(struct job *j)
{
    sl_team_run(j->team, j->n, VECTOR_GRAIN, decode_x_work, j);
    for (j->row = 0; j->row < j->shape->rows; j->row += j->rows) {
        j->rows = sl_min(j->shape->tile, j->shape->rows - j->row);
        sl_team_run(j->team, sl_ceil_div(j->rows, SL_PANEL), 1, decode_w_work, j);
        if (!multiply_tile(j))
            return false;
    }
    return true;
}

static const struct shape *find_shape(const struct packed *d, uint32_t rows, uint32_t cols)
{
    for (size_t i = 0; i < d->shapes; i++)
        if (d->shape[i].rows == rows && d->shape[i].cols == cols)
            return &d->shape[i];
    return NULL;
}

static bool multiply_packed(struct sl_multiplier *m, const struct sl_team *team,
                            const struct sl_product *p)
{
    struct packed *d = (struct packed *)m;
    const struct sl_packing *packing = &p->w->packing;
    const struct shape *shape = find_shape(d, packing->rows, packing->cols);
    if (!sl_is_integer(packing->code) || !shape || p->n < SL_ONEDNN_VECTORS || p->n > d->chunk)
        return false;
    struct job job = {.d = d, .team = team, .shape = shape, .n = p->n, .ldy = p->ldy};
    bool done = true;
    struct sl_lent lent = sl_team_lend(team);
    job.cols = sl_padded_cols(packing->cols);
    for (size_t i = 0; done && i < packing->count; i++) {
        job.w = sl_matrix_at(p->w, i);
        job.x = sl_acts_at(p->x, i * p->x_step);
        job.y = p->y + i * p->y_step;
        done = multiply_tiles(&job);
    }
    sl_team_take_back(&lent);
    return done;
}

/* y[n][rows] = x[n][cols] · w, BF16 times BF16 to F32. */
static dnnl_status_t describe(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                              const_dnnl_primitive_attr_t attr, const dnnl_dims_t x_dims,
                              const dnnl_dims_t w_dims, const dnnl_dims_t y_dims)
{
    dnnl_status_t status;
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_t x = NULL, w = NULL, y = NULL;
    status = dnnl_memory_desc_create_with_tag(&x, 2, x_dims, dnnl_bf16, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_memory_desc_create_with_tag(&w, 2, w_dims, dnnl_bf16, tile_layout);
    if (status == dnnl_success)
        status = dnnl_memory_desc_create_with_tag(&y, 2, y_dims, dnnl_f32, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_matmul_primitive_desc_create(pd, engine, x, w, NULL, y, attr);
    dnnl_memory_desc_destroy(x);
    dnnl_memory_desc_destroy(w);
    dnnl_memory_desc_destroy(y);
#else
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t matmul;
    status = dnnl_memory_desc_init_by_tag(&x, 2, x_dims, dnnl_bf16, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&w, 2, w_dims, dnnl_bf16, tile_layout);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&y, 2, y_dims, dnnl_f32, dnnl_ab);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&matmul, &x, &w, NULL, &y);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(pd, &matmul, attr, engine, NULL);
#endif
    return status;
}

static bool make_memory(dnnl_memory_t *memory, const struct packed *d,
                        const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_memory_create(memory, dnnl_primitive_desc_query_md(pd, what, 0), d->engine,
                              DNNL_MEMORY_NONE) == dnnl_success;
}

/* The implementation's name goes behind the version, and its scratch memory is counted. */
static void note_call(struct packed *d, const_dnnl_primitive_desc_t pd, const char *name)
{
    size_t len = strlen(d->name);
    if (!strchr(d->name, ','))
        snprintf(d->name + len, sizeof d->name - len, ", %s", name);
    d->scratch_bytes = sl_max(
        d->scratch_bytes,
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0)));
}

/* False where oneDNN has nothing faster than its reference: its kernels for blocked layouts are
 * called "brg…" and then their instruction set. */
static bool make_call(struct call *c, struct packed *d, const_dnnl_primitive_attr_t attr, size_t n,
                      const struct shape *s)
{
    dnnl_dim_t vectors = (dnnl_dim_t)n, rows = (dnnl_dim_t)s->tile;
    dnnl_dim_t cols = (dnnl_dim_t)sl_padded_cols(s->cols);
    const dnnl_dims_t x = {vectors, cols}, w = {cols, rows}, y = {vectors, rows};
    dnnl_primitive_desc_t pd = NULL;
    const char *name = "";
    if (describe(&pd, d->engine, attr, x, w, y) != dnnl_success)
        return false;
    bool made = dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name) ==
                    dnnl_success &&
                strncmp(name, "brg", 3) == 0 &&
                dnnl_primitive_create(&c->primitive, pd) == dnnl_success &&
                make_memory(&c->x, d, pd, dnnl_query_src_md) &&
                make_memory(&c->w, d, pd, dnnl_query_weights_md) &&
                make_memory(&c->y, d, pd, dnnl_query_dst_md) &&
                make_memory(&c->scratch, d, pd, dnnl_query_scratchpad_md);
    if (made)
        note_call(d, pd, name);
    dnnl_primitive_desc_destroy(pd);
    return made;
}

static void close_shape(struct shape *s)
{
    for (size_t i = 0; i < CALLS; i++) {
        struct call *c = &s->call[i];
        dnnl_memory_t memory[] = {c->x, c->w, c->y, c->scratch};
        for (size_t k = 0; k < sizeof memory / sizeof *memory; k++)
            if (memory[k])
                dnnl_memory_destroy(memory[k]);
        if (c->primitive)
            dnnl_primitive_destroy(c->primitive);
    }
}

/* A shape that oneDNN has no kernel for is left to ours. */
static void add_shape(struct packed *d, const_dnnl_primitive_attr_t attr, struct sl_shape matrix)
{
    struct shape s = {.rows = matrix.rows, .cols = matrix.cols};
    size_t cols = sl_padded_cols(s.cols), tiles = sl_ceil_div(s.rows * cols, TILE_WEIGHTS);
    bool made = true;
    s.tile = sl_round_up(sl_ceil_div(s.rows, tiles), TILE_BLOCK);
    for (size_t i = 0; made && i < CALLS; i++)
        made = make_call(&s.call[i], d, attr, calls[i], &s);
    if (made)
        d->shape[d->shapes++] = s;
    else
        close_shape(&s);
}

/* True for matrices that profiles pack as integers and that meet whole chunks. */
static bool is_multiplied(const struct sl_config *c, enum sl_role role)
{
    enum sl_class class = sl_tensor_rules()[role].class;
    bool found = false;
    for (uint32_t layer = 0; layer < c->layers + c->mtp_layers; layer++)
        found = found || sl_layer_has(c, layer, role);
    return found && class != SL_CLASS_VECTOR && class != SL_CLASS_EXACT;
}

static void add_shapes(struct packed *d, const struct sl_config *c)
{
    dnnl_primitive_attr_t attr = NULL;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success)
        return;
    if (dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success)
        for (int role = 0; role < SL_N_ROLES; role++) {
            struct sl_shape s = sl_tensor_shape_of(c, (enum sl_role)role);
            if (is_multiplied(c, (enum sl_role)role) && !find_shape(d, s.rows, s.cols))
                add_shape(d, attr, s);
        }
    dnnl_primitive_attr_destroy(attr);
}

static void close_packed(struct sl_multiplier *m)
{
    struct packed *d = (struct packed *)m;
    for (size_t i = 0; i < d->shapes; i++)
        close_shape(&d->shape[i]);
    if (d->stream)
        dnnl_stream_destroy(d->stream);
    if (d->engine)
        dnnl_engine_destroy(d->engine);
    free(d);
}

int sl_onednn_open_packed(struct sl_multiplier **m, const struct sl_config *config, size_t chunk,
                          const struct sl_compute *c, struct sluice_err *err)
{
    struct packed *d = calloc(1, sizeof *d);
    *m = (struct sl_multiplier *)d;
    if (!d)
        return sl_fail_nomem(err, "oneDNN's products", sizeof *d);
    d->face = (struct sl_multiplier){
        .name = d->name, .multiply = multiply_packed, .close = close_packed};
    d->ops = c->ops;
    d->chunk = chunk;
    print_version(d->name, sizeof d->name);
    struct sl_lent lent = sl_team_lend(&c->team); /* primitives are made for so many threads */
    if (dnnl_engine_create(&d->engine, dnnl_cpu, 0) == dnnl_success &&
        dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags) == dnnl_success)
        add_shapes(d, config);
    sl_team_take_back(&lent);
    if (d->shapes > 0)
        return 0;
    int status = sl_fail(err, SLUICE_EUNSUPPORTED,
                         "%s has no fast BF16 products for this processor, which wants AMX or "
                         "AVX512_BF16 for them; the kernels (--dense kernels) are faster here",
                         d->name);
    sl_onednn_close(m);
    return status;
}

void sl_onednn_take(struct sl_multiplier *m, struct sl_arena *arena)
{
    struct packed *d = (struct packed *)m;
    size_t cols = 0, tile = 0, weights = 0;
    for (size_t i = 0; i < d->shapes; i++) {
        const struct shape *s = &d->shape[i];
        cols = sl_max(cols, sl_padded_cols(s->cols));
        tile = sl_max(tile, s->tile);
        weights = sl_max(weights, s->tile * sl_padded_cols(s->cols));
    }
    d->x = sl_arena_take(arena, sl_round_up(d->chunk, calls[CALLS - 1]) * cols, sizeof *d->x);
    d->weights = sl_arena_take(arena, weights, sizeof *d->weights);
    d->y = sl_arena_take(arena, calls[0] * tile, sizeof *d->y);
    d->scratch = sl_arena_take(arena, d->scratch_bytes, 1);
}

#else

static int no_onednn(struct sl_multiplier **m, struct sluice_err *err)
{
    *m = NULL;
    return sl_fail(err, SLUICE_EUNSUPPORTED,
                   "this build has no oneDNN; install it (Debian: libdnnl-dev) and build again "
                   "after ../configure --with-onednn");
}

int sl_onednn_open(struct sl_multiplier **m, struct sluice_err *err)
{
    return no_onednn(m, err);
}

int sl_onednn_open_packed(struct sl_multiplier **m, const struct sl_config *config, size_t chunk,
                          const struct sl_compute *c, struct sluice_err *err)
{
    (void)config, (void)chunk, (void)c;
    return no_onednn(m, err);
}

void sl_onednn_take(struct sl_multiplier *m, struct sl_arena *arena)
{
    (void)m, (void)arena;
}

#endif

void sl_onednn_close(struct sl_multiplier **m)
{
    if (*m)
        (*m)->close(*m);
    *m = NULL;
}
