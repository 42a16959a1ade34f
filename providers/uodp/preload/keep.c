/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Programs that close every descriptor they do not know, as daemons do when they
 * start and libraries before they start a child, would take from libodp those by
 * which it follows memory. A preloaded provider stands in front of these calls and
 * leaves libodp's out: for the caller they are not open.
 */
#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "handle.h"
#include "uodp.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

int close_range(unsigned first, unsigned last, int flags);
void closefrom(int low);

static struct {
	int (*close)(int fd);
	int (*close_range)(unsigned first, unsigned last, int flags);
} next;

/* Calls that come before this one go to the kernel, which is the same. */
__attribute__((constructor)) static void keep_init(void)
{
	next.close = dlsym(RTLD_NEXT, "close");
	next.close_range = dlsym(RTLD_NEXT, "close_range");
}

int close(int fd)
{
	if (fd >= 0 && odp_fd_kept(fd) == fd) {
		errno = EBADF;
		return -1;
	}
	uodp_handle_drop(fd);
	return next.close ? next.close(fd) : (int)syscall(SYS_close, fd);
}

static int range_close(unsigned first, unsigned last, int flags)
{
	uodp_handle_drop_range(first, last);
	return next.close_range ? next.close_range(first, last, flags)
				: (int)syscall(SYS_close_range, first, last, flags);
}

int close_range(unsigned first, unsigned last, int flags)
{
	int kept;

	if (first > last || flags & (int)CLOSE_RANGE_CLOEXEC)
		return range_close(first, last, flags);
	while (first <= INT32_MAX && (kept = odp_fd_kept((int)first)) >= 0 &&
	       (unsigned)kept <= last) {
		if ((unsigned)kept > first && range_close(first, (unsigned)kept - 1, flags))
			return -1;
		if ((unsigned)kept > first)
			flags &= ~(int)CLOSE_RANGE_UNSHARE; /* done */
		if ((unsigned)kept == last)
			return 0;
		first = (unsigned)kept + 1;
	}
	return range_close(first, last, flags);
}

void closefrom(int low)
{
	int err = errno, limit;

	if (low < 0)
		low = 0;
	if (close_range((unsigned)low, UINT32_MAX, 0)) {
		limit = (int)sysconf(_SC_OPEN_MAX);
		for (; low < limit; low++)
			close(low);
	}
	errno = err;
}
