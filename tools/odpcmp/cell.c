/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A cell: register, let the event happen, transfer, judge. The operations of a
 * kind of memory, an event and a kind of region share a process and its device
 * context, each with new memory, a new region and QPs that work. A crash or a
 * hang is the answer of the operation under way; the others are asked again.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>

#include "odpcmp.h"

int cell_warm_up(struct rdma *rdma, const struct memory *m)
{
	int status = rdma_transfer(rdma, IBV_WR_RDMA_READ, m->addr + m->page, 1, m->page);

	if (status < 0)
		return status;
	if (status != IBV_WC_SUCCESS)
		return -EREMOTEIO;
	/* Of the second page; the buffer takes it as its first. */
	return pattern_find(rdma_probe(rdma, 0), PROBE, 1) == TAG_OLD ? 0 : -EBADMSG;
}

static int happen(const struct event *event, struct memory *m)
{
	int ret = event->apply(m);

	if (ret || event->flags & (EVENT_NO_NEW_DATA | EVENT_UNTOUCHED))
		return ret;
	return memory_renew(m);
}

static void ask(const struct group *group, const struct operation *op, struct rdma *rdma,
		struct memory *m, struct answer *answer)
{
	int ret;

	answer_step(answer, "registering");
	ret = rdma_register(rdma, m, group->mr, op->access);
	if (ret) {
		answer_refused(answer, -ret);
		return;
	}
	answer_step(answer, "reading before the event");
	ret = group->kind->flags & KIND_NO_ACCESS ? 0 : cell_warm_up(rdma, m);
	if (ret) {
		rdma->spent = true;
		answer_step_failed(answer, ret);
		return;
	}
	answer_step(answer, "the event");
	ret = happen(group->event, m);
	if (ret) {
		answer_step_failed(answer, ret);
		return;
	}
	answer_step(answer, "the transfer after the event");
	op->run(rdma, m, answer);
}

static void ask_with_memory(const struct group *group, const struct operation *op,
			    struct rdma *rdma, struct answer *answer)
{
	struct memory m;
	const char *call;
	int ret;

	ret = rdma_reconnect(rdma, &call);
	if (ret) {
		answer_step(answer, call);
		answer_step_failed(answer, ret);
		return;
	}
	answer_step(answer, "setting the memory up");
	ret = memory_create(&m, group->kind, group->opt->dir);
	if (ret) {
		answer_step_failed(answer, ret);
		return;
	}
	answer_step(answer, "starting another process");
	ret = group->event->flags & EVENT_HELPER ? helper_start(&m) : 0;
	if (ret)
		answer_step_failed(answer, ret);
	else if (group->policy)
		policy_ask(group, op, rdma, &m, answer);
	else
		ask(group, op, rdma, &m, answer);
	fork_child_end(&m);
	rdma_deregister(rdma);
	memory_destroy(&m);
}

static void ask_all(const struct group *group, struct rdma *rdma, struct group_result *result)
{
	size_t op;

	for (op = 0; op < num_operations; op++) {
		if (!result->asked[op] || result->answers[op].state != ANSWER_NONE)
			continue;
		result->current = op;
		ask_with_memory(group, &operations[op], rdma, &result->answers[op]);
		/* The rest is for other processes. */
		if (group->kind->flags & KIND_ONCE)
			break;
	}
}

static int open_and_connect(const struct group *group, struct rdma *rdma, struct answer *answer)
{
	const char *call;
	char name[64];
	int ret;

	answer_step(answer, "opening the device");
	ret = rdma_open(rdma, group->env->device, name, sizeof(name));
	if (ret) {
		answer_step_failed(answer, ret);
		return ret;
	}
	rdma->port = group->env->port;
	rdma->gid_index = group->env->gid_index;
	ret = rdma_connect(rdma, &call);
	if (ret) {
		answer_step(answer, call);
		answer_step_failed(answer, ret);
	}
	return ret;
}

void group_body(const void *arg, void *shared)
{
	uint8_t stack[STACK_ROOM];
	const struct group *group = arg;
	struct group_result *result = shared;
	struct rdma rdma = {0};
	char lease[16];

	place_stack_set(stack);
	for (result->current = 0; (size_t)result->current < num_operations; result->current++)
		if (result->asked[result->current] &&
		    result->answers[result->current].state == ANSWER_NONE)
			break;
	/* Where odpcmp has no direct verbs; before the device's library looks. */
	if (group->policy) {
		setenv("UODP_POLICY", policies[group->policy].name, 1);
		snprintf(lease, sizeof(lease), "%u", group->opt->lease_ms);
		setenv("UODP_LEASE_MS", lease, 1);
	}
	if (group->policy && !strcmp(policies[group->policy].name, "kill"))
		policy_owner_ask(group, &operations[result->current],
				 &result->answers[result->current]);
	else if (group->event->flags & EVENT_OWNER_ENDS)
		owner_ask(group, &operations[result->current], &result->answers[result->current]);
	else if (!open_and_connect(group, &rdma, &result->answers[result->current]))
		ask_all(group, &rdma, result);
	rdma_close(&rdma);
	result->current = -1;
}

void group_ended(const struct group *group, struct group_result *result, int ret, int sig)
{
	struct answer *answer;
	char step_name[sizeof(answer->note)];
	size_t op;

	if (!ret)
		return;
	/* At the very end the last answer is the one to doubt. */
	for (op = num_operations; result->current < 0 && op > 0; op--)
		if (result->asked[op - 1] && result->answers[op - 1].state != ANSWER_NONE)
			result->current = op - 1;
	if (result->current < 0)
		result->current = 0;
	answer = &result->answers[result->current];
	snprintf(step_name, sizeof(step_name), "%.100s",
		 answer->state == ANSWER_GOOD ? "cleaning up after the answer" : answer->note);
	if (ret == -ETIMEDOUT)
		answer_fail(answer, "timeout", "no end after %u s, in: %s", group->opt->timeout,
			    step_name);
	else if (ret == -EINTR)
		answer_fail(answer, "crash", "SIG%s in: %s", sigabbrev_np(sig) ?: "?", step_name);
	else
		answer_fail(answer, "failed", "the process ended badly (%s) in: %s", strerror(-ret),
			    step_name);
}
