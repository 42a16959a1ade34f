/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* mprotect, of which userfaultfd tells nothing: its caller does. */
#include "base.h"
#include "domain.h"
#include "pool.h"

static void region_protect(struct odp_region *r, uint64_t start, uint64_t end, odp_entry_t deny)
{
	uint64_t page = (odp_max(start, r->it.start) - r->it.start) >> ODP_PAGE_SHIFT;
	uint64_t last = (odp_min(end - 1, r->it.last) - r->it.start) >> ODP_PAGE_SHIFT;
	_Atomic odp_entry_t *p;
	uint64_t valid = 0, gone = 0, n = 0;

	for (; (p = odp_region_entry(r, &page, last)); page++) {
		odp_entry_t old = atomic_load_explicit(p, memory_order_relaxed);

		if ((old & ODP_E_WHERE) == ODP_E_VA) {
			gone += odp_entry_forget(p); /* the kernel checks */
			continue;
		}
		if ((old & ODP_E_WHERE) != ODP_E_POOL || (old & ODP_E_ORPHAN))
			continue; /* nobody's */
		n++;
		valid += old & ODP_E_VALID ? 1 : 0;
		atomic_store_explicit(p, (old & (ODP_E_FRAME | ODP_E_WHERE)) | deny,
				      memory_order_release);
	}
	atomic_fetch_add_explicit(&r->mr->page_invalidations, n, memory_order_relaxed);
	atomic_fetch_add_explicit(&r->mr->page_invalidations_handled, valid, memory_order_relaxed);
	atomic_fetch_sub_explicit(&r->mr->pages_valid, valid, memory_order_relaxed);
	if (gone)
		odp_forgotten(r->mr, gone);
}

/* [start, end), of one mapping, has the rights PROT now. */
static int part_protect(struct odp_mem *m, uint64_t start, uint64_t end, uint32_t prot)
{
	struct odp_inode *n;

	if (odp_umem_split(m, start) || odp_umem_split(m, end))
		return -ENOMEM;
	for (n = odp_itree_first(&m->umems, start, end - 1); n;
	     n = odp_itree_next(&m->umems, n, start, end - 1))
		((struct odp_umem *)n)->prot = prot;
	for (n = odp_itree_first(&m->regions, start, end - 1); n;
	     n = odp_itree_next(&m->regions, n, start, end - 1)) {
		struct odp_region *r = (struct odp_region *)n;

		if (r->kind == ODP_ON_DEMAND)
			region_protect(r, start, end, odp_xlat_prot(prot));
	}
	return 0;
}

/*
 * What the mappings allow now, which the kernel is asked for with the lock held: of two
 * threads that have changed the same pages, the one that comes here last need not be the
 * one whose mprotect() was last.
 */
static int umems_protect(struct odp_mem *m, uint64_t start, uint64_t end)
{
	struct odp_vma vma;
	int ret = 0;

	for (; !ret && start < end && odp_vma_from(m, start, end, &vma); start = vma.end)
		ret = part_protect(m, odp_max(start, vma.start), odp_min(end, vma.end), vma.prot);
	return ret;
}

/* Does any of it concern us? */
static bool range_ours(struct odp_mem *m, uint64_t start, uint64_t end)
{
	bool ours;

	odp_mem_lock(m);
	ours = odp_umem_first(m, start, end) || odp_itree_first(&m->regions, start, end - 1);
	odp_mem_unlock(m);
	return ours;
}

ODP_EXPORT int odp_protect(struct odp_proc *proc, void *addr, size_t length, int prot)
{
	struct odp_mem *m = proc->mem;
	uint64_t start = odp_page_down((uintptr_t)addr), end;
	int ret;

	(void)prot; /* what holds is asked for */
	if (__builtin_add_overflow((uintptr_t)addr, length, &end))
		return -EINVAL;
	end = odp_page_up(end);
	/* Other memory's mprotect() stops no transfer. */
	if (end <= start || !range_ours(m, start, end))
		return 0;
	ret = odp_umem_reserve(m, 2);
	if (ret)
		return ret;
	odp_freeze(proc);
	/* A transfer that is stopped inside goes on with the rights it had, once. */
	odp_fence(proc, false);
	odp_mem_lock(m);
	ret = umems_protect(m, start, end);
	odp_mem_unlock(m);
	odp_thaw(proc);
	return ret;
}

ODP_EXPORT size_t odp_range_moved(struct odp_proc *proc, const void *addr, size_t length,
				  bool *moved)
{
	struct odp_mem *m = proc->mem;
	uint64_t start = (uintptr_t)addr, end;
	struct odp_umem *um;

	if (!length || __builtin_add_overflow(start, length, &end))
		end = UINT64_MAX;
	/* Records of what was unmapped before this call must be gone. */
	odp_uffd_acted(m);
	odp_mem_lock(m);
	um = odp_umem_first(m, start, end);
	*moved = um && um->it.start <= start;
	if (um)
		end = odp_min(end, *moved ? um->it.last + 1 : um->it.start);
	odp_mem_unlock(m);
	return end - start;
}
