/* SPDX-License-Identifier: MIT */
/* The flags that a kernel knows, and what to say where io_uring is not to be had. */
#include "runtime/base/uring.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "runtime/base/err.h"

#ifdef HAVE_URING
#include <errno.h>
#include <liburing.h>

/* The flags that suit one thread, or what the kernel knows of them.  TASKRUN_FLAG lets a look for
 * completions do without a system call when there are none. */
static int open_best(unsigned entries, struct io_uring *ring)
{
    static const unsigned flags[] = {
#if defined IORING_SETUP_SINGLE_ISSUER && defined IORING_SETUP_DEFER_TASKRUN
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
#endif
#ifdef IORING_SETUP_COOP_TASKRUN
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
#endif
        0,
    };
    int failed = -EINVAL;
    for (size_t i = 0; failed == -EINVAL && i < sizeof flags / sizeof *flags; i++)
        failed = io_uring_queue_init(entries, ring, flags[i]);
    return failed;
}

int sl_uring_open(struct io_uring *ring, unsigned entries, struct sluice_err *err)
{
    int failed = open_best(entries, ring);
    if (failed == -EPERM || failed == -EACCES || failed == -ENOSYS)
        return sl_fail_errno(err, SLUICE_EUNSUPPORTED, -failed,
                             "io_uring is not allowed here (sysctl kernel.io_uring_disabled=0, or "
                             "a seccomp profile of the container that allows it, would mend that)");
    if (failed < 0)
        return sl_fail_errno(err, SLUICE_EUNSUPPORTED, -failed, "cannot open an io_uring");
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    int can_read = probe && io_uring_opcode_supported(probe, IORING_OP_READ);
    io_uring_free_probe(probe);
    if (can_read)
        return 0;
    io_uring_queue_exit(ring);
    return sl_fail(err, SLUICE_EUNSUPPORTED,
                   "io_uring cannot read here: Linux 5.6 or newer is needed");
}
#else
int sl_uring_open(struct io_uring *ring, unsigned entries, struct sluice_err *err)
{
    (void)ring;
    (void)entries;
    return sl_fail(
        err, SLUICE_EUNSUPPORTED,
        "no io_uring: built without liburing (Debian: liburing-dev); configure again with "
        "it");
}
#endif
