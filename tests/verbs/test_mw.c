/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory windows: bound to B's memory, used by A. What goes wrong at a bind completes with
 * IBV_WC_MW_BIND_ERR (IBTA 11.6.2, as mlx5); rdma_rxe has IBV_WC_LOC_QP_OP_ERR.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "harness.h"

#define LEN 65536u
#define WR_OPS                                                                                     \
	(IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_LOCAL_INV |                 \
	 IBV_QP_EX_WITH_RDMA_WRITE)

enum how { BY_VERB, BY_POST, BY_WR };

/* What B does, in its process. */
enum { MW_ALLOC = 1, MW_BIND, MW_INV, MW_DEALLOC, MW_DEREG, MW_REREG, MW_MAP, MW_UNMAP };

struct bind {
	uint64_t how, off, len, access;
};

static struct ibv_mw *mw;     /* B's */
static struct ibv_mr *map_mr; /* what it is bound to, if that is not the endpoint's */
static uint8_t *map;

static int bind_err(void)
{
	return tdev()->rxe ? IBV_WC_LOC_QP_OP_ERR : IBV_WC_MW_BIND_ERR;
}

static int bind_post(struct ep *ep, const struct bind *b, uint32_t rkey,
		     const struct ibv_mw_bind_info *info)
{
	struct ibv_send_wr *bad, wr = {
					 .wr_id = 77,
					 .opcode = IBV_WR_BIND_MW,
					 .send_flags = IBV_SEND_SIGNALED,
				 };
	struct ibv_qp_ex *qx = ibv_qp_to_qp_ex(ep->qp);

	if (b->how == BY_POST) {
		wr.bind_mw.mw = mw;
		wr.bind_mw.rkey = rkey;
		wr.bind_mw.bind_info = *info;
		return ibv_post_send(ep->qp, &wr, &bad);
	}
	ibv_wr_start(qx);
	qx->wr_id = 77;
	qx->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_bind_mw(qx, mw, rkey, info);
	return ibv_wr_complete(qx);
}

/* The status, or minus what posting gave. */
static int completion(struct ep *ep, int posted, enum ibv_wc_opcode op)
{
	struct ibv_wc wc;

	if (posted)
		return -posted;
	if (!CHECK_INT(ep_poll(ep->scq, &wc, 1, LONG_MS), 1))
		return -1;
	CHECK_INT(wc.wr_id, 77);
	if (!wc.status)
		CHECK_INT(wc.opcode, op);
	return (int)wc.status;
}

static int do_bind(struct ep *ep, const struct bind *b)
{
	struct ibv_mr *mr = map_mr ? map_mr : ep->mr;
	struct ibv_mw_bind verb = {.wr_id = 77, .send_flags = IBV_SEND_SIGNALED};
	struct ibv_mw_bind_info info = {.mr = mr,
					.addr = (uintptr_t)(map_mr ? map : ep->buf) + b->off,
					.length = b->len,
					.mw_access_flags = (unsigned)b->access};
	uint32_t rkey = ibv_inc_rkey(mw->rkey), old = mw->rkey;
	int ret;

	if (b->how != BY_VERB) {
		ret = bind_post(ep, b, rkey, &info);
		mw->rkey = rkey;
	} else {
		verb.bind_info = info;
		ret = ibv_bind_mw(ep->qp, mw, &verb);
		if (!ret)
			CHECK_INT(mw->rkey, rkey);
	}
	ret = completion(ep, ret, IBV_WC_BIND_MW);
	if (ret)
		mw->rkey = old;
	return ret;
}

static int do_inv(struct ep *ep, enum how how, uint32_t rkey)
{
	struct ibv_send_wr *bad, wr = {.wr_id = 77,
				       .opcode = IBV_WR_LOCAL_INV,
				       .send_flags = IBV_SEND_SIGNALED,
				       .invalidate_rkey = rkey};
	struct ibv_qp_ex *qx = ibv_qp_to_qp_ex(ep->qp);

	if (how == BY_POST)
		return completion(ep, ibv_post_send(ep->qp, &wr, &bad), IBV_WC_LOCAL_INV);
	ibv_wr_start(qx);
	qx->wr_id = 77;
	qx->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_local_inv(qx, rkey);
	return completion(ep, ibv_wr_complete(qx), IBV_WC_LOCAL_INV);
}

static void do_map(struct ep *ep, int access)
{
	map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!CHECK(map != MAP_FAILED))
		return;
	memset(map, 0x5a, LEN);
	map_mr = ibv_reg_mr(ep->pd, map, LEN, access);
	CHECK(map_mr);
}

static void mw_hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	struct bind b = {in->v[0], in->v[1], in->v[2], in->v[3]};

	switch (in->what) {
	case MW_ALLOC:
		mw = ibv_alloc_mw(ep->pd, (enum ibv_mw_type)in->v[0]);
		if (CHECK(mw))
			CHECK(mw->type == in->v[0] && mw->pd == ep->pd && mw->context == ep->ctx);
		out->v[0] = mw ? mw->rkey : 0;
		break;
	case MW_BIND:
		out->v[0] = (uint64_t)(int64_t)do_bind(ep, &b);
		out->v[1] = mw->rkey;
		out->v[2] = (uintptr_t)(map_mr ? map : ep->buf);
		break;
	case MW_INV:
		out->v[0] = (uint64_t)(int64_t)do_inv(ep, (enum how)in->v[0], (uint32_t)in->v[1]);
		break;
	case MW_DEALLOC:
		out->v[0] = (uint64_t)ibv_dealloc_mw(mw);
		mw = NULL;
		break;
	case MW_DEREG:
		out->v[0] = (uint64_t)ibv_dereg_mr(map_mr);
		if (!out->v[0])
			map_mr = NULL;
		break;
	case MW_REREG:
		errno = 0;
		out->v[0] = (uint64_t)(int64_t)ibv_rereg_mr(map_mr, (int)in->v[0], NULL, map,
							    LEN / 2, (int)in->v[1]);
		out->v[1] = (uint64_t)errno;
		break;
	case MW_MAP:
		do_map(ep, (int)in->v[0]);
		break;
	case MW_UNMAP:
		CHECK_INT(munmap(map, LEN), 0);
		break;
	}
}

static int64_t b_do(struct pair *p, uint32_t what, uint64_t a, uint64_t b, struct hook_msg *out)
{
	static struct hook_msg in, mine;

	if (!out)
		out = &mine;
	memset(out->v, 0, sizeof(out->v));
	in = (struct hook_msg){.what = what, .v = {a, b}};
	side_hook(&p->b, &in, out);
	return (int64_t)out->v[0];
}

/* The window's key and the address of what it is bound to, after a bind. */
struct win {
	uint32_t rkey;
	uint64_t base;
};

static int b_bind(struct pair *p, struct bind b, struct win *w)
{
	static struct hook_msg in, out;

	in = (struct hook_msg){.what = MW_BIND, .v = {b.how, b.off, b.len, b.access}};
	side_hook(&p->b, &in, &out);
	if (w)
		*w = (struct win){(uint32_t)out.v[1], out.v[2]};
	return (int)(int64_t)out.v[0];
}

/* ---- a pair with a window at B ---- */

static bool odp;

static bool up(struct pair *p, enum ibv_mw_type type)
{
	struct ep_conf c = RC_CONF;

	mw = NULL;
	map_mr = NULL;
	c.mr_access |= IBV_ACCESS_MW_BIND;
	c.odp = odp;
	c.send_ops = 0;
	if (!(tdev()->attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B)) {
		t_skip("the device has no memory windows");
		return false;
	}
	if (!pair_up(p, &c, &c))
		return false;
	return !type || b_do(p, MW_ALLOC, type, 0, NULL);
}

static bool up_wr(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	c.mr_access |= IBV_ACCESS_MW_BIND;
	c.odp = odp;
	c.send_ops = WR_OPS;
	return pair_up(p, &c, &c) && b_do(p, MW_ALLOC, IBV_MW_TYPE_2, 0, NULL);
}

static void down(struct pair *p)
{
	CHECK_INT(b_do(p, MW_DEALLOC, 0, 0, NULL), 0);
	pair_down(p);
}

static int run(struct pair *p, enum ibv_wr_opcode op, uint64_t addr, uint32_t len, uint32_t rkey)
{
	struct twr wr = {.id = 5,
			 .op = op,
			 .flags = IBV_SEND_SIGNALED,
			 .len = len,
			 .raddr = addr,
			 .rkey = rkey,
			 .compare_add = 3};
	struct ibv_wc wc = {0};

	CHECK_ERRNO(ep_send(&p->a, &wr), 0);
	return CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1) ? (int)wc.status : -1;
}

/* ---- cases ---- */

static const struct bind whole = {BY_VERB, 1000, 30000, REMOTE_ACCESS};

static void use(struct pair *p, const struct win *w, uint64_t off, uint32_t len, uint64_t shown)
{
	fill_bytes(p->a.buf, len, off + len);
	CHECK_STATUS(run(p, IBV_WR_RDMA_WRITE, shown, len, w->rkey), IBV_WC_SUCCESS);
	CHECK_INT(side_sum(&p->b, off, len), sum_bytes(p->a.buf, len));
	side_fill(&p->b, off, len, 12);
	CHECK_STATUS(run(p, IBV_WR_RDMA_READ, shown, len, w->rkey), IBV_WC_SUCCESS);
	CHECK_INT(side_sum(&p->b, off, len), sum_bytes(p->a.buf, len));
}

static void type_1(struct pair *p)
{
	struct win w, w2;
	uint64_t old;

	if (!up(p, IBV_MW_TYPE_1))
		return;
	CHECK_INT(b_bind(p, whole, &w), 0);
	CHECK(w.rkey != p->bi.rkey);
	use(p, &w, 1000, 8, w.base + 1000);
	use(p, &w, 1000, 30000, w.base + 1000);
	use(p, &w, 5001, 12345, w.base + 5001);
	side_put(&p->b, 1024, 40);
	CHECK_STATUS(run(p, IBV_WR_ATOMIC_FETCH_AND_ADD, w.base + 1024, 8, w.rkey), IBV_WC_SUCCESS);
	memcpy(&old, p->a.buf, 8);
	CHECK_INT(old, 40);
	CHECK_INT(side_get(&p->b, 1024), 43);
	/* Elsewhere, by another key; and the one before is none any more. */
	CHECK_INT(b_bind(p, (struct bind){BY_VERB, 40000, 100, REMOTE_ACCESS}, &w2), 0);
	CHECK(w2.rkey != w.rkey && w2.rkey >> 8 == w.rkey >> 8);
	use(p, &w2, 40000, 100, w2.base + 40000);
	CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base + 40000, 8, w.rkey), IBV_WC_REM_ACCESS_ERR);
	down(p);
	/* Of no bytes: bound to nothing. */
	if (!up(p, IBV_MW_TYPE_1))
		return;
	CHECK_INT(b_bind(p, whole, &w), 0);
	CHECK_INT(b_bind(p, (struct bind){BY_VERB, 0, 0, 0}, &w2), 0);
	CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base + 1000, 8, w2.rkey), IBV_WC_REM_ACCESS_ERR);
	down(p);
}

static void type_2_used(struct pair *p, enum how how)
{
	struct win w;

	CHECK_INT(b_bind(p, (struct bind){how, 1000, 30000, REMOTE_ACCESS}, &w), 0);
	use(p, &w, 1000, 30000, w.base + 1000);
	use(p, &w, 2000, 64, w.base + 2000);
	CHECK_INT(b_do(p, MW_INV, how, w.rkey, NULL), 0);
	/* Zero-based, by the next key. */
	CHECK_INT(b_bind(p, (struct bind){how, 5000, 9000, REMOTE_ACCESS | IBV_ACCESS_ZERO_BASED},
			 &w),
		  0);
	use(p, &w, 5000, 8, 0);
	use(p, &w, 5000, 9000, 0);
	use(p, &w, 5123, 8877, 123);
	CHECK_INT(b_do(p, MW_INV, how, w.rkey, NULL), 0);
	CHECK_STATUS(run(p, IBV_WR_RDMA_WRITE, 0, 8, w.rkey), IBV_WC_REM_ACCESS_ERR);
}

static void type_2(struct pair *p)
{
	if (!up(p, IBV_MW_TYPE_2))
		return;
	type_2_used(p, BY_POST);
	down(p);
	if (!up_wr(p))
		return;
	type_2_used(p, BY_WR);
	down(p);
}

static void both(struct pair *p, void (*fn)(struct pair *p))
{
	odp = false;
	fn(p);
	if (!(tdev()->odp.general_caps & IBV_ODP_SUPPORT))
		return;
	odp = true;
	t_note("on demand");
	fn(p);
	odp = false;
}

static void c_type_1(struct pair *p)
{
	both(p, type_1);
}

static void c_type_2(struct pair *p)
{
	both(p, type_2);
}

/* ---- what a window does not allow ---- */

static void one_refused(struct pair *p, struct bind b, enum ibv_wr_opcode op, int64_t off,
			uint32_t len, int want)
{
	struct win w;

	if (!up(p, IBV_MW_TYPE_2))
		return;
	b.how = BY_POST;
	t_note("op %d access %#x off %d", (int)op, (unsigned)b.access, (int)off);
	CHECK_INT(b_bind(p, b, &w), 0);
	CHECK_STATUS(run(p, op, w.base + (uint64_t)off, len, w.rkey), want);
	down(p);
}

static void c_rights(struct pair *p)
{
	static const struct {
		enum ibv_wr_opcode op;
		uint64_t right;
	} ops[] = {
		{IBV_WR_RDMA_WRITE, IBV_ACCESS_REMOTE_WRITE},
		{IBV_WR_RDMA_READ, IBV_ACCESS_REMOTE_READ},
		{IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_ACCESS_REMOTE_ATOMIC},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		struct bind b = {.off = 1024, .len = 64, .access = ops[i].right};

		one_refused(p, b, ops[i].op, 1024, 8, IBV_WC_SUCCESS);
		b.access = REMOTE_ACCESS & ~ops[i].right;
		one_refused(p, b, ops[i].op, 1024, 8, IBV_WC_REM_ACCESS_ERR);
		b.access = 0;
		one_refused(p, b, ops[i].op, 1024, 8, IBV_WC_REM_ACCESS_ERR);
	}
}

static void c_bounds(struct pair *p)
{
	const struct bind b = {.off = 1024, .len = 4096, .access = REMOTE_ACCESS};

	one_refused(p, b, IBV_WR_RDMA_READ, 1024, 4096, IBV_WC_SUCCESS);
	one_refused(p, b, IBV_WR_RDMA_READ, 1023, 8, IBV_WC_REM_ACCESS_ERR);
	one_refused(p, b, IBV_WR_RDMA_READ, 1024, 4097, IBV_WC_REM_ACCESS_ERR);
	one_refused(p, b, IBV_WR_RDMA_WRITE, 5119, 2, IBV_WC_REM_ACCESS_ERR);
	one_refused(p, b, IBV_WR_RDMA_WRITE, 5120, 1, IBV_WC_REM_ACCESS_ERR);
	one_refused(p, b, IBV_WR_ATOMIC_FETCH_AND_ADD, 1016, 8, IBV_WC_REM_ACCESS_ERR);
}

/* ---- its ends ---- */

static void c_not_bound(struct pair *p)
{
	struct win w;

	if (!up(p, (enum ibv_mw_type)0))
		return;
	w.rkey = (uint32_t)b_do(p, MW_ALLOC, IBV_MW_TYPE_1, 0, NULL);
	CHECK_STATUS(run(p, IBV_WR_RDMA_READ, p->bi.addr, 8, w.rkey), IBV_WC_REM_ACCESS_ERR);
	down(p);
	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		if (!up(p, (enum ibv_mw_type)type))
			return;
		CHECK_INT(b_bind(p,
				 (struct bind){type == IBV_MW_TYPE_1 ? BY_VERB : BY_POST, 0, 64,
					       REMOTE_ACCESS},
				 &w),
			  0);
		CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 8, w.rkey), IBV_WC_SUCCESS);
		CHECK_INT(b_do(p, MW_DEALLOC, 0, 0, NULL), 0);
		CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 8, w.rkey), IBV_WC_REM_ACCESS_ERR);
		pair_down(p);
	}
}

static int send_inv(struct pair *p, uint32_t rkey, struct ibv_wc *there)
{
	struct twr wr = {
		.id = 6, .op = IBV_WR_SEND_WITH_INV, .flags = IBV_SEND_SIGNALED, .imm = rkey};
	struct ibv_wc wc = {0};

	CHECK_ERRNO(side_recv(&p->b, &(struct twr){.id = 60, .off = 60000, .len = 64}), 0);
	CHECK_ERRNO(ep_send(&p->a, &wr), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_INT(side_poll(&p->b, RECV_CQ, there, 1, LONG_MS), 1);
	return (int)wc.status;
}

static void c_send_inv(struct pair *p)
{
	struct ibv_wc wc;
	struct win w;

	if (!up(p, IBV_MW_TYPE_2))
		return;
	for (int i = 0; i < 3; i++) {
		CHECK_INT(b_bind(p, (struct bind){BY_POST, 0, 64, REMOTE_ACCESS}, &w), 0);
		CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 8, w.rkey), IBV_WC_SUCCESS);
		CHECK_STATUS(send_inv(p, w.rkey, &wc), IBV_WC_SUCCESS);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK(wc.wc_flags & IBV_WC_WITH_INV);
		CHECK_INT(wc.invalidated_rkey, w.rkey);
	}
	CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 8, w.rkey), IBV_WC_REM_ACCESS_ERR);
	down(p);
}

/* One of type 1 is its owner's to unbind; one that is free has nothing to invalidate. */
static void c_send_inv_refused(struct pair *p)
{
	struct ibv_wc wc;
	struct win w;

	if (tdev()->rxe)
		return t_skip("rdma_rxe's status for the receive is another");
	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		if (!up(p, (enum ibv_mw_type)type))
			return;
		CHECK_INT(b_bind(p,
				 (struct bind){type == IBV_MW_TYPE_1 ? BY_VERB : BY_POST, 0, 64,
					       REMOTE_ACCESS},
				 &w),
			  0);
		if (type == IBV_MW_TYPE_2)
			CHECK_INT(b_do(p, MW_INV, BY_POST, w.rkey, NULL), 0);
		send_inv(p, w.rkey, &wc);
		CHECK_STATUS(wc.status, IBV_WC_REM_INV_REQ_ERR);
		CHECK_INT(side_settled(&p->b, IBV_QPS_ERR), IBV_QPS_ERR);
		down(p);
	}
}

/* ---- binds that fail ---- */

static void bind_fails(struct pair *p, enum ibv_mw_type type, int mr_access, struct bind b)
{
	if (!up(p, type))
		return;
	if (mr_access)
		b_do(p, MW_MAP, (uint64_t)mr_access, 0, NULL);
	t_note("type %d MR access %#x off %d len %d", (int)type, (unsigned)mr_access, (int)b.off,
	       (int)b.len);
	CHECK_STATUS(b_bind(p, b, NULL), bind_err());
	CHECK_INT(side_settled(&p->b, IBV_QPS_ERR), IBV_QPS_ERR);
	CHECK_INT(b_do(p, MW_DEALLOC, 0, 0, NULL), 0);
	if (mr_access) {
		CHECK_INT(b_do(p, MW_DEREG, 0, 0, NULL), 0);
		b_do(p, MW_UNMAP, 0, 0, NULL);
	}
	pair_down(p);
}

static void c_bind_errors(struct pair *p)
{
	const int bindable = IBV_ACCESS_MW_BIND | IBV_ACCESS_REMOTE_READ;
	struct bind b = {BY_POST, 0, 64, IBV_ACCESS_REMOTE_READ};

	bind_fails(p, IBV_MW_TYPE_2, ALL_ACCESS, b); /* without MW_BIND */
	b.access = IBV_ACCESS_REMOTE_WRITE;
	bind_fails(p, IBV_MW_TYPE_2, bindable, b); /* without local write */
	b.access = IBV_ACCESS_REMOTE_ATOMIC;
	bind_fails(p, IBV_MW_TYPE_2, bindable, b);
	b.access = IBV_ACCESS_REMOTE_READ;
	b.len = 0;
	bind_fails(p, IBV_MW_TYPE_2, 0, b);
	b.len = LEN + 1;
	bind_fails(p, IBV_MW_TYPE_2, 0, b);
	b.how = BY_VERB;
	bind_fails(p, IBV_MW_TYPE_1, 0, b);
	b.off = (uint64_t)-1;
	b.len = 2;
	bind_fails(p, IBV_MW_TYPE_1, 0, b);
	b.off = UINT64_MAX / 2;
	b.len = UINT64_MAX;
	bind_fails(p, IBV_MW_TYPE_1, 0, b);
	if (!tdev()->rxe)
		bind_fails(p, IBV_MW_TYPE_2,
			   ALL_ACCESS | IBV_ACCESS_MW_BIND | IBV_ACCESS_ZERO_BASED,
			   (struct bind){BY_POST, 0, 64, IBV_ACCESS_REMOTE_READ});
}

static void c_inv_errors(struct pair *p)
{
	struct win w;

	for (int i = 0; i < 5; i++) {
		uint32_t key;

		if (!up(p, i == 4 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2))
			return;
		CHECK_INT(b_bind(p, (struct bind){i == 4 ? BY_VERB : BY_POST, 0, 64, REMOTE_ACCESS},
				 &w),
			  0);
		key = i == 0 ? w.rkey + 1 : i == 1 ? 0xffffff00 : i == 2 ? 0 : w.rkey;
		if (i == 3)
			CHECK_INT(b_do(p, MW_INV, BY_POST, key, NULL), 0); /* and again */
		t_note("%d", i);
		CHECK_STATUS(b_do(p, MW_INV, BY_POST, key, NULL), bind_err());
		CHECK_INT(side_settled(&p->b, IBV_QPS_ERR), IBV_QPS_ERR);
		down(p);
	}
	/* Bound already. */
	if (!up(p, IBV_MW_TYPE_2))
		return;
	CHECK_INT(b_bind(p, (struct bind){BY_POST, 0, 64, REMOTE_ACCESS}, &w), 0);
	CHECK_STATUS(b_bind(p, (struct bind){BY_POST, 64, 64, REMOTE_ACCESS}, &w), bind_err());
	down(p);
}

/* What shows when it is posted. */
static void c_post_errors(struct pair *p)
{
	struct ibv_mw_bind_info info = {.length = 64, .mw_access_flags = IBV_ACCESS_REMOTE_READ};
	struct bind by = {.how = BY_POST};
	struct ibv_mw_bind verb = {.wr_id = 1};
	struct ep *b = &p->b.ep;
	uint32_t handle;

	if (tdev()->rxe)
		return t_skip("rdma_rxe's library looks at nothing");
	if (!up(p, IBV_MW_TYPE_1))
		return;
	info.addr = (uintptr_t)b->buf;
	info.mr = b->mr;
	CHECK_ERRNO(bind_post(b, &by, 7, &info), EINVAL); /* type 1 */
	verb.bind_info = info;
	verb.bind_info.mw_access_flags = IBV_ACCESS_ZERO_BASED;
	CHECK_ERRNO(ibv_bind_mw(b->qp, mw, &verb), EINVAL);
	verb.bind_info.mw_access_flags = IBV_ACCESS_ON_DEMAND;
	CHECK_ERRNO(ibv_bind_mw(b->qp, mw, &verb), EINVAL);
	verb.bind_info = info;
	CHECK_ERRNO(ibv_bind_mw(p->a.qp, mw, &verb), EINVAL); /* of another context */
	CHECK_ERRNO(ibv_dealloc_mw(mw), 0);
	mw = ibv_alloc_mw(b->pd, IBV_MW_TYPE_2);
	REQUIRE(mw);
	CHECK_ERRNO(ibv_bind_mw(b->qp, mw, &verb), EINVAL);
	info.mr = p->a.mr;
	CHECK_ERRNO(bind_post(b, &by, 7, &info), EINVAL);
	info.mr = NULL;
	CHECK_ERRNO(bind_post(b, &by, 7, &info), EINVAL);
	info.mr = b->mr;
	handle = mw->handle;
	mw->handle ^= 1;
	CHECK_ERRNO(bind_post(b, &by, 7, &info), EINVAL);
	CHECK_ERRNO(ibv_dealloc_mw(mw), ENOENT);
	mw->handle = handle;
	CHECK_ERRNO(ibv_dealloc_pd(b->pd), EBUSY);
	errno = 0;
	CHECK(!ibv_alloc_mw(b->pd, (enum ibv_mw_type)3));
	CHECK_ERRNO(errno, EINVAL);
	CHECK_INT(ep_state(b), IBV_QPS_RTS);
	down(p);
}

/* ---- the MR beneath ---- */

static void c_busy(struct pair *p)
{
	struct hook_msg out;
	struct win w;

	if (tdev()->rxe)
		return t_skip("rdma_rxe has no EBUSY in ibv_rereg_mr()");
	for (int on_demand = 0; on_demand < 2; on_demand++) {
		if (!up(p, IBV_MW_TYPE_2))
			return;
		b_do(p, MW_MAP,
		     ALL_ACCESS | IBV_ACCESS_MW_BIND | (on_demand ? IBV_ACCESS_ON_DEMAND : 0), 0,
		     NULL);
		CHECK_INT(b_bind(p, (struct bind){BY_POST, 0, 64, REMOTE_ACCESS}, &w), 0);
		CHECK_ERRNO((int)b_do(p, MW_DEREG, 0, 0, NULL), EBUSY);
		CHECK_INT(
			b_do(p, MW_REREG, IBV_REREG_MR_CHANGE_ACCESS, IBV_ACCESS_LOCAL_WRITE, &out),
			IBV_REREG_MR_ERR_CMD);
		CHECK_ERRNO((int)out.v[1], EBUSY);
		CHECK_INT(b_do(p, MW_REREG, IBV_REREG_MR_CHANGE_TRANSLATION, 0, &out),
			  IBV_REREG_MR_ERR_CMD);
		CHECK_ERRNO((int)out.v[1], EBUSY);
		/* All is as it was. */
		CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 64, w.rkey), IBV_WC_SUCCESS);
		CHECK_INT(p->a.buf[63], 0x5a);
		CHECK_INT(b_do(p, MW_INV, BY_POST, w.rkey, NULL), 0);
		CHECK_ERRNO((int)b_do(p, MW_DEREG, 0, 0, NULL), 0);
		b_do(p, MW_UNMAP, 0, 0, NULL);
		down(p);
	}
}

/* The window follows its region: a pinned one keeps its pages, another loses them. */
static void c_munmap(struct pair *p)
{
	struct win w;

	for (int on_demand = 0; on_demand < 2; on_demand++) {
		if (on_demand && !(tdev()->odp.general_caps & IBV_ODP_SUPPORT))
			return;
		if (!up(p, IBV_MW_TYPE_2))
			return;
		b_do(p, MW_MAP,
		     ALL_ACCESS | IBV_ACCESS_MW_BIND | (on_demand ? IBV_ACCESS_ON_DEMAND : 0), 0,
		     NULL);
		CHECK_INT(b_bind(p, (struct bind){BY_POST, 0, LEN, REMOTE_ACCESS}, &w), 0);
		CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 64, w.rkey), IBV_WC_SUCCESS);
		b_do(p, MW_UNMAP, 0, 0, NULL);
		memset(p->a.buf, 0, 64);
		CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base + 8192, 64, w.rkey),
			     on_demand ? IBV_WC_REM_ACCESS_ERR : IBV_WC_SUCCESS);
		CHECK_INT(p->a.buf[63], on_demand ? 0 : 0x5a);
		CHECK_INT(b_do(p, MW_DEALLOC, 0, 0, NULL), 0);
		CHECK_ERRNO((int)b_do(p, MW_DEREG, 0, 0, NULL), 0);
		pair_down(p);
	}
}

/* ---- who may use it ---- */

/* Another connection between the same two PDs. */
static bool other_qp(struct ep *ep, struct ibv_qp **qp)
{
	struct ibv_qp_init_attr init = {.send_cq = ep->scq,
					.recv_cq = ep->rcq,
					.cap = {4, 4, 1, 1, 0},
					.qp_type = IBV_QPT_RC};

	*qp = ibv_create_qp(ep->pd, &init);
	return CHECK(*qp);
}

static void other_connect(struct ep *ep, struct ibv_qp *qp, const struct ep_info *peer,
			  uint32_t dest)
{
	struct ibv_qp_attr attr;

	ep_attr_init(ep, &attr);
	CHECK_ERRNO(ibv_modify_qp(qp, &attr, ep_mask_init(IBV_QPT_RC)), 0);
	ep_attr_rtr(ep, peer, &attr);
	attr.dest_qp_num = dest;
	CHECK_ERRNO(ibv_modify_qp(qp, &attr, ep_mask_rtr(IBV_QPT_RC)), 0);
	ep_attr_rts(ep, &attr);
	CHECK_ERRNO(ibv_modify_qp(qp, &attr, ep_mask_rts(IBV_QPT_RC)), 0);
}

/* One of type 2 is its QP's, one of type 1 its PD's. */
static void c_other_qp(struct pair *p)
{
	struct ibv_qp *qa, *qb, *mine;
	struct win w;

	for (int type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2; type++) {
		if (!up(p, (enum ibv_mw_type)type))
			return;
		REQUIRE(other_qp(&p->a, &qa) && other_qp(&p->b.ep, &qb));
		other_connect(&p->a, qa, &p->bi, qb->qp_num);
		other_connect(&p->b.ep, qb, &p->ai, qa->qp_num);
		CHECK_INT(b_bind(p,
				 (struct bind){type == IBV_MW_TYPE_1 ? BY_VERB : BY_POST, 0, 64,
					       REMOTE_ACCESS},
				 &w),
			  0);
		CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 8, w.rkey), IBV_WC_SUCCESS);
		mine = p->a.qp;
		p->a.qp = qa;
		CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 8, w.rkey),
			     type == IBV_MW_TYPE_1 ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR);
		p->a.qp = mine;
		CHECK_ERRNO(ibv_destroy_qp(qa), 0);
		CHECK_ERRNO(ibv_destroy_qp(qb), 0);
		down(p);
	}
}

/* A window gives no right to one's own SGEs. */
static void c_as_lkey(struct pair *p)
{
	struct ibv_wc wc;
	struct win w;

	if (!up(p, IBV_MW_TYPE_2))
		return;
	CHECK_INT(b_bind(p, (struct bind){BY_POST, 0, 64, REMOTE_ACCESS}, &w), 0);
	CHECK_ERRNO(side_send(&p->b, &(struct twr){.op = IBV_WR_RDMA_WRITE,
						   .flags = IBV_SEND_SIGNALED,
						   .len = 8,
						   .lkey = w.rkey,
						   .raddr = p->ai.addr,
						   .rkey = p->ai.rkey}),
		    0);
	CHECK_INT(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_LOC_PROT_ERR);
	down(p);
}

/* All variants of a key, twice over. */
static void c_variants(struct pair *p)
{
	struct win w, last = {0};

	if (!up(p, IBV_MW_TYPE_1))
		return;
	for (int i = 0; i < 600; i++) {
		CHECK_INT(b_bind(p, (struct bind){BY_VERB, (uint64_t)i, 64, REMOTE_ACCESS}, &w), 0);
		CHECK(w.rkey != last.rkey);
		last = w;
	}
	CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base + 599, 64, w.rkey), IBV_WC_SUCCESS);
	down(p);
}

static void c_killed(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct win w;

	c.mr_access |= IBV_ACCESS_MW_BIND;
	if (!(tdev()->attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B))
		return t_skip("the device has no memory windows");
	REQUIRE(side_spawned(&p->b));
	REQUIRE(pair_up(p, &c, &c));
	b_do(p, MW_ALLOC, IBV_MW_TYPE_2, 0, NULL);
	CHECK_INT(b_bind(p, (struct bind){BY_POST, 0, 64, REMOTE_ACCESS}, &w), 0);
	CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 8, w.rkey), IBV_WC_SUCCESS);
	side_kill(&p->b, SIGKILL);
	CHECK_STATUS(run(p, IBV_WR_RDMA_READ, w.base, 8, w.rkey), IBV_WC_RETRY_EXC_ERR);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static const struct tcase cases[] = {
	{"type_1", c_type_1, BOTH},
	{"type_2", c_type_2, BOTH},
	{"rights", c_rights, PEER},
	{"bounds", c_bounds, PEER},
	{"not_bound", c_not_bound, PEER},
	{"send_inv", c_send_inv, BOTH},
	{"send_inv_refused", c_send_inv_refused, PEER},
	{"bind_errors", c_bind_errors, PEER},
	{"inv_errors", c_inv_errors, PEER},
	{"post_errors", c_post_errors, HERE},
	{"busy", c_busy, PEER},
	{"munmap", c_munmap, PEER},
	{"other_qp", c_other_qp, HERE},
	{"as_lkey", c_as_lkey, PEER},
	{"variants", c_variants, PEER},
	{"killed", c_killed, PEER},
};

int main(int argc, char **argv)
{
	t_hook(mw_hook);
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
