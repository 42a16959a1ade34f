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
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base.h"
#include "domain.h"
#include "local.h"
#include "pool.h"
#include "region.h"

#define WAIT_NS 20000000u
#define WAIT_LIMIT_NS 10000000000ull

static struct odp_file_shm *record(struct odp_mem *m, uint32_t index)
{
	return &m->proc->self->seg->files[index];
}

/* NULL: it has ended. */
static struct odp_watch_shm *watch_find(struct odp_proc *proc, uint32_t nr, uint32_t serial)
{
	if (serial == ODP_WATCH_LOCAL)
		return odp_local_shm(proc->mem);
	return serial && odp_watch_is(proc, nr, serial) ? &proc->domain->watches[nr] : NULL;
}

static struct odp_watch_shm *part_watch(const struct odp_region *r, const struct odp_part *p)
{
	return watch_find(r->mem->proc, p->watch_nr, p->watch);
}

static struct odp_watch_shm *watch_of(struct odp_proc *proc, uint64_t dev, uint64_t ino)
{
	for (unsigned i = 0; ino && i < ODP_MAX_WATCHES; i++) {
		struct odp_watch_shm *w = &proc->domain->watches[i];

		if (atomic_load_explicit(&w->serial, memory_order_acquire) && w->dev == dev &&
		    (!w->ino || w->ino == ino) && odp_watch_alive(proc, i))
			return w;
	}
	return NULL;
}

static bool watches_any(struct odp_proc *proc)
{
	for (unsigned i = 0; i < ODP_MAX_WATCHES; i++)
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
	w = watch_of(r->mem->proc, vma->dev, vma->ino);
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

	if (!r->xlat || in_pool(r))
		return 0;
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

/* Pinned pages are pinned, and the kernel's page tables follow the file. */
static bool part_natural(const struct odp_region *r, const struct odp_part *p)
{
	return p->policy == (r->kind == ODP_PINNED ? ODP_POLICY_PINNED : ODP_POLICY_ODP);
}

static int locals_get(struct odp_region *r)
{
	int ret = 0;

	for (unsigned i = 0; i < r->nparts && !ret; i++)
		if (!r->parts[i].watch && !part_natural(r, &r->parts[i]))
			ret = odp_local_get(r->mem, &r->parts[i]);
	return ret;
}

/* A watch that ended meanwhile may have a follower, or the file be watched here. */
static int watches_kept(const struct odp_region *r)
{
	for (unsigned i = 0; i < r->nparts; i++) {
		const struct odp_part *p = &r->parts[i];

		if (p->lost || (p->local && odp_local_lost(p->local) != p->local_lost) ||
		    (p->watch && !part_watch(r, p)))
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

/* ---- records ---- */

static void announce(struct odp_mem *m, uint32_t index, struct odp_watch_shm *w)
{
	struct odp_seg *seg = m->proc->self->seg;
	unsigned nr = m->proc->self->nr;
	uint32_t head = atomic_load_explicit(&seg->files_head, memory_order_relaxed);

	atomic_store_explicit(&seg->files_ring[head % ODP_MAX_FILES], index, memory_order_relaxed);
	/* release: pairs with the acquire load in watch.c; mem_lock makes it one at a time. */
	atomic_store_explicit(&seg->files_head, head + 1, memory_order_release);
	/* seq_cst: the news before the bell; the watch reads them the other way round. */
	atomic_fetch_or_explicit(&w->news[nr / 64], 1ull << nr % 64, memory_order_seq_cst);
	atomic_fetch_add_explicit(&w->bell, 1, memory_order_seq_cst);
	odp_sys6(SYS_futex, (long)&w->bell, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

static bool record_usable(struct odp_mem *m, uint32_t index)
{
	struct odp_file_shm *f = record(m, index);
	/* acquire: pairs with the release store of the watch that forgot it. */
	uint32_t state = atomic_load_explicit(&f->state, memory_order_acquire);

	return state == ODP_FILE_FREE ||
	       (state == ODP_FILE_GONE && !watch_find(m->proc, f->watch_nr, f->watch));
}

/* mem_lock */
static uint32_t record_find(struct odp_mem *m)
{
	struct odp_seg *seg = m->proc->self->seg;
	uint32_t high = atomic_load_explicit(&seg->files_high, memory_order_relaxed), i;

	for (uint32_t n = 0; n < high; n++) {
		i = (m->file_next + n) % high;
		if (record_usable(m, i)) {
			m->file_next = i + 1;
			return i;
		}
		if (n >= 64 && high < ODP_MAX_FILES)
			break; /* growing is cheaper than looking on */
	}
	if (high == ODP_MAX_FILES)
		return ODP_MAX_FILES;
	atomic_store_explicit(&seg->files_high, high + 1, memory_order_release);
	return high;
}

static uint32_t part_lease(const struct odp_region *r, const struct odp_part *p)
{
	uint32_t ms = r->lease_ms ? r->lease_ms : odp_lease_env(), cap = 0;

	/* The kernel holds others up for no longer. */
	if (p->local)
		cap = odp_local_lease_cap(p->local);
	return cap && (!ms || ms > cap) ? cap : ms;
}

static int record_ask(struct odp_region *r, struct odp_part *p, struct odp_watch_shm *w)
{
	struct odp_mem *m = r->mem;
	struct odp_file_shm *f;

	odp_mem_lock(m);
	p->index = record_find(m);
	if (p->index == ODP_MAX_FILES) {
		odp_mem_unlock(m);
		odp_log(ODP_LOG_ERR, "more than %u parts of watched files are registered",
			ODP_MAX_FILES);
		return -ENOMEM;
	}
	f = record(m, p->index);
	f->error = 0;
	/* relaxed: whoever reads an announcement of its last use may still look. */
	__atomic_store_n(&f->watch, p->watch, __ATOMIC_RELAXED);
	f->watch_nr = p->watch_nr;
	f->ended = 0;
	f->key = r->key;
	f->cookie = r->cookie;
	f->notify = r->notify;
	f->ino = p->watch == ODP_WATCH_LOCAL ? odp_local_id(p->local) : p->ino;
	f->start = p->off;
	f->npages = (p->end - p->start) >> ODP_PAGE_SHIFT;
	f->page = (p->start - r->it.start) >> ODP_PAGE_SHIFT;
	f->spare = r->spares ? r->spares->it.start : 0;
	if (p->policy == ODP_POLICY_SCRATCH)
		f->spare += r->npages << ODP_PAGE_SHIFT;
	f->lease_ms = part_lease(r, p);
	f->policy = (uint8_t)p->policy;
	atomic_store_explicit(&f->notice, 0, memory_order_relaxed);
	/* release: the record is complete. */
	atomic_store_explicit(&f->state, ODP_FILE_ASKED, memory_order_release);
	announce(m, p->index, w);
	odp_mem_unlock(m);
	return 0;
}

static void record_drop(struct odp_mem *m, struct odp_part *p)
{
	struct odp_watch_shm *w;

	if (p->index == ODP_MAX_FILES)
		return;
	odp_mem_lock(m);
	w = watch_find(m->proc, p->watch_nr, p->watch);
	/* release: the region ended before. */
	atomic_store_explicit(&record(m, p->index)->state, w ? ODP_FILE_GONE : ODP_FILE_FREE,
			      memory_order_release);
	if (w)
		announce(m, p->index, w);
	odp_mem_unlock(m);
	p->index = ODP_MAX_FILES;
}

/* Its watch has ended. */
static void part_unwatch(struct odp_region *r, struct odp_part *p)
{
	record_drop(r->mem, p);
	p->watch = 0;
	p->lost = !part_natural(r, p);
}

/* Until the watch knows of it; 0 with P's watch cleared if that has ended. */
static int record_wait(struct odp_region *r, struct odp_part *p)
{
	const struct timespec nap = {.tv_nsec = WAIT_NS};
	struct odp_file_shm *f = record(r->mem, p->index);
	uint64_t limit = odp_now() + WAIT_LIMIT_NS;
	uint32_t state;

	/* acquire: pairs with the watch's answer. */
	while ((state = atomic_load_explicit(&f->state, memory_order_acquire)) == ODP_FILE_ASKED) {
		if (!part_watch(r, p)) {
			part_unwatch(r, p);
			return 0;
		}
		/* One that was seen waits for a recall, and for its leases. */
		if (odp_now() > limit && !__atomic_load_n(&f->error, __ATOMIC_RELAXED)) {
			odp_log(ODP_LOG_ERR,
				"%#lx: the process that watches this file does not answer: is it "
				"stopped?",
				(long)p->start);
			return -ETIMEDOUT;
		}
		odp_sys6(SYS_futex, (long)&f->state, FUTEX_WAIT, ODP_FILE_ASKED, (long)&nap, 0, 0);
	}
	if (state == ODP_FILE_KNOWN)
		return 0;
	if (p->named) {
		odp_log(ODP_LOG_ERR,
			"%#lx: policy %s: the file's watch cannot reach this process: %s",
			(long)p->start, odp_policy_name(p->policy), strerrordesc_np(-f->error));
		return -EOPNOTSUPP;
	}
	part_unwatch(r, p);
	p->lost = false; /* it is there, but cannot serve this process */
	return 0;
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
	int ret;

	pthread_mutex_lock(&r->mem->conv_lock);
	ret = parts_get(r);
	pthread_mutex_unlock(&r->mem->conv_lock);
	if (!ret)
		ret = locals_get(r);
	if (!ret)
		ret = spares_get(r);
	for (i = 0; i < r->nparts && !ret; i++) {
		if (!r->parts[i].watch)
			continue;
		if (r->parts[i].watch != ODP_WATCH_LOCAL)
			odp_files_follow(r, &r->parts[i]);
		w = part_watch(r, &r->parts[i]);
		if (w)
			ret = record_ask(r, &r->parts[i], w);
		else
			part_unwatch(r, &r->parts[i]);
	}
	for (i = 0; i < r->nparts && !ret; i++)
		if (r->parts[i].watch)
			ret = record_wait(r, &r->parts[i]);
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
		record_drop(r->mem, &r->parts[i]);
		if (r->parts[i].local)
			odp_local_put(r->parts[i].local);
	}
	odp_shadow_unmap(r);
	if (r->parts)
		odp_priv_free(r->parts, r->nparts * sizeof(*r->parts));
	r->parts = NULL;
	r->nparts = 0;
}
