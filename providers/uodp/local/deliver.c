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
 * requester's process, and taken over when that has died. It names the QP's epoch, so
 * that who gives it back needs no lock: in a later life it cannot be his.
 *
 * An XRC target hears from one requester too; its queue has one entry, for what a message
 * takes from the SRQ that it names (xrc.c).
 *
 * The locks here may be held by a process that is stopped: see queue.h. Whatever finds
 * one taken has done nothing yet, and is called again.
 */
#include <errno.h>
#include <string.h>

#include "local_step.h"

static uint64_t turn_mine(struct uodp_proc *proc, const struct uodp_dest *dest)
{
	return (uint64_t)dest->epoch << 32 | odp_lock_tag(proc->odp);
}

/* Lock held. */
static bool turn_take(struct uodp_proc *proc, const struct uodp_dest *dest)
{
	uint64_t turn = atomic_load_explicit(&dest->qp->turn, memory_order_relaxed);

	if (turn && odp_lock_tag_alive(proc->odp, (uint32_t)turn))
		return false;
	/* acquire: pairs with the release of who had it before. Fails if that was now. */
	return atomic_compare_exchange_strong_explicit(&dest->qp->turn, &turn,
						       turn_mine(proc, dest), memory_order_acquire,
						       memory_order_relaxed);
}

static void turn_give(struct uodp_proc *proc, struct uodp_exec *x)
{
	uint64_t turn = turn_mine(proc, &x->dest);

	if (!x->turn)
		return;
	x->turn = false;
	/* Else it was taken from us, by who ended that life. */
	atomic_compare_exchange_strong_explicit(&x->dest.qp->turn, &turn, 0, memory_order_release,
						memory_order_relaxed);
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
		  uint32_t index, uint64_t patience)
{
	bool limit = false;
	int ret = -EAGAIN;

	if (!srq)
		return -ENOTCONN;
	if (!uodp_lock(proc, &srq->rq.lock, patience))
		return -EBUSY;
	/* An XRC SRQ may have been destroyed since it was found: that shows the next time. */
	if (!dest->srq || uodp_xsrq_there(dest))
		ret = refill_locked(dest->peer, &dest->qp->rq, dest->mem, &srq->rq);
	if (!ret)
		limit = limit_reached(&srq->rq);
	uodp_unlock(&srq->rq.lock);
	if (limit)
		uodp_event_raise(proc, dest->mem, IBV_EVENT_SRQ_LIMIT_REACHED, index);
	return ret;
}

/* What a requester that died, or stopped half-way, has left is ended first: the message
 * before may have named another SRQ. */
static int xrc_refill(struct uodp_proc *proc, const struct uodp_dest *dest, uint64_t patience)
{
	struct uodp_rq_shm *rq = &dest->qp->rq;
	int ret;

	if (!uodp_rq_empty(rq) && !uodp_xrc_flush(proc, dest->peer, dest->qp, patience))
		return -EBUSY;
	ret = refill(proc, dest, dest->srq, UODP_SRQN_INDEX(dest->srqn), patience);
	if (!ret) {
		rq->taken_srqn = dest->srqn;
		rq->taken_gen = dest->srq_gen;
	}
	return ret;
}

static int begin_locked(struct uodp_qp *qp, struct uodp_exec *x)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	const struct uodp_rwqe *wqe;
	int ret = 0;

	if (x->dest.srq)
		ret = xrc_refill(qp->proc, &x->dest, uodp_patience(qp));
	else if (rqp->srq && uodp_rq_empty(&rqp->rq))
		ret = refill(qp->proc, &x->dest, uodp_srq_shm(x->dest.peer, rqp->srq - 1),
			     rqp->srq - 1, uodp_patience(qp));
	if (ret)
		return ret;
	wqe = uodp_rq_peek(x->dest.peer, &rqp->rq);
	return wqe ? take(x, wqe, rqp->rq.max_sge) : -EAGAIN;
}

static int begin_in_turn(struct uodp_qp *qp, struct uodp_exec *x)
{
	int ret;

	x->turn = turn_take(qp->proc, &x->dest);
	if (!x->turn)
		return -EBUSY;
	ret = begin_locked(qp, x);
	if (ret && ret != -EINVAL)
		turn_give(qp->proc, x); /* there is nothing to complete */
	return ret;
}

int uodp_deliver_begin(struct uodp_qp *qp, struct uodp_exec *x, uint32_t length)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	int ret;

	if (uodp_unlikely(!uodp_lock(qp->proc, &rqp->lock, uodp_patience(qp))))
		return -EBUSY;
	if (!uodp_dest_receives_locked(&x->dest))
		ret = -ENOTCONN;
	else
		ret = uodp_takes_turns(qp) ? begin_in_turn(qp, x) : begin_locked(qp, x);
	uodp_unlock(&rqp->lock);
	if (!ret && length > x->recv_length)
		ret = -EMSGSIZE;
	return ret;
}

/* ---- what becomes of it ---- */

/* The entry leaves the queue with its completion, or stays for the next time (-EBUSY). */
static int complete_head(struct uodp_qp *qp, const struct uodp_dest *dest, uint64_t wr_id,
			 struct uodp_cqe *cqe, bool solicited)
{
	int ret;

	cqe->wr_id = wr_id;
	cqe->qp_num = dest->qp->qpn;
	if (!dest->srq)
		return uodp_cq_push_recv(qp->proc, dest->peer, dest->qp->recv_cq, cqe, solicited,
					 uodp_patience(qp), &dest->qp->rq);
	ret = uodp_xsrq_complete(qp->proc, dest, cqe, solicited, uodp_patience(qp));
	if (uodp_likely(ret != -EBUSY))
		uodp_rq_pop(&dest->qp->rq);
	return ret;
}

static int end_locked(struct uodp_qp *qp, struct uodp_exec *x, struct uodp_cqe *cqe, bool solicited)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	int ret;

	if (!uodp_dest_receives_locked(&x->dest)) {
		turn_give(qp->proc, x);
		return -ENOTCONN;
	}
	ret = complete_head(qp, &x->dest, x->recv_wr_id, cqe, solicited);
	if (uodp_unlikely(ret == -EBUSY))
		return ret;
	uodp_count(&rqp->rx_msgs, 1);
	uodp_count(&rqp->rx_bytes, cqe->byte_len);
	turn_give(qp->proc, x);
	return ret;
}

int uodp_deliver_end(struct uodp_qp *qp, struct uodp_exec *x, struct uodp_cqe *cqe, bool solicited)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	int ret;

	if (uodp_unlikely(!uodp_lock(qp->proc, &rqp->lock, uodp_patience(qp))))
		return -EBUSY;
	ret = end_locked(qp, x, cqe, solicited);
	uodp_unlock(&rqp->lock);
	return ret;
}

void uodp_deliver_cancel(struct uodp_qp *qp, struct uodp_exec *x)
{
	turn_give(qp->proc, x);
}

int uodp_deliver_fail_head(struct uodp_qp *qp, const struct uodp_dest *dest, struct uodp_cqe *cqe)
{
	const struct uodp_rwqe *wqe;
	int ret = 0;

	if (!uodp_lock(qp->proc, &dest->qp->lock, uodp_patience(qp)))
		return -EBUSY;
	if (uodp_dest_receives_locked(dest)) {
		wqe = uodp_rq_peek(dest->peer, &dest->qp->rq);
		if (wqe)
			ret = complete_head(qp, dest, wqe->wr_id, cqe, true);
	}
	uodp_unlock(&dest->qp->lock);
	return ret;
}

int uodp_deliver_error(struct uodp_qp *qp, const struct uodp_dest *dest, enum ibv_event_type event)
{
	struct uodp_qp_shm *rqp = dest->qp;
	bool moved = false;

	if (!uodp_lock(qp->proc, &rqp->lock, uodp_patience(qp)))
		return -EBUSY;
	if (uodp_dest_receives_locked(dest)) {
		/* seq_cst: no other requester's datagram goes on into a buffer that is
		 * flushed here; pairs with odp_copy(). */
		atomic_fetch_add_explicit(&rqp->epoch, 1, memory_order_seq_cst);
		atomic_store_explicit(&rqp->state, IBV_QPS_ERR, memory_order_release);
		atomic_store_explicit(&rqp->turn, 0, memory_order_relaxed);
		uodp_resp_flush(qp->proc, dest->peer, rqp);
		moved = true;
	}
	uodp_unlock(&rqp->lock);
	/* The bell that comes with the event makes the owner flush its sends. */
	if (moved)
		uodp_event_raise(qp->proc, dest->peer, event, uodp_qp_index(dest->peer, rqp));
	return 0;
}
