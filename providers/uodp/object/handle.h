/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Descriptors of device files, and of what such files hand out: by number, what
 * write() and ioctl() on them do (preload/fd.c asks). Thread-safe. */
#ifndef UODP_HANDLE_H
#define UODP_HANDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

struct uodp_device;
struct uodp_handle;
struct uodp_handle_ops {
	/* As the system calls: a result, or -errno. NULL: EINVAL, ENOTTY. */
	ssize_t (*write)(struct uodp_handle *h, const void *buf, size_t n);
	int (*ioctl)(struct uodp_handle *h, unsigned long request, void *arg);
	/* The last descriptor of it is closed. */
	void (*release)(struct uodp_handle *h);
	bool node; /* fstat() says that it is a device file */
};
struct uodp_handle {
	const struct uodp_handle_ops *ops;
	const struct uodp_device *dev;
	_Atomic unsigned refs; /* descriptors */
};
/* FD is one of H from now on; its first makes H live. False: a number too high. */
bool uodp_handle_set(int fd, struct uodp_handle *h);
/* That of FD, or NULL. It stays while FD is open. */
struct uodp_handle *uodp_handle_get(int fd);
/* FD, about to be closed or replaced, is none any more. */
void uodp_handle_drop(int fd);
/* The same for FIRST to LAST. */
void uodp_handle_drop_range(unsigned first, unsigned last);

#endif
