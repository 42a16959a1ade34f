/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Faults that take their time, or fail: what requester and responder make of
 * them. A requester's stalls its queue; a responder's is an RNR NAK (RC) or
 * silence (UC, UD); one that fails is a page that cannot be had.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "harness.h"

#define LEN 65536u
#define SLOW_MS 150u
#define NEVER_MS 60000u /* who has waited for this has waited for the page */
#define RNR_163MS 28    /* codes of min_rnr_timer */
#define RNR_1MS 14
#define ODP (ALL_ACCESS | IBV_ACCESS_ON_DEMAND)

/* An on-demand region of a side that nobody has touched. */
struct target {
	uint8_t *mem;
	struct ibv_mr *mr;
};

static bool target_open(struct target *t, struct ep *ep)
{
	t->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t->mr = t->mem == MAP_FAILED ? NULL : ibv_reg_mr(ep->pd, t->mem, LEN, ODP);
	return CHECK(t->mr);
}

static void target_close(struct target *t)
{
	CHECK_ERRNO(ibv_dereg_mr(t->mr), 0);
	munmap(t->mem, LEN);
}

static void slow(struct target *t, uint32_t ms)
{
	struct uodpdv_fault_attr a = {.latency_us = ms * 1000};

	CHECK_ERRNO(uodpdv_set_fault(t->mr, &a, sizeof(a)), 0);
}

static void failing(struct target *t, uint32_t nth)
{
	struct uodpdv_fault_attr a = {.fail_nth = nth};

	CHECK_ERRNO(uodpdv_set_fault(t->mr, &a, sizeof(a)), 0);
}

/* As off in struct twr, which is relative to the endpoint's buffer. */
static uint64_t off_in(const struct ep *ep, const struct target *t)
{
	return (uint64_t)((uintptr_t)t->mem - (uintptr_t)ep->buf);
}

static int wait_status(struct pair *p)
{
	struct ibv_wc wc;

	return CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1) ? (int)wc.status : -1;
}

static const enum ibv_wr_opcode rdma_ops[] = {
	IBV_WR_RDMA_WRITE,
	IBV_WR_RDMA_READ,
	IBV_WR_ATOMIC_FETCH_AND_ADD,
	IBV_WR_ATOMIC_CMP_AND_SWP,
};

static struct twr rdma(const struct pair *p, enum ibv_wr_opcode op)
{
	return (struct twr){.id = 1,
			    .op = op,
			    .flags = IBV_SEND_SIGNALED,
			    .len = 8,
			    .raddr = p->bi.addr,
			    .rkey = p->bi.rkey};
}

/* Post, and wait for success: the milliseconds that it took. */
static uint64_t timed(struct pair *p, const struct twr *s)
{
	uint64_t begin = now_ms();

	CHECK_ERRNO(ep_send(&p->a, s), 0);
	CHECK_STATUS(wait_status(p), IBV_WC_SUCCESS);
	return now_ms() - begin;
}

/* Posting waits for nothing. */
static void post_never(struct pair *p, const struct twr *s)
{
	uint64_t begin = now_ms();

	CHECK_ERRNO(ep_send(&p->a, s), 0);
	CHECK(now_ms() - begin < NEVER_MS);
}

/* ---- latency ---- */

/* Its own page is missing: the requester waits, whatever rnr_retry is. */
static void c_requester(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct target t;
	struct twr s, next;
	struct ibv_wc wc[2];
	uint64_t begin;

	c.rnr_retry = 0;
	for (size_t i = 0; i < ARRAY_SIZE(rdma_ops) && !t_failures(); i++) {
		t_note("opcode %d", rdma_ops[i]);
		REQUIRE(pair_up(p, &c, &c));
		REQUIRE(target_open(&t, &p->a));
		slow(&t, SLOW_MS);
		s = rdma(p, rdma_ops[i]);
		s.lkey = t.mr->lkey;
		s.off = off_in(&p->a, &t);
		CHECK(timed(p, &s) >= SLOW_MS - 1);
		/* The page is there now. */
		slow(&t, NEVER_MS);
		CHECK(timed(p, &s) < NEVER_MS);
		slow(&t, SLOW_MS);
		/* The queue stalls: in order, though the second needs no fault. */
		s.off += 8192;
		next = rdma(p, IBV_WR_RDMA_WRITE);
		next.id = 2;
		begin = now_ms();
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_ERRNO(ep_send(&p->a, &next), 0);
		CHECK_INT(ep_poll(p->a.scq, wc, 2, LONG_MS), 2);
		CHECK(now_ms() - begin >= SLOW_MS - 1);
		CHECK_INT(wc[0].wr_id, 1);
		CHECK_INT(wc[1].wr_id, 2);
		slow(&t, NEVER_MS);
		s.off += 8192;
		post_never(p, &s);
		CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
		CHECK_STATUS(wait_status(p), IBV_WC_WR_FLUSH_ERR);
		target_close(&t);
		pair_down(p);
	}
}

/* Nobody polls: the time ends all the same. */
static void c_idle(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct target t;
	struct twr s;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_open(&t, &p->b.ep));
	slow(&t, 20);
	s = rdma(p, IBV_WR_RDMA_WRITE);
	s.raddr = (uintptr_t)t.mem;
	s.rkey = t.mr->rkey;
	memset(p->a.buf, 0x77, 8);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	for (unsigned i = 0; i < LONG_MS / 10 && *(volatile uint8_t *)t.mem != 0x77; i++)
		sleep_ms(10);
	CHECK_INT(t.mem[0], 0x77);
	CHECK_STATUS(wait_status(p), IBV_WC_SUCCESS);
	target_close(&t);
	pair_down(p);
}

static void responder(struct pair *p, enum ibv_wr_opcode op, uint32_t ms, int rnr_retry, int timer,
		      int want, uint64_t at_least)
{
	struct ep_conf c = RC_CONF;
	uint64_t begin;
	struct target t;
	struct twr s;

	t_note("opcode %d, rnr_retry %d, min_rnr_timer %d", op, rnr_retry, timer);
	c.rnr_retry = rnr_retry;
	c.min_rnr_timer = timer;
	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_open(&t, &p->b.ep));
	slow(&t, ms);
	s = rdma(p, op);
	s.raddr = (uintptr_t)t.mem;
	s.rkey = t.mr->rkey;
	begin = now_ms();
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_STATUS(wait_status(p), want);
	CHECK(now_ms() - begin >= at_least && now_ms() - begin < NEVER_MS);
	CHECK_INT(ep_state(&p->a), want ? IBV_QPS_ERR : IBV_QPS_RTS);
	CHECK_INT(side_state(&p->b), IBV_QPS_RTS); /* a NAK is no error there */
	target_close(&t);
	pair_down(p);
}

static void c_responder(struct pair *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(rdma_ops) && !t_failures(); i++) {
		/* For ever. */
		responder(p, rdma_ops[i], SLOW_MS, 7, RNR_1MS, IBV_WC_SUCCESS, SLOW_MS - 1);
		/* The timer is waited out, though the page is there before its end. */
		responder(p, rdma_ops[i], 20, 1, RNR_163MS, IBV_WC_SUCCESS, 163);
		/* Not long enough. */
		responder(p, rdma_ops[i], NEVER_MS, 2, RNR_1MS, IBV_WC_RNR_RETRY_EXC_ERR, 1);
		responder(p, rdma_ops[i], NEVER_MS, 0, RNR_1MS, IBV_WC_RNR_RETRY_EXC_ERR, 0);
	}
}

/* The retries count anew when bytes have arrived: two slow pages, one retry each. */
static void c_progress(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct target t;
	struct twr s;

	c.rnr_retry = 1;
	c.min_rnr_timer = RNR_163MS;
	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_open(&t, &p->b.ep));
	/* Every other page is there, so that each missing one is a fault. */
	for (unsigned i = 1; i < 8; i += 2) {
		struct ibv_sge sge = {(uintptr_t)t.mem + i * 4096, 4096, t.mr->lkey};

		CHECK_ERRNO(ibv_advise_mr(p->b.ep.pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
					  IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1),
			    0);
	}
	slow(&t, SLOW_MS);
	s = rdma(p, IBV_WR_RDMA_WRITE);
	s.len = 8 * 4096;
	s.raddr = (uintptr_t)t.mem;
	s.rkey = t.mr->rkey;
	fill_bytes(p->a.buf, s.len, 3);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_STATUS(wait_status(p), IBV_WC_SUCCESS);
	CHECK_INT(sum_bytes(t.mem, s.len), sum_bytes(p->a.buf, s.len));
	target_close(&t);
	pair_down(p);
}

static void recv_slow(struct pair *p, enum ibv_qp_type type, uint32_t srq_wr)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct twr r = {.id = 9};
	struct target t;
	struct ibv_wc wc;

	ca.type = cb.type = type;
	cb.srq_wr = srq_wr;
	t_note("type %d%s", type, srq_wr ? ", SRQ" : "");
	REQUIRE(pair_up(p, &ca, &cb));
	REQUIRE(target_open(&t, &p->b.ep));
	slow(&t, SLOW_MS);
	r.off = off_in(&p->b.ep, &t);
	r.len = 200;
	r.lkey = t.mr->lkey;
	fill_bytes(p->a.buf, 64, 5);
	CHECK_ERRNO(side_recv(&p->b, &r), 0);
	CHECK(timed(p, &s) >= SLOW_MS - 1);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, 9);
	CHECK_INT(sum_bytes(t.mem + (type == IBV_QPT_UD ? 40 : 0), 64), sum_bytes(p->a.buf, 64));
	target_close(&t);
	pair_down(p);
}

static void c_receive(struct pair *p)
{
	recv_slow(p, IBV_QPT_RC, 0);
	recv_slow(p, IBV_QPT_RC, 8);
	recv_slow(p, IBV_QPT_UC, 0);
	recv_slow(p, IBV_QPT_UD, 0);
	recv_slow(p, IBV_QPT_UD, 8);
}

/* The send gives up; the receive that it met is flushed, not lost. */
static void c_receive_exceeded(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct twr r = {.id = 9, .len = 200};
	struct target t;
	struct ibv_wc wc;

	ca.rnr_retry = 1;
	cb.min_rnr_timer = RNR_1MS;
	for (int srq = 0; srq < 2 && !t_failures(); srq++) {
		cb.srq_wr = srq ? 8 : 0;
		REQUIRE(pair_up(p, &ca, &cb));
		REQUIRE(target_open(&t, &p->b.ep));
		slow(&t, NEVER_MS);
		r.off = off_in(&p->b.ep, &t);
		r.lkey = t.mr->lkey;
		CHECK_ERRNO(side_recv(&p->b, &r), 0);
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_STATUS(wait_status(p), IBV_WC_RNR_RETRY_EXC_ERR);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, 20), 0);
		CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_WR_FLUSH_ERR);
		CHECK_INT(wc.wr_id, 9);
		target_close(&t);
		pair_down(p);
	}
}

/* ---- failure ---- */

static void c_fail_rdma(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct target t;
	struct twr s;

	for (size_t i = 0; i < ARRAY_SIZE(rdma_ops) && !t_failures(); i++) {
		for (int ours = 0; ours < 2 && !t_failures(); ours++) {
			t_note("opcode %d, %s", rdma_ops[i], ours ? "requester" : "responder");
			REQUIRE(pair_up(p, &c, &c));
			REQUIRE(target_open(&t, ours ? &p->a : &p->b.ep));
			s = rdma(p, rdma_ops[i]);
			if (ours) {
				s.lkey = t.mr->lkey;
				s.off = off_in(&p->a, &t);
			} else {
				s.raddr = (uintptr_t)t.mem;
				s.rkey = t.mr->rkey;
			}
			failing(&t, 2);
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
			CHECK_STATUS(wait_status(p), IBV_WC_SUCCESS);
			s.off += ours ? 4096 : 0;
			s.raddr += ours ? 0 : 4096;
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
			CHECK_STATUS(wait_status(p),
				     ours ? IBV_WC_LOC_PROT_ERR : IBV_WC_REM_ACCESS_ERR);
			CHECK_INT(ep_state(&p->a), IBV_QPS_ERR);
			CHECK_INT(side_state(&p->b), ours ? IBV_QPS_RTS : IBV_QPS_ERR);
			target_close(&t);
			pair_down(p);
		}
	}
}

static void c_fail_receive(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct twr r = {.id = 9, .len = 64};
	struct target t;
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_open(&t, &p->b.ep));
	failing(&t, 1);
	r.off = off_in(&p->b.ep, &t);
	r.lkey = t.mr->lkey;
	CHECK_ERRNO(side_recv(&p->b, &r), 0);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_STATUS(wait_status(p), IBV_WC_REM_OP_ERR);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_LOC_PROT_ERR);
	target_close(&t);
	pair_down(p);
}

static void c_arguments(struct pair *p)
{
	static const struct uodpdv_fault_attr bad[] = {
		{.fail_percent = 101},
		{.latency_us = 1, .latency_percent = 101},
		{.latency_us = 1000000001},
		{.fail_nth = 65536},
	};
	struct uodpdv_fault_attr a = {.comp_mask = 1};
	struct ep_conf c = RC_CONF;
	struct target t;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_open(&t, &p->a));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_ERRNO(uodpdv_set_fault(t.mr, &bad[i], sizeof(bad[i])), EINVAL);
	CHECK_ERRNO(uodpdv_set_fault(t.mr, &a, sizeof(a)), EOPNOTSUPP);
	CHECK_ERRNO(uodpdv_set_fault(t.mr, &a, 4), EINVAL);
	CHECK_ERRNO(uodpdv_set_fault(t.mr, NULL, 0), 0);
	target_close(&t);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"slow: requester", c_requester, BOTH},
		{"slow: nobody polls", c_idle, HERE},
		{"slow: responder", c_responder, HERE},
		{"slow: retries count anew", c_progress, HERE},
		{"slow: receive", c_receive, HERE},
		{"slow: receive, given up", c_receive_exceeded, HERE},
		{"fails: RDMA", c_fail_rdma, HERE},
		{"fails: receive", c_fail_receive, HERE},
		{"arguments", c_arguments, HERE},
	};

	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
