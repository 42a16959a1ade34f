/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Fault queues, and the regions that are attached to them. */
#include <sys/eventfd.h>

#include "base.h"
#include "domain.h"
#include "faultq.h"
#include "region.h"

#define DEPTH_DEFAULT 64u
#define PAGES_DEFAULT 16u

static uint32_t index_of(const struct odp_region *r)
{
	return r->key >> 8;
}

/* Wake the threads of queues that have got a fault. */
static void faultq_pass(struct odp_proc *proc, bool peer_ended)
{
	struct odp_faultqs *all = atomic_load_explicit(&proc->faultqs, memory_order_acquire);
	const uint64_t one = 1;
	uint32_t rung;

	(void)peer_ended;
	if (odp_likely(!all) ||
	    !atomic_load_explicit(&proc->self->seg->faultq_rung, memory_order_relaxed))
		return;
	/* acquire: pairs with the release in odp_faultq_ask(). */
	rung = atomic_exchange_explicit(&proc->self->seg->faultq_rung, 0, memory_order_acquire);
	for (unsigned i = 0; i < ODP_FQ_QUEUES; i++) {
		int fd = atomic_load_explicit(&all->wake_fd[i], memory_order_relaxed);

		if ((rung >> i & 1) && fd >= 0)
			odp_sys(SYS_write, fd, &one, sizeof(one));
	}
}

static const struct odp_source source = {.name = "fault queues", .pass = faultq_pass};

static void region_end(struct odp_region *r);

/* faultq_lock. What the first queue needs, kept for ever. */
static struct odp_faultqs *faultqs_get(struct odp_proc *proc)
{
	struct odp_faultqs *all = atomic_load_explicit(&proc->faultqs, memory_order_relaxed);
	uint64_t off;

	if (all)
		return all;
	all = odp_priv_alloc(sizeof(*all));
	if (!all)
		return NULL;
	all->attached = odp_priv_alloc(ODP_MAX_REGIONS * sizeof(*all->attached));
	off = all->attached ? odp_arena_alloc(proc, sizeof(*all->shared)) : 0;
	if (!off)
		goto err_free;
	all->shared = odp_peer_ptr(proc->self, off, sizeof(*all->shared));
	for (unsigned i = 0; i < ODP_FQ_QUEUES; i++)
		atomic_store_explicit(&all->wake_fd[i], -1, memory_order_relaxed);
	all->observer.end = region_end;
	odp_region_observe(proc->mem, &all->observer);
	/* release: pairs with the acquire in faultq_pass(). */
	atomic_store_explicit(&proc->faultqs, all, memory_order_release);
	odp_source_add(proc, &source);
	/* release: pairs with the acquire in odp_faultq_ask(). */
	atomic_store_explicit(&proc->self->seg->faultq, off, memory_order_release);
	return all;

err_free:
	if (all->attached)
		odp_priv_free(all->attached, ODP_MAX_REGIONS * sizeof(*all->attached));
	odp_priv_free(all, sizeof(*all));
	return NULL;
}

static int wake_get(struct odp_faultqs *all, unsigned index)
{
	int fd = atomic_load_explicit(&all->wake_fd[index], memory_order_relaxed);

	if (fd >= 0)
		return fd;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	fd = odp_fd_high(fd);
	atomic_store_explicit(&all->wake_fd[index], fd, memory_order_relaxed);
	return fd;
}

/* Another place each time, so that marks which the last queue left are met. */
static int place_find(struct odp_faultqs *all)
{
	for (unsigned n = 0; n < ODP_FQ_QUEUES; n++) {
		unsigned i = all->next++ % ODP_FQ_QUEUES;

		if (!all->queues[i])
			return (int)i;
	}
	odp_log(ODP_LOG_ERR, "a process may have %u fault queues: destroy one", ODP_FQ_QUEUES);
	return -ENOSPC;
}

static void table_open(struct odp_fq_table *t, uint32_t depth, uint32_t pages)
{
	if (atomic_load_explicit(&t->high, memory_order_relaxed) < depth)
		atomic_store_explicit(&t->high, depth, memory_order_relaxed);
	atomic_store_explicit(&t->depth, depth, memory_order_relaxed);
	atomic_store_explicit(&t->pages, pages, memory_order_relaxed);
	atomic_store_explicit(&t->deaf, 0, memory_order_relaxed);
}

static int queue_open(struct odp_proc *proc, uint32_t depth, uint32_t pages,
		      struct odp_fault_queue *q)
{
	struct odp_faultqs *all = faultqs_get(proc);
	int ret, wake;

	if (!all)
		return -ENOMEM;
	ret = place_find(all);
	if (ret < 0)
		return ret;
	wake = wake_get(all, (unsigned)ret);
	if (wake < 0)
		return wake;
	q->proc = proc;
	q->all = all;
	q->index = (unsigned)ret;
	q->table = &all->shared->tables[ret];
	table_open(q->table, depth, pages);
	ret = odp_faultq_fuse(q, wake);
	if (ret && ret != -EMFILE && ret != -ENOMEM) {
		table_open(q->table, depth, pages);
		ret = odp_faultq_pair(q, wake);
	}
	if (!ret)
		all->queues[q->index] = q;
	return ret;
}

ODP_EXPORT int odp_fault_queue_create(struct odp_proc *proc,
				      const struct odp_fault_queue_attr *attr,
				      struct odp_fault_queue **queue)
{
	uint32_t depth = attr->depth ? attr->depth : DEPTH_DEFAULT;
	uint32_t pages = attr->group_pages ? attr->group_pages : PAGES_DEFAULT;
	struct odp_fault_queue *q;
	int ret;

	if (depth > ODP_FQ_DEPTH || pages > ODP_FQ_PAGES)
		return -EINVAL;
	q = odp_priv_alloc(sizeof(*q));
	if (!q)
		return -ENOMEM;
	pthread_mutex_init(&q->lock, NULL);
	pthread_mutex_lock(&proc->faultq_lock);
	ret = queue_open(proc, depth, pages, q);
	pthread_mutex_unlock(&proc->faultq_lock);
	if (ret) {
		odp_priv_free(q, sizeof(*q));
		return ret;
	}
	*queue = q;
	return 0;
}

/* No new groups from here on: in the lane either sees the other. */
static void fence(struct odp_proc *proc)
{
	odp_freeze(proc);
	odp_fence(proc, false);
	odp_thaw(proc);
}

void odp_faultq_deafen(struct odp_fault_queue *q)
{
	atomic_store_explicit(&q->table->deaf, 1, memory_order_seq_cst);
	fence(q->proc);
	odp_faultq_sweep(q, UINT32_MAX, false);
}

static void attached_clear(struct odp_fault_queue *q, uint32_t index)
{
	pthread_mutex_lock(&q->lock);
	q->all->attached[index] = (struct odp_fq_attach){0};
	pthread_mutex_unlock(&q->lock);
}

/* faultq_lock */
static void queue_detach_all(struct odp_fault_queue *q)
{
	_Atomic uint8_t *of = q->all->shared->queue_of;
	uint32_t high =
		atomic_load_explicit(&q->proc->self->seg->regions_high, memory_order_relaxed);
	bool any = false;

	for (uint32_t i = 0; i < high && i < ODP_MAX_REGIONS; i++) {
		if (q->all->attached[i].queue != q)
			continue;
		atomic_fetch_or_explicit(&of[i], ODP_FQ_DETACHED, memory_order_seq_cst);
		any = true;
	}
	if (any)
		fence(q->proc);
	/* All that is open is answered first: what has nothing attached any more, a reader
	 * drops (group_peek()). */
	odp_faultq_sweep(q, UINT32_MAX, false);
	for (uint32_t i = 0; any && i < high && i < ODP_MAX_REGIONS; i++)
		if (q->all->attached[i].queue == q)
			attached_clear(q, i);
}

ODP_EXPORT void odp_fault_queue_destroy(struct odp_fault_queue *q, bool keep_fd)
{
	struct odp_proc *proc = q->proc;

	/* In a child of fork there is no thread, and nothing is attached. */
	if (proc == odp_self) {
		pthread_mutex_lock(&proc->faultq_lock);
		queue_detach_all(q);
		q->server->close(q->server);
		q->all->queues[q->index] = NULL;
		pthread_mutex_unlock(&proc->faultq_lock);
	}
	if (!keep_fd)
		odp_fd_close(q->fd);
	odp_priv_free(q, sizeof(*q));
}

ODP_EXPORT int odp_fault_queue_fd(const struct odp_fault_queue *q)
{
	return q->fd;
}

ODP_EXPORT bool odp_fault_queue_checked(const struct odp_fault_queue *q)
{
	return q->checked;
}

ODP_EXPORT int odp_fault_queue_attach(struct odp_fault_queue *q, struct odp_region *r,
				      uint32_t dev_id, uint64_t context)
{
	struct odp_fq_attach *a = &q->all->attached[index_of(r)];
	int ret = 0;

	if (r->kind != ODP_ON_DEMAND || q->proc != odp_self || r->mem->proc != q->proc)
		return -EINVAL;
	pthread_mutex_lock(&q->proc->faultq_lock);
	if (a->region) {
		ret = -EBUSY;
	} else {
		pthread_mutex_lock(&q->lock);
		*a = (struct odp_fq_attach){r, q, context, dev_id};
		pthread_mutex_unlock(&q->lock);
		atomic_store_explicit(&q->all->shared->queue_of[index_of(r)],
				      (uint8_t)(q->index + 1), memory_order_seq_cst);
		/* release: whoever sees the bit finds the queue. */
		atomic_fetch_or_explicit(&r->mr->inject, ODP_FQ_MR, memory_order_release);
	}
	pthread_mutex_unlock(&q->proc->faultq_lock);
	return ret;
}

ODP_EXPORT int odp_fault_queue_detach(struct odp_region *r)
{
	struct odp_proc *proc = r->mem->proc;
	struct odp_faultqs *all = atomic_load_explicit(&proc->faultqs, memory_order_acquire);
	struct odp_fault_queue *q;

	if (!all || proc != odp_self)
		return -EINVAL;
	pthread_mutex_lock(&proc->faultq_lock);
	q = all->attached[index_of(r)].queue;
	if (q) {
		/* The bit in the record stays: marks are looked for. */
		atomic_fetch_or_explicit(&all->shared->queue_of[index_of(r)], ODP_FQ_DETACHED,
					 memory_order_seq_cst);
		fence(proc);
		odp_faultq_sweep(q, index_of(r), false); /* first, as above */
		attached_clear(q, index_of(r));
	}
	pthread_mutex_unlock(&proc->faultq_lock);
	return q ? 0 : -EINVAL;
}

/* The region ends: its open groups are dropped. */
static void region_end(struct odp_region *r)
{
	struct odp_proc *proc = r->mem->proc;
	struct odp_faultqs *all = atomic_load_explicit(&proc->faultqs, memory_order_acquire);
	struct odp_fault_queue *q;

	if (!all || !(atomic_load_explicit(&r->mr->inject, memory_order_relaxed) & ODP_FQ_MR))
		return;
	pthread_mutex_lock(&proc->faultq_lock);
	q = all->attached[index_of(r)].queue;
	atomic_store_explicit(&all->shared->queue_of[index_of(r)], 0, memory_order_seq_cst);
	if (q) {
		attached_clear(q, index_of(r));
		odp_faultq_sweep(q, index_of(r), true);
	}
	pthread_mutex_unlock(&proc->faultq_lock);
}
