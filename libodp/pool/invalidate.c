/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A software MMU notifier. All of it runs with the gate shut and every lane
 * fenced, and allocates nothing; it cannot fail.
 */
#include "mem.h"

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

		/* A loop because of entries that are no frames: see mem.h. */
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

/* Copy frame FROM to the spare TO, both through our own view. */
static void frame_copy(struct odp_mem *m, uint64_t from, uint64_t to)
{
	void *src = odp_pool_ptr(m->proc->self, from, ODP_PAGE_SIZE);
	void *dst = odp_pool_ptr(m->proc->self, to, ODP_PAGE_SIZE);

	if (src && dst)
		odp_sys_copy(dst, src, ODP_PAGE_SIZE);
}

/*
 * Frame OFF at ADDR is about to lose its page, but is pinned: the pinned regions
 * go on with a copy. A region's page becomes an orphan once at most, since it
 * then no longer follows the address: so a spare frame per page is enough, and
 * the first region's serves all.
 */
static void frame_orphan(struct odp_mem *m, uint64_t addr, uint64_t off, bool fenced)
{
	struct odp_extent *ext = NULL;
	uint64_t to = 0;
	struct odp_inode *n;

	for (n = odp_itree_first(&m->regions, addr, addr); n;
	     n = odp_itree_next(&m->regions, n, addr, addr)) {
		struct odp_region *r = (struct odp_region *)n;
		_Atomic odp_entry_t *p;
		odp_entry_t e;

		if (r->kind != ODP_PINNED)
			continue;
		p = &r->xlat[(addr - n->start) >> ODP_PAGE_SHIFT];
		e = atomic_load_explicit(p, memory_order_relaxed);
		if ((e & ODP_E_WHERE) != ODP_E_POOL || (e & ODP_E_FRAME) != off)
			continue;
		if (!ext) {
			ext = r->spares;
			to = ext->it.start + (addr - n->start);
			frame_copy(m, off, to);
		}
		odp_frames_get(m, ext, to, 1);
		/* release: after the copy. */
		atomic_store_explicit(p, (e & ~ODP_E_FRAME) | to, memory_order_release);
		odp_frames_put(m, off, 1, fenced);
	}
}

static void frames_orphan(struct odp_mem *m, uint64_t addr, uint64_t end, uint64_t off, bool fenced)
{
	for (; addr < end; addr += ODP_PAGE_SIZE, off += ODP_PAGE_SIZE)
		if (m->refs[off >> ODP_PAGE_SHIFT] > 1)
			frame_orphan(m, addr, off, fenced);
}

void odp_inv_remove(struct odp_mem *m, uint64_t start, uint64_t end, bool fenced)
{
	struct odp_inode *n;

	regions_invalidate(m, start, end, CLEAR, true);
	for (n = odp_itree_first(&m->umems, start, end - 1); n;
	     n = odp_itree_next(&m->umems, n, start, end - 1)) {
		struct odp_umem *um = (struct odp_umem *)n;
		uint64_t a = odp_max(start, n->start), b = odp_min(end, n->last + 1);
		uint64_t off = um->off + (a - n->start);

		frames_orphan(m, a, b, off, fenced);
		odp_pool_punch(m, off, b - a);
	}
}

/* Make START and END borders of records. */
static void borders_make(struct odp_mem *m, uint64_t start, uint64_t end)
{
	if (odp_umem_split(m, start) || odp_umem_split(m, end))
		odp_log(ODP_LOG_ERR, "out of memory for the record of %#lx-%#lx", (long)start,
			(long)end);
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
	borders_make(m, start, end);
	while ((um = odp_umem_first(m, start, end))) {
		/* It would see these offsets again, where new memory must be. */
		if (grows_back(m, um, start))
			frames_orphan(m, um->it.start, um->it.last + 1, um->off, fenced);
		odp_frames_put(m, um->off, (um->it.last + 1 - um->it.start) >> ODP_PAGE_SHIFT,
			       fenced);
		odp_umem_remove(m, um);
	}
}

void odp_inv_remap(struct odp_mem *m, uint64_t from, uint64_t to, uint64_t len, bool fenced)
{
	struct odp_umem *um;

	odp_inv_unmap(m, to, to + len, fenced);
	regions_invalidate(m, from, from + len, FORGET, true);
	borders_make(m, from, from + len);
	while ((um = odp_umem_first(m, from, from + len))) {
		uint64_t start = to + (um->it.start - from), last = to + (um->it.last - from);

		odp_itree_resize(&m->umems, &um->it, start, last);
		odp_xlat_adopt(m, start, last + 1);
	}
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
