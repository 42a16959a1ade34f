/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What libodp's files know of each other.
 *
 * Who may wait for whom: a program thread may wait for the service thread (in a
 * page fault, in munmap); the service thread therefore waits for no program
 * thread: it takes only locks that are never held while program memory is
 * touched, allocates nothing, and touches no program memory.
 *
 * Lock order: proc->conv_lock, proc->mem_lock, proc->peer_lock,
 * proc->alloc_lock; shared locks (struct odp_lock) come last, one at a time.
 */
#ifndef ODP_INTERNAL_H
#define ODP_INTERNAL_H

#include <pthread.h>

#include "layout.h"

#define ODP_EXPORT __attribute__((visibility("default")))
#define odp_likely(x) __builtin_expect(!!(x), 1)
#define odp_unlikely(x) __builtin_expect(!!(x), 0)

struct odp_mem; /* mem.c: converted ranges, regions by address, the pool */

/* A peer, in private memory (odp_priv_alloc). Never freed: callers hold plain
 * pointers; a dead one keeps its mappings, which are still readable. */
struct odp_peer {
	struct odp_slot *slot;      /* in the domain */
	struct odp_seg *seg;        /* its segment, ODP_SEG_SIZE bytes */
	uint32_t nr;                /* slot number */
	uint32_t gen;
	pid_t pid;
	int pidfd;
	int pool_fd;
	int bell_fd;                /* write end, O_NONBLOCK */
	int uffd;                   /* -1: could not be had */
	int ring_fd;                /* -1: not attached yet */
	_Atomic bool dead;
	bool self;
	void *_Atomic windows[ODP_WINDOWS]; /* pieces of its pool, mapped on use */
};

struct odp_proc {
	struct odp_domain *domain;
	int domain_fd;
	int dir_fd;
	char dir[256];
	struct odp_peer *self;
	struct odp_peer *_Atomic peers[ODP_MAX_PROCS];
	pthread_mutex_t peer_lock;  /* attaching */
	pthread_mutex_t alloc_lock; /* arena and private memory */
	struct odp_mem *mem;
	/* service thread */
	pthread_t service;
	int bell_rd;
	odp_service_fn handler;
	void *handler_arg;
};

extern struct odp_proc *odp_self; /* NULL before odp_proc_get */

/* ---- lane.c ---- */
/* The calling thread's lane, claimed on first use, freed when it exits. */
struct odp_lane *odp_lane_get(struct odp_proc *proc);
/* Enter the pool side aimed at A and B; false when either is frozen. */
static inline bool odp_lane_enter(struct odp_lane *lane, const struct odp_peer *a,
				  const struct odp_peer *b)
{
	uint64_t seq = atomic_load_explicit(&lane->pool, memory_order_relaxed);

	/* seq_cst store, then loads: pairs with odp_freeze(). */
	atomic_store_explicit(&lane->pool, seq + 1, memory_order_seq_cst);
	if (odp_likely(!((atomic_load_explicit(&a->slot->gate, memory_order_seq_cst) |
			  atomic_load_explicit(&b->slot->gate, memory_order_seq_cst)) &
			 ODP_GATE_FROZEN)))
		return true;
	atomic_store_explicit(&lane->pool, seq + 2, memory_order_release);
	return false;
}
static inline void odp_lane_leave(struct odp_lane *lane)
{
	uint64_t seq = atomic_load_explicit(&lane->pool, memory_order_relaxed);

	/* release: all that was done inside happens before the fence ends. */
	atomic_store_explicit(&lane->pool, seq + 1, memory_order_release);
}
/* Shut this process's gate, open it again; freezers may overlap, none waits. */
void odp_freeze(struct odp_proc *proc);
void odp_thaw(struct odp_proc *proc);
/* Wait until every lane aimed at this process was outside once; with VA the
 * system-call side too (not from the service thread). A lane whose process has
 * died counts as outside; one that is stopped is waited for at most a second
 * and false returned then: frames it might still reach must not be reused. */
bool odp_fence(struct odp_proc *proc, bool va);

/* ---- peer.c ---- */
/* Pointer to LEN bytes at OFF in PEER's pool (not across a window), or NULL. */
void *odp_pool_ptr(struct odp_peer *peer, uint64_t off, size_t len);

/* ---- service.c ---- */
int odp_service_start(struct odp_proc *proc);
/* Watch a peer's pidfd; on exit peer->dead is set and the handler called. */
void odp_service_watch(struct odp_proc *proc, struct odp_peer *peer);

/* ---- mem.c: the memory side's hooks ---- */
/* Called once by odp_proc_get: creates pool memfd, userfaultfd, pin ring, fills
 * slot->pool_fd, uffd_fd, ring_fd. */
int odp_mem_open(struct odp_proc *proc);
/* The uffd that the service thread polls, or -1. */
int odp_mem_uffd(struct odp_proc *proc);
/* Called by the service thread when the uffd is readable: freeze, fence, read,
 * act, thaw, until it would block. */
void odp_mem_uffd_ready(struct odp_proc *proc);

#endif
