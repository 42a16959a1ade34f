/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Datagrams: the GRH, keys, replies by ibv_create_ah_from_wc, who may send what. */
#include "harness.h"

#define GRH 40u

static struct ep_conf ud_conf(void)
{
	struct ep_conf c = RC_CONF;

	c.type = IBV_QPT_UD;
	return c;
}

static bool is_ipv4(const union ibv_gid *gid)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return !memcmp(gid->raw, mapped, sizeof(mapped));
}

static uint32_t mtu_bytes(void)
{
	return 128u << tdev()->port.active_mtu;
}

static void c_sizes(struct pair *p)
{
	uint32_t lens[] = {0, 1, 3, 64, 1000, mtu_bytes() - 1, mtu_bytes()};
	struct twr s = {.flags = IBV_SEND_SIGNALED}, r;
	struct ep_conf c = ud_conf();
	struct ibv_wc wc;
	size_t i;
	int imm;

	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		for (imm = 0; imm < 2 && !t_failures(); imm++) {
			t_note("%u bytes, immediate %d", lens[i], imm);
			s.id = 10 + i;
			s.op = imm ? IBV_WR_SEND_WITH_IMM : IBV_WR_SEND;
			s.imm = 0x10000001 * (uint32_t)i;
			s.len = lens[i];
			s.off = 3;
			r = (struct twr){.id = 90 + i, .off = 8192, .len = GRH + lens[i]};
			fill_bytes(p->a.buf, 8192, i + 1);
			CHECK_ERRNO(side_recv(&p->b, &r), 0);
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
			CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
			CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
			CHECK_INT(wc.opcode, IBV_WC_SEND);
			REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
			CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
			CHECK_INT(wc.opcode, IBV_WC_RECV);
			CHECK_INT(wc.wr_id, 90 + i);
			CHECK_INT(wc.byte_len, GRH + lens[i]);
			CHECK_INT(wc.qp_num, p->bi.qpn);
			CHECK_INT(wc.src_qp, p->ai.qpn);
			CHECK(wc.wc_flags & IBV_WC_GRH);
			CHECK_INT(!!(wc.wc_flags & IBV_WC_WITH_IMM), imm);
			if (imm)
				CHECK_INT(be32toh(wc.imm_data), s.imm);
			CHECK_INT(side_sum(&p->b, 8192 + GRH, lens[i]),
				  sum_bytes(p->a.buf + 3, lens[i]));
		}
	}
	pair_down(p);
}

/* Which header came before the payload, told as mlx5 and hns do: UCX drops others. */
static void c_header_kind(struct pair *p)
{
	struct ibv_ah_attr av = {.is_global = 1, .port_num = PORT, .grh.hop_limit = 64};
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ep_conf c = ud_conf();
	int i, kinds = 0;
	struct ibv_wc wc;

	if (tdev()->rxe)
		return t_skip("rdma_rxe has 0 there");
	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < tdev()->port.gid_tbl_len && i < 2; i++) {
		REQUIRE(ibv_query_gid(p->a.ctx, PORT, i, &av.grh.dgid) == 0);
		av.grh.sgid_index = (uint8_t)i;
		CHECK_ERRNO(ibv_destroy_ah(p->a.ah), 0);
		p->a.ah = ibv_create_ah(p->a.pd, &av);
		REQUIRE(p->a.ah);
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 2, .len = 200}), 0);
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
		CHECK_INT(wc.sl, is_ipv4(&av.grh.dgid) ? 2 : 1);
		kinds |= wc.sl;
	}
	CHECK_INT(kinds, 3);
	pair_down(p);
}

/* One byte more than the MTU: not sent, and not an error either (IBTA C10-93.1.1). */
static void c_over_mtu(struct pair *p)
{
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED};
	struct ep_conf c = ud_conf();
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 2, .len = 16384}), 0);
	s.len = mtu_bytes() + 1;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, 20), 0);
	s.len--;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, 2);
	pair_down(p);
}

/* B answers to whom it heard of, from the receive's GRH and completion alone. */
static void c_reply(struct pair *p)
{
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 100};
	struct ep_conf c = ud_conf();
	struct ibv_ah *ah;
	struct ibv_wc wc;
	struct ep *a = &p->a;

	REQUIRE(pair_up(p, &c, &c));
	/* B sends; A, which has the buffer at hand, builds the address */
	CHECK_ERRNO(ep_recv(a, &(struct twr){.id = 4, .len = 200}), 0);
	memset(a->buf, 0xaa, 200);
	CHECK_ERRNO(side_send(&p->b, &s), 0);
	REQUIRE(ep_poll(a->rcq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	ah = ibv_create_ah_from_wc(a->pd, &wc, (struct ibv_grh *)(void *)a->buf, PORT);
	if (!CHECK(ah != NULL))
		return;
	CHECK_ERRNO(ibv_destroy_ah(a->ah), 0);
	a->ah = ah; /* from now on A sends with it */
	fill_bytes(a->buf + 300, 100, 5);
	s.off = 300;
	s.qpn = wc.src_qp;
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 8, .len = 200}), 0);
	CHECK_ERRNO(ep_send(a, &s), 0);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.src_qp, p->ai.qpn);
	CHECK_INT(side_sum(&p->b, GRH, 100), sum_bytes(a->buf + 300, 100));
	CHECK_INT(ep_poll(a->scq, &wc, 1, LONG_MS), 1);
	pair_down(p);
}

/* Wrong Q_Key, unknown QP number: lost without a word; the next one arrives. */
static void c_lost(struct pair *p)
{
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ep_conf c = ud_conf();
	struct ibv_wc wc;
	int i;

	REQUIRE(pair_up(p, &c, &c));
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 4, .len = 200}), 0);
	for (i = 0; i < 3; i++) {
		s.qkey = i == 0 ? QKEY + 1 : QKEY;
		s.qpn = i == 1 ? 0xfffff0 : p->bi.qpn;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, i == 2 ? LONG_MS : 20), i == 2);
	}
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, 4);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
	CHECK_INT(side_state(&p->b), IBV_QPS_RTS);
	pair_down(p);
}

/* A Q_Key with the top bit set asks for the sender's own. */
static void c_own_qkey(struct pair *p)
{
	struct twr s = {.id = 1,
			.op = IBV_WR_SEND,
			.flags = IBV_SEND_SIGNALED,
			.len = 64,
			.qkey = 0x80000000u};
	struct ep_conf c = ud_conf();
	struct ibv_wc wc;

	if (tdev()->rxe)
		return t_skip("rdma_rxe sends the Q_Key as it is");
	REQUIRE(pair_up(p, &c, &c));
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 4, .len = 200}), 0);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	pair_down(p);
}

/* Opcodes that the transport does not have. */
static void c_opcodes(struct pair *p)
{
	static const enum ibv_wr_opcode ud_bad[] = {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ,
						    IBV_WR_ATOMIC_FETCH_AND_ADD,
						    IBV_WR_RDMA_WRITE_WITH_IMM};
	static const enum ibv_wr_opcode uc_bad[] = {IBV_WR_RDMA_READ, IBV_WR_ATOMIC_CMP_AND_SWP};
	struct twr s = {.id = 1, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ep_conf c = ud_conf();
	size_t i;

	if (tdev()->rxe)
		return t_skip("rdma_rxe's library posts any opcode");
	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < ARRAY_SIZE(ud_bad); i++) {
		s.op = ud_bad[i];
		CHECK_ERRNO(ep_send(&p->a, &s), EINVAL);
	}
	pair_down(p);
	c.type = IBV_QPT_UC;
	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < ARRAY_SIZE(uc_bad); i++) {
		s.op = uc_bad[i];
		s.raddr = p->bi.addr;
		s.rkey = p->bi.rkey;
		CHECK_ERRNO(ep_send(&p->a, &s), EINVAL);
	}
	pair_down(p);
}

/* The GRH goes where the SGEs say, also when it is cut in pieces. */
static void c_grh_sges(struct pair *p)
{
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 300};
	struct twr r = {.id = 2, .nsge = 3};
	struct ep_conf c = ud_conf();
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	fill_bytes(p->a.buf, 300, 3);
	r.sge[0] = (struct ibv_sge){.addr = 100, .length = 17};
	r.sge[1] = (struct ibv_sge){.addr = 4090, .length = 23 + 100};
	r.sge[2] = (struct ibv_sge){.addr = 8000, .length = 200};
	CHECK_ERRNO(side_recv(&p->b, &r), 0);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.byte_len, 340);
	CHECK_INT(side_sum(&p->b, 4090 + 23, 100), sum_bytes(p->a.buf, 100));
	CHECK_INT(side_sum(&p->b, 8000, 200), sum_bytes(p->a.buf + 100, 200));
	pair_down(p);
}

/* Datagrams into an SRQ, and what does not fit there. */
static void c_srq(struct pair *p)
{
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 100};
	struct ep_conf ca = ud_conf(), cb = ud_conf();
	struct ibv_wc wc;
	int i;

	cb.srq_wr = 8;
	REQUIRE(pair_up(p, &ca, &cb));
	fill_bytes(p->a.buf, 100, 4);
	for (i = 0; i < 6; i++) {
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 70 + (uint64_t)i, .len = 140}), 0);
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		REQUIRE(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(wc.wr_id, 70 + i);
		CHECK_INT(wc.byte_len, 140);
		CHECK_INT(wc.src_qp, p->ai.qpn);
		CHECK_INT(side_sum(&p->b, GRH, 100), sum_bytes(p->a.buf, 100));
	}
	pair_down(p);
}

static const struct tcase cases[] = {
	{"sizes and fields", c_sizes, BOTH},
	{"kind of header", c_header_kind, BOTH},
	{"over the MTU", c_over_mtu, BOTH},
	{"reply by the GRH", c_reply, BOTH},
	{"wrong Q_Key or QP number", c_lost, BOTH},
	{"the sender's own Q_Key", c_own_qkey, BOTH},
	{"opcodes that are not there", c_opcodes, HERE},
	{"into an SRQ", c_srq, BOTH},
	{"GRH over several SGEs", c_grh_sges, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
