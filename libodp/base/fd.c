/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Descriptors, /proc and shared mappings: small things that several files need. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base.h"
#include "own.h"

/* Programs select() on low descriptors, or close 3 to some small N at start. */
#define FD_HIGH 512

/*
 * Which descriptors are ours, for those that must not be closed by a program that
 * closes all it does not know (odp_fd_kept()). Beyond the last bit nobody looks.
 */
#define KEPT_FDS (1 << 18)
#define KEPT_BITS 64

static _Atomic uint64_t kept[KEPT_FDS / KEPT_BITS];
static _Atomic pid_t kept_pid; /* whose they are: not a forked child's */

static uint64_t kept_bit(int fd)
{
	return (uint64_t)1 << (fd % KEPT_BITS);
}

/* relaxed, here and below: a bit orders nothing. */
static void kept_add(int fd)
{
	pid_t pid = getpid();

	if (fd < 0 || fd >= KEPT_FDS)
		return;
	if (atomic_exchange_explicit(&kept_pid, pid, memory_order_relaxed) != pid)
		for (int i = 0; i < KEPT_FDS / KEPT_BITS; i++)
			if (atomic_load_explicit(&kept[i], memory_order_relaxed))
				atomic_store_explicit(&kept[i], 0, memory_order_relaxed);
	atomic_fetch_or_explicit(&kept[fd / KEPT_BITS], kept_bit(fd), memory_order_relaxed);
}

void odp_fd_release(int fd)
{
	if (fd >= 0 && fd < KEPT_FDS)
		atomic_fetch_and_explicit(&kept[fd / KEPT_BITS], ~kept_bit(fd),
					  memory_order_relaxed);
}

ODP_EXPORT void odp_fd_close(int fd)
{
	odp_fd_release(fd);
	odp_own_close(fd);
}

ODP_EXPORT int odp_fd_kept(int fd)
{
	int word = fd / KEPT_BITS;
	uint64_t bits;

	if (fd < 0 || fd >= KEPT_FDS ||
	    atomic_load_explicit(&kept_pid, memory_order_relaxed) != getpid())
		return -1;
	bits = atomic_load_explicit(&kept[word], memory_order_relaxed) & -kept_bit(fd);
	while (!bits && ++word < KEPT_FDS / KEPT_BITS)
		bits = atomic_load_explicit(&kept[word], memory_order_relaxed);
	return bits ? word * KEPT_BITS + __builtin_ctzll(bits) : -1;
}

int odp_fd_high(int fd)
{
	int high;

	if (fd < 0)
		return fd;
	/* With a low limit there is no room up there: then stay. */
	high = fd < FD_HIGH ? odp_own_fcntl(fd, F_DUPFD_CLOEXEC, FD_HIGH) : fd;
	if (high < 0)
		high = fd;
	if (high != fd)
		odp_fd_close(fd);
	kept_add(high);
	return high;
}

ODP_EXPORT int odp_fd_keep(int fd)
{
	return odp_fd_high(fd);
}

bool odp_fd_limit_raise(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) || lim.rlim_cur >= lim.rlim_max)
		return false;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim))
		return false;
	odp_log(ODP_LOG_DEBUG, "raised the limit of open files to %lu",
		(unsigned long)lim.rlim_cur);
	return true;
}

static ssize_t file_read(const char *path, char *buf, size_t size)
{
	ssize_t n;
	int fd;

	do
		fd = odp_own_open(path, O_RDONLY | O_CLOEXEC);
	while (fd < 0 && errno == EMFILE && odp_fd_limit_raise());
	if (fd < 0)
		return -errno;
	n = odp_own_read(fd, buf, size - 1);
	if (n < 0)
		n = -errno;
	odp_fd_close(fd);
	if (n >= 0)
		buf[n] = 0;
	return n;
}

/* Field NR, 3 or more, of /proc/PID/stat; 0 when there is none. */
static uint64_t pid_stat(pid_t pid, int nr)
{
	char path[32], stat[1024];
	const char *p;
	int field;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(path, stat, sizeof(stat)) <= 0)
		return 0;
	/* Field 2 is the name in parentheses, which may itself hold spaces and ')'. */
	p = strrchr(stat, ')');
	for (field = 2; p && field < nr; field++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	return p ? strtoull(p, NULL, 10) : 0;
}

uint64_t odp_pid_start_time(pid_t pid)
{
	return pid_stat(pid, 22);
}

bool odp_pid_exiting(pid_t pid)
{
	return pid_stat(pid, 9) & 4; /* PF_EXITING: proc_pid_stat(5) */
}

int odp_proc_sys_int(const char *path)
{
	char buf[32];

	return file_read(path, buf, sizeof(buf)) > 0 ? atoi(buf) : -1;
}

void *odp_map_shared(int fd, uint64_t off, size_t size)
{
	void *p;

	/*
	 * Inaccessible first: a program that has called mlockall(MCL_FUTURE) would
	 * otherwise have every page of a sparse file brought in here. Valgrind, which goes
	 * through what mprotect() changes byte by byte, is spared it.
	 */
	p = odp_own_mmap(NULL, size, odp_on_valgrind() ? PROT_READ | PROT_WRITE : PROT_NONE,
			 MAP_SHARED | MAP_NORESERVE, fd, (off_t)off);
	if (p == MAP_FAILED)
		return NULL;
	munlock(p, size);
	/* Not mprotect(): the provider's, in front of libc's, would come back here. */
	if ((!odp_on_valgrind() && odp_sys(SYS_mprotect, p, size, PROT_READ | PROT_WRITE)) ||
	    odp_own_madvise(p, size, MADV_DONTFORK)) {
		odp_sys_munmap((uintptr_t)p, size);
		return NULL;
	}
	odp_valgrind_hide(p, size);
	/* Nor here: the program has left nothing out yet (said.c). */
	odp_sys_madvise((uintptr_t)p, size, MADV_DONTDUMP);
	return p;
}
