/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * fork: the child gets private copies of converted ranges, as it would of
 * private memory. They are absent in the child (MADV_DONTFORK); it maps and
 * copies them before fork returns there, while the parent waits with its gate
 * shut, so that the child sees memory as it was at the fork.
 *
 * No lock is held across the fork but conv_lock: fork waits for libc's own locks,
 * whose holders may be in a page fault or in munmap, that is, waiting for the
 * service thread, which must be free to answer. So the child goes by a list that
 * was made just before.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "backing.h"
#include "base.h"
#include "domain.h"
#include "pool.h"
#include "top.h"

#define CHILD_WAIT_S 60

/* A converted range, as the child is to have it. */
struct range {
	uint64_t start, len, off;
	uint32_t prot;
	uint32_t said; /* ODP_SAID_* */
};

/* What the calling thread's fork began with: attaching may come in between. */
static __thread struct odp_mem *fork_mem __attribute__((tls_model("initial-exec")));
static __thread bool fork_begun __attribute__((tls_model("initial-exec")));
static __thread bool fork_nested __attribute__((tls_model("initial-exec"))); /* see above */
/* Of the fork that is under way (conv_lock). */
static sigset_t fork_mask; /* the caller's, whose handlers run when the copy is made */
static struct range *ranges;
static size_t ranges_count, ranges_room;

/* False: there are more than there is room for (mem_lock). */
static bool ranges_fill(struct odp_mem *m)
{
	struct odp_inode *n;

	ranges_count = 0;
	for (n = odp_itree_first(&m->umems, 0, UINT64_MAX); n;
	     n = odp_itree_next(&m->umems, n, 0, UINT64_MAX)) {
		struct odp_umem *um = (struct odp_umem *)n;

		if (ranges_count < ranges_room)
			ranges[ranges_count] = (struct range){n->start, n->last + 1 - n->start,
							      um->off, um->prot, um->said};
		ranges_count++;
		/* Again: ibv_fork_init() has libibverbs undo it when a region ends, and
		 * then the child would share the pool's pages with its parent. */
		odp_sys(SYS_madvise, n->start, n->last + 1 - n->start, MADV_DONTFORK);
	}
	return ranges_count <= ranges_room;
}

static void ranges_list(struct odp_mem *m)
{
	size_t want;
	bool all;

	for (;;) {
		odp_mem_lock(m);
		all = ranges_fill(m);
		odp_mem_unlock(m);
		if (all)
			return;
		want = ranges_count + ranges_count / 2 + 64;
		if (ranges)
			odp_sys_munmap((uintptr_t)ranges, ranges_room * sizeof(*ranges));
		/* Not odp_priv_alloc(), whose lock is not for signal handlers. */
		ranges = odp_mem_map(want * sizeof(*ranges));
		ranges_room = ranges ? want : 0;
		if (!ranges) {
			odp_log(ODP_LOG_ERR, "fork: no memory: the child gets no copy of "
					     "registered memory");
			ranges_count = 0;
			return;
		}
	}
}

/*
 * What the program has grown since is not in the child either, so it must be
 * recorded, touched or not. A page that cannot be the pool's becomes private memory
 * when it is touched (grow.c). Returns where to go on in the mapping that ends at
 * END.
 */
static uint64_t page_record(struct odp_mem *m, uint64_t at, uint64_t end)
{
	struct odp_umem *um;
	uint64_t next = end;
	struct odp_vma vma;
	bool foreign;

	odp_mem_lock(m);
	um = odp_umem_find(m, at);
	foreign = !um && odp_umem_look(m, at, &vma);
	if (foreign) {
		um = odp_umem_extend(m, end - 1);
		if (!um || um->it.start > at)
			um = odp_umem_extend(m, at);
	}
	if (um)
		next = um->it.last + 1;
	else if (foreign)
		next = at + ODP_PAGE_SIZE;
	odp_mem_unlock(m);
	if (foreign && !um)
		odp_sys_madvise(at, ODP_PAGE_SIZE, MADV_POPULATE_READ);
	return next;
}

static void grown_record(struct odp_mem *m)
{
	struct odp_vma vma;
	bool any;

	odp_mem_lock(m);
	any = m->moved;
	odp_mem_unlock(m);
	for (uint64_t at = 0; any && odp_vma_next(m, at, UINT64_MAX, &vma); at = vma.end)
		for (uint64_t page = vma.start; vma.kind == ODP_VMA_POOL && page < vma.end;)
			page = page_record(m, page, vma.end);
}

static void fork_pipe_open(struct odp_mem *m)
{
	int *fds = m->fork_pipe;

	if (!pipe2(fds, O_CLOEXEC) ||
	    (errno == EMFILE && odp_fd_limit_raise() && !pipe2(fds, O_CLOEXEC)))
		return;
	odp_log(ODP_LOG_WARN,
		"fork: no pipe (%s): what is stored to registered memory right after it may be in "
		"the child's copy",
		strerrordesc_np(errno));
	fds[0] = fds[1] = -1;
}

static void fork_prepare(void)
{
	struct odp_proc *proc = odp_proc_attached();
	struct odp_mem *m = proc ? proc->mem : NULL;
	sigset_t all, mask;

	fork_begun = true;
	fork_mem = m;
	if (!m)
		return;
	fork_nested = pthread_mutex_lock(&m->conv_lock) == EDEADLK;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	fork_mask = mask;
	odp_uffd_acted(m);
	/* The look at the mappings is not for two at a time. */
	if (!fork_nested)
		grown_record(m);
	fork_pipe_open(m);
	odp_freeze(proc);
	/* A handler may have come inside a transfer of its own thread. */
	if (!odp_lane_inside())
		odp_fence(proc, false);
	ranges_list(m);
}

/* Until the child has closed its end, having its copy or being dead. */
static void child_wait(struct odp_mem *m)
{
	struct pollfd p = {.fd = m->fork_pipe[0], .events = POLLIN};
	struct timespec left = {.tv_sec = CHILD_WAIT_S};
	long ret;

	if (p.fd < 0)
		return;
	odp_fd_close(m->fork_pipe[1]);
	/* Not libc's, where a thread that is cancelled would end with the gate shut. The
	 * kernel leaves the rest of the time in LEFT. */
	do
		ret = odp_sys6(SYS_ppoll, (long)&p, 1, (long)&left, 0, 0, 0);
	while (ret == -EINTR);
	if (!ret)
		odp_log(ODP_LOG_WARN, "the child of a fork takes long to copy registered memory");
	odp_fd_close(m->fork_pipe[0]);
}

static void fork_parent(void)
{
	struct odp_mem *m = fork_mem;
	sigset_t mask;

	fork_begun = false;
	if (!m)
		return;
	mask = fork_mask;
	child_wait(m);
	odp_thaw(m->proc);
	if (!fork_nested)
		pthread_mutex_unlock(&m->conv_lock);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* The handlers of other libraries, and fork's caller, find the memory there. */
static int range_copy(struct odp_mem *m, const struct range *r)
{
	uint64_t at = r->start, off = r->off, limit = off + r->len, next;
	long ret = odp_sys_mmap(at, r->len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE,
				-1, 0);

	if (ret != (long)at)
		return ret < 0 ? (int)ret : -EEXIST;
	odp_said_again(at, r->len, r->said, true);
	if (r->said & ODP_SAID_WIPE)
		off = limit;
	for (; off < limit; at += next - off, off = next) {
		if (!odp_pool_run(m, off, limit, &next))
			continue;
		for (uint64_t done = 0; done < next - off; done += (uint64_t)ret) {
			ret = odp_sys_pread(m->pool_fd, (void *)(uintptr_t)(at + done),
					    next - off - done, off + done);
			if (ret <= 0)
				return ret ? (int)ret : -EIO;
		}
	}
	if (r->prot != (PROT_READ | PROT_WRITE))
		odp_sys(SYS_mprotect, r->start, r->len, r->prot);
	return 0;
}

static void child_fds_close(struct odp_mem *m)
{
	int fds[] = {m->conv_uffd, m->fdinfo_fd, m->pagemap_fd, m->maps_fd,
		     m->mounts_fd, m->pipe_rd,   m->pipe_wr,    m->null_fd};

	for (unsigned i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			odp_fd_close(fds[i]);
	odp_pipe_child(m);
	odp_pin_child(m);
}

static void fork_child(void)
{
	struct odp_mem *m = fork_mem;
	int ret;

	fork_begun = false;
	if (!m)
		return;
	for (size_t i = 0; i < ranges_count; i++) {
		if (ranges[i].said & ODP_SAID_NOFORK)
			continue;
		ret = range_copy(m, &ranges[i]);
		/* Another thread has put something else there since the list was made. */
		if (ret == -EEXIST)
			continue;
		if (ret)
			odp_log(ODP_LOG_ERR,
				"child of fork: no copy of registered memory at %#lx: %s",
				(long)ranges[i].start, strerrordesc_np(-ret));
	}
	child_fds_close(m);
	if (m->fork_pipe[0] >= 0) {
		odp_fd_close(m->fork_pipe[0]);
		odp_fd_close(m->fork_pipe[1]);
	}
	fork_mem = NULL;
	/* The lock itself is the parent's. */
	pthread_sigmask(SIG_SETMASK, &fork_mask, NULL);
}

/*
 * Registered when the library is loaded: before the handler that closes the
 * pool's descriptor in the child, which must run after this one.
 */
__attribute__((constructor)) static void fork_handlers_register(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

ODP_EXPORT bool odp_fork_begin(void)
{
	if (fork_begun)
		return false;
	fork_prepare();
	return true;
}

ODP_EXPORT void odp_fork_end(bool child)
{
	int err = errno;

	if (child) {
		fork_child();
		odp_proc_child();
	} else {
		fork_parent();
	}
	errno = err;
}
