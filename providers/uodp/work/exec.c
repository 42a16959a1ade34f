/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Running a send queue, in order, on the calling thread.
 *
 * step() takes the work request at the head as far as it goes: it returns 0 when
 * the request has ended (x->status says how), or -EAGAIN when it has to wait
 * (x->deadline says until when at the latest), to be called again and go on from
 * where it was. What goes wrong at the responder follows IBTA table 61 and
 * drivers/infiniband/sw/rxe/rxe_resp.c.
 */
#include <errno.h>

#include "exec.h"

#define RUN_BUDGET ((uint64_t)4 << 20) /* bytes a caller moves before it may go */

static const uint8_t wc_opcode[] = {
	[IBV_WR_RDMA_WRITE] = IBV_WC_RDMA_WRITE,
	[IBV_WR_RDMA_WRITE_WITH_IMM] = IBV_WC_RDMA_WRITE,
	[IBV_WR_SEND] = IBV_WC_SEND,
	[IBV_WR_SEND_WITH_IMM] = IBV_WC_SEND,
	[IBV_WR_RDMA_READ] = IBV_WC_RDMA_READ,
	[IBV_WR_ATOMIC_CMP_AND_SWP] = IBV_WC_COMP_SWAP,
	[IBV_WR_ATOMIC_FETCH_AND_ADD] = IBV_WC_FETCH_ADD,
	[IBV_WR_SEND_WITH_INV] = IBV_WC_SEND,
};

static int rc_uc_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		      uint64_t *budget)
{
	if (uodp_unlikely(!uodp_conn_ready(qp)))
		return uodp_reliable(qp) ? uodp_wait_peer(qp, x)
					 : uodp_exec_done(x, IBV_WC_SUCCESS);
	x->give_up = 0;
	if (uodp_unlikely(x->rnr_fault)) {
		if (odp_now() < x->rnr_until)
			return uodp_exec_wait(x, x->rnr_until);
		x->rnr_fault = false;
	}
	if (x->phase == UODP_PHASE_NEW)
		x->dest = qp->conn;
	switch (w->opcode) {
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		return uodp_write_step(qp, w, x, budget);
	case IBV_WR_RDMA_READ:
		return uodp_read_step(qp, w, x, budget);
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return uodp_atomic_step(qp, w, x, budget);
	default:
		return uodp_send_step(qp, w, x, budget);
	}
}

static void begin(struct uodp_qp *qp, struct uodp_exec *x)
{
	x->give_up = 0;
	x->rnr_until = 0;
	x->rnr_left = qp->attr.rnr_retry;
	x->rnr_fault = false;
	x->rnr_at = 0;
}

static int complete(struct uodp_qp *qp, struct uodp_swqe *w, enum ibv_wc_status status)
{
	struct uodp_cqe cqe;

	if (status == IBV_WC_SUCCESS) {
		uodp_count(&qp->shm->tx_msgs, 1);
		uodp_count(&qp->shm->tx_bytes, w->length);
		if (!qp->sq_sig_all && !(w->flags & IBV_SEND_SIGNALED))
			return 0;
	}
	cqe = (struct uodp_cqe){.wr_id = w->wr_id,
				.status = status,
				.opcode = wc_opcode[w->opcode],
				.byte_len = w->length,
				.qp_num = qp->shm->qpn};
	return uodp_cq_push(qp->proc, qp->proc->self, qp->send_cq->index, &cqe, false);
}

static void drained(struct uodp_qp *qp)
{
	if (qp->sqd_notify) {
		qp->sqd_notify = false;
		uodp_event_raise(qp->proc, qp->proc->self, IBV_EVENT_SQ_DRAINED, qp->index);
	}
}

static int step(struct uodp_qp *qp, struct uodp_swqe *w, uint64_t *budget)
{
	if (qp->vqp.qp.qp_type == IBV_QPT_UD)
		return uodp_ud_step(qp, w, &qp->x, budget);
	return rc_uc_step(qp, w, &qp->x, budget);
}

void uodp_sq_run(struct uodp_qp *qp)
{
	uint64_t budget = RUN_BUDGET;
	enum ibv_wc_status status;
	struct uodp_swqe *w;
	uint32_t state;

	while (qp->sq_tail != qp->sq_head) {
		/* acquire: the responder side may have moved us to ERR */
		state = atomic_load_explicit(&qp->shm->state, memory_order_acquire);
		w = uodp_sq_at(qp, qp->sq_tail);
		if (uodp_likely(state == IBV_QPS_RTS) ||
		    (state == IBV_QPS_SQD && qp->x.phase != UODP_PHASE_NEW)) {
			if (qp->x.phase == UODP_PHASE_NEW && !qp->begun) {
				begin(qp, &qp->x);
				qp->begun = true;
			}
			if (step(qp, w, &budget)) {
				uodp_pending_set(qp);
				return;
			}
			status = qp->x.status;
		} else if (state == IBV_QPS_ERR || state == IBV_QPS_SQE) {
			status = IBV_WC_WR_FLUSH_ERR;
		} else {
			break;
		}
		qp->x.phase = UODP_PHASE_NEW;
		qp->begun = false;
		qp->sq_tail++;
		if (uodp_unlikely(complete(qp, w, status) == -EOVERFLOW) ||
		    (uodp_unlikely(status) && status != IBV_WC_WR_FLUSH_ERR))
			uodp_qp_error(qp);
	}
	uodp_pending_clear(qp);
	if (uodp_unlikely(qp->sqd_notify) &&
	    atomic_load_explicit(&qp->shm->state, memory_order_relaxed) == IBV_QPS_SQD)
		drained(qp);
}
