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
