/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Extended CQs: every field, both clocks, flags, moderation, and what is refused. */
#include <sched.h>
#include <time.h>

#include "harness.h"

#define STAMPS (IBV_WC_EX_WITH_COMPLETION_TIMESTAMP | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK)
#define MAX_PERIOD 65535 /* us */

static struct ibv_cq_ex *ex(struct ibv_cq *cq)
{
	return (struct ibv_cq_ex *)cq; /* one object, as libibverbs has it */
}

static struct ibv_poll_cq_attr none;

/* ibv_start_poll() until there is a completion. */
static int start(struct ibv_cq_ex *cq)
{
	uint64_t end = now_ms() + LONG_MS;
	int ret;

	while ((ret = ibv_start_poll(cq, &none)) == ENOENT && now_ms() < end)
		sched_yield();
	return ret;
}

static uint64_t raw_now(struct ibv_context *ctx)
{
	struct ibv_values_ex v = {.comp_mask = IBV_VALUES_MASK_RAW_CLOCK};

	CHECK_ERRNO(ibv_query_rt_values_ex(ctx, &v), 0);
	CHECK_INT(v.comp_mask, IBV_VALUES_MASK_RAW_CLOCK);
	return (uint64_t)v.raw_clock.tv_sec * 1000000000u + (uint64_t)v.raw_clock.tv_nsec;
}

static uint64_t wall_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool between(uint64_t low, uint64_t x, uint64_t high)
{
	return low <= x && x <= high;
}

static bool ex_conf(struct ep_conf *a, uint32_t wc_flags)
{
	struct ibv_device_attr_ex attr;

	*a = (struct ep_conf)RC_CONF;
	a->wc_flags = wc_flags;
	if (!ibv_query_device_ex(tdev_open(), NULL, &attr) && attr.completion_timestamp_mask)
		return true;
	t_skip("the device has no timestamps");
	return false;
}

static void post(struct pair *p, int n)
{
	for (int i = 0; i < n; i++)
		CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 10 + (uint64_t)i, .len = 64}), 0);
}

/* B sends N messages, and they are done when this returns. */
static void send_from_b(struct pair *p, int n)
{
	struct twr s = {.op = IBV_WR_SEND_WITH_IMM,
			.flags = IBV_SEND_SIGNALED,
			.len = 48,
			.imm = 0xabcd1234};
	struct ibv_wc wc;

	for (int i = 0; i < n; i++) {
		CHECK_ERRNO(side_send(&p->b, &s), 0);
		CHECK_INT(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	}
}

static void c_fields(struct pair *p)
{
	struct ep_conf ca, cb = RC_CONF;
	struct ibv_cq_ex *cq;
	uint64_t raw, wall, first;

	if (!ex_conf(&ca, IBV_WC_STANDARD_FLAGS | STAMPS))
		return;
	REQUIRE(pair_up(p, &ca, &cb));
	cq = ex(p->a.rcq);
	CHECK_INT(ibv_start_poll(cq, &none), ENOENT);
	post(p, 2);
	raw = raw_now(p->a.ctx);
	wall = wall_now();
	send_from_b(p, 2);
	REQUIRE(CHECK_INT(start(cq), 0));
	CHECK_STATUS(cq->status, IBV_WC_SUCCESS);
	CHECK_INT(cq->wr_id, 10);
	CHECK_INT(ibv_wc_read_opcode(cq), IBV_WC_RECV);
	CHECK_INT(ibv_wc_read_vendor_err(cq), 0);
	CHECK_INT(ibv_wc_read_byte_len(cq), 48);
	CHECK_INT(ibv_wc_read_wc_flags(cq), IBV_WC_WITH_IMM);
	CHECK_INT(be32toh(ibv_wc_read_imm_data(cq)), 0xabcd1234);
	CHECK_INT(ibv_wc_read_qp_num(cq), p->ai.qpn);
	if (!tdev()->rxe) /* of connected QPs it is not defined */
		CHECK_INT(ibv_wc_read_src_qp(cq), p->bi.qpn);
	CHECK_INT(ibv_wc_read_slid(cq), 0);
	CHECK_INT(ibv_wc_read_sl(cq), 0);
	CHECK_INT(ibv_wc_read_dlid_path_bits(cq), 0);
	first = ibv_wc_read_completion_ts(cq);
	CHECK(between(raw, first, raw_now(p->a.ctx)));
	CHECK(between(wall - 1000000, ibv_wc_read_completion_wallclock_ns(cq),
		      wall_now() + 1000000));
	REQUIRE(CHECK_INT(ibv_next_poll(cq), 0));
	CHECK_INT(cq->wr_id, 11);
	CHECK(between(first, ibv_wc_read_completion_ts(cq), raw_now(p->a.ctx)));
	CHECK_INT(ibv_next_poll(cq), ENOENT);
	ibv_end_poll(cq);
	CHECK_INT(ibv_start_poll(cq, &none), ENOENT);
	pair_down(p);
}

/* A datagram's fields, of a QP's errors, and ibv_poll_cq() on the same CQ. */
static void c_ud(struct pair *p)
{
	struct ep_conf ca, cb;
	struct ibv_cq_ex *cq;
	struct ibv_wc wc;

	if (!ex_conf(&ca, IBV_WC_STANDARD_FLAGS))
		return;
	ca.type = IBV_QPT_UD;
	cb = ca;
	REQUIRE(pair_up(p, &ca, &cb));
	cq = ex(p->a.rcq);
	post(p, 1);
	CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 12, .len = 256}), 0);
	CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 13, .len = 256}), 0);
	CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 14, .len = 256}), 0);
	CHECK_ERRNO(side_send(&p->b, &(struct twr){.op = IBV_WR_SEND, .len = 8}), 0);
	REQUIRE(CHECK_INT(start(cq), 0));
	CHECK_INT(ibv_wc_read_byte_len(cq), 8 + 40);
	CHECK_INT(ibv_wc_read_wc_flags(cq), IBV_WC_GRH);
	CHECK_INT(ibv_wc_read_src_qp(cq), p->bi.qpn);
	ibv_end_poll(cq);
	CHECK_ERRNO(side_send(&p->b, &(struct twr){.op = IBV_WR_SEND, .len = 100}), 0);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
	CHECK_INT(wc.wr_id, 12);
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
	REQUIRE(CHECK_INT(start(cq), 0));
	CHECK_INT(cq->wr_id, 13);
	CHECK_STATUS(cq->status, IBV_WC_WR_FLUSH_ERR);
	REQUIRE(CHECK_INT(ibv_next_poll(cq), 0));
	CHECK_INT(cq->wr_id, 14);
	ibv_end_poll(cq);
	pair_down(p);
}

/* More than the CQ's slots go through one of a single thread. */
static void c_single(struct pair *p)
{
	struct ep_conf ca, cb = RC_CONF;
	struct ibv_cq_ex *cq;
	uint64_t id = 10;

	if (!ex_conf(&ca, IBV_WC_EX_WITH_BYTE_LEN))
		return;
	ca.cq_flags = IBV_CREATE_CQ_ATTR_SINGLE_THREADED;
	ca.cqe = 4;
	REQUIRE(pair_up(p, &ca, &cb));
	cq = ex(p->a.rcq);
	for (int round = 0; round < 5; round++) {
		post(p, 3);
		send_from_b(p, 3);
		REQUIRE(CHECK_INT(start(cq), 0));
		for (int i = 0; i < 3; i++) {
			CHECK_INT(cq->wr_id, id + (uint64_t)i);
			CHECK_INT(ibv_wc_read_byte_len(cq), 48);
			CHECK_INT(ibv_next_poll(cq), i < 2 ? 0 : ENOENT);
		}
		ibv_end_poll(cq);
	}
	pair_down(p);
}

/* What finds no room is lost, and the CQ and the QP live on. */
static void c_overrun(struct pair *p)
{
	struct ep_conf ca, cb = RC_CONF;
	struct ibv_wc wc[MAX_WC];
	int cqe, n;

	if (!ex_conf(&ca, IBV_WC_EX_WITH_BYTE_LEN))
		return;
	ca.cq_flags = IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN;
	ca.cqe = 4;
	REQUIRE(pair_up(p, &ca, &cb));
	cqe = p->a.rcq->cqe;
	REQUIRE(cqe + 3 <= 20);
	post(p, cqe + 3);
	send_from_b(p, cqe + 3);
	CHECK_INT(ep_event(&p->a, 20, NULL), -1);
	n = ep_poll(p->a.rcq, wc, MAX_WC, 20);
	CHECK_INT(n, cqe);
	CHECK_INT(wc[0].wr_id, 10);
	post(p, 1);
	send_from_b(p, 1);
	CHECK_INT(ep_poll(p->a.rcq, wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc[0].status, IBV_WC_SUCCESS);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
	pair_down(p);
}

static int moderate(struct ibv_cq *cq, uint16_t count, uint16_t period)
{
	struct ibv_modify_cq_attr attr = {.attr_mask = IBV_CQ_ATTR_MODERATE,
					  .moderate = {.cq_count = count, .cq_period = period}};

	return ibv_modify_cq(cq, &attr);
}

static void drain(struct ibv_cq *cq)
{
	struct ibv_wc wc[MAX_WC];

	while (ibv_poll_cq(cq, MAX_WC, wc) > 0)
		;
}

/* Two completions make the event, if the period is not over; no matter how busy the
 * host is, one try of many is in time. */
static bool counted(struct pair *p)
{
	uint64_t began;
	bool early;

	post(p, 2);
	CHECK_ERRNO(ibv_req_notify_cq(p->a.rcq, 0), 0);
	began = now_ms();
	send_from_b(p, 1);
	early = ep_cq_event(&p->a, 0, NULL);
	send_from_b(p, 1);
	if (early) {
		CHECK(now_ms() - began >= MAX_PERIOD / 1000); /* the period's */
	} else {
		CHECK(ep_cq_event(&p->a, LONG_MS, NULL));
	}
	drain(p->a.rcq);
	return !early && now_ms() - began < MAX_PERIOD / 1000;
}

static void c_moderate(struct pair *p)
{
	struct ep_conf ca, cb = RC_CONF;
	bool in_time = false;

	if (!ex_conf(&ca, IBV_WC_EX_WITH_BYTE_LEN))
		return;
	ca.channel = true;
	REQUIRE(pair_up(p, &ca, &cb));
	CHECK_ERRNO(moderate(p->a.rcq, 2, MAX_PERIOD), 0);
	for (int i = 0; i < 50 && !in_time && !t_failures(); i++)
		in_time = counted(p);
	CHECK(in_time);
	/* The period ends the waiting. */
	CHECK_ERRNO(moderate(p->a.rcq, 1000, 2000), 0);
	post(p, 1);
	CHECK_ERRNO(ibv_req_notify_cq(p->a.rcq, 0), 0);
	send_from_b(p, 1);
	CHECK(ep_cq_event(&p->a, LONG_MS, NULL));
	drain(p->a.rcq);
	/* So does turning it off. */
	CHECK_ERRNO(moderate(p->a.rcq, 1000, MAX_PERIOD), 0);
	post(p, 1);
	CHECK_ERRNO(ibv_req_notify_cq(p->a.rcq, 0), 0);
	send_from_b(p, 1);
	CHECK_ERRNO(moderate(p->a.rcq, 0, 0), 0);
	CHECK(ep_cq_event(&p->a, LONG_MS, NULL));
	CHECK(!ep_cq_event(&p->a, MAX_PERIOD / 1000 + 20, NULL)); /* once */
	pair_down(p);
}

static void refused(struct ibv_context *ctx, struct ibv_cq_init_attr_ex attr, int err)
{
	struct ibv_cq_ex *cq;

	errno = 0;
	cq = ibv_create_cq_ex(ctx, &attr);
	CHECK(!cq);
	CHECK_ERRNO(errno, err);
	if (cq)
		ibv_destroy_cq(ibv_cq_ex_to_cq(cq));
}

static void c_refused(struct pair *p)
{
	struct ibv_cq_init_attr_ex ok = {.cqe = 8, .wc_flags = IBV_WC_EX_WITH_QP_NUM}, attr;
	struct ibv_modify_cq_attr mod = {.attr_mask = 2};
	struct ibv_poll_cq_attr bad = {.comp_mask = 1};
	struct ibv_context *ctx = tdev_open(), *other = tdev_open();
	struct ibv_values_ex values = {.comp_mask = 1u << 7};
	struct ibv_cq_ex *cq;

	(void)p;
	cq = ibv_create_cq_ex(ctx, &ok);
	if (!cq && errno == EOPNOTSUPP) {
		t_skip("the device has no extended CQs");
		return;
	}
	REQUIRE(cq);
	CHECK_INT(ibv_start_poll(cq, &bad), EINVAL);
	CHECK(cq->read_qp_num && !cq->read_byte_len && !cq->read_completion_ts);
	CHECK_ERRNO(ibv_modify_cq(ibv_cq_ex_to_cq(cq), &mod), EOPNOTSUPP);
	mod.attr_mask = 0;
	CHECK_ERRNO(ibv_modify_cq(ibv_cq_ex_to_cq(cq), &mod), EINVAL);
	CHECK_ERRNO(ibv_query_rt_values_ex(ctx, &values), EOPNOTSUPP);
	cq->handle++;
	CHECK_ERRNO(moderate(ibv_cq_ex_to_cq(cq), 1, 1), ENOENT);
	cq->handle--;
	attr = ok;
	attr.wc_flags = IBV_WC_EX_WITH_CVLAN;
	refused(ctx, attr, EOPNOTSUPP);
	attr.wc_flags = IBV_WC_EX_WITH_FLOW_TAG;
	refused(ctx, attr, EOPNOTSUPP);
	attr.wc_flags = IBV_WC_EX_WITH_TM_INFO;
	refused(ctx, attr, EOPNOTSUPP);
	attr = ok;
	attr.wc_flags |= 1ull << 40;
	refused(ctx, attr, EOPNOTSUPP);
	attr = ok;
	attr.comp_mask = IBV_CQ_INIT_ATTR_MASK_FLAGS;
	attr.flags = 1u << 20;
	refused(ctx, attr, EOPNOTSUPP);
	attr = ok;
	attr.comp_mask = 1u << 20;
	refused(ctx, attr, EOPNOTSUPP);
	attr = ok;
	attr.cqe = 0;
	refused(ctx, attr, EINVAL);
	attr = ok;
	attr.comp_vector = (uint32_t)ctx->num_comp_vectors;
	refused(ctx, attr, EINVAL);
	attr = ok;
	attr.channel = ibv_create_comp_channel(other);
	REQUIRE(attr.channel);
	refused(ctx, attr, EINVAL);
	CHECK_ERRNO(ibv_destroy_comp_channel(attr.channel), 0);
	CHECK_ERRNO(ibv_destroy_cq(ibv_cq_ex_to_cq(cq)), 0);
	CHECK_ERRNO(ibv_close_device(other), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

/* A context is closed before its CQ: polling says so, and destroying works. */
static void c_closed(struct pair *p)
{
	struct ibv_cq_init_attr_ex attr = {.cqe = 8, .wc_flags = IBV_WC_EX_WITH_QP_NUM};
	struct ibv_context *ctx = tdev_open();
	struct ibv_cq_ex *cq = ibv_create_cq_ex(ctx, &attr);

	(void)p;
	if (tdev()->rxe || !cq) {
		t_skip("only where objects outlive their context");
		return;
	}
	CHECK_ERRNO(ibv_close_device(ctx), 0);
	CHECK_ERRNO(ibv_start_poll(cq, &none), EIO);
	CHECK_ERRNO(moderate(ibv_cq_ex_to_cq(cq), 1, 1), EIO);
	CHECK_ERRNO(ibv_destroy_cq(ibv_cq_ex_to_cq(cq)), 0);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"fields", c_fields, BOTH},     {"ud", c_ud, BOTH},
		{"single", c_single, BOTH},     {"overrun", c_overrun, BOTH},
		{"moderate", c_moderate, BOTH}, {"refused", c_refused, HERE},
		{"closed", c_closed, HERE},
	};

	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
