/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A child that has inherited the memory, and says on request what it sees. */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpcmp.h"

static void child_serve(struct memory *m, int fd, bool writes)
{
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (writes && memory_write(m, memory_window(m), m->window, TAG_CHILD))
		_exit(1);
	do {
		byte = memory_see(m, memory_window(m));
		if (write(fd, &byte, 1) != 1)
			break;
	} while (read(fd, &byte, 1) == 1);
	_exit(0);
}

/* The child has done its writing when this returns. */
static int fork_child(struct memory *m, bool writes)
{
	int fds[2], ret;
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	m->child = fork();
	if (m->child < 0) {
		ret = -errno;
		m->child = 0;
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	if (!m->child) {
		close(fds[0]);
		child_serve(m, fds[1], writes);
	}
	close(fds[1]);
	m->child_fd = fds[0];
	return read(m->child_fd, &byte, 1) == 1 ? 0 : -ECHILD;
}

int event_fork_child(struct memory *m)
{
	return fork_child(m, true);
}

int event_fork_parent(struct memory *m)
{
	return fork_child(m, false);
}

enum tag fork_child_sees(struct memory *m)
{
	char byte = 0;

	if (write(m->child_fd, &byte, 1) != 1 || read(m->child_fd, &byte, 1) != 1)
		return TAG_NOTHING;
	return byte;
}

void fork_child_end(struct memory *m)
{
	if (m->child_fd >= 0)
		close(m->child_fd);
	if (m->child > 0) {
		kill(m->child, SIGKILL);
		waitpid(m->child, NULL, 0);
	}
	m->child_fd = -1;
	m->child = 0;
}
