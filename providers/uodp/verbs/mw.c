/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory windows: the verbs side of libodp's. Type 2 is 2B, as rdma_rxe and mlx5 have it:
 * a window belongs to the QP that bound it, and both must be of its PD. How one is bound
 * and invalidated is a work request: work/window.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "queue.h"

static void mw_link(struct uodp_context *ctx, struct uodp_mw *mw)
{
	pthread_mutex_lock(&ctx->proc->lock);
	mw->next = ctx->mws;
	if (mw->next)
		mw->next->at = &mw->next;
	mw->at = &ctx->mws;
	ctx->mws = mw;
	pthread_mutex_unlock(&ctx->proc->lock);
}

static void mw_unlink(struct uodp_context *ctx, struct uodp_mw *mw)
{
	pthread_mutex_lock(&ctx->proc->lock);
	*mw->at = mw->next;
	if (mw->next)
		mw->next->at = mw->at;
	pthread_mutex_unlock(&ctx->proc->lock);
}

static void mw_init(struct uodp_mw *mw, struct ibv_pd *pd, enum ibv_mw_type type)
{
	struct ibv_mw *ibmw = &mw->ibmw;

	mw->proc = to_uodp_pd(pd)->proc;
	mw->serial = odp_window_serial(mw->window);
	ibmw->context = pd->context;
	ibmw->pd = pd;
	ibmw->type = type;
	ibmw->rkey = odp_window_key(mw->window);
	mw->handle = ibmw->handle = ibmw->rkey >> 8;
	mw_link(to_uodp_context(pd->context), mw);
	uodp_context_hold(pd->context);
	atomic_fetch_add_explicit(&to_uodp_pd(pd)->users, 1, memory_order_relaxed);
}

static int mw_create(struct ibv_pd *pd, enum ibv_mw_type type, struct uodp_mw **out)
{
	const struct odp_window_attr attr = {.pd = to_uodp_pd(pd)->num,
					     .exclusive = type == IBV_MW_TYPE_2};
	struct uodp_mw *mw;
	int ret;

	if (type != IBV_MW_TYPE_1 && type != IBV_MW_TYPE_2)
		return -EINVAL;
	ret = uodp_pd_check(pd);
	if (ret)
		return ret;
	mw = calloc(1, sizeof(*mw));
	if (!mw)
		return -ENOMEM;
	ret = odp_window_create(to_uodp_pd(pd)->proc->odp, &attr, &mw->window);
	if (ret) {
		free(mw);
		return ret;
	}
	mw_init(mw, pd, type);
	*out = mw;
	return 0;
}

struct ibv_mw *uodp_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
	struct uodp_mw *mw;
	int ret = mw_create(pd, type, &mw);

	if (!ret)
		return &mw->ibmw;
	errno = -ret;
	return NULL;
}

/* All of it but its memory. */
static void mw_end(struct uodp_mw *mw)
{
	mw_unlink(to_uodp_context(mw->ibmw.context), mw);
	odp_window_destroy(mw->window);
	mw->window = NULL;
	/* release: pairs with the acquire in uodp_dealloc_pd() */
	atomic_fetch_sub_explicit(&to_uodp_pd(mw->ibmw.pd)->users, 1, memory_order_release);
}

int uodp_dealloc_mw(struct ibv_mw *ibmw)
{
	struct uodp_mw *mw = to_uodp_mw(ibmw);
	struct ibv_context *ctx = ibmw->context;
	int ret = uodp_destroy_check(ctx, mw->proc, ibmw->handle, mw->handle);

	if (ret < 0)
		return uodp_fail(ret);
	if (!ret)
		mw_end(mw);
	free(mw);
	uodp_context_drop(ctx);
	return 0;
}

void uodp_mw_drop_all(struct ibv_context *ibctx)
{
	struct uodp_context *ctx = to_uodp_context(ibctx);

	while (ctx->mws)
		mw_end(ctx->mws);
}

int uodp_bind_mw(struct ibv_qp *ibqp, struct ibv_mw *ibmw, struct ibv_mw_bind *bind)
{
	struct ibv_send_wr *bad, wr = {.wr_id = bind->wr_id,
				       .opcode = IBV_WR_BIND_MW,
				       .send_flags = bind->send_flags | UODP_SEND_BIND_1};
	int ret;

	/* IBTA o10-36.2.2: a type 1 window has the addresses of its MR. */
	if (bind->bind_info.mw_access_flags & IBV_ACCESS_ZERO_BASED)
		return uodp_fail(-EINVAL);
	wr.bind_mw.mw = ibmw;
	wr.bind_mw.rkey = ibv_inc_rkey(ibmw->rkey);
	wr.bind_mw.bind_info = bind->bind_info;
	ret = ibv_post_send(ibqp, &wr, &bad); /* which knows of closed contexts */
	if (!ret)
		ibmw->rkey = wr.bind_mw.rkey;
	return ret;
}
