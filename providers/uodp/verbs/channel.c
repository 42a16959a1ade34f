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

static void channel_release(struct uodp_handle *h)
{
	struct uodp_channel *channel = uodp_container_of(h, struct uodp_channel, handle);

	close(channel->wr);
	free(channel);
}

static const struct uodp_handle_ops channel_ops = {.release = channel_release};

int uodp_channel_create(void)
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
	channel->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
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
