/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Where a pinned region and its addresses part. On hardware the pinned page stays the
 * device's, and the program gets a new one. So here: the frame stays the region's, and
 * the address is given another frame of the pool, the region's spare for that page, which
 * is a hole until somebody touches it. remap_file_pages() does that for a run of pages at
 * once: no byte is copied and no page allocated, however large the region is.
 *
 * Only where the kernel refuses it (the limit of mappings), and where the program has
 * given advice that a new mapping would undo (said.c), is it done the other
 * way round: the region goes on with a copy in its spare, and the address keeps the frame.
 */
#include "base.h"
#include "peer.h"
#include "pool.h"

/* Copy frame FROM to the spare TO, both through our own view, of which the windows have
 * been mapped at registration. */
static void frame_copy(struct odp_mem *m, uint64_t from, uint64_t to)
{
	void *src = odp_pool_ptr(m->proc->self, from, ODP_PAGE_SIZE);
	void *dst = odp_pool_ptr(m->proc->self, to, ODP_PAGE_SIZE);

	if (src && dst)
		odp_sys_copy(dst, src, ODP_PAGE_SIZE);
	else
		odp_log(ODP_LOG_ERR, "a pinned page's content is lost: no window on the pool");
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

		if (r->kind != ODP_PINNED || !r->xlat || !r->spares)
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

void odp_frames_orphan(struct odp_mem *m, uint64_t addr, uint64_t end, uint64_t off, bool fenced)
{
	for (; addr < end; addr += ODP_PAGE_SIZE, off += ODP_PAGE_SIZE)
		if (m->refs[off >> ODP_PAGE_SHIFT] > 1)
			frame_orphan(m, addr, off, fenced);
}

/* A pinned region whose page at ADDR is the frame OFF; NULL: none. */
static struct odp_region *pinned_at(struct odp_mem *m, uint64_t addr, uint64_t off)
{
	struct odp_inode *n;

	for (n = odp_itree_first(&m->regions, addr, addr); n;
	     n = odp_itree_next(&m->regions, n, addr, addr)) {
		struct odp_region *r = (struct odp_region *)n;
		odp_entry_t e;

		if (r->kind != ODP_PINNED || !r->xlat || !r->spares)
			continue;
		e = atomic_load_explicit(&r->xlat[(addr - n->start) >> ODP_PAGE_SHIFT],
					 memory_order_relaxed);
		if ((e & ODP_E_WHERE) == ODP_E_POOL && (e & ODP_E_FRAME) == off)
			return r;
	}
	return NULL;
}

uint64_t odp_frames_shared_from(struct odp_mem *m, uint64_t addr, uint64_t end, uint64_t off)
{
	for (; addr < end && m->refs[off >> ODP_PAGE_SHIFT] <= 1; off += ODP_PAGE_SIZE)
		addr += ODP_PAGE_SIZE;
	return addr;
}

/* Up to where R, from ADDR on, has the frames from OFF on pinned, and its spares from TO
 * on unused. */
static uint64_t run_end(struct odp_region *r, uint64_t addr, uint64_t end, uint64_t off,
			uint64_t to)
{
	const uint32_t *refs = r->mem->refs;
	uint64_t last = odp_min(end, r->it.last + 1);
	odp_entry_t e;

	for (; addr < last; addr += ODP_PAGE_SIZE, off += ODP_PAGE_SIZE, to += ODP_PAGE_SIZE) {
		e = atomic_load_explicit(&r->xlat[(addr - r->it.start) >> ODP_PAGE_SHIFT],
					 memory_order_relaxed);
		if ((e & ODP_E_WHERE) != ODP_E_POOL || (e & ODP_E_FRAME) != off ||
		    refs[off >> ODP_PAGE_SHIFT] < 2 || refs[to >> ODP_PAGE_SHIFT])
			break;
	}
	return addr;
}

/* The program's mapping of [addr, end), which has the frames from OFF on, gets those
 * from TO on. Who unmaps it now waits for an event that is read after this. */
static bool run_remap(struct odp_mem *m, uint64_t addr, uint64_t end, uint64_t off, uint64_t to)
{
	struct odp_vma vma;

	if (odp_said_kept() || !odp_umem_look(m, addr, &vma) || vma.end < end ||
	    vma.off + (addr - vma.start) != off ||
	    odp_sys6(SYS_remap_file_pages, (long)addr, (long)(end - addr), 0,
		     (long)(to >> ODP_PAGE_SHIFT), MAP_NONBLOCK, 0))
		return false;
	odp_sys_madvise(addr, end - addr, MADV_DONTFORK);
	if (odp_uffd_watch(m, addr, end - addr))
		odp_log(ODP_LOG_ERR,
			"%#lx-%#lx can no longer be followed: userfaultfd refuses it (limits of "
			"memory?)",
			(long)addr, (long)end);
	return true;
}

/* On-demand regions follow the address to its new frames; they have no valid page there. */
static void regions_reframe(struct odp_mem *m, uint64_t start, uint64_t end, uint64_t to)
{
	struct odp_inode *n;

	for (n = odp_itree_first(&m->regions, start, end - 1); n;
	     n = odp_itree_next(&m->regions, n, start, end - 1)) {
		struct odp_region *r = (struct odp_region *)n;
		uint64_t page = (odp_max(start, n->start) - n->start) >> ODP_PAGE_SHIFT;
		uint64_t last = (odp_min(end - 1, n->last) - n->start) >> ODP_PAGE_SHIFT;
		_Atomic odp_entry_t *p;

		if (r->kind != ODP_ON_DEMAND)
			continue;
		for (; (p = odp_region_entry(r, &page, last)); page++) {
			odp_entry_t e = atomic_load_explicit(p, memory_order_relaxed);
			uint64_t at = n->start + (page << ODP_PAGE_SHIFT) - start;

			if ((e & ODP_E_WHERE) == ODP_E_POOL && !(e & ODP_E_ORPHAN))
				/* release: as any change of an entry, with the gate shut. */
				atomic_store_explicit(p, (e & ~ODP_E_FRAME) | (to + at),
						      memory_order_release);
		}
	}
}

uint64_t odp_frames_part(struct odp_mem *m, struct odp_umem *um, uint64_t addr, uint64_t end,
			 bool fenced)
{
	uint64_t off = um->off + (addr - um->it.start), to;
	uint32_t prot = um->prot, said = um->said;
	struct odp_region *r;

	if (m->refs[off >> ODP_PAGE_SHIFT] <= 1)
		return addr;
	r = pinned_at(m, addr, off);
	to = r ? r->spares->it.start + (addr - r->it.start) : 0;
	end = r ? run_end(r, addr, end, off, to) : addr;
	/* Records for both ends and for what is between. */
	if (end > addr && m->nspare >= 3 && run_remap(m, addr, end, off, to)) {
		odp_umem_cut(m, um, addr, end);
		odp_frames_put(m, off, (end - addr) >> ODP_PAGE_SHIFT, fenced);
		odp_umem_add(m, addr, end - addr, to, r->spares, prot);
		odp_umem_find(m, addr)->said |= said; /* of a fork, which is our own */
		regions_reframe(m, addr, end, to);
		return end;
	}
	odp_frames_orphan(m, addr, addr + ODP_PAGE_SIZE, off, fenced);
	odp_pool_punch(m, off, ODP_PAGE_SIZE);
	return addr + ODP_PAGE_SIZE;
}
