/* SPDX-License-Identifier: MIT */
/* OpenMP behind one function; the only file that knows about it. */
#include "runtime/base/team.h"

#include <omp.h>

struct sl_team sl_team_make(unsigned threads)
{
    unsigned processors = (unsigned)omp_get_num_procs();
    unsigned most = processors > SL_TEAM_MAX ? processors : SL_TEAM_MAX;
    if (threads == 0)
        threads = processors;
    return (struct sl_team){.threads = threads < most ? threads : most};
}

void sl_team_run(const struct sl_team *team, size_t n, size_t grain, sl_work_fn *work, void *arg)
{
    if (grain == 0)
        grain = 1;
    if (team->threads <= 1 || n <= grain) {
        if (n > 0)
            work(arg, 0, n, 0);
        return;
    }
    size_t pieces = (n + grain - 1) / grain;
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)team->threads)
    for (size_t i = 0; i < pieces; i++) {
        size_t begin = i * grain;
        size_t end = n - begin < grain ? n : begin + grain;
        work(arg, begin, end, (unsigned)omp_get_thread_num());
    }
}
