/* SPDX-License-Identifier: MIT */
/* "Did you mean …?": edit distance over short names.  Owns nothing, prints nothing. */
#include "tools/common/suggest.h"

#include <string.h>

enum { NAME_MAX_BYTES = 48 };

static size_t least(size_t a, size_t b, size_t c)
{
    size_t low = a < b ? a : b;
    return low < c ? low : c;
}

/* Levenshtein distance, one row at a time. */
static size_t edit_distance(const char *a, size_t n, const char *b, size_t m)
{
    size_t row[NAME_MAX_BYTES + 1];
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            row[j] = least(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[m];
}

void sl_suggestion_offer(struct sl_suggestion *suggestion, const char *name)
{
    size_t n = suggestion->len, m = strlen(name), shorter = n < m ? n : m;
    if (n > NAME_MAX_BYTES || m > NAME_MAX_BYTES || shorter < 2)
        return;
    /* "temperature" for "temp" is a close miss, however many letters apart */
    size_t distance = 1, limit = shorter < 4 ? 1 : 2;
    if (memcmp(suggestion->found, name, shorter) != 0)
        distance = edit_distance(suggestion->found, n, name, m);
    if (distance > limit || (suggestion->best && distance >= suggestion->distance))
        return;
    suggestion->best = name;
    suggestion->distance = distance;
}
