/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* userfaultfd: set-up, and the service thread's answer to faults and events. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include "base.h"
#include "domain.h"
#include "grow.h"
#include "pool.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define EVENTS (UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP)
#define FEATURES (EVENTS | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM)
#define MESSAGES 32
#define AROUND_HOLES 16 /* each costs the program a page */
#define AROUND_PAGES 64 /* already there */

int odp_uffd_open(uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int fd = (int)ODP_OWN(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0), dev, err;

	/* Not UFFD_USER_MODE_ONLY: a program's read() into a missing page must not
	 * fail. The device file may be open to those whom the call refuses. */
	if (fd < 0) {
		err = -errno;
		dev = odp_own_open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		if (dev < 0)
			return err;
		fd = (int)odp_own_ret(odp_sys_ioctl(dev, USERFAULTFD_IOC_NEW,
						    (void *)(intptr_t)(O_CLOEXEC | O_NONBLOCK)));
		err = -errno;
		odp_fd_close(dev);
		if (fd < 0)
			return err;
	}
	if (odp_own_ioctl(fd, UFFDIO_API, &api)) {
		err = -errno;
		odp_fd_close(fd);
		return err;
	}
	return odp_fd_high(fd);
}

void odp_uffd_remedy(char *text, size_t size)
{
	struct stat st;

	/* The file is there since Linux 6.1. Not for all: the right lets a program hold up
	 * system calls of the kernel's for as long as it likes. */
	if (odp_own_lstat("/dev/userfaultfd", &st))
		snprintf(text, size, "sudo sysctl vm.unprivileged_userfaultfd=1");
	else
		snprintf(text, size, "sudo setfacl -m u:%u:rw /dev/userfaultfd",
			 (unsigned)geteuid());
}

/* A page of the pool that is registered and always mapped. */
static int probe_map(struct odp_mem *m)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	struct odp_extent *ext = odp_extent_create(m, ODP_PAGE_SIZE, false);
	void *p;

	if (!ext)
		return -ENOMEM;
	odp_extent_hold(ext);
	p = odp_own_mmap(NULL, ODP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->pool_fd,
			 (off_t)ext->it.start);
	if (p == MAP_FAILED)
		return -errno;
	odp_own_madvise(p, ODP_PAGE_SIZE, MADV_DONTFORK);
	*(volatile char *)p = 0;
	reg.range.start = (uintptr_t)p;
	reg.range.len = ODP_PAGE_SIZE;
	if (odp_own_ioctl(m->uffd, UFFDIO_REGISTER, &reg)) {
		int err = -errno;

		odp_own_munmap(p, ODP_PAGE_SIZE);
		return err;
	}
	m->probe = (uintptr_t)p;
	return 0;
}

int odp_uffd_init(struct odp_mem *m)
{
	const char *off = getenv("UODP_NO_UFFD");
	char path[40];
	int fd, ret;

	if (off && *off && strcmp(off, "0"))
		return -ECANCELED; /* for tests */
	if (odp_on_valgrind())
		return -ECANCELED;
	fd = odp_uffd_open(FEATURES);
	if (fd < 0)
		return fd;
	m->conv_uffd = odp_uffd_open(0);
	if (m->conv_uffd < 0) {
		ret = m->conv_uffd;
		goto err_close;
	}
	m->uffd = fd;
	ret = probe_map(m);
	if (ret)
		goto err_close_conv;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	m->fdinfo_fd = odp_fd_high(odp_own_open(path, O_RDONLY | O_CLOEXEC)); /* or -1 */
	return 0;

err_close_conv:
	odp_fd_close(m->conv_uffd);
err_close:
	odp_fd_close(fd);
	m->uffd = m->conv_uffd = -1;
	return ret;
}

static void settle_wait(unsigned turn)
{
	struct timespec nap = {0, 20000};

	if (turn < 20)
		odp_sys(SYS_sched_yield, 0, 0, 0);
	else
		odp_sys(SYS_nanosleep, &nap, 0, 0);
}

void odp_uffd_acted(struct odp_mem *m)
{
	/* acquire: pairs with the release at the end of events_read(). */
	uint64_t seq = atomic_load_explicit(&m->event_seq, memory_order_acquire);

	for (unsigned turn = 0;
	     (seq & 1) && atomic_load_explicit(&m->event_seq, memory_order_acquire) == seq; turn++)
		settle_wait(turn);
}

bool odp_uffd_pending(struct odp_mem *m)
{
	struct uffdio_zeropage zero = {.range = {m->probe, ODP_PAGE_SIZE}};

	return odp_sys_ioctl(m->uffd, UFFDIO_ZEROPAGE, &zero) == -EAGAIN;
}

/*
 * munmap raises its event after the addresses are free for others, so a range
 * that is being converted may have such an event still to come from its former
 * life. The kernel refuses to fill pages, with EAGAIN, while any event is
 * unread; after that only the one being acted on is left.
 */
void odp_uffd_settle(struct odp_mem *m)
{
	struct uffdio_zeropage zero = {.range = {m->probe, ODP_PAGE_SIZE}};
	long ret;

	if (m->uffd < 0)
		return;
	for (unsigned turn = 0; (ret = odp_sys_ioctl(m->uffd, UFFDIO_ZEROPAGE, &zero)) == -EAGAIN;
	     turn++) {
		zero.zeropage = 0;
		settle_wait(turn);
	}
	if (ret == -EBADF)
		odp_proc_lose(m->proc, "userfaultfd", m->uffd);
	odp_uffd_acted(m);
}

/* The program runs on, as long as its other threads do, with the small risk that
 * odp_uffd_watch() speaks of. */
static uint64_t watch_modes(const struct odp_mem *m)
{
	if (m->quiet)
		return UFFDIO_REGISTER_MODE_WP; /* of which nothing comes */
	return UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
}

int odp_uffd_watch(struct odp_mem *m, uint64_t addr, uint64_t len)
{
	struct uffdio_register reg = {.range = {addr, len}, .mode = watch_modes(m)};

	return (int)odp_sys_ioctl(m->uffd, UFFDIO_REGISTER, &reg);
}

static void range_quiet(struct odp_mem *m, uint64_t addr, uint64_t len)
{
	struct uffdio_range range = {addr, len};

	/* Before Linux 5.19 the pool's memory has no such mode. */
	if (odp_uffd_watch(m, addr, len))
		odp_sys_ioctl(m->uffd, UFFDIO_UNREGISTER, &range);
	odp_sys_ioctl(m->uffd, UFFDIO_WAKE, &range);
}

void odp_uffd_quiet(struct odp_mem *m)
{
	struct odp_inode *n;

	if (m->uffd < 0)
		return;
	odp_mem_lock(m);
	m->quiet = true;
	for (n = odp_itree_first(&m->umems, 0, UINT64_MAX); n;
	     n = odp_itree_next(&m->umems, n, 0, UINT64_MAX)) {
		struct odp_vma vma;

		/* To the mapping's end: it may have grown. */
		if (odp_umem_look(m, n->start, &vma))
			range_quiet(m, n->start, odp_max(n->last + 1, vma.end) - n->start);
	}
	odp_mem_unlock(m);
}

static void range_wake(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_range range = {start, end - start};

	odp_sys_ioctl(uffd, UFFDIO_WAKE, &range);
}

static void uffd_wake(int uffd, uint64_t addr)
{
	range_wake(uffd, odp_page_down(addr), odp_page_down(addr) + ODP_PAGE_SIZE);
}

void odp_uffd_map(int uffd, uint64_t addr, uint64_t len)
{
	uint64_t end = addr + len;

	while (addr < end) {
		struct uffdio_continue cont = {.range = {addr, end - addr}};

		if (odp_sys_ioctl(uffd, UFFDIO_CONTINUE, &cont) == 0)
			return;
		if (cont.mapped > 0)
			addr += (uint64_t)cont.mapped;
		else if (cont.mapped == -EEXIST)
			addr += ODP_PAGE_SIZE; /* mapped already */
		else
			return;
	}
}

/* Fill the hole of LEN bytes at ADDR; 0 when at least its first page is there. */
static int zero_fill(struct odp_mem *m, uint64_t addr, uint64_t len)
{
	struct uffdio_zeropage zero = {.range = {addr, len}};
	long ret = odp_sys_ioctl(m->uffd, UFFDIO_ZEROPAGE, &zero);

	if (!ret || zero.zeropage > 0)
		return 0;
	return zero.zeropage ? (int)zero.zeropage : (int)ret;
}

/*
 * ADDR, at OFF in the pool, is missing for the CPU. Whatever the message said,
 * the pool tells what is so now: another thread may have been faster. A thread
 * that is woken without a page just faults again.
 */
static void page_resolve(struct odp_mem *m, uint64_t addr, uint64_t off, uint64_t room)
{
	uint64_t end;

	if (odp_pool_run(m, off, off + odp_min(room, AROUND_PAGES * ODP_PAGE_SIZE), &end)) {
		odp_uffd_map(m->uffd, addr, end - off);
	} else {
		end = odp_min(end, off + AROUND_HOLES * ODP_PAGE_SIZE);
		if (zero_fill(m, addr, end - off) == -ENOMEM)
			sched_yield(); /* the thread comes back: no other way to fail */
	}
	uffd_wake(m->uffd, addr);
}

/*
 * No record of ADDR. Either the program has grown the mapping below it, or the
 * mapping was moved there and the event of that is still to come: then the thread
 * is sent to fault again.
 */
static struct odp_umem *fault_unknown(struct odp_mem *m, uint64_t addr)
{
	struct odp_umem *um;

	if (odp_uffd_pending(m))
		return NULL;
	um = odp_umem_extend(m, addr);
	if (um)
		return um;
	odp_grow(m, addr);
	return odp_umem_find(m, addr);
}

static void fault_answer(struct odp_mem *m, uint64_t addr)
{
	uint64_t off = 0, room = 0;
	struct odp_umem *um;

	addr = odp_page_down(addr);
	pthread_mutex_lock(&m->mem_lock);
	um = odp_umem_find(m, addr);
	if (!um)
		um = fault_unknown(m, addr);
	if (um) {
		off = um->off + (addr - um->it.start);
		room = um->it.last + 1 - addr;
	}
	pthread_mutex_unlock(&m->mem_lock);
	if (um)
		page_resolve(m, addr, off, room);
	else
		uffd_wake(m->uffd, addr);
}

/*
 * What a mapping grew by lies in no record, and a system call of ours that touches
 * it would wait for the very thread that makes it.
 */
bool odp_uffd_ready(struct odp_mem *m, uint64_t addr, uint64_t len)
{
	bool ready = true;

	for (uint64_t at = odp_page_down(addr); at < addr + len; at += ODP_PAGE_SIZE) {
		struct odp_vma vma;
		bool pool;

		pthread_mutex_lock(&m->mem_lock);
		pool = odp_umem_find(m, at) || odp_umem_look(m, at, &vma);
		pthread_mutex_unlock(&m->mem_lock);
		if (!pool)
			continue;
		fault_answer(m, at);
		pthread_mutex_lock(&m->mem_lock);
		ready &= odp_umem_find(m, at) != NULL;
		pthread_mutex_unlock(&m->mem_lock);
	}
	return ready;
}

static void event_act(struct odp_mem *m, const struct uffd_msg *msg, bool fenced)
{
	switch (msg->event) {
	case UFFD_EVENT_REMOVE:
		odp_inv_remove(m, msg->arg.remove.start, msg->arg.remove.end, fenced);
		break;
	case UFFD_EVENT_UNMAP:
		odp_inv_unmap(m, msg->arg.remove.start, msg->arg.remove.end, fenced);
		/* Who waited for a page there finds what is mapped there now. */
		range_wake(m->uffd, msg->arg.remove.start, msg->arg.remove.end);
		break;
	case UFFD_EVENT_REMAP:
		odp_inv_remap(m, msg->arg.remap.from, msg->arg.remap.to, msg->arg.remap.len,
			      fenced);
		break;
	default:
		break;
	}
}

/*
 * Does a thread wait for a page, in a fault that nobody has read of? A thread of our
 * own, interrupted inside a transfer, may do so in its signal handler, and the kernel
 * lets nobody fill pages while an event is unread. So the event goes first: what that
 * transfer still writes, nobody was promised.
 */
static bool fault_pending(struct odp_proc *proc)
{
	struct odp_mem *m = proc->mem;
	char buf[256], *p;
	ssize_t n =
		m && m->fdinfo_fd >= 0 ? odp_sys_pread(m->fdinfo_fd, buf, sizeof(buf) - 1, 0) : 0;

	if (n <= 0)
		return false;
	buf[n] = 0;
	p = strstr(buf, "pending:\t");
	return p && p[9] != '0';
}

/* Read messages and act on the events among them, the gate shut: the read lets
 * the callers of munmap, mremap and madvise go on. */
static int events_read(struct odp_mem *m, struct uffd_msg *msgs)
{
	uint64_t seq = atomic_load_explicit(&m->event_seq, memory_order_relaxed);
	bool fenced;
	ssize_t n;

	odp_umem_refill(m);
	odp_freeze(m->proc);
	fenced = odp_fence_unless(m->proc, fault_pending);
	/* seq_cst, before the read: pairs with odp_uffd_settle(). */
	atomic_store_explicit(&m->event_seq, seq + 1, memory_order_seq_cst);
	n = read(m->uffd, msgs, MESSAGES * sizeof(*msgs));
	if (n < 0 && errno == EBADF) {
		odp_proc_lose(m->proc, "userfaultfd", m->uffd);
		if (odp_uffd_recover(m->proc))
			n = read(m->uffd, msgs, MESSAGES * sizeof(*msgs));
	}
	n = n < 0 ? 0 : n / (ssize_t)sizeof(*msgs);
	if (n) {
		pthread_mutex_lock(&m->mem_lock);
		for (ssize_t i = 0; i < n; i++)
			event_act(m, &msgs[i], fenced);
		pthread_mutex_unlock(&m->mem_lock);
	}
	atomic_store_explicit(&m->event_seq, seq + 2, memory_order_release);
	odp_thaw(m->proc);
	return (int)n;
}

static int uffd_fd(struct odp_proc *proc)
{
	return proc->mem->uffd;
}

/* Freeze, fence, read, act, thaw, until there is nothing to read. */
static void uffd_ready(struct odp_proc *proc)
{
	struct odp_mem *m = proc->mem;
	struct uffd_msg msgs[MESSAGES];
	int n;

	while ((n = events_read(m, msgs)) > 0)
		for (int i = 0; i < n; i++)
			if (msgs[i].event == UFFD_EVENT_PAGEFAULT)
				fault_answer(m, msgs[i].arg.pagefault.address);
}

const struct odp_source odp_uffd_source = {
	.name = "userfaultfd",
	.fd = uffd_fd,
	.ready = uffd_ready,
	.recover = odp_uffd_recover,
};
