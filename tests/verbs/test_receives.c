/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Receives posted are receives completed, each once, whatever goes wrong: a table of
 * errors, for every type of QP, with a receive queue of its own and with an SRQ. After
 * the error what is left is used up by good messages, or flushed.
 */
#include <pthread.h>

#include "harness.h"

#define BAD_KEY(k) ((k) ^ 0x5a000)
#define POSTED 6
#define RECV_LEN 256
#define FIRST_ID 700
#define NONE (-1)

enum { RC, UC, UD, TYPES };
static const enum ibv_qp_type types[] = {IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD};
static const char *const type_names[] = {"RC", "UC", "UD"};

enum fault {
	F_NONE,
	F_LKEY,
	F_LKEY_PD,
	F_BOUNDS,
	F_DEREG,
	F_SECOND_SGE,
	F_TOO_LONG,
	F_RECV_LKEY,
	F_RECV_BOUNDS,
	F_IMM_RKEY,
	F_IMM_LKEY,
	F_IMM_RIGHT,
	F_QKEY,
	F_MTU,
};

#define LOCAL                                                                                      \
	{                                                                                          \
		IBV_WC_LOC_PROT_ERR, IBV_WC_LOC_PROT_ERR, IBV_WC_LOC_PROT_ERR                      \
	}
#define NOBODY                                                                                     \
	{                                                                                          \
		NONE, NONE, NONE                                                                   \
	}
#define UNHEARD(rc)                                                                                \
	{                                                                                          \
		rc, IBV_WC_SUCCESS, IBV_WC_SUCCESS                                                 \
	}
#define ALL_TYPES (1 << RC | 1 << UC | 1 << UD)
#define CONNECTED (1 << RC | 1 << UC)

/* What a fault does: the requester's status, the first receive's with a queue of its own
 * and with an SRQ (NONE: it stays), and whether the responder's QP goes to ERR. */
static const struct row {
	enum fault fault;
	const char *name;
	int types;
	int a[TYPES], own[TYPES], srq[TYPES];
	bool b_err[TYPES];
} rows[] = {
	{F_NONE, "nothing wrong", ALL_TYPES, {0}, {0}, {0}, {0}},
	{F_LKEY, "wrong lkey", ALL_TYPES, LOCAL, NOBODY, NOBODY, {0}},
	{F_LKEY_PD, "lkey of another PD", ALL_TYPES, LOCAL, NOBODY, NOBODY, {0}},
	{F_BOUNDS, "past the region's end", ALL_TYPES, LOCAL, NOBODY, NOBODY, {0}},
	{F_DEREG, "lkey deregistered", ALL_TYPES, LOCAL, NOBODY, NOBODY, {0}},
	{F_SECOND_SGE, "second SGE bad", ALL_TYPES, LOCAL, NOBODY, NOBODY, {0}},
	{F_TOO_LONG,
	 "too long",
	 ALL_TYPES,
	 UNHEARD(IBV_WC_REM_INV_REQ_ERR),
	 {IBV_WC_LOC_LEN_ERR, NONE, NONE},
	 {IBV_WC_LOC_LEN_ERR, IBV_WC_LOC_LEN_ERR, IBV_WC_LOC_LEN_ERR},
	 {true}},
	{F_RECV_LKEY,
	 "receive with a wrong lkey",
	 ALL_TYPES,
	 UNHEARD(IBV_WC_REM_OP_ERR),
	 LOCAL,
	 LOCAL,
	 {true, true, true}},
	{F_RECV_BOUNDS,
	 "receive out of bounds",
	 ALL_TYPES,
	 UNHEARD(IBV_WC_REM_OP_ERR),
	 LOCAL,
	 LOCAL,
	 {true, true, true}},
	{F_IMM_RKEY,
	 "immediate, wrong rkey",
	 CONNECTED,
	 UNHEARD(IBV_WC_REM_ACCESS_ERR),
	 {IBV_WC_LOC_ACCESS_ERR, NONE},
	 NOBODY,
	 {true}},
	{F_IMM_LKEY, "immediate, wrong lkey", CONNECTED, LOCAL, NOBODY, NOBODY, {0}},
	{F_IMM_RIGHT,
	 "immediate, no right",
	 CONNECTED,
	 UNHEARD(IBV_WC_REM_INV_REQ_ERR),
	 {IBV_WC_WR_FLUSH_ERR, NONE},
	 NOBODY,
	 {true}},
	{F_QKEY, "wrong Q_Key", 1 << UD, {0}, NOBODY, NOBODY, {0}},
	{F_MTU, "over the MTU", 1 << UD, {0}, NOBODY, NOBODY, {0}},
};

/* ---- which receives have completed ---- */

struct tally {
	int n;
	int times[POSTED];
	int first; /* status of the first receive, NONE */
};

static void drain(struct pair *p, struct tally *t, int ms)
{
	struct ibv_wc wc;

	while (t->n < POSTED && side_poll(&p->b, RECV_CQ, &wc, 1, ms) == 1) {
		unsigned int i = (unsigned int)(wc.wr_id - FIRST_ID);

		if (!CHECK(i < POSTED))
			return;
		CHECK_INT(++t->times[i], 1);
		if (!i)
			t->first = (int)wc.status;
		t->n++;
	}
}

static void post_all(struct pair *p, enum fault fault)
{
	struct twr r = {.len = RECV_LEN};
	int i;

	for (i = 0; i < POSTED; i++) {
		r.id = FIRST_ID + (uint64_t)i;
		r.off = (uint64_t)i * RECV_LEN;
		r.lkey = !i && fault == F_RECV_LKEY ? BAD_KEY(side_lkey(&p->b, false)) : 0;
		if (!i && fault == F_RECV_BOUNDS)
			r.off = p->bi.len - 50;
		REQUIRE(side_recv(&p->b, &r) == 0);
	}
}

static void dereg(struct pair *p)
{
	CHECK_ERRNO(ibv_dereg_mr(p->a.mr), 0);
	p->a.mr = NULL;
}

static struct twr spoilt(struct pair *p, enum fault fault)
{
	uint32_t lkey = p->a.mr->lkey;
	struct twr s = {.id = 1,
			.op = IBV_WR_SEND,
			.flags = IBV_SEND_SIGNALED,
			.len = 100,
			.lkey = lkey,
			.raddr = p->bi.addr,
			.rkey = p->bi.rkey};

	if (fault == F_IMM_RKEY || fault == F_IMM_LKEY || fault == F_IMM_RIGHT)
		s.op = IBV_WR_RDMA_WRITE_WITH_IMM;
	if (fault == F_LKEY || fault == F_IMM_LKEY)
		s.lkey = BAD_KEY(lkey);
	if (fault == F_LKEY_PD)
		s.lkey = p->a.mr_other->lkey;
	if (fault == F_BOUNDS)
		s.off = p->ai.len - 99;
	if (fault == F_TOO_LONG)
		s.len = RECV_LEN + 1;
	if (fault == F_IMM_RKEY)
		s.rkey = BAD_KEY(p->bi.rkey);
	if (fault == F_QKEY)
		s.qkey = QKEY + 1;
	if (fault == F_MTU)
		s.len = (128u << tdev()->port.active_mtu) + 1;
	if (fault == F_SECOND_SGE) {
		s.nsge = 2;
		s.sge[0] = (struct ibv_sge){.length = 50, .lkey = lkey};
		s.sge[1] = (struct ibv_sge){.length = 50, .lkey = BAD_KEY(lkey)};
	}
	if (fault == F_DEREG)
		dereg(p);
	return s;
}

/* ---- the rest is used up ---- */

static void reconnect(struct pair *p)
{
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RESET), 0);
	CHECK_ERRNO(side_modify(&p->b, IBV_QPS_RESET), 0);
	CHECK_ERRNO(ep_init(&p->a), 0);
	CHECK_ERRNO(ep_rtr(&p->a, &p->bi), 0);
	CHECK_ERRNO(ep_rts(&p->a), 0);
	CHECK_ERRNO(side_connect(&p->b, &p->ai, IBV_QPS_RTS), 0);
}

static void send_rest(struct pair *p, struct tally *t)
{
	struct twr s = {.id = 2, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	s.lkey = p->a.mr ? 0 : p->a.mr_other->lkey;
	if (!p->a.mr)
		s.flags |= IBV_SEND_INLINE;
	while (t->n < POSTED && !t_failures()) {
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		if (CHECK(wc.wr_id - FIRST_ID < POSTED))
			CHECK_INT(++t->times[wc.wr_id - FIRST_ID], 1);
		t->n++;
	}
}

static void use_up(struct pair *p, struct tally *t, bool srq, bool rc)
{
	if (side_state(&p->b) != IBV_QPS_RTS || rc) {
		if (side_state(&p->b) != IBV_QPS_ERR)
			CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0);
		drain(p, t, srq ? 5 : LONG_MS);
		if (t->n < POSTED)
			reconnect(p);
	} else if (ep_state(&p->a) == IBV_QPS_SQE) {
		CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RTS), 0);
	}
	send_rest(p, t);
}

/* ---- the table ---- */

static void check_row(struct pair *p, const struct row *r, int type, bool srq)
{
	int a_state = !r->a[type] ? IBV_QPS_RTS : type == RC ? IBV_QPS_ERR : IBV_QPS_SQE;
	int b_state = r->b_err[type] ? IBV_QPS_ERR : IBV_QPS_RTS;
	struct tally t = {.first = NONE};
	struct ep_conf ca = RC_CONF, cb;
	struct ibv_wc wc;
	struct twr s;

	ca.type = types[type];
	cb = ca;
	cb.srq_wr = srq ? 16 : 0;
	if (r->fault == F_IMM_RIGHT)
		cb.qp_access = IBV_ACCESS_REMOTE_READ;
	REQUIRE(pair_up(p, &ca, &cb));
	post_all(p, r->fault);
	s = spoilt(p, r->fault);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, r->a[type]);
	CHECK_INT(ep_state(&p->a), a_state);
	CHECK_INT(side_state(&p->b), b_state);
	drain(p, &t, 5);
	CHECK_INT(t.first, (srq ? r->srq : r->own)[type]);
	use_up(p, &t, srq, type == RC);
	CHECK_INT(t.n, POSTED);
	pair_down(p);
}

static void table(struct pair *p, int type)
{
	size_t i;
	int srq;

	if (tdev()->rxe)
		return t_skip("rdma_rxe has its own answers, see test_err_send");
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		for (srq = 0; srq < 2 && !t_failures(); srq++) {
			if (!(rows[i].types & 1 << type))
				continue;
			t_note("%s, %s, %s", type_names[type], rows[i].name, srq ? "SRQ" : "RQ");
			check_row(p, &rows[i], type, srq);
		}
	}
}

static void c_rc(struct pair *p)
{
	table(p, RC);
}

static void c_uc(struct pair *p)
{
	table(p, UC);
}

static void c_ud(struct pair *p)
{
	table(p, UD);
}

/* A QP that is reset, or destroyed, has nothing of its SRQ's. */
static void c_srq_reset(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct tally t = {.first = NONE};

	c.type = IBV_QPT_UC;
	REQUIRE(pair_up(p, &c,
			&(struct ep_conf){.type = IBV_QPT_UC,
					  .mr_access = ALL_ACCESS,
					  .qp_access = REMOTE_ACCESS,
					  .srq_wr = POSTED}));
	post_all(p, F_NONE);
	reconnect(p);
	send_rest(p, &t);
	CHECK_INT(t.n, POSTED);
	pair_down(p);
}

/* ---- many senders of datagrams ---- */

#define SENDERS 4
#define EACH 64 /* together more than is posted: the others are lost */
#define MANY 32
#define ROUNDS 30

struct sender {
	pthread_t thread;
	pthread_barrier_t *start;
	struct ep ep;
	int sent;
};

static void *sender_main(void *arg)
{
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED};
	struct sender *me = arg;
	struct ibv_wc wc;

	s.len = 128u << tdev()->port.active_mtu; /* the longer, the more they meet */
	pthread_barrier_wait(me->start);
	for (me->sent = 0; me->sent < EACH; me->sent++)
		if (ep_send(&me->ep, &s) || ep_poll(me->ep.scq, &wc, 1, LONG_MS) != 1 || wc.status)
			break;
	return NULL;
}

static void senders_run(struct sender *s)
{
	pthread_barrier_t start;
	int i;

	pthread_barrier_init(&start, NULL, SENDERS);
	for (i = 0; i < SENDERS; i++)
		s[i].start = &start;
	for (i = 0; i < SENDERS; i++)
		REQUIRE(pthread_create(&s[i].thread, NULL, sender_main, &s[i]) == 0);
	for (i = 0; i < SENDERS; i++) {
		pthread_join(s[i].thread, NULL);
		CHECK_INT(s[i].sent, EACH);
	}
	pthread_barrier_destroy(&start);
}

/* Each receive once; those of a queue of its own in the order of posting. */
static void check_round(struct pair *p, bool srq)
{
	struct ibv_wc wc[MANY];
	int times[MANY] = {0}, i;

	REQUIRE(side_poll(&p->b, RECV_CQ, wc, MANY, LONG_MS) == MANY);
	for (i = 0; i < MANY; i++) {
		CHECK_STATUS(wc[i].status, IBV_WC_SUCCESS);
		if (!srq)
			CHECK_INT(wc[i].wr_id, i);
		if (CHECK(wc[i].wr_id < MANY))
			CHECK_INT(++times[wc[i].wr_id], 1);
	}
	CHECK_INT(side_poll(&p->b, RECV_CQ, wc, 1, 0), 0);
}

static void many_senders(struct pair *p, bool srq)
{
	struct ep_conf ca = RC_CONF, cb;
	struct sender s[SENDERS];
	int i, k;

	ca.type = IBV_QPT_UD;
	cb = ca;
	cb.srq_wr = srq ? MANY : 0;
	REQUIRE(pair_up(p, &ca, &cb));
	for (i = 0; i < SENDERS; i++) {
		REQUIRE(ep_open(&s[i].ep, &ca) == 0);
		CHECK_ERRNO(ep_init(&s[i].ep), 0);
		CHECK_ERRNO(ep_rtr(&s[i].ep, &p->bi), 0);
		CHECK_ERRNO(ep_rts(&s[i].ep), 0);
	}
	for (k = 0; k < ROUNDS && !t_failures(); k++) {
		t_note("%s, round %d", srq ? "SRQ" : "RQ", k);
		for (i = 0; i < MANY; i++)
			CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = (uint64_t)i, .len = 8192}),
				    0);
		senders_run(s);
		check_round(p, srq);
	}
	for (i = 0; i < SENDERS; i++)
		CHECK_ERRNO(ep_close(&s[i].ep), 0);
	pair_down(p);
}

static void c_many_senders(struct pair *p)
{
	many_senders(p, false);
	if (!t_failures())
		many_senders(p, true);
}

static const struct tcase cases[] = {
	{"RC", c_rc, BOTH},
	{"UC", c_uc, BOTH},
	{"UD", c_ud, BOTH},
	{"an SRQ whose QP is reset", c_srq_reset, BOTH},
	{"many senders of datagrams", c_many_senders, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
