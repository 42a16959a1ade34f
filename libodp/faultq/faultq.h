/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Faults that a pager of the program resolves. Whoever runs a transfer and finds
 * a page missing leaves a group in a table of the memory's owner (faultq_ask.c),
 * and comes back later. A thread of the owner's hands the groups out through a
 * descriptor and takes the answers (faultq_serve.c, faultq_fuse.c). At SUCCESS it
 * makes the pages valid itself, so that the transfer finds no fault any more; at
 * INVALID the group stays as a mark, which the transfer takes away as it fails.
 *
 * A group is changed by compare-and-swap of its word alone; nobody waits for
 * anybody. Locks of the owner's: proc->faultq_lock (which MR has which queue),
 * then queue->lock (what is handed out). Neither by the service thread.
 */
#ifndef ODP_FAULTQ_H
#define ODP_FAULTQ_H

#include "mem.h"

#define ODP_FQ_QUEUES 16u
#define ODP_FQ_DEPTH 1024u /* at most */
#define ODP_FQ_PAGES 64u   /* of a group, at most */

/* A bit of odp_mr_shm.inject: its faults are looked for in the owner's queues. */
#define ODP_FQ_MR ((uint64_t)1 << 62)

/*
 *   FREE -> FILLING   by who runs the transfer
 *   -> POSTED         by the same
 *   -> READ           by the owner, when the pager has read it
 *   -> FREE, INVALID  by the owner, when it is answered
 *   -> FREE           by who comes back to an INVALID one
 */
enum odp_fq_state { ODP_FQ_FREE, ODP_FQ_FILLING, ODP_FQ_POSTED, ODP_FQ_READ, ODP_FQ_INVALID };

/* All relaxed but WORD, which is checked again after the others were read. */
struct odp_fq_group {
	_Atomic uint64_t word; /* see odp_fq_word() */
	_Atomic uint64_t seq;  /* order in which they were posted */
	_Atomic uint64_t first;
	_Atomic uint64_t pages; /* bit n: page FIRST + n is missing */
	_Atomic uint64_t at;    /* when it was posted, when it was found INVALID */
	_Atomic uint32_t key;
	_Atomic uint32_t round; /* how often this place was used */
	_Atomic uint32_t length;
	_Atomic uint32_t write;
	_Atomic uint32_t slot, gen; /* who posted it */
};
static_assert(sizeof(struct odp_fq_group) == ODP_CACHELINE, "one line");

struct odp_fq_table {
	_Atomic uint32_t depth; /* groups that may be used */
	_Atomic uint32_t high;  /* that ever could */
	_Atomic uint32_t pages; /* of a group, at most */
	_Atomic uint32_t deaf;  /* nobody reads it any more */
	_Atomic uint64_t seq;
	uint64_t pad[5];
	struct odp_fq_group groups[ODP_FQ_DEPTH];
};

/* In the owner's arena, made with the first queue, never freed. */
struct odp_fq_shared {
	_Atomic uint8_t queue_of[ODP_MAX_REGIONS]; /* by key index: queue + 1, and a bit */
	struct odp_fq_table tables[ODP_FQ_QUEUES];
};
#define ODP_FQ_DETACHED 0x80u /* marks may be left, no group is made */

/* The state, 20 bits of LOW and 32 of HIGH: while FILLING slot and generation of
 * who does; else the key's index and the round. */
static inline uint64_t odp_fq_word(enum odp_fq_state state, uint32_t low, uint32_t high)
{
	return (uint64_t)state | (uint64_t)(low & 0xfffff) << 3 | (uint64_t)high << 23;
}
static inline enum odp_fq_state odp_fq_state(uint64_t word)
{
	return (enum odp_fq_state)(word & 7);
}
static inline uint32_t odp_fq_low(uint64_t word)
{
	return word >> 3 & 0xfffff;
}
static inline uint32_t odp_fq_high(uint64_t word)
{
	return (uint32_t)(word >> 23);
}
static inline uint64_t odp_fq_with_state(uint64_t word, enum odp_fq_state state)
{
	return (word & ~(uint64_t)7) | (uint64_t)state;
}
static inline bool odp_fq_change(struct odp_fq_group *g, uint64_t word, enum odp_fq_state state)
{
	/* acq_rel: what was written to the group, or to the entries, comes first. */
	return atomic_compare_exchange_strong_explicit(&g->word, &word,
						       odp_fq_with_state(word, state),
						       memory_order_acq_rel, memory_order_relaxed);
}

/* ---- faultq_ask.c: inside the pool side of a lane, any process ---- */
/* May the fault on PAGE, of a transfer that wants LENGTH bytes from there, be
 * resolved as others are? 0; -EINPROGRESS: ask again at *WHEN; -EAGAIN: now;
 * -EFAULT: it fails. */
int odp_faultq_ask(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page, uint64_t length,
		   bool write, uint64_t *when);
/* Does the process that was in SLOT as its GENth live? */
bool odp_faultq_lives(uint32_t slot, uint32_t gen);

/* ---- faultq.c ---- */
/* What the owner knows of an MR that has a queue. */
struct odp_fq_attach {
	struct odp_region *region; /* NULL: none */
	struct odp_fault_queue *queue;
	uint64_t context;
	uint32_t dev_id;
};

struct odp_faultqs {
	struct odp_fq_shared *shared;
	struct odp_fq_attach *attached; /* by key index; faultq_lock and queue->lock */
	unsigned next;
	struct odp_fault_queue *queues[ODP_FQ_QUEUES]; /* faultq_lock */
	_Atomic int wake_fd[ODP_FQ_QUEUES];            /* eventfds, kept for the next queue */
};

struct odp_fq_server;

struct odp_fault_queue {
	struct odp_proc *proc;
	struct odp_faultqs *all;
	struct odp_fq_table *table;
	unsigned index;
	int fd; /* the program's */
	bool checked;
	pthread_mutex_t lock;
	struct odp_fq_server *server;
};

/* By the service thread: wake the threads of queues that have got a fault. */
void odp_faultq_pass(struct odp_proc *proc);
/* Nobody reads Q any more: all its faults fail. By its thread. */
void odp_faultq_deafen(struct odp_fault_queue *q);
/* REGION ends: its open groups are dropped. */
void odp_faultq_forget(struct odp_region *region);

/* ---- faultq_serve.c: what read() and write() do ---- */
bool odp_faultq_readable(struct odp_fault_queue *q);
/* Whole groups as far as they fit, at most GROUPS: bytes, -EAGAIN when there is none, -EINVAL when
 * the first does not fit. */
ssize_t odp_faultq_pull(struct odp_fault_queue *q, void *buf, size_t size, unsigned groups);
/* Responses up to the first bad one: bytes, or -EINVAL. */
ssize_t odp_faultq_push(struct odp_fault_queue *q, const void *buf, size_t size);
/* Answer what is open, of the MR with key index INDEX or of all (UINT32_MAX), with
 * INVALID; DROP: as if it had never been asked. */
void odp_faultq_sweep(struct odp_fault_queue *q, uint32_t index, bool drop);

/* ---- the descriptor: faultq_fuse.c; faultq_pair.c where there is no FUSE ---- */
struct odp_fq_server {
	void (*close)(struct odp_fq_server *server);
};
/* A thread that answers read and write on a new descriptor, q->fd, until close();
 * WAKE, an eventfd, tells it that there is something to read. */
int odp_faultq_fuse(struct odp_fault_queue *q, int wake);
int odp_faultq_pair(struct odp_fault_queue *q, int wake);

/* ---- faultq_mount.c ---- */
/* A file system of one regular file: its device in *DEV, the file's place, to be
 * opened once requests are answered, in *ROOT. */
int odp_faultq_mount(int *dev, int *root);

/* ---- faultq_thread.c ---- */
/* Start FN(ARG) with no signals and, where the kernel can do it, a table of open
 * files of its own, with A and B in it alone. *OWN: it has one. */
int odp_faultq_thread(pthread_t *thread, void (*fn)(void *), void *arg, int a, int b, bool *own);

#endif
