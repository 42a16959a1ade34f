/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Moderation of a CQ's events (ibv_modify_cq(3)): the event of an armed CQ waits until
 * COUNT completions have come since, or PERIOD microseconds after the first of them. As
 * on mlx5 a 0 in either turns it off: an event never waits for ever. Whoever pushes
 * counts; the owner's service thread has the clock.
 */
#include <errno.h>

#include "queue.h"

int uodp_cq_moderate(struct uodp_cq *cq, uint16_t count, uint16_t period)
{
	struct uodp_cq_shm *shm = cq->shm;
	bool before, now;

	if (!count || !period)
		count = period = 0;
	if (!uodp_lock(cq->proc, &shm->lock, UODP_OWNER_NS))
		return -ETIMEDOUT;
	before = shm->mod_count;
	now = count;
	shm->mod_count = count;
	shm->mod_period = period;
	/* Nobody looks for an event that waits by the old terms. */
	if (!now && atomic_load_explicit(&shm->mod_due, memory_order_relaxed)) {
		uodp_cq_disarm(shm);
		uodp_wake_cq(cq->proc, cq->proc->self, shm);
	}
	odp_unlock(&shm->lock);
	uodp_wakes_pass(cq->proc);
	if (before != now)
		/* relaxed: what is due is looked for after a bell, which orders it */
		atomic_fetch_add_explicit(&cq->proc->moderated, now ? 1u : -1u,
					  memory_order_relaxed);
	return 0;
}

int uodp_modify_cq(struct ibv_cq *ibcq, struct ibv_modify_cq_attr *attr)
{
	struct uodp_cq *cq = to_uodp_cq(ibcq);
	int ret = uodp_object_check(ibcq->context, cq->proc, ibcq->handle, cq->index);

	if (!ret)
		ret = uodp_context_check(ibcq->context);
	if (!ret && attr->attr_mask != IBV_CQ_ATTR_MODERATE)
		ret = attr->attr_mask & ~(uint32_t)IBV_CQ_ATTR_MODERATE ? -EOPNOTSUPP : -EINVAL;
	if (ret)
		return uodp_fail(ret);
	return uodp_fail(uodp_cq_moderate(cq, attr->moderate.cq_count, attr->moderate.cq_period));
}

/* Not under its lock: a producer that is stopped may hold it. One event too many does
 * no harm. */
static uint64_t due(struct uodp_proc *proc, struct uodp_cq_shm *shm, uint64_t now)
{
	uint64_t when = atomic_load_explicit(&shm->mod_due, memory_order_relaxed);

	if (!when)
		return UINT64_MAX;
	if (now < when)
		return when;
	atomic_store_explicit(&shm->mod_due, 0, memory_order_relaxed);
	/* acq_rel: one of the producers and us raises it */
	if (atomic_exchange_explicit(&shm->armed, UODP_ARM_NONE, memory_order_acq_rel))
		uodp_channel_notify(proc, proc->self, shm->channel_fd, shm->channel_id,
				    shm->user_handle);
	return UINT64_MAX;
}

uint64_t uodp_cqs_due(struct uodp_proc *proc)
{
	uint64_t next = UINT64_MAX, when, now;
	uint32_t high;

	if (uodp_likely(!atomic_load_explicit(&proc->moderated, memory_order_relaxed)))
		return UINT64_MAX;
	now = odp_now();
	high = atomic_load_explicit(&proc->root->cq_high, memory_order_relaxed);
	/* The lock keeps the object: it is in the table until it is destroyed. */
	pthread_mutex_lock(&proc->pin_lock);
	for (uint32_t i = 0; i < high; i++) {
		if (!proc->cqs->slots[i])
			continue;
		when = due(proc, &proc->cqs_shm[i], now);
		next = when < next ? when : next;
	}
	pthread_mutex_unlock(&proc->pin_lock);
	return next;
}
