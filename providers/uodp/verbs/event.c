/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Events. Completion events are written into the channel's pipe by whoever
 * pushes the completion. Async events go through a ring in the owner's root
 * object; the owner's service thread writes them into the context's pipe, with
 * handles that it looks up itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rdma/ib_user_verbs.h>

#include "queue.h"

/* Neither a point where a thread may be cancelled, nor a change of errno. */
static long raw_write(int fd, const void *buf, size_t n)
{
	int err = errno;
	long ret = syscall(SYS_write, fd, buf, n);

	errno = err;
	return ret;
}

/* ---- completion channels ---- */

/* Write ends of other processes' channels that we have opened; a slot is simply
 * replaced when another channel needs it, unless a thread is writing to it. */
#define CHANNELS 256
struct channel_fd {
	struct odp_peer *peer;
	int fd;
	uint32_t id;
	int ours;
	unsigned busy; /* threads that use OURS */
};

struct uodp_channels {
	struct uodp_spin lock; /* no system call under it: the service thread takes it */
	struct channel_fd fds[CHANNELS];
	pthread_mutex_t purge_lock; /* the pipe below, which is empty without it */
	int spare[2];
};

int uodp_channels_init(struct uodp_proc *proc)
{
	struct uodp_channels *ch = odp_priv_alloc(sizeof(*ch));
	int fds[2];

	if (!ch)
		return -ENOMEM;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	ch->spare[0] = odp_fd_keep(fds[0]);
	ch->spare[1] = odp_fd_keep(fds[1]);
	pthread_mutex_init(&ch->purge_lock, NULL);
	proc->channels = ch;
	return 0;
}

static struct channel_fd *channel_slot(struct uodp_channels *ch, const struct odp_peer *peer,
				       int fd)
{
	return &ch->fds[(odp_peer_slot(peer) * 31u + (uint32_t)fd) % CHANNELS];
}

/* The slot that has it, busy from here on; NULL: it is to be opened. */
static struct channel_fd *channel_find(struct uodp_channels *ch, const struct odp_peer *peer,
				       int fd, uint32_t id)
{
	struct channel_fd *c = channel_slot(ch, peer, fd);
	bool found;

	uodp_spin_lock(&ch->lock);
	found = c->peer == peer && c->fd == fd && c->id == id;
	if (found)
		c->busy++;
	uodp_spin_unlock(&ch->lock);
	return found ? c : NULL;
}

/* OURS is kept for the next time, or closed. */
static void channel_store(struct uodp_channels *ch, struct odp_peer *peer, int fd, uint32_t id,
			  int ours)
{
	struct channel_fd *c = channel_slot(ch, peer, fd);

	uodp_spin_lock(&ch->lock);
	if (!c->busy) {
		int old = c->peer ? c->ours : -1;

		*c = (struct channel_fd){.peer = peer, .fd = fd, .id = id, .ours = ours};
		ours = old;
	}
	uodp_spin_unlock(&ch->lock);
	if (ours >= 0)
		odp_fd_close(ours);
}

static void channel_write(struct uodp_proc *proc, struct odp_peer *peer, int fd, uint32_t id,
			  const struct ib_uverbs_comp_event_desc *desc)
{
	struct uodp_channels *ch = proc->channels;
	struct channel_fd *c = channel_find(ch, peer, fd, id);
	int ours, cancel;

	if (c) {
		raw_write(c->ours, desc, sizeof(*desc));
		uodp_spin_lock(&ch->lock);
		c->busy--;
		uodp_spin_unlock(&ch->lock);
		return;
	}
	/* The thread may hold a send queue's lock: it must not end here. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	ours = odp_fd_keep(odp_peer_fd(peer, fd, O_WRONLY | O_NONBLOCK | O_CLOEXEC));
	pthread_setcancelstate(cancel, NULL);
	if (ours < 0)
		return;
	raw_write(ours, desc, sizeof(*desc));
	channel_store(ch, peer, fd, id, ours);
}

void uodp_channel_notify(struct uodp_proc *proc, struct odp_peer *peer, int fd, uint32_t id,
			 uint64_t handle)
{
	struct ib_uverbs_comp_event_desc desc = {.cq_handle = handle};
	int err = errno;

	if (fd < 0)
		return;
	/* A full pipe already holds thousands of events that wake the reader; it
	 * then polls every CQ that it armed, as ibv_get_cq_event(3) tells it to. */
	if (peer == proc->self)
		raw_write(fd, &desc, sizeof(desc));
	else
		channel_write(proc, peer, fd, id, &desc);
	errno = err;
}

void uodp_cq_event(struct ibv_cq *ibcq)
{
	/* release: pairs with the acquire in uodp_destroy_cq() */
	atomic_fetch_add_explicit(&to_uodp_cq(ibcq)->comp_reported, 1, memory_order_release);
}

/* ---- async events ---- */

static void event_next(struct uodp_root *root, uint32_t pos)
{
	/* release: the slot was filled before; fails when another was faster */
	atomic_compare_exchange_strong_explicit(&root->event_prod, &pos, pos + 1,
						memory_order_release, memory_order_relaxed);
}

/*
 * Fill the slot at PROD. A process may be stopped between filling it and moving PROD on:
 * who finds it full, or emptied since, does that. False: not this time.
 */
static bool event_put(struct uodp_root *root, uint32_t event, bool *full)
{
	/* acquire: the slots before PROD have been filled */
	uint32_t pos = atomic_load_explicit(&root->event_prod, memory_order_acquire);
	uint64_t lap = UODP_EVENT_LAP(pos), was = lap;

	/* acq_rel: pairs with the release and the acquire in uodp_events_drain() */
	if (atomic_compare_exchange_strong_explicit(&root->events[pos % UODP_EVENT_RING], &was,
						    lap | event, memory_order_acq_rel,
						    memory_order_acquire)) {
		event_next(root, pos);
		return true;
	}
	*full = was >> 32 == UODP_EVENT_LAP(pos - UODP_EVENT_RING) >> 32 &&
		pos == atomic_load_explicit(&root->event_prod, memory_order_relaxed);
	if (!*full)
		event_next(root, pos);
	return false;
}

void uodp_event_raise(struct uodp_proc *proc, struct odp_peer *peer, enum ibv_event_type type,
		      uint32_t index)
{
	struct uodp_root *root = odp_peer_ptr(peer, odp_peer_root(peer), sizeof(*root));
	bool full = false;

	if (!root || root->magic != UODP_ROOT_MAGIC || index >= UODP_MAX_QP)
		return;
	/* Each round somebody's event went in, unless the ring is rubbish. One that finds no
	 * room is lost: its owner does not read them. */
	for (unsigned i = 0; i < UODP_EVENT_RING && !full; i++)
		if (event_put(root, UODP_EVENT(type, index), &full))
			break;
	uodp_wake_bell(proc, peer);
}

void uodp_async_deliver(int fd, uint64_t handle, uint32_t type)
{
	struct ib_uverbs_async_event_desc desc = {.element = handle, .event_type = type};

	/* The pipe holds 4096 events; one more is dropped, as a kernel without
	 * memory drops it. */
	raw_write(fd, &desc, sizeof(desc));
}

static void qp_event(struct uodp_proc *proc, uint32_t type, uint32_t index)
{
	struct uodp_qp *qp = uodp_qp_pin(proc, index);

	if (!qp)
		return;
	uodp_async_deliver(qp->async_wr, (uintptr_t)&qp->vqp.qp, type);
	/* A responder's error leaves sends to flush. */
	if (uodp_spin_try(&qp->sq_lock)) {
		uodp_sq_run(qp);
		uodp_spin_unlock(&qp->sq_lock);
	}
	uodp_qp_unpin(qp);
}

static void object_event(struct uodp_proc *proc, uint32_t type, uint32_t index)
{
	struct uodp_cq *cq;
	struct uodp_srq *srq;

	/* The lock keeps the object: it is in the table until it is destroyed. */
	pthread_mutex_lock(&proc->pin_lock);
	if (type == IBV_EVENT_CQ_ERR && index < UODP_MAX_CQ) {
		cq = proc->cqs->slots[index];
		if (cq)
			uodp_async_deliver(cq->async_wr, (uintptr_t)&cq->vcq.cq, type);
	} else if (index < UODP_MAX_SRQ) {
		srq = proc->srqs->slots[index];
		if (srq)
			uodp_async_deliver(srq->async_wr, (uintptr_t)&srq->vsrq.srq, type);
	}
	pthread_mutex_unlock(&proc->pin_lock);
}

static void event_act(struct uodp_proc *proc, uint32_t type, uint32_t index)
{
	switch (type) {
	case IBV_EVENT_CQ_ERR:
	case IBV_EVENT_SRQ_ERR:
	case IBV_EVENT_SRQ_LIMIT_REACHED:
		object_event(proc, type, index);
		break;
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_COMM_EST:
	case IBV_EVENT_SQ_DRAINED:
	case IBV_EVENT_QP_LAST_WQE_REACHED:
		qp_event(proc, type, index);
		break;
	default:
		break; /* not an event that peers raise */
	}
}

void uodp_events_drain(struct uodp_proc *proc)
{
	struct uodp_root *root = proc->root;
	uint32_t cons = atomic_load_explicit(&root->event_cons, memory_order_relaxed);
	uodp_event_t *slot;
	uint64_t ev;

	for (;;) {
		slot = &root->events[cons % UODP_EVENT_RING];
		/* acquire: pairs with the release in event_put() */
		ev = atomic_load_explicit(slot, memory_order_acquire);
		if (ev >> 32 != UODP_EVENT_LAP(cons) >> 32 || !(uint32_t)ev)
			return;
		/* release: it has been read; free for the next lap */
		atomic_store_explicit(slot, UODP_EVENT_LAP(cons + UODP_EVENT_RING),
				      memory_order_release);
		atomic_store_explicit(&root->event_cons, ++cons, memory_order_relaxed);
		event_act(proc, UODP_EVENT_TYPE(ev), UODP_EVENT_INDEX(ev));
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
 * A program reads from its own end of the pipe, which blocks or does not as it likes. So
 * records are taken out by splice(2), which can be told not to block, into a pipe that
 * is there from the start, and written back unless they name the object: neither a
 * descriptor nor /proc is needed, which there may be none of by then.
 *
 * Records are at most 16 bytes, a divisor of a page, so that no splice parts one.
 */
static long purge_some(struct uodp_channels *ch, const struct uodp_pipe *p, size_t record,
		       uint64_t handle, size_t left)
{
	long n = splice(p->rd, NULL, ch->spare[1], NULL, left < PIPE_BUF ? left : PIPE_BUF,
			SPLICE_F_NONBLOCK);
	char buf[16];
	uint64_t h;

	for (long at = 0; at < n; at += (long)record) {
		if (read(ch->spare[0], buf, record) != (ssize_t)record)
			return -1;
		memcpy(&h, buf, sizeof(h));
		if (h != handle)
			raw_write(p->wr, buf, record);
	}
	/* A reader was faster: then there is nothing left. */
	return n < 0 && errno == EAGAIN ? 0 : n;
}

static bool same_pipe(const struct uodp_pipe *p)
{
	struct stat rd, wr;

	return !fstat(p->rd, &rd) && !fstat(p->wr, &wr) && rd.st_ino == wr.st_ino &&
	       rd.st_dev == wr.st_dev;
}

/* Of a device that is gone the pipe has no end to write to any more (plug.c): one for
 * the time being. */
static int write_end(int rd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", rd);
	return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
}

bool uodp_pipe_purge(struct uodp_proc *proc, const struct uodp_pipe *pipe, size_t record,
		     uint64_t handle)
{
	struct uodp_channels *ch = proc->channels;
	struct uodp_pipe p = *pipe;
	int left = 0, own = -1;
	long n = 1;

	if (ioctl(p.rd, FIONREAD, &left))
		return false;
	if (left && !same_pipe(&p)) {
		p.wr = own = write_end(p.rd);
		if (own < 0)
			return false;
	}
	/* One round: what is written back comes behind all that was there. */
	pthread_mutex_lock(&ch->purge_lock);
	for (; left > 0 && n > 0; left -= (int)n)
		n = purge_some(ch, &p, record, handle, (size_t)left);
	pthread_mutex_unlock(&ch->purge_lock);
	if (own >= 0)
		close(own);
	return n >= 0;
}

bool uodp_events_purge(struct ibv_context *ibctx, uint64_t handle)
{
	struct uodp_context *ctx = to_uodp_context(ibctx);

	return uodp_pipe_purge(ctx->proc, &ctx->async, sizeof(struct ib_uverbs_async_event_desc),
			       handle);
}

void uodp_wait_acks(pthread_mutex_t *mutex, pthread_cond_t *cond, const uint32_t *completed,
		    uint32_t reported)
{
	pthread_mutex_lock(mutex);
	while (*completed != reported)
		pthread_cond_wait(cond, mutex);
	pthread_mutex_unlock(mutex);
}
