/* SPDX-License-Identifier: MIT */
/* Keeping and printing findings. */
#include "tools/doctor/findings.h"

#include <stdarg.h>
#include <string.h>

static const char *const names[] = {"OK", "WARN", "FAIL"};

void sl_findings_open(struct sl_findings *f, FILE *out)
{
    *f = (struct sl_findings){.out = out, .list = json_array()};
}

void sl_findings_close(struct sl_findings *f)
{
    json_decref(f->list);
    *f = (struct sl_findings){0};
}

/* Findings quote files and paths: no escape sequences; what is no UTF-8 would be no JSON. */
static void clean(char *text)
{
    json_t *utf8 = json_string(text);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f || (!utf8 && *c & 0x80))
            *c = '?';
    json_decref(utf8);
}

void sl_find(struct sl_findings *f, enum sl_finding status, const char *name, const char *fix,
             const char *found, ...)
{
    char text[1024];
    va_list args;
    va_start(args, found);
    vsnprintf(text, sizeof text, found, args);
    va_end(args);
    clean(text);
    f->count[status]++;
    if (f->out) {
        fprintf(f->out, "%-4s  %-16s %s\n", names[status], name, text);
        if (fix)
            fprintf(f->out, "%24s%s\n", "fix: ", fix);
        fflush(f->out);
    }
    json_t *object = json_pack("{s:s, s:s, s:s, s:s?}", "name", name, "status", names[status],
                               "found", text, "fix", fix);
    if (json_array_append_new(f->list, object) < 0) {
        json_decref(f->list);
        f->list = NULL;
    }
}
