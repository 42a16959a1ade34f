/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The program has closed the userfaultfd, by a system call of its own. As long as
 * peers have it open the kernel goes on to tell of events, and holds back the calls
 * that cause them until somebody reads: so one of theirs is taken back.
 *
 * Which of a peer's is ours shows by trial: it fills pages of our address space, or
 * refuses to, since an event of ours is unread.
 */
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>

#include "pool.h"

#define FIRST 3
#define LAST 4096
#define TRIES 50

/* A page that a userfaultfd of this process may fill. */
struct trial {
	int uffd;
	uint64_t page;
};

static bool trial_open(struct trial *t)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	long at;

	t->uffd = odp_uffd_open(0);
	if (t->uffd < 0)
		return false;
	at = odp_sys_mmap(0, ODP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	t->page = (uint64_t)at;
	reg.range.start = t->page;
	reg.range.len = ODP_PAGE_SIZE;
	if (at > 0 && !odp_sys_ioctl(t->uffd, UFFDIO_REGISTER, &reg))
		return true;
	odp_fd_close(t->uffd);
	return false;
}

static long trial_fill(const struct trial *t, int fd)
{
	struct uffdio_zeropage zero = {.range = {t->page, ODP_PAGE_SIZE}};

	return odp_sys_ioctl(fd, UFFDIO_ZEROPAGE, &zero);
}

static bool trial_run(const struct trial *t, int fd)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	long ret = -EAGAIN;

	/* Another process reads its events in that time. */
	for (int i = 0; i < TRIES && ret == -EAGAIN; i++) {
		ret = trial_fill(t, fd);
		if (ret == -EAGAIN)
			nanosleep(&nap, NULL);
	}
	return ret == -EAGAIN || (!ret && trial_fill(t, t->uffd) == -EEXIST);
}

static void trial_close(const struct trial *t)
{
	odp_fd_close(t->uffd);
	odp_sys_munmap(t->page, ODP_PAGE_SIZE);
}

static bool is_uffd(pid_t pid, int fd)
{
	char path[48], target[40];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	n = odp_own_readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = 0;
	return !strcmp(target, "anon_inode:[userfaultfd]");
}

/* Ours, as PID has it; or -1. */
static int find_at(const struct trial *t, pid_t pid)
{
	int pidfd = pidfd_open(pid, 0), found = -1;

	for (int i = FIRST; pidfd >= 0 && i < LAST && found < 0; i++) {
		if (!is_uffd(pid, i))
			continue;
		found = pidfd_getfd(pidfd, i, 0);
		if (found >= 0 && !trial_run(t, found)) {
			odp_fd_close(found);
			found = -1;
		}
	}
	if (pidfd >= 0)
		odp_fd_close(pidfd);
	return found;
}

bool odp_uffd_recover(struct odp_proc *proc)
{
	struct odp_slot *slot = proc->self->slot;
	struct odp_mem *m = proc->mem;
	bool found = false;
	struct trial t;
	int fd = -1;

	if (!m || m->uffd < 0 || !trial_open(&t))
		return false;
	for (unsigned i = 0; i < ODP_MAX_PROCS && fd < 0; i++) {
		/* relaxed: who is attached to us. */
		uint64_t bits = atomic_load_explicit(&slot->attached[i / 64], memory_order_relaxed);

		if (bits >> (i % 64) & 1 && i != proc->self->nr)
			fd = find_at(&t, proc->domain->slots[i].pid);
	}
	trial_close(&t);
	if (fd < 0)
		return found;
	found = odp_own_dup3(fd, m->uffd, O_CLOEXEC) >= 0;
	odp_fd_close(fd);
	return found;
}
