/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A software MMU notifier. All of it runs with the gate shut and every lane
 * fenced, and allocates nothing; it cannot fail.
 */
#include "base.h"
#include "domain.h"
#include "pool.h"

enum action { CLEAR, FORGET };

static void counter_add(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

/*
 * CLEAR: the frame stays this address's frame, its page is gone. FORGET: the
 * address has left the pool; the next fault asks the owner's address space.
 */
static void region_invalidate(struct odp_region *r, uint64_t start, uint64_t end, enum action act)
{
	uint64_t page = (odp_max(start, r->it.start) - r->it.start) >> ODP_PAGE_SHIFT;
	uint64_t last = (odp_min(end - 1, r->it.last) - r->it.start) >> ODP_PAGE_SHIFT;
	_Atomic odp_entry_t *p;
	uint64_t valid = 0, n = 0;

	for (; (p = odp_region_entry(r, &page, last)); page++, n++) {
		odp_entry_t old = atomic_load_explicit(p, memory_order_relaxed), new;

		/* A loop because of entries that are no frames: see pool.h. */
		do {
			new = old & ~(ODP_E_VALID | ODP_E_WRITE | ODP_E_FRESH);
			if (old & ODP_E_ORPHAN)
				new = old;
			else if (act == FORGET)
				new = ODP_E_VA;
		} while (!atomic_compare_exchange_weak_explicit(p, &old, new, memory_order_release,
								memory_order_relaxed));
		valid += (old & ODP_E_VALID) && old != new ? 1 : 0;
	}
	counter_add(&r->mr->page_invalidations, n);
	counter_add(&r->mr->page_invalidations_handled, valid);
	atomic_fetch_sub_explicit(&r->mr->pages_valid, valid, memory_order_relaxed);
}

/* PART: the program has other memory there, or none; pinned regions keep theirs. */
static void regions_invalidate(struct odp_mem *m, uint64_t start, uint64_t end, enum action act,
			       bool part)
{
	struct odp_inode *n;

	for (n = odp_itree_first(&m->regions, start, end - 1); n;
	     n = odp_itree_next(&m->regions, n, start, end - 1)) {
		struct odp_region *r = (struct odp_region *)n;

		if (r->kind != ODP_ON_DEMAND) {
			if (part)
				odp_region_part(r, start, end);
			continue;
		}
		region_invalidate(r, start, end, act);
		if (act == FORGET)
			odp_follow(r);
	}
}

void odp_inv_remove(struct odp_mem *m, uint64_t start, uint64_t end, bool fenced)
{
	struct odp_umem *um;

	regions_invalidate(m, start, end, CLEAR, true);
	while (start < end && (um = odp_umem_first(m, start, end))) {
		uint64_t a = odp_max(start, um->it.start), b = odp_min(end, um->it.last + 1);
		uint64_t off = um->off + (a - um->it.start);

		start = odp_frames_part(m, um, a, b, fenced);
		/* What is the address's alone. */
		if (start > a)
			continue;
		start = odp_frames_shared_from(m, a, b, off);
		odp_pool_punch(m, off, start - a);
	}
}

/* Could the program grow the mapping below START back over UM? */
static bool grows_back(struct odp_mem *m, const struct odp_umem *um, uint64_t start)
{
	struct odp_umem *below = start ? odp_umem_find(m, start - 1) : NULL;

	return below && below->ext == um->ext &&
	       below->off + (um->it.start - below->it.start) == um->off;
}

void odp_inv_unmap(struct odp_mem *m, uint64_t start, uint64_t end, bool fenced)
{
	struct odp_umem *um;

	regions_invalidate(m, start, end, FORGET, true);
	while ((um = odp_umem_first(m, start, end))) {
		uint64_t a = odp_max(start, um->it.start), b = odp_min(end, um->it.last + 1);
		uint64_t off = um->off + (a - um->it.start);

		/* It would see these offsets again, where new memory must be. */
		if (grows_back(m, um, start))
			odp_frames_orphan(m, a, b, off, fenced);
		/* Of what is unmapped alone: pages beside it are the program's still. */
		odp_frames_put(m, off, (b - a) >> ODP_PAGE_SHIFT, fenced);
		odp_umem_cut(m, um, a, b);
	}
}

/*
 * What UM, which overlaps [from, from+len), has there is at TO now. Without a record for
 * what is left behind, what has moved keeps this one.
 */
static void umem_move(struct odp_mem *m, struct odp_umem *um, uint64_t from, uint64_t to,
		      uint64_t len)
{
	uint64_t a = odp_max(from, um->it.start), b = odp_min(from + len, um->it.last + 1);

	odp_umem_split(m, b);
	if (!odp_umem_split(m, a))
		um = odp_umem_find(m, a);
	else
		um->off += a - um->it.start;
	odp_itree_resize(&m->umems, &um->it, to + (a - from), to + (b - 1 - from));
	odp_xlat_adopt(m, to + (a - from), to + (b - from));
}

void odp_inv_remap(struct odp_mem *m, uint64_t from, uint64_t to, uint64_t len, bool fenced)
{
	struct odp_umem *um;

	odp_inv_unmap(m, to, to + len, fenced);
	regions_invalidate(m, from, from + len, FORGET, true);
	while ((um = odp_umem_first(m, from, from + len)))
		umem_move(m, um, from, to, len);
}

ODP_EXPORT int odp_invalidate(struct odp_proc *proc, void *addr, size_t length)
{
	struct odp_mem *m = proc->mem;
	uint64_t start = (uintptr_t)addr, end;

	if (!length || __builtin_add_overflow(start, (uint64_t)length, &end))
		return -EINVAL;
	odp_freeze(proc);
	odp_fence(proc, false);
	odp_mem_lock(m);
	regions_invalidate(m, odp_page_down(start), odp_page_up(end), CLEAR, false);
	odp_mem_unlock(m);
	odp_thaw(proc);
	return 0;
}
