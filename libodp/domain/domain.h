/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The run directory and who is attached to it: processes, their slots and lanes.
 *
 * Who may wait for whom: a program thread may wait for the service thread (in a
 * page fault, in munmap); the service thread therefore waits for no program
 * thread: it takes only locks that are never held while program memory is
 * touched, allocates nothing, and touches no program memory.
 *
 * Lock order: conv_lock, mem_lock (pool.h), proc->peer_lock,
 * proc->alloc_lock; shared locks (struct odp_lock) come last, one at a time.
 */
#ifndef ODP_DOMAIN_H
#define ODP_DOMAIN_H

#include <pthread.h>

#include "base.h"
#include "layout.h"

struct odp_mem; /* mem.c: converted ranges, regions by address, the pool */

/* A peer, in private memory (odp_priv_alloc). Never freed: callers hold plain
 * pointers; a dead one keeps its mappings, which are still readable. */
struct odp_peer {
	struct odp_slot *slot; /* in the domain */
	struct odp_seg *seg;   /* its segment, ODP_SEG_SIZE bytes */
	uint32_t nr;           /* slot number */
	uint32_t gen;
	pid_t pid;
	int pidfd;
	int pool_fd;
	int bell_fd;         /* write end, O_NONBLOCK */
	int uffd;            /* -1: could not be had */
	_Atomic int pagemap; /* its /proc/PID/pagemap, + 1; 0: not open (gone.c) */
	_Atomic bool dead;
	bool self;
	_Atomic uint64_t pool_size;         /* of its pool's memfd when last looked at */
	struct odp_peer *watch_next;        /* on its way to, or in, the service thread */
	struct odp_peer *grave_next;        /* replaced by another process in its slot ... */
	uint64_t replaced_at;               /* ... then; see peer_retire() */
	_Atomic uint64_t reach;             /* how far odp_peer_ptr() has pointed */
	void *_Atomic windows[ODP_WINDOWS]; /* pieces of its pool, mapped on use */
};

struct odp_arena;   /* arena.c */
struct odp_service; /* service.c */

/*
 * What the service thread does for a layer. It alone calls these functions, and waits
 * for nothing else meanwhile: see the rules in README.md. A source is static.
 */
struct odp_source {
	const char *name; /* of the descriptor, in messages */
	/* To be polled for reading while the process is attached; -1: none. Asked once, as
	 * the thread begins: only of those that are added before. NULL: none. */
	int (*fd)(struct odp_proc *proc);
	/* The descriptor is readable; before any pass(). */
	void (*ready)(struct odp_proc *proc);
	/* The program has closed the descriptor: true when it is open again. */
	bool (*recover)(struct odp_proc *proc);
	/* At each turn, which a bell or an event began; PEER_ENDED: the end of a process
	 * too, perhaps. NULL: nothing. */
	void (*pass)(struct odp_proc *proc, bool peer_ended);
};
#define ODP_SOURCES 8u /* at most */

struct odp_proc {
	struct odp_domain *domain;
	uint32_t lock_owner; /* what odp_lock() stores: slot + 1, gen above */
	int domain_fd;       /* the only one on that file: see domain.c */
	int dir_fd;
	int seg_fd;
	char dir[256];
	struct odp_peer *self;
	struct odp_peer *_Atomic peers[ODP_MAX_PROCS];
	pthread_mutex_t peer_lock; /* attaching; the next one */
	struct odp_peer *grave;
	_Atomic uint64_t stuck[ODP_MAX_PROCS]; /* lane.c: where fences gave up */
	pthread_mutex_t alloc_lock;            /* arena */
	struct odp_arena *arena;
	struct odp_mem *mem;
	/* service thread */
	const struct odp_source *sources[ODP_SOURCES]; /* those below NUM_SOURCES */
	_Atomic unsigned num_sources;                  /* never shrinks */
	struct odp_service *service;
	/* Peers whose end is to be noticed: pushed by peer_hand_over(), taken by the
	 * service thread. */
	struct odp_peer *_Atomic incoming;
	int bell_rd;
	_Atomic bool lost;                   /* a descriptor of ours is closed */
	struct odp_faultqs *_Atomic faultqs; /* faultq.c; set under the next one */
	pthread_mutex_t faultq_lock;         /* before that of a queue */
	pthread_mutex_t handler_lock;        /* the four below; held for two stores only */
	odp_service_fn handler;
	void *handler_arg;
	odp_notice_fn notice;
	void *notice_arg;
	uint32_t notices_seen;       /* service thread */
	uint32_t watches_ended_seen; /* service thread */
};

/* ---- self.c ---- */
/* NULL before odp_proc_get, and in a child after fork. A release store; read it
 * plainly where a caller's proc proves that it is set. */
extern struct odp_proc *odp_self;
/* PROC is complete: a release store. */
void odp_self_set(struct odp_proc *proc);
/* WHAT, of which the descriptor is FD, is gone: say so, once. */
void odp_proc_lose(struct odp_proc *proc, const char *what, int fd);

/* ---- source.c ---- */
/* The service thread looks after S too from its next turn on. One caller at a time: as
 * the process attaches, later under proc->faultq_lock. */
void odp_source_add(struct odp_proc *proc, const struct odp_source *s);

/* ---- rundir.c ---- */
/* Choose, make and check the run directory; its path in DIR, its fd returned. */
int odp_rundir_open(char *dir, size_t size);

/* ---- domain.c ---- */
/* Open or create the domain file in PROC's directory and map it. */
int odp_domain_open(struct odp_proc *proc);
void odp_domain_close(struct odp_proc *proc);
/* The lock over slots; dropped by the kernel when its holder dies. */
int odp_domain_lock(struct odp_proc *proc);
void odp_domain_unlock(struct odp_proc *proc);
/* Make sure that the file system has room for the lanes of slot NR. */
int odp_domain_reserve_lanes(struct odp_proc *proc, unsigned nr);
void odp_domain_child(void);

/* ---- slot.c ---- */
/* Claim a slot, left in state SETUP; returns its number. */
int odp_slot_claim(struct odp_proc *proc);
/* Does the process that claimed slot NR live? Asks the kernel. */
bool odp_slot_alive(struct odp_proc *proc, unsigned nr);
/* Does the process live that owns the watch of this index? */
bool odp_watch_alive(struct odp_proc *proc, unsigned index);
/* Is it still the watch of that serial? */
bool odp_watch_is(struct odp_proc *proc, unsigned index, uint32_t serial);
/* Does the process that was in SLOT as its GENth live? */
bool odp_slot_lives(uint32_t slot, uint32_t gen);
/* The PID namespace of the caller, as slot->pid_ns; 0: not known. */
uint32_t odp_pid_namespace(void);
/* Free the slots of processes that died. */
int odp_slot_reap(struct odp_proc *proc);

/* ---- lane.c ---- */
extern __thread struct odp_lane *odp_lane_mine __attribute__((tls_model("initial-exec")));
struct odp_lane *odp_lane_claim(struct odp_proc *proc);
/* The service thread's lane, for the calling thread. */
void odp_lane_service(struct odp_proc *proc);
/* The calling thread has no lane: in a child after fork it is the parent's. */
void odp_lane_forget(void);
/* One thread at a time in the shared lane; recursive, so that a thread inside
 * the pool side may enter the system-call side. */
void odp_lane_share(void);
void odp_lane_unshare(void);

/* The calling thread's lane, claimed on first use, freed when it exits. */
static inline struct odp_lane *odp_lane_get(struct odp_proc *proc)
{
	struct odp_lane *lane = odp_lane_mine;

	return odp_likely(lane) ? lane : odp_lane_claim(proc);
}

static inline bool odp_lane_is_shared(const struct odp_lane *lane)
{
	/* Set before the first thread gets the lane, never changed. */
	return odp_unlikely(atomic_load_explicit(&lane->shared, memory_order_relaxed));
}

static inline void odp_lane_leave(struct odp_lane *lane)
{
	uint64_t seq = atomic_load_explicit(&lane->pool, memory_order_relaxed);

	/* release: all that was done inside happens before the fence ends. */
	atomic_store_explicit(&lane->pool, seq + 1, memory_order_release);
	if (odp_lane_is_shared(lane))
		odp_lane_unshare();
}

/* Enter the pool side aimed at A and B; false when either is frozen. */
static inline bool odp_lane_enter(struct odp_lane *lane, const struct odp_peer *a,
				  const struct odp_peer *b)
{
	uint64_t seq;

	if (odp_lane_is_shared(lane))
		odp_lane_share();
	seq = atomic_load_explicit(&lane->pool, memory_order_relaxed);
	/* seq_cst store, then loads: pairs with odp_freeze() and odp_fence(). */
	atomic_store_explicit(&lane->pool, seq + 1, memory_order_seq_cst);
	if (odp_likely(!((atomic_load_explicit(&a->slot->gate, memory_order_seq_cst) |
			  atomic_load_explicit(&b->slot->gate, memory_order_seq_cst)) &
			 ODP_GATE_FROZEN)))
		return true;
	odp_lane_leave(lane);
	return false;
}

/* The system-call side: no gate; the caller loads the region's key (seq_cst)
 * after entering, which pairs with odp_fence(proc, true). */
static inline void odp_lane_va_enter(struct odp_lane *lane)
{
	uint64_t seq;

	if (odp_lane_is_shared(lane))
		odp_lane_share();
	seq = atomic_load_explicit(&lane->va, memory_order_relaxed);
	atomic_store_explicit(&lane->va, seq + 1, memory_order_seq_cst);
}

static inline void odp_lane_va_leave(struct odp_lane *lane)
{
	uint64_t seq = atomic_load_explicit(&lane->va, memory_order_relaxed);

	/* release: the copy happens before the fence ends. */
	atomic_store_explicit(&lane->va, seq + 1, memory_order_release);
	if (odp_lane_is_shared(lane))
		odp_lane_unshare();
}

/* Shut this process's gate, open it again; freezers may overlap, none waits. */
void odp_freeze(struct odp_proc *proc);
void odp_thaw(struct odp_proc *proc);
/* Is the calling thread, a signal handler, inside a transfer that it interrupted? */
static inline bool odp_lane_inside(void)
{
	const struct odp_lane *lane = odp_lane_mine;

	return lane && (atomic_load_explicit(&lane->pool, memory_order_relaxed) & 1);
}
/* Wait until every lane aimed at this process was outside once; with VA the
 * system-call side too (not from the service thread). A lane whose process has
 * died counts as outside; one that is stopped is waited for at most a second
 * and false returned then: frames it might still reach must not be reused. */
bool odp_fence(struct odp_proc *proc, bool va);
/* odp_fence(PROC, false) that does not wait for a thread of this process any longer when
 * GIVE_UP(PROC), asked now and then, says so: false is returned then. */
typedef bool (*odp_give_up_fn)(struct odp_proc *proc);
bool odp_fence_unless(struct odp_proc *proc, odp_give_up_fn give_up);

/* The same for the process in SLOT, by the watch of index WATCH: shutting twice is
 * shutting once, so the watch counts its freezers itself. */
void odp_freeze_peer(struct odp_proc *proc, struct odp_slot *slot, unsigned watch);
void odp_thaw_peer(struct odp_proc *proc, struct odp_slot *slot, unsigned watch);
bool odp_fence_peer(struct odp_proc *proc, struct odp_slot *slot, bool va);
/* SLOT's gate has been shut for long: open it for watches that have ended. */
void odp_gate_heal(struct odp_proc *proc, struct odp_slot *slot);

#endif
