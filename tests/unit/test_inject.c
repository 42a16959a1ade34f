/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Faults that are made to take their time, or to fail. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domain.h"
#include "memkit.h"
#include "pool.h"
#include "region.h"
#include "suite.h"
#include "top.h"
#include "transfer.h"

#define PAGES 64u
#define LEN (PAGES * PAGE)
#define MS 1000000ull

/* ThreadSanitizer otherwise ends a forked child that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

static const enum odp_backing backings[] = {ODP_BACKING_AUTO, ODP_BACKING_VA};

/* One call: what it returned, and the span of the region. */
static int once(struct odp_region *r, char *at, bool write, struct odp_span *span)
{
	char byte = 'x';
	struct odp_span mine;
	size_t n = 1;
	int ret =
		odp_span_region(span, odp_proc_self(kit_proc), odp_region_key(r), PD, (uintptr_t)at,
				1, write ? ODP_ACCESS_REMOTE_WRITE : ODP_ACCESS_REMOTE_READ);

	odp_span_private(&mine, &byte);
	if (ret)
		return ret;
	return write ? odp_copy(span, &mine, &n) : odp_copy(&mine, span, &n);
}

static void policy(struct odp_region *r, struct odp_fault_policy p)
{
	CU_ASSERT_EQUAL(odp_region_fault_policy(r, &p), 0);
}

static struct odp_region_stats stats_of(struct odp_region *r)
{
	struct odp_region_stats s;

	odp_region_stats(r, &s);
	return s;
}

static void latency(enum odp_backing backing, bool write)
{
	char *mem = kit_private(LEN, NULL);
	struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, backing);
	struct odp_span span;
	uint64_t begin, when;
	bool early = false;

	policy(r, (struct odp_fault_policy){.latency_us = 30000});
	begin = odp_now();
	CU_ASSERT_EQUAL(once(r, mem, write, &span), -EAGAIN);
	CU_ASSERT_EQUAL(span.err, -EAGAIN);
	CU_ASSERT(span.when >= begin + 29 * MS && span.when <= odp_now() + 30 * MS);
	when = span.when;
	CU_ASSERT_TRUE(once(r, mem, write, &span) == -EAGAIN || odp_now() >= when);
	/* No lane is held: an invalidation, which waits for all, does not wait. A busy
	 * machine makes some of them late, not each. */
	for (unsigned i = 1; i < 8 && !early; i++) {
		CU_ASSERT_EQUAL(once(r, mem + i * PAGE, write, &span), -EAGAIN);
		CU_ASSERT_EQUAL(odp_invalidate(kit_proc, mem + 8 * PAGE, PAGE), 0);
		early = odp_now() < span.when;
	}
	CU_ASSERT_TRUE(early);
	while (odp_now() < when + MS)
		usleep(1000);
	CU_ASSERT_EQUAL(once(r, mem, write, &span), 0);
	CU_ASSERT_EQUAL(span.err, 0);
	CU_ASSERT_EQUAL(stats_of(r).page_faults, 1);
	CU_ASSERT_EQUAL(stats_of(r).page_faults_handled, 1);
	/* There now; and anew after an invalidation. */
	CU_ASSERT_EQUAL(once(r, mem, write, &span), 0);
	CU_ASSERT_EQUAL(odp_invalidate(kit_proc, mem, PAGE), 0);
	CU_ASSERT_EQUAL(once(r, mem, write, &span), -EAGAIN);
	CU_ASSERT_EQUAL(odp_region_fault_policy(r, NULL), 0);
	CU_ASSERT_EQUAL(once(r, mem, write, &span), 0);
	odp_region_destroy(r);
	munmap(mem, LEN);
}

static void test_latency(void)
{
	for (unsigned i = 0; i < 4; i++)
		latency(backings[i / 2], i % 2);
}

/* Prefetched pages do not fault; the CPU's faults are its own. */
static void test_latency_advice(void)
{
	char *mem = kit_private(LEN, NULL);
	struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	struct odp_span span;

	policy(r, (struct odp_fault_policy){.latency_us = 1000000, .fail_nth = 1});
	CU_ASSERT_EQUAL(odp_region_advise(r, ODP_PREFETCH_WRITE, (uintptr_t)mem, LEN / 2), 0);
	CU_ASSERT_EQUAL(once(r, mem + LEN / 2 - 1, true, &span), 0);
	CU_ASSERT_EQUAL(stats_of(r).page_prefetch, PAGES / 2);
	mem[LEN - 1] = 1;
	CU_ASSERT_EQUAL(once(r, mem + LEN / 2, true, &span), -EFAULT);
	CU_ASSERT_EQUAL(span.err, -EFAULT);
	odp_region_destroy(r);
	munmap(mem, LEN);
}

/* Both sides: it is the one that faults that says so. */
static void test_sides(void)
{
	char *mem = kit_private(LEN, NULL), *there = kit_private(LEN, "there");
	struct odp_region *slow = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	struct odp_region *fast = kit_reg(there, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	struct odp_peer *self = odp_proc_self(kit_proc);
	struct odp_span a, b;
	size_t n = 100;

	policy(slow, (struct odp_fault_policy){.latency_us = 20000});
	odp_span_region(&a, self, odp_region_key(slow), PD, (uintptr_t)mem, n,
			ODP_ACCESS_LOCAL_WRITE);
	odp_span_region(&b, self, odp_region_key(fast), PD, (uintptr_t)there, n, 0);
	CU_ASSERT_EQUAL(odp_copy(&a, &b, &n), -EAGAIN);
	CU_ASSERT_EQUAL(a.err, -EAGAIN);
	CU_ASSERT_EQUAL(b.err, 0);
	n = 100;
	CU_ASSERT_EQUAL(odp_copy(&b, &a, &n), -EAGAIN);
	CU_ASSERT_EQUAL(a.err, -EAGAIN);
	CU_ASSERT_EQUAL(b.err, 0);
	CU_ASSERT_EQUAL(kit_copy(&a, &b, 100), 0);
	CU_ASSERT_STRING_EQUAL(mem, "there0");
	odp_region_destroy(slow);
	odp_region_destroy(fast);
	munmap(mem, LEN);
	munmap(there, LEN);
}

static void test_atomic(void)
{
	for (unsigned i = 0; i < 2; i++) {
		char *mem = kit_private(LEN, NULL);
		struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, backings[i]);
		struct odp_span span;
		uint64_t old = 1;
		int ret;

		policy(r, (struct odp_fault_policy){.latency_us = 20000});
		odp_span_region(&span, odp_proc_self(kit_proc), odp_region_key(r), PD,
				(uintptr_t)mem, 8, ODP_ACCESS_REMOTE_ATOMIC);
		CU_ASSERT_EQUAL(odp_atomic(&span, ODP_FETCH_ADD, 5, 0, &old), -EAGAIN);
		CU_ASSERT_EQUAL(span.err, -EAGAIN);
		while ((ret = odp_atomic(&span, ODP_FETCH_ADD, 5, 0, &old)) == -EAGAIN)
			usleep(1000);
		CU_ASSERT_EQUAL(ret, 0);
		CU_ASSERT_EQUAL(old, 0);
		CU_ASSERT_EQUAL(*(uint64_t *)mem, 5);
		odp_region_destroy(r);
		munmap(mem, LEN);
	}
}

static void nth(enum odp_backing backing)
{
	char *mem = kit_private(LEN, NULL);
	struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, backing);
	struct odp_region_stats s;
	struct odp_span span;
	unsigned failed = 0;

	policy(r, (struct odp_fault_policy){.fail_nth = 4});
	for (unsigned i = 0; i < PAGES; i++) {
		int ret = once(r, mem + i * PAGE, i & 1, &span);

		CU_ASSERT_EQUAL(ret, i % 4 == 3 ? -EFAULT : 0);
		CU_ASSERT_EQUAL(span.err, ret);
		failed += ret == -EFAULT;
	}
	s = stats_of(r);
	CU_ASSERT_EQUAL(s.page_faults, PAGES);
	CU_ASSERT_EQUAL(s.page_faults_handled, PAGES - failed);
	CU_ASSERT_EQUAL(s.pages_valid, PAGES - failed);
	/* Those that failed are missing still, and are had when asked for again. */
	CU_ASSERT_EQUAL(once(r, mem + 3 * PAGE, true, &span), 0);
	odp_region_destroy(r);
	munmap(mem, LEN);
}

static void test_nth(void)
{
	nth(ODP_BACKING_AUTO);
	nth(ODP_BACKING_VA);
}

/* A copy of many pages stops at the fault that fails, wherever it is. */
static void test_nth_long(void)
{
	for (unsigned i = 0; i < 2; i++) {
		char *mem = kit_private(LEN, NULL), *buf = malloc(LEN);
		struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, backings[i]);
		unsigned tries;

		memset(buf, 'b', LEN);
		CU_ASSERT_EQUAL(kit_write(r, mem + 8 * PAGE, buf, PAGE), 0);
		policy(r, (struct odp_fault_policy){.fail_nth = 2});
		/* A fault before the page that is there, and one behind it. */
		CU_ASSERT_EQUAL(kit_write(r, mem, buf, 8 * PAGE), 0);
		CU_ASSERT_EQUAL(kit_write(r, mem, buf, LEN), -EFAULT);
		/* One piece further each time, where it goes in pieces. */
		for (tries = 0; tries < 4 && kit_write(r, mem, buf, LEN); tries++)
			;
		CU_ASSERT(tries < 4);
		CU_ASSERT_EQUAL(memcmp(mem, buf, LEN), 0);
		odp_region_destroy(r);
		munmap(mem, LEN);
		free(buf);
	}
}

static void test_percent(void)
{
	char *mem = kit_private(1024 * PAGE, NULL);
	struct odp_region *r = kit_reg(mem, 1024 * PAGE, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	unsigned failed = 0, slow = 0;
	struct odp_span span;

	policy(r, (struct odp_fault_policy){
			  .fail_percent = 25, .latency_us = 1000000, .latency_percent = 50});
	for (unsigned i = 0; i < 1024; i++) {
		int ret = once(r, mem + i * PAGE, true, &span);

		failed += ret == -EFAULT;
		slow += ret == -EAGAIN;
	}
	/* 256 and 384 are expected; eight standard deviations either way. */
	CU_ASSERT(failed > 144 && failed < 368);
	CU_ASSERT(slow > 256 && slow < 512);
	odp_region_destroy(r);
	munmap(mem, 1024 * PAGE);
}

static void test_bad(void)
{
	char *mem = kit_private(LEN, NULL);
	struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	struct odp_fault_policy p = {.fail_percent = 101};

	CU_ASSERT_EQUAL(odp_region_fault_policy(r, &p), -EINVAL);
	p = (struct odp_fault_policy){.latency_percent = 101, .latency_us = 1};
	CU_ASSERT_EQUAL(odp_region_fault_policy(r, &p), -EINVAL);
	p = (struct odp_fault_policy){.latency_us = 1000000001};
	CU_ASSERT_EQUAL(odp_proc_fault_policy(kit_proc, &p), -EINVAL);
	odp_region_destroy(r);
	munmap(mem, LEN);
}

/* ---- what the environment says, in a process that attaches with it ---- */

static int child_try(void)
{
	char *mem = kit_private(LEN, NULL);
	struct odp_region *r;
	struct odp_span span;
	uint64_t begin;
	int ret;

	if (kit_start())
		return 1;
	r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	if (!r)
		return 2;
	begin = odp_now();
	ret = once(r, mem, true, &span);
	if (ret == -EAGAIN)
		ret = span.when >= begin + 4999 * MS ? -EAGAIN : -ETIME;
	return -ret;
}

/* What the first fault answers. */
static int with_env(const char *latency_env, const char *fail_env)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		setenv("UODP_FAULT_LATENCY", latency_env, 1);
		setenv("UODP_FAULT_FAIL", fail_env, 1);
		_exit(child_try());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static void test_environment(void)
{
	static const char *const bad[] = {"-1", "101", "1/0", "2/3", "1/", "5%%", "nth"};

	CU_ASSERT_EQUAL(with_env("", ""), 0);
	CU_ASSERT_EQUAL(with_env("5000000", ""), EAGAIN);
	CU_ASSERT_EQUAL(with_env("5000000:100", ""), EAGAIN);
	CU_ASSERT_EQUAL(with_env("5000000:0", ""), 0);
	CU_ASSERT_EQUAL(with_env("5000000:101", ""), 0);
	CU_ASSERT_EQUAL(with_env("5ms", ""), 0);
	CU_ASSERT_EQUAL(with_env("", "100"), EFAULT);
	CU_ASSERT_EQUAL(with_env("", "100%"), EFAULT);
	CU_ASSERT_EQUAL(with_env("", "1/1"), EFAULT);
	CU_ASSERT_EQUAL(with_env("", "1/2"), 0);
	CU_ASSERT_EQUAL(with_env("", "0"), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CU_ASSERT_EQUAL(with_env("", bad[i]), 0);
}

int main(void)
{
	static CU_TestInfo tests[] = {
		{"a fault that takes its time", test_latency},
		{"advice is faster, a CPU too", test_latency_advice},
		{"the side that faults", test_sides},
		{"atomics", test_atomic},
		{"every Nth fails", test_nth},
		{"in the middle of a copy", test_nth_long},
		{"percentages", test_percent},
		{"bad policies", test_bad},
		{"environment", test_environment},
		CU_TEST_INFO_NULL,
	};

	return kit_suite("inject", tests);
}
