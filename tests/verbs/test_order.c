/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Which error comes first when there are several, and what it leaves behind: the order of
 * checks, the SQE state of UC and UD, and whom a UC QP hears.
 */
#include "harness.h"

#define BAD_KEY(k) ((k) ^ 0x5a000)

static struct ep_conf conf_of(enum ibv_qp_type type)
{
	struct ep_conf c = RC_CONF;

	c.type = type;
	return c;
}

static struct twr request(struct pair *p, enum ibv_wr_opcode op)
{
	bool atomic = op == IBV_WR_ATOMIC_CMP_AND_SWP || op == IBV_WR_ATOMIC_FETCH_AND_ADD;

	return (struct twr){.id = 1,
			    .op = op,
			    .flags = IBV_SEND_SIGNALED,
			    .len = atomic ? 8 : 64,
			    .raddr = p->bi.addr,
			    .rkey = p->bi.rkey,
			    .swap = 1};
}

static void check_status(struct pair *p, const struct twr *t, enum ibv_wc_status want)
{
	struct ibv_wc wc;

	CHECK_ERRNO(ep_send(&p->a, t), 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, want);
	CHECK_INT(wc.wr_id, t->id);
}

/* ---- two errors at a time ---- */

#define BAD_LKEY 1
#define BAD_RKEY 2
#define ABSENT 4 /* the peer's QP is in RESET */
#define MISALIGNED 8

/* No receive is posted, and rnr_retry has no end. */
static const struct {
	enum ibv_wr_opcode op;
	int wrong;
	enum ibv_wc_status status;
} both[] = {
	/* What is sent is read first. */
	{IBV_WR_SEND, BAD_LKEY, IBV_WC_LOC_PROT_ERR},
	{IBV_WR_SEND_WITH_IMM, BAD_LKEY, IBV_WC_LOC_PROT_ERR},
	{IBV_WR_SEND, BAD_LKEY | ABSENT, IBV_WC_LOC_PROT_ERR},
	{IBV_WR_RDMA_WRITE, BAD_LKEY | BAD_RKEY, IBV_WC_LOC_PROT_ERR},
	{IBV_WR_RDMA_WRITE, BAD_LKEY | ABSENT, IBV_WC_LOC_PROT_ERR},
	{IBV_WR_RDMA_WRITE_WITH_IMM, BAD_LKEY, IBV_WC_LOC_PROT_ERR},
	{IBV_WR_RDMA_WRITE_WITH_IMM, BAD_LKEY | BAD_RKEY, IBV_WC_LOC_PROT_ERR},
	/* The key comes before the receive. */
	{IBV_WR_RDMA_WRITE_WITH_IMM, BAD_RKEY, IBV_WC_REM_ACCESS_ERR},
	/* What is written here is looked at when there is an answer. */
	{IBV_WR_RDMA_READ, BAD_LKEY, IBV_WC_LOC_PROT_ERR},
	{IBV_WR_RDMA_READ, BAD_LKEY | BAD_RKEY, IBV_WC_REM_ACCESS_ERR},
	{IBV_WR_RDMA_READ, BAD_LKEY | ABSENT, IBV_WC_RETRY_EXC_ERR},
	{IBV_WR_ATOMIC_FETCH_AND_ADD, BAD_LKEY, IBV_WC_LOC_PROT_ERR},
	{IBV_WR_ATOMIC_FETCH_AND_ADD, BAD_LKEY | BAD_RKEY, IBV_WC_REM_ACCESS_ERR},
	{IBV_WR_ATOMIC_CMP_AND_SWP, BAD_LKEY | MISALIGNED, IBV_WC_REM_INV_REQ_ERR},
	{IBV_WR_ATOMIC_CMP_AND_SWP, BAD_RKEY | MISALIGNED, IBV_WC_REM_INV_REQ_ERR},
};

static void c_rc_order(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC);
	struct twr t;
	size_t i;

	if (tdev()->rxe)
		return t_skip("rdma_rxe has its own order");
	for (i = 0; i < 2 * ARRAY_SIZE(both) && !t_failures(); i++) {
		int wrong = both[i / 2].wrong;

		t_note("opcode %d, wrong %#x, %s", both[i / 2].op, wrong,
		       i & 1 ? "unsignaled" : "signaled");
		REQUIRE(pair_up(p, &c, &c));
		t = request(p, both[i / 2].op);
		t.flags = i & 1 ? 0 : IBV_SEND_SIGNALED;
		t.compare_add = 0;
		if (wrong & BAD_LKEY)
			t.lkey = BAD_KEY(p->a.mr->lkey);
		if (wrong & BAD_RKEY)
			t.rkey = BAD_KEY(p->bi.rkey);
		if (wrong & MISALIGNED)
			t.raddr += 4;
		if (wrong & ABSENT)
			CHECK_ERRNO(side_modify(&p->b, IBV_QPS_RESET), 0);
		check_status(p, &t, both[i / 2].status);
		CHECK_INT(ep_state(&p->a), IBV_QPS_ERR);
		CHECK_INT(side_get(&p->b, 0), 0);
		pair_down(p);
	}
}

/* A send that waits for a receive notices that its own MR has gone. */
static void c_waiting(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC);
	struct twr t;
	struct ibv_wc wc;

	if (tdev()->rxe)
		return t_skip("rdma_rxe finds it when it sends again");
	REQUIRE(pair_up(p, &c, &c));
	t = request(p, IBV_WR_SEND);
	CHECK_ERRNO(ep_send(&p->a, &t), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 20), 0);
	CHECK_ERRNO(ibv_dereg_mr(p->a.mr), 0);
	p->a.mr = NULL;
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_LOC_PROT_ERR);
	pair_down(p);
}

/* ---- SQE ---- */

static void receive_still_works(struct pair *p)
{
	struct twr s = {.id = 8, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 7, .len = 200}), 0);
	CHECK_ERRNO(side_send(&p->b, &s), 0);
	CHECK_INT(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS), 1);
	REQUIRE(ep_poll(p->a.rcq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, 7);
}

static void message_arrives(struct pair *p, uint64_t id)
{
	struct twr s = {.id = id, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = id, .len = 200}), 0);
	check_status(p, &s, IBV_WC_SUCCESS);
	REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, id);
}

/* Take A to SQE, with two requests behind the bad one in the same post. */
static void enter_sqe(struct pair *p)
{
	struct ibv_sge good = {(uintptr_t)p->a.buf, 64, p->a.mr->lkey}, bad = good;
	struct ibv_send_wr wr[3] = {{0}}, *failed;
	struct ibv_wc wc[3];
	int i;

	bad.lkey = BAD_KEY(good.lkey);
	for (i = 0; i < 3; i++) {
		wr[i].wr_id = 20 + (uint64_t)i;
		wr[i].sg_list = i ? &good : &bad;
		wr[i].num_sge = 1;
		wr[i].opcode = IBV_WR_SEND;
		wr[i].next = i < 2 ? &wr[i + 1] : NULL;
		wr[i].wr.ud.ah = p->a.ah;
		wr[i].wr.ud.remote_qpn = p->bi.qpn;
		wr[i].wr.ud.remote_qkey = QKEY;
	}
	CHECK_ERRNO(ibv_post_send(p->a.qp, wr, &failed), 0);
	REQUIRE(ep_poll(p->a.scq, wc, 3, LONG_MS) == 3);
	for (i = 0; i < 3; i++) {
		CHECK_STATUS(wc[i].status, i ? IBV_WC_WR_FLUSH_ERR : IBV_WC_LOC_PROT_ERR);
		CHECK_INT(wc[i].wr_id, 20 + i);
	}
	CHECK_INT(ep_state(&p->a), IBV_QPS_SQE);
}

static void check_sqe(struct pair *p, enum ibv_qp_type type)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS, .cur_qp_state = IBV_QPS_SQE};
	struct ep_conf c = conf_of(type);
	struct twr s = {.id = 30, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	message_arrives(p, 10);
	enter_sqe(p);
	receive_still_works(p);
	check_status(p, &s, IBV_WC_WR_FLUSH_ERR); /* posted in SQE */
	CHECK_ERRNO(ibv_modify_qp(p->a.qp, &attr, IBV_QP_STATE | IBV_QP_CUR_STATE), 0);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
	message_arrives(p, 11);
	/* It ends as any other does, and nothing arrived of what was flushed. */
	enter_sqe(p);
	CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 9, .len = 200}), 0);
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
	REQUIRE(ep_poll(p->a.rcq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_WR_FLUSH_ERR);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, 0), 0);
	CHECK_INT(side_state(&p->b), IBV_QPS_RTS);
	pair_down(p);
}

static void c_sqe(struct pair *p)
{
	if (tdev()->rxe)
		return t_skip("rdma_rxe takes the whole QP to ERR");
	t_note("UC");
	check_sqe(p, IBV_QPT_UC);
	t_note("UD");
	if (!t_failures())
		check_sqe(p, IBV_QPT_UD);
}

/* Nobody hears it: the error is the same. */
static void c_sqe_alone(struct pair *p)
{
	static const enum ibv_qp_type types[] = {IBV_QPT_UC, IBV_QPT_UD};
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = 0, .len = 64};
	struct ep_conf c;
	size_t i;

	if (tdev()->rxe)
		return t_skip("rdma_rxe takes the whole QP to ERR");
	for (i = 0; i < 4 && !t_failures(); i++) {
		t_note("%s, %s", i & 1 ? "UD" : "UC", i & 2 ? "not there" : "no receive");
		c = conf_of(types[i & 1]);
		REQUIRE(pair_up(p, &c, &c));
		if (i & 2)
			CHECK_ERRNO(side_modify(&p->b, IBV_QPS_RESET), 0);
		s.lkey = BAD_KEY(p->a.mr->lkey);
		s.qpn = p->bi.qpn;
		check_status(p, &s, IBV_WC_LOC_PROT_ERR);
		CHECK_INT(ep_state(&p->a), IBV_QPS_SQE);
		pair_down(p);
	}
}

/* ---- PSNs ---- */

/* Both ends expect another PSN than the other begins with. */
static bool up_out_of_step(struct pair *p, const struct ep_conf *c)
{
	memset(p, 0, sizeof(*p));
	p->b.fd = -1;
	if (!CHECK_ERRNO(ep_open(&p->a, c), 0) || !CHECK_ERRNO(side_open(&p->b, c, &p->bi), 0))
		return false;
	ep_info(&p->a, &p->ai);
	p->ai.psn = (p->ai.psn + 1000) & 0xffffff;
	p->bi.psn = (p->bi.psn - 1) & 0xffffff;
	return CHECK_ERRNO(ep_init(&p->a), 0) && CHECK_ERRNO(ep_rtr(&p->a, &p->bi), 0) &&
	       CHECK_ERRNO(ep_rts(&p->a), 0) &&
	       CHECK_ERRNO(side_connect(&p->b, &p->ai, IBV_QPS_RTS), 0);
}

/* UC goes on from the next message that begins (IBTA 9.8.2.2): nothing is lost. */
static void c_uc_psn(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_UC);

	REQUIRE(up_out_of_step(p, &c));
	message_arrives(p, 40);
	message_arrives(p, 41);
	receive_still_works(p);
	pair_down(p);
}

static void c_rc_psn(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC);
	struct twr t;

	c.timeout = 8;
	REQUIRE(up_out_of_step(p, &c));
	t = request(p, IBV_WR_RDMA_WRITE);
	check_status(p, &t, IBV_WC_RETRY_EXC_ERR);
	pair_down(p);
}

/* ---- an SRQ of another PD, attributes of creation ---- */

/* Its receives are the SRQ's PD's, whatever PD the QP is of (IBTA 10.2.3). */
static void c_srq_pd(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC);
	struct ibv_qp_init_attr attr = {.qp_type = IBV_QPT_RC};
	struct ep *b = &p->b.ep;
	struct ibv_wc wc;
	struct twr s;

	c.srq_wr = 8;
	REQUIRE(pair_up(p, &c, &c));
	CHECK_ERRNO(ibv_destroy_qp(b->qp), 0);
	attr.send_cq = b->scq;
	attr.recv_cq = b->rcq;
	attr.srq = b->srq;
	attr.cap = b->conf.cap;
	b->qp = ibv_create_qp(b->pd_other, &attr);
	REQUIRE(b->qp);
	ep_info(b, &p->bi);
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RESET), 0);
	CHECK_ERRNO(ep_init(&p->a), 0);
	CHECK_ERRNO(ep_rtr(&p->a, &p->bi), 0);
	CHECK_ERRNO(ep_rts(&p->a), 0);
	CHECK_ERRNO(side_connect(&p->b, &p->ai, IBV_QPS_RTS), 0);
	s = request(p, IBV_WR_SEND);
	CHECK_ERRNO(ep_recv(b, &(struct twr){.id = 5, .len = 64}), 0);
	CHECK_ERRNO(ep_recv(b, &(struct twr){.id = 6, .len = 64, .lkey = b->mr_other->lkey}), 0);
	check_status(p, &s, IBV_WC_SUCCESS);
	REQUIRE(ep_poll(b->rcq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, 5);
	if (!tdev()->rxe) {
		check_status(p, &s, IBV_WC_REM_OP_ERR); /* the QP's PD is not what counts */
		REQUIRE(ep_poll(b->rcq, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_LOC_PROT_ERR);
		CHECK_INT(wc.wr_id, 6);
	}
	pair_down(p);
}

static void c_create_flags(struct pair *p)
{
	struct ibv_qp_init_attr_ex attr = {.qp_type = IBV_QPT_RC};
	struct ep_conf c = conf_of(IBV_QPT_RC);
	struct ibv_qp *qp;

	REQUIRE(ep_open(&p->a, &c) == 0);
	attr.send_cq = p->a.scq;
	attr.recv_cq = p->a.rcq;
	attr.cap = p->a.conf.cap;
	attr.pd = p->a.pd;
	attr.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_CREATE_FLAGS;
	qp = ibv_create_qp_ex(p->a.ctx, &attr);
	REQUIRE(qp);
	CHECK_ERRNO(ibv_destroy_qp(qp), 0);
	if (!tdev()->rxe) {
		attr.create_flags = IBV_QP_CREATE_SCATTER_FCS;
		CHECK(!ibv_create_qp_ex(p->a.ctx, &attr));
		CHECK_ERRNO(errno, EOPNOTSUPP);
	}
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static const struct tcase cases[] = {
	{"two errors", c_rc_order, BOTH},       {"its MR goes while it waits", c_waiting, BOTH},
	{"SQE and back", c_sqe, BOTH},          {"SQE with nobody there", c_sqe_alone, BOTH},
	{"UC with other PSNs", c_uc_psn, HERE}, {"RC with other PSNs", c_rc_psn, HERE},
	{"SRQ of another PD", c_srq_pd, HERE},  {"creation flags", c_create_flags, HERE},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
