/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Running a send queue, in order, on the calling thread.
 *
 * step() takes the work request at the head as far as it goes: it returns 0 when
 * the request has ended (x->status says how), or -EAGAIN when it has to wait
 * (x->deadline says until when at the latest), to be called again and go on from
 * where it was. First all that can be told without the other end (check.c), then the
 * transport's step.
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
	[IBV_WR_LOCAL_INV] = IBV_WC_LOCAL_INV,
	[IBV_WR_BIND_MW] = IBV_WC_BIND_MW,
	[IBV_WR_SEND_WITH_INV] = IBV_WC_SEND,
	[IBV_WR_ATOMIC_WRITE] = IBV_WC_ATOMIC_WRITE,
};

static void begin(struct uodp_qp *qp, struct uodp_exec *x)
{
	x->give_up = 0;
	x->rnr_until = 0;
	x->rnr_left = qp->attr.rnr_retry;
	x->rnr_fault = false;
	x->rnr_at = 0;
	x->again_ns = 0;
}

static int push(struct uodp_qp *qp, struct uodp_swqe *w, enum ibv_wc_status status)
{
	struct uodp_cqe cqe;

	if (status == IBV_WC_SUCCESS && !qp->sq_sig_all && !(w->flags & IBV_SEND_SIGNALED))
		return 0;
	cqe = (struct uodp_cqe){.wr_id = w->wr_id,
				.status = status,
				.opcode = wc_opcode[w->opcode],
				.byte_len = w->length,
				.qp_num = qp->shm->qpn};
	return uodp_cq_push(qp->proc, qp->proc->self, qp->send_cq->index, &cqe, false,
			    uodp_patience(qp));
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
	enum ibv_wc_status status;

	if (qp->x.phase == UODP_PHASE_NEW) {
		status = uodp_own_check(qp, w, &qp->x);
		if (uodp_unlikely(status))
			return status == UODP_WC_OURS ? uodp_window_step(qp, w, &qp->x)
						      : uodp_exec_done(&qp->x, status);
	} else if (qp->x.phase == UODP_PHASE_DONE) {
		return 0;
	}
	return qp->transport->step(qp, w, &qp->x, budget);
}

void uodp_sq_cancel(struct uodp_qp *qp)
{
	if (qp->x.phase == UODP_PHASE_DONE)
		return;
	if (qp->x.phase != UODP_PHASE_NEW)
		qp->transport->cancel(qp, &qp->x);
	qp->x.phase = UODP_PHASE_NEW;
	qp->begun = false;
}

/* The request at the head has ended. False: its completion must wait. */
static bool end(struct uodp_qp *qp, struct uodp_swqe *w, enum ibv_wc_status status)
{
	int ret = push(qp, w, status);

	if (uodp_unlikely(ret == -EBUSY)) {
		qp->x.status = status;
		qp->x.phase = UODP_PHASE_DONE;
		uodp_wait_lock(&qp->x);
		return false;
	}
	qp->x.phase = UODP_PHASE_NEW;
	qp->begun = false;
	qp->sq_tail++;
	if (uodp_likely(status == IBV_WC_SUCCESS)) {
		uodp_count(&qp->shm->tx_msgs, 1);
		uodp_count(&qp->shm->tx_bytes, w->length);
	}
	if (uodp_unlikely(ret == -EOVERFLOW))
		uodp_qp_error(qp);
	else if (uodp_unlikely(status) && status != IBV_WC_WR_FLUSH_ERR)
		uodp_qp_sq_error(qp);
	return true;
}

static void wait(struct uodp_qp *qp)
{
	uodp_pending_set(qp);
	uodp_wakes_pass(qp->proc);
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
				wait(qp);
				return;
			}
			status = qp->x.status;
		} else if (state == IBV_QPS_ERR || state == IBV_QPS_SQE) {
			uodp_sq_cancel(qp);
			status =
				qp->x.phase == UODP_PHASE_DONE ? qp->x.status : IBV_WC_WR_FLUSH_ERR;
		} else {
			break;
		}
		if (!end(qp, w, status)) {
			wait(qp);
			return;
		}
		uodp_wakes_pass(qp->proc);
	}
	uodp_pending_clear(qp);
	if (uodp_unlikely(qp->sqd_notify) &&
	    atomic_load_explicit(&qp->shm->state, memory_order_relaxed) == IBV_QPS_SQD)
		drained(qp);
	uodp_wakes_pass(qp->proc);
}
