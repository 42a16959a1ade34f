/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Atomics. In the pool the CPU does them. Elsewhere they are a read and a write
 * under the owner's lock, which other odp_atomic() calls respect; it is only
 * tried, since its holder may be waiting for a service thread.
 */
#include "domain.h"
#include "transfer.h"

struct operands {
	enum odp_atomic_op op;
	uint64_t compare_add, swap;
};

static uint64_t result(uint64_t old, const void *arg)
{
	const struct operands *o = arg;

	if (o->op == ODP_FETCH_ADD)
		return old + o->compare_add;
	if (o->op == ODP_STORE)
		return o->compare_add;
	return old == o->compare_add ? o->swap : old;
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

/* Over a page's end, or not aligned in the pool. */
static int atomic_pieces(struct odp_span *span, const struct operands *o, uint64_t *old)
{
	uint64_t v;
	int ret = span_io_whole(span, old, false);

	if (ret)
		return ret;
	v = result(*old, o);
	return span_io_whole(span, &v, true);
}

static int atomic_locked(struct odp_span *span, const struct operands *o, uint64_t *old)
{
	struct odp_lock *lock = &span->peer->seg->atomics;
	int ret;

	if (!odp_lock_try(odp_self, lock))
		return -EAGAIN;
	ret = odp_span_update(span, result, o, old);
	if (ret == -ENOTBLK)
		/* An aligned word has moved to the pool: others use the CPU's by now. */
		ret = odp_span_aligned(span, sizeof(*old)) ? -EAGAIN : atomic_pieces(span, o, old);
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
	if (op == ODP_STORE) {
		*old = __atomic_exchange_n(p, compare_add, __ATOMIC_SEQ_CST);
		return;
	}
	*old = compare_add;
	__atomic_compare_exchange_n(p, old, swap, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

ODP_EXPORT int odp_atomic(struct odp_span *span, enum odp_atomic_op op, uint64_t compare_add,
			  uint64_t swap, uint64_t *old)
{
	struct odp_lane *lane = odp_lane_get(odp_self);
	const struct operands o = {op, compare_add, swap};
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
		ret = atomic_locked(span, &o, old);
	span->err = ret == -EINPROGRESS ? -EAGAIN : ret == -EAGAIN ? 0 : ret;
	return ret == -EINPROGRESS ? -EAGAIN : ret;
}
