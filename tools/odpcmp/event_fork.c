/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Children that inherit the memory, and say on request what they see of it. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpcmp.h"

enum child_does { CHILD_LOOKS, CHILD_WRITES, CHILD_EXECS };

static void child_serve(struct memory *m, int fd)
{
	char byte;

	do {
		byte = memory_see(m, memory_window(m));
		if (write(fd, &byte, 1) != 1)
			break;
	} while (read(fd, &byte, 1) == 1);
	_exit(0);
}

/* Another program, which ends with its input. */
__attribute__((noreturn)) static void child_exec(int fd)
{
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	execlp("cat", "cat", NULL);
	_exit(127);
}

static void child_run(struct memory *m, int fd, enum child_does does)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (does == CHILD_EXECS && write(fd, "", 1) == 1)
		child_exec(fd);
	if (does == CHILD_WRITES && memory_write(m, memory_window(m), WINDOW_PAGES, TAG_CHILD))
		_exit(1);
	child_serve(m, fd);
}

/* The child has done its writing when this returns. */
static int fork_child(struct memory *m, enum child_does does)
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
		child_run(m, fds[1], does);
	}
	close(fds[1]);
	m->child_fd = fds[0];
	m->child_has_it = does != CHILD_EXECS;
	return read(m->child_fd, &byte, 1) == 1 ? 0 : -ECHILD;
}

int event_fork_child(struct memory *m)
{
	return fork_child(m, CHILD_WRITES);
}

int event_fork_parent(struct memory *m)
{
	return fork_child(m, CHILD_LOOKS);
}

int event_fork_exit(struct memory *m)
{
	int ret = fork_child(m, CHILD_WRITES);

	fork_child_end(m);
	return ret;
}

/* It echoes once exec() is behind it. */
int event_fork_exec(struct memory *m)
{
	int ret = fork_child(m, CHILD_EXECS);
	char byte = 0;

	if (ret)
		return ret;
	return write(m->child_fd, &byte, 1) == 1 && read(m->child_fd, &byte, 1) == 1 ? 0 : -ECHILD;
}

/* Writes next to the window for as long as it may. */
struct writer {
	pthread_t thread;
	atomic_uint *word;
	atomic_bool stop;
};

static void *writer_run(void *arg)
{
	struct writer *writer = arg;

	while (!atomic_load_explicit(&writer->stop, memory_order_relaxed))
		atomic_fetch_add_explicit(writer->word, 1, memory_order_relaxed);
	return NULL;
}

int event_fork_thread(struct memory *m)
{
	struct writer writer = {.word = (atomic_uint *)(m->addr + m->offset - sizeof(int))};
	int ret = -pthread_create(&writer.thread, NULL, writer_run, &writer);

	if (ret)
		return ret;
	ret = fork_child(m, CHILD_WRITES);
	atomic_store_explicit(&writer.stop, true, memory_order_relaxed);
	pthread_join(writer.thread, NULL);
	return ret;
}

static int wait_for(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -ECHILD;
}

int event_vfork(struct memory *m)
{
	pid_t pid = vfork();

	(void)m;
	if (pid < 0)
		return -errno;
	if (!pid) {
		execlp("true", "true", NULL);
		_exit(127);
	}
	return wait_for(pid);
}

int event_spawn(struct memory *m)
{
	char *argv[] = {"true", NULL};
	pid_t pid;
	int ret;

	(void)m;
	ret = posix_spawnp(&pid, "true", NULL, NULL, argv, environ);
	return ret ? -ret : wait_for(pid);
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
	m->child_has_it = false;
}

/* ---- the owner itself, whose peer is another process ---- */

int event_owner_exits(struct memory *m)
{
	(void)m;
	_exit(0);
}

int event_owner_execs(struct memory *m)
{
	child_exec(m->child_fd);
}
