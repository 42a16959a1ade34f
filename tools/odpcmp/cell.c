/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * One cell: register, let the event happen, transfer, judge. Each in a process
 * of its own with its own device context, so that a crash, a hang or a QP in
 * error takes no other cell with it.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>

#include "odpcmp.h"

static void step(struct answer *answer, const char *what)
{
	snprintf(answer->note, sizeof(answer->note), "%s", what);
}

static void step_failed(struct answer *answer, int ret)
{
	char name[24], what[sizeof(answer->note)];

	memcpy(what, answer->note, sizeof(what));
	answer_fail(answer, "failed", "%.100s: %s", what, errno_name(-ret, name, sizeof(name)));
}

/*
 * A READ from outside the window. It proves that the connection works, and what
 * a provider sets up on first use does not fall into the hole to come.
 */
static int warm_up(struct rdma *rdma, struct memory *m)
{
	int status = rdma_transfer(rdma, IBV_WR_RDMA_READ, m->addr, m->page, m->page);

	if (status < 0)
		return status;
	if (status != IBV_WC_SUCCESS)
		return -EREMOTEIO;
	return pattern_find(rdma->buf, m->page, m->page) == TAG_OLD ? 0 : -EBADMSG;
}

static int happen(const struct event *event, struct memory *m)
{
	int ret = event->apply(m);

	if (ret || event->flags & EVENT_NO_NEW_DATA)
		return ret;
	return memory_write(m, memory_window(m), m->window, TAG_NEW);
}

static void ask(const struct cell *cell, struct rdma *rdma, struct memory *m,
		struct answer *answer)
{
	const char *call;
	int ret;

	step(answer, "connecting");
	ret = rdma_connect(rdma, m->window, &call);
	if (ret) {
		step(answer, call);
		step_failed(answer, ret);
		return;
	}
	step(answer, "registering");
	ret = rdma_register(rdma, m, cell->mr);
	if (ret) {
		answer_refused(answer, -ret);
		return;
	}
	step(answer, "reading before the event");
	ret = warm_up(rdma, m);
	if (ret) {
		step_failed(answer, ret);
		return;
	}
	step(answer, "the event");
	ret = happen(cell->event, m);
	if (ret) {
		step_failed(answer, ret);
		return;
	}
	step(answer, "the transfer after the event");
	cell->op->run(rdma, m, answer);
}

static void cell_body(const void *arg, void *result)
{
	const struct cell *cell = arg;
	struct answer *answer = result;
	struct memory m;
	struct rdma rdma;
	char name[64];
	int ret;

	step(answer, "opening the device");
	ret = rdma_open(&rdma, cell->env->device, name, sizeof(name));
	if (ret) {
		step_failed(answer, ret);
		return;
	}
	rdma.port = cell->env->port;
	rdma.gid_index = cell->env->gid_index;

	step(answer, "setting the memory up");
	ret = memory_create(&m, cell->kind, cell->opt->dir);
	if (ret) {
		step_failed(answer, ret);
	} else {
		ask(cell, &rdma, &m, answer);
		fork_child_end(&m);
		rdma_close(&rdma);
		memory_destroy(&m);
		return;
	}
	rdma_close(&rdma);
}

void cell_find(const struct cell *cell, struct answer *answer)
{
	char step_name[sizeof(answer->note)];
	bool answered;
	int ret, sig = 0;

	ret = isolate(cell_body, cell, answer, sizeof(*answer), cell->opt->timeout, &sig);
	if (!ret && answer->state != ANSWER_NONE)
		return;
	answered = answer->state == ANSWER_GOOD;
	snprintf(step_name, sizeof(step_name), "%.100s",
		 answered ? "cleaning up after the answer" : answer->note);
	if (ret == -ETIMEDOUT)
		answer_fail(answer, "timeout", "no end after %u s, in: %s", cell->opt->timeout,
			    step_name);
	else if (ret == -EINTR)
		answer_fail(answer, "crash", "SIG%s in: %s", sigabbrev_np(sig) ?: "?", step_name);
	else
		answer_fail(answer, "failed", "the process ended badly (%s) in: %s",
			    strerror(-ret), step_name);
}
