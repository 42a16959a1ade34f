/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * ibv_wr_*(3): work requests built call by call. wr_start takes the send queue,
 * wr_complete or wr_abort gives it back; the first error of a batch is kept and
 * nothing of the batch is posted.
 */
#include <errno.h>
#include <string.h>

#include "queue.h"

#define UD_SEND_OPS (IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM)
#define UC_SEND_OPS                                                                                \
	(UD_SEND_OPS | IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM |            \
	 IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_LOCAL_INV)
#define RC_SEND_OPS                                                                                \
	(UC_SEND_OPS | IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |              \
	 IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | IBV_QP_EX_WITH_SEND_WITH_INV |                      \
	 IBV_QP_EX_WITH_ATOMIC_WRITE)

static struct uodp_qp *to_qp(struct ibv_qp_ex *qpx)
{
	return to_uodp_qp(&qpx->qp_base);
}

static void fail(struct uodp_qp *qp, int err)
{
	if (!qp->wr.err)
		qp->wr.err = err;
	qp->wr.cur = NULL;
}

static void wr_start(struct ibv_qp_ex *qpx)
{
	struct uodp_qp *qp = to_qp(qpx);

	uodp_spin_lock(&qp->sq_lock);
	qp->wr.head = qp->sq_head;
	qp->wr.err = 0;
	qp->wr.cur = NULL;
}

/* Begin the next work request of the batch; NULL after an error. */
static struct uodp_swqe *next(struct ibv_qp_ex *qpx, enum ibv_wr_opcode opcode)
{
	struct uodp_qp *qp = to_qp(qpx);
	struct uodp_swqe *w;

	if (uodp_unlikely(qp->wr.err))
		return NULL;
	w = uodp_sq_next(qp, qp->wr.head);
	if (uodp_unlikely(!w)) {
		fail(qp, ENOMEM);
		return NULL;
	}
	qp->wr.head++;
	qp->wr.cur = w;
	w->wr_id = qpx->wr_id;
	w->flags = qpx->wr_flags & ~(unsigned)IBV_SEND_INLINE;
	w->opcode = (uint8_t)opcode;
	w->imm = 0;
	w->length = 0;
	w->num_sge = 0;
	return w;
}

static void rdma(struct ibv_qp_ex *qpx, enum ibv_wr_opcode op, uint32_t rkey, uint64_t raddr,
		 uint32_t imm)
{
	struct uodp_swqe *w = next(qpx, op);

	if (uodp_unlikely(!w))
		return;
	w->rkey = rkey;
	w->raddr = raddr;
	w->imm = imm;
}

static void wr_rdma_read(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t raddr)
{
	rdma(qpx, IBV_WR_RDMA_READ, rkey, raddr, 0);
}

static void wr_rdma_write(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t raddr)
{
	rdma(qpx, IBV_WR_RDMA_WRITE, rkey, raddr, 0);
}

static void wr_rdma_write_imm(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t raddr, __be32 imm)
{
	rdma(qpx, IBV_WR_RDMA_WRITE_WITH_IMM, rkey, raddr, imm);
}

static void wr_send(struct ibv_qp_ex *qpx)
{
	next(qpx, IBV_WR_SEND);
}

static void wr_send_imm(struct ibv_qp_ex *qpx, __be32 imm)
{
	struct uodp_swqe *w = next(qpx, IBV_WR_SEND_WITH_IMM);

	if (w)
		w->imm = imm;
}

static void wr_send_inv(struct ibv_qp_ex *qpx, uint32_t rkey)
{
	struct uodp_swqe *w = next(qpx, IBV_WR_SEND_WITH_INV);

	if (w)
		w->imm = rkey;
}

static void atomic(struct ibv_qp_ex *qpx, enum ibv_wr_opcode op, uint32_t rkey, uint64_t raddr,
		   uint64_t compare_add, uint64_t swap)
{
	struct uodp_swqe *w = next(qpx, op);

	if (uodp_unlikely(!w))
		return;
	w->rkey = rkey;
	w->raddr = raddr;
	w->compare_add = compare_add;
	w->swap = swap;
}

static void wr_atomic_cmp_swp(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t raddr,
			      uint64_t compare, uint64_t swap)
{
	atomic(qpx, IBV_WR_ATOMIC_CMP_AND_SWP, rkey, raddr, compare, swap);
}

static void wr_atomic_fetch_add(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t raddr, uint64_t add)
{
	atomic(qpx, IBV_WR_ATOMIC_FETCH_AND_ADD, rkey, raddr, add, 0);
}

static void wr_atomic_write(struct ibv_qp_ex *qpx, uint32_t rkey, uint64_t raddr, const void *value)
{
	struct uodp_swqe *w = next(qpx, IBV_WR_ATOMIC_WRITE);

	if (uodp_unlikely(!w))
		return;
	w->rkey = rkey;
	w->raddr = raddr;
	/* As inline data, whatever the QP has room for of that: an SGE is longer. */
	memcpy(w->data, value, sizeof(uint64_t));
	w->flags |= IBV_SEND_INLINE;
	w->num_sge = 1;
	w->length = sizeof(uint64_t);
}

static void wr_bind_mw(struct ibv_qp_ex *qpx, struct ibv_mw *mw, uint32_t rkey,
		       const struct ibv_mw_bind_info *info)
{
	struct uodp_swqe *w = next(qpx, IBV_WR_BIND_MW);

	if (uodp_unlikely(!w))
		return;
	w->flags &= ~UODP_SEND_BIND_1;
	if (uodp_put_bind(to_qp(qpx), w, mw, rkey, info))
		fail(to_qp(qpx), EINVAL);
}

static void wr_local_inv(struct ibv_qp_ex *qpx, uint32_t rkey)
{
	struct uodp_swqe *w = next(qpx, IBV_WR_LOCAL_INV);

	if (w)
		w->imm = rkey;
}

static void wr_set_ud_addr(struct ibv_qp_ex *qpx, struct ibv_ah *ah, uint32_t qpn, uint32_t qkey)
{
	struct uodp_swqe *w = to_qp(qpx)->wr.cur;
	const struct ibv_global_route *grh;

	if (uodp_unlikely(!w))
		return;
	grh = &to_uodp_ah(ah)->attr.grh;
	w->remote_qpn = qpn;
	w->remote_qkey = qkey;
	w->sgid_index = grh->sgid_index;
	w->hop_limit = grh->hop_limit;
	w->traffic_class = grh->traffic_class;
	w->flow_label = grh->flow_label;
	uodp_path_dgid(&to_uodp_ah(ah)->attr, w->dgid);
}

static void wr_set_xrc_srqn(struct ibv_qp_ex *qpx, uint32_t srqn)
{
	struct uodp_qp *qp = to_qp(qpx);

	if (uodp_unlikely(!qp->wr.cur))
		return;
	qp->wr.cur->remote_qpn = srqn;
	uodp_srqn_meet(qp->proc, srqn);
}

static void wr_set_sge_list(struct ibv_qp_ex *qpx, size_t n, const struct ibv_sge *sg)
{
	struct uodp_qp *qp = to_qp(qpx);
	struct uodp_swqe *w = qp->wr.cur;
	uint64_t length = 0;

	if (uodp_unlikely(!w))
		return;
	if (n > qp->cap.max_send_sge) {
		fail(qp, EINVAL);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		w->sge[i].addr = sg[i].addr;
		w->sge[i].length = sg[i].length;
		w->sge[i].lkey = sg[i].lkey;
		length += sg[i].length;
	}
	if (length > UODP_MAX_MSG) {
		fail(qp, EINVAL);
		return;
	}
	w->num_sge = (uint32_t)n;
	w->length = (uint32_t)length;
}

static void wr_set_sge(struct ibv_qp_ex *qpx, uint32_t lkey, uint64_t addr, uint32_t length)
{
	struct ibv_sge sg = {.addr = addr, .length = length, .lkey = lkey};

	wr_set_sge_list(qpx, 1, &sg);
}

static void wr_set_inline_data_list(struct ibv_qp_ex *qpx, size_t n,
				    const struct ibv_data_buf *bufs)
{
	struct uodp_qp *qp = to_qp(qpx);
	struct uodp_swqe *w = qp->wr.cur;
	size_t length = 0;

	if (uodp_unlikely(!w))
		return;
	if (!(UODP_GATHER_OPS & 1u << w->opcode)) {
		fail(qp, EINVAL);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (bufs[i].length > qp->cap.max_inline_data - length) {
			fail(qp, EINVAL);
			return;
		}
		memcpy(w->data + length, bufs[i].addr, bufs[i].length);
		length += bufs[i].length;
	}
	w->flags |= IBV_SEND_INLINE;
	w->num_sge = 1;
	w->length = (uint32_t)length;
}

static void wr_set_inline_data(struct ibv_qp_ex *qpx, void *addr, size_t length)
{
	struct ibv_data_buf buf = {.addr = addr, .length = length};

	wr_set_inline_data_list(qpx, 1, &buf);
}

static int batch_check(struct uodp_qp *qp)
{
	uint32_t state = atomic_load_explicit(&qp->shm->state, memory_order_relaxed);

	if (qp->wr.err)
		return qp->wr.err;
	if (state == IBV_QPS_RESET || state == IBV_QPS_INIT || state == IBV_QPS_RTR)
		return EINVAL;
	return 0;
}

static int wr_complete(struct ibv_qp_ex *qpx)
{
	struct uodp_qp *qp = to_qp(qpx);
	int ret = batch_check(qp);

	if (!ret) {
		qp->sq_head = qp->wr.head;
		uodp_sq_run(qp);
	}
	uodp_spin_unlock(&qp->sq_lock);
	return ret;
}

static void wr_abort(struct ibv_qp_ex *qpx)
{
	uodp_spin_unlock(&to_qp(qpx)->sq_lock);
}

static uint64_t ops_of(enum ibv_qp_type type)
{
	switch (type) {
	case IBV_QPT_RC:
	case IBV_QPT_XRC_SEND:
		return RC_SEND_OPS;
	case IBV_QPT_UC:
		return UC_SEND_OPS;
	case IBV_QPT_UD:
		return UD_SEND_OPS;
	default:
		return 0;
	}
}

int uodp_wr_api_init(struct uodp_qp *qp, uint64_t ops)
{
	enum ibv_qp_type t = qp->vqp.qp.qp_type;
	uint64_t allowed = ops_of(t);
	struct ibv_qp_ex *qpx = &qp->vqp.qp_ex;

	if (ops & ~allowed)
		return -EOPNOTSUPP;
	qpx->wr_start = wr_start;
	qpx->wr_complete = wr_complete;
	qpx->wr_abort = wr_abort;
	qpx->wr_set_sge = wr_set_sge;
	qpx->wr_set_sge_list = wr_set_sge_list;
	qpx->wr_set_inline_data = wr_set_inline_data;
	qpx->wr_set_inline_data_list = wr_set_inline_data_list;
	if (t == IBV_QPT_UD)
		qpx->wr_set_ud_addr = wr_set_ud_addr;
	if (t == IBV_QPT_XRC_SEND)
		qpx->wr_set_xrc_srqn = wr_set_xrc_srqn;
	if (ops & IBV_QP_EX_WITH_SEND)
		qpx->wr_send = wr_send;
	if (ops & IBV_QP_EX_WITH_SEND_WITH_IMM)
		qpx->wr_send_imm = wr_send_imm;
	if (ops & IBV_QP_EX_WITH_SEND_WITH_INV)
		qpx->wr_send_inv = wr_send_inv;
	if (ops & IBV_QP_EX_WITH_RDMA_WRITE)
		qpx->wr_rdma_write = wr_rdma_write;
	if (ops & IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM)
		qpx->wr_rdma_write_imm = wr_rdma_write_imm;
	if (ops & IBV_QP_EX_WITH_RDMA_READ)
		qpx->wr_rdma_read = wr_rdma_read;
	if (ops & IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP)
		qpx->wr_atomic_cmp_swp = wr_atomic_cmp_swp;
	if (ops & IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD)
		qpx->wr_atomic_fetch_add = wr_atomic_fetch_add;
	if (ops & IBV_QP_EX_WITH_ATOMIC_WRITE)
		qpx->wr_atomic_write = wr_atomic_write;
	if (ops & IBV_QP_EX_WITH_BIND_MW)
		qpx->wr_bind_mw = wr_bind_mw;
	if (ops & IBV_QP_EX_WITH_LOCAL_INV)
		qpx->wr_local_inv = wr_local_inv;
	qp->vqp.comp_mask |= VERBS_QP_EX;
	return 0;
}
