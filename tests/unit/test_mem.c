/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Private memory, pinned and on demand: what each sees of what the program does. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memkit.h"
#include "suite.h"

#define LEN (16 * PAGE)

struct pair {
	char *mem;
	struct odp_region *pinned, *demand;
};

static void pair_make(struct pair *p, char *mem)
{
	p->mem = mem;
	p->pinned = kit_reg(mem, LEN, ODP_PINNED, ODP_BACKING_AUTO);
	p->demand = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p->pinned);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p->demand);
}

static void pair_end(struct pair *p)
{
	CU_ASSERT_EQUAL(odp_region_destroy(p->pinned), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(p->demand), 0);
}

static void test_both_see_the_program(void)
{
	struct pair p;

	pair_make(&p, kit_private(LEN, "first"));
	CU_ASSERT_STRING_EQUAL(p.mem + 3 * PAGE, "first3");
	CU_ASSERT_STRING_EQUAL(kit_see(p.pinned, p.mem + 3 * PAGE), "first3");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 3 * PAGE), "first3");
	strcpy(p.mem + 3 * PAGE, "by cpu");
	CU_ASSERT_STRING_EQUAL(kit_see(p.pinned, p.mem + 3 * PAGE), "by cpu");
	CU_ASSERT_EQUAL(kit_write(p.demand, p.mem + 5 * PAGE - 3, "device", 7), 0);
	CU_ASSERT_STRING_EQUAL(p.mem + 5 * PAGE - 3, "device");
	CU_ASSERT_STRING_EQUAL(kit_see(p.pinned, p.mem + 5 * PAGE - 3), "device");
	pair_end(&p);
	CU_ASSERT_STRING_EQUAL(p.mem + 5 * PAGE - 3, "device");
	munmap(p.mem, LEN);
}

/* After this the pinned region must still see "old", the other what is there now. */
static void check_parted(struct pair *p, size_t page, const char *old, const char *now)
{
	char *at = p->mem + page * PAGE;

	CU_ASSERT_STRING_EQUAL(kit_see(p->pinned, at), old);
	CU_ASSERT_STRING_EQUAL(kit_see(p->demand, at), now);
	CU_ASSERT_STRING_EQUAL(at, now);
	CU_ASSERT_EQUAL(kit_write(p->pinned, at, "unseen", 7), 0);
	CU_ASSERT_STRING_EQUAL(at, now);
	CU_ASSERT_EQUAL(kit_write(p->demand, at, "seen", 5), 0);
	CU_ASSERT_STRING_EQUAL(at, "seen");
	CU_ASSERT_STRING_EQUAL(kit_see(p->pinned, at), "unseen");
}

static void test_dontneed(void)
{
	struct odp_region *second;
	struct pair p;

	pair_make(&p, kit_private(LEN, "old"));
	second = kit_reg(p.mem + PAGE, 4 * PAGE, ODP_PINNED, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(second);
	CU_ASSERT_EQUAL(madvise(p.mem + 2 * PAGE, 4 * PAGE, MADV_DONTNEED), 0);
	check_parted(&p, 2, "old2", "");
	check_parted(&p, 5, "old5", "");
	/* Pinned regions that shared a page go on sharing it. */
	CU_ASSERT_STRING_EQUAL(kit_see(second, p.mem + 2 * PAGE), "unseen");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 6 * PAGE), "old6");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + PAGE), "old1");
	/* Once more: the orphan stays the orphan. */
	CU_ASSERT_EQUAL(madvise(p.mem + 2 * PAGE, PAGE, MADV_DONTNEED), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(p.pinned, p.mem + 2 * PAGE), "unseen");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 2 * PAGE), "");
	/* A region made now shares the new page, and outlives the others. */
	pair_end(&p);
	CU_ASSERT_STRING_EQUAL(kit_see(second, p.mem + 2 * PAGE), "unseen");
	CU_ASSERT_EQUAL(odp_region_destroy(second), 0);
	pair_make(&p, p.mem);
	CU_ASSERT_STRING_EQUAL(kit_see(p.pinned, p.mem + 2 * PAGE), "");
	pair_end(&p);
	munmap(p.mem, LEN);
}

static void test_munmap(void)
{
	struct pair p;

	pair_make(&p, kit_private(LEN, "old"));
	CU_ASSERT_EQUAL(munmap(p.mem + 4 * PAGE, 2 * PAGE), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(p.pinned, p.mem + 4 * PAGE), "old4");
	CU_ASSERT_EQUAL(kit_write(p.pinned, p.mem + 4 * PAGE, "still", 6), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(p.pinned, p.mem + 4 * PAGE), "still");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 4 * PAGE), "?14");
	CU_ASSERT_EQUAL(kit_write(p.demand, p.mem + 5 * PAGE, "x", 1), -EFAULT);
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 3 * PAGE), "old3");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 6 * PAGE), "old6");
	CU_ASSERT_EQUAL(munmap(p.mem, LEN), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(p.pinned, p.mem), "old0");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem), "?14");
	pair_end(&p);
}

static void test_map_over(void)
{
	struct pair p;
	char *at;

	pair_make(&p, kit_private(LEN, "old"));
	at = mmap(p.mem + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CU_ASSERT_PTR_EQUAL_FATAL(at, p.mem + 2 * PAGE);
	check_parted(&p, 2, "old2", "");
	strcpy(p.mem + 3 * PAGE, "new3");
	check_parted(&p, 3, "old3", "new3");
	pair_end(&p);
	munmap(p.mem, LEN);
}

static void test_mremap_away(void)
{
	struct pair p;
	char *to;

	pair_make(&p, kit_private(LEN, "old"));
	to = mremap(p.mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, kit_private(LEN, NULL));
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(to, MAP_FAILED);
	CU_ASSERT_STRING_EQUAL(to + PAGE, "old1");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + PAGE), "?14");
	/* The pages are the pinned ones, wherever they are mapped. */
	CU_ASSERT_EQUAL(kit_write(p.pinned, p.mem + PAGE, "moved", 6), 0);
	CU_ASSERT_STRING_EQUAL(to + PAGE, "moved");
	pair_end(&p);
	pair_make(&p, to);
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, to + PAGE), "moved");
	pair_end(&p);
	munmap(to, LEN);
}

static void test_mremap_onto(void)
{
	struct pair p;
	char *from = kit_private(LEN, "other"), *at;
	struct odp_region *r = kit_reg(from, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);

	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	pair_make(&p, kit_private(LEN, "old"));
	at = mremap(from, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, p.mem);
	CU_ASSERT_PTR_EQUAL_FATAL(at, p.mem);
	check_parted(&p, 7, "old7", "other7");
	CU_ASSERT_STRING_EQUAL(kit_see(r, from), "?14");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	pair_end(&p);
	munmap(p.mem, LEN);
}

static void test_grow(void)
{
	struct pair p;
	char *grown;

	pair_make(&p, kit_private(LEN, "old"));
	pair_end(&p);
	grown = mremap(p.mem, LEN, 4 * LEN, MREMAP_MAYMOVE);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(grown, MAP_FAILED);
	for (size_t i = 0; i < LEN; i += PAGE)
		CU_ASSERT_EQUAL(strncmp(grown + i, "old", 3), 0);
	for (size_t i = LEN; i < 4 * LEN; i += PAGE / 2)
		CU_ASSERT_EQUAL(grown[i], 0);
	strcpy(grown + 3 * LEN, "far");
	p.demand = kit_reg(grown, 4 * LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p.demand);
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, grown + 3 * LEN), "far");
	CU_ASSERT_EQUAL(madvise(grown, 4 * LEN, MADV_DONTNEED), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, grown + 3 * LEN), "");
	CU_ASSERT_EQUAL(kit_write(p.demand, grown + 2 * LEN, "dev", 4), 0);
	CU_ASSERT_STRING_EQUAL(grown + 2 * LEN, "dev");
	odp_region_destroy(p.demand);
	munmap(grown, 4 * LEN);
}

/* Further than the pool has kept free behind it: nobody else's memory shows. */
static void test_grow_far(void)
{
	char *mem = kit_private(LEN, "old"), *next = kit_private(LEN, "next"), *grown;
	const size_t far = (size_t)96 << 20;
	struct odp_region *r[2] = {kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO),
				   kit_reg(next, LEN, ODP_PINNED, ODP_BACKING_AUTO)};
	size_t wrong = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(r[0]);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r[1]);
	grown = mremap(mem, LEN, far, MREMAP_MAYMOVE);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(grown, MAP_FAILED);
	for (size_t i = LEN; i < far; i += PAGE) {
		if (i % (64 * PAGE) && i > 8 * LEN && i < far - 8 * LEN)
			continue;
		wrong += grown[i] != 0;
		grown[i] = 'x';
	}
	CU_ASSERT_EQUAL(wrong, 0);
	for (size_t i = 0; i < LEN; i += PAGE)
		wrong += strncmp(grown + i, "old", 3) || strncmp(next + i, "next", 4);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r[1], next + PAGE), "next1");
	odp_region_destroy(r[0]);
	odp_region_destroy(r[1]);
	r[0] = kit_reg(grown, far, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r[0]);
	CU_ASSERT_STRING_EQUAL(kit_see(r[0], grown + PAGE), "old1");
	CU_ASSERT_STRING_EQUAL(kit_see(r[0], grown + far - PAGE), "x");
	odp_region_destroy(r[0]);
	munmap(grown, far);
	munmap(next, LEN);
}

/* What was invalid memory is mapped: the region follows. */
static void test_hole_filled_later(void)
{
	char *mem = kit_private(LEN, "old"), *at;
	struct odp_region *r;

	munmap(mem + 4 * PAGE, PAGE);
	CU_ASSERT_PTR_NULL(kit_reg(mem, LEN, ODP_PINNED, ODP_BACKING_AUTO));
	CU_ASSERT_EQUAL(kit_err, -EFAULT);
	r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + 4 * PAGE), "?14");
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + 5 * PAGE), "old5");
	at = mmap(mem + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CU_ASSERT_PTR_EQUAL(at, mem + 4 * PAGE);
	strcpy(at, "filled");
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + 4 * PAGE), "filled");
	odp_region_destroy(r);
	munmap(mem, LEN);
}

static void test_protect(void)
{
	struct pair p;

	pair_make(&p, kit_private(LEN, "old"));
	CU_ASSERT_EQUAL(mprotect(p.mem + 2 * PAGE, 2 * PAGE, PROT_READ), 0);
	CU_ASSERT_EQUAL(odp_protect(kit_proc, p.mem + 2 * PAGE, 2 * PAGE, PROT_READ), 0);
	CU_ASSERT_EQUAL(kit_write(p.demand, p.mem + 2 * PAGE, "x", 1), -EFAULT);
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 2 * PAGE), "old2");
	CU_ASSERT_EQUAL(kit_write(p.demand, p.mem + 4 * PAGE, "x", 1), 0);
	CU_ASSERT_EQUAL(kit_write(p.pinned, p.mem + 2 * PAGE, "pin", 4), 0);
	CU_ASSERT_STRING_EQUAL(p.mem + 2 * PAGE, "pin");
	/* A registration of memory that forbids what it asks for. */
	CU_ASSERT_PTR_NULL(kit_reg(p.mem, LEN, ODP_PINNED, ODP_BACKING_AUTO));
	CU_ASSERT_EQUAL(kit_err, -EFAULT);
	mprotect(p.mem + 2 * PAGE, PAGE, PROT_NONE);
	odp_protect(kit_proc, p.mem + 2 * PAGE, PAGE, PROT_NONE);
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 2 * PAGE), "?14");
	CU_ASSERT_STRING_EQUAL(kit_see(p.demand, p.mem + 3 * PAGE), "old3");
	mprotect(p.mem, LEN, PROT_READ | PROT_WRITE);
	odp_protect(kit_proc, p.mem, LEN, PROT_READ | PROT_WRITE);
	CU_ASSERT_EQUAL(kit_write(p.demand, p.mem + 2 * PAGE, "back", 5), 0);
	CU_ASSERT_STRING_EQUAL(p.mem + 2 * PAGE, "back");
	pair_end(&p);
	munmap(p.mem, LEN);
}

static void test_heap(void)
{
	char *blocks[64];
	struct odp_region *r[64];

	for (int i = 0; i < 64; i++) {
		blocks[i] = malloc(3000);
		snprintf(blocks[i], 3000, "block %d", i);
		r[i] = kit_reg(blocks[i], 3000, i & 1 ? ODP_PINNED : ODP_ON_DEMAND,
			       ODP_BACKING_AUTO);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r[i]);
	}
	for (int i = 0; i < 64; i++) {
		char want[16];

		snprintf(want, sizeof(want), "block %d", i);
		CU_ASSERT_STRING_EQUAL(kit_see(r[i], blocks[i]), want);
		CU_ASSERT_EQUAL(kit_write(r[i], blocks[i] + 2990, "end", 4), 0);
		CU_ASSERT_STRING_EQUAL(blocks[i] + 2990, "end");
		CU_ASSERT_EQUAL(odp_region_destroy(r[i]), 0);
		CU_ASSERT_STRING_EQUAL(blocks[i], want);
		free(blocks[i]);
	}
}

static void test_stack(void)
{
	char buf[3 * PAGE] = "on the stack";
	struct odp_region *r[2] = {kit_reg(buf, sizeof(buf), ODP_PINNED, ODP_BACKING_AUTO),
				   kit_reg(buf, sizeof(buf), ODP_ON_DEMAND, ODP_BACKING_AUTO)};

	for (int i = 0; i < 2; i++) {
		CU_ASSERT_PTR_NOT_NULL_FATAL(r[i]);
		CU_ASSERT_STRING_EQUAL(kit_see(r[i], buf), "on the stack");
		CU_ASSERT_EQUAL(kit_write(r[i], buf + PAGE, "written", 8), 0);
		CU_ASSERT_STRING_EQUAL(buf + PAGE, "written");
		odp_region_destroy(r[i]);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"both kinds see the program's memory", test_both_see_the_program},
		{"madvise(MADV_DONTNEED)", test_dontneed},
		{"munmap of a part, then of all", test_munmap},
		{"mmap over a part", test_map_over},
		{"mremap to elsewhere", test_mremap_away},
		{"mremap onto registered memory", test_mremap_onto},
		{"mremap grows registered memory", test_grow},
		{"mremap grows it very far", test_grow_far},
		{"a hole that is mapped later", test_hole_filled_later},
		{"mprotect", test_protect},
		{"regions in the heap that share pages", test_heap},
		{"the caller's own stack", test_stack},
		CU_TEST_INFO_NULL,
	};

	return kit_suite("mem", tests);
}
