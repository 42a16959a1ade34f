/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Pinned memory that is only read: io_uring pins for writing, which the kernel
 * refuses where the mapping does not allow it. Pipes hold the pages instead, put
 * there by vmsplice(): as a pin, that outlives the mapping and the file's blocks.
 * One pipe holds a group of pages; whoever reads takes a copy of the pipe's
 * beginning (tee(), by reference) into a pipe of its own. Nobody ever takes
 * anything out of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

#include "backing.h"
#include "base.h"
#include "domain.h"

#define GROUP_SIZE ((uint64_t)ODP_PIPE_PAGES << ODP_PAGE_SHIFT)

static size_t hold_size(unsigned n)
{
	return sizeof(struct odp_hold) + n * sizeof(int);
}

/* ---- the owner's side ---- */

static void hold_enter(struct odp_mem *m, struct odp_hold *hold)
{
	pthread_mutex_lock(&m->pin_slots);
	atomic_store_explicit(&hold->next, atomic_load_explicit(&m->holds, memory_order_relaxed),
			      memory_order_relaxed);
	/* release: complete before it is found. */
	atomic_store_explicit(&m->holds, hold, memory_order_release);
	pthread_mutex_unlock(&m->pin_slots);
}

static void hold_leave(struct odp_mem *m, const struct odp_hold *hold)
{
	struct odp_hold *_Atomic *at = &m->holds;

	pthread_mutex_lock(&m->pin_slots);
	while (atomic_load_explicit(at, memory_order_relaxed) != hold)
		at = &atomic_load_explicit(at, memory_order_relaxed)->next;
	/* release: gone before it is freed. */
	atomic_store_explicit(at, atomic_load_explicit(&hold->next, memory_order_relaxed),
			      memory_order_release);
	pthread_mutex_unlock(&m->pin_slots);
}

static void hold_free(struct odp_hold *hold)
{
	for (unsigned i = 0; i < hold->n; i++)
		odp_fd_close(hold->fds[i]);
	odp_priv_free(hold, hold_size(hold->n));
}

static int pages_put(int fd, uint64_t addr, uint64_t len)
{
	while (len) {
		struct iovec iov = {(void *)(uintptr_t)addr, len};
		ssize_t n = vmsplice(fd, &iov, 1, SPLICE_F_NONBLOCK);

		if (n <= 0)
			return n && errno != EAGAIN ? -errno : -ENOBUFS;
		addr += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* A pipe with the pages of [addr, addr+len): its descriptor, to be read from. */
static int group_hold(uint64_t addr, uint64_t len)
{
	int fd[2], ret;

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) &&
	    (errno != EMFILE || !odp_fd_limit_raise() || pipe2(fd, O_CLOEXEC | O_NONBLOCK)))
		return -errno;
	/* Fails beyond what all pipes of an ordinary user may hold; it is full then. */
	odp_own_fcntl(fd[1], F_SETPIPE_SZ, (int)GROUP_SIZE);
	ret = pages_put(fd[1], addr, len);
	odp_fd_close(fd[1]);
	if (!ret)
		return odp_fd_high(fd[0]);
	odp_fd_close(fd[0]);
	return ret;
}

int odp_pipe_register(struct odp_region *r)
{
	uint64_t len = r->npages << ODP_PAGE_SHIFT, at;
	unsigned n = (unsigned)((len + GROUP_SIZE - 1) / GROUP_SIZE), i;
	struct odp_hold *hold = odp_priv_alloc(hold_size(n));

	if (!hold)
		return -ENOMEM;
	for (i = 0, at = 0; i < n; i++, at += GROUP_SIZE) {
		hold->fds[i] = group_hold(r->it.start + at, odp_min(len - at, GROUP_SIZE));
		if (hold->fds[i] < 0)
			break;
	}
	hold->n = n;
	if (i < n) {
		int ret = hold->fds[i];

		while (i)
			odp_fd_close(hold->fds[--i]);
		hold->n = 0;
		odp_priv_free(hold, hold_size(n));
		return ret;
	}
	hold_enter(r->mem, hold);
	r->hold = hold;
	r->mr->pin_count = n;
	return 0;
}

void odp_pipe_unregister(struct odp_region *r)
{
	if (!r->hold)
		return;
	hold_leave(r->mem, r->hold);
	hold_free(r->hold);
	r->hold = NULL;
	r->mr->pin_count = 0;
}

void odp_pipe_child(struct odp_mem *m)
{
	struct odp_hold *hold = atomic_load_explicit(&m->holds, memory_order_relaxed);

	for (; hold; hold = atomic_load_explicit(&hold->next, memory_order_relaxed))
		for (unsigned i = 0; i < hold->n; i++)
			odp_fd_close(hold->fds[i]);
}

/* ---- the executing side, under pin_pipe ---- */

/* Drop the first N bytes that are in our own pipe. */
static bool pipe_skip(struct odp_mem *m, size_t n)
{
	char scratch[ODP_PAGE_SIZE];

	if (m->null_fd < 0)
		m->null_fd = odp_fd_high(odp_own_open("/dev/null", O_WRONLY | O_CLOEXEC));
	while (n) {
		ssize_t done = m->null_fd < 0
				       ? read(m->pipe_rd, scratch, odp_min(n, sizeof(scratch)))
				       : splice(m->pipe_rd, NULL, m->null_fd, NULL, n, 0);

		if (done <= 0)
			return false;
		n -= (size_t)done;
	}
	return true;
}

static void pipe_complain(const struct odp_mem *m)
{
	static _Atomic bool warned;
	int size = odp_own_fcntl(m->pipe_wr, F_GETPIPE_SZ, 0);

	if (size < (int)GROUP_SIZE && !atomic_exchange(&warned, true))
		odp_log(ODP_LOG_ERR,
			"a pipe of %d bytes is too small to read pinned memory through: see "
			"fs.pipe-user-pages-soft",
			size);
}

static ssize_t group_read(struct odp_mem *m, int fd, size_t skip, void *buf, size_t n)
{
	ssize_t have = tee(fd, m->pipe_wr, skip + n, SPLICE_F_NONBLOCK);

	if (have < (ssize_t)(skip + n))
		pipe_complain(m);
	else if (pipe_skip(m, skip) && odp_pin_take(m, buf, n) == n)
		return (ssize_t)n;
	odp_pin_drain(m);
	return -EFAULT;
}

ssize_t odp_pipe_io(struct odp_peer *peer, odp_entry_t entry, uint64_t pos, void *buf, size_t n)
{
	struct odp_mem *m = odp_self->mem;
	size_t skip = pos % GROUP_SIZE;
	int fd = odp_entry_fd(peer, entry, O_RDONLY | O_NONBLOCK);
	ssize_t ret;

	if (fd < 0)
		return -EFAULT;
	n = odp_min(n, odp_min(GROUP_SIZE - skip, ODP_BOUNCE_SIZE));
	pthread_mutex_lock(&m->pin_pipe);
	ret = group_read(m, fd, skip, buf, n);
	pthread_mutex_unlock(&m->pin_pipe);
	odp_entry_fd_put(peer, fd);
	return ret;
}
