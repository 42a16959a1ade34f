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

#define HIGH_FD 512

/* FD again with a number that programs do not use, or FD itself. */
int uodp_fd_raise(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

	if (high < 0)
		return fd; /* RLIMIT_NOFILE is that low */
	close(fd);
	return high;
}

int uodp_pipe(int *rd, int *wr)
{
	int fds[2], ret;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fds[1] = uodp_fd_raise(fds[1]);
	if (fcntl(fds[1], F_SETFL, O_NONBLOCK)) {
		ret = -errno;
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	*rd = fds[0];
	*wr = fds[1];
	return 0;
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

/* Its write end is closed, too: who reads comes to the end. */
static void channel_end(struct uodp_channel *channel)
{
	pthread_mutex_lock(&channel->proc->lock);
	*channel->at = channel->next;
	if (channel->next)
		channel->next->at = channel->at;
	pthread_mutex_unlock(&channel->proc->lock);
	close(channel->wr);
	channel->wr = -1;
}

static void channel_release(struct uodp_handle *h)
{
	struct uodp_channel *channel = uodp_container_of(h, struct uodp_channel, handle);

	if (channel->proc != uodp_self) {
		/* In a child of fork: list and context are the parent's. */
		close(channel->wr);
	} else {
		if (channel->wr >= 0)
			channel_end(channel);
		uodp_context_drop_late(channel->ctx);
	}
	free(channel);
}

static const struct uodp_handle_ops channel_ops = {.release = channel_release};

int uodp_channel_create(struct ibv_context *ctx)
{
	static _Atomic uint32_t last_id;
	struct uodp_channel *channel = calloc(1, sizeof(*channel));
	int fd, ret;

	if (!channel)
		return -ENOMEM;
	ret = uodp_pipe(&fd, &channel->wr);
	if (ret) {
		free(channel);
		return ret;
	}
	channel->handle.ops = &channel_ops;
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
