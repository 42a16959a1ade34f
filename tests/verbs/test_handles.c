/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Handles that the program has changed, and objects of another context: the kernel finds
 * no such object, or not in this context. The verb says so (ENOENT, EINVAL) and touches
 * nothing: afterwards, with its handle back, the object works.
 */
#include <stdlib.h>

#include "harness.h"

static bool refused(int err)
{
	return err == ENOENT || err == EINVAL;
}

/* What libibverbs returns as -1 has its error in errno. */
#define REFUSED(call)                                                                              \
	({                                                                                         \
		int got_;                                                                          \
		errno = 0;                                                                         \
		got_ = (call);                                                                     \
		if (!refused(got_) || !refused(errno))                                             \
			t_fail(__FILE__, __LINE__, "%s: got %d, errno %d (%s)", #call, got_,       \
			       errno, strerror(errno));                                            \
	})
#define REFUSED_NEW(call)                                                                          \
	({                                                                                         \
		const void *got_;                                                                  \
		errno = 0;                                                                         \
		got_ = (call);                                                                     \
		if (got_ || !refused(errno))                                                       \
			t_fail(__FILE__, __LINE__, "%s: got %p, errno %d (%s)", #call, got_,       \
			       errno, strerror(errno));                                            \
	})

static const uint32_t garbage[] = {0x7fffffff, 0xffffffff, 12345};

/* The pair still moves bytes. */
static void still_works(struct pair *p)
{
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 4096};
	struct ibv_wc wc;

	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
}

static void init_attr(const struct ep *ep, struct ibv_qp_init_attr *a)
{
	*a = (struct ibv_qp_init_attr){
		.qp_type = IBV_QPT_RC,
		.send_cq = ep->scq,
		.recv_cq = ep->rcq,
		.cap = {.max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1},
	};
}

/* With garbage as its handle, and with what another object of the kind has. The kernel
 * takes that for the other object. */
#define EACH_HANDLE(object, other)                                                                 \
	for (uint32_t kept_ = (object)->handle, i_ = 0;                                            \
	     i_ <= ARRAY_SIZE(garbage) || ((object)->handle = kept_, false); i_++)                 \
		if ((object)->handle = i_ < ARRAY_SIZE(garbage) ? garbage[i_] : (other),           \
		    (object)->handle != kept_ && (i_ < ARRAY_SIZE(garbage) || !tdev()->rxe))

static void c_qp(struct pair *p)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	struct ibv_qp_init_attr init;
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	EACH_HANDLE(p->a.qp, p->b.ep.qp->handle)
	{
		REFUSED(ibv_modify_qp(p->a.qp, &attr, IBV_QP_STATE));
		REFUSED(ibv_query_qp(p->a.qp, &attr, IBV_QP_STATE, &init));
		attr.qp_state = IBV_QPS_ERR;
		REFUSED(ibv_destroy_qp(p->a.qp));
	}
	CHECK_INT(ep_state(&p->a), IBV_QPS_RTS);
	still_works(p);
	pair_down(p);
}

static void c_cq(struct pair *p)
{
	struct ibv_qp_init_attr init;
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	EACH_HANDLE(p->a.scq, p->a.rcq->handle)
	{
		init_attr(&p->a, &init);
		REFUSED(ibv_resize_cq(p->a.scq, 512));
		REFUSED(ibv_destroy_cq(p->a.scq));
		REFUSED_NEW(ibv_create_qp(p->a.pd, &init));
	}
	still_works(p);
	pair_down(p);
}

static void c_srq(struct pair *p)
{
	struct ibv_srq_attr attr = {.max_wr = 4};
	struct ibv_qp_init_attr init;
	struct ep_conf c = RC_CONF;

	c.srq_wr = 8;
	REQUIRE(pair_up(p, &c, &c));
	EACH_HANDLE(p->a.srq, p->b.ep.srq->handle)
	{
		init_attr(&p->a, &init);
		init.srq = p->a.srq;
		REFUSED(ibv_modify_srq(p->a.srq, &attr, IBV_SRQ_MAX_WR));
		REFUSED(ibv_query_srq(p->a.srq, &attr));
		REFUSED(ibv_destroy_srq(p->a.srq));
		REFUSED_NEW(ibv_create_qp(p->a.pd, &init));
	}
	CHECK_ERRNO(ibv_query_srq(p->a.srq, &attr), 0);
	CHECK(attr.max_wr >= 8);
	still_works(p);
	pair_down(p);
}

static void c_pd(struct pair *p)
{
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = 1, .max_sge = 1}};
	struct ibv_ah_attr ah = {.port_num = PORT, .is_global = 1};
	struct ibv_qp_init_attr init;
	struct ep_conf c = RC_CONF;

	ah.grh.dgid = tdev()->gid;
	ah.grh.sgid_index = (uint8_t)tdev()->gid_index;
	REQUIRE(pair_up(p, &c, &c));
	EACH_HANDLE(p->a.pd, p->a.pd_other->handle)
	{
		init_attr(&p->a, &init);
		REFUSED(ibv_dealloc_pd(p->a.pd));
		REFUSED_NEW(ibv_reg_mr(p->a.pd, p->a.buf, 4096, 0));
		REFUSED_NEW(ibv_create_qp(p->a.pd, &init));
		REFUSED_NEW(ibv_create_srq(p->a.pd, &srq));
		REFUSED_NEW(ibv_create_ah(p->a.pd, &ah));
	}
	still_works(p);
	pair_down(p);
}

static void c_mr_ah(struct pair *p)
{
	struct ibv_ah_attr attr = {.port_num = PORT, .is_global = 1};
	struct ep_conf c = RC_CONF;
	struct ibv_ah *ah;

	attr.grh.dgid = tdev()->gid;
	attr.grh.sgid_index = (uint8_t)tdev()->gid_index;
	REQUIRE(pair_up(p, &c, &c));
	ah = ibv_create_ah(p->a.pd, &attr);
	REQUIRE(ah);
	EACH_HANDLE(p->a.mr, p->a.mr_other->handle)
	{
		REFUSED(ibv_dereg_mr(p->a.mr));
		CHECK(ibv_rereg_mr(p->a.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
				   IBV_ACCESS_LOCAL_WRITE));
		CHECK(tdev()->rxe || refused(errno)); /* which has another errno for it */
	}
	still_works(p);
	/* Those of the kernel's drivers that keep them to themselves do not look. */
	if (!tdev()->rxe)
		EACH_HANDLE(ah, ah->handle + 1)
	REFUSED(ibv_destroy_ah(ah));
	CHECK_ERRNO(ibv_destroy_ah(ah), 0);
	pair_down(p);
}

static void c_dm(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = 4096};
	struct ep_conf c = RC_CONF;
	struct ibv_dm *dm;
	uint32_t word = 7;

	REQUIRE(pair_up(p, &c, &c));
	dm = ibv_alloc_dm(p->a.ctx, &a);
	if (!dm) {
		pair_down(p);
		t_skip("no device memory");
		return;
	}
	EACH_HANDLE(dm, dm->handle + 1)
	{
		REFUSED(ibv_free_dm(dm));
		REFUSED_NEW(ibv_reg_dm_mr(p->a.pd, dm, 0, 4096, IBV_ACCESS_ZERO_BASED));
	}
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 0, &word, sizeof(word)), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	pair_down(p);
}

/* Of another context: B's, which is one of its own. */
static void c_context(struct pair *p)
{
	struct ibv_qp_init_attr init, with;
	struct ep_conf c = RC_CONF;
	struct ep *b = &p->b.ep;

	if (tdev()->rxe) {
		t_skip("the kernel takes the handle for that of this context's own object");
		return;
	}
	c.srq_wr = 8;
	c.channel = true;
	REQUIRE(pair_up(p, &c, &c));
	init_attr(&p->a, &init);
	with = init;
	with.send_cq = b->scq;
	REFUSED_NEW(ibv_create_qp(p->a.pd, &with));
	with = init;
	with.recv_cq = b->rcq;
	REFUSED_NEW(ibv_create_qp(p->a.pd, &with));
	with = init;
	with.srq = b->srq;
	REFUSED_NEW(ibv_create_qp(p->a.pd, &with));
	REFUSED_NEW(ibv_create_qp(b->pd, &init));
	REFUSED_NEW(ibv_create_cq(p->a.ctx, 4, NULL, b->chan, 0));
	CHECK(ibv_rereg_mr(p->a.mr, IBV_REREG_MR_CHANGE_PD, b->pd, NULL, 0, 0));
	CHECK(refused(errno));
	still_works(p);
	pair_down(p);
}

/* EBUSY is in errno as well: programs look at either. */
static void c_busy(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	c.srq_wr = 8;
	c.channel = true;
	REQUIRE(pair_up(p, &c, &c));
#define BUSY(call)                                                                                 \
	({                                                                                         \
		errno = 0;                                                                         \
		CHECK_ERRNO(call, EBUSY);                                                          \
		CHECK_ERRNO(errno, EBUSY);                                                         \
	})
	BUSY(ibv_dealloc_pd(p->a.pd));
	BUSY(ibv_destroy_cq(p->a.scq));
	BUSY(ibv_destroy_cq(p->a.rcq));
	BUSY(ibv_destroy_srq(p->a.srq));
	if (!tdev()->rxe)
		BUSY(ibv_destroy_comp_channel(p->a.chan));
	still_works(p);
	pair_down(p);
}

static void c_busy_dm(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = 4096};
	struct ibv_context *ctx = tdev_open();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_dm *dm = ibv_alloc_dm(ctx, &a);
	struct ibv_mr *mr;

	(void)p;
	if (!dm) {
		ibv_dealloc_pd(pd);
		ibv_close_device(ctx);
		t_skip("no device memory");
		return;
	}
	mr = ibv_reg_dm_mr(pd, dm, 0, 4096, IBV_ACCESS_ZERO_BASED);
	REQUIRE(mr);
	BUSY(ibv_free_dm(dm));
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	CHECK_ERRNO(ibv_dealloc_pd(pd), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"qp", c_qp, HERE},           {"cq", c_cq, HERE},
		{"srq", c_srq, HERE},         {"pd", c_pd, HERE},
		{"mr-ah", c_mr_ah, HERE},     {"dm", c_dm, HERE},
		{"context", c_context, HERE}, {"busy", c_busy, HERE},
		{"busy-dm", c_busy_dm, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
