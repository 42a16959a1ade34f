/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A context's tie to its device. The root object has a number for each device that
 * grows when it is unplugged and when it is plugged in again (unplug.c); a context
 * remembers the one at which it was opened, and is gone for good once it differs:
 * verbs give EIO, as those of a disassociated context of the kernel do, but for
 * what destroys.
 *
 * Who unplugs marks the queue pairs and regions in shared memory, whether or not
 * the owner runs. What needs the owner follows here, in its service thread: flushed
 * work requests, and the event.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "queue.h"

#define AGAIN_NS 100000u /* when to come back to a send queue that somebody runs */

static bool marked(const char *dir, const char *name)
{
	char path[512];
	int n = snprintf(path, sizeof(path), "%s/" UODP_SYSFS_DIR "/%s/" UODP_UNPLUGGED, dir, name);

	return n < (int)sizeof(path) && !access(path, F_OK);
}

int uodp_link_open(struct uodp_context *ctx)
{
	static _Atomic uint32_t said; /* by device */
	const struct uodp_device *dev = ctx->dev;
	struct uodp_proc *proc = ctx->proc;
	struct uodp_link *link = odp_priv_alloc(sizeof(*link));

	if (!link)
		return -ENOMEM;
	link->device = dev->index;
	link->async_wr = ctx->async.wr;
	link->cmd_fd = ctx->vctx.context.cmd_fd;
	/* seq_cst: before the look for the mark, which who unplugs makes first. */
	link->plug = atomic_load_explicit(&proc->root->plug[dev->index], memory_order_seq_cst);
	if (link->plug & 1 || marked(odp_proc_dir(proc->odp), dev->name)) {
		odp_priv_free(link, sizeof(*link));
		/* Once: a program that waits for its device tries again and again. */
		if (!(atomic_fetch_or_explicit(&said, 1u << dev->index, memory_order_relaxed) &
		      1u << dev->index))
			odp_log(ODP_LOG_WARN, "%s is unplugged (odpctl plug %s)", dev->name,
				dev->name);
		return -ENODEV;
	}
	atomic_fetch_and_explicit(&said, ~(1u << dev->index), memory_order_relaxed);
	ctx->link = link;
	pthread_mutex_lock(&proc->pin_lock);
	link->id = ++proc->last_link;
	link->next = proc->links;
	proc->links = link;
	pthread_mutex_unlock(&proc->pin_lock);
	/* Unplugged since, and the service thread looked before it was there? */
	if (uodp_link_gone(proc, link))
		odp_bell_ring(proc->self);
	return 0;
}

void uodp_link_close(struct uodp_context *ctx)
{
	/* Not CTX under the lock: it is of the heap, which the service thread may have to
	 * fault in. */
	struct uodp_link *link = ctx->link, **at;
	struct uodp_proc *proc = ctx->proc;

	if (!link)
		return;
	pthread_mutex_lock(&proc->pin_lock);
	for (at = &proc->links; *at != link; at = &(*at)->next)
		;
	*at = link->next;
	pthread_mutex_unlock(&proc->pin_lock);
	odp_priv_free(link, sizeof(*link));
	ctx->link = NULL;
}

bool uodp_device_plugged(const struct uodp_device *dev)
{
	char path[sizeof(dev->path) + sizeof(UODP_UNPLUGGED) + 1];

	snprintf(path, sizeof(path), "%s/" UODP_UNPLUGGED, dev->path);
	return access(path, F_OK);
}

/* ---- the service thread ---- */

/* False: its sends are still to be flushed. */
static bool qp_end(struct uodp_qp *qp)
{
	struct uodp_qp_shm *shm = qp->shm;
	uint32_t state = atomic_load_explicit(&shm->state, memory_order_relaxed);
	bool idle;

	while (state != IBV_QPS_RESET && state != IBV_QPS_ERR &&
	       !atomic_compare_exchange_weak_explicit(&shm->state, &state, IBV_QPS_ERR,
						      memory_order_release, memory_order_relaxed))
		;
	if (state != IBV_QPS_RESET) {
		/* seq_cst: pairs with odp_copy(), as in leave() of modify.c. */
		atomic_fetch_add_explicit(&shm->epoch, 1, memory_order_seq_cst);
		uodp_resp_flush_for(qp->proc, qp->proc->self, shm, 0);
	}
	uodp_wakes_pass(qp->proc);
	if (!uodp_spin_try(&qp->sq_lock))
		return false;
	uodp_sq_run(qp);
	/* What a stopped process keeps from ending shall not keep the event back. */
	idle = qp->sq_tail == qp->sq_head || (qp->waiting && qp->x.stuck);
	uodp_spin_unlock(&qp->sq_lock);
	return idle || atomic_load_explicit(&shm->state, memory_order_relaxed) == IBV_QPS_RESET;
}

static bool qps_end(struct uodp_proc *proc, uint32_t device)
{
	uint32_t high = atomic_load_explicit(&proc->root->qp_high, memory_order_relaxed);
	bool all = true;

	for (uint32_t i = 0; i < high; i++) {
		struct uodp_qp *qp = uodp_qp_pin(proc, i);

		if (!qp)
			continue;
		if (qp->link->device == device && uodp_link_gone(proc, qp->link))
			all &= qp_end(qp);
		uodp_qp_unpin(qp);
	}
	return all;
}

static bool link_next(struct uodp_proc *proc, struct uodp_link *out)
{
	struct uodp_link *link;
	bool found = false;

	pthread_mutex_lock(&proc->pin_lock);
	for (link = proc->links; link && !found; link = link->next) {
		found = !link->told && uodp_link_gone(proc, link);
		if (found)
			*out = *link;
	}
	pthread_mutex_unlock(&proc->pin_lock);
	return found;
}

/* Under the lock, so that the descriptors are theirs. */
static void links_tell(struct uodp_proc *proc, uint32_t device)
{
	struct uodp_link *link;

	pthread_mutex_lock(&proc->pin_lock);
	uodp_cqs_wake(proc, device);
	for (link = proc->links; link; link = link->next) {
		if (link->told || link->device != device || !uodp_link_gone(proc, link))
			continue;
		link->told = true;
		uodp_async_deliver(link->async_wr, 0, IBV_EVENT_DEVICE_FATAL);
		/* The last one: behind it the pipe ends, as the kernel's queue is closed,
		 * so that nobody waits for more. The number stays taken. */
		dup3(link->cmd_fd, link->async_wr, O_CLOEXEC);
	}
	pthread_mutex_unlock(&proc->pin_lock);
}

uint64_t uodp_unplugged_end(struct uodp_proc *proc)
{
	struct uodp_link link;
	bool wait = false;

	while (!wait && link_next(proc, &link)) {
		wait = !qps_end(proc, link.device);
		/* The event comes last: what it makes the program look at is there. */
		if (!wait)
			links_tell(proc, link.device);
	}
	return wait ? odp_now() + AGAIN_NS : UINT64_MAX;
}
