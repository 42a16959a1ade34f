/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Protection domains: a number that regions and queue pairs must share. */
#include <errno.h>
#include <stdlib.h>

#include "uodp.h"

static _Atomic uint32_t num_pds;

/* Give PD a number that no other of this process has. */
static void pd_link(struct uodp_context *ctx, struct uodp_pd *pd)
{
	pthread_mutex_lock(&ctx->proc->lock);
	pd->num = ++ctx->proc->next_pd;
	pd->next = ctx->pds;
	if (pd->next)
		pd->next->at = &pd->next;
	pd->at = &ctx->pds;
	ctx->pds = pd;
	pthread_mutex_unlock(&ctx->proc->lock);
}

static void pd_unlink(struct uodp_context *ctx, struct uodp_pd *pd)
{
	pthread_mutex_lock(&ctx->proc->lock);
	*pd->at = pd->next;
	if (pd->next)
		pd->next->at = pd->at;
	pthread_mutex_unlock(&ctx->proc->lock);
}

struct ibv_pd *uodp_alloc_pd(struct ibv_context *ibctx)
{
	struct uodp_pd *pd;

	int ret = uodp_context_enter(ibctx);

	if (ret) {
		errno = -ret;
		return NULL;
	}
	if (atomic_fetch_add_explicit(&num_pds, 1, memory_order_relaxed) >= UODP_MAX_PD)
		goto err_count;
	pd = calloc(1, sizeof(*pd));
	if (!pd)
		goto err_count;
	pd->proc = to_uodp_context(ibctx)->proc;
	pd_link(to_uodp_context(ibctx), pd);
	uodp_context_hold(ibctx);
	pd->ibpd.context = ibctx;
	pd->ibpd.handle = pd->num;
	return &pd->ibpd;

err_count:
	atomic_fetch_sub_explicit(&num_pds, 1, memory_order_relaxed);
	errno = ENOMEM;
	return NULL;
}

static void pd_end(struct uodp_pd *pd)
{
	pd_unlink(to_uodp_context(pd->ibpd.context), pd);
	atomic_fetch_sub_explicit(&num_pds, 1, memory_order_relaxed);
}

int uodp_dealloc_pd(struct ibv_pd *ibpd)
{
	struct uodp_pd *pd = to_uodp_pd(ibpd);
	struct ibv_context *ctx = ibpd->context;
	int ret = uodp_destroy_check(ctx, pd->proc, ibpd->handle, pd->num);

	/* acquire: pairs with the release of the last user's decrement */
	if (!ret && atomic_load_explicit(&pd->users, memory_order_acquire))
		ret = -EBUSY;
	if (ret < 0)
		return uodp_fail(ret);
	if (!ret)
		pd_end(pd);
	free(pd);
	uodp_context_drop(ctx);
	return 0;
}

void uodp_pd_drop_all(struct ibv_context *ibctx)
{
	struct uodp_context *ctx = to_uodp_context(ibctx);

	while (ctx->pds)
		pd_end(ctx->pds);
}
