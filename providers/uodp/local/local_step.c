/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The local transport: one step of the work request at the head of a send queue. */
#include "local_step.h"

static int connected_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
			  uint64_t *budget)
{
	bool go_on;
	int ret;

	if (uodp_unlikely(!uodp_conn_ready(qp)))
		return uodp_reliable(qp) ? uodp_wait_peer(qp, x)
					 : uodp_exec_done(x, IBV_WC_SUCCESS);
	x->give_up = 0;
	if (uodp_unlikely(x->rnr_fault)) {
		if (odp_now() < x->rnr_until)
			return uodp_exec_wait(x, x->rnr_until);
		x->rnr_fault = false;
	}
	if (uodp_likely(x->phase == UODP_PHASE_NEW))
		x->dest = qp->conn;
	else if (uodp_unlikely(x->phase > UODP_PHASE_MOVE))
		return uodp_msg_step(qp, w, x);
	if (uodp_unlikely(qp->vqp.qp.qp_type == IBV_QPT_XRC_SEND)) {
		ret = uodp_xrc_step(qp, w, x, &go_on);
		if (!go_on)
			return ret;
	}
	switch (w->opcode) {
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		return uodp_write_step(qp, w, x, budget);
	case IBV_WR_RDMA_READ:
		return uodp_read_step(qp, w, x, budget);
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return uodp_atomic_step(qp, w, x, budget);
	case IBV_WR_ATOMIC_WRITE:
		return uodp_atomic_write_step(qp, w, x, budget);
	default:
		return uodp_send_step(qp, w, x, budget);
	}
}

static int local_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		      uint64_t *budget)
{
	if (qp->vqp.qp.qp_type == IBV_QPT_UD)
		return uodp_ud_step(qp, w, x, budget);
	return connected_step(qp, w, x, budget);
}

static void local_cancel(struct uodp_qp *qp, struct uodp_exec *x)
{
	uodp_deliver_cancel(qp, x);
}

static bool local_reaches(const struct uodp_qp *qp)
{
	(void)qp; /* wherever the QP is: if no process here has it, requests wait for it */
	return true;
}

/* Attach to the other end's process, so that the service thread finds it attached. */
static void local_meet(struct uodp_qp *qp)
{
	struct uodp_dest dest;

	if (qp->vqp.qp.qp_type != IBV_QPT_UD)
		uodp_dest_find(qp->proc, qp->attr.dest_qp_num, &dest);
}

const struct uodp_transport uodp_local_transport = {
	.name = "local",
	.reaches = local_reaches,
	.meet = local_meet,
	.step = local_step,
	.cancel = local_cancel,
};
