/* SPDX-License-Identifier: MIT */
/* One number for a model as it was converted, from its manifest. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/err.h"
#include "runtime/container/container.h"
#include "runtime/container/container_private.h"

static void describe(const struct sl_manifest *m, const char *recipe, FILE *out)
{
    fprintf(out, "%s\n%s\n%s\n%s\n", m->tool_version, m->profile, m->source_digest, recipe);
    for (size_t i = 0; i < m->n_files; i++)
        if (!sl_is_experts_file(m->files[i].name))
            fprintf(out, "%s %" PRIu64 " %016" PRIx64 "\n", m->files[i].name, m->files[i].bytes,
                    m->files[i].xxh3);
}

int sl_manifest_digest(const struct sl_manifest *m, uint64_t *digest, struct sluice_err *err)
{
    char *text = NULL;
    size_t size = 0;
    const json_t *recipe = json_object_get(m->root, "recipe");
    char *words = recipe ? json_dumps(recipe, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    FILE *out = open_memstream(&text, &size);
    if (out)
        describe(m, words ? words : "", out);
    bool good = out && fclose(out) == 0 && (words || !recipe);
    if (good)
        *digest = sl_hash(text, size);
    free(words);
    free(text);
    return good ? 0 : sl_fail_nomem(err, "the model's digest", size);
}
