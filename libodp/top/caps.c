/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What this host offers, tried and not guessed, and what is lost without it. */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "local.h"
#include "own.h"
#include "pool.h"
#include "region.h"

static void found(struct odp_cap *c, bool present, const char *detail)
{
	c->present = present;
	snprintf(c->detail, sizeof(c->detail), "%s", detail);
}

static void failed(struct odp_cap *c, int err)
{
	found(c, false, strerrordesc_np(err < 0 ? -err : err));
}

static int proc_sys_int(const char *path)
{
	int v = -1;
	FILE *f = odp_own_fopen(path);

	if (!f)
		return -1;
	if (fscanf(f, "%d", &v) != 1)
		v = -1;
	fclose(f);
	return v;
}

static void cap_uffd(struct odp_cap *c)
{
	int fd = odp_uffd_open(0);

	if (fd < 0) {
		char why[64];

		snprintf(why, sizeof(why), "%s (vm.unprivileged_userfaultfd=%d)",
			 strerrordesc_np(-fd),
			 proc_sys_int("/proc/sys/vm/unprivileged_userfaultfd"));
		found(c, false, why);
		if (fd == -EPERM || fd == -EACCES)
			odp_uffd_remedy(c->remedy, sizeof(c->remedy));
		return;
	}
	odp_fd_close(fd);
	found(c, true, "answers faults of the program and of the kernel");
}

static void cap_uffd_features(struct odp_cap *c)
{
	static const struct {
		uint64_t bit;
		const char *name;
	} need[] = {
		{UFFD_FEATURE_EVENT_REMOVE, "remove"},
		{UFFD_FEATURE_EVENT_UNMAP, "unmap"},
		{UFFD_FEATURE_EVENT_REMAP, "remap"},
		{UFFD_FEATURE_MISSING_SHMEM, "missing-shmem"},
		{UFFD_FEATURE_MINOR_SHMEM, "minor-shmem"},
	};
	size_t at = 0;
	bool all = true;

	c->detail[0] = 0;
	for (unsigned i = 0; i < sizeof(need) / sizeof(*need); i++) {
		int fd = odp_uffd_open(need[i].bit);

		if (fd >= 0)
			odp_fd_close(fd);
		all &= fd >= 0;
		at += (size_t)snprintf(c->detail + at, sizeof(c->detail) - at, "%s%s%s",
				       at ? ", " : "", fd >= 0 ? "" : "no ", need[i].name);
	}
	c->present = all;
}

static void cap_io_uring(struct odp_cap *c)
{
	struct io_uring_params p = {0};
	int fd = (int)ODP_OWN(SYS_io_uring_setup, 4, &p, 0, 0, 0);

	if (fd < 0) {
		failed(c, errno);
		return;
	}
	odp_fd_close(fd);
	found(c, true, "usable");
}

static void cap_pin(struct odp_cap *c)
{
	struct io_uring_params p = {0};
	int fd = (int)ODP_OWN(SYS_io_uring_setup, 4, &p, 0, 0, 0), ret;
	void *page = odp_mem_map(ODP_PAGE_SIZE);
	struct iovec iov = {page, ODP_PAGE_SIZE};

	if (fd < 0 || !page) {
		failed(c, fd < 0 ? errno : ENOMEM);
		return;
	}
	ret = (int)ODP_OWN(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1, 0);
	if (ret < 0)
		failed(c, errno);
	else
		found(c, true, "registered buffers hold long-term pins");
	odp_fd_close(fd);
	odp_own_munmap(page, ODP_PAGE_SIZE);
}

static void cap_pidfd(struct odp_cap *c)
{
	int pidfd = (int)ODP_OWN(SYS_pidfd_open, getpid(), 0, 0, 0, 0), fd;

	if (pidfd < 0) {
		failed(c, errno);
		return;
	}
	fd = (int)ODP_OWN(SYS_pidfd_getfd, pidfd, pidfd, 0, 0, 0);
	if (fd < 0) {
		failed(c, errno);
	} else {
		found(c, true, "usable on processes that may be traced");
		odp_fd_close(fd);
	}
	odp_fd_close(pidfd);
}

static void cap_process_vm(struct odp_cap *c)
{
	char from = 'x', to = 0;
	struct iovec l = {&to, 1}, r = {&from, 1};

	if (process_vm_readv(getpid(), &l, 1, &r, 1, 0) == 1 && to == from)
		found(c, true, "usable");
	else
		failed(c, errno);
}

/* A process that is no descendant: a child asks about its parent. */
static void cap_ptrace(struct odp_cap *c)
{
	int scope = proc_sys_int("/proc/sys/kernel/yama/ptrace_scope"), status = 1;
	static char byte;
	char text[96];
	pid_t parent = getpid(), pid = (pid_t)odp_sys(SYS_fork, 0, 0, 0);

	if (!pid) {
		char to;
		struct iovec l = {&to, 1}, r = {&byte, 1};

		/* Not libc's: other threads may have held locks, of a sanitizer's too. */
		odp_sys(SYS_exit_group,
			odp_sys6(SYS_process_vm_readv, parent, (long)&l, 1, (long)&r, 1, 0) != 1, 0,
			0);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (scope < 0)
		snprintf(text, sizeof(text), "Yama is not active");
	else
		snprintf(text, sizeof(text), "kernel.yama.ptrace_scope=%d", scope);
	found(c, pid > 0 && WIFEXITED(status) && !WEXITSTATUS(status), text);
	/* With 1, attached processes let each other in (PR_SET_PTRACER). */
	if (scope == 1)
		c->present = true;
}

static void cap_memfd(struct odp_cap *c)
{
	int fd = memfd_create("uodp-probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0) {
		failed(c, errno);
		return;
	}
	if (odp_own_ftruncate(fd, (off_t)ODP_POOL_SIZE))
		failed(c, errno);
	else
		found(c, true, "sparse files of 4 TiB");
	odp_fd_close(fd);
}

static void cap_memlock(struct odp_cap *c)
{
	struct rlimit lim = {0};
	char text[96];

	getrlimit(RLIMIT_MEMLOCK, &lim);
	if (odp_lock_exempt())
		snprintf(text, sizeof(text), "no limit (CAP_IPC_LOCK)");
	else if (lim.rlim_cur == RLIM_INFINITY)
		snprintf(text, sizeof(text), "no limit");
	else
		snprintf(text, sizeof(text), "%lu KiB", (unsigned long)(lim.rlim_cur >> 10));
	found(c, odp_lock_exempt() || lim.rlim_cur >= (1u << 20), text);
}

static void cap_shm(struct odp_cap *c)
{
	struct statvfs st;
	char text[96];

	if (statvfs("/dev/shm", &st)) {
		failed(c, errno);
		return;
	}
	snprintf(text, sizeof(text), "%lu MiB, %lu MiB free",
		 (unsigned long)(st.f_blocks * st.f_frsize >> 20),
		 (unsigned long)(st.f_bavail * st.f_frsize >> 20));
	found(c, true, text);
}

static void cap_fanotify(struct odp_cap *c)
{
	int ret = odp_fan_probe("/var/tmp");

	if (!ret)
		found(c, true, "usable, on the file system of /var/tmp too");
	else if (ret == -EPERM)
		found(c, false, "Operation not permitted (it takes CAP_SYS_ADMIN)");
	else if (ret == -EINVAL)
		found(c, false, "Invalid argument (it takes Linux 6.14)");
	else if (ret == -EOPNOTSUPP)
		found(c, true, "usable, but not on the file system of /var/tmp");
	else
		failed(c, ret);
}

static void cap_lease(struct odp_cap *c)
{
	int ret = odp_lease_probe();
	char text[96];

	if (ret) {
		failed(c, ret);
		return;
	}
	snprintf(text, sizeof(text), "fs.lease-break-time=%d s",
		 proc_sys_int("/proc/sys/fs/lease-break-time"));
	found(c, true, text);
}

static const struct {
	const char *name;
	void (*probe)(struct odp_cap *c);
	const char *cost;
} probes[] = {
	{"userfaultfd", cap_uffd,
	 "transfers copy by system calls: right, but about 10 times slower"},
	{"userfaultfd-events", cap_uffd_features, "the pool is not used, as without userfaultfd"},
	{"io_uring", cap_io_uring,
	 "shared, file and stack memory cannot be pinned: it follows its mapping"},
	{"pinned-buffers", cap_pin,
	 "shared, file and stack memory cannot be pinned: it follows its mapping"},
	{"pidfd_getfd", cap_pidfd,
	 "peers resolve faults without mapping pages for the owner's CPU"},
	{"process_vm", cap_process_vm, "on-demand regions of shared, file or stack memory fail"},
	{"ptrace", cap_ptrace, "processes that are not related cannot reach each other"},
	{"memfd", cap_memfd, "the device does not work"},
	{"memlock", cap_memlock, "registrations of pinned memory fail with ENOMEM early"},
	{"shm", cap_shm, "the run directory needs UODP_DIR or XDG_RUNTIME_DIR"},
	{"fanotify-pre-content", cap_fanotify,
	 "truncate policies on disk files without odpfs: leases at most, and no deny"},
	{"leases", cap_lease, "truncate policies on memfds and tmpfs without odpfs: deny alone"},
};

ODP_EXPORT int odp_caps(struct odp_cap *caps, int n)
{
	const int count = (int)(sizeof(probes) / sizeof(*probes));

	for (int i = 0; i < n && i < count; i++) {
		memset(&caps[i], 0, sizeof(caps[i]));
		caps[i].name = probes[i].name;
		caps[i].cost = probes[i].cost;
		probes[i].probe(&caps[i]);
	}
	return count;
}
