/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Objects that a program destroys after ibv_close_device(), as bindings with a garbage
 * collector do: every verb but those that destroy gives EIO, in any order. */
#include <stdlib.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "harness.h"

#define OPS (IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_SEND)

struct objects {
	struct ep ep;
	struct ibv_dm *dm;
	struct ibv_mr *dm_mr;
	struct ibv_ah *ah;
	struct ibv_comp_channel *idle; /* no CQ uses it */
};

static bool objects_open(struct objects *o)
{
	struct ibv_alloc_dm_attr dm = {.length = 4096};
	struct ibv_ah_attr ah = {.port_num = PORT, .is_global = 1};
	struct ep_conf c = RC_CONF;

	memset(o, 0, sizeof(*o));
	c.channel = true;
	c.srq_wr = 8;
	c.send_ops = OPS;
	if (!CHECK_ERRNO(ep_open(&o->ep, &c), 0) || !CHECK_ERRNO(ep_init(&o->ep), 0))
		return false;
	o->dm = ibv_alloc_dm(o->ep.ctx, &dm);
	o->dm_mr = o->dm ? ibv_reg_dm_mr(o->ep.pd, o->dm, 0, 4096,
					 IBV_ACCESS_ZERO_BASED | IBV_ACCESS_LOCAL_WRITE)
			 : NULL;
	ah.grh.dgid = tdev()->gid;
	ah.grh.sgid_index = (uint8_t)tdev()->gid_index;
	o->ah = ibv_create_ah(o->ep.pd, &ah);
	o->idle = ibv_create_comp_channel(o->ep.ctx);
	return CHECK(o->dm) && CHECK(o->dm_mr) && CHECK(o->ah) && CHECK(o->idle);
}

/* ---- every verb ---- */

static void queues_refuse(const struct objects *o)
{
	struct ibv_recv_wr recv = {.wr_id = 1}, *bad_recv = NULL;
	struct ibv_send_wr send = {.opcode = IBV_WR_RDMA_WRITE}, *bad_send = NULL;
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	struct ibv_qp_ex *qpx = ibv_qp_to_qp_ex(o->ep.qp);
	struct ibv_srq_attr srq = {.max_wr = 4};
	struct ibv_qp_init_attr init;
	struct ibv_wc wc;

	CHECK_ERRNO(ibv_post_send(o->ep.qp, &send, &bad_send), EIO);
	CHECK(bad_send == &send);
	CHECK_ERRNO(ibv_post_recv(o->ep.qp, &recv, &bad_recv), EIO);
	CHECK(bad_recv == &recv);
	CHECK_ERRNO(ibv_post_srq_recv(o->ep.srq, &recv, &bad_recv), EIO);
	CHECK(ibv_poll_cq(o->ep.scq, 1, &wc) < 0 && errno == EIO);
	CHECK_ERRNO(ibv_req_notify_cq(o->ep.scq, 0), EIO);
	ibv_wr_start(qpx);
	ibv_wr_rdma_write(qpx, 1, 2);
	ibv_wr_set_sge(qpx, 1, 2, 3);
	ibv_wr_send(qpx);
	ibv_wr_set_inline_data(qpx, &wc, 8);
	CHECK_ERRNO(ibv_wr_complete(qpx), EIO);
	ibv_wr_start(qpx);
	ibv_wr_abort(qpx);
	CHECK_ERRNO(ibv_modify_qp(o->ep.qp, &attr, IBV_QP_STATE), EIO);
	CHECK_ERRNO(ibv_query_qp(o->ep.qp, &attr, IBV_QP_STATE, &init), EIO);
	CHECK_ERRNO(ibv_resize_cq(o->ep.scq, 512), EIO);
	CHECK_ERRNO(ibv_modify_srq(o->ep.srq, &srq, IBV_SRQ_MAX_WR), EIO);
	CHECK_ERRNO(ibv_query_srq(o->ep.srq, &srq), EIO);
}

static void none(const void *got)
{
	CHECK(!got);
	CHECK_ERRNO(errno, EIO);
}

static void others_refuse(const struct objects *o)
{
	struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_RC};
	struct ibv_sge sge = {.lkey = 1, .length = 1};
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = 1, .max_sge = 1}};
	struct uodpdv_mr_attr mr;
	struct ibv_device_attr attr;
	struct ibv_ah_attr ah = {.port_num = PORT, .is_global = 1};
	uint32_t word = 0;

	init.send_cq = init.recv_cq = o->ep.scq;
	none(ibv_reg_mr(o->ep.pd, o->ep.buf, 4096, 0));
	none(ibv_create_qp(o->ep.pd, &init));
	none(ibv_create_srq(o->ep.pd, &srq));
	none(ibv_create_ah(o->ep.pd, &ah));
	none(ibv_create_cq(o->ep.ctx, 4, NULL, NULL, 0));
	none(ibv_alloc_pd(o->ep.ctx));
	none(uodpdv_dm_map(o->dm));
	CHECK_ERRNO(ibv_query_device(o->ep.ctx, &attr), EIO);
	CHECK_ERRNO(ibv_advise_mr(o->ep.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, 0, &sge, 1), EIO);
	CHECK(ibv_rereg_mr(o->ep.mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, 0) != 0);
	CHECK_ERRNO(ibv_memcpy_to_dm(o->dm, 0, &word, sizeof(word)), EIO);
	CHECK_ERRNO(ibv_memcpy_from_dm(&word, o->dm, 0, sizeof(word)), EIO);
	CHECK_ERRNO(uodpdv_query_mr(o->ep.mr, &mr, sizeof(mr)), EIO);
	CHECK_ERRNO(uodpdv_invalidate_mr(o->ep.mr), EIO);
	CHECK_ERRNO(uodpdv_dmabuf_hold(o->dm), EIO);
	CHECK_ERRNO(uodpdv_dmabuf_release(o->dm), EIO);
}

/* ---- destroying ---- */

/* From the leaves, as it should be, or the other way round, as a collector may. */
static void objects_destroy(struct objects *o, bool reverse)
{
	for (int i = 0; i < 12; i++) {
		switch (reverse ? 11 - i : i) {
		case 0:
			CHECK_ERRNO(ibv_destroy_qp(o->ep.qp), 0);
			break;
		case 1:
			CHECK_ERRNO(ibv_destroy_ah(o->ah), 0);
			break;
		case 2:
			CHECK_ERRNO(ibv_destroy_srq(o->ep.srq), 0);
			break;
		case 3:
			CHECK_ERRNO(ibv_destroy_cq(o->ep.scq), 0);
			break;
		case 4:
			CHECK_ERRNO(ibv_destroy_cq(o->ep.rcq), 0);
			break;
		case 5:
			CHECK_ERRNO(ibv_destroy_comp_channel(o->ep.chan), 0);
			break;
		case 6:
			CHECK_ERRNO(ibv_destroy_comp_channel(o->idle), 0);
			break;
		case 7:
			CHECK_ERRNO(ibv_dereg_mr(o->dm_mr), 0);
			break;
		case 8:
			CHECK_ERRNO(ibv_free_dm(o->dm), 0);
			break;
		case 9:
			CHECK_ERRNO(ibv_dereg_mr(o->ep.mr), 0);
			CHECK_ERRNO(ibv_dereg_mr(o->ep.mr_other), 0);
			break;
		case 10:
			CHECK_ERRNO(ibv_dealloc_pd(o->ep.pd), 0);
			break;
		case 11:
			CHECK_ERRNO(ibv_dealloc_pd(o->ep.pd_other), 0);
			break;
		}
	}
}

static void closed(bool reverse)
{
	struct objects o;
	char byte;

	REQUIRE(objects_open(&o));
	CHECK_ERRNO(ibv_close_device(o.ep.ctx), 0);
	queues_refuse(&o);
	others_refuse(&o);
	/* Who reads from the channel does not wait for ever. */
	CHECK_INT(read(o.ep.chan->fd, &byte, 1), 0);
	CHECK_ERRNO(ibv_close_device(o.ep.ctx), 0); /* again, while objects keep it */
	objects_destroy(&o, reverse);
}

static void c_in_order(struct pair *p)
{
	(void)p;
	closed(false);
}

static void c_in_reverse(struct pair *p)
{
	(void)p;
	closed(true);
}

/* What a peer does with the other end is as if it had died. */
static void c_peer(struct pair *p)
{
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ep_conf c = RC_CONF;
	struct ep *b = &p->b.ep;
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	CHECK_ERRNO(ibv_close_device(b->ctx), 0);
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_RETRY_EXC_ERR);
	CHECK_ERRNO(ibv_dealloc_pd(b->pd), 0);
	CHECK_ERRNO(ibv_dealloc_pd(b->pd_other), 0);
	CHECK_ERRNO(ibv_destroy_cq(b->scq), 0);
	CHECK_ERRNO(ibv_destroy_cq(b->rcq), 0);
	CHECK_ERRNO(ibv_dereg_mr(b->mr), 0);
	CHECK_ERRNO(ibv_dereg_mr(b->mr_other), 0);
	CHECK_ERRNO(ibv_destroy_qp(b->qp), 0);
	*b = (struct ep){0};
	CHECK_ERRNO(ep_close(&p->a), 0);
}

/* Each of them as often as there is room for: nothing stays behind. */
static void c_again(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = (size_t)40 << 20};

	(void)p;
	for (int i = 0; i < 8 && !t_failures(); i++) {
		struct ibv_context *ctx = tdev_open();
		struct ibv_dm *dm = ibv_alloc_dm(ctx, &a);

		REQUIRE(dm);
		CHECK_ERRNO(ibv_close_device(ctx), 0);
		CHECK_ERRNO(ibv_free_dm(dm), 0);
	}
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"in-order", c_in_order, HERE},
		{"in-reverse", c_in_reverse, HERE},
		{"peer", c_peer, HERE},
		{"again", c_again, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
