/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Messages that use up a receive: SENDs, datagrams, WRITEs with immediate. */
#include <errno.h>

#include "exec.h"

static int recv_too_small(struct uodp_qp *qp, struct uodp_exec *x)
{
	/* UC and UD: dropped; only an SRQ's receive, already taken, ends. */
	if (!uodp_reliable(qp)) {
		if (x->dest.qp->srq)
			uodp_recv_fail(qp, x, IBV_WC_LOC_LEN_ERR);
		return uodp_exec_done(x, IBV_WC_SUCCESS);
	}
	uodp_recv_fail(qp, x, IBV_WC_LOC_LEN_ERR);
	return uodp_refuse(qp, x, IBV_WC_REM_INV_REQ_ERR);
}

/* Take a receive: 0 (go on), or what step() is to return. */
int uodp_need_recv(struct uodp_qp *qp, struct uodp_exec *x, uint32_t length, bool *go_on)
{
	int ret = uodp_deliver_begin(qp, x, length);

	*go_on = false;
	switch (ret) {
	case 0:
		*go_on = true;
		return 0;
	case -EAGAIN:
		return uodp_reliable(qp) ? uodp_wait_rnr(qp, x) : uodp_exec_done(x, IBV_WC_SUCCESS);
	case -EMSGSIZE:
		return recv_too_small(qp, x);
	case -EINVAL:
		return uodp_recv_broken(qp, x);
	default:
		return uodp_reliable(qp) ? uodp_wait_peer(qp, x)
					 : uodp_exec_done(x, IBV_WC_SUCCESS);
	}
}

static bool has_imm(const struct uodp_swqe *w)
{
	return w->opcode == IBV_WR_SEND_WITH_IMM || w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

int uodp_send_finish(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	bool ud = qp->vqp.qp.qp_type == IBV_QPT_UD;
	struct uodp_cqe cqe = {
		.status = IBV_WC_SUCCESS,
		.opcode = w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM ? IBV_WC_RECV_RDMA_WITH_IMM
								  : IBV_WC_RECV,
		.byte_len = w->length + (ud ? 40 : 0),
		.imm = w->imm,
		.src_qp = qp->shm->qpn,
		.wc_flags = (ud ? IBV_WC_GRH : 0) | (has_imm(w) ? IBV_WC_WITH_IMM : 0),
	};
	int ret;

	if (w->opcode == IBV_WR_SEND_WITH_INV) {
		cqe.wc_flags |= IBV_WC_WITH_INV;
		if (odp_key_invalidate(x->dest.peer, w->imm, x->dest.qp->pd)) {
			/* Class J: acknowledged, and the responder's QP stops. */
			uodp_recv_fail(qp, x, IBV_WC_REM_INV_REQ_ERR);
			uodp_deliver_error(qp, &x->dest, IBV_EVENT_QP_ACCESS_ERR);
			return uodp_exec_done(x, IBV_WC_SUCCESS);
		}
	}
	ret = uodp_deliver_end(qp, x, &cqe, w->flags & IBV_SEND_SOLICITED);
	if (ret == -ENOTCONN && uodp_reliable(qp)) {
		x->phase = UODP_PHASE_NEW; /* lost: it stays unacknowledged */
		return uodp_wait_peer(qp, x);
	}
	if (ret == -EOVERFLOW)
		uodp_deliver_error(qp, &x->dest, IBV_EVENT_QP_FATAL);
	return uodp_exec_done(x, IBV_WC_SUCCESS);
}

int uodp_send_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget)
{
	enum uodp_side failed;
	bool go_on;
	int ret;

	if (x->phase == UODP_PHASE_NEW) {
		ret = uodp_need_recv(qp, x, w->length, &go_on);
		if (!go_on)
			return ret;
		uodp_iter_local(qp, w, &x->src, 0);
		x->left = w->length;
		x->phase = UODP_PHASE_MOVE;
	}
	ret = uodp_move(x, budget, &failed);
	if (ret == -EAGAIN)
		return uodp_wait_move(qp, x, *budget, failed == UODP_DST);
	if (ret)
		return failed == UODP_SRC ? uodp_exec_done(x, IBV_WC_LOC_PROT_ERR)
					  : uodp_recv_broken(qp, x);
	return uodp_send_finish(qp, w, x);
}

/* ---- datagrams ---- */

static bool ud_dest(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	struct uodp_dest *dest = &x->dest;
	uint32_t qkey = w->remote_qkey;

	/* The last destination is remembered: most QPs talk to one. */
	if (qp->conn.qp && qp->conn.qpn == w->remote_qpn && uodp_dest_receives(&qp->conn))
		*dest = qp->conn;
	else if (uodp_dest_find(qp->proc, w->remote_qpn, dest) || !uodp_dest_receives(dest))
		return false;
	qp->conn = *dest;
	if (qkey & 0x80000000u) /* IBTA 10.2.5: the sender's own */
		qkey = uodp_attr(&qp->shm->qkey);
	return dest->qp->type == IBV_QPT_UD && uodp_attr(&dest->qp->qkey) == qkey &&
	       uodp_dest_addressed(dest, w->dgid);
}

static int ud_move_grh(struct uodp_exec *x, uint64_t *budget, enum uodp_side *failed)
{
	uint64_t left = x->left;
	struct uodp_iter src = x->src;
	int ret;

	x->src = (struct uodp_iter){.data = x->grh, .off = (uint32_t)sizeof(x->grh) - x->grh_left};
	x->left = x->grh_left;
	ret = uodp_move(x, budget, failed);
	x->grh_left = (uint32_t)x->left;
	x->left = left;
	x->src = src;
	return ret;
}

int uodp_ud_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget)
{
	enum uodp_side failed = UODP_DST;
	bool go_on;
	int ret = 0;

	if (x->phase == UODP_PHASE_NEW) {
		/* IBTA C10-93.1.1: too long for the MTU is dropped without error. */
		if (w->length > UODP_MTU || !ud_dest(qp, w, x))
			return uodp_exec_done(x, IBV_WC_SUCCESS);
		ret = uodp_need_recv(qp, x, w->length + 40, &go_on);
		if (!go_on)
			return ret;
		uodp_grh_fill(qp, w, x->grh);
		x->grh_left = sizeof(x->grh);
		uodp_iter_local(qp, w, &x->src, 0);
		x->left = w->length;
		x->phase = UODP_PHASE_MOVE;
	}
	if (!uodp_dest_receives(&x->dest))
		return uodp_exec_done(x, IBV_WC_SUCCESS);
	if (x->grh_left)
		ret = ud_move_grh(x, budget, &failed);
	if (!ret)
		ret = uodp_move(x, budget, &failed);
	if (ret == -EAGAIN)
		return uodp_wait_move(qp, x, *budget, failed == UODP_DST);
	if (ret)
		return failed == UODP_SRC ? uodp_exec_done(x, IBV_WC_LOC_PROT_ERR)
					  : uodp_recv_broken(qp, x);
	return uodp_send_finish(qp, w, x);
}
