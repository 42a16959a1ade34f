/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Records of watched files: how a region's owner makes a part of it known to the file's
 * watch, and withdraws it. See file.c for the invariant that both keep.
 */
#include <linux/futex.h>
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

/* Pinned pages are pinned, and the kernel's page tables follow the file. */
bool odp_part_natural(const struct odp_region *r, const struct odp_part *p)
{
	return p->policy == (r->kind == ODP_PINNED ? ODP_POLICY_PINNED : ODP_POLICY_ODP);
}

/* NULL: it has ended. */
static struct odp_watch_shm *watch_find(struct odp_proc *proc, uint32_t nr, uint32_t serial)
{
	if (serial == ODP_WATCH_LOCAL)
		return odp_local_shm(proc->mem);
	return serial && odp_watch_is(proc, nr, serial) ? &proc->domain->watches[nr] : NULL;
}

struct odp_watch_shm *odp_part_watch(const struct odp_region *r, const struct odp_part *p)
{
	return watch_find(r->mem->proc, p->watch_nr, p->watch);
}

/* mem_lock */
static void announce(struct odp_mem *m, uint32_t index, struct odp_watch_shm *w)
{
	struct odp_seg *seg = m->proc->self->seg;
	unsigned nr = m->proc->self->nr;
	uint32_t head = atomic_load_explicit(&seg->files_head, memory_order_relaxed);

	atomic_store_explicit(&seg->files_ring[head % ODP_MAX_FILES], index, memory_order_relaxed);
	/* release: pairs with the acquire load in watch.c; mem_lock makes it one at a time. */
	atomic_store_explicit(&seg->files_head, head + 1, memory_order_release);
	/* seq_cst: the news before the bell, and before RECALLING; the watch reads them the
	 * other way round. */
	atomic_fetch_or_explicit(&w->news[nr / 64], 1ull << nr % 64, memory_order_seq_cst);
}

/* Have the watch's thread look now. */
static void watch_ring(struct odp_watch_shm *w)
{
	/* seq_cst: after the news. */
	atomic_fetch_add_explicit(&w->bell, 1, memory_order_seq_cst);
	odp_sys6(SYS_futex, (long)&w->bell, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

/* Will a recall that begins later read what is announced now? Leases are for the watch to
 * hear of. */
static bool watch_reads(struct odp_mem *m, const struct odp_part *p)
{
	unsigned nr = p->watch == ODP_WATCH_LOCAL ? ODP_MAX_WATCHES : p->watch_nr;

	/* acquire: pairs with owner_news(). */
	return p->policy != ODP_POLICY_LEASE && p->policy != ODP_POLICY_KILL &&
	       atomic_load_explicit(&m->proc->self->seg->files_ready[nr], memory_order_acquire) ==
		       p->watch;
}

/*
 * mem_lock; the record is complete. Where recalls read the announcements it is KNOWN
 * without a word from the watch's thread, for which a registration would wait as long as
 * a loaded machine takes to run it: unless a recall is under way, which may be past that.
 */
static void record_announce(struct odp_mem *m, const struct odp_part *p, struct odp_watch_shm *w)
{
	struct odp_file_shm *f = record(m, p->index);

	if (watch_reads(m, p)) {
		/* release: the record is complete. */
		atomic_store_explicit(&f->state, ODP_FILE_KNOWN, memory_order_release);
		announce(m, p->index, w);
		/* seq_cst: after the news; see struct odp_watch_shm. */
		if (!atomic_load_explicit(&w->recalling, memory_order_seq_cst))
			return;
	}
	atomic_store_explicit(&f->state, ODP_FILE_ASKED, memory_order_release);
	announce(m, p->index, w);
	watch_ring(w);
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

int odp_record_ask(struct odp_region *r, struct odp_part *p, struct odp_watch_shm *w)
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
	record_announce(m, p, w);
	odp_mem_unlock(m);
	return 0;
}

void odp_record_drop(struct odp_mem *m, struct odp_part *p)
{
	struct odp_watch_shm *w;

	if (p->index == ODP_MAX_FILES)
		return;
	odp_mem_lock(m);
	w = watch_find(m->proc, p->watch_nr, p->watch);
	/* release: the region ended before. */
	atomic_store_explicit(&record(m, p->index)->state, w ? ODP_FILE_GONE : ODP_FILE_FREE,
			      memory_order_release);
	if (w) {
		announce(m, p->index, w);
		watch_ring(w);
	}
	odp_mem_unlock(m);
	p->index = ODP_MAX_FILES;
}

/* Its watch has ended. */
void odp_part_unwatch(struct odp_region *r, struct odp_part *p)
{
	odp_record_drop(r->mem, p);
	p->watch = 0;
	p->lost = !odp_part_natural(r, p);
}

/* Until the watch knows of it; 0 with P's watch cleared if that has ended. */
int odp_record_wait(struct odp_region *r, struct odp_part *p)
{
	const struct timespec nap = {.tv_nsec = WAIT_NS};
	struct odp_file_shm *f = record(r->mem, p->index);
	uint64_t limit = odp_now() + WAIT_LIMIT_NS;
	uint32_t state;

	/* acquire: pairs with the watch's answer. */
	while ((state = atomic_load_explicit(&f->state, memory_order_acquire)) == ODP_FILE_ASKED) {
		if (!odp_part_watch(r, p)) {
			odp_part_unwatch(r, p);
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
	odp_part_unwatch(r, p);
	p->lost = false; /* it is there, but cannot serve this process */
	return 0;
}
