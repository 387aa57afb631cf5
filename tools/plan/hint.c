/* SPDX-License-Identifier: MIT */
/* The short form of a plan, for `sluice run`. */
#include <string.h>
#include <unistd.h>

#include "tools/common/status.h"
#include "tools/plan/plan.h"

static int forecast_session(struct sl_forecast *f, struct sl_config *config,
                            struct sl_machine *machine, const struct sl_engine_options *o,
                            const struct sluice_model_info *info, size_t tokens)
{
    char path[4096], filled[160];
    const struct sl_wish wish = {
        .config = config,
        .machine = machine,
        .profile = info->profile,
        .container = o->model,
        .memory = UINT64_MAX, /* the session is open: it fits */
        .threads = info->threads,
        .context = o->context ? o->context : tokens,
        .chunk = o->chunk,
        .multiplier = o->multiplier,
        .drives = 1,
    };
    int status = sl_config_read(config, o->model, NULL);
    if (status == 0)
        status = sl_machine_path(path, sizeof path, NULL);
    if (status == 0)
        status = sl_machine_load(machine, path, NULL);
    if (status < 0)
        return status;
    sl_machine_fill(machine, filled, sizeof filled);
    return sl_forecast(f, &wish, NULL);
}

void sl_plan_hint(const struct sl_engine_options *o, const struct sluice_model_info *info,
                  size_t tokens)
{
    struct sl_forecast f;
    struct sl_config config;
    struct sl_machine machine;
    if (!isatty(STDERR_FILENO) || forecast_session(&f, &config, &machine, o, info, tokens) < 0)
        return;
    bool reads = strcmp(info->reader, "pread") == 0;
    const struct sl_speed *speed = &f.rows[0].decode;
    fprintf(stderr, "resident %s · KV %s · scratch %s", sl_human_bytes(f.memory.resident).text,
            sl_human_bytes(f.memory.kv).text, sl_human_bytes(f.memory.scratch).text);
    if (f.sizes.stride)
        fprintf(stderr, " · experts %s, %s", sl_human_bytes(f.sizes.expert_files).text,
                reads ? "read on demand" : "mapped");
    fprintf(stderr, " · expected %.2f tok/s%s\n", 1 / speed->seconds,
            machine.measured ? "" : " on a typical machine (`sluice doctor` measures this one)");
}
