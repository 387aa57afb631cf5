/* SPDX-License-Identifier: MIT */
/* What the kernel lets this process do for reading fast. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <string.h>

#include "tools/common/status.h"
#include "tools/doctor/doctor.h"
#include "runtime/base/system_text.h"

#ifdef HAVE_URING
static const bool built_in = true;
#else
static const bool built_in = false;
#endif

/* 32 reads of 1 MiB in flight, with room to spare. */
enum { WANTED_LOCKED = 64 << 20 };

static void check_locked(struct sl_findings *f, const char *root)
{
    static const char key[] = "Max locked memory";
    char text[SL_SYSTEM_TEXT];
    double bytes;
    sl_system_text(root, text, sizeof text, "/proc/self/limits");
    const char *line = strstr(text, key);
    if (!line) {
        sl_find(f, SL_FINE, "locked memory", NULL, "not known");
    } else if (!sl_text_number(line, key, &bytes)) {
        sl_find(f, SL_FINE, "locked memory", NULL, "unlimited");
    } else {
        bool little = bytes < WANTED_LOCKED;
        sl_find(f, little ? SL_WARN : SL_FINE, "locked memory",
                little ? "systemd LimitMEMLOCK=infinity, or memlock in /etc/security/limits.conf"
                       : NULL,
                "at most %s; registered buffers of io_uring want %s",
                sl_human_bytes((uint64_t)bytes).text, sl_human_bytes(WANTED_LOCKED).text);
    }
}

static void check_uring(struct sl_findings *f, const char *root, int refused)
{
    char text[64], error[128];
    double disabled = 0;
    if (sl_system_text(root, text, sizeof text, "/proc/sys/kernel/io_uring_disabled"))
        sl_text_number(text, "", &disabled);
    if (refused == 0)
        sl_find(f, built_in ? SL_FINE : SL_WARN, "io_uring",
                built_in ? NULL : "install liburing-dev, configure and build again",
                built_in ? "allowed" : "allowed, but built without liburing");
    else if (disabled > 0)
        sl_find(f, SL_WARN, "io_uring", "sysctl kernel.io_uring_disabled=0",
                "kernel.io_uring_disabled is %.0f", disabled);
    else
        sl_find(f, SL_WARN, "io_uring",
                refused == ENOMEM ? "raise the limit of locked memory: ulimit -l"
                                  : "allow io_uring_setup in the container's seccomp profile "
                                    "(docs/operations.md); Linux before 5.1 has none",
                "refused: %s", strerror_r(refused, error, sizeof error));
}

void sl_doctor_limits(struct sl_findings *f, const char *root, int refused)
{
    check_locked(f, root);
    check_uring(f, root, refused);
}
