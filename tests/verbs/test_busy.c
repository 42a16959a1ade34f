/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What is in use cannot be destroyed: EBUSY, and it goes on working. */
#include <stdlib.h>

#include "harness.h"

struct objs {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	void *mem;
};

static bool objs_open(struct objs *o)
{
	memset(o, 0, sizeof(*o));
	o->ctx = tdev_open();
	o->pd = ibv_alloc_pd(o->ctx);
	o->mem = aligned_alloc(4096, 4096);
	return CHECK(o->pd && o->mem);
}

static void objs_close(struct objs *o)
{
	CHECK_ERRNO(ibv_dealloc_pd(o->pd), 0);
	CHECK_ERRNO(ibv_close_device(o->ctx), 0);
	free(o->mem);
}

static void c_pd_mr(struct pair *p)
{
	struct objs o;
	struct ibv_mr *mr;

	(void)p;
	if (!objs_open(&o))
		return;
	mr = ibv_reg_mr(o.pd, o.mem, 4096, IBV_ACCESS_LOCAL_WRITE);
	REQUIRE(mr);
	CHECK_ERRNO(ibv_dealloc_pd(o.pd), EBUSY);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	objs_close(&o);
}

static struct ibv_qp *make_qp(struct objs *o, struct ibv_cq *scq, struct ibv_cq *rcq,
			      struct ibv_srq *srq)
{
	struct ibv_qp_init_attr a = {.send_cq = scq,
				     .recv_cq = rcq,
				     .srq = srq,
				     .cap = {4, 4, 1, 1, 0},
				     .qp_type = IBV_QPT_RC};

	return ibv_create_qp(o->pd, &a);
}

static void c_pd_qp(struct pair *p)
{
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct objs o;

	(void)p;
	if (!objs_open(&o))
		return;
	cq = ibv_create_cq(o.ctx, 8, NULL, NULL, 0);
	REQUIRE(cq);
	qp = make_qp(&o, cq, cq, NULL);
	REQUIRE(qp);
	CHECK_ERRNO(ibv_dealloc_pd(o.pd), EBUSY);
	CHECK_ERRNO(ibv_destroy_cq(cq), EBUSY);
	CHECK_ERRNO(ibv_destroy_qp(qp), 0);
	CHECK_ERRNO(ibv_destroy_cq(cq), 0);
	objs_close(&o);
}

/* A CQ that is only the send CQ, or only the receive CQ. */
static void c_cq_qp(struct pair *p)
{
	struct ibv_cq *scq, *rcq;
	struct ibv_qp *qp;
	struct objs o;

	(void)p;
	if (!objs_open(&o))
		return;
	scq = ibv_create_cq(o.ctx, 8, NULL, NULL, 0);
	rcq = ibv_create_cq(o.ctx, 8, NULL, NULL, 0);
	REQUIRE(scq && rcq);
	qp = make_qp(&o, scq, rcq, NULL);
	REQUIRE(qp);
	CHECK_ERRNO(ibv_destroy_cq(scq), EBUSY);
	CHECK_ERRNO(ibv_destroy_cq(rcq), EBUSY);
	CHECK_ERRNO(ibv_destroy_qp(qp), 0);
	CHECK_ERRNO(ibv_destroy_cq(scq), 0);
	CHECK_ERRNO(ibv_destroy_cq(rcq), 0);
	objs_close(&o);
}

static void c_pd_ah(struct pair *p)
{
	struct ibv_ah_attr a = {.is_global = 1, .port_num = PORT};
	struct ibv_ah *ah;
	struct objs o;

	(void)p;
	if (!objs_open(&o))
		return;
	a.grh.dgid = tdev()->gid;
	a.grh.sgid_index = (uint8_t)tdev()->gid_index;
	ah = ibv_create_ah(o.pd, &a);
	REQUIRE(ah);
	CHECK_ERRNO(ibv_dealloc_pd(o.pd), EBUSY);
	CHECK_ERRNO(ibv_destroy_ah(ah), 0);
	objs_close(&o);
}

static void c_srq(struct pair *p)
{
	struct ibv_srq_init_attr a = {.attr = {.max_wr = 8, .max_sge = 1}};
	struct ibv_srq *srq;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct objs o;

	(void)p;
	if (!objs_open(&o))
		return;
	srq = ibv_create_srq(o.pd, &a);
	cq = ibv_create_cq(o.ctx, 8, NULL, NULL, 0);
	REQUIRE(srq && cq);
	CHECK_ERRNO(ibv_dealloc_pd(o.pd), EBUSY);
	qp = make_qp(&o, cq, cq, srq);
	REQUIRE(qp);
	CHECK_ERRNO(ibv_destroy_srq(srq), EBUSY);
	CHECK_ERRNO(ibv_destroy_qp(qp), 0);
	CHECK_ERRNO(ibv_destroy_srq(srq), 0);
	CHECK_ERRNO(ibv_destroy_cq(cq), 0);
	objs_close(&o);
}

static void c_channel(struct pair *p)
{
	struct ibv_comp_channel *ch;
	struct ibv_cq *cq[2];
	struct objs o;

	(void)p;
	if (!objs_open(&o))
		return;
	ch = ibv_create_comp_channel(o.ctx);
	REQUIRE(ch);
	cq[0] = ibv_create_cq(o.ctx, 8, NULL, ch, 0);
	cq[1] = ibv_create_cq(o.ctx, 8, NULL, ch, 0);
	REQUIRE(cq[0] && cq[1]);
	CHECK_ERRNO(ibv_destroy_comp_channel(ch), EBUSY);
	CHECK_ERRNO(ibv_destroy_cq(cq[0]), 0);
	CHECK_ERRNO(ibv_destroy_comp_channel(ch), EBUSY);
	CHECK_ERRNO(ibv_destroy_cq(cq[1]), 0);
	CHECK_ERRNO(ibv_destroy_comp_channel(ch), 0);
	objs_close(&o);
}

/* A pair that refused to go away still carries data. */
static void c_still_works(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 3, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	CHECK_ERRNO(ibv_dealloc_pd(p->a.pd), EBUSY);
	CHECK_ERRNO(ibv_destroy_cq(p->a.scq), EBUSY);
	memset(p->a.buf, 'z', 64);
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_sum(&p->b, 0, 64), sum_bytes(p->a.buf, 64));
	pair_down(p);
}

static const struct tcase cases[] = {
	{"PD with an MR", c_pd_mr, HERE},
	{"PD and CQ with a QP", c_pd_qp, HERE},
	{"send CQ and receive CQ", c_cq_qp, HERE},
	{"PD with an AH", c_pd_ah, HERE},
	{"PD with an SRQ, SRQ with a QP", c_srq, HERE},
	{"channel with CQs", c_channel, HERE},
	{"still works", c_still_works, BOTH},
};

int main(int argc, char **argv)
{
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
