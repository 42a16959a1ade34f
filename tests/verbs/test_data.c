/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Data: every opcode and QP type, sizes around page boundaries and random
 * unaligned ones, several SGEs, pinned and on-demand memory; every byte compared
 * and every field of the completions.
 */
#include <sys/mman.h>

#include "harness.h"

#define PAGE 4096u
#define GUARD 0x6b

static uint32_t rnd_state = 12345;

static uint32_t rnd(uint32_t below)
{
	rnd_state = rnd_state * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)rnd_state * below) >> 32);
}

static struct ep_conf conf_of(enum ibv_qp_type type, uint32_t len, bool odp)
{
	struct ep_conf c = RC_CONF;

	c.type = type;
	c.len = len;
	c.odp = odp;
	c.timeout = 18; /* 1 s: nothing may be repeated because the machine is slow */
	return c;
}

/* rdma_rxe of Linux 7.2 puts every ODP access at its page's start: not compared. */
static bool odp_ok(enum ibv_qp_type type)
{
	const struct ibv_odp_caps *o = &tdev()->odp;
	uint32_t need = IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV, have;

	if (!(o->general_caps & IBV_ODP_SUPPORT) || tdev()->rxe)
		return false;
	if (type == IBV_QPT_RC) {
		need |= IBV_ODP_SUPPORT_WRITE | IBV_ODP_SUPPORT_READ | IBV_ODP_SUPPORT_ATOMIC;
		have = o->per_transport_caps.rc_odp_caps;
	} else if (type == IBV_QPT_UC) {
		need |= IBV_ODP_SUPPORT_WRITE;
		have = o->per_transport_caps.uc_odp_caps;
	} else {
		have = o->per_transport_caps.ud_odp_caps;
	}
	return (have & need) == need;
}

/* ---- One transfer, checked to the last byte ---- */

struct xfer {
	enum ibv_wr_opcode op;
	uint32_t len, a_off, b_off;
	int a_sges, b_sges; /* into how many pieces each side's bytes are cut */
	unsigned int flags;
};

static bool op_receives(enum ibv_wr_opcode op)
{
	return op == IBV_WR_SEND || op == IBV_WR_SEND_WITH_IMM || op == IBV_WR_RDMA_WRITE_WITH_IMM;
}

static bool op_sends(enum ibv_wr_opcode op)
{
	return op == IBV_WR_SEND || op == IBV_WR_SEND_WITH_IMM;
}

/* Cut [off, off + len) into N pieces, also of length 0 */
static void cut(struct twr *t, uint32_t off, uint32_t len, int n)
{
	uint32_t piece;
	int i;

	if (n <= 1) {
		t->off = off;
		t->len = len;
		t->nsge = 0;
		return;
	}
	t->nsge = n;
	for (i = 0; i < n; i++) {
		piece = i == n - 1 ? len : rnd(len + 1);
		t->sge[i] = (struct ibv_sge){.addr = off, .length = piece};
		off += piece;
		len -= piece;
	}
}

static enum ibv_wc_opcode wc_op_of(enum ibv_wr_opcode op)
{
	switch (op) {
	case IBV_WR_RDMA_READ:
		return IBV_WC_RDMA_READ;
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		return IBV_WC_RDMA_WRITE;
	default:
		return IBV_WC_SEND;
	}
}

static void check_recv_wc(struct pair *p, const struct xfer *x, uint64_t id, uint32_t imm)
{
	bool with_imm = x->op != IBV_WR_SEND;
	struct ibv_wc wc;

	if (!CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1))
		return;
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, id);
	CHECK_INT(wc.opcode, op_sends(x->op) ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM);
	CHECK_INT(wc.byte_len, x->len);
	CHECK_INT(wc.qp_num, p->bi.qpn);
	CHECK_INT(!!(wc.wc_flags & IBV_WC_WITH_IMM), with_imm);
	if (with_imm)
		CHECK_INT(be32toh(wc.imm_data), imm);
	CHECK_INT(wc.wc_flags & IBV_WC_WITH_INV, 0);
}

static void run_xfer(struct pair *p, const struct xfer *x)
{
	bool read = x->op == IBV_WR_RDMA_READ;
	uint64_t id = 1000 + rnd(100000), seed = id + 1, sum, total = p->bi.len;
	struct twr s = {.id = id,
			.op = x->op,
			.flags = x->flags | IBV_SEND_SIGNALED,
			.imm = rnd(1u << 31),
			.raddr = p->bi.addr + x->b_off,
			.rkey = p->bi.rkey};
	struct twr r = {.id = id + 1};
	uint8_t *a = p->a.buf + x->a_off;
	struct ibv_wc wc;

	cut(&s, x->a_off, x->len, x->a_sges);
	cut(&r, x->b_off, x->len, x->b_sges);
	if (read) {
		memset(p->a.buf, GUARD, p->ai.len);
		side_fill(&p->b, x->b_off, x->len, seed);
		sum = side_sum(&p->b, x->b_off, x->len);
	} else {
		side_fill(&p->b, 0, total, seed + 1);
		fill_bytes(a, x->len, seed);
		sum = sum_bytes(a, x->len);
	}
	if (op_receives(x->op)) {
		if (!op_sends(x->op))
			r.len = 0, r.nsge = 0;
		CHECK_ERRNO(side_recv(&p->b, &r), 0);
	}
	if (!CHECK_ERRNO(ep_send(&p->a, &s), 0))
		return;
	if (!CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return;
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, id);
	CHECK_INT(wc.opcode, wc_op_of(x->op));
	CHECK_INT(wc.qp_num, p->ai.qpn);
	if (read)
		CHECK_INT(wc.byte_len, x->len);
	if (op_receives(x->op))
		check_recv_wc(p, x, id + 1, s.imm);
	else if (p->a.conf.type == IBV_QPT_UC)
		sleep_ms(tdev()->rxe ? 20 : 0);
	if (read) {
		CHECK_INT(sum_bytes(a, x->len), sum);
		CHECK(x->a_off == 0 || a[-1] == GUARD);
		CHECK(x->a_off + x->len == p->ai.len || a[x->len] == GUARD);
		return;
	}
	CHECK_INT(side_sum(&p->b, x->b_off, x->len), sum);
	/* the bytes around it are as they were */
	if (!CHECK(p->b.fd >= 0 || p->b.ep.buf))
		return;
	if (x->b_off || x->b_off + x->len < total) {
		uint64_t before = side_sum(&p->b, 0, x->b_off);
		uint64_t after = side_sum(&p->b, x->b_off + x->len, total - x->b_off - x->len);

		side_fill(&p->b, 0, total, seed + 1);
		CHECK_INT(before, side_sum(&p->b, 0, x->b_off));
		CHECK_INT(after, side_sum(&p->b, x->b_off + x->len, total - x->b_off - x->len));
	}
}

static const enum ibv_wr_opcode rc_ops[] = {IBV_WR_SEND, IBV_WR_SEND_WITH_IMM, IBV_WR_RDMA_WRITE,
					    IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_RDMA_READ};

static void sizes(struct pair *p, enum ibv_qp_type type, bool odp)
{
	static const uint32_t lens[] = {0,    1,    2,    3,    7,     8,    9,
					63,   64,   65,   255,  4088,  4095, 4096,
					4097, 8191, 8192, 8193, 12287, 12288};
	static const uint32_t offs[] = {0, 1, PAGE - 1, PAGE - 8, 2 * PAGE - 3};
	struct ep_conf c = conf_of(type, 6 * PAGE, odp);
	size_t n_ops = type == IBV_QPT_RC ? 5 : 4, o, i;
	struct xfer x;

	if (odp && !odp_ok(type))
		return t_skip("the device has no (working) ODP for this transport");
	REQUIRE(pair_up(p, &c, &c));
	for (o = 0; o < n_ops; o++) {
		for (i = 0; i < ARRAY_SIZE(lens) && !t_failures(); i++) {
			memset(&x, 0, sizeof(x));
			x.op = rc_ops[o];
			x.len = lens[i];
			x.a_off = offs[i % ARRAY_SIZE(offs)];
			x.b_off = offs[(i + o + 2) % ARRAY_SIZE(offs)];
			x.a_sges = x.b_sges = 1;
			t_note("op %d, %u bytes, offsets %u and %u", x.op, x.len, x.a_off, x.b_off);
			run_xfer(p, &x);
		}
	}
	pair_down(p);
}

static void c_rc_sizes(struct pair *p)
{
	sizes(p, IBV_QPT_RC, false);
}

static void c_rc_sizes_odp(struct pair *p)
{
	sizes(p, IBV_QPT_RC, true);
}

static void c_uc_sizes(struct pair *p)
{
	sizes(p, IBV_QPT_UC, false);
}

static void random_xfers(struct pair *p, bool odp)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 256 << 10, odp);
	uint32_t max = c.len;
	struct xfer x;
	int i;

	if (odp && !odp_ok(IBV_QPT_RC))
		return t_skip("the device has no (working) ODP for this transport");
	c.cap.max_send_sge = c.cap.max_recv_sge = 8;
	c.skew = 1234;
	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < (tdev()->rxe ? 15 : 60) && !t_failures(); i++) {
		x.op = rc_ops[rnd(5)];
		x.len = rnd(i & 1 ? 3 * PAGE : max / 2);
		x.a_off = rnd(max - x.len + 1);
		x.b_off = rnd(max - x.len + 1);
		x.a_sges = 1 + (int)rnd(8);
		x.b_sges = 1 + (int)rnd(8);
		x.flags = i % 3 ? 0 : IBV_SEND_FENCE;
		t_note("op %d, %u bytes, offsets %u and %u, SGEs %d and %d", x.op, x.len, x.a_off,
		       x.b_off, x.a_sges, x.b_sges);
		run_xfer(p, &x);
	}
	pair_down(p);
}

static void c_random(struct pair *p)
{
	random_xfers(p, false);
}

static void c_random_odp(struct pair *p)
{
	random_xfers(p, true);
}

static void c_max_sge(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 64 << 10, false);
	struct xfer x = {.flags = 0};
	int n = tdev()->attr.max_sge, k;

	if (n > MAX_TSGE)
		n = MAX_TSGE;
	c.cap.max_send_sge = c.cap.max_recv_sge = (uint32_t)n;
	REQUIRE(pair_up(p, &c, &c));
	for (k = 0; k < 5 && !t_failures(); k++) {
		x.op = rc_ops[k];
		x.len = 40000;
		x.a_off = 5;
		x.b_off = 4099;
		x.a_sges = x.b_sges = n;
		t_note("op %d", x.op);
		run_xfer(p, &x);
	}
	pair_down(p);
}

/* Large transfers, among them from and to memory that nobody ever touched. */
static void large(struct pair *p, bool odp, bool fresh)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, pinned_len(8 << 20), odp);
	uint64_t zeros;
	struct ibv_wc wc;
	struct twr s = {.id = 1, .flags = IBV_SEND_SIGNALED};

	if (odp && !odp_ok(IBV_QPT_RC))
		return t_skip("the device has no (working) ODP for this transport");
	c.fresh = fresh;
	if (tdev()->rxe)
		c.len = 1 << 20;
	REQUIRE(pair_up(p, &c, &c));
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	s.len = c.len;
	if (fresh) { /* READ of untouched into untouched memory: zeros */
		s.op = IBV_WR_RDMA_READ;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		zeros = sum_bytes(p->a.buf, c.len);
		CHECK_INT(zeros, side_sum(&p->b, 0, c.len));
		CHECK(p->a.buf[0] == 0 && !memcmp(p->a.buf, p->a.buf + 1, c.len - 1));
	}
	fill_bytes(p->a.buf, c.len, 42);
	s.op = IBV_WR_RDMA_WRITE;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_sum(&p->b, 0, c.len), sum_bytes(p->a.buf, c.len));
	side_fill(&p->b, 0, c.len, 43);
	s.op = IBV_WR_RDMA_READ;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_sum(&p->b, 0, c.len), sum_bytes(p->a.buf, c.len));
	s.op = IBV_WR_SEND;
	fill_bytes(p->a.buf, c.len, 44);
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 2, .len = c.len}), 0);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.byte_len, c.len);
	CHECK_INT(side_sum(&p->b, 0, c.len), sum_bytes(p->a.buf, c.len));
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	pair_down(p);
}

static void c_large(struct pair *p)
{
	large(p, false, false);
}

static void c_large_odp(struct pair *p)
{
	large(p, true, false);
}

static void c_large_fresh(struct pair *p)
{
	large(p, true, true);
}

static void c_large_fresh_pinned(struct pair *p)
{
	large(p, false, true);
}

/* Each first touch by the device alone: SEND into and WRITE from fresh pages. */
static void c_fresh_each(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 64 * PAGE, true);
	struct twr s = {.id = 1, .flags = IBV_SEND_SIGNALED};
	struct ibv_wc wc;
	uint32_t page;
	uint64_t old;

	if (!odp_ok(IBV_QPT_RC))
		return t_skip("the device has no (working) ODP for this transport");
	c.fresh = true;
	REQUIRE(pair_up(p, &c, &c));
	for (page = 0; page < 60 && !t_failures(); page++) {
		t_note("page %u", page);
		s.op = (enum ibv_wr_opcode[]){IBV_WR_RDMA_WRITE, IBV_WR_SEND, IBV_WR_RDMA_READ,
					      IBV_WR_ATOMIC_FETCH_AND_ADD}[page % 4];
		s.len = 8;
		s.off = page * PAGE + 16;
		s.raddr = p->bi.addr + (page + 1) * PAGE - 8;
		s.rkey = p->bi.rkey;
		s.compare_add = 7;
		if (page % 3 == 0)
			p->a.buf[s.off] = (uint8_t)page; /* the CPU was first, here */
		if (s.op == IBV_WR_SEND)
			CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 9,
								   .len = 8,
								   .off = s.raddr - p->bi.addr}),
				    0);
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		if (s.op == IBV_WR_SEND) {
			CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
			CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		}
		memcpy(&old, p->a.buf + s.off, 8);
		if (page % 4 == 3) {
			CHECK_INT(old, 0);
			CHECK_INT(side_get(&p->b, s.raddr - p->bi.addr), 7);
		} else {
			CHECK_INT(side_get(&p->b, s.raddr - p->bi.addr), old);
		}
	}
	pair_down(p);
}

/* ---- Atomics ---- */

static void atomic_one(struct pair *p, enum ibv_wr_opcode op, uint64_t before, uint64_t cmp_add,
		       uint64_t swap, uint64_t after)
{
	struct twr s = {.id = 77,
			.op = op,
			.flags = IBV_SEND_SIGNALED,
			.off = 256,
			.len = 8,
			.raddr = p->bi.addr + 4088,
			.rkey = p->bi.rkey,
			.compare_add = cmp_add,
			.swap = swap};
	struct ibv_wc wc;
	uint64_t old;

	side_put(&p->b, 4088, before);
	memset(p->a.buf + 248, GUARD, 24);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.opcode, op == IBV_WR_ATOMIC_CMP_AND_SWP ? IBV_WC_COMP_SWAP : IBV_WC_FETCH_ADD);
	CHECK_INT(wc.byte_len, 8);
	memcpy(&old, p->a.buf + 256, 8);
	CHECK_INT(old, before);
	CHECK_INT(side_get(&p->b, 4088), after);
	CHECK(p->a.buf[255] == GUARD && p->a.buf[264] == GUARD);
}

static void c_atomics(struct pair *p)
{
	int odp;

	for (odp = 0; odp < 2; odp++) {
		struct ep_conf c = conf_of(IBV_QPT_RC, 8192, odp);

		if (odp && !odp_ok(IBV_QPT_RC))
			break;
		REQUIRE(pair_up(p, &c, &c));
		atomic_one(p, IBV_WR_ATOMIC_FETCH_AND_ADD, 5, 7, 0, 12);
		atomic_one(p, IBV_WR_ATOMIC_FETCH_AND_ADD, UINT64_MAX, 1, 0, 0);
		atomic_one(p, IBV_WR_ATOMIC_FETCH_AND_ADD, 1, (uint64_t)-3, 0, (uint64_t)-2);
		atomic_one(p, IBV_WR_ATOMIC_CMP_AND_SWP, 9, 9, 0x1122334455667788,
			   0x1122334455667788);
		atomic_one(p, IBV_WR_ATOMIC_CMP_AND_SWP, 9, 8, 0x1122334455667788, 9);
		atomic_one(p, IBV_WR_ATOMIC_CMP_AND_SWP, UINT64_MAX, UINT64_MAX, 0, 0);
		pair_down(p);
	}
}

/* Both sides add to one word; nothing may get lost. */
static void c_atomic_contended(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 4096, false);
	int i, n = tdev()->rxe ? 104 : 1000, ours = 0, theirs = 0;
	struct twr sa = {.op = IBV_WR_ATOMIC_FETCH_AND_ADD,
			 .flags = IBV_SEND_SIGNALED,
			 .off = 8,
			 .len = 8,
			 .compare_add = 1},
		   sb;
	struct ibv_wc wc[16];

	REQUIRE(pair_up(p, &c, &c));
	sb = sa;
	sa.raddr = p->bi.addr;
	sa.rkey = p->bi.rkey;
	sb.raddr = p->ai.addr;
	sb.rkey = p->ai.rkey;
	side_put(&p->b, 0, 0);
	memset(p->a.buf, 0, 8);
	for (i = 0; i < n; i += 8) {
		int k;

		for (k = 0; k < 8; k++) {
			CHECK_ERRNO(ep_send(&p->a, &sa), 0);
			CHECK_ERRNO(side_send(&p->b, &sb), 0);
		}
		/* and the CPU of A adds to the word that B adds to */
		__atomic_fetch_add((uint64_t *)(void *)p->a.buf, 1000000, __ATOMIC_RELAXED);
		ours += ep_poll(p->a.scq, wc, 8, LONG_MS);
		theirs += side_poll(&p->b, SEND_CQ, wc, 8, LONG_MS);
	}
	CHECK_INT(ours, n);
	CHECK_INT(theirs, n);
	CHECK_INT(side_get(&p->b, 0), n);
	CHECK_INT(*(volatile uint64_t *)p->a.buf, n + (uint64_t)n / 8 * 1000000);
	pair_down(p);
}

/* ---- Completions ---- */

static void c_signaling(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 4096, false);
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .len = 8};
	struct ibv_wc wc[16];
	int all, i;

	for (all = 0; all < 2; all++) {
		c.sq_sig_all = all;
		t_note("sq_sig_all %d", all);
		REQUIRE(pair_up(p, &c, &c));
		s.raddr = p->bi.addr;
		s.rkey = p->bi.rkey;
		for (i = 0; i < 12; i++) {
			s.id = 100 + (uint64_t)i;
			s.flags = i % 3 == 2 ? IBV_SEND_SIGNALED : 0;
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
		}
		if (all) {
			REQUIRE(ep_poll(p->a.scq, wc, 12, LONG_MS) == 12);
			for (i = 0; i < 12; i++)
				CHECK_INT(wc[i].wr_id, 100 + i);
		} else {
			REQUIRE(ep_poll(p->a.scq, wc, 4, LONG_MS) == 4);
			for (i = 0; i < 4; i++)
				CHECK_INT(wc[i].wr_id, 102 + 3 * i);
		}
		CHECK_INT(ep_poll(p->a.scq, wc, 1, 5), 0);
		pair_down(p);
	}
}

/* An unsignalled request that fails is reported all the same. */
static void c_unsignaled_error(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 4096, false);
	struct twr s = {.id = 5, .op = IBV_WR_RDMA_WRITE, .len = 8};
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey ^ 0x5500;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_REM_ACCESS_ERR);
	CHECK_INT(wc.wr_id, 5);
	pair_down(p);
}

/* A mix of opcodes in one list completes in the order it was posted. */
static void c_order(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 64 << 10, false);
	struct twr s = {.flags = IBV_SEND_SIGNALED};
	struct ibv_wc wc[20];
	int i, recvs = 0;

	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < 20; i++)
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 500 + (uint64_t)i, .len = 8192}),
			    0);
	for (i = 0; i < 20; i++) {
		s.id = (uint64_t)i;
		s.op = (enum ibv_wr_opcode[]){IBV_WR_RDMA_READ, IBV_WR_SEND, IBV_WR_RDMA_WRITE,
					      IBV_WR_ATOMIC_FETCH_AND_ADD,
					      IBV_WR_RDMA_WRITE_WITH_IMM}[i % 5];
		s.len = i % 5 == 3 ? 8 : i % 5 == 0 ? 8192 : 100;
		s.off = 16384;
		s.flags = IBV_SEND_SIGNALED | (i % 4 ? 0 : IBV_SEND_FENCE);
		s.raddr = p->bi.addr + 32768;
		s.rkey = p->bi.rkey;
		recvs += i % 5 == 1 || i % 5 == 4;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
	}
	REQUIRE(ep_poll(p->a.scq, wc, 20, LONG_MS) == 20);
	for (i = 0; i < 20; i++) {
		CHECK_STATUS(wc[i].status, IBV_WC_SUCCESS);
		CHECK_INT(wc[i].wr_id, i);
	}
	REQUIRE(side_poll(&p->b, RECV_CQ, wc, recvs, LONG_MS) == recvs);
	for (i = 0; i < recvs; i++)
		CHECK_INT(wc[i].wr_id, 500 + i);
	pair_down(p);
}

/* A READ and, fenced behind it, a SEND of what it brought. */
static void c_fence(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 64 << 10, false);
	struct twr rd = {.id = 1, .op = IBV_WR_RDMA_READ, .len = 20000};
	struct twr sd = {.id = 2,
			 .op = IBV_WR_SEND,
			 .len = 20000,
			 .flags = IBV_SEND_SIGNALED | IBV_SEND_FENCE};
	struct ibv_wc wc;
	int i;

	REQUIRE(pair_up(p, &c, &c));
	rd.raddr = p->bi.addr + 30000;
	rd.rkey = p->bi.rkey;
	for (i = 0; i < 5; i++) {
		side_fill(&p->b, 30000, 20000, 900 + (uint64_t)i);
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.len = 20000}), 0);
		CHECK_ERRNO(ep_send(&p->a, &rd), 0);
		CHECK_ERRNO(ep_send(&p->a, &sd), 0);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
		CHECK_INT(side_sum(&p->b, 0, 20000), side_sum(&p->b, 30000, 20000));
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_INT(wc.wr_id, 2);
	}
	pair_down(p);
}

static void c_send_inv(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 4096, false);
	struct twr s = {.id = 5, .op = IBV_WR_SEND_WITH_INV, .len = 8, .flags = IBV_SEND_SIGNALED};
	struct ibv_wc wc;

	if (tdev()->rxe)
		return t_skip("rdma_rxe invalidates only what the kernel registered");
	REQUIRE(pair_up(p, &c, &c));
	s.imm = p->bi.rkey;
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 6, .len = 64}), 0);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.opcode, IBV_WC_SEND);
	REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.opcode, IBV_WC_RECV);
	CHECK(wc.wc_flags & IBV_WC_WITH_INV);
	CHECK_INT(wc.invalidated_rkey, p->bi.rkey);
	CHECK_INT(wc.byte_len, 8);
	/* and the key opens nothing any more */
	s = (struct twr){.id = 7,
			 .op = IBV_WR_RDMA_WRITE,
			 .len = 8,
			 .flags = IBV_SEND_SIGNALED,
			 .raddr = p->bi.addr,
			 .rkey = p->bi.rkey};
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_REM_ACCESS_ERR);
	pair_down(p);
}

/* When a WRITE's last byte is there, all of it is: programs spin on it. */
static void c_last_byte(struct pair *p)
{
	static const uint32_t lens[] = {2, 9, 64, 100, 4095, 4097, 65536, 300000};
	struct ep_conf c = conf_of(IBV_QPT_RC, 512 << 10, false);
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED};
	uint64_t sum;
	struct ibv_wc wc;
	size_t i;
	int k;

	REQUIRE(pair_up(p, &c, &c));
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		for (k = 1; k <= 10 && !t_failures(); k++) {
			t_note("%u bytes", lens[i]);
			side_fill(&p->b, 0, lens[i], 1);
			side_put(&p->b, (lens[i] - 1) & ~7ull, 0);
			fill_bytes(p->a.buf, lens[i], (uint64_t)k * 31 + i);
			p->a.buf[lens[i] - 1] = 0xfe;
			sum = sum_bytes(p->a.buf, lens[i]);
			side_spin_begin(&p->b, lens[i] - 1, 0xfe, LONG_MS);
			s.len = lens[i];
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
			CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
			CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
			CHECK_INT(side_spin_end(&p->b), sum);
		}
	}
	pair_down(p);
}

/* Memory that was unmapped and mapped again, at the same address most often: a new
 * region over it has nothing of the old one. */
static void c_mapped_again(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 65536, false);
	struct twr s = {.id = 1, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_mr *mr;
	struct ibv_wc wc;
	uint8_t *m;
	int i, odp;

	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < (tdev()->rxe ? 20 : 400) && !t_failures(); i++) {
		odp = i & 1 && odp_ok(IBV_QPT_RC);
		t_note("round %d, %s", i, odp ? "on demand" : "pinned");
		m = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		REQUIRE(m != MAP_FAILED);
		memset(m, i + 1, 65536);
		mr = ibv_reg_mr(p->a.pd, m, 65536, ALL_ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0));
		REQUIRE(mr);
		fill_bytes(m, 64, (uint64_t)i + 1);
		s.off = (uintptr_t)m - (uintptr_t)p->a.buf;
		s.lkey = mr->lkey;
		s.raddr = p->bi.addr;
		s.rkey = p->bi.rkey;
		s.op = IBV_WR_RDMA_WRITE;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(side_sum(&p->b, 0, 64), sum_bytes(m, 64));
		memset(m, 0, 64);
		s.op = IBV_WR_RDMA_READ;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_INT(side_sum(&p->b, 0, 64), sum_bytes(m, 64));
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		munmap(m, 65536);
	}
	pair_down(p);
}

/* A QP that is its own peer. */
static void c_self(struct pair *p)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, 16384, false);
	struct ep_info self;
	struct twr s = {.id = 1, .flags = IBV_SEND_SIGNALED, .len = 5000};
	struct ibv_wc wc;
	int k;

	REQUIRE(ep_open(&p->a, &c) == 0);
	ep_info(&p->a, &self);
	CHECK_ERRNO(ep_init(&p->a), 0);
	CHECK_ERRNO(ep_rtr(&p->a, &self), 0);
	CHECK_ERRNO(ep_rts(&p->a), 0);
	s.raddr = self.addr + 8192;
	s.rkey = self.rkey;
	for (k = 0; k < 5; k++) {
		s.op = rc_ops[k];
		fill_bytes(p->a.buf, 16384, (uint64_t)k + 1);
		if (op_receives(s.op))
			CHECK_ERRNO(
				ep_recv(&p->a, &(struct twr){.id = 2, .off = 8192, .len = 5000}),
				0);
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		if (op_receives(s.op)) {
			CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
			CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		}
		CHECK(!memcmp(p->a.buf, p->a.buf + 8192, 5000));
	}
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static const struct tcase cases[] = {
	{"RC sizes", c_rc_sizes, BOTH},
	{"RC sizes, on demand", c_rc_sizes_odp, BOTH},
	{"UC sizes", c_uc_sizes, BOTH},
	{"random", c_random, BOTH},
	{"random, on demand", c_random_odp, BOTH},
	{"as many SGEs as there are", c_max_sge, BOTH},
	{"large", c_large, BOTH},
	{"large, on demand", c_large_odp, BOTH},
	{"large, on demand, never touched", c_large_fresh, BOTH},
	{"large, pinned, never touched", c_large_fresh_pinned, BOTH},
	{"first touch by the device", c_fresh_each, BOTH},
	{"atomics", c_atomics, BOTH},
	{"contended atomics", c_atomic_contended, BOTH},
	{"signalled and not", c_signaling, BOTH},
	{"unsignalled error", c_unsignaled_error, BOTH},
	{"order of completions", c_order, BOTH},
	{"fence", c_fence, BOTH},
	{"send with invalidate", c_send_inv, BOTH},
	{"last byte last", c_last_byte, PEER},
	{"mapped again", c_mapped_again, BOTH},
	{"a QP that is its own peer", c_self, HERE},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
