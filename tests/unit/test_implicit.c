/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Implicit regions: all memory, whenever and however it is mapped. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "memkit.h"
#include "peer.h"
#include "pool.h"
#include "region.h"
#include "suite.h"
#include "top.h"

#define LEN (64 * PAGE)

static struct odp_region *implicit(void)
{
	return kit_reg(NULL, SIZE_MAX, ODP_ON_DEMAND, ODP_BACKING_AUTO);
}

static struct odp_region_stats stats_of(struct odp_region *r)
{
	struct odp_region_stats s;

	odp_region_stats(r, &s);
	return s;
}

static uint64_t segment_bytes(void)
{
	struct stat st;

	CU_ASSERT_EQUAL_FATAL(fstat(kit_proc->seg_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static int try(struct odp_region_attr a)
{
	struct odp_region *r;
	int ret = odp_region_create(kit_proc, &a, &r);

	if (!ret)
		odp_region_destroy(r);
	return ret;
}

static void test_rules(void)
{
	struct odp_region_attr a = {
		.length = SIZE_MAX, .pd = PD, .access = ALL, .kind = ODP_ON_DEMAND};

	CU_ASSERT_EQUAL(try(a), 0);
	a.iova = 4096;
	CU_ASSERT_EQUAL(try(a), -EINVAL);
	a.iova = 0;
	a.addr = (void *)4096;
	CU_ASSERT_EQUAL(try(a), -EINVAL);
	a.addr = NULL;
	a.huge = true;
	CU_ASSERT_EQUAL(try(a), -EINVAL);
	a.huge = false;
	a.length = SIZE_MAX - 1;
	CU_ASSERT_EQUAL(try(a), -EINVAL);
	a.length = SIZE_MAX;
	a.backing = ODP_BACKING_POOL;
	CU_ASSERT_EQUAL(try(a), -EINVAL);
	a.backing = ODP_BACKING_VA;
	CU_ASSERT_EQUAL(try(a), 0);
	a.kind = ODP_PINNED;
	CU_ASSERT_EQUAL(try(a), -EINVAL);
	a.kind = ODP_ON_DEMAND;
	a.access = ODP_ACCESS_REMOTE_WRITE;
	CU_ASSERT_EQUAL(try(a), -EINVAL);
}

/* Less than a megabyte until it is used, however many there are. */
static void test_cost(void)
{
	struct odp_region *r[8];
	uint64_t before = segment_bytes();
	unsigned i;

	for (i = 0; i < 8; i++)
		CU_ASSERT_PTR_NOT_NULL_FATAL(r[i] = implicit());
	CU_ASSERT(segment_bytes() - before < 8 << 20);
	/* All of it at once neither. */
	CU_ASSERT_EQUAL(odp_invalidate(kit_proc, NULL, (size_t)1 << 47), 0);
	CU_ASSERT(segment_bytes() - before < 8 << 20);
	for (i = 0; i < 8; i++)
		odp_region_destroy(r[i]);
	CU_ASSERT(segment_bytes() <= before + (64 << 10));
}

static void view(struct odp_region *r, char *mem)
{
	kit_fill(mem, LEN, "cpu");
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem), "cpu0");
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + LEN - PAGE), "cpu63");
	CU_ASSERT_EQUAL(kit_write(r, mem + 5 * PAGE, "device", 7), 0);
	CU_ASSERT_STRING_EQUAL(mem + 5 * PAGE, "device");
}

static void test_kinds(void)
{
	static char bss[LEN] __attribute__((aligned(4096)));
	char stack[LEN], *heap = malloc(LEN), *before = kit_private(LEN, "x");
	struct odp_region *r = implicit();
	FILE *f = tmpfile();
	char *after = kit_private(LEN, NULL), *shared = kit_shared(LEN, "x"), *file;

	CU_ASSERT_EQUAL_FATAL(ftruncate(fileno(f), LEN), 0);
	file = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
	view(r, bss);
	view(r, stack);
	view(r, heap);
	view(r, before);
	view(r, after);
	view(r, shared);
	view(r, file);
	CU_ASSERT(stats_of(r).page_faults > 0);
	CU_ASSERT_EQUAL(stats_of(r).page_faults, stats_of(r).page_faults_handled);
	CU_ASSERT_EQUAL(stats_of(r).pages, 0);
	munmap(file, LEN);
	CU_ASSERT_STRING_EQUAL(kit_see(r, file), "?14");
	fclose(f);
	munmap(before, LEN);
	munmap(after, LEN);
	munmap(shared, LEN);
	odp_region_destroy(r);
	free(heap);
}

static void test_nowhere(void)
{
	struct odp_region *r = implicit();
	uint64_t top = (uint64_t)1 << 47;
	char byte;

	CU_ASSERT_EQUAL(kit_read(r, NULL, &byte, 1), -EFAULT);
	CU_ASSERT_EQUAL(kit_read(r, (void *)(uintptr_t)(top - 4096), &byte, 1), -EFAULT);
	CU_ASSERT_EQUAL(kit_read(r, (void *)(uintptr_t)(2 * top), &byte, 1), -EFAULT);
	CU_ASSERT_EQUAL(kit_read(r, (void *)(uintptr_t)(UINT64_MAX - 1), &byte, 1), -EFAULT);
	CU_ASSERT_EQUAL(kit_read(r, (void *)(uintptr_t)UINT64_MAX, &byte, 1), -ERANGE);
	odp_region_destroy(r);
}

/* Other regions take memory to the pool, before and after: the same bytes. */
static void test_with_others(void)
{
	char *mem = kit_private(LEN, "early"), *late = kit_private(LEN, "late");
	struct odp_region *a = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO), *b;
	struct odp_region *r = implicit();

	CU_ASSERT_STRING_EQUAL(kit_see(r, mem), "early0");
	CU_ASSERT_STRING_EQUAL(kit_see(r, late), "late0");
	b = kit_reg(late, LEN, ODP_PINNED, ODP_BACKING_AUTO);
	CU_ASSERT_EQUAL(kit_write(r, late + PAGE, "implicit", 9), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(b, late + PAGE), "implicit");
	CU_ASSERT_EQUAL(kit_write(a, mem + PAGE, "explicit", 9), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "explicit");
	/* Now a new page: it is the program's view that counts. */
	CU_ASSERT_EQUAL(madvise(late, LEN, MADV_DONTNEED), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, late + PAGE), "");
	CU_ASSERT_EQUAL(kit_write(r, late + PAGE, "new", 4), 0);
	CU_ASSERT_STRING_EQUAL(late + PAGE, "new");
	CU_ASSERT_STRING_EQUAL(kit_see(b, late + PAGE), "implicit");
	odp_region_destroy(a);
	odp_region_destroy(b);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "explicit");
	CU_ASSERT_EQUAL(mprotect(mem, LEN, PROT_READ), 0);
	CU_ASSERT_EQUAL(odp_protect(kit_proc, mem, LEN, PROT_READ), 0);
	CU_ASSERT_EQUAL(kit_write(r, mem, "x", 1), -EFAULT);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "explicit");
	munmap(mem, LEN);
	munmap(late, LEN);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem), "?14");
	CU_ASSERT_STRING_EQUAL(kit_see(r, late), "?14");
	odp_region_destroy(r);
}

static void test_statistics(void)
{
	char *mem = kit_private(LEN, "x");
	struct odp_region *r = implicit();
	struct odp_region_stats s;

	CU_ASSERT_EQUAL(stats_of(r).pages_valid, 0);
	for (unsigned i = 0; i < 8; i++)
		kit_see(r, mem + i * PAGE);
	s = stats_of(r);
	CU_ASSERT_EQUAL(s.page_faults, 8);
	CU_ASSERT_EQUAL(s.pages_valid, 8);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH, (uintptr_t)mem, 16 * PAGE), 0);
	s = stats_of(r);
	CU_ASSERT_EQUAL(s.page_prefetch, 8);
	CU_ASSERT_EQUAL(s.pages_valid, 16);
	for (unsigned i = 0; i < 16; i++)
		kit_see(r, mem + i * PAGE);
	CU_ASSERT_EQUAL(stats_of(r).page_faults, 8);
	CU_ASSERT_EQUAL(odp_invalidate(kit_proc, mem, 4 * PAGE), 0);
	s = stats_of(r);
	CU_ASSERT_EQUAL(s.page_invalidations_handled, 4);
	CU_ASSERT_EQUAL(s.pages_valid, 12);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem), "x0");
	CU_ASSERT_EQUAL(stats_of(r).page_faults, 9);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH, (uintptr_t)mem, LEN + PAGE), 0);
	munmap(mem, LEN);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH, (uintptr_t)mem, LEN), -EFAULT);
	odp_region_destroy(r);
}

/* ---- from another process ---- */

static int role_reader(void)
{
	struct odp_peer *peer;
	uint64_t key, addr;
	char buf[16];

	if (kit_start() || odp_peer_get(kit_proc, (unsigned)parent_get(), &peer))
		return 2;
	while ((key = (uint64_t)parent_get()) && key != UINT64_MAX) {
		addr = (uint64_t)parent_get();
		if (kit_peer_read(peer, (uint32_t)key, addr, buf, 8))
			parent_put(-EFAULT);
		else
			parent_put(kit_peer_write(peer, (uint32_t)key, addr + 8, buf, 8));
	}
	return 0;
}

static void test_peer(void)
{
	char *mem = kit_private(LEN, NULL), *pool = kit_private(LEN, NULL);
	struct odp_region *r = implicit(), *other;
	struct child c;

	CU_ASSERT_FATAL(child_start(&c, "reader"));
	child_put(&c, odp_proc_slot(kit_proc));
	for (unsigned i = 0; i < 16; i++) {
		char *at = mem + i * PAGE;

		strcpy(at, "by cpu");
		child_put(&c, odp_region_key(r));
		child_put(&c, (long)(uintptr_t)at);
		CU_ASSERT_EQUAL(child_get(&c), 0);
		CU_ASSERT_STRING_EQUAL(at + 8, "by cpu");
	}
	other = kit_reg(pool, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	strcpy(pool, "pooled");
	child_put(&c, odp_region_key(r));
	child_put(&c, (long)(uintptr_t)pool);
	CU_ASSERT_EQUAL(child_get(&c), 0);
	CU_ASSERT_STRING_EQUAL(pool + 8, "pooled");
	munmap(mem, LEN);
	child_put(&c, odp_region_key(r));
	child_put(&c, (long)(uintptr_t)mem);
	CU_ASSERT_EQUAL(child_get(&c), -EFAULT);
	child_put(&c, 0);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	odp_region_destroy(other);
	odp_region_destroy(r);
	munmap(pool, LEN);
}

int main(int argc, char **argv)
{
	static CU_TestInfo tests[] = {
		{"what may be implicit", test_rules},
		{"cost", test_cost},
		{"kinds of memory", test_kinds},
		{"where nothing is", test_nowhere},
		{"with other regions", test_with_others},
		{"statistics and advice", test_statistics},
		{"another process", test_peer},
		CU_TEST_INFO_NULL,
	};
	static const struct child_role roles[] = {{"reader", role_reader}, {NULL, NULL}};

	child_main(argc, argv, roles);
	return kit_suite("implicit", tests);
}
