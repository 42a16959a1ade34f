/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The worker: a second thread, which calls the upper layer's handler. That takes locks in
 * shared memory, whose holder may be a thread of another process that is stopped, for
 * minutes; and it copies, into memory for which another process's service thread must
 * answer. The service thread, for which this process's page faults and munmap() wait,
 * does neither: it only tells the worker that there is something to do.
 *
 * No call is lost: the service thread adds to CALLS, then wakes; the worker sleeps only
 * while CALLS is what it was when it last began (futex(2)).
 */
#include <linux/futex.h>
#include <time.h>

#include "service_priv.h"
#include "sys.h"

static uint64_t handler_call(struct odp_proc *proc)
{
	odp_service_fn fn;
	void *arg;

	pthread_mutex_lock(&proc->handler_lock);
	fn = proc->handler;
	arg = proc->handler_arg;
	pthread_mutex_unlock(&proc->handler_lock);
	return fn ? fn(arg) : UINT64_MAX;
}

/* Until CALLS is no longer SEEN, or DEADLINE has come, or for no reason. */
static void worker_wait(struct odp_service *svc, uint32_t seen, uint64_t deadline)
{
	uint64_t now = deadline == UINT64_MAX ? 0 : odp_now();
	struct timespec left;

	if (deadline != UINT64_MAX) {
		if (deadline <= now)
			return;
		left.tv_sec = (time_t)((deadline - now) / 1000000000u);
		left.tv_nsec = (long)((deadline - now) % 1000000000u);
	}
	odp_sys6(SYS_futex, (long)&svc->calls, FUTEX_WAIT_PRIVATE, (long)seen,
		 deadline == UINT64_MAX ? 0 : (long)&left, 0, 0);
}

void odp_worker_call(struct odp_service *svc)
{
	/* release: the worker sees what the service thread saw before it called. */
	atomic_fetch_add_explicit(&svc->calls, 1, memory_order_release);
	odp_sys(SYS_futex, &svc->calls, FUTEX_WAKE_PRIVATE, 1);
}

void *odp_worker_main(void *arg)
{
	struct odp_service *svc = arg;
	uint64_t deadline = UINT64_MAX;
	uint32_t calls, seen = 0;

	for (;;) {
		worker_wait(svc, seen, deadline);
		/* acquire: pairs with odp_worker_call(). */
		calls = atomic_load_explicit(&svc->calls, memory_order_acquire);
		/* relaxed: the acquire above pairs with the call that followed the store. */
		if (atomic_load_explicit(&svc->stop, memory_order_relaxed))
			return NULL;
		if (calls == seen && (deadline == UINT64_MAX || odp_now() < deadline))
			continue;
		seen = calls;
		deadline = handler_call(svc->proc);
	}
}
