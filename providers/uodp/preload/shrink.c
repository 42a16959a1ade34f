/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A process that watches the files under its regions itself, by leases or fanotify, does
 * not hear of all that it does to them through its own descriptors. A preloaded provider
 * stands in front of those calls, and has the blocks recalled before they go.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uodp.h"

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80 /* Linux 6.17 */
#endif

#define TAKES                                                                                      \
	(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_COLLAPSE_RANGE |                  \
	 FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_WRITE_ZEROES)
#define MOVES (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)

static struct {
	int (*ftruncate)(int fd, off_t length);
	int (*fallocate)(int fd, int mode, off_t off, off_t len);
} next;

/* Calls that come before this one go to the kernel, which is the same. */
__attribute__((constructor)) static void shrink_init(void)
{
	next.ftruncate = dlsym(RTLD_NEXT, "ftruncate");
	next.fallocate = dlsym(RTLD_NEXT, "fallocate");
}

/* 1: to be ended; 0: nobody minds; -1 and errno. */
static int recall_begin(int fd, off_t start, off_t end, struct odp_recall *rc)
{
	struct odp_proc *proc = odp_proc_attached();
	int err = errno, ret;

	if (!proc || start < 0 || end <= start)
		return 0;
	ret = odp_own_recall_begin(proc, fd, (uint64_t)start,
				   end == INT64_MAX ? UINT64_MAX : (uint64_t)end, rc);
	errno = ret < 0 ? -ret : err;
	return ret < 0 ? -1 : ret;
}

static void recall_end(struct odp_recall *rc)
{
	int err = errno;

	odp_own_recall_end(odp_proc_attached(), rc);
	errno = err;
}

int uodp_madvise_remove(struct odp_proc *proc, char *addr, size_t len,
			int (*madvise_next)(void *addr, size_t len, int advice))
{
	bool holes = false;

	while (len) {
		struct odp_recall rc;
		size_t n = len;
		int took = odp_own_remove_begin(proc, addr, &n, &rc), ret;

		if (took < 0) {
			errno = -took;
			return -1;
		}
		ret = madvise_next(addr, n, MADV_REMOVE);
		if (took)
			recall_end(&rc);
		if (ret && errno != ENOMEM)
			return ret;
		holes |= ret; /* the rest is done all the same, as the kernel does */
		addr += n;
		len -= n;
	}
	if (holes)
		errno = ENOMEM;
	return holes ? -1 : 0;
}

int ftruncate(int fd, off_t length)
{
	struct odp_recall rc;
	int took = recall_begin(fd, length, INT64_MAX, &rc), ret;

	if (took < 0)
		return -1;
	ret = next.ftruncate ? next.ftruncate(fd, length) : (int)syscall(SYS_ftruncate, fd, length);
	if (!ret)
		uodp_file_changed(fd, length, INT64_MAX);
	if (took)
		recall_end(&rc);
	return ret;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	struct odp_recall rc;
	off_t end = INT64_MAX;
	int took = 0, ret;

	if (mode & TAKES && len > 0) {
		if (!(mode & MOVES) && __builtin_add_overflow(off, len, &end))
			end = INT64_MAX;
		took = recall_begin(fd, off, end, &rc);
	}
	if (took < 0)
		return -1;
	ret = next.fallocate ? next.fallocate(fd, mode, off, len)
			     : (int)syscall(SYS_fallocate, fd, mode, off, len);
	if (!ret && (mode & TAKES))
		uodp_file_changed(fd, off, end);
	if (took)
		recall_end(&rc);
	return ret;
}

/* Their names for programs with offsets of 64 bits, which all are here. */
#undef ftruncate64
#undef fallocate64
int ftruncate64(int fd, off_t length) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int mode, off_t off, off_t len) __attribute__((alias("fallocate")));
