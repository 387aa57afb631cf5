/* SPDX-License-Identifier: MIT */
/*
 * The quantiser: decoding, fitting, packing, and whole conversions of small checkpoints that the
 * test writes itself, with and without faults.  Weights are read back by a decoder of its own.
 */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "quant/conversion.h"
#include "runtime/base/err.h"
#include "runtime/base/json.h"

/* ---- helpers --------------------------------------------------------------------------------- */

static char root[128]; /* temporary directory of this run */

static uint64_t random_state;

static uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static double uniform(void)
{
    return (random_bits() + 0.5) / 2147483648.0;
}

static float gauss(void)
{
    return (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
}

static void *must(void *p)
{
    assert_non_null(p);
    return p;
}

static void path_of(char out[SL_PATH_MAX], const char *dir, const char *name)
{
    assert_int_equal(sl_path_join(out, dir, name, NULL), 0);
}

static void remove_directory(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        char path[SL_PATH_MAX];
        path_of(path, dir, entry->d_name);
        if (entry->d_name[0] != '.' && unlink(path) != 0)
            remove_directory(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

/* "ROOT/NAME", empty. */
static void fresh_directory(char out[SL_PATH_MAX], const char *name)
{
    path_of(out, root, name);
    remove_directory(out);
    assert_int_equal(mkdir(out, 0777), 0);
}

/* ---- an independent decoder of the panel layout ---------------------------------------------- */

static float half_to_float(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    double magnitude = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return (float)(h & 0x8000 ? -magnitude : magnitude);
}

static float bfloat_to_float(uint16_t h)
{
    int exponent = h >> 7 & 255, mantissa = h & 127;
    double magnitude = exponent ? ldexp(128 + mantissa, exponent - 134) : ldexp(mantissa, -133);
    return (float)(h & 0x8000 ? -magnitude : magnitude);
}

static uint16_t u16_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float f32_at(const uint8_t *p)
{
    float f;
    memcpy(&f, p, 4);
    return f;
}

/* Bytes of N inputs' codes in a panel of 16 rows. */
static size_t codes_of(const struct sl_packing *p, size_t n)
{
    return p->code == SL_CODE_LUT4 ? n * 8 : n * 16;
}

/* Walks the superblocks of the panel that holds ROW up to input COL. */
static double slow_integer(const struct sl_packing *p, const uint8_t *panel, size_t lane,
                           size_t col)
{
    const uint8_t *at = panel + 64;
    size_t group = p->group, scale_size = p->scale == SL_SCALE_S8 ? 1 : 2;
    for (; col >= 4 * group; col -= 4 * group)
        at += 64 * scale_size + codes_of(p, 4 * group);
    const uint8_t *s = at + (col / group * 16 + lane) * scale_size;
    const uint8_t *codes = at + 64 * scale_size;
    double scale = p->scale == SL_SCALE_S8    ? (double)(int8_t)*s
                   : p->scale == SL_SCALE_F16 ? (double)half_to_float(u16_at(s))
                                              : (double)bfloat_to_float(u16_at(s));
    double value;
    if (p->code == SL_CODE_INT8) {
        value = (int8_t)codes[col / 4 * 64 + lane * 4 + col % 4];
    } else {
        uint8_t pair = codes[col / 8 * 64 + lane * 4 + col % 4];
        value = p->codebook[col % 8 >= 4 ? pair >> 4 : pair & 15];
    }
    return value * scale * (double)f32_at(panel + 4 * lane);
}

static double slow_weight(const struct sl_packing *p, const uint8_t *data, size_t i, size_t row,
                          size_t col)
{
    size_t panels = (p->rows + 15) / 16, panel_bytes = sl_packing_bytes(p) / panels / p->count;
    const uint8_t *panel = data + (i * panels + row / 16) * panel_bytes;
    size_t lane = row % 16;
    if (p->code == SL_CODE_F32)
        return (double)f32_at(panel + 4 * (col * 16 + lane));
    if (p->code == SL_CODE_BF16)
        return (double)bfloat_to_float(u16_at(panel + 2 * (col * 16 + lane)));
    return slow_integer(p, panel, lane, col);
}

/* ---- decoding -------------------------------------------------------------------------------- */

static double e4m3(uint8_t code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    double magnitude = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
    return code & 0x80 ? -magnitude : magnitude;
}

static void test_fp8_table(void **state)
{
    double sum = 0;
    (void)state;
    for (unsigned code = 0; code < 256; code++) {
        uint8_t byte = (uint8_t)code;
        float out;
        bool ok = sl_rung_find(NULL)->ops->fp8_decode(&byte, 1, 1.0f, &out);
        assert_int_equal(ok, (code & 0x7f) != 0x7f);
        if (!ok)
            continue;
        assert_true((double)out == e4m3(byte));
        sum += out > 0 ? (double)out : 0;
    }
    assert_true(sum == 5407.875);
    uint8_t three[3] = {0x38, 0xff, 0x38};
    float out[3];
    assert_false(sl_rung_find(NULL)->ops->fp8_decode(three, 3, 2.0f, out));
    assert_true(out[2] == 2.0f);
}

static void test_bf16_decode(void **state)
{
    uint16_t in[3] = {0x3f80, 0xc0a0, 0x0001};
    float out[3];
    (void)state;
    sl_rung_find(NULL)->ops->bf16_decode(in, 3, out);
    assert_true(out[0] == 1.0f && out[1] == -5.0f && out[2] == 0x1p-133f);
}

/* ---- fitting and packing --------------------------------------------------------------------- */

static const int8_t nonlinear[16] = {-127, -101, -76, -58, -43, -30, -19, -9,
                                     1,    12,   22,  34,  46,  61,  80,  104};
static const int8_t linear[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

static struct sl_packing packing(enum sl_code code, enum sl_scale scale, uint32_t group,
                                 uint32_t rows, uint32_t cols, const int8_t *codebook)
{
    struct sl_packing p = {code, scale, group, rows, cols, 1, {0}};
    if (codebook)
        memcpy(p.codebook, codebook, 16);
    return p;
}

/* Packs X[rows][cols]; the caller frees. */
static uint8_t *pack(const struct sl_packing *p, const float *x, bool fast, struct sl_error *sum)
{
    struct sl_fitting fit = {.ops = sl_rung_find(NULL)->ops, .fast = fast};
    uint8_t *out = must(malloc(sl_packing_bytes(p)));
    void *scratch = must(malloc(sl_pack_scratch(p) + 8));
    *sum = (struct sl_error){0};
    memset(out, 0xa5, sl_packing_bytes(p));
    for (size_t row = 0; row < p->rows; row += 16) {
        struct sl_error error;
        sl_pack_panel(&fit, p, x + row * p->cols, p->rows - row < 16 ? p->rows - row : 16,
                      out + row / 16 * sl_panel_bytes(p), scratch, &error);
        sl_error_add(sum, &error);
    }
    free(scratch);
    return out;
}

/* Reads every weight, also of the padding rows, back in both ways. */
static void check_packed(const struct sl_packing *p, const float *x, double limit)
{
    struct sl_error sum;
    uint8_t *data = pack(p, x, false, &sum);
    struct sl_matrix m = {*p, data};
    double error = 0, square = 0;
    for (size_t row = 0; row < sl_padded_rows(p->rows); row++)
        for (size_t col = 0; col < p->cols; col++) {
            double slow = slow_weight(p, data, 0, row, col);
            double fast = (double)sl_weight_at(&m, 0, row, col);
            double want = row < p->rows ? (double)x[row * p->cols + col] : 0;
            assert_true(fabs(slow - fast) <= 1e-6 * fabs(slow));
            assert_true(row < p->rows || slow == 0);
            error += (want - slow) * (want - slow);
            square += want * want;
        }
    assert_true(sqrt(error / square) < limit);
    assert_true(fabs(sqrt(error / square) - sl_error_relative(&sum)) < 1e-5);
    free(data);
}

static void test_pack_shapes(void **state)
{
    static const uint32_t shapes[][2] = {{1, 1},   {16, 32},  {17, 33}, {5, 40},   {31, 63},
                                         {48, 65}, {16, 129}, {3, 200}, {33, 512}, {2, 577}};
    static const uint32_t groups[] = {16, 32, 64, 128};
    (void)state;
    random_state = 1;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        uint32_t rows = shapes[s][0], cols = shapes[s][1];
        float *x = must(malloc((size_t)rows * cols * sizeof *x));
        for (size_t i = 0; i < (size_t)rows * cols; i++)
            x[i] = 0.02f * gauss();
        for (int scale = SL_SCALE_S8; scale <= SL_SCALE_BF16; scale++)
            for (size_t g = 0; g < 4; g++) {
                struct sl_packing p = packing(SL_CODE_LUT4, scale, groups[g], rows, cols,
                                              nonlinear);
                check_packed(&p, x, 0.12);
                memcpy(p.codebook, linear, 16);
                check_packed(&p, x, 0.13);
                p = packing(SL_CODE_INT8, scale, groups[g], rows, cols, NULL);
                check_packed(&p, x, 0.011);
            }
        struct sl_packing p = packing(SL_CODE_F32, SL_SCALE_NONE, 0, rows, cols, NULL);
        check_packed(&p, x, 1e-12);
        p.code = SL_CODE_BF16;
        check_packed(&p, x, 0.004);
        free(x);
    }
}

static void test_gaussian_errors(void **state)
{
    enum { ROWS = 32, COLS = 4096 };
    static const struct {
        enum sl_code code;
        enum sl_scale scale;
        uint32_t group;
        const int8_t *codebook;
        double limit, fast_limit;
    } cases[] = {
        {SL_CODE_LUT4, SL_SCALE_S8, 32, nonlinear, 0.0755, 0.09},
        {SL_CODE_LUT4, SL_SCALE_S8, 64, nonlinear, 0.083, 0.10},
        {SL_CODE_LUT4, SL_SCALE_BF16, 32, nonlinear, 0.075, 0.09},
        {SL_CODE_LUT4, SL_SCALE_BF16, 32, linear, 0.083, 0.095},
        {SL_CODE_LUT4, SL_SCALE_S8, 32, linear, 0.083, 0.095},
        {SL_CODE_INT8, SL_SCALE_BF16, 128, NULL, 0.0066, 0.0072},
        {SL_CODE_INT8, SL_SCALE_F16, 128, NULL, 0.0066, 0.0072},
        {SL_CODE_INT8, SL_SCALE_S8, 128, NULL, 0.0066, 0.0072},
    };
    float *x = must(malloc(ROWS * COLS * sizeof *x));
    (void)state;
    random_state = 2;
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = 0.02f * gauss();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sl_packing p = packing(cases[i].code, cases[i].scale, cases[i].group, ROWS, COLS,
                                      cases[i].codebook);
        struct sl_error error, fast;
        free(pack(&p, x, false, &error));
        free(pack(&p, x, true, &fast));
        assert_true(sl_error_relative(&error) < cases[i].limit);
        assert_true(sl_error_relative(&fast) < cases[i].fast_limit);
        assert_true(sl_error_relative(&error) < sl_error_relative(&fast));
    }
    free(x);
}

/* Zeros, one-hot groups, tiny and huge values: weights stay finite, zeros stay zero, no −128. */
static void test_pack_extremes(void **state)
{
    enum { ROWS = 8, COLS = 256 };
    static float x[ROWS * COLS];
    (void)state;
    for (size_t i = 0; i < COLS; i++) {
        x[1 * COLS + i] = i == 77 ? -3.0f : 0;
        x[2 * COLS + i] = i % 2 ? 1e-38f : -1e-38f;
        x[3 * COLS + i] = i % 2 ? 3e37f : -3e37f;
        x[4 * COLS + i] = i < 32 ? 1000.0f : 1e-6f;
        x[5 * COLS + i] = -1.0f;
    }
    for (int code = SL_CODE_LUT4; code <= SL_CODE_INT8; code++)
        for (int scale = SL_SCALE_S8; scale <= SL_SCALE_BF16; scale++) {
            struct sl_packing p = packing(code, scale, 32, ROWS, COLS, nonlinear);
            struct sl_error error;
            uint8_t *data = pack(&p, x, false, &error);
            for (size_t row = 0; row < ROWS; row++)
                for (size_t col = 0; col < COLS; col++)
                    assert_true(isfinite(slow_weight(&p, data, 0, row, col)));
            for (size_t col = 0; col < COLS; col++) {
                assert_true(slow_weight(&p, data, 0, 0, col) == 0);
                assert_true(col / 32 == 77 / 32 || slow_weight(&p, data, 0, 1, col) == 0);
                assert_true(fabs(slow_weight(&p, data, 0, 5, col) + 1) < 0.01);
            }
            free(data);
        }
}

static void test_fit_weights(void **state)
{
    float x[32], weight[32];
    int8_t code[32];
    (void)state;
    random_state = 3;
    for (int i = 0; i < 32; i++) {
        x[i] = gauss();
        weight[i] = i < 4 ? 1000.0f : 0.001f;
    }
    struct sl_fit plain = {x, NULL, 32, nonlinear}, weighted = {x, weight, 32, nonlinear};
    float s = sl_rung_find(NULL)->ops->fit_scale(&plain, code),
          t = sl_rung_find(NULL)->ops->fit_scale(&weighted, code);
    assert_true(sl_rung_find(NULL)->ops->fit_codes(&weighted, t, code) <
                sl_rung_find(NULL)->ops->fit_codes(&weighted, s, code));
    assert_true(sl_rung_find(NULL)->ops->fit_codes(&plain, s, code) <
                sl_rung_find(NULL)->ops->fit_codes(&plain, t, code));
    for (size_t i = 0; sl_rung_at(i); i++) /* the scale alone */
        assert_true(sl_rung_at(i)->ops->fit_scale(&weighted, NULL) == t);
}

/* ---- a checkpoint of the test's own ---------------------------------------------------------- */

/* Ragged everywhere: nothing is a multiple of 128, little of 16. */
static const char config_text[] =
    "{\"model_type\": \"deepseek_v32\", \"vocab_size\": 52, \"hidden_size\": 200,"
    " \"num_hidden_layers\": 2, \"first_k_dense_replace\": 1, \"num_nextn_predict_layers\": 1,"
    " \"max_position_embeddings\": 64, \"num_attention_heads\": 3, \"q_lora_rank\": 72,"
    " \"kv_lora_rank\": 152, \"qk_nope_head_dim\": 24, \"qk_rope_head_dim\": 8, \"v_head_dim\": 40,"
    " \"index_n_heads\": 2, \"index_head_dim\": 16, \"index_topk\": 8, \"intermediate_size\": 140,"
    " \"moe_intermediate_size\": 40, \"n_routed_experts\": 4, \"num_experts_per_tok\": 2,"
    " \"n_shared_experts\": 1, \"n_group\": 2, \"topk_group\": 1, \"rms_norm_eps\": 1e-6,"
    " \"scoring_func\": \"sigmoid\", \"topk_method\": \"noaux_tc\","
    " \"quantization_config\": {\"weight_block_size\": %s}}";

enum { MAX_TENSORS = 256, LAYERS = 2 };

struct fake_tensor {
    char name[160];
    enum sl_dtype dtype;
    unsigned n_dims;
    uint64_t dims[2];
    size_t bytes;
    uint8_t *data;
    double *truth; /* [rows][cols] */
    unsigned shard;
};

struct fake {
    char dir[SL_PATH_MAX];
    struct sl_config config;
    enum sl_dtype scale_dtype;
    bool odd_scales; /* not powers of two */
    const char *block_size;
    size_t n;
    struct fake_tensor tensor[MAX_TENSORS];
};

static struct fake_tensor *find(struct fake *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->tensor[i].name, name) == 0)
            return &f->tensor[i];
    return NULL;
}

static struct fake_tensor *add(struct fake *f, const char *name, enum sl_dtype dtype,
                               unsigned n_dims, size_t rows, size_t cols)
{
    assert_true(f->n < MAX_TENSORS);
    struct fake_tensor *t = &f->tensor[f->n++];
    *t = (struct fake_tensor){.dtype = dtype, .n_dims = n_dims, .shard = (unsigned)(f->n % 2)};
    snprintf(t->name, sizeof t->name, "%s", name);
    t->dims[0] = n_dims == 2 ? rows : cols;
    t->dims[1] = cols;
    t->bytes = rows * cols * sl_dtype_bytes(dtype);
    t->data = must(calloc(1, t->bytes));
    t->truth = must(calloc(rows * cols, sizeof *t->truth));
    return t;
}

/* Fills with small random values and notes what they are. */
static void fill(struct fake_tensor *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float f = 0.05f * gauss();
        uint16_t h = sl_to_bf16(f);
        t->truth[i] = t->dtype == SL_BF16 ? (double)bfloat_to_float(h) : (double)f;
        if (t->dtype == SL_BF16)
            memcpy(t->data + 2 * i, &h, 2);
        else
            memcpy(t->data + 4 * i, &f, 4);
    }
}

/* Stores scale number I as 2^E times FACTOR; returns what is stored. */
static double put_scale(struct fake_tensor *t, size_t i, int e, double factor)
{
    float f = (float)ldexp(factor, e);
    uint16_t h = sl_to_bf16(f);
    if (t->dtype == SL_F32)
        memcpy(t->data + 4 * i, &f, 4);
    else if (t->dtype == SL_BF16)
        memcpy(t->data + 2 * i, &h, 2);
    else
        t->data[i] = (uint8_t)(e + 127);
    return t->dtype == SL_F8_E8M0 ? ldexp(1, e)
           : t->dtype == SL_BF16  ? (double)bfloat_to_float(h)
                                  : (double)f;
}

/* An FP8 weight, and its scales in the other shard. */
static void add_fp8(struct fake *f, const char *name, size_t rows, size_t cols)
{
    struct fake_tensor *t = add(f, name, SL_F8_E4M3, 2, rows, cols), *s;
    size_t scale_cols = (cols + 127) / 128, n = (rows + 127) / 128 * scale_cols;
    char scale_name[192];
    double scale[64];
    snprintf(scale_name, sizeof scale_name, "%.140s_scale_inv", name);
    s = add(f, scale_name, f->scale_dtype, 2, n / scale_cols, scale_cols);
    s->shard = 1 - t->shard;
    assert_true(n <= 64);
    for (size_t i = 0; i < n; i++)
        scale[i] = put_scale(s, i, -8 - (int)(random_bits() % 3),
                             f->odd_scales ? 1 + uniform() : 1);
    for (size_t i = 0; i < rows * cols; i++) {
        t->data[i] = (uint8_t)((random_bits() % 0x58) | (random_bits() & 0x80));
        t->truth[i] = (double)(float)(e4m3(t->data[i]) *
                                      scale[i / cols / 128 * scale_cols + i % cols / 128]);
    }
}

/* Which tensors a published checkpoint keeps in FP8. */
static bool is_fp8(enum sl_class class)
{
    return class == SL_CLASS_ATTN || class == SL_CLASS_ATTN_BIG || class == SL_CLASS_KV_UP ||
           class == SL_CLASS_INDEX || class == SL_CLASS_FFN || class == SL_CLASS_EXPERT;
}

static void add_role(struct fake *f, enum sl_role role, uint32_t layer, uint32_t expert)
{
    enum sl_class class = sl_tensor_rules()[role].class;
    struct sl_shape shape = sl_checkpoint_shape_of(&f->config, role);
    char names[2][128];
    unsigned n = sl_input_names(role, layer, expert, names);
    for (unsigned i = 0; i < n && role != SL_V_UP; i++) {
        if (is_fp8(class)) {
            add_fp8(f, names[i], shape.rows, shape.cols);
            continue;
        }
        bool exact = role == SL_ROUTER_BIAS || role == SL_INDEX_K_NORM;
        struct fake_tensor *t = add(f, names[i], exact ? SL_F32 : SL_BF16,
                                    class == SL_CLASS_VECTOR ? 1 : 2, shape.rows, shape.cols);
        fill(t, (size_t)shape.rows * shape.cols);
    }
}

static void copy_tensor(struct fake *f, const char *from, const char *to)
{
    const struct fake_tensor *a = find(f, from);
    size_t n = a->dims[0] * a->dims[1];
    struct fake_tensor *b = add(f, to, a->dtype, a->n_dims, a->dims[0], a->dims[1]);
    a = find(f, from);
    memcpy(b->data, a->data, a->bytes);
    memcpy(b->truth, a->truth, n * sizeof *a->truth);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[SL_PATH_MAX];
    path_of(path, dir, name);
    assert_int_equal(sl_file_replace(path, text, strlen(text), NULL), 0);
}

/* Makes the tensors of a model in memory, in directory NAME. */
static struct fake *fake_make(const char *name, enum sl_dtype scale_dtype)
{
    struct fake *f = must(calloc(1, sizeof *f));
    struct sluice_err err = {0};
    char text[2048];
    random_state = 4;
    f->scale_dtype = scale_dtype;
    f->block_size = "[128, 128]";
    fresh_directory(f->dir, name);
    snprintf(text, sizeof text, config_text, f->block_size);
    write_text(f->dir, "config.json", text);
    assert_int_equal(sl_config_read(&f->config, f->dir, &err), 0);
    for (int role = 0; role < SL_N_ROLES; role++) {
        enum sl_where where = sl_tensor_rules()[role].where;
        if (where == SL_IN_HEAD)
            add_role(f, role, 0, 0);
        for (uint32_t layer = 0; layer <= LAYERS; layer++)
            for (uint32_t e = 0; e < (where == SL_IN_EXPERT ? f->config.experts : 1); e++)
                if (sl_layer_has(&f->config, layer, role))
                    add_role(f, role, layer, e);
    }
    copy_tensor(f, "model.embed_tokens.weight", "model.layers.2.embed_tokens.weight");
    copy_tensor(f, "lm_head.weight", "model.layers.2.shared_head.head.weight");
    return f;
}

static void fake_free(struct fake *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->tensor[i].data);
        free(f->tensor[i].truth);
    }
    free(f);
}

static void write_shard(const struct fake *f, unsigned shard)
{
    char path[SL_PATH_MAX], name[64];
    json_t *header = json_object();
    uint64_t offset = 0;
    for (size_t i = 0; i < f->n; i++) {
        const struct fake_tensor *t = &f->tensor[i];
        if (t->shard != shard)
            continue;
        json_t *dims = json_array();
        for (unsigned d = 0; d < t->n_dims; d++)
            json_array_append_new(dims, json_integer((json_int_t)t->dims[d]));
        json_object_set_new(header, t->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", sl_dtype_name(t->dtype),
                                      "shape", dims, "data_offsets", (json_int_t)offset,
                                      (json_int_t)(offset + t->bytes)));
        offset += t->bytes;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t length = strlen(text);
    snprintf(name, sizeof name, "part-%u.safetensors", shard);
    path_of(path, f->dir, name);
    FILE *file = must(fopen(path, "wb"));
    fwrite(&length, 8, 1, file);
    fwrite(text, 1, length, file);
    for (size_t i = 0; i < f->n; i++)
        if (f->tensor[i].shard == shard)
            fwrite(f->tensor[i].data, 1, f->tensor[i].bytes, file);
    assert_int_equal(fclose(file), 0);
    free(text);
    json_decref(header);
}

static void fake_write(const struct fake *f)
{
    char text[2048];
    snprintf(text, sizeof text, config_text, f->block_size);
    write_text(f->dir, "config.json", text);
    write_text(f->dir, "tokenizer.json", "{}");
    write_text(f->dir, "LICENSE", "do what you like\n");
    write_shard(f, 0);
    write_shard(f, 1);
}

/* ---- conversions ----------------------------------------------------------------------------- */

static int convert(const char *source, const char *dest, const char *profile, unsigned threads,
                   struct sl_quantize_report *report, struct sluice_err *err)
{
    struct sl_quantize_opts opts = {.profile = profile, .threads = threads};
    return sl_quantize(source, dest, &opts, report, err);
}

static void must_convert(const char *source, const char *dest, const char *profile,
                         unsigned threads, struct sl_quantize_report *report)
{
    struct sluice_err err = {0};
    if (convert(source, dest, profile, threads, report, &err) < 0)
        fail_msg("%s", err.msg);
}

static void print_problem(void *user, const char *text)
{
    (void)user;
    print_error("%s\n", text);
}

static void verify(const char *dir)
{
    struct sl_verify_events events = {.problem = print_problem};
    struct sluice_err err = {0};
    assert_int_equal(sl_container_verify(dir, &events, &err), 0);
}

/* A tensor of a container, read whole. */
struct read_back {
    struct sl_packing packing;
    uint8_t *data;
    size_t bytes;
};

static struct read_back read_back(const char *dir, const char *file, const char *name)
{
    struct sl_safetensors *st = NULL;
    struct sluice_err err = {0};
    struct read_back r = {0};
    char path[SL_PATH_MAX], key[192];
    path_of(path, dir, file);
    assert_int_equal(sl_safetensors_open(&st, path, &err), 0);
    const struct sl_tensor *t = must((void *)(uintptr_t)sl_safetensors_find(st, name));
    assert_int_equal(st->data_start % SL_DATA_ALIGN, 0);
    r.bytes = t->bytes;
    r.data = must(malloc(t->bytes));
    assert_int_equal(sl_tensor_read(st, t, r.data, t->bytes, 0, &err), 0);
    snprintf(key, sizeof key, "pack:%s", name);
    const char *text = sl_safetensors_meta(st, key);
    if (text)
        assert_int_equal(sl_packing_parse(text, name, &r.packing, &err), 0);
    sl_safetensors_close(&st);
    return r;
}

/* Largest difference between weights and truth, as a share of the largest weight. */
struct worst {
    double difference, weight;
};

static void note(struct worst *w, double got, double want)
{
    w->difference = fmax(w->difference, fabs(got - want));
    w->weight = fmax(w->weight, fabs(want));
}

static double relative(struct worst w)
{
    return w.difference / w.weight;
}

static double compare_plain(struct fake *f, const char *dir, const char *file, const char *name)
{
    struct read_back r = read_back(dir, file, name);
    char source[160];
    struct worst worst = {0, 0};
    snprintf(source, sizeof source, "%s.weight", name);
    const struct fake_tensor *t = must(find(f, source));
    assert_true(r.packing.rows == t->dims[0] && r.packing.cols == t->dims[1]);
    for (size_t row = 0; row < t->dims[0]; row++)
        for (size_t col = 0; col < t->dims[1]; col++)
            note(&worst, slow_weight(&r.packing, r.data, 0, row, col),
                 t->truth[row * t->dims[1] + col]);
    free(r.data);
    return relative(worst);
}

/* kv_b: rows of head h are [nope | v_dim]; K is transposed. */
static double compare_kv(struct fake *f, const char *dir)
{
    const struct sl_config *c = &f->config;
    struct read_back k = read_back(dir, "resident-01.safetensors",
                                   "model.layers.1.self_attn.k_up_proj");
    struct read_back v = read_back(dir, "resident-01.safetensors",
                                   "model.layers.1.self_attn.v_up_proj");
    const double *truth = find(f, "model.layers.1.self_attn.kv_b_proj.weight")->truth;
    struct worst worst = {0, 0};
    assert_int_equal(k.packing.rows, c->kv_lora);
    assert_int_equal(k.packing.cols, c->nope);
    assert_int_equal(k.packing.count, c->heads);
    assert_int_equal(v.packing.rows, c->v_dim);
    for (size_t head = 0; head < c->heads; head++)
        for (size_t l = 0; l < c->kv_lora; l++) {
            const double *column = truth + head * (c->nope + c->v_dim) * c->kv_lora + l;
            for (size_t i = 0; i < c->nope; i++)
                note(&worst, slow_weight(&k.packing, k.data, head, l, i), column[i * c->kv_lora]);
            for (size_t i = 0; i < c->v_dim; i++)
                note(&worst, slow_weight(&v.packing, v.data, head, i, l),
                     column[(c->nope + i) * c->kv_lora]);
        }
    free(k.data);
    free(v.data);
    return relative(worst);
}

/* Gate and up rows alternate by panels of 16; rows of the padding are zero. */
static double compare_gate_up(const struct fake_tensor *gate, const struct fake_tensor *up,
                              const struct sl_packing *p, const uint8_t *data)
{
    struct worst worst = {0, 0};
    for (size_t row = 0; row < p->rows; row++) {
        const struct fake_tensor *t = row / 16 % 2 ? up : gate;
        size_t from = row / 32 * 16 + row % 16;
        for (size_t col = 0; col < p->cols; col++)
            note(&worst, slow_weight(p, data, 0, row, col),
                 from < t->dims[0] ? t->truth[from * p->cols + col] : 0);
    }
    return relative(worst);
}

static double compare_dense_ffn(struct fake *f, const char *dir)
{
    struct read_back r = read_back(dir, "resident-00.safetensors",
                                   "model.layers.0.mlp.gate_up_proj");
    assert_int_equal(r.packing.rows, 2 * sl_padded_rows(f->config.ffn_inner));
    double worst = compare_gate_up(find(f, "model.layers.0.mlp.gate_proj.weight"),
                                   find(f, "model.layers.0.mlp.up_proj.weight"), &r.packing,
                                   r.data);
    free(r.data);
    return worst;
}

/* Expert 2 of LAYER, by the layout in the file's metadata. */
static double compare_expert(struct fake *f, const char *dir, unsigned layer)
{
    struct sl_safetensors *st = NULL;
    struct sluice_err err = {0};
    struct sl_expert_layout layout;
    char path[SL_PATH_MAX], file[64], name[128];
    sl_experts_file(file, layer);
    path_of(path, dir, file);
    assert_int_equal(sl_safetensors_open(&st, path, &err), 0);
    assert_int_equal(
        sl_packing_parse(sl_safetensors_meta(st, "pack:gate_up"), path, &layout.gate_up, &err), 0);
    assert_int_equal(
        sl_packing_parse(sl_safetensors_meta(st, "pack:down"), path, &layout.down, &err), 0);
    sl_expert_layout_fill(&layout);
    assert_int_equal(strtoull(sl_safetensors_meta(st, "down_offset"), NULL, 10),
                     layout.down_offset);
    sl_safetensors_close(&st);
    struct read_back r = read_back(dir, file, "experts");
    assert_int_equal(r.bytes, layout.stride * f->config.experts);
    const uint8_t *block = r.data + 2 * layout.stride;
    const struct fake_tensor *gate, *up, *down;
    snprintf(name, sizeof name, "model.layers.%u.mlp.experts.2.gate_proj.weight", layer);
    gate = find(f, name);
    snprintf(name, sizeof name, "model.layers.%u.mlp.experts.2.up_proj.weight", layer);
    up = find(f, name);
    snprintf(name, sizeof name, "model.layers.%u.mlp.experts.2.down_proj.weight", layer);
    down = find(f, name);
    double worst = compare_gate_up(gate, up, &layout.gate_up, block);
    struct worst w = {0, 0};
    for (size_t row = 0; row < layout.down.rows; row++)
        for (size_t col = 0; col < layout.down.cols; col++)
            note(&w, slow_weight(&layout.down, block + layout.down_offset, 0, row, col),
                 down->truth[row * layout.down.cols + col]);
    free(r.data);
    return fmax(worst, relative(w));
}

static double compare_embedding(struct fake *f, const char *dir, bool int8)
{
    struct read_back rows = read_back(dir, SL_HEAD_FILE, "model.embed_tokens"), scale = {0};
    const struct fake_tensor *t = find(f, "model.embed_tokens.weight");
    struct worst worst = {0, 0};
    size_t n = t->dims[0] * t->dims[1];
    assert_int_equal(rows.bytes, int8 ? n : 2 * n);
    if (int8)
        scale = read_back(dir, SL_HEAD_FILE, "model.embed_tokens_scale");
    for (size_t i = 0; i < n; i++)
        note(&worst,
             int8 ? (int8_t)rows.data[i] * (double)f32_at(scale.data + 4 * (i / t->dims[1]))
                  : (double)bfloat_to_float(u16_at(rows.data + 2 * i)),
             t->truth[i]);
    free(rows.data);
    free(scale.data);
    return relative(worst);
}

static void check_vector(struct fake *f, const char *dir)
{
    struct read_back r = read_back(dir, "mtp-02.safetensors", "model.layers.2.enorm");
    const struct fake_tensor *t = find(f, "model.layers.2.enorm.weight");
    assert_int_equal(r.bytes, 4 * t->dims[0]);
    for (size_t i = 0; i < t->dims[0]; i++)
        assert_true((double)f32_at(r.data + 4 * i) == t->truth[i]);
    free(r.data);
}

/* Compares every kind of tensor; largest differences as a share of the largest weight. */
static void compare_all(struct fake *f, const char *dir, bool int8, double dense, double expert)
{
    assert_true(compare_plain(f, dir, "resident-00.safetensors",
                              "model.layers.0.self_attn.kv_a_proj_with_mqa") <= dense);
    assert_true(compare_plain(f, dir, "resident-00.safetensors",
                              "model.layers.0.self_attn.o_proj") <= dense);
    assert_true(compare_plain(f, dir, "resident-01.safetensors", "model.layers.1.mlp.gate") == 0);
    assert_true(compare_plain(f, dir, SL_HEAD_FILE, "lm_head") <= dense);
    assert_true(compare_plain(f, dir, "mtp-02.safetensors", "model.layers.2.eh_proj") <= dense);
    assert_true(compare_kv(f, dir) <= dense);
    assert_true(compare_dense_ffn(f, dir) <= dense);
    assert_true(compare_expert(f, dir, 1) <= expert);
    assert_true(compare_expert(f, dir, 2) <= expert);
    assert_true(compare_embedding(f, dir, int8) <= dense);
    check_vector(f, dir);
    verify(dir);
}

/* Scales in F32, BF16 and E8M0, all in another shard than their weights; ragged last blocks. */
static void test_weights(void **state)
{
    static const enum sl_dtype scales[] = {SL_F32, SL_BF16, SL_F8_E8M0};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct fake *f = fake_make("source", scales[i]);
        char dest[SL_PATH_MAX];
        struct sl_quantize_report report;
        fake_write(f);
        fresh_directory(dest, "reference");
        must_convert(f->dir, dest, "reference", 2, &report);
        assert_int_equal(report.files_written, 6);
        compare_all(f, dest, false, 0, 0);
        fresh_directory(dest, "quality");
        must_convert(f->dir, dest, "quality", 2, &report);
        compare_all(f, dest, true, 0.009, 0.12);
        fake_free(f);
    }
}

/* Scales that are no powers of two: `reference` keeps F32 where FP8 was, BF16 elsewhere. */
static void test_reference_f32(void **state)
{
    struct fake *f = fake_make("source", SL_F32);
    struct fake_tensor *s = find(f, "model.layers.1.mlp.experts.3.up_proj.weight_scale_inv");
    struct fake_tensor *t = find(f, "model.layers.1.mlp.experts.3.up_proj.weight");
    char dest[SL_PATH_MAX];
    struct sl_quantize_report report;
    (void)state;
    double odd = put_scale(s, 1, -8, 1.37);
    for (size_t i = 0; i < t->dims[0] * t->dims[1]; i++)
        if (i % t->dims[1] >= 128)
            t->truth[i] = (double)(float)(e4m3(t->data[i]) * odd);
    fake_write(f);
    fresh_directory(dest, "reference");
    must_convert(f->dir, dest, "reference", 1, &report);
    compare_all(f, dest, false, 0, 0);
    struct read_back r = read_back(dest, "experts-01.safetensors", "experts");
    struct read_back other = read_back(dest, "experts-02.safetensors", "experts");
    assert_true(r.bytes > other.bytes);
    free(r.data);
    free(other.data);
    fake_free(f);
}

/* ---- the same bytes -------------------------------------------------------------------------- */

/* The files of a container, one by one, must be equal. */
static void same_directories(const char *a, const char *b)
{
    DIR *d = must(opendir(a));
    struct dirent *entry;
    size_t n = 0;
    while ((entry = readdir(d))) {
        char path_a[SL_PATH_MAX], path_b[SL_PATH_MAX], *text_a, *text_b;
        size_t size_a, size_b;
        if (entry->d_name[0] == '.')
            continue;
        path_of(path_a, a, entry->d_name);
        path_of(path_b, b, entry->d_name);
        assert_int_equal(sl_file_read(path_a, 1 << 28, &text_a, &size_a, NULL), 0);
        assert_int_equal(sl_file_read(path_b, 1 << 28, &text_b, &size_b, NULL), 0);
        assert_true(size_a == size_b && memcmp(text_a, text_b, size_a) == 0);
        free(text_a);
        free(text_b);
        n++;
    }
    closedir(d);
    assert_true(n >= 10);
}

static void test_threads(void **state)
{
    struct fake *f = fake_make("source", SL_F32);
    char one[SL_PATH_MAX], two[SL_PATH_MAX];
    struct sl_quantize_report report;
    (void)state;
    fake_write(f);
    fresh_directory(one, "one");
    fresh_directory(two, "two");
    must_convert(f->dir, one, "small", 1, &report);
    must_convert(f->dir, two, "small", 2, &report);
    same_directories(one, two);
    fake_free(f);
}

static void remove_file(const char *dir, const char *name)
{
    char path[SL_PATH_MAX];
    path_of(path, dir, name);
    assert_int_equal(unlink(path), 0);
}

static void test_resume(void **state)
{
    struct fake *f = fake_make("source", SL_F32);
    char whole[SL_PATH_MAX], dest[SL_PATH_MAX];
    struct sl_quantize_report report;
    (void)state;
    fake_write(f);
    fresh_directory(whole, "whole");
    fresh_directory(dest, "resumed");
    must_convert(f->dir, whole, "quality", 2, &report);
    must_convert(f->dir, dest, "quality", 2, &report);
    remove_file(dest, "experts-01.safetensors");
    remove_file(dest, "sluice.json");
    write_text(dest, "resident-00.safetensors", "cut off");
    write_text(dest, "resident-01.safetensors.part", "left by a kill");
    must_convert(f->dir, dest, "quality", 2, &report);
    assert_int_equal(report.files_written, 2);
    assert_int_equal(report.files_resumed, 4);
    same_directories(whole, dest);
    same_directories(dest, whole);
    must_convert(f->dir, dest, "quality", 2, &report);
    assert_int_equal(report.files_written, 0);
    assert_int_equal(report.files_resumed, 6);
    remove_file(dest, "tokenizer.json");
    must_convert(f->dir, dest, "quality", 2, &report);
    same_directories(whole, dest);
    fake_free(f);
}

/* Overwrites one byte of DIR/NAME. */
static void poke(const char *dir, const char *name, long offset, char byte)
{
    char path[SL_PATH_MAX];
    path_of(path, dir, name);
    FILE *file = must(fopen(path, "r+b"));
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

/* What the manifest vouched for is what a repaired container has, wherever the damage was. */
static void test_repair(void **state)
{
    struct fake *f = fake_make("source", SL_F32);
    char whole[SL_PATH_MAX], dest[SL_PATH_MAX];
    struct sl_quantize_report report;
    const long padding = SL_DATA_ALIGN - 1; /* a blank at the end of a short header */
    (void)state;
    fake_write(f);
    fresh_directory(whole, "whole");
    fresh_directory(dest, "repaired");
    must_convert(f->dir, whole, "max", 2, &report);
    must_convert(f->dir, dest, "max", 2, &report);
    poke(dest, "experts-01.safetensors", padding, '\t');
    remove_file(dest, "head.safetensors");
    must_convert(f->dir, dest, "max", 2, &report);
    assert_int_equal(report.files_written, 2);
    same_directories(whole, dest);
    poke(dest, "experts-01.safetensors", padding, '\t');
    poke(dest, "head.safetensors", 8, '!');
    write_text(dest, "sluice.json.part", "left by a kill");
    write_text(dest, "LICENSE.part", "left by a kill");
    must_convert(f->dir, dest, "max", 2, &report);
    assert_int_equal(report.files_written, 2);
    same_directories(dest, whole);
    write_text(dest, "sluice.json.part", "left by a kill");
    must_convert(f->dir, dest, "max", 2, &report);
    assert_int_equal(report.files_written, 0);
    same_directories(dest, whole);
    fake_free(f);
}

static int stop_at(void *user, uint64_t done, uint64_t total, const char *file)
{
    int *left = user;
    assert_true(done <= total);
    assert_non_null(file);
    return --*left == 0;
}

/* Cancels at many points; going on gives the same container as one run. */
static void test_cancel(void **state)
{
    struct fake *f = fake_make("source", SL_F32);
    char whole[SL_PATH_MAX], dest[SL_PATH_MAX];
    struct sl_quantize_report report;
    (void)state;
    fake_write(f);
    fresh_directory(whole, "whole");
    must_convert(f->dir, whole, "quality", 1, &report);
    fresh_directory(dest, "cancelled");
    int calls = 1, status, cancelled = 0;
    do {
        int left = calls += 13;
        struct sl_quantize_opts opts = {.threads = 1, .user = &left, .progress = stop_at};
        struct sluice_err err = {0};
        status = sl_quantize(f->dir, dest, &opts, &report, &err);
        cancelled += status == SLUICE_ECANCELLED;
    } while (status == SLUICE_ECANCELLED);
    assert_int_equal(status, 0);
    assert_true(cancelled > 2);
    same_directories(whole, dest);
    same_directories(dest, whole);
    fake_free(f);
}

/* ---- bad input ------------------------------------------------------------------------------- */

static const char expert_up[] = "model.layers.1.mlp.experts.3.up_proj.weight";
static const char kv_a[] = "model.layers.0.self_attn.kv_a_proj_with_mqa.weight";

static void drop(struct fake *f, const char *name)
{
    struct fake_tensor *t = must(find(f, name));
    snprintf(t->name, sizeof t->name, "dropped.%s", name);
}

static void nan_code(struct fake *f)
{
    find(f, kv_a)->data[131 * 200 + 17] = 0xff;
}

static void bf16_nan(struct fake *f)
{
    uint16_t nan = 0x7fc0;
    memcpy(find(f, "lm_head.weight")->data + 2 * (3 * 200 + 199), &nan, 2);
    drop(f, "model.layers.2.shared_head.head.weight"); /* else they would differ */
}

static void bf16_embedding_inf(struct fake *f)
{
    uint16_t inf = 0xff80;
    memcpy(find(f, "model.embed_tokens.weight")->data + 2 * (50 * 200), &inf, 2);
    memcpy(find(f, "model.layers.2.embed_tokens.weight")->data + 2 * (50 * 200), &inf, 2);
}

static void vector_nan(struct fake *f)
{
    uint16_t nan = 0x7f81;
    memcpy(find(f, "model.norm.weight")->data + 2 * 9, &nan, 2);
}

static void no_tensor(struct fake *f)
{
    drop(f, expert_up);
    drop(f, "model.norm.weight");
}

static void no_scale(struct fake *f)
{
    drop(f, "model.layers.1.mlp.experts.3.up_proj.weight_scale_inv");
}

static void flat_scale(struct fake *f)
{
    struct fake_tensor *t = find(f, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv");
    t->n_dims = 1;
    t->dims[0] = t->bytes / 4;
}

static void zero_scale(struct fake *f)
{
    memset(find(f, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv")->data + 4, 0, 4);
}

static void huge_scale(struct fake *f)
{
    float huge = 3e38f;
    struct fake_tensor *t = find(f, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv");
    memcpy(t->data, &huge, 4);
}

static void integer_weight(struct fake *f)
{
    find(f, expert_up)->dtype = SL_I8;
}

static void integer_scale(struct fake *f)
{
    find(f, "model.layers.1.mlp.experts.3.up_proj.weight_scale_inv")->dtype = SL_I32;
}

static void swapped_shape(struct fake *f)
{
    struct fake_tensor *t = find(f, expert_up);
    uint64_t rows = t->dims[0];
    t->dims[0] = t->dims[1];
    t->dims[1] = rows;
}

static void block_size(struct fake *f)
{
    f->block_size = "[64, 128]";
}

static void own_head(struct fake *f)
{
    find(f, "model.layers.2.shared_head.head.weight")->data[5] ^= 1;
}

static const struct bad_case {
    const char *name;
    void (*spoil)(struct fake *f);
    int code;
    const char *words[4]; /* the message has them all */
    bool late;            /* found while converting */
} bad_cases[] = {
    {"NaN code", nan_code, SLUICE_EFORMAT, {kv_a, "row 131", "column 17", "0xff"}, true},
    {"NaN in the head",
     bf16_nan,
     SLUICE_EFORMAT,
     {"lm_head", "row 3", "column 199", ".safetensors"},
     true},
    {"infinite embedding",
     bf16_embedding_inf,
     SLUICE_EFORMAT,
     {"embed_tokens", "row 50", "-inf", ""},
     true},
    {"NaN in a vector", vector_nan, SLUICE_EFORMAT, {"model.norm", "column 9", "", ""}, true},
    {"missing tensors",
     no_tensor,
     SLUICE_EFORMAT,
     {"2 tensors", expert_up, "model.norm.weight", ""},
     false},
    {"missing scale",
     no_scale,
     SLUICE_EFORMAT,
     {expert_up, "weight_scale_inv", "F8_E4M3", ""},
     false},
    {"scale shape", flat_scale, SLUICE_EFORMAT, {"kv_a_proj", "[4]", "[2, 2]", ""}, false},
    {"zero scale", zero_scale, SLUICE_EFORMAT, {"kv_a_proj", "[0, 1]", "positive", ""}, true},
    {"overflow", huge_scale, SLUICE_EFORMAT, {"kv_a_proj", "row 0", "inf", ""}, true},
    {"integer weight", integer_weight, SLUICE_EUNSUPPORTED, {expert_up, "I8", "", ""}, false},
    {"integer scale",
     integer_scale,
     SLUICE_EUNSUPPORTED,
     {"up_proj.weight_scale_inv", "I32", "", ""},
     false},
    {"shape",
     swapped_shape,
     SLUICE_EFORMAT,
     {expert_up, "[200, 40]", "[40, 200]", "moe_intermediate_size"},
     false},
    {"block size",
     block_size,
     SLUICE_EUNSUPPORTED,
     {"weight_block_size", "[64,128]", "", ""},
     false},
    {"MTP head",
     own_head,
     SLUICE_EUNSUPPORTED,
     {"shared_head.head.weight", "lm_head.weight", "", ""},
     false},
};

/* Files in DIR whose name contains PART. */
static size_t count_files(const char *dir, const char *part)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    size_t n = 0;
    while (d && (entry = readdir(d)))
        n += strstr(entry->d_name, part) != NULL;
    if (d)
        closedir(d);
    return n;
}

static void test_bad_input(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_cases / sizeof bad_cases[0]; i++) {
        const struct bad_case *k = &bad_cases[i];
        struct fake *f = fake_make("bad", SL_F32);
        struct sluice_err err = {0};
        struct sl_quantize_report report;
        char dest[SL_PATH_MAX];
        k->spoil(f);
        fake_write(f);
        fresh_directory(dest, "bad-out");
        int status = convert(f->dir, dest, "quality", 2, &report, &err);
        if (status != k->code)
            fail_msg("%s: status %d, %d wanted: %s", k->name, status, k->code, err.msg);
        for (size_t w = 0; w < 4 && k->words[w]; w++)
            if (!strstr(err.msg, k->words[w]))
                fail_msg("%s: no \"%s\" in: %s", k->name, k->words[w], err.msg);
        assert_int_equal(count_files(dest, ".part"), 0);
        assert_int_equal(count_files(dest, "sluice.json"), 0);
        assert_true(k->late || count_files(dest, ".safetensors") == 0);
        fake_free(f);
    }
}

static void must_refuse(const char *source, const char *dest, const char *profile, const char *word)
{
    struct sluice_err err = {0};
    struct sl_quantize_report report;
    assert_int_equal(convert(source, dest, profile, 1, &report, &err), SLUICE_EARG);
    assert_non_null(strstr(err.msg, word));
}

static void test_refused_destinations(void **state)
{
    struct fake *f = fake_make("source", SL_F32);
    char dest[SL_PATH_MAX], text[2048];
    struct sl_quantize_report report;
    (void)state;
    fake_write(f);
    fresh_directory(dest, "taken");
    must_refuse(f->dir, f->dir, "quality", "source itself");
    must_refuse(f->dir, dest, "best", "quality, balanced, small, int4, max, reference");
    must_convert(f->dir, dest, "quality", 1, &report);
    must_refuse(f->dir, dest, "small", "another profile");
    remove_file(dest, "sluice.json");
    must_refuse(f->dir, dest, "small", "another profile");
    snprintf(text, sizeof text, config_text, "[128,128]");
    write_text(f->dir, "config.json", text);
    must_refuse(f->dir, dest, "quality", "another source");
    fake_free(f);
}

/* ---- the demo -------------------------------------------------------------------------------- */

/* Rewrites the manifest of DEST as a later version would: sealed, with a higher format number. */
static void refuses_newer(const char *dest)
{
    char path[SL_PATH_MAX];
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    json_t *manifest = NULL;
    path_of(path, dest, "sluice.json");
    assert_int_equal(sl_json_read(path, 1 << 26, &manifest, &err), 0);
    json_object_set_new(manifest, "format", json_integer(SL_FORMAT_VERSION + 1));
    char *text = must(sl_manifest_text(manifest));
    write_text(dest, "sluice.json", text);
    assert_int_equal(sluice_engine_open(&engine, dest, NULL, &err), SLUICE_EVERSION);
    assert_null(engine);
    assert_non_null(strstr(err.msg, "sluice.json"));
    assert_non_null(strstr(err.msg, "newer"));
    free(text);
    json_decref(manifest);
}

static void test_demo(void **state)
{
    const char *top = getenv("top_srcdir");
    char source[SL_PATH_MAX], dest[SL_PATH_MAX];
    const char *name, *text;
    (void)state;
    path_of(source, top ? top : ".", "demo");
    for (size_t i = 0; sl_profile_list(i, &name, &text); i++) {
        struct sl_quantize_report report;
        fresh_directory(dest, "demo");
        must_convert(source, dest, name, 0, &report);
        assert_true(report.files_written > 0 && report.files_resumed == 0 && report.weights > 0);
        verify(dest);
    }
    refuses_newer(dest);
}

static int make_root(void **state)
{
    const char *tmp = getenv("TMPDIR");
    (void)state;
    snprintf(root, sizeof root, "%.100s/sluice-quant-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    remove_directory(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp8_table),     cmocka_unit_test(test_bf16_decode),
        cmocka_unit_test(test_pack_shapes),   cmocka_unit_test(test_gaussian_errors),
        cmocka_unit_test(test_pack_extremes), cmocka_unit_test(test_fit_weights),
        cmocka_unit_test(test_weights),       cmocka_unit_test(test_reference_f32),
        cmocka_unit_test(test_threads),       cmocka_unit_test(test_resume),
        cmocka_unit_test(test_repair),        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_bad_input),     cmocka_unit_test(test_refused_destinations),
        cmocka_unit_test(test_demo),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
