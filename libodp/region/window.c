/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Windows: keys of their own for parts of regions. Here is the owner's side; users look
 * a window up in transfer/access.c.
 *
 * A window has no translation. Its record (layout.h) names a region and a range of it,
 * and a transfer by its key goes through the region's record, once it has been seen inside
 * the lane that the key still leads there. So invalidation, faults, pagers, pins and
 * recalls know nothing of windows.
 *
 * A region cannot end, nor change its rights, while a window is bound to it. A peer may
 * end a binding (odp_window_release()), and cannot reach what is private here: whether a
 * window is bound is what its record's KEY says, and the list of a region's windows
 * names some that no longer are.
 */
#include "domain.h"
#include "region.h"

#define REMOTE (ODP_ACCESS_REMOTE_WRITE | ODP_ACCESS_REMOTE_READ | ODP_ACCESS_REMOTE_ATOMIC)
#define REMOTE_CHANGES (ODP_ACCESS_REMOTE_WRITE | ODP_ACCESS_REMOTE_ATOMIC)
#define VARIANT 0xffu

struct odp_window {
	struct odp_mem *mem;
	struct odp_window_shm *shm;
	struct odp_region *region;     /* in whose list it is, NULL: none's */
	struct odp_window *next, **at; /* there (mem_lock, as all of this) */
	uint64_t serial;
	uint32_t key; /* its last */
	uint32_t pd;
	bool exclusive;
};

static bool window_bound(const struct odp_window *w)
{
	/* acquire: who finds that a peer has ended it may take the region away. */
	return atomic_load_explicit(&w->shm->key, memory_order_acquire);
}

static void window_unlist(struct odp_window *w)
{
	if (!w->region)
		return;
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
	w->region = NULL;
}

static void window_list(struct odp_window *w, struct odp_region *r)
{
	window_unlist(w);
	w->region = r;
	w->next = r->windows;
	if (w->next)
		w->next->at = &w->next;
	w->at = &r->windows;
	r->windows = w;
}

bool odp_windows_bound(struct odp_region *r)
{
	while (r->windows) {
		if (window_bound(r->windows))
			return true;
		window_unlist(r->windows);
	}
	return false;
}

/* ---- making and ending windows ---- */

/* Any variant of its key is a window's to have, and no key is 0: not index 0. */
static int key_get(struct odp_mem *m, uint32_t *key)
{
	uint32_t first;
	int ret = odp_key_alloc(m, key);

	if (ret || *key >> 8)
		return ret;
	first = *key;
	ret = odp_key_alloc(m, key);
	odp_key_free(m, first);
	return ret;
}

#define SET(shm, member, value) __atomic_store_n(&(shm)->member, value, __ATOMIC_RELAXED)

static void record_init(struct odp_window *w)
{
	struct odp_window_shm *shm =
		(struct odp_window_shm *)&w->mem->proc->self->seg->mrs[w->key >> 8];

	w->shm = shm;
	/* seq_cst: odd while it is a region's no longer and not yet a window's. */
	atomic_fetch_or_explicit(&shm->seq, 1, memory_order_seq_cst);
	SET(shm, no_pd, 0);
	SET(shm, access, 0);
	SET(shm, length, 0);
	SET(shm, pd, w->pd);
	SET(shm, tag, 0);
	SET(shm, exclusive, w->exclusive);
	SET(shm, kind, ODP_KIND_WINDOW);
	/* release: the rest is there with it. */
	atomic_fetch_add_explicit(&shm->seq, 1, memory_order_release);
}

ODP_EXPORT int odp_window_create(struct odp_proc *proc, const struct odp_window_attr *attr,
				 struct odp_window **window)
{
	struct odp_mem *m = proc->mem;
	struct odp_window *w = odp_priv_alloc(sizeof(*w));
	int ret;

	if (!w)
		return -ENOMEM;
	w->mem = m;
	w->pd = attr->pd;
	w->exclusive = attr->exclusive;
	odp_mem_lock(m);
	ret = key_get(m, &w->key);
	if (!ret) {
		w->serial = ++m->window_serial;
		record_init(w);
		m->windows_at[w->key >> 8] = w;
	}
	odp_mem_unlock(m);
	if (ret) {
		odp_priv_free(w, sizeof(*w));
		return ret;
	}
	*window = w;
	return 0;
}

/* True if it was bound. seq_cst: a fence that follows finds whoever has seen KEY. */
static bool window_end(struct odp_window *w)
{
	return atomic_exchange_explicit(&w->shm->key, 0, memory_order_seq_cst);
}

ODP_EXPORT void odp_window_destroy(struct odp_window *w)
{
	struct odp_mem *m = w->mem;
	bool ended;

	odp_mem_lock(m);
	m->windows_at[w->key >> 8] = NULL; /* nobody binds it any more */
	ended = window_end(w);
	odp_mem_unlock(m);
	if (ended)
		odp_quiesce(m->proc);
	odp_mem_lock(m);
	window_unlist(w);
	m->variants[w->key >> 8] = (uint8_t)w->key;
	odp_key_free(m, w->key);
	odp_mem_unlock(m);
	odp_priv_free(w, sizeof(*w));
}

ODP_EXPORT uint32_t odp_window_key(const struct odp_window *w)
{
	return w->key;
}

ODP_EXPORT uint64_t odp_window_serial(const struct odp_window *w)
{
	return w->serial;
}

/* ---- binding (mem_lock) ---- */

static struct odp_window *window_find(struct odp_mem *m, uint32_t key)
{
	return key >> 8 < ODP_MAX_REGIONS ? m->windows_at[key >> 8] : NULL;
}

static struct odp_region *region_find(struct odp_mem *m, uint32_t key)
{
	struct odp_region *r = key >> 8 < ODP_MAX_REGIONS ? m->regions_at[key >> 8] : NULL;

	return r && r->key == key ? r : NULL;
}

/* May W be bound at all, as IBTA 10.6.7.2 has it of its two types? */
static int window_check(const struct odp_window *w, const struct odp_window_bind *b)
{
	if (w->serial != b->serial)
		return -ENOENT;
	if (w->pd != b->pd)
		return -EPERM;
	if (b->access & ~(uint32_t)REMOTE || (w->exclusive && !b->length))
		return -EINVAL;
	return w->exclusive && window_bound(w) ? -EBUSY : 0;
}

static int region_check(const struct odp_region *r, const struct odp_window_bind *b)
{
	const struct odp_mr_shm *mr = r->mr;
	uint64_t off = b->iova - mr->iova, end;

	if (mr->pd != b->pd)
		return -EPERM;
	if (!(mr->access & ODP_ACCESS_BIND) ||
	    ((b->access & REMOTE_CHANGES) && !(mr->access & ODP_ACCESS_LOCAL_WRITE)))
		return -EACCES;
	if (b->iova < mr->iova || off > mr->length || b->length > mr->length - off ||
	    __builtin_add_overflow(b->base, b->length - 1, &end))
		return -ERANGE;
	return 0;
}

static void record_bind(struct odp_window *w, const struct odp_window_bind *b)
{
	struct odp_window_shm *shm = w->shm;

	/* acq_rel: nothing of what follows is seen before SEQ is odd. */
	atomic_fetch_add_explicit(&shm->seq, 1, memory_order_acq_rel);
	SET(shm, access, b->access);
	SET(shm, iova, b->iova);
	SET(shm, base, b->base);
	SET(shm, length, b->length);
	SET(shm, user, b->user);
	atomic_store_explicit(&shm->region, b->region, memory_order_relaxed);
	/* release: the rest is there with it. */
	atomic_fetch_add_explicit(&shm->seq, 1, memory_order_release);
}

static int bind_locked(struct odp_mem *m, const struct odp_window_bind *b, bool *ended)
{
	struct odp_window *w = window_find(m, b->key);
	struct odp_region *r = NULL;
	int ret = w ? window_check(w, b) : -ENOENT;

	if (!ret && b->length) {
		r = region_find(m, b->region);
		ret = r ? region_check(r, b) : -ENOENT;
	}
	if (ret)
		return ret;
	*ended = window_end(w);
	window_unlist(w);
	w->key = b->key;
	if (!r)
		return 0;
	window_list(w, r);
	record_bind(w, b);
	/* release: pairs with the acquire of window_read(). */
	atomic_store_explicit(&w->shm->key, w->key, memory_order_release);
	return 0;
}

ODP_EXPORT int odp_window_bind(struct odp_proc *proc, const struct odp_window_bind *bind,
			       bool *ended)
{
	int ret;

	*ended = false;
	odp_mem_lock(proc->mem);
	ret = bind_locked(proc->mem, bind, ended);
	odp_mem_unlock(proc->mem);
	return ret;
}

static int unbind_locked(struct odp_mem *m, uint32_t key, uint32_t pd)
{
	struct odp_window *w = window_find(m, key);
	uint32_t old = key;

	if (!w || !key)
		return -ENOENT;
	if (w->pd != pd || !w->exclusive)
		return -EPERM;
	/* Exchanged, since a peer may release it meanwhile. seq_cst: as window_end(). */
	if (!atomic_compare_exchange_strong_explicit(&w->shm->key, &old, 0, memory_order_seq_cst,
						     memory_order_relaxed))
		return -ENOENT;
	window_unlist(w);
	return 0;
}

ODP_EXPORT int odp_window_unbind(struct odp_proc *proc, uint32_t key, uint32_t pd, bool *ended)
{
	int ret;

	odp_mem_lock(proc->mem);
	ret = unbind_locked(proc->mem, key, pd);
	odp_mem_unlock(proc->mem);
	*ended = !ret;
	return ret;
}
