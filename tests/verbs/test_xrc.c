/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * XRC: A sends to a target QP of B, into SRQs of B and of C; B and C are processes of
 * their own where the device lets them be, and one XRC domain by a file.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

#define LEN 65536u
#define WRONG_SRQN 0x123u

static char path[] = "/tmp/uodp-xrc.XXXXXX"; /* the domain's file */

/* What each of them has; in its own process, or all in one. */
struct part {
	struct ibv_context *ctx;
	struct ibv_pd *pd, *pd_other;
	struct ibv_cq *cq;
	struct ibv_xrcd *xrcd, *lone; /* by the file; without one */
	struct ibv_srq *srq, *srq_lone;
	struct ibv_qp *qp; /* A: initiator, others: target */
	struct ibv_mr *mr, *mr_other;
	uint8_t *buf;
};
enum { A, B, C };
static struct part parts[3];

struct info {
	uint32_t srqn, srqn_lone, qpn, rkey, rkey_other;
	uint64_t addr;
};

enum what { OPEN, CONNECT, RECV, POLL, STATE, DESTROY_QP, DESTROY_SRQ, CLOSE, SUM, GET };

/* ---- what B and C do when told ---- */

static struct ibv_xrcd *xrcd_open(struct ibv_context *ctx, const char *file, int oflags)
{
	struct ibv_xrcd_init_attr attr = {
		.comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS,
		.fd = file ? open(file, O_RDONLY) : -1,
		.oflags = oflags,
	};
	struct ibv_xrcd *x = ibv_open_xrcd(ctx, &attr);
	int err = errno;

	if (attr.fd >= 0)
		close(attr.fd);
	errno = err;
	return x;
}

static struct ibv_srq *srq_open(struct part *p, struct ibv_xrcd *xrcd)
{
	struct ibv_srq_init_attr_ex attr = {
		.srq_context = p,
		.attr = {.max_wr = 64, .max_sge = 2},
		.comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD |
			     IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ,
		.srq_type = IBV_SRQT_XRC,
		.pd = p->pd,
		.xrcd = xrcd,
		.cq = p->cq,
	};

	return ibv_create_srq_ex(p->ctx, &attr);
}

static struct ibv_qp *target_open(struct part *p)
{
	struct ibv_qp_init_attr_ex attr = {
		.qp_type = IBV_QPT_XRC_RECV, .comp_mask = IBV_QP_INIT_ATTR_XRCD, .xrcd = p->xrcd};

	return ibv_create_qp_ex(p->ctx, &attr);
}

static int part_open(struct part *p, bool odp)
{
	int access = ALL_ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0);

	memset(p, 0, sizeof(*p));
	p->ctx = tdev_open();
	p->pd = ibv_alloc_pd(p->ctx);
	p->pd_other = ibv_alloc_pd(p->ctx);
	p->cq = ibv_create_cq(p->ctx, 128, p, NULL, 0);
	p->buf = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!p->pd || !p->pd_other || !p->cq || p->buf == MAP_FAILED)
		return errno;
	p->mr = ibv_reg_mr(p->pd, p->buf, LEN, access);
	p->mr_other = ibv_reg_mr(p->pd_other, p->buf, LEN, access);
	return p->mr && p->mr_other ? 0 : errno;
}

static int responder_open(struct part *p, bool odp, const char *file)
{
	int err = part_open(p, odp);

	if (err)
		return err;
	p->xrcd = xrcd_open(p->ctx, file, O_CREAT);
	p->lone = xrcd_open(p->ctx, NULL, O_CREAT);
	if (!p->xrcd || !p->lone)
		return errno;
	p->srq = srq_open(p, p->xrcd);
	p->srq_lone = srq_open(p, p->lone);
	p->qp = target_open(p);
	return p->srq && p->srq_lone && p->qp ? 0 : errno;
}

static void keep_first(int *err, int e)
{
	*err = *err ? *err : e;
}

static int part_close(struct part *p)
{
	int err = 0;

	if (p->qp)
		keep_first(&err, ibv_destroy_qp(p->qp));
	if (p->srq)
		keep_first(&err, ibv_destroy_srq(p->srq));
	if (p->srq_lone)
		keep_first(&err, ibv_destroy_srq(p->srq_lone));
	if (p->xrcd)
		keep_first(&err, ibv_close_xrcd(p->xrcd));
	if (p->lone)
		keep_first(&err, ibv_close_xrcd(p->lone));
	keep_first(&err, ibv_dereg_mr(p->mr));
	keep_first(&err, ibv_dereg_mr(p->mr_other));
	keep_first(&err, ibv_destroy_cq(p->cq));
	keep_first(&err, ibv_dealloc_pd(p->pd));
	keep_first(&err, ibv_dealloc_pd(p->pd_other));
	keep_first(&err, ibv_close_device(p->ctx));
	munmap(p->buf, LEN);
	memset(p, 0, sizeof(*p));
	return err;
}

/* To RTS, as a target or an initiator of QPN. */
static int connect_to(struct ibv_qp *qp, uint32_t qpn, int rnr_retry)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT, .port_num = PORT, .qp_access_flags = REMOTE_ACCESS};
	int err = ibv_modify_qp(qp, &attr, ep_mask_init(IBV_QPT_RC));

	attr.qp_state = IBV_QPS_RTR;
	attr.path_mtu = IBV_MTU_1024;
	attr.dest_qp_num = qpn;
	attr.rq_psn = 77;
	attr.max_dest_rd_atomic = 4;
	attr.min_rnr_timer = 1;
	attr.ah_attr = (struct ibv_ah_attr){.is_global = 1, .port_num = PORT};
	attr.ah_attr.grh.dgid = tdev()->gid;
	attr.ah_attr.grh.sgid_index = (uint8_t)tdev()->gid_index;
	attr.ah_attr.grh.hop_limit = 64;
	if (!err)
		err = ibv_modify_qp(qp, &attr, ep_mask_rtr(IBV_QPT_RC));
	attr.qp_state = IBV_QPS_RTS;
	attr.sq_psn = 77;
	attr.timeout = 12;
	attr.retry_cnt = 1;
	attr.rnr_retry = (uint8_t)rnr_retry;
	attr.max_rd_atomic = 4;
	return err ? err : ibv_modify_qp(qp, &attr, ep_mask_rts(IBV_QPT_RC));
}

static int state_of(struct ibv_qp *qp)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	return ibv_query_qp(qp, &attr, IBV_QP_STATE, &init) ? -errno : (int)attr.qp_state;
}

static int recv_post(struct part *p, uint64_t id, uint32_t off, uint32_t len)
{
	struct ibv_sge sge = {.addr = (uintptr_t)p->buf + off, .length = len, .lkey = p->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = id, .sg_list = &sge, .num_sge = 1}, *bad;

	return ibv_post_srq_recv(p->srq, &wr, &bad);
}

static void info_get(struct part *p, struct info *i)
{
	if (ibv_get_srq_num(p->srq, &i->srqn) || ibv_get_srq_num(p->srq_lone, &i->srqn_lone))
		memset(i, 0, sizeof(*i));
	i->qpn = p->qp->qp_num;
	i->rkey = p->mr->rkey;
	i->rkey_other = p->mr_other->rkey;
	i->addr = (uintptr_t)p->buf;
}

/* v[0]: whose; v[1]...: as each takes it. Answers with an errno in v[0]. */
static void hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	struct part *p = &parts[in->v[0]];

	(void)ep;
	memset(out, 0, sizeof(*out));
	switch ((enum what)in->what) {
	case OPEN:
		out->v[0] = (uint64_t)responder_open(p, in->v[1], (const char *)in->data);
		if (!out->v[0])
			info_get(p, (struct info *)out->data);
		break;
	case CONNECT:
		out->v[0] = (uint64_t)connect_to(p->qp, (uint32_t)in->v[1], 7);
		break;
	case RECV:
		out->v[0] =
			(uint64_t)recv_post(p, in->v[1], (uint32_t)in->v[2], (uint32_t)in->v[3]);
		break;
	case POLL:
		out->v[0] = (uint64_t)ep_poll(p->cq, (struct ibv_wc *)out->data, 1, (int)in->v[1]);
		break;
	case STATE:
		out->v[0] = (uint64_t)state_of(p->qp);
		break;
	case DESTROY_QP:
		out->v[0] = (uint64_t)ibv_destroy_qp(p->qp);
		p->qp = NULL;
		break;
	case DESTROY_SRQ:
		out->v[0] = (uint64_t)ibv_destroy_srq(p->srq);
		p->srq = NULL;
		break;
	case CLOSE:
		out->v[0] = (uint64_t)part_close(p);
		break;
	case SUM:
		out->v[0] = sum_bytes(p->buf + in->v[1], in->v[2]);
		break;
	case GET:
		memcpy(&out->v[0], p->buf + in->v[1], 8);
		break;
	default:
		break;
	}
}

/* ---- telling them ---- */

static uint64_t tell4(struct side *s, enum what what, int who, uint64_t a, uint64_t b, uint64_t c)
{
	struct hook_msg in = {.what = what, .v = {(uint64_t)who, a, b, c}}, out;

	side_hook(s, &in, &out);
	return out.v[0];
}

static uint64_t tell(struct side *s, enum what what, int who, uint64_t a)
{
	return tell4(s, what, who, a, 0, 0);
}

static bool responder(struct side *s, int who, bool odp, struct info *info)
{
	struct hook_msg in = {.what = OPEN, .v = {(uint64_t)who, odp}}, out;

	memcpy(in.data, path, sizeof(path));
	side_hook(s, &in, &out);
	memcpy(info, out.data, sizeof(*info));
	return CHECK_ERRNO((int)out.v[0], 0);
}

static void polled(struct side *s, int who, uint64_t id, enum ibv_wc_status status,
		   struct ibv_wc *wc)
{
	struct hook_msg in = {.what = POLL, .v = {(uint64_t)who, LONG_MS}}, out;

	side_hook(s, &in, &out);
	memcpy(wc, out.data, sizeof(*wc));
	CHECK_INT(out.v[0], 1);
	CHECK_INT(wc->wr_id, id);
	CHECK_STATUS(wc->status, status);
}

/* ---- A ---- */

static bool supported(void)
{
	static int made = -1;

	if (tdev()->attr.device_cap_flags & IBV_DEVICE_XRC) {
		if (made < 0)
			made = mkstemp(path);
		return CHECK(made >= 0);
	}
	t_skip("the device has no XRC");
	return false;
}

static bool initiator(bool odp, uint32_t to, int rnr_retry)
{
	struct part *a = &parts[A];
	struct ibv_qp_init_attr_ex attr = {
		.qp_type = IBV_QPT_XRC_SEND,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.cap = {.max_send_wr = 16, .max_send_sge = 1, .max_inline_data = 64},
	};

	if (!CHECK_ERRNO(part_open(a, odp), 0))
		return false;
	attr.pd = a->pd;
	attr.send_cq = a->cq;
	a->qp = ibv_create_qp_ex(a->ctx, &attr);
	return CHECK(a->qp) && CHECK_ERRNO(connect_to(a->qp, to, rnr_retry), 0);
}

static struct ibv_send_wr request(enum ibv_wr_opcode op, uint32_t srqn, struct ibv_sge *sge,
				  uint32_t len)
{
	*sge = (struct ibv_sge){
		.addr = (uintptr_t)parts[A].buf, .length = len, .lkey = parts[A].mr->lkey};
	return (struct ibv_send_wr){.wr_id = 5,
				    .sg_list = sge,
				    .num_sge = 1,
				    .opcode = op,
				    .send_flags = IBV_SEND_SIGNALED,
				    .qp_type.xrc.remote_srqn = srqn};
}

static void run(struct ibv_send_wr *wr, enum ibv_wc_status status)
{
	struct ibv_send_wr *bad;
	struct ibv_wc wc;

	CHECK_ERRNO(ibv_post_send(parts[A].qp, wr, &bad), 0);
	CHECK_INT(ep_poll(parts[A].cq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, status);
	CHECK_INT(wc.wr_id, 5);
}

static void send_to(uint32_t srqn, uint32_t len, enum ibv_wc_status status)
{
	struct ibv_sge sge;
	struct ibv_send_wr wr = request(IBV_WR_SEND, srqn, &sge, len);

	run(&wr, status);
}

static void rdma(enum ibv_wr_opcode op, uint32_t srqn, uint64_t addr, uint32_t rkey,
		 enum ibv_wc_status status)
{
	bool atomic = op == IBV_WR_ATOMIC_FETCH_AND_ADD;
	struct ibv_sge sge;
	struct ibv_send_wr wr = request(op, srqn, &sge, atomic ? 8 : 1000);

	wr.wr.rdma.remote_addr = addr;
	wr.wr.rdma.rkey = rkey;
	if (atomic) {
		wr.wr.atomic.remote_addr = addr;
		wr.wr.atomic.rkey = rkey;
		wr.wr.atomic.compare_add = 5;
	}
	run(&wr, status);
}

/* All operations into SRQ and memory of WHO at S, through B's target. */
static void all_ops(struct side *s, int who, const struct info *i, uint32_t target)
{
	uint64_t before;
	struct ibv_wc wc;

	/* Short ones are copied at once, long ones in slices. */
	for (uint32_t len = 100; len <= 40000; len *= 20) {
		fill_bytes(parts[A].buf, len, len);
		CHECK_INT(tell4(s, RECV, who, len, 64, LEN - 64), 0);
		send_to(i->srqn, len, IBV_WC_SUCCESS);
		polled(s, who, len, IBV_WC_SUCCESS, &wc);
		CHECK_INT(wc.byte_len, len);
		CHECK_INT(wc.opcode, IBV_WC_RECV);
		CHECK_INT(wc.qp_num, target);
		CHECK_INT(tell4(s, SUM, who, 64, len, 0), sum_bytes(parts[A].buf, len));
	}
	fill_bytes(parts[A].buf, 1000, 99);
	rdma(IBV_WR_RDMA_WRITE, i->srqn, i->addr + 4096, i->rkey, IBV_WC_SUCCESS);
	CHECK_INT(tell4(s, SUM, who, 4096, 1000, 0), sum_bytes(parts[A].buf, 1000));
	CHECK_INT(tell4(s, RECV, who, 6, 0, 64), 0);
	rdma(IBV_WR_RDMA_WRITE_WITH_IMM, i->srqn, i->addr + 8192, i->rkey, IBV_WC_SUCCESS);
	polled(s, who, 6, IBV_WC_SUCCESS, &wc);
	CHECK_INT(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
	memset(parts[A].buf, 0, 1000);
	rdma(IBV_WR_RDMA_READ, i->srqn, i->addr + 8192, i->rkey, IBV_WC_SUCCESS);
	CHECK_INT(sum_bytes(parts[A].buf, 1000), tell4(s, SUM, who, 8192, 1000, 0));
	before = tell(s, GET, who, 16);
	rdma(IBV_WR_ATOMIC_FETCH_AND_ADD, i->srqn, i->addr + 16, i->rkey, IBV_WC_SUCCESS);
	CHECK_INT(tell(s, GET, who, 16), before + 5);
}

/* ---- the cases ---- */

static void ops(struct pair *p, bool odp)
{
	struct info b;

	if (!supported())
		return;
	REQUIRE(responder(&p->b, B, odp, &b));
	CHECK(b.srqn && b.srqn_lone && b.srqn != b.srqn_lone);
	REQUIRE(initiator(odp, b.qpn, 0));
	REQUIRE(CHECK_INT(tell(&p->b, CONNECT, B, parts[A].qp->qp_num), 0));
	all_ops(&p->b, B, &b, b.qpn);
	CHECK_INT(tell(&p->b, STATE, B, 0), IBV_QPS_RTS);
	send_to(b.srqn, 8, IBV_WC_RNR_RETRY_EXC_ERR); /* no receive */
	CHECK_ERRNO(part_close(&parts[A]), 0);
	CHECK_INT(tell(&p->b, CLOSE, B, 0), 0);
}

static void c_pinned(struct pair *p)
{
	ops(p, false);
}

static void c_odp(struct pair *p)
{
	ops(p, true);
}

/* One target, SRQs of two processes, message by message; then C dies. */
static void c_three(struct pair *p)
{
	struct side c;
	struct info b, ci;

	if (!supported())
		return;
	REQUIRE(side_spawned(&c));
	REQUIRE(responder(&p->b, B, false, &b));
	REQUIRE(responder(&c, C, true, &ci));
	REQUIRE(initiator(false, b.qpn, 7));
	REQUIRE(CHECK_INT(tell(&p->b, CONNECT, B, parts[A].qp->qp_num), 0));
	for (int i = 0; i < 3 && !t_failures(); i++) {
		all_ops(&c, C, &ci, b.qpn);
		all_ops(&p->b, B, &b, b.qpn);
	}
	side_kill(&c, 9);
	send_to(ci.srqn, 8, IBV_WC_REM_INV_REQ_ERR); /* no such SRQ any more */
	CHECK_INT(tell(&p->b, STATE, B, 0), IBV_QPS_ERR);
	CHECK_ERRNO(part_close(&parts[A]), 0);
	CHECK_INT(tell(&p->b, CLOSE, B, 0), 0);
}

static void refused(struct pair *p, int how, enum ibv_wc_status status)
{
	struct info b;

	t_note("%d", how);
	REQUIRE(responder(&p->b, B, false, &b));
	REQUIRE(initiator(false, b.qpn, 7));
	REQUIRE(CHECK_INT(tell(&p->b, CONNECT, B, parts[A].qp->qp_num), 0));
	CHECK_INT(tell4(&p->b, RECV, B, 1, 0, 64), 0);
	switch (how) {
	case 0:
		send_to(WRONG_SRQN, 8, status);
		break;
	case 1: /* of another domain */
		send_to(b.srqn_lone, 8, status);
		break;
	case 2: /* destroyed */
		CHECK_INT(tell(&p->b, DESTROY_SRQ, B, 0), 0);
		send_to(b.srqn, 8, status);
		break;
	case 3: /* a key of another PD than the SRQ's */
		rdma(IBV_WR_RDMA_WRITE, b.srqn, b.addr, b.rkey_other, status);
		break;
	default: /* too long for the receive */
		send_to(b.srqn, 65, status);
	}
	CHECK_INT(state_of(parts[A].qp), IBV_QPS_ERR);
	CHECK_INT(tell(&p->b, STATE, B, 0), IBV_QPS_ERR);
	CHECK_ERRNO(part_close(&parts[A]), 0);
	CHECK_INT(tell(&p->b, CLOSE, B, 0), 0);
}

static void c_refused(struct pair *p)
{
	if (!supported())
		return;
	refused(p, 0, IBV_WC_REM_INV_REQ_ERR);
	refused(p, 1, IBV_WC_REM_INV_REQ_ERR);
	refused(p, 2, IBV_WC_REM_INV_REQ_ERR);
	refused(p, 3, IBV_WC_REM_ACCESS_ERR);
	refused(p, 4, IBV_WC_REM_INV_REQ_ERR);
}

/* A, in another process, opens B's target by its number, connects it, and keeps it. */
static void c_open_qp(struct pair *p)
{
	struct ibv_qp_open_attr attr = {
		.comp_mask = IBV_QP_OPEN_ATTR_NUM | IBV_QP_OPEN_ATTR_XRCD | IBV_QP_OPEN_ATTR_TYPE |
			     IBV_QP_OPEN_ATTR_CONTEXT,
		.qp_context = p,
		.qp_type = IBV_QPT_XRC_RECV,
	};
	struct part *a = &parts[A];
	struct ibv_qp *qp;
	struct info b;

	if (!supported())
		return;
	REQUIRE(responder(&p->b, B, false, &b));
	REQUIRE(initiator(false, b.qpn, 7));
	a->xrcd = xrcd_open(a->ctx, path, 0);
	a->lone = xrcd_open(a->ctx, NULL, O_CREAT);
	REQUIRE(a->xrcd && a->lone);
	attr.qp_num = b.qpn;
	attr.xrcd = a->lone;
	CHECK(!ibv_open_qp(a->ctx, &attr));
	CHECK_ERRNO(errno, EINVAL);
	attr.xrcd = a->xrcd;
	attr.qp_num = a->qp->qp_num;
	CHECK(!ibv_open_qp(a->ctx, &attr));
	CHECK_ERRNO(errno, EINVAL);
	attr.qp_num = b.qpn;
	qp = ibv_open_qp(a->ctx, &attr);
	REQUIRE(qp);
	CHECK(qp->qp_context == p && qp->qp_num == b.qpn);
	CHECK_ERRNO(ibv_close_xrcd(a->xrcd), EBUSY);
	CHECK_INT(state_of(qp), IBV_QPS_RESET);
	CHECK_ERRNO(connect_to(qp, a->qp->qp_num, 7), 0);
	CHECK_INT(tell(&p->b, STATE, B, 0), IBV_QPS_RTS);
	all_ops(&p->b, B, &b, b.qpn);
	/* Its maker has done with it: it goes on for us. */
	CHECK_INT(tell(&p->b, DESTROY_QP, B, 0), 0);
	all_ops(&p->b, B, &b, b.qpn);
	CHECK_INT(state_of(qp), IBV_QPS_RTS);
	CHECK_ERRNO(ibv_destroy_qp(qp), 0);
	send_to(b.srqn, 8, IBV_WC_RETRY_EXC_ERR);
	CHECK(!ibv_open_qp(a->ctx, &attr));
	CHECK_ERRNO(errno, EINVAL);
	CHECK_ERRNO(part_close(a), 0);
	CHECK_INT(tell(&p->b, CLOSE, B, 0), 0);
}

/* The target's process dies. */
static void c_killed(struct pair *p)
{
	struct side c;
	struct info ci;

	(void)p;
	if (!supported())
		return;
	REQUIRE(side_spawned(&c));
	REQUIRE(responder(&c, C, false, &ci));
	REQUIRE(initiator(false, ci.qpn, 7));
	REQUIRE(CHECK_INT(tell(&c, CONNECT, C, parts[A].qp->qp_num), 0));
	all_ops(&c, C, &ci, ci.qpn);
	side_kill(&c, 9);
	send_to(ci.srqn, 8, IBV_WC_RETRY_EXC_ERR);
	CHECK_ERRNO(part_close(&parts[A]), 0);
}

static void c_domains(struct pair *p)
{
	struct ibv_context *ctx = tdev_open(), *other = tdev_open();
	struct ibv_xrcd_init_attr attr = {.comp_mask = IBV_XRCD_INIT_ATTR_FD, .fd = -1};
	char file[] = "/tmp/uodp-xrc.XXXXXX";
	struct ibv_xrcd *x, *y;
	struct info b;
	int fd;

	if (!supported())
		return;
	CHECK(!ibv_open_xrcd(ctx, &attr));
	CHECK_ERRNO(errno, EINVAL);
	attr.comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
	attr.fd = 4000;
	CHECK(!ibv_open_xrcd(ctx, &attr));
	CHECK_ERRNO(errno, EBADF);
	fd = mkstemp(file);
	REQUIRE(fd >= 0);
	CHECK(!xrcd_open(ctx, file, 0)); /* nobody has it open */
	CHECK_ERRNO(errno, EAGAIN);
	x = xrcd_open(ctx, file, O_CREAT | O_EXCL);
	REQUIRE(x);
	CHECK(!xrcd_open(other, file, O_CREAT | O_EXCL));
	CHECK_ERRNO(errno, EINVAL);
	y = xrcd_open(other, file, 0);
	REQUIRE(y);
	CHECK_ERRNO(ibv_close_xrcd(x), 0);
	x = xrcd_open(ctx, file, 0);
	REQUIRE(x);
	CHECK_ERRNO(ibv_close_xrcd(x), 0);
	CHECK_ERRNO(ibv_close_xrcd(y), 0);
	CHECK(!xrcd_open(ctx, file, 0));
	CHECK_ERRNO(errno, EAGAIN);
	/* Another process's counts, until it closes it. */
	REQUIRE(responder(&p->b, B, false, &b));
	x = xrcd_open(ctx, path, 0);
	REQUIRE(x);
	CHECK_ERRNO(ibv_close_xrcd(x), 0);
	CHECK(!xrcd_open(ctx, path, O_CREAT | O_EXCL));
	CHECK_ERRNO(errno, EINVAL);
	CHECK_INT(tell(&p->b, CLOSE, B, 0), 0);
	CHECK(!xrcd_open(ctx, path, 0));
	CHECK_ERRNO(errno, EAGAIN);
	close(fd);
	unlink(file);
	CHECK_ERRNO(ibv_close_device(other), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

/* What is asked for in the wrong way. */
static void c_objects(struct pair *p)
{
	struct ibv_qp_init_attr_ex qa = {.qp_type = IBV_QPT_XRC_RECV};
	struct ibv_context *other = tdev_open();
	struct ibv_srq_init_attr_ex sa = {.attr = {.max_wr = 4, .max_sge = 1}};
	struct ibv_srq_init_attr basic = {.attr = {.max_wr = 4, .max_sge = 1}};
	struct ibv_xrcd *foreign;
	struct ibv_recv_wr rwr = {0}, *rbad;
	struct ibv_send_wr swr = {.opcode = IBV_WR_SEND}, *sbad;
	struct part *b = &parts[B];
	struct ibv_srq *srq;
	uint32_t srqn;

	(void)p;
	if (!supported())
		return;
	REQUIRE(CHECK_ERRNO(responder_open(b, false, path), 0));
	foreign = xrcd_open(other, NULL, O_CREAT);
	REQUIRE(foreign);
	CHECK(!ibv_create_qp_ex(b->ctx, &qa));
	CHECK_ERRNO(errno, EINVAL);
	qa.comp_mask = IBV_QP_INIT_ATTR_XRCD;
	qa.xrcd = foreign;
	CHECK(!ibv_create_qp_ex(b->ctx, &qa));
	CHECK_ERRNO(errno, EINVAL);
	sa.comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD;
	sa.srq_type = IBV_SRQT_XRC;
	sa.pd = b->pd;
	CHECK(!ibv_create_srq_ex(b->ctx, &sa)); /* without domain and CQ */
	CHECK_ERRNO(errno, EINVAL);
	sa.comp_mask |= IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
	sa.xrcd = foreign;
	sa.cq = b->cq;
	CHECK(!ibv_create_srq_ex(b->ctx, &sa));
	CHECK_ERRNO(errno, EINVAL);
	sa.srq_type = IBV_SRQT_TM;
	sa.xrcd = b->xrcd;
	CHECK(!ibv_create_srq_ex(b->ctx, &sa));
	CHECK_ERRNO(errno, EOPNOTSUPP);
	srq = ibv_create_srq(b->pd, &basic);
	REQUIRE(srq);
	CHECK_ERRNO(ibv_get_srq_num(srq, &srqn), EOPNOTSUPP);
	CHECK_ERRNO(ibv_destroy_srq(srq), 0);
	CHECK_ERRNO(ibv_post_recv(b->qp, &rwr, &rbad), EINVAL);
	CHECK_ERRNO(connect_to(b->qp, 1, 7), 0);
	CHECK_ERRNO(ibv_post_send(b->qp, &swr, &sbad), EINVAL);
	CHECK_ERRNO(ibv_close_xrcd(b->xrcd), EBUSY);
	CHECK_ERRNO(ibv_destroy_cq(b->cq), EBUSY);
	CHECK_ERRNO(ibv_close_xrcd(foreign), 0);
	CHECK_ERRNO(part_close(b), 0);
	CHECK_ERRNO(ibv_close_device(other), 0);
}

/* A device is closed with everything on it. */
static void c_closed(struct pair *p)
{
	struct part b;

	(void)p;
	if (!supported() || tdev()->rxe)
		return;
	REQUIRE(CHECK_ERRNO(responder_open(&parts[B], false, path), 0));
	b = parts[B];
	CHECK_ERRNO(ibv_close_device(b.ctx), 0);
	CHECK_INT(state_of(b.qp), -EIO);
	CHECK_ERRNO(ibv_close_xrcd(b.xrcd), 0);
	CHECK_ERRNO(ibv_close_xrcd(b.lone), 0);
	CHECK_ERRNO(ibv_destroy_qp(b.qp), 0);
	CHECK_ERRNO(ibv_destroy_srq(b.srq), 0);
	CHECK_ERRNO(ibv_destroy_srq(b.srq_lone), 0);
	CHECK_ERRNO(ibv_dereg_mr(b.mr), 0);
	CHECK_ERRNO(ibv_dereg_mr(b.mr_other), 0);
	CHECK_ERRNO(ibv_destroy_cq(b.cq), 0);
	CHECK_ERRNO(ibv_dealloc_pd(b.pd), 0);
	CHECK_ERRNO(ibv_dealloc_pd(b.pd_other), 0);
	munmap(b.buf, LEN);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"pinned", c_pinned, BOTH},   {"odp", c_odp, BOTH},
		{"three", c_three, PEER},     {"refused", c_refused, BOTH},
		{"open_qp", c_open_qp, BOTH}, {"killed", c_killed, PEER},
		{"domains", c_domains, BOTH}, {"objects", c_objects, HERE},
		{"closed", c_closed, HERE},
	};
	int ret;

	t_hook(hook);
	ret = t_main(argc, argv, 3, cases, ARRAY_SIZE(cases));
	unlink(path);
	return ret;
}
