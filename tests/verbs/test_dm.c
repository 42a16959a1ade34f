/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Device memory: allocation, copies by the program, and as both ends of transfers. */
#include <stdlib.h>

#include "harness.h"

#define LEN (48u << 10)
#define AT 4092u /* where the MR starts in the memory: off a page's start */
#define DM_ACCESS (ALL_ACCESS | IBV_ACCESS_ZERO_BASED)

static uint64_t max_size(struct ibv_context *ctx)
{
	struct ibv_device_attr_ex a = {0};

	CHECK_ERRNO(ibv_query_device_ex(ctx, NULL, &a), 0);
	return a.max_dm_size;
}

static bool has_none(void)
{
	struct ibv_context *ctx = tdev_open();
	bool none = !max_size(ctx);

	ibv_close_device(ctx);
	if (none)
		t_skip("the device has no memory");
	return none;
}

static struct ibv_dm *alloc(struct ibv_context *ctx, size_t length, uint32_t align, uint32_t mask)
{
	struct ibv_alloc_dm_attr a = {.length = length, .log_align_req = align, .comp_mask = mask};

	return ibv_alloc_dm(ctx, &a);
}

/* ---- a piece of device memory on either side ---- */

enum { DM_OPEN = 1, DM_CLOSE, DM_FILL, DM_SUM, DM_WORD, DM_SEND, DM_RECV };

struct dm {
	struct ibv_dm *dm;
	struct ibv_mr *mr;
};

static void post_recv(struct ep *ep, const struct dm *d, uint64_t off, uint32_t len)
{
	struct ibv_sge sge = {.addr = off, .length = len, .lkey = d->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = 9, .sg_list = &sge, .num_sge = 1}, *bad;

	CHECK_ERRNO(ibv_post_recv(ep->qp, &wr, &bad), 0);
}

static void post_send(struct ep *ep, const struct dm *d, struct ibv_send_wr *wr, uint64_t off,
		      uint32_t len)
{
	struct ibv_sge sge = {.addr = off, .length = len, .lkey = d->mr->lkey};
	struct ibv_send_wr *bad;

	wr->sg_list = &sge;
	wr->num_sge = 1;
	wr->send_flags |= IBV_SEND_SIGNALED;
	CHECK_ERRNO(ibv_post_send(ep->qp, wr, &bad), 0);
}

static bool dm_open(struct ep *ep, struct dm *d)
{
	d->dm = alloc(ep->ctx, AT + LEN, 6, 0);
	if (!CHECK(d->dm))
		return false;
	d->mr = ibv_reg_dm_mr(ep->pd, d->dm, AT, LEN, DM_ACCESS);
	return CHECK(d->mr);
}

static void dm_close(struct dm *d)
{
	CHECK_ERRNO(ibv_free_dm(d->dm), EBUSY); /* as long as it has an MR */
	CHECK_ERRNO(ibv_dereg_mr(d->mr), 0);
	CHECK_ERRNO(ibv_free_dm(d->dm), 0);
}

/* Copies by the program are of whole words. */
static uint8_t *words_get(struct dm *d, uint64_t off, uint64_t len, uint64_t *first, uint64_t *n)
{
	uint8_t *buf;

	*first = (AT + off) & ~(uint64_t)3;
	*n = ((AT + off + len + 3) & ~(uint64_t)3) - *first;
	buf = calloc(1, *n);
	CHECK_ERRNO(ibv_memcpy_from_dm(buf, d->dm, *first, *n), 0);
	return buf;
}

static void dm_fill(struct dm *d, uint64_t off, uint64_t len, uint64_t seed)
{
	uint64_t first, n;
	uint8_t *buf = words_get(d, off, len, &first, &n);

	fill_bytes(buf + (AT + off - first), len, seed);
	CHECK_ERRNO(ibv_memcpy_to_dm(d->dm, first, buf, n), 0);
	free(buf);
}

static uint64_t dm_sum(struct dm *d, uint64_t off, uint64_t len)
{
	uint64_t first, n, sum;
	uint8_t *buf = words_get(d, off, len, &first, &n);

	sum = sum_bytes(buf + (AT + off - first), len);
	free(buf);
	return sum;
}

static uint64_t seed_sum(uint64_t len, uint64_t seed)
{
	uint8_t *buf = malloc(len);
	uint64_t sum;

	fill_bytes(buf, len, seed);
	sum = sum_bytes(buf, len);
	free(buf);
	return sum;
}

/* B's, wherever B is. */
static void dm_hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	static struct dm d;

	switch (in->what) {
	case DM_OPEN:
		out->v[0] = dm_open(ep, &d) ? d.mr->rkey : 0;
		break;
	case DM_CLOSE:
		dm_close(&d);
		break;
	case DM_FILL:
		dm_fill(&d, in->v[0], in->v[1], in->v[2]);
		break;
	case DM_SUM:
		out->v[0] = dm_sum(&d, in->v[0], in->v[1]);
		break;
	case DM_WORD:
		CHECK_ERRNO(ibv_memcpy_from_dm(&out->v[0], d.dm, AT + in->v[0], 8), 0);
		break;
	case DM_RECV:
		post_recv(ep, &d, in->v[0], (uint32_t)in->v[1]);
		break;
	}
}

static uint64_t b_do(struct pair *p, uint32_t what, uint64_t a, uint64_t b, uint64_t c)
{
	static struct hook_msg in, out;

	in = (struct hook_msg){.what = what, .v = {a, b, c}};
	out.v[0] = 0;
	side_hook(&p->b, &in, &out);
	return out.v[0];
}

static int status(struct pair *p)
{
	struct ibv_wc wc = {0};

	return CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1) ? (int)wc.status : -1;
}

/* ---- cases ---- */

static void c_alloc(struct pair *p)
{
	struct ibv_context *ctx;
	struct ibv_dm *dm, *rest;
	uint64_t max;

	(void)p;
	if (has_none())
		return;
	ctx = tdev_open();
	max = max_size(ctx);
	errno = 0;
	CHECK(!alloc(ctx, max + 1, 0, 0));
	CHECK_ERRNO(errno, EINVAL);
	CHECK(!alloc(ctx, 0, 0, 0));
	CHECK_ERRNO(errno, EINVAL);
	CHECK(!alloc(ctx, 64, 40, 0));
	CHECK_ERRNO(errno, EINVAL);
	CHECK(!alloc(ctx, 64, 0, 1));
	CHECK_ERRNO(errno, EINVAL);
	/* All there is, then nothing, then again. */
	dm = alloc(ctx, max - 4096, 12, 0);
	REQUIRE(dm);
	CHECK(!alloc(ctx, 4097, 0, 0));
	CHECK_ERRNO(errno, ENOMEM);
	rest = alloc(ctx, 4096, 0, 0);
	CHECK(rest && rest->handle != dm->handle);
	CHECK_ERRNO(ibv_free_dm(rest), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	dm = alloc(ctx, max, 0, 0);
	REQUIRE(dm);
	/* What is left behind goes with the context, but for the object itself. */
	CHECK_ERRNO(ibv_close_device(ctx), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	ctx = tdev_open();
	dm = alloc(ctx, max, 0, 0);
	CHECK(dm);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

static void c_memcpy(struct pair *p)
{
	static uint8_t zero[LEN], in[LEN], out[LEN];
	struct ibv_context *ctx;
	struct ibv_dm *dm;

	(void)p;
	if (has_none())
		return;
	ctx = tdev_open();
	dm = alloc(ctx, LEN, 0, 0);
	REQUIRE(dm);
	memset(out, 1, LEN);
	CHECK_ERRNO(ibv_memcpy_from_dm(out, dm, 0, LEN), 0);
	CHECK(!memcmp(out, zero, LEN));
	fill_bytes(in, LEN, 5);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 0, in, LEN), 0);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 8, zero, 12), 0);
	memset(in + 8, 0, 12);
	CHECK_ERRNO(ibv_memcpy_from_dm(out, dm, 0, LEN), 0);
	CHECK(!memcmp(out, in, LEN));
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 0, in, 0), 0);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, LEN, in, 0), 0);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 2, in, 4), EINVAL);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 4, in, 5), EINVAL);
	CHECK_ERRNO(ibv_memcpy_from_dm(out, dm, 1, 3), EINVAL);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, LEN, in, 1), EFAULT);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 1, in, LEN), EFAULT);
	CHECK_ERRNO(ibv_memcpy_from_dm(out, dm, UINT64_MAX, 2), EFAULT);
	CHECK_ERRNO(ibv_memcpy_from_dm(out, dm, 4, SIZE_MAX), EFAULT);
	CHECK_ERRNO(ibv_memcpy_from_dm(out, dm, 0, LEN), 0);
	CHECK(!memcmp(out, in, LEN));
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	/* The next to have it finds nothing in it. */
	dm = alloc(ctx, LEN, 0, 0);
	REQUIRE(dm);
	CHECK_ERRNO(ibv_memcpy_from_dm(out, dm, 0, LEN), 0);
	CHECK(!memcmp(out, zero, LEN));
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

static void refused(struct ibv_pd *pd, struct ibv_dm *dm, uint64_t off, size_t len,
		    unsigned int access, int err)
{
	errno = 0;
	CHECK(!ibv_reg_dm_mr(pd, dm, off, len, access));
	CHECK_ERRNO(errno, err);
}

static void c_register(struct pair *p)
{
	struct ibv_context *ctx, *other;
	struct ibv_pd *pd, *foreign;
	struct ibv_dm *dm;
	struct ibv_mr *mr;

	(void)p;
	if (has_none())
		return;
	ctx = tdev_open();
	other = tdev_open();
	pd = ibv_alloc_pd(ctx);
	foreign = ibv_alloc_pd(other);
	dm = alloc(ctx, LEN, 0, 0);
	REQUIRE(pd && foreign && dm);
	refused(pd, dm, 0, LEN, ALL_ACCESS, EINVAL); /* not zero-based */
	refused(pd, dm, 0, LEN + 1, DM_ACCESS, EINVAL);
	refused(pd, dm, 1, LEN, DM_ACCESS, EINVAL);
	refused(pd, dm, UINT64_MAX, 2, DM_ACCESS, EINVAL);
	refused(pd, dm, 0, LEN, DM_ACCESS | IBV_ACCESS_ON_DEMAND, EINVAL);
	refused(pd, dm, 0, LEN, IBV_ACCESS_ZERO_BASED | IBV_ACCESS_REMOTE_WRITE, EINVAL);
	refused(foreign, dm, 0, LEN, DM_ACCESS, EINVAL);
	mr = ibv_reg_dm_mr(pd, dm, 8, LEN - 8, DM_ACCESS);
	REQUIRE(mr);
	CHECK(mr->context == ctx && mr->pd == pd && !mr->addr && mr->length == LEN - 8);
	CHECK_ERRNO(ibv_dealloc_pd(pd), EBUSY);
	CHECK_ERRNO(ibv_free_dm(dm), EBUSY);
	CHECK_INT(
		ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, IBV_ACCESS_LOCAL_WRITE),
		IBV_REREG_MR_ERR_CMD);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	CHECK_ERRNO(ibv_dealloc_pd(pd), 0);
	CHECK_ERRNO(ibv_dealloc_pd(foreign), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
	CHECK_ERRNO(ibv_close_device(other), 0);
}

struct setup {
	struct dm a;
	uint32_t rkey;
};

static bool both_open(struct pair *p, struct setup *s)
{
	struct ep_conf c = RC_CONF;

	if (!pair_up(p, &c, &c))
		return false;
	s->rkey = (uint32_t)b_do(p, DM_OPEN, 0, 0, 0);
	return CHECK(s->rkey) && dm_open(&p->a, &s->a);
}

static void both_close(struct pair *p, struct setup *s)
{
	b_do(p, DM_CLOSE, 0, 0, 0);
	dm_close(&s->a);
	pair_down(p);
}

/* Device memory at both ends, zero-based, over pages' ends. */
static void c_rdma(struct pair *p)
{
	static const uint32_t lens[] = {1, 8, 4000, 4096, 4097, LEN};
	struct setup s;

	if (has_none())
		return;
	REQUIRE(both_open(p, &s));
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE, .wr.rdma = {.rkey = s.rkey}};
		uint64_t off = LEN - lens[i];

		t_note("%u bytes", lens[i]);
		dm_fill(&s.a, off, lens[i], 10 + i);
		wr.wr.rdma.remote_addr = off;
		post_send(&p->a, &s.a, &wr, off, lens[i]);
		CHECK_STATUS(status(p), IBV_WC_SUCCESS);
		CHECK(b_do(p, DM_SUM, off, lens[i], 0) == seed_sum(lens[i], 10 + i));

		b_do(p, DM_FILL, off, lens[i], 20 + i);
		wr.opcode = IBV_WR_RDMA_READ;
		post_send(&p->a, &s.a, &wr, off, lens[i]);
		CHECK_STATUS(status(p), IBV_WC_SUCCESS);
		CHECK(dm_sum(&s.a, off, lens[i]) == seed_sum(lens[i], 20 + i));
	}
	t_note("%s", "");
	both_close(p, &s);
}

static void c_send(struct pair *p)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_SEND};
	struct ibv_wc wc;
	struct setup s;

	if (has_none())
		return;
	REQUIRE(both_open(p, &s));
	b_do(p, DM_RECV, 100, LEN - 100, 0);
	dm_fill(&s.a, 0, LEN - 100, 3);
	post_send(&p->a, &s.a, &wr, 0, LEN - 100);
	CHECK_STATUS(status(p), IBV_WC_SUCCESS);
	CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK(b_do(p, DM_SUM, 100, LEN - 100, 0) == seed_sum(LEN - 100, 3));
	both_close(p, &s);
}

static void c_atomic(struct pair *p)
{
	/* Eight bytes that are aligned by the key's addresses, not in the memory: AT. */
	struct ibv_send_wr wr = {.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD};
	uint64_t old, sum = 0;
	struct setup s;

	if (has_none())
		return;
	REQUIRE(both_open(p, &s));
	wr.wr.atomic.rkey = s.rkey;
	wr.wr.atomic.remote_addr = 8;
	for (uint64_t i = 1; i <= 20; i++) {
		wr.wr.atomic.compare_add = i;
		post_send(&p->a, &s.a, &wr, 64, 8);
		CHECK_STATUS(status(p), IBV_WC_SUCCESS);
		CHECK_ERRNO(ibv_memcpy_from_dm(&old, s.a.dm, AT + 64, 8), 0);
		CHECK_INT(old, sum);
		sum += i;
	}
	wr.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
	wr.wr.atomic.compare_add = sum;
	wr.wr.atomic.swap = 4711;
	post_send(&p->a, &s.a, &wr, 64, 8);
	CHECK_STATUS(status(p), IBV_WC_SUCCESS);
	CHECK_INT(b_do(p, DM_WORD, 8, 0, 0), 4711);
	both_close(p, &s);
}

/* Outside the MR, here or there, though there is memory before and after it. */
static void c_bounds(struct pair *p)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {{LEN, 1}, {LEN - 1, 2}, {UINT64_MAX, 1}, {0, LEN + 1}};

	if (has_none())
		return;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(bad); i++) {
		struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_READ};
		uint64_t addr = bad[i / 2].addr;
		uint32_t len = bad[i / 2].len;
		struct setup s;

		t_note("%u bytes at %#llx", len, (long long)addr);
		REQUIRE(both_open(p, &s));
		wr.wr.rdma.rkey = s.rkey;
		wr.wr.rdma.remote_addr = i & 1 || len > LEN ? addr : 0;
		post_send(&p->a, &s.a, &wr, i & 1 ? 0 : addr, len);
		if (len <= LEN) /* else both are, and either may be found first */
			CHECK_STATUS(status(p),
				     i & 1 ? IBV_WC_REM_ACCESS_ERR : IBV_WC_LOC_PROT_ERR);
		else
			CHECK(status(p) != IBV_WC_SUCCESS);
		both_close(p, &s);
	}
	t_note("%s", "");
}

static void c_dereg(struct pair *p)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE};
	struct setup s;

	if (has_none())
		return;
	REQUIRE(both_open(p, &s));
	wr.wr.rdma.rkey = s.rkey;
	b_do(p, DM_CLOSE, 0, 0, 0);
	post_send(&p->a, &s.a, &wr, 0, 8);
	CHECK_STATUS(status(p), IBV_WC_REM_ACCESS_ERR);
	dm_close(&s.a);
	pair_down(p);
}

/* An MR of no bytes is one, as with the kernel, but no byte is in it. */
static void c_empty(struct pair *p)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_RDMA_WRITE};
	struct ibv_mr *whole;
	struct setup s;

	if (has_none())
		return;
	REQUIRE(both_open(p, &s));
	wr.wr.rdma.rkey = s.rkey;
	whole = s.a.mr;
	for (uint64_t off = 0; off <= LEN; off += LEN) {
		s.a.mr = ibv_reg_dm_mr(p->a.pd, s.a.dm, off, 0, DM_ACCESS);
		REQUIRE(s.a.mr);
		CHECK_INT(s.a.mr->length, 0);
		post_send(&p->a, &s.a, &wr, 0, off ? 1 : 0);
		CHECK_STATUS(status(p), off ? IBV_WC_LOC_PROT_ERR : IBV_WC_SUCCESS);
		CHECK_ERRNO(ibv_dereg_mr(s.a.mr), 0);
	}
	s.a.mr = whole;
	both_close(p, &s);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"alloc", c_alloc, HERE},       {"memcpy", c_memcpy, HERE},
		{"register", c_register, HERE}, {"rdma", c_rdma, BOTH},
		{"send", c_send, BOTH},         {"atomic", c_atomic, BOTH},
		{"bounds", c_bounds, BOTH},     {"dereg", c_dereg, BOTH},
		{"empty", c_empty, BOTH},
	};

	t_hook(dm_hook);
	/* All of it is asked for more than once. */
	setenv("UODP_DM_SIZE", "4M", 0);
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
