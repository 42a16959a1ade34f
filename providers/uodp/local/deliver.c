/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The responder's side of a message, run by the requester's thread: take a
 * receive, complete it, or move the responder's QP to the error state.
 *
 * Accounting of receives. A message uses the receive at the head of the
 * responder's own queue, and the entry leaves that queue only with its completion:
 * whatever ends the message before that (the requester's error or death, a flush of
 * its queue), the receive is there for the next message, or for the flush. The queue
 * of a QP with an SRQ has one entry, which is filled from the SRQ when it is empty;
 * so a receive that was taken from the SRQ is the QP's until it is completed.
 *
 * A connected QP hears from one requester, which sends one message at a time. A UD QP
 * hears from many: its TURN is held from taking a receive to completing it, by the
 * requester's process, and taken over when that has died.
 *
 * An XRC target hears from one requester too; its queue has one entry, for what a message
 * takes from the SRQ that it names (xrc.c).
 */
#include <errno.h>
#include <string.h>

#include "local_step.h"

static bool same_life(const struct uodp_dest *dest)
{
	return atomic_load_explicit(&dest->qp->gen, memory_order_relaxed) == dest->gen &&
	       atomic_load_explicit(&dest->qp->epoch, memory_order_relaxed) == dest->epoch;
}

/* ---- taking a receive (the QP's lock held) ---- */

/* The entry is another process's word: copy it once, then check the copy. */
static int take(struct uodp_exec *x, const struct uodp_rwqe *wqe, uint32_t max_sge)
{
	uint32_t n = wqe->num_sge;

	x->recv_wr_id = wqe->wr_id;
	x->recv_length = wqe->length;
	if (n > UODP_MAX_SGE || n > max_sge)
		return -EINVAL;
	memcpy(x->recv_sge, wqe->sge, n * sizeof(wqe->sge[0]));
	x->dst = (struct uodp_iter){.peer = x->dest.mem,
				    .sge = x->recv_sge,
				    .num_sge = n,
				    .pd = x->dest.srq ? x->dest.pd : x->dest.qp->recv_pd,
				    .access = ODP_ACCESS_LOCAL_WRITE,
				    .to = &x->dest};
	return 0;
}

/* Move the entry at the head of SRQ, of process MEM, to the QP's queue, which is empty. */
static int refill_locked(struct odp_peer *peer, struct uodp_rq_shm *rq, struct odp_peer *mem,
			 struct uodp_rq_shm *srq)
{
	const struct uodp_rwqe *from = uodp_rq_peek(mem, srq);
	uint32_t stride = rq->stride < srq->stride ? rq->stride : srq->stride;
	struct uodp_rwqe *to;

	if (!from)
		return -EAGAIN;
	if (stride < sizeof(*to))
		return -ENOTCONN; /* the peer's tables are bad */
	to = odp_peer_ptr(peer, rq->ring, stride);
	if (!to)
		return -ENOTCONN;
	memcpy(to, from, stride);
	uodp_rq_pop(srq);
	/* release: pairs with the acquire in uodp_rq_empty() */
	atomic_fetch_add_explicit(&rq->prod, 1, memory_order_release);
	return 0;
}

/* Are there fewer left than the program wants to be told of? Once for each arming. */
static bool limit_reached(struct uodp_rq_shm *srq)
{
	uint32_t left = atomic_load_explicit(&srq->prod, memory_order_relaxed) -
			atomic_load_explicit(&srq->cons, memory_order_relaxed);

	if (!srq->limit || left >= srq->limit)
		return false;
	srq->limit = 0;
	return true;
}

static int refill(struct uodp_proc *proc, const struct uodp_dest *dest, struct uodp_srq_shm *srq,
		  uint32_t index)
{
	bool limit = false;
	int ret = -EAGAIN;

	if (!srq)
		return -ENOTCONN;
	odp_lock(proc->odp, &srq->rq.lock);
	/* An XRC SRQ may have been destroyed since it was found: that shows the next time. */
	if (!dest->srq || uodp_xsrq_there(dest))
		ret = refill_locked(dest->peer, &dest->qp->rq, dest->mem, &srq->rq);
	if (!ret)
		limit = limit_reached(&srq->rq);
	odp_unlock(&srq->rq.lock);
	if (limit)
		uodp_event_raise(proc, dest->mem, IBV_EVENT_SRQ_LIMIT_REACHED, index);
	return ret;
}

/* What a requester that died, or stopped half-way, has left is ended first: the message
 * before may have named another SRQ. */
static int xrc_refill(struct uodp_proc *proc, const struct uodp_dest *dest)
{
	struct uodp_rq_shm *rq = &dest->qp->rq;
	int ret;

	if (!uodp_rq_empty(rq))
		uodp_xrc_flush(proc, dest->peer, dest->qp);
	ret = refill(proc, dest, dest->srq, UODP_SRQN_INDEX(dest->srqn));
	if (!ret) {
		rq->taken_srqn = dest->srqn;
		rq->taken_gen = dest->srq_gen;
	}
	return ret;
}

static int begin_locked(struct uodp_proc *proc, struct uodp_exec *x)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	const struct uodp_rwqe *wqe;
	int ret = 0;

	if (x->dest.srq)
		ret = xrc_refill(proc, &x->dest);
	else if (rqp->srq && uodp_rq_empty(&rqp->rq))
		ret = refill(proc, &x->dest, uodp_srq_shm(x->dest.peer, rqp->srq - 1),
			     rqp->srq - 1);
	if (ret)
		return ret;
	wqe = uodp_rq_peek(x->dest.peer, &rqp->rq);
	return wqe ? take(x, wqe, rqp->rq.max_sge) : -EAGAIN;
}

static int begin_in_turn(struct uodp_proc *proc, struct uodp_exec *x)
{
	struct odp_lock *turn = &x->dest.qp->turn;
	int ret;

	if (!odp_lock_try(proc->odp, turn))
		return -EBUSY;
	ret = begin_locked(proc, x);
	if (ret && ret != -EINVAL)
		odp_unlock(turn); /* there is nothing to complete */
	return ret;
}

int uodp_deliver_begin(struct uodp_qp *qp, struct uodp_exec *x, uint32_t length)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	int ret;

	odp_lock(qp->proc->odp, &rqp->lock);
	if (!uodp_dest_receives_locked(&x->dest))
		ret = -ENOTCONN;
	else
		ret = uodp_takes_turns(qp) ? begin_in_turn(qp->proc, x) : begin_locked(qp->proc, x);
	odp_unlock(&rqp->lock);
	if (!ret && length > x->recv_length)
		ret = -EMSGSIZE;
	return ret;
}

/* ---- what becomes of it ---- */

static int complete_head(struct uodp_proc *proc, const struct uodp_dest *dest, uint64_t wr_id,
			 struct uodp_cqe *cqe, bool solicited)
{
	cqe->wr_id = wr_id;
	cqe->qp_num = dest->qp->qpn;
	uodp_rq_pop(&dest->qp->rq);
	if (dest->srq)
		return uodp_xsrq_complete(proc, dest, cqe, solicited);
	return uodp_cq_push(proc, dest->peer, dest->qp->recv_cq, cqe, solicited);
}

int uodp_deliver_end(struct uodp_qp *qp, struct uodp_exec *x, struct uodp_cqe *cqe, bool solicited)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	int ret = -ENOTCONN;

	odp_lock(qp->proc->odp, &rqp->lock);
	if (uodp_dest_receives_locked(&x->dest)) {
		ret = complete_head(qp->proc, &x->dest, x->recv_wr_id, cqe, solicited);
		uodp_count(&rqp->rx_msgs, 1);
		uodp_count(&rqp->rx_bytes, cqe->byte_len);
		if (uodp_takes_turns(qp))
			odp_unlock(&rqp->turn);
	}
	odp_unlock(&rqp->lock);
	return ret;
}

void uodp_deliver_cancel(struct uodp_qp *qp, struct uodp_exec *x)
{
	struct uodp_qp_shm *rqp = x->dest.qp;

	if (!uodp_takes_turns(qp))
		return;
	odp_lock(qp->proc->odp, &rqp->lock);
	/* Else it was taken from us, by who ended that life. */
	if (same_life(&x->dest))
		odp_unlock(&rqp->turn);
	odp_unlock(&rqp->lock);
}

void uodp_deliver_fail_head(struct uodp_qp *qp, const struct uodp_dest *dest, struct uodp_cqe *cqe)
{
	const struct uodp_rwqe *wqe;

	odp_lock(qp->proc->odp, &dest->qp->lock);
	if (uodp_dest_receives_locked(dest)) {
		wqe = uodp_rq_peek(dest->peer, &dest->qp->rq);
		if (wqe)
			complete_head(qp->proc, dest, wqe->wr_id, cqe, true);
	}
	odp_unlock(&dest->qp->lock);
}

static void flush_one(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp,
		      uint64_t wr_id)
{
	struct uodp_cqe cqe = {.wr_id = wr_id,
			       .status = IBV_WC_WR_FLUSH_ERR,
			       .opcode = IBV_WC_RECV,
			       .qp_num = qp->qpn};

	uodp_cq_push(proc, peer, qp->recv_cq, &cqe, true);
}

void uodp_resp_flush(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp)
{
	const struct uodp_rwqe *wqe;

	if (qp->type == IBV_QPT_XRC_RECV) {
		uodp_xrc_flush(proc, peer, qp);
		return;
	}
	while ((wqe = uodp_rq_peek(peer, &qp->rq))) {
		flush_one(proc, peer, qp, wqe->wr_id);
		uodp_rq_pop(&qp->rq);
	}
	if (qp->srq && !qp->last_wqe_reached) {
		qp->last_wqe_reached = 1;
		uodp_event_raise(proc, peer, IBV_EVENT_QP_LAST_WQE_REACHED,
				 uodp_qp_index(peer, qp));
	}
}

void uodp_deliver_error(struct uodp_qp *qp, const struct uodp_dest *dest, enum ibv_event_type event)
{
	struct uodp_qp_shm *rqp = dest->qp;
	bool moved = false;

	odp_lock(qp->proc->odp, &rqp->lock);
	if (uodp_dest_receives_locked(dest)) {
		/* seq_cst: no other requester's datagram goes on into a buffer that is
		 * flushed here; pairs with odp_copy(). */
		atomic_fetch_add_explicit(&rqp->epoch, 1, memory_order_seq_cst);
		atomic_store_explicit(&rqp->state, IBV_QPS_ERR, memory_order_release);
		if (uodp_takes_turns(qp))
			odp_unlock(&rqp->turn);
		uodp_resp_flush(qp->proc, dest->peer, rqp);
		moved = true;
	}
	odp_unlock(&rqp->lock);
	/* The bell that comes with the event makes the owner flush its sends. */
	if (moved)
		uodp_event_raise(qp->proc, dest->peer, event, uodp_qp_index(dest->peer, rqp));
}
