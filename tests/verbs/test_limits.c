/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Queues that are full, lists that are too long, sizes over the device's limits. */
#include <stdlib.h>

#include "harness.h"

static const struct twr write8 = {.op = IBV_WR_RDMA_WRITE, .len = 8};

/* The queue holds what was asked for, and says ENOMEM at the first one more. */
static void c_sq_full(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct twr r = {.len = 8};
	struct ibv_wc wc;
	int i, n = 0, err = 0;

	c.cap.max_send_wr = 5;
	c.cqe = 1024;
	REQUIRE(pair_up(p, &c, &c));
	while (n < 1024) { /* all wait: B has no receive */
		s.id = 1 + (uint64_t)n;
		err = ep_send(&p->a, &s);
		if (err)
			break;
		n++;
	}
	CHECK_ERRNO(err, ENOMEM);
	CHECK(n >= 5);
	for (i = 0; i < n; i++) {
		r.id = 100 + (uint64_t)i;
		CHECK_ERRNO(side_recv(&p->b, &r), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(wc.wr_id, 1 + i);
	}
	CHECK_ERRNO(ep_send(&p->a, &s), 0); /* room again */
	pair_down(p);
}

/* Unsignalled work keeps its place until a later completion is polled; either
 * way N signalled-once rounds of the whole queue go through. */
static void c_sq_unsignaled(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = write8;
	struct ibv_wc wc;
	int i, round;

	c.cap.max_send_wr = 8;
	REQUIRE(pair_up(p, &c, &c));
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	for (round = 0; round < 50 && !t_failures(); round++) {
		for (i = 0; i < 8; i++) {
			s.id = (uint64_t)(round * 8 + i);
			s.flags = i == 7 ? IBV_SEND_SIGNALED : 0;
			CHECK_ERRNO(ep_send(&p->a, &s), 0);
		}
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(wc.wr_id, round * 8 + 7);
	}
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 5), 0);
	pair_down(p);
}

static void c_rq_full(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_recv_wr wr[3], *bad = NULL;
	struct twr r = {.len = 8};
	int n = 0, err = 0;

	c.cap.max_recv_wr = 5;
	REQUIRE(pair_up(p, &c, &c));
	while (n < 1024) {
		err = ep_recv(&p->a, &r);
		if (err)
			break;
		n++;
	}
	CHECK_ERRNO(err, ENOMEM);
	CHECK(n >= 5);
	/* In a list, the one that found no room is named. */
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_RESET), 0);
	CHECK_ERRNO(ep_init(&p->a), 0);
	while (n-- > 2)
		CHECK_ERRNO(ep_recv(&p->a, &r), 0);
	memset(wr, 0, sizeof(wr));
	wr[0].next = &wr[1];
	wr[1].next = &wr[2];
	err = ibv_post_recv(p->a.qp, wr, &bad);
	CHECK_ERRNO(err, ENOMEM);
	CHECK(bad == &wr[2]);
	pair_down(p);
}

static void c_srq_full(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr r = {.len = 8};
	struct ibv_recv_wr *bad, wr = {.wr_id = 1};
	int n = 0, err = 0;

	c.srq_wr = 5;
	REQUIRE(pair_up(p, &c, &c));
	while (n < 1024) {
		err = ep_recv(&p->a, &r);
		if (err)
			break;
		n++;
	}
	CHECK_ERRNO(err, ENOMEM);
	CHECK(n >= 5);
	/* a QP with an SRQ has no receive queue of its own */
	CHECK_ERRNO(ibv_post_recv(p->a.qp, &wr, &bad), EINVAL);
	pair_down(p);
}

/* Of a list of four whose third is wrong, two run, the third is named. */
static void check_bad_wr(struct pair *p, struct ibv_send_wr *wr, int want)
{
	struct ibv_send_wr *bad = NULL;
	struct ibv_wc wc;
	int i;

	for (i = 0; i < 4; i++) {
		wr[i].wr_id = 10 + (uint64_t)i;
		wr[i].next = i < 3 ? &wr[i + 1] : NULL;
		wr[i].send_flags |= IBV_SEND_SIGNALED;
		wr[i].wr.rdma.remote_addr = p->bi.addr;
		wr[i].wr.rdma.rkey = p->bi.rkey;
	}
	CHECK_ERRNO(ibv_post_send(p->a.qp, wr, &bad), want);
	CHECK(bad == &wr[2]);
	for (i = 0; i < 2; i++) {
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(wc.wr_id, 10 + i);
	}
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 5), 0);
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
}

enum { MANY_SGE, LONG_INLINE, BAD_OPCODE, N_BAD };

static void c_bad_wr(struct pair *p)
{
	struct ibv_send_wr wr[4];
	struct ep_conf c = RC_CONF;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	struct ibv_sge sge[256];
	int i, which;

	for (which = 0; which < N_BAD && !t_failures(); which++) {
		t_note("variant %d", which);
		REQUIRE(pair_up(p, &c, &c));
		REQUIRE(ibv_query_qp(p->a.qp, &attr, IBV_QP_CAP, &init) == 0);
		for (i = 0; i < 256; i++)
			sge[i] = (struct ibv_sge){(uintptr_t)p->a.buf, 8, p->a.mr->lkey};
		memset(wr, 0, sizeof(wr));
		for (i = 0; i < 4; i++) {
			wr[i].sg_list = sge;
			wr[i].num_sge = 1;
			wr[i].opcode = IBV_WR_RDMA_WRITE;
		}
		if (which == MANY_SGE) {
			wr[2].num_sge = (int)init.cap.max_send_sge + 1;
		} else if (which == LONG_INLINE) {
			sge[1].length = init.cap.max_inline_data + 1;
			wr[2].sg_list = &sge[1];
			wr[2].send_flags = IBV_SEND_INLINE;
		} else if (tdev()->rxe) {
			pair_down(p); /* its library posts any number as opcode */
			break;
		} else {
			wr[2].opcode = (enum ibv_wr_opcode)77;
		}
		check_bad_wr(p, wr, EINVAL);
		pair_down(p);
	}
}

static void c_recv_many_sge(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	struct ibv_sge sge[256];
	struct ibv_recv_wr *bad = NULL, wr[2];

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(ibv_query_qp(p->a.qp, &attr, IBV_QP_CAP, &init) == 0);
	memset(sge, 0, sizeof(sge));
	memset(wr, 0, sizeof(wr));
	wr[0].next = &wr[1];
	wr[1].sg_list = sge;
	wr[1].num_sge = (int)init.cap.max_recv_sge + 1;
	CHECK_ERRNO(ibv_post_recv(p->a.qp, wr, &bad), EINVAL);
	CHECK(bad == &wr[1]);
	pair_down(p);
}

/* Inline data: copied at post, no key needed, the buffer may be reused at once. */
static void c_inline(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	struct ibv_send_wr *bad, wr;
	struct ibv_sge sge[2];
	struct ibv_wc wc;
	uint8_t data[4096];
	uint32_t len, step;
	uint64_t sum;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(ibv_query_qp(p->a.qp, &attr, IBV_QP_CAP, &init) == 0);
	CHECK(init.cap.max_inline_data >= 64 && init.cap.max_inline_data <= sizeof(data));
	step = init.cap.max_inline_data / 7 + 1;
	for (len = 0; len <= init.cap.max_inline_data && !t_failures(); len += step) {
		if (len + step > init.cap.max_inline_data)
			len = init.cap.max_inline_data;
		fill_bytes(data, len, len);
		sum = sum_bytes(data, len);
		sge[0] = (struct ibv_sge){(uintptr_t)data, len / 3, 0};
		sge[1] = (struct ibv_sge){(uintptr_t)data + len / 3, len - len / 3, 0xbad};
		memset(&wr, 0, sizeof(wr));
		wr.wr_id = len;
		wr.sg_list = sge;
		wr.num_sge = 2;
		wr.opcode = IBV_WR_RDMA_WRITE;
		wr.send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE;
		wr.wr.rdma.remote_addr = p->bi.addr + 3;
		wr.wr.rdma.rkey = p->bi.rkey;
		CHECK_ERRNO(ibv_post_send(p->a.qp, &wr, &bad), 0);
		memset(data, 0xee, sizeof(data));
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(side_sum(&p->b, 3, len), sum);
	}
	pair_down(p);
}

/* Longer than any message may be: refused, or an error of the requester alone. */
static void c_message_too_long(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED};
	uint64_t room = 0;
	struct ibv_wc wc;
	int err, n = tdev()->attr.max_sge;

	if (tdev()->rxe)
		return t_skip("rdma_rxe has a maximum of 2^31 and does not check");
	c.len = 64 << 20;
	c.fresh = true;
	c.cap.max_send_sge = (uint32_t)n;
	c.odp = tdev()->odp.general_caps & IBV_ODP_SUPPORT;
	if (!c.odp || n > MAX_TSGE)
		return t_skip("takes too much memory");
	for (; s.nsge < n && room <= tdev()->port.max_msg_sz; room += c.len)
		s.sge[s.nsge++] = (struct ibv_sge){.length = c.len};
	if (room <= tdev()->port.max_msg_sz)
		return t_skip("max_msg_sz of %u cannot be exceeded", tdev()->port.max_msg_sz);
	REQUIRE(pair_up(p, &c, &c));
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	err = ep_send(&p->a, &s);
	if (err) {
		CHECK_ERRNO(err, EINVAL);
		CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
	} else {
		REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_LOC_LEN_ERR);
	}
	CHECK_INT(side_state(&p->b), IBV_QPS_RTS);
	pair_down(p);
}

/* ---- Over the device's limits: EINVAL, or ENOMEM where it is a matter of room ---- */

static void expect_no_qp(struct ep *ep, const struct ibv_qp_cap *cap, enum ibv_qp_type type,
			 const char *what)
{
	struct ibv_qp_init_attr a = {
		.send_cq = ep->scq, .recv_cq = ep->rcq, .cap = *cap, .qp_type = type};
	struct ibv_qp *qp;

	t_note("%s", what);
	errno = 0;
	qp = ibv_create_qp(ep->pd, &a);
	CHECK(qp == NULL);
	CHECK_ERRNO(errno, EINVAL);
	if (qp)
		ibv_destroy_qp(qp);
}

static void c_create_qp(struct pair *p)
{
	const struct ibv_device_attr *d = &tdev()->attr;
	struct ibv_qp_cap cap = {1, 1, 1, 1, 0}, c2;
	struct ep_conf c = RC_CONF;

	REQUIRE(ep_open(&p->a, &c) == 0);
	c2 = cap;
	c2.max_send_wr = (uint32_t)d->max_qp_wr + 1;
	expect_no_qp(&p->a, &c2, IBV_QPT_RC, "max_send_wr");
	c2 = cap;
	c2.max_recv_wr = (uint32_t)d->max_qp_wr + 1;
	expect_no_qp(&p->a, &c2, IBV_QPT_RC, "max_recv_wr");
	c2 = cap;
	c2.max_send_sge = (uint32_t)d->max_sge + 1;
	expect_no_qp(&p->a, &c2, IBV_QPT_RC, "max_send_sge");
	c2 = cap;
	c2.max_recv_sge = (uint32_t)d->max_sge + 1;
	expect_no_qp(&p->a, &c2, IBV_QPT_RC, "max_recv_sge");
	c2 = cap;
	c2.max_inline_data = 1 << 20;
	expect_no_qp(&p->a, &c2, IBV_QPT_RC, "max_inline_data");
	c2 = cap;
	c2.max_send_wr = UINT32_MAX;
	c2.max_send_sge = UINT32_MAX;
	expect_no_qp(&p->a, &c2, IBV_QPT_UD, "everything");
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static void c_create_qp_bad(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_qp_init_attr a = {.cap = {1, 1, 1, 1, 0}, .qp_type = (enum ibv_qp_type)200};

	REQUIRE(ep_open(&p->a, &c) == 0);
	a.send_cq = p->a.scq;
	a.recv_cq = p->a.rcq;
	errno = 0;
	CHECK(ibv_create_qp(p->a.pd, &a) == NULL);
	CHECK(errno == EINVAL || errno == EOPNOTSUPP);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

/* At the limits themselves everything works. */
static void c_at_limits(struct pair *p)
{
	const struct ibv_device_attr *d = &tdev()->attr;
	struct ep_conf c = RC_CONF;
	struct twr s = write8;
	struct ibv_wc wc;
	int i;

	if (d->max_qp_wr > 65536)
		return t_skip("max_qp_wr of %d would take too much memory", d->max_qp_wr);
	c.cap.max_send_wr = (uint32_t)d->max_qp_wr;
	c.cap.max_recv_wr = (uint32_t)d->max_qp_wr;
	c.cap.max_send_sge = (uint32_t)d->max_sge;
	c.cap.max_recv_sge = 1;
	REQUIRE(pair_up(p, &c, &c));
	s.nsge = d->max_sge < MAX_TSGE ? d->max_sge : MAX_TSGE;
	for (i = 0; i < s.nsge; i++)
		s.sge[i] = (struct ibv_sge){(uint64_t)i * 8, 8, 0};
	s.flags = IBV_SEND_SIGNALED;
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	pair_down(p);
}

static void c_create_cq(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_cq *cq;

	REQUIRE(ep_open(&p->a, &c) == 0);
	errno = 0;
	CHECK(ibv_create_cq(p->a.ctx, tdev()->attr.max_cqe + 1, NULL, NULL, 0) == NULL);
	CHECK_ERRNO(errno, EINVAL);
	errno = 0;
	CHECK(ibv_create_cq(p->a.ctx, 0, NULL, NULL, 0) == NULL);
	CHECK_ERRNO(errno, EINVAL);
	errno = 0;
	CHECK(ibv_create_cq(p->a.ctx, -5, NULL, NULL, 0) == NULL);
	CHECK_ERRNO(errno, EINVAL);
	errno = 0;
	CHECK(ibv_create_cq(p->a.ctx, 8, NULL, NULL, p->a.ctx->num_comp_vectors) == NULL);
	CHECK_ERRNO(errno, EINVAL);
	cq = ibv_create_cq(p->a.ctx, 100, NULL, NULL, 0);
	CHECK(cq && cq->cqe >= 100);
	if (cq)
		CHECK_ERRNO(ibv_destroy_cq(cq), 0);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static void c_create_srq(struct pair *p)
{
	struct ibv_srq_init_attr a = {.attr = {.max_wr = 8, .max_sge = 1}};
	struct ep_conf c = RC_CONF;
	struct ibv_srq *srq;

	REQUIRE(ep_open(&p->a, &c) == 0);
	a.attr.max_wr = (uint32_t)tdev()->attr.max_srq_wr + 1;
	errno = 0;
	CHECK(ibv_create_srq(p->a.pd, &a) == NULL);
	CHECK_ERRNO(errno, EINVAL);
	a.attr.max_wr = 8;
	a.attr.max_sge = (uint32_t)tdev()->attr.max_srq_sge + 1;
	errno = 0;
	CHECK(ibv_create_srq(p->a.pd, &a) == NULL);
	CHECK_ERRNO(errno, EINVAL);
	a.attr.max_sge = 1;
	srq = ibv_create_srq(p->a.pd, &a);
	CHECK(srq && a.attr.max_wr >= 8 && a.attr.max_sge >= 1);
	if (srq)
		CHECK_ERRNO(ibv_destroy_srq(srq), 0);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

/* All the CQs that there are, of a size that programs use, among other objects. */
#define CQ_SIZE 4096
struct crowd {
	struct ibv_cq **cq;
	struct ibv_qp **qp;
	struct ibv_srq **srq;
	struct ibv_mr **mr;
};

static bool crowd_add(struct crowd *c, struct ep *ep, int i, int max_srq)
{
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = 8, .max_sge = 1}};
	struct ibv_qp_init_attr qp = {.cap = {8, 8, 1, 1, 0}, .qp_type = IBV_QPT_RC};

	c->cq[i] = ibv_create_cq(ep->ctx, CQ_SIZE, NULL, NULL, 0);
	if (!CHECK(c->cq[i]))
		return false;
	if (i % 8)
		return true;
	qp.send_cq = qp.recv_cq = c->cq[i];
	c->qp[i / 8] = ibv_create_qp(ep->pd, &qp);
	c->mr[i / 8] = ibv_reg_mr(ep->pd, ep->buf, 4096, ALL_ACCESS);
	if (i / 8 < max_srq)
		c->srq[i / 8] = ibv_create_srq(ep->pd, &srq);
	return CHECK(c->qp[i / 8]) && CHECK(c->mr[i / 8]) &&
	       CHECK(i / 8 >= max_srq || c->srq[i / 8]);
}

static void crowd_drop(struct crowd *c, int max)
{
	for (int i = 0; i <= max / 8; i++) {
		if (c->qp[i])
			CHECK_ERRNO(ibv_destroy_qp(c->qp[i]), 0);
		if (c->srq[i])
			CHECK_ERRNO(ibv_destroy_srq(c->srq[i]), 0);
		if (c->mr[i])
			CHECK_ERRNO(ibv_dereg_mr(c->mr[i]), 0);
	}
	for (int i = 0; i < max && c->cq[i]; i++)
		CHECK_ERRNO(ibv_destroy_cq(c->cq[i]), 0);
}

static void c_all_cqs(struct pair *p)
{
	const struct ibv_device_attr *d = &tdev()->attr;
	const struct ep_conf conf = RC_CONF;
	int i, max;

	if (d->max_cq > 65536)
		return t_skip("max_cq of %d would take too much memory", d->max_cq);
	REQUIRE(ep_open(&p->a, &conf) == 0);
	max = d->max_cq - 2; /* the endpoint has two */
	struct crowd c = {
		.cq = calloc((size_t)max, sizeof(*c.cq)),
		.qp = calloc((size_t)max, sizeof(*c.qp)),
		.srq = calloc((size_t)max, sizeof(*c.srq)),
		.mr = calloc((size_t)max, sizeof(*c.mr)),
	};
	for (i = 0; i < max && crowd_add(&c, &p->a, i, d->max_srq - 1); i++)
		;
	CHECK_INT(i, max);
	errno = 0;
	CHECK(!ibv_create_cq(p->a.ctx, 1, NULL, NULL, 0));
	CHECK_ERRNO(errno, ENOMEM);
	crowd_drop(&c, max);
	free(c.cq);
	free(c.qp);
	free(c.srq);
	free(c.mr);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static void expect_no_mr(struct ep *ep, void *addr, size_t len, int access, int err)
{
	struct ibv_mr *mr;

	errno = 0;
	mr = ibv_reg_mr(ep->pd, addr, len, access);
	CHECK(mr == NULL);
	CHECK_ERRNO(errno, err);
	if (mr)
		ibv_dereg_mr(mr);
}

static void c_reg_mr(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	REQUIRE(ep_open(&p->a, &c) == 0);
	t_note("REMOTE_WRITE without LOCAL_WRITE");
	expect_no_mr(&p->a, p->a.buf, 4096, IBV_ACCESS_REMOTE_WRITE, EINVAL);
	t_note("REMOTE_ATOMIC without LOCAL_WRITE");
	expect_no_mr(&p->a, p->a.buf, 4096, IBV_ACCESS_REMOTE_ATOMIC, EINVAL);
	t_note("wraps");
	expect_no_mr(&p->a, (void *)(uintptr_t)-4096, 8192, IBV_ACCESS_LOCAL_WRITE, EINVAL);
	t_note("not mapped");
	expect_no_mr(&p->a, (void *)0x10000, 4096, IBV_ACCESS_LOCAL_WRITE, EFAULT);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static const struct tcase cases[] = {
	{"send queue full", c_sq_full, BOTH},
	{"unsignalled rounds", c_sq_unsignaled, BOTH},
	{"receive queue full", c_rq_full, HERE},
	{"SRQ full", c_srq_full, HERE},
	{"bad_wr names the right one", c_bad_wr, HERE},
	{"too many SGEs in a receive", c_recv_many_sge, HERE},
	{"inline data", c_inline, BOTH},
	{"message too long", c_message_too_long, HERE},
	{"create_qp over limits", c_create_qp, HERE},
	{"create_qp of no type", c_create_qp_bad, HERE},
	{"at the limits", c_at_limits, BOTH},
	{"create_cq", c_create_cq, HERE},
	{"create_srq", c_create_srq, HERE},
	{"all CQs", c_all_cqs, HERE},
	{"reg_mr", c_reg_mr, HERE},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
