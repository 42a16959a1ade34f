/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a recall does to one region: see recall.c for what holds meanwhile. All of it
 * works with what the region has had since its registration.
 */
#include <string.h>

#include "domain.h"
#include "pool.h"
#include "watch.h"

#define CHUNK_PAGES 4u

struct act {
	struct odp_watch *watch;
	struct odp_node *node;
	struct odp_mr_shm *mr;
	uint64_t first, n; /* pages of the region */
};

/* From the lane: is it still the region that was meant? */
static bool act_valid(const struct act *a)
{
	/* seq_cst: pairs with odp_region_destroy(), which clears it before its fence. */
	return atomic_load_explicit(&a->mr->key, memory_order_seq_cst) == a->node->key;
}

static bool entry_takeable(odp_entry_t e)
{
	odp_entry_t where = e & ODP_E_WHERE;

	return !(e & ODP_E_ORPHAN) && (where == ODP_E_VA || where == ODP_E_PIN);
}

static void counters_add(struct odp_mr_shm *mr, uint64_t n, uint64_t valid)
{
	atomic_fetch_add_explicit(&mr->page_invalidations, n, memory_order_relaxed);
	atomic_fetch_add_explicit(&mr->page_invalidations_handled, valid, memory_order_relaxed);
}

/* ODP: the kernel's page tables decide; the next access is a fault. */
static uint64_t act_forget(const struct act *a)
{
	uint64_t valid = 0;

	for (uint64_t i = 0; i < a->n; i++) {
		_Atomic odp_entry_t *p = odp_xlat_entry(a->node->peer, a->mr, a->first + i);
		odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;

		if (!entry_takeable(e) || (e & ODP_E_WHERE) != ODP_E_VA || !(e & ODP_E_VALID))
			continue;
		/* release: as every change of an entry. */
		valid += atomic_compare_exchange_strong_explicit(
			p, &e, e & ~(ODP_E_VALID | ODP_E_WRITE | ODP_E_FRESH), memory_order_release,
			memory_order_relaxed);
	}
	counters_add(a->mr, a->n, valid);
	atomic_fetch_sub_explicit(&a->mr->pages_valid, valid, memory_order_relaxed);
	return valid;
}

/* N pages from PAGE on have a new place: FRAME, and those behind it by STEP. */
static uint64_t entries_take(const struct act *a, uint64_t page, uint64_t n, uint64_t frame,
			     uint64_t step, odp_entry_t where)
{
	uint64_t done = 0;

	for (uint64_t i = 0; i < n; i++, frame += step) {
		_Atomic odp_entry_t *p = odp_xlat_entry(a->node->peer, a->mr, page + i);
		odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;

		if (!entry_takeable(e) || (where && (e & ODP_E_WHERE) != where))
			continue;
		if (!(e & ODP_E_VALID))
			atomic_fetch_add_explicit(&a->mr->pages_valid, 1, memory_order_relaxed);
		/* release: the frame was filled before. */
		atomic_store_explicit(p,
				      ODP_E_POOL | ODP_E_VALID | ODP_E_WRITE | ODP_E_ORPHAN | frame,
				      memory_order_release);
		done++;
	}
	return done;
}

/* What the pages hold now, zeros where there is none, into the region's spares. */
static void pages_save(const struct act *a, int pagemap, uint64_t page, uint64_t n)
{
	char buf[CHUNK_PAGES * ODP_PAGE_SIZE];
	const struct odp_mr_shm *mr = a->mr;
	uint64_t base = odp_mr_flags(mr) & ODP_MR_SHADOW ? mr->shadow : odp_page_down(mr->addr);

	for (uint64_t i = 0; i < n; i++)
		if (!odp_saver_read(&a->watch->saver, pagemap, a->node->peer->pid,
				    base + ((page + i) << ODP_PAGE_SHIFT), buf + i * ODP_PAGE_SIZE))
			memset(buf + i * ODP_PAGE_SIZE, 0, ODP_PAGE_SIZE);
	/* Into pages that are there since the registration: no store can fail. */
	odp_sys6(SYS_pwrite64, a->node->peer->pool_fd, (long)buf, (long)(n << ODP_PAGE_SHIFT),
		 (long)(a->node->spare + (page << ODP_PAGE_SHIFT)), 0, 0);
}

/* How many pages from PAGE on, at most N, are still the file's. */
static uint64_t run_kept(const struct act *a, uint64_t page, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++) {
		_Atomic odp_entry_t *p = odp_xlat_entry(a->node->peer, a->mr, page + i);
		odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;

		if (!entry_takeable(e) || (e & ODP_E_WHERE) != ODP_E_VA)
			break;
	}
	return i;
}

static uint64_t act_keep(const struct act *a)
{
	int pagemap = odp_saver_open(a->node->peer->pid);
	uint64_t done = 0, n;

	for (uint64_t i = 0; i < a->n; i += n ? n : 1) {
		n = run_kept(a, a->first + i, odp_min(a->n - i, CHUNK_PAGES));
		if (!n)
			continue;
		pages_save(a, pagemap, a->first + i, n);
		done += entries_take(a, a->first + i, n,
				     a->node->spare + ((a->first + i) << ODP_PAGE_SHIFT),
				     ODP_PAGE_SIZE, ODP_E_VA);
	}
	if (pagemap >= 0)
		odp_fd_close(pagemap);
	counters_add(a->mr, a->n, done);
	if (done)
		odp_notice_give(a->node, ODP_NOTICE_PARTED);
	return done;
}

static uint64_t act_scratch(const struct act *a)
{
	uint64_t done = entries_take(a, a->first, a->n, a->node->spare, 0, 0);

	counters_add(a->mr, a->n, done);
	if (done)
		odp_notice_give(a->node, ODP_NOTICE_PARTED);
	return done;
}

static uint64_t act_revoke(const struct act *a)
{
	uint64_t valid = atomic_exchange_explicit(&a->mr->pages_valid, 0, memory_order_relaxed);

	odp_mr_revoke(a->mr);
	counters_add(a->mr, a->node->npages, valid);
	odp_notice_give(a->node, ODP_NOTICE_REVOKED);
	return valid;
}

/* Which whole pages are going; for those that end with it, any byte is enough. */
static void act_range(struct act *a, const struct odp_recall *rc)
{
	const struct odp_node *node = a->node;
	uint64_t start = odp_max(odp_page_up(rc->start), node->it.start);
	uint64_t end = rc->end == UINT64_MAX ? rc->end : odp_page_down(rc->end);

	if (rc->start > UINT64_MAX - ODP_PAGE_MASK)
		start = UINT64_MAX;
	end = odp_min(end, node->it.last + 1);
	a->first = node->page + ((start - node->it.start) >> ODP_PAGE_SHIFT);
	a->n = start < end ? (end - start) >> ODP_PAGE_SHIFT : 0;
}

/* No further than the region goes, or its segment, whatever the owner wrote. */
static void act_limit(struct act *a)
{
	uint64_t npages = odp_min(odp_mr_npages(a->mr), ODP_SEG_SIZE / sizeof(odp_entry_t));

	a->n = a->first < npages ? odp_min(a->n, npages - a->first) : 0;
}

static uint64_t act_run(struct act *a)
{
	act_limit(a);
	switch (a->node->policy) {
	case ODP_POLICY_ODP:
		return act_forget(a);
	case ODP_POLICY_PINNED:
		return act_keep(a);
	case ODP_POLICY_SCRATCH:
		return act_scratch(a);
	default:
		return act_revoke(a);
	}
}

/* Without the lock: the node is counted as used. False: there is no such key, of a
 * region that is ending, or being made: it will be one from after the recall. */
bool odp_node_act(struct odp_watch *w, const struct odp_recall *rc, struct odp_node *node,
		  uint64_t *pages)
{
	struct odp_lane *lane = odp_lane_get(w->proc);
	struct act a = {.watch = w, .node = node, .mr = &node->peer->seg->mrs[node->key >> 8]};
	bool valid;

	*pages = 0;
	act_range(&a, rc);
	if (!a.n && node->policy < ODP_POLICY_REVOKE)
		return true;
	odp_lane_va_enter(lane);
	valid = odp_node_live(node) && act_valid(&a);
	if (valid)
		*pages = act_run(&a);
	odp_lane_va_leave(lane);
	return valid;
}
