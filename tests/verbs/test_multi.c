/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Many QPs over several processes, all to all at once, every message checked.
 * Each of PROCS processes has PER QPs to each (itself too): 64 altogether.
 */
#include <stdlib.h>

#include "harness.h"

#define PROCS 4
#define PER 4
#define QPS (PROCS * PER)
#define SLOT 16384u /* one a QP, in the receive half and in the send half */

enum { MANY_OPEN, MANY_CONNECT, MANY_RUN, MANY_CLOSE };

struct many_info {
	uint64_t addr;
	uint32_t rkey, psn;
	uint32_t qpn[QPS]; /* [peer * PER + k] */
};

static struct many {
	struct ep ep; /* context, PD, CQs and buffer; its QP is not used */
	struct ibv_qp *qp[QPS];
	struct many_info all[PROCS];
	unsigned int me;
} many;

static struct ep_conf many_conf(void)
{
	struct ep_conf c = RC_CONF;

	c.len = 2 * QPS * SLOT;
	c.cqe = 2048;
	c.timeout = 18;
	return c;
}

static int many_open(unsigned int me, struct many_info *info)
{
	struct ep_conf c = many_conf();
	struct ibv_qp_init_attr a = {.qp_type = IBV_QPT_RC};
	int i, err = ep_open(&many.ep, &c);

	if (err)
		return err;
	many.me = me;
	a.cap = many.ep.conf.cap;
	a.send_cq = many.ep.scq;
	a.recv_cq = many.ep.rcq;
	info->addr = (uintptr_t)many.ep.buf;
	info->rkey = many.ep.mr->rkey;
	info->psn = many.ep.psn;
	for (i = 0; i < QPS; i++) {
		many.qp[i] = ibv_create_qp(many.ep.pd, &a);
		if (!many.qp[i])
			return errno;
		info->qpn[i] = many.qp[i]->qp_num;
	}
	return 0;
}

/* My QP (peer, k) talks to the peer's QP (me, k); with itself, k to k ^ 1. */
static int partner(unsigned int me, int i)
{
	unsigned int peer = (unsigned int)i / PER, k = (unsigned int)i % PER;

	return peer == me ? (int)(me * PER + (k ^ 1)) : (int)(me * PER + k);
}

static int many_connect(void)
{
	struct ep one = many.ep;
	struct ep_info info;
	int i, err;

	for (i = 0; i < QPS; i++) {
		const struct many_info *to = &many.all[i / PER];

		one.qp = many.qp[i];
		memset(&info, 0, sizeof(info));
		info.qpn = to->qpn[partner(many.me, i)];
		info.psn = to->psn;
		info.gid = tdev()->gid;
		err = ep_init(&one);
		if (!err)
			err = ep_rtr(&one, &info);
		if (!err)
			err = ep_rts(&one);
		if (err)
			return err;
	}
	return 0;
}

static uint64_t seed_of(unsigned int from, int qp, int round)
{
	return 1 + from * 1000003u + (uint64_t)qp * 1009 + (uint64_t)round * 7;
}

static uint32_t len_of(unsigned int from, int qp, int round)
{
	return 1 + (uint32_t)((seed_of(from, qp, round) * 2654435761u) % SLOT);
}

static int round_post(int round)
{
	struct ep one = many.ep;
	struct twr r, s;
	int i, err;

	for (i = 0; i < QPS; i++) {
		one.qp = many.qp[i];
		r = (struct twr){.id = (uint64_t)i, .off = (uint64_t)i * SLOT, .len = SLOT};
		err = ep_recv(&one, &r);
		if (err)
			return err;
	}
	for (i = 0; i < QPS; i++) {
		int at = partner(many.me, i);
		const struct many_info *to = &many.all[i / PER];

		one.qp = many.qp[i];
		s = (struct twr){.id = (uint64_t)i,
				 .flags = IBV_SEND_SIGNALED,
				 .off = (uint64_t)(QPS + i) * SLOT,
				 .len = len_of(many.me, i, round),
				 .imm = (uint32_t)i};
		fill_bytes(many.ep.buf + s.off, s.len, seed_of(many.me, i, round));
		s.op = (i + round) & 1 ? IBV_WR_SEND_WITH_IMM : IBV_WR_RDMA_WRITE_WITH_IMM;
		s.raddr = to->addr + (uint64_t)at * SLOT;
		s.rkey = to->rkey;
		err = ep_send(&one, &s);
		if (err)
			return err;
	}
	return 0;
}

/* Everything has come, to the QP that it was meant for, and is what it was. */
static int round_check(int round)
{
	static uint8_t want[SLOT];
	struct ibv_wc wc;
	int n, i, bad = 0;

	for (n = 0; n < QPS; n++) {
		unsigned int from;
		int their;

		if (ep_poll(many.ep.rcq, &wc, 1, LONG_MS) != 1 || wc.status != IBV_WC_SUCCESS)
			return -1;
		i = (int)wc.wr_id;
		from = (unsigned int)i / PER;
		their = partner(many.me, i);
		bad += wc.qp_num != many.qp[i]->qp_num;
		bad += wc.byte_len != len_of(from, their, round);
		bad += be32toh(wc.imm_data) != (uint32_t)their;
		fill_bytes(want, wc.byte_len, seed_of(from, their, round));
		bad += memcmp(want, many.ep.buf + (size_t)i * SLOT, wc.byte_len) != 0;
	}
	for (n = 0; n < QPS; n++)
		if (ep_poll(many.ep.scq, &wc, 1, LONG_MS) != 1 || wc.status != IBV_WC_SUCCESS)
			return -2;
	return bad;
}

static int many_close(void)
{
	int i, err = 0;

	for (i = 0; i < QPS; i++)
		if (many.qp[i] && ibv_destroy_qp(many.qp[i]))
			err = EBUSY;
	memset(many.qp, 0, sizeof(many.qp));
	return err ? err : ep_close(&many.ep);
}

static void many_do(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	(void)ep;
	memset(out, 0, sizeof(*out));
	switch (in->what) {
	case MANY_OPEN:
		out->n = (uint32_t)many_open(in->n, (struct many_info *)(void *)out->data);
		break;
	case MANY_CONNECT:
		memcpy(many.all, in->data, sizeof(many.all));
		out->n = (uint32_t)many_connect();
		break;
	case MANY_RUN:
		out->n = in->v[0] ? (uint32_t)round_check((int)in->n)
				  : (uint32_t)round_post((int)in->n);
		break;
	case MANY_CLOSE:
		out->n = (uint32_t)many_close();
	}
}

/* The same command in all processes at once; the sum of what they say. */
static int everywhere(struct side *s, const struct hook_msg *in)
{
	struct hook_msg out;
	int i, sum;

	for (i = 1; i < PROCS; i++)
		side_hook_begin(&s[i], in);
	many_do(NULL, in, &out);
	sum = (int)out.n;
	for (i = 1; i < PROCS; i++) {
		side_hook_end(&s[i], &out);
		sum |= (int)out.n;
	}
	return sum;
}

static void c_all_to_all(struct pair *p)
{
	static struct hook_msg in, out;
	struct many_info all[PROCS];
	struct side s[PROCS];
	int i, round;

	(void)p;
	for (i = 0; i < PROCS; i++) {
		in.what = MANY_OPEN;
		in.n = (uint32_t)i;
		if (i == 0) {
			many_do(NULL, &in, &out);
		} else {
			REQUIRE(side_spawned(&s[i]));
			side_hook(&s[i], &in, &out);
		}
		REQUIRE(out.n == 0);
		memcpy(&all[i], out.data, sizeof(all[i]));
	}
	in.what = MANY_CONNECT;
	memcpy(in.data, all, sizeof(all));
	CHECK_INT(everywhere(s, &in), 0);
	for (round = 0; round < (tdev()->rxe ? 4 : 20) && !t_failures(); round++) {
		t_note("round %d", round);
		in.what = MANY_RUN;
		in.n = (uint32_t)round;
		in.v[0] = 0;
		CHECK_INT(everywhere(s, &in), 0);
		in.v[0] = 1;
		CHECK_INT(everywhere(s, &in), 0);
	}
	in.what = MANY_CLOSE;
	CHECK_INT(everywhere(s, &in), 0);
	for (i = 1; i < PROCS; i++)
		side_reap(&s[i]);
}

/* Many QPs and regions in one process, made and destroyed in turns. */
static void c_churn(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 100};
	struct ibv_wc wc;
	int i;

	for (i = 0; i < (tdev()->rxe ? 10 : 60) && !t_failures(); i++) {
		c.odp = i & 1 && !tdev()->rxe;
		REQUIRE(pair_up(p, &c, &c));
		fill_bytes(p->a.buf, 100, (uint64_t)i + 1);
		s.raddr = p->bi.addr + 4050;
		s.rkey = p->bi.rkey;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(side_sum(&p->b, 4050, 100), sum_bytes(p->a.buf, 100));
		pair_down(p);
	}
}

static const struct tcase cases[] = {
	{"all to all", c_all_to_all, HERE},
	{"churn", c_churn, BOTH},
};

int main(int argc, char **argv)
{
	t_hook(many_do);
	return t_main(argc, argv, PROCS, cases, ARRAY_SIZE(cases));
}
