/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Completion channels and the pipes behind descriptors that programs poll().
 * A pipe, because any process can open its write end through /proc. It keeps
 * its default size, 8,192 completion events: pipe pages are rationed per user.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "uodp.h"

int uodp_pipe(int *rd, struct uodp_pipe *p)
{
	int fds[2], own, ret;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	own = odp_fd_keep(fcntl(fds[0], F_DUPFD_CLOEXEC, 0));
	if (own < 0 || fcntl(fds[1], F_SETFL, O_NONBLOCK)) {
		ret = -errno;
		if (own >= 0)
			odp_fd_close(own);
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	*rd = fds[0];
	*p = (struct uodp_pipe){.rd = own, .wr = odp_fd_keep(fds[1])};
	return 0;
}

void uodp_pipe_close(struct uodp_pipe *p)
{
	if (p->wr >= 0)
		odp_fd_close(p->wr);
	if (p->rd >= 0)
		odp_fd_close(p->rd);
	*p = UODP_PIPE_NONE;
}

static void channel_link(struct uodp_channel *channel)
{
	struct uodp_context *ctx = to_uodp_context(channel->ctx);

	pthread_mutex_lock(&channel->proc->lock);
	channel->next = ctx->channels;
	if (channel->next)
		channel->next->at = &channel->next;
	channel->at = &ctx->channels;
	ctx->channels = channel;
	pthread_mutex_unlock(&channel->proc->lock);
}

/* Nothing is written any more: who reads comes to the end. */
static void channel_end(struct uodp_channel *channel)
{
	pthread_mutex_lock(&channel->proc->lock);
	*channel->at = channel->next;
	if (channel->next)
		channel->next->at = channel->at;
	pthread_mutex_unlock(&channel->proc->lock);
	channel->ended = true;
	uodp_pipe_close(&channel->pipe);
}

void uodp_channel_hold(struct uodp_channel *channel)
{
	atomic_fetch_add_explicit(&channel->refs, 1, memory_order_relaxed);
}

void uodp_channel_drop(struct uodp_channel *channel)
{
	/* acq_rel: whoever frees it comes after all that others did with it. */
	if (atomic_fetch_sub_explicit(&channel->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (channel->proc != uodp_self) {
		/* In a child of fork: list and context are the parent's. */
		uodp_pipe_close(&channel->pipe);
	} else {
		if (!channel->ended)
			channel_end(channel);
		uodp_context_drop_late(channel->ctx);
	}
	free(channel);
}

/* The program's descriptor is closed. By a program that closes what it does not know,
 * it may be while CQs are armed: their pipe stays, or they would write to what has its
 * number then. */
static void channel_release(struct uodp_handle *h)
{
	uodp_channel_drop(uodp_container_of(h, struct uodp_channel, handle));
}

static const struct uodp_handle_ops channel_ops = {.release = channel_release};

int uodp_channel_create(struct ibv_context *ctx)
{
	static _Atomic uint32_t last_id;
	struct uodp_channel *channel = calloc(1, sizeof(*channel));
	int fd, ret;

	if (!channel)
		return -ENOMEM;
	ret = uodp_pipe(&fd, &channel->pipe);
	if (ret) {
		free(channel);
		return ret;
	}
	channel->handle.ops = &channel_ops;
	atomic_store_explicit(&channel->refs, 1, memory_order_relaxed);
	channel->ctx = ctx;
	channel->proc = to_uodp_context(ctx)->proc;
	channel->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
	channel_link(channel);
	uodp_context_hold(ctx);
	if (uodp_handle_set(fd, &channel->handle))
		return fd;
	close(fd);
	channel_release(&channel->handle);
	return -EMFILE;
}

struct uodp_channel *uodp_channel_get(const struct ibv_comp_channel *ch)
{
	struct uodp_handle *h = uodp_handle_get(ch->fd);

	return h && h->ops == &channel_ops ? uodp_container_of(h, struct uodp_channel, handle)
					   : NULL;
}

void uodp_channel_drop_all(struct ibv_context *ctx)
{
	while (to_uodp_context(ctx)->channels)
		channel_end(to_uodp_context(ctx)->channels);
}
