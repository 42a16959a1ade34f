/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Telling others, once no lock is held that other processes take: a thread that is
 * stopped in a system call must not hold up the owner of a CQ. What is to be told is
 * noted under the lock, by thread, and told after it.
 *
 * A CQ counts those who are about to tell of it (notifying), from under its lock, so that
 * its owner, who ends it under the lock, knows whether events of it may still come.
 */
#include <time.h>

#include "queue.h"

#define WAKES 8 /* more at once: they are told at once */
#define TOLD_NS 1000000000u
#define NAP_NS 50000

/* CQ NULL: PEER's bell. */
struct wake {
	struct odp_peer *peer;
	struct uodp_cq_shm *cq;
	uint64_t handle;
	uint32_t id;
	int fd;
};

/* Not allocated on first use, which the service thread may not do. */
#define THREAD_OWN __thread __attribute__((tls_model("initial-exec")))
static THREAD_OWN struct wake wakes[WAKES];
THREAD_OWN uint32_t uodp_wakes;

static void tell(struct uodp_proc *proc, const struct wake *w)
{
	if (!w->cq) {
		odp_bell_ring(w->peer);
		return;
	}
	uodp_channel_notify(proc, w->peer, w->fd, w->id, w->handle);
	/* release: the event is in the pipe; pairs with uodp_cq_told(). */
	atomic_fetch_sub_explicit(&w->cq->notifying, 1, memory_order_release);
}

void uodp_wakes_tell(struct uodp_proc *proc)
{
	uint32_t n = uodp_wakes;

	uodp_wakes = 0;
	for (uint32_t i = 0; i < n; i++)
		tell(proc, &wakes[i]);
}

static struct wake *wake_new(struct uodp_proc *proc)
{
	if (uodp_wakes == WAKES)
		uodp_wakes_tell(proc);
	return &wakes[uodp_wakes++];
}

void uodp_wake_cq(struct uodp_proc *proc, struct odp_peer *peer, struct uodp_cq_shm *cq)
{
	if (cq->channel_fd < 0)
		return;
	/* relaxed: the lock orders it before the owner's look */
	atomic_fetch_add_explicit(&cq->notifying, 1, memory_order_relaxed);
	*wake_new(proc) = (struct wake){.peer = peer,
					.cq = cq,
					.handle = cq->user_handle,
					.id = cq->channel_id,
					.fd = cq->channel_fd};
}

void uodp_wake_bell(struct uodp_proc *proc, struct odp_peer *peer)
{
	for (uint32_t i = 0; i < uodp_wakes; i++)
		if (!wakes[i].cq && wakes[i].peer == peer)
			return;
	*wake_new(proc) = (struct wake){.peer = peer};
}

bool uodp_cq_told(struct uodp_cq_shm *cq)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};
	uint64_t end = 0;

	/* acquire: pairs with the release in tell() */
	while (atomic_load_explicit(&cq->notifying, memory_order_acquire)) {
		if (!end)
			end = odp_now() + TOLD_NS;
		if (odp_now() >= end)
			return false;
		nanosleep(&nap, NULL);
	}
	return true;
}
