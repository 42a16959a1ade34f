/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Runs functions in forked processes, within bounds. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "odpcmp.h"

/* A killed process that does not end sits in the kernel: it is left there. */
enum { KILL_TIMEOUT_MS = 3000 };

uint64_t isolate_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void run(const struct isolated *job, void (*body)(const void *arg, void *result),
		const void *arg, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	huge_leave();
	messages_redirect(job->messages);
	body(arg, job->shared);
	exit(0);
}

int isolate_start(struct isolated *job, void (*body)(const void *arg, void *result),
		  const void *arg, const void *result, size_t len, unsigned int timeout)
{
	pid_t parent = getpid();
	int ret;

	*job = (struct isolated){.len = len, .messages = messages_create()};
	job->shared = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (job->shared == MAP_FAILED) {
		ret = -errno;
		goto err_show;
	}
	memcpy(job->shared, result, len);
	fflush(NULL);
	job->deadline = isolate_now() + timeout * UINT64_C(1000);
	job->pid = fork();
	if (!job->pid)
		run(job, body, arg, parent);
	if (job->pid < 0) {
		ret = -errno;
		goto err_unmap;
	}
	job->pidfd = syscall(SYS_pidfd_open, job->pid, 0);
	if (job->pidfd < 0) {
		ret = -errno;
		kill(job->pid, SIGKILL);
		waitpid(job->pid, NULL, 0);
		goto err_unmap;
	}
	return 0;

err_unmap:
	munmap(job->shared, len);
err_show:
	messages_show(job->messages);
	job->pid = 0;
	return ret;
}

size_t isolate_wait(struct isolated *jobs, size_t num)
{
	uint64_t now, first;
	struct pollfd fds[MAX_JOBS];
	size_t i;

	for (;;) {
		now = isolate_now();
		first = UINT64_MAX;
		for (i = 0; i < num; i++) {
			fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
			if (!jobs[i].pid)
				continue;
			fds[i].fd = jobs[i].pidfd;
			if (jobs[i].deadline <= now)
				return i;
			if (jobs[i].deadline < first)
				first = jobs[i].deadline;
		}
		if (poll(fds, num, first - now) <= 0)
			continue;
		for (i = 0; i < num; i++)
			if (fds[i].revents)
				return i;
	}
}

static int ended(int pidfd, int ms)
{
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
	int ret;

	do {
		ret = poll(&pfd, 1, ms);
	} while (ret < 0 && errno == EINTR);
	return ret == 1;
}

bool isolate_ended(const struct isolated *job)
{
	return job->deadline <= isolate_now() || ended(job->pidfd, 0);
}

static int reap(const struct isolated *job, int *sig)
{
	int status;

	if (!ended(job->pidfd, 0)) {
		kill(job->pid, SIGKILL);
		if (ended(job->pidfd, KILL_TIMEOUT_MS))
			waitpid(job->pid, &status, 0);
		return -ETIMEDOUT;
	}
	if (waitpid(job->pid, &status, 0) != job->pid)
		return -errno;
	if (WIFSIGNALED(status)) {
		*sig = WTERMSIG(status);
		return -EINTR;
	}
	return WEXITSTATUS(status) ? -ECHILD : 0;
}

int isolate_end(struct isolated *job, void *result, int *sig)
{
	int ret = reap(job, sig);

	memcpy(result, job->shared, job->len);
	close(job->pidfd);
	munmap(job->shared, job->len);
	messages_show(job->messages);
	job->pid = 0;
	return ret;
}

int isolate(void (*body)(const void *arg, void *result), const void *arg, void *result, size_t len,
	    unsigned int timeout, int *sig)
{
	struct isolated job;
	int ret = isolate_start(&job, body, arg, result, len, timeout);

	if (ret)
		return ret;
	isolate_wait(&job, 1);
	return isolate_end(&job, result, sig);
}
