/* SPDX-License-Identifier: MIT */
/*
 * UTF-8 as the Unicode standard recommends (maximal subparts): bytes that cannot be part of a
 * character become U+FFFD exactly as in Python's decode(errors="replace") and Rust's
 * from_utf8_lossy().
 */
#include <string.h>

#include "runtime/text/text_private.h"

/* Length of the character that LEAD begins (0: none) and the range of its second byte. */
static size_t lead_length(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;  /* no overlong forms */
    *high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf; /* no surrogates, ≤ U+10FFFF */
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

enum sl_utf8 sl_utf8_next(const char *text, size_t len, size_t *used)
{
    unsigned char low, high;
    size_t want = lead_length((unsigned char)text[0], &low, &high);
    *used = 1;
    if (want == 0)
        return SL_UTF8_BAD;
    for (; *used < want; ++*used) {
        if (*used == len)
            return SL_UTF8_PART;
        unsigned char byte = (unsigned char)text[*used];
        if (byte < low || byte > high)
            return SL_UTF8_BAD;
        low = 0x80;
        high = 0xbf;
    }
    return SL_UTF8_CHAR;
}

size_t sl_utf8_repair(const char *text, size_t len, char *out)
{
    size_t n = 0;
    for (size_t i = 0, used; i < len; i += used) {
        bool good = sl_utf8_next(text + i, len - i, &used) == SL_UTF8_CHAR;
        size_t add = good ? used : SL_REPLACEMENT_LEN;
        if (out)
            memcpy(out + n, good ? text + i : SL_REPLACEMENT, add);
        n += add;
    }
    return n;
}

int sl_utf8_cut(const char *text, int limit)
{
    int n = (int)strnlen(text, (size_t)limit);
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return n;
}
