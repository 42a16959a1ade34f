/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Completion queues. */
#include <errno.h>
#include <string.h>

#include "queue.h"

struct uodp_cq_shm *uodp_cq_shm(struct odp_peer *peer, uint32_t index)
{
	struct uodp_root *root = odp_peer_ptr(peer, odp_peer_root(peer), sizeof(*root));

	if (!root || root->magic != UODP_ROOT_MAGIC || index >= UODP_MAX_CQ)
		return NULL;
	return odp_peer_ptr(peer, root->cqs + index * sizeof(struct uodp_cq_shm),
			    sizeof(struct uodp_cq_shm));
}

/* What a solicited arming is for; errors always are (IBTA 11.4.2.2). */
static bool is_solicited(const struct uodp_cqe *cqe, bool solicited)
{
	return solicited || cqe->status != IBV_WC_SUCCESS;
}

/*
 * An armed CQ with moderation: is its event to wait for more completions? The owner's
 * service thread raises it when the time is over (uodp_cqs_due()). Lock held.
 */
static bool hold_back(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_cq_shm *cq)
{
	if (++cq->mod_seen >= cq->mod_count || !cq->mod_period)
		return false;
	if (!atomic_load_explicit(&cq->mod_due, memory_order_relaxed)) {
		atomic_store_explicit(&cq->mod_due, odp_now() + cq->mod_period * 1000ull,
				      memory_order_relaxed);
		/* The bell orders the store before the owner's look. */
		uodp_wake_bell(proc, peer);
	}
	return true;
}

static int push_full(struct uodp_cq_shm *cq, uint32_t flags)
{
	/* What hardware does then is undefined; the program has said that it can bear it. */
	if (flags & UODP_CQ_LOSSY)
		return 0;
	atomic_store_explicit(&cq->flags, flags | UODP_CQ_FULL, memory_order_relaxed);
	return -ENOSPC; /* now: who pushes tells the owner */
}

/* Lock held. The lock also orders arming: a completion is stored either before
 * the consumer armed, who then polls it, or after, and raises the event. */
static int push_locked(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_cq_shm *cq,
		       const struct uodp_cqe *cqe, bool solicited)
{
	uint32_t prod = atomic_load_explicit(&cq->prod, memory_order_relaxed);
	/* acquire: the slot that CONS has passed has been read */
	uint32_t cons = atomic_load_explicit(&cq->cons, memory_order_acquire);
	uint32_t flags = atomic_load_explicit(&cq->flags, memory_order_relaxed);
	uint32_t mask = cq->mask, armed;
	struct uodp_cqe *slot;

	if (uodp_unlikely(flags & UODP_CQ_FULL))
		return -EOVERFLOW;
	if (uodp_unlikely(prod - cons >= cq->cqe))
		return push_full(cq, flags);
	slot = odp_peer_ptr(peer, cq->ring + (uint64_t)(prod & mask) * sizeof(*slot),
			    sizeof(*slot));
	if (uodp_unlikely(!slot))
		return -ENOENT;
	*slot = *cqe;
	if (uodp_unlikely(flags & UODP_CQ_STAMPED))
		slot->timestamp = odp_now();
	solicited = is_solicited(cqe, solicited);
	if (uodp_unlikely(solicited))
		cq->solicited = prod + 1;
	/* release: pairs with the acquire in uodp_poll_cq() */
	atomic_store_explicit(&cq->prod, prod + 1, memory_order_release);

	armed = atomic_load_explicit(&cq->armed, memory_order_relaxed);
	if (uodp_unlikely(armed) && (armed == UODP_ARM_NEXT || solicited)) {
		if (cq->mod_count && hold_back(proc, peer, cq))
			return 0;
		uodp_cq_disarm(cq);
		uodp_wake_cq(proc, peer, cq);
	}
	return 0;
}

/* The process's own CQ, the usual case, needs no look through the root. */
static struct uodp_cq_shm *cq_find(struct uodp_proc *proc, struct odp_peer *peer, uint32_t index)
{
	if (peer == proc->self && index < UODP_MAX_CQ)
		return &proc->cqs_shm[index];
	return uodp_cq_shm(peer, index);
}

/* The CQ's lock held, which is dropped. */
static int push_unlock(struct uodp_proc *proc, struct odp_peer *peer, uint32_t index,
		       struct uodp_cq_shm *cq, const struct uodp_cqe *cqe, bool solicited)
{
	int ret;

	if (uodp_unlikely(!(atomic_load_explicit(&cq->gen, memory_order_relaxed) & 1))) {
		uodp_unlock(&cq->lock);
		return -ENOENT;
	}
	ret = push_locked(proc, peer, cq, cqe, solicited);
	uodp_unlock(&cq->lock);
	if (uodp_likely(ret != -ENOSPC))
		return ret;
	uodp_event_raise(proc, peer, IBV_EVENT_CQ_ERR, index);
	return -EOVERFLOW;
}

int uodp_cq_push(struct uodp_proc *proc, struct odp_peer *peer, uint32_t index,
		 const struct uodp_cqe *cqe, bool solicited, uint64_t patience)
{
	struct uodp_cq_shm *cq = cq_find(proc, peer, index);

	if (uodp_unlikely(!cq))
		return -ENOENT;
	if (uodp_unlikely(!uodp_lock(proc, &cq->lock, patience)))
		return -EBUSY;
	return push_unlock(proc, peer, index, cq, cqe, solicited);
}

int uodp_cq_push_recv(struct uodp_proc *proc, struct odp_peer *peer, uint32_t index,
		      const struct uodp_cqe *cqe, bool solicited, uint64_t patience,
		      struct uodp_rq_shm *rq)
{
	struct uodp_cq_shm *cq = cq_find(proc, peer, index);

	if (uodp_likely(cq) && uodp_unlikely(!uodp_lock(proc, &cq->lock, patience)))
		return -EBUSY;
	/* Before: who polls the completion finds the room that the receive has left. */
	uodp_rq_pop(rq);
	return uodp_likely(cq) ? push_unlock(proc, peer, index, cq, cqe, solicited) : -ENOENT;
}

static void to_wc(const struct uodp_cqe *cqe, struct ibv_wc *wc)
{
	wc->wr_id = cqe->wr_id;
	wc->status = cqe->status;
	wc->opcode = cqe->opcode;
	wc->vendor_err = cqe->vendor_err;
	wc->byte_len = cqe->byte_len;
	wc->imm_data = cqe->imm;
	wc->qp_num = cqe->qp_num;
	wc->src_qp = cqe->src_qp;
	wc->wc_flags = cqe->wc_flags;
	wc->pkey_index = 0;
	wc->slid = cqe->slid;
	wc->sl = cqe->sl;
	wc->dlid_path_bits = 0;
}

static int take(struct uodp_cq *cq, int n, struct ibv_wc *wc)
{
	struct uodp_cq_shm *shm = cq->shm;
	uint32_t cons = atomic_load_explicit(&shm->cons, memory_order_relaxed);
	/* acquire: pairs with the release of prod in push_locked() */
	uint32_t avail = atomic_load_explicit(&shm->prod, memory_order_acquire) - cons;
	int i;

	for (i = 0; i < n && (uint32_t)i < avail; i++)
		to_wc(&cq->ring[(cons + i) & cq->mask], &wc[i]);
	if (i)
		/* release: the slots have been read, producers may reuse them */
		atomic_store_explicit(&shm->cons, cons + i, memory_order_release);
	return i;
}

int uodp_poll_cq(struct ibv_cq *ibcq, int n, struct ibv_wc *wc)
{
	struct uodp_cq *cq = to_uodp_cq(ibcq);
	int got;

	/* A poller lends its CPU to sends that wait, its own or not. */
	if (uodp_cq_looks_empty(cq)) {
		if (uodp_likely(!atomic_load_explicit(&cq->proc->npending, memory_order_relaxed)))
			return 0;
		uodp_progress(cq->proc, false);
	}
	uodp_spin_lock(&cq->lock);
	got = take(cq, n, wc);
	uodp_spin_unlock(&cq->lock);
	return got;
}

/* Does CQ hold completions, unpolled, that an arming of kind WANT is for? (lock held) */
static bool holds_wanted(const struct uodp_cq_shm *cq, uint32_t want)
{
	uint32_t cons = atomic_load_explicit(&cq->cons, memory_order_relaxed);
	uint32_t prod = atomic_load_explicit(&cq->prod, memory_order_relaxed);
	uint32_t last = want == UODP_ARM_SOLICITED ? cq->solicited : prod;

	/* Is LAST behind CONS? An old one may seem to be before it, the indices wrap. */
	return last - cons - 1 < prod - cons;
}

/*
 * IBTA raises the event for a completion that is added after the arming. mlx5 raises it
 * at once when there are any that were not polled, and programs that get an event, arm,
 * and poll one live on it: here they would wait for ever, the more since work completes
 * inside the post. To others it is one event too many, which they must bear anyway.
 */
static void arm_locked(struct uodp_cq *cq, uint32_t want)
{
	struct uodp_cq_shm *shm = cq->shm;

	/* Asking for less does not undo having asked for more (IBTA 11.4.2.2). */
	if (atomic_load_explicit(&shm->armed, memory_order_relaxed) < want)
		atomic_store_explicit(&shm->armed, want, memory_order_relaxed);
	if (holds_wanted(shm, want)) {
		uodp_cq_disarm(shm);
		uodp_wake_cq(cq->proc, cq->proc->self, shm);
	}
}

#define ARM_NS 10000000u

int uodp_req_notify_cq(struct ibv_cq *ibcq, int solicited_only)
{
	struct uodp_cq *cq = to_uodp_cq(ibcq);
	struct uodp_cq_shm *shm = cq->shm;

	if (uodp_likely(uodp_lock(cq->proc, &shm->lock, ARM_NS))) {
		arm_locked(cq, solicited_only ? UODP_ARM_SOLICITED : UODP_ARM_NEXT);
		uodp_unlock(&shm->lock);
		uodp_wakes_pass(cq->proc);
	} else {
		/* Its holder is stopped between storing a completion and looking whether it
		 * is armed, maybe: without the lock the event could be missed. One too many
		 * cannot: it makes the program poll, and arm it again. */
		uodp_channel_notify(cq->proc, cq->proc->self, shm->channel_fd, shm->channel_id,
				    shm->user_handle);
	}
	/* Unplugged? Either we see it here, or uodp_cqs_wake() sees that it is armed. */
	return -uodp_context_recheck(ibcq->context);
}

/* Not under its lock: a producer that is stopped may hold it. One event too many does
 * no harm. */
static void cq_wake(struct uodp_proc *proc, struct uodp_cq_shm *shm)
{
	/* acquire: an odd generation shows a CQ that is set up */
	if (!(atomic_load_explicit(&shm->gen, memory_order_acquire) & 1))
		return;
	/* seq_cst: after the device's number was seen to have changed; pairs with the
	 * fence in uodp_context_recheck(). */
	if (atomic_exchange_explicit(&shm->armed, UODP_ARM_NONE, memory_order_seq_cst))
		uodp_channel_notify(proc, proc->self, shm->channel_fd, shm->channel_id,
				    shm->user_handle);
}

void uodp_cqs_wake(struct uodp_proc *proc, uint32_t device)
{
	uint32_t high = atomic_load_explicit(&proc->root->cq_high, memory_order_relaxed);

	for (uint32_t i = 0; i < high; i++) {
		struct uodp_cq *cq = proc->cqs->slots[i];

		if (cq && cq->link->device == device && uodp_link_gone(proc, cq->link))
			cq_wake(proc, &proc->cqs_shm[i]);
	}
}

void uodp_cq_clean(struct uodp_cq *cq, uint32_t qpn)
{
	struct uodp_cq_shm *shm = cq->shm;
	uint32_t cons, prod, to;
	bool locked;

	uodp_spin_lock(&cq->lock);
	/* What was pushed is the consumer's, and so is CONS; only SOLICITED needs the lock. */
	locked = uodp_lock(cq->proc, &shm->lock, UODP_OWNER_NS);
	cons = atomic_load_explicit(&shm->cons, memory_order_relaxed);
	/* acquire: pairs with the release of prod in push_locked() */
	prod = atomic_load_explicit(&shm->prod, memory_order_acquire);
	/* Compact towards the producer's end, so that only CONS moves. */
	for (to = prod; prod != cons;) {
		const struct uodp_cqe *cqe = &cq->ring[--prod & cq->mask];

		if (cqe->qp_num == qpn)
			continue;
		if (--to != prod)
			cq->ring[to & cq->mask] = *cqe;
	}
	atomic_store_explicit(&shm->cons, to, memory_order_release);
	/* Any of those left may be the solicited one: they have moved. */
	if (locked && (int32_t)(shm->solicited - cons) > 0)
		shm->solicited = atomic_load_explicit(&shm->prod, memory_order_relaxed);
	if (locked)
		uodp_unlock(&shm->lock);
	uodp_spin_unlock(&cq->lock);
}

static struct uodp_cqe *ring_alloc(struct uodp_proc *proc, uint32_t n, uint64_t *off)
{
	size_t size = (size_t)n * sizeof(struct uodp_cqe);

	*off = odp_arena_alloc(proc->odp, size);
	return *off ? odp_peer_ptr(proc->self, *off, size) : NULL;
}

static int init_check(const struct ibv_context *ctx, const struct ibv_cq_init_attr_ex *a)
{
	const struct uodp_channel *channel = a->channel ? uodp_channel_get(a->channel) : NULL;

	if (a->cqe < 1 || a->cqe > UODP_MAX_CQE ||
	    a->comp_vector >= (uint32_t)ctx->num_comp_vectors)
		return -EINVAL;
	if (a->channel && (a->channel->context != ctx || !channel || channel->proc != uodp_self))
		return -EINVAL;
	return 0;
}

/* Its record is complete and may be used by all when this returns. False: somebody who
 * looked for the CQ that had it before is stopped with its lock. */
static bool shm_init(struct uodp_cq *cq, uint32_t cqe, uint32_t flags)
{
	struct uodp_cq_shm *shm = cq->shm;

	if (!uodp_lock(cq->proc, &shm->lock, UODP_PATIENCE_NS))
		return false;
	shm->ring = cq->ring_off;
	shm->mask = cq->mask;
	shm->cqe = cqe;
	shm->channel_fd = cq->channel ? cq->channel->pipe.wr : -1;
	shm->channel_id = cq->channel ? cq->channel->id : 0;
	shm->user_handle = (uintptr_t)&cq->vcq.cq;
	shm->solicited = 0;
	shm->mod_count = 0;
	shm->mod_period = 0;
	uodp_cq_disarm(shm);
	atomic_store_explicit(&shm->flags, flags, memory_order_relaxed);
	atomic_store_explicit(&shm->prod, 0, memory_order_relaxed);
	atomic_store_explicit(&shm->cons, 0, memory_order_relaxed);
	atomic_fetch_add_explicit(&shm->gen, 1, memory_order_release);
	uodp_unlock(&shm->lock);
	return true;
}

/* A place in the table, with its record set up; one that cannot be used is never again. */
static int place(struct uodp_cq *cq, struct ibv_context *ctx, uint32_t cqe, uint32_t flags)
{
	struct uodp_proc *proc = cq->proc;
	int ret;

	for (;;) {
		ret = uodp_table_claim(proc, proc->cqs, cq, ctx);
		if (ret < 0)
			return ret;
		cq->index = (uint32_t)ret;
		cq->shm = &proc->cqs_shm[cq->index];
		if (shm_init(cq, cqe, flags))
			return 0;
		uodp_table_retire(proc, proc->cqs, cq->index);
	}
}

int uodp_cq_make(struct ibv_context *ctx, const struct ibv_cq_init_attr_ex *a, uint32_t flags,
		 struct uodp_cq **out)
{
	struct uodp_proc *proc;
	struct uodp_cq *cq;
	int ret = uodp_context_enter(ctx);

	if (!ret)
		ret = init_check(ctx, a);
	if (ret)
		return ret;
	proc = to_uodp_context(ctx)->proc;
	cq = odp_priv_alloc(sizeof(*cq));
	if (!cq)
		return -ENOMEM;
	cq->proc = proc;
	cq->async_wr = to_uodp_context(ctx)->async.wr;
	cq->link = to_uodp_context(ctx)->link;
	cq->channel = a->channel ? uodp_channel_get(a->channel) : NULL;
	cq->mask = uodp_pow2(a->cqe + 1) - 1;
	cq->ring = ring_alloc(proc, cq->mask + 1, &cq->ring_off);
	ret = -ENOMEM;
	if (!cq->ring)
		goto err_free;
	ret = place(cq, ctx, a->cqe, flags);
	if (ret)
		goto err_ring;
	cq->vcq.cq.cqe = (int)a->cqe;
	cq->vcq.cq.handle = cq->index;
	if (cq->channel)
		uodp_channel_hold(cq->channel);
	uodp_context_hold(ctx);
	*out = cq;
	return 0;

err_ring:
	odp_arena_free(proc->odp, cq->ring_off, ((size_t)cq->mask + 1) * sizeof(struct uodp_cqe));
err_free:
	odp_priv_free(cq, sizeof(*cq));
	return ret;
}

struct ibv_cq *uodp_create_cq(struct ibv_context *ctx, int cqe, struct ibv_comp_channel *channel,
			      int comp_vector)
{
	struct ibv_cq_init_attr_ex attr = {.cqe = cqe < 0 ? 0 : (uint32_t)cqe,
					   .channel = channel,
					   .comp_vector = (uint32_t)comp_vector};
	struct uodp_cq *cq;
	int ret = uodp_cq_make(ctx, &attr, 0, &cq);

	if (!ret)
		return &cq->vcq.cq;
	errno = -ret;
	return NULL;
}

bool uodp_cq_known(const struct ibv_cq *ibcq)
{
	const struct uodp_cq *cq = to_uodp_cq((struct ibv_cq *)ibcq);

	return !uodp_object_check(ibcq->context, cq->proc, ibcq->handle, cq->index);
}

int uodp_resize_cq(struct ibv_cq *ibcq, int cqe)
{
	struct uodp_cq *cq = to_uodp_cq(ibcq);
	struct uodp_cq_shm *shm = cq->shm;
	uint32_t entries, prod, cons, old_mask = cq->mask;
	uint64_t off, old_off = cq->ring_off;
	struct uodp_cqe *ring;
	int ret = uodp_object_check(ibcq->context, cq->proc, ibcq->handle, cq->index);

	if (!ret)
		ret = uodp_context_check(ibcq->context);
	if (!ret && (cqe < 1 || (uint32_t)cqe > UODP_MAX_CQE))
		ret = -EINVAL;
	if (ret)
		return uodp_fail(ret);
	entries = uodp_pow2((uint32_t)cqe + 1);
	ring = ring_alloc(cq->proc, entries, &off);
	if (!ring)
		return uodp_fail(-ENOMEM);
	uodp_spin_lock(&cq->lock);
	if (!uodp_lock(cq->proc, &shm->lock, UODP_OWNER_NS)) {
		ret = -ETIMEDOUT;
		goto err_spin;
	}
	prod = atomic_load_explicit(&shm->prod, memory_order_relaxed);
	cons = atomic_load_explicit(&shm->cons, memory_order_relaxed);
	if (prod - cons > (uint32_t)cqe) {
		uodp_unlock(&shm->lock);
		ret = -EINVAL;
		goto err_spin;
	}
	for (uint32_t i = cons; i != prod; i++)
		ring[i & (entries - 1)] = cq->ring[i & old_mask];
	cq->ring = ring;
	cq->ring_off = off;
	cq->mask = entries - 1;
	shm->ring = off;
	shm->mask = entries - 1;
	shm->cqe = (uint32_t)cqe;
	uodp_unlock(&shm->lock);
	uodp_spin_unlock(&cq->lock);
	odp_arena_free(cq->proc->odp, old_off, ((size_t)old_mask + 1) * sizeof(*ring));
	ibcq->cqe = cqe;
	return 0;

err_spin:
	uodp_spin_unlock(&cq->lock);
	odp_arena_free(cq->proc->odp, off, (size_t)entries * sizeof(*ring));
	return uodp_fail(ret);
}

/* False: its memory must stay. */
static bool cq_end(struct uodp_cq *cq)
{
	struct ibv_cq *ibcq = &cq->vcq.cq;
	struct uodp_proc *proc = cq->proc;
	struct uodp_cq_shm *shm = cq->shm;
	bool purged = true, left, told;

	if (shm->mod_count)
		uodp_cq_moderate(cq, 0, 0);
	/* Under the lock, so that no producer is inside; an even generation
	 * turns late ones away. One that is stopped in there goes on in what it knows. */
	left = uodp_lock(proc, &shm->lock, UODP_OWNER_NS);
	atomic_fetch_add_explicit(&shm->gen, 1, memory_order_relaxed);
	if (left)
		uodp_unlock(&shm->lock);
	told = left && uodp_cq_told(shm);
	if (told)
		uodp_table_release(proc, proc->cqs, cq->index);
	else
		uodp_table_retire(proc, proc->cqs, cq->index);

	if (cq->channel)
		purged = uodp_pipe_purge(proc, &cq->channel->pipe, sizeof(uint64_t),
					 (uintptr_t)ibcq);
	purged &= uodp_events_purge(ibcq->context, (uintptr_t)ibcq);
	uodp_wait_acks(&ibcq->mutex, &ibcq->cond, &ibcq->comp_events_completed,
		       atomic_load_explicit(&cq->comp_reported, memory_order_acquire));
	uodp_wait_acks(&ibcq->mutex, &ibcq->cond, &ibcq->async_events_completed,
		       atomic_load_explicit(&cq->async_reported, memory_order_acquire));
	if (left)
		odp_arena_free(proc->odp, cq->ring_off, ((size_t)cq->mask + 1) * sizeof(*cq->ring));
	if (cq->channel)
		uodp_channel_drop(cq->channel);
	/* release: pairs with the acquire in uodp_dealloc_pd() */
	if (cq->parent)
		atomic_fetch_sub_explicit(&cq->parent->users, 1, memory_order_release);
	return purged && told;
}

int uodp_destroy_cq(struct ibv_cq *ibcq)
{
	struct uodp_cq *cq = to_uodp_cq(ibcq);
	struct ibv_context *ctx = ibcq->context;
	int ret = uodp_destroy_check(ctx, cq->proc, ibcq->handle, cq->index);

	/* acquire: pairs with the last QP's decrement */
	if (!ret && atomic_load_explicit(&cq->users, memory_order_acquire))
		ret = -EBUSY;
	if (ret < 0)
		return uodp_fail(ret);
	if (!ret && !cq_end(cq)) {
		uodp_shell_stays("CQ");
		return 0;
	}
	odp_priv_free(cq, sizeof(*cq));
	uodp_context_drop(ctx);
	return 0;
}

void uodp_cq_drop(struct uodp_cq *cq)
{
	struct ibv_cq *ibcq = &cq->vcq.cq;

	uodp_cq_ops_end(cq);
	ibcq->comp_events_completed =
		atomic_load_explicit(&cq->comp_reported, memory_order_relaxed);
	ibcq->async_events_completed =
		atomic_load_explicit(&cq->async_reported, memory_order_relaxed);
	cq_end(cq);
	/* libibverbs counts the channel's CQs down when one is destroyed, and it may be
	 * gone before. */
	if (ibcq->channel)
		ibcq->channel->refcnt--;
	ibcq->channel = NULL;
}
