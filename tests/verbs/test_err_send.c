/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* SENDs that meet a wrong receive: status on both sides, both QPs' states, event. */
#include "harness.h"

#define BAD_KEY(k) ((k) ^ 0x5a000)

struct expect {
	enum ibv_wc_status a, b;         /* requester, responder */
	enum ibv_wc_status a_rxe, b_rxe; /* the same on rxe */
};

/* A message that does not fit. rxe of Linux 7.2 takes the receive for malformed,
 * which no other device does and IBTA (9.7.4.1.7) does not allow. */
static const struct expect too_long = {IBV_WC_REM_INV_REQ_ERR, IBV_WC_LOC_LEN_ERR,
				       IBV_WC_REM_OP_ERR, IBV_WC_LOC_QP_OP_ERR};
/* A receive buffer that may not be written: to the responder a protection error of its
 * own memory (IBTA 11.6.2, hardware); rxe takes it for malformed. */
static const struct expect bad_buffer = {IBV_WC_REM_OP_ERR, IBV_WC_LOC_PROT_ERR, IBV_WC_REM_OP_ERR,
					 IBV_WC_LOC_QP_OP_ERR};
static const struct expect good = {IBV_WC_SUCCESS, IBV_WC_SUCCESS, IBV_WC_SUCCESS, IBV_WC_SUCCESS};

/*
 * RECV is posted at B with three more behind it, then SEND at A. After an error
 * all the others are flushed, and both QPs are in ERR.
 */
static void check_send(struct pair *p, const struct twr *send, const struct twr *recv,
		       const struct expect *e)
{
	struct twr more = {.len = 64};
	struct ibv_wc wc[4];
	int i, state = e->a == IBV_WC_SUCCESS ? IBV_QPS_RTS : IBV_QPS_ERR;

	REQUIRE(side_recv(&p->b, recv) == 0);
	for (i = 1; i < 4; i++) {
		more.id = recv->id + (uint64_t)i;
		CHECK_ERRNO(side_recv(&p->b, &more), 0);
	}
	REQUIRE(ep_send(&p->a, send) == 0);
	REQUIRE(ep_poll(p->a.scq, wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc[0].status, tdev()->rxe ? e->a_rxe : e->a);
	CHECK_INT(wc[0].wr_id, send->id);
	REQUIRE(side_poll(&p->b, RECV_CQ, wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc[0].status, tdev()->rxe ? e->b_rxe : e->b);
	CHECK_INT(wc[0].wr_id, recv->id);
	CHECK_INT(wc[0].qp_num, p->bi.qpn);
	if (e->a != IBV_WC_SUCCESS) {
		CHECK_INT(side_poll(&p->b, RECV_CQ, wc, 3, LONG_MS), 3);
		for (i = 0; i < 3; i++) {
			CHECK_STATUS(wc[i].status, IBV_WC_WR_FLUSH_ERR);
			CHECK_INT(wc[i].wr_id, recv->id + 1 + (uint64_t)i);
		}
	} else {
		CHECK_INT(side_poll(&p->b, RECV_CQ, wc, 1, 0), 0);
	}
	CHECK_INT(ep_settled(&p->a, state), state);
	CHECK_INT(side_settled(&p->b, state), state);
}

static void check_one(struct pair *p, const struct twr *send, const struct twr *recv,
		      const struct expect *e)
{
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	check_send(p, send, recv, e);
	pair_down(p);
}

static void c_exact(struct pair *p)
{
	struct twr s = {.id = 9, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 4097};
	struct twr r = {.id = 50, .len = 4097};

	check_one(p, &s, &r, &good);
}

static void c_one_too_long(struct pair *p)
{
	struct twr s = {.id = 9, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED};
	struct twr r = {.id = 50};
	uint32_t len;

	for (len = 1; len <= 16385 && !t_failures(); len = len * 2 + 1) {
		t_note("%u bytes", len);
		s.len = len;
		r.len = len - 1;
		check_one(p, &s, &r, &too_long);
	}
}

static void c_far_too_long(struct pair *p)
{
	struct twr s = {.id = 9,
			.op = IBV_WR_SEND_WITH_IMM,
			.flags = IBV_SEND_SIGNALED,
			.len = 60000,
			.imm = 1};
	struct twr r = {.id = 50, .len = 16};

	check_one(p, &s, &r, &too_long);
}

static void c_sges_too_short(struct pair *p)
{
	struct twr s = {.id = 9, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 101};
	struct twr r = {.id = 50, .nsge = 3};

	r.sge[0].length = 40;
	r.sge[1] = (struct ibv_sge){.addr = 1000, .length = 20};
	r.sge[2] = (struct ibv_sge){.addr = 4090, .length = 40};
	check_one(p, &s, &r, &too_long);
	s.len = 100;
	check_one(p, &s, &r, &good);
}

enum { LKEY_WRONG, LKEY_PD, BOUNDS, SECOND_SGE, N_BAD };

static void c_bad_buffer(struct pair *p)
{
	struct twr s = {.id = 9, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 100};
	struct ep_conf c = RC_CONF;
	struct twr r;
	uint32_t lkey;
	int i;

	for (i = 0; i < N_BAD && !t_failures(); i++) {
		t_note("variant %d", i);
		REQUIRE(pair_up(p, &c, &c));
		lkey = side_lkey(&p->b, false);
		r = (struct twr){.id = 50, .len = 100};
		if (i == LKEY_WRONG)
			r.lkey = BAD_KEY(lkey);
		else if (i == LKEY_PD)
			r.lkey = side_lkey(&p->b, true);
		else if (i == BOUNDS)
			r.off = p->bi.len - 99;
		if (i == SECOND_SGE) {
			r.nsge = 2;
			r.sge[0].length = 60;
			r.sge[1] = (struct ibv_sge){.length = 60, .lkey = BAD_KEY(lkey)};
		}
		check_send(p, &s, &r, &bad_buffer);
		pair_down(p);
	}
}

static void c_buffer_read_only(struct pair *p)
{
	struct twr s = {.id = 9, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 100};
	struct twr r = {.id = 50, .len = 100};
	struct ep_conf c = RC_CONF, cb = RC_CONF;

	cb.mr_access = IBV_ACCESS_REMOTE_READ;
	REQUIRE(pair_up(p, &c, &cb));
	check_send(p, &s, &r, &bad_buffer);
	pair_down(p);
}

static void c_zero(struct pair *p)
{
	struct twr s = {.id = 9, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED};
	struct twr r = {.id = 50};
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;

	check_one(p, &s, &r, &good); /* no SGE at all */
	REQUIRE(pair_up(p, &c, &c));
	r.len = 64;
	r.lkey = BAD_KEY(side_lkey(&p->b, false)); /* not used: nothing to write */
	REQUIRE(side_recv(&p->b, &r) == 0);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.byte_len, 0);
	pair_down(p);
}

/* UC and UD: a message that does not fit is lost, or ends the receive with
 * IBV_WC_LOC_LEN_ERR (devices do either); the
 * requester never hears of it. */
static void c_datagram_too_long(struct pair *p)
{
	struct twr s = {.id = 9, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 200};
	struct twr r = {.id = 50, .len = 199};
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;
	int i, n;

	for (i = 0; i < 2 && !t_failures(); i++) {
		c.type = i ? IBV_QPT_UD : IBV_QPT_UC;
		t_note("%s", i ? "UD" : "UC");
		r.len = i ? 40 + 199 : 199;
		REQUIRE(pair_up(p, &c, &c));
		REQUIRE(side_recv(&p->b, &r) == 0);
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
		n = side_poll(&p->b, RECV_CQ, &wc, 1, 50);
		if (n == 1)
			CHECK_STATUS(wc.status, tdev()->rxe ? too_long.b_rxe : too_long.b);
		pair_down(p);
	}
}

static const struct tcase cases[] = {
	{"exact fit", c_exact, BOTH},
	{"one byte too long", c_one_too_long, BOTH},
	{"far too long", c_far_too_long, BOTH},
	{"SGEs too short together", c_sges_too_short, BOTH},
	{"receive buffer with a bad key or bounds", c_bad_buffer, BOTH},
	{"receive buffer not writable", c_buffer_read_only, BOTH},
	{"zero length", c_zero, BOTH},
	{"datagram too long", c_datagram_too_long, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
