/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Something goes away while long transfers are under way: the requests before it
 * end well, the first one after it with its error, the rest flushed, in order;
 * nothing hangs and no byte lands in memory that is no longer registered.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "harness.h"

#define N 6

enum { PEER_DESTROY, PEER_ERR, PEER_RESET, PEER_DEREG, OWN_ERR, OWN_RESET, OWN_DEREG, N_ACTS };
static const char *const act_name[] = {"peer QP destroyed",    "peer to ERR",   "peer to RESET",
				       "peer MR deregistered", "own QP to ERR", "own QP to RESET",
				       "own MR deregistered"};

static int completed, acts; /* to see that it is midway at all */

static struct ep_conf big_conf(bool odp)
{
	struct ep_conf c = RC_CONF;

	/* more than a post carries out before it returns */
	c.len = tdev()->rxe ? 1 << 18 : pinned_len(8 << 20);
	c.timeout = 10;
	c.retry_cnt = 1;
	if (tdev()->rxe) /* slow, and it must not give up for that */
		c.timeout = 16;
	c.odp = odp;
	c.fresh = true;
	return c;
}

static enum ibv_wc_status want_of(int act)
{
	switch (act) {
	case PEER_DEREG:
		return IBV_WC_REM_ACCESS_ERR;
	case OWN_ERR:
		return IBV_WC_WR_FLUSH_ERR;
	case OWN_DEREG:
		return IBV_WC_LOC_PROT_ERR;
	default:
		return IBV_WC_RETRY_EXC_ERR;
	}
}

static void do_act(struct pair *p, int act)
{
	switch (act) {
	case PEER_DESTROY:
		CHECK_ERRNO(side_destroy_qp(&p->b), 0);
		break;
	case PEER_ERR:
		CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0);
		break;
	case PEER_RESET:
		CHECK_ERRNO(side_modify(&p->b, IBV_QPS_RESET), 0);
		break;
	case PEER_DEREG:
		CHECK_ERRNO(side_dereg(&p->b), 0);
		break;
	case OWN_ERR:
		CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
		break;
	case OWN_RESET:
		CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RESET), 0);
		break;
	case OWN_DEREG:
		CHECK_ERRNO(ibv_dereg_mr(p->a.mr), 0);
		p->a.mr = NULL;
		/* gone from the program too: whoever still touched it would crash */
		memset(p->a.buf, 0x3c, p->a.conf.len);
		CHECK_ERRNO(ibv_dereg_mr(p->a.mr_other), 0);
		p->a.mr_other = NULL;
		munmap(p->a.map, p->a.map_len);
		p->a.map = NULL;
	}
}

static void check_end(struct pair *p, int act)
{
	enum ibv_wc_status want = want_of(act);
	struct ibv_wc wc[N];
	int i = 0;

	if (act == OWN_RESET) { /* nothing is reported of what RESET forgot */
		int n = ep_poll(p->a.scq, wc, N, 30);

		for (i = 0; i < n; i++)
			CHECK_STATUS(wc[i].status, IBV_WC_SUCCESS);
		return;
	}
	REQUIRE(ep_poll(p->a.scq, wc, N, LONG_MS) == N);
	while (i < N && wc[i].status == IBV_WC_SUCCESS)
		i++;
	completed += i;
	/* rxe flushes the request whose key is bad, as said in test_err_rdma.c */
	if (i < N && !(tdev()->rxe && act == OWN_DEREG))
		CHECK_STATUS(wc[i].status, want);
	for (i++; i < N; i++)
		CHECK_STATUS(wc[i].status, IBV_WC_WR_FLUSH_ERR);
	for (i = 0; i < N; i++)
		CHECK_INT(wc[i].wr_id, i);
}

static void one(struct pair *p, const struct ep_conf *c, enum ibv_wr_opcode op, int act)
{
	struct twr s = {.op = op, .flags = IBV_SEND_SIGNALED};
	int i;

	t_note("%s, opcode %d", act_name[act], op);
	REQUIRE(pair_up(p, c, c));
	s.len = c->len;
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (i = 0; i < N; i++)
		if (op == IBV_WR_SEND)
			CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 1, .len = c->len}), 0);
	for (i = 0; i < N; i++) {
		s.id = (uint64_t)i;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
	}
	do_act(p, act);
	acts++;
	check_end(p, act);
	pair_down(p);
}

static void all(struct pair *p, bool odp)
{
	static const enum ibv_wr_opcode ops[] = {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_SEND};
	struct ep_conf c = big_conf(odp);
	size_t i;
	int act;

	completed = acts = 0;
	for (act = 0; act < N_ACTS; act++) {
		for (i = 0; i < ARRAY_SIZE(ops) && !t_failures(); i++) {
			/* a receive whose region went away fails as REM_OP_ERR: not here */
			if (ops[i] == IBV_WR_SEND && act == PEER_DEREG)
				continue;
			one(p, &c, ops[i], act);
		}
	}
	printf("  %d of %d requests were done before\n", completed, acts * N);
}

static void c_pinned(struct pair *p)
{
	all(p, false);
}

static void c_odp(struct pair *p)
{
	if (tdev()->rxe || !(tdev()->odp.general_caps & IBV_ODP_SUPPORT))
		return t_skip("the device has no (working) ODP");
	all(p, true);
}

/* The QP is destroyed with everything in flight, and its memory unmapped. */
static void c_destroy(struct pair *p)
{
	struct ep_conf c = big_conf(false);
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED};
	int round, i;

	for (round = 0; round < 5 && !t_failures(); round++) {
		REQUIRE(pair_up(p, &c, &c));
		s.len = c.len;
		s.raddr = p->bi.addr;
		s.rkey = p->bi.rkey;
		for (i = 0; i < N; i++)
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
		pair_down(p);
	}
}

/* Both ends send to each other, and both give up at once. */
static void c_both(struct pair *p)
{
	struct ep_conf c = big_conf(false);
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED};
	int round, i;

	for (round = 0; round < 5 && !t_failures(); round++) {
		REQUIRE(pair_up(p, &c, &c));
		s.len = c.len;
		for (i = 0; i < N; i++) {
			s.raddr = p->bi.addr;
			s.rkey = p->bi.rkey;
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
			s.raddr = p->ai.addr;
			s.rkey = p->ai.rkey;
			CHECK_ERRNO(side_send(&p->b, &s), 0);
		}
		pair_down(p);
	}
}

/* ---- The peer leaves between two of a stream of small requests ---- */

/* After V[0] microseconds at work, to the state N. */
static void leave(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	struct timespec start, now;
	long us;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
		us = (now.tv_sec - start.tv_sec) * 1000000 + (now.tv_nsec - start.tv_nsec) / 1000;
	} while (us < (long)in->v[0]);
	memset(out, 0, sizeof(*out));
	out->n = (uint32_t)ep_modify(ep, (enum ibv_qp_state)in->n);
}

/* The answer is silence, not an error that the peer did not send; and it stays
 * where it went. */
static void leave_once(struct pair *p, int round, enum ibv_wr_opcode op)
{
	static struct hook_msg m, out;
	struct ep_conf c = RC_CONF;
	struct twr s = {.op = op, .flags = IBV_SEND_SIGNALED, .len = 8};
	uint64_t start = now_ms();
	struct ibv_wc wc;

	c.len = 4096;
	c.timeout = tdev()->rxe ? 14 : 8;
	c.retry_cnt = 1;
	t_note("round %d, opcode %d", round, op);
	REQUIRE(pair_up(p, &c, &c));
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	/* RESET under traffic hangs rxe of Linux 7.2 */
	m.n = round & 1 && !tdev()->rxe ? IBV_QPS_RESET : IBV_QPS_ERR;
	m.v[0] = (uint64_t)(round * 37 % 200);
	side_hook_begin(&p->b, &m);
	do {
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	} while (wc.status == IBV_WC_SUCCESS && now_ms() - start < LONG_MS);
	CHECK_STATUS(wc.status, IBV_WC_RETRY_EXC_ERR);
	side_hook_end(&p->b, &out);
	CHECK_ERRNO((int)out.n, 0);
	CHECK_INT(side_state(&p->b), m.n);
	pair_down(p);
}

static void c_leave(struct pair *p)
{
	static const enum ibv_wr_opcode ops[] = {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ,
						 IBV_WR_ATOMIC_FETCH_AND_ADD};
	int round;

	for (round = 0; round < (tdev()->rxe ? 12 : 150) && !t_failures(); round++)
		leave_once(p, round, ops[round % 3]);
}

/* ---- When the call returns, nothing lands any more ---- */

enum { QUIET_DEREG = 100, QUIET_RESET, QUIET_DESTROY };

static int quiet_act(struct ep *ep, uint32_t act)
{
	int err;

	switch (act) {
	case QUIET_DEREG:
		err = ibv_dereg_mr(ep->mr);
		ep->mr = NULL;
		return err;
	case QUIET_RESET:
		return ep_modify(ep, IBV_QPS_RESET);
	default:
		err = ibv_destroy_qp(ep->qp);
		ep->qp = NULL;
		return err;
	}
}

/* Act, fill the buffer, wait: the first byte that changed, or -1. */
static long quiet_check(struct ep *ep, uint32_t act, int *err)
{
	uint32_t i;

	*err = quiet_act(ep, act);
	memset(ep->buf, 0x5a, ep->conf.len);
	sleep_ms(3);
	for (i = 0; i < ep->conf.len; i++)
		if (ep->buf[i] != 0x5a)
			return (long)i;
	return -1;
}

static void quiet_hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	int err;

	if (in->n < QUIET_DEREG) {
		leave(ep, in, out);
		return;
	}
	memset(out, 0, sizeof(*out));
	sleep_ms(1);
	out->v[0] = (uint64_t)quiet_check(ep, in->n, &err);
	out->n = (uint32_t)err;
}

/* A writes to B's buffer all the time; B ends it. */
static void quiet_peer(struct pair *p, uint32_t act, enum ibv_wr_opcode op, uint32_t len, bool odp)
{
	static struct hook_msg m, out;
	struct ep_conf c = RC_CONF;
	struct twr s = {.op = op, .flags = IBV_SEND_SIGNALED, .len = len};
	uint64_t start = now_ms();
	struct ibv_wc wc;
	int i;

	c.len = 1 << 20;
	c.odp = odp;
	c.timeout = tdev()->rxe ? 14 : 8;
	c.retry_cnt = 1;
	t_note("act %u, opcode %d, %u bytes%s", act, op, len, odp ? ", on demand" : "");
	REQUIRE(pair_up(p, &c, &c));
	memset(p->a.buf, 0xee, c.len);
	for (i = 0; op == IBV_WR_SEND && i < 32; i++)
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.len = len}), 0);
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	m.n = act;
	side_hook_begin(&p->b, &m);
	do {
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		REQUIRE(ep_poll(p->a.scq, &wc, 1, op == IBV_WR_SEND ? 20 : LONG_MS) >= 0);
	} while (wc.status == IBV_WC_SUCCESS && now_ms() - start < 20);
	side_hook_end(&p->b, &out);
	CHECK_ERRNO((int)out.n, 0);
	CHECK_INT(out.v[0], -1);
	pair_down(p);
}

/* A reads into its own buffer, and ends that itself. */
static void quiet_own(struct pair *p, uint32_t act, bool odp)
{
	struct ep_conf c = big_conf(odp);
	struct twr s = {.op = IBV_WR_RDMA_READ, .flags = IBV_SEND_SIGNALED};
	int err, i;

	t_note("own act %u%s", act, odp ? ", on demand" : "");
	REQUIRE(pair_up(p, &c, &c));
	s.len = c.len;
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (i = 0; i < N; i++)
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(quiet_check(&p->a, act, &err), -1);
	CHECK_ERRNO(err, 0);
	pair_down(p);
}

static void c_quiet(struct pair *p)
{
	bool odps = !tdev()->rxe && (tdev()->odp.general_caps & IBV_ODP_SUPPORT);
	int round, odp;
	uint32_t act;

	for (round = 0; round < 6 && !t_failures(); round++) {
		for (act = QUIET_DEREG; act <= QUIET_DESTROY && !t_failures(); act++) {
			if (tdev()->rxe && act == QUIET_RESET)
				continue; /* see leave_once() */
			odp = odps && round & 1;
			quiet_peer(p, act, IBV_WR_RDMA_WRITE, round & 2 ? 1 << 20 : 3000, odp);
			quiet_peer(p, act, IBV_WR_SEND, round & 2 ? 1 << 20 : 3000, odp);
			quiet_own(p, act, odp);
		}
	}
}

static const struct tcase cases[] = {
	{"pinned", c_pinned, BOTH},
	{"on demand", c_odp, BOTH},
	{"destroyed in flight", c_destroy, BOTH},
	{"peer leaves a stream", c_leave, PEER},
	{"nothing lands afterwards", c_quiet, PEER},
	{"both destroyed in flight", c_both, BOTH},
};

int main(int argc, char **argv)
{
	t_hook(quiet_hook);
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
