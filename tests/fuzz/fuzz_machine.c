/* SPDX-License-Identifier: MIT */
/* The file of a machine's measurements: what is read can be planned with, and written again. */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tools/measure/machine.h"

static void check_machine(const struct sl_machine *m)
{
    char names[1024];
    struct sl_machine filled = *m;
    fuzz_check(m->measured && m->threads > 0, "measurements of no threads");
    sl_machine_fill(&filled, names, sizeof names);
    fuzz_check(filled.memory_all > 0 && filled.lut4_few[0] > 0 && filled.attend_block > 0,
               "a rate is unknown, or none");
    fuzz_check(strlen(names) < sizeof names - 1, "the names of unknown rates are cut off");
}

static void check_again(const struct sl_machine *m, const char *path)
{
    struct sl_machine again;
    struct sluice_err err;
    fuzz_err_prepare(&err);
    fuzz_check(fuzz_succeeded(sl_machine_save(m, path, &err), &err), "cannot be written");
    fuzz_check(fuzz_succeeded(sl_machine_load(&again, path, &err), &err), "cannot be read again");
    fuzz_check(again.threads == m->threads && strcmp(again.cpu, m->cpu) == 0 &&
                   strcmp(again.rung, m->rung) == 0 && strcmp(again.date, m->date) == 0,
               "comes back as something else");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_machine m;
    struct sluice_err err;
    const char *path = fuzz_put("machine.json", data, size);
    fuzz_err_prepare(&err);
    if (fuzz_succeeded(sl_machine_load(&m, path, &err), &err)) {
        check_machine(&m);
        check_again(&m, path);
    }
    return 0;
}
