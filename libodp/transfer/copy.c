/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Copies between spans: one load of each page's entry, one copy, inside a lane. */
#include <sched.h>

#include "backing.h"
#include "domain.h"
#include "move.h"
#include "peer.h"
#include "pool.h"
#include "transfer.h"

#define ENTER_TRIES 256
#define RESTARTS 64

/* Where a span's next bytes are. */
struct run {
	odp_entry_t where; /* ODP_E_POOL: N bytes at PTR; else ask another way */
	char *ptr;         /* NULL: what is written is lost */
	uint64_t n;
	uint64_t page; /* of the region */
	uint64_t addr; /* in the owner's address space */
	uint64_t gate; /* the owner's, when this was found */
	odp_entry_t entry;
	bool missing; /* ODP_E_VA: to be faulted in */
	bool refused; /* ODP_E_VA: not to be reached */
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* A gate is shut for some microseconds at most times: wait that long. */
static bool lane_enter_wait(struct odp_lane *lane, struct odp_peer *a, struct odp_peer *b)
{
	for (int i = 0; i < ENTER_TRIES; i++) {
		if (odp_lane_enter(lane, a, b))
			return true;
		if (i % 16 == 15)
			sched_yield();
		else
			cpu_relax();
	}
	odp_gate_heal(odp_self, a->slot);
	odp_gate_heal(odp_self, b->slot);
	return false;
}

static inline uint64_t mr_pos(const struct odp_mr_shm *mr, uint64_t iova)
{
	return iova - mr->iova + (mr->addr & ODP_PAGE_MASK);
}

/* seq_cst, inside the lane: pairs with odp_quiesce() of who changed it. */
static inline bool span_canceled(const struct odp_span *span)
{
	return odp_unlikely(span->guard &&
			    __atomic_load_n(span->guard, __ATOMIC_SEQ_CST) != span->guard_value);
}

/* N bytes within one valid page of the pool, or NULL: the common case. */
static inline char *span_fast(const struct odp_span *span, size_t n, odp_entry_t need)
{
	const struct odp_mr_shm *mr = span->mr;
	uint64_t pos, at, xlat;
	odp_entry_t e;
	char *win;

	if (!span->peer)
		return (char *)(uintptr_t)span->addr;
	/* acquire: pairs with the store of KEY; what follows belongs to it. A window's key is
	 * never the record's: those go the slow way (span_valid()). */
	if (!mr || atomic_load_explicit(&mr->key, memory_order_acquire) != span->key ||
	    span_canceled(span))
		return NULL;
	pos = mr_pos(mr, span->addr);
	xlat = mr->xlat + (pos >> ODP_PAGE_SHIFT) * sizeof(odp_entry_t);
	if ((pos & ODP_PAGE_MASK) + n > ODP_PAGE_SIZE ||
	    pos >> ODP_PAGE_SHIFT >= odp_mr_npages(mr) || xlat > ODP_SEG_SIZE - sizeof(odp_entry_t))
		return NULL;
	/* acquire: pairs with the store that made the page valid. */
	e = atomic_load_explicit((_Atomic odp_entry_t *)((char *)span->peer->seg + xlat),
				 memory_order_acquire);
	at = (e & ODP_E_FRAME) + (pos & ODP_PAGE_MASK);
	if ((e & need) != (need & ~(ODP_E_WHERE ^ ODP_E_POOL)) || at >= ODP_POOL_SIZE)
		return NULL;
	win = atomic_load_explicit(&span->peer->windows[at >> ODP_WINDOW_SHIFT],
				   memory_order_acquire);
	return win ? win + (at & ODP_WINDOW_MASK) : NULL;
}

/*
 * Inside a lane: is SPAN's key still the one of its region, or of a window on it? seq_cst:
 * pairs with the fence of who clears the key, of either.
 */
static bool span_valid(const struct odp_span *span)
{
	uint32_t key = atomic_load_explicit(&span->mr->key, memory_order_seq_cst);

	return odp_likely(key == span->key) || odp_window_leads(span->peer, span->key, key);
}

static bool entry_ok(odp_entry_t e, bool write)
{
	odp_entry_t need = ODP_E_VALID | (write ? ODP_E_WRITE : 0);

	return (e & need) == need;
}

/* The frames after the first that follow on from it, in the pool and in the region. */
static uint64_t run_extend(const struct odp_span *span, uint64_t page, odp_entry_t e, uint64_t n,
			   uint64_t max, bool write)
{
	while (n < max) {
		_Atomic odp_entry_t *p = odp_xlat_entry(span->peer, span->mr, ++page);
		odp_entry_t next = p ? atomic_load_explicit(p, memory_order_acquire) : 0;

		/* Of the owner's: a fault begins where validity ends. */
		if ((next & ODP_E_WHERE) != (e & ODP_E_WHERE) ||
		    ((e & ODP_E_WHERE) == ODP_E_VA &&
		     ((next ^ e) & (ODP_E_VALID | ODP_E_NOACCESS))) ||
		    ((e & ODP_E_WHERE) == ODP_E_PIN && ((next ^ e) & ODP_E_FRAME)))
			break;
		if ((e & ODP_E_WHERE) == ODP_E_POOL &&
		    (!entry_ok(next, write) || !((next & ODP_E_FRAME) & ODP_WINDOW_MASK) ||
		     (next & ODP_E_FRAME) != (e & ODP_E_FRAME) + ODP_PAGE_SIZE))
			break;
		n += ODP_PAGE_SIZE;
		e = next;
	}
	return odp_min(n, max);
}

static int fault_pool(struct odp_span *span, uint64_t page, uint64_t want, bool write)
{
	struct odp_pending pending;
	int ret = odp_inject(span->peer, span->mr, page, want << ODP_PAGE_SHIFT, write, &pending,
			     &span->when);

	if (ret)
		return ret;
	ret = odp_fault_pool(span->peer, span->mr, page, want, write, false);
	odp_inject_end(&pending);
	return ret;
}

/* A page in the owner's address space that counts as missing; asked once a fault,
 * where the copy follows. */
static int fault_va(struct odp_span *span, const struct run *run, bool write,
		    struct odp_pending *pending)
{
	if (!run->refused)
		return odp_inject(span->peer, span->mr, run->page,
				  odp_page_up((run->addr & ODP_PAGE_MASK) + run->n), write, pending,
				  &span->when);
	atomic_fetch_add_explicit(&span->mr->page_faults, 1, memory_order_relaxed);
	return -EFAULT;
}

/* In a region that is nowhere. */
static int run_null(const struct odp_mr_shm *mr, uint64_t max, bool write, struct run *run)
{
	static const char zeros[16 * ODP_PAGE_SIZE];

	if (odp_mr_flags(mr) & ODP_MR_REVOKED)
		return -EFAULT;
	/* Only the reading side of a copy looks at it. */
	*run = (struct run){.where = ODP_E_POOL,
			    .ptr = write ? NULL : (char *)(uintptr_t)zeros,
			    .n = odp_min(max, sizeof(zeros))};
	return 0;
}

/* Inside the lane: find SPAN's next bytes, at most MAX, faulting them in.
 * -EINPROGRESS: a fault takes its time. */
static int run_find(struct odp_span *span, uint64_t max, bool write, struct run *run)
{
	struct odp_mr_shm *mr = span->mr;
	_Atomic odp_entry_t *p;
	odp_entry_t e;
	uint64_t pos, in;
	int ret;

	if (!span->peer) {
		*run = (struct run){
			.where = ODP_E_POOL, .ptr = (char *)(uintptr_t)span->addr, .n = max};
		return 0;
	}
	if (!mr || !span_valid(span))
		return -EKEYREVOKED;
	if (span_canceled(span))
		return -ECANCELED;
	/* As if it had been revoked, which its owner may be too stopped to do. */
	if (odp_unlikely(odp_mr_flags(mr) >> ODP_MR_POLICY >= ODP_POLICY_REVOKE) &&
	    !odp_watches_keep(odp_self, span->peer, mr))
		return -EFAULT;
	if (odp_unlikely(mr->kind == ODP_NULL))
		return run_null(mr, max, write, run);
	pos = mr_pos(mr, span->addr);
	in = pos & ODP_PAGE_MASK;
	run->page = pos >> ODP_PAGE_SHIFT;
	run->addr = (odp_mr_flags(mr) & ODP_MR_SHADOW ? mr->shadow : odp_page_down(mr->addr)) + pos;
	p = odp_xlat_entry(span->peer, mr, run->page);
	if (!p)
		return -EFAULT;
	e = atomic_load_explicit(p, memory_order_acquire);
	if ((e & ODP_E_WHERE) == ODP_E_POOL && !entry_ok(e, write)) {
		ret = fault_pool(span, run->page, odp_page_up(in + max) >> ODP_PAGE_SHIFT, write);
		if (ret)
			return ret;
		e = atomic_load_explicit(p, memory_order_acquire);
		if ((e & ODP_E_WHERE) == ODP_E_POOL && !entry_ok(e, write))
			return -EAGAIN;
	}
	run->entry = e;
	run->where = e & ODP_E_WHERE;
	run->missing = run->where == ODP_E_VA && !(e & ODP_E_VALID);
	run->refused = e & ODP_E_NOACCESS;
	run->n = run_extend(span, run->page, e, odp_min(ODP_PAGE_SIZE - in, max), max, write);
	if (run->where != ODP_E_POOL)
		return run->where ? 0 : -EFAULT;
	run->ptr = odp_pool_ptr(span->peer, (e & ODP_E_FRAME) + in, run->n);
	return run->ptr ? 0 : -EFAULT;
}

/* Not yet as an access leaves it? */
static bool va_unmarked(odp_entry_t e)
{
	return (e & ODP_E_WHERE) == ODP_E_VA && (e & (ODP_E_VALID | ODP_E_FRESH)) != ODP_E_VALID;
}

/* The page was reached: true if that was a fault. KEEP: and it may be valid from now on. */
static bool va_mark(_Atomic odp_entry_t *p, bool keep)
{
	odp_entry_t e = atomic_load_explicit(p, memory_order_relaxed);

	if (!va_unmarked(e))
		return false;
	if (!keep)
		return !(e & ODP_E_VALID);
	return atomic_compare_exchange_strong_explicit(p, &e, (e | ODP_E_VALID) & ~ODP_E_FRESH,
						       memory_order_relaxed,
						       memory_order_relaxed) &&
	       !(e & ODP_E_VALID);
}

/*
 * Inside the pool side, which an invalidation waits for: if there has been one since RUN
 * was found, the page that was reached may be gone, and stays invalid (follow.c).
 */
static void va_faulted(struct odp_span *span, const struct run *run, uint64_t pages)
{
	struct odp_lane *lane = odp_lane_get(odp_self);
	struct odp_mr_shm *mr = span->mr;
	bool inside = odp_lane_enter(lane, span->peer, span->peer);
	bool keep = inside && atomic_load_explicit(&span->peer->slot->gate, memory_order_relaxed) ==
				      run->gate;
	uint64_t won = 0;

	for (uint64_t i = 0; i < pages; i++) {
		_Atomic odp_entry_t *p = odp_xlat_entry(span->peer, mr, run->page + i);

		won += p && va_mark(p, keep);
	}
	if (inside)
		odp_lane_leave(lane);
	atomic_fetch_add_explicit(&mr->page_faults, won, memory_order_relaxed);
	atomic_fetch_add_explicit(&mr->page_faults_handled, won, memory_order_relaxed);
	if (keep)
		atomic_fetch_add_explicit(&mr->pages_valid, won, memory_order_relaxed);
}

/* Pages of the owner's address space that were reached count as faulted in. */
static void va_count(struct odp_span *span, const struct run *run, uint64_t n, bool ok)
{
	uint64_t pages = (((run->addr & ODP_PAGE_MASK) + n - 1) >> ODP_PAGE_SHIFT) + 1;

	if (!ok) {
		atomic_fetch_add_explicit(&span->mr->page_faults, 1, memory_order_relaxed);
		return;
	}
	for (uint64_t i = 0; i < pages; i++) {
		_Atomic odp_entry_t *p = odp_xlat_entry(span->peer, span->mr, run->page + i);

		if (p && odp_unlikely(va_unmarked(atomic_load_explicit(p, memory_order_relaxed)))) {
			va_faulted(span, run, pages);
			return;
		}
	}
}

/*
 * Enter the system-call side for RUN, found a moment ago. -ERESTART: something has
 * happened since, as the gate tells: pages have moved, to the pool (convert.c) or
 * away from their file (recall.c), and RUN is no longer true. seq_cst after
 * entering: pairs with odp_fence(proc, true) of who shuts the gate or clears the
 * key.
 */
static int run_enter(struct odp_lane *lane, const struct odp_span *span, const struct run *run)
{
	int ret = 0;

	odp_lane_va_enter(lane);
	if (atomic_load_explicit(&span->peer->slot->gate, memory_order_seq_cst) != run->gate)
		ret = -ERESTART;
	else if (!span_valid(span))
		ret = -EKEYREVOKED;
	else if (span_canceled(span))
		ret = -ECANCELED;
	if (ret)
		odp_lane_va_leave(lane);
	return ret;
}

/* By a descriptor of the owner's. */
static ssize_t run_copy_fd(struct odp_span *span, const struct run *run, void *buf, size_t n,
			   bool write)
{
	uint64_t pos = run->addr - odp_page_down(span->mr->addr);

	if (odp_self->mem->pipe_rd < 0)
		return -EFAULT;
	if (span->mr->backing == ODP_BACKING_FD)
		return odp_fd_io(span->peer, span->mr, run->entry, pos, buf, n, write);
	return write ? -EFAULT : odp_pipe_io(span->peer, run->entry, pos, buf, n);
}

/* Does RUN take pages for valid that are gone? Then it is to be found anew. */
static bool run_gone(struct odp_span *span, const struct run *run, size_t n)
{
	if (run->where != ODP_E_VA || (odp_mr_flags(span->mr) & ODP_MR_SHADOW))
		return false;
	/* Of those around a missing page too, before its fault hides that they are gone. */
	return odp_va_gone(span, run->addr, n) && !run->missing;
}

/* Copied or failed, and not to be tried again. */
static bool run_ended(ssize_t ret)
{
	return ret != -EAGAIN && ret != -ERESTART && ret != -EINPROGRESS;
}

/* The region's, where SPAN's is a window's. Not to be trusted: it may be gone. */
static uint32_t mr_key(const struct odp_span *span)
{
	return atomic_load_explicit(&span->mr->key, memory_order_relaxed);
}

/* In the system-call side. -EINPROGRESS: as run_find(). */
static ssize_t run_copy(struct odp_span *span, const struct run *run, void *buf, size_t n,
			bool write)
{
	ssize_t ret = 0;

	if (run->where == ODP_E_PIN && (run->entry & ODP_E_FRAME))
		return run_copy_fd(span, run, buf, n, write);
	if (run->where == ODP_E_PIN)
		return odp_pin_io(span->peer, span->mr, run->addr, buf, n, write);
	if (odp_unlikely(odp_mr_flags(span->mr) & ODP_MR_FOREIGN))
		ret = odp_foreign_ready(span->peer, mr_key(span), run->addr, n, &span->when);
	if (!ret)
		ret = odp_va_io(span->peer, run->addr, buf, n, write, run->gate);
	/* A page that was not there may have gone while RUN became untrue (seq_cst: as
	 * run_enter()): look again. */
	if (ret == -EFAULT &&
	    atomic_load_explicit(&span->peer->slot->gate, memory_order_seq_cst) != run->gate)
		return -ERESTART;
	if (run_ended(ret))
		va_count(span, run, ret > 0 ? (uint64_t)ret : n, ret > 0);
	return ret;
}

/* Outside the pool side: the system calls may wait for the owner's service thread. */
static ssize_t run_io(struct odp_span *span, const struct run *run, void *buf, size_t n, bool write)
{
	struct odp_lane *lane = odp_lane_get(odp_self);
	ssize_t ret = run_enter(lane, span, run);

	if (ret)
		return ret;
	ret = run_gone(span, run, n) ? -ERESTART : run_copy(span, run, buf, n, write);
	odp_lane_va_leave(lane);
	return ret;
}

static uint64_t gate_of(const struct odp_peer *peer)
{
	/* relaxed: inside a lane, which was entered with the gate open. */
	return atomic_load_explicit(&peer->slot->gate, memory_order_relaxed);
}

static ssize_t span_io(struct odp_span *span, void *buf, size_t n, bool write)
{
	struct odp_lane *lane = odp_lane_get(odp_self);
	struct odp_peer *peer = span->peer ? span->peer : odp_self->self;
	struct odp_pending pending = {0};
	struct run run = {0};
	ssize_t ret;

	if (!lane_enter_wait(lane, peer, peer))
		return -EAGAIN;
	run.gate = gate_of(peer);
	ret = run_find(span, n, write, &run);
	if (!ret && odp_unlikely(run.missing))
		ret = fault_va(span, &run, write, &pending);
	if (!ret && run.where == ODP_E_POOL) {
		if (!write)
			odp_move(buf, run.ptr, run.n);
		else if (run.ptr)
			odp_move(run.ptr, buf, run.n);
	}
	odp_lane_leave(lane);
	if (ret)
		return ret;
	n = run.n;
	if (run.where == ODP_E_POOL)
		return (ssize_t)n;
	ret = run_io(span, &run, buf, n, write);
	if (run_ended(ret))
		odp_inject_end(&pending);
	return ret;
}

ssize_t odp_span_io(struct odp_span *span, void *buf, size_t n, bool write)
{
	ssize_t ret = -ERESTART;

	for (int i = 0; i < RESTARTS && ret == -ERESTART; i++)
		ret = span_io(span, buf, n, write);
	return ret == -ERESTART ? -EAGAIN : ret;
}

/* A load and a store between which the page stays where it is. */
static int span_update(struct odp_span *span, odp_update_fn fn, const void *arg, uint64_t *old)
{
	struct odp_lane *lane = odp_lane_get(odp_self);
	struct odp_pending pending = {0};
	struct run run = {0};
	uint64_t new;
	ssize_t ret;

	if (!lane_enter_wait(lane, span->peer, span->peer))
		return -EAGAIN;
	run.gate = gate_of(span->peer);
	ret = run_find(span, sizeof(new), true, &run);
	if (!ret && run.missing)
		ret = fault_va(span, &run, true, &pending);
	odp_lane_leave(lane);
	if (!ret && (run.where == ODP_E_POOL || run.n < sizeof(new)))
		ret = -ENOTBLK;
	if (!ret)
		ret = run_enter(lane, span, &run);
	if (ret)
		return (int)ret;
	ret = run_gone(span, &run, sizeof(new)) ? -ERESTART
						: run_copy(span, &run, old, sizeof(new), false);
	if (ret == sizeof(new)) {
		new = fn(*old, arg);
		ret = run_copy(span, &run, &new, sizeof(new), true);
	}
	odp_lane_va_leave(lane);
	if (run_ended(ret))
		odp_inject_end(&pending);
	return ret == sizeof(new) ? 0 : ret < 0 ? (int)ret : -EFAULT;
}

int odp_span_update(struct odp_span *span, odp_update_fn fn, const void *arg, uint64_t *old)
{
	int ret = -ERESTART;

	/* Nothing was stored then. */
	for (int i = 0; i < RESTARTS && ret == -ERESTART; i++)
		ret = span_update(span, fn, arg, old);
	return ret == -ERESTART ? -EAGAIN : ret;
}

int odp_span_frame(struct odp_lane *lane, struct odp_span *span, size_t n, void **ptr)
{
	struct run run = {0};
	int ret;

	if (!lane_enter_wait(lane, span->peer, span->peer))
		return -EAGAIN;
	ret = run_find(span, n, true, &run);
	if (!ret && (run.where != ODP_E_POOL || run.n < n || ((uintptr_t)run.ptr & (n - 1))))
		ret = -ENOTBLK;
	*ptr = run.ptr;
	if (ret)
		odp_lane_leave(lane);
	return ret;
}

static int span_fail(struct odp_span *span, int err)
{
	if (err == -EINPROGRESS)
		return span->err = -EAGAIN;
	if (err != -EAGAIN)
		span->err = err;
	return err;
}

/* At least one side is not in the pool: by way of a buffer, if need be. */
static int copy_bounce(struct odp_span *dst, struct odp_span *src, size_t *len)
{
	char small[2048], *buf = NULL, *big = NULL;
	ssize_t got, put = 0;
	size_t n = odp_min(*len, ODP_BOUNCE_SIZE);

	*len = 0;
	if (!src->peer) {
		buf = (char *)(uintptr_t)src->addr;
		got = (ssize_t)n;
	} else if (!dst->peer) {
		got = odp_span_io(src, (void *)(uintptr_t)dst->addr, n, false);
		put = got;
	} else {
		if (n > sizeof(small))
			big = odp_bounce_get(odp_self->mem);
		buf = big ? big : small;
		got = odp_span_io(src, buf, big ? n : odp_min(n, sizeof(small)), false);
	}
	while (got > 0 && put < got) {
		struct odp_span at = *dst;
		ssize_t ret;

		at.addr += (uint64_t)put;
		ret = odp_span_io(&at, buf + put, (size_t)(got - put), true);
		dst->when = at.when;
		if (ret <= 0) {
			if (!put)
				put = ret;
			break;
		}
		put += ret;
		if (odp_inject_active(dst))
			break;
	}
	if (big)
		odp_bounce_put(odp_self->mem, big);
	if (got < 0)
		return span_fail(src, (int)got);
	if (put < 0)
		return span_fail(dst, (int)put);
	dst->addr += (uint64_t)put;
	src->addr += (uint64_t)put;
	*len = (size_t)put;
	return put ? 0 : -EAGAIN;
}

/* As much as one look at both sides' entries allows. */
static int copy_step(struct odp_lane *lane, struct odp_span *dst, struct odp_span *src, size_t max,
		     size_t *done)
{
	struct odp_peer *a = dst->peer ? dst->peer : odp_self->self;
	struct odp_peer *b = src->peer ? src->peer : odp_self->self;
	struct run d, s;
	int ret;

	*done = 0;
	if (!lane_enter_wait(lane, a, b))
		return -EAGAIN;
	ret = run_find(src, max, false, &s);
	if (ret) {
		ret = span_fail(src, ret);
		goto out;
	}
	ret = run_find(dst, s.n, true, &d);
	if (ret) {
		ret = span_fail(dst, ret);
		goto out;
	}
	if (d.where != ODP_E_POOL || s.where != ODP_E_POOL) {
		ret = -ENOTBLK;
		goto out;
	}
	*done = odp_min(d.n, s.n);
	if (odp_likely(d.ptr))
		odp_move(d.ptr, s.ptr, *done);
	dst->addr += *done;
	src->addr += *done;
out:
	odp_lane_leave(lane);
	return ret;
}

static __attribute__((noinline)) int copy_slow(struct odp_lane *lane, struct odp_span *dst,
					       struct odp_span *src, size_t *len)
{
	size_t want = odp_min(*len, ODP_SLICE), done = 0, n;
	int ret = 0;

	dst->err = src->err = 0;
	while (done < want) {
		ret = copy_step(lane, dst, src, want - done, &n);
		done += n;
		/* A fault that is made to fail must not be asked for twice. */
		if (!ret && (odp_inject_active(dst) || odp_inject_active(src)))
			break;
		if (!ret)
			continue;
		/* What was copied stands; the rest, or its error, is for the next call. */
		if (done) {
			dst->err = src->err = 0;
			ret = 0;
		} else if (ret == -ENOTBLK) {
			n = want;
			ret = copy_bounce(dst, src, &n);
			done = n;
		}
		break;
	}
	*len = done;
	return ret;
}

ODP_EXPORT int odp_copy(struct odp_span *dst, struct odp_span *src, size_t *len)
{
	struct odp_lane *lane = odp_lane_get(odp_self);
	size_t n = *len;

	if (odp_likely(n - 1 < ODP_PAGE_SIZE &&
		       odp_lane_enter(lane, dst->peer ? dst->peer : odp_self->self,
				      src->peer ? src->peer : odp_self->self))) {
		char *d = span_fast(dst, n, ODP_E_WHERE | ODP_E_VALID | ODP_E_WRITE);
		char *s = span_fast(src, n, ODP_E_WHERE | ODP_E_VALID);

		if (odp_likely(d && s)) {
			odp_move(d, s, n);
			odp_lane_leave(lane);
			dst->addr += n;
			src->addr += n;
			return 0;
		}
		odp_lane_leave(lane);
	}
	return copy_slow(lane, dst, src, len);
}
