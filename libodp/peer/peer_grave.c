/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What is left of peers that died and were replaced. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "own.h"
#include "peer_priv.h"

/* For so long a thread that has not noticed a death may go on with a peer. */
#define PEER_GRAVE_NS 2000000000u

static void peer_blank(void *p, size_t size)
{
	odp_sys_mmap((uintptr_t)p, size, PROT_READ | PROT_WRITE,
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
	const int pagemap = atomic_load_explicit(&peer->pagemap, memory_order_relaxed) - 1;
	const int fds[] = {peer->pidfd, peer->pool_fd, peer->bell_fd, peer->uffd, pagemap};
	int null = odp_own_open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned i;

	for (i = 0; null >= 0 && i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			odp_own_dup3(null, fds[i], O_CLOEXEC);
	}
	if (null >= 0)
		odp_fd_close(null);
	peer_blank(peer->seg, len);
	if (len < ODP_SEG_SIZE)
		odp_sys_munmap((uintptr_t)peer->seg + len, ODP_SEG_SIZE - len);
	for (i = 0; i < ODP_WINDOWS; i++) {
		void *window = atomic_load_explicit(&peer->windows[i], memory_order_acquire);

		if (window)
			peer_blank(window, (size_t)1 << ODP_WINDOW_SHIFT);
	}
}

/* peer_lock held, both. */
void odp_peer_bury(struct odp_proc *proc, struct odp_peer *peer)
{
	atomic_store_explicit(&peer->dead, true, memory_order_release);
	peer->replaced_at = odp_now();
	peer->grave_next = proc->grave;
	proc->grave = peer;
}

void odp_peers_retire(struct odp_proc *proc)
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
