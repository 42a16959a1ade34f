/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Flushing the receives of a QP in ERR, by whoever moved it there, as far as that goes:
 * where a process that is stopped has a lock that it needs, the owner's worker goes on
 * later. The entry at the head leaves the queue with its completion, so that a flush may
 * end anywhere.
 */
#include <errno.h>

#include "local_step.h"

#define AGAIN_NS 1000000u

static int flush_one(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp,
		     uint64_t wr_id)
{
	struct uodp_cqe cqe = {.wr_id = wr_id,
			       .status = IBV_WC_WR_FLUSH_ERR,
			       .opcode = IBV_WC_RECV,
			       .qp_num = qp->qpn};

	return uodp_cq_push_recv(proc, peer, qp->recv_cq, &cqe, true, 0, &qp->rq);
}

static void flush_later(struct uodp_proc *proc, struct odp_peer *peer)
{
	struct uodp_root *root = odp_peer_ptr(peer, odp_peer_root(peer), sizeof(*root));

	if (!root)
		return;
	/* seq_cst: after the QP's state; pairs with the exchange in uodp_flushes_go_on(). */
	atomic_store_explicit(&root->unflushed, 1, memory_order_seq_cst);
	uodp_wake_bell(proc, peer);
}

/* Lock held. False: not all of it. */
static bool flush_locked(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp)
{
	const struct uodp_rwqe *wqe;

	if (qp->type == IBV_QPT_XRC_RECV)
		return uodp_xrc_flush(proc, peer, qp, 0);
	while ((wqe = uodp_rq_peek(peer, &qp->rq)))
		if (flush_one(proc, peer, qp, wqe->wr_id) == -EBUSY)
			return false;
	if (qp->srq && !qp->last_wqe_reached) {
		qp->last_wqe_reached = 1;
		uodp_event_raise(proc, peer, IBV_EVENT_QP_LAST_WQE_REACHED,
				 uodp_qp_index(peer, qp));
	}
	return true;
}

/* The same with the lock taken. */
static bool flush(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp,
		  uint64_t patience)
{
	bool all = true;

	if (!uodp_lock(proc, &qp->lock, patience))
		return false;
	/* relaxed: the lock orders it */
	if (atomic_load_explicit(&qp->state, memory_order_relaxed) == IBV_QPS_ERR)
		all = flush_locked(proc, peer, qp);
	uodp_unlock(&qp->lock);
	return all;
}

void uodp_resp_flush(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp)
{
	if (!flush_locked(proc, peer, qp))
		flush_later(proc, peer);
}

void uodp_resp_flush_for(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp,
			 uint64_t patience)
{
	if (!flush(proc, peer, qp, patience))
		flush_later(proc, peer);
}

/* Is there something to flush of QP? */
static bool unflushed(const struct uodp_qp_shm *qp)
{
	return atomic_load_explicit(&qp->state, memory_order_acquire) == IBV_QPS_ERR &&
	       (!uodp_rq_empty(&qp->rq) || (qp->srq && !qp->last_wqe_reached));
}

uint64_t uodp_flushes_go_on(struct uodp_proc *proc)
{
	uint32_t high = atomic_load_explicit(&proc->root->qp_high, memory_order_relaxed);
	bool all = true;

	if (uodp_likely(!atomic_load_explicit(&proc->root->unflushed, memory_order_relaxed)) ||
	    /* seq_cst: before the look at the QPs; what comes later sets it again */
	    !atomic_exchange_explicit(&proc->root->unflushed, 0, memory_order_seq_cst))
		return UINT64_MAX;
	for (uint32_t i = 0; i < high; i++) {
		struct uodp_qp *qp = uodp_qp_pin(proc, i);

		if (!qp)
			continue;
		if (unflushed(qp->shm))
			all &= flush(proc, proc->self, qp->shm, 0);
		uodp_qp_unpin(qp);
	}
	uodp_wakes_pass(proc);
	if (all)
		return UINT64_MAX;
	/* No bell: the time is known when to look again. */
	atomic_store_explicit(&proc->root->unflushed, 1, memory_order_relaxed);
	return odp_now() + AGAIN_NS;
}
