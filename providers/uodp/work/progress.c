/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Send queues whose head waits: for a receive at the responder, for a page in
 * transition, for a peer that is not there. Whoever polls a CQ runs them, and the
 * service thread at their deadline.
 *
 * No wake-up is lost: uodp_pending_set() sets the bit, then reads service_next;
 * the service thread sets service_next to "never" before it looks at the bits,
 * so one of the two sees the other (both sides seq_cst).
 */
#include "queue.h"

struct uodp_qp *uodp_qp_pin(struct uodp_proc *proc, uint32_t index)
{
	struct uodp_qp *qp;

	if (index >= UODP_MAX_QP)
		return NULL;
	pthread_mutex_lock(&proc->pin_lock);
	qp = proc->live[index];
	if (qp)
		qp->refs++;
	pthread_mutex_unlock(&proc->pin_lock);
	return qp;
}

void uodp_qp_unpin(struct uodp_qp *qp)
{
	struct uodp_proc *proc = qp->proc;

	pthread_mutex_lock(&proc->pin_lock);
	qp->refs--;
	pthread_mutex_unlock(&proc->pin_lock);
}

bool uodp_on_service_thread(const struct uodp_proc *proc)
{
	/* acquire: pairs with the release in the service handler */
	return atomic_load_explicit(&proc->service_known, memory_order_acquire) &&
	       pthread_equal(proc->service, pthread_self());
}

void uodp_pending_set(struct uodp_qp *qp)
{
	struct uodp_proc *proc = qp->proc;

	if (!qp->waiting) {
		qp->waiting = true;
		atomic_fetch_or_explicit(&proc->pending[qp->index / 64], 1ull << (qp->index % 64),
					 memory_order_seq_cst);
		atomic_fetch_add_explicit(&proc->npending, 1, memory_order_relaxed);
	}
	if (qp->x.deadline < atomic_load_explicit(&proc->service_next, memory_order_seq_cst) &&
	    !uodp_on_service_thread(proc))
		odp_bell_ring(proc->self);
}

void uodp_pending_clear(struct uodp_qp *qp)
{
	struct uodp_proc *proc = qp->proc;

	if (uodp_likely(!qp->waiting))
		return;
	qp->waiting = false;
	atomic_fetch_and_explicit(&proc->pending[qp->index / 64], ~(1ull << (qp->index % 64)),
				  memory_order_relaxed);
	atomic_fetch_sub_explicit(&proc->npending, 1, memory_order_relaxed);
}

#define BUSY_NS 50000u /* when to come back to a queue that somebody else runs */

static uint64_t run_one(struct uodp_qp *qp, uint64_t now, bool service)
{
	uint64_t next = UINT64_MAX;

	if (!uodp_spin_try(&qp->sq_lock))
		return now + BUSY_NS;
	/* A poller looks at once whether what it waits for is there, but for a lock. */
	if (qp->waiting && !service && qp->x.stuck)
		now = odp_now();
	if (qp->waiting && ((!service && !qp->x.stuck) || now >= qp->x.deadline))
		uodp_sq_run(qp);
	if (qp->waiting)
		next = qp->x.deadline;
	uodp_spin_unlock(&qp->sq_lock);
	return next;
}

uint64_t uodp_progress(struct uodp_proc *proc, bool service)
{
	uint32_t words =
		(atomic_load_explicit(&proc->root->qp_high, memory_order_relaxed) + 63) / 64;
	uint64_t next = UINT64_MAX, when, now = service ? odp_now() : 0, bits;

	if (service)
		atomic_store_explicit(&proc->service_next, UINT64_MAX, memory_order_seq_cst);
	for (uint32_t i = 0; i < words; i++) {
		bits = atomic_load_explicit(&proc->pending[i], memory_order_seq_cst);
		for (; bits; bits &= bits - 1) {
			struct uodp_qp *qp =
				uodp_qp_pin(proc, i * 64 + (uint32_t)__builtin_ctzll(bits));

			if (!qp)
				continue;
			when = run_one(qp, now, service);
			uodp_qp_unpin(qp);
			if (when < next)
				next = when;
		}
	}
	if (service)
		atomic_store_explicit(&proc->service_next, next, memory_order_seq_cst);
	return next;
}
