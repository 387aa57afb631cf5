/* SPDX-License-Identifier: MIT */
/* The short form of a plan, for `sluice run`. */
#include <unistd.h>

#include "tools/common/status.h"
#include "tools/plan/plan.h"

static int forecast_session(struct sl_forecast *f, struct sl_config *config,
                            struct sl_machine *machine, const struct sl_engine_options *o,
                            const struct sluice_model_info *info,
                            const struct sluice_memory_plan *memory)
{
    char path[4096], filled[160];
    const struct sl_wish wish = {
        .config = config,
        .machine = machine,
        .profile = info->profile,
        .container = o->model,
        .memory = memory->limit,
        .threads = info->threads,
        .context = memory->context,
        .chunk = memory->chunk,
        .sessions = memory->sessions,
        .multiplier = o->multiplier,
        .mtp = info->has_mtp ? SLUICE_DRAFTING_ON : SLUICE_DRAFTING_OFF,
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
                  const struct sluice_memory_plan *memory)
{
    struct sl_forecast f;
    struct sl_config config;
    struct sl_machine machine;
    if (!isatty(STDERR_FILENO) || forecast_session(&f, &config, &machine, o, info, memory) < 0 ||
        !f.memory.fits)
        return;
    fprintf(stderr, "expected %.2f tok/s%s\n", 1 / f.rows[0].decode.seconds,
            machine.measured ? "" : " on a typical machine (`sluice doctor` measures this one)");
}
