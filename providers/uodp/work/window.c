/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Work requests that the other end has no part in: binding a memory window, and
 * invalidating one.
 *
 * What is wrong with them is told in two ways. What the program's own objects show when
 * it posts is EINVAL then. What depends on keys is looked at in the queue's order, and
 * completes with IBV_WC_MW_BIND_ERR: IBTA's Memory Management Operation Error (11.6.2),
 * for which mlx5 has that status too, of binding and of invalidating. rdma_rxe has
 * IBV_WC_LOC_QP_OP_ERR for all of them.
 *
 * An ordinary MR is not invalidated by IBV_WR_LOCAL_INV: only what can be bound, or
 * registered, again by a work request is, and an MR of ibv_reg_mr() cannot (rdma_rxe
 * refuses it too). A peer's send with invalidate, which hardware lets have an MR's key,
 * takes its remote rights away (local/send.c).
 */
#include <errno.h>

#include "exec.h"

#define WINDOW_RIGHTS (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)
/* Local writing is the MR's own right, and named in vain (pyverbs' tests do). */
#define WINDOW_FLAGS (WINDOW_RIGHTS | IBV_ACCESS_ZERO_BASED | IBV_ACCESS_LOCAL_WRITE)

/* The MR may be missing where nothing is bound, with type 1 alone. */
static int check_mr(const struct uodp_qp *qp, const struct ibv_mw *mw,
		    const struct ibv_mw_bind_info *info)
{
	if (!info->mr)
		return mw->type == IBV_MW_TYPE_1 && !info->length ? 0 : -EINVAL;
	if (info->mr->context != qp->vqp.qp.context || uodp_mr_check(info->mr))
		return -EINVAL;
	return 0;
}

static int check(const struct uodp_qp *qp, const struct ibv_mw *ibmw, enum ibv_mw_type type,
		 const struct ibv_mw_bind_info *info)
{
	const struct uodp_mw *mw;

	if (!ibmw || ibmw->context != qp->vqp.qp.context || ibmw->type != type)
		return -EINVAL;
	mw = to_uodp_mw((struct ibv_mw *)ibmw);
	if (uodp_object_check(ibmw->context, mw->proc, ibmw->handle, mw->handle) ||
	    info->mw_access_flags & ~(unsigned)WINDOW_FLAGS)
		return -EINVAL;
	return check_mr(qp, ibmw, info);
}

int uodp_put_bind(const struct uodp_qp *qp, struct uodp_swqe *w, const struct ibv_mw *mw,
		  uint32_t rkey, const struct ibv_mw_bind_info *info)
{
	enum ibv_mw_type type = w->flags & UODP_SEND_BIND_1 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2;
	int ret = check(qp, mw, type, info);

	if (ret)
		return ret;
	w->num_sge = 0;
	w->length = 0;
	w->serial = to_uodp_mw((struct ibv_mw *)mw)->serial;
	/* The index is the device's, the variant the program's. */
	w->rkey = (mw->handle << 8) | (rkey & 0xff);
	w->mr_key = info->mr ? info->mr->lkey : 0;
	w->raddr = info->addr;
	w->bind_length = info->length;
	w->imm = info->mw_access_flags & (WINDOW_RIGHTS | IBV_ACCESS_ZERO_BASED);
	return 0;
}

static int bind(struct uodp_qp *qp, const struct uodp_swqe *w, bool *ended)
{
	const struct odp_window_bind b = {
		.key = w->rkey,
		.serial = w->serial,
		.region = w->mr_key,
		.pd = qp->pd->num,
		.access = w->imm & WINDOW_RIGHTS,
		.iova = w->raddr,
		.length = w->bind_length,
		.base = w->imm & IBV_ACCESS_ZERO_BASED ? 0 : w->raddr,
		.user = uodp_qp_user(qp->shm->qpn,
				     atomic_load_explicit(&qp->shm->gen, memory_order_relaxed)),
	};

	return odp_window_bind(qp->proc->odp, &b, ended);
}

int uodp_window_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	bool ended = false;
	int ret;

	if (w->opcode == IBV_WR_BIND_MW)
		ret = bind(qp, w, &ended);
	else
		ret = odp_window_unbind(qp->proc->odp, w->imm, qp->pd->num, &ended);
	/* Nothing goes by the old key once the program has the completion. As in modify.c, on
	 * the service thread one slice may go on. */
	if (ended && uodp_on_service_thread(qp->proc))
		odp_settle(qp->proc->odp);
	else if (ended)
		odp_quiesce(qp->proc->odp);
	return uodp_exec_done(x, ret ? IBV_WC_MW_BIND_ERR : IBV_WC_SUCCESS);
}
