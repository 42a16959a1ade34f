/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * libodp's own system calls. The preloaded provider stands in front of the program's
 * close(), madvise(), ftruncate() and others: it keeps descriptors, has files recalled
 * and takes locks. A call of libodp's by those names would come back into libodp, with
 * whatever locks it was made under. So these go to the kernel; as in libc, -1 and errno.
 * A test compares the names that libodp takes from others with those that the provider
 * defines (tests/own_calls.sh). None is a point where a thread may be cancelled.
 */
#ifndef ODP_OWN_H
#define ODP_OWN_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sys.h"

static inline long odp_own_ret(long ret)
{
	if (ret >= 0 || ret < -4095)
		return ret;
	errno = (int)-ret;
	return -1;
}

#define ODP_OWN(nr, a, b, c, d, e)                                                                 \
	odp_own_ret(odp_sys6((nr), ODP_SYS_ARG(a), ODP_SYS_ARG(b), ODP_SYS_ARG(c), ODP_SYS_ARG(d), \
			     ODP_SYS_ARG(e), 0))

static inline int odp_own_openat(int dir, const char *path, int flags, mode_t mode)
{
	return (int)ODP_OWN(SYS_openat, dir, path, flags, mode, 0);
}

static inline int odp_own_open(const char *path, int flags)
{
	return odp_own_openat(AT_FDCWD, path, flags, 0);
}

static inline int odp_own_close(int fd)
{
	return (int)ODP_OWN(SYS_close, fd, 0, 0, 0, 0);
}

static inline int odp_own_dup3(int fd, int copy, int flags)
{
	return (int)ODP_OWN(SYS_dup3, fd, copy, flags, 0, 0);
}

/* ARG: a number, or a pointer made one (ODP_SYS_ARG). */
static inline int odp_own_fcntl(int fd, int cmd, long arg)
{
	return (int)ODP_OWN(SYS_fcntl, fd, cmd, arg, 0, 0);
}

static inline int odp_own_ioctl(int fd, unsigned long cmd, void *arg)
{
	return (int)ODP_OWN(SYS_ioctl, fd, cmd, arg, 0, 0);
}

/* By the kernel too: a thread sanitizer that did not see the descriptor opened and
 * closed takes its number for the one before. */
static inline ssize_t odp_own_read(int fd, void *buf, size_t n)
{
	return ODP_OWN(SYS_read, fd, buf, n, 0, 0);
}

static inline ssize_t odp_own_write(int fd, const void *buf, size_t n)
{
	return ODP_OWN(SYS_write, fd, buf, n, 0, 0);
}

static inline int odp_own_ftruncate(int fd, uint64_t size)
{
	return (int)ODP_OWN(SYS_ftruncate, fd, size, 0, 0, 0);
}

static inline int odp_own_fallocate(int fd, int mode, uint64_t off, uint64_t len)
{
	return (int)ODP_OWN(SYS_fallocate, fd, mode, off, len, 0);
}

static inline void *odp_own_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
	return (void *)odp_own_ret(odp_sys_mmap((uintptr_t)addr, len, prot, flags, fd, off));
}

static inline int odp_own_munmap(void *addr, size_t len)
{
	return (int)odp_own_ret(odp_sys_munmap((uintptr_t)addr, len));
}

static inline int odp_own_madvise(void *addr, size_t len, int advice)
{
	return (int)odp_own_ret(odp_sys_madvise((uintptr_t)addr, len, advice));
}

/* The kernel's struct stat is the C library's where this is built (64 bits). */
static inline int odp_own_fstatat(int dir, const char *path, struct stat *st, int flags)
{
	return (int)ODP_OWN(SYS_newfstatat, dir, path, st, flags, 0);
}

static inline int odp_own_fstat(int fd, struct stat *st)
{
	return (int)ODP_OWN(SYS_fstat, fd, st, 0, 0, 0);
}

static inline int odp_own_stat(const char *path, struct stat *st)
{
	return odp_own_fstatat(AT_FDCWD, path, st, 0);
}

static inline int odp_own_lstat(const char *path, struct stat *st)
{
	return odp_own_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

static inline int odp_own_statx(int dir, const char *path, int flags, unsigned mask,
				struct statx *st)
{
	return (int)ODP_OWN(SYS_statx, dir, path, flags, mask, st);
}

static inline ssize_t odp_own_readlink(const char *path, char *to, size_t size)
{
	return ODP_OWN(SYS_readlinkat, AT_FDCWD, path, to, size, 0);
}

static inline DIR *odp_own_opendir(const char *path)
{
	int fd = odp_own_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !dir)
		odp_own_close(fd);
	return dir;
}

/* For reading. */
static inline FILE *odp_own_fopen(const char *path)
{
	int fd = odp_own_open(path, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (fd >= 0 && !f)
		odp_own_close(fd);
	return f;
}

#endif
