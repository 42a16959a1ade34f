/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Where a pinned region and the program's memory part: nothing is allocated for it, and
 * nothing copied, whatever the size; the device keeps its pages.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domain.h"
#include "memkit.h"
#include "pool.h"
#include "suite.h"

#define BIG ((size_t)64 << 20)

/* Bytes that the pool holds. */
static uint64_t pool_bytes(void)
{
	struct stat st = {0};

	fstat(kit_proc->mem->pool_fd, &st);
	return (uint64_t)st.st_blocks * 512;
}

/* The frames of the device, and what the program has since. */
static void parted(struct odp_region *r, char *p)
{
	CU_ASSERT_STRING_EQUAL(kit_see(r, p), "old0");
	CU_ASSERT_EQUAL(p[0], 0);
	strcpy(p, "new");
	CU_ASSERT_STRING_EQUAL(kit_see(r, p), "old0");
	CU_ASSERT_EQUAL(kit_write(r, p, "device", 7), 0);
	CU_ASSERT_STRING_EQUAL(p, "new");
	CU_ASSERT_STRING_EQUAL(kit_see(r, p), "device");
}

static void test_large(void)
{
	char *p = kit_private(BIG, "old");
	struct odp_region *r = kit_reg(p, BIG, ODP_PINNED, ODP_BACKING_POOL);
	uint64_t before, after;

	if (!kit_events())
		return; /* no pool, and no event */
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	before = pool_bytes();
	CU_ASSERT_EQUAL(madvise(p, BIG, MADV_DONTNEED), 0);
	odp_uffd_settle(kit_proc->mem);
	after = pool_bytes();
	/* Nothing was copied there. */
	CU_ASSERT(lseek(kit_proc->mem->pool_fd, (off_t)r->spares->it.start, SEEK_DATA) !=
		  (off_t)r->spares->it.start);
	CU_ASSERT(after <= before + BIG / 16);
	parted(r, p);
	/* Once more: the address's frames are its own by now, and go. */
	memset(p, 1, BIG);
	CU_ASSERT_EQUAL(madvise(p, BIG, MADV_DONTNEED), 0);
	odp_uffd_settle(kit_proc->mem);
	CU_ASSERT(pool_bytes() <= before + BIG / 16);
	CU_ASSERT_EQUAL(p[0], 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, p), "device");
	CU_ASSERT_EQUAL(munmap(p, BIG), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, p), "device");
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	odp_pool_reap(kit_proc->mem);
	CU_ASSERT(pool_bytes() < before - BIG / 2);
}

/* Pages between pages, with an on-demand region over the same memory. */
static void test_scattered(void)
{
	char *p = kit_private(64 * PAGE, "old");
	struct odp_region *pinned = kit_reg(p, 64 * PAGE, ODP_PINNED, ODP_BACKING_AUTO);
	struct odp_region *odp = kit_reg(p, 64 * PAGE, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	char old[8];

	CU_ASSERT_FATAL(pinned && odp);
	for (unsigned i = 0; i < 64; i += 3) {
		CU_ASSERT_EQUAL(madvise(p + i * PAGE, PAGE, MADV_DONTNEED), 0);
		snprintf(old, sizeof(old), "old%u", i);
		CU_ASSERT_STRING_EQUAL(kit_see(pinned, p + i * PAGE), old);
		CU_ASSERT_STRING_EQUAL(kit_see(odp, p + i * PAGE), "");
		strcpy(p + i * PAGE, "new");
		CU_ASSERT_STRING_EQUAL(kit_see(odp, p + i * PAGE), "new");
		CU_ASSERT_EQUAL(kit_write(odp, p + i * PAGE, "odp", 4), 0);
		CU_ASSERT_STRING_EQUAL(p + i * PAGE, "odp");
	}
	for (unsigned i = 0; i < 64; i++) {
		snprintf(old, sizeof(old), "old%u", i);
		CU_ASSERT_STRING_EQUAL(kit_see(pinned, p + i * PAGE), old);
		CU_ASSERT_STRING_EQUAL(p + i * PAGE, i % 3 ? old : "odp");
		CU_ASSERT_STRING_EQUAL(kit_see(odp, p + i * PAGE), i % 3 ? old : "odp");
	}
	CU_ASSERT_EQUAL(odp_region_destroy(odp), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(pinned), 0);
	munmap(p, 64 * PAGE);
}

/* Without a record to be had, what stays mapped keeps its pages. */
static void test_no_records(void)
{
	char *p = kit_private(64 * PAGE, "old"), old[8];
	struct odp_region *r = kit_reg(p, 64 * PAGE, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	struct odp_mem *m = kit_proc->mem;
	struct odp_umem *spare;
	unsigned nspare;

	if (!kit_events())
		return;
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	/* As an event does, after the kernel; but with the reserve used up. */
	odp_freeze(kit_proc);
	odp_fence(kit_proc, false);
	odp_mem_lock(m);
	spare = m->spare;
	nspare = m->nspare;
	m->spare = NULL;
	m->nspare = 0;
	odp_inv_unmap(m, (uintptr_t)p + 8 * PAGE, (uintptr_t)p + 16 * PAGE, true);
	CU_ASSERT_PTR_NULL(m->spare);
	m->spare = spare;
	m->nspare = nspare;
	odp_mem_unlock(m);
	odp_thaw(kit_proc);
	for (unsigned i = 0; i < 64; i++) {
		snprintf(old, sizeof(old), "old%u", i);
		if (i < 8 || i >= 16)
			CU_ASSERT_STRING_EQUAL(p + i * PAGE, old);
		if (i < 8 || i >= 16)
			CU_ASSERT_STRING_EQUAL(kit_see(r, p + i * PAGE), old);
	}
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	munmap(p, 64 * PAGE);
}

/* What a peer has written to entries does not end the owner. */
static void test_scribbled(void)
{
	static const uint64_t frames[] = {ODP_E_FRAME, (uint64_t)1 << 45, 0};
	char *p = kit_private(8 * PAGE, "old");
	struct odp_region *r;

	if (!kit_events())
		return; /* no pool */
	for (unsigned i = 0; i < sizeof(frames) / sizeof(*frames); i++) {
		r = kit_reg(p, 8 * PAGE, ODP_PINNED, ODP_BACKING_POOL);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		for (unsigned page = 0; page < 4; page++)
			atomic_store(&r->xlat[page],
				     ODP_E_POOL | ODP_E_VALID |
					     ((frames[i] + page * PAGE) & ODP_E_FRAME));
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
		CU_ASSERT_STRING_EQUAL(p + 3 * PAGE, "old3");
	}
	munmap(p, 8 * PAGE);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a large region", test_large},
		{"scattered pages, and an on-demand region", test_scattered},
		{"no records left", test_no_records},
		{"entries that a peer has written to", test_scribbled},
		CU_TEST_INFO_NULL,
	};

	return kit_suite("part", tests);
}
