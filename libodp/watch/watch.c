/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A watch learns of every region on its files when it is registered, so that a
 * recall finds them in O(log n) without asking anybody, and allocates nothing. Its
 * thread takes notice of what owners announce, and of their end.
 */
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base.h"
#include "domain.h"
#include "watch.h"

#define LOOK_NS 500000000 /* for processes that ended, without an announcement */

void odp_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

bool odp_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t until)
{
	const struct timespec t = {.tv_sec = (time_t)(until / 1000000000),
				   .tv_nsec = (long)(until % 1000000000)};

	return pthread_cond_timedwait(cond, lock, &t) != ETIMEDOUT;
}

void odp_watch_ring(struct odp_watch *w)
{
	/* seq_cst: after what it tells of. */
	atomic_fetch_add_explicit(&w->shm->bell, 1, memory_order_seq_cst);
	odp_sys6(SYS_futex, (long)&w->shm->bell, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

/* ---- inodes and nodes (lock) ---- */

static struct odp_ino **bucket(struct odp_watch *w, uint64_t nr)
{
	return &w->buckets[(nr * 0x9e3779b97f4a7c15ull) >> 52];
}
static_assert(ODP_WATCH_BUCKETS == 1u << 12, "as many as the hash has values");

struct odp_ino *odp_ino_find(struct odp_watch *w, uint64_t nr)
{
	struct odp_ino *ino = *bucket(w, nr);

	while (ino && ino->nr != nr)
		ino = ino->next;
	return ino;
}

static struct odp_ino *ino_get(struct odp_watch *w, uint64_t nr)
{
	struct odp_ino *ino = odp_ino_find(w, nr);

	if (ino)
		return ino;
	ino = calloc(1, sizeof(*ino));
	if (!ino)
		return NULL;
	ino->nr = nr;
	ino->next = *bucket(w, nr);
	*bucket(w, nr) = ino;
	return ino;
}

static void ino_put(struct odp_watch *w, struct odp_ino *ino)
{
	struct odp_ino **p = bucket(w, ino->nr);

	if (ino->nodes)
		return;
	while (*p != ino)
		p = &(*p)->next;
	*p = ino->next;
	free(ino);
}

struct odp_file_shm *odp_node_record(const struct odp_node *node)
{
	return &node->peer->seg->files[node->index];
}

bool odp_node_live(const struct odp_node *node)
{
	/* acquire: pairs with the owner's GONE, after the region's end. */
	return odp_peer_alive(node->peer) &&
	       atomic_load_explicit(&odp_node_record(node)->state, memory_order_acquire) ==
		       ODP_FILE_KNOWN;
}

void odp_node_put(struct odp_watch *w, struct odp_node *node)
{
	(void)w;
	if (!--node->users && node->gone)
		free(node);
}

static void deferred_remove(struct odp_watch *w, struct odp_node *node)
{
	for (struct odp_node **p = &w->deferred; *p; p = &(*p)->deferred) {
		if (*p != node)
			continue;
		*p = node->deferred;
		node->waits = false;
		return;
	}
}

static void node_remove(struct odp_watch *w, struct odp_owner *owner, struct odp_node *node)
{
	owner->nodes[node->index] = NULL;
	deferred_remove(w, node);
	odp_itree_remove(&node->ino->tree, &node->it);
	node->ino->nodes--;
	ino_put(w, node->ino);
	node->gone = true;
	node->users++;
	odp_node_put(w, node);
	pthread_cond_broadcast(&w->changed);
}

/* What an owner wrote: anything. */
static bool record_sane(const struct odp_file_shm *f)
{
	uint64_t end;

	return f->npages && f->npages < (uint64_t)1 << 40 && f->policy > ODP_POLICY_DEFAULT &&
	       f->policy <= ODP_POLICY_DENY && !(f->start & ODP_PAGE_MASK) &&
	       !__builtin_add_overflow(f->start, f->npages << ODP_PAGE_SHIFT, &end) &&
	       !(f->spare & ODP_PAGE_MASK) && f->page < (uint64_t)1 << 40 && f->key &&
	       f->key >> 8 < ODP_MAX_REGIONS;
}

static int node_add(struct odp_watch *w, struct odp_owner *owner, uint32_t index)
{
	const struct odp_file_shm copy = owner->peer->seg->files[index], *f = &copy;
	struct odp_node *node;

	if (!record_sane(f))
		return -EINVAL;
	node = calloc(1, sizeof(*node));
	if (!node)
		return -ENOMEM;
	node->ino = ino_get(w, f->ino);
	if (!node->ino) {
		free(node);
		return -ENOMEM;
	}
	node->it.start = f->start;
	node->it.last = f->start + (f->npages << ODP_PAGE_SHIFT) - 1;
	node->peer = owner->peer;
	node->index = index;
	node->key = f->key;
	node->page = f->page;
	node->npages = f->npages;
	node->spare = f->spare;
	node->policy = (enum odp_policy)f->policy;
	node->lease_ms = f->lease_ms ? f->lease_ms : w->lease_ms;
	node->ino->nodes++;
	odp_itree_insert(&node->ino->tree, &node->it);
	owner->nodes[index] = node;
	return 0;
}

/* ---- records ---- */

static void record_answer(struct odp_file_shm *f, uint32_t state, int error)
{
	uint32_t asked = ODP_FILE_ASKED;

	__atomic_store_n(&f->error, error, __ATOMIC_RELAXED);
	/* release: pairs with the owner's load. It may have given up: GONE stays. */
	atomic_compare_exchange_strong_explicit(&f->state, &asked, state, memory_order_release,
						memory_order_relaxed);
	odp_sys6(SYS_futex, (long)&f->state, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

static bool under_recall(const struct odp_watch *w, const struct odp_node *node)
{
	for (const struct odp_recall *rc = w->recalls; rc; rc = rc->next)
		if (rc->ino == node->ino->nr && rc->start <= node->it.last &&
		    rc->end > node->it.start)
			return true;
	return false;
}

/* Registrations on blocks that are going wait until they have gone. */
static void node_admit(struct odp_watch *w, struct odp_node *node)
{
	struct odp_file_shm *f = odp_node_record(node);

	if (!under_recall(w, node)) {
		if (w->leased &&
		    (node->policy == ODP_POLICY_LEASE || node->policy == ODP_POLICY_KILL))
			w->leased(w->leased_arg, node->ino->nr);
		record_answer(f, ODP_FILE_KNOWN, 0);
		return;
	}
	__atomic_store_n(&f->error, -EAGAIN, __ATOMIC_RELAXED);
	node->waits = true;
	node->deferred = w->deferred;
	w->deferred = node;
}

static void deferred_admit(struct odp_watch *w)
{
	struct odp_node *list = w->deferred, *next;

	w->deferred = NULL;
	for (; list; list = next) {
		next = list->deferred;
		list->deferred = NULL;
		list->waits = false;
		node_admit(w, list);
	}
}

/* Its owner waits for an answer; or it is KNOWN without one, see files_ready. */
static int record_enter(struct odp_watch *w, struct odp_owner *owner, uint32_t index,
			uint32_t state)
{
	struct odp_file_shm *f = &owner->peer->seg->files[index];
	int ret = owner->nodes[index] ? 0 : node_add(w, owner, index);

	if (state == ODP_FILE_KNOWN)
		return ret == -ENOMEM ? ret : 0;
	if (ret)
		record_answer(f, ODP_FILE_REFUSED, ret);
	else if (!owner->nodes[index]->waits)
		node_admit(w, owner->nodes[index]);
	return 0;
}

/* 0 or -ENOMEM: to be looked at again. */
static int record_look(struct odp_watch *w, struct odp_owner *owner, uint32_t index)
{
	struct odp_file_shm *f;
	uint32_t state;

	if (index >= ODP_MAX_FILES)
		return 0;
	f = &owner->peer->seg->files[index];
	/* acquire: the record is as its owner announced it. */
	state = atomic_load_explicit(&f->state, memory_order_acquire);
	if (__atomic_load_n(&f->watch, __ATOMIC_RELAXED) != w->serial)
		return 0;
	if (state == ODP_FILE_ASKED || state == ODP_FILE_KNOWN)
		return record_enter(w, owner, index, state);
	if (state != ODP_FILE_GONE)
		return 0;
	if (owner->nodes[index])
		node_remove(w, owner, owner->nodes[index]);
	/* release: it may be used again. Perhaps it is already: its owner takes over what a
	 * watch that has ended left, and this is an older announcement. */
	atomic_compare_exchange_strong_explicit(&f->state, &state, ODP_FILE_FREE,
						memory_order_release, memory_order_relaxed);
	return 0;
}

/* ---- owners ---- */

static void owner_forget(struct odp_watch *w, struct odp_owner *owner)
{
	for (uint32_t i = 0; owner->nodes && i < ODP_MAX_FILES; i++)
		if (owner->nodes[i])
			node_remove(w, owner, owner->nodes[i]);
	free(owner->nodes);
	owner->nodes = NULL;
	owner->peer = NULL;
	owner->tail = 0;
}

/* Not with the lock held: attaching asks the kernel. */
static struct odp_peer *owner_attach(struct odp_watch *w, unsigned nr)
{
	struct odp_peer *peer;
	int ret = odp_peer_get(w->proc, nr, &peer);

	if (!ret)
		return peer;
	if (ret != -ENOENT)
		odp_log(ODP_LOG_WARN,
			"the process in slot %u has a watched file registered, but cannot be "
			"reached: %s",
			nr, strerrordesc_np(-ret));
	return NULL;
}

/* lock; -ENOMEM: from TAIL on it is to be read again */
static int owner_read(struct odp_watch *w, struct odp_owner *owner)
{
	struct odp_seg *seg = owner->peer->seg;
	/* acquire: pairs with the release store in announce(). */
	uint32_t head = atomic_load_explicit(&seg->files_head, memory_order_acquire);
	int ret = 0;

	if (head - owner->tail > ODP_MAX_FILES / 2) { /* some may be overwritten by now */
		uint32_t high = atomic_load_explicit(&seg->files_high, memory_order_relaxed);

		for (uint32_t i = 0; i < high && i < ODP_MAX_FILES && !ret; i++)
			ret = record_look(w, owner, i);
		if (!ret)
			owner->tail = head;
		return ret;
	}
	while (owner->tail != head && !ret) {
		ret = record_look(
			w, owner,
			atomic_load_explicit(&seg->files_ring[owner->tail % ODP_MAX_FILES],
					     memory_order_relaxed));
		owner->tail += !ret;
	}
	return ret;
}

static void news_set(struct odp_watch *w, unsigned nr)
{
	atomic_fetch_or_explicit(&w->shm->news[nr / 64], 1ull << nr % 64, memory_order_relaxed);
}

static void owner_news(struct odp_watch *w, unsigned nr)
{
	struct odp_owner *owner = &w->owners[nr];
	struct odp_peer *peer = owner_attach(w, nr);

	pthread_mutex_lock(&w->lock);
	/* seq_cst: the bit goes before the announcements are read, and with the lock, so that
	 * a recall sees the bit, or what it was for. */
	atomic_fetch_and_explicit(&w->shm->news[nr / 64], ~(1ull << nr % 64), memory_order_seq_cst);
	if (owner->peer != peer)
		owner_forget(w, owner);
	if (peer && !owner->nodes)
		owner->nodes = calloc(ODP_MAX_FILES, sizeof(struct odp_node *));
	if (peer && owner->nodes) {
		owner->peer = peer;
		/* release: recalls that get the lock after us read its announcements. */
		atomic_store_explicit(&peer->seg->files_ready[w->index], w->serial,
				      memory_order_release);
		if (owner_read(w, owner))
			news_set(w, nr);
	} else if (peer) { /* the next look tries again */
		news_set(w, nr);
	}
	pthread_mutex_unlock(&w->lock);
}

/* The bits stay: one may be of a process that has got the slot since. */
int odp_news_catch(struct odp_watch *w)
{
	int ret = 0;

	for (unsigned i = 0; i < ODP_MAX_PROCS / 64; i++) {
		/* seq_cst: see struct odp_watch_shm. */
		uint64_t bits = atomic_load_explicit(&w->shm->news[i], memory_order_seq_cst);

		for (; bits && !ret; bits &= bits - 1) {
			struct odp_owner *owner = &w->owners[i * 64 + __builtin_ctzll(bits)];

			if (owner->peer && odp_peer_alive(owner->peer))
				ret = owner_read(w, owner);
		}
	}
	return ret;
}

static void owners_bury(struct odp_watch *w)
{
	pthread_mutex_lock(&w->lock);
	for (unsigned nr = 0; nr < ODP_MAX_PROCS; nr++)
		if (w->owners[nr].peer && !odp_peer_alive(w->owners[nr].peer))
			owner_forget(w, &w->owners[nr]);
	pthread_mutex_unlock(&w->lock);
}

static void news_read(struct odp_watch *w)
{
	for (unsigned i = 0; i < ODP_MAX_PROCS / 64; i++) {
		uint64_t bits = atomic_load_explicit(&w->shm->news[i], memory_order_relaxed);

		for (; bits; bits &= bits - 1)
			owner_news(w, i * 64 + (unsigned)__builtin_ctzll(bits));
	}
}

static void *watch_main(void *arg)
{
	const struct timespec look = {.tv_nsec = LOOK_NS};
	struct odp_watch *w = arg;

	while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
		/* seq_cst: the bell before the news; see announce(). */
		uint32_t bell = atomic_load_explicit(&w->shm->bell, memory_order_seq_cst);

		news_read(w);
		pthread_mutex_lock(&w->lock);
		deferred_admit(w);
		pthread_mutex_unlock(&w->lock);
		owners_bury(w);
		odp_sys6(SYS_futex, (long)&w->shm->bell, FUTEX_WAIT, bell, (long)&look, 0, 0);
	}
	return NULL;
}

/* ---- making and ending one ---- */

/* Under the domain's lock: a record of ours, or -EEXIST, -ENOSPC. */
static int shm_claim(struct odp_watch *w, const struct odp_watch_attr *attr)
{
	struct odp_domain *dom = w->proc->domain;
	int found = -ENOSPC;

	for (unsigned i = 0; i < ODP_MAX_WATCHES; i++) {
		struct odp_watch_shm *s = &dom->watches[i];

		if (!odp_watch_alive(w->proc, i))
			found = found < 0 ? (int)i : found;
		else if (s->dev == attr->dev && (s->ino == attr->ino || !s->ino || !attr->ino))
			return -EEXIST;
	}
	if (found < 0)
		return found;
	w->index = (unsigned)found;
	w->shm = &dom->watches[found];
	/* release: readers take the record for none while it changes. */
	atomic_store_explicit(&w->shm->serial, 0, memory_order_release);
	for (unsigned i = 0; i < ODP_MAX_PROCS; i++) /* what a dead one left shut */
		if (atomic_load_explicit(&w->shm->held[i / 64], memory_order_relaxed) >> i % 64 & 1)
			odp_thaw_peer(w->proc, &dom->slots[i], w->index);
	atomic_store_explicit(&w->shm->recalling, 0, memory_order_relaxed);
	w->shm->slot = w->proc->self->nr;
	w->shm->gen = w->proc->self->gen;
	w->shm->lease_ms = attr->lease_ms;
	w->shm->dev = attr->dev;
	w->shm->ino = attr->ino;
	w->shm->policy = attr->policy;
	for (unsigned i = 0; i < ODP_MAX_PROCS / 64; i++)
		atomic_store_explicit(&w->shm->news[i], 0, memory_order_relaxed);
	if (atomic_load_explicit(&dom->watches_high, memory_order_relaxed) <= w->index)
		/* seq_cst: see gate_held(). */
		atomic_store_explicit(&dom->watches_high, w->index + 1, memory_order_seq_cst);
	if (++dom->watch_serial == ODP_WATCH_LOCAL)
		dom->watch_serial = 1;
	w->serial = dom->watch_serial;
	/* release: complete. */
	atomic_store_explicit(&w->shm->serial, w->serial, memory_order_release);
	return 0;
}

static uint32_t lease_default(void)
{
	int s = odp_proc_sys_int("/proc/sys/fs/lease-break-time");

	if (odp_lease_env())
		return odp_lease_env();
	return s > 0 && s < 3600 ? (uint32_t)s * 1000 : 45000;
}

/* No signal of the program's may run on it. */
static int thread_start(struct odp_watch *w)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = odp_saver_start(&w->saver);
	if (!ret) {
		ret = -pthread_create(&w->thread, NULL, watch_main, w);
		if (ret)
			odp_saver_stop(&w->saver);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!ret)
		pthread_setname_np(w->thread, "uodp-watch");
	return ret;
}

ODP_EXPORT int odp_watch_create(struct odp_proc *proc, const struct odp_watch_attr *attr,
				struct odp_watch **watch)
{
	struct odp_watch *w;
	int ret;

	if ((unsigned)attr->policy > ODP_POLICY_DENY)
		return -EINVAL;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->proc = proc;
	w->lease_ms = attr->lease_ms ? attr->lease_ms : lease_default();
	w->leased = attr->leased;
	w->leased_arg = attr->arg;
	pthread_mutex_init(&w->lock, NULL);
	odp_cond_init(&w->changed);
	ret = odp_domain_lock(proc);
	if (ret)
		goto err_free;
	ret = shm_claim(w, attr);
	odp_domain_unlock(proc);
	if (ret)
		goto err_free;
	ret = thread_start(w);
	if (ret)
		goto err_release;
	*watch = w;
	return 0;

err_release:
	atomic_store_explicit(&w->shm->serial, 0, memory_order_release);
err_free:
	free(w);
	return ret;
}

int odp_watch_create_local(struct odp_proc *proc, struct odp_watch **watch)
{
	struct odp_watch *w = calloc(1, sizeof(*w));
	int ret;

	if (!w)
		return -ENOMEM;
	w->shm = aligned_alloc(ODP_CACHELINE, sizeof(*w->shm));
	if (!w->shm) {
		free(w);
		return -ENOMEM;
	}
	memset(w->shm, 0, sizeof(*w->shm));
	w->proc = proc;
	w->local = true;
	w->lease_ms = lease_default();
	w->serial = ODP_WATCH_LOCAL;
	w->index = ODP_MAX_WATCHES;
	atomic_store_explicit(&w->shm->serial, w->serial, memory_order_release);
	pthread_mutex_init(&w->lock, NULL);
	odp_cond_init(&w->changed);
	ret = thread_start(w);
	if (ret) {
		free(w->shm);
		free(w);
		return ret;
	}
	*watch = w;
	return 0;
}

/* Owners learn from their kernel that the watch's process has ended; this is for one that
 * lives on. */
static void owner_tell_end(struct odp_owner *owner)
{
	struct odp_peer *peer = owner->peer;

	if (!peer || !odp_peer_alive(peer))
		return;
	/* release: the watch's serial is gone. */
	atomic_fetch_add_explicit(&peer->seg->watches_ended, 1, memory_order_release);
	odp_bell_ring(peer);
}

ODP_EXPORT void odp_watch_destroy(struct odp_watch *w)
{
	/* release: from here on nobody asks; who waits sees it end. */
	atomic_store_explicit(&w->shm->serial, 0, memory_order_release);
	atomic_store_explicit(&w->stop, true, memory_order_release);
	odp_watch_ring(w);
	pthread_join(w->thread, NULL);
	odp_saver_stop(&w->saver);
	for (unsigned nr = 0; nr < ODP_MAX_PROCS; nr++) {
		if (!w->local)
			owner_tell_end(&w->owners[nr]);
		owner_forget(w, &w->owners[nr]);
	}
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->changed);
	if (w->local)
		free(w->shm);
	free(w);
}
