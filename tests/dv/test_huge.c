/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Huge pages: pinned and on demand, and IBV_ACCESS_HUGETLB over pages of any size. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "harness.h"

#define HUGE ((size_t)2 << 20)
#define SMALL ((size_t)64 << 10)
#define PAGES 3 /* of each side */
#define WANT (2 * PAGES)
#define ODP (ALL_ACCESS | IBV_ACCESS_ON_DEMAND)
#define NR_HUGEPAGES "/proc/sys/vm/nr_hugepages"

/* ---- pages, which only root can reserve ---- */

static long pages_get(void)
{
	FILE *f = fopen(NR_HUGEPAGES, "r");
	long n = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

static bool pages_set(long n)
{
	FILE *f = fopen(NR_HUGEPAGES, "w");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "%ld\n", n) > 0;
	return !fclose(f) && ok;
}

/* Other tests reserve and release at the same time. */
static int pages_lock(void)
{
	int fd = open("/proc/sys/vm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		flock(fd, LOCK_EX);
	return fd;
}

static long reserved;

static void pages_reserve(void)
{
	int lock = pages_lock();
	long now = pages_get();

	if (now >= 0 && pages_set(now + WANT))
		reserved = pages_get() - now;
	close(lock);
}

static void pages_release(void)
{
	int lock = pages_lock();
	long now = pages_get();

	if (reserved && now >= reserved)
		pages_set(now - reserved);
	close(lock);
}

static uint8_t *map_huge(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* NULL with the case skipped when there are no huge pages to be had. */
static uint8_t *huge_of(size_t len)
{
	uint8_t *mem = map_huge(len);

	if (!mem && !reserved) {
		pages_reserve();
		atexit(pages_release);
		mem = map_huge(len);
	}
	if (!mem)
		t_skip("no huge pages: %s",
		       geteuid() ? "only root can reserve them" : "the kernel has none to reserve");
	return mem;
}

static uint8_t *huge(void)
{
	return huge_of(HUGE);
}

/* ---- cases ---- */

static int rdma(struct pair *p, enum ibv_wr_opcode op, struct ibv_mr *mr, void *addr)
{
	struct twr s = {.id = 1,
			.op = op,
			.flags = IBV_SEND_SIGNALED,
			.len = 8192,
			.raddr = (uintptr_t)addr,
			.rkey = mr->rkey};
	struct ibv_wc wc;

	if (!CHECK_ERRNO(ep_send(&p->a, &s), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

static struct uodpdv_odp_stats stats_of(struct ibv_mr *mr)
{
	struct uodpdv_odp_stats s = {0};

	CHECK_ERRNO(uodpdv_query_mr_stats(mr, &s, sizeof(s)), 0);
	return s;
}

static void both_ways(struct pair *p, struct ibv_mr *mr, uint8_t *mem)
{
	memset(p->a.buf, 0x21, 8192);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem + 4096 - 8), IBV_WC_SUCCESS);
	CHECK_INT(mem[4096], 0x21);
	memset(mem + HUGE - 8192, 0x43, 8192);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, mem + HUGE - 8192), IBV_WC_SUCCESS);
	CHECK_INT(p->a.buf[8191], 0x43);
}

static void c_pinned(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct uodpdv_mr_attr a = {0};
	struct ibv_mr *mr;
	uint8_t *mem;

	for (int flag = 0; flag < 2 && !t_failures(); flag++) {
		mem = huge();
		if (!mem)
			return;
		REQUIRE(pair_up(p, &c, &c));
		mr = ibv_reg_mr(p->b.ep.pd, mem, HUGE,
				ALL_ACCESS | (flag ? IBV_ACCESS_HUGETLB : 0));
		REQUIRE(mr);
		both_ways(p, mr, mem);
		CHECK_ERRNO(uodpdv_query_mr(mr, &a, sizeof(a)), 0);
		if (a.backing == UODPDV_BACKING_PIN) {
			/* The pages stay, whatever becomes of the mapping. */
			munmap(mem, HUGE);
			CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, mem + HUGE - 8192),
				     IBV_WC_SUCCESS);
			CHECK_INT(p->a.buf[0], 0x43);
			mem = NULL;
		}
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		if (mem)
			munmap(mem, HUGE);
		pair_down(p);
	}
}

static void c_on_demand(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct uodpdv_mr_attr a = {0};
	struct ibv_mr *mr;
	uint8_t *mem;

	for (int i = 0; i < 4 && !t_failures(); i++) {
		const bool flag = i & 1, touched = i & 2;

		t_note("%s, %s", flag ? "IBV_ACCESS_HUGETLB" : "no flag",
		       touched ? "touched" : "untouched");
		mem = huge();
		if (!mem)
			return;
		if (touched)
			mem[0] = 1;
		REQUIRE(pair_up(p, &c, &c));
		mr = ibv_reg_mr(p->b.ep.pd, mem, HUGE, ODP | (flag ? IBV_ACCESS_HUGETLB : 0));
		REQUIRE(mr);
		CHECK_ERRNO(uodpdv_query_mr(mr, &a, sizeof(a)), 0);
		CHECK_INT(a.backing, UODPDV_BACKING_VA);
		CHECK_INT(a.pages_valid, touched ? HUGE / 4096 : 0);
		both_ways(p, mr, mem);
		CHECK_INT(stats_of(mr).page_faults > 0, !touched);
		munmap(mem, HUGE);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, mem), IBV_WC_REM_ACCESS_ERR);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		pair_down(p);
	}
}

/* The flag over smaller pages: those that are there are refused at once. */
static void c_small_there(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;

	REQUIRE(pair_up(p, &c, &c));
	errno = 0;
	mr = ibv_reg_mr(p->a.pd, p->a.buf, SMALL, ODP | IBV_ACCESS_HUGETLB);
	if (CHECK(!mr))
		CHECK_ERRNO(errno, EINVAL);
	else
		ibv_dereg_mr(mr);
	/* Pinned memory does not mind, nor does on-demand memory without the flag. */
	mr = ibv_reg_mr(p->a.pd, p->a.buf, SMALL, ALL_ACCESS | IBV_ACCESS_HUGETLB);
	if (CHECK(mr))
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	pair_down(p);
}

/* ... others when they are reached. */
static void c_small_later(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct uodpdv_odp_stats s;
	struct ibv_mr *mr;
	struct ibv_sge sge;
	uint8_t *mem =
		mmap(NULL, SMALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(mem != MAP_FAILED);
	REQUIRE(pair_up(p, &c, &c));
	mr = ibv_reg_mr(p->b.ep.pd, mem, SMALL, ODP | IBV_ACCESS_HUGETLB);
	REQUIRE(mr);
	sge = (struct ibv_sge){(uintptr_t)mem, SMALL, mr->lkey};
	CHECK_ERRNO(ibv_advise_mr(p->b.ep.pd, IBV_ADVISE_MR_ADVICE_PREFETCH,
				  IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1),
		    EFAULT);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, mem), IBV_WC_REM_ACCESS_ERR);
	s = stats_of(mr);
	CHECK_INT(s.page_faults, 1);
	CHECK_INT(s.page_faults_handled, 0);
	CHECK_INT(mem[0], 0);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(mem, SMALL);
	pair_down(p);
}

/* ---- lengths and places, from one side's huge pages to the other's ---- */

static const struct {
	size_t off, len;
} stretches[] = {
	{0, 1},
	{PAGES * HUGE - 1, 1},
	{HUGE - 1, 2},
	{HUGE - 5000, 10007},
	{2 * HUGE - 4096, 8192},
	{4096 - 8, 2 * HUGE + 4099},
	{HUGE, HUGE},
	{0, PAGES *HUGE},
};

struct side_mem {
	uint8_t *mem;
	struct ibv_mr *mr;
};

static bool side_mem_open(struct side_mem *s, struct ibv_pd *pd, int access)
{
	s->mem = huge_of(PAGES * HUGE);
	if (!s->mem)
		return false;
	s->mr = ibv_reg_mr(pd, s->mem, PAGES * HUGE, ALL_ACCESS | access);
	return CHECK(s->mr);
}

static void side_mem_close(struct side_mem *s)
{
	if (s->mr)
		CHECK_ERRNO(ibv_dereg_mr(s->mr), 0);
	if (s->mem)
		munmap(s->mem, PAGES * HUGE);
}

/* LEN bytes at OFF of S, as an SGE of EP. */
static struct twr twr_of(struct ep *ep, const struct side_mem *s, size_t off, size_t len)
{
	struct twr w = {.id = 1, .flags = IBV_SEND_SIGNALED, .nsge = 1};

	w.sge[0].addr = (uintptr_t)s->mem + off - (uintptr_t)ep->buf;
	w.sge[0].length = (uint32_t)len;
	w.sge[0].lkey = s->mr->lkey;
	return w;
}

static bool done(struct ibv_cq *cq)
{
	struct ibv_wc wc;

	return CHECK_INT(ep_poll(cq, &wc, 1, LONG_MS), 1) &&
	       CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
}

/* All of TO is 0x55 but the stretch, which is FROM's. */
static void arrived(const struct side_mem *to, const struct side_mem *from, size_t off, size_t len)
{
	CHECK(!memcmp(to->mem + off, from->mem + off, len));
	for (size_t i = 0; i < PAGES * HUGE; i++)
		if ((i < off || i >= off + len) && !CHECK_INT(to->mem[i], 0x55))
			return;
}

static void stretch(struct pair *p, enum ibv_wr_opcode op, struct side_mem *a, struct side_mem *b,
		    size_t off, size_t len)
{
	struct side_mem *from = op == IBV_WR_RDMA_READ ? b : a, *to = from == a ? b : a;
	struct twr w = twr_of(&p->a, a, off, len), r = twr_of(&p->b.ep, b, off, len);

	t_note("opcode %d, %zu bytes at %zu", op, len, off);
	fill_bytes(from->mem, PAGES * HUGE, off + len);
	memset(to->mem, 0x55, PAGES * HUGE);
	w.op = op;
	w.raddr = (uintptr_t)b->mem + off;
	w.rkey = b->mr->rkey;
	if (op == IBV_WR_SEND)
		CHECK_ERRNO(ep_recv(&p->b.ep, &r), 0);
	if (!CHECK_ERRNO(ep_send(&p->a, &w), 0) || !done(p->a.scq) ||
	    (op == IBV_WR_SEND && !done(p->b.ep.rcq)))
		return;
	arrived(to, from, off, len);
}

/* Not touched by the program before: an on-demand region faults in what is to be read. */
static void first_touch(struct pair *p, struct side_mem *a, struct side_mem *b)
{
	struct twr w = twr_of(&p->a, a, HUGE - 16, 32);

	w.op = IBV_WR_RDMA_READ;
	w.raddr = (uintptr_t)b->mem + HUGE - 16;
	w.rkey = b->mr->rkey;
	if (CHECK_ERRNO(ep_send(&p->a, &w), 0) && done(p->a.scq))
		for (size_t i = HUGE - 16; i < HUGE + 16; i++)
			CHECK_INT(a->mem[i], 0);
}

static void c_stretches(struct pair *p)
{
	static const enum ibv_wr_opcode ops[] = {IBV_WR_SEND, IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE};
	static const int kinds[] = {0, IBV_ACCESS_ON_DEMAND};
	struct ep_conf c = RC_CONF;

	for (unsigned k = 0; k < 4 && !t_failures(); k++) {
		struct side_mem a = {0}, b = {0};

		REQUIRE(pair_up(p, &c, &c));
		if (side_mem_open(&a, p->a.pd, kinds[k & 1]) &&
		    side_mem_open(&b, p->b.ep.pd, kinds[k >> 1])) {
			first_touch(p, &a, &b);
			for (unsigned i = 0; i < ARRAY_SIZE(stretches); i++)
				for (unsigned o = 0; o < ARRAY_SIZE(ops) && !t_failures(); o++)
					stretch(p, ops[o], &a, &b, stretches[i].off,
						stretches[i].len);
		}
		side_mem_close(&a);
		side_mem_close(&b);
		pair_down(p);
		if (!a.mem || !b.mem)
			return;
	}
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"pinned", c_pinned, HERE},
		{"on demand", c_on_demand, HERE},
		{"lengths and boundaries", c_stretches, HERE},
		{"flag over small pages", c_small_there, HERE},
		{"flag over small pages to come", c_small_later, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
