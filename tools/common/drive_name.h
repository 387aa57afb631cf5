/* SPDX-License-Identifier: MIT */
/* What a drive is called. */
#ifndef SL_TOOLS_DRIVE_NAME_H
#define SL_TOOLS_DRIVE_NAME_H

#include <stddef.h>
#include <sys/types.h>

/* The name of the whole drive that DEVICE (st_dev) is, or is a partition of: "nvme0n1", "md0";
 * "the drive" where SYS, which is "/sys", does not tell. */
void sl_device_name(const char *sys, dev_t device, char *out, size_t size);

/* Of the drive that the file PATH is on. */
void sl_drive_name(const char *path, char *out, size_t size);

#endif
