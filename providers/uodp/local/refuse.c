/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What goes wrong at the responder, after IBTA's table of responder errors (9.9.3), and
 * drivers/infiniband/sw/rxe/rxe_resp.c for what that leaves open.
 */
#include <errno.h>

#include "local_step.h"

#define TURN_NS 1000000000u /* for how long others may keep a datagram waiting */

int uodp_wait_busy(struct uodp_qp *qp, struct uodp_exec *x)
{
	uint64_t now;

	if (!uodp_takes_turns(qp))
		return uodp_wait_lock(x);
	now = odp_now();
	if (!x->give_up)
		x->give_up = now + TURN_NS;
	/* Whoever has it is stopped, or in a fault that takes its time: it is lost. */
	if (now < x->give_up)
		return uodp_wait_lock(x);
	uodp_deliver_cancel(qp, x);
	return uodp_exec_done(x, IBV_WC_SUCCESS);
}

static int recv_end(struct uodp_qp *qp, struct uodp_exec *x)
{
	struct uodp_ending *e = &x->ending;
	struct uodp_cqe cqe = {.status = e->recv, .opcode = e->recv_opcode};

	return e->head ? uodp_deliver_fail_head(qp, &x->dest, &cqe)
		       : uodp_deliver_end(qp, x, &cqe, true);
}

int uodp_msg_fail_step(struct uodp_qp *qp, struct uodp_exec *x)
{
	struct uodp_ending *e = &x->ending;

	if (e->recv && recv_end(qp, x) == -EBUSY)
		return uodp_wait_busy(qp, x);
	e->recv = IBV_WC_SUCCESS;
	if (e->error && uodp_deliver_error(qp, &x->dest, e->event) == -EBUSY)
		return uodp_wait_busy(qp, x);
	x->phase = UODP_PHASE_NEW;
	return uodp_exec_done(x, e->status);
}

int uodp_msg_fail(struct uodp_qp *qp, struct uodp_exec *x, struct uodp_ending ending)
{
	x->ending = ending;
	x->phase = UODP_PHASE_FAIL;
	return uodp_msg_fail_step(qp, x);
}

/* What fails at a process that has just ended, or at a QP that has left since, is
 * no answer of theirs. */
static bool responder_left(const struct uodp_exec *x)
{
	/* acquire: what failed was read before; pairs with the releases of enter(). */
	atomic_thread_fence(memory_order_acquire);
	return !odp_peer_check(x->dest.peer) || !uodp_dest_receives(&x->dest) ||
	       (x->dest.srq && !odp_peer_check(x->dest.mem));
}

/*
 * An RC responder sends a NAK and goes to ERR; others drop the message in silence.
 *
 * A WRITE with immediate that its key does not allow: the key is looked at before a
 * receive is taken; yet IBTA has a status for the receive that it would have used,
 * Local Access Error (11.6.2: "on a local data buffer during the processing of an RDMA
 * Write with Immediate"), and hardware completes the first posted one with it
 * (rdma-unit-test, WriteImmDataInvalidRKey); those behind it are flushed. An SRQ's
 * receives, which no QP has taken, stay where they are. rdma_rxe, which takes the
 * receive first, has IBV_WC_REM_ACCESS_ERR instead.
 */
int uodp_refuse(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		enum ibv_wc_status status)
{
	bool access = status == IBV_WC_REM_ACCESS_ERR;
	struct uodp_ending e = {.status = status,
				.error = true,
				.event = access ? IBV_EVENT_QP_ACCESS_ERR : IBV_EVENT_QP_REQ_ERR};

	if (!uodp_reliable(qp))
		return uodp_exec_done(x, IBV_WC_SUCCESS);
	if (responder_left(x))
		return uodp_wait_peer(qp, x);
	if (access && w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
		e.recv = IBV_WC_LOC_ACCESS_ERR;
		e.recv_opcode = IBV_WC_RECV_RDMA_WITH_IMM;
		e.head = true;
	}
	return uodp_msg_fail(qp, x, e);
}

int uodp_recv_broken(struct uodp_qp *qp, struct uodp_exec *x, enum ibv_wc_status status)
{
	struct uodp_ending e = {.status = uodp_reliable(qp) ? IBV_WC_REM_OP_ERR : IBV_WC_SUCCESS,
				.recv = status,
				.recv_opcode = IBV_WC_RECV,
				.error = true,
				.event = IBV_EVENT_QP_FATAL};

	if (responder_left(x)) {
		uodp_deliver_cancel(qp, x);
		return uodp_reliable(qp) ? uodp_wait_peer(qp, x)
					 : uodp_exec_done(x, IBV_WC_SUCCESS);
	}
	return uodp_msg_fail(qp, x, e);
}
