/* SPDX-License-Identifier: MIT */
/* What a drive is called. */
#ifndef SL_TOOLS_DRIVE_NAME_H
#define SL_TOOLS_DRIVE_NAME_H

#include <stddef.h>
#include <sys/types.h>

/* The name of the whole drive that DEVICE (st_dev) is or is a partition of: "nvme0n1", "md0";
 * "the drive" where SYS, usually "/sys", does not tell. */
void sl_drive_name(const char *sys, dev_t device, char *out, size_t size);

#endif
