/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The responder's side of a message, run by the requester's thread: take a
 * receive, complete it, or move the responder's QP to the error state.
 *
 * A QP's own receive queue keeps its entry until the message is complete; one
 * of an SRQ leaves the queue at once and is noted in the QP (recv_busy), so that
 * a flush completes it should the requester die half-way.
 */
#include <errno.h>
#include <string.h>

#include "queue.h"

static bool can_receive(const struct uodp_dest *dest)
{
	uint32_t state = atomic_load_explicit(&dest->qp->state, memory_order_relaxed);

	return atomic_load_explicit(&dest->qp->gen, memory_order_relaxed) == dest->gen &&
	       atomic_load_explicit(&dest->qp->epoch, memory_order_relaxed) == dest->epoch &&
	       (state == IBV_QPS_RTR || state == IBV_QPS_RTS || state == IBV_QPS_SQD ||
		state == IBV_QPS_SQE);
}

/* The entry is another process's word: copy it once, then check the copy. */
static int take(struct uodp_exec *x, const struct uodp_rwqe *wqe, uint32_t max_sge)
{
	uint32_t n = wqe->num_sge;

	x->recv_wr_id = wqe->wr_id;
	x->recv_length = wqe->length;
	if (n > UODP_MAX_SGE || n > max_sge)
		return -EINVAL;
	memcpy(x->recv_sge, wqe->sge, n * sizeof(wqe->sge[0]));
	x->dst = (struct uodp_iter){.peer = x->dest.peer,
				    .sge = x->recv_sge,
				    .num_sge = n,
				    .pd = x->dest.qp->pd,
				    .access = ODP_ACCESS_LOCAL_WRITE,
				    .to = &x->dest};
	return 0;
}

static int take_srq(struct uodp_qp *qp, struct uodp_exec *x)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	struct uodp_srq_shm *srq = uodp_srq_shm(x->dest.peer, rqp->srq - 1);
	const struct uodp_rwqe *wqe;
	bool limit = false;
	uint32_t left;
	int ret;

	if (!srq)
		return -EINVAL;
	odp_lock(qp->proc->odp, &srq->rq.lock);
	wqe = uodp_rq_peek(x->dest.peer, &srq->rq);
	if (!wqe) {
		odp_unlock(&srq->rq.lock);
		return -EAGAIN;
	}
	ret = take(x, wqe, srq->rq.max_sge);
	rqp->recv_wr_id = x->recv_wr_id;
	atomic_store_explicit(&rqp->recv_busy, 1, memory_order_relaxed);
	uodp_rq_pop(&srq->rq);
	left = atomic_load_explicit(&srq->rq.prod, memory_order_relaxed) -
	       atomic_load_explicit(&srq->rq.cons, memory_order_relaxed);
	if (srq->rq.limit && left < srq->rq.limit) {
		srq->rq.limit = 0; /* one event for each time it is armed */
		limit = true;
	}
	odp_unlock(&srq->rq.lock);
	if (limit)
		uodp_event_raise(qp->proc, x->dest.peer, IBV_EVENT_SRQ_LIMIT_REACHED, rqp->srq - 1);
	return ret;
}

int uodp_deliver_begin(struct uodp_qp *qp, struct uodp_exec *x, uint32_t length)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	const struct uodp_rwqe *wqe;
	int ret;

	odp_lock(qp->proc->odp, &rqp->lock);
	if (!can_receive(&x->dest)) {
		ret = -ENOTCONN;
	} else if (rqp->srq) {
		ret = take_srq(qp, x);
	} else {
		wqe = uodp_rq_peek(x->dest.peer, &rqp->rq);
		ret = wqe ? take(x, wqe, rqp->rq.max_sge) : -EAGAIN;
	}
	odp_unlock(&rqp->lock);
	if (!ret && length > x->recv_length)
		ret = -EMSGSIZE;
	return ret;
}

int uodp_deliver_end(struct uodp_qp *qp, struct uodp_exec *x, struct uodp_cqe *cqe, bool solicited)
{
	struct uodp_qp_shm *rqp = x->dest.qp;
	int ret = -ENOTCONN;

	odp_lock(qp->proc->odp, &rqp->lock);
	if (can_receive(&x->dest)) {
		cqe->wr_id = x->recv_wr_id;
		cqe->qp_num = rqp->qpn;
		if (!rqp->srq)
			uodp_rq_pop(&rqp->rq);
		atomic_store_explicit(&rqp->recv_busy, 0, memory_order_relaxed);
		ret = uodp_cq_push(qp->proc, x->dest.peer, rqp->recv_cq, cqe, solicited);
		uodp_count(&rqp->rx_msgs, 1);
		uodp_count(&rqp->rx_bytes, cqe->byte_len);
	}
	odp_unlock(&rqp->lock);
	return ret;
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

	if (atomic_exchange_explicit(&qp->recv_busy, 0, memory_order_relaxed))
		flush_one(proc, peer, qp, qp->recv_wr_id);
	if (!qp->srq) {
		while ((wqe = uodp_rq_peek(peer, &qp->rq))) {
			flush_one(proc, peer, qp, wqe->wr_id);
			uodp_rq_pop(&qp->rq);
		}
	} else if (!qp->last_wqe_reached) {
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
	if (can_receive(dest)) {
		atomic_store_explicit(&rqp->state, IBV_QPS_ERR, memory_order_release);
		uodp_resp_flush(qp->proc, dest->peer, rqp);
		moved = true;
	}
	odp_unlock(&rqp->lock);
	/* The bell that comes with the event makes the owner flush its sends. */
	if (moved)
		uodp_event_raise(qp->proc, dest->peer, event, uodp_qp_index(dest->peer, rqp));
}

/*
 * RoCE v2 (Annex 17, A17.4.5.1): 40 bytes before the payload; for IPv4 the last
 * 20 of them are the IPv4 header, whose checksum tells receivers which it is.
 */
void uodp_grh_fill(const struct uodp_qp *qp, const struct uodp_swqe *w, char grh[40])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const struct uodp_device *dev = to_uodp_device(qp->vqp.qp.context->device);
	uint8_t *p = (uint8_t *)grh;
	uint32_t sum = 0, vtf;
	union ibv_gid sgid;

	memset(p, 0, 40);
	if (uodp_device_gid(dev, w->sgid_index, &sgid))
		return;
	if (!memcmp(w->dgid, mapped, 12)) {
		uint8_t *ip = p + 20;
		uint32_t len = 20 + 8 + 12 + 8 + w->length + 4;

		ip[0] = 0x45;
		ip[1] = w->traffic_class;
		ip[2] = (uint8_t)(len >> 8);
		ip[3] = (uint8_t)len;
		ip[6] = 0x40; /* don't fragment */
		ip[8] = w->hop_limit ? w->hop_limit : 64;
		ip[9] = 17;
		memcpy(ip + 12, sgid.raw + 12, 4);
		memcpy(ip + 16, w->dgid + 12, 4);
		for (int i = 0; i < 20; i += 2)
			sum += (uint32_t)ip[i] << 8 | ip[i + 1];
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = ~sum;
		ip[10] = (uint8_t)(sum >> 8);
		ip[11] = (uint8_t)sum;
		return;
	}
	vtf = 6u << 28 | (uint32_t)w->traffic_class << 20 | (w->flow_label & 0xfffff);
	p[0] = (uint8_t)(vtf >> 24);
	p[1] = (uint8_t)(vtf >> 16);
	p[2] = (uint8_t)(vtf >> 8);
	p[3] = (uint8_t)vtf;
	p[4] = (uint8_t)((w->length + 32) >> 8);
	p[5] = (uint8_t)(w->length + 32);
	p[6] = 17;
	p[7] = w->hop_limit ? w->hop_limit : 64;
	memcpy(p + 8, sgid.raw, 16);
	memcpy(p + 24, w->dgid, 16);
}
