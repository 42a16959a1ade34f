/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A new region's translation entries, and entries that become pool frames. */
#include "base.h"
#include "pool.h"

#define PAGEMAP_CHUNK 512u

static odp_entry_t entry_valid(odp_entry_t e)
{
	if (e & ODP_E_NOACCESS)
		return e;
	return e | ODP_E_VALID | (e & ODP_E_NOWRITE ? 0 : ODP_E_WRITE);
}

static void entries_set(struct odp_region *r, uint64_t page, uint64_t n, odp_entry_t e,
			odp_entry_t step)
{
	/* relaxed: the key's release store publishes them. */
	for (uint64_t i = 0; i < n; i++, e += step)
		atomic_store_explicit(&r->xlat[page + i], e, memory_order_relaxed);
	if (e & ODP_E_VALID)
		atomic_fetch_add_explicit(&r->mr->pages_valid, n, memory_order_relaxed);
}

/* Pages [addr, end), which the pool holds from OFF on. On demand: those that are
 * there now are valid without a fault, as a driver's snapshot makes them. */
static void fill_pool(struct odp_region *r, struct odp_umem *um, uint64_t addr, uint64_t end)
{
	uint64_t page = (addr - r->it.start) >> ODP_PAGE_SHIFT;
	uint64_t off = um->off + (addr - um->it.start), limit = off + (end - addr), next;
	odp_entry_t e = ODP_E_POOL | odp_xlat_prot(um->prot);

	if (r->kind == ODP_PINNED) {
		odp_frames_get(r->mem, um->ext, off, (end - addr) >> ODP_PAGE_SHIFT);
		entries_set(r, page, (end - addr) >> ODP_PAGE_SHIFT, entry_valid(e) | off,
			    ODP_PAGE_SIZE);
		return;
	}
	for (; off < limit; off = next) {
		uint64_t n;
		bool data = odp_pool_run(r->mem, off, limit, &next);

		n = (next - off) >> ODP_PAGE_SHIFT;
		entries_set(r, page, n, (data ? entry_valid(e) : e) | off, ODP_PAGE_SIZE);
		page += n;
	}
}

/* On demand, in the owner's address space: an entry only counts. */
static void fill_va(struct odp_region *r, uint64_t addr, uint64_t end)
{
	uint64_t map[PAGEMAP_CHUNK];

	while (addr < end) {
		uint64_t n = odp_min((end - addr) >> ODP_PAGE_SHIFT, PAGEMAP_CHUNK);
		long got = odp_sys_pread(r->mem->pagemap_fd, map, n * sizeof(*map),
					 (addr >> ODP_PAGE_SHIFT) * sizeof(*map));

		for (uint64_t i = 0; i < n; i++) {
			bool there = i < (uint64_t)(got > 0 ? got : 0) / sizeof(*map) &&
				     (map[i] & ODP_PAGEMAP_THERE);
			entries_set(r, ((addr - r->it.start) >> ODP_PAGE_SHIFT) + i, 1,
				    ODP_E_VA | (there ? ODP_E_VALID : 0), 0);
		}
		addr += n << ODP_PAGE_SHIFT;
	}
}

static void fill_other(struct odp_region *r, uint64_t addr, uint64_t end, odp_entry_t where)
{
	odp_follow(r);
	if (r->kind == ODP_ON_DEMAND) {
		fill_va(r, addr, end);
	} else {
		entries_set(r, (addr - r->it.start) >> ODP_PAGE_SHIFT,
			    (end - addr) >> ODP_PAGE_SHIFT, where | ODP_E_VALID | ODP_E_WRITE, 0);
	}
}

void odp_xlat_fill(struct odp_region *r, odp_entry_t where)
{
	uint64_t pos = r->it.start, end = r->it.last + 1, next;

	if (r->hold || r->fd >= 0) {
		odp_entry_t e = ODP_E_VALID | (r->fd >= 0 ? ODP_E_WRITE : 0);

		if (r->hold)
			odp_follow(r);
		for (uint64_t i = 0; i < r->npages; i++)
			entries_set(r, i, 1, odp_pin_entry(r, i) | e, 0);
		return;
	}
	if (where == ODP_E_PIN) {
		fill_other(r, pos, end, where);
		return;
	}
	for (; pos < end; pos = next) {
		struct odp_umem *um = odp_umem_first(r->mem, pos, end);

		if (um && um->it.start <= pos) {
			next = odp_min(um->it.last + 1, end);
			fill_pool(r, um, pos, next);
		} else {
			next = um ? um->it.start : end;
			fill_other(r, pos, next, where);
		}
	}
}

static void region_adopt(struct odp_region *r, struct odp_umem *um, uint64_t addr, uint64_t end)
{
	odp_entry_t e = ODP_E_POOL | odp_xlat_prot(um->prot);
	uint64_t off = um->off + (addr - um->it.start);

	for (; addr < end; addr += ODP_PAGE_SIZE, off += ODP_PAGE_SIZE) {
		_Atomic odp_entry_t *p = odp_xlat_entry(r->mem->proc->self, r->mr,
							(addr - r->it.start) >> ODP_PAGE_SHIFT);
		odp_entry_t old;

		if (!p)
			return; /* an implicit region's table is full */
		old = atomic_load_explicit(p, memory_order_relaxed);
		if ((old & ODP_E_WHERE) == ODP_E_POOL)
			continue;
		/* release: the frame was filled before. A thread that still goes by
		 * the owner's address space reaches the same bytes. */
		old = atomic_exchange_explicit(p, e | off, memory_order_release);
		if (old & ODP_E_VALID)
			atomic_fetch_sub_explicit(&r->mr->pages_valid, 1, memory_order_relaxed);
	}
}

void odp_xlat_adopt(struct odp_mem *m, uint64_t start, uint64_t end)
{
	struct odp_inode *n;

	for (n = odp_itree_first(&m->regions, start, end - 1); n;
	     n = odp_itree_next(&m->regions, n, start, end - 1)) {
		struct odp_region *r = (struct odp_region *)n;
		uint64_t pos = odp_max(start, n->start), lim = odp_min(end, n->last + 1), next;

		for (; r->kind == ODP_ON_DEMAND && pos < lim; pos = next) {
			struct odp_umem *um = odp_umem_find(m, pos);

			next = um ? odp_min(um->it.last + 1, lim) : lim;
			if (um)
				region_adopt(r, um, pos, next);
		}
	}
}
