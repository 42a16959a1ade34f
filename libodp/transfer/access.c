/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Is this access allowed? Asked once a work request; the copy asks the key again. */
#include <errno.h>

#include "transfer.h"

static int mr_check(const struct odp_mr_shm *mr, uint32_t pd, uint64_t iova, uint64_t length,
		    uint32_t access)
{
	uint64_t off = iova - mr->iova;

	if (mr->pd != pd)
		return -EPERM;
	if ((mr->access & access) != access)
		return -EACCES;
	/* Three ways to be outside: before the start, past the end, past 2^64. */
	if (iova < mr->iova || off > mr->length || length > mr->length - off)
		return -ERANGE;
	return 0;
}

ODP_EXPORT int odp_span_region(struct odp_span *span, struct odp_peer *peer, uint32_t key,
			       uint32_t pd, uint64_t iova, uint64_t length, uint32_t access)
{
	struct odp_mr_shm *mr;
	int ret;

	span->peer = peer;
	span->mr = NULL;
	span->addr = iova;
	span->key = key;
	span->err = 0;
	span->guard = NULL;
	span->when = 0;
	if (!length)
		return 0;
	if (!key || key >> 8 >= ODP_MAX_REGIONS)
		return -ENOENT;
	mr = &peer->seg->mrs[key >> 8];
	/* acquire: pairs with the release store of KEY that published the record. */
	if (atomic_load_explicit(&mr->key, memory_order_acquire) != key)
		return -ENOENT;
	ret = mr_check(mr, pd, iova, length, access);
	/* The record may have been given away while it was read. */
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&mr->key, memory_order_relaxed) != key)
		return -ENOENT;
	span->mr = mr;
	return ret;
}

/* ---- windows (window.c) ---- */

#define WINDOW_TRIES 64

/* What a window's record says, read at one moment. */
struct window {
	uint32_t access, region, pd;
	uint64_t iova, base, length, user;
	bool exclusive;
};

static struct odp_window_shm *window_record(struct odp_peer *peer, uint32_t key)
{
	return (struct odp_window_shm *)&peer->seg->mrs[key >> 8];
}

#define GET(member) __atomic_load_n(&rec->member, __ATOMIC_RELAXED)

static bool window_try(struct odp_window_shm *rec, uint32_t key, struct window *w)
{
	/* acquire: what is read below is no older than SEQ and KEY. */
	uint32_t seq = atomic_load_explicit(&rec->seq, memory_order_acquire);

	if (seq & 1 || atomic_load_explicit(&rec->key, memory_order_acquire) != key ||
	    GET(kind) != ODP_KIND_WINDOW)
		return false;
	*w = (struct window){.access = GET(access),
			     .region = atomic_load_explicit(&rec->region, memory_order_relaxed),
			     .pd = GET(pd),
			     .iova = GET(iova),
			     .base = GET(base),
			     .length = GET(length),
			     .user = GET(user),
			     .exclusive = GET(exclusive)};
	/* acquire: nor newer. */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&rec->seq, memory_order_relaxed) == seq &&
	       atomic_load_explicit(&rec->key, memory_order_relaxed) == key;
}

/* Is KEY of PEER that of a bound window? Then it is in *W. */
static bool window_read(struct odp_peer *peer, uint32_t key, struct window *w)
{
	struct odp_window_shm *rec;

	if (!key || key >> 8 >= ODP_MAX_REGIONS)
		return false;
	rec = window_record(peer, key);
	for (int i = 0; i < WINDOW_TRIES; i++) {
		if (window_try(rec, key, w))
			return true;
		if (atomic_load_explicit(&rec->key, memory_order_acquire) != key ||
		    GET(kind) != ODP_KIND_WINDOW)
			break; /* and not a binding that is being changed */
	}
	return false;
}

bool odp_window_leads(struct odp_peer *peer, uint32_t key, uint32_t region)
{
	struct odp_window_shm *rec = window_record(peer, key);

	/* seq_cst: pairs with the fence of who clears KEY. A binding that is being changed
	 * is none of the caller's: it was ended first. */
	return region && atomic_load_explicit(&rec->key, memory_order_seq_cst) == key &&
	       GET(kind) == ODP_KIND_WINDOW &&
	       atomic_load_explicit(&rec->region, memory_order_relaxed) == region;
}

/* As mr_check(). */
static int window_check(const struct window *w, uint32_t pd, uint64_t user, uint64_t iova,
			uint64_t length, uint32_t access)
{
	const uint32_t remote =
		ODP_ACCESS_REMOTE_WRITE | ODP_ACCESS_REMOTE_READ | ODP_ACCESS_REMOTE_ATOMIC;
	uint64_t off = iova - w->base;

	if (w->pd != pd || (w->exclusive && w->user != user))
		return -EPERM;
	/* A window is for others alone: it gives no right to one's own. */
	if (!(access & remote) || (w->access & access) != access)
		return -EACCES;
	if (iova < w->base || off > w->length || length > w->length - off)
		return -ERANGE;
	return 0;
}

ODP_EXPORT int odp_span_window(struct odp_span *span, struct odp_peer *peer, uint32_t key,
			       uint32_t pd, uint64_t user, uint64_t iova, uint64_t length,
			       uint32_t access)
{
	struct odp_mr_shm *mr;
	struct window w;
	int ret;

	if (!window_read(peer, key, &w) || w.region >> 8 >= ODP_MAX_REGIONS)
		return -ENOENT;
	ret = window_check(&w, pd, user, iova, length, access);
	if (ret)
		return ret;
	/* The region's record keeps its bounds: the peer's tables are not trusted. */
	mr = &peer->seg->mrs[w.region >> 8];
	ret = odp_span_region(span, peer, w.region, pd, w.iova + (iova - w.base), length, 0);
	if (ret)
		return ret;
	if (span->mr != mr) /* no bytes */
		return 0;
	span->key = key;
	return 0;
}

ODP_EXPORT int odp_window_release(struct odp_peer *peer, uint32_t key, uint32_t pd, uint64_t user)
{
	uint32_t old = key;
	struct window w;

	if (!window_read(peer, key, &w))
		return -ENOENT;
	if (!w.exclusive || w.pd != pd || w.user != user)
		return -EPERM;
	/* seq_cst: as the owner's own (window.c). */
	return atomic_compare_exchange_strong_explicit(&window_record(peer, key)->key, &old, 0,
						       memory_order_seq_cst, memory_order_relaxed)
		       ? 0
		       : -ENOENT;
}

#undef GET

ODP_EXPORT int odp_key_invalidate(struct odp_peer *peer, uint32_t key, uint32_t pd)
{
	const uint32_t remote =
		ODP_ACCESS_REMOTE_WRITE | ODP_ACCESS_REMOTE_READ | ODP_ACCESS_REMOTE_ATOMIC;
	struct odp_span span;
	int ret;

	ret = odp_span_region(&span, peer, key, pd, 0, 1, 0);
	if (ret && ret != -ERANGE)
		return ret;
	__atomic_fetch_and(&span.mr->access, ~remote, __ATOMIC_RELAXED);
	return 0;
}
