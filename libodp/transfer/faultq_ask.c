/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Faults that are left for the owner's pager, by whoever runs the transfer. */
#include "domain.h"
#include "faultq_ask.h"
#include "pool.h"
#include "transfer.h"

/* How soon to come back to one: after a part of the time it has taken so far. */
#define WAIT_MIN_NS 20000u
#define WAIT_MAX_NS 2000000u
#define WAIT_FULL_NS 100000u

/* Whoever was told INVALID by a mark has come back for it long before: the longest
 * RNR timer is 655 ms. */
#define STALE_NS 2000000000u

static struct odp_fq_shared *shared_get(const struct odp_peer *peer)
{
	/* acquire: pairs with the release of who made it (faultq.c). */
	uint64_t off = atomic_load_explicit(&peer->seg->faultq, memory_order_acquire);

	return off ? odp_peer_ptr(peer, off, sizeof(struct odp_fq_shared)) : NULL;
}

static uint32_t table_limit(_Atomic uint32_t *n)
{
	return (uint32_t)odp_min(atomic_load_explicit(n, memory_order_relaxed), ODP_FQ_DEPTH);
}

/* Of PAGE, of the MR with INDEX? *WORD is then the group's. */
static bool group_is(struct odp_fq_group *g, uint32_t index, uint64_t page, uint64_t *word)
{
	/* acquire: pairs with the release that posted it. */
	uint64_t w = atomic_load_explicit(&g->word, memory_order_acquire), n;
	enum odp_fq_state state = odp_fq_state(w);

	if (state < ODP_FQ_POSTED || odp_fq_low(w) != index)
		return false;
	n = page - atomic_load_explicit(&g->first, memory_order_relaxed);
	if (n >= ODP_FQ_PAGES || !(atomic_load_explicit(&g->pages, memory_order_relaxed) >> n & 1))
		return false;
	/* The two above belong to W, if it is still there. */
	atomic_thread_fence(memory_order_acquire);
	*word = w;
	return atomic_load_explicit(&g->word, memory_order_relaxed) == w;
}

static struct odp_fq_group *group_find(struct odp_fq_table *t, uint32_t index, uint64_t page,
				       uint64_t *word)
{
	uint32_t high = table_limit(&t->high);

	for (uint32_t i = 0; i < high; i++)
		if (group_is(&t->groups[i], index, page, word))
			return &t->groups[i];
	return NULL;
}

/* Left by a process that has died, or that did not come back? */
static bool group_left(struct odp_fq_group *g, uint64_t word, uint64_t now)
{
	if (odp_fq_state(word) == ODP_FQ_FILLING)
		return !odp_slot_lives(odp_fq_low(word), odp_fq_high(word));
	if (odp_fq_state(word) != ODP_FQ_INVALID)
		return false;
	return now - atomic_load_explicit(&g->at, memory_order_relaxed) > STALE_NS ||
	       !odp_slot_lives(atomic_load_explicit(&g->slot, memory_order_relaxed),
			       atomic_load_explicit(&g->gen, memory_order_relaxed));
}

static bool group_take(struct odp_fq_group *g, bool thorough, uint64_t now)
{
	const struct odp_peer *self = odp_self->self;
	uint64_t word = atomic_load_explicit(&g->word, memory_order_relaxed);

	if (odp_fq_state(word) != ODP_FQ_FREE && !(thorough && group_left(g, word, now)))
		return false;
	/* acquire: pairs with the release of who left it. */
	return atomic_compare_exchange_strong_explicit(
		&g->word, &word, odp_fq_word(ODP_FQ_FILLING, self->nr, self->gen),
		memory_order_acquire, memory_order_relaxed);
}

static struct odp_fq_group *group_claim(struct odp_fq_table *t, uint64_t now)
{
	uint32_t depth = table_limit(&t->depth);

	for (unsigned thorough = 0; thorough < 2; thorough++)
		for (uint32_t i = 0; i < depth; i++)
			if (group_take(&t->groups[i], thorough, now))
				return &t->groups[i];
	return NULL;
}

static bool page_missing(const struct odp_peer *peer, const struct odp_mr_shm *mr, uint64_t page,
			 bool write)
{
	_Atomic odp_entry_t *p = odp_xlat_entry(peer, mr, page);
	/* acquire: after the look at the table; pairs with the release of who made it
	 * valid before the group left the table. */
	odp_entry_t e = p ? atomic_load_explicit(p, memory_order_acquire) : ODP_E_VALID;

	if (!(e & ODP_E_VALID))
		return true;
	return p && write && (e & ODP_E_WHERE) == ODP_E_POOL && !(e & ODP_E_WRITE);
}

static uint64_t pages_missing(const struct odp_peer *peer, const struct odp_mr_shm *mr,
			      struct odp_fq_table *t, uint64_t page, uint64_t length, bool write)
{
	uint64_t most = atomic_load_explicit(&t->pages, memory_order_relaxed), set = 1;
	uint64_t n = odp_min(odp_min(most, ODP_FQ_PAGES), odp_page_up(length) >> ODP_PAGE_SHIFT);

	for (uint64_t i = 1; i < n; i++)
		if (page_missing(peer, mr, page + i, write))
			set |= (uint64_t)1 << i;
	return set;
}

#define PUT(field, value) atomic_store_explicit(&g->field, value, memory_order_relaxed)

static void group_post(struct odp_peer *peer, struct odp_mr_shm *mr, struct odp_fq_table *t,
		       struct odp_fq_group *g, uint64_t page, uint64_t length, bool write,
		       uint64_t now)
{
	uint32_t round = atomic_load_explicit(&g->round, memory_order_relaxed) + 1;
	uint32_t key = atomic_load_explicit(&mr->key, memory_order_relaxed);

	/* Whoever reads one of these finds the word changed. */
	atomic_thread_fence(memory_order_release);
	PUT(round, round);
	PUT(key, key);
	PUT(first, page);
	PUT(pages, pages_missing(peer, mr, t, page, length, write));
	PUT(length, (uint32_t)odp_min(length, UINT32_MAX));
	PUT(write, write);
	PUT(slot, odp_self->self->nr);
	PUT(gen, odp_self->self->gen);
	PUT(at, now);
	PUT(seq, atomic_fetch_add_explicit(&t->seq, 1, memory_order_relaxed));
	/* release: the group is complete. */
	atomic_store_explicit(&g->word, odp_fq_word(ODP_FQ_POSTED, key >> 8, round),
			      memory_order_release);
}

static int fault_fail(struct odp_mr_shm *mr)
{
	atomic_fetch_add_explicit(&mr->page_faults, 1, memory_order_relaxed);
	return -EFAULT;
}

static int group_wait(struct odp_mr_shm *mr, struct odp_fq_group *g, uint64_t word, uint64_t now,
		      uint64_t *when)
{
	uint64_t at = atomic_load_explicit(&g->at, memory_order_relaxed);

	if (odp_fq_state(word) == ODP_FQ_INVALID)
		return odp_fq_change(g, word, ODP_FQ_FREE) ? fault_fail(mr) : -EAGAIN;
	*when = now + odp_max(WAIT_MIN_NS, odp_min(WAIT_MAX_NS, now > at ? (now - at) / 4 : 0));
	return -EINPROGRESS;
}

int odp_faultq_ask(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page, uint64_t length,
		   bool write, uint64_t *when)
{
	uint32_t index = atomic_load_explicit(&mr->key, memory_order_relaxed) >> 8;
	struct odp_fq_shared *shared = shared_get(peer);
	struct odp_fq_group *g;
	struct odp_fq_table *t;
	uint64_t word, now = odp_now();
	uint8_t queue;

	if (!shared || index >= ODP_MAX_REGIONS)
		return 0;
	/* seq_cst, in the lane: pairs with odp_fence() of who detaches. */
	queue = atomic_load_explicit(&shared->queue_of[index], memory_order_seq_cst);
	if ((queue & ~ODP_FQ_DETACHED) - 1u >= ODP_FQ_QUEUES)
		return 0;
	t = &shared->tables[(queue & ~ODP_FQ_DETACHED) - 1u];
	g = group_find(t, index, page, &word);
	if (g)
		return group_wait(mr, g, word, now, when);
	if (queue & ODP_FQ_DETACHED)
		return 0;
	if (atomic_load_explicit(&t->deaf, memory_order_seq_cst))
		return fault_fail(mr);
	if (!page_missing(peer, mr, page, write))
		return -EAGAIN; /* answered since it was found missing */
	g = group_claim(t, now);
	*when = now + (g ? WAIT_MIN_NS : WAIT_FULL_NS);
	if (!g)
		return -EINPROGRESS;
	group_post(peer, mr, t, g, page, length, write, now);
	/* release: pairs with faultq_pass(). */
	atomic_fetch_or_explicit(&peer->seg->faultq_rung, 1u << (t - shared->tables),
				 memory_order_release);
	odp_bell_ring(peer);
	return -EINPROGRESS;
}
