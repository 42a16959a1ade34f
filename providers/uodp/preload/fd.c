/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Calls on descriptors of device files, and those that copy descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files.h"

/* The service thread writes and copies descriptors, and must not look for symbols: the
 * dynamic linker's lock may be held by a thread that waits for it. */
static struct {
	ssize_t (*write)(int fd, const void *buf, size_t n);
	int (*dup3)(int fd, int copy, int flags);
} next;

__attribute__((constructor)) static void fd_init(void)
{
	next.write = UODP_NEXT(write);
	next.dup3 = UODP_NEXT(dup3);
}

ssize_t write(int fd, const void *buf, size_t n)
{
	struct uodp_handle *h = uodp_handle_get(fd);
	ssize_t ret;

	if (uodp_likely(!h || !h->ops->write))
		return next.write ? next.write(fd, buf, n) : syscall(SYS_write, fd, buf, n);
	ret = h->ops->write(h, buf, n);
	if (ret < 0) {
		errno = (int)-ret;
		return -1;
	}
	return ret;
}

int ioctl(int fd, unsigned long request, ...)
{
	struct uodp_handle *h = uodp_handle_get(fd);
	va_list args;
	void *arg;
	int ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (uodp_likely(!h || !h->ops->ioctl))
		return UODP_NEXT(ioctl)(fd, request, arg);
	ret = h->ops->ioctl(h, request, arg);
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return ret;
}

/* COPY, if it is a descriptor, is another of what FD is. */
static int copied(int fd, int copy)
{
	struct uodp_handle *h = copy < 0 ? NULL : uodp_handle_get(fd);

	if (h)
		uodp_handle_set(copy, h);
	return copy;
}

int dup(int fd)
{
	return copied(fd, UODP_NEXT(dup)(fd));
}

int dup2(int fd, int copy)
{
	int ret = UODP_NEXT(dup2)(fd, copy);

	if (ret >= 0 && fd != copy) {
		uodp_handle_drop(copy);
		copied(fd, copy);
	}
	return ret;
}

int dup3(int fd, int copy, int flags)
{
	int ret = next.dup3 ? next.dup3(fd, copy, flags) : (int)syscall(SYS_dup3, fd, copy, flags);

	if (ret >= 0) {
		uodp_handle_drop(copy);
		copied(fd, copy);
	}
	return ret;
}

static int controlled(int fd, int cmd, int ret)
{
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? copied(fd, ret) : ret;
}

int fcntl(int fd, int cmd, ...)
{
	va_list args;
	void *arg;

	va_start(args, cmd);
	arg = va_arg(args, void *);
	va_end(args);
	return controlled(fd, cmd, UODP_NEXT(fcntl)(fd, cmd, arg));
}

int fcntl64(int fd, int cmd, ...)
{
	va_list args;
	void *arg;

	va_start(args, cmd);
	arg = va_arg(args, void *);
	va_end(args);
	return controlled(fd, cmd, UODP_NEXT(fcntl64)(fd, cmd, arg));
}
