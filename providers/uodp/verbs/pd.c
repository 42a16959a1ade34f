/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Protection domains: a number that regions and queue pairs must share. */
#include <errno.h>
#include <stdlib.h>

#include "uodp.h"

static _Atomic uint32_t num_pds;

/* Give PD a number that no other of this process has; a parent domain has that of what
 * it stands for, so that the one's keys are the other's. */
static void pd_link(struct uodp_context *ctx, struct uodp_pd *pd)
{
	pthread_mutex_lock(&ctx->proc->lock);
	pd->num = pd->of ? pd->of->num : ++ctx->proc->next_pd;
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

static int pd_create(struct ibv_context *ibctx, struct uodp_pd *of, struct uodp_td *td,
		     struct uodp_pd **out)
{
	struct uodp_pd *pd;

	if (atomic_fetch_add_explicit(&num_pds, 1, memory_order_relaxed) >= UODP_MAX_PD)
		goto err_count;
	pd = calloc(1, sizeof(*pd));
	if (!pd)
		goto err_count;
	pd->proc = to_uodp_context(ibctx)->proc;
	pd->of = of;
	pd->td = td;
	if (of)
		atomic_fetch_add_explicit(&of->users, 1, memory_order_relaxed);
	if (td)
		atomic_fetch_add_explicit(&td->users, 1, memory_order_relaxed);
	pd_link(to_uodp_context(ibctx), pd);
	uodp_context_hold(ibctx);
	pd->ibpd.context = ibctx;
	pd->ibpd.handle = pd->num;
	*out = pd;
	return 0;

err_count:
	atomic_fetch_sub_explicit(&num_pds, 1, memory_order_relaxed);
	return -ENOMEM;
}

struct ibv_pd *uodp_alloc_pd(struct ibv_context *ibctx)
{
	struct uodp_pd *pd;
	int ret = uodp_context_enter(ibctx);

	if (!ret)
		ret = pd_create(ibctx, NULL, NULL, &pd);
	if (!ret)
		return &pd->ibpd;
	errno = -ret;
	return NULL;
}

static void pd_end(struct uodp_pd *pd)
{
	pd_unlink(to_uodp_context(pd->ibpd.context), pd);
	/* release: pairs with the acquire of who is to free these */
	if (pd->of)
		atomic_fetch_sub_explicit(&pd->of->users, 1, memory_order_release);
	if (pd->td)
		atomic_fetch_sub_explicit(&pd->td->users, 1, memory_order_release);
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

/* ---- thread and parent domains ---- */

struct ibv_td *uodp_alloc_td(struct ibv_context *ctx, struct ibv_td_init_attr *attr)
{
	struct uodp_td *td = NULL;
	int ret = uodp_context_enter(ctx);

	if (!ret && attr->comp_mask)
		ret = -EINVAL;
	if (!ret) {
		td = calloc(1, sizeof(*td));
		ret = td ? 0 : -ENOMEM;
	}
	if (ret) {
		errno = -ret;
		return NULL;
	}
	td->ibtd.context = ctx;
	td->proc = to_uodp_context(ctx)->proc;
	uodp_context_hold(ctx);
	return &td->ibtd;
}

int uodp_dealloc_td(struct ibv_td *ibtd)
{
	struct uodp_td *td = to_uodp_td(ibtd);
	struct ibv_context *ctx = ibtd->context;

	if (td->proc != uodp_self)
		return uodp_fail(-EIO); /* its parent's */
	/* acquire: pairs with the release of the last user's decrement */
	if (atomic_load_explicit(&td->users, memory_order_acquire))
		return uodp_fail(-EBUSY);
	free(td);
	uodp_context_drop(ctx);
	return 0;
}

/*
 * Its allocators are not called: queues are in memory that other processes map, and the
 * rest in memory that never faults, for the service thread's sake.
 */
static int parent_check(const struct ibv_context *ctx, const struct ibv_parent_domain_init_attr *a)
{
	if (a->comp_mask & ~(uint32_t)(IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS |
				       IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT))
		return -EINVAL;
	if (a->comp_mask & IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS && (!a->alloc || !a->free))
		return -EINVAL;
	if (!a->pd || a->pd->context != ctx || to_uodp_pd(a->pd)->of || uodp_pd_check(a->pd))
		return -EINVAL;
	return a->td && (a->td->context != ctx || to_uodp_td(a->td)->proc != uodp_self) ? -EINVAL
											: 0;
}

struct ibv_pd *uodp_alloc_parent_domain(struct ibv_context *ctx,
					struct ibv_parent_domain_init_attr *attr)
{
	struct uodp_pd *pd;
	int ret = uodp_context_check(ctx);

	if (!ret)
		ret = parent_check(ctx, attr);
	if (!ret)
		ret = pd_create(ctx, to_uodp_pd(attr->pd), attr->td ? to_uodp_td(attr->td) : NULL,
				&pd);
	if (!ret)
		return &pd->ibpd;
	errno = -ret;
	return NULL;
}
