/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Peers that die, stop or leave in the middle of a transfer: the survivor gets
 * its error in bounded time, and a new pair runs at once afterwards.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "harness.h"

#define BIG (16u << 20) /* more than a post carries out before it returns */
#define N_BIG 6

/* The peer sends to us for ever: v[0] remote address, v[1] rkey, v[2] opcode,
 * v[3] length. */
static void stream(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	struct twr s = {.op = (enum ibv_wr_opcode)in->v[2],
			.flags = IBV_SEND_SIGNALED,
			.len = (uint32_t)in->v[3],
			.raddr = in->v[0],
			.rkey = (uint32_t)in->v[1]};
	struct ibv_wc wc[8];
	uint64_t posted = 0, done = 0;

	memset(out, 0, sizeof(*out));
	for (;;) {
		if (posted - done < 8 && !ep_send(ep, &s))
			posted++;
		done += (uint64_t)ep_poll(ep->scq, wc, 8, 0);
	}
}

static struct ep_conf kill_conf(uint32_t len)
{
	struct ep_conf c = RC_CONF;

	c.len = len;
	c.timeout = 14;
	c.retry_cnt = 2;
	return c;
}

/* Pair A with a peer process of its own. */
static bool up_victim(struct pair *p, const struct ep_conf *ca, const struct ep_conf *cb)
{
	if (!side_spawned(&p->b)) {
		CHECK(!"a peer process is left");
		return false;
	}
	return pair_up(p, ca, cb);
}

/* All N requests end; the first that fails with RETRY_EXC, the rest are flushed. One
 * does fail: some were posted when the peer had been reaped. */
static void check_ends(struct pair *p, int n, uint64_t start)
{
	struct ibv_wc wc[MAX_WC];
	int i = 0;

	REQUIRE(ep_poll(p->a.scq, wc, n, LONG_MS) == n);
	while (i < n && wc[i].status == IBV_WC_SUCCESS)
		i++;
	REQUIRE(i < n);
	CHECK_STATUS(wc[i].status, IBV_WC_RETRY_EXC_ERR);
	CHECK_INT(wc[i].wr_id, i);
	CHECK_INT(ep_settled(&p->a, IBV_QPS_ERR), IBV_QPS_ERR);
	for (i++; i < n; i++)
		CHECK_STATUS(wc[i].status, IBV_WC_WR_FLUSH_ERR);
	CHECK(now_ms() - start < LONG_MS);
}

/* The peer is gone and reaped, and nothing was under way: the next request fails. */
static void check_finds_out(struct pair *p)
{
	struct twr s = {.op = IBV_WR_RDMA_WRITE,
			.flags = IBV_SEND_SIGNALED,
			.len = 64,
			.raddr = p->bi.addr,
			.rkey = p->bi.rkey};
	uint64_t start = now_ms();
	struct ibv_wc wc;

	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_RETRY_EXC_ERR);
	CHECK_INT(ep_settled(&p->a, IBV_QPS_ERR), IBV_QPS_ERR);
	CHECK(now_ms() - start < LONG_MS);
}

/* Another pair, in the same run directory, works. */
static void check_alive(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 3, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	memset(p, 0, sizeof(*p));
	REQUIRE(side_spawned(&p->b));
	REQUIRE(pair_up(p, &c, &c));
	fill_bytes(p->a.buf, 64, 8);
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_sum(&p->b, 0, 64), sum_bytes(p->a.buf, 64));
	pair_down(p);
	side_reap(&p->b);
	memset(p, 0, sizeof(*p));
	p->b.fd = -1;
}

static void victim_ends(struct pair *p)
{
	CHECK_ERRNO(ep_close(&p->a), 0);
	memset(p, 0, sizeof(*p));
	p->b.fd = -1;
}

static void kill_transfer(struct pair *p, enum ibv_wr_opcode op, bool odp)
{
	struct ep_conf c = kill_conf(tdev()->rxe ? 1 << 18 : pinned_len(BIG));
	struct twr s = {.op = op, .flags = IBV_SEND_SIGNALED, .len = c.len};
	int i;

	c.odp = odp;
	c.fresh = true;
	if (!up_victim(p, &c, &c))
		return;
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (i = 0; op == IBV_WR_SEND && i < N_BIG / 2; i++)
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.len = s.len}), 0);
	for (i = 0; i < N_BIG; i++) {
		s.id = (uint64_t)i;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		if (i == N_BIG / 2)
			side_kill(&p->b, SIGKILL);
	}
	check_ends(p, N_BIG, now_ms());
	victim_ends(p);
}

static void c_kill_transfer(struct pair *p)
{
	static const enum ibv_wr_opcode ops[] = {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_SEND};
	bool have_odp = !tdev()->rxe && (tdev()->odp.general_caps & IBV_ODP_SUPPORT);
	size_t k;

	for (k = 0; k < ARRAY_SIZE(ops) && !t_failures(); k++) {
		t_note("opcode %d", ops[k]);
		kill_transfer(p, ops[k], false);
		t_note("opcode %d, on demand", ops[k]);
		if (have_odp && !t_failures())
			kill_transfer(p, ops[k], true);
	}
	check_alive(p);
}

static void c_kill_idle(struct pair *p)
{
	struct ep_conf c = kill_conf(65536);
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	if (!up_victim(p, &c, &c))
		return;
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	side_kill(&p->b, SIGKILL);
	check_finds_out(p);
	victim_ends(p);
	check_alive(p);
}

/* A send waits for a receive that will never be posted. */
static void c_kill_rnr(struct pair *p)
{
	struct ep_conf c = kill_conf(65536);
	struct twr s = {.op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	if (!up_victim(p, &c, &c))
		return;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 20), 0);
	side_kill(&p->b, SIGKILL);
	check_ends(p, 1, now_ms());
	CHECK_INT(ep_settled(&p->a, IBV_QPS_ERR), IBV_QPS_ERR);
	victim_ends(p);
	check_alive(p);
}

/* The dying one is the sender, wherever in the work it is: what it holds then
 * (locks of our queues among it) must not stop us. */
static void c_kill_sender(struct pair *p)
{
	struct hook_msg m = {.what = 0};
	struct ep_conf c = kill_conf(65536);
	struct ibv_wc wc[MAX_WC];
	uint64_t t0;
	int round, i, n;

	for (round = 0; round < 6 && !t_failures(); round++) {
		t_note("round %d", round);
		if (!up_victim(p, &c, &c))
			return;
		m.v[0] = p->ai.addr;
		m.v[1] = p->ai.rkey;
		m.v[2] = round & 1 ? IBV_WR_SEND : IBV_WR_RDMA_WRITE;
		m.v[3] = round & 2 ? 60000 : 8;
		for (i = 0; i < 32; i++)
			CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 1, .len = 65536}), 0);
		side_hook_begin(&p->b, &m);
		/* feed receives for a moment, then kill it in full flight */
		t0 = now_ms();
		while (now_ms() - t0 < 20 + (uint64_t)round * 3) {
			n = ep_poll(p->a.rcq, wc, 8, 1);
			for (i = 0; i < n; i++) {
				CHECK_STATUS(wc[i].status, IBV_WC_SUCCESS);
				CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 1, .len = 65536}),
					    0);
			}
		}
		side_kill(&p->b, SIGKILL);
		CHECK_INT(ep_state(&p->a), IBV_QPS_RTS); /* the responder knows nothing */
		while (ep_poll(p->a.rcq, wc, MAX_WC, 5) > 0)
			;
		for (i = 0; i < 100 && !ep_recv(&p->a, &(struct twr){.id = 1, .len = 8}); i++)
			;
		CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
		CHECK_INT(ep_poll(p->a.rcq, wc, 32, LONG_MS), 32);
		CHECK_STATUS(wc[0].status, IBV_WC_WR_FLUSH_ERR);
		victim_ends(p);
	}
	check_alive(p);
}

/* exit() without destroying anything. */
static void c_exit(struct pair *p)
{
	struct ep_conf c = kill_conf(65536);

	if (!up_victim(p, &c, &c))
		return;
	side_exit(&p->b);
	check_finds_out(p);
	victim_ends(p);
	check_alive(p);
}

/* A stopped peer is not a dead one: one-sided work needs nothing of its CPU. */
static void c_stopped(struct pair *p)
{
	struct ep_conf c = kill_conf(1 << 20);
	struct twr s = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 1 << 20};
	struct ibv_wc wc;
	uint64_t sum;
	int odp;

	for (odp = 0; odp < 2 && !t_failures(); odp++) {
		if (odp && (tdev()->rxe || !(tdev()->odp.general_caps & IBV_ODP_SUPPORT)))
			break;
		t_note(odp ? "on demand" : "pinned");
		c.odp = c.fresh = odp;
		if (!up_victim(p, &c, &c))
			return;
		s.raddr = p->bi.addr;
		s.rkey = p->bi.rkey;
		fill_bytes(p->a.buf, c.len, 5);
		sum = sum_bytes(p->a.buf, c.len);
		CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 9, .len = c.len}), 0);
		kill(p->b.pid, SIGSTOP);
		s.op = IBV_WR_RDMA_WRITE;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		memset(p->a.buf, 0, c.len);
		s.op = IBV_WR_RDMA_READ;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(sum_bytes(p->a.buf, c.len), sum);
		s.op = IBV_WR_SEND;
		CHECK_ERRNO(ep_send(&p->a, &s), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		kill(p->b.pid, SIGCONT);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(side_sum(&p->b, 0, c.len), sum);
		pair_down(p);
		side_reap(&p->b);
		memset(p, 0, sizeof(*p));
		p->b.fd = -1;
	}
}

static const struct tcase cases[] = {
	{"killed in a transfer", c_kill_transfer, HERE},
	{"killed when idle", c_kill_idle, HERE},
	{"killed while a send waits", c_kill_rnr, HERE},
	{"killed while it sends", c_kill_sender, HERE},
	{"exit without destroying", c_exit, HERE},
	{"stopped", c_stopped, HERE},
};

int main(int argc, char **argv)
{
	t_hook(stream);
	return t_main(argc, argv, 24, cases, ARRAY_SIZE(cases));
}
