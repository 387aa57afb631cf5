/* SPDX-License-Identifier: MIT */
/* The one thread team.  A call runs one wide phase on every thread and returns when all is done. */
#ifndef SL_BASE_TEAM_H
#define SL_BASE_TEAM_H

#include <signal.h>
#include <stddef.h>

struct sl_team {
    unsigned threads;
};

/*
 * THREADS 0: every processor this process may use.  More than SL_TEAM_MAX, or than there are
 * processors if that is more, are cut down: the OpenMP runtime ends the process when the system
 * refuses it a thread.
 */
enum { SL_TEAM_MAX = 16 };
struct sl_team sl_team_make(unsigned threads);

/*
 * Calls work(arg, begin, end, thread) with disjoint ranges that cover [0, n).  Ranges are multiples
 * of GRAIN items (but for the last); which thread gets which is open, so results must not depend
 * on it.  thread < team->threads.  Not to be nested.
 */
typedef void sl_work_fn(void *arg, size_t begin, size_t end, unsigned thread);
void sl_team_run(const struct sl_team *team, size_t n, size_t grain, sl_work_fn *work, void *arg);

/*
 * For a library that runs OpenMP itself and takes as many threads as OpenMP says: until they are
 * taken back, calls from this thread get the team's, and no signal interrupts a thread of the team
 * (its code may keep other things than a stack where the kernel would put the handler's frame:
 * runtime/model/onednn.c).  Signals wait, and arrive when the threads are taken back.  Phases may
 * run meanwhile; never inside a phase.  Other threads of the process see no change.  The team's
 * workers leave signals to the calling thread from then on.  Returns what taking back wants.
 */
struct sl_lent {
    unsigned threads;
    sigset_t signals;
};
struct sl_lent sl_team_lend(const struct sl_team *team);
void sl_team_take_back(const struct sl_lent *lent);

#endif
