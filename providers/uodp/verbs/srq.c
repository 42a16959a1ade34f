/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Shared receive queues. */
#include <errno.h>
#include <string.h>

#include "queue.h"

struct ibv_srq *uodp_create_srq(struct ibv_pd *ibpd, struct ibv_srq_init_attr *init)
{
	struct uodp_context *ctx = to_uodp_context(ibpd->context);
	struct uodp_pd *pd = to_uodp_pd(ibpd);
	struct ibv_srq_attr *attr = &init->attr;
	struct uodp_proc *proc = ctx->proc;
	struct uodp_srq *srq;
	int ret = uodp_pd_check(ibpd);

	if (ret)
		goto err;
	ret = -EINVAL;
	if (attr->max_wr < 1 || attr->max_wr > UODP_MAX_WR || attr->max_sge > UODP_MAX_SGE ||
	    attr->srq_limit > attr->max_wr)
		goto err;
	ret = -ENOMEM;
	srq = odp_priv_alloc(sizeof(*srq));
	if (!srq)
		goto err;
	srq->proc = proc;
	srq->pd = pd;
	srq->async_wr = ctx->async.wr;
	ret = uodp_table_claim(proc, proc->srqs, srq, ibpd->context);
	if (ret < 0)
		goto err_free;
	srq->index = (uint32_t)ret;
	srq->shm = &proc->srqs_shm[srq->index];
	if (attr->max_sge == 0)
		attr->max_sge = 1;
	ret = uodp_rq_init(proc, &srq->rq, &srq->shm->rq, attr->max_wr, attr->max_sge);
	if (ret)
		goto err_slot;
	srq->shm->pd = pd->num;
	srq->shm->user_handle = (uintptr_t)&srq->vsrq.srq;
	srq->shm->rq.limit = attr->srq_limit;
	/* release: what was set up is there for who sees an odd generation */
	atomic_fetch_add_explicit(&srq->shm->gen, 1, memory_order_release);
	atomic_fetch_add_explicit(&pd->users, 1, memory_order_relaxed);
	srq->vsrq.srq.handle = srq->index;
	srq->vsrq.srq_type = IBV_SRQT_BASIC;
	uodp_context_hold(ibpd->context);
	return &srq->vsrq.srq;

err_slot:
	uodp_table_release(proc, proc->srqs, srq->index);
err_free:
	odp_priv_free(srq, sizeof(*srq));
err:
	errno = -ret;
	return NULL;
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
	odp_lock(srq->proc->odp, &shm->lock);
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
		odp_lock(srq->proc->odp, &shm->lock);
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
	bool purged;

	odp_lock(proc->odp, &srq->shm->rq.lock);
	atomic_fetch_add_explicit(&srq->shm->gen, 1, memory_order_relaxed);
	odp_unlock(&srq->shm->rq.lock);
	uodp_table_release(proc, proc->srqs, srq->index);
	purged = uodp_events_purge(ibsrq->context, (uintptr_t)ibsrq);
	uodp_wait_acks(&ibsrq->mutex, &ibsrq->cond, &ibsrq->events_completed,
		       atomic_load_explicit(&srq->async_reported, memory_order_acquire));
	uodp_rq_fini(proc, &srq->rq);
	/* release: pairs with the acquire in uodp_dealloc_pd() */
	atomic_fetch_sub_explicit(&srq->pd->users, 1, memory_order_release);
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
