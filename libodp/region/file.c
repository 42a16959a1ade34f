/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The owner's side of files whose blocks may be taken back: a record in the
 * segment for each part of a region that maps such a file, and a second mapping of
 * it for regions that must not follow the program's.
 *
 * Invariant: a region's key is not published before every record of it is KNOWN,
 * so whoever takes blocks away finds all regions that could reach them. It is
 * ended (its key cleared, all lanes fenced) before its records are GONE, so
 * whoever waits for them may go on then.
 */
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "domain.h"
#include "local.h"
#include "pool.h"
#include "region.h"

static unsigned watches_high(struct odp_proc *proc)
{
	/* relaxed: one that comes now may as well come later. */
	uint32_t high = atomic_load_explicit(&proc->domain->watches_high, memory_order_relaxed);

	return high < ODP_MAX_WATCHES ? high : ODP_MAX_WATCHES;
}

struct odp_watch_shm *odp_file_watch(struct odp_proc *proc, uint64_t dev, uint64_t ino)
{
	for (unsigned i = 0; ino && i < watches_high(proc); i++) {
		struct odp_watch_shm *w = &proc->domain->watches[i];

		if (atomic_load_explicit(&w->serial, memory_order_acquire) && w->dev == dev &&
		    (!w->ino || w->ino == ino) && odp_watch_alive(proc, i))
			return w;
	}
	return NULL;
}

static bool watches_any(struct odp_proc *proc)
{
	for (unsigned i = 0; i < watches_high(proc); i++)
		if (atomic_load_explicit(&proc->domain->watches[i].serial, memory_order_relaxed))
			return true;
	return false;
}

struct odp_part *odp_part_find(const struct odp_region *r, uint64_t addr)
{
	for (unsigned i = 0; i < r->nparts; i++)
		if (addr >= r->parts[i].start && addr < r->parts[i].end)
			return r->parts[i].watch ? &r->parts[i] : NULL;
	return NULL;
}

/* ---- which files lie under a region (conv_lock) ---- */

static enum odp_policy stricter(enum odp_policy a, enum odp_policy b)
{
	return a > b ? a : b;
}

/* False: no file that anybody watches, nor one that a policy was named for. */
static bool part_look(struct odp_region *r, const struct odp_vma *vma, struct odp_part *part)
{
	struct odp_watch_shm *w;
	enum odp_policy named = stricter(r->policy, odp_policy_env());

	if (vma->kind != ODP_VMA_OTHER || !vma->ino)
		return false;
	w = odp_file_watch(r->mem->proc, vma->dev, vma->ino);
	if (w)
		named = stricter(named, (enum odp_policy)w->policy);
	part->named = named;
	part->policy = named ? named : r->kind == ODP_PINNED ? ODP_POLICY_PINNED : ODP_POLICY_ODP;
	part->watch = w ? atomic_load_explicit(&w->serial, memory_order_relaxed) : 0;
	part->watch_nr = w ? (uint32_t)(w - r->mem->proc->domain->watches) : 0;
	part->dev = vma->dev;
	part->ino = vma->ino;
	part->shared = vma->shared;
	part->map_start = vma->start;
	part->map_end = vma->end;
	part->index = ODP_MAX_FILES;
	return w || named;
}

/* The parts of R, the first MAX of them into PARTS: how many there are. */
static unsigned parts_survey(struct odp_region *r, struct odp_part *parts, unsigned max)
{
	uint64_t at = r->it.start, end = r->it.last + 1;
	struct odp_part part;
	struct odp_vma vma;
	unsigned n = 0;

	memset(&part, 0, sizeof(part));
	for (; at < end && odp_vma_next(r->mem, at, end, &vma); at = vma.end) {
		part.start = odp_max(at, vma.start);
		part.end = odp_min(end, vma.end);
		part.off = vma.off + (part.start - vma.start);
		if (!part_look(r, &vma, &part))
			continue;
		if (n < max)
			parts[n] = part;
		n++;
	}
	return n;
}

static bool in_pool(struct odp_region *r)
{
	bool covered;

	odp_mem_lock(r->mem);
	covered = odp_umem_covers(r->mem, r->it.start, r->it.last + 1);
	odp_mem_unlock(r->mem);
	return covered;
}

static int parts_get(struct odp_region *r)
{
	unsigned n;

	if (!r->policy && !odp_policy_env() && !watches_any(r->mem->proc))
		return 0;
	n = parts_survey(r, NULL, 0);
	if (!n)
		return 0;
	r->parts = odp_priv_alloc(n * sizeof(*r->parts));
	if (!r->parts)
		return -ENOMEM;
	r->nparts = n;
	return parts_survey(r, r->parts, n) == n ? 0 : -ESTALE;
}

bool odp_files_same(struct odp_region *r)
{
	uint64_t at;
	unsigned i;

	for (i = 0; i < r->nparts; i++) {
		const struct odp_part *p = &r->parts[i];
		struct odp_vma vma;

		for (at = p->start; at < p->end; at = vma.end)
			if (!odp_vma_next(r->mem, at, p->end, &vma) || vma.start > at ||
			    vma.dev != p->dev || vma.ino != p->ino ||
			    vma.off + (at - vma.start) != p->off + (at - p->start))
				return false;
	}
	return true;
}

/* ---- files that nobody else watches ---- */

static int locals_get(struct odp_region *r)
{
	int ret = 0;

	for (unsigned i = 0; i < r->nparts && !ret; i++)
		if (!r->parts[i].watch && !odp_part_natural(r, &r->parts[i]))
			ret = odp_local_get(r->mem, &r->parts[i]);
	return ret;
}

/* A watch that ended meanwhile may have a follower, or the file be watched here. */
static int watches_kept(const struct odp_region *r)
{
	for (unsigned i = 0; i < r->nparts; i++) {
		const struct odp_part *p = &r->parts[i];

		if (p->lost || (p->local && odp_local_lost(p->local) != p->local_lost) ||
		    (p->watch && !odp_part_watch(r, p)))
			return -ESTALE;
	}
	return 0;
}

/* ---- frames that take the place of pages ---- */

static int spares_fill(struct odp_region *r, const struct odp_part *p)
{
	struct odp_peer *self = r->mem->proc->self;
	uint64_t base = r->spares->it.start;

	if (p->policy == ODP_POLICY_SCRATCH)
		return odp_pool_populate(self, base + (r->npages << ODP_PAGE_SHIFT), ODP_PAGE_SIZE);
	if (p->policy != ODP_POLICY_PINNED)
		return 0;
	return odp_pool_populate(self, base + (p->start - r->it.start), p->end - p->start);
}

/* One a page, and one for scratch, of which whoever takes blocks away makes use:
 * it could get none then. */
static int spares_get(struct odp_region *r)
{
	bool want = false;
	int ret = 0;

	for (unsigned i = 0; i < r->nparts; i++)
		want |= r->parts[i].watch && (r->parts[i].policy == ODP_POLICY_PINNED ||
					      r->parts[i].policy == ODP_POLICY_SCRATCH);
	if (!want)
		return 0;
	if (!r->spares) {
		r->spares = odp_extent_create(r->mem, (r->npages + 1) << ODP_PAGE_SHIFT, false);
		if (!r->spares)
			return -ENOMEM;
		odp_mem_lock(r->mem);
		odp_extent_hold(r->spares);
		r->spares->suspect = true; /* its frames have no counts */
		odp_mem_unlock(r->mem);
	}
	for (unsigned i = 0; i < r->nparts && !ret; i++)
		ret = spares_fill(r, &r->parts[i]);
	return ret ? -ENOMEM : 0;
}

static void policy_show(struct odp_region *r)
{
	enum odp_policy most = ODP_POLICY_DEFAULT;

	for (unsigned i = 0; i < r->nparts; i++)
		if (r->parts[i].watch)
			most = stricter(most, r->parts[i].policy);
	/* relaxed: before the key. */
	atomic_fetch_and_explicit(&r->mr->flags, (1u << ODP_MR_POLICY) - 1, memory_order_relaxed);
	atomic_fetch_or_explicit(&r->mr->flags, (uint8_t)(most << ODP_MR_POLICY),
				 memory_order_relaxed);
}

int odp_files_ask(struct odp_region *r)
{
	struct odp_watch_shm *w;
	unsigned i;
	bool pool;
	int ret;

	pthread_mutex_lock(&r->mem->conv_lock);
	pool = !r->xlat || in_pool(r);
	ret = pool ? 0 : parts_get(r);
	pthread_mutex_unlock(&r->mem->conv_lock);
	if (!ret && !pool)
		ret = odp_files_elsewhere(r);
	if (!ret)
		ret = locals_get(r);
	if (!ret)
		ret = spares_get(r);
	for (i = 0; i < r->nparts && !ret; i++) {
		if (!r->parts[i].watch)
			continue;
		if (r->parts[i].watch != ODP_WATCH_LOCAL)
			odp_files_follow(r, &r->parts[i]);
		w = odp_part_watch(r, &r->parts[i]);
		if (w)
			ret = odp_record_ask(r, &r->parts[i], w);
		else
			odp_part_unwatch(r, &r->parts[i]);
	}
	for (i = 0; i < r->nparts && !ret; i++)
		if (r->parts[i].watch)
			ret = odp_record_wait(r, &r->parts[i]);
	if (!ret)
		ret = watches_kept(r);
	if (!ret) {
		policy_show(r);
		odp_files_need(r);
	}
	return ret;
}

bool odp_files_lost(struct odp_region *r)
{
	/* seq_cst: the key before the watches; see unwatched.c. */
	atomic_thread_fence(memory_order_seq_cst);
	return watches_kept(r);
}

void odp_files_drop(struct odp_region *r)
{
	/* First: an munmap of a file on FUSE may have to wait for the end of the very
	 * truncate that waits for a lease to end. */
	for (unsigned i = 0; i < r->nparts; i++) {
		odp_record_drop(r->mem, &r->parts[i]);
		if (r->parts[i].local)
			odp_local_put(r->parts[i].local);
	}
	odp_shadow_unmap(r);
	if (r->parts)
		odp_priv_free(r->parts, r->nparts * sizeof(*r->parts));
	r->parts = NULL;
	r->nparts = 0;
}
