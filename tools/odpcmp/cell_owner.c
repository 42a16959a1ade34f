/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A cell of an event that ends the process that registered the memory: the owner
 * is a process of its own, and the peer, here, stays.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odpcmp.h"

/* What the owner tells when all is set up; in answer what stopped it, if anything did. */
struct hello {
	struct answer answer;
	struct memory m;
	uint32_t rkey;
	uint32_t qp_num;
};

/* ---- the owner ---- */

static void owner_register(const struct group *group, const struct operation *op, struct rdma *rdma,
			   struct hello *hello)
{
	struct answer *answer = &hello->answer;
	int ret;

	if (!owner_open_half(group, rdma, true, answer))
		return;
	hello->qp_num = rdma->target->qp_num;
	answer_step(answer, "setting the memory up");
	ret = memory_create(&hello->m, group->kind, group->opt->dir);
	if (ret) {
		answer_step_failed(answer, ret);
		return;
	}
	ret = rdma_register(rdma, &hello->m, group->mr, op->access);
	if (ret)
		answer_refused(answer, -ret);
	hello->rkey = rdma->rkey;
}

static void owner_run(const struct group *group, const struct operation *op, int fd)
{
	struct hello hello = {.answer.state = ANSWER_NONE};
	struct rdma rdma = {0};
	char order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	owner_register(group, op, &rdma, &hello);
	if (!owner_put(fd, &hello, sizeof(hello)) || hello.answer.state != ANSWER_NONE)
		_exit(1);
	if (!owner_accept(fd, &rdma) || !owner_get(fd, &order, 1))
		_exit(1);
	hello.m.child_fd = fd;
	group->event->apply(&hello.m);
	_exit(1);
}

/* ---- the peer ---- */

struct owner {
	pid_t pid;
	int fd;
};

static int owner_start(const struct group *group, const struct operation *op, struct owner *owner)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	owner->fd = fds[0];
	owner->pid = fork();
	if (!owner->pid) {
		close(fds[0]);
		owner_run(group, op, fds[1]);
	}
	close(fds[1]);
	if (owner->pid > 0)
		return 0;
	close(fds[0]);
	return -EAGAIN;
}

static void owner_stop(struct owner *owner)
{
	close(owner->fd);
	kill(owner->pid, SIGKILL);
	waitpid(owner->pid, NULL, 0);
}

/* The second byte is echoed by the program that the owner executes, or by nobody. */
static int owner_order_end(struct owner *owner)
{
	char byte;

	if (!owner_put(owner->fd, "xx", 2))
		return -ECHILD;
	if (owner_get(owner->fd, &byte, 1))
		return 0;
	/* Its descriptors are closed before it is gone. */
	return waitid(P_PID, owner->pid, &(siginfo_t){0}, WEXITED | WNOWAIT) ? -errno : 0;
}

static void ask(const struct operation *op, struct rdma *rdma, struct owner *owner,
		struct hello *hello, struct answer *answer)
{
	int ret;

	answer_step(answer, "connecting to the owner");
	ret = owner_connect(owner->fd, rdma, hello->qp_num);
	if (ret)
		goto failed;
	rdma->rkey = hello->rkey;
	answer_step(answer, "reading before the event");
	ret = cell_warm_up(rdma, &hello->m);
	if (ret)
		goto failed;
	answer_step(answer, "the event");
	ret = owner_order_end(owner);
	if (ret)
		goto failed;
	answer_step(answer, "the transfer after the event");
	/* Of the owner's memory nothing is here. */
	hello->m.fd = -1;
	hello->m.child_fd = -1;
	op->run(rdma, &hello->m, answer);
	return;

failed:
	answer_step_failed(answer, ret);
}

void owner_ask(const struct group *group, const struct operation *op, struct answer *answer)
{
	struct rdma rdma = {0};
	struct owner owner = {.fd = -1};
	struct hello hello;
	int ret;

	answer_step(answer, "starting the owner");
	ret = owner_start(group, op, &owner);
	if (ret) {
		answer_step_failed(answer, ret);
		return;
	}
	if (!owner_get(owner.fd, &hello, sizeof(hello)))
		answer_step_failed(answer, -ECHILD);
	else if (hello.answer.state != ANSWER_NONE)
		*answer = hello.answer;
	else if (owner_open_half(group, &rdma, false, answer))
		ask(op, &rdma, &owner, &hello, answer);
	rdma_close(&rdma);
	owner_stop(&owner);
}
