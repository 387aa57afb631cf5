/* SPDX-License-Identifier: MIT */
/*
 * Synthetic containers: true shapes and reproducible noise, made at the speed of the drive, for
 * measuring a machine before the checkpoint is downloaded.  They say nothing sensible.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/synth.h"
#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"

enum {
    BATCH = 4 << 20,    /* bytes of panels made at a time */
    LOW_SCALE = 96,     /* s8 scales are LOW_SCALE … LOW_SCALE + 31 */
    MIDDLE_SCALE = 112, /* near enough their root mean square */
};

/* ---- matrices ------------------------------------------------------------------------------- */

struct panels {
    const struct sl_packing *packing;
    enum sl_role role;
    uint32_t layer, expert;
    size_t first; /* panel at OUT */
    size_t panel_bytes;
    float deviation; /* of a weight */
    float code_rms;
    uint8_t *out;
};

/* Root mean square of the value of a random code. */
static float rms_of_codes(const struct sl_packing *p)
{
    double sum = 0;
    if (p->code == SL_CODE_INT8)
        return 127 / sqrtf(3);
    for (int i = 0; i < SL_CODEBOOK; i++)
        sum += (double)p->codebook[i] * p->codebook[i] / SL_CODEBOOK;
    return (float)sqrt(sum);
}

/* The scales of one superblock, SCALE on average, of either sign: a random code of a lopsided
 * codebook has a mean, and common means would grow from layer to layer. */
static void put_scales(const struct panels *m, uint64_t *state, float scale, uint8_t *out)
{
    for (size_t i = 0; i < SL_SUPER * SL_PANEL; i++) {
        uint64_t bits = sl_splitmix(state);
        bool minus = bits & 1;
        int8_t code = (int8_t)(LOW_SCALE + (bits >> 1) % 32);
        float value = scale * (0.75f + (float)(bits >> 40) * 0x1p-25f) * (minus ? -1.0f : 1.0f);
        if (m->packing->scale == SL_SCALE_S8) {
            out[i] = (uint8_t)(minus ? -code : code);
            continue;
        }
        uint16_t half = m->packing->scale == SL_SCALE_F16 ? sl_to_f16(value) : sl_to_bf16(value);
        memcpy(out + 2 * i, &half, 2);
    }
}

static void integer_panel(const struct panels *m, uint64_t *state, uint8_t *out)
{
    const struct sl_packing *p = m->packing;
    float scale = m->deviation / m->code_rms, row_scale[SL_PANEL];
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    for (size_t r = 0; r < SL_PANEL; r++)
        row_scale[r] = p->scale == SL_SCALE_S8 ? scale / MIDDLE_SCALE : 1;
    memcpy(out, row_scale, sizeof row_scale);
    out += SL_ROW_SCALES;
    for (size_t k = 0; k < cols; k += super) {
        size_t codes = sl_code_bytes(p->code, sl_min(super, cols - k));
        put_scales(m, state, scale, out);
        out += sl_super_scale_bytes(p->scale);
        if (p->code == SL_CODE_INT8)
            sl_noise_int8(state, out, codes);
        else
            sl_noise_bytes(state, out, codes);
        out += codes;
    }
}

static void float_panel(const struct panels *m, uint64_t *state, uint8_t *out)
{
    size_t n = sl_padded_cols(m->packing->cols) * SL_PANEL;
    float size = m->deviation * sqrtf(3);
    if (m->packing->code == SL_CODE_F32)
        sl_noise_f32(state, size, out, n);
    else
        sl_noise_bf16(state, size, out, n);
}

static void make_panels(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct panels *m = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        uint64_t state = sl_noise_seed(m->role, 0, m->layer, m->expert, m->first + i);
        uint8_t *out = m->out + i * m->panel_bytes;
        if (sl_is_integer(m->packing->code))
            integer_panel(m, &state, out);
        else
            float_panel(m, &state, out);
    }
}

static int synth_matrix(struct sl_conversion *c, enum sl_role role, uint32_t layer, uint32_t expert,
                        const struct sl_packing *packing, struct sl_writer *writer, uint8_t *out,
                        struct sl_error *error, struct sluice_err *err)
{
    size_t inputs = role == SL_K_UP ? packing->rows : packing->cols; /* k_up works transposed */
    struct panels m = {
        .packing = packing,
        .role = role,
        .layer = layer,
        .expert = expert,
        .panel_bytes = sl_panel_bytes(packing),
        .deviation = sl_synth_deviation(role, inputs),
        .code_rms = sl_is_integer(packing->code) ? rms_of_codes(packing) : 1,
    };
    size_t total = sl_panel_count(packing) * packing->count;
    size_t batch = sl_max(1, BATCH / m.panel_bytes);
    *error = (struct sl_error){0};
    int status = out ? 0 : sl_buffer_reserve(&c->packed, batch * m.panel_bytes, err);
    for (; status == 0 && m.first < total; m.first += batch) {
        size_t n = sl_min(batch, total - m.first);
        m.out = out ? out + m.first * m.panel_bytes : c->packed.data;
        sl_team_run(&c->team, n, 1, make_panels, &m);
        if (!out)
            status = sl_writer_append(writer, m.out, n * m.panel_bytes, err);
        if (status == 0)
            status = sl_conversion_progress(c, n * m.panel_bytes, err);
    }
    return status;
}

static int fits_bf16(const struct sl_conversion *c, enum sl_role role, uint32_t layer,
                     uint32_t expert, bool *exact, struct sluice_err *err)
{
    (void)c, (void)role, (void)layer, (void)expert, (void)err;
    *exact = true;
    return 0;
}

/* ---- embedding and vectors ------------------------------------------------------------------ */

struct embedding {
    enum sl_dtype dtype; /* INT8 or BF16 */
    uint64_t bytes;
    uint64_t first; /* piece at OUT */
    uint8_t *out;
};

/* Deviation 1, in pieces that do not care for rows. */
static void make_embedding(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct embedding *e = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        uint64_t state = sl_noise_seed(SL_EMBED, 0, 0, 0, e->first + i);
        size_t n = sl_min(SL_NOISE_PIECE, e->bytes - (e->first + i) * SL_NOISE_PIECE);
        uint8_t *out = e->out + i * SL_NOISE_PIECE;
        if (e->dtype == SL_I8)
            sl_noise_int8(&state, out, n);
        else
            sl_noise_bf16(&state, sqrtf(3), out, n / 2);
    }
}

static int synth_embedding(struct sl_conversion *c, enum sl_dtype dtype, struct sl_writer *writer,
                           float *scales, struct sl_error *error, struct sluice_err *err)
{
    struct embedding e = {.dtype = dtype};
    e.bytes = (uint64_t)c->config.vocab * c->config.hidden * sl_dtype_bytes(dtype);
    uint64_t pieces = sl_ceil_div(e.bytes, SL_NOISE_PIECE);
    *error = (struct sl_error){0};
    for (size_t row = 0; row < c->config.vocab; row++)
        scales[row] = sqrtf(3) / 127;
    int status = sl_buffer_reserve(&c->packed, BATCH, err);
    e.out = c->packed.data;
    for (; status == 0 && e.first < pieces; e.first += BATCH / SL_NOISE_PIECE) {
        size_t n = sl_min(BATCH / SL_NOISE_PIECE, pieces - e.first);
        size_t bytes = sl_min(BATCH, e.bytes - e.first * SL_NOISE_PIECE);
        sl_team_run(&c->team, n, 1, make_embedding, &e);
        status = sl_writer_append(writer, e.out, bytes, err);
        if (status == 0)
            status = sl_conversion_progress(c, bytes, err);
    }
    return status;
}

/* Norms are 1, biases 0. */
static int synth_vector(struct sl_conversion *c, enum sl_role role, uint32_t layer,
                        struct sl_writer *writer, struct sluice_err *err)
{
    size_t n = sl_tensor_shape_of(&c->config, role).cols, bytes = n * sizeof(float);
    bool bias = role == SL_INDEX_K_BIAS || role == SL_ROUTER_BIAS;
    (void)layer;
    int status = sl_buffer_reserve(&c->packed, bytes, err);
    if (status < 0)
        return status;
    float *value = (float *)(void *)c->packed.data;
    for (size_t i = 0; i < n; i++)
        value[i] = bias ? 0 : 1;
    status = sl_writer_append(writer, value, bytes, err);
    return status < 0 ? status : sl_conversion_progress(c, bytes, err);
}

/* ---- the container -------------------------------------------------------------------------- */

/* Sizes, for progress and report. */
static int measure(struct sl_conversion *c, struct sluice_err *err)
{
    for (size_t i = 0; i < c->plan.n_files; i++) {
        struct sl_plan_file *f = &c->plan.files[i];
        int status = sl_measure_file(c, f, 0, &f->source_bytes, err);
        if (status < 0)
            return status;
        c->plan.source_bytes += f->source_bytes;
        for (enum sl_role role = 0; role < SL_N_ROLES; role++) {
            struct sl_shape s = sl_tensor_shape_of(&c->config, role);
            if (sl_plan_has(&c->config, f, role) &&
                sl_tensor_rules()[role].class != SL_CLASS_VECTOR)
                c->plan.weights += (uint64_t)s.rows * s.cols * s.count *
                                   (f->kind == SL_FILE_EXPERTS ? c->config.experts : 1);
        }
    }
    return 0;
}

static int synthesize_container(const char *dest, const struct sl_synth_opts *opts,
                                struct sl_quantize_report *report, struct sluice_err *err)
{
    static const struct sl_maker noise = {synth_matrix, fits_bf16, synth_embedding, synth_vector};
    char *text = NULL;
    const struct sl_quantize_opts common = {
        .threads = opts->threads, .user = opts->user, .progress = opts->progress};
    struct sl_conversion c = {
        .target = &sl_container, .make = &noise, .opts = &common, .dest = dest};
    int status = sl_conversion_open(&c, opts->profile, err);
    if (status == 0)
        status = sl_imitate(&c.config, &text, opts, err);
    if (status == 0) {
        c.config_text = text;
        sl_digest_print(c.source, sl_hash(text, strlen(text)));
        status = sl_plan_list(&c.plan, &c.config, err);
    }
    if (status == 0)
        status = measure(&c, err);
    if (status == 0)
        status = sl_conversion_run(&c, report, err);
    report->weights = c.plan.weights;
    sl_conversion_close(&c);
    free(text);
    return status;
}

int sl_synthesize(const char *dest, const struct sl_synth_opts *opts,
                  struct sl_quantize_report *report, struct sluice_err *err)
{
    double start = sl_now();
    *report = (struct sl_quantize_report){0};
    int status = opts->checkpoint ? sl_synthesize_checkpoint(dest, opts, report, err)
                                  : synthesize_container(dest, opts, report, err);
    report->seconds = sl_now() - start;
    return status;
}
