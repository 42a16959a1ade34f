/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#ifndef UODP_CDEV_H
#define UODP_CDEV_H

#include <stddef.h>

struct uodp_device;

/* Copy N bytes as the kernel copies from and to a program: 0, or -EFAULT. */
int uodp_user_copy(void *to, const void *from, size_t n);

/* Open DEV's file, for which the directory at REAL stands, with the flags of open(2): a
 * descriptor, or -1 with errno. */
struct ibv_context;
int uodp_cdev_open(const struct uodp_device *dev, const char *real, int flags);

/* Commands on FD, of such a file, are CTX's from now on; NULL: nobody's. */
void uodp_cdev_bind(int fd, struct ibv_context *ctx);

#endif
