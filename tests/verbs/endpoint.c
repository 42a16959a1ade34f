/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* An endpoint: everything from the context to one QP. */
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

static void conf_default(struct ep_conf *c)
{
	if (!c->len)
		c->len = 65536;
	if (!c->cap.max_send_wr)
		c->cap.max_send_wr = 32;
	if (!c->cap.max_recv_wr)
		c->cap.max_recv_wr = 32;
	if (!c->cap.max_send_sge)
		c->cap.max_send_sge = 4;
	if (!c->cap.max_recv_sge)
		c->cap.max_recv_sge = 4;
	if (!c->cap.max_inline_data)
		c->cap.max_inline_data = 64;
	if (!c->cqe)
		c->cqe = 256;
	if (!c->mtu)
		c->mtu = tdev()->port.active_mtu;
}

uint32_t pinned_len(uint32_t len)
{
	struct rlimit lim;

	if (!geteuid() || getrlimit(RLIMIT_MEMLOCK, &lim) || lim.rlim_cur == RLIM_INFINITY)
		return len;
	return len < lim.rlim_cur / 8 ? len : (uint32_t)(lim.rlim_cur / 8) & ~4095u;
}

static int buf_open(struct ep *ep)
{
	const struct ep_conf *c = &ep->conf;
	int access = c->mr_access | (c->odp ? IBV_ACCESS_ON_DEMAND : 0);

	ep->map_len = (size_t)c->len + c->skew;
	ep->map =
		mmap(NULL, ep->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ep->map == MAP_FAILED) {
		ep->map = NULL;
		return errno;
	}
	ep->buf = ep->map + c->skew;
	if (!c->fresh)
		memset(ep->map, 0, ep->map_len);
	ep->mr = ibv_reg_mr(ep->pd, ep->buf, c->len, access);
	if (!ep->mr)
		return errno;
	/* To pin it would be to touch it. */
	ep->mr_other = ibv_reg_mr(ep->pd_other, ep->buf, c->len,
				  ALL_ACCESS | (c->odp && c->fresh ? IBV_ACCESS_ON_DEMAND : 0));
	return ep->mr_other ? 0 : errno;
}

static struct ibv_qp *qp_open(struct ep *ep)
{
	struct ibv_qp_init_attr_ex attr = {
		.send_cq = ep->scq,
		.recv_cq = ep->rcq,
		.srq = ep->srq,
		.cap = ep->conf.cap,
		.qp_type = ep->conf.type,
		.sq_sig_all = ep->conf.sq_sig_all,
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = ep->pd,
		.send_ops_flags = ep->conf.send_ops,
	};
	struct ibv_qp_init_attr plain = {
		.send_cq = ep->scq,
		.recv_cq = ep->rcq,
		.srq = ep->srq,
		.cap = ep->conf.cap,
		.qp_type = ep->conf.type,
		.sq_sig_all = ep->conf.sq_sig_all,
	};

	if (ep->conf.send_ops)
		return ibv_create_qp_ex(ep->ctx, &attr);
	return ibv_create_qp(ep->pd, &plain);
}

static struct ibv_cq *cq_open(struct ep *ep)
{
	struct ibv_cq_init_attr_ex attr = {
		.cqe = (uint32_t)ep->conf.cqe,
		.cq_context = ep,
		.channel = ep->chan,
		.wc_flags = ep->conf.wc_flags,
		.comp_mask = ep->conf.cq_flags ? IBV_CQ_INIT_ATTR_MASK_FLAGS : 0,
		.flags = ep->conf.cq_flags,
	};
	struct ibv_cq_ex *cq;

	if (!ep->conf.wc_flags && !ep->conf.cq_flags)
		return ibv_create_cq(ep->ctx, ep->conf.cqe, ep, ep->chan, 0);
	cq = ibv_create_cq_ex(ep->ctx, &attr);
	return cq ? ibv_cq_ex_to_cq(cq) : NULL;
}

int ep_open(struct ep *ep, const struct ep_conf *conf)
{
	int err;

	memset(ep, 0, sizeof(*ep));
	ep->conf = *conf;
	conf_default(&ep->conf);
	ep->psn = 0x123456 ^ (uint32_t)getpid();
	ep->psn &= 0xffffff;
	ep->ctx = tdev_open();
	ep->pd = ibv_alloc_pd(ep->ctx);
	ep->pd_other = ibv_alloc_pd(ep->ctx);
	if (!ep->pd || !ep->pd_other)
		return errno;
	if (conf->channel) {
		ep->chan = ibv_create_comp_channel(ep->ctx);
		if (!ep->chan)
			return errno;
	}
	ep->scq = cq_open(ep);
	ep->rcq = cq_open(ep);
	if (!ep->scq || !ep->rcq)
		return errno;
	err = buf_open(ep);
	if (err)
		return err;
	if (conf->srq_wr) {
		struct ibv_srq_init_attr a = {.attr = {.max_wr = conf->srq_wr, .max_sge = 4}};

		ep->srq = ibv_create_srq(ep->pd, &a);
		if (!ep->srq)
			return errno;
	}
	ep->qp = qp_open(ep);
	return ep->qp ? 0 : errno;
}

void ep_info(struct ep *ep, struct ep_info *info)
{
	info->qpn = ep->qp->qp_num;
	info->psn = ep->psn;
	info->rkey = ep->mr->rkey;
	info->rkey_other = ep->mr_other->rkey;
	info->addr = (uintptr_t)ep->buf;
	info->len = ep->conf.len;
	info->gid = tdev()->gid;
}

int ep_mask_init(enum ibv_qp_type type)
{
	return IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
	       (type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS);
}

int ep_mask_rtr(enum ibv_qp_type type)
{
	if (type == IBV_QPT_UD)
		return IBV_QP_STATE;
	return IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
	       (type == IBV_QPT_RC ? IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER : 0);
}

int ep_mask_rts(enum ibv_qp_type type)
{
	return IBV_QP_STATE | IBV_QP_SQ_PSN |
	       (type == IBV_QPT_RC ? IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
					     IBV_QP_MAX_QP_RD_ATOMIC
				   : 0);
}

void ep_attr_init(const struct ep *ep, struct ibv_qp_attr *attr)
{
	attr->qp_state = IBV_QPS_INIT;
	attr->pkey_index = 0;
	attr->port_num = PORT;
	attr->qkey = QKEY;
	attr->qp_access_flags = (unsigned int)ep->conf.qp_access;
}

static void av_fill(const struct ep_info *peer, struct ibv_ah_attr *av)
{
	memset(av, 0, sizeof(*av));
	av->is_global = 1;
	av->grh.dgid = peer->gid;
	av->grh.sgid_index = (uint8_t)tdev()->gid_index;
	av->grh.hop_limit = 64;
	av->port_num = PORT;
}

void ep_attr_rtr(const struct ep *ep, const struct ep_info *peer, struct ibv_qp_attr *attr)
{
	attr->qp_state = IBV_QPS_RTR;
	av_fill(peer, &attr->ah_attr);
	attr->path_mtu = (enum ibv_mtu)ep->conf.mtu;
	attr->dest_qp_num = peer->qpn;
	attr->rq_psn = peer->psn;
	attr->max_dest_rd_atomic = (uint8_t)ep->conf.dest_rd_atomic;
	attr->min_rnr_timer = (uint8_t)ep->conf.min_rnr_timer;
}

void ep_attr_rts(const struct ep *ep, struct ibv_qp_attr *attr)
{
	attr->qp_state = IBV_QPS_RTS;
	attr->sq_psn = ep->psn;
	attr->timeout = (uint8_t)ep->conf.timeout;
	attr->retry_cnt = (uint8_t)ep->conf.retry_cnt;
	attr->rnr_retry = (uint8_t)ep->conf.rnr_retry;
	attr->max_rd_atomic = (uint8_t)ep->conf.rd_atomic;
}

int ep_init(struct ep *ep)
{
	struct ibv_qp_attr attr = {.cap = ep->conf.cap};

	ep_attr_init(ep, &attr);
	return ibv_modify_qp(ep->qp, &attr, ep_mask_init(ep->conf.type));
}

int ep_rtr(struct ep *ep, const struct ep_info *peer)
{
	struct ibv_qp_attr attr = {.cap = ep->conf.cap};
	struct ibv_ah_attr av;

	ep->peer = *peer;
	if (ep->conf.type == IBV_QPT_UD && !ep->ah) {
		av_fill(peer, &av);
		ep->ah = ibv_create_ah(ep->pd, &av);
		if (!ep->ah)
			return errno;
	}
	ep_attr_rtr(ep, peer, &attr);
	return ibv_modify_qp(ep->qp, &attr, ep_mask_rtr(ep->conf.type));
}

int ep_rts(struct ep *ep)
{
	struct ibv_qp_attr attr = {.cap = ep->conf.cap};

	ep_attr_rts(ep, &attr);
	return ibv_modify_qp(ep->qp, &attr, ep_mask_rts(ep->conf.type));
}

int ep_modify(struct ep *ep, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = {.qp_state = state};

	return ibv_modify_qp(ep->qp, &attr, IBV_QP_STATE);
}

int ep_state(struct ep *ep)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	if (ibv_query_qp(ep->qp, &attr, IBV_QP_STATE, &init))
		return -1;
	return attr.qp_state;
}

int ep_settled(struct ep *ep, int want)
{
	int i, state = ep_state(ep);

	for (i = 0; tdev()->rxe && i < 200 && state != want; i++) {
		sleep_ms(5);
		state = ep_state(ep);
	}
	return state;
}

static void keep_first(int *err, int e)
{
	if (!*err)
		*err = e;
}

int ep_close(struct ep *ep)
{
	int err = 0;

	if (ep->qp)
		keep_first(&err, ibv_destroy_qp(ep->qp));
	if (ep->ah)
		keep_first(&err, ibv_destroy_ah(ep->ah));
	if (ep->srq)
		keep_first(&err, ibv_destroy_srq(ep->srq));
	if (ep->mr)
		keep_first(&err, ibv_dereg_mr(ep->mr));
	if (ep->mr_other)
		keep_first(&err, ibv_dereg_mr(ep->mr_other));
	if (ep->scq)
		keep_first(&err, ibv_destroy_cq(ep->scq));
	if (ep->rcq)
		keep_first(&err, ibv_destroy_cq(ep->rcq));
	if (ep->chan)
		keep_first(&err, ibv_destroy_comp_channel(ep->chan));
	if (ep->pd)
		keep_first(&err, ibv_dealloc_pd(ep->pd));
	if (ep->pd_other)
		keep_first(&err, ibv_dealloc_pd(ep->pd_other));
	if (ep->ctx)
		keep_first(&err, ibv_close_device(ep->ctx));
	if (ep->map)
		munmap(ep->map, ep->map_len);
	memset(ep, 0, sizeof(*ep));
	return err;
}

static int sges(struct ep *ep, const struct twr *wr, struct ibv_sge *out)
{
	int i;

	if (!wr->nsge) {
		out[0].addr = (uintptr_t)ep->buf + wr->off;
		out[0].length = wr->len;
		out[0].lkey = wr->lkey ? wr->lkey : ep->mr->lkey;
		return wr->len ? 1 : 0;
	}
	for (i = 0; i < wr->nsge; i++) {
		out[i] = wr->sge[i];
		out[i].addr += (uintptr_t)ep->buf;
		if (!out[i].lkey)
			out[i].lkey = ep->mr->lkey;
	}
	return wr->nsge;
}

static bool op_has_imm(enum ibv_wr_opcode op)
{
	return op == IBV_WR_SEND_WITH_IMM || op == IBV_WR_RDMA_WRITE_WITH_IMM;
}

int ep_send(struct ep *ep, const struct twr *t)
{
	struct ibv_sge sge[MAX_TSGE];
	struct ibv_send_wr *bad;
	struct ibv_send_wr wr = {
		.wr_id = t->id,
		.sg_list = sge,
		.num_sge = sges(ep, t, sge),
		.opcode = t->op,
		.send_flags = t->flags,
	};

	if (op_has_imm(t->op))
		wr.imm_data = htobe32(t->imm);
	else if (t->op == IBV_WR_SEND_WITH_INV)
		wr.invalidate_rkey = t->imm;
	if (t->op == IBV_WR_ATOMIC_CMP_AND_SWP || t->op == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = t->raddr;
		wr.wr.atomic.rkey = t->rkey;
		wr.wr.atomic.compare_add = t->compare_add;
		wr.wr.atomic.swap = t->swap;
	} else if (ep->conf.type == IBV_QPT_UD) {
		wr.wr.ud.ah = ep->ah;
		wr.wr.ud.remote_qpn = t->qpn ? t->qpn : ep->peer.qpn;
		wr.wr.ud.remote_qkey = t->qkey ? t->qkey : QKEY;
	} else {
		wr.wr.rdma.remote_addr = t->raddr;
		wr.wr.rdma.rkey = t->rkey;
	}
	return ibv_post_send(ep->qp, &wr, &bad);
}

int ep_recv(struct ep *ep, const struct twr *t)
{
	struct ibv_sge sge[MAX_TSGE];
	struct ibv_recv_wr *bad;
	struct ibv_recv_wr wr = {
		.wr_id = t->id,
		.sg_list = sge,
		.num_sge = sges(ep, t, sge),
	};

	if (ep->srq)
		return ibv_post_srq_recv(ep->srq, &wr, &bad);
	return ibv_post_recv(ep->qp, &wr, &bad);
}

int ep_poll(struct ibv_cq *cq, struct ibv_wc *wc, int n, int ms)
{
	uint64_t end = now_ms() + (uint64_t)ms;
	int got = 0, idle = 0, r;

	memset(wc, 0, sizeof(*wc) * (size_t)n);
	for (;;) {
		r = ibv_poll_cq(cq, n - got, wc + got);
		if (r < 0)
			return r;
		got += r;
		if (got == n)
			return got;
		if (r) {
			idle = 0;
		} else if (++idle > 50) {
			struct timespec ts = {0, 100000};

			if (now_ms() >= end)
				return got;
			nanosleep(&ts, NULL);
		} else {
			sched_yield();
		}
	}
}

static bool fd_ready(int fd, int ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, ms) == 1;
}

int ep_event(struct ep *ep, int ms, bool *mine)
{
	struct ibv_async_event ev;
	bool own;

	if (!fd_ready(ep->ctx->async_fd, ms))
		return -1;
	if (ibv_get_async_event(ep->ctx, &ev))
		return -1;
	switch (ev.event_type) {
	case IBV_EVENT_CQ_ERR:
		own = ev.element.cq == ep->scq || ev.element.cq == ep->rcq;
		break;
	case IBV_EVENT_SRQ_ERR:
	case IBV_EVENT_SRQ_LIMIT_REACHED:
		own = ev.element.srq == ep->srq;
		break;
	default:
		own = ev.element.qp == ep->qp;
	}
	if (mine)
		*mine = own;
	ibv_ack_async_event(&ev);
	return (int)ev.event_type;
}

bool ep_cq_event(struct ep *ep, int ms, struct ibv_cq **cq)
{
	struct ibv_cq *got;
	void *context;

	if (!fd_ready(ep->chan->fd, ms) || ibv_get_cq_event(ep->chan, &got, &context))
		return false;
	ibv_ack_cq_events(got, 1);
	if (cq)
		*cq = got;
	return context == ep;
}
