/* SPDX-License-Identifier: MIT */
/*
 * Expert files that are split for several drives: names, shares, how many parts there are, and
 * links that lead nowhere.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/container/container.h"

void sl_experts_part_file(char out[64], unsigned layer, unsigned part, unsigned n_parts)
{
    if (n_parts == 1)
        sl_experts_file(out, layer);
    else
        snprintf(out, 64, "experts-%02u.%u.safetensors", layer, part);
}

void sl_part_print(char out[16], unsigned part, unsigned n_parts)
{
    snprintf(out, 16, "%u/%u", part, n_parts);
}

uint64_t sl_part_chunks(const struct sl_expert_layout *layout, unsigned part, unsigned n_parts)
{
    return layout->chunks / n_parts + (part < layout->chunks % n_parts);
}

uint64_t sl_part_stride(const struct sl_expert_layout *layout, unsigned part, unsigned n_parts)
{
    uint64_t chunks = sl_part_chunks(layout, part, n_parts), last = layout->chunks - 1;
    if (last % n_parts != part)
        return chunks * SL_CHUNK_BYTES;
    return (chunks - 1) * SL_CHUNK_BYTES + sl_chunk_length(layout, last);
}

int sl_manifest_parts(const struct sl_manifest *m, unsigned layer, unsigned *n_parts,
                      struct sluice_err *err)
{
    char whole[64], name[64];
    unsigned found = 0, end = 0; /* of the parts: how many, and the number behind the last */
    sl_experts_file(whole, layer);
    bool has_whole = sl_manifest_find(m, whole) != NULL;
    for (unsigned p = 0; p < SL_PARTS_MAX; p++) {
        sl_experts_part_file(name, layer, p, SL_PARTS_MAX);
        if (sl_manifest_find(m, name)) {
            found++;
            end = p + 1;
        }
    }
    *n_parts = has_whole ? 1 : end;
    if (has_whole && found > 0)
        return sl_fail(err, SLUICE_EFORMAT, "%s: lists %s and parts of it, too", m->path, whole);
    if (!has_whole && found == 0)
        return sl_fail(err, SLUICE_EFORMAT, "%s: does not list %s", m->path, whole);
    if (!has_whole && (found < end || end == 1))
        return sl_fail(err, SLUICE_EFORMAT, "%s: lists %u of %u parts of %s", m->path, found,
                       end == 1 ? 2 : end, whole);
    return 0;
}

/* What a dangling link of ours, which is absolute, lacks. */
static const char *what_is_missing(const char *target, const char *name)
{
    char dir[SL_PATH_MAX];
    struct stat info;
    snprintf(dir, sizeof dir, "%.*s", (int)(name - target), target);
    return dir[0] == '/' && stat(dir, &info) != 0 ? "directory" : "file";
}

int sl_link_check(const char *path, struct sluice_err *err)
{
    char target[SL_PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target - 1);
    struct stat info;
    if (n < 0 || stat(path, &info) == 0 || errno != ENOENT)
        return 0;
    target[n] = 0;
    const char *slash = strrchr(target, '/'), *name = slash ? slash + 1 : target;
    return sl_fail(err, SLUICE_EFORMAT,
                   "%.300s: a link to %.300s, but there is no such %s; mount that drive, or, if "
                   "the files have moved, make the link anew: ln -sfn DIRECTORY/%.64s %.300s",
                   path, target, what_is_missing(target, name), name, path);
}
