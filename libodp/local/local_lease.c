/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Leases (fcntl(2)) and seals, on descriptors of the program's that the keeper takes
 * a copy of. A lease is had only by the one who has the file open alone; the kernel
 * holds up whoever opens or truncates the file, for a time, and tells the keeper,
 * and no handler of the program's.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base.h"
#include "local.h"
#include "own.h"

#define LEASE_MARGIN_MS 1000u

uint32_t odp_lease_cap_ms(void)
{
	int s = odp_proc_sys_int("/proc/sys/fs/lease-break-time");
	uint32_t ms, margin;

	if (s <= 0 || s > 3600)
		return 0; /* the kernel waits for ever */
	ms = (uint32_t)s * 1000;
	margin = (uint32_t)odp_min(LEASE_MARGIN_MS, ms / 5);
	return ms - margin;
}

/* ---- the program's descriptors ---- */

typedef int (*fd_fn)(struct odp_local *l, struct odp_local_file *f, int fd);

static bool same_file(int fd, const struct odp_local_file *f)
{
	struct stat st;

	return !odp_local_stat(fd, &st) && st.st_dev == f->dev && st.st_ino == f->ino;
}

/* Try FN on one descriptor after the other until it gives 0 or more; it owns its copy
 * then. -EBADF: the program has none of this file. */
static int descriptors_try(struct odp_local *l, struct odp_local_file *f, fd_fn fn)
{
	int ret = -EBADF, one, fd;
	struct dirent *d;
	DIR *dir = odp_own_opendir("/proc/self/fd");

	if (!dir)
		return -errno;
	while (ret < 0 && (d = readdir(dir))) {
		if (d->d_name[0] < '0' || d->d_name[0] > '9')
			continue;
		fd = (int)odp_sys(SYS_pidfd_getfd, l->pid_fd, atoi(d->d_name), 0);
		if (fd < 0)
			continue;
		if (!same_file(fd, f) || (odp_own_fcntl(fd, F_GETFL, 0) & O_PATH)) {
			odp_sys(SYS_close, fd, 0, 0);
			continue;
		}
		one = fn(l, f, fd);
		if (one < 0)
			odp_sys(SYS_close, fd, 0, 0);
		ret = one;
	}
	closedir(dir);
	return ret;
}

/* ---- leases ---- */

/* The keeper hears of it, by a signal that is its own. */
static int signal_route(struct odp_local *l, struct odp_local_file *f, int fd)
{
	struct f_owner_ex me = {F_OWNER_TID, atomic_load_explicit(&l->tid, memory_order_relaxed)};

	f->old_sig = odp_own_fcntl(fd, F_GETSIG, 0);
	if (odp_own_fcntl(fd, F_GETOWN_EX, ODP_SYS_ARG(&f->old_owner)))
		return -errno;
	if (odp_own_fcntl(fd, F_SETSIG, SIGRTMAX) ||
	    odp_own_fcntl(fd, F_SETOWN_EX, ODP_SYS_ARG(&me)))
		return -errno;
	return 0;
}

static void signal_unroute(struct odp_local_file *f, int fd)
{
	odp_own_fcntl(fd, F_SETOWN_EX, ODP_SYS_ARG(&f->old_owner));
	odp_own_fcntl(fd, F_SETSIG, f->old_sig);
}

static int lease_set(struct odp_local *l, struct odp_local_file *f, int fd)
{
	int type = (odp_own_fcntl(fd, F_GETFL, 0) & O_ACCMODE) == O_RDONLY ? F_RDLCK : F_WRLCK, ret;

	ret = signal_route(l, f, fd);
	if (ret)
		return ret;
	if (odp_own_fcntl(fd, F_SETLEASE, type)) {
		ret = -errno;
		signal_unroute(f, fd);
		return ret;
	}
	f->fd = fd;
	return 0;
}

static bool is_memfd(const char *path)
{
	char to[16];

	return odp_own_readlink(path, to, sizeof(to)) > 7 && !memcmp(to, "/memfd:", 7);
}

/*
 * The kernel does not count the description that memfd_create() made as open: it
 * would give it no lease while it is the only one, but one while there is exactly one
 * other. So the lease of a memfd is on a description of the keeper's own.
 */
static int lease_set_memfd(struct odp_local *l, struct odp_local_file *f, int memfd,
			   const char *path)
{
	int fd = (int)odp_sys6(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0,
			       0, 0);
	int ret;

	if (fd < 0)
		return fd;
	ret = lease_set(l, f, fd);
	odp_sys(SYS_close, ret ? fd : memfd, 0, 0);
	return ret;
}

static bool line_is_lease(const char *line, const struct odp_local_file *f)
{
	unsigned major, minor;
	unsigned long long ino;

	return sscanf(line, "%*s LEASE %*s %*s %*d %x:%x:%llu", &major, &minor, &ino) == 3 &&
	       makedev(major, minor) == f->dev && ino == f->ino;
}

/* Somebody's own, ours excepted: opening the file would break it. */
static bool lease_there(const struct odp_local_file *f)
{
	char buf[4096], *line, *nl;
	size_t have = 0;
	bool found = false;
	long n, fd = odp_sys(SYS_openat, AT_FDCWD, "/proc/locks", O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && !found &&
	       (n = odp_sys(SYS_read, fd, buf + have, sizeof(buf) - 1 - have)) > 0) {
		have += (size_t)n;
		buf[have] = 0;
		for (line = buf; !found && (nl = strchr(line, '\n')); line = nl + 1) {
			*nl = 0;
			found = line_is_lease(line, f);
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
	}
	if (fd >= 0)
		odp_sys(SYS_close, fd, 0, 0);
	return found;
}

static int lease_try(struct odp_local *l, struct odp_local_file *f, int fd)
{
	char path[48];

	if (lease_there(f))
		return -EBUSY;
	snprintf(path, sizeof(path), "/proc/thread-self/fd/%d", fd);
	return is_memfd(path) ? lease_set_memfd(l, f, fd, path) : lease_set(l, f, fd);
}

int odp_lease_take(struct odp_local *l, struct odp_local_file *f)
{
	int ret = descriptors_try(l, f, lease_try);

	if (!ret)
		f->way = ODP_LOCAL_LEASE;
	return ret;
}

void odp_lease_drop(struct odp_local_file *f)
{
	odp_own_fcntl(f->fd, F_SETLEASE, F_UNLCK);
	signal_unroute(f, f->fd);
	odp_sys(SYS_close, f->fd, 0, 0);
	f->fd = -1;
	f->way = ODP_LOCAL_NONE;
}

bool odp_lease_broken(const struct odp_local_file *f)
{
	/* While it is being broken it is shown as what it is to become. */
	int want = (odp_own_fcntl(f->fd, F_GETFL, 0) & O_ACCMODE) == O_RDONLY ? F_RDLCK : F_WRLCK;

	return odp_own_fcntl(f->fd, F_GETLEASE, 0) != want;
}

int odp_lease_probe(void)
{
	int memfd = memfd_create("uodp-probe", MFD_CLOEXEC), fd, ret = 0;
	char path[48];

	if (memfd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	fd = (int)odp_sys6(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
	if (fd < 0 || odp_own_fcntl(fd, F_SETLEASE, F_WRLCK))
		ret = fd < 0 ? fd : -errno;
	if (fd >= 0)
		odp_sys(SYS_close, fd, 0, 0); /* with the lease */
	odp_sys(SYS_close, memfd, 0, 0);
	return ret;
}

/* ---- seals ---- */

static int seal_try(struct odp_local *l, struct odp_local_file *f, int fd)
{
	int seals = odp_own_fcntl(fd, F_GET_SEALS, 0);

	(void)l;
	(void)f;
	if (seals < 0)
		return -errno;
	if (!(seals & F_SEAL_SHRINK) && odp_own_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return -errno;
	odp_sys(SYS_close, fd, 0, 0);
	return 0;
}

int odp_seal_take(struct odp_local *l, struct odp_local_file *f)
{
	return descriptors_try(l, f, seal_try);
}
