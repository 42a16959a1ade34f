/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Events. Completion events are written into the channel's pipe by whoever
 * pushes the completion. Async events go through a ring in the owner's root
 * object; the owner's service thread writes them into the context's pipe, with
 * handles that it looks up itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <rdma/ib_user_verbs.h>

#include "queue.h"

/* ---- completion channels ---- */

/* Write ends of other processes' channels that we have opened; a slot is simply
 * replaced when another channel needs it. */
#define CHANNELS 256
struct channel_fd {
	struct odp_peer *peer;
	int fd;
	uint32_t id;
	int ours;
};

struct uodp_channels {
	struct uodp_spin lock;
	struct channel_fd fds[CHANNELS];
};

int uodp_channels_init(struct uodp_proc *proc)
{
	proc->channels = odp_priv_alloc(sizeof(*proc->channels));
	return proc->channels ? 0 : -ENOMEM;
}

/* ch->lock held */
static int channel_open(struct uodp_channels *ch, struct odp_peer *peer, int fd, uint32_t id)
{
	struct channel_fd *c = &ch->fds[(odp_peer_slot(peer) * 31u + (uint32_t)fd) % CHANNELS];

	if (c->peer == peer && c->fd == fd && c->id == id)
		return c->ours;
	if (c->peer)
		close(c->ours);
	c->peer = NULL;
	c->ours = odp_peer_fd(peer, fd, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (c->ours < 0)
		return c->ours;
	c->peer = peer;
	c->fd = fd;
	c->id = id;
	return c->ours;
}

void uodp_channel_notify(struct uodp_proc *proc, struct odp_peer *peer, int fd, uint32_t id,
			 uint64_t handle)
{
	struct ib_uverbs_comp_event_desc desc = {.cq_handle = handle};
	ssize_t n;

	if (fd < 0)
		return;
	if (peer == proc->self) {
		n = write(fd, &desc, sizeof(desc));
	} else {
		uodp_spin_lock(&proc->channels->lock);
		fd = channel_open(proc->channels, peer, fd, id);
		n = fd < 0 ? -1 : write(fd, &desc, sizeof(desc));
		uodp_spin_unlock(&proc->channels->lock);
	}
	/* A full pipe already holds thousands of events that wake the reader; it
	 * then polls every CQ that it armed, as ibv_get_cq_event(3) tells it to. */
	(void)n;
}

void uodp_cq_event(struct ibv_cq *ibcq)
{
	/* release: pairs with the acquire in uodp_destroy_cq() */
	atomic_fetch_add_explicit(&to_uodp_cq(ibcq)->comp_reported, 1, memory_order_release);
}

/* ---- async events ---- */

void uodp_event_raise(struct uodp_proc *proc, struct odp_peer *peer, enum ibv_event_type type,
		      uint32_t index)
{
	struct uodp_root *root = odp_peer_ptr(peer, odp_peer_root(peer), sizeof(*root));
	uint32_t prod;

	if (!root || root->magic != UODP_ROOT_MAGIC)
		return;
	odp_lock(proc->odp, &root->event_lock);
	prod = atomic_load_explicit(&root->event_prod, memory_order_relaxed);
	/* acquire: pairs with the release in uodp_events_drain() */
	if (prod - atomic_load_explicit(&root->event_cons, memory_order_acquire) <
	    UODP_EVENT_RING) {
		root->events[prod % UODP_EVENT_RING] =
			(struct uodp_event){.type = type, .index = index};
		/* release: pairs with the acquire in uodp_events_drain() */
		atomic_store_explicit(&root->event_prod, prod + 1, memory_order_release);
	}
	odp_unlock(&root->event_lock);
	odp_bell_ring(peer);
}

void uodp_async_deliver(int fd, uint64_t handle, uint32_t type)
{
	struct ib_uverbs_async_event_desc desc = {.element = handle, .event_type = type};

	/* The pipe holds 4096 events; one more is dropped, as a kernel without
	 * memory drops it. */
	if (write(fd, &desc, sizeof(desc)) < 0)
		return;
}

static void qp_event(struct uodp_proc *proc, const struct uodp_event *ev)
{
	struct uodp_qp *qp = uodp_qp_pin(proc, ev->index);

	if (!qp)
		return;
	uodp_async_deliver(qp->async_wr, (uintptr_t)&qp->vqp.qp, ev->type);
	/* A responder's error leaves sends to flush. */
	if (uodp_spin_try(&qp->sq_lock)) {
		uodp_sq_run(qp);
		uodp_spin_unlock(&qp->sq_lock);
	}
	uodp_qp_unpin(qp);
}

static void object_event(struct uodp_proc *proc, const struct uodp_event *ev)
{
	struct uodp_cq *cq;
	struct uodp_srq *srq;

	/* The lock keeps the object: it is in the table until it is destroyed. */
	pthread_mutex_lock(&proc->pin_lock);
	if (ev->type == IBV_EVENT_CQ_ERR && ev->index < UODP_MAX_CQ) {
		cq = proc->cqs->slots[ev->index];
		if (cq)
			uodp_async_deliver(cq->async_wr, (uintptr_t)&cq->vcq.cq, ev->type);
	} else if (ev->index < UODP_MAX_SRQ) {
		srq = proc->srqs->slots[ev->index];
		if (srq)
			uodp_async_deliver(srq->async_wr, (uintptr_t)&srq->vsrq.srq, ev->type);
	}
	pthread_mutex_unlock(&proc->pin_lock);
}

void uodp_events_drain(struct uodp_proc *proc)
{
	struct uodp_root *root = proc->root;
	uint32_t cons = atomic_load_explicit(&root->event_cons, memory_order_relaxed);
	struct uodp_event ev;

	/* acquire: pairs with the release in uodp_event_raise() */
	while (cons != atomic_load_explicit(&root->event_prod, memory_order_acquire)) {
		ev = root->events[cons % UODP_EVENT_RING];
		atomic_store_explicit(&root->event_cons, ++cons, memory_order_release);
		switch (ev.type) {
		case IBV_EVENT_CQ_ERR:
		case IBV_EVENT_SRQ_ERR:
		case IBV_EVENT_SRQ_LIMIT_REACHED:
			object_event(proc, &ev);
			break;
		case IBV_EVENT_QP_FATAL:
		case IBV_EVENT_QP_REQ_ERR:
		case IBV_EVENT_QP_ACCESS_ERR:
		case IBV_EVENT_COMM_EST:
		case IBV_EVENT_SQ_DRAINED:
		case IBV_EVENT_QP_LAST_WQE_REACHED:
			qp_event(proc, &ev);
			break;
		default:
			break; /* not an event that peers raise */
		}
	}
}

void uodp_async_event(struct ibv_context *ctx, struct ibv_async_event *event)
{
	_Atomic uint32_t *reported;

	(void)ctx;
	switch (event->event_type) {
	case IBV_EVENT_CQ_ERR:
		reported = &to_uodp_cq(event->element.cq)->async_reported;
		break;
	case IBV_EVENT_SRQ_ERR:
	case IBV_EVENT_SRQ_LIMIT_REACHED:
		reported = &to_uodp_srq(event->element.srq)->async_reported;
		break;
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_COMM_EST:
	case IBV_EVENT_SQ_DRAINED:
	case IBV_EVENT_QP_LAST_WQE_REACHED:
		reported = &to_uodp_qp(event->element.qp)->async_reported;
		break;
	default:
		return;
	}
	/* release: pairs with the acquire before uodp_wait_acks() */
	atomic_fetch_add_explicit(reported, 1, memory_order_release);
}

/* ---- destroying what events name ---- */

/*
 * Records are at most 16 bytes, so that writes and reads of them are atomic. A
 * second open file on the pipe lets us read without blocking, whatever the
 * program has set on its own.
 */
void uodp_pipe_purge(int fd, size_t record, uint64_t handle)
{
	char path[32] = "/proc/self/fd/";
	char buf[16], digits[12];
	unsigned n = 0, i = 14;
	int rd, wr, left = 0;

	do {
		digits[n++] = (char)('0' + fd % 10);
		fd /= 10;
	} while (fd);
	while (n)
		path[i++] = digits[--n];
	rd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	wr = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (rd >= 0)
		ioctl(rd, FIONREAD, &left);
	/* One round: what is written back comes behind all that was there. */
	for (; rd >= 0 && wr >= 0 && left > 0; left -= (int)record) {
		uint64_t h;

		if (read(rd, buf, record) != (ssize_t)record)
			break;
		memcpy(&h, buf, sizeof(h));
		if (h != handle && write(wr, buf, record) < 0)
			break;
	}
	if (rd >= 0)
		close(rd);
	if (wr >= 0)
		close(wr);
}

void uodp_events_purge(struct ibv_context *ctx, uint64_t handle)
{
	uodp_pipe_purge(ctx->async_fd, sizeof(struct ib_uverbs_async_event_desc), handle);
}

void uodp_wait_acks(pthread_mutex_t *mutex, pthread_cond_t *cond, const uint32_t *completed,
		    uint32_t reported)
{
	pthread_mutex_lock(mutex);
	while (*completed != reported)
		pthread_cond_wait(cond, mutex);
	pthread_mutex_unlock(mutex);
}
