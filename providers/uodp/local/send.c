/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Messages that use up a receive: SENDs, datagrams, WRITEs with immediate. */
#include <errno.h>

#include "local_step.h"

/*
 * UC and UD: the message is dropped, and the receive stays for the next one; an SRQ's,
 * which is not to block the QP, ends.
 */
static int recv_too_small(struct uodp_qp *qp, struct uodp_exec *x)
{
	bool rc = uodp_reliable(qp);
	struct uodp_ending e = {.status = rc ? IBV_WC_REM_INV_REQ_ERR : IBV_WC_SUCCESS,
				.recv = IBV_WC_LOC_LEN_ERR,
				.recv_opcode = IBV_WC_RECV,
				.error = rc,
				.event = IBV_EVENT_QP_REQ_ERR};

	if (rc || x->dest.qp->srq)
		return uodp_msg_fail(qp, x, e);
	uodp_deliver_cancel(qp, x);
	return uodp_exec_done(x, IBV_WC_SUCCESS);
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
	case -EBUSY:
		return uodp_wait_busy(qp, x);
	case -EMSGSIZE:
		return recv_too_small(qp, x);
	case -EINVAL:
		return uodp_recv_broken(qp, x, IBV_WC_LOC_QP_OP_ERR);
	default:
		return uodp_reliable(qp) ? uodp_wait_peer(qp, x)
					 : uodp_exec_done(x, IBV_WC_SUCCESS);
	}
}

static bool has_imm(const struct uodp_swqe *w)
{
	return w->opcode == IBV_WR_SEND_WITH_IMM || w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

static void ud_fields(const struct uodp_qp *qp, const struct uodp_swqe *w, struct uodp_cqe *cqe)
{
	const struct uodp_device *dev = to_uodp_device(qp->vqp.qp.context->device);

	cqe->byte_len += UODP_GRH;
	if (!uodp_dgid_lid(w->dgid))
		cqe->wc_flags |= IBV_WC_GRH;
	if (dev->infiniband)
		cqe->slid = dev->lid;
	else
		cqe->sl = uodp_sends_ipv4(w) ? UODP_SL_IPV4 : UODP_SL_IPV6;
}

/* Class J: acknowledged, and the responder's QP stops. */
static int inv_failed(struct uodp_qp *qp, struct uodp_exec *x)
{
	struct uodp_ending e = {.status = IBV_WC_SUCCESS,
				.recv = IBV_WC_REM_INV_REQ_ERR,
				.recv_opcode = IBV_WC_RECV,
				.error = true,
				.event = IBV_EVENT_QP_ACCESS_ERR};

	return uodp_msg_fail(qp, x, e);
}

/* The CQ took no more: the completion is lost, and with it the QP (IBTA 11.6.3). */
static int recv_cq_full(struct uodp_qp *qp, struct uodp_exec *x)
{
	struct uodp_ending e = {
		.status = IBV_WC_SUCCESS, .error = true, .event = IBV_EVENT_QP_FATAL};

	return uodp_msg_fail(qp, x, e);
}

/*
 * A window of type 2 is free again. An ordinary MR, which no work request can register
 * again, loses its remote rights: hardware takes its key too, and IBTA's Invalidate knows
 * no memory region that it does not fit; rdma_rxe refuses what user space registered.
 */
static int invalidate(const struct uodp_dest *dest, uint32_t key)
{
	if (!odp_window_release(dest->mem, key, dest->pd, uodp_qp_user(dest->qpn, dest->gen)))
		return 0;
	return odp_key_invalidate(dest->mem, key, dest->pd);
}

int uodp_send_finish(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	struct uodp_cqe cqe = {
		.status = IBV_WC_SUCCESS,
		.opcode = w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM ? IBV_WC_RECV_RDMA_WITH_IMM
								  : IBV_WC_RECV,
		.byte_len = w->length,
		.imm = w->imm,
		.src_qp = qp->shm->qpn,
		.wc_flags = has_imm(w) ? IBV_WC_WITH_IMM : 0,
	};
	int ret;

	if (qp->vqp.qp.qp_type == IBV_QPT_UD)
		ud_fields(qp, w, &cqe);
	if (w->opcode == IBV_WR_SEND_WITH_INV) {
		cqe.wc_flags |= IBV_WC_WITH_INV;
		/* Once, however often the rest is tried. */
		if (x->phase != UODP_PHASE_FINISH && invalidate(&x->dest, w->imm))
			return inv_failed(qp, x);
	}
	ret = uodp_deliver_end(qp, x, &cqe, w->flags & IBV_SEND_SOLICITED);
	if (uodp_unlikely(ret == -EBUSY)) {
		x->phase = UODP_PHASE_FINISH;
		return uodp_wait_busy(qp, x);
	}
	if (ret == -ENOTCONN && uodp_reliable(qp)) {
		x->phase = UODP_PHASE_NEW; /* lost: it stays unacknowledged */
		return uodp_wait_peer(qp, x);
	}
	if (ret == -EOVERFLOW)
		return recv_cq_full(qp, x);
	return uodp_exec_done(x, IBV_WC_SUCCESS);
}

int uodp_msg_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	return x->phase == UODP_PHASE_FINISH ? uodp_send_finish(qp, w, x)
					     : uodp_msg_fail_step(qp, x);
}

/* The usual case: one piece here, one there, one copy. False: in the general way. */
static bool send_at_once(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, int *end)
{
	const struct uodp_iter *to = &x->dst;
	struct odp_span there;
	size_t n = w->length;
	int ret;

	if (n - 1 >= UODP_AT_ONCE || w->num_sge != 1 || to->num_sge != 1 ||
	    odp_span_region(&there, to->peer, to->sge[0].lkey, to->pd, to->sge[0].addr,
			    to->sge[0].length, to->access))
		return false;
	uodp_span_guard(&there, &x->dest);
	ret = odp_copy(&there, &x->own, &n);
	/* Not to be asked again: a fault may have been made to fail this once. */
	if (uodp_unlikely(ret == -EFAULT))
		*end = x->own.err ? uodp_exec_done(x, IBV_WC_LOC_PROT_ERR)
				  : uodp_recv_broken(qp, x, IBV_WC_LOC_PROT_ERR);
	else if (ret || n != w->length)
		return false;
	else
		*end = uodp_send_finish(qp, w, x);
	return true;
}

/*
 * A message that ends in the middle, by the requester's own fault, has written to a
 * receive that it leaves to the next one.
 */
int uodp_send_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget)
{
	enum uodp_side failed;
	bool go_on;
	int ret;

	if (x->phase == UODP_PHASE_NEW) {
		ret = uodp_need_recv(qp, x, w->length, &go_on);
		if (!go_on || send_at_once(qp, w, x, &ret))
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
					  : uodp_recv_broken(qp, x, IBV_WC_LOC_PROT_ERR);
	return uodp_send_finish(qp, w, x);
}

/* ---- datagrams ---- */

/* QPN, if it is there and takes W: x->dest. */
static bool ud_find(struct uodp_qp *qp, const struct uodp_swqe *w, struct uodp_exec *x,
		    uint32_t qpn)
{
	struct uodp_dest *dest = &x->dest;
	uint32_t qkey = w->remote_qkey;

	/* The last destination is remembered: most QPs talk to one. */
	if (qp->conn.qp && qp->conn.qpn == qpn && uodp_dest_receives(&qp->conn))
		*dest = qp->conn;
	else if (uodp_dest_find(qp->proc, qpn, dest) || !uodp_dest_receives(dest))
		return false;
	qp->conn = *dest;
	if (qkey & 0x80000000u) /* IBTA 10.2.5: the sender's own */
		qkey = uodp_attr(&qp->shm->qkey);
	return dest->qp->type == IBV_QPT_UD && uodp_attr(&dest->qp->qkey) == qkey;
}

static bool ud_dest(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	uint32_t qpn;

	if (w->remote_qpn != UODP_MULTICAST_QPN)
		return ud_find(qp, w, x, w->remote_qpn) && uodp_dest_addressed(&x->dest, w->dgid);
	while (uodp_mcast_next(qp, w, x, &qpn))
		if (ud_find(qp, w, x, qpn))
			return true;
	return false;
}

/*
 * The datagram is gathered first: what can fail here has failed before the receiver's
 * turn is taken, and our own faults keep nobody waiting. 0, or what step() is to return
 * (*GO_ON false).
 */
static int ud_gather(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget,
		     bool *go_on)
{
	enum uodp_side failed;
	int ret;

	if (x->phase == UODP_PHASE_NEW) {
		uodp_iter_local(qp, w, &x->src, 0);
		x->dst = (struct uodp_iter){.data = qp->packet + UODP_GRH};
		x->left = w->length;
		x->phase = UODP_PHASE_GATHER;
	}
	ret = uodp_move(x, budget, &failed);
	*go_on = !ret;
	if (ret == -EAGAIN)
		return uodp_wait_move(qp, x, *budget, false);
	if (ret)
		return uodp_exec_done(x, IBV_WC_LOC_PROT_ERR);
	uodp_grh_fill(qp, w, qp->packet);
	x->mc_slot = x->mc_index = 0;
	x->phase = UODP_PHASE_RECV;
	return 0;
}

static int ud_recv(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, bool *go_on)
{
	int ret;

	*go_on = false;
	if (!ud_dest(qp, w, x))
		return uodp_exec_done(x, IBV_WC_SUCCESS);
	ret = uodp_need_recv(qp, x, w->length + UODP_GRH, go_on);
	if (!*go_on)
		return ret;
	x->src = (struct uodp_iter){.data = qp->packet};
	x->left = w->length + UODP_GRH;
	x->phase = UODP_PHASE_MOVE;
	return 0;
}

/* To one destination. */
static int ud_deliver(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		      uint64_t *budget)
{
	enum uodp_side failed;
	bool go_on = true;
	int ret = 0;

	if (x->phase == UODP_PHASE_RECV)
		ret = ud_recv(qp, w, x, &go_on);
	if (!go_on)
		return ret;
	if (!uodp_dest_receives(&x->dest)) {
		uodp_deliver_cancel(qp, x);
		return uodp_exec_done(x, IBV_WC_SUCCESS);
	}
	if (uodp_unlikely(x->phase > UODP_PHASE_MOVE))
		return uodp_msg_step(qp, w, x);
	ret = uodp_move(x, budget, &failed);
	if (ret == -EAGAIN)
		return uodp_wait_move(qp, x, *budget, true);
	if (ret)
		return uodp_recv_broken(qp, x, IBV_WC_LOC_PROT_ERR);
	return uodp_send_finish(qp, w, x);
}

static int ud_deliver_all(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
			  uint64_t *budget)
{
	int ret;

	do {
		ret = ud_deliver(qp, w, x, budget);
		if (ret)
			return ret;
		x->phase = UODP_PHASE_RECV; /* for the next member */
		x->give_up = 0;
	} while (x->mc_slot < UODP_SLOTS);
	return 0;
}

int uodp_ud_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget)
{
	bool go_on = true;
	int ret = 0;

	/* IBTA C10-93.1.1: too long for the MTU is dropped without error. */
	if (w->length > UODP_MTU)
		return uodp_exec_done(x, IBV_WC_SUCCESS);
	if (x->phase == UODP_PHASE_NEW || x->phase == UODP_PHASE_GATHER)
		ret = ud_gather(qp, w, x, budget, &go_on);
	if (!go_on)
		return ret;
	return uodp_unlikely(w->remote_qpn == UODP_MULTICAST_QPN) ? ud_deliver_all(qp, w, x, budget)
								  : ud_deliver(qp, w, x, budget);
}
