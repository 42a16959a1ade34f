/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Runs a function in a forked process, within bounds. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpcmp.h"

/* A killed process that does not end sits in the kernel: it is left there. */
enum { KILL_TIMEOUT_MS = 3000 };

static int pidfd_wait(int pidfd, int ms)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int ret;

	do {
		ret = poll(&pfd, 1, ms);
	} while (ret < 0 && errno == EINTR);
	return ret == 1 ? 0 : -ETIMEDOUT;
}

static int wait_bounded(pid_t pid, unsigned int timeout, int *sig)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0), ret, status;

	ret = pidfd < 0 ? -errno : pidfd_wait(pidfd, timeout * 1000);
	if (ret) {
		kill(pid, SIGKILL);
		if (pidfd >= 0 && !pidfd_wait(pidfd, KILL_TIMEOUT_MS))
			waitpid(pid, &status, 0);
	} else if (waitpid(pid, &status, 0) != pid) {
		ret = -errno;
	} else if (WIFSIGNALED(status)) {
		*sig = WTERMSIG(status);
		ret = -EINTR;
	} else if (WEXITSTATUS(status)) {
		ret = -ECHILD;
	}
	if (pidfd >= 0)
		close(pidfd);
	return ret;
}

int isolate(void (*body)(const void *arg, void *result), const void *arg, void *result,
	    size_t len, unsigned int timeout, int *sig)
{
	int prot = PROT_READ | PROT_WRITE, messages = messages_create(), ret;
	pid_t parent = getpid(), pid;
	void *shared;

	shared = mmap(NULL, len, prot, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		ret = -errno;
		goto out_show;
	}
	memcpy(shared, result, len);
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		ret = -errno;
		goto out_unmap;
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		messages_redirect(messages);
		body(arg, shared);
		exit(0);
	}
	ret = wait_bounded(pid, timeout, sig);
	memcpy(result, shared, len);
out_unmap:
	munmap(shared, len);
out_show:
	messages_show(messages);
	return ret;
}
