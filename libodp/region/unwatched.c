/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Regions whose files are no longer watched: the file system has died, or given the watch
 * up. Nobody will tell of blocks that go away, and what is written to a mapping of a file
 * system that has died is lost. A region whose policy needs the watch (revoke and
 * stricter) is revoked; the owner of any is told.
 *
 * The service thread does it: the kernel tells it of the end of the watch's process, by
 * its pidfd, as of every peer's. Whoever runs a transfer looks for himself as well
 * (odp_watches_keep(), run_find()), for the owner may be stopped.
 *
 * A transfer under way goes on to its end: no block is given to anybody else, so no
 * gate is shut, and no lane waited for.
 */
#include <string.h>

#include "base.h"
#include "domain.h"
#include "local.h"
#include "peer.h"
#include "pool.h"
#include "region.h"

static bool needs_watch(const struct odp_part *p)
{
	return p->watch && p->watch != ODP_WATCH_LOCAL && p->policy >= ODP_POLICY_REVOKE;
}

/* Is its watch in the list that begins at AT? */
static bool listed(const struct odp_seg *seg, uint32_t at, uint32_t serial)
{
	while (at && seg->files[at - 1].watch != serial)
		at = seg->files[at - 1].next;
	return at;
}

/* Before the key is published: one record for each watch that R needs. */
void odp_files_need(struct odp_region *r)
{
	struct odp_seg *seg = r->mem->proc->self->seg;
	uint32_t *first = &seg->region_files[r->key >> 8];

	*first = 0;
	for (unsigned i = 0; i < r->nparts; i++) {
		const struct odp_part *p = &r->parts[i];

		if (!needs_watch(p) || listed(seg, *first, p->watch))
			continue;
		seg->files[p->index].next = *first;
		*first = p->index + 1;
	}
}

/* Have the service thread hear of the end of the process that watches P's file. */
void odp_files_follow(struct odp_region *r, const struct odp_part *p)
{
	struct odp_proc *proc = r->mem->proc;
	uint32_t slot = proc->domain->watches[p->watch_nr].slot;
	struct odp_peer *peer;
	int ret;

	if (slot == proc->self->nr)
		return;
	ret = odp_peer_get(proc, slot, &peer);
	if (ret && ret != -ENOENT) /* that has ended: region_make() sees it */
		odp_log(ODP_LOG_WARN,
			"%#lx: the process that watches this file cannot be attached (%s): its end "
			"will be noticed by transfers alone",
			(long)p->start, strerrordesc_np(-ret));
}

static bool record_ended(struct odp_proc *proc, const struct odp_file_shm *f)
{
	/* acquire: the record is as its registration left it. */
	return atomic_load_explicit(&f->state, memory_order_acquire) == ODP_FILE_KNOWN &&
	       __atomic_load_n(&f->watch, __ATOMIC_RELAXED) != ODP_WATCH_LOCAL &&
	       !odp_watch_is(proc, f->watch_nr, f->watch);
}

/*
 * mem_lock: the record stays the region's, which ends before its records do. A key that
 * is not there yet is published before its thread looks whether all watches are there
 * still (seq_cst, both): one of the two sees the other.
 */
static bool record_act(struct odp_seg *seg, struct odp_file_shm *f)
{
	struct odp_mr_shm *mr = &seg->mrs[f->key >> 8];
	enum odp_notice what = ODP_NOTICE_UNWATCHED;

	if (f->ended || atomic_load_explicit(&mr->key, memory_order_seq_cst) != f->key)
		return false;
	f->ended = 1;
	if (f->policy >= ODP_POLICY_REVOKE) {
		odp_mr_revoke(mr);
		atomic_store_explicit(&mr->pages_valid, 0, memory_order_relaxed);
		what = ODP_NOTICE_REVOKED;
	}
	/* relaxed: ordered by the count of notices. */
	atomic_fetch_or_explicit(&f->notice, (uint8_t)(1u << what), memory_order_relaxed);
	return true;
}

static void files_unwatch(struct odp_proc *proc)
{
	struct odp_seg *seg = proc->self->seg;
	uint32_t high = atomic_load_explicit(&seg->files_high, memory_order_relaxed);
	bool any = false;

	/* seq_cst: after the end was heard of; see record_act(). */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t i = 0; i < high && i < ODP_MAX_FILES; i++) {
		if (!record_ended(proc, &seg->files[i]))
			continue;
		odp_mem_lock(proc->mem);
		if (record_ended(proc, &seg->files[i]))
			any |= record_act(seg, &seg->files[i]);
		odp_mem_unlock(proc->mem);
	}
	if (any) /* release: pairs with notices_pass(). */
		atomic_fetch_add_explicit(&seg->notices, 1, memory_order_release);
}

static void unwatched_pass(struct odp_proc *proc, bool peer_ended)
{
	/* acquire: pairs with odp_watch_destroy(). */
	uint32_t ended =
		atomic_load_explicit(&proc->self->seg->watches_ended, memory_order_acquire);

	if (peer_ended || ended != proc->watches_ended_seen)
		files_unwatch(proc);
	proc->watches_ended_seen = ended;
}

const struct odp_source odp_unwatched_source = {.name = "ended watches", .pass = unwatched_pass};
