/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Peers: what this process holds of another attached one. */
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "own.h"
#include "peer_priv.h"

struct odp_peer *odp_peer_new(struct odp_proc *proc, unsigned nr)
{
	struct odp_peer *peer = odp_priv_alloc(sizeof(*peer));

	if (!peer)
		return NULL;
	peer->slot = &proc->domain->slots[nr];
	peer->nr = nr;
	peer->gen = atomic_load_explicit(&peer->slot->gen, memory_order_acquire);
	peer->pid = peer->slot->pid;
	peer->pidfd = peer->pool_fd = peer->bell_fd = peer->uffd = -1;
	return peer;
}

void odp_peer_close_fds(struct odp_peer *peer)
{
	int *fds[] = {&peer->pidfd, &peer->pool_fd, &peer->bell_fd, &peer->uffd};
	unsigned i;

	for (i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			odp_fd_close(*fds[i]);
		*fds[i] = -1;
	}
	i = (unsigned)atomic_exchange_explicit(&peer->pagemap, 0, memory_order_relaxed);
	if (i)
		odp_fd_close((int)i - 1);
}

void odp_peers_child(struct odp_proc *proc)
{
	unsigned nr;

	for (nr = 0; nr < ODP_MAX_PROCS; nr++) {
		struct odp_peer *peer =
			atomic_load_explicit(&proc->peers[nr], memory_order_relaxed);

		/* Those of self belong to the files that made them. */
		if (peer && !peer->self)
			odp_peer_close_fds(peer);
	}
}

bool odp_peer_pid_ended(const struct odp_peer *peer)
{
	struct pollfd pfd = {.fd = peer->pidfd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLIN | POLLHUP));
}

bool odp_peer_slot_is_ours(const struct odp_peer *peer)
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
	if (!odp_peer_pid_ended(peer) && odp_peer_slot_is_ours(peer) && proc &&
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
	       !atomic_compare_exchange_weak_explicit(reach, &old, off + len, memory_order_relaxed,
						      memory_order_relaxed))
		;
	return (char *)peer->seg + off;
}

ODP_EXPORT uint64_t odp_peer_root(const struct odp_peer *peer)
{
	/* acquire: pairs with odp_root_set(). */
	return atomic_load_explicit(&peer->seg->root, memory_order_acquire);
}

/* ---- The pool ---- */

static bool pool_has(struct odp_peer *peer, uint64_t end)
{
	struct stat st;

	/* relaxed: sizes only grow; a stale one costs another look. */
	if (odp_likely(end <= atomic_load_explicit(&peer->pool_size, memory_order_relaxed)))
		return true;
	if (odp_own_fstat(peer->pool_fd, &st) || st.st_size < 0 ||
	    (uint64_t)st.st_size > ODP_POOL_SIZE)
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
		odp_sys_munmap((uintptr_t)p, size);
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
