/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * On-demand paging for every operation, explicit and implicit: memory that
 * nobody has touched is zeros as a source, and as a target holds what was sent.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "harness.h"

#define LEN (1u << 20)
#define STEP (64u << 10) /* between places in the buffer that nobody has touched */
#define GRH 40u

struct op {
	const char *name;
	enum ibv_qp_type type;
	enum ibv_wr_opcode op;
	bool srq;
	uint32_t caps; /* that the transport must have */
};

static const struct op ops[] = {
	{"RC SEND", IBV_QPT_RC, IBV_WR_SEND, false, IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV},
	{"RC SEND, SRQ", IBV_QPT_RC, IBV_WR_SEND, true,
	 IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_SRQ_RECV},
	{"RC WRITE", IBV_QPT_RC, IBV_WR_RDMA_WRITE, false, IBV_ODP_SUPPORT_WRITE},
	{"RC WRITE with immediate", IBV_QPT_RC, IBV_WR_RDMA_WRITE_WITH_IMM, false,
	 IBV_ODP_SUPPORT_WRITE},
	{"RC READ", IBV_QPT_RC, IBV_WR_RDMA_READ, false, IBV_ODP_SUPPORT_READ},
	{"UC SEND", IBV_QPT_UC, IBV_WR_SEND, false, IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV},
	{"UC WRITE", IBV_QPT_UC, IBV_WR_RDMA_WRITE, false, IBV_ODP_SUPPORT_WRITE},
	{"UD SEND", IBV_QPT_UD, IBV_WR_SEND, false, IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV},
	{"UD SEND, SRQ", IBV_QPT_UD, IBV_WR_SEND, true,
	 IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_SRQ_RECV},
};

static uint32_t caps_of(enum ibv_qp_type type)
{
	const struct ibv_odp_caps *odp = &tdev()->odp;

	return type == IBV_QPT_RC   ? odp->per_transport_caps.rc_odp_caps
	       : type == IBV_QPT_UC ? odp->per_transport_caps.uc_odp_caps
				    : odp->per_transport_caps.ud_odp_caps;
}

/* ---- implicit regions of both sides ---- */

enum { HOOK_REG = 1, HOOK_DEREG };

static void implicit_hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	static struct ibv_mr *mr;

	out->v[0] = 0;
	if (in->what == HOOK_DEREG) {
		out->v[0] = (uint64_t)ibv_dereg_mr(mr);
		return;
	}
	mr = ibv_reg_mr(ep->pd, NULL, SIZE_MAX, ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	out->v[0] = mr ? mr->lkey : 0;
	out->v[1] = mr ? mr->rkey : 0;
}

struct keys {
	struct ibv_mr *mr; /* A's implicit one */
	uint32_t a_lkey;
	uint32_t b_lkey, b_rkey;
};

static bool keys_get(struct pair *p, bool implicit, struct keys *k)
{
	struct hook_msg in = {.what = HOOK_REG}, out = {0};

	*k = (struct keys){.a_lkey = p->a.mr->lkey, .b_rkey = p->bi.rkey};
	if (!implicit)
		return true;
	k->mr = ibv_reg_mr(p->a.pd, NULL, SIZE_MAX, ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!CHECK(k->mr))
		return false;
	k->a_lkey = k->mr->lkey;
	side_hook(&p->b, &in, &out);
	k->b_lkey = (uint32_t)out.v[0];
	k->b_rkey = (uint32_t)out.v[1];
	return CHECK(k->b_lkey);
}

static void keys_put(struct pair *p, struct keys *k)
{
	struct hook_msg in = {.what = HOOK_DEREG}, out = {0};

	if (!k->mr)
		return;
	CHECK_ERRNO(ibv_dereg_mr(k->mr), 0);
	side_hook(&p->b, &in, &out);
	CHECK_ERRNO((int)out.v[0], 0);
}

/* ---- one transfer ---- */

static void transfer(struct pair *p, const struct op *op, const struct keys *k, uint64_t off,
		     uint32_t len)
{
	const bool ud = op->type == IBV_QPT_UD;
	const bool recv = op->op == IBV_WR_SEND || op->op == IBV_WR_RDMA_WRITE_WITH_IMM;
	struct twr s = {.id = 1,
			.op = op->op,
			.flags = IBV_SEND_SIGNALED,
			.off = off,
			.len = len,
			.lkey = k->a_lkey,
			.raddr = p->bi.addr + off,
			.rkey = k->b_rkey};
	struct twr r = {.id = 2, .lkey = k->b_lkey};
	struct ibv_wc wc;

	if (op->op == IBV_WR_SEND) {
		r.off = ud ? off - GRH : off;
		r.len = ud ? len + GRH : len;
	}
	if (recv)
		CHECK_ERRNO(side_recv(&p->b, &r), 0);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	if (CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	if (recv && CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1))
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
}

static uint64_t zeros(uint32_t len)
{
	uint8_t *z = calloc(1, len);
	uint64_t sum = sum_bytes(z, len);

	free(z);
	return sum;
}

static void fresh(struct pair *p, const struct op *op, const struct keys *k)
{
	const uint32_t len = op->type == IBV_QPT_UD ? 1000 : 10000;
	const bool read = op->op == IBV_WR_RDMA_READ;
	uint64_t off = 4096 - 200; /* over a page's end */

	/* Neither side has touched it. */
	transfer(p, op, k, off, len);
	CHECK_INT(read ? sum_bytes(p->a.buf + off, len) : side_sum(&p->b, off, len), zeros(len));
	/* Only the source. */
	off += STEP;
	if (read)
		side_fill(&p->b, off, len, 7);
	else
		fill_bytes(p->a.buf + off, len, 7);
	transfer(p, op, k, off, len);
	CHECK_INT(side_sum(&p->b, off, len), sum_bytes(p->a.buf + off, len));
	/* Only the target. */
	off += STEP;
	if (read)
		memset(p->a.buf + off, 0xff, len);
	else
		side_fill(&p->b, off, len, 9);
	transfer(p, op, k, off, len);
	CHECK_INT(read ? sum_bytes(p->a.buf + off, len) : side_sum(&p->b, off, len), zeros(len));
	/* Many pages. */
	if (op->type == IBV_QPT_UD)
		return;
	off += STEP;
	if (read)
		side_fill(&p->b, off, LEN / 2, 11);
	else
		fill_bytes(p->a.buf + off, LEN / 2, 11);
	transfer(p, op, k, off, LEN / 2);
	CHECK_INT(side_sum(&p->b, off, LEN / 2), sum_bytes(p->a.buf + off, LEN / 2));
}

static struct ep_conf conf_of(enum ibv_qp_type type, bool srq)
{
	struct ep_conf c = RC_CONF;

	c.type = type;
	c.len = LEN;
	c.odp = true;
	c.fresh = true;
	c.srq_wr = srq ? 16 : 0;
	return c;
}

static bool supported(bool implicit)
{
	const uint64_t need = IBV_ODP_SUPPORT | (implicit ? IBV_ODP_SUPPORT_IMPLICIT : 0);

	if ((tdev()->odp.general_caps & need) == need)
		return true;
	t_skip(implicit ? "no implicit on-demand paging" : "no on-demand paging");
	return false;
}

static void each_op(struct pair *p, bool implicit)
{
	for (size_t i = 0; supported(implicit) && i < ARRAY_SIZE(ops) && !t_failures(); i++) {
		struct ep_conf c = conf_of(ops[i].type, ops[i].srq);
		struct keys k;

		if ((caps_of(ops[i].type) & ops[i].caps) != ops[i].caps)
			continue;
		t_note("%s", ops[i].name);
		REQUIRE(pair_up(p, &c, &c));
		if (keys_get(p, implicit, &k))
			fresh(p, &ops[i], &k);
		keys_put(p, &k);
		pair_down(p);
	}
}

static void c_explicit(struct pair *p)
{
	each_op(p, false);
}

static void c_implicit(struct pair *p)
{
	each_op(p, true);
}

/* ---- atomics ---- */

static uint64_t atomic_once(struct pair *p, const struct keys *k, enum ibv_wr_opcode op,
			    uint64_t off, uint64_t compare_add, uint64_t swap)
{
	struct twr s = {.id = 1,
			.op = op,
			.flags = IBV_SEND_SIGNALED,
			.off = off,
			.len = 8,
			.lkey = k->a_lkey,
			.raddr = p->bi.addr + off,
			.rkey = k->b_rkey,
			.compare_add = compare_add,
			.swap = swap};
	uint64_t old;
	struct ibv_wc wc;

	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	if (CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	memcpy(&old, p->a.buf + off, sizeof(old));
	return old;
}

static void atomics(struct pair *p, bool implicit)
{
	struct ep_conf c = conf_of(IBV_QPT_RC, false);
	struct keys k;

	if (!supported(implicit))
		return;
	if (!(caps_of(IBV_QPT_RC) & IBV_ODP_SUPPORT_ATOMIC)) {
		t_skip("no atomics on demand");
		return;
	}
	REQUIRE(pair_up(p, &c, &c));
	if (keys_get(p, implicit, &k)) {
		CHECK_INT(atomic_once(p, &k, IBV_WR_ATOMIC_FETCH_AND_ADD, 8, 5, 0), 0);
		CHECK_INT(side_get(&p->b, 8), 5);
		CHECK_INT(atomic_once(p, &k, IBV_WR_ATOMIC_CMP_AND_SWP, STEP, 0, 77), 0);
		CHECK_INT(side_get(&p->b, STEP), 77);
		side_put(&p->b, 2 * STEP, 1000);
		CHECK_INT(atomic_once(p, &k, IBV_WR_ATOMIC_CMP_AND_SWP, 2 * STEP, 1, 2), 1000);
		CHECK_INT(side_get(&p->b, 2 * STEP), 1000);
	}
	keys_put(p, &k);
	pair_down(p);
}

static void c_atomics(struct pair *p)
{
	atomics(p, false);
}

static void c_atomics_implicit(struct pair *p)
{
	atomics(p, true);
}

/* ---- what an implicit region is, and is not ---- */

static void refused(struct ep *ep, void *addr, size_t len, uint64_t iova, int access)
{
	struct ibv_mr *mr;

	errno = 0;
	mr = ibv_reg_mr_iova(ep->pd, addr, len, iova, (unsigned)access);
	if (CHECK(!mr))
		CHECK_ERRNO(errno, EINVAL);
	else
		ibv_dereg_mr(mr);
}

static void c_rules(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ep *a = &p->a;

	if (!supported(true))
		return;
	REQUIRE(pair_up(p, &c, &c));
	t_note("another address");
	refused(a, a->map, SIZE_MAX, (uintptr_t)a->map, IBV_ACCESS_ON_DEMAND);
	t_note("an iova");
	refused(a, NULL, SIZE_MAX, 4096, IBV_ACCESS_ON_DEMAND);
	t_note("huge pages");
	refused(a, NULL, SIZE_MAX, 0, IBV_ACCESS_ON_DEMAND | IBV_ACCESS_HUGETLB);
	t_note("pinned");
	refused(a, NULL, SIZE_MAX, 0, IBV_ACCESS_LOCAL_WRITE);
	t_note("rights");
	refused(a, NULL, SIZE_MAX, 0, IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_WRITE);
	pair_down(p);
}

static int status_of(struct pair *p, enum ibv_wr_opcode op, const struct keys *k, uint64_t raddr)
{
	struct twr s = {.id = 1,
			.op = op,
			.flags = IBV_SEND_SIGNALED,
			.len = 64,
			.lkey = k->a_lkey,
			.raddr = raddr,
			.rkey = k->b_rkey};
	struct ibv_wc wc;

	if (!CHECK_ERRNO(ep_send(&p->a, &s), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

/* Memory that comes and goes after the registration. */
static void c_later(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct keys k;
	uint8_t *mem;

	if (!supported(true))
		return;
	REQUIRE(pair_up(p, &c, &c));
	if (keys_get(p, true, &k)) {
		mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		REQUIRE(mem != MAP_FAILED);
		memset(p->a.buf, 0x31, 64);
		CHECK_STATUS(status_of(p, IBV_WR_RDMA_WRITE, &k, (uintptr_t)mem), IBV_WC_SUCCESS);
		CHECK_INT(mem[63], 0x31);
		CHECK_INT(madvise(mem, LEN, MADV_DONTNEED), 0);
		CHECK_STATUS(status_of(p, IBV_WR_RDMA_READ, &k, (uintptr_t)mem), IBV_WC_SUCCESS);
		CHECK_INT(p->a.buf[0], 0);
		CHECK_INT(mprotect(mem, LEN, PROT_READ), 0);
		CHECK_STATUS(status_of(p, IBV_WR_RDMA_READ, &k, (uintptr_t)mem), IBV_WC_SUCCESS);
		munmap(mem, LEN);
		CHECK_STATUS(status_of(p, IBV_WR_RDMA_READ, &k, (uintptr_t)mem),
			     IBV_WC_REM_ACCESS_ERR);
	}
	keys_put(p, &k);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"explicit", c_explicit, BOTH},     {"implicit", c_implicit, BOTH},
		{"atomics", c_atomics, BOTH},       {"atomics, implicit", c_atomics_implicit, BOTH},
		{"implicit: rules", c_rules, HERE}, {"implicit: later memory", c_later, HERE},
	};

	t_hook(implicit_hook);
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
