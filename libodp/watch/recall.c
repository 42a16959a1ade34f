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
#include <string.h>

#include "base.h"
#include "domain.h"
#include "watch.h"

/* ---- the nodes of a recall (lock) ---- */

struct odp_node *odp_node_first(struct odp_watch *w, const struct odp_recall *rc)
{
	struct odp_ino *ino = rc->start < rc->end ? odp_ino_find(w, rc->ino) : NULL;

	return ino ? (struct odp_node *)odp_itree_first(&ino->tree, rc->start, rc->end - 1) : NULL;
}

struct odp_node *odp_node_next(const struct odp_recall *rc, const struct odp_node *node)
{
	return (struct odp_node *)odp_itree_next(&node->ino->tree, &node->it, rc->start,
						 rc->end - 1);
}

static enum odp_policy strictest(struct odp_watch *w, const struct odp_recall *rc)
{
	enum odp_policy most = ODP_POLICY_DEFAULT;

	for (struct odp_node *n = odp_node_first(w, rc); n; n = odp_node_next(rc, n))
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
	/* What is not known may be the strictest. */
	most = odp_news_catch(w) ? ODP_POLICY_DENY : strictest(w, &rc);
	pthread_mutex_unlock(&w->lock);
	return most;
}

/* ---- one process ---- */

static void owner_freeze(struct odp_watch *w, struct odp_peer *peer)
{
	pthread_mutex_lock(&w->lock);
	/*
	 * The gate of a slot that was reaped is open, whoever had shut it. So it is shut each
	 * time, which does no harm twice; one that has the slot since waits for the older
	 * recall too.
	 */
	if (!w->owners[peer->nr].frozen++ && w->local)
		odp_freeze(w->proc);
	if (!w->local)
		odp_freeze_peer(w->proc, peer->slot, w->index);
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
		odp_thaw_peer(w->proc, slot, w->index);
}

/* HOLD: the gate stays shut until the end of the recall. */
static void peer_act(struct odp_watch *w, struct odp_recall *rc, struct odp_peer *peer, bool hold)
{
	struct odp_node *n, *next;

	owner_freeze(w, peer);
	rc->stuck += !odp_fence_peer(w->proc, peer->slot, true);
	pthread_mutex_lock(&w->lock);
	for (n = odp_node_first(w, rc); n; n = next) {
		uint64_t pages;
		bool acted;

		/* One that is not live waits for the end of this recall, and stays. */
		if (n->peer == peer && !n->revoked && odp_node_live(n)) {
			n->users++;
			pthread_mutex_unlock(&w->lock);
			acted = odp_node_act(w, rc, n, &pages);
			pthread_mutex_lock(&w->lock);
			rc->pages += pages;
			if (acted && n->policy >= ODP_POLICY_REVOKE) {
				n->revoked = true;
				rc->revoked++;
			}
			/* If it was removed meanwhile, begin again: the rest is idempotent. */
			next = n->gone ? odp_node_first(w, rc) : odp_node_next(rc, n);
			odp_node_put(w, n);
		} else {
			next = odp_node_next(rc, n);
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
	for (struct odp_node *n = odp_node_first(w, rc); n; n = odp_node_next(rc, n)) {
		if (n->revoked || !odp_node_live(n))
			continue;
		bits[n->peer->nr / 64] |= 1ull << n->peer->nr % 64;
		rc->regions++;
	}
}

/* How a recall is done. */
struct how {
	bool hold;
	bool (*given_up)(void *arg);
	void *arg;
};

/* lock; -EINTR: given up */
static int recall_enter(struct odp_watch *w, struct odp_recall *rc, const struct how *how)
{
	rc->strictest = strictest(w, rc);
	if (rc->strictest == ODP_POLICY_DENY)
		return -ETXTBSY;
	rc->next = w->recalls;
	w->recalls = rc;
	if (rc->strictest < ODP_POLICY_LEASE)
		return 0;
	if (!odp_leases_wait(w, rc, how->given_up, how->arg)) {
		recall_unlink(w, rc);
		return -EINTR;
	}
	odp_leases_kill(w, rc);
	return 0;
}

static void recall_done(struct odp_watch *w)
{
	/* release: registrations that need not wait for it see what it did. */
	atomic_fetch_sub_explicit(&w->shm->recalling, 1, memory_order_release);
}

/* BITS: the processes with regions there; NULL: not asked for. */
static int recall_wait(struct odp_watch *w, uint64_t ino, uint64_t start, uint64_t end,
		       struct odp_recall *rc, const struct how *how, uint64_t *bits)
{
	int ret;

	memset(rc, 0, sizeof(*rc));
	rc->ino = ino;
	rc->start = start;
	rc->end = end;
	/* seq_cst: before the news; see struct odp_watch_shm. */
	atomic_fetch_add_explicit(&w->shm->recalling, 1, memory_order_seq_cst);
	pthread_mutex_lock(&w->lock);
	ret = odp_news_catch(w);
	if (!ret)
		ret = recall_enter(w, rc, how);
	if (!ret && bits)
		owners_collect(w, rc, bits);
	if (ret)
		recall_done(w);
	pthread_mutex_unlock(&w->lock);
	if (ret == -EINTR)
		odp_watch_ring(w); /* registrations have waited for its end */
	return ret;
}

static int recall_begin(struct odp_watch *w, uint64_t ino, uint64_t start, uint64_t end,
			struct odp_recall *rc, const struct how *how)
{
	uint64_t bits[ODP_MAX_PROCS / 64];
	int ret = recall_wait(w, ino, start, end, rc, how, bits);

	if (ret)
		return ret;
	for (unsigned nr = 0; nr < ODP_MAX_PROCS; nr++) {
		struct odp_peer *peer;

		if (!(bits[nr / 64] >> nr % 64 & 1))
			continue;
		pthread_mutex_lock(&w->lock); /* it may have died, and been forgotten */
		peer = w->owners[nr].peer;
		pthread_mutex_unlock(&w->lock);
		if (peer)
			peer_act(w, rc, peer, how->hold);
	}
	return 0;
}

ODP_EXPORT int odp_recall_begin(struct odp_watch *w, uint64_t ino, uint64_t start, uint64_t end,
				struct odp_recall *rc)
{
	const struct how how = {0};

	return recall_begin(w, ino, start, end, rc, &how);
}

ODP_EXPORT int odp_recall_begin_unless(struct odp_watch *w, uint64_t ino, uint64_t start,
				       uint64_t end, struct odp_recall *rc,
				       bool (*given_up)(void *arg), void *arg)
{
	const struct how how = {.given_up = given_up, .arg = arg};

	return recall_begin(w, ino, start, end, rc, &how);
}

ODP_EXPORT int odp_recall_await(struct odp_watch *w, uint64_t ino, uint64_t start, uint64_t end,
				struct odp_recall *rc, bool (*given_up)(void *arg), void *arg)
{
	const struct how how = {.given_up = given_up, .arg = arg};

	return recall_wait(w, ino, start, end, rc, &how, NULL);
}

ODP_EXPORT int odp_recall_hold(struct odp_watch *w, uint64_t ino, uint64_t start, uint64_t end,
			       struct odp_recall *rc)
{
	const struct how how = {.hold = true};

	return recall_begin(w, ino, start, end, rc, &how);
}

ODP_EXPORT void odp_recall_end(struct odp_watch *w, struct odp_recall *rc)
{
	pthread_mutex_lock(&w->lock);
	for (unsigned nr = 0; nr < ODP_MAX_PROCS; nr++)
		if (rc->held[nr / 64] >> nr % 64 & 1)
			owner_thaw(w, &w->proc->domain->slots[nr], nr);
	recall_unlink(w, rc);
	recall_done(w);
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
