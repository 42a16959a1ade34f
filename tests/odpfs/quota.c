/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* For LD_PRELOAD: a quota of LIMIT bytes for each file, whatever the kernel can do. */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/types.h>

#define LIMIT (16l << 20)

ssize_t pwrite(int fd, const void *buf, size_t size, off_t off);
int fallocate(int fd, int mode, off_t off, off_t len);

ssize_t pwrite(int fd, const void *buf, size_t size, off_t off)
{
	ssize_t (*next)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");

	if (size && off >= LIMIT) {
		errno = EDQUOT;
		return -1;
	}
	return next(fd, buf, (off_t)size < LIMIT - off ? size : (size_t)(LIMIT - off), off);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	int (*next)(int, int, off_t, off_t) = dlsym(RTLD_NEXT, "fallocate");

	if (off + len > LIMIT) {
		errno = EDQUOT;
		return -1;
	}
	return next(fd, mode, off, len);
}
