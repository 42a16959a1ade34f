/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Regions that are not simply memory at its address: null and zero-based ones; and
 * ATOMIC WRITE, to memory of both kinds. */
#include "harness.h"

#define LEN 65536u

static int run(struct pair *p, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	struct ibv_wc wc = {0};

	wr->send_flags |= IBV_SEND_SIGNALED;
	CHECK_ERRNO(ibv_post_send(p->a.qp, wr, &bad), 0);
	return CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1) ? (int)wc.status : -1;
}

static int rdma(struct pair *p, enum ibv_wr_opcode op, struct ibv_sge sge, uint64_t raddr,
		uint32_t rkey)
{
	struct ibv_send_wr wr = {.opcode = op, .sg_list = &sge, .num_sge = 1};

	wr.wr.rdma.remote_addr = raddr;
	wr.wr.rdma.rkey = rkey;
	return run(p, &wr);
}

/* ---- null ---- */

static bool up_null(struct pair *p, struct ibv_mr **mr)
{
	struct ep_conf c = RC_CONF;

	if (!pair_up(p, &c, &c))
		return false;
	*mr = ibv_alloc_null_mr(p->a.pd);
	if (*mr)
		return CHECK((*mr)->pd == p->a.pd && (*mr)->context == p->a.ctx);
	CHECK_ERRNO(errno, EOPNOTSUPP);
	pair_down(p);
	t_skip("the device has no null MR");
	return false;
}

static void null_down(struct pair *p, struct ibv_mr *mr)
{
	CHECK_ERRNO(ibv_dealloc_pd(p->a.pd), EBUSY);
	CHECK_INT(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, 0),
		  IBV_REREG_MR_ERR_INPUT);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	pair_down(p);
}

/* Between two pieces of memory of one's own: the middle is not there. */
static void c_null_sge(struct pair *p)
{
	static const uint32_t lens[] = {1, 8, 4097, 20000};
	uint64_t any = 0x123456789abcull;
	struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE, .num_sge = 3};
	struct ibv_sge sge[3];
	struct ibv_mr *mr;

	if (!up_null(p, &mr))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
		t_note("length %u", lens[i]);
		fill_bytes(p->a.buf, LEN, 3);
		sge[0] = (struct ibv_sge){(uintptr_t)p->a.buf, 100, p->a.mr->lkey};
		sge[1] = (struct ibv_sge){any, lens[i], mr->lkey};
		sge[2] = (struct ibv_sge){(uintptr_t)p->a.buf + 100 + lens[i], 50, p->a.mr->lkey};
		wr.sg_list = sge;
		wr.opcode = IBV_WR_RDMA_WRITE;
		wr.wr.rdma.remote_addr = p->bi.addr;
		wr.wr.rdma.rkey = p->bi.rkey;
		side_fill(&p->b, 0, LEN, 9);
		CHECK_STATUS(run(p, &wr), IBV_WC_SUCCESS);
		memset(p->a.buf + 100, 0, lens[i]);
		CHECK_INT(side_sum(&p->b, 0, 150 + lens[i]), sum_bytes(p->a.buf, 150 + lens[i]));
		/* And back: what is read for it is lost. */
		side_fill(&p->b, 0, LEN, 10);
		wr.opcode = IBV_WR_RDMA_READ;
		CHECK_STATUS(run(p, &wr), IBV_WC_SUCCESS);
		CHECK_INT(side_sum(&p->b, 0, 100), sum_bytes(p->a.buf, 100));
		CHECK_INT(side_sum(&p->b, 100 + lens[i], 50),
			  sum_bytes(p->a.buf + 100 + lens[i], 50));
		for (uint32_t at = 0; at < lens[i]; at++)
			if (p->a.buf[100 + at] && !CHECK(!"the middle was written"))
				break;
	}
	null_down(p, mr);
}

static void c_null_recv(struct pair *p)
{
	struct ibv_recv_wr recv = {.wr_id = 4, .num_sge = 1}, *bad;
	struct ibv_sge sge;
	struct ibv_mr *mr;
	struct ibv_wc wc;

	if (!up_null(p, &mr))
		return;
	sge = (struct ibv_sge){0, 40000, mr->lkey};
	recv.sg_list = &sge;
	CHECK_ERRNO(ibv_post_recv(p->a.qp, &recv, &bad), 0);
	CHECK_ERRNO(side_send(&p->b, &(struct twr){.op = IBV_WR_SEND,
						   .flags = IBV_SEND_SIGNALED,
						   .len = 30000}),
		    0);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.byte_len, 30000);
	null_down(p, mr);
}

/* It is nothing for a peer. */
static void c_null_remote(struct pair *p)
{
	struct ibv_mr *mr;
	struct ibv_wc wc;

	if (!up_null(p, &mr))
		return;
	CHECK_ERRNO(side_send(&p->b, &(struct twr){.op = IBV_WR_RDMA_READ,
						   .flags = IBV_SEND_SIGNALED,
						   .len = 8,
						   .raddr = 4096,
						   .rkey = mr->lkey}),
		    0);
	CHECK_INT(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_REM_ACCESS_ERR);
	null_down(p, mr);
}

/* ---- zero-based ---- */

static void zero_based(struct pair *p, int access)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;
	uint8_t *at;

	REQUIRE(pair_up(p, &c, &c));
	at = p->b.ep.buf + 5000;
	mr = ibv_reg_mr(p->b.ep.pd, at, 9000, access | IBV_ACCESS_ZERO_BASED);
	REQUIRE(mr);
	CHECK(mr->addr == at && mr->length == 9000);
	fill_bytes(p->a.buf, 9000, 5);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE,
			  (struct ibv_sge){(uintptr_t)p->a.buf, 9000, p->a.mr->lkey}, 0, mr->rkey),
		     IBV_WC_SUCCESS);
	CHECK(!memcmp(at, p->a.buf, 9000));
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ,
			  (struct ibv_sge){(uintptr_t)p->a.buf + 20000, 16, p->a.mr->lkey}, 8984,
			  mr->rkey),
		     IBV_WC_SUCCESS);
	CHECK(!memcmp(at + 8984, p->a.buf + 20000, 16));
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ,
			  (struct ibv_sge){(uintptr_t)p->a.buf, 16, p->a.mr->lkey}, (uintptr_t)at,
			  mr->rkey),
		     IBV_WC_REM_ACCESS_ERR);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	errno = 0;
	CHECK(!ibv_reg_mr_iova(p->b.ep.pd, at, 9000, (uintptr_t)at + 4096,
			       access | IBV_ACCESS_ZERO_BASED));
	CHECK_ERRNO(errno, EINVAL);
	pair_down(p);
}

static void c_zero_based(struct pair *p)
{
	if (tdev()->rxe)
		return t_skip("the kernel's drivers do not know the flag");
	zero_based(p, ALL_ACCESS | IBV_ACCESS_RELAXED_ORDERING);
	zero_based(p, ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
}

/* ---- ATOMIC WRITE ---- */

static bool up_write(struct pair *p, bool odp, int mr_access, int qp_access)
{
	struct ep_conf c = RC_CONF;

	c.mr_access = mr_access;
	c.qp_access = qp_access;
	c.odp = odp;
	c.send_ops = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_ATOMIC_WRITE;
	return pair_up(p, &c, &c);
}

static void atomic_write(struct pair *p, bool odp)
{
	uint64_t value = 0x1122334455667788ull;
	struct ibv_qp_ex *qx;
	struct ibv_wc wc;

	if (!up_write(p, odp, ALL_ACCESS, REMOTE_ACCESS))
		return;
	t_note("odp %d", odp);
	memcpy(p->a.buf, &value, 8);
	CHECK_STATUS(rdma(p, IBV_WR_ATOMIC_WRITE,
			  (struct ibv_sge){(uintptr_t)p->a.buf, 8, p->a.mr->lkey}, p->bi.addr + 24,
			  p->bi.rkey),
		     IBV_WC_SUCCESS);
	CHECK_INT(side_get(&p->b, 24), value);
	value = ~value;
	qx = ibv_qp_to_qp_ex(p->a.qp);
	ibv_wr_start(qx);
	qx->wr_id = 8;
	qx->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_atomic_write(qx, p->bi.rkey, p->bi.addr + 4096, &value);
	CHECK_ERRNO(ibv_wr_complete(qx), 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.opcode, IBV_WC_ATOMIC_WRITE);
	CHECK_INT(wc.wr_id, 8);
	CHECK_INT(side_get(&p->b, 4096), value);
	pair_down(p);
}

static void write_fails(struct pair *p, int mr_access, int qp_access, uint32_t len, uint64_t off,
			int want)
{
	if (!up_write(p, false, mr_access, qp_access))
		return;
	t_note("MR %#x QP %#x length %u offset %d", (unsigned)mr_access, (unsigned)qp_access, len,
	       (int)off);
	CHECK_STATUS(rdma(p, IBV_WR_ATOMIC_WRITE,
			  (struct ibv_sge){(uintptr_t)p->a.buf, len, p->a.mr->lkey},
			  p->bi.addr + off, p->bi.rkey),
		     want);
	pair_down(p);
}

static void c_atomic_write(struct pair *p)
{
	if (tdev()->rxe)
		return t_skip("this test posts it in more ways than rdma_rxe's library takes");
	atomic_write(p, false);
	atomic_write(p, true);
	write_fails(p, ALL_ACCESS, REMOTE_ACCESS, 4, 0, IBV_WC_LOC_LEN_ERR);
	write_fails(p, ALL_ACCESS, REMOTE_ACCESS, 16, 0, IBV_WC_LOC_LEN_ERR);
	write_fails(p, ALL_ACCESS, REMOTE_ACCESS, 8, 4, IBV_WC_REM_INV_REQ_ERR);
	write_fails(p, ALL_ACCESS, REMOTE_ACCESS, 8, LEN, IBV_WC_REM_ACCESS_ERR);
	write_fails(p, ALL_ACCESS & ~IBV_ACCESS_REMOTE_WRITE, REMOTE_ACCESS, 8, 0,
		    IBV_WC_REM_ACCESS_ERR);
	write_fails(p, ALL_ACCESS, IBV_ACCESS_REMOTE_READ, 8, 0, IBV_WC_REM_INV_REQ_ERR);
}

static const struct tcase cases[] = {
	{"null_sge", c_null_sge, BOTH},         {"null_recv", c_null_recv, BOTH},
	{"null_remote", c_null_remote, PEER},   {"zero_based", c_zero_based, HERE},
	{"atomic_write", c_atomic_write, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
