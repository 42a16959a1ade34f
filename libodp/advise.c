/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Prefetch: the owner faults pages of its region in before they are used. */
#include "mem.h"

static int advise_pool(struct odp_region *r, uint64_t page, uint64_t n, enum odp_advice advice)
{
	struct odp_peer *self = r->mem->proc->self;
	odp_entry_t e = atomic_load_explicit(&r->xlat[page], memory_order_acquire);
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
	odp_entry_t e = atomic_load_explicit(&r->xlat[page], memory_order_relaxed);

	if ((e & ODP_E_WHERE) != ODP_E_VA || (e & ODP_E_VALID) ||
	    !atomic_compare_exchange_strong_explicit(&r->xlat[page], &e, e | ODP_E_VALID,
						     memory_order_relaxed, memory_order_relaxed))
		return;
	atomic_fetch_add_explicit(&r->mr->page_prefetch, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&r->mr->pages_valid, 1, memory_order_relaxed);
}

static int advise_va(struct odp_region *r, uint64_t page, enum odp_advice advice)
{
	uint64_t addr = r->it.start + (page << ODP_PAGE_SHIFT);
	long ret;

	if (advice == ODP_PREFETCH_NO_FAULT)
		return 0;
	ret = odp_sys_madvise(addr, ODP_PAGE_SIZE,
			      advice == ODP_PREFETCH_WRITE ? MADV_POPULATE_WRITE :
							     MADV_POPULATE_READ);
	if (ret && ret != -EINVAL)
		return -EFAULT;
	va_mark(r, page);
	return 0;
}

/* -ENOTBLK: not a page of the pool. */
static int advise_page(struct odp_region *r, uint64_t page, uint64_t n, enum odp_advice advice)
{
	struct odp_lane *lane = odp_lane_get(r->mem->proc);
	struct odp_peer *self = r->mem->proc->self;
	odp_entry_t e;
	int ret = 0;

	while (!odp_lane_enter(lane, self, self))
		;
	e = atomic_load_explicit(&r->xlat[page], memory_order_acquire);
	if ((e & ODP_E_WHERE) != ODP_E_POOL)
		ret = e & ODP_E_VALID ? 0 : -ENOTBLK;
	else if (!(e & ODP_E_VALID) || (advice == ODP_PREFETCH_WRITE && !(e & ODP_E_WRITE)))
		ret = advise_pool(r, page, n, advice);
	odp_lane_leave(lane);
	return ret == -ENOTBLK ? advise_va(r, page, advice) : ret;
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
	if (r->kind == ODP_PINNED || !length)
		return 0;
	page = ((mr->addr & ODP_PAGE_MASK) + off) >> ODP_PAGE_SHIFT;
	last = ((mr->addr & ODP_PAGE_MASK) + off + length - 1) >> ODP_PAGE_SHIFT;
	for (; page <= last && !ret; page++)
		ret = advise_page(r, page, odp_min(last + 1 - page, 64), advice);
	return ret;
}
