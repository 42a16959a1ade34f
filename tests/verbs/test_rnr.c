/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Receiver not ready, and peers that do not answer. */
#include "harness.h"

static const struct twr send64 = {
	.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
static const struct twr recv64 = {.id = 50, .len = 64};

static void check_fails(struct pair *p, enum ibv_wc_status status)
{
	struct ibv_wc wc;

	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, status);
	CHECK_INT(wc.wr_id, 1);
	CHECK_INT(ep_settled(&p->a, IBV_QPS_ERR), IBV_QPS_ERR);
}

static void c_finite(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr next = send64;
	struct ibv_wc wc;
	int retry;

	for (retry = 0; retry < 3 && !t_failures(); retry++) {
		t_note("rnr_retry %d", retry);
		c.rnr_retry = retry;
		REQUIRE(pair_up(p, &c, &c));
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		next.id = 2;
		CHECK_ERRNO(ep_send(&p->a, &next), 0);
		check_fails(p, IBV_WC_RNR_RETRY_EXC_ERR);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_WR_FLUSH_ERR);
		CHECK_INT(wc.wr_id, 2);
		CHECK_INT(side_state(&p->b), IBV_QPS_RTS); /* it did nothing wrong */
		CHECK_INT(side_event(&p->b, 0, NULL), -1);
		pair_down(p);
	}
}

/* The number of retries and min_rnr_timer are waited out, not cut short. */
static void c_finite_waits(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	uint64_t start;

	c.rnr_retry = 2;
	c.min_rnr_timer = 24; /* 40.96 ms at B */
	REQUIRE(pair_up(p, &c, &c));
	start = now_ms();
	CHECK_ERRNO(ep_send(&p->a, &send64), 0);
	check_fails(p, IBV_WC_RNR_RETRY_EXC_ERR);
	CHECK(now_ms() - start >= 70);
	pair_down(p);
}

static void check_success(struct pair *p, int n)
{
	struct ibv_wc wc[8];
	int i;

	CHECK_INT(ep_poll(p->a.scq, wc, n, LONG_MS), n);
	for (i = 0; i < n; i++) {
		CHECK_STATUS(wc[i].status, IBV_WC_SUCCESS);
		CHECK_INT(wc[i].wr_id, 1 + i);
	}
	CHECK_INT(side_poll(&p->b, RECV_CQ, wc, n, LONG_MS), n);
	for (i = 0; i < n; i++) {
		CHECK_STATUS(wc[i].status, IBV_WC_SUCCESS);
		CHECK_INT(wc[i].wr_id, 50 + i);
	}
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
	CHECK_INT(side_state(&p->b), IBV_QPS_RTS);
}

static void c_late(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;
	int i;

	for (i = 0; i < 2 && !t_failures(); i++) {
		t_note(i ? "rnr_retry 6" : "rnr_retry 7");
		c.rnr_retry = i ? 6 : 7;
		c.min_rnr_timer = i ? 31 : 12; /* six times 491 ms: a busy machine is slow */
		REQUIRE(pair_up(p, &c, &c));
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, 30), 0);
		CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
		CHECK_ERRNO(side_recv(&p->b, &recv64), 0);
		check_success(p, 1);
		pair_down(p);
	}
}

/* As c_late, but nobody polls while the send waits: progress comes anyway. */
static void c_late_idle(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	CHECK_ERRNO(ep_send(&p->a, &send64), 0);
	sleep_ms(20);
	CHECK_ERRNO(side_recv(&p->b, &recv64), 0);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	pair_down(p);
}

static void c_order(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s, r;
	struct ibv_wc wc;
	int i;

	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < 8; i++) {
		memset(p->a.buf + i * 64, 'a' + i, 64);
		s = send64;
		s.id = 1 + (uint64_t)i;
		s.off = (uint64_t)i * 64;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
	}
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 10), 0);
	for (i = 0; i < 8; i++) {
		r = recv64;
		r.id = 50 + (uint64_t)i;
		r.off = (uint64_t)i * 64;
		CHECK_ERRNO(side_recv(&p->b, &r), 0);
		if (i == 3)
			sleep_ms(5);
	}
	check_success(p, 8);
	CHECK_INT(side_sum(&p->b, 0, 512), sum_bytes(p->a.buf, 512));
	pair_down(p);
}

static void c_write_imm(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = send64, r = {.id = 50};
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	memset(p->a.buf, 'x', 64);
	s.op = IBV_WR_RDMA_WRITE_WITH_IMM;
	s.imm = 0x01020304;
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 20), 0);
	CHECK_ERRNO(side_recv(&p->b, &r), 0);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
	CHECK_INT(be32toh(wc.imm_data), 0x01020304);
	CHECK_INT(side_sum(&p->b, 0, 64), sum_bytes(p->a.buf, 64));
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	pair_down(p);
}

static void c_srq(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct ibv_wc wc;

	cb.srq_wr = 16;
	REQUIRE(pair_up(p, &ca, &cb));
	CHECK_ERRNO(ep_send(&p->a, &send64), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 20), 0);
	CHECK_ERRNO(side_recv(&p->b, &recv64), 0);
	check_success(p, 1);
	pair_down(p);
	ca.rnr_retry = 1;
	REQUIRE(pair_up(p, &ca, &cb));
	CHECK_ERRNO(ep_send(&p->a, &send64), 0);
	check_fails(p, IBV_WC_RNR_RETRY_EXC_ERR);
	pair_down(p);
}

/* While a send waits, its QP is moved to ERR, to RESET, or destroyed. */
static void c_leave(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;
	int i;

	for (i = 0; i < 3 && !t_failures(); i++) {
		REQUIRE(pair_up(p, &c, &c));
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, 5), 0);
		if (i == 0) {
			CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
			CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
			CHECK_STATUS(wc.status, IBV_WC_WR_FLUSH_ERR);
			CHECK_INT(wc.wr_id, 1);
		} else if (i == 1) {
			CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RESET), 0);
			CHECK_INT(ep_poll(p->a.scq, &wc, 1, 20), 0);
		}
		/* a receive that comes too late is not filled */
		CHECK_ERRNO(side_recv(&p->b, &recv64), 0);
		if (i < 2)
			CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, 20), 0);
		pair_down(p);
	}
}

/* A peer that does not answer: not yet in RTR, in ERR, in RESET, destroyed. */
enum { IN_INIT, TO_ERR, TO_RESET, DESTROYED, N_SILENT };

static void silent_up(struct pair *p, const struct ep_conf *c, int how)
{
	int err;

	if (how != IN_INIT) {
		REQUIRE(pair_up(p, c, c));
		if (how == TO_ERR)
			CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0);
		else if (how == TO_RESET)
			CHECK_ERRNO(side_modify(&p->b, IBV_QPS_RESET), 0);
		else
			CHECK_ERRNO(side_destroy_qp(&p->b), 0);
		return;
	}
	REQUIRE(ep_open(&p->a, c) == 0);
	ep_info(&p->a, &p->ai);
	REQUIRE(side_open(&p->b, c, &p->bi) == 0);
	err = ep_init(&p->a);
	if (!err)
		err = ep_rtr(&p->a, &p->bi);
	if (!err)
		err = ep_rts(&p->a);
	CHECK_ERRNO(err, 0);
	CHECK_ERRNO(side_connect(&p->b, &p->ai, IBV_QPS_INIT), 0);
}

static void c_silent(struct pair *p)
{
	static const char *const name[] = {"in INIT", "in ERR", "in RESET", "destroyed"};
	static const enum ibv_wr_opcode ops[] = {IBV_WR_SEND, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ,
						 IBV_WR_ATOMIC_FETCH_AND_ADD};
	struct ep_conf c = RC_CONF;
	struct twr s;
	size_t i;
	int how;

	c.timeout = 10; /* 4 ms */
	c.retry_cnt = 1;
	for (how = 0; how < N_SILENT; how++) {
		for (i = 0; i < ARRAY_SIZE(ops) && !t_failures(); i++) {
			t_note("peer %s, opcode %d", name[how], ops[i]);
			silent_up(p, &c, how);
			s = send64;
			s.op = ops[i];
			s.len = 8;
			s.raddr = p->bi.addr;
			s.rkey = p->bi.rkey;
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
			check_fails(p, IBV_WC_RETRY_EXC_ERR);
			pair_down(p);
		}
	}
}

/* The peer comes to RTR while the requester still retries. */
static void c_late_rtr(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;

	c.timeout = 17; /* 0.5 s, six times and once: a busy machine is slow */
	c.retry_cnt = 6;
	silent_up(p, &c, IN_INIT);
	CHECK_ERRNO(side_recv(&p->b, &recv64), 0);
	CHECK_ERRNO(ep_send(&p->a, &send64), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 10), 0);
	CHECK_ERRNO(side_modify(&p->b, IBV_QPS_RESET), 0);
	CHECK_ERRNO(side_connect(&p->b, &p->ai, IBV_QPS_RTR), 0);
	CHECK_ERRNO(side_recv(&p->b, &recv64), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	pair_down(p);
}

/* The peer's QP is connected to another QP than the one that sends. */
static void c_stranger(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ep_info wrong;

	c.timeout = 10;
	c.retry_cnt = 1;
	REQUIRE(ep_open(&p->a, &c) == 0);
	ep_info(&p->a, &p->ai);
	REQUIRE(side_open(&p->b, &c, &p->bi) == 0);
	CHECK_ERRNO(ep_init(&p->a), 0);
	CHECK_ERRNO(ep_rtr(&p->a, &p->bi), 0);
	CHECK_ERRNO(ep_rts(&p->a), 0);
	wrong = p->ai;
	wrong.qpn = p->bi.qpn; /* itself */
	CHECK_ERRNO(side_connect(&p->b, &wrong, IBV_QPS_RTS), 0);
	/* rxe compares the peer's address, not its QP number */
	if (tdev()->rxe) {
		t_skip("rdma_rxe accepts packets of any QP at the peer's address");
	} else {
		CHECK_ERRNO(side_recv(&p->b, &recv64), 0);
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		check_fails(p, IBV_WC_RETRY_EXC_ERR);
	}
	pair_down(p);
}

/* Packet numbers that do not fit, and an address at which nobody is. */
static void c_wrong_path(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ep_info wrong;
	int i;

	c.timeout = 10;
	c.retry_cnt = 1;
	for (i = 0; i < 2 && !t_failures(); i++) {
		t_note(i ? "GID" : "PSN");
		if (i && tdev()->rxe)
			break; /* the kernel finds no route to it, and modify_qp fails */
		REQUIRE(ep_open(&p->a, &c) == 0);
		ep_info(&p->a, &p->ai);
		REQUIRE(side_open(&p->b, &c, &p->bi) == 0);
		wrong = p->bi;
		if (i)
			wrong.gid.raw[15] ^= 0x55;
		CHECK_ERRNO(ep_init(&p->a), 0);
		CHECK_ERRNO(ep_rtr(&p->a, &wrong), 0);
		CHECK_ERRNO(ep_rts(&p->a), 0);
		wrong = p->ai;
		if (!i) /* ahead, as seen from B: NAKed until A gives up */
			wrong.psn = (wrong.psn - 100) & 0xffffff;
		CHECK_ERRNO(side_connect(&p->b, &wrong, IBV_QPS_RTS), 0);
		CHECK_ERRNO(side_recv(&p->b, &recv64), 0);
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		check_fails(p, IBV_WC_RETRY_EXC_ERR);
		CHECK_INT(side_state(&p->b), IBV_QPS_RTS);
		pair_down(p);
	}
}

/* timeout 0 is no timeout: A waits for ever, and can still leave. */
static void c_no_timeout(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;

	c.timeout = 0;
	c.retry_cnt = 0;
	silent_up(p, &c, IN_INIT);
	CHECK_ERRNO(ep_send(&p->a, &send64), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 150), 0);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_WR_FLUSH_ERR);
	pair_down(p);
}

/* UC and UD know no RNR: what finds no receive is lost. */
static void c_datagram(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr r = recv64;
	struct ibv_wc wc;
	int i;

	for (i = 0; i < 2 && !t_failures(); i++) {
		c.type = i ? IBV_QPT_UD : IBV_QPT_UC;
		r.len = 64 + 40;
		REQUIRE(pair_up(p, &c, &c));
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		sleep_ms(tdev()->rxe ? 50 : 1);
		CHECK_ERRNO(side_recv(&p->b, &r), 0);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, 20), 0);
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		pair_down(p);
	}
}

static const struct tcase cases[] = {
	{"finite rnr_retry", c_finite, BOTH},
	{"min_rnr_timer is waited out", c_finite_waits, BOTH},
	{"receive posted later", c_late, BOTH},
	{"receive posted later, nobody polls", c_late_idle, BOTH},
	{"order is kept", c_order, BOTH},
	{"WRITE with immediate waits", c_write_imm, BOTH},
	{"SRQ empty", c_srq, BOTH},
	{"QP leaves while a send waits", c_leave, BOTH},
	{"peer does not answer", c_silent, BOTH},
	{"peer reaches RTR later", c_late_rtr, BOTH},
	{"peer is connected to another", c_stranger, BOTH},
	{"wrong PSN or GID", c_wrong_path, BOTH},
	{"no timeout", c_no_timeout, BOTH},
	{"datagrams are lost", c_datagram, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
