/* SPDX-License-Identifier: MIT */
/*
 * What systems refuse, refused to this process and its children from now on.  False: the kernel has
 * no such means, and the test is to be skipped.
 */
#ifndef SL_TESTS_CONFINE_H
#define SL_TESTS_CONFINE_H

#include <stdbool.h>

/* io_uring_setup(2) fails with ERRNUM: EPERM as in containers, ENOSYS as without it. */
bool refuse_uring(int errnum);

/* Files cannot be opened with O_DIRECT, nor get it later, as on some file systems. */
bool refuse_direct(void);

/* No memory may be locked, root or not. */
bool refuse_locking(void);

#endif
