/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Receive queues: the ring that QPs and SRQs share. */
#include <errno.h>
#include <string.h>

#include "queue.h"

int uodp_rq_init(struct uodp_proc *proc, struct uodp_rq *rq, struct uodp_rq_shm *shm,
		 uint32_t max_wr, uint32_t max_sge)
{
	uint32_t entries = uodp_pow2(max_wr ? max_wr : 1);
	uint32_t stride = uodp_rwqe_size(max_sge);

	rq->ring_size = (size_t)entries * stride;
	rq->ring_off = odp_arena_alloc(proc->odp, rq->ring_size);
	if (!rq->ring_off)
		return -ENOMEM;
	rq->ring = odp_peer_ptr(proc->self, rq->ring_off, rq->ring_size);
	rq->shm = shm;
	shm->ring = rq->ring_off;
	shm->mask = entries - 1;
	shm->max_wr = max_wr;
	shm->max_sge = max_sge;
	shm->stride = stride;
	shm->limit = 0;
	atomic_store_explicit(&shm->prod, 0, memory_order_relaxed);
	atomic_store_explicit(&shm->cons, 0, memory_order_relaxed);
	return 0;
}

void uodp_rq_fini(struct uodp_proc *proc, struct uodp_rq *rq)
{
	if (rq->ring_off)
		odp_arena_free(proc->odp, rq->ring_off, rq->ring_size);
	rq->ring_off = 0;
}

/* The caller holds rq->lock. */
int uodp_rq_post(struct uodp_rq *rq, const struct ibv_recv_wr *wr)
{
	struct uodp_rq_shm *shm = rq->shm;
	uint32_t prod = atomic_load_explicit(&shm->prod, memory_order_relaxed);
	/* acquire: the entry that CONS has passed has been read */
	uint32_t cons = atomic_load_explicit(&shm->cons, memory_order_acquire);
	struct uodp_rwqe *wqe;
	uint64_t length = 0;

	if (wr->num_sge < 0 || (uint32_t)wr->num_sge > shm->max_sge)
		return -EINVAL;
	if (prod - cons >= shm->max_wr)
		return -ENOMEM;
	wqe = (struct uodp_rwqe *)(rq->ring + (size_t)(prod & shm->mask) * shm->stride);
	wqe->wr_id = wr->wr_id;
	wqe->num_sge = (uint32_t)wr->num_sge;
	for (int i = 0; i < wr->num_sge; i++) {
		wqe->sge[i].addr = wr->sg_list[i].addr;
		wqe->sge[i].length = wr->sg_list[i].length;
		wqe->sge[i].lkey = wr->sg_list[i].lkey;
		length += wr->sg_list[i].length;
	}
	if (length > UINT32_MAX)
		return -EINVAL;
	wqe->length = (uint32_t)length;
	/* release: pairs with the acquire in uodp_rq_empty() */
	atomic_store_explicit(&shm->prod, prod + 1, memory_order_release);
	return 0;
}

bool uodp_rq_return(struct uodp_rq *rq, const struct uodp_rwqe *wqe)
{
	struct uodp_rq_shm *shm = rq->shm;
	uint32_t prod;
	bool room;

	uodp_spin_lock(&rq->lock);
	prod = atomic_load_explicit(&shm->prod, memory_order_relaxed);
	/* acquire: the entry that CONS has passed has been read */
	room = prod - atomic_load_explicit(&shm->cons, memory_order_acquire) <= shm->mask;
	if (room) {
		memcpy(rq->ring + (size_t)(prod & shm->mask) * shm->stride, wqe, shm->stride);
		/* release: pairs with the acquire in uodp_rq_empty() */
		atomic_store_explicit(&shm->prod, prod + 1, memory_order_release);
	}
	uodp_spin_unlock(&rq->lock);
	return room;
}

bool uodp_rq_empty(const struct uodp_rq_shm *rq)
{
	return atomic_load_explicit(&rq->cons, memory_order_relaxed) ==
	       /* acquire: pairs with the release in uodp_rq_post() */
	       atomic_load_explicit(&rq->prod, memory_order_acquire);
}

const struct uodp_rwqe *uodp_rq_peek(struct odp_peer *peer, struct uodp_rq_shm *rq)
{
	uint32_t stride = rq->stride, cons;
	const struct uodp_rwqe *wqe;

	if (uodp_rq_empty(rq))
		return NULL;
	/* The geometry is another process's word: hold it to what we accept. */
	if (stride < sizeof(*wqe) || stride > uodp_rwqe_size(UODP_MAX_SGE))
		return NULL;
	cons = atomic_load_explicit(&rq->cons, memory_order_relaxed);
	return odp_peer_ptr(peer, rq->ring + (uint64_t)(cons & rq->mask) * stride, stride);
}

void uodp_rq_pop(struct uodp_rq_shm *rq)
{
	uint32_t cons = atomic_load_explicit(&rq->cons, memory_order_relaxed);

	/* release: the entry has been read, the owner may reuse it */
	atomic_store_explicit(&rq->cons, cons + 1, memory_order_release);
}
