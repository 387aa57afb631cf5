/* SPDX-License-Identifier: MIT */
/* Threads of the library besides the team's. */
#ifndef SL_BASE_THREAD_H
#define SL_BASE_THREAD_H

#include <pthread.h>

/* pthread_create(), in which all signals are blocked: they belong to the caller's threads.
 * 0 or an errno. */
int sl_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

#endif
