/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Shared receive queues. */
#include <errno.h>
#include <string.h>

#include "queue.h"

static int attr_check(const struct ibv_srq_attr *attr)
{
	return attr->max_wr < 1 || attr->max_wr > UODP_MAX_WR || attr->max_sge > UODP_MAX_SGE ||
			       attr->srq_limit > attr->max_wr
		       ? -EINVAL
		       : 0;
}

/* Its record is complete and may be used by all when this returns. */
static void shm_init(struct uodp_srq *srq, uint32_t limit)
{
	struct uodp_srq_shm *shm = srq->shm;

	shm->pd = srq->pd->num;
	shm->user_handle = (uintptr_t)&srq->vsrq.srq;
	shm->rq.limit = limit;
	shm->xrcd = srq->xrcd ? srq->xrcd->id : 0;
	shm->cq = srq->cq ? srq->cq->index : 0;
	/* release: what was set up is there for who sees an odd generation */
	atomic_fetch_add_explicit(&shm->gen, 1, memory_order_release);
}

static void users_add(struct uodp_srq *srq, uint32_t n)
{
	/* release: of the last; pairs with the acquire of who is to destroy them */
	atomic_fetch_add_explicit(&srq->pd->users, n, memory_order_release);
	if (srq->cq)
		atomic_fetch_add_explicit(&srq->cq->users, n, memory_order_release);
	if (srq->xrcd)
		atomic_fetch_add_explicit(&srq->xrcd->users, n, memory_order_release);
}

/* CQ and XRCD are those of an XRC SRQ, else NULL. */
static int srq_create(struct uodp_pd *pd, struct ibv_srq_attr *attr, struct uodp_cq *cq,
		      struct uodp_xrcd *xrcd, struct uodp_srq **out)
{
	struct uodp_context *ctx = to_uodp_context(pd->ibpd.context);
	struct uodp_proc *proc = ctx->proc;
	struct uodp_srq *srq;
	int ret = attr_check(attr);

	if (ret)
		return ret;
	srq = odp_priv_alloc(sizeof(*srq));
	if (!srq)
		return -ENOMEM;
	srq->proc = proc;
	srq->pd = pd;
	srq->cq = cq;
	srq->xrcd = xrcd;
	srq->async_wr = ctx->async.wr;
	ret = uodp_table_claim(proc, proc->srqs, srq, &ctx->vctx.context);
	if (ret < 0)
		goto err_free;
	srq->index = (uint32_t)ret;
	srq->shm = &proc->srqs_shm[srq->index];
	if (attr->max_sge == 0)
		attr->max_sge = 1;
	ret = uodp_rq_init(proc, &srq->rq, &srq->shm->rq, attr->max_wr, attr->max_sge);
	if (ret)
		goto err_slot;
	srq->vsrq.srq.handle = srq->index;
	srq->vsrq.srq_type = xrcd ? IBV_SRQT_XRC : IBV_SRQT_BASIC;
	srq->vsrq.srq_num = xrcd ? UODP_SRQN(odp_proc_slot(proc->odp), srq->index) : 0;
	shm_init(srq, attr->srq_limit);
	users_add(srq, 1);
	uodp_context_hold(&ctx->vctx.context);
	*out = srq;
	return 0;

err_slot:
	uodp_table_release(proc, proc->srqs, srq->index);
err_free:
	odp_priv_free(srq, sizeof(*srq));
	return ret;
}

struct ibv_srq *uodp_create_srq(struct ibv_pd *ibpd, struct ibv_srq_init_attr *init)
{
	struct uodp_srq *srq;
	int ret = uodp_pd_check(ibpd);

	if (!ret)
		ret = srq_create(to_uodp_pd(ibpd), &init->attr, NULL, NULL, &srq);
	if (!ret)
		return &srq->vsrq.srq;
	errno = -ret;
	return NULL;
}

static int ex_check(const struct ibv_context *ctx, const struct ibv_srq_init_attr_ex *a)
{
	const uint32_t xrc = IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
	const uint32_t plain = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD;
	enum ibv_srq_type type =
		a->comp_mask & IBV_SRQ_INIT_ATTR_TYPE ? a->srq_type : IBV_SRQT_BASIC;

	/* Tag matching is not there. */
	if (a->comp_mask & ~(plain | xrc) || type > IBV_SRQT_XRC)
		return -EOPNOTSUPP;
	if (!(a->comp_mask & IBV_SRQ_INIT_ATTR_PD) || !a->pd || a->pd->context != ctx ||
	    uodp_pd_check(a->pd))
		return -EINVAL;
	if (type != IBV_SRQT_XRC)
		return a->comp_mask & xrc ? -EINVAL : 0;
	if ((a->comp_mask & xrc) != xrc || !a->xrcd || !a->cq || a->cq->context != ctx ||
	    !uodp_cq_known(a->cq))
		return -EINVAL;
	return uodp_xrcd_check(ctx, a->xrcd);
}

/* libibverbs fills in what ibv_create_srq() makes, but not what this does. */
static void ex_init(struct ibv_srq *ibsrq, struct ibv_context *ctx,
		    const struct ibv_srq_init_attr_ex *a)
{
	ibsrq->context = ctx;
	ibsrq->srq_context = a->srq_context;
	ibsrq->pd = a->pd;
	ibsrq->events_completed = 0;
	pthread_mutex_init(&ibsrq->mutex, NULL);
	pthread_cond_init(&ibsrq->cond, NULL);
}

struct ibv_srq *uodp_create_srq_ex(struct ibv_context *ctx, struct ibv_srq_init_attr_ex *a)
{
	struct uodp_xrcd *xrcd = NULL;
	struct uodp_cq *cq = NULL;
	struct uodp_srq *srq;
	int ret = uodp_context_check(ctx);

	if (!ret)
		ret = ex_check(ctx, a);
	if (!ret && a->comp_mask & IBV_SRQ_INIT_ATTR_XRCD) {
		xrcd = to_uodp_xrcd(a->xrcd);
		cq = to_uodp_cq(a->cq);
	}
	if (!ret)
		ret = srq_create(to_uodp_pd(a->pd), &a->attr, cq, xrcd, &srq);
	if (ret) {
		errno = -ret;
		return NULL;
	}
	srq->vsrq.cq = cq ? a->cq : NULL;
	ex_init(&srq->vsrq.srq, ctx, a);
	return &srq->vsrq.srq;
}

int uodp_get_srq_num(struct ibv_srq *ibsrq, uint32_t *num)
{
	struct uodp_srq *srq = to_uodp_srq(ibsrq);
	int ret = uodp_object_check(ibsrq->context, srq->proc, ibsrq->handle, srq->index);

	if (!ret && !srq->xrcd)
		ret = -EOPNOTSUPP; /* as mlx5: others have none */
	if (!ret)
		*num = srq->vsrq.srq_num;
	return uodp_fail(ret);
}

/* LIMIT, if it is not NULL, is to be its new one. */
static int resize(struct uodp_srq *srq, uint32_t max_wr, const uint32_t *limit)
{
	struct uodp_rq_shm *shm = &srq->shm->rq;
	uint32_t entries, prod, cons;
	uint64_t off, old_off;
	size_t size, old_size;
	char *ring;
	int ret = 0;

	if (max_wr < 1 || max_wr > UODP_MAX_WR)
		return -EINVAL;
	entries = uodp_pow2(max_wr);
	size = (size_t)entries * shm->stride;
	off = odp_arena_alloc(srq->proc->odp, size);
	if (!off)
		return -ENOMEM;
	ring = odp_peer_ptr(srq->proc->self, off, size);
	old_off = off;
	old_size = size;

	uodp_spin_lock(&srq->rq.lock);
	if (!uodp_lock(srq->proc, &shm->lock, UODP_OWNER_NS)) {
		ret = -ETIMEDOUT;
		goto out;
	}
	prod = atomic_load_explicit(&shm->prod, memory_order_relaxed);
	cons = atomic_load_explicit(&shm->cons, memory_order_relaxed);
	if (prod - cons > max_wr || (limit ? *limit : shm->limit) > max_wr) {
		ret = -EINVAL;
	} else {
		for (uint32_t i = cons; i != prod; i++)
			memcpy(ring + (size_t)(i & (entries - 1)) * shm->stride,
			       srq->rq.ring + (size_t)(i & shm->mask) * shm->stride, shm->stride);
		old_off = srq->rq.ring_off;
		old_size = srq->rq.ring_size;
		srq->rq.ring = ring;
		srq->rq.ring_off = off;
		srq->rq.ring_size = size;
		shm->ring = off;
		shm->mask = entries - 1;
		shm->max_wr = max_wr;
		shm->limit = limit ? *limit : shm->limit;
	}
	odp_unlock(&shm->lock);
out:
	uodp_spin_unlock(&srq->rq.lock);
	odp_arena_free(srq->proc->odp, old_off, old_size);
	return ret;
}

static int srq_check(const struct ibv_srq *ibsrq)
{
	const struct uodp_srq *srq = to_uodp_srq((struct ibv_srq *)ibsrq);
	int ret = uodp_object_check(ibsrq->context, srq->proc, ibsrq->handle, srq->index);

	return ret ? ret : uodp_context_check(ibsrq->context);
}

int uodp_modify_srq(struct ibv_srq *ibsrq, struct ibv_srq_attr *attr, int mask)
{
	const uint32_t *limit = mask & IBV_SRQ_LIMIT ? &attr->srq_limit : NULL;
	struct uodp_srq *srq = to_uodp_srq(ibsrq);
	struct uodp_rq_shm *shm = &srq->shm->rq;
	int ret = srq_check(ibsrq);

	if (!ret && mask & ~(IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT))
		ret = -EINVAL;
	if (ret)
		return uodp_fail(ret);
	if (mask & IBV_SRQ_MAX_WR) /* all of it, or nothing */
		return uodp_fail(resize(srq, attr->max_wr, limit));
	if (mask & IBV_SRQ_LIMIT) {
		if (attr->srq_limit > shm->max_wr)
			return uodp_fail(-EINVAL);
		if (!uodp_lock(srq->proc, &shm->lock, UODP_OWNER_NS))
			return uodp_fail(-ETIMEDOUT);
		shm->limit = attr->srq_limit;
		odp_unlock(&shm->lock);
	}
	return 0;
}

int uodp_query_srq(struct ibv_srq *ibsrq, struct ibv_srq_attr *attr)
{
	struct uodp_rq_shm *shm = &to_uodp_srq(ibsrq)->shm->rq;
	int ret = srq_check(ibsrq);

	if (ret)
		return uodp_fail(ret);
	attr->max_wr = shm->max_wr;
	attr->max_sge = shm->max_sge;
	attr->srq_limit = shm->limit;
	return 0;
}

/* False: its memory must stay. */
static bool srq_end(struct uodp_srq *srq)
{
	struct ibv_srq *ibsrq = &srq->vsrq.srq;
	struct uodp_proc *proc = srq->proc;
	bool purged, left = uodp_lock(proc, &srq->shm->rq.lock, UODP_OWNER_NS);

	atomic_fetch_add_explicit(&srq->shm->gen, 1, memory_order_relaxed);
	if (left)
		odp_unlock(&srq->shm->rq.lock);
	/* XRC: nobody takes from it any more, or completes what was taken; what is being
	 * written to a receive is over when this returns. */
	if (srq->xrcd)
		odp_quiesce(proc->odp);
	if (left)
		uodp_table_release(proc, proc->srqs, srq->index);
	else
		uodp_table_retire(proc, proc->srqs, srq->index);
	purged = uodp_events_purge(ibsrq->context, (uintptr_t)ibsrq);
	uodp_wait_acks(&ibsrq->mutex, &ibsrq->cond, &ibsrq->events_completed,
		       atomic_load_explicit(&srq->async_reported, memory_order_acquire));
	if (left)
		uodp_rq_fini(proc, &srq->rq);
	users_add(srq, (uint32_t)-1);
	return purged;
}

int uodp_destroy_srq(struct ibv_srq *ibsrq)
{
	struct uodp_srq *srq = to_uodp_srq(ibsrq);
	struct ibv_context *ctx = ibsrq->context;
	int ret = uodp_destroy_check(ctx, srq->proc, ibsrq->handle, srq->index);

	/* acquire: pairs with the last QP's decrement */
	if (!ret && atomic_load_explicit(&srq->users, memory_order_acquire))
		ret = -EBUSY;
	if (ret < 0)
		return uodp_fail(ret);
	if (!ret && !srq_end(srq)) {
		uodp_shell_stays("SRQ");
		return 0;
	}
	odp_priv_free(srq, sizeof(*srq));
	uodp_context_drop(ctx);
	return 0;
}

void uodp_srq_drop(struct uodp_srq *srq)
{
	srq->vsrq.srq.events_completed =
		atomic_load_explicit(&srq->async_reported, memory_order_relaxed);
	srq_end(srq);
}

int uodp_post_srq_recv(struct ibv_srq *ibsrq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct uodp_srq *srq = to_uodp_srq(ibsrq);
	int ret = 0;

	uodp_spin_lock(&srq->rq.lock);
	for (; wr; wr = wr->next) {
		ret = uodp_rq_post(&srq->rq, wr);
		if (ret) {
			*bad = wr;
			break;
		}
	}
	uodp_spin_unlock(&srq->rq.lock);
	return -ret;
}
