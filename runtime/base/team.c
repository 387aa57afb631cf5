/* SPDX-License-Identifier: MIT */
/* OpenMP behind one function; the only file that knows about it. */
#include "runtime/base/team.h"

#include <omp.h>
#include <pthread.h>

/*
 * GCC's OpenMP runtime is not instrumented: ThreadSanitizer would take every fork and join for a
 * race.  So sl_team_run() is not instrumented either, and says where a phase begins and ends for
 * each piece of work.  Pieces are not ordered among each other: races between them are found.
 */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define UNINSTRUMENTED __attribute__((no_sanitize("thread")))

static void order_after(void *gate)
{
    __tsan_acquire(gate);
}

static void order_before(void *gate)
{
    __tsan_release(gate);
}
#else
#define UNINSTRUMENTED

static inline void order_after(void *gate)
{
    (void)gate;
}

static inline void order_before(void *gate)
{
    (void)gate;
}
#endif

struct sl_team sl_team_make(unsigned threads)
{
    unsigned processors = (unsigned)omp_get_num_procs();
    unsigned most = processors > SL_TEAM_MAX ? processors : SL_TEAM_MAX;
    if (threads == 0)
        threads = processors;
    return (struct sl_team){.threads = threads < most ? threads : most};
}

UNINSTRUMENTED void sl_team_run(const struct sl_team *team, size_t n, size_t grain,
                                sl_work_fn *work, void *arg)
{
    char begins, ends; /* their addresses */
    if (grain == 0)
        grain = 1;
    if (team->threads <= 1 || n <= grain) {
        if (n > 0)
            work(arg, 0, n, 0);
        return;
    }
    size_t pieces = (n + grain - 1) / grain;
    order_before(&begins);
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)team->threads)
    for (size_t i = 0; i < pieces; i++) {
        size_t begin = i * grain;
        size_t end = n - begin < grain ? n : begin + grain;
        order_after(&begins);
        work(arg, begin, end, (unsigned)omp_get_thread_num());
        order_before(&ends);
    }
    order_after(&ends);
}

static void block_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, before);
}

/* OpenMP's number of threads belongs to the task that sets it, here the calling thread's.  Workers
 * that start later have the calling thread's signals, which are blocked before all others. */
UNINSTRUMENTED struct sl_lent sl_team_lend(const struct sl_team *team)
{
    struct sl_lent lent = {.threads = (unsigned)omp_get_max_threads()};
    block_signals(&lent.signals);
#pragma omp parallel num_threads((int)team->threads)
    block_signals(NULL);
    omp_set_num_threads((int)team->threads);
    return lent;
}

void sl_team_take_back(const struct sl_lent *lent)
{
    omp_set_num_threads((int)lent->threads);
    pthread_sigmask(SIG_SETMASK, &lent->signals, NULL);
}
