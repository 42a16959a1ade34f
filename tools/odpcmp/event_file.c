/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What happens to the file behind the memory, by this process or by another. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpcmp.h"

int event_truncate(struct memory *m)
{
	return ftruncate(m->fd, m->offset) ? -errno : 0;
}

int event_truncate_grow(struct memory *m)
{
	int ret = event_truncate(m);

	if (ret)
		return ret;
	return ftruncate(m->fd, m->length) ? -errno : 0;
}

int event_punch(struct memory *m)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(m->fd, mode, m->offset, m->window) ? -errno : 0;
}

int event_zero(struct memory *m)
{
	int mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

	return fallocate(m->fd, mode, m->offset, m->window) ? -errno : 0;
}

/* By way of /proc: the file need not have a name. */
int event_open_trunc(struct memory *m)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
	fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* ---- by another process, which exists before the region does ---- */

enum { ORDER_TRUNCATE, ORDER_TRUNCATE_GROW, ORDER_PUNCH, ORDER_ZERO, ORDER_OPEN_TRUNC };

static int (*const helper_orders[])(struct memory *m) = {
	[ORDER_TRUNCATE] = event_truncate,     [ORDER_TRUNCATE_GROW] = event_truncate_grow,
	[ORDER_PUNCH] = event_punch,           [ORDER_ZERO] = event_zero,
	[ORDER_OPEN_TRUNC] = event_open_trunc,
};

static void helper_serve(struct memory *m, int fd)
{
	char order;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* It has the file, not the memory. */
	while (read(fd, &order, 1) == 1) {
		ret = helper_orders[(int)order](m);
		if (write(fd, &ret, sizeof(ret)) != sizeof(ret))
			break;
	}
	_exit(0);
}

int helper_start(struct memory *m)
{
	int fds[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	m->helper = fork();
	if (m->helper < 0) {
		ret = -errno;
		m->helper = 0;
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	if (!m->helper) {
		close(fds[0]);
		helper_serve(m, fds[1]);
	}
	close(fds[1]);
	m->helper_fd = fds[0];
	return 0;
}

void helper_end(struct memory *m)
{
	if (m->helper_fd >= 0)
		close(m->helper_fd);
	if (m->helper > 0)
		waitpid(m->helper, NULL, 0);
	m->helper_fd = -1;
	m->helper = 0;
}

static int helper_order(struct memory *m, char order)
{
	int ret;

	if (write(m->helper_fd, &order, 1) != 1 ||
	    read(m->helper_fd, &ret, sizeof(ret)) != sizeof(ret))
		return -ECHILD;
	return ret;
}

int event_truncate_other(struct memory *m)
{
	return helper_order(m, ORDER_TRUNCATE);
}

int event_truncate_grow_other(struct memory *m)
{
	return helper_order(m, ORDER_TRUNCATE_GROW);
}

int event_punch_other(struct memory *m)
{
	return helper_order(m, ORDER_PUNCH);
}

int event_zero_other(struct memory *m)
{
	return helper_order(m, ORDER_ZERO);
}

int event_open_trunc_other(struct memory *m)
{
	return helper_order(m, ORDER_OPEN_TRUNC);
}
