/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Posting work requests. */
#include <errno.h>
#include <string.h>

#include "queue.h"

#define BIT(op) (1u << (op))
#define UD_OPS (BIT(IBV_WR_SEND) | BIT(IBV_WR_SEND_WITH_IMM))
#define UC_OPS                                                                                     \
	(UD_OPS | BIT(IBV_WR_RDMA_WRITE) | BIT(IBV_WR_RDMA_WRITE_WITH_IMM) | BIT(IBV_WR_BIND_MW) | \
	 BIT(IBV_WR_LOCAL_INV))
#define RC_OPS                                                                                     \
	(UC_OPS | BIT(IBV_WR_RDMA_READ) | BIT(IBV_WR_ATOMIC_CMP_AND_SWP) |                         \
	 BIT(IBV_WR_ATOMIC_FETCH_AND_ADD) | BIT(IBV_WR_SEND_WITH_INV) | BIT(IBV_WR_ATOMIC_WRITE))
/* Those whose arguments are others than an address and a key of the peer's, or none. */
#define OTHER_OPS                                                                                  \
	(BIT(IBV_WR_ATOMIC_CMP_AND_SWP) | BIT(IBV_WR_ATOMIC_FETCH_AND_ADD) | BIT(IBV_WR_BIND_MW) | \
	 BIT(IBV_WR_LOCAL_INV))

static bool op_allowed(const struct uodp_qp *qp, unsigned op)
{
	enum ibv_qp_type t = qp->vqp.qp.qp_type;
	uint32_t ops = t == IBV_QPT_RC || t == IBV_QPT_XRC_SEND ? RC_OPS
		       : t == IBV_QPT_UC                        ? UC_OPS
								: UD_OPS;

	return op < 32 && ops & BIT(op);
}

static bool can_post_send(const struct uodp_qp *qp)
{
	uint32_t state = atomic_load_explicit(&qp->shm->state, memory_order_relaxed);

	return state == IBV_QPS_RTS || state == IBV_QPS_SQD || state == IBV_QPS_SQE ||
	       state == IBV_QPS_ERR;
}

struct uodp_swqe *uodp_sq_next(struct uodp_qp *qp, uint32_t head)
{
	if (uodp_unlikely(head - qp->sq_tail >= qp->cap.max_send_wr))
		return NULL;
	return uodp_sq_at(qp, head);
}

static int put_inline(struct uodp_qp *qp, struct uodp_swqe *w, const struct ibv_send_wr *wr)
{
	uint64_t length = 0;

	if (!(UODP_GATHER_OPS & BIT(wr->opcode)))
		return -EINVAL;
	for (int i = 0; i < wr->num_sge; i++) {
		if (length + wr->sg_list[i].length > qp->cap.max_inline_data)
			return -EINVAL;
		memcpy(w->data + length, (void *)(uintptr_t)wr->sg_list[i].addr,
		       wr->sg_list[i].length);
		length += wr->sg_list[i].length;
	}
	w->num_sge = 1;
	w->length = (uint32_t)length;
	return 0;
}

static int put_sges(struct uodp_swqe *w, const struct ibv_send_wr *wr)
{
	uint64_t length = 0;

	for (int i = 0; i < wr->num_sge; i++) {
		w->sge[i].addr = wr->sg_list[i].addr;
		w->sge[i].length = wr->sg_list[i].length;
		w->sge[i].lkey = wr->sg_list[i].lkey;
		length += wr->sg_list[i].length;
	}
	if (length > UODP_MAX_MSG)
		return -EINVAL;
	w->length = (uint32_t)length;
	return 0;
}

static void put_ud(struct uodp_swqe *w, const struct ibv_send_wr *wr)
{
	const struct ibv_global_route *grh = &to_uodp_ah(wr->wr.ud.ah)->attr.grh;

	w->remote_qpn = wr->wr.ud.remote_qpn;
	w->remote_qkey = wr->wr.ud.remote_qkey;
	w->sgid_index = grh->sgid_index;
	w->hop_limit = grh->hop_limit;
	w->traffic_class = grh->traffic_class;
	w->flow_label = grh->flow_label;
	uodp_path_dgid(&to_uodp_ah(wr->wr.ud.ah)->attr, w->dgid);
}

static void put_xrc(struct uodp_qp *qp, struct uodp_swqe *w, const struct ibv_send_wr *wr)
{
	w->remote_qpn = wr->qp_type.xrc.remote_srqn;
	uodp_srqn_meet(qp->proc, w->remote_qpn);
}

static int build_other(const struct uodp_qp *qp, struct uodp_swqe *w, const struct ibv_send_wr *wr)
{
	switch (wr->opcode) {
	case IBV_WR_BIND_MW:
		return uodp_put_bind(qp, w, wr->bind_mw.mw, wr->bind_mw.rkey,
				     &wr->bind_mw.bind_info);
	case IBV_WR_LOCAL_INV:
		w->num_sge = 0;
		w->length = 0;
		return 0;
	default:
		w->raddr = wr->wr.atomic.remote_addr;
		w->rkey = wr->wr.atomic.rkey;
		w->compare_add = wr->wr.atomic.compare_add;
		w->swap = wr->wr.atomic.swap;
		return 0;
	}
}

static int build(struct uodp_qp *qp, struct uodp_swqe *w, const struct ibv_send_wr *wr)
{
	int ret;

	if (!op_allowed(qp, wr->opcode) || wr->num_sge < 0 ||
	    (uint32_t)wr->num_sge > qp->cap.max_send_sge)
		return -EINVAL;
	w->wr_id = wr->wr_id;
	w->opcode = (uint8_t)wr->opcode;
	w->flags = wr->send_flags;
	w->num_sge = (uint32_t)wr->num_sge;
	w->imm = wr->imm_data; /* in one place with invalidate_rkey */
	ret = wr->send_flags & IBV_SEND_INLINE ? put_inline(qp, w, wr) : put_sges(w, wr);
	if (uodp_unlikely(ret))
		return ret;
	if (uodp_unlikely(qp->vqp.qp.qp_type == IBV_QPT_XRC_SEND))
		put_xrc(qp, w, wr);
	if (uodp_unlikely(BIT(wr->opcode) & OTHER_OPS))
		return build_other(qp, w, wr);
	if (qp->vqp.qp.qp_type == IBV_QPT_UD) {
		if (!wr->wr.ud.ah)
			return -EINVAL;
		put_ud(w, wr);
	} else {
		w->raddr = wr->wr.rdma.remote_addr;
		w->rkey = wr->wr.rdma.rkey;
	}
	return 0;
}

/* An XRC target sends nothing. */
static int no_room(const struct uodp_qp *qp)
{
	return qp->send_cq ? -ENOMEM : -EINVAL;
}

int uodp_post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	struct uodp_swqe *w;
	int ret = 0;

	uodp_spin_lock(&qp->sq_lock);
	for (; wr; wr = wr->next) {
		w = uodp_sq_next(qp, qp->sq_head);
		if (uodp_unlikely(!w && can_post_send(qp))) {
			/* What could go has gone: room may be had. */
			uodp_sq_run(qp);
			w = uodp_sq_next(qp, qp->sq_head);
		}
		if (uodp_unlikely(!can_post_send(qp)))
			ret = -EINVAL;
		else
			ret = uodp_likely(w) ? build(qp, w, wr) : no_room(qp);
		if (uodp_unlikely(ret)) {
			*bad = wr;
			break;
		}
		qp->sq_head++;
	}
	uodp_sq_run(qp);
	uodp_spin_unlock(&qp->sq_lock);
	return -ret;
}

int uodp_post_recv(struct ibv_qp *ibqp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	uint32_t state;
	int ret = 0;

	if (qp->srq || !qp->recv_cq) {
		*bad = wr;
		return EINVAL;
	}
	uodp_spin_lock(&qp->rq.lock);
	for (; wr; wr = wr->next) {
		state = atomic_load_explicit(&qp->shm->state, memory_order_relaxed);
		ret = state == IBV_QPS_RESET ? -EINVAL : uodp_rq_post(&qp->rq, wr);
		if (ret) {
			*bad = wr;
			break;
		}
	}
	uodp_spin_unlock(&qp->rq.lock);
	/* In ERR a receive is flushed at once, by us or by who moved us there. */
	if (uodp_unlikely(atomic_load_explicit(&qp->shm->state, memory_order_acquire) ==
			  IBV_QPS_ERR)) {
		uodp_resp_flush_for(qp->proc, qp->proc->self, qp->shm, UODP_PATIENCE_NS);
		uodp_wakes_pass(qp->proc);
	}
	return -ret;
}
