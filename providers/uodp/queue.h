/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Queues and what runs them: the data plane's private objects.
 *
 * All of it comes from odp_priv_alloc(): the service thread uses it, and must
 * never touch a heap page, which may be part of a region and missing.
 *
 * Lock order: qp->sq_lock, a responder's qp_shm->lock, rq->lock, an rq_shm->lock, a
 * cq_shm->lock. The worker only tries sq_lock: its holder may be in a page fault that
 * the service thread resolves.
 *
 * A shared lock may be held by a process that is stopped. So nobody waits for one for
 * long: a work request that needs it stays at the head of its queue and is tried again,
 * for which each step that takes a lock either has done nothing or all of it (-EBUSY, or
 * a phase of its own); flushes are left to the worker of the QP's owner; what the owner
 * itself wants (modify, destroy) waits UODP_OWNER_NS, then does without the lock or fails.
 */
#ifndef UODP_QUEUE_H
#define UODP_QUEUE_H

#include <sched.h>
#include <stddef.h>

#include "uodp.h"

/* A lock between threads of this process, a few ns when free. */
struct uodp_spin {
	_Atomic uint32_t v;
};

static inline bool uodp_spin_try(struct uodp_spin *s)
{
	return !atomic_load_explicit(&s->v, memory_order_relaxed) &&
	       /* acquire: pairs with the release in uodp_spin_unlock() */
	       !atomic_exchange_explicit(&s->v, 1, memory_order_acquire);
}

static inline void uodp_spin_lock(struct uodp_spin *s)
{
	for (unsigned n = 0; !uodp_spin_try(s); n++) {
		if (n < 64)
			__builtin_ia32_pause();
		else
			sched_yield();
	}
}

static inline void uodp_spin_unlock(struct uodp_spin *s)
{
	atomic_store_explicit(&s->v, 0, memory_order_release);
}

struct uodp_cq {
	struct verbs_cq vcq; /* first */
	struct uodp_proc *proc;
	struct uodp_cq_shm *shm;
	struct uodp_cqe *ring;
	uint32_t index;
	uint32_t mask;
	uint64_t ring_off;
	const struct uodp_link *link;
	int async_wr;
	struct uodp_channel *channel;   /* held; NULL: none */
	struct uodp_pd *parent;         /* its parent domain, or NULL */
	struct uodp_spin lock;          /* consumers; ring, mask */
	_Atomic uint32_t users;         /* QPs: destroy gives EBUSY */
	_Atomic uint32_t comp_reported; /* events that the program has read */
	_Atomic uint32_t async_reported;

	/* ibv_start_poll() to ibv_end_poll(); under lock, unless one thread uses the CQ */
	struct uodp_cqe cur; /* what the fields are read from */
	int64_t wall;        /* CLOCK_REALTIME less CLOCK_MONOTONIC, ns */
};

/* The owner's side of a receive queue, a QP's or an SRQ's. */
struct uodp_rq {
	struct uodp_rq_shm *shm;
	char *ring;
	uint64_t ring_off;
	size_t ring_size;
	struct uodp_spin lock; /* producers */
};

struct uodp_srq {
	struct verbs_srq vsrq; /* first */
	struct uodp_cq *cq;    /* XRC: of its completions, and its domain; else NULL */
	struct uodp_xrcd *xrcd;
	struct uodp_proc *proc;
	struct uodp_srq_shm *shm;
	struct uodp_rq rq;
	uint32_t index;
	struct uodp_pd *pd;
	int async_wr;
	_Atomic uint32_t users;
	_Atomic uint32_t async_reported;
};

/* A posted send, private to the owner. SGEs or inline data follow. */
struct uodp_swqe {
	uint64_t wr_id;
	uint64_t raddr; /* RDMA, atomics */
	union {
		uint64_t compare_add;
		uint64_t bind_length; /* of a window; RADDR: its first byte */
	};
	union {
		uint64_t swap;
		uint64_t serial; /* of a window */
	};
	uint32_t rkey;       /* the peer's; the one that a window gets */
	uint32_t imm;        /* network order; the rkey to invalidate; a window's rights */
	uint32_t length;     /* bytes of payload */
	uint32_t flags;      /* enum ibv_send_flags */
	uint32_t num_sge;    /* 1 of inline data, which is in one piece */
	uint32_t remote_qpn; /* UD; XRC: the number of the SRQ */
	union {
		uint32_t remote_qkey;
		uint32_t mr_key; /* of what a window is bound to */
	};
	uint8_t opcode;     /* enum ibv_wr_opcode */
	uint8_t sgid_index; /* UD */
	uint8_t hop_limit, traffic_class;
	uint32_t flow_label;
	uint8_t dgid[16];
	union {
		struct uodp_sge sge[0];
		char data[0];
	};
};

/* Where the other end of a connection, or of a datagram, is. */
struct uodp_dest {
	struct odp_peer *peer;
	struct uodp_qp_shm *qp;
	uint32_t qpn;
	uint32_t gen;   /* of qp, odd while in use */
	uint32_t epoch; /* of its connection */
	/* Whose the memory is, and the domain of its keys. Of XRC both are the SRQ's that a
	 * message names, which may be of another process than the QP. */
	uint32_t pd;
	struct odp_peer *mem;
	struct uodp_srq_shm *srq; /* XRC, while a message is under way; else NULL */
	uint32_t srqn, srq_gen;
};

/* Walks a list of SGEs that belong to one process and protection domain. */
struct uodp_iter {
	struct odp_peer *peer; /* NULL: private bytes at DATA */
	const struct uodp_sge *sge;
	char *data;
	uint32_t num_sge;
	uint32_t idx;
	uint32_t off; /* within sge[idx], or within DATA */
	uint32_t pd;
	uint32_t access;            /* right that the use needs */
	const struct uodp_dest *to; /* whose QP it is; NULL: our own side */
};

enum uodp_phase {
	UODP_PHASE_NEW,    /* not begun */
	UODP_PHASE_GATHER, /* UD: copying its own bytes into the packet */
	UODP_PHASE_RECV,   /* UD: needs a receive at the responder */
	UODP_PHASE_MOVE,   /* copying */
	UODP_PHASE_FINISH, /* all is there: the receive is to be completed */
	UODP_PHASE_FAIL,   /* what x->ending says is to be done */
	UODP_PHASE_DONE,   /* it has ended, with x->status: its completion is to be pushed */
};

/* What is left to do of a message that the responder has found an error in. */
struct uodp_ending {
	enum ibv_wc_status status; /* of the request */
	enum ibv_wc_status recv;   /* of the receive; SUCCESS: none ends */
	enum ibv_wc_opcode recv_opcode;
	bool head;  /* none was taken: it is the one at the head, if any */
	bool error; /* the responder's QP goes to ERR, with EVENT */
	enum ibv_event_type event;
};

/* The work request at the head of the send queue. */
struct uodp_exec {
	enum uodp_phase phase;
	struct uodp_dest dest;
	struct odp_span own; /* the one piece of what is sent, if it is one (check.c) */
	struct uodp_iter src, dst;
	uint64_t left;      /* bytes still to move */
	uint64_t deadline;  /* ns, when to look again while it waits */
	uint64_t give_up;   /* ns, when the transport timer runs out; 0: not running */
	uint64_t rnr_until; /* ns, end of the current RNR wait; 0: none */
	uint32_t rnr_left;
	bool rnr_fault;       /* the responder found a page missing: rnr_until is waited out */
	uint64_t rnr_at;      /* LEFT at its last such NAK, 0: none yet */
	uint64_t fault_until; /* ns, when the page that MOVE waits for is there; 0: no such */
	uint64_t again_ns;    /* from one look at a lock that somebody has to the next */
	bool stuck;           /* that is what it waits for: pollers look no sooner */
	bool turn;            /* UD: we have the responder's */
	enum ibv_wc_status status;
	struct uodp_ending ending;              /* FAIL */
	struct uodp_sge remote;                 /* the one SGE of an RDMA operation */
	struct uodp_sge recv_sge[UODP_MAX_SGE]; /* of the receive taken */
	uint64_t recv_wr_id;
	uint32_t recv_length;
	uint64_t old;               /* an atomic's result */
	uint32_t mc_slot, mc_index; /* multicast: where to look for the next member */
};

struct uodp_transport;

struct uodp_qp {
	struct verbs_qp vqp; /* first */
	struct uodp_proc *proc;
	struct uodp_qp_shm *shm;
	struct uodp_cq *send_cq, *recv_cq;
	struct uodp_srq *srq;
	struct uodp_pd *pd;
	struct uodp_xrcd *xrcd;         /* XRC targets */
	struct uodp_target_shm *target; /* as well: what is shared */
	uint32_t target_gen;            /* of shm, when it was made or opened */
	uint32_t mcasts;                /* UD: groups that it is in, under proc->lock */
	bool opened;                    /* by ibv_open_qp(): shm is another handle's */
	struct uodp_rq rq;
	const struct uodp_link *link;
	int async_wr;
	uint32_t index;
	uint32_t refs; /* by progress, under proc->pin_lock */
	_Atomic uint32_t async_reported;

	/* requester; SQ_LOCK covers all down to WR */
	struct uodp_spin sq_lock;
	bool sq_sig_all;
	bool sqd_notify; /* raise SQ_DRAINED when empty */
	bool begun;      /* the head's timers are set up */
	bool waiting;    /* our bit in proc->pending is set */
	char *sq;
	char *packet; /* UD: GRH and payload of the datagram at the head */
	size_t sq_size;
	uint32_t sq_stride, sq_mask;
	uint32_t sq_head, sq_tail; /* posted, executed */
	struct ibv_qp_cap cap;
	/* Chosen when the QP is made, and again when it gets its address; never NULL. */
	const struct uodp_transport *transport;
	struct uodp_dest conn;
	struct uodp_exec x;
	struct ibv_qp_attr attr; /* what modify_qp has set */

	/* ibv_wr_*: a batch between wr_start and wr_complete (sq_lock held) */
	struct {
		uint32_t head;
		int err;
		struct uodp_swqe *cur;
	} wr;
};

static inline struct uodp_cq *to_uodp_cq(struct ibv_cq *cq)
{
	return uodp_container_of(cq, struct uodp_cq, vcq.cq);
}
static inline struct uodp_srq *to_uodp_srq(struct ibv_srq *srq)
{
	return uodp_container_of(srq, struct uodp_srq, vsrq.srq);
}
static inline struct uodp_qp *to_uodp_qp(struct ibv_qp *qp)
{
	return uodp_container_of(qp, struct uodp_qp, vqp.qp);
}

static inline uint32_t uodp_rwqe_size(uint32_t max_sge)
{
	return sizeof(struct uodp_rwqe) + max_sge * sizeof(struct uodp_sge);
}

static inline struct uodp_swqe *uodp_sq_at(struct uodp_qp *qp, uint32_t i)
{
	return (struct uodp_swqe *)(qp->sq + (size_t)(i & qp->sq_mask) * qp->sq_stride);
}

/* Opcodes that send the bytes of their SGEs; the others write to them. */
#define UODP_GATHER_OPS                                                                            \
	(1u << IBV_WR_SEND | 1u << IBV_WR_SEND_WITH_IMM | 1u << IBV_WR_SEND_WITH_INV |             \
	 1u << IBV_WR_RDMA_WRITE | 1u << IBV_WR_RDMA_WRITE_WITH_IMM | 1u << IBV_WR_ATOMIC_WRITE)

/* A QP as the user of type 2 memory windows: another of the same number is not it. */
static inline uint64_t uodp_qp_user(uint32_t qpn, uint32_t gen)
{
	return (uint64_t)gen << 32 | qpn;
}

static inline uint32_t uodp_pow2(uint32_t n)
{
	return n <= 1 ? 1 : 1u << (32 - __builtin_clz(n - 1));
}

/* ---- proc.c ---- */
/* A table of objects by index; indices are handed out in turn, so that a stale
 * one is not reused soon. HIGH: where the peers' view of the bound is kept. */
struct uodp_table {
	void **slots;
	struct ibv_context **owners; /* by the same index */
	uint32_t size;
	uint32_t next;
	_Atomic uint32_t *high;
};
/* The index given to OBJ, which belongs to CTX, or -ENOMEM. */
int uodp_table_claim(struct uodp_proc *proc, struct uodp_table *table, void *obj,
		     struct ibv_context *ctx);
/* An object that belongs to CTX, NULL when there is none. */
void *uodp_table_find(struct uodp_proc *proc, struct uodp_table *table,
		      const struct ibv_context *ctx);
void uodp_table_release(struct uodp_proc *proc, struct uodp_table *table, uint32_t index);
/* INDEX stays taken for ever, by no object. */
void uodp_table_retire(struct uodp_proc *proc, struct uodp_table *table, uint32_t index);

/* An attribute that others read while its owner may change it; see shm.h. */
static inline uint32_t uodp_attr(const _Atomic uint32_t *attr)
{
	return atomic_load_explicit(attr, memory_order_relaxed);
}
static inline void uodp_attr_set(_Atomic uint32_t *attr, uint32_t value)
{
	atomic_store_explicit(attr, value, memory_order_relaxed);
}

/* The span is used only while DEST's connection lasts. */
static inline void uodp_span_guard(struct odp_span *span, const struct uodp_dest *dest)
{
	span->guard = (const uint32_t *)&dest->qp->epoch;
	span->guard_value = dest->epoch;
}

#define UODP_PATIENCE_NS 1000000u /* for a shared lock, in a post or on the worker */
#define UODP_OWNER_NS 1000000000u /* for its own objects' locks, where a verb needs them */

/* How long a step of QP's queue may wait for a lock. Not at all once it has waited: so
 * polling, which runs queues that wait, never does. */
static inline uint64_t uodp_patience(const struct uodp_qp *qp)
{
	return qp->waiting ? 0 : UODP_PATIENCE_NS;
}

/* odp_lock_for() and odp_unlock(), without a call when the lock is free. */
static inline bool uodp_lock(struct uodp_proc *proc, struct odp_lock *lock, uint64_t patience)
{
	uint32_t owner = 0;

	/* acquire: pairs with the release in odp_unlock() */
	return uodp_likely(__atomic_compare_exchange_n(&lock->owner, &owner, proc->lock_tag, false,
						       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) ||
	       odp_lock_for(proc->odp, lock, patience);
}

static inline void uodp_unlock(struct odp_lock *lock)
{
	/* release: what the lock protects is seen by the next holder */
	__atomic_store_n(&lock->owner, 0, __ATOMIC_RELEASE);
}

/* Add to a counter that only the holder of a lock writes. */
static inline void uodp_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* ---- qp.c, srq.c, cq.c ---- */
/* End an object that a closed context leaves, all of it but its memory. Nobody is left
 * to acknowledge events. */
void uodp_qp_drop(struct uodp_qp *qp);
/* Say that an object's memory is left alone, since there may be an unread event of it. */
void uodp_shell_stays(const char *what);
void uodp_srq_drop(struct uodp_srq *srq);
void uodp_cq_drop(struct uodp_cq *cq);

/* ---- cq.c ---- */
/*
 * Append a completion to a CQ of PEER, and wake its channel when it is armed
 * for it. -EOVERFLOW when the CQ has no room: it then takes no more and the
 * owner gets IBV_EVENT_CQ_ERR. -ENOENT: no such CQ any more. -EBUSY: somebody has its
 * lock, for PATIENCE ns (0: for a moment) already; nothing was done.
 */
int uodp_cq_push(struct uodp_proc *proc, struct odp_peer *peer, uint32_t index,
		 const struct uodp_cqe *cqe, bool solicited, uint64_t patience);
/* The same for the receive at the head of RQ, which leaves the queue before its completion
 * can be seen, whatever is returned but -EBUSY. */
int uodp_cq_push_recv(struct uodp_proc *proc, struct odp_peer *peer, uint32_t index,
		      const struct uodp_cqe *cqe, bool solicited, uint64_t patience,
		      struct uodp_rq_shm *rq);
/* An event for each armed CQ of contexts that DEVICE is gone for: who waits for a
 * completion shall not wait for ever (pin_lock held). */
void uodp_cqs_wake(struct uodp_proc *proc, uint32_t device);
/*
 * A CQ as ATTR's plain fields say, with FLAGS (enum uodp_cq_flags). *OUT is complete but
 * for what libibverbs fills in. 0 or -errno.
 */
int uodp_cq_make(struct ibv_context *ctx, const struct ibv_cq_init_attr_ex *attr, uint32_t flags,
		 struct uodp_cq **out);
/* May a verb make something that uses it? */
bool uodp_cq_known(const struct ibv_cq *cq);
/* Is there nothing to poll? Without a lock: a completion may come at any time. */
static inline bool uodp_cq_looks_empty(const struct uodp_cq *cq)
{
	return atomic_load_explicit(&cq->shm->prod, memory_order_relaxed) ==
	       atomic_load_explicit(&cq->shm->cons, memory_order_relaxed);
}
/* Its event has been raised, or is not wanted any more (lock held). */
static inline void uodp_cq_disarm(struct uodp_cq_shm *cq)
{
	atomic_store_explicit(&cq->armed, UODP_ARM_NONE, memory_order_relaxed);
	cq->mod_seen = 0;
	atomic_store_explicit(&cq->mod_due, 0, memory_order_relaxed);
}
/* ---- cq_ex.c ---- */
/* ibv_start_poll() and what follows it fail from now on with EIO. */
void uodp_cq_ops_end(struct uodp_cq *cq);
/* ---- cq_mod.c ---- */
/* Events of CQ come after COUNT completions or PERIOD microseconds; a 0: at once.
 * -ETIMEDOUT: somebody has its lock. */
int uodp_cq_moderate(struct uodp_cq *cq, uint16_t count, uint16_t period);
/* Raise the events that have waited long enough; returns when the next is due (service
 * thread). */
uint64_t uodp_cqs_due(struct uodp_proc *proc);

/* ---- cq.c ---- */
/* Drop the completions of QPN that nobody has polled yet. */
void uodp_cq_clean(struct uodp_cq *cq, uint32_t qpn);
/* The CQ of INDEX in PEER, or NULL when the index or the peer's tables are bad. */
struct uodp_cq_shm *uodp_cq_shm(struct odp_peer *peer, uint32_t index);

/* ---- rq.c ---- */
int uodp_rq_init(struct uodp_proc *proc, struct uodp_rq *rq, struct uodp_rq_shm *shm,
		 uint32_t max_wr, uint32_t max_sge);
void uodp_rq_fini(struct uodp_proc *proc, struct uodp_rq *rq);
int uodp_rq_post(struct uodp_rq *rq, const struct ibv_recv_wr *wr);
/* Post what WQE, taken from there, was; false: there is no room, since more have been
 * posted than the queue was made for. Takes rq->lock. */
bool uodp_rq_return(struct uodp_rq *rq, const struct uodp_rwqe *wqe);
/* The receive at the head of PEER's queue, checked; NULL when it is empty. The
 * caller holds rq->lock (SRQ) or the QP's lock. */
const struct uodp_rwqe *uodp_rq_peek(struct odp_peer *peer, struct uodp_rq_shm *rq);
bool uodp_rq_empty(const struct uodp_rq_shm *rq);
void uodp_rq_pop(struct uodp_rq_shm *rq);

/* ---- transport.c ---- */
/* Set qp->transport by what its attributes name (sq_lock, or nobody else knows QP). */
void uodp_transport_choose(struct uodp_qp *qp);

/* ---- dest.c ---- */
/* The QP with number QPN, wherever it is; -ENOENT when there is none now. */
int uodp_dest_find(struct uodp_proc *proc, uint32_t qpn, struct uodp_dest *dest);
/* PEER's root object, or NULL when it has none that we understand. */
struct uodp_root *uodp_peer_root(struct odp_peer *peer);
/* The shared record of the QP with local INDEX in PEER, or NULL. */
struct uodp_qp_shm *uodp_qp_shm(struct odp_peer *peer, uint32_t index);
struct uodp_srq_shm *uodp_srq_shm(struct odp_peer *peer, uint32_t index);
/*
 * The SRQ with number SRQN of XRC domain XRCD, wherever it is, in DEST's fields for the
 * memory; -ENOENT when there is none now.
 */
int uodp_dest_find_srq(struct uodp_proc *proc, uint32_t srqn, uint64_t xrcd,
		       struct uodp_dest *dest);
/* Attach to the process of SRQN now, in a program thread. */
void uodp_srqn_meet(struct uodp_proc *proc, uint32_t srqn);
/* The index of QP in the table of PEER. */
uint32_t uodp_qp_index(struct odp_peer *peer, const struct uodp_qp_shm *qp);

/* ---- local/deliver.c ---- */
/* Flush the receives of a QP in ERR (lock held). What the CQ's lock is in the way of is
 * left to the owner's worker. */
void uodp_resp_flush(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp);
/* The same of an XRC target: what it has taken from an SRQ, if anything. False: a lock is in
 * the way of it (lock held). */
bool uodp_xrc_flush(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp,
		    uint64_t patience);
/* uodp_resp_flush() for who has not the lock of a QP in ERR. */
void uodp_resp_flush_for(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp,
			 uint64_t patience);
/* Go on with flushes that were left (worker); when it wants to be asked again. */
uint64_t uodp_flushes_go_on(struct uodp_proc *proc);

/* ---- exec.c ---- */
/* Run the send queue until it is empty or its head has to wait (sq_lock held). */
void uodp_sq_run(struct uodp_qp *qp);
/* The request at the head goes no further, unless it has ended already and only its
 * completion is to be pushed (sq_lock held). */
void uodp_sq_cancel(struct uodp_qp *qp);

/* ---- progress.c ---- */
/* Note that QP's head waits until x.deadline (sq_lock held). */
void uodp_pending_set(struct uodp_qp *qp);
void uodp_pending_clear(struct uodp_qp *qp);
/* Run what waits; returns the next deadline. SERVICE: only try locks. */
uint64_t uodp_progress(struct uodp_proc *proc, bool service);
/* A reference that keeps QP's memory, NULL when there is none of that index. */
struct uodp_qp *uodp_qp_pin(struct uodp_proc *proc, uint32_t index);
void uodp_qp_unpin(struct uodp_qp *qp);

bool uodp_on_service_thread(const struct uodp_proc *proc);

/* ---- window.c ---- */
/* Make W one that binds MW; 0 or -EINVAL. */
int uodp_put_bind(const struct uodp_qp *qp, struct uodp_swqe *w, const struct ibv_mw *mw,
		  uint32_t rkey, const struct ibv_mw_bind_info *info);

/* ---- plug.c ---- */
/* End what belongs to contexts whose device has been unplugged (service thread).
 * When it wants to be asked again, UINT64_MAX: never. */
uint64_t uodp_unplugged_end(struct uodp_proc *proc);

/* ---- wake.c ---- */
/* Note, under whatever lock, that CQ of PEER has an event for its channel (the CQ's lock
 * held); that PEER's bell is to be rung. */
void uodp_wake_cq(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_cq_shm *cq);
void uodp_wake_bell(struct uodp_proc *proc, struct odp_peer *peer);
/* What this thread has noted. */
extern __thread uint32_t uodp_wakes __attribute__((tls_model("initial-exec")));
void uodp_wakes_tell(struct uodp_proc *proc);
/* Tell it: no lock is held that other processes take. */
static inline void uodp_wakes_pass(struct uodp_proc *proc)
{
	if (uodp_unlikely(uodp_wakes))
		uodp_wakes_tell(proc);
}
/* Wait until nobody is about to tell of CQ, which has been ended; false: somebody who is
 * stopped, or was killed, may be for ever. */
bool uodp_cq_told(struct uodp_cq_shm *cq);

/* ---- event.c ---- */
/* Write an event to a context's async_fd; HANDLE: of the object it names. */
void uodp_async_deliver(int fd, uint64_t handle, uint32_t type);
/* Hand the events that peers raised to the program (service thread). */
void uodp_events_drain(struct uodp_proc *proc);
/* Write the completion event of a CQ of PEER to its channel (no shared lock held). */
void uodp_channel_notify(struct uodp_proc *proc, struct odp_peer *peer, int fd, uint32_t id,
			 uint64_t handle);
/*
 * Remove the records that name HANDLE (at byte 0, 8 bytes) from PIPE. False: it cannot be
 * done, and what they name must stay valid memory for who reads them.
 */
bool uodp_pipe_purge(struct uodp_proc *proc, const struct uodp_pipe *pipe, size_t record,
		     uint64_t handle);
/* The same for the async events of CTX's queue. */
bool uodp_events_purge(struct ibv_context *ctx, uint64_t handle);
/* Wait until the program has acknowledged what it read (verbs rule). */
void uodp_wait_acks(pthread_mutex_t *mutex, pthread_cond_t *cond, const uint32_t *completed,
		    uint32_t reported);

/* ---- xrcd.c ---- */
/* May a verb of CTX use it? 0 or -EINVAL. */
int uodp_xrcd_check(const struct ibv_context *ctx, const struct ibv_xrcd *xrcd);

/* ---- target.c: XRC targets, which several processes may have open ---- */
int uodp_target_init(struct uodp_qp *qp);
void uodp_target_fini(struct uodp_qp *qp);
int uodp_target_modify(struct uodp_qp *qp, struct ibv_qp_attr *attr, int mask);
int uodp_target_query(struct uodp_qp *qp, struct ibv_qp_attr *attr);
/* QP's handle is closed. True: others have the QP open, and it goes on; its index and
 * what it has in the arena stay. */
bool uodp_target_leave(struct uodp_qp *qp);

/* ---- mcast.c ---- */
void uodp_mcast_leave_all(struct uodp_qp *qp);

/* ---- qp.c ---- */
/* An index in this process's table, and so a handle, for QP of CTX; 0 or -ENOMEM. */
int uodp_qp_claim(struct uodp_proc *proc, struct uodp_qp *qp, struct ibv_context *ctx);

/* ---- qp_state.c ---- */
/* MASK without what says nothing of a QP of TYPE, and is ignored: as the kernel's
 * modify_qp_mask() (uverbs_cmd.c). */
int uodp_modify_mask(enum ibv_qp_type type, int mask);
/* May a QP of TYPE go from CUR to NEXT with the attributes of MASK? 0 or -EINVAL. */
int uodp_modify_check(const struct uodp_device *dev, enum ibv_qp_type type, enum ibv_qp_state cur,
		      enum ibv_qp_state next, const struct ibv_qp_attr *attr, int mask);
/* Note the attributes of MASK in TO. */
void uodp_attr_take(struct ibv_qp_attr *to, const struct ibv_qp_attr *attr, int mask);
/* What responders and requesters of other processes see of them (shm->lock held). */
void uodp_attr_publish(struct uodp_qp_shm *shm, const struct ibv_qp_attr *attr);
/* ---- modify.c ---- */
/* Move QP to ERR and flush it, as a failing work request does (sq_lock held). */
void uodp_qp_error(struct uodp_qp *qp);
/* A request of QP has failed: RC goes to ERR; of UC and UD the send queue alone stops,
 * in SQE, which modify_qp can take back to RTS (IBTA 10.3.1) (sq_lock held). */
void uodp_qp_sq_error(struct uodp_qp *qp);
/* As a move to RESET, for ever: no transfer is under way when it returns
 * (sq_lock held). False: a process that is stopped has its lock; its record and its
 * receives must stay what they are. */
bool uodp_qp_withdraw(struct uodp_qp *qp);

/* ---- wr_api.c ---- */
int uodp_wr_api_init(struct uodp_qp *qp, uint64_t send_ops);
/* Shared by ibv_post_send() and ibv_wr_*. */
struct uodp_swqe *uodp_sq_next(struct uodp_qp *qp, uint32_t head);

#endif
