/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Shared receive queues: several QPs on one, limit and last-WQE events. */
#include "harness.h"

static const struct twr send64 = {
	.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};

static void srq_confs(struct ep_conf *a, struct ep_conf *b)
{
	*a = (struct ep_conf)RC_CONF;
	*b = *a;
	b->srq_wr = 64;
}

static void post(struct pair *p, int n, uint64_t first)
{
	int i;

	for (i = 0; i < n; i++)
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = first + (uint64_t)i,
							   .len = 64,
							   .off = (uint64_t)i * 64}),
			    0);
}

static void send_some(struct pair *p, int n)
{
	struct ibv_wc wc;
	int i;

	for (i = 0; i < n; i++) {
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	}
}

static void c_basic(struct pair *p)
{
	struct ep_conf ca, cb;
	struct ibv_wc wc[16];
	int i;

	srq_confs(&ca, &cb);
	REQUIRE(pair_up(p, &ca, &cb));
	post(p, 16, 200);
	for (i = 0; i < 16; i++) {
		fill_bytes(p->a.buf, 64, 50 + (uint64_t)i);
		send_some(p, 1);
		CHECK_INT(side_poll(&p->b, RECV_CQ, wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc[0].status, IBV_WC_SUCCESS);
		CHECK_INT(wc[0].wr_id, 200 + i);
		CHECK_INT(wc[0].qp_num, p->bi.qpn);
		CHECK_INT(side_sum(&p->b, (uint64_t)i * 64, 64), sum_bytes(p->a.buf, 64));
	}
	pair_down(p);
}

static void c_limit(struct pair *p)
{
	struct ep_conf ca, cb;
	struct ibv_wc wc[8];
	bool mine = false;

	srq_confs(&ca, &cb);
	REQUIRE(pair_up(p, &ca, &cb));
	post(p, 5, 100);
	CHECK_ERRNO(side_srq_limit(&p->b, 3), 0);
	send_some(p, 2); /* three left: the limit is kept */
	CHECK_INT(side_event(&p->b, 20, NULL), -1);
	send_some(p, 1);
	CHECK_INT(side_event(&p->b, LONG_MS, &mine), IBV_EVENT_SRQ_LIMIT_REACHED);
	CHECK(mine);
	send_some(p, 2); /* once armed, once told */
	CHECK_INT(side_event(&p->b, 20, NULL), -1);
	CHECK_INT(side_poll(&p->b, RECV_CQ, wc, 5, LONG_MS), 5);
	post(p, 3, 110);
	CHECK_ERRNO(side_srq_limit(&p->b, 3), 0);
	send_some(p, 1);
	CHECK_INT(side_event(&p->b, LONG_MS, &mine), IBV_EVENT_SRQ_LIMIT_REACHED);
	/* 0 disarms */
	CHECK_ERRNO(side_srq_limit(&p->b, 2), 0);
	CHECK_ERRNO(side_srq_limit(&p->b, 0), 0);
	send_some(p, 1);
	CHECK_INT(side_event(&p->b, 20, NULL), -1);
	pair_down(p);
}

static void c_modify(struct pair *p)
{
	struct ibv_srq_attr attr = {.srq_limit = 0};
	struct ep_conf c = RC_CONF;

	c.srq_wr = 16;
	REQUIRE(ep_open(&p->a, &c) == 0);
	CHECK_ERRNO(ibv_query_srq(p->a.srq, &attr), 0);
	CHECK(attr.max_wr >= 16 && attr.max_sge >= 4);
	CHECK_INT(attr.srq_limit, 0);
	attr.srq_limit = 7;
	CHECK_ERRNO(ibv_modify_srq(p->a.srq, &attr, IBV_SRQ_LIMIT), 0);
	memset(&attr, 0, sizeof(attr));
	CHECK_ERRNO(ibv_query_srq(p->a.srq, &attr), 0);
	CHECK_INT(attr.srq_limit, 7);
	attr.srq_limit = attr.max_wr + 1;
	CHECK_ERRNO(ibv_modify_srq(p->a.srq, &attr, IBV_SRQ_LIMIT), EINVAL);
	if (tdev()->attr.device_cap_flags & IBV_DEVICE_SRQ_RESIZE) {
		attr.max_wr = 100;
		CHECK_ERRNO(ibv_modify_srq(p->a.srq, &attr, IBV_SRQ_MAX_WR), 0);
		CHECK_ERRNO(ibv_query_srq(p->a.srq, &attr), 0);
		CHECK(attr.max_wr >= 100);
	}
	/* All or nothing; rxe holds the limit against the size that there was. */
	if (tdev()->attr.device_cap_flags & IBV_DEVICE_SRQ_RESIZE && !tdev()->rxe) {
		attr = (struct ibv_srq_attr){.max_wr = UINT32_MAX};
		CHECK_ERRNO(ibv_modify_srq(p->a.srq, &attr, IBV_SRQ_MAX_WR), EINVAL);
		attr = (struct ibv_srq_attr){.max_wr = 20, .srq_limit = 21};
		CHECK_ERRNO(ibv_modify_srq(p->a.srq, &attr, IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT),
			    EINVAL);
		CHECK_ERRNO(ibv_query_srq(p->a.srq, &attr), 0);
		CHECK(attr.max_wr >= 100);
		CHECK_INT(attr.srq_limit, 7);
		attr = (struct ibv_srq_attr){.max_wr = 5, .srq_limit = 4};
		CHECK_ERRNO(ibv_modify_srq(p->a.srq, &attr, IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT), 0);
		CHECK_ERRNO(ibv_query_srq(p->a.srq, &attr), 0);
		CHECK(attr.max_wr >= 5);
		CHECK_INT(attr.srq_limit, 4);
	}
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static void c_last_wqe(struct pair *p)
{
	struct ep_conf ca, cb;
	struct ibv_wc wc;
	bool mine = false;

	srq_confs(&ca, &cb);
	REQUIRE(pair_up(p, &ca, &cb));
	post(p, 4, 100);
	send_some(p, 1);
	CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0);
	CHECK_INT(side_event(&p->b, LONG_MS, &mine), IBV_EVENT_QP_LAST_WQE_REACHED);
	CHECK(mine);
	/* the receives stay in the SRQ for the other QPs */
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, 20), 0);
	pair_down(p);
}

/* The same by a bad message: its receive ends in error, then the event. */
static void c_too_long(struct pair *p)
{
	struct twr s = send64;
	struct ep_conf ca, cb;
	struct ibv_wc wc;
	bool mine = false;
	int ev;

	srq_confs(&ca, &cb);
	REQUIRE(pair_up(p, &ca, &cb));
	post(p, 4, 100);
	s.len = 65;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	if (!tdev()->rxe)
		CHECK_STATUS(wc.status, IBV_WC_REM_INV_REQ_ERR);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	if (!tdev()->rxe)
		CHECK_STATUS(wc.status, IBV_WC_LOC_LEN_ERR);
	CHECK_INT(wc.wr_id, 100);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, 20), 0);
	CHECK_INT(side_settled(&p->b, IBV_QPS_ERR), IBV_QPS_ERR);
	ev = side_event(&p->b, LONG_MS, &mine);
	CHECK_INT(ev, IBV_EVENT_QP_LAST_WQE_REACHED);
	CHECK(mine);
	pair_down(p);
}

/* Two QPs of B share its SRQ; one of them dies, the other goes on. */
static void c_shared(struct pair *p)
{
	struct ibv_qp_init_attr qa = {.qp_type = IBV_QPT_RC};
	struct ep_conf ca, cb;
	struct ep a2 = {.ctx = NULL}, b2;
	struct ep_info a2i, b2i;
	struct ibv_wc wc[8];
	int i, per[2] = {0, 0};

	srq_confs(&ca, &cb);
	REQUIRE(pair_up(p, &ca, &cb));
	REQUIRE(ep_open(&a2, &ca) == 0);
	b2 = p->b.ep;
	qa.cap = b2.conf.cap;
	qa.send_cq = b2.scq;
	qa.recv_cq = b2.rcq;
	qa.srq = b2.srq;
	b2.qp = ibv_create_qp(b2.pd, &qa);
	REQUIRE(b2.qp);
	ep_info(&a2, &a2i);
	ep_info(&b2, &b2i);
	CHECK_ERRNO(ep_init(&a2), 0);
	CHECK_ERRNO(ep_rtr(&a2, &b2i), 0);
	CHECK_ERRNO(ep_rts(&a2), 0);
	CHECK_ERRNO(ep_init(&b2), 0);
	CHECK_ERRNO(ep_rtr(&b2, &a2i), 0);
	CHECK_ERRNO(ep_rts(&b2), 0);
	post(p, 12, 100);
	for (i = 0; i < 4; i++) {
		CHECK_ERRNO(ep_send(&p->a, &send64), 0);
		CHECK_ERRNO(ep_send(&a2, &send64), 0);
	}
	REQUIRE(ep_poll(b2.rcq, wc, 8, LONG_MS) == 8);
	for (i = 0; i < 8; i++) {
		CHECK_STATUS(wc[i].status, IBV_WC_SUCCESS);
		per[0] += wc[i].qp_num == p->bi.qpn;
		per[1] += wc[i].qp_num == b2i.qpn;
	}
	CHECK_INT(per[0], 4);
	CHECK_INT(per[1], 4);
	CHECK_ERRNO(ep_modify(&p->b.ep, IBV_QPS_ERR), 0);
	CHECK_ERRNO(ep_send(&a2, &send64), 0);
	CHECK_INT(ep_poll(b2.rcq, wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc[0].status, IBV_WC_SUCCESS);
	CHECK_INT(wc[0].qp_num, b2i.qpn);
	CHECK_ERRNO(ibv_destroy_qp(b2.qp), 0);
	CHECK_ERRNO(ep_close(&a2), 0);
	pair_down(p);
}

static const struct tcase cases[] = {
	{"in order", c_basic, BOTH},
	{"limit event", c_limit, BOTH},
	{"modify and query", c_modify, HERE},
	{"last WQE event", c_last_wqe, BOTH},
	{"message too long", c_too_long, BOTH},
	{"two QPs", c_shared, HERE},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
