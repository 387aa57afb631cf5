/* SPDX-License-Identifier: MIT */
/*
 * oneDNN's matmul primitive, of 2.x and 3.x.  Weights of format `any` are those that an inference
 * engine packs once and uses often.  Why the team is lent: runtime/base/team.h.
 */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "tools/measure/packed_product.h"

#ifdef HAVE_ONEDNN

#include <dnnl.h>
#include <stdbool.h>
#include <stdlib.h>

#include "runtime/base/clock.h"

enum { SOURCE, WEIGHTS, RESULT, OPERANDS };

struct sl_packed_product {
    const struct sl_team *team;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t matmul;
    dnnl_memory_t operand[OPERANDS];
};

/* Memory descriptors and operation descriptors are structures in 2.x, handles and gone in 3.x. */
#if DNNL_VERSION_MAJOR < 3
typedef const dnnl_memory_desc_t *shape_ref;

static shape_ref ref_of(const dnnl_memory_desc_t *d)
{
    return d;
}

static bool describe(dnnl_memory_desc_t *d, size_t rows, size_t cols, dnnl_data_type_t type,
                     dnnl_format_tag_t tag)
{
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    return dnnl_memory_desc_init_by_tag(d, 2, dims, type, tag) == dnnl_success;
}

static void forget(dnnl_memory_desc_t *d)
{
    (void)d;
}

static bool plan_matmul(dnnl_primitive_desc_t *plan, dnnl_engine_t engine,
                        const dnnl_memory_desc_t *d)
{
    dnnl_matmul_desc_t matmul;
    return dnnl_matmul_desc_init(&matmul, &d[SOURCE], &d[WEIGHTS], NULL, &d[RESULT]) ==
               dnnl_success &&
           dnnl_primitive_desc_create(plan, &matmul, NULL, engine, NULL) == dnnl_success;
}
#else
typedef const_dnnl_memory_desc_t shape_ref;

static shape_ref ref_of(const dnnl_memory_desc_t *d)
{
    return *d;
}

static bool describe(dnnl_memory_desc_t *d, size_t rows, size_t cols, dnnl_data_type_t type,
                     dnnl_format_tag_t tag)
{
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    return dnnl_memory_desc_create_with_tag(d, 2, dims, type, tag) == dnnl_success;
}

static void forget(dnnl_memory_desc_t *d)
{
    dnnl_memory_desc_destroy(*d);
}

static bool plan_matmul(dnnl_primitive_desc_t *plan, dnnl_engine_t engine,
                        const dnnl_memory_desc_t *d)
{
    return dnnl_matmul_primitive_desc_create(plan, engine, d[SOURCE], d[WEIGHTS], NULL, d[RESULT],
                                             NULL) == dnnl_success;
}
#endif

static bool place(struct sl_packed_product *p, int which, shape_ref shape, const void *data)
{
    return dnnl_memory_create(&p->operand[which], shape, p->engine, (void *)data) == dnnl_success;
}

/* Brings W, as DESC says it lies, into operand WEIGHTS. */
static bool pack(struct sl_packed_product *p, const dnnl_memory_desc_t *desc, shape_ref packed,
                 const int8_t *w)
{
    dnnl_memory_t plain = NULL;
    dnnl_primitive_desc_t plan = NULL;
    dnnl_primitive_t reorder = NULL;
    bool done = place(p, WEIGHTS, packed, DNNL_MEMORY_ALLOCATE) &&
                dnnl_memory_create(&plain, ref_of(desc), p->engine, (void *)w) == dnnl_success &&
                dnnl_reorder_primitive_desc_create(&plan, ref_of(desc), p->engine, packed,
                                                   p->engine, NULL) == dnnl_success &&
                dnnl_primitive_create(&reorder, plan) == dnnl_success;
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, p->operand[WEIGHTS]}};
    done = done && dnnl_primitive_execute(reorder, p->stream, 2, args) == dnnl_success &&
           dnnl_stream_wait(p->stream) == dnnl_success;
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(plan);
    dnnl_memory_destroy(plain);
    return done;
}

static bool make(struct sl_packed_product *p, const int8_t *w, size_t rows, size_t cols,
                 const int8_t *x, size_t n, int32_t *y)
{
    dnnl_memory_desc_t d[OPERANDS] = {0}, plain = {0};
    dnnl_primitive_desc_t plan = NULL;
    bool done = dnnl_engine_create(&p->engine, dnnl_cpu, 0) == dnnl_success &&
                dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) ==
                    dnnl_success &&
                describe(&d[SOURCE], n, cols, dnnl_s8, dnnl_ab) &&
                describe(&d[WEIGHTS], cols, rows, dnnl_s8, dnnl_format_tag_any) &&
                describe(&d[RESULT], n, rows, dnnl_s32, dnnl_ab) &&
                describe(&plain, cols, rows, dnnl_s8, dnnl_ba) &&
                plan_matmul(&plan, p->engine, d) &&
                dnnl_primitive_create(&p->matmul, plan) == dnnl_success &&
                place(p, SOURCE, ref_of(&d[SOURCE]), x) && place(p, RESULT, ref_of(&d[RESULT]), y);
    done = done && pack(p, &plain, dnnl_primitive_desc_query_md(plan, dnnl_query_weights_md, 0), w);
    dnnl_primitive_desc_destroy(plan);
    for (int i = 0; i < OPERANDS; i++)
        forget(&d[i]);
    forget(&plain);
    return done;
}

struct sl_packed_product *sl_packed_open(const struct sl_team *team, const int8_t *w, size_t rows,
                                         size_t cols, const int8_t *x, size_t n, int32_t *y)
{
    struct sl_packed_product *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->team = team;
    struct sl_lent lent = sl_team_lend(team);
    bool made = make(p, w, rows, cols, x, n, y);
    sl_team_take_back(&lent);
    if (made)
        return p;
    sl_packed_close(p);
    return NULL;
}

void sl_packed_close(struct sl_packed_product *p)
{
    if (!p)
        return;
    for (int i = 0; i < OPERANDS; i++)
        dnnl_memory_destroy(p->operand[i]);
    dnnl_primitive_destroy(p->matmul);
    dnnl_stream_destroy(p->stream);
    dnnl_engine_destroy(p->engine);
    free(p);
}

double sl_packed_run(const struct sl_packed_product *p)
{
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->operand[SOURCE]},
                                    {DNNL_ARG_WEIGHTS, p->operand[WEIGHTS]},
                                    {DNNL_ARG_DST, p->operand[RESULT]}};
    struct sl_lent lent = sl_team_lend(p->team);
    double start = sl_now();
    bool done = dnnl_primitive_execute(p->matmul, p->stream, OPERANDS, args) == dnnl_success &&
                dnnl_stream_wait(p->stream) == dnnl_success;
    double seconds = sl_now() - start;
    sl_team_take_back(&lent);
    return done ? seconds : 0;
}

const char *sl_packed_name(void)
{
    return "oneDNN " HAVE_ONEDNN;
}

#else

struct sl_packed_product *sl_packed_open(const struct sl_team *team, const int8_t *w, size_t rows,
                                         size_t cols, const int8_t *x, size_t n, int32_t *y)
{
    (void)team, (void)w, (void)rows, (void)cols, (void)x, (void)n, (void)y;
    return NULL;
}

void sl_packed_close(struct sl_packed_product *p)
{
    (void)p;
}

double sl_packed_run(const struct sl_packed_product *p)
{
    (void)p;
    return 0;
}

const char *sl_packed_name(void)
{
    return NULL;
}

#endif
