/* SPDX-License-Identifier: MIT */
/* Golden files and recorded runs. */
#include "tests/model/harness.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "quant/quant.h"
#include "runtime/base/json.h"

const char *const model_names[3] = {"demo", "tiny-v32", "tiny-v3"};

/* Tests run once more with blocks of few rows (small_blocks.sh). */
__attribute__((constructor)) static void choose_blocks(void)
{
    const char *shift = getenv("SLUICE_TEST_BLOCK_SHIFT");
    if (shift)
        sl_block_shift = (unsigned)strtoul(shift, NULL, 10);
}

void check_status(int64_t status, const struct sluice_err *err)
{
    if (status < 0)
        fail_msg("status %lld: %s", (long long)status, err->msg);
}

static const char *top(void)
{
    const char *dir = getenv("top_srcdir");
    return dir ? dir : ".";
}

/* ---- golden files --------------------------------------------------------------------------- */

static void *load(const struct sl_safetensors *st, const char *name, const struct sl_tensor **out)
{
    struct sluice_err err = {0};
    const struct sl_tensor *t = *out = sl_safetensors_find(st, name);
    if (!t)
        return NULL;
    void *data = malloc(t->bytes);
    check_status(sl_tensor_read(st, t, data, t->bytes, 0, &err), &err);
    return data;
}

void golden_open(struct golden *g, const char *model, const char *name)
{
    char path[SL_PATH_MAX];
    struct sluice_err err = {0};
    struct sl_safetensors *st;
    const struct sl_tensor *t;
    *g = (struct golden){0};
    snprintf(path, sizeof path, "%s/tests/golden/%s/%s.safetensors", top(), model, name);
    check_status(sl_safetensors_open(&st, path, &err), &err);
    g->tokens = load(st, "tokens", &t);
    g->n = t->dims[0];
    g->logits = load(st, "logits", &t);
    g->logit_rows = t->dims[0];
    g->vocab = t->dims[1];
    g->hiddens = load(st, "hidden", &t);
    g->layers = t->dims[0];
    g->hidden_rows = t->dims[1];
    g->hidden = t->dims[2];
    g->experts = load(st, "experts", &t);
    g->moe_layers = t->dims[0];
    g->used = t->dims[2];
    g->expert_gap = load(st, "expert_gap", &t);
    if ((g->drafts = load(st, "draft_logits", &t)))
        g->draft_rows = t->dims[0];
    if ((g->selected = load(st, "selected", &t)))
        g->topk = t->dims[2];
    g->selection_gap = load(st, "selection_gap", &t);
    sl_safetensors_close(&st);
}

void golden_close(struct golden *g)
{
    free(g->tokens);
    free(g->logits);
    free(g->hiddens);
    free(g->drafts);
    free(g->selected);
    free(g->experts);
    free(g->selection_gap);
    free(g->expert_gap);
    *g = (struct golden){0};
}

static int32_t *int_array(const json_t *root, const char *key, size_t *n)
{
    const json_t *list = json_object_get(root, key);
    *n = json_array_size(list);
    int32_t *out = calloc(*n, sizeof *out);
    for (size_t i = 0; i < *n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return out;
}

void greedy_open(const char *model, int32_t **prompt, size_t *n_prompt, int32_t **greedy,
                 size_t *n_greedy)
{
    char path[SL_PATH_MAX];
    struct sluice_err err = {0};
    json_t *root;
    snprintf(path, sizeof path, "%s/tests/golden/%s/greedy.json", top(), model);
    check_status(sl_json_read(path, 1 << 20, &root, &err), &err);
    *prompt = int_array(root, "prompt", n_prompt);
    *greedy = int_array(root, "greedy", n_greedy);
    json_decref(root);
}

/* ---- conversions ---------------------------------------------------------------------------- */

static char scratch[64];

static void remove_scratch(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch);
    if (system(command) != 0)
        fprintf(stderr, "could not remove %s\n", scratch);
}

const char *checkpoint(const char *model)
{
    static char source[SL_PATH_MAX];
    bool demo = strcmp(model, "demo") == 0;
    snprintf(source, sizeof source, demo ? "%s/demo" : "%s/tests/golden/%s/checkpoint", top(),
             model);
    return source;
}

const char *converted(const char *model, const char *profile)
{
    static char dest[256];
    struct sluice_err err = {0};
    if (!scratch[0]) {
        snprintf(scratch, sizeof scratch, "/tmp/sluice-test-XXXXXX");
        assert_non_null(mkdtemp(scratch));
        atexit(remove_scratch);
    }
    snprintf(dest, sizeof dest, "%s/%s-%s", scratch, model, profile);
    if (!sl_is_directory(dest)) {
        struct sl_quantize_opts opts = {.profile = profile};
        struct sl_quantize_report report;
        check_status(sl_quantize(checkpoint(model), dest, &opts, &report, &err), &err);
    }
    return dest;
}

/* ---- runs ----------------------------------------------------------------------------------- */

static void on_select(void *user, unsigned layer, size_t position, uint32_t *keys, size_t n)
{
    struct run *r = user;
    if (layer >= r->config->layers) /* MTP: golden files have no selection for it */
        return;
    size_t at = (layer * r->n + position) * r->config->index_topk;
    memcpy(r->selected + at, keys, n * sizeof *keys);
    for (size_t i = 0; r->force && i < n; i++) {
        int16_t key = r->force->selected[at + i];
        assert_true(key >= 0 && (size_t)key <= position);
        keys[i] = (uint32_t)key;
    }
}

static void on_route(void *user, unsigned layer, size_t position, uint32_t *experts,
                     const float *weights, size_t n)
{
    struct run *r = user;
    (void)weights;
    if (layer < r->config->layers)
        memcpy(r->experts + (layer * r->n + position) * n, experts, n * sizeof *experts);
}

static void on_hidden(void *user, unsigned layer, size_t position, size_t n, const float *hidden)
{
    struct run *r = user;
    size_t width = r->config->hidden;
    if (layer < r->config->layers)
        memcpy(r->hiddens + (layer * r->n + position) * width, hidden, n * width * sizeof *hidden);
}

static int on_logits(void *user, size_t position, const float *logits)
{
    struct run *r = user;
    memcpy(r->logits + position * r->config->vocab, logits, r->config->vocab * sizeof *logits);
    return 0;
}

static int on_draft(void *user, size_t position, const float *logits)
{
    struct run *r = user;
    memcpy(r->drafts + position * r->config->vocab, logits, r->config->vocab * sizeof *logits);
    return 0;
}

void run_tokens(struct run *r, const int32_t *tokens, size_t n)
{
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    sluice_session *session = NULL;
    struct sluice_stats stats;
    const struct sluice_engine_opts opts = {
        .threads = r->threads, .reader = r->reader, .mtp = r->mtp};
    r->session.context = n;
    r->session.chunk = r->chunk;
    check_status(sluice_engine_open(&engine, r->container, &opts, &err), &err);
    check_status(sluice_session_open(&session, engine, &r->session, &err), &err);
    const struct sl_config *c = r->config = &engine->weights->config;
    r->n = n;
    r->logits = calloc(n * c->vocab, sizeof(float));
    r->drafts = calloc(n * c->vocab, sizeof(float));
    r->hiddens = calloc(n * c->layers * c->hidden, sizeof(float));
    r->selected = calloc(n * c->layers * (c->index_topk + 1), sizeof(uint32_t));
    r->experts = calloc(n * c->layers * c->experts_used, sizeof(uint32_t));
    const struct sl_hooks hooks = {
        .user = r, .select = on_select, .route = on_route, .hidden = on_hidden};
    const struct sluice_sync_callbacks callbacks = {
        .user = r, .logits = on_logits, .draft = r->mtp ? on_draft : NULL};
    sl_session_set_hooks(session, &hooks);
    check_status(sluice_session_sync(session, tokens, n, &callbacks, &err), &err);
    sluice_session_stats(session, &stats);
    r->sparse_queries = stats.sparse_queries;
    sluice_session_close(&session);
    sluice_engine_close(&engine);
    r->config = NULL;
}

void run_close(struct run *r)
{
    free(r->logits);
    free(r->drafts);
    free(r->hiddens);
    free(r->selected);
    free(r->experts);
    r->logits = r->drafts = r->hiddens = NULL;
    r->selected = r->experts = NULL;
}

/* log Σ exp(x) and the index of the largest. */
static double log_sum(const float *x, size_t n, size_t *best)
{
    double sum = 0;
    *best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[*best])
            *best = i;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)x[*best]);
    return log(sum) + (double)x[*best];
}

double mean_kl(const struct golden *g, const struct run *r, double *top1)
{
    double total = 0;
    size_t same = 0;
    for (size_t i = 0; i < g->logit_rows; i++) {
        const float *p = g->logits + i * g->vocab;
        const float *q = r->logits + (g->n - g->logit_rows + i) * g->vocab;
        size_t best_p, best_q;
        double lp = log_sum(p, g->vocab, &best_p), lq = log_sum(q, g->vocab, &best_q);
        for (size_t v = 0; v < g->vocab; v++) {
            double a = (double)p[v] - lp, b = (double)q[v] - lq;
            total += exp(a) * (a - b);
        }
        same += best_p == best_q;
    }
    *top1 = (double)same / (double)g->logit_rows;
    return total / (double)g->logit_rows;
}
