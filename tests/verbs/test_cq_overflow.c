/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A completion queue that runs over: the async event, and what is left of it. */
#include "harness.h"

#define CQE 8
#define EXTRA 5

/* The completions that fitted are whole and in order; none came twice. */
static void check_kept(const struct ibv_wc *wc, int n, uint64_t first)
{
	int i;

	for (i = 0; i < n; i++) {
		CHECK_INT(wc[i].wr_id, first + (uint64_t)i);
		CHECK_STATUS(wc[i].status, IBV_WC_SUCCESS);
	}
}

static void c_send_cq(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_wc wc[MAX_WC];
	bool mine = false;
	int i, cqe, n;

	ca.cqe = CQE;
	ca.cap.max_send_wr = 64;
	REQUIRE(pair_up(p, &ca, &cb));
	cqe = p->a.scq->cqe;
	REQUIRE(cqe >= CQE && cqe + EXTRA < MAX_WC);
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (i = 0; i < cqe + EXTRA; i++) {
		s.id = 100 + (uint64_t)i;
		/* once it has run over, the QP may be in ERR: posting may be refused */
		if (ep_send(&p->a, &s) && i < cqe)
			CHECK(!"refused before the CQ was full");
	}
	CHECK_INT(ep_event(&p->a, LONG_MS, &mine), IBV_EVENT_CQ_ERR);
	CHECK(mine);
	n = ep_poll(p->a.scq, wc, MAX_WC, 20);
	/* rxe goes on where there is room again, with a gap */
	if (!tdev()->rxe) {
		CHECK(n <= cqe);
		check_kept(wc, n > 0 ? n : 0, 100);
	}
	pair_down(p);
}

static void c_recv_cq(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct twr s = {.op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_wc wc[MAX_WC];
	bool mine = false;
	int i, n, total = CQE * 2 + EXTRA;

	cb.cqe = CQE;
	ca.cap.max_send_wr = cb.cap.max_recv_wr = 64;
	ca.timeout = 10;
	ca.retry_cnt = 1;
	REQUIRE(pair_up(p, &ca, &cb));
	for (i = 0; i < total; i++)
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 100 + (uint64_t)i, .len = 8}), 0);
	for (i = 0; i < total; i++) {
		s.id = (uint64_t)i;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
	}
	CHECK_INT(side_event(&p->b, LONG_MS, &mine), IBV_EVENT_CQ_ERR);
	CHECK(mine);
	/* A hears of each of its sends, one way or the other */
	CHECK_INT(ep_poll(p->a.scq, wc, total, LONG_MS), total);
	for (i = 0; i < total; i++)
		CHECK_INT(wc[i].wr_id, i);
	n = side_poll(&p->b, RECV_CQ, wc, MAX_WC, 20);
	CHECK(n < total);
	if (!tdev()->rxe)
		check_kept(wc, n > 0 ? n : 0, 100);
	pair_down(p);
	/* a new pair knows nothing of it */
	cb.cqe = 64;
	REQUIRE(pair_up(p, &ca, &cb));
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 7, .len = 8}), 0);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(side_poll(&p->b, RECV_CQ, wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc[0].status, IBV_WC_SUCCESS);
	CHECK_INT(side_event(&p->b, 0, NULL), -1);
	pair_down(p);
}

/* Exactly full is not over. */
static void c_full(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_wc wc[MAX_WC];
	int i, cqe, round;

	c.cqe = CQE;
	c.cap.max_send_wr = 64;
	REQUIRE(pair_up(p, &c, &c));
	cqe = p->a.scq->cqe;
	REQUIRE(cqe <= MAX_WC);
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (round = 0; round < 5; round++) {
		for (i = 0; i < cqe; i++) {
			s.id = 100 + (uint64_t)i;
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
		}
		sleep_ms(tdev()->rxe ? 20 : 1);
		CHECK_INT(ep_event(&p->a, 0, NULL), -1);
		CHECK_INT(ep_poll(p->a.scq, wc, cqe, LONG_MS), cqe);
		check_kept(wc, cqe, 100);
	}
	pair_down(p);
}

/* Made larger in time, with completions in it. */
static void c_resize(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_wc wc[MAX_WC];
	int i;

	c.cqe = CQE;
	REQUIRE(pair_up(p, &c, &c));
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (i = 0; i < MAX_WC; i++) {
		if (i == CQE - 2) {
			CHECK_ERRNO(ibv_resize_cq(p->a.scq, MAX_WC), 0);
			CHECK(p->a.scq->cqe >= MAX_WC);
		}
		s.id = 100 + (uint64_t)i;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
	}
	REQUIRE(ep_poll(p->a.scq, wc, MAX_WC, LONG_MS) == MAX_WC);
	check_kept(wc, MAX_WC, 100);
	CHECK_INT(ep_event(&p->a, 0, NULL), -1);
	/* not below what it holds */
	for (i = 0; i < 16; i++)
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
	sleep_ms(tdev()->rxe ? 20 : 1);
	CHECK_ERRNO(ibv_resize_cq(p->a.scq, 4), EINVAL);
	CHECK_INT(ep_poll(p->a.scq, wc, 16, LONG_MS), 16);
	CHECK_ERRNO(ibv_resize_cq(p->a.scq, tdev()->attr.max_cqe + 1), EINVAL);
	CHECK_ERRNO(ibv_resize_cq(p->a.scq, 0), EINVAL);
	pair_down(p);
}

static const struct tcase cases[] = {
	{"send CQ", c_send_cq, BOTH},
	{"receive CQ", c_recv_cq, BOTH},
	{"exactly full", c_full, BOTH},
	{"resize", c_resize, HERE},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
