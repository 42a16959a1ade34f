/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Direct verbs: registration, counters, invalidation; the snapshot at registration. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "harness.h"

#define PAGE 4096u
#define PAGES 32u
#define LEN ((size_t)PAGES * PAGE)
#define ODP (ALL_ACCESS | IBV_ACCESS_ON_DEMAND)

static struct uodpdv_odp_stats stats_of(struct ibv_mr *mr)
{
	struct uodpdv_odp_stats s = {0};

	CHECK_ERRNO(uodpdv_query_mr_stats(mr, &s, sizeof(s)), 0);
	return s;
}

static struct uodpdv_mr_attr attr_of(struct ibv_mr *mr)
{
	struct uodpdv_mr_attr a = {0};

	CHECK_ERRNO(uodpdv_query_mr(mr, &a, sizeof(a)), 0);
	return a;
}

static struct ibv_mr *reg(struct ep *ep, void *addr, int access, enum uodpdv_backing backing)
{
	struct uodpdv_mr_init_attr a = {.backing = backing};

	return uodpdv_reg_mr(ep->pd, addr, LEN, access, &a, sizeof(a));
}

/* A's buffer is written to, or read from, ADDR of MR. */
static int rdma(struct pair *p, enum ibv_wr_opcode op, struct ibv_mr *mr, const void *addr,
		uint32_t len)
{
	struct twr s = {.id = 1,
			.op = op,
			.flags = IBV_SEND_SIGNALED,
			.len = len,
			.raddr = (uintptr_t)addr,
			.rkey = mr->rkey};
	struct ibv_wc wc;

	if (!CHECK_ERRNO(ep_send(&p->a, &s), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

static uint8_t *map(void)
{
	void *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

static void c_registration(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct uodpdv_mr_init_attr a = {0};
	struct ibv_mr *mr;
	uint8_t *mem = map();
	char big[sizeof(a) + 8];

	REQUIRE(pair_up(p, &c, &c));
	CHECK(uodpdv_is_supported(p->a.ctx->device));
	mr = reg(&p->b.ep, mem, ODP, UODPDV_BACKING_VA);
	REQUIRE(mr);
	CHECK(mr->addr == mem && mr->length == LEN && mr->pd == p->b.ep.pd);
	CHECK_INT(attr_of(mr).on_demand, 1);
	CHECK_INT(attr_of(mr).backing, UODPDV_BACKING_VA);
	CHECK_INT(attr_of(mr).pages, PAGES);
	memset(p->a.buf, 0x42, 64);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem, 64), IBV_WC_SUCCESS);
	CHECK_INT(mem[63], 0x42);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	a.comp_mask = UODPDV_MR_INIT_ATTR_IOVA;
	a.iova = 1 << 20;
	mr = uodpdv_reg_mr(p->b.ep.pd, mem, LEN, ODP, &a, sizeof(a));
	REQUIRE(mr);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, (void *)(1ul << 20), 64), IBV_WC_SUCCESS);
	CHECK_ERRNO(uodpdv_invalidate_range(mr, a.iova, LEN), 0);
	CHECK_ERRNO(uodpdv_invalidate_range(mr, a.iova - 1, 1), EINVAL);
	CHECK_ERRNO(uodpdv_invalidate_range(mr, a.iova + 1, LEN), EINVAL);
	CHECK_ERRNO(uodpdv_invalidate_range(mr, a.iova, 0), EINVAL);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	/* What nobody knows is refused; what is not said is zero. */
	a = (struct uodpdv_mr_init_attr){.comp_mask = 1 << 9};
	CHECK(!uodpdv_reg_mr(p->b.ep.pd, mem, LEN, ODP, &a, sizeof(a)));
	CHECK_ERRNO(errno, EOPNOTSUPP);
	a = (struct uodpdv_mr_init_attr){.reserved = 1};
	CHECK(!uodpdv_reg_mr(p->b.ep.pd, mem, LEN, ODP, &a, sizeof(a)));
	CHECK_ERRNO(errno, EINVAL);
	a = (struct uodpdv_mr_init_attr){.backing = 9};
	CHECK(!uodpdv_reg_mr(p->b.ep.pd, mem, LEN, ODP, &a, sizeof(a)));
	CHECK_ERRNO(errno, EINVAL);
	a = (struct uodpdv_mr_init_attr){0};
	CHECK(!uodpdv_reg_mr(p->b.ep.pd, mem, LEN, ODP, &a, 4));
	CHECK_ERRNO(errno, EINVAL);
	memset(big, 0, sizeof(big));
	mr = uodpdv_reg_mr(p->b.ep.pd, mem, LEN, ODP, (void *)big, sizeof(big));
	if (CHECK(mr))
		ibv_dereg_mr(mr);
	big[sizeof(big) - 1] = 1;
	CHECK(!uodpdv_reg_mr(p->b.ep.pd, mem, LEN, ODP, (void *)big, sizeof(big)));
	CHECK_ERRNO(errno, EOPNOTSUPP);
	mr = ibv_reg_mr(p->b.ep.pd, mem, LEN, ALL_ACCESS);
	REQUIRE(mr);
	CHECK_INT(attr_of(mr).on_demand, 0);
	CHECK_ERRNO(uodpdv_invalidate_mr(mr), EINVAL);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(mem, LEN);
	pair_down(p);
}

/* ---- the snapshot ---- */

static void *map_kind(int kind)
{
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char path[] = "/var/tmp/uodp-dv-XXXXXX";
	void *mem;

	if (kind == 1)
		flags = MAP_SHARED | MAP_ANONYMOUS;
	if (kind == 2) {
		fd = memfd_create("dv", MFD_CLOEXEC);
		flags = MAP_SHARED;
	}
	if (kind == 3) {
		fd = mkstemp(path);
		unlink(path);
		flags = MAP_SHARED;
	}
	if (fd >= 0 && ftruncate(fd, LEN))
		return NULL;
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (fd >= 0)
		close(fd);
	return mem == MAP_FAILED ? NULL : mem;
}

/* Pages that are there need no fault; others do, once. */
static void snapshot(struct pair *p, int kind, enum uodpdv_backing backing)
{
	uint8_t *mem = map_kind(kind);
	struct uodpdv_odp_stats s;
	struct ibv_mr *mr;

	REQUIRE(mem);
	for (unsigned i = 0; i < PAGES; i += 2)
		mem[i * PAGE] = (uint8_t)(i + 1);
	mr = reg(&p->b.ep, mem, ODP, backing);
	REQUIRE(mr);
	CHECK_INT(attr_of(mr).pages_valid, PAGES / 2);
	for (unsigned i = 0; i < PAGES; i += 2) {
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, mem + i * PAGE, 8), IBV_WC_SUCCESS);
		CHECK_INT(p->a.buf[0], i + 1);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem + i * PAGE + 64, 8),
			     IBV_WC_SUCCESS);
	}
	CHECK_INT(stats_of(mr).page_faults, 0);
	for (unsigned i = 1; i < PAGES; i += 2)
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem + i * PAGE, 8), IBV_WC_SUCCESS);
	s = stats_of(mr);
	CHECK_INT(s.page_faults, PAGES / 2);
	CHECK_INT(s.page_faults_handled, PAGES / 2);
	CHECK_INT(attr_of(mr).pages_valid, PAGES);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(mem, LEN);
}

static void c_snapshot(struct pair *p)
{
	static const char *const names[] = {"private", "shared", "memfd", "disk file"};
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	t_note("private, va");
	snapshot(p, 0, UODPDV_BACKING_VA);
	t_note("private, as the environment says");
	snapshot(p, 0, UODPDV_BACKING_AUTO);
	for (int kind = 1; kind < 4; kind++) {
		t_note("%s", names[kind]);
		snapshot(p, kind, UODPDV_BACKING_VA);
	}
	pair_down(p);
}

/* ---- counters ---- */

static void prefetch(struct ep *ep, struct ibv_mr *mr, void *addr, unsigned pages, unsigned advice)
{
	struct ibv_sge sge = {(uintptr_t)addr, pages * PAGE, mr->lkey};

	CHECK_ERRNO(ibv_advise_mr(ep->pd, advice, IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1), 0);
}

static void counters(struct pair *p, enum uodpdv_backing backing)
{
	uint8_t *mem = map();
	struct ibv_mr *mr = reg(&p->b.ep, mem, ODP, backing);
	struct uodpdv_odp_stats s;

	REQUIRE(mr);
	CHECK_INT(attr_of(mr).pages_valid, 0);
	prefetch(&p->b.ep, mr, mem, 8, IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT);
	CHECK_INT(stats_of(mr).page_prefetch, 0);
	prefetch(&p->b.ep, mr, mem, 8, IBV_ADVISE_MR_ADVICE_PREFETCH);
	prefetch(&p->b.ep, mr, mem + 8 * PAGE, 8, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE);
	CHECK_INT(stats_of(mr).page_prefetch, 16);
	CHECK_INT(attr_of(mr).pages_valid, 16);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem, 16 * PAGE), IBV_WC_SUCCESS);
	CHECK_INT(stats_of(mr).page_faults, 0);
	/* An invalidation, then a fault again; the bytes stay. */
	memset(mem, 0x66, 16 * PAGE);
	CHECK_ERRNO(uodpdv_invalidate_range(mr, (uintptr_t)mem + PAGE, 2 * PAGE), 0);
	s = stats_of(mr);
	CHECK_INT(s.page_invalidations, 2);
	CHECK_INT(s.page_invalidations_handled, 2);
	CHECK_INT(attr_of(mr).pages_valid, 14);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, mem, 16 * PAGE), IBV_WC_SUCCESS);
	CHECK_INT(p->a.buf[2 * PAGE], 0x66);
	CHECK_INT(stats_of(mr).page_faults, 2);
	/* Prefetch of what is there without a fault: what an invalidation left. */
	CHECK_ERRNO(uodpdv_invalidate_mr(mr), 0);
	s = stats_of(mr);
	CHECK_INT(s.page_invalidations, 2 + PAGES);
	CHECK_INT(s.page_invalidations_handled, 2 + 16);
	CHECK_INT(attr_of(mr).pages_valid, 0);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, mem, 8), IBV_WC_SUCCESS);
	CHECK_INT(stats_of(mr).page_faults, 3);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(mem, LEN);
}

static void c_counters(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	t_note("va");
	counters(p, UODPDV_BACKING_VA);
	t_note("as the environment says");
	counters(p, UODPDV_BACKING_AUTO);
	pair_down(p);
}

static struct uodpdv_odp_stats device_stats(struct ibv_context *ctx)
{
	struct uodpdv_odp_stats s = {0};

	CHECK_ERRNO(uodpdv_query_device_stats(ctx, &s, sizeof(s)), 0);
	return s;
}

/* What a region has counted stays counted. */
static void c_device(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct uodpdv_odp_stats before, s;
	uint8_t *mem = map();
	struct ibv_mr *mr[2];
	struct ibv_context *ctx;

	REQUIRE(pair_up(p, &c, &c));
	ctx = p->b.ep.ctx;
	before = device_stats(ctx);
	for (int i = 0; i < 2; i++) {
		mr[i] = ibv_reg_mr(p->b.ep.pd, mem, LEN, ODP);
		REQUIRE(mr[i]);
		for (unsigned j = 0; j < 4; j++)
			CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr[i], mem + j * PAGE, 8),
				     IBV_WC_SUCCESS);
		if (!i) /* so that the second one has something to count */
			CHECK_ERRNO(uodpdv_invalidate_mr(mr[i]), 0);
		if (!i)
			CHECK_INT(madvise(mem, LEN, MADV_DONTNEED), 0);
	}
	s = device_stats(ctx);
	CHECK_INT(s.page_faults - before.page_faults, 8);
	CHECK_INT(s.page_faults_handled - before.page_faults_handled, 8);
	CHECK(s.page_invalidations - before.page_invalidations >= PAGES);
	CHECK_INT(s.page_invalidations_handled - before.page_invalidations_handled, 4);
	for (int i = 0; i < 2; i++)
		CHECK_ERRNO(ibv_dereg_mr(mr[i]), 0);
	s = device_stats(ctx);
	CHECK_INT(s.page_faults - before.page_faults, 8);
	CHECK_INT(s.page_invalidations_handled - before.page_invalidations_handled, 4);
	/* A structure of another size. */
	CHECK_ERRNO(uodpdv_query_device_stats(ctx, &s, 4), EINVAL);
	s.page_invalidations = 99;
	CHECK_ERRNO(uodpdv_query_device_stats(ctx, &s, 16), 0);
	CHECK_INT(s.page_invalidations, 99);
	munmap(mem, LEN);
	pair_down(p);
}

/* An implicit region: everything at once. */
static void c_implicit(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	uint8_t *mem = map();
	struct ibv_mr *mr;

	REQUIRE(pair_up(p, &c, &c));
	mr = ibv_reg_mr(p->b.ep.pd, NULL, SIZE_MAX, ODP);
	REQUIRE(mr);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem, 4 * PAGE), IBV_WC_SUCCESS);
	CHECK_INT(stats_of(mr).page_faults, 4);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem, 4 * PAGE), IBV_WC_SUCCESS);
	CHECK_INT(stats_of(mr).page_faults, 4);
	CHECK_ERRNO(uodpdv_invalidate_mr(mr), 0);
	CHECK_INT(stats_of(mr).page_invalidations_handled, 4);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem, 4 * PAGE), IBV_WC_SUCCESS);
	CHECK_INT(stats_of(mr).page_faults, 8);
	prefetch(&p->b.ep, mr, mem + 4 * PAGE, 4, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE);
	CHECK_INT(stats_of(mr).page_prefetch, 4);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem, 8 * PAGE), IBV_WC_SUCCESS);
	CHECK_INT(stats_of(mr).page_faults, 8);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(mem, LEN);
	pair_down(p);
}

/* Pages that were pinned to be read are pinned anew to be written. */
static void c_rereg(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;
	uint8_t *mem = map();

	REQUIRE(pair_up(p, &c, &c));
	memset(mem, 1, LEN);
	mr = ibv_reg_mr(p->b.ep.pd, mem, LEN, IBV_ACCESS_REMOTE_READ);
	REQUIRE(mr);
	mprotect(mem, LEN, PROT_READ);
	CHECK(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, ALL_ACCESS));
	CHECK_ERRNO(errno, EFAULT);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, mem, 8), IBV_WC_SUCCESS);
	mprotect(mem, LEN, PROT_READ | PROT_WRITE);
	CHECK_INT(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, ALL_ACCESS), 0);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem, 8 * PAGE), IBV_WC_SUCCESS);
	CHECK(!memcmp(mem, p->a.buf, 8 * PAGE));
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(mem, LEN);
	pair_down(p);
}

/* Objects of two contexts do not go together, and any number may be left behind. */
static void c_contexts(struct pair *p)
{
	static struct ibv_mr *left[3000];
	struct ibv_context *one = tdev_open(), *two = tdev_open();
	struct ibv_comp_channel *chan = ibv_create_comp_channel(two);
	struct ibv_srq_init_attr si = {.attr = {.max_wr = 1, .max_sge = 1}};
	struct ibv_pd *pd = ibv_alloc_pd(one), *pd2 = ibv_alloc_pd(two);
	struct ibv_cq *cq = ibv_create_cq(one, 4, NULL, NULL, 0);
	struct ibv_cq *cq2 = ibv_create_cq(two, 4, NULL, NULL, 0);
	struct ibv_srq *srq2 = ibv_create_srq(pd2, &si);
	struct ibv_qp_init_attr a = {.qp_type = IBV_QPT_RC, .send_cq = cq, .recv_cq = cq};
	uint8_t *mem = map();

	(void)p;
	REQUIRE(chan && pd && pd2 && cq && cq2 && srq2);
	CHECK(!ibv_create_cq(one, 4, NULL, chan, 0));
	CHECK_ERRNO(errno, EINVAL);
	CHECK_ERRNO(ibv_destroy_comp_channel(chan), 0);
	CHECK(ibv_create_qp(pd, &a));
	a.recv_cq = cq2;
	CHECK(!ibv_create_qp(pd, &a));
	CHECK_ERRNO(errno, EINVAL);
	a.recv_cq = cq;
	a.srq = srq2;
	CHECK(!ibv_create_qp(pd, &a));
	CHECK_ERRNO(errno, EINVAL);
	/* Left behind when the devices are closed; kept in sight of a leak checker. */
	for (unsigned i = 0; i < 3000; i++) {
		left[i] = ibv_reg_mr(i & 1 ? pd : pd2, mem, PAGE, ODP);
		if (!CHECK(left[i]))
			break;
	}
	CHECK_ERRNO(ibv_close_device(two), 0);
	CHECK_ERRNO(ibv_close_device(one), 0);
	munmap(mem, LEN);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"rereg", c_rereg, HERE},
		{"contexts", c_contexts, HERE},
		{"registration", c_registration, HERE},
		{"snapshot", c_snapshot, HERE},
		{"counters", c_counters, HERE},
		{"device", c_device, HERE},
		{"implicit", c_implicit, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
