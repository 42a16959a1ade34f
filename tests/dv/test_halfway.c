/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Messages that end half-way: the receiver's page takes its time, and the sender is
 * killed, or gives up, meanwhile. The receive that the message was using is used by the
 * next one, or flushed; none is lost, and none completes twice.
 */
#include <signal.h>
#include <sys/mman.h>

#include <infiniband/uodpdv.h>

#include "harness.h"

#define LEN 4096u
#define SLOW_MS 60000u /* longer than anything here */
#define POSTED 5
#define RECV_LEN 256

static const enum ibv_qp_type types[] = {IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD};
static const char *const names[] = {"RC", "UC", "UD"};

/* The receiver is A, of which the first receive is in memory whose faults are slow. */
struct slow {
	uint8_t *mem;
	struct ibv_mr *mr;
};

static bool slow_open(struct slow *s, struct ep *ep)
{
	struct uodpdv_fault_attr a = {.latency_us = SLOW_MS * 1000};

	s->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!CHECK(s->mem != MAP_FAILED))
		return false;
	s->mr = ibv_reg_mr(ep->pd, s->mem, LEN, ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	return CHECK(s->mr) && CHECK_ERRNO(uodpdv_set_fault(s->mr, &a, sizeof(a)), 0);
}

/* From now on its pages are had at once. */
static void slow_ends(struct slow *s)
{
	struct uodpdv_fault_attr a = {.latency_us = 0};

	CHECK_ERRNO(uodpdv_set_fault(s->mr, &a, sizeof(a)), 0);
}

static void slow_close(struct slow *s)
{
	CHECK_ERRNO(ibv_dereg_mr(s->mr), 0);
	munmap(s->mem, LEN);
}

static void post_all(struct ep *ep, const struct slow *s)
{
	struct twr r = {.len = RECV_LEN};
	int i;

	for (i = 0; i < POSTED; i++) {
		r.id = (uint64_t)i;
		r.off = i ? (uint64_t)i * RECV_LEN
			  : (uint64_t)((uintptr_t)s->mem - (uintptr_t)ep->buf);
		r.lkey = i ? 0 : s->mr->lkey;
		CHECK_ERRNO(ep_recv(ep, &r), 0);
	}
}

static const struct twr message = {
	.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 100};

/* ---- afterwards ---- */

static void tally(struct ep *a, int *times, int n, enum ibv_wc_status status, int ms)
{
	struct ibv_wc wc;

	while (n-- && ep_poll(a->rcq, &wc, 1, ms) == 1) {
		CHECK_STATUS(wc.status, status);
		if (CHECK(wc.wr_id < POSTED))
			CHECK_INT(++times[wc.wr_id], 1);
	}
}

static int left(const int *times)
{
	int i, n = 0;

	for (i = 0; i < POSTED; i++)
		n += !times[i];
	return n;
}

static bool sender_open(struct ep *c, struct ep *a, const struct ep_info *ai)
{
	struct ep_conf conf = RC_CONF;
	struct ep_info ci;

	conf.type = a->conf.type;
	if (!CHECK_ERRNO(ep_open(c, &conf), 0))
		return false;
	ep_info(c, &ci);
	CHECK_ERRNO(ep_init(c), 0);
	CHECK_ERRNO(ep_rtr(c, ai), 0);
	CHECK_ERRNO(ep_rts(c), 0);
	if (ep_state(a) == IBV_QPS_RESET) {
		CHECK_ERRNO(ep_init(a), 0);
		CHECK_ERRNO(ep_rtr(a, &ci), 0);
		CHECK_ERRNO(ep_rts(a), 0);
	}
	return !t_failures();
}

/* C uses up what is left. A datagram may be lost, to others' turns for example. */
static void send_rest(struct ep *c, struct ep *a, int *times)
{
	struct ibv_wc wc;
	int i;

	for (i = 0; left(times) && i < 4 * POSTED && !t_failures(); i++) {
		CHECK_ERRNO(ep_send(c, &message), 0);
		CHECK_INT(ep_poll(c->scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		tally(a, times, 1, IBV_WC_SUCCESS, a->conf.type == IBV_QPT_UD ? 200 : LONG_MS);
	}
	CHECK_INT(left(times), 0);
}

/* FLUSH: through ERR; else a connected QP goes to RESET at once, and gives back what it
 * has of an SRQ's. */
static void use_up(struct pair *p, bool srq, bool flush)
{
	int times[POSTED] = {0};
	struct ep c;

	if (flush) {
		CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
		/* of an SRQ, the one that it had taken */
		tally(&p->a, times, srq ? 1 : POSTED, IBV_WC_WR_FLUSH_ERR, LONG_MS);
		CHECK_INT(left(times), srq ? POSTED - 1 : 0);
		CHECK_INT(times[0], 1);
	}
	if (flush || p->a.conf.type != IBV_QPT_UD)
		CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RESET), 0);
	/* Of a queue of its own, a reset leaves nothing (IBTA 10.3.1.1). */
	if (!srq && (flush || p->a.conf.type != IBV_QPT_UD))
		return;
	REQUIRE(sender_open(&c, &p->a, &p->ai));
	send_rest(&c, &p->a, times);
	CHECK_ERRNO(ep_close(&c), 0);
}

/* ---- the two ends of it ---- */

static void begin(struct pair *p, enum ibv_qp_type type, bool srq, struct slow *s)
{
	struct ep_conf ca = RC_CONF, cb;
	struct ibv_wc wc;

	ca.type = type;
	ca.timeout = 14;
	cb = ca;
	ca.srq_wr = srq ? POSTED : 0;
	REQUIRE(pair_up(p, &ca, &cb));
	REQUIRE(slow_open(s, &p->a));
	post_all(&p->a, s);
	CHECK_ERRNO(side_send(&p->b, &message), 0);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, 20), 0);
}

typedef void (*each_fn)(struct pair *p, enum ibv_qp_type type, bool srq, bool flush);

static void each(struct pair *p, each_fn fn)
{
	int i;

	for (i = 0; i < 12 && !t_failures(); i++) {
		t_note("%s, %s, %s", names[i / 4], i & 2 ? "SRQ" : "RQ", i & 1 ? "ERR" : "next");
		fn(p, types[i / 4], i & 2, i & 1);
	}
}

static void killed(struct pair *p, enum ibv_qp_type type, bool srq, bool flush)
{
	struct slow s;

	REQUIRE(side_spawned(&p->b));
	begin(p, type, srq, &s);
	if (t_failures())
		return;
	side_kill(&p->b, SIGKILL);
	slow_ends(&s);
	use_up(p, srq, flush);
	slow_close(&s);
	CHECK_ERRNO(ep_close(&p->a), 0);
	memset(p, 0, sizeof(*p));
	p->b.fd = -1;
}

static void c_killed(struct pair *p)
{
	each(p, killed);
}

static void gave_up(struct pair *p, enum ibv_qp_type type, bool srq, bool flush)
{
	struct ibv_wc wc;
	struct slow s;

	begin(p, type, srq, &s);
	if (t_failures())
		return;
	CHECK_ERRNO(side_modify(&p->b, IBV_QPS_ERR), 0);
	REQUIRE(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_WR_FLUSH_ERR);
	slow_ends(&s);
	use_up(p, srq, flush);
	slow_close(&s);
	pair_down(p);
}

static void c_gave_up(struct pair *p)
{
	each(p, gave_up);
}

/* Two senders of datagrams: the second waits for its turn, and uses the next receive. */
static void c_turns(struct pair *p)
{
	int times[POSTED] = {0};
	struct ibv_wc wc;
	struct slow s;
	struct ep c;

	begin(p, IBV_QPT_UD, false, &s);
	REQUIRE(!t_failures() && sender_open(&c, &p->a, &p->ai));
	CHECK_ERRNO(ep_send(&c, &message), 0);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, 5), 0);
	slow_ends(&s);
	CHECK_INT(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	REQUIRE(ep_poll(p->a.rcq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.wr_id, 0);
	times[0]++;
	CHECK_INT(wc.src_qp, p->bi.qpn);
	CHECK_INT(ep_poll(c.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	tally(&p->a, times, 1, IBV_WC_SUCCESS, 200);
	send_rest(&c, &p->a, times);
	CHECK_ERRNO(ep_close(&c), 0);
	slow_close(&s);
	pair_down(p);
}

/* It does not wait for ever: who keeps it waiting may be stopped. */
static void c_turn_lost(struct pair *p)
{
	struct ibv_wc wc;
	struct slow s;
	struct ep c;

	begin(p, IBV_QPT_UD, false, &s);
	REQUIRE(!t_failures() && sender_open(&c, &p->a, &p->ai));
	CHECK_ERRNO(ep_send(&c, &message), 0);
	REQUIRE(ep_poll(c.scq, &wc, 1, LONG_MS) == 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, 0), 0);
	CHECK_ERRNO(ep_close(&c), 0);
	slow_close(&s);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"the sender is killed", c_killed, HERE},
		{"the sender gives up", c_gave_up, BOTH},
		{"datagrams take turns", c_turns, BOTH},
		{"a turn that does not come", c_turn_lost, BOTH},
	};

	return t_main(argc, argv, 16, cases, ARRAY_SIZE(cases));
}
