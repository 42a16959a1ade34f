/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Refusals, limits, statistics, advice. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base.h"
#include "memkit.h"
#include "pool.h"
#include "suite.h"

#define LEN (16 * PAGE)

static int try(void *addr, size_t len, uint64_t iova, uint32_t access, int kind, int backing)
{
	struct odp_region_attr a = {.addr = addr,
				    .length = len,
				    .iova = iova,
				    .pd = PD,
				    .access = access,
				    .kind = (enum odp_kind)kind,
				    .backing = (enum odp_backing)backing};
	struct odp_region *r;
	int ret = odp_region_create(kit_proc, &a, &r);

	if (!ret)
		odp_region_destroy(r);
	return ret;
}

static void test_bad_args(void)
{
	char *mem = kit_private(LEN, "ok");
	const uint64_t iova = (uintptr_t)mem;

	for (int kind = 0; kind < 2; kind++) {
		CU_ASSERT_EQUAL(try(mem, LEN, iova, ALL, kind, 0), 0);
		CU_ASSERT_EQUAL(try(mem, LEN, 0, 0, kind, 0), 0);
		CU_ASSERT_EQUAL(try(mem, 0, iova, ALL, kind, 0), -EINVAL);
		CU_ASSERT_EQUAL(try(mem, SIZE_MAX, iova, ALL, kind, 0), -EINVAL);
		CU_ASSERT_EQUAL(try((void *)(UINTPTR_MAX - 10), 5, 0, 0, kind, 0), -EINVAL);
		CU_ASSERT_EQUAL(try(mem, LEN, UINT64_MAX - LEN + 2, 0, kind, 0), -EINVAL);
		CU_ASSERT_EQUAL(try(mem, LEN, UINT64_MAX - LEN + 1, 0, kind, 0), 0);
		CU_ASSERT_EQUAL(try(mem, LEN, iova, ODP_ACCESS_REMOTE_WRITE, kind, 0), -EINVAL);
		CU_ASSERT_EQUAL(try(mem, LEN, iova, ODP_ACCESS_REMOTE_ATOMIC, kind, 0), -EINVAL);
		CU_ASSERT_EQUAL(try(mem, LEN, iova, ODP_ACCESS_REMOTE_READ, kind, 0), 0);
		CU_ASSERT_EQUAL(try(mem, LEN, iova, 1u << 20, kind, 0), -EINVAL);
		CU_ASSERT_EQUAL(try(mem, LEN, iova, ALL, kind, 9), -EINVAL);
	}
	CU_ASSERT_EQUAL(try(mem, LEN, iova, ALL, 2, 0), -EINVAL);
	CU_ASSERT_EQUAL(try(mem, LEN, iova, ALL, ODP_ON_DEMAND, ODP_BACKING_PIN), -EINVAL);
	CU_ASSERT_EQUAL(try((void *)PAGE, PAGE, 0, 0, ODP_PINNED, 0), -EFAULT);
	CU_ASSERT_EQUAL(try((void *)PAGE, PAGE, 0, 0, ODP_ON_DEMAND, 0), 0);
	munmap(mem, LEN);
}

static int span(struct odp_region *r, uint32_t key, uint32_t pd, uint64_t iova, uint64_t len,
		uint32_t access)
{
	struct odp_span s;

	(void)r;
	return odp_span_region(&s, odp_proc_self(kit_proc), key, pd, iova, len, access);
}

static void test_spans(void)
{
	char *mem = kit_private(LEN, "ok");
	struct odp_region_attr a = {.addr = mem + 100,
				    .length = 1000,
				    .iova = 5000,
				    .pd = PD,
				    .access = ODP_ACCESS_REMOTE_READ};
	struct odp_region *r, *again;
	uint32_t key;
	struct odp_span s;
	char buf[8];
	size_t n = 8;

	CU_ASSERT_EQUAL_FATAL(odp_region_create(kit_proc, &a, &r), 0);
	key = odp_region_key(r);
	CU_ASSERT_NOT_EQUAL(key, 0);
	CU_ASSERT_EQUAL(span(r, key, PD, 5000, 1000, ODP_ACCESS_REMOTE_READ), 0);
	CU_ASSERT_EQUAL(span(r, key, PD, 5000, 1001, 0), -ERANGE);
	CU_ASSERT_EQUAL(span(r, key, PD, 4999, 1, 0), -ERANGE);
	CU_ASSERT_EQUAL(span(r, key, PD, 6000, 1, 0), -ERANGE);
	CU_ASSERT_EQUAL(span(r, key, PD, 5999, 1, 0), 0);
	CU_ASSERT_EQUAL(span(r, key, PD, 5001, UINT64_MAX, 0), -ERANGE);
	CU_ASSERT_EQUAL(span(r, key, PD, UINT64_MAX, 2, 0), -ERANGE);
	CU_ASSERT_EQUAL(span(r, key, PD + 1, 5000, 1, 0), -EPERM);
	CU_ASSERT_EQUAL(span(r, key, PD, 5000, 1, ODP_ACCESS_REMOTE_WRITE), -EACCES);
	CU_ASSERT_EQUAL(span(r, key, PD, 5000, 1, ODP_ACCESS_LOCAL_WRITE), -EACCES);
	CU_ASSERT_EQUAL(span(r, key ^ 1, PD, 5000, 1, 0), -ENOENT);
	CU_ASSERT_EQUAL(span(r, 0, PD, 5000, 1, 0), -ENOENT);
	CU_ASSERT_EQUAL(span(r, UINT32_MAX, PD, 5000, 1, 0), -ENOENT);
	CU_ASSERT_EQUAL(span(r, UINT32_MAX, PD, 5000, 0, 0), 0);
	/* A span of a region that has gone. */
	CU_ASSERT_EQUAL(odp_span_region(&s, odp_proc_self(kit_proc), key, PD, 5000, 8, 0), 0);
	odp_region_destroy(r);
	CU_ASSERT_EQUAL(span(r, key, PD, 5000, 1, 0), -ENOENT);
	{
		struct odp_span d;

		odp_span_private(&d, buf);
		CU_ASSERT_EQUAL(odp_copy(&d, &s, &n), -EKEYREVOKED);
		CU_ASSERT_EQUAL(s.err, -EKEYREVOKED);
		CU_ASSERT_EQUAL(d.err, 0);
	}
	CU_ASSERT_EQUAL_FATAL(odp_region_create(kit_proc, &a, &again), 0);
	CU_ASSERT_NOT_EQUAL(odp_region_key(again), key);
	CU_ASSERT_EQUAL(odp_region_modify(again, PD + 1, ALL), 0);
	CU_ASSERT_EQUAL(span(again, odp_region_key(again), PD, 5000, 1, 0), -EPERM);
	CU_ASSERT_EQUAL(span(again, odp_region_key(again), PD + 1, 5000, 1, ALL), 0);
	CU_ASSERT_EQUAL(odp_region_modify(again, PD, ODP_ACCESS_REMOTE_WRITE), -EINVAL);
	odp_region_destroy(again);
	munmap(mem, LEN);
}

static void caps_set(uint32_t effective)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	CU_ASSERT_EQUAL_FATAL(syscall(SYS_capget, &hdr, data), 0);
	data[0].effective = effective;
	CU_ASSERT_EQUAL_FATAL(syscall(SYS_capset, &hdr, data), 0);
}

static uint32_t caps_get(void)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	syscall(SYS_capget, &hdr, data);
	return data[0].effective;
}

static void test_memlock(void)
{
	struct rlimit old, lim;
	uint32_t caps = caps_get();
	char *mem = kit_private(LEN, "ok");
	struct odp_region *a, *b;

	getrlimit(RLIMIT_MEMLOCK, &old);
	lim = old;
	lim.rlim_cur = 12 * PAGE;
	CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_MEMLOCK, &lim), 0);
	caps_set(caps & ~(1u << CAP_IPC_LOCK));
	a = kit_reg(mem + 10, 8 * PAGE, ODP_PINNED, ODP_BACKING_AUTO); /* 9 pages */
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	CU_ASSERT_PTR_NULL(kit_reg(mem, 4 * PAGE, ODP_PINNED, ODP_BACKING_AUTO));
	CU_ASSERT_EQUAL(kit_err, -ENOMEM);
	b = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO); /* not counted */
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	odp_region_destroy(b);
	b = kit_reg(mem, 3 * PAGE, ODP_PINNED, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	odp_region_destroy(a);
	odp_region_destroy(b);
	a = kit_reg(mem, 12 * PAGE, ODP_PINNED, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	odp_region_destroy(a);
	caps_set(caps);
	if (caps & 1u << CAP_IPC_LOCK)
		CU_ASSERT_EQUAL(try(mem, LEN, 0, ALL, ODP_PINNED, 0), 0);
	setrlimit(RLIMIT_MEMLOCK, &old);
	munmap(mem, LEN);
}

static void check(struct odp_region *r, uint64_t faults, uint64_t inv, uint64_t handled,
		  uint64_t prefetch, uint64_t valid)
{
	struct odp_region_stats s;

	odp_region_stats(r, &s);
	CU_ASSERT_EQUAL(s.page_faults, faults);
	CU_ASSERT_EQUAL(s.page_invalidations, inv);
	CU_ASSERT_EQUAL(s.page_invalidations_handled, handled);
	CU_ASSERT_EQUAL(s.page_prefetch, prefetch);
	CU_ASSERT_EQUAL(s.pages_valid, valid);
	CU_ASSERT_EQUAL(s.pages, LEN / PAGE);
}

static void test_stats(void)
{
	char *mem = kit_private(LEN, NULL);
	uint64_t at = (uintptr_t)mem;
	struct odp_region_stats s;
	struct odp_region *r;
	char buf[3 * PAGE];

	kit_fill(mem, 4 * PAGE, "there");
	r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	check(r, 0, 0, 0, 0, 4);
	kit_read(r, mem + 2 * PAGE, buf, PAGE);
	check(r, 0, 0, 0, 0, 4);
	kit_read(r, mem + 3 * PAGE, buf, 3 * PAGE);
	check(r, 2, 0, 0, 0, 6);
	CU_ASSERT_EQUAL(odp_invalidate(kit_proc, mem + 5 * PAGE, 3 * PAGE), 0);
	check(r, 2, 3, 1, 0, 5);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH_NO_FAULT, at, LEN), 0);
	if (kit_events())
		check(r, 2, 3, 1, 1, 6); /* the invalidated one is still there */
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH, at + 8 * PAGE, PAGE + 1), 0);
	if (kit_events())
		check(r, 2, 3, 1, 3, 8);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH_WRITE, at, LEN), 0);
	odp_region_stats(r, &s);
	CU_ASSERT_EQUAL(s.pages_valid, LEN / PAGE);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH, at + 1, LEN), -EFAULT);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH, at - 1, 1), -EFAULT);
	CU_ASSERT_EQUAL(odp_region_advise(r, (enum odp_advice)7, at, 1), -EOPNOTSUPP);
	munmap(mem + 4 * PAGE, PAGE);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH, at, LEN), -EFAULT);
	CU_ASSERT_EQUAL(kit_read(r, mem + 4 * PAGE, buf, 1), -EFAULT);
	odp_region_stats(r, &s);
	CU_ASSERT_EQUAL(s.page_faults, s.page_faults_handled + 1);
	odp_region_destroy(r);
	r = kit_reg_access(mem, PAGE, ODP_ON_DEMAND, ODP_ACCESS_REMOTE_READ);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH_WRITE, at, PAGE), -EPERM);
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH, at, PAGE), 0);
	odp_region_destroy(r);
	munmap(mem, LEN);
}

/* Frames and extents are given back: as many as before. */
static unsigned extents(void)
{
	struct odp_mem *m = kit_proc->mem;
	struct odp_inode *n;
	unsigned count = 0;

	for (n = odp_itree_first(&m->extents, 0, UINT64_MAX); n;
	     n = odp_itree_next(&m->extents, n, 0, UINT64_MAX))
		count++;
	return count;
}

static void test_no_leak(void)
{
	unsigned before, umems = 0;

	for (int i = 0; i < 100; i++) {
		char *mem = kit_private(LEN, "x");
		struct odp_region *r = kit_reg(mem, LEN, i & 1, ODP_BACKING_AUTO);

		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		madvise(mem + PAGE, 3 * PAGE, MADV_DONTNEED);
		munmap(mem, LEN);
		odp_region_destroy(r);
		if (i == 3)
			before = extents();
	}
	odp_uffd_settle(kit_proc->mem);
	odp_pool_reap(kit_proc->mem);
	CU_ASSERT(extents() <= before);
	for (struct odp_inode *n = odp_itree_first(&kit_proc->mem->umems, 0, UINT64_MAX); n;
	     n = odp_itree_next(&kit_proc->mem->umems, n, 0, UINT64_MAX))
		umems++;
	CU_ASSERT_EQUAL(umems, 0);
	CU_ASSERT_EQUAL(atomic_load(&kit_proc->mem->locked), 0);
}

static void test_many(void)
{
	enum { MANY = 20000 };
	static struct odp_region *r[MANY];
	char *mem = kit_private(LEN, "many");

	for (int i = 0; i < MANY; i++) {
		r[i] = kit_reg(mem + i % 5000, 100, i & 1, ODP_BACKING_AUTO);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r[i]);
	}
	CU_ASSERT_STRING_EQUAL(kit_see(r[0], mem), "many0");
	CU_ASSERT_EQUAL(madvise(mem, PAGE, MADV_DONTNEED), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r[0], mem), "many0"); /* pinned */
	CU_ASSERT_STRING_EQUAL(kit_see(r[5001], mem + 1), "");
	for (int i = 0; i < MANY; i++)
		odp_region_destroy(r[i]);
	munmap(mem, LEN);
}

/* Revoked by whoever may reach it: also the short way into the pool, which looks at no
 * flag, is shut; regions of other tags stay. */
static void test_revoked(void)
{
	for (int kind = ODP_PINNED; kind <= ODP_ON_DEMAND; kind++) {
		char *mem = kit_private(LEN, "own"), buf[8];
		struct odp_region_attr attr = {.addr = mem,
					       .length = LEN,
					       .iova = (uintptr_t)mem,
					       .pd = PD,
					       .access = ALL,
					       .kind = (enum odp_kind)kind,
					       .tag = 77};
		struct odp_region *r, *other = kit_reg(mem, LEN, (enum odp_kind)kind, 0);

		CU_ASSERT_PTR_NOT_NULL_FATAL(other);
		CU_ASSERT_EQUAL_FATAL(odp_region_create(kit_proc, &attr, &r), 0);
		CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "own1");
		CU_ASSERT_EQUAL(kit_write(r, mem + PAGE, "dev", 4), 0);
		CU_ASSERT_EQUAL(odp_peer_revoke(kit_proc, odp_proc_self(kit_proc), 77), 1);
		CU_ASSERT_TRUE(odp_region_revoked(r));
		CU_ASSERT_EQUAL(kit_read(r, mem + PAGE, buf, 8), -EFAULT);
		CU_ASSERT_EQUAL(kit_write(r, mem + PAGE, "late", 5), -EFAULT);
		CU_ASSERT_STRING_EQUAL(mem + PAGE, "dev");
		CU_ASSERT_FALSE(odp_region_revoked(other));
		CU_ASSERT_STRING_EQUAL(kit_see(other, mem + PAGE), "dev");
		CU_ASSERT_EQUAL(odp_peer_revoke(kit_proc, odp_proc_self(kit_proc), 77), 0);
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
		CU_ASSERT_EQUAL(odp_region_destroy(other), 0);
		munmap(mem, LEN);
	}
}

/* Registration reads all of smaps from the program's first MADV_DONTDUMP on, not from
 * libodp's own. */
static void test_dump(void)
{
	char *mem = kit_private(LEN, "x");
	struct odp_region *r;

	odp_sys_madvise((uintptr_t)mem, LEN, MADV_DONTDUMP);
	r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_EQUAL(odp_said((uintptr_t)mem), 0);
	odp_advice_note(MADV_DONTDUMP);
	odp_sys_madvise((uintptr_t)mem, LEN, MADV_DONTDUMP);
	CU_ASSERT_TRUE(odp_said((uintptr_t)mem) & ODP_SAID_NODUMP);
	odp_region_destroy(r);
	munmap(mem, LEN);
}

static void test_caps(void)
{
	struct odp_cap caps[32];
	int n = odp_caps(caps, 32);

	CU_ASSERT_FATAL(n > 5 && n <= 32);
	for (int i = 0; i < n; i++) {
		CU_ASSERT(caps[i].name && *caps[i].name && caps[i].cost && *caps[i].cost);
		CU_ASSERT(caps[i].detail[0] && memchr(caps[i].detail, 0, sizeof(caps[i].detail)));
		if (!strcmp(caps[i].name, "memfd"))
			CU_ASSERT(caps[i].present);
	}
	caps[1].name = NULL;
	CU_ASSERT_EQUAL(odp_caps(caps, 1), n);
	CU_ASSERT_PTR_NULL(caps[1].name);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"bad registrations", test_bad_args},
		{"spans: keys, rights, bounds", test_spans},
		{"RLIMIT_MEMLOCK", test_memlock},
		{"statistics and advice", test_stats},
		{"nothing is left behind", test_no_leak},
		{"many regions on few pages", test_many},
		{"revoked by its tag", test_revoked},
		{"core dumps", test_dump},
		{"capabilities", test_caps},
		CU_TEST_INFO_NULL,
	};

	return kit_suite("mem_limits", tests);
}
