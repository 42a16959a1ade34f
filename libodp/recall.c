/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Blocks of a file go away: what becomes of the regions on them, in whatever
 * process they are. The owner is not asked: it may be stopped, or hostile.
 *
 * For each process with regions there: shut its gate; wait until every lane aimed
 * at it was outside once, the system calls too; change entries; open the gate. A
 * transfer that comes later sees the new entries. While an entry is changed the
 * thread is in the system-call side of its own lane, so that the owner's
 * deregistration waits for it: after the key was seen there, the record, the
 * entries and the frames stay the region's.
 *
 * All of it works with what was allocated at registration.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "watch.h"

#define CHUNK_PAGES 4u
#define KILL_WAIT_NS 5000000000ull
#define LEASE_NAP_NS 10000000

/* ---- the nodes of a recall (lock) ---- */

static struct odp_node *node_first(struct odp_watch *w, const struct odp_recall *rc)
{
	struct odp_ino *ino = rc->start < rc->end ? odp_ino_find(w, rc->ino) : NULL;

	return ino ? (struct odp_node *)odp_itree_first(&ino->tree, rc->start, rc->end - 1) : NULL;
}

static struct odp_node *node_next(const struct odp_recall *rc, const struct odp_node *node)
{
	return (struct odp_node *)odp_itree_next(&node->ino->tree, &node->it, rc->start,
						 rc->end - 1);
}

static enum odp_policy strictest(struct odp_watch *w, const struct odp_recall *rc)
{
	enum odp_policy most = ODP_POLICY_DEFAULT;

	for (struct odp_node *n = node_first(w, rc); n; n = node_next(rc, n))
		if (n->policy > most && !n->revoked && odp_node_live(n))
			most = n->policy;
	return most;
}

ODP_EXPORT enum odp_policy odp_watch_policy(struct odp_watch *w, uint64_t ino, uint64_t start,
					    uint64_t end)
{
	const struct odp_recall rc = {.ino = ino, .start = start, .end = end};
	enum odp_policy most;

	pthread_mutex_lock(&w->lock);
	most = strictest(w, &rc);
	pthread_mutex_unlock(&w->lock);
	return most;
}

/* ---- telling the owner ---- */

static void notice_give(struct odp_node *node, enum odp_notice what)
{
	struct odp_file_shm *f = odp_node_record(node);

	atomic_fetch_or_explicit(&f->notice, (uint8_t)(1u << what), memory_order_relaxed);
	/* release: pairs with odp_notices_pass(). */
	atomic_fetch_add_explicit(&node->peer->seg->notices, 1, memory_order_release);
	odp_bell_ring(node->peer);
}

/* SIGIO ends a program that does not expect it. */
static bool catches_sigio(pid_t pid)
{
	char path[32], buf[2048], *s;
	unsigned long long mask = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf) - 1);
	odp_fd_close(fd);
	if (n <= 0)
		return false;
	buf[n] = 0;
	s = strstr(buf, "\nSigCgt:");
	return s && sscanf(s, "\nSigCgt: %llx", &mask) == 1 && (mask >> (SIGIO - 1) & 1);
}

static void owner_signal(const struct odp_peer *peer, int sig)
{
	if (peer->self)
		kill(peer->pid, sig);
	else
		syscall(SYS_pidfd_send_signal, peer->pidfd, sig, NULL, 0);
}

static void lease_tell(struct odp_node *node)
{
	node->told = true;
	node->deadline = odp_now() + (uint64_t)node->lease_ms * 1000000;
	notice_give(node, ODP_NOTICE_LEASE);
	if (catches_sigio(node->peer->pid))
		owner_signal(node->peer, SIGIO);
}

/* ---- leases ---- */

static bool leased(const struct odp_node *node)
{
	return (node->policy == ODP_POLICY_LEASE || node->policy == ODP_POLICY_KILL) &&
	       !node->revoked && odp_node_live(node);
}

static void cond_nap(struct odp_watch *w)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += LEASE_NAP_NS;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	pthread_cond_timedwait(&w->changed, &w->lock, &t);
}

/* Until nobody's lease is running: all have ended their regions, or their time is
 * over (lock, given up meanwhile). */
static void leases_wait(struct odp_watch *w, struct odp_recall *rc)
{
	uint64_t began = odp_now();
	bool wait;

	for (;; cond_nap(w)) {
		wait = false;
		for (struct odp_node *n = node_first(w, rc); n; n = node_next(rc, n)) {
			if (!leased(n))
				continue;
			if (!n->told)
				lease_tell(n);
			wait |= odp_now() < n->deadline;
		}
		if (!wait)
			break;
	}
	rc->waited_ns = odp_now() - began;
}

/* Its memory is about to go: wait for that, so that no store of its own comes
 * later, but not for ever (lock, given up meanwhile). */
static void killed_wait(struct odp_watch *w, struct odp_peer *peer)
{
	uint64_t limit = odp_now() + KILL_WAIT_NS;

	while (odp_peer_alive(peer) && odp_now() < limit)
		cond_nap(w);
}

static struct odp_node *kill_next(struct odp_watch *w, const struct odp_recall *rc)
{
	struct odp_node *n = node_first(w, rc);

	/* A file system does not kill itself, before it has served its callers. */
	while (n && !(n->policy == ODP_POLICY_KILL && leased(n) && (w->local || !n->peer->self)))
		n = node_next(rc, n);
	return n;
}

static void leases_kill(struct odp_watch *w, struct odp_recall *rc)
{
	struct odp_node *n;

	while ((n = kill_next(w, rc))) {
		struct odp_peer *peer = n->peer;

		odp_log(ODP_LOG_WARN,
			"process %d keeps a region on blocks that go away: killed (policy kill)",
			(int)peer->pid);
		owner_signal(peer, SIGKILL);
		rc->killed++;
		n->users++;
		killed_wait(w, peer);
		n->policy = ODP_POLICY_REVOKE; /* should it live on */
		odp_node_put(w, n);
	}
}

/* ---- acting on one region's part ---- */

struct act {
	struct odp_node *node;
	struct odp_mr_shm *mr;
	uint64_t first, n; /* pages of the region */
};

/* From the lane: is it still the region that was meant? */
static bool act_valid(const struct act *a)
{
	/* seq_cst: pairs with odp_region_destroy(), which clears it before its fence. */
	return atomic_load_explicit(&a->mr->key, memory_order_seq_cst) == a->node->key;
}

static bool entry_takeable(odp_entry_t e)
{
	odp_entry_t where = e & ODP_E_WHERE;

	return !(e & ODP_E_ORPHAN) && (where == ODP_E_VA || where == ODP_E_PIN);
}

static void counters_add(struct odp_mr_shm *mr, uint64_t n, uint64_t valid)
{
	atomic_fetch_add_explicit(&mr->page_invalidations, n, memory_order_relaxed);
	atomic_fetch_add_explicit(&mr->page_invalidations_handled, valid, memory_order_relaxed);
}

/* ODP: the kernel's page tables decide; the next access is a fault. */
static uint64_t act_forget(const struct act *a)
{
	uint64_t valid = 0;

	for (uint64_t i = 0; i < a->n; i++) {
		_Atomic odp_entry_t *p = odp_xlat_entry(a->node->peer, a->mr, a->first + i);
		odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;

		if (!entry_takeable(e) || (e & ODP_E_WHERE) != ODP_E_VA || !(e & ODP_E_VALID))
			continue;
		/* release: as every change of an entry. */
		valid += atomic_compare_exchange_strong_explicit(
			p, &e, e & ~(ODP_E_VALID | ODP_E_WRITE), memory_order_release,
			memory_order_relaxed);
	}
	counters_add(a->mr, a->n, valid);
	atomic_fetch_sub_explicit(&a->mr->pages_valid, valid, memory_order_relaxed);
	return valid;
}

/* N pages from PAGE on have a new place: FRAME, and those behind it by STEP. */
static uint64_t entries_take(const struct act *a, uint64_t page, uint64_t n, uint64_t frame,
			     uint64_t step, odp_entry_t where)
{
	uint64_t done = 0;

	for (uint64_t i = 0; i < n; i++, frame += step) {
		_Atomic odp_entry_t *p = odp_xlat_entry(a->node->peer, a->mr, page + i);
		odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;

		if (!entry_takeable(e) || (where && (e & ODP_E_WHERE) != where))
			continue;
		if (!(e & ODP_E_VALID))
			atomic_fetch_add_explicit(&a->mr->pages_valid, 1, memory_order_relaxed);
		/* release: the frame was filled before. */
		atomic_store_explicit(p,
				      ODP_E_POOL | ODP_E_VALID | ODP_E_WRITE | ODP_E_ORPHAN | frame,
				      memory_order_release);
		done++;
	}
	return done;
}

/* What the pages hold now, zeros where there is none, into the region's spares. */
static void pages_save(const struct act *a, uint64_t page, uint64_t n)
{
	char buf[CHUNK_PAGES * ODP_PAGE_SIZE];
	const struct odp_mr_shm *mr = a->mr;
	uint64_t base = odp_mr_flags(mr) & ODP_MR_SHADOW ? mr->shadow : odp_page_down(mr->addr);

	for (uint64_t i = 0; i < n; i++) {
		struct iovec local = {buf + i * ODP_PAGE_SIZE, ODP_PAGE_SIZE};
		struct iovec remote = {(void *)(uintptr_t)(base + ((page + i) << ODP_PAGE_SHIFT)),
				       ODP_PAGE_SIZE};

		if (process_vm_readv(a->node->peer->pid, &local, 1, &remote, 1, 0) !=
		    (ssize_t)ODP_PAGE_SIZE)
			memset(local.iov_base, 0, ODP_PAGE_SIZE);
	}
	/* Into pages that are there since the registration: no store can fail. */
	odp_sys6(SYS_pwrite64, a->node->peer->pool_fd, (long)buf, (long)(n << ODP_PAGE_SHIFT),
		 (long)(a->node->spare + (page << ODP_PAGE_SHIFT)), 0, 0);
}

/* How many pages from PAGE on, at most N, are still the file's. */
static uint64_t run_kept(const struct act *a, uint64_t page, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++) {
		_Atomic odp_entry_t *p = odp_xlat_entry(a->node->peer, a->mr, page + i);
		odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;

		if (!entry_takeable(e) || (e & ODP_E_WHERE) != ODP_E_VA)
			break;
	}
	return i;
}

static uint64_t act_keep(const struct act *a)
{
	uint64_t done = 0, n;

	for (uint64_t i = 0; i < a->n; i += n ? n : 1) {
		n = run_kept(a, a->first + i, odp_min(a->n - i, CHUNK_PAGES));
		if (!n)
			continue;
		pages_save(a, a->first + i, n);
		done += entries_take(a, a->first + i, n,
				     a->node->spare + ((a->first + i) << ODP_PAGE_SHIFT),
				     ODP_PAGE_SIZE, ODP_E_VA);
	}
	counters_add(a->mr, a->n, done);
	return done;
}

static uint64_t act_scratch(const struct act *a)
{
	uint64_t done = entries_take(a, a->first, a->n, a->node->spare, 0, 0);

	counters_add(a->mr, a->n, done);
	return done;
}

static uint64_t act_revoke(const struct act *a)
{
	uint64_t valid = atomic_exchange_explicit(&a->mr->pages_valid, 0, memory_order_relaxed);

	odp_mr_revoke(a->mr);
	counters_add(a->mr, a->node->npages, valid);
	notice_give(a->node, ODP_NOTICE_REVOKED);
	return valid;
}

/* Which whole pages are going; for those that end with it, any byte is enough. */
static void act_range(struct act *a, const struct odp_recall *rc)
{
	const struct odp_node *node = a->node;
	uint64_t start = odp_max(odp_page_up(rc->start), node->it.start);
	uint64_t end = rc->end == UINT64_MAX ? rc->end : odp_page_down(rc->end);

	if (rc->start > UINT64_MAX - ODP_PAGE_MASK)
		start = UINT64_MAX;
	end = odp_min(end, node->it.last + 1);
	a->first = node->page + ((start - node->it.start) >> ODP_PAGE_SHIFT);
	a->n = start < end ? (end - start) >> ODP_PAGE_SHIFT : 0;
}

static uint64_t act_run(struct act *a)
{
	switch (a->node->policy) {
	case ODP_POLICY_ODP:
		return act_forget(a);
	case ODP_POLICY_PINNED:
		return act_keep(a);
	case ODP_POLICY_SCRATCH:
		return act_scratch(a);
	default:
		return act_revoke(a);
	}
}

/* Without the lock: the node is counted as used. False: there is no such key, of a
 * region that is ending, or being made: it will be one from after the recall. */
static bool node_act(struct odp_watch *w, const struct odp_recall *rc, struct odp_node *node,
		     uint64_t *pages)
{
	struct odp_lane *lane = odp_lane_get(w->proc);
	struct act a = {.node = node, .mr = &node->peer->seg->mrs[node->key >> 8]};
	bool valid;

	*pages = 0;
	act_range(&a, rc);
	if (!a.n && node->policy < ODP_POLICY_REVOKE)
		return true;
	odp_lane_va_enter(lane);
	valid = odp_node_live(node) && act_valid(&a);
	if (valid)
		*pages = act_run(&a);
	odp_lane_va_leave(lane);
	return valid;
}

/* ---- one process ---- */

static void owner_freeze(struct odp_watch *w, struct odp_peer *peer)
{
	pthread_mutex_lock(&w->lock);
	if (!w->owners[peer->nr].frozen++) {
		if (w->local)
			odp_freeze(w->proc);
		else
			odp_freeze_peer(peer->slot, w->index);
	}
	pthread_mutex_unlock(&w->lock);
}

/* lock */
static void owner_thaw(struct odp_watch *w, struct odp_slot *slot, unsigned nr)
{
	if (--w->owners[nr].frozen)
		return;
	if (w->local)
		odp_thaw(w->proc);
	else
		odp_thaw_peer(slot, w->index);
}

/* HOLD: the gate stays shut until the end of the recall. */
static void peer_act(struct odp_watch *w, struct odp_recall *rc, struct odp_peer *peer, bool hold)
{
	struct odp_node *n, *next;

	owner_freeze(w, peer);
	rc->stuck += !odp_fence_peer(w->proc, peer->slot, true);
	pthread_mutex_lock(&w->lock);
	for (n = node_first(w, rc); n; n = next) {
		uint64_t pages;
		bool acted;

		/* One that is not live waits for the end of this recall, and stays. */
		if (n->peer == peer && !n->revoked && odp_node_live(n)) {
			n->users++;
			pthread_mutex_unlock(&w->lock);
			acted = node_act(w, rc, n, &pages);
			pthread_mutex_lock(&w->lock);
			rc->pages += pages;
			if (acted && n->policy >= ODP_POLICY_REVOKE) {
				n->revoked = true;
				rc->revoked++;
			}
			/* If it was removed meanwhile, begin again: the rest is idempotent. */
			next = n->gone ? node_first(w, rc) : node_next(rc, n);
			odp_node_put(w, n);
		} else {
			next = node_next(rc, n);
		}
	}
	if (hold)
		rc->held[peer->nr / 64] |= 1ull << peer->nr % 64;
	else
		owner_thaw(w, peer->slot, peer->nr);
	pthread_mutex_unlock(&w->lock);
}

/* ---- begin and end ---- */

static void recall_unlink(struct odp_watch *w, struct odp_recall *rc)
{
	struct odp_recall **p = &w->recalls;

	while (*p && *p != rc)
		p = &(*p)->next;
	if (*p)
		*p = rc->next;
}

/* The processes with regions there, a bit each (lock). */
static void owners_collect(struct odp_watch *w, struct odp_recall *rc, uint64_t *bits)
{
	memset(bits, 0, ODP_MAX_PROCS / 8);
	for (struct odp_node *n = node_first(w, rc); n; n = node_next(rc, n)) {
		if (n->revoked || !odp_node_live(n))
			continue;
		bits[n->peer->nr / 64] |= 1ull << n->peer->nr % 64;
		rc->regions++;
	}
}

static int recall_begin(struct odp_watch *w, uint64_t ino, uint64_t start, uint64_t end,
			struct odp_recall *rc, bool hold)
{
	uint64_t bits[ODP_MAX_PROCS / 64];

	memset(rc, 0, sizeof(*rc));
	rc->ino = ino;
	rc->start = start;
	rc->end = end;
	pthread_mutex_lock(&w->lock);
	rc->strictest = strictest(w, rc);
	if (rc->strictest == ODP_POLICY_DENY) {
		pthread_mutex_unlock(&w->lock);
		return -ETXTBSY;
	}
	rc->next = w->recalls;
	w->recalls = rc;
	if (rc->strictest >= ODP_POLICY_LEASE) {
		leases_wait(w, rc);
		leases_kill(w, rc);
	}
	owners_collect(w, rc, bits);
	pthread_mutex_unlock(&w->lock);
	for (unsigned nr = 0; nr < ODP_MAX_PROCS; nr++) {
		struct odp_peer *peer;

		if (!(bits[nr / 64] >> nr % 64 & 1))
			continue;
		pthread_mutex_lock(&w->lock); /* it may have died, and been forgotten */
		peer = w->owners[nr].peer;
		pthread_mutex_unlock(&w->lock);
		if (peer)
			peer_act(w, rc, peer, hold);
	}
	return 0;
}

ODP_EXPORT int odp_recall_begin(struct odp_watch *w, uint64_t ino, uint64_t start, uint64_t end,
				struct odp_recall *rc)
{
	return recall_begin(w, ino, start, end, rc, false);
}

ODP_EXPORT int odp_recall_hold(struct odp_watch *w, uint64_t ino, uint64_t start, uint64_t end,
			       struct odp_recall *rc)
{
	return recall_begin(w, ino, start, end, rc, true);
}

ODP_EXPORT void odp_recall_end(struct odp_watch *w, struct odp_recall *rc)
{
	pthread_mutex_lock(&w->lock);
	for (unsigned nr = 0; nr < ODP_MAX_PROCS; nr++)
		if (rc->held[nr / 64] >> nr % 64 & 1)
			owner_thaw(w, &w->proc->domain->slots[nr], nr);
	recall_unlink(w, rc);
	pthread_mutex_unlock(&w->lock);
	odp_watch_ring(w);
}

ODP_EXPORT bool odp_watch_settle(struct odp_watch *w)
{
	bool settled = true;

	for (unsigned nr = 0; nr < ODP_MAX_PROCS; nr++) {
		struct odp_peer *peer;

		pthread_mutex_lock(&w->lock);
		peer = w->owners[nr].peer;
		pthread_mutex_unlock(&w->lock);
		if (peer && odp_peer_alive(peer))
			settled &= odp_fence_peer(w->proc, peer->slot, true);
	}
	return settled;
}

/* ---- the owner's side of notices ---- */

ODP_EXPORT void odp_notice_set(struct odp_proc *proc, odp_notice_fn fn, void *arg)
{
	pthread_mutex_lock(&proc->handler_lock);
	proc->notice = fn;
	proc->notice_arg = arg;
	pthread_mutex_unlock(&proc->handler_lock);
}

static void record_pass(struct odp_file_shm *f, odp_notice_fn fn, void *arg)
{
	/* relaxed: ordered by the count of notices. */
	uint8_t bits = atomic_exchange_explicit(&f->notice, 0, memory_order_relaxed);

	if (bits & 1u << ODP_NOTICE_LEASE)
		fn(arg, f->key, ODP_NOTICE_LEASE);
	if (bits & 1u << ODP_NOTICE_REVOKED)
		fn(arg, f->key, ODP_NOTICE_REVOKED);
}

void odp_notices_pass(struct odp_proc *proc)
{
	struct odp_seg *seg = proc->self->seg;
	/* acquire: pairs with notice_give(). */
	uint32_t now = atomic_load_explicit(&seg->notices, memory_order_acquire);
	odp_notice_fn fn;
	uint32_t high;
	void *arg;

	if (now == proc->notices_seen)
		return;
	proc->notices_seen = now;
	pthread_mutex_lock(&proc->handler_lock);
	fn = proc->notice;
	arg = proc->notice_arg;
	pthread_mutex_unlock(&proc->handler_lock);
	high = atomic_load_explicit(&seg->files_high, memory_order_relaxed);
	for (uint32_t i = 0; fn && i < high && i < ODP_MAX_FILES; i++)
		if (atomic_load_explicit(&seg->files[i].notice, memory_order_relaxed))
			record_pass(&seg->files[i], fn, arg);
}
