/* SPDX-License-Identifier: MIT */
/* Opening an io_uring for one thread that submits and waits. */
#ifndef SL_BASE_URING_H
#define SL_BASE_URING_H

#include "runtime/sluice.h"

struct io_uring;

/*
 * To be called by the thread that will use the ring.  SLUICE_EUNSUPPORTED, where io_uring is not
 * allowed, the kernel too old, or liburing was not there at build time, says what to do about it.
 */
int sl_uring_open(struct io_uring *ring, unsigned entries, struct sluice_err *err);

#endif
