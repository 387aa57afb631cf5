/* SPDX-License-Identifier: MIT */
/* Exit codes, error reports, numbers for people, Ctrl-C.  Owns the SIGINT handler; never exits but
 * from there. */
#include "tools/common/status.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

int sl_exit_code(int status)
{
    if (status >= 0)
        return SL_EXIT_OK;
    switch (status) {
    case SLUICE_EARG:
        return SL_EXIT_USAGE;
    case SLUICE_EFORMAT:
    case SLUICE_EDAMAGED:
    case SLUICE_EVERSION:
    case SLUICE_EUNSUPPORTED:
        return SL_EXIT_MODEL;
    case SLUICE_ENOMEM:
    case SLUICE_ENOSPC:
        return SL_EXIT_RESOURCES;
    case SLUICE_ECANCELLED:
        return SL_EXIT_INTERRUPTED;
    default:
        return SL_EXIT_FAILED;
    }
}

int sl_report(const struct sluice_err *err)
{
    fprintf(stderr, "sluice: %s\n", err->msg[0] ? err->msg : "failed without a message");
    return sl_exit_code(err->code);
}

void sl_print_exit_codes(FILE *out)
{
    fputs("Exit status:\n"
          "  0 done, 1 failed, 2 wrong usage, 3 model or file format,\n"
          "  4 not enough memory or room on the drive, 130 interrupted\n",
          out);
}

struct sl_human sl_human_bytes(uint64_t bytes)
{
    static const struct {
        const char *name;
        uint64_t size;
    } units[] = {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}};
    struct sl_human human;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (bytes >= units[i].size) {
            double count = (double)bytes / (double)units[i].size;
            snprintf(human.text, sizeof human.text, "%.1f %s", count, units[i].name);
            return human;
        }
    snprintf(human.text, sizeof human.text, "%u bytes", (unsigned)bytes);
    return human;
}

struct sl_human sl_human_seconds(double seconds)
{
    struct sl_human human;
    if (seconds < 9.95) {
        snprintf(human.text, sizeof human.text, "%.1f s", seconds);
        return human;
    }
    unsigned long whole = seconds < 1e9 ? (unsigned long)(seconds + 0.5) : 1000000000;
    if (whole < 60)
        snprintf(human.text, sizeof human.text, "%lu s", whole);
    else if (whole < 3600)
        snprintf(human.text, sizeof human.text, "%lu min %02lu s", whole / 60, whole % 60);
    else
        snprintf(human.text, sizeof human.text, "%lu h %02lu min", whole / 3600, whole / 60 % 60);
    return human;
}

static volatile sig_atomic_t interrupted;
static _Atomic(const struct sl_interrupt_action *) action_now;

/* The kernel prefers the main thread for signals sent to the process, so that an action does not
 * in practice run beside the code that unregisters it. */
static void on_interrupt(int signal_number)
{
    (void)signal_number;
    if (interrupted)
        _exit(SL_EXIT_INTERRUPTED);
    interrupted = 1;
    const struct sl_interrupt_action *action = atomic_load(&action_now);
    if (action)
        action->call(action->argument);
}

void sl_interrupt_install(void)
{
    struct sigaction how = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigemptyset(&how.sa_mask);
    sigaction(SIGINT, &how, NULL);
}

bool sl_interrupted(void)
{
    return interrupted != 0;
}

void sl_interrupt_set_action(const struct sl_interrupt_action *action)
{
    atomic_store(&action_now, action);
    if (action && interrupted)
        action->call(action->argument);
}
