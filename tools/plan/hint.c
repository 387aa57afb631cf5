/* SPDX-License-Identifier: MIT */
/* The short form of a plan, for `sluice run`. */
#include <string.h>
#include <unistd.h>

#include "runtime/base/available.h"
#include "tools/common/status.h"
#include "tools/plan/plan.h"

static int forecast_session(struct sl_forecast *f, struct sl_config *config,
                            struct sl_machine *machine, const struct sl_engine_options *o,
                            const struct sluice_model_info *info, size_t tokens)
{
    char path[4096], filled[160];
    struct sl_wish wish = {
        .config = config,
        .machine = machine,
        .profile = info->profile,
        .container = o->model,
        .memory = strcmp(info->reader, "pread") == 0 ? sl_memory_budget(sl_memory_available())
                                                     : UINT64_MAX, /* all is mapped */
        .context = o->context ? o->context : tokens,
        .chunk = o->chunk,
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
    if (!isatty(STDERR_FILENO) || forecast_session(&f, &config, &machine, o, info, tokens) < 0 ||
        !f.memory.fits)
        return;
    fprintf(stderr, "resident %s · KV %s · scratch %s", sl_human_bytes(f.memory.resident).text,
            sl_human_bytes(f.memory.kv).text, sl_human_bytes(f.memory.scratch).text);
    if (f.sizes.stride)
        fprintf(stderr, " · experts %s, by %s", sl_human_bytes(f.sizes.expert_files).text,
                info->reader);
    fprintf(stderr, " · expected %.2g tok/s%s\n", 1 / f.rows[0].decode.seconds_now,
            machine.measured ? "" : " on a typical machine (`sluice doctor` measures this one)");
}
