/* SPDX-License-Identifier: MIT */
/*
 * Names: of the container's files, and names read from files, which may hold anything and must not
 * reach a terminal or a path as they are.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/container/container.h"
#include "runtime/container/container_private.h"

void sl_resident_file(char out[64], unsigned layer)
{
    snprintf(out, 64, "resident-%02u.safetensors", layer);
}

void sl_experts_file(char out[64], unsigned layer)
{
    snprintf(out, 64, "experts-%02u.safetensors", layer);
}

bool sl_is_tensor_file(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && strcmp(dot, ".safetensors") == 0;
}

void sl_mtp_file(char out[64], unsigned layer)
{
    snprintf(out, 64, "mtp-%02u.safetensors", layer);
}

bool sl_is_experts_file(const char *path)
{
    static const char head[] = "experts-", tail[] = ".safetensors";
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t len = strlen(name);
    return strncmp(name, head, sizeof head - 1) == 0 && len >= sizeof head + sizeof tail - 2 &&
           strcmp(name + len - (sizeof tail - 1), tail) == 0;
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

const char *sl_shown(const char *text, char out[SL_SHOWN])
{
    int n = snprintf(out, SL_SHOWN, "%s", text);
    for (char *c = out; *c; c++)
        if (is_control(*c))
            *c = '?';
    if (n >= SL_SHOWN) {
        char *end = out + SL_SHOWN - sizeof "…";
        /* Not within a UTF-8 character; names of files need not be UTF-8. */
        for (int i = 0; i < 3 && ((unsigned char)*end & 0xc0) == 0x80; i++)
            end--;
        memcpy(end, "…", sizeof "…");
    }
    return out;
}

bool sl_is_name(const char *text, size_t limit)
{
    size_t n = 0;
    for (; text[n]; n++)
        if (n == limit || is_control(text[n]))
            return false;
    return n > 0;
}

bool sl_is_file_name(const char *text)
{
    return sl_is_name(text, 255) && text[0] != '.' && !strchr(text, '/');
}

void sl_list_add(struct sl_list *list, const char *name)
{
    char shown[SL_SHOWN];
    size_t room = sizeof list->text - sizeof " … and 4294967295 more";
    list->count++;
    if (list->shown + 1 < list->count)
        return; /* one was left out already */
    sl_shown(name, shown);
    size_t need = strlen(shown) + 2;
    if (list->used + need > room)
        return;
    int n = snprintf(list->text + list->used, sizeof list->text - list->used, "%s%s",
                     list->used ? ", " : "", shown);
    list->used += (size_t)n;
    list->shown++;
}

const char *sl_list_text(struct sl_list *list)
{
    if (list->shown < list->count)
        snprintf(list->text + list->used, sizeof list->text - list->used, " … and %zu more",
                 list->count - list->shown);
    return list->text;
}

void sl_each_name(const char *dir, bool (*seen)(void *arg, const char *name), void *arg)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (const struct dirent *e; (e = readdir(d));)
        if (!seen(arg, e->d_name))
            break;
    closedir(d);
}
