/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Attaching to the process in a slot. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "own.h"
#include "peer_priv.h"

/* How often to look again at a slot that is being set up or taken over. */
#define PEER_TRIES 100
#define PEER_NAP_US 1000

/* Unknown to valgrind, which says so at length. */
static int peer_pidfd(const struct odp_peer *peer)
{
	errno = ENOSYS;
	return odp_on_valgrind() ? -1 : pidfd_open(peer->pid, 0);
}

static int peer_open_pid(struct odp_peer *peer)
{
	int fd = peer_pidfd(peer);

	if (fd < 0 && errno == ESRCH)
		return -ENOENT;
	if (fd < 0 && errno != EPERM && errno != ENOSYS)
		return -errno;
	/* Where a sandbox forbids it, slot->life still tells of the peer's end. */
	peer->pidfd = odp_fd_high(fd);
	return 0;
}

/* The pid may have been reused before it was opened. */
static bool peer_pid_is_ours(const struct odp_peer *peer)
{
	return odp_pid_start_time(peer->pid) == peer->slot->start_time;
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

	fd = odp_peer_fd_open(peer, peer->slot->seg_fd, O_RDWR);
	if (fd < 0)
		return fd;
	seals = odp_own_fcntl(fd, F_GET_SEALS, 0);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || odp_own_fstat(fd, &st) ||
	    st.st_size != (off_t)ODP_SEG_SIZE)
		goto out_close;
	ret = -ENOMEM;
	peer->seg = odp_map_shared(fd, 0, ODP_SEG_SIZE);
	if (!peer->seg)
		goto out_close;
	ret = 0;
	if (!seg_header_ok(peer)) {
		odp_sys_munmap((uintptr_t)peer->seg, ODP_SEG_SIZE);
		peer->seg = NULL;
		ret = -EPROTO;
	}
out_close:
	odp_fd_close(fd);
	return ret;
}

static int peer_open_pool(struct odp_peer *peer)
{
	struct stat st;

	peer->pool_fd = odp_peer_fd_open(peer, peer->slot->pool_fd, O_RDWR);
	if (peer->pool_fd < 0)
		return peer->pool_fd;
	if (odp_own_fcntl(peer->pool_fd, F_GET_SEALS, 0) < 0 || odp_own_fstat(peer->pool_fd, &st) ||
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
	peer->bell_fd = odp_peer_fd_open(peer, peer->slot->bell_fd, O_RDWR | O_NONBLOCK);
	if (peer->bell_fd < 0)
		return peer->bell_fd;
	return odp_own_fstat(peer->bell_fd, &st) || !S_ISFIFO(st.st_mode) ? -EPROTO : 0;
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
		peer->uffd = odp_peer_fd_take(peer, peer->slot->uffd_fd);
	if (peer->uffd == -EMFILE)
		return -EMFILE;
	if (peer->uffd < 0)
		peer->uffd = -1; /* faults are then resolved without it */
	return 0;
}

static void peer_drop(struct odp_peer *peer)
{
	odp_peer_close_fds(peer);
	if (peer->seg)
		odp_sys_munmap((uintptr_t)peer->seg, ODP_SEG_SIZE);
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
	if (!odp_peer_slot_is_ours(peer))
		ret = -ESTALE;
	else if (odp_peer_pid_ended(peer) || (!ret && !peer_pid_is_ours(peer)) ||
		 (ret && odp_pid_exiting(peer->pid)))
		ret = -ENOENT;
	if (ret)
		goto err_drop;
	/* seq_cst, before any thread can aim a lane there: pairs with odp_fence(). */
	atomic_fetch_or_explicit(&peer->slot->attached[me / 64], 1ull << (me % 64),
				 memory_order_seq_cst);
	if (!odp_peer_slot_is_ours(peer)) {
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

	return peer && odp_peer_slot_is_ours(peer) ? peer : NULL;
}

/* Its number is of another PID namespace: here it is nobody's, or somebody else's. */
static bool peer_pid_means_it(struct odp_proc *proc, unsigned nr)
{
	uint32_t theirs = proc->domain->slots[nr].pid_ns, ours = proc->self->slot->pid_ns;

	return !theirs || !ours || theirs == ours;
}

/* Once for each process that a slot has: a program may ask again and again. */
static void peer_refused(struct odp_proc *proc, unsigned nr, int err)
{
	static _Atomic uint32_t said[ODP_MAX_PROCS]; /* generation + 1 */
	const struct odp_slot *slot = &proc->domain->slots[nr];
	uint32_t gen = atomic_load_explicit(&slot->gen, memory_order_relaxed) + 1;

	/* relaxed: at worst it is said twice. */
	if (atomic_exchange_explicit(&said[nr], gen, memory_order_relaxed) == gen)
		return;
	if (err == -EXDEV)
		odp_log(ODP_LOG_WARN,
			"slot %u is of process %d in PID namespace pid:[%u], and this one is in "
			"pid:[%u]: they cannot reach each other; run both in one, or give each "
			"namespace a UODP_DIR of its own",
			nr, slot->pid, slot->pid_ns, proc->self->slot->pid_ns);
	else
		odp_log(ODP_LOG_WARN, "process %d (slot %u) cannot be attached: %s", slot->pid, nr,
			strerror(-err));
}

/* Have the service thread poll the peer's pidfd, and set peer->dead when it ends. */
static void peer_hand_over(struct odp_proc *proc, struct odp_peer *peer)
{
	struct odp_peer *head = atomic_load_explicit(&proc->incoming, memory_order_relaxed);

	if (peer->pidfd < 0)
		return;
	do {
		peer->watch_next = head;
		/* release: the peer is complete; pairs with service_take_incoming(). */
	} while (!atomic_compare_exchange_weak_explicit(
		&proc->incoming, &head, peer, memory_order_release, memory_order_relaxed));
	odp_bell_ring(proc->self);
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
	odp_peers_retire(proc);
	switch (atomic_load_explicit(&proc->domain->slots[nr].state, memory_order_acquire)) {
	case ODP_SLOT_LIVE:
		break;
	case ODP_SLOT_SETUP:
		return odp_slot_alive(proc, nr) ? -ESTALE : -ENOENT;
	default:
		return -ENOENT;
	}
	if (!peer_pid_means_it(proc, nr))
		return -EXDEV;
	ret = peer_attach(proc, nr, out);
	if (ret == -EMFILE) {
		odp_fd_limit_raise(); /* or another thread just did */
		ret = peer_attach(proc, nr, out);
	}
	if (ret)
		return ret;
	atomic_store_explicit(&proc->peers[nr], *out, memory_order_release);
	if (old)
		odp_peer_bury(proc, old);
	peer_hand_over(proc, *out);
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
		peer_refused(proc, slot, ret);
	return ret;
}
