/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* UD multicast: who is attached gets it, in whatever process, and nobody else. */
#include "harness.h"

#define MULTICAST_QPN 0xffffffu
#define GRH 40

enum what { ATTACH, DETACH };

/* 239.1.2.LAST, as RoCE v2 has it; ff0e::LAST */
static union ibv_gid group4(uint8_t last)
{
	return (union ibv_gid){.raw = {[10] = 0xff, [11] = 0xff, 239, 1, 2, last}};
}

static union ibv_gid group6(uint8_t last)
{
	return (union ibv_gid){.raw = {0xff, 0x0e, [15] = last}};
}

static void hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	union ibv_gid gid;

	memset(out, 0, sizeof(*out));
	memcpy(gid.raw, in->data, 16);
	out->v[0] = (uint64_t)(in->what == ATTACH ? ibv_attach_mcast(ep->qp, &gid, 0)
						  : ibv_detach_mcast(ep->qp, &gid, 0));
}

static int member(struct side *s, enum what what, const union ibv_gid *gid)
{
	struct hook_msg in = {.what = what}, out;

	memcpy(in.data, gid->raw, 16);
	side_hook(s, &in, &out);
	return (int)out.v[0];
}

static bool up(struct pair *p, bool odp)
{
	struct ep_conf conf = RC_CONF;

	if (!tdev()->attr.max_mcast_grp) {
		t_skip("the device has no multicast");
		return false;
	}
	conf.type = IBV_QPT_UD;
	conf.odp = odp;
	return pair_up(p, &conf, &conf);
}

/* A sends 64 bytes of SEED to GID. */
static void send_group(struct pair *p, const union ibv_gid *gid, uint32_t qkey, uint64_t seed)
{
	struct ibv_ah_attr av = {
		.is_global = 1,
		.port_num = PORT,
		.grh = {.dgid = *gid, .sgid_index = (uint8_t)tdev()->gid_index, .hop_limit = 1},
	};
	struct ibv_ah *ah = ibv_create_ah(p->a.pd, &av);
	struct ibv_sge sge = {.addr = (uintptr_t)p->a.buf, .length = 64, .lkey = p->a.mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				 .num_sge = 1,
				 .opcode = IBV_WR_SEND,
				 .send_flags = IBV_SEND_SIGNALED},
			   *bad;
	struct ibv_wc wc;

	REQUIRE(ah);
	wr.wr.ud.ah = ah;
	wr.wr.ud.remote_qpn = MULTICAST_QPN;
	wr.wr.ud.remote_qkey = qkey;
	fill_bytes(p->a.buf, 64, seed);
	CHECK_ERRNO(ibv_post_send(p->a.qp, &wr, &bad), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_ERRNO(ibv_destroy_ah(ah), 0);
}

static void post(struct side *s, uint64_t id)
{
	CHECK_ERRNO(side_recv(s, &(struct twr){.id = id, .off = 1024, .len = 256}), 0);
}

static void got(struct side *s, uint64_t id, uint32_t src, uint64_t seed)
{
	uint8_t want[64];
	struct ibv_wc wc;

	fill_bytes(want, 64, seed);
	CHECK_INT(side_poll(s, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, id);
	CHECK_INT(wc.byte_len, 64 + GRH);
	CHECK_INT(wc.src_qp, src);
	CHECK(wc.wc_flags & IBV_WC_GRH);
	CHECK_INT(side_sum(s, 1024 + GRH, 64), sum_bytes(want, 64));
}

static void got_none(struct side *s)
{
	struct ibv_wc wc;

	CHECK_INT(side_poll(s, RECV_CQ, &wc, 1, 20), 0);
}

static void data(struct pair *p, bool odp)
{
	union ibv_gid four = group4(3), six = group6(4), other = group4(5);
	struct ibv_wc wc;

	if (!up(p, odp))
		return;
	post(&p->b, 1);
	send_group(p, &four, QKEY, 10); /* nobody is in it */
	got_none(&p->b);
	CHECK_ERRNO(member(&p->b, ATTACH, &four), 0);
	CHECK_ERRNO(member(&p->b, ATTACH, &six), 0);
	send_group(p, &four, QKEY, 11);
	got(&p->b, 1, p->ai.qpn, 11);
	post(&p->b, 2);
	send_group(p, &other, QKEY, 12); /* another group */
	send_group(p, &four, QKEY + 1, 13);
	got_none(&p->b);
	send_group(p, &six, QKEY, 14);
	got(&p->b, 2, p->ai.qpn, 14);
	send_group(p, &four, QKEY, 15); /* no receive: dropped */
	/* The sender is a member too. */
	CHECK_ERRNO(ibv_attach_mcast(p->a.qp, &four, 0), 0);
	CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 3, .off = 2048, .len = 256}), 0);
	post(&p->b, 4);
	send_group(p, &four, QKEY, 16);
	got(&p->b, 4, p->ai.qpn, 16);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
	CHECK_INT(wc.wr_id, 3);
	CHECK_INT(sum_bytes(p->a.buf + 2048 + GRH, 64), sum_bytes(p->a.buf, 64));
	CHECK_ERRNO(ibv_detach_mcast(p->a.qp, &four, 0), 0);
	CHECK_ERRNO(member(&p->b, DETACH, &four), 0);
	post(&p->b, 5);
	send_group(p, &four, QKEY, 17);
	got_none(&p->b);
	CHECK_ERRNO(member(&p->b, DETACH, &six), 0);
	pair_down(p);
}

static void c_pinned(struct pair *p)
{
	data(p, false);
}

static void c_odp(struct pair *p)
{
	data(p, true);
}

static void c_errors(struct pair *p)
{
	union ibv_gid gid = group4(9), own = tdev()->gid;
	struct ibv_qp *rc;
	struct ibv_qp_init_attr attr = {.cap = {1, 1, 1, 1, 0}, .qp_type = IBV_QPT_RC};

	if (!up(p, false))
		return;
	CHECK_ERRNO(ibv_attach_mcast(p->a.qp, &own, 0), EINVAL);
	CHECK_ERRNO(ibv_detach_mcast(p->a.qp, &gid, 0), EINVAL);
	attr.send_cq = p->a.scq;
	attr.recv_cq = p->a.rcq;
	rc = ibv_create_qp(p->a.pd, &attr);
	REQUIRE(rc);
	CHECK_ERRNO(ibv_attach_mcast(rc, &gid, 0), EINVAL);
	CHECK_ERRNO(ibv_destroy_qp(rc), 0);
	CHECK_ERRNO(ibv_attach_mcast(p->a.qp, &gid, 0), 0);
	CHECK_ERRNO(ibv_attach_mcast(p->a.qp, &gid, 0), 0); /* twice is once */
	p->a.qp->handle++;
	CHECK_ERRNO(ibv_detach_mcast(p->a.qp, &gid, 0), ENOENT);
	p->a.qp->handle--;
	CHECK_ERRNO(ibv_destroy_qp(p->a.qp), EBUSY);
	CHECK_ERRNO(ibv_detach_mcast(p->a.qp, &gid, 0), 0);
	CHECK_ERRNO(ibv_detach_mcast(p->a.qp, &gid, 0), EINVAL);
	pair_down(p);
}

/* A member's process dies: the others go on. */
static void c_killed(struct pair *p)
{
	struct ep_conf conf = RC_CONF;
	union ibv_gid gid = group4(7);
	struct ep_info info;
	struct side c;

	if (!up(p, false))
		return;
	conf.type = IBV_QPT_UD;
	REQUIRE(side_spawned(&c));
	CHECK_ERRNO(side_open(&c, &conf, &info), 0);
	CHECK_ERRNO(side_connect(&c, &p->ai, IBV_QPS_RTS), 0);
	CHECK_ERRNO(member(&c, ATTACH, &gid), 0);
	CHECK_ERRNO(member(&p->b, ATTACH, &gid), 0);
	post(&c, 1);
	post(&p->b, 2);
	send_group(p, &gid, QKEY, 20);
	got(&c, 1, p->ai.qpn, 20);
	got(&p->b, 2, p->ai.qpn, 20);
	side_kill(&c, 9);
	post(&p->b, 3);
	send_group(p, &gid, QKEY, 21);
	got(&p->b, 3, p->ai.qpn, 21);
	CHECK_ERRNO(member(&p->b, DETACH, &gid), 0);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"pinned", c_pinned, BOTH},
		{"odp", c_odp, BOTH},
		{"errors", c_errors, HERE},
		{"killed", c_killed, PEER},
	};

	t_hook(hook);
	return t_main(argc, argv, 2, cases, ARRAY_SIZE(cases));
}
