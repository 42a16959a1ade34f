/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Descriptors of another process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base.h"
#include "own.h"
#include "peer_priv.h"

/* Opened anew through /proc, which needs the right to read the process only. */
int odp_peer_fd_open(const struct odp_peer *peer, int fd, int flags)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)peer->pid, fd);
	ret = odp_own_open(path, flags | O_CLOEXEC | O_NOCTTY);
	if (ret < 0)
		return errno == ENOENT ? -EBADF : -errno;
	return odp_fd_high(ret);
}

int odp_peer_fd_take(const struct odp_peer *peer, int fd)
{
	int ret;

	if (peer->pidfd < 0)
		return -EPERM;
	ret = pidfd_getfd(peer->pidfd, fd, 0);
	return ret < 0 ? -errno : odp_fd_high(ret);
}

enum peer_fd_kind { PEER_FD_NONE, PEER_FD_PIPE, PEER_FD_MEMFD, PEER_FD_OTHER };

/* Pipes and memfds are opened by path; with anything else that may have effects. */
static enum peer_fd_kind peer_fd_kind(const struct odp_peer *peer, int fd)
{
	char path[64], target[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)peer->pid, fd);
	n = odp_own_readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return errno == ENOENT ? PEER_FD_NONE : PEER_FD_OTHER;
	target[n] = 0;
	if (!strncmp(target, "pipe:", 5))
		return PEER_FD_PIPE;
	return strncmp(target, "/memfd:", 7) ? PEER_FD_OTHER : PEER_FD_MEMFD;
}

static int peer_fd_any(const struct odp_peer *peer, int fd, int flags)
{
	int ret;

	switch (peer_fd_kind(peer, fd)) {
	case PEER_FD_NONE:
		return -EBADF;
	case PEER_FD_PIPE:
		/* A writer that is a reader too gets no SIGPIPE when the peer dies. */
		if ((flags & O_ACCMODE) == O_WRONLY)
			flags = (flags & ~O_ACCMODE) | O_RDWR;
		return odp_peer_fd_open(peer, fd, flags);
	case PEER_FD_MEMFD:
		return odp_peer_fd_open(peer, fd, flags);
	default:
		if (!peer->self)
			return odp_peer_fd_take(peer, fd);
		ret = odp_own_fcntl(fd, F_DUPFD_CLOEXEC, 0);
		return ret < 0 ? -errno : odp_fd_high(ret);
	}
}

ODP_EXPORT int odp_peer_fd(struct odp_peer *peer, int fd, int flags)
{
	int ret;

	if (fd < 0)
		return -EBADF;
	if (!odp_peer_check(peer))
		return -ESRCH;
	ret = peer_fd_any(peer, fd, flags);
	if (ret == -EMFILE) {
		odp_fd_limit_raise(); /* or another thread just did */
		ret = peer_fd_any(peer, fd, flags);
	}
	/* As long as it lives, its pid named no other process. */
	if (!odp_peer_check(peer)) {
		if (ret >= 0)
			odp_fd_close(ret);
		return -ESRCH;
	}
	odp_fd_release(ret);
	return ret;
}
