/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The QP state machine; which moves there are stands in qp_state.c. */
#include <errno.h>
#include <string.h>

#include "queue.h"
#include "transport.h"

/* What was taken from the SRQ, and not completed, is there for others (shm->lock held). */
static void srq_return(struct uodp_qp *qp)
{
	const struct uodp_rwqe *wqe = uodp_rq_peek(qp->proc->self, &qp->shm->rq);

	if (wqe)
		uodp_rq_return(&qp->srq->rq, wqe);
}

/* Queues empty, attributes forgotten (IBTA 10.3.1.1); sq_lock and shm->lock held. */
static void reset(struct uodp_qp *qp)
{
	struct uodp_rq_shm *rq = &qp->shm->rq;

	uodp_pending_clear(qp);
	memset(&qp->attr, 0, sizeof(qp->attr));
	memset(&qp->conn, 0, sizeof(qp->conn));
	qp->sqd_notify = false;
	qp->x.phase = UODP_PHASE_NEW; /* a completion that was not pushed, too */
	qp->begun = false;
	qp->sq_tail = qp->sq_head;
	qp->shm->last_wqe_reached = 0;
	if (qp->srq)
		srq_return(qp);
	if (qp->target)
		uodp_xrc_flush(qp->proc, qp->proc->self, qp->shm, UODP_OWNER_NS);
	atomic_store_explicit(&rq->cons, atomic_load_explicit(&rq->prod, memory_order_relaxed),
			      memory_order_relaxed);
	uodp_attr_publish(qp->shm, &qp->attr);
}

/*
 * No message is taken any more, and what was under way is over when this returns:
 * the program may use the memory for something else. QUIESCE is for program
 * threads; on the worker at most the slice that is being copied goes on.
 *
 * The state changes without the lock: a message that is being completed came before.
 * Its completion is the last thing done under the lock. If its process is stopped in
 * there, a QP in ERR is flushed later, by the worker; one that was to be RESET, and so to
 * lose its queues, is in ERR instead: false.
 */
static bool leave(struct uodp_qp *qp, enum ibv_qp_state next, bool quiesce)
{
	struct uodp_qp_shm *shm = qp->shm;
	uint64_t patience = quiesce ? UODP_OWNER_NS : UODP_PATIENCE_NS;
	bool left = true;

	uodp_sq_cancel(qp);
	/* seq_cst: before the fence's loads of the lanes; pairs with odp_copy(). */
	atomic_fetch_add_explicit(&shm->epoch, 1, memory_order_seq_cst);
	/* release: who still sees older attributes sees that they do not count */
	atomic_store_explicit(&shm->state, next, memory_order_release);
	if (quiesce)
		odp_quiesce(qp->proc->odp);
	if (next != IBV_QPS_RESET) {
		uodp_resp_flush_for(qp->proc, qp->proc->self, shm, patience);
	} else if (uodp_lock(qp->proc, &shm->lock, patience)) {
		/* Whose it was sees the epoch. */
		atomic_store_explicit(&shm->turn, 0, memory_order_relaxed);
		reset(qp);
		odp_unlock(&shm->lock);
	} else {
		atomic_store_explicit(&shm->state, IBV_QPS_ERR, memory_order_release);
		left = false;
	}
	uodp_wakes_pass(qp->proc);
	return left;
}

/*
 * Without the lock, too: each attribute is one store, and what others have read of them
 * counts only with the epoch. False: others have moved the QP meanwhile.
 */
static bool enter(struct uodp_qp *qp, enum ibv_qp_state cur, enum ibv_qp_state next)
{
	struct uodp_qp_shm *shm = qp->shm;
	uint32_t state = cur;

	uodp_attr_publish(qp->shm, &qp->attr);
	if (next == IBV_QPS_RTR && cur != IBV_QPS_RTR) {
		memset(&qp->conn, 0, sizeof(qp->conn));
		uodp_transport_choose(qp);
		atomic_fetch_add_explicit(&shm->epoch, 1, memory_order_relaxed);
	}
	/* release: who sees the state sees the attributes */
	return atomic_compare_exchange_strong_explicit(&shm->state, &state, next,
						       memory_order_release, memory_order_relaxed);
}

void uodp_qp_error(struct uodp_qp *qp)
{
	if (atomic_load_explicit(&qp->shm->state, memory_order_relaxed) != IBV_QPS_ERR)
		leave(qp, IBV_QPS_ERR, false);
}

void uodp_qp_sq_error(struct uodp_qp *qp)
{
	struct uodp_qp_shm *shm = qp->shm;
	uint32_t state;

	if (qp->vqp.qp.qp_type != IBV_QPT_UC && qp->vqp.qp.qp_type != IBV_QPT_UD) {
		uodp_qp_error(qp);
		return;
	}
	state = atomic_load_explicit(&shm->state, memory_order_relaxed);
	while ((state == IBV_QPS_RTS || state == IBV_QPS_SQD) &&
	       !atomic_compare_exchange_weak_explicit(&shm->state, &state, IBV_QPS_SQE,
						      memory_order_relaxed, memory_order_relaxed))
		;
	qp->sqd_notify = false; /* it will never be drained */
}

bool uodp_qp_withdraw(struct uodp_qp *qp)
{
	return leave(qp, IBV_QPS_RESET, true);
}

static void transport_meet(struct uodp_qp *qp)
{
	if (qp->transport->meet)
		qp->transport->meet(qp);
}

static int modify(struct uodp_qp *qp, struct ibv_qp_attr *a, int mask)
{
	enum ibv_qp_state cur, next;
	int ret, moved;

	cur = atomic_load_explicit(&qp->shm->state, memory_order_acquire);
	if (mask & IBV_QP_CUR_STATE && a->cur_qp_state != cur)
		return -EINVAL;
	next = mask & IBV_QP_STATE ? a->qp_state : cur;
	ret = uodp_modify_check(to_uodp_device(qp->vqp.qp.context->device), qp->vqp.qp.qp_type, cur,
				next, a, mask);
	if (ret)
		return ret;
	ret = uodp_context_check(qp->vqp.qp.context);
	if (ret)
		return ret;
	uodp_attr_take(&qp->attr, a, mask);
	if (cur == IBV_QPS_RTS && next == IBV_QPS_SQD)
		qp->sqd_notify = mask & IBV_QP_EN_SQD_ASYNC_NOTIFY && a->en_sqd_async_notify;
	if (next == IBV_QPS_RESET || next == IBV_QPS_ERR)
		moved = leave(qp, next, true) ? 0 : -ETIMEDOUT;
	else
		moved = enter(qp, cur, next) ? 0 : -EINVAL; /* it is in ERR by now */
	/* Unplugged meanwhile? Who did it may have seen the state before. */
	ret = uodp_context_recheck(qp->vqp.qp.context);
	if (ret)
		leave(qp, IBV_QPS_ERR, true);
	else if (moved)
		ret = moved;
	else if (next == IBV_QPS_RTR)
		transport_meet(qp);
	uodp_sq_run(qp); /* flushes in ERR, goes on in RTS, drains in SQD */
	return ret;
}

int uodp_modify_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	int ret = uodp_object_check(ibqp->context, qp->proc, ibqp->handle, qp->index);

	if (ret)
		return uodp_fail(ret);
	mask = uodp_modify_mask(ibqp->qp_type, mask);
	if (qp->target)
		return uodp_fail(uodp_target_modify(qp, attr, mask));
	uodp_spin_lock(&qp->sq_lock);
	ret = modify(qp, attr, mask);
	uodp_spin_unlock(&qp->sq_lock);
	if (!ret && mask & IBV_QP_STATE && attr->qp_state == IBV_QPS_RESET) {
		/* Completions of the life before are gone too. */
		uodp_cq_clean(qp->send_cq, ibqp->qp_num);
		if (qp->recv_cq && qp->recv_cq != qp->send_cq)
			uodp_cq_clean(qp->recv_cq, ibqp->qp_num);
	}
	return uodp_fail(ret);
}
