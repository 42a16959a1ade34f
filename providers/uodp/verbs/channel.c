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

struct ibv_comp_channel *uodp_create_comp_channel(struct ibv_context *ctx)
{
	static _Atomic uint32_t last_id;
	struct uodp_channel *channel;
	int ret;

	if (uodp_context_check(ctx)) {
		errno = EIO;
		return NULL;
	}
	channel = calloc(1, sizeof(*channel));
	if (!channel)
		return NULL;
	ret = uodp_pipe(&channel->ch.fd, &channel->wr);
	if (ret) {
		free(channel);
		errno = -ret;
		return NULL;
	}
	channel->ch.context = ctx;
	channel->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
	return &channel->ch;
}

int uodp_destroy_comp_channel(struct ibv_comp_channel *ch)
{
	struct uodp_channel *channel = to_uodp_channel(ch);
	struct ibv_context *ctx = ch->context;
	int ret = 0;

	pthread_mutex_lock(&ctx->mutex); /* covers refcnt, which libibverbs counts */
	if (ch->refcnt)
		ret = EBUSY;
	pthread_mutex_unlock(&ctx->mutex);
	if (ret)
		return ret;
	close(ch->fd);
	close(channel->wr);
	free(channel);
	return 0;
}
