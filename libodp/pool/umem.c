/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Records of converted ranges. The service thread splits and drops them when the
 * program unmaps or moves parts; what it needs for that is put by beforehand.
 */
#include "base.h"
#include "pool.h"

/*
 * What the events of one read may need at most, and more: 32 messages, of which each cuts
 * two records at two places (mremap onto others). The reserve is filled up before the
 * gate is shut and after it is open again, never between.
 */
#define SPARE_LOW 256u
#define SPARE_CHUNK 512u /* nodes that the service thread maps at once */

static void spare_push(struct odp_mem *m, struct odp_umem *um)
{
	um->next = m->spare;
	m->spare = um;
	m->nspare++;
}

int odp_umem_reserve(struct odp_mem *m, unsigned n)
{
	unsigned have;

	odp_mem_lock(m);
	have = m->nspare;
	odp_mem_unlock(m);
	for (; have < n + SPARE_LOW; have++) {
		struct odp_umem *um = odp_priv_alloc(sizeof(*um));

		if (!um)
			return have >= n ? 0 : -ENOMEM;
		odp_mem_lock(m);
		spare_push(m, um);
		odp_mem_unlock(m);
	}
	return 0;
}

/* A program that punches thousands of mappings between two registrations uses
 * the reserve up; a plain mmap waits for nobody. */
void odp_umem_refill(struct odp_mem *m)
{
	unsigned have;
	long p;

	pthread_mutex_lock(&m->mem_lock);
	have = m->nspare;
	pthread_mutex_unlock(&m->mem_lock);
	if (odp_likely(have >= SPARE_LOW))
		return;
	p = odp_sys_mmap(0, SPARE_CHUNK * sizeof(struct odp_umem), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p < 0 && p > -4096)
		return; /* the next one may; without any, records are lost (odp_umem_cut()) */
	/* Touched by being linked: not later, in an invalidation. */
	pthread_mutex_lock(&m->mem_lock);
	for (unsigned i = 0; i < SPARE_CHUNK; i++)
		spare_push(m, (struct odp_umem *)p + i);
	pthread_mutex_unlock(&m->mem_lock);
}

static struct odp_umem *spare_pop(struct odp_mem *m)
{
	struct odp_umem *um = m->spare;

	if (um) {
		m->spare = um->next;
		m->nspare--;
	}
	return um;
}

struct odp_umem *odp_umem_first(struct odp_mem *m, uint64_t start, uint64_t end)
{
	return (struct odp_umem *)odp_itree_first(&m->umems, start, end - 1);
}

struct odp_umem *odp_umem_find(struct odp_mem *m, uint64_t addr)
{
	return (struct odp_umem *)odp_itree_first(&m->umems, addr, addr);
}

bool odp_umem_covers(struct odp_mem *m, uint64_t start, uint64_t end)
{
	while (start < end) {
		struct odp_umem *um = odp_umem_find(m, start);

		if (!um)
			return false;
		start = um->it.last + 1;
	}
	return true;
}

static struct odp_umem *umem_new(struct odp_mem *m, uint64_t start, uint64_t last, uint64_t off,
				 struct odp_extent *ext, uint32_t prot)
{
	struct odp_umem *um = spare_pop(m);

	if (!um)
		return NULL;
	um->it.start = start;
	um->it.last = last;
	um->off = off;
	um->ext = ext;
	um->prot = prot;
	um->said = 0;
	odp_itree_insert(&m->umems, &um->it);
	m->numems++;
	m->moved = true;
	return um;
}

int odp_umem_add(struct odp_mem *m, uint64_t start, uint64_t len, uint64_t off,
		 struct odp_extent *ext, uint32_t prot)
{
	struct odp_umem *um = start ? odp_umem_find(m, start - 1) : NULL;

	if (um && um->ext == ext && um->prot == prot && um->off + (start - um->it.start) == off)
		odp_itree_resize(&m->umems, &um->it, um->it.start, start + len - 1);
	else if (!umem_new(m, start, start + len - 1, off, ext, prot))
		return -ENOMEM;
	odp_frames_get(m, ext, off, len >> ODP_PAGE_SHIFT);
	odp_xlat_adopt(m, start, start + len);
	return 0;
}

/* libodp's own view of the pool. */
static bool is_window(struct odp_mem *m, const struct odp_vma *vma)
{
	char *win = atomic_load_explicit(&m->proc->self->windows[vma->off >> ODP_WINDOW_SHIFT],
					 memory_order_relaxed);

	return win && (uintptr_t)win + (vma->off & ODP_WINDOW_MASK) == vma->start;
}

bool odp_umem_look(struct odp_mem *m, uint64_t addr, struct odp_vma *vma)
{
	return odp_vma_at(m, addr, vma) && vma->kind == ODP_VMA_POOL && !is_window(m, vma);
}

/* A region's spare frames are no mapping's to grow into, nor what is dead: it is about to
 * be freed. */
struct odp_extent *odp_extent_vacant(struct odp_mem *m, uint64_t off)
{
	struct odp_extent *ext = off < ODP_POOL_SIZE ? odp_extent_find(m, off) : NULL;

	return ext && ext->live && ext->guarded && !m->refs[off >> ODP_PAGE_SHIFT] ? ext : NULL;
}

/*
 * Only offsets that nobody holds: a mapping that shrank and grows again, or of
 * which a part was moved and grows there, comes upon frames that are another
 * address's or a pinned region's. What it must see there is new memory. The
 * kernel is asked with the lock held: if the mapping goes now, its event comes
 * after the record.
 */
struct odp_umem *odp_umem_extend(struct odp_mem *m, uint64_t addr)
{
	uint64_t start = odp_page_down(addr), end = start + ODP_PAGE_SIZE, off;
	struct odp_extent *ext;
	struct odp_vma vma;

	if (!odp_umem_look(m, start, &vma))
		return NULL;
	off = vma.off + (start - vma.start);
	ext = odp_extent_vacant(m, off);
	if (!ext)
		return NULL;
	/* The pages before it, too: those without a holder have no record either. */
	while (start > vma.start && odp_extent_vacant(m, off - ODP_PAGE_SIZE) == ext) {
		start -= ODP_PAGE_SIZE;
		off -= ODP_PAGE_SIZE;
	}
	if (odp_umem_add(m, start, end - start, off, ext, vma.prot))
		return NULL;
	return odp_umem_find(m, addr);
}

/* UM loses what lies below AT. */
static void umem_begin_at(struct odp_mem *m, struct odp_umem *um, uint64_t at)
{
	um->off += at - um->it.start;
	odp_itree_resize(&m->umems, &um->it, at, um->it.last);
}

int odp_umem_split(struct odp_mem *m, uint64_t at)
{
	struct odp_umem *um = odp_umem_find(m, at);
	struct odp_umem *upper;
	uint64_t last;

	if (!um || um->it.start == at)
		return 0;
	last = um->it.last;
	upper = umem_new(m, at, last, um->off + (at - um->it.start), um->ext, um->prot);
	if (!upper)
		return -ENOMEM;
	upper->said = um->said;
	/* For a moment both cover AT: the lock keeps others from seeing it. */
	odp_itree_resize(&m->umems, &um->it, um->it.start, at - 1);
	return 0;
}

void odp_umem_cut(struct odp_mem *m, struct odp_umem *um, uint64_t start, uint64_t end)
{
	bool below = um->it.start < start, above = um->it.last >= end;

	if (below && above && odp_umem_split(m, end)) {
		odp_log(ODP_LOG_ERR,
			"out of memory for records: %#lx-%#lx keeps its pages for good, and is no "
			"longer followed",
			(long)end, (long)um->it.last + 1);
		above = false;
	} else if (below && above) {
		above = false; /* it has a record of its own */
	}
	if (below)
		odp_itree_resize(&m->umems, &um->it, um->it.start, start - 1);
	else if (above)
		umem_begin_at(m, um, end);
	else
		odp_umem_remove(m, um);
}

void odp_umem_remove(struct odp_mem *m, struct odp_umem *um)
{
	odp_itree_remove(&m->umems, &um->it);
	m->numems--;
	spare_push(m, um);
}
