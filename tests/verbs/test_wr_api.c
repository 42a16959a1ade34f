/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The ibv_wr_* way of posting: every builder, lists, inline data, abort, errors. */
#include <string.h>

#include "harness.h"

#define RC_OPS                                                                                     \
	(IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_SEND |    \
	 IBV_QP_EX_WITH_SEND_WITH_IMM | IBV_QP_EX_WITH_RDMA_READ |                                 \
	 IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD)
#define UC_OPS                                                                                     \
	(IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_SEND |    \
	 IBV_QP_EX_WITH_SEND_WITH_IMM)
#define UD_OPS (IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM)

static bool up(struct pair *p, enum ibv_qp_type type, uint64_t ops, struct ibv_qp_ex **qx)
{
	struct ep_conf ca = RC_CONF, cb = RC_CONF;

	ca.type = cb.type = type;
	ca.send_ops = ops;
	if (!pair_up(p, &ca, &cb))
		return false;
	*qx = ibv_qp_to_qp_ex(p->a.qp);
	return CHECK(*qx != NULL);
}

static void wait_ok(struct pair *p, uint64_t id, enum ibv_wc_opcode op)
{
	struct ibv_wc wc;

	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, id);
	CHECK_INT(wc.opcode, op);
	CHECK_INT(wc.qp_num, p->ai.qpn);
}

static void begin(struct ibv_qp_ex *qx, uint64_t id)
{
	ibv_wr_start(qx);
	qx->wr_id = id;
	qx->wr_flags = IBV_SEND_SIGNALED;
}

/* rxe's library wants the flag that ibv_wr_set_inline_data stands for. */
static void begin_inline(struct ibv_qp_ex *qx, uint64_t id)
{
	begin(qx, id);
	if (tdev()->rxe)
		qx->wr_flags |= IBV_SEND_INLINE;
}

static void expect_recv(struct pair *p, uint64_t id, enum ibv_wc_opcode op, uint32_t len, bool imm,
			uint32_t imm_val)
{
	struct ibv_wc wc;

	REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, id);
	CHECK_INT(wc.opcode, op);
	CHECK_INT(wc.byte_len, len);
	CHECK_INT(!!(wc.wc_flags & IBV_WC_WITH_IMM), imm);
	if (imm)
		CHECK_INT(be32toh(wc.imm_data), imm_val);
}

static void recv_one(struct pair *p, uint64_t id)
{
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = id, .off = 4096, .len = 4096}), 0);
}

static void c_rc(struct pair *p)
{
	struct ibv_qp_ex *qx;
	uint32_t lkey;
	uint64_t buf, old;

	if (!up(p, IBV_QPT_RC, RC_OPS, &qx))
		return;
	lkey = p->a.mr->lkey;
	buf = (uintptr_t)p->a.buf;
	fill_bytes(p->a.buf, 1000, 1);

	begin(qx, 1);
	ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr + 5);
	ibv_wr_set_sge(qx, lkey, buf, 1000);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 1, IBV_WC_RDMA_WRITE);
	CHECK_INT(side_sum(&p->b, 5, 1000), sum_bytes(p->a.buf, 1000));

	side_fill(&p->b, 100, 500, 9);
	begin(qx, 2);
	ibv_wr_rdma_read(qx, p->bi.rkey, p->bi.addr + 100);
	ibv_wr_set_sge(qx, lkey, buf, 500);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 2, IBV_WC_RDMA_READ);
	CHECK_INT(side_sum(&p->b, 100, 500), sum_bytes(p->a.buf, 500));

	recv_one(p, 60);
	begin(qx, 3);
	ibv_wr_send(qx);
	ibv_wr_set_sge(qx, lkey, buf, 77);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 3, IBV_WC_SEND);
	expect_recv(p, 60, IBV_WC_RECV, 77, false, 0);
	CHECK_INT(side_sum(&p->b, 4096, 77), sum_bytes(p->a.buf, 77));

	recv_one(p, 61);
	begin(qx, 4);
	ibv_wr_send_imm(qx, htobe32(0x55aa1234));
	ibv_wr_set_sge(qx, lkey, buf, 78);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 4, IBV_WC_SEND);
	expect_recv(p, 61, IBV_WC_RECV, 78, true, 0x55aa1234);

	recv_one(p, 62);
	begin(qx, 5);
	ibv_wr_rdma_write_imm(qx, p->bi.rkey, p->bi.addr + 9000, htobe32(0xabcd));
	ibv_wr_set_sge(qx, lkey, buf, 300);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 5, IBV_WC_RDMA_WRITE);
	expect_recv(p, 62, IBV_WC_RECV_RDMA_WITH_IMM, 300, true, 0xabcd);
	CHECK_INT(side_sum(&p->b, 9000, 300), sum_bytes(p->a.buf, 300));

	side_put(&p->b, 16, 40);
	begin(qx, 6);
	ibv_wr_atomic_fetch_add(qx, p->bi.rkey, p->bi.addr + 16, 2);
	ibv_wr_set_sge(qx, lkey, buf, 8);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 6, IBV_WC_FETCH_ADD);
	memcpy(&old, p->a.buf, 8);
	CHECK_INT(old, 40);
	CHECK_INT(side_get(&p->b, 16), 42);

	begin(qx, 7);
	ibv_wr_atomic_cmp_swp(qx, p->bi.rkey, p->bi.addr + 16, 42, 1234567);
	ibv_wr_set_sge(qx, lkey, buf, 8);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 7, IBV_WC_COMP_SWAP);
	memcpy(&old, p->a.buf, 8);
	CHECK_INT(old, 42);
	CHECK_INT(side_get(&p->b, 16), 1234567);
	pair_down(p);
}

static void c_send_inv(struct pair *p)
{
	struct ibv_qp_ex *qx;
	struct ibv_wc wc;

	if (tdev()->rxe)
		return t_skip("rdma_rxe invalidates only what the kernel registered");
	if (!up(p, IBV_QPT_RC, RC_OPS | IBV_QP_EX_WITH_SEND_WITH_INV, &qx))
		return;
	recv_one(p, 63);
	begin(qx, 8);
	ibv_wr_send_inv(qx, p->bi.rkey);
	ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 10);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 8, IBV_WC_SEND);
	REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK(wc.wc_flags & IBV_WC_WITH_INV);
	CHECK_INT(wc.invalidated_rkey, p->bi.rkey);
	pair_down(p);
}

static void c_uc(struct pair *p)
{
	struct ibv_qp_ex *qx;

	if (!up(p, IBV_QPT_UC, UC_OPS, &qx))
		return;
	fill_bytes(p->a.buf, 1000, 1);
	recv_one(p, 60);
	begin(qx, 3);
	ibv_wr_rdma_write_imm(qx, p->bi.rkey, p->bi.addr, htobe32(77));
	ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 1000);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 3, IBV_WC_RDMA_WRITE);
	expect_recv(p, 60, IBV_WC_RECV_RDMA_WITH_IMM, 1000, true, 77);
	CHECK_INT(side_sum(&p->b, 0, 1000), sum_bytes(p->a.buf, 1000));
	pair_down(p);
}

static void c_ud(struct pair *p)
{
	struct ibv_qp_ex *qx;

	if (!up(p, IBV_QPT_UD, UD_OPS, &qx))
		return;
	fill_bytes(p->a.buf, 500, 1);
	recv_one(p, 60);
	begin(qx, 3);
	ibv_wr_send_imm(qx, htobe32(99));
	ibv_wr_set_ud_addr(qx, p->a.ah, p->bi.qpn, QKEY);
	ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 500);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 3, IBV_WC_SEND);
	expect_recv(p, 60, IBV_WC_RECV, 540, true, 99);
	CHECK_INT(side_sum(&p->b, 4096 + 40, 500), sum_bytes(p->a.buf, 500));
	pair_down(p);
}

/* Several requests in one critical region; flags and ids each their own. */
static void c_batch(struct pair *p)
{
	struct ibv_sge sge[4];
	struct ibv_qp_ex *qx;
	int i;

	if (tdev()->rxe)
		return t_skip("rdma_rxe's library counts only the first SGE of a list");
	if (!up(p, IBV_QPT_RC, RC_OPS, &qx))
		return;
	fill_bytes(p->a.buf, 8000, 2);
	ibv_wr_start(qx);
	for (i = 0; i < 8; i++) {
		qx->wr_id = 100 + (uint64_t)i;
		qx->wr_flags = i & 1 ? IBV_SEND_SIGNALED : 0;
		ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr + (uint64_t)i * 1000);
		sge[0] = (struct ibv_sge){(uintptr_t)p->a.buf + i * 1000u, 1, p->a.mr->lkey};
		sge[1] = (struct ibv_sge){sge[0].addr + 1, 0, p->a.mr->lkey};
		sge[2] = (struct ibv_sge){sge[0].addr + 1, 599, p->a.mr->lkey};
		sge[3] = (struct ibv_sge){sge[0].addr + 600, 400, p->a.mr->lkey};
		ibv_wr_set_sge_list(qx, 4, sge);
	}
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	for (i = 1; i < 8; i += 2)
		wait_ok(p, 100 + (uint64_t)i, IBV_WC_RDMA_WRITE);
	CHECK_INT(side_sum(&p->b, 0, 8000), sum_bytes(p->a.buf, 8000));
	pair_down(p);
}

static void c_inline(struct pair *p)
{
	char text[] = "the quick brown fox jumps over the lazy dog";
	struct ibv_data_buf bufs[3];
	struct ibv_qp_ex *qx;
	uint64_t sum;

	if (!up(p, IBV_QPT_RC, RC_OPS, &qx))
		return;
	sum = sum_bytes(text, sizeof(text));
	begin_inline(qx, 1);
	ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr + 7);
	ibv_wr_set_inline_data(qx, text, sizeof(text));
	memset(text, 0, sizeof(text)); /* it has been copied */
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 1, IBV_WC_RDMA_WRITE);
	CHECK_INT(side_sum(&p->b, 7, sizeof(text)), sum);

	if (tdev()->rxe) /* its library forgets the length of a list */
		return pair_down(p);
	fill_bytes(text, sizeof(text), 4);
	sum = sum_bytes(text, 43);
	bufs[0] = (struct ibv_data_buf){text, 10};
	bufs[1] = (struct ibv_data_buf){text + 10, 0};
	bufs[2] = (struct ibv_data_buf){text + 10, 33};
	recv_one(p, 60);
	begin_inline(qx, 2);
	ibv_wr_send(qx);
	ibv_wr_set_inline_data_list(qx, 3, bufs);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 2, IBV_WC_SEND);
	expect_recv(p, 60, IBV_WC_RECV, 43, false, 0);
	CHECK_INT(side_sum(&p->b, 4096, 43), sum);
	pair_down(p);
}

static void c_abort(struct pair *p)
{
	struct ibv_qp_ex *qx;
	struct ibv_wc wc;
	int i;

	if (!up(p, IBV_QPT_RC, RC_OPS, &qx))
		return;
	side_fill(&p->b, 0, 64, 3);
	memset(p->a.buf, 0x77, 64);
	for (i = 0; i < 100; i++) { /* takes no room in the queue either */
		begin(qx, 9);
		ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr);
		ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 64);
		ibv_wr_abort(qx);
	}
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 10), 0);
	CHECK(side_sum(&p->b, 0, 64) != sum_bytes(p->a.buf, 64));
	begin(qx, 10);
	ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr);
	ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 64);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 10, IBV_WC_RDMA_WRITE);
	CHECK_INT(side_sum(&p->b, 0, 64), sum_bytes(p->a.buf, 64));
	pair_down(p);
}

/* More than the queue takes: ibv_wr_complete says ENOMEM, and nothing was posted. */
static void c_too_many(struct pair *p)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	struct ibv_qp_ex *qx;
	struct ibv_wc wc;
	uint32_t i;

	if (!up(p, IBV_QPT_RC, RC_OPS, &qx))
		return;
	REQUIRE(ibv_query_qp(p->a.qp, &attr, IBV_QP_CAP, &init) == 0);
	ibv_wr_start(qx);
	for (i = 0; i < init.cap.max_send_wr + 1; i++) {
		qx->wr_id = i;
		qx->wr_flags = IBV_SEND_SIGNALED;
		ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr);
		ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 8);
	}
	CHECK_ERRNO(ibv_wr_complete(qx), tdev()->rxe ? ENOSPC : ENOMEM);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 10), 0);
	begin(qx, 500);
	ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr);
	ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 8);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 500, IBV_WC_RDMA_WRITE);
	pair_down(p);
}

static void c_too_long(struct pair *p)
{
	static uint8_t data[1 << 16];
	struct ibv_sge sge[64];
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	struct ibv_qp_ex *qx;
	int i;

	if (!up(p, IBV_QPT_RC, RC_OPS, &qx))
		return;
	REQUIRE(ibv_query_qp(p->a.qp, &attr, IBV_QP_CAP, &init) == 0);
	begin(qx, 1);
	ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr);
	ibv_wr_set_inline_data(qx, data, init.cap.max_inline_data + 1);
	CHECK(ibv_wr_complete(qx) != 0);
	for (i = 0; i < 64; i++)
		sge[i] = (struct ibv_sge){(uintptr_t)p->a.buf, 1, p->a.mr->lkey};
	if (init.cap.max_send_sge < 64) {
		begin(qx, 2);
		ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr);
		ibv_wr_set_sge_list(qx, init.cap.max_send_sge + 1, sge);
		CHECK(ibv_wr_complete(qx) != 0);
	}
	begin(qx, 3);
	ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr);
	ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 8);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	wait_ok(p, 3, IBV_WC_RDMA_WRITE);
	pair_down(p);
}

/* Operations that the transport has not are refused when the QP is made. */
static void c_bad_ops(struct pair *p)
{
	static const struct {
		enum ibv_qp_type type;
		uint64_t ops;
	} bad[] = {
		{IBV_QPT_UD, IBV_QP_EX_WITH_RDMA_WRITE},
		{IBV_QPT_UC, IBV_QP_EX_WITH_RDMA_READ},
		{IBV_QPT_UC, IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD},
		{IBV_QPT_RC, IBV_QP_EX_WITH_TSO},
		{IBV_QPT_RC, 1ull << 40},
	};
	struct ep_conf c = RC_CONF;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		t_note("variant %zu", i);
		c.type = bad[i].type;
		c.send_ops = bad[i].ops;
		CHECK_ERRNO(ep_open(&p->a, &c), EOPNOTSUPP);
		CHECK_ERRNO(ep_close(&p->a), 0);
	}
}

/* Both ways of posting on one QP. */
static void c_mixed(struct pair *p)
{
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_qp_ex *qx;
	uint64_t i;

	if (!up(p, IBV_QPT_RC, RC_OPS, &qx))
		return;
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (i = 0; i < 100; i += 2) {
		s.id = i;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		begin(qx, i + 1);
		ibv_wr_rdma_write(qx, p->bi.rkey, p->bi.addr);
		ibv_wr_set_sge(qx, p->a.mr->lkey, (uintptr_t)p->a.buf, 8);
		CHECK_ERRNO(ibv_wr_complete(qx), 0);
		wait_ok(p, i, IBV_WC_RDMA_WRITE);
		wait_ok(p, i + 1, IBV_WC_RDMA_WRITE);
	}
	pair_down(p);
}

static const struct tcase cases[] = {
	{"RC builders", c_rc, BOTH},
	{"send with invalidate", c_send_inv, BOTH},
	{"UC builder", c_uc, BOTH},
	{"UD builder", c_ud, BOTH},
	{"batch", c_batch, BOTH},
	{"inline data", c_inline, BOTH},
	{"abort", c_abort, BOTH},
	{"more than the queue takes", c_too_many, HERE},
	{"too long", c_too_long, HERE},
	{"operations not supported", c_bad_ops, HERE},
	{"mixed with ibv_post_send", c_mixed, HERE},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
