/* SPDX-License-Identifier: MIT */
#include "tools/common/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "runtime/base/err.h"

enum {
    VERSION = 1,
    MAX_LAYERS = 4096,
    MAX_EXPERTS = 65536,
    MAX_USED = 4096,
    MAX_POSITION = 1 << 30,
    MAX_TOKENS = 1 << 30,
    LINE = 64 + 6 * MAX_USED, /* bytes of the longest line */
};

#define MAX_AMOUNT ((uint64_t)1 << 53) /* of bytes and microseconds */

/* ---- writing -------------------------------------------------------------------------------- */

struct sl_trace_writer {
    gzFile out;
    uint32_t used;
    int failure; /* errno of the first write that failed; 0: none */
    char path[1024];
    char line[LINE];
};

static void put_line(struct sl_trace_writer *w, size_t len)
{
    int code;
    if (w->failure || gzwrite(w->out, w->line, (unsigned)len) == (int)len)
        return;
    int saved = errno;
    gzerror(w->out, &code);
    w->failure = code == Z_ERRNO && saved ? saved : code == Z_MEM_ERROR ? ENOMEM : EIO;
}

int sl_trace_create(struct sl_trace_writer **out, const char *path,
                    const struct sl_trace_model *model, struct sluice_err *err)
{
    struct sl_trace_writer *w = *out = calloc(1, sizeof *w);
    if (!w)
        return sl_fail_nomem(err, "trace", sizeof *w);
    w->used = model->used;
    snprintf(w->path, sizeof w->path, "%s", path);
    errno = 0;
    if (!(w->out = gzopen(path, "wbe"))) {
        int status = sl_fail_errno(err, SLUICE_EIO, errno ? errno : ENOMEM,
                                   "cannot write the trace %s", path);
        free(w);
        *out = NULL;
        return status;
    }
    int len = snprintf(w->line, sizeof w->line,
                       "sluice-trace %d layers %" PRIu32 " dense %" PRIu32 " experts %" PRIu32
                       " used %" PRIu32 "\n",
                       VERSION, model->layers, model->dense, model->experts, model->used);
    put_line(w, (size_t)len); /* takes zlib's memory, too */
    return 0;
}

/* " 123"; returns the end. */
static char *put_number(char *at, uint64_t value)
{
    char digits[20];
    int n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    *at++ = ' ';
    while (n > 0)
        *at++ = digits[--n];
    return at;
}

void sl_trace_write(struct sl_trace_writer *w, const struct sl_trace_route *route)
{
    char *at = w->line;
    *at++ = route->decode ? 'd' : 'p';
    at = put_number(at, route->position);
    at = put_number(at, route->layer);
    for (uint32_t i = 0; i < w->used; i++)
        at = put_number(at, route->experts[i]);
    *at++ = '\n';
    put_line(w, (size_t)(at - w->line));
}

void sl_trace_write_event(struct sl_trace_writer *w, const struct sl_trace_event *e)
{
    const uint64_t fields[] = {e->position, e->tokens, e->layer,    e->memory,  e->read, e->ahead,
                               e->bytes,    e->before, e->resident, e->reading, e->rest, e->all};
    char *at = w->line;
    memcpy(at, e->decode ? "e d" : "e p", 3);
    at += 3;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        at = put_number(at, fields[i]);
    *at++ = '\n';
    put_line(w, (size_t)(at - w->line));
}

int sl_trace_finish(struct sl_trace_writer **out, struct sluice_err *err)
{
    struct sl_trace_writer *w = *out;
    if (!w)
        return 0;
    errno = 0;
    int closed = gzclose(w->out), saved = errno;
    if (closed != Z_OK && !w->failure)
        w->failure = saved ? saved : EIO;
    int status = w->failure ? sl_fail_errno(err, SLUICE_EIO, w->failure,
                                            "%s: the trace is not complete", w->path)
                            : 0;
    free(w);
    *out = NULL;
    return status;
}

/* ---- reading -------------------------------------------------------------------------------- */

struct sl_trace {
    gzFile in;
    const char *path;
    size_t number; /* of the line */
    struct sl_trace_model model;
    uint32_t experts[MAX_USED];
    char line[LINE];
};

/* The next line, without its end.  1, 0 at the end of the file, or negative. */
static int get_line(struct sl_trace *t, struct sluice_err *err)
{
    int code;
    t->number++;
    errno = 0;
    bool got = gzgets(t->in, t->line, LINE) != NULL;
    int saved = errno;
    const char *what = gzerror(t->in, &code);
    if (code == Z_ERRNO)
        return sl_fail_errno(err, SLUICE_EIO, saved, "cannot read %s", t->path);
    if (code == Z_MEM_ERROR)
        return sl_fail(err, SLUICE_ENOMEM, "%s: no memory to decompress", t->path);
    size_t len = got ? strlen(t->line) : 0;
    bool whole = len > 0 && t->line[len - 1] == '\n';
    if (code < 0 && !whole)
        return sl_fail(err, SLUICE_EDAMAGED, "%s, line %zu: damaged, or cut off (zlib: %s)",
                       t->path, t->number, what);
    if (!got)
        return 0;
    if (!whole)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s, line %zu: cut off, longer than %d bytes, or not text", t->path,
                       t->number, LINE);
    t->line[len - 1] = 0;
    return 1;
}

/* WORD, then a number in [low, high]. */
static bool take_long(const char **at, const char *word, uint64_t low, uint64_t high, uint64_t *out)
{
    size_t len = strlen(word);
    uint64_t value = 0;
    if (strncmp(*at, word, len) != 0)
        return false;
    const char *digit = *at + len;
    if (*digit < '0' || *digit > '9')
        return false;
    for (; *digit >= '0' && *digit <= '9'; digit++)
        if ((value = value * 10 + (uint64_t)(*digit - '0')) > high)
            return false;
    *at = digit;
    *out = value;
    return value >= low;
}

static bool take(const char **at, const char *word, uint32_t low, uint32_t high, uint32_t *out)
{
    uint64_t value;
    if (!take_long(at, word, low, high, &value))
        return false;
    *out = (uint32_t)value;
    return true;
}

static int read_head(struct sl_trace *t, struct sluice_err *err)
{
    struct sl_trace_model *m = &t->model;
    const char *at = t->line;
    uint32_t version;
    int status = get_line(t, err);
    if (status < 0)
        return status;
    if (status == 0 || !take(&at, "sluice-trace ", 1, UINT32_MAX, &version))
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: no trace; `sluice run --trace FILE` writes such files", t->path);
    if (version > VERSION)
        return sl_fail(err, SLUICE_EVERSION,
                       "%s: version %" PRIu32 " of traces; this program knows %d", t->path, version,
                       VERSION);
    if (take(&at, " layers ", 1, MAX_LAYERS, &m->layers) &&
        take(&at, " dense ", 0, m->layers - 1, &m->dense) &&
        take(&at, " experts ", 1, MAX_EXPERTS, &m->experts) &&
        take(&at, " used ", 1, m->experts < MAX_USED ? m->experts : MAX_USED, &m->used) && *at == 0)
        return 0;
    return sl_fail(err, SLUICE_EFORMAT,
                   "%s, line 1: found '%.80s'; wanted 'sluice-trace 1 layers N dense N experts N "
                   "used N'",
                   t->path, t->line);
}

int sl_trace_open(struct sl_trace **out, const char *path, struct sluice_err *err)
{
    struct sl_trace *t = *out = calloc(1, sizeof *t);
    if (!t)
        return sl_fail_nomem(err, "trace", sizeof *t);
    t->path = path;
    errno = 0;
    t->in = gzopen(path, "rbe");
    int status = t->in ? read_head(t, err)
                       : sl_fail_errno(err, SLUICE_EIO, errno ? errno : ENOMEM,
                                       "cannot open the trace %s", path);
    if (status < 0)
        sl_trace_close(out);
    return status;
}

const struct sl_trace_model *sl_trace_model(const struct sl_trace *t)
{
    return &t->model;
}

static bool parse_route(struct sl_trace *t, struct sl_trace_route *route)
{
    const struct sl_trace_model *m = &t->model;
    const char *at = t->line + 1;
    bool good = take(&at, " ", 0, MAX_POSITION, &route->position) &&
                take(&at, " ", m->dense, m->layers - 1, &route->layer);
    for (uint32_t i = 0; good && i < m->used; i++)
        good = take(&at, " ", i ? t->experts[i - 1] + 1 : 0, m->experts - 1, &t->experts[i]);
    route->decode = t->line[0] == 'd';
    route->experts = t->experts;
    return good && *at == 0;
}

static bool parse_event(const struct sl_trace *t, struct sl_trace_event *e)
{
    const struct sl_trace_model *m = &t->model;
    const char *at = t->line + 3;
    e->decode = t->line[2] == 'd';
    return (e->decode || t->line[2] == 'p') && take(&at, " ", 0, MAX_POSITION, &e->position) &&
           take(&at, " ", 1, MAX_TOKENS, &e->tokens) &&
           take(&at, " ", m->dense, m->layers - 1, &e->layer) &&
           take(&at, " ", 0, m->experts, &e->memory) && take(&at, " ", 0, m->experts, &e->read) &&
           take(&at, " ", 0, m->experts, &e->ahead) &&
           take_long(&at, " ", 0, MAX_AMOUNT, &e->bytes) &&
           take_long(&at, " ", 0, MAX_AMOUNT, &e->before) &&
           take_long(&at, " ", 0, MAX_AMOUNT, &e->resident) &&
           take_long(&at, " ", 0, MAX_AMOUNT, &e->reading) &&
           take_long(&at, " ", 0, MAX_AMOUNT, &e->rest) &&
           take_long(&at, " ", 0, MAX_AMOUNT, &e->all) && *at == 0;
}

static int fail_line(const struct sl_trace *t, struct sluice_err *err)
{
    const struct sl_trace_model *m = &t->model;
    if (t->line[0] == 'e')
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s, line %zu: found '%.80s'; wanted e, p or d, a position, tokens, a layer "
                       "from %" PRIu32 " to %" PRIu32 ", 3 numbers of experts up to %" PRIu32
                       ", bytes and 5 times",
                       t->path, t->number, t->line, m->dense, m->layers - 1, m->experts);
    return sl_fail(err, SLUICE_EFORMAT,
                   "%s, line %zu: found '%.80s'; wanted p or d, a position, a layer from %" PRIu32
                   " to %" PRIu32 " and %" PRIu32 " ascending experts below %" PRIu32,
                   t->path, t->number, t->line, m->dense, m->layers - 1, m->used, m->experts);
}

int sl_trace_read(struct sl_trace *t, struct sl_trace_record *record, struct sluice_err *err)
{
    int status;
    while ((status = get_line(t, err)) > 0) {
        char kind = t->line[0];
        bool route = kind == 'p' || kind == 'd';
        if (kind < 'a' || kind > 'z' || t->line[1] != ' ')
            return fail_line(t, err);
        if (!route && kind != 'e')
            continue;
        record->is_event = !route;
        if (route ? parse_route(t, &record->route) : parse_event(t, &record->event))
            return 1;
        return fail_line(t, err);
    }
    return status;
}

int sl_trace_next(struct sl_trace *t, struct sl_trace_route *route, struct sluice_err *err)
{
    struct sl_trace_record record;
    int status;
    while ((status = sl_trace_read(t, &record, err)) > 0)
        if (!record.is_event) {
            *route = record.route;
            return 1;
        }
    return status;
}

void sl_trace_close(struct sl_trace **out)
{
    struct sl_trace *t = *out;
    if (!t)
        return;
    if (t->in)
        gzclose(t->in);
    free(t);
    *out = NULL;
}
