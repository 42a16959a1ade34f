/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Invalidations of memory that stays where the program has it (ODP_E_VA). The data
 * needs none: the kernel's page tables decide at each access. But an MMU notifier would
 * have called a device, and what hangs on that is faults: their counters, their latency,
 * the ones that are made to fail, the pager.
 *
 * No userfaultfd tells of such memory, so those who see the calls do (the preloaded
 * provider), after the call: an access that comes in between finds the entry valid and
 * the page, if it is gone, missing (gone.c). With the gate shut, so that no access that
 * began before the call makes an entry valid after it (va_count()).
 *
 * Pages count as invalidated only if they were valid: the same change may be told of
 * twice, by a recall of the file too.
 */
#include <sys/sysmacros.h>

#include "base.h"
#include "domain.h"
#include "pool.h"

static struct odp_region *region_of(struct odp_inode *n)
{
	return (struct odp_region *)((char *)n - offsetof(struct odp_region, follow));
}

void odp_follow(struct odp_region *r)
{
	struct odp_mem *m = r->mem;

	if (r->followed)
		return;
	r->followed = true;
	r->follow.start = r->it.start;
	r->follow.last = r->it.last;
	odp_itree_insert(&m->follows, &r->follow);
	/* release: pairs with follows_any(). */
	atomic_fetch_add_explicit(&m->num_follows, 1, memory_order_release);
}

static void parted_forget(struct odp_region *r)
{
	struct odp_region **link = &r->mem->parted;

	while (r->parted && *link != r)
		link = &(*link)->parted_next;
	if (r->parted)
		*link = r->parted_next;
	r->parted = false;
}

void odp_unfollow(struct odp_region *r)
{
	parted_forget(r);
	if (!r->followed)
		return;
	r->followed = false;
	odp_itree_remove(&r->mem->follows, &r->follow);
	atomic_fetch_sub_explicit(&r->mem->num_follows, 1, memory_order_relaxed);
}

/* Does any region have such memory? A region that is being registered while its memory
 * changes may be of either side. */
static bool follows_any(const struct odp_mem *m)
{
	/* acquire: pairs with odp_follow(). */
	return atomic_load_explicit(&m->num_follows, memory_order_acquire);
}

bool odp_entry_forget(_Atomic odp_entry_t *p)
{
	odp_entry_t old = atomic_load_explicit(p, memory_order_relaxed);

	/* A page that is not a pool frame may become one at any time: see pool.h. */
	while ((old & ODP_E_WHERE) == ODP_E_VA && (old & ODP_E_VALID) && !(old & ODP_E_ORPHAN))
		if (atomic_compare_exchange_weak_explicit(
			    p, &old, old & ~(ODP_E_VALID | ODP_E_WRITE | ODP_E_FRESH),
			    memory_order_release, memory_order_relaxed))
			return true;
	return false;
}

void odp_forgotten(struct odp_mr_shm *mr, uint64_t n)
{
	atomic_fetch_add_explicit(&mr->page_invalidations, n, memory_order_relaxed);
	atomic_fetch_add_explicit(&mr->page_invalidations_handled, n, memory_order_relaxed);
	atomic_fetch_sub_explicit(&mr->pages_valid, n, memory_order_relaxed);
}

static void region_forget(struct odp_region *r, uint64_t start, uint64_t end)
{
	uint64_t page = (odp_max(start, r->it.start) - r->it.start) >> ODP_PAGE_SHIFT;
	uint64_t last = (odp_min(end - 1, r->it.last) - r->it.start) >> ODP_PAGE_SHIFT;
	_Atomic odp_entry_t *p;
	uint64_t n = 0;

	for (; (p = odp_region_entry(r, &page, last)); page++)
		n += odp_entry_forget(p);
	if (n)
		odp_forgotten(r->mr, n);
}

/* ---- pinned regions, whose pages stay while the program's change ---- */

static void parted_tell(struct odp_region *r)
{
	struct odp_mem *m = r->mem;

	if (!r->notify || r->parted)
		return;
	r->parted = true;
	r->parted_next = m->parted;
	m->parted = r;
	/* release: pairs with notices_pass(). */
	atomic_fetch_add_explicit(&m->proc->self->seg->notices, 1, memory_order_release);
	odp_bell_ring(m->proc->self);
}

void odp_region_part(struct odp_region *r, uint64_t start, uint64_t end)
{
	uint64_t page = (odp_max(start, r->it.start) - r->it.start) >> ODP_PAGE_SHIFT;
	uint64_t last = (odp_min(end - 1, r->it.last) - r->it.start) >> ODP_PAGE_SHIFT, n = 0;

	for (; page <= last; page++) {
		_Atomic odp_entry_t *p = &r->xlat[page];
		odp_entry_t old = atomic_load_explicit(p, memory_order_relaxed);

		/* In a loop: a recall by another process may give the page its orphan. */
		while (!(old & (ODP_E_PARTED | ODP_E_ORPHAN)))
			if (atomic_compare_exchange_weak_explicit(p, &old, old | ODP_E_PARTED,
								  memory_order_relaxed,
								  memory_order_relaxed)) {
				n++;
				break;
			}
	}
	if (!n)
		return;
	atomic_fetch_add_explicit(&r->mr->page_invalidations, n, memory_order_relaxed);
	parted_tell(r);
}

bool odp_parted_next(struct odp_mem *m, uint32_t *key, uint64_t *cookie)
{
	struct odp_region *r;

	odp_mem_lock(m);
	r = m->parted;
	if (r) {
		*key = r->key;
		*cookie = r->cookie;
		m->parted = r->parted_next;
		r->parted = false;
	}
	odp_mem_unlock(m);
	return r;
}

/* Discarded pages part from a pin where they were the mapping's own: those of a file, or
 * of shared memory, come back as they were. */
static void discarded_part(struct odp_region *r, uint64_t start, uint64_t end)
{
	struct odp_vma vma;

	for (uint64_t at = start; at < end && odp_vma_from(r->mem, at, end, &vma); at = vma.end)
		if (!vma.shared)
			odp_region_part(r, odp_max(at, vma.start), odp_min(end, vma.end));
}

static void region_change(struct odp_region *r, uint64_t start, uint64_t end,
			  enum odp_change change)
{
	if (r->kind == ODP_ON_DEMAND)
		region_forget(r, start, end);
	else if (change == ODP_CHANGE_REPLACED)
		odp_region_part(r, start, end);
	else if (change == ODP_CHANGE_DISCARDED)
		discarded_part(r, odp_max(start, r->it.start), odp_min(end, r->it.last + 1));
}

/* ---- ranges ---- */

static bool follows_overlap(struct odp_mem *m, uint64_t start, uint64_t end)
{
	bool any;

	odp_mem_lock(m);
	any = odp_itree_first(&m->follows, start, end - 1);
	odp_mem_unlock(m);
	return any;
}

static void range_change(struct odp_mem *m, uint64_t start, uint64_t end, enum odp_change change)
{
	struct odp_inode *n;

	odp_freeze(m->proc);
	/* A signal handler may call from inside a transfer of its own thread: then that
	 * one goes on as if it had ended before. */
	if (!odp_lane_inside())
		odp_fence(m->proc, false);
	odp_mem_lock(m);
	for (n = odp_itree_first(&m->follows, start, end - 1); n;
	     n = odp_itree_next(&m->follows, n, start, end - 1))
		region_change(region_of(n), start, end, change);
	odp_mem_unlock(m);
	odp_thaw(m->proc);
}

ODP_EXPORT void odp_range_changed(struct odp_proc *proc, const void *addr, size_t length,
				  enum odp_change change)
{
	uint64_t start = odp_page_down((uintptr_t)addr), end;
	struct odp_mem *m = proc->mem;

	if (!m || !length || !follows_any(m))
		return;
	if (__builtin_add_overflow((uintptr_t)addr, length, &end) ||
	    end > UINT64_MAX - ODP_PAGE_SIZE)
		end = UINT64_MAX - ODP_PAGE_SIZE;
	end = odp_page_up(end);
	if (start < end && follows_overlap(m, start, end))
		range_change(m, start, end, change);
}

/* ---- files ---- */

/* The first mapping from AT on that lies under such a region; false: there is none. */
static bool mapping_next(struct odp_mem *m, uint64_t at, struct odp_vma *vma)
{
	struct odp_inode *n;
	bool found = false;

	odp_mem_lock(m);
	while (!found && (n = odp_itree_first(&m->follows, at, UINT64_MAX))) {
		at = odp_max(at, n->start);
		found = odp_vma_from(m, at, n->last + 1, vma);
		/* Nothing is mapped up to there, whoever else may end before. */
		at = n->last + 1;
		if (!at)
			break;
	}
	odp_mem_unlock(m);
	return found;
}

/*
 * Of the same file? File systems with several roots (btrfs, overlayfs) show another
 * device for a mapping than for a descriptor: those that have none of their own are
 * told apart by the inode alone, at the price of a fault too many.
 */
static bool vma_maps(const struct odp_vma *vma, dev_t dev, ino_t ino)
{
	return vma->ino == ino && (vma->dev == dev || (!major(dev) && !major(vma->dev)));
}

ODP_EXPORT void odp_file_changed(struct odp_proc *proc, dev_t dev, ino_t ino, uint64_t start,
				 uint64_t end)
{
	struct odp_mem *m = proc->mem;
	struct odp_vma vma;

	if (!m || !follows_any(m))
		return;
	/* Whole pages go; of the others a part becomes zeros in place. */
	start = start > UINT64_MAX - ODP_PAGE_SIZE ? UINT64_MAX : odp_page_up(start);
	end = odp_page_down(end);
	for (uint64_t at = 0; mapping_next(m, at, &vma); at = vma.end) {
		uint64_t from = odp_max(start, vma.off);
		uint64_t to = odp_min(end, vma.off + (vma.end - vma.start));

		if (from < to && vma_maps(&vma, dev, ino))
			odp_range_changed(proc, (void *)(uintptr_t)(vma.start + (from - vma.off)),
					  to - from, ODP_CHANGE_REPLACED);
	}
}

ODP_EXPORT void odp_range_removed(struct odp_proc *proc, const void *addr, size_t length)
{
	uint64_t at = odp_page_down((uintptr_t)addr), end = (uintptr_t)addr + length;
	struct odp_mem *m = proc->mem;
	struct odp_vma vma;
	bool found = true;

	if (!m || !follows_any(m) || end < at)
		return;
	odp_range_changed(proc, addr, length, ODP_CHANGE_REPLACED);
	for (; at < end && found; at = vma.end) {
		odp_mem_lock(m);
		found = odp_vma_from(m, at, end, &vma);
		odp_mem_unlock(m);
		if (found && vma.ino)
			odp_file_changed(proc, vma.dev, vma.ino,
					 vma.off + (odp_max(at, vma.start) - vma.start),
					 vma.off + (odp_min(end, vma.end) - vma.start));
	}
}

static _Atomic bool changes_told;

ODP_EXPORT void odp_changes_told(void)
{
	/* relaxed: before anything is registered. */
	atomic_store_explicit(&changes_told, true, memory_order_relaxed);
}

bool odp_changes_are_told(void)
{
	return atomic_load_explicit(&changes_told, memory_order_relaxed);
}

ODP_EXPORT bool odp_follows(const struct odp_proc *proc)
{
	return proc->mem && follows_any(proc->mem);
}
