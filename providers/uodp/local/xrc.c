/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * XRC at the responder (IBTA annex A14): a message names the SRQ whose receive it uses,
 * whose CQ gets the completion, and whose PD its keys are of. The SRQ may be of another
 * process than the target QP; both are of one XRC domain.
 *
 * A receive that was taken waits in the target's queue of one entry. Since SRQs differ
 * from message to message, what is left there, by a requester that failed or died in the
 * middle, goes to no other message: it ends as flushed.
 */
#include <errno.h>

#include "local_step.h"

int uodp_dest_find_srq(struct uodp_proc *proc, uint32_t srqn, uint64_t xrcd, struct uodp_dest *dest)
{
	struct uodp_srq_shm *srq;
	struct odp_peer *peer;
	uint32_t gen;

	if (srqn != UODP_SRQN(UODP_SRQN_SLOT(srqn), UODP_SRQN_INDEX(srqn)) ||
	    odp_peer_get(proc->odp, UODP_SRQN_SLOT(srqn), &peer) || !odp_peer_alive(peer))
		return -ENOENT;
	srq = uodp_srq_shm(peer, UODP_SRQN_INDEX(srqn));
	if (!srq)
		return -ENOENT;
	/* acquire: an odd generation shows an SRQ that is set up */
	gen = atomic_load_explicit(&srq->gen, memory_order_acquire);
	if (!(gen & 1) || !xrcd || srq->xrcd != xrcd)
		return -ENOENT;
	dest->mem = peer;
	dest->pd = srq->pd;
	dest->srq = srq;
	dest->srqn = srqn;
	dest->srq_gen = gen;
	return 0;
}

void uodp_srqn_meet(struct uodp_proc *proc, uint32_t srqn)
{
	struct odp_peer *peer;

	odp_peer_get(proc->odp, UODP_SRQN_SLOT(srqn), &peer);
}

bool uodp_xsrq_there(const struct uodp_dest *dest)
{
	return odp_peer_alive(dest->mem) &&
	       atomic_load_explicit(&dest->srq->gen, memory_order_relaxed) == dest->srq_gen;
}

/* The SRQ's lock keeps its CQ: who destroys it takes the lock before. */
int uodp_xsrq_complete(struct uodp_proc *proc, const struct uodp_dest *dest,
		       const struct uodp_cqe *cqe, bool solicited, uint64_t patience)
{
	int ret = 0;

	if (!uodp_lock(proc, &dest->srq->rq.lock, patience))
		return -EBUSY;
	if (uodp_xsrq_there(dest))
		ret = uodp_cq_push(proc, dest->mem, dest->srq->cq, cqe, solicited, patience);
	uodp_unlock(&dest->srq->rq.lock);
	return ret;
}

bool uodp_xrc_flush(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_qp_shm *qp,
		    uint64_t patience)
{
	struct uodp_cqe cqe = {
		.status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV, .qp_num = qp->qpn};
	const struct uodp_rwqe *wqe = uodp_rq_peek(peer, &qp->rq);
	struct uodp_dest dest = {0};

	if (!wqe)
		return true;
	cqe.wr_id = wqe->wr_id;
	if (!uodp_dest_find_srq(proc, qp->rq.taken_srqn, qp->xrcd, &dest) &&
	    dest.srq_gen == qp->rq.taken_gen &&
	    uodp_xsrq_complete(proc, &dest, &cqe, true, patience) == -EBUSY)
		return false;
	uodp_rq_pop(&qp->rq);
	return true;
}

/* What W, about to begin or going on, is for: 0, or what step() is to return (*GO_ON
 * false). */
int uodp_xrc_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, bool *go_on)
{
	bool there;

	if (x->phase == UODP_PHASE_NEW)
		there = !uodp_dest_find_srq(qp->proc, w->remote_qpn, x->dest.qp->xrcd, &x->dest);
	else
		there = uodp_xsrq_there(&x->dest);
	*go_on = there;
	if (there)
		return 0;
	/* An XRC domain violation, or no such SRQ: it is the target that answers. */
	x->dest.srq = NULL;
	return uodp_refuse(qp, w, x, IBV_WC_REM_INV_REQ_ERR);
}
