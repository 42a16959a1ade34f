/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Into the background; the one who called waits until the file system is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpfs.h"

static int ready_fd = -1;

/* The parent: exits as the child says, or as it ends before it says anything. */
__attribute__((noreturn)) static void daemon_await(pid_t child, int fd)
{
	unsigned char status;
	int how;

	if (read(fd, &status, 1) == 1)
		_exit(status);
	if (waitpid(child, &how, 0) == child && WIFEXITED(how))
		_exit(WEXITSTATUS(how));
	odpfs_note("the background process ended before the file system was ready");
	_exit(ODPFS_FAILED);
}

/* There must be no other thread yet. */
int daemon_begin(bool foreground)
{
	int fds[2];
	pid_t child;

	if (foreground)
		return chdir("/") ? -errno : 0;
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	child = fork();
	if (child < 0) {
		int err = -errno;

		close(fds[0]);
		close(fds[1]);
		return err;
	}
	if (child) {
		close(fds[1]);
		daemon_await(child, fds[0]);
	}
	close(fds[0]);
	ready_fd = fds[1];
	if (setsid() < 0 || chdir("/"))
		return -errno;
	return 0;
}

/* Messages go to the terminal until here. */
void daemon_ready(int status)
{
	unsigned char byte = (unsigned char)status;
	int null_fd;

	if (ready_fd < 0)
		return;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd >= 0) {
		for (int fd = 0; fd < 3; fd++)
			dup2(null_fd, fd);
		if (null_fd > 2)
			close(null_fd);
	}
	while (write(ready_fd, &byte, 1) < 0 && errno == EINTR)
		;
	close(ready_fd);
	ready_fd = -1;
}
