/* SPDX-License-Identifier: MIT */
/* A new thread inherits the signal mask, so it is set around the start. */
#include "runtime/base/thread.h"

#include <signal.h>
#include <stddef.h>

int sl_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed;
}
