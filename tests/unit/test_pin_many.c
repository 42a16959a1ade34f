/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Many pinned regions of memory that cannot be in the pool: more than one ring of io_uring
 * has buffers for, over the same pages and over different ones, at a cost that does not
 * grow with their number.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backing.h"
#include "child.h"
#include "memkit.h"
#include "pool.h"
#include "suite.h"

#define MANY 100000u
#define GROUP 10000u

static struct odp_region *regions[MANY];

static char *memfd_map(size_t len)
{
	int fd = memfd_create("test-pin", MFD_CLOEXEC);
	char *p = ftruncate(fd, (off_t)len)
			  ? MAP_FAILED
			  : mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static bool pins(void)
{
	static bool said;

	if (odp_pin_usable(kit_proc->mem))
		return true;
	if (!said)
		printf("skipped: io_uring is not allowed here\n");
	said = true;
	return false;
}

/* Region I: a page of its own, or the first one. */
static void make(char *mem, uint32_t i, bool same)
{
	char *at = same ? mem : mem + i * PAGE;

	regions[i] = kit_reg(at, PAGE, ODP_PINNED, ODP_BACKING_PIN);
	CU_ASSERT_PTR_NOT_NULL_FATAL(regions[i]);
}

/* The fastest of several groups does not depend on what else runs here. */
static uint64_t group_make(char *mem, uint32_t first, bool same)
{
	uint64_t best = UINT64_MAX;

	for (uint32_t i = first; i < first + GROUP; i += GROUP / 10) {
		uint64_t begin = odp_now();

		for (uint32_t k = i; k < i + GROUP / 10; k++)
			make(mem, k, same);
		best = odp_min(best, odp_now() - begin);
	}
	return best;
}

/* Each reaches its own page, through whichever ring. */
static void check(char *mem, uint32_t i, bool same)
{
	char *at = same ? mem : mem + i * PAGE;
	uint32_t v = i ^ 0xabcd;

	CU_ASSERT_EQUAL(kit_write(regions[i], at, &v, sizeof(v)), 0);
	CU_ASSERT_EQUAL(memcmp(at, &v, sizeof(v)), 0);
	v = 0;
	CU_ASSERT_EQUAL(kit_read(regions[i], at, &v, sizeof(v)), 0);
	CU_ASSERT_EQUAL(v, i ^ 0xabcd);
}

static void many(bool same)
{
	char *mem = memfd_map(same ? PAGE : MANY * PAGE);
	uint64_t first, last = 0;

	if (!pins())
		return;
	CU_ASSERT_PTR_NOT_NULL_FATAL(mem);
	first = group_make(mem, 0, same);
	for (uint32_t i = GROUP; i < MANY; i += GROUP)
		last = group_make(mem, i, same);
	CU_ASSERT(last < 5 * first);
	CU_ASSERT_EQUAL(odp_region_backing(regions[MANY - 1]), ODP_BACKING_PIN);
	for (uint32_t i = 0; i < MANY; i += 4999)
		check(mem, i, same);
	check(mem, MANY - 1, same);
	/* What has ended leaves room, in the rings that there are. */
	for (uint32_t i = 0; i < MANY; i += 3)
		CU_ASSERT_EQUAL(odp_region_destroy(regions[i]), 0);
	for (uint32_t i = 0; i < MANY; i += 3)
		make(mem, i, same);
	CU_ASSERT_EQUAL(kit_proc->mem->pin_rings, (MANY + ODP_PIN_SLOTS - 1) / ODP_PIN_SLOTS);
	for (uint32_t i = 0; i < MANY; i += 7001)
		check(mem, i, same);
	for (uint32_t i = 0; i < MANY; i++)
		CU_ASSERT_EQUAL(odp_region_destroy(regions[i]), 0);
	munmap(mem, same ? PAGE : MANY * PAGE);
}

static void test_same(void)
{
	many(true);
}

static void test_different(void)
{
	many(false);
}

/* The pins are real: what the file gives up stays with the regions that had it. */
static void test_keeps(void)
{
	char *mem = memfd_map(3 * PAGE);
	struct odp_region *old, *new;
	char byte = 0;

	if (!pins())
		return;
	memset(mem, 'o', 3 * PAGE);
	old = kit_reg(mem, 3 * PAGE, ODP_PINNED, ODP_BACKING_PIN);
	CU_ASSERT_EQUAL(madvise(mem, 3 * PAGE, MADV_REMOVE), 0);
	memset(mem, 'n', 3 * PAGE);
	/* Over the same addresses, and other pages. */
	new = kit_reg(mem + PAGE, PAGE, ODP_PINNED, ODP_BACKING_PIN);
	CU_ASSERT_EQUAL(kit_read(old, mem + PAGE, &byte, 1), 0);
	CU_ASSERT_EQUAL(byte, 'o');
	CU_ASSERT_EQUAL(kit_read(new, mem + PAGE, &byte, 1), 0);
	CU_ASSERT_EQUAL(byte, 'n');
	odp_region_destroy(old);
	CU_ASSERT_EQUAL(kit_read(new, mem + PAGE, &byte, 1), 0);
	CU_ASSERT_EQUAL(byte, 'n');
	odp_region_destroy(new);
	munmap(mem, 3 * PAGE);
}

/* ---- another process's rings ---- */

#define PEER_MANY (2 * ODP_PIN_SLOTS + 10)

static int role_owner(void)
{
	char *mem = memfd_map(PAGE);

	if (kit_start() || !mem)
		return 1;
	parent_put(pins());
	if (!pins())
		return 0;
	for (uint32_t i = 0; i < PEER_MANY; i++) {
		regions[i] = kit_reg(mem, PAGE, ODP_PINNED, ODP_BACKING_PIN);
		if (!regions[i])
			return 1;
	}
	memset(mem, 'm', PAGE);
	parent_put(odp_proc_slot(kit_proc));
	parent_put((long)(uintptr_t)mem);
	for (uint32_t i = 0; i < PEER_MANY; i += ODP_PIN_SLOTS)
		parent_put(odp_region_key(regions[i]));
	parent_get();
	return mem[7] == 'w' ? 0 : 1;
}

static void test_peer(void)
{
	struct odp_peer *peer;
	struct child c;
	uint64_t mem;
	char byte;

	CU_ASSERT_TRUE_FATAL(child_start(&c, "owner"));
	if (child_get(&c)) {
		CU_ASSERT_EQUAL_FATAL(odp_peer_get(kit_proc, (unsigned)child_get(&c), &peer), 0);
		mem = (uint64_t)child_get(&c);
		for (uint32_t i = 0; i < PEER_MANY; i += ODP_PIN_SLOTS) {
			uint32_t key = (uint32_t)child_get(&c);

			CU_ASSERT_EQUAL(kit_peer_read(peer, key, mem, &byte, 1), 0);
			CU_ASSERT_EQUAL(byte, 'm');
			CU_ASSERT_EQUAL(kit_peer_write(peer, key, mem + 7, "w", 1), 0);
		}
	}
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static CU_TestInfo tests[] = {
	{"over the same page", test_same},
	{"over different pages", test_different},
	{"old pages and new ones", test_keeps},
	{"another process's", test_peer},
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {{"owner", role_owner}, {NULL, NULL}};
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	setrlimit(RLIMIT_MEMLOCK, &all);
	child_main(argc, argv, roles);
	return kit_suite("pin_many", tests);
}
