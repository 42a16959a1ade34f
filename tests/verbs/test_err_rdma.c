/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * RDMA READ, WRITE and atomics that must fail: the requester's status, both QPs'
 * states afterwards, the responder's async event, and that no byte was touched.
 */
#include "harness.h"

#define BAD_KEY(k) ((k) ^ 0x5a000)
#define FILL_B 77

struct expect {
	enum ibv_wc_status status; /* of the requester */
	bool local;                /* a local protection error: see local_status() */
	enum ibv_qp_state a, b;    /* states afterwards */
	int event;                 /* at the responder, -1: none */
};

static const struct expect local_err = {IBV_WC_LOC_PROT_ERR, true, IBV_QPS_ERR, IBV_QPS_RTS, -1};
static const struct expect access_err = {IBV_WC_REM_ACCESS_ERR, false, IBV_QPS_ERR, IBV_QPS_ERR,
					 IBV_EVENT_QP_ACCESS_ERR};
static const struct expect invalid_err = {IBV_WC_REM_INV_REQ_ERR, false, IBV_QPS_ERR, IBV_QPS_ERR,
					  IBV_EVENT_QP_REQ_ERR};
static const struct expect good = {IBV_WC_SUCCESS, false, IBV_QPS_RTS, IBV_QPS_RTS, -1};

static const struct {
	enum ibv_wr_opcode op;
	const char *name;
	int right;
} ops[] = {
	{IBV_WR_RDMA_WRITE, "WRITE", IBV_ACCESS_REMOTE_WRITE},
	{IBV_WR_RDMA_READ, "READ", IBV_ACCESS_REMOTE_READ},
	{IBV_WR_ATOMIC_FETCH_AND_ADD, "FETCH_ADD", IBV_ACCESS_REMOTE_ATOMIC},
	{IBV_WR_ATOMIC_CMP_AND_SWP, "CMP_SWAP", IBV_ACCESS_REMOTE_ATOMIC},
};
#define N_OPS ARRAY_SIZE(ops)

static bool is_atomic(enum ibv_wr_opcode op)
{
	return op == IBV_WR_ATOMIC_FETCH_AND_ADD || op == IBV_WR_ATOMIC_CMP_AND_SWP;
}

/* The request after the one that failed must be flushed, in order. */
static void check_flush(struct pair *p, uint64_t id)
{
	struct ibv_wc wc[2];

	CHECK_INT(ep_poll(p->a.scq, wc, 2, LONG_MS), 2);
	CHECK_STATUS(wc[0].status, IBV_WC_WR_FLUSH_ERR);
	CHECK_INT(wc[0].wr_id, id);
	CHECK_STATUS(wc[1].status, IBV_WC_WR_FLUSH_ERR);
	CHECK_INT(wc[1].wr_id, id + 1);
}

static void check_event(struct pair *p, int want)
{
	/* The peer may see nothing: rxe raises none of these events. */
	bool mine = false;
	int got;

	if (tdev()->rxe)
		return;
	got = side_event(&p->b, want < 0 ? 0 : LONG_MS, &mine);
	CHECK_INT(got, want);
	if (got >= 0)
		CHECK(mine);
}

/* IBTA has one answer. rxe calls a bad lkey an operation error, and when it finds
 * it while it builds a packet, flushes that request with those behind it. */
static enum ibv_wc_status local_status(enum ibv_wc_status got)
{
	if (tdev()->rxe && (got == IBV_WC_LOC_QP_OP_ERR || got == IBV_WC_WR_FLUSH_ERR))
		return got;
	return IBV_WC_LOC_PROT_ERR;
}

/* Post WR on the open pair and check everything that EXPECT says. */
static void check_wr(struct pair *p, const struct twr *t, const struct expect *e)
{
	uint64_t before = side_sum(&p->b, 0, p->bi.len);
	struct twr next = {.op = IBV_WR_RDMA_WRITE,
			   .flags = IBV_SEND_SIGNALED,
			   .len = 8,
			   .raddr = p->bi.addr,
			   .rkey = p->bi.rkey};
	enum ibv_wc_status want;
	struct ibv_wc wc;

	REQUIRE(ep_send(&p->a, t) == 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	want = e->local ? local_status(wc.status) : e->status;
	CHECK_STATUS(wc.status, want);
	CHECK_INT(wc.wr_id, t->id);
	CHECK_INT(wc.qp_num, p->ai.qpn);
	CHECK_INT(ep_settled(&p->a, e->a), e->a);
	if (want != IBV_WC_SUCCESS) {
		next.id = 1001;
		CHECK_ERRNO(ep_send(&p->a, &next), 0);
		next.id = 1002;
		CHECK_ERRNO(ep_send(&p->a, &next), 0);
		check_flush(p, 1001);
		CHECK_INT(side_sum(&p->b, 0, p->bi.len), before);
	}
	CHECK_INT(side_settled(&p->b, e->b), e->b);
	check_event(p, e->event);
}

typedef void (*mutate_fn)(struct pair *p, struct twr *t, struct ep_conf *a, struct ep_conf *b);

/*
 * For each opcode in turn: a valid request on a fresh pair, spoilt by MUTATE.
 * MUTATE runs twice: before the pair is opened (T is NULL; it may change the
 * configurations) and after it.
 */
static void each_op(struct pair *p, mutate_fn mutate, const struct expect *e)
{
	struct ep_conf ca, cb;
	struct twr t;
	size_t i;

	for (i = 0; i < N_OPS && !t_failures(); i++) {
		ca = (struct ep_conf)RC_CONF;
		cb = ca;
		ca.len = cb.len = 8192;
		t_note("%s", ops[i].name);
		memset(&t, 0, sizeof(t));
		t.op = ops[i].op;
		mutate(p, NULL, &ca, &cb);
		REQUIRE(pair_up(p, &ca, &cb));
		side_fill(&p->b, 0, p->bi.len, FILL_B);
		fill_bytes(p->a.buf, p->ai.len, 1);
		t.id = 1000;
		t.flags = IBV_SEND_SIGNALED;
		t.len = is_atomic(t.op) ? 8 : 64;
		t.raddr = p->bi.addr + 128;
		t.rkey = p->bi.rkey;
		mutate(p, &t, &ca, &cb);
		check_wr(p, &t, e);
		pair_down(p);
	}
}

static int right_of(enum ibv_wr_opcode op)
{
	size_t i;

	for (i = 0; i < N_OPS; i++)
		if (ops[i].op == op)
			return ops[i].right;
	return 0;
}

#define MUTATOR(name)                                                                              \
	static void name(struct pair *p, struct twr *t, struct ep_conf *a, struct ep_conf *b)
#define UNUSED_ARGS (void)p, (void)t, (void)a, (void)b

MUTATOR(m_none)
{
	UNUSED_ARGS;
}

static void c_good(struct pair *p)
{
	each_op(p, m_none, &good);
}

MUTATOR(m_lkey)
{
	UNUSED_ARGS;
	if (t)
		t->lkey = BAD_KEY(p->a.mr->lkey);
}

static void c_lkey_wrong(struct pair *p)
{
	each_op(p, m_lkey, &local_err);
}

MUTATOR(m_lkey_variant)
{
	UNUSED_ARGS;
	if (t)
		t->lkey = p->a.mr->lkey ^ 1;
}

static void c_lkey_variant(struct pair *p)
{
	each_op(p, m_lkey_variant, &local_err);
}

MUTATOR(m_lkey_pd)
{
	UNUSED_ARGS;
	if (t)
		t->lkey = p->a.mr_other->lkey;
}

static void c_lkey_pd(struct pair *p)
{
	each_op(p, m_lkey_pd, &local_err);
}

MUTATOR(m_local_bounds)
{
	UNUSED_ARGS;
	if (t)
		t->off = p->ai.len - t->len + 1;
}

static void c_local_bounds(struct pair *p)
{
	each_op(p, m_local_bounds, &local_err);
}

MUTATOR(m_local_before)
{
	UNUSED_ARGS;
	if (t)
		t->off = (uint64_t)-1;
}

static void c_local_before(struct pair *p)
{
	each_op(p, m_local_before, &local_err);
}

/* READ and atomics write locally: that needs IBV_ACCESS_LOCAL_WRITE. */
static void c_local_read_only(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct twr t = {.id = 1000, .flags = IBV_SEND_SIGNALED};
	size_t i;

	ca.mr_access = 0;
	for (i = 0; i < N_OPS && !t_failures(); i++) {
		t_note("%s", ops[i].name);
		REQUIRE(pair_up(p, &ca, &cb));
		t.op = ops[i].op;
		t.len = is_atomic(t.op) ? 8 : 64;
		t.raddr = p->bi.addr + 128;
		t.rkey = p->bi.rkey;
		if (t.op == IBV_WR_RDMA_WRITE) {
			check_wr(p, &t, &good);
		} else {
			/* The responder may have done its part (an atomic has, on
			 * rxe): only the local outcome is fixed. */
			struct ibv_wc wc;

			REQUIRE(ep_send(&p->a, &t) == 0);
			REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
			CHECK_STATUS(wc.status, local_status(wc.status));
			CHECK_INT(ep_settled(&p->a, IBV_QPS_ERR), IBV_QPS_ERR);
			CHECK_INT(side_state(&p->b), IBV_QPS_RTS);
			CHECK_INT(sum_bytes(p->a.buf, 64), sum_bytes(p->a.buf + 64, 64));
		}
		pair_down(p);
	}
}

MUTATOR(m_rkey)
{
	UNUSED_ARGS;
	if (t)
		t->rkey = BAD_KEY(t->rkey);
}

static void c_rkey_wrong(struct pair *p)
{
	each_op(p, m_rkey, &access_err);
}

MUTATOR(m_rkey_variant)
{
	UNUSED_ARGS;
	if (t)
		t->rkey ^= 1;
}

static void c_rkey_variant(struct pair *p)
{
	each_op(p, m_rkey_variant, &access_err);
}

MUTATOR(m_rkey_zero)
{
	UNUSED_ARGS;
	if (t)
		t->rkey = 0;
}

static void c_rkey_zero(struct pair *p)
{
	each_op(p, m_rkey_zero, &access_err);
}

MUTATOR(m_rkey_pd)
{
	UNUSED_ARGS;
	if (t)
		t->rkey = p->bi.rkey_other;
}

static void c_rkey_pd(struct pair *p)
{
	each_op(p, m_rkey_pd, &access_err);
}

MUTATOR(m_dereg)
{
	UNUSED_ARGS;
	if (t)
		CHECK_ERRNO(side_dereg(&p->b), 0);
}

static void c_rkey_dereg(struct pair *p)
{
	each_op(p, m_dereg, &access_err);
}

/* Every right but the needed one, on the MR. */
static void c_mr_right(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb;
	struct twr t;
	size_t i;

	for (i = 0; i < N_OPS && !t_failures(); i++) {
		cb = (struct ep_conf)RC_CONF;
		cb.mr_access = ALL_ACCESS & ~right_of(ops[i].op);
		t_note("%s", ops[i].name);
		REQUIRE(pair_up(p, &ca, &cb));
		t = (struct twr){.id = 1000,
				 .op = ops[i].op,
				 .flags = IBV_SEND_SIGNALED,
				 .len = is_atomic(ops[i].op) ? 8 : 64,
				 .raddr = p->bi.addr,
				 .rkey = p->bi.rkey};
		check_wr(p, &t, &access_err);
		pair_down(p);
	}
}

/* Every right but the needed one, in qp_access_flags. */
static void c_qp_right(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb;
	struct twr t;
	size_t i;

	for (i = 0; i < N_OPS && !t_failures(); i++) {
		cb = (struct ep_conf)RC_CONF;
		cb.qp_access = REMOTE_ACCESS & ~right_of(ops[i].op);
		t_note("%s", ops[i].name);
		REQUIRE(pair_up(p, &ca, &cb));
		t = (struct twr){.id = 1000,
				 .op = ops[i].op,
				 .flags = IBV_SEND_SIGNALED,
				 .len = is_atomic(ops[i].op) ? 8 : 64,
				 .raddr = p->bi.addr,
				 .rkey = p->bi.rkey};
		check_wr(p, &t, &invalid_err);
		pair_down(p);
	}
}

MUTATOR(m_end)
{
	UNUSED_ARGS;
	if (t) /* an atomic stays aligned: its first byte is outside */
		t->raddr = p->bi.addr + p->bi.len - (is_atomic(t->op) ? 0 : t->len - 1);
}

static void c_bounds_end(struct pair *p)
{
	each_op(p, m_end, &access_err);
}

MUTATOR(m_before)
{
	UNUSED_ARGS;
	if (t)
		t->raddr = p->bi.addr - (is_atomic(t->op) ? 8 : 1);
}

static void c_bounds_before(struct pair *p)
{
	each_op(p, m_before, &access_err);
}

/* An odd-sized region: the page's rest is outside, although it is mapped. */
MUTATOR(m_page_rest)
{
	UNUSED_ARGS;
	if (!t)
		b->len = 8192 - 40;
	else
		t->raddr = p->bi.addr + p->bi.len - (is_atomic(t->op) ? 0 : t->len - 1);
}

static void c_bounds_page_rest(struct pair *p)
{
	each_op(p, m_page_rest, &access_err);
}

MUTATOR(m_wrap)
{
	UNUSED_ARGS;
	if (t)
		t->raddr = is_atomic(t->op) ? (uint64_t)-8 : (uint64_t)-32;
}

static void c_wrap(struct pair *p)
{
	each_op(p, m_wrap, &access_err);
}

/* addr + length wraps to an address inside the region. */
static void c_wrap_long(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct twr t = {.id = 1000, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED};
	int i;

	ca.len = 1 << 20;
	cb.len = 4096;
	for (i = 0; i < 2 && !t_failures(); i++) {
		t.op = i ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
		REQUIRE(pair_up(p, &ca, &cb));
		t.len = 1 << 20;
		t.raddr = p->bi.addr;
		t.rkey = p->bi.rkey;
		check_wr(p, &t, &access_err);
		pair_down(p);
	}
}

/* A length of zero needs no key and no address, on either side. */
static void c_zero_length(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr t = {.id = 1000, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED};
	int i;

	for (i = 0; i < 4 && !t_failures(); i++) {
		t_note("%s, %s", i & 1 ? "READ" : "WRITE", i & 2 ? "an SGE of length 0" : "no SGE");
		REQUIRE(pair_up(p, &c, &c));
		t.op = i & 1 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
		t.nsge = i & 2 ? 1 : 0;
		t.sge[0] = (struct ibv_sge){.addr = 0x1234, .lkey = BAD_KEY(p->a.mr->lkey)};
		t.raddr = 0x10;
		t.rkey = BAD_KEY(p->bi.rkey);
		check_wr(p, &t, &good);
		pair_down(p);
	}
}

static void atomic_post_wr(struct pair *p, const struct twr *t)
{
	struct ibv_qp_ex *qx = ibv_qp_to_qp_ex(p->a.qp);

	ibv_wr_start(qx);
	qx->wr_id = t->id;
	qx->wr_flags = t->flags;
	if (t->op == IBV_WR_ATOMIC_FETCH_AND_ADD)
		ibv_wr_atomic_fetch_add(qx, t->rkey, t->raddr, t->compare_add);
	else
		ibv_wr_atomic_cmp_swp(qx, t->rkey, t->raddr, t->compare_add, t->swap);
	if (t->len)
		ibv_wr_set_sge(qx, t->lkey ? t->lkey : p->a.mr->lkey, (uintptr_t)p->a.buf + t->off,
			       t->len);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
}

/*
 * An atomic that is not well formed, by either way of posting, in one piece or two: it
 * posts, completes with STATUS, and changes nothing. REMOTE: the responder finds out.
 */
static void bad_atomic(struct pair *p, struct twr t, bool builder, enum ibv_wc_status status,
		       bool remote)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct ibv_wc wc;
	bool mine;

	if (builder)
		ca.send_ops =
			IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP;
	REQUIRE(pair_up(p, &ca, &cb));
	t.id = 1000;
	t.flags = IBV_SEND_SIGNALED;
	t.rkey ^= p->bi.rkey;
	t.lkey = t.lkey ? t.lkey ^ p->a.mr->lkey : 0;
	t.raddr += p->bi.addr;
	if (builder)
		atomic_post_wr(p, &t);
	else
		CHECK_ERRNO(ep_send(&p->a, &t), 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, status);
	CHECK_INT(ep_settled(&p->a, IBV_QPS_ERR), IBV_QPS_ERR);
	CHECK_INT(side_settled(&p->b, remote ? IBV_QPS_ERR : IBV_QPS_RTS),
		  remote ? IBV_QPS_ERR : IBV_QPS_RTS);
	CHECK_INT(side_get(&p->b, 0), 0);
	if (remote && !tdev()->rxe) {
		CHECK_INT(side_event(&p->b, LONG_MS, &mine), IBV_EVENT_QP_REQ_ERR);
		CHECK(mine);
	}
	pair_down(p);
}

static const enum ibv_wr_opcode atomics[] = {IBV_WR_ATOMIC_FETCH_AND_ADD,
					     IBV_WR_ATOMIC_CMP_AND_SWP};

/* The responder says so (IBTA 9.4.5, C9-...: invalid request), before it looks at keys,
 * and whatever is wrong with the requester's SGE. rxe's library refuses to post it. */
static void c_misaligned(struct pair *p)
{
	struct twr t = {.len = 8, .compare_add = 0, .swap = 1};
	int i, off;

	for (off = 1; off < 8; off++) {
		for (i = 0; i < 4 && !t_failures(); i++) {
			t_note("offset %d, variant %d", off, i);
			if (tdev()->rxe && !(i & 2))
				continue;
			t.op = atomics[i & 1];
			t.raddr = (uint64_t)off;
			t.rkey = off == 2 ? 0x5a000 : 0;
			t.lkey = off == 3 ? 0x5a000 : 0;
			bad_atomic(p, t, i & 2, IBV_WC_REM_INV_REQ_ERR, true);
		}
	}
}

/* The old value is 8 bytes long, and so must be its place. */
static void c_atomic_length(struct pair *p)
{
	static const uint32_t lens[] = {0, 4, 7, 9, 16, 64};
	struct twr t = {.compare_add = 0, .swap = 1};
	size_t i, k;

	if (tdev()->rxe)
		return t_skip("rdma_rxe does not look at the length");
	for (k = 0; k < ARRAY_SIZE(lens); k++) {
		for (i = 0; i < 4 && !t_failures(); i++) {
			t_note("%u bytes, variant %zu", lens[k], i);
			t.op = atomics[i & 1];
			t.len = lens[k];
			bad_atomic(p, t, i & 2, IBV_WC_LOC_LEN_ERR, false);
		}
	}
	t.len = 0;
	t.nsge = 2;
	t.sge[0].length = 4;
	t.sge[1] = (struct ibv_sge){.addr = 8, .length = 5};
	for (i = 0; i < 2; i++) {
		t.op = atomics[i];
		bad_atomic(p, t, false, IBV_WC_LOC_LEN_ERR, false);
	}
}

/* A responder that takes no READ and no atomic. */
static void c_no_dest_rd_atomic(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct twr t = {.id = 1000, .flags = IBV_SEND_SIGNALED, .len = 8};
	size_t i;

	cb.dest_rd_atomic = 0;
	for (i = 1; i < N_OPS && !t_failures(); i++) {
		t_note("%s", ops[i].name);
		REQUIRE(pair_up(p, &ca, &cb));
		t.op = ops[i].op;
		t.raddr = p->bi.addr;
		t.rkey = p->bi.rkey;
		check_wr(p, &t, &invalid_err);
		pair_down(p);
	}
}

/*
 * A WRITE with immediate whose rkey is bad; and a plain one while receives are posted.
 * All are flushed in order, but for the one that the immediate would have used: IBTA has
 * IBV_WC_LOC_ACCESS_ERR for it (11.6.2), which hardware gives (rdma-unit-test,
 * WriteImmDataInvalidRKey). rxe has the requester's status.
 */
static void c_write_flushes_recv(struct pair *p)
{
	enum ibv_wc_status first = tdev()->rxe ? IBV_WC_REM_ACCESS_ERR : IBV_WC_LOC_ACCESS_ERR;
	struct ep_conf c = RC_CONF;
	struct twr r = {.len = 64};
	struct twr t = {.id = 1000, .flags = IBV_SEND_SIGNALED, .len = 64, .imm = 7};
	struct ibv_wc wc[4];
	int i, k;

	for (i = 0; i < 2 && !t_failures(); i++) {
		t.op = i ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_RDMA_WRITE;
		REQUIRE(pair_up(p, &c, &c));
		for (k = 0; k < 4; k++) {
			r.id = 500 + (uint64_t)k;
			CHECK_ERRNO(side_recv(&p->b, &r), 0);
		}
		t.raddr = p->bi.addr;
		t.rkey = BAD_KEY(p->bi.rkey);
		check_wr(p, &t, &access_err);
		REQUIRE(side_poll(&p->b, RECV_CQ, wc, 4, LONG_MS) == 4);
		for (k = 0; k < 4; k++) {
			CHECK_INT(wc[k].wr_id, 500 + k);
			CHECK_STATUS(wc[k].status, i && !k ? first : IBV_WC_WR_FLUSH_ERR);
		}
		pair_down(p);
	}
}

/* UC: the responder drops what is wrong, the requester hears nothing of it. */
static void c_uc(struct pair *p)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;
	struct twr t = {.id = 1, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	uint64_t before, sum;
	struct ibv_wc wc;
	int i;

	ca.type = cb.type = IBV_QPT_UC;
	for (i = 0; i < 5 && !t_failures(); i++) {
		t_note("variant %d", i);
		cb.qp_access = i == 3 ? IBV_ACCESS_REMOTE_READ : REMOTE_ACCESS;
		cb.mr_access = i == 4 ? IBV_ACCESS_LOCAL_WRITE : ALL_ACCESS;
		REQUIRE(pair_up(p, &ca, &cb));
		side_fill(&p->b, 0, p->bi.len, FILL_B);
		before = side_sum(&p->b, 0, p->bi.len);
		fill_bytes(p->a.buf, p->ai.len, 1);
		t.raddr = p->bi.addr + (i == 1 ? p->bi.len - 63 : 0);
		t.rkey = i == 0 ? BAD_KEY(p->bi.rkey) : i == 2 ? p->bi.rkey_other : p->bi.rkey;
		CHECK_ERRNO(ep_send(&p->a, &t), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
		sleep_ms(tdev()->rxe ? 50 : 1);
		CHECK_INT(side_state(&p->b), IBV_QPS_RTS);
		CHECK_INT(side_sum(&p->b, 0, p->bi.len), before);
		if (i < 3) { /* and the next good one gets through */
			t.raddr = p->bi.addr;
			t.rkey = p->bi.rkey;
			sum = sum_bytes(p->a.buf, 64);
			CHECK_ERRNO(ep_send(&p->a, &t), 0);
			CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
			sleep_ms(tdev()->rxe ? 50 : 1);
			CHECK_INT(side_sum(&p->b, 0, 64), sum);
		}
		pair_down(p);
	}
}

/* A pair that runs again after an error, through RESET. */
static void c_recover(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr t = {.id = 1000, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};

	REQUIRE(pair_up(p, &c, &c));
	t.raddr = p->bi.addr;
	t.rkey = BAD_KEY(p->bi.rkey);
	check_wr(p, &t, &access_err);
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RESET), 0);
	CHECK_ERRNO(side_modify(&p->b, IBV_QPS_RESET), 0);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RESET);
	CHECK_INT(side_state(&p->b), IBV_QPS_RESET);
	CHECK_ERRNO(ep_init(&p->a), 0);
	CHECK_ERRNO(ep_rtr(&p->a, &p->bi), 0);
	CHECK_ERRNO(ep_rts(&p->a), 0);
	CHECK_ERRNO(side_connect(&p->b, &p->ai, IBV_QPS_RTS), 0);
	t.rkey = p->bi.rkey;
	check_wr(p, &t, &good);
	pair_down(p);
}

static const struct tcase cases[] = {
	{"nothing wrong", c_good, BOTH},
	{"wrong lkey", c_lkey_wrong, BOTH},
	{"lkey of an older registration", c_lkey_variant, BOTH},
	{"lkey of another PD", c_lkey_pd, BOTH},
	{"one byte past the local region", c_local_bounds, BOTH},
	{"one byte before the local region", c_local_before, HERE},
	{"no local write right", c_local_read_only, BOTH},
	{"wrong rkey", c_rkey_wrong, BOTH},
	{"rkey of an older registration", c_rkey_variant, BOTH},
	{"rkey zero", c_rkey_zero, HERE},
	{"rkey of another PD", c_rkey_pd, BOTH},
	{"rkey deregistered", c_rkey_dereg, BOTH},
	{"MR without the right", c_mr_right, BOTH},
	{"QP without the right", c_qp_right, BOTH},
	{"one byte past the end", c_bounds_end, BOTH},
	{"one byte before the start", c_bounds_before, BOTH},
	{"past the end, in the last page", c_bounds_page_rest, BOTH},
	{"address wraps", c_wrap, BOTH},
	{"longer than the region", c_wrap_long, BOTH},
	{"zero length with bad keys", c_zero_length, BOTH},
	{"misaligned atomic", c_misaligned, BOTH},
	{"atomic's result not 8 bytes", c_atomic_length, BOTH},
	{"max_dest_rd_atomic zero", c_no_dest_rd_atomic, BOTH},
	{"receives flushed", c_write_flushes_recv, BOTH},
	{"UC drops", c_uc, BOTH},
	{"recover through RESET", c_recover, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
