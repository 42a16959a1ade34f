/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Fault groups as messages, and answers to them. In the owner alone. */
#include <sched.h>

#include "domain.h"
#include "faultq.h"
#include "pool.h"

/* A cookie names the group's place and its round. */
#define COOKIE_SHIFT 10
static_assert(1u << COOKIE_SHIFT == ODP_FQ_DEPTH, "a place fits");
static_assert(sizeof(struct odp_fault_msg) == 64, "read() counts on it");
static_assert(sizeof(struct odp_fault_response) == 8, "write() counts on it");

#define GET(field) atomic_load_explicit(&g->field, memory_order_relaxed)

static uint32_t queue_high(const struct odp_fault_queue *q)
{
	return (uint32_t)odp_min(atomic_load_explicit(&q->table->high, memory_order_relaxed),
				 ODP_FQ_DEPTH);
}

static uint32_t cookie_make(struct odp_fault_queue *q, struct odp_fq_group *g, uint64_t word)
{
	return odp_fq_high(word) << COOKIE_SHIFT | (uint32_t)(g - q->table->groups);
}

/* The oldest that nobody has read. */
static struct odp_fq_group *group_next(struct odp_fault_queue *q, uint64_t *word)
{
	struct odp_fq_group *found = NULL;
	uint64_t oldest = UINT64_MAX;

	for (uint32_t i = 0, high = queue_high(q); i < high; i++) {
		struct odp_fq_group *g = &q->table->groups[i];
		/* acquire: pairs with the release that posted it. */
		uint64_t w = atomic_load_explicit(&g->word, memory_order_acquire);
		uint64_t seq;

		if (odp_fq_state(w) != ODP_FQ_POSTED)
			continue;
		seq = GET(seq);
		if (seq >= oldest)
			continue;
		oldest = seq;
		found = g;
		*word = w;
	}
	return found;
}

/* What was attached under the group's key, NULL if that has ended. */
static struct odp_fq_attach *group_attach(struct odp_fault_queue *q, struct odp_fq_group *g,
					  uint64_t word)
{
	struct odp_fq_attach *a = &q->all->attached[odp_fq_low(word)];

	if (a->queue != q || !a->region || a->region->key != GET(key) ||
	    GET(first) >= a->region->npages)
		return NULL;
	return a;
}

static void message_fill(struct odp_fault_msg *m, const struct odp_fq_attach *a,
			 struct odp_fq_group *g, unsigned n, uint32_t cookie)
{
	const struct odp_mr_shm *mr = a->region->mr;
	uint64_t page = GET(first) + n, length = GET(length), skip = n * ODP_PAGE_SIZE;

	*m = (struct odp_fault_msg){
		.dev_id = a->dev_id,
		.key = a->region->key,
		.group = (uint32_t)GET(seq),
		.perm = ODP_FAULT_READ | (GET(write) ? ODP_FAULT_WRITE : 0u),
		.length = (uint32_t)(length > skip ? length - skip : 1),
		.iova = mr->iova - (mr->addr & ODP_PAGE_MASK) + page * ODP_PAGE_SIZE,
		.addr = a->region->it.start + page * ODP_PAGE_SIZE,
		.context = a->context,
		.cookie = cookie,
	};
}

static size_t group_read(struct odp_fault_queue *q, struct odp_fq_group *g,
			 const struct odp_fq_attach *a, uint64_t word, struct odp_fault_msg *m)
{
	uint64_t pages = GET(pages);
	size_t n = 0;

	for (; pages; pages &= pages - 1)
		message_fill(&m[n++], a, g, (unsigned)__builtin_ctzll(pages),
			     cookie_make(q, g, word));
	m[n - 1].flags = ODP_FAULT_LAST;
	return n * sizeof(*m);
}

/* queue->lock. Those of MRs that have ended leave on the way. */
static struct odp_fq_group *group_peek(struct odp_fault_queue *q, uint64_t *word)
{
	struct odp_fq_group *g;

	while ((g = group_next(q, word)) && (!group_attach(q, g, *word) || !GET(pages)))
		odp_fq_change(g, *word, ODP_FQ_FREE);
	return g;
}

bool odp_faultq_readable(struct odp_fault_queue *q)
{
	uint64_t word;
	bool any;

	pthread_mutex_lock(&q->lock);
	any = group_peek(q, &word);
	pthread_mutex_unlock(&q->lock);
	return any;
}

ssize_t odp_faultq_pull(struct odp_fault_queue *q, void *buf, size_t size, unsigned groups)
{
	struct odp_fq_group *g = NULL;
	size_t done = 0, need;
	uint64_t word;

	pthread_mutex_lock(&q->lock);
	while (groups && (g = group_peek(q, &word))) {
		need = (size_t)__builtin_popcountll(GET(pages)) * sizeof(struct odp_fault_msg);
		if (need > size - done)
			break;
		if (!odp_fq_change(g, word, ODP_FQ_READ))
			continue;
		done += group_read(q, g, group_attach(q, g, word), word,
				   (struct odp_fault_msg *)((char *)buf + done));
		groups--;
	}
	pthread_mutex_unlock(&q->lock);
	return done ? (ssize_t)done : g ? -EINVAL : -EAGAIN;
}

/* ---- answers ---- */

static void page_mark(struct odp_mr_shm *mr, _Atomic odp_entry_t *p)
{
	odp_entry_t e = atomic_load_explicit(p, memory_order_relaxed);

	if ((e & ODP_E_WHERE) != ODP_E_VA || (e & ODP_E_VALID) ||
	    !atomic_compare_exchange_strong_explicit(p, &e, e | ODP_E_VALID | ODP_E_FRESH,
						     memory_order_release, memory_order_relaxed))
		return;
	atomic_fetch_add_explicit(&mr->page_faults, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&mr->page_faults_handled, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&mr->pages_valid, 1, memory_order_relaxed);
}

/* In the lane. In the owner's address space the access itself finds out. */
static int page_resolve(struct odp_peer *self, struct odp_mr_shm *mr, uint64_t page, bool write)
{
	_Atomic odp_entry_t *p = odp_xlat_entry(self, mr, page);

	if (!p)
		return -EFAULT;
	if ((atomic_load_explicit(p, memory_order_relaxed) & ODP_E_WHERE) == ODP_E_POOL)
		return odp_fault_pool(self, mr, page, 1, write, false);
	page_mark(mr, p);
	return 0;
}

static int group_resolve(struct odp_fault_queue *q, struct odp_fq_group *g,
			 const struct odp_fq_attach *a)
{
	struct odp_lane *lane = odp_lane_get(q->proc);
	struct odp_peer *self = q->proc->self;
	uint64_t pages = GET(pages), first = GET(first);
	int ret = 0;

	while (!odp_lane_enter(lane, self, self)) {
		odp_gate_heal(q->proc, self->slot);
		sched_yield();
	}
	/* Deregistration, which clears the key, waits for queue->lock next. */
	if (atomic_load_explicit(&a->region->mr->key, memory_order_relaxed) != a->region->key)
		ret = -EKEYREVOKED;
	for (; pages && !ret; pages &= pages - 1)
		ret = page_resolve(self, a->region->mr, first + (unsigned)__builtin_ctzll(pages),
				   GET(write));
	odp_lane_leave(lane);
	return ret;
}

static void group_invalid(struct odp_fq_group *g, uint64_t word)
{
	bool lives = odp_slot_lives(GET(slot), GET(gen));

	atomic_store_explicit(&g->at, odp_now(), memory_order_relaxed);
	odp_fq_change(g, word, lives ? ODP_FQ_INVALID : ODP_FQ_FREE);
}

static int group_answer(struct odp_fault_queue *q, const struct odp_fault_response *r)
{
	struct odp_fq_group *g = &q->table->groups[r->cookie % ODP_FQ_DEPTH];
	uint64_t word = atomic_load_explicit(&g->word, memory_order_acquire);
	struct odp_fq_attach *a;

	if (r->code > ODP_FAULT_INVALID || odp_fq_state(word) != ODP_FQ_READ ||
	    cookie_make(q, g, word) != r->cookie)
		return -EINVAL;
	a = group_attach(q, g, word);
	if (!a)
		return -EINVAL;
	if (r->code == ODP_FAULT_SUCCESS && !group_resolve(q, g, a))
		odp_fq_change(g, word, ODP_FQ_FREE);
	else
		group_invalid(g, word);
	return 0;
}

ssize_t odp_faultq_push(struct odp_fault_queue *q, const void *buf, size_t size)
{
	const struct odp_fault_response *r = buf;
	size_t n = size / sizeof(*r), i;
	int ret = 0;

	if (size % sizeof(*r))
		return -EINVAL;
	pthread_mutex_lock(&q->lock);
	for (i = 0; i < n && !ret; i += !ret)
		ret = group_answer(q, &r[i]);
	pthread_mutex_unlock(&q->lock);
	return i ? (ssize_t)(i * sizeof(*r)) : ret;
}

void odp_faultq_sweep(struct odp_fault_queue *q, uint32_t index, bool drop)
{
	pthread_mutex_lock(&q->lock);
	for (uint32_t i = 0, high = queue_high(q); i < high; i++) {
		struct odp_fq_group *g = &q->table->groups[i];
		uint64_t word = atomic_load_explicit(&g->word, memory_order_acquire);
		enum odp_fq_state state = odp_fq_state(word);

		if (state < ODP_FQ_POSTED || (index != UINT32_MAX && odp_fq_low(word) != index))
			continue;
		if (drop)
			odp_fq_change(g, word, ODP_FQ_FREE);
		else if (state != ODP_FQ_INVALID)
			group_invalid(g, word);
	}
	pthread_mutex_unlock(&q->lock);
}
