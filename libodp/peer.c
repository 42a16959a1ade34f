/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Peers: what this process holds of another attached one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* How often to look again at a slot that is being set up or taken over. */
#define PEER_TRIES 100
#define PEER_NAP_US 1000

struct odp_peer *odp_peer_new(struct odp_proc *proc, unsigned nr)
{
	struct odp_peer *peer = odp_priv_alloc(sizeof(*peer));

	if (!peer)
		return NULL;
	peer->slot = &proc->domain->slots[nr];
	peer->nr = nr;
	peer->gen = atomic_load_explicit(&peer->slot->gen, memory_order_acquire);
	peer->pid = peer->slot->pid;
	peer->pidfd = peer->pool_fd = peer->bell_fd = peer->uffd = peer->ring_fd = -1;
	return peer;
}

static void peer_close_fds(struct odp_peer *peer)
{
	int *fds[] = { &peer->pidfd, &peer->pool_fd, &peer->bell_fd, &peer->uffd,
		       &peer->ring_fd };
	unsigned i;

	for (i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

void odp_peers_child(struct odp_proc *proc)
{
	unsigned nr;

	for (nr = 0; nr < ODP_MAX_PROCS; nr++) {
		struct odp_peer *peer =
			atomic_load_explicit(&proc->peers[nr], memory_order_relaxed);

		/* Those of self belong to the files that made them. */
		if (peer && !peer->self)
			peer_close_fds(peer);
	}
}

static bool peer_pid_ended(const struct odp_peer *peer)
{
	struct pollfd pfd = { .fd = peer->pidfd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLIN | POLLHUP));
}

static bool peer_slot_is_ours(const struct odp_peer *peer)
{
	/* acquire: what was read of the slot before is of this generation. */
	return atomic_load_explicit(&peer->slot->state, memory_order_acquire) == ODP_SLOT_LIVE &&
	       atomic_load_explicit(&peer->slot->gen, memory_order_acquire) == peer->gen;
}

ODP_EXPORT bool odp_peer_alive(const struct odp_peer *peer)
{
	const struct odp_slot *slot = peer->slot;

	/* acquire: pairs with the release store of whoever noticed the death; the
	 * other two are the kernel's word and the next owner's. */
	return !atomic_load_explicit(&peer->dead, memory_order_acquire) &&
	       !(atomic_load_explicit(&slot->life, memory_order_relaxed) & FUTEX_OWNER_DIED) &&
	       atomic_load_explicit(&slot->life_gen, memory_order_relaxed) == peer->gen;
}

ODP_EXPORT bool odp_peer_check(struct odp_peer *peer)
{
	struct odp_proc *proc = odp_proc_attached();

	if (peer->self)
		return true;
	if (!odp_peer_alive(peer))
		return false;
	/* A process that called exec has the same pid, but lost its lock. */
	if (!peer_pid_ended(peer) && peer_slot_is_ours(peer) && proc &&
	    odp_slot_alive(proc, peer->nr))
		return true;
	atomic_store_explicit(&peer->dead, true, memory_order_release);
	return false;
}

ODP_EXPORT unsigned odp_peer_slot(const struct odp_peer *peer)
{
	return peer->nr;
}

ODP_EXPORT pid_t odp_peer_pid(const struct odp_peer *peer)
{
	return peer->pid;
}

ODP_EXPORT void *odp_peer_ptr(const struct odp_peer *peer, uint64_t off, size_t len)
{
	_Atomic uint64_t *reach = &((struct odp_peer *)(uintptr_t)peer)->reach;
	uint64_t old;

	if (off < ODP_ARENA_OFF || off > ODP_SEG_SIZE || len > ODP_SEG_SIZE - off)
		return NULL;
	/* relaxed: peer_retire() reads it seconds after the last growth. */
	old = atomic_load_explicit(reach, memory_order_relaxed);
	while (odp_unlikely(old < off + len) &&
	       !atomic_compare_exchange_weak_explicit(reach, &old, off + len,
						      memory_order_relaxed, memory_order_relaxed))
		;
	return (char *)peer->seg + off;
}

ODP_EXPORT uint64_t odp_peer_root(const struct odp_peer *peer)
{
	/* acquire: pairs with odp_root_set(). */
	return atomic_load_explicit(&peer->seg->root, memory_order_acquire);
}

/* ---- Descriptors of another process ---- */

/* Opened anew through /proc, which needs the right to read the process only. */
static int peer_fd_open(const struct odp_peer *peer, int fd, int flags)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)peer->pid, fd);
	ret = open(path, flags | O_CLOEXEC | O_NOCTTY);
	if (ret < 0)
		return errno == ENOENT ? -EBADF : -errno;
	return odp_fd_high(ret);
}

static int peer_fd_take(const struct odp_peer *peer, int fd)
{
	int ret = pidfd_getfd(peer->pidfd, fd, 0);

	return ret < 0 ? -errno : odp_fd_high(ret);
}

enum peer_fd_kind { PEER_FD_NONE, PEER_FD_PIPE, PEER_FD_MEMFD, PEER_FD_OTHER };

/* Pipes and memfds are opened by path; with anything else that may have effects. */
static enum peer_fd_kind peer_fd_kind(const struct odp_peer *peer, int fd)
{
	char path[64], target[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)peer->pid, fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return errno == ENOENT ? PEER_FD_NONE : PEER_FD_OTHER;
	target[n] = 0;
	if (!strncmp(target, "pipe:", 5))
		return PEER_FD_PIPE;
	return strncmp(target, "/memfd:", 7) ? PEER_FD_OTHER : PEER_FD_MEMFD;
}

static int peer_fd_any(const struct odp_peer *peer, int fd, int flags)
{
	int ret;

	switch (peer_fd_kind(peer, fd)) {
	case PEER_FD_NONE:
		return -EBADF;
	case PEER_FD_PIPE:
		/* A writer that is a reader too gets no SIGPIPE when the peer dies. */
		if ((flags & O_ACCMODE) == O_WRONLY)
			flags = (flags & ~O_ACCMODE) | O_RDWR;
		return peer_fd_open(peer, fd, flags);
	case PEER_FD_MEMFD:
		return peer_fd_open(peer, fd, flags);
	default:
		if (!peer->self)
			return peer_fd_take(peer, fd);
		ret = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		return ret < 0 ? -errno : odp_fd_high(ret);
	}
}

ODP_EXPORT int odp_peer_fd(struct odp_peer *peer, int fd, int flags)
{
	int ret;

	if (fd < 0)
		return -EBADF;
	if (!odp_peer_check(peer))
		return -ESRCH;
	ret = peer_fd_any(peer, fd, flags);
	if (ret == -EMFILE && odp_fd_limit_raise())
		ret = peer_fd_any(peer, fd, flags);
	/* As long as it lives, its pid named no other process. */
	if (!odp_peer_check(peer)) {
		if (ret >= 0)
			close(ret);
		return -ESRCH;
	}
	return ret;
}

/* ---- The pool ---- */

static bool pool_has(struct odp_peer *peer, uint64_t end)
{
	struct stat st;

	/* relaxed: sizes only grow; a stale one costs another look. */
	if (odp_likely(end <= atomic_load_explicit(&peer->pool_size, memory_order_relaxed)))
		return true;
	if (fstat(peer->pool_fd, &st) || st.st_size < 0 || (uint64_t)st.st_size > ODP_POOL_SIZE)
		return false;
	atomic_store_explicit(&peer->pool_size, (uint64_t)st.st_size, memory_order_relaxed);
	return end <= (uint64_t)st.st_size;
}

static void *pool_window(struct odp_peer *peer, uint64_t nr)
{
	const size_t size = (size_t)1 << ODP_WINDOW_SHIFT;
	void *old = NULL;
	void *p = odp_map_shared(peer->pool_fd, nr << ODP_WINDOW_SHIFT, size);

	if (!p)
		return NULL;
	/* acq_rel: the mapping is published, or the winner's is seen. */
	if (!atomic_compare_exchange_strong_explicit(&peer->windows[nr], &old, p,
						     memory_order_acq_rel, memory_order_acquire)) {
		munmap(p, size);
		return old;
	}
	return p;
}

void *odp_pool_ptr(struct odp_peer *peer, uint64_t off, size_t len)
{
	const uint64_t nr = off >> ODP_WINDOW_SHIFT;
	const uint64_t in = off & (((uint64_t)1 << ODP_WINDOW_SHIFT) - 1);
	void *window;

	if (odp_unlikely(nr >= ODP_WINDOWS || len > ((uint64_t)1 << ODP_WINDOW_SHIFT) - in ||
			 !pool_has(peer, off + len)))
		return NULL;
	/* acquire: pairs with the publication in pool_window(). */
	window = atomic_load_explicit(&peer->windows[nr], memory_order_acquire);
	if (odp_unlikely(!window))
		window = pool_window(peer, nr);
	return window ? (char *)window + in : NULL;
}

/* ---- What is left of the dead ---- */

/* For so long a thread that has not noticed a death may go on with a peer. */
#define PEER_GRAVE_NS 2000000000u

static void peer_blank(void *p, size_t size)
{
	mmap(p, size, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

/*
 * Give back what a dead peer costs: its memory and most of its address space.
 * Pointers to it stay valid, for they may be held anywhere: its segment reads as
 * zeros, its descriptors are /dev/null. Numbers are not freed: a thread about to
 * write to one must not hit another file.
 */
static void peer_retire(struct odp_peer *peer)
{
	const uint64_t reach = atomic_load_explicit(&peer->reach, memory_order_relaxed);
	const uint64_t keep = (reach > ODP_ARENA_OFF ? reach : ODP_ARENA_OFF) + ODP_PAGE_SIZE - 1;
	const size_t len = (size_t)(keep & ~(ODP_PAGE_SIZE - 1));
	const int fds[] = { peer->pidfd, peer->pool_fd, peer->bell_fd, peer->uffd,
			    peer->ring_fd };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned i;

	for (i = 0; null >= 0 && i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			dup3(null, fds[i], O_CLOEXEC);
	}
	if (null >= 0)
		close(null);
	peer_blank(peer->seg, len);
	if (len < ODP_SEG_SIZE)
		munmap((char *)peer->seg + len, ODP_SEG_SIZE - len);
	for (i = 0; i < ODP_WINDOWS; i++) {
		void *window = atomic_load_explicit(&peer->windows[i], memory_order_acquire);

		if (window)
			peer_blank(window, (size_t)1 << ODP_WINDOW_SHIFT);
	}
}

/* peer_lock held, both. */
static void peer_bury(struct odp_proc *proc, struct odp_peer *peer)
{
	atomic_store_explicit(&peer->dead, true, memory_order_release);
	peer->replaced_at = odp_now();
	peer->grave_next = proc->grave;
	proc->grave = peer;
}

static void peers_retire(struct odp_proc *proc)
{
	struct odp_peer **link = &proc->grave, *peer;
	const uint64_t now = odp_now();

	while ((peer = *link)) {
		if (now - peer->replaced_at < PEER_GRAVE_NS) {
			link = &peer->grave_next;
			continue;
		}
		*link = peer->grave_next;
		peer_retire(peer);
	}
}

/* ---- Attaching ---- */

static int peer_open_pid(struct odp_peer *peer)
{
	int fd = pidfd_open(peer->pid, 0);

	if (fd < 0)
		return errno == ESRCH ? -ENOENT : -errno;
	peer->pidfd = odp_fd_high(fd);
	/* The pid may have been reused before it was opened. */
	if (odp_pid_start_time(peer->pid) != peer->slot->start_time)
		return -ENOENT;
	return 0;
}

static bool seg_header_ok(const struct odp_peer *peer)
{
	const struct odp_seg *seg = peer->seg;

	return seg->magic == ODP_SEG_MAGIC && seg->version == ODP_LAYOUT_VERSION &&
	       seg->slot == peer->nr && seg->gen == peer->gen && seg->pid == peer->pid &&
	       seg->size == ODP_SEG_SIZE && seg->arena == ODP_ARENA_OFF;
}

static int peer_map_segment(struct odp_peer *peer)
{
	struct stat st;
	int fd, seals, ret = -EPROTO;

	fd = peer_fd_open(peer, peer->slot->seg_fd, O_RDWR);
	if (fd < 0)
		return fd;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) ||
	    st.st_size != (off_t)ODP_SEG_SIZE)
		goto out_close;
	ret = -ENOMEM;
	peer->seg = odp_map_shared(fd, 0, ODP_SEG_SIZE);
	if (!peer->seg)
		goto out_close;
	ret = 0;
	if (!seg_header_ok(peer)) {
		munmap(peer->seg, ODP_SEG_SIZE);
		peer->seg = NULL;
		ret = -EPROTO;
	}
out_close:
	close(fd);
	return ret;
}

static int peer_open_pool(struct odp_peer *peer)
{
	struct stat st;

	peer->pool_fd = peer_fd_open(peer, peer->slot->pool_fd, O_RDWR);
	if (peer->pool_fd < 0)
		return peer->pool_fd;
	if (fcntl(peer->pool_fd, F_GET_SEALS) < 0 || fstat(peer->pool_fd, &st) ||
	    st.st_size < 0 || (uint64_t)st.st_size > ODP_POOL_SIZE)
		return -EPROTO;
	atomic_store_explicit(&peer->pool_size, (uint64_t)st.st_size, memory_order_relaxed);
	return 0;
}

static int peer_open_bell(struct odp_peer *peer)
{
	struct stat st;

	/* For reading too: with a reader of our own, a write after the peer's death
	 * raises no SIGPIPE. */
	peer->bell_fd = peer_fd_open(peer, peer->slot->bell_fd, O_RDWR | O_NONBLOCK);
	if (peer->bell_fd < 0)
		return peer->bell_fd;
	return fstat(peer->bell_fd, &st) || !S_ISFIFO(st.st_mode) ? -EPROTO : 0;
}

static int peer_open(struct odp_peer *peer)
{
	int ret;

	ret = peer_open_pid(peer);
	if (ret)
		return ret;
	ret = peer_map_segment(peer);
	if (ret)
		return ret;
	ret = peer_open_bell(peer);
	if (ret)
		return ret;
	if (peer->slot->pool_fd >= 0) {
		ret = peer_open_pool(peer);
		if (ret)
			return ret;
	}
	if (peer->slot->uffd_fd >= 0)
		peer->uffd = peer_fd_take(peer, peer->slot->uffd_fd);
	if (peer->uffd == -EMFILE)
		return -EMFILE;
	if (peer->uffd < 0)
		peer->uffd = -1; /* faults are then resolved without it */
	return 0;
}

static void peer_drop(struct odp_peer *peer)
{
	peer_close_fds(peer);
	if (peer->seg)
		munmap(peer->seg, ODP_SEG_SIZE);
	odp_priv_free(peer, sizeof(*peer));
}

/* peer_lock held. -ESTALE: the slot changed hands meanwhile. */
static int peer_attach(struct odp_proc *proc, unsigned nr, struct odp_peer **out)
{
	const unsigned me = proc->self->nr;
	struct odp_peer *peer = odp_peer_new(proc, nr);
	int ret;

	if (!peer)
		return -ENOMEM;
	ret = -ENOENT;
	if (!odp_slot_alive(proc, nr))
		goto err_drop;
	ret = peer_open(peer);
	if (!peer_slot_is_ours(peer))
		ret = -ESTALE;
	else if (peer->pidfd >= 0 && peer_pid_ended(peer))
		ret = -ENOENT;
	if (ret)
		goto err_drop;
	/* seq_cst, before any thread can aim a lane there: pairs with odp_fence(). */
	atomic_fetch_or_explicit(&peer->slot->attached[me / 64], 1ull << (me % 64),
				 memory_order_seq_cst);
	if (!peer_slot_is_ours(peer)) {
		ret = -ESTALE;
		goto err_drop;
	}
	*out = peer;
	return 0;

err_drop:
	peer_drop(peer);
	return ret;
}

static struct odp_peer *peer_known(struct odp_proc *proc, unsigned nr)
{
	/* acquire: pairs with the release store in peer_renew(). */
	struct odp_peer *peer = atomic_load_explicit(&proc->peers[nr], memory_order_acquire);

	return peer && peer_slot_is_ours(peer) ? peer : NULL;
}

/* peer_lock held. */
static int peer_renew(struct odp_proc *proc, unsigned nr, struct odp_peer **out)
{
	struct odp_peer *old = atomic_load_explicit(&proc->peers[nr], memory_order_relaxed);
	int ret;

	*out = peer_known(proc, nr);
	if (*out)
		return odp_peer_check(*out) ? 0 : -ENOENT;
	if (old) /* the slot is free, or another's */
		atomic_store_explicit(&old->dead, true, memory_order_release);
	peers_retire(proc);
	switch (atomic_load_explicit(&proc->domain->slots[nr].state, memory_order_acquire)) {
	case ODP_SLOT_LIVE:
		break;
	case ODP_SLOT_SETUP:
		return odp_slot_alive(proc, nr) ? -ESTALE : -ENOENT;
	default:
		return -ENOENT;
	}
	ret = peer_attach(proc, nr, out);
	if (ret == -EMFILE && odp_fd_limit_raise())
		ret = peer_attach(proc, nr, out);
	if (ret)
		return ret;
	atomic_store_explicit(&proc->peers[nr], *out, memory_order_release);
	if (old)
		peer_bury(proc, old);
	odp_service_watch(proc, *out);
	return 0;
}

ODP_EXPORT int odp_peer_get(struct odp_proc *proc, unsigned slot, struct odp_peer **out)
{
	struct odp_peer *peer;
	int tries, ret = -ESTALE;

	if (slot >= ODP_MAX_PROCS)
		return -ENOENT;
	peer = peer_known(proc, slot);
	if (odp_likely(peer && odp_peer_alive(peer))) {
		*out = peer;
		return 0;
	}
	for (tries = 0; tries < PEER_TRIES && ret == -ESTALE; tries++) {
		if (tries)
			usleep(PEER_NAP_US);
		pthread_mutex_lock(&proc->peer_lock);
		ret = peer_renew(proc, slot, out);
		pthread_mutex_unlock(&proc->peer_lock);
	}
	if (ret == -ESTALE)
		ret = -ENOENT; /* not there yet */
	if (ret && ret != -ENOENT)
		odp_log(ODP_LOG_WARN, "process %d (slot %u) cannot be attached: %s",
			proc->domain->slots[slot].pid, slot, strerror(-ret));
	return ret;
}
