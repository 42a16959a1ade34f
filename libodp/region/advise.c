/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Prefetch: the owner faults pages of its region in before they are used. */
#include <sched.h>

#include "domain.h"
#include "pool.h"
#include "region.h"

/* 0 when an implicit region has no room for one more. */
static odp_entry_t entry_get(struct odp_region *r, uint64_t page)
{
	_Atomic odp_entry_t *p = odp_xlat_entry(r->mem->proc->self, r->mr, page);

	return p ? atomic_load_explicit(p, memory_order_acquire) : 0;
}

static int advise_pool(struct odp_region *r, uint64_t page, uint64_t n, enum odp_advice advice)
{
	struct odp_peer *self = r->mem->proc->self;
	odp_entry_t e = entry_get(r, page);
	uint64_t next;

	if (advice == ODP_PREFETCH_NO_FAULT) {
		uint64_t off = e & ODP_E_FRAME;

		if (!odp_pool_run(r->mem, off, off + ODP_PAGE_SIZE, &next))
			return 0;
		n = 1;
	}
	return odp_fault_pool(self, r->mr, page, n, advice == ODP_PREFETCH_WRITE, true);
}

static void va_mark(struct odp_region *r, uint64_t page)
{
	_Atomic odp_entry_t *p = odp_xlat_entry(r->mem->proc->self, r->mr, page);
	odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;

	if ((e & ODP_E_WHERE) != ODP_E_VA || (e & ODP_E_VALID) ||
	    !atomic_compare_exchange_strong_explicit(p, &e, e | ODP_E_VALID, memory_order_relaxed,
						     memory_order_relaxed))
		return;
	atomic_fetch_add_explicit(&r->mr->page_prefetch, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&r->mr->pages_valid, 1, memory_order_relaxed);
}

/* N pages in the owner's address space: the kernel faults them in, asking a userfaultfd
 * of the program's, and tells if one is not to be had, valid before or not. */
static int advise_va(struct odp_region *r, uint64_t page, uint64_t n, enum odp_advice advice)
{
	uint64_t addr = r->it.start + (page << ODP_PAGE_SHIFT);
	long ret;

	if (advice == ODP_PREFETCH_NO_FAULT)
		return 0;
	ret = odp_sys_madvise(addr, n << ODP_PAGE_SHIFT,
			      advice == ODP_PREFETCH_WRITE ? MADV_POPULATE_WRITE
							   : MADV_POPULATE_READ);
	if (ret && ret != -EINVAL)
		return -EFAULT;
	for (uint64_t i = 0; i < n; i++)
		va_mark(r, page + i);
	return 0;
}

static bool in_pool(struct odp_region *r, uint64_t page)
{
	return (entry_get(r, page) & ODP_E_WHERE) == ODP_E_POOL;
}

/* A page of another size than the region's. */
static bool refused(struct odp_region *r, uint64_t page)
{
	odp_entry_t e = entry_get(r, page);

	return (e & ODP_E_WHERE) == ODP_E_VA && (e & ODP_E_NOACCESS);
}

/* Resolve pages from *PAGE on, at most N, and move *PAGE behind them. */
static int advise_run(struct odp_region *r, uint64_t *page, uint64_t n, enum odp_advice advice)
{
	struct odp_lane *lane = odp_lane_get(r->mem->proc);
	struct odp_peer *self = r->mem->proc->self;
	odp_entry_t need = ODP_E_VALID | (advice == ODP_PREFETCH_WRITE ? ODP_E_WRITE : 0);
	uint64_t run = 1;
	int ret = 0;

	while (!odp_lane_enter(lane, self, self)) {
		odp_gate_heal(r->mem->proc, self->slot);
		sched_yield();
	}
	if (!in_pool(r, *page)) {
		odp_lane_leave(lane);
		if (refused(r, *page))
			return advice == ODP_PREFETCH_NO_FAULT ? 0 : -EFAULT;
		while (run < n && !in_pool(r, *page + run) && !refused(r, *page + run))
			run++;
		ret = advise_va(r, *page, run, advice);
	} else {
		odp_entry_t e = entry_get(r, *page);

		if ((e & need) != need)
			ret = advise_pool(r, *page, odp_min(n, 64), advice);
		odp_lane_leave(lane);
	}
	*page += run;
	return ret;
}

ODP_EXPORT int odp_region_advise(struct odp_region *r, enum odp_advice advice, uint64_t iova,
				 size_t length)
{
	struct odp_mr_shm *mr = r->mr;
	uint64_t off = iova - mr->iova, page, last;
	int ret = 0;

	if ((unsigned)advice > ODP_PREFETCH_NO_FAULT)
		return -EOPNOTSUPP;
	if (iova < mr->iova || off > mr->length || length > mr->length - off)
		return -EFAULT;
	if (advice == ODP_PREFETCH_WRITE && !mr->writable)
		return -EPERM;
	if (odp_region_revoked(r))
		return -EFAULT;
	if (r->kind == ODP_PINNED || !length)
		return 0;
	page = ((mr->addr & ODP_PAGE_MASK) + off) >> ODP_PAGE_SHIFT;
	last = ((mr->addr & ODP_PAGE_MASK) + off + length - 1) >> ODP_PAGE_SHIFT;
	while (page <= last && !ret)
		ret = advise_run(r, &page, last + 1 - page, advice);
	return ret;
}
