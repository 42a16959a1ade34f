/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Objects that have lost their device. There are two kinds:
 *
 * - A context was closed before them. The kernel would have ended them then, and so
 *   they are; their memory stays, and the context's, until they are destroyed, in any
 *   order, as programs do whose language collects garbage. Other verbs give EIO.
 * - They came with a fork: what they share with their peers is not in the child. All
 *   verbs give EIO, also those that destroy: the objects are the parent's.
 *
 * The data path does not look for either. Where it could meet them, the context's
 * operations are replaced by those here, which do.
 */
#include <errno.h>

#include "queue.h"

/* ---- the data path ---- */

static bool dead(const struct ibv_context *ctx, const struct uodp_proc *proc)
{
	return proc != uodp_self || to_uodp_context((struct ibv_context *)ctx)->closed;
}

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	if (!dead(qp->context, to_uodp_qp(qp)->proc))
		return uodp_post_send(qp, wr, bad);
	*bad = wr;
	return uodp_fail(-EIO);
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	if (!dead(qp->context, to_uodp_qp(qp)->proc))
		return uodp_post_recv(qp, wr, bad);
	*bad = wr;
	return uodp_fail(-EIO);
}

static int post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	if (!dead(srq->context, to_uodp_srq(srq)->proc))
		return uodp_post_srq_recv(srq, wr, bad);
	*bad = wr;
	return uodp_fail(-EIO);
}

/* ibv_poll_cq(3): a negative value. */
static int poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
	if (!dead(cq->context, to_uodp_cq(cq)->proc))
		return uodp_poll_cq(cq, n, wc);
	return -uodp_fail(-EIO);
}

static int req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
	if (!dead(cq->context, to_uodp_cq(cq)->proc))
		return uodp_req_notify_cq(cq, solicited_only);
	return uodp_fail(-EIO);
}

void uodp_ops_end(struct uodp_context *ctx)
{
	static const struct verbs_context_ops ops = {
		.poll_cq = poll_cq,
		.post_recv = post_recv,
		.post_send = post_send,
		.post_srq_recv = post_srq_recv,
		.req_notify_cq = req_notify_cq,
	};

	verbs_set_ops(&ctx->vctx, &ops);
}

/* ---- ibv_wr_*: a batch that says so at its end ---- */

static void wr_start(struct ibv_qp_ex *qp)
{
	(void)qp;
}

static int wr_complete(struct ibv_qp_ex *qp)
{
	(void)qp;
	return uodp_fail(-EIO);
}

static void wr_atomic_cmp_swp(struct ibv_qp_ex *qp, uint32_t rkey, uint64_t addr, uint64_t compare,
			      uint64_t swap)
{
	(void)qp, (void)rkey, (void)addr, (void)compare, (void)swap;
}

static void wr_atomic_fetch_add(struct ibv_qp_ex *qp, uint32_t rkey, uint64_t addr, uint64_t add)
{
	(void)qp, (void)rkey, (void)addr, (void)add;
}

static void wr_rdma(struct ibv_qp_ex *qp, uint32_t rkey, uint64_t addr)
{
	(void)qp, (void)rkey, (void)addr;
}

static void wr_rdma_write_imm(struct ibv_qp_ex *qp, uint32_t rkey, uint64_t addr, __be32 imm)
{
	(void)qp, (void)rkey, (void)addr, (void)imm;
}

static void wr_send_imm(struct ibv_qp_ex *qp, __be32 imm)
{
	(void)qp, (void)imm;
}

static void wr_send_inv(struct ibv_qp_ex *qp, uint32_t rkey)
{
	(void)qp, (void)rkey;
}

static void wr_atomic_write(struct ibv_qp_ex *qp, uint32_t rkey, uint64_t addr, const void *value)
{
	(void)qp, (void)rkey, (void)addr, (void)value;
}

static void wr_bind_mw(struct ibv_qp_ex *qp, struct ibv_mw *mw, uint32_t rkey,
		       const struct ibv_mw_bind_info *info)
{
	(void)qp, (void)mw, (void)rkey, (void)info;
}

static void wr_set_ud_addr(struct ibv_qp_ex *qp, struct ibv_ah *ah, uint32_t qpn, uint32_t qkey)
{
	(void)qp, (void)ah, (void)qpn, (void)qkey;
}

static void wr_set_xrc_srqn(struct ibv_qp_ex *qp, uint32_t srqn)
{
	(void)qp, (void)srqn;
}

static void wr_set_inline_data(struct ibv_qp_ex *qp, void *addr, size_t length)
{
	(void)qp, (void)addr, (void)length;
}

static void wr_set_inline_data_list(struct ibv_qp_ex *qp, size_t n, const struct ibv_data_buf *list)
{
	(void)qp, (void)n, (void)list;
}

static void wr_set_sge(struct ibv_qp_ex *qp, uint32_t lkey, uint64_t addr, uint32_t length)
{
	(void)qp, (void)lkey, (void)addr, (void)length;
}

static void wr_set_sge_list(struct ibv_qp_ex *qp, size_t n, const struct ibv_sge *list)
{
	(void)qp, (void)n, (void)list;
}

/* Those that the QP was made without stay NULL. */
#define END(op, fn)                                                                                \
	do {                                                                                       \
		if (qp->op)                                                                        \
			qp->op = fn;                                                               \
	} while (0)

void uodp_wr_ops_end(struct ibv_qp_ex *qp)
{
	END(wr_start, wr_start);
	END(wr_complete, wr_complete);
	END(wr_abort, wr_start);
	END(wr_atomic_cmp_swp, wr_atomic_cmp_swp);
	END(wr_atomic_fetch_add, wr_atomic_fetch_add);
	END(wr_atomic_write, wr_atomic_write);
	END(wr_bind_mw, wr_bind_mw);
	END(wr_local_inv, wr_send_inv);
	END(wr_rdma_read, wr_rdma);
	END(wr_rdma_write, wr_rdma);
	END(wr_rdma_write_imm, wr_rdma_write_imm);
	END(wr_send, wr_start);
	END(wr_send_imm, wr_send_imm);
	END(wr_send_inv, wr_send_inv);
	END(wr_set_ud_addr, wr_set_ud_addr);
	END(wr_set_xrc_srqn, wr_set_xrc_srqn);
	END(wr_set_inline_data, wr_set_inline_data);
	END(wr_set_inline_data_list, wr_set_inline_data_list);
	END(wr_set_sge, wr_set_sge);
	END(wr_set_sge_list, wr_set_sge_list);
}
