/* SPDX-License-Identifier: MIT */
/*
 * The only file that knows oneDNN.  Panels are unpacked part by part into a plain matrix, which
 * dnnl_sgemm() multiplies: a function that 2.x and 3.x have alike, as fast as their matmul
 * primitive (docs/kernels.md).  It allocates inside, so sessions must not use it.
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

int sl_onednn_open(struct sl_multiplier **m, struct sluice_err *err)
{
    size_t weights = sizeof(float) * ROWS * COLS, gathered = sizeof(float) * VECTORS * COLS;
    struct onednn *d = calloc(1, sizeof *d);
    *m = (struct sl_multiplier *)d;
    if (d) {
        const dnnl_version_t *v = dnnl_version();
        snprintf(d->name, sizeof d->name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
        d->face = (struct sl_multiplier){d->name, multiply};
        d->weights = aligned_alloc(64, weights);
        d->gathered = aligned_alloc(64, gathered);
    }
    if (d && d->weights && d->gathered)
        return 0;
    sl_onednn_close(m);
    return sl_fail_nomem(err, "oneDNN's parts of matrices", weights + gathered);
}

void sl_onednn_close(struct sl_multiplier **m)
{
    struct onednn *d = (struct onednn *)*m;
    if (d) {
        free(d->weights);
        free(d->gathered);
        free(d);
    }
    *m = NULL;
}

#else

int sl_onednn_open(struct sl_multiplier **m, struct sluice_err *err)
{
    *m = NULL;
    return sl_fail(err, SLUICE_EUNSUPPORTED,
                   "this build has no oneDNN; install it (Debian: libdnnl-dev) and build again "
                   "after ../configure --with-onednn");
}

void sl_onednn_close(struct sl_multiplier **m)
{
    *m = NULL;
}

#endif
