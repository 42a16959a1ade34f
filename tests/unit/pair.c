/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "child.h"
#include "pair.h"

#define PAIR_MS 30000u
#define ACCESS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)

static bool queues_make(struct end *e, enum ibv_qp_type type, bool srq)
{
	struct ibv_srq_init_attr sa = {.attr = {.max_wr = 64, .max_sge = 1}};
	struct ibv_qp_init_attr qa = {.qp_type = type,
				      .sq_sig_all = 1,
				      .cap = {.max_send_wr = 64,
					      .max_recv_wr = 64,
					      .max_send_sge = 1,
					      .max_recv_sge = 1}};

	e->ch = ibv_create_comp_channel(e->ctx);
	e->scq = ibv_create_cq(e->ctx, 128, NULL, e->ch, 0);
	e->rcq = ibv_create_cq(e->ctx, 128, NULL, e->ch, 0);
	if (srq)
		qa.srq = e->srq = ibv_create_srq(e->pd, &sa);
	qa.send_cq = e->scq;
	qa.recv_cq = e->rcq;
	e->qp = ibv_create_qp(e->pd, &qa);
	return e->qp;
}

bool end_make(struct end *e, struct ibv_context *ctx, enum ibv_qp_type type, bool srq)
{
	struct ibv_qp_attr a = {.qp_state = IBV_QPS_INIT,
				.port_num = 1,
				.qkey = 1,
				.qp_access_flags = ACCESS & ~IBV_ACCESS_LOCAL_WRITE};

	memset(e, 0, sizeof(*e));
	e->ctx = ctx;
	e->pd = ibv_alloc_pd(ctx);
	e->buf = mmap(NULL, END_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!e->pd || e->buf == MAP_FAILED)
		return false;
	e->mr = ibv_reg_mr(e->pd, e->buf, END_LEN, ACCESS);
	if (!e->mr || !queues_make(e, type, srq))
		return false;
	return !ibv_modify_qp(e->qp, &a,
			      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				      (type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS));
}

static int rtr_mask(enum ibv_qp_type type)
{
	int mask = IBV_QP_STATE;

	if (type != IBV_QPT_UD)
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	if (type == IBV_QPT_RC)
		mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	return mask;
}

static int rts_mask(enum ibv_qp_type type)
{
	int mask = IBV_QP_STATE | IBV_QP_SQ_PSN;

	if (type == IBV_QPT_RC)
		mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_MAX_QP_RD_ATOMIC;
	return mask;
}

bool end_connect(struct end *e, uint32_t qpn)
{
	struct ibv_qp_attr a = {.qp_state = IBV_QPS_RTR,
				.path_mtu = IBV_MTU_4096,
				.dest_qp_num = qpn,
				.max_dest_rd_atomic = 1,
				.min_rnr_timer = 1,
				.ah_attr = {.is_global = 1, .port_num = 1}};
	struct ibv_qp_attr s = {
		.qp_state = IBV_QPS_RTS, .rnr_retry = 7, .retry_cnt = 7, .max_rd_atomic = 1};

	return !ibv_query_gid(e->ctx, 1, 0, &a.ah_attr.grh.dgid) &&
	       !ibv_modify_qp(e->qp, &a, rtr_mask(e->qp->qp_type)) &&
	       !ibv_modify_qp(e->qp, &s, rts_mask(e->qp->qp_type));
}

int end_drop(struct end *e)
{
	int ret = e->qp ? ibv_destroy_qp(e->qp) : 0;

	if (!ret && e->srq)
		ret = ibv_destroy_srq(e->srq);
	if (!ret && e->scq)
		ret = ibv_destroy_cq(e->scq);
	if (!ret && e->rcq)
		ret = ibv_destroy_cq(e->rcq);
	if (!ret && e->ch)
		ret = ibv_destroy_comp_channel(e->ch);
	if (!ret && e->mr)
		ret = ibv_dereg_mr(e->mr);
	if (!ret && e->pd)
		ret = ibv_dealloc_pd(e->pd);
	if (!ret)
		munmap(e->buf, END_LEN);
	return ret;
}

bool pair_make(struct end *a, struct end *b, struct ibv_context *ctx, enum ibv_qp_type type,
	       bool srq)
{
	return end_make(a, ctx, type, false) && end_make(b, ctx, type, srq) &&
	       end_connect(a, b->qp->qp_num) && end_connect(b, a->qp->qp_num);
}

int end_recv(struct end *e, uint64_t id)
{
	struct ibv_sge sge = {(uintptr_t)e->buf, END_LEN, e->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = id, .sg_list = &sge, .num_sge = 1}, *bad;

	return e->srq ? ibv_post_srq_recv(e->srq, &wr, &bad) : ibv_post_recv(e->qp, &wr, &bad);
}

int end_send(struct end *e, enum ibv_wr_opcode op, uint64_t id, uint32_t len,
	     const struct ibv_mr *remote, uint32_t imm)
{
	struct ibv_sge sge = {(uintptr_t)e->buf, len, e->mr->lkey};
	struct ibv_send_wr wr = {.wr_id = id,
				 .sg_list = &sge,
				 .num_sge = 1,
				 .opcode = op,
				 .imm_data = imm},
			   *bad;

	if (remote) {
		wr.wr.rdma.remote_addr = (uintptr_t)remote->addr;
		wr.wr.rdma.rkey = remote->rkey;
	}
	return ibv_post_send(e->qp, &wr, &bad);
}

int end_poll(struct ibv_cq *cq, struct ibv_wc *wc, int n, unsigned ms)
{
	uint64_t end = now_ms() + ms;
	int got = 0;

	do {
		int k = ibv_poll_cq(cq, n - got, wc + got);

		if (k < 0)
			return k;
		got += k;
		if (!k)
			sleep_ms(1);
	} while (got < n && now_ms() < end);
	return got;
}

static bool message_arrives(struct end *a, struct end *b)
{
	struct ibv_wc wc;

	memset(a->buf, 5, END_LEN);
	return !end_recv(b, 1) && !madvise(b->buf, END_LEN, MADV_DONTNEED) &&
	       !end_send(a, IBV_WR_SEND, 2, END_LEN, NULL, 0) &&
	       end_poll(a->scq, &wc, 1, PAIR_MS) == 1 && end_poll(b->rcq, &wc, 1, PAIR_MS) == 1 &&
	       wc.status == IBV_WC_SUCCESS;
}

bool pair_works(struct ibv_context *ctx)
{
	struct end a, b;
	bool ok = pair_make(&a, &b, ctx, IBV_QPT_RC, false) && message_arrives(&a, &b) &&
		  !munmap(b.buf, END_LEN);

	b.buf = mmap(b.buf, END_LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	return !end_drop(&a) && !end_drop(&b) && ok;
}
