/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A client is stopped again and again, wherever it is, while it sends: the server's other
 * work goes on, and each message arrives once and in order.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "child.h"
#include "pair.h"
#include "queue.h"
#include "suite.h"

#define LONG_MS 30000u
#define STOPS 300
#define DEPTH 32

static struct ibv_context *ctx;

static struct ibv_context *device_open(void)
{
	struct ibv_device **list;
	struct ibv_context *c;
	int n;

	setenv("UODP_ONLY", "1", 1);
	list = ibv_get_device_list(&n);
	if (!list || n < 1)
		return NULL;
	c = ibv_open_device(list[0]);
	ibv_free_device_list(list);
	return c;
}

static bool told_to_end(void)
{
	struct pollfd pfd = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

/* Keep DEPTH numbered messages under way until told to end; how many, or 0. */
static uint32_t stream(struct end *e)
{
	struct ibv_wc wc[DEPTH];
	uint32_t seq = 0, done = 0;
	bool end = false;
	int n;

	while (!end || done < seq) {
		end = end || (seq % 256 == 0 && told_to_end());
		while (!end && seq - done < DEPTH &&
		       !end_send(e, IBV_WR_SEND_WITH_IMM, seq, 8, NULL, seq))
			seq++;
		n = ibv_poll_cq(e->scq, DEPTH, wc);
		for (int i = 0; i < n; i++)
			if (wc[i].status || wc[i].wr_id != done++)
				return 0;
	}
	return seq;
}

/* Sends to the QP that it is told of until it is told to stop, then says how many. */
static int client(void)
{
	struct end e;

	ctx = device_open();
	if (!ctx || !end_make(&e, ctx, IBV_QPT_RC, false))
		return 1;
	parent_put(e.qp->qp_num);
	if (!end_connect(&e, (uint32_t)parent_get()))
		return 2;
	parent_put(stream(&e));
	return end_drop(&e) || ibv_close_device(ctx);
}

/* Take what has come; the numbers go up by one. */
static uint32_t receive(struct end *e, uint32_t next)
{
	struct ibv_wc wc[DEPTH];
	int n = ibv_poll_cq(e->rcq, DEPTH, wc);

	for (int i = 0; i < n; i++) {
		CU_ASSERT_EQUAL(wc[i].status, IBV_WC_SUCCESS);
		CU_ASSERT_EQUAL_FATAL(wc[i].imm_data, next);
		next++;
		CU_ASSERT_EQUAL(end_recv(e, 0), 0);
	}
	return next;
}

static void receive_for(struct end *e, uint32_t *next, unsigned us)
{
	uint64_t end = odp_now() + us * 1000ull;

	while (odp_now() < end)
		*next = receive(e, *next);
}

/* Its number of messages, while they are received. */
static uint32_t client_ends(struct child *c, struct end *e, uint32_t *next)
{
	struct pollfd pfd = {.fd = c->out, .events = POLLIN};
	uint64_t end = now_ms() + LONG_MS;

	child_put(c, 1);
	while (poll(&pfd, 1, 0) == 0 && now_ms() < end)
		*next = receive(e, *next);
	return (uint32_t)child_get(c);
}

static void stopped_anywhere(void)
{
	uint32_t next = 0, total;
	struct child c;
	struct end e;

	CU_ASSERT_TRUE_FATAL(child_start(&c, "client"));
	CU_ASSERT_TRUE_FATAL(end_make(&e, ctx, IBV_QPT_RC, false));
	for (int i = 0; i < DEPTH; i++)
		CU_ASSERT_EQUAL(end_recv(&e, 0), 0);
	CU_ASSERT_TRUE_FATAL(end_connect(&e, (uint32_t)child_get(&c)));
	child_put(&c, e.qp->qp_num);
	srand(1);
	for (int i = 0; i < STOPS; i++) {
		receive_for(&e, &next, 200 + (unsigned)rand() % 3000);
		CU_ASSERT_EQUAL(kill(c.pid, SIGSTOP), 0);
		receive_for(&e, &next, 500);
		CU_ASSERT_TRUE(pair_works(ctx));
		CU_ASSERT_EQUAL(ibv_req_notify_cq(e.rcq, 0), 0);
		CU_ASSERT_EQUAL(kill(c.pid, SIGCONT), 0);
	}
	total = client_ends(&c, &e, &next);
	next = receive(&e, next);
	CU_ASSERT_TRUE(total > DEPTH);
	CU_ASSERT_EQUAL(next, total);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	CU_ASSERT_EQUAL(end_drop(&e), 0);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {{"client", client}, {NULL, NULL}};
	CU_TestInfo tests[] = {
		{"a client that is stopped anywhere", stopped_anywhere},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	ctx = device_open();
	if (!ctx)
		return 1;
	return suite_run("stops", tests);
}
