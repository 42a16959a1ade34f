/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 30000 /* a busy machine is slow */

void child_main(int argc, char **argv, const struct child_role *roles)
{
	if (argc != 3 || strcmp(argv[1], "--child")) {
		unsetenv("UODP_LOG"); /* tests count lines */
		return;
	}
	/* Not to outlive a test that failed. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		exit(125);
	for (; roles->name; roles++) {
		if (!strcmp(roles->name, argv[2]))
			exit(roles->run());
	}
	fprintf(stderr, "no such role: %s\n", argv[2]);
	exit(127);
}

bool child_start(struct child *c, const char *role)
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return false;
	fflush(NULL);
	c->pid = vfork();
	if (c->pid < 0)
		return false;
	if (!c->pid) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execl("/proc/self/exe", program_invocation_short_name, "--child", role, NULL);
		_exit(126);
	}
	close(in[0]);
	close(out[1]);
	c->in = in[1];
	c->out = out[0];
	return true;
}

static long number_read(int fd, int timeout)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	long value;

	if (poll(&pfd, 1, timeout) <= 0 || read(fd, &value, sizeof(value)) != sizeof(value))
		return -1;
	return value;
}

long child_get(struct child *c)
{
	return number_read(c->out, PATIENCE_MS);
}

static void number_write(int fd, long value)
{
	if (write(fd, &value, sizeof(value)) != sizeof(value))
		perror("write to the other process");
}

void child_put(struct child *c, long value)
{
	number_write(c->in, value);
}

int child_end(struct child *c)
{
	int status;

	close(c->in);
	if (waitpid(c->pid, &status, 0) != c->pid)
		return -1;
	close(c->out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void child_kill(struct child *c)
{
	kill(c->pid, SIGKILL);
	child_end(c);
}

void parent_put(long value)
{
	number_write(STDOUT_FILENO, value);
}

long parent_get(void)
{
	return number_read(STDIN_FILENO, -1);
}

int stderr_lines(void (*fn)(void *arg), void *arg, char *buf, unsigned size)
{
	int saved, pipes[2], lines = 0;
	ssize_t n;
	char *p;

	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK))
		return -1;
	saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(pipes[1], STDERR_FILENO);
	fn(arg);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pipes[1]);
	n = read(pipes[0], buf, size - 1);
	close(pipes[0]);
	buf[n < 0 ? 0 : n] = 0;
	for (p = buf; (p = strchr(p, '\n')); p++)
		lines++;
	return lines;
}

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	nanosleep(&ts, NULL);
}

bool wait_for(bool (*fn)(void *arg), void *arg)
{
	uint64_t end = now_ms() + PATIENCE_MS;

	while (!fn(arg)) {
		if (now_ms() > end)
			return false;
		sleep_ms(1);
	}
	return true;
}
