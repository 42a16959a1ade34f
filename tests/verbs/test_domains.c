/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Parent and thread domains, and small verbs: address handles from completions, the table
 * of GIDs, QPs as extended ones, and what is there but not supported.
 */
#include <stdlib.h>

#include "harness.h"

static void *own_alloc(struct ibv_pd *pd, void *context, size_t size, size_t align, uint64_t type)
{
	(void)pd, (void)context, (void)type;
	return aligned_alloc(align, (size + align - 1) / align * align);
}

static void own_free(struct ibv_pd *pd, void *context, void *ptr, uint64_t type)
{
	(void)pd, (void)context, (void)type;
	free(ptr);
}

static struct ibv_pd *parent_of(struct ibv_pd *pd, struct ibv_td *td)
{
	struct ibv_parent_domain_init_attr attr = {
		.pd = pd,
		.td = td,
		.comp_mask = IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS |
			     IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT,
		.alloc = own_alloc,
		.free = own_free,
		.pd_context = pd,
	};

	return ibv_alloc_parent_domain(pd->context, &attr);
}

/* Traffic over objects of parent domains: keys of one PD, whichever name it was given. */
static void c_traffic(struct pair *p)
{
	struct ibv_td_init_attr ta = {0};
	struct ep_conf conf = RC_CONF;
	struct ibv_pd *parent;
	struct ibv_td *td;
	struct ibv_mr *mr;
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &conf, &conf));
	td = ibv_alloc_td(p->a.ctx, &ta);
	if (!td && errno == EOPNOTSUPP) {
		pair_down(p);
		t_skip("the device has no thread domains");
		return;
	}
	REQUIRE(td);
	parent = parent_of(p->a.pd, td);
	REQUIRE(parent);
	/* An MR of the parent domain, used by a QP of the PD. */
	mr = ibv_reg_mr(parent, p->a.buf, 4096, ALL_ACCESS);
	REQUIRE(mr);
	fill_bytes(p->a.buf, 64, 3);
	w.lkey = mr->lkey;
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(side_sum(&p->b, 0, 64), sum_bytes(p->a.buf, 64));
	CHECK_ERRNO(ibv_dealloc_pd(parent), EBUSY);
	CHECK_ERRNO(ibv_dealloc_td(td), EBUSY);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	CHECK_ERRNO(ibv_dealloc_pd(p->a.pd), EBUSY);
	CHECK_ERRNO(ibv_dealloc_pd(parent), 0);
	CHECK_ERRNO(ibv_dealloc_td(td), 0);
	pair_down(p);
}

static void c_domains(struct pair *p)
{
	struct ibv_context *ctx = tdev_open(), *other = tdev_open();
	struct ibv_parent_domain_init_attr pa = {0};
	struct ibv_td_init_attr ta = {.comp_mask = 1};
	struct ibv_cq_init_attr_ex ca = {.cqe = 4, .comp_mask = IBV_CQ_INIT_ATTR_MASK_PD};
	struct ibv_pd *pd = ibv_alloc_pd(ctx), *foreign = ibv_alloc_pd(other), *parent;
	struct ibv_cq_ex *cq;

	(void)p;
	REQUIRE(pd && foreign);
	parent = parent_of(pd, NULL);
	if (!parent && errno == EOPNOTSUPP) {
		t_skip("the device has no parent domains");
		return;
	}
	REQUIRE(parent);
	CHECK(!ibv_alloc_td(ctx, &ta));
	CHECK_ERRNO(errno, EINVAL);
	CHECK(!ibv_alloc_parent_domain(ctx, &pa));
	CHECK_ERRNO(errno, EINVAL);
	pa.pd = foreign;
	CHECK(!ibv_alloc_parent_domain(ctx, &pa));
	CHECK_ERRNO(errno, EINVAL);
	pa.pd = parent; /* no parent of a parent */
	CHECK(!ibv_alloc_parent_domain(ctx, &pa));
	CHECK_ERRNO(errno, EINVAL);
	pa.pd = pd;
	pa.comp_mask = 1u << 20;
	CHECK(!ibv_alloc_parent_domain(ctx, &pa));
	CHECK_ERRNO(errno, EINVAL);
	pa.comp_mask = IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS; /* without them */
	CHECK(!ibv_alloc_parent_domain(ctx, &pa));
	CHECK_ERRNO(errno, EINVAL);
	ca.parent_domain = pd; /* it is none */
	CHECK(!ibv_create_cq_ex(ctx, &ca));
	CHECK_ERRNO(errno, EINVAL);
	ca.parent_domain = parent;
	cq = ibv_create_cq_ex(ctx, &ca);
	REQUIRE(cq);
	CHECK_ERRNO(ibv_dealloc_pd(parent), EBUSY);
	CHECK_ERRNO(ibv_destroy_cq(ibv_cq_ex_to_cq(cq)), 0);
	CHECK_ERRNO(ibv_dealloc_pd(pd), EBUSY);
	CHECK_ERRNO(ibv_dealloc_pd(parent), 0);
	CHECK_ERRNO(ibv_dealloc_pd(pd), 0);
	CHECK_ERRNO(ibv_dealloc_pd(foreign), 0);
	CHECK_ERRNO(ibv_close_device(other), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

/* A answers a datagram by what its completion says. */
static void c_answer(struct pair *p)
{
	struct ep_conf conf = RC_CONF;
	struct ibv_ah_attr av;
	struct ibv_grh *grh;
	struct ibv_ah *ah;
	struct ibv_wc wc;

	conf.type = IBV_QPT_UD;
	REQUIRE(pair_up(p, &conf, &conf));
	CHECK_ERRNO(ep_recv(&p->a, &(struct twr){.id = 1, .off = 0, .len = 128}), 0);
	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 2, .off = 512, .len = 128}), 0);
	CHECK_ERRNO(side_send(&p->b, &(struct twr){.op = IBV_WR_SEND, .len = 64}), 0);
	CHECK_INT(ep_poll(p->a.rcq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	grh = (struct ibv_grh *)p->a.buf;
	CHECK_ERRNO(ibv_init_ah_from_wc(p->a.ctx, PORT, &wc, grh, &av), 0);
	CHECK(av.is_global && av.port_num == PORT);
	CHECK_INT(memcmp(&av.grh.dgid, &p->bi.gid, 16), 0);
	CHECK_INT(av.grh.sgid_index, tdev()->gid_index);
	ah = ibv_create_ah_from_wc(p->a.pd, &wc, grh, PORT);
	REQUIRE(ah);
	CHECK_ERRNO(ibv_destroy_ah(p->a.ah), 0);
	p->a.ah = ah;
	CHECK_ERRNO(ep_send(&p->a, &(struct twr){.op = IBV_WR_SEND, .len = 32, .qpn = wc.src_qp}),
		    0);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(wc.src_qp, p->ai.qpn);
	pair_down(p);
}

static void c_small(struct pair *p)
{
	struct ep_conf conf = RC_CONF, plain = RC_CONF;
	struct ibv_gid_entry entries[64];
	struct ibv_ece ece = {.vendor_id = 1};
	struct ibv_qp_init_attr attr = {.cap = {1, 1, 1, 1, 0}, .qp_type = IBV_QPT_RAW_PACKET};
	struct ibv_flow_attr flow = {.size = sizeof(flow), .port = PORT};
	struct ibv_ops_wr ops = {.opcode = IBV_WR_TAG_ADD}, *bad;
	ssize_t n;

	conf.send_ops = IBV_QP_EX_WITH_SEND;
	plain.srq_wr = 4;
	REQUIRE(pair_up(p, &conf, &plain));
	CHECK(ibv_qp_to_qp_ex(p->a.qp) && ibv_qp_to_qp_ex(p->a.qp)->wr_start);
	n = ibv_query_gid_table(p->a.ctx, entries, ARRAY_SIZE(entries), 0);
	CHECK(n > tdev()->gid_index);
	for (ssize_t i = 0; i < n; i++)
		if (entries[i].gid_index == (uint32_t)tdev()->gid_index)
			CHECK_INT(memcmp(&entries[i].gid, &tdev()->gid, 16), 0);
	if (tdev()->rxe) {
		pair_down(p);
		return;
	}
	/* No vendor's options; no order within a message that may be relied on. */
	CHECK_ERRNO(ibv_set_ece(p->a.qp, &ece), EOPNOTSUPP);
	CHECK_ERRNO(ibv_query_ece(p->a.qp, &ece), EOPNOTSUPP);
	CHECK_INT(ibv_query_qp_data_in_order(p->a.qp, IBV_WR_RDMA_WRITE, 0), 0);
	/* Raw Ethernet and tag matching are not there. */
	attr.send_cq = p->a.scq;
	attr.recv_cq = p->a.rcq;
	CHECK(!ibv_create_qp(p->a.pd, &attr));
	CHECK_ERRNO(errno, EOPNOTSUPP);
	CHECK(!ibv_create_flow(p->a.qp, &flow));
	CHECK_ERRNO(errno, EOPNOTSUPP);
	if (!p->remote) {
		CHECK(!ibv_qp_to_qp_ex(p->b.ep.qp));
		CHECK_ERRNO(ibv_post_srq_ops(p->b.ep.srq, &ops, &bad), EOPNOTSUPP);
	}
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"traffic", c_traffic, BOTH},
		{"domains", c_domains, HERE},
		{"answer", c_answer, BOTH},
		{"small", c_small, HERE},
	};

	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
