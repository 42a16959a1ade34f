/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Atomics. In the pool the CPU does them. Elsewhere they are a read and a write
 * under the owner's lock, which other odp_atomic() calls respect; it is only
 * tried, since its holder may be waiting for a service thread.
 */
#include "mem.h"

static uint64_t result(enum odp_atomic_op op, uint64_t old, uint64_t compare_add, uint64_t swap)
{
	if (op == ODP_FETCH_ADD)
		return old + compare_add;
	return old == compare_add ? swap : old;
}

static int span_io_whole(struct odp_span *span, uint64_t *v, bool write)
{
	uint64_t addr = span->addr;
	size_t done = 0;

	while (done < sizeof(*v)) {
		ssize_t n = odp_span_io(span, (char *)v + done, sizeof(*v) - done, write);

		if (n == -EAGAIN && done)
			continue; /* half a value is worse than a wait */
		if (n <= 0) {
			span->addr = addr;
			return n ? (int)n : -EAGAIN;
		}
		done += (size_t)n;
		span->addr += (uint64_t)n;
	}
	span->addr = addr;
	return 0;
}

static int atomic_locked(struct odp_span *span, enum odp_atomic_op op, uint64_t compare_add,
			 uint64_t swap, uint64_t *old)
{
	struct odp_lock *lock = &span->peer->seg->atomics;
	uint64_t v;
	int ret;

	if (!odp_trylock(odp_self, lock))
		return -EAGAIN;
	ret = span_io_whole(span, old, false);
	if (!ret) {
		v = result(op, *old, compare_add, swap);
		ret = span_io_whole(span, &v, true);
	}
	odp_unlock(lock);
	return ret;
}

static void atomic_cpu(uint64_t *p, enum odp_atomic_op op, uint64_t compare_add, uint64_t swap,
		       uint64_t *old)
{
	/* seq_cst: an atomic is often a lock of the program's making. */
	if (op == ODP_FETCH_ADD) {
		*old = __atomic_fetch_add(p, compare_add, __ATOMIC_SEQ_CST);
		return;
	}
	*old = compare_add;
	__atomic_compare_exchange_n(p, old, swap, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

ODP_EXPORT int odp_atomic(struct odp_span *span, enum odp_atomic_op op, uint64_t compare_add,
			  uint64_t swap, uint64_t *old)
{
	struct odp_lane *lane = odp_lane_get(odp_self);
	void *p;
	int ret;

	if (!span->peer || !span->mr)
		return -EINVAL;
	ret = odp_span_frame(lane, span, sizeof(uint64_t), &p);
	if (!ret) {
		atomic_cpu(p, op, compare_add, swap, old);
		odp_lane_leave(lane);
		return 0;
	}
	/* -ENOTBLK: not in the pool, or (when the program's address is not aligned as
	 * its iova is) not in one piece. */
	if (ret == -ENOTBLK)
		ret = atomic_locked(span, op, compare_add, swap, old);
	span->err = ret == -EINPROGRESS ? -EAGAIN : ret == -EAGAIN ? 0 : ret;
	return ret == -EINPROGRESS ? -EAGAIN : ret;
}
