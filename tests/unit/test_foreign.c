/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory on which the program has a userfaultfd of its own: a device's fault waits for
 * the program's handler, and whoever runs the transfer does not. So one thread can be
 * both here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "memkit.h"
#include "region.h"
#include "suite.h"
#include "top.h"
#include "transfer.h"

#define NPAGES 100
#define LEN (NPAGES * PAGE)
#define WAIT_MS 30000

static char *mem;
static int uffd = -1;
static struct odp_region *region;

/* False: the kernel has none, or not with these features. */
static bool open_uffd(uint64_t features, int flags)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
	if (uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api) && kit_events())
		return true;
	printf("(no userfaultfd) ");
	if (uffd >= 0)
		close(uffd);
	return false;
}

/* Memory with the userfaultfd on it, all pages missing but the first. */
static bool start(uint64_t features, int flags)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	if (!open_uffd(features, flags))
		return false;
	mem = kit_private(LEN, "there");
	madvise(mem + PAGE, LEN - PAGE, MADV_DONTNEED);
	reg.range = (struct uffdio_range){(uintptr_t)mem, LEN};
	CU_ASSERT_EQUAL_FATAL(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	region = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(region);
	CU_ASSERT_EQUAL(odp_region_backing(region), ODP_BACKING_VA);
	return true;
}

static void end(void)
{
	odp_region_destroy(region);
	if (uffd >= 0)
		close(uffd);
	munmap(mem, LEN);
}

/* One try to move N bytes between BUF and page I. */
static int try(int i, void *buf, size_t n, bool write)
{
	struct odp_span span, local;
	int ret;

	odp_span_private(&local, buf);
	ret = odp_span_region(&span, odp_proc_self(kit_proc), odp_region_key(region), PD,
			      (uintptr_t)mem + i * PAGE, n, 0);
	if (!ret)
		ret = write ? odp_copy(&span, &local, &n) : odp_copy(&local, &span, &n);
	if (ret == -EAGAIN && span.err)
		CU_ASSERT(span.when > 0);
	return ret;
}

/* The same until it is decided. */
static int try_hard(int i, void *buf, size_t n, bool write)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	int ret = -EAGAIN;

	for (int ms = 0; ms < WAIT_MS && ret == -EAGAIN; ms++) {
		ret = try(i, buf, n, write);
		if (ret == -EAGAIN)
			nanosleep(&nap, NULL);
	}
	return ret;
}

/* The page that the program is asked for next, -1: none within MS. */
static int asked(int ms)
{
	struct pollfd p = {.fd = uffd, .events = POLLIN};
	struct uffd_msg msg;

	if (poll(&p, 1, ms) != 1 || read(uffd, &msg, sizeof(msg)) != sizeof(msg) ||
	    msg.event != UFFD_EVENT_PAGEFAULT)
		return -1;
	return (int)((msg.arg.pagefault.address - (uintptr_t)mem) / PAGE);
}

/* The page that is asked for once transfers to or from page I go on: a thread that was
 * answered a moment ago may still hold its place. */
static int asked_at_last(int i, void *buf, size_t n, bool write)
{
	int next = -1;

	for (int ms = 0; ms < WAIT_MS && next < 0 && try(i, buf, n, write) == -EAGAIN; ms++)
		next = asked(1);
	return next;
}

static void answer(int i, const char *text)
{
	char page[PAGE] __attribute__((aligned(4096))) = "";
	struct uffdio_copy copy = {
		.dst = (uintptr_t)mem + i * PAGE, .src = (uintptr_t)page, .len = PAGE};

	strcpy(page, text);
	CU_ASSERT_EQUAL(ioctl(uffd, UFFDIO_COPY, &copy), 0);
}

static void test_waits(void)
{
	struct odp_region_stats before, after;
	char buf[8];

	if (!start(0, 0))
		return;
	CU_ASSERT_EQUAL(try_hard(0, buf, 8, false), 0);
	CU_ASSERT_STRING_EQUAL(buf, "there0");
	odp_region_stats(region, &before);
	CU_ASSERT_EQUAL(try(3, buf, 8, false), -EAGAIN);
	CU_ASSERT_EQUAL(asked(WAIT_MS), 3);
	CU_ASSERT_EQUAL(try(3, buf, 8, false), -EAGAIN);
	CU_ASSERT_EQUAL(asked(50), -1); /* once a page */
	odp_region_stats(region, &after);
	CU_ASSERT_EQUAL(after.page_faults, before.page_faults);
	answer(3, "handler");
	CU_ASSERT_EQUAL(try_hard(3, buf, 8, false), 0);
	CU_ASSERT_STRING_EQUAL(buf, "handler");
	odp_region_stats(region, &after);
	CU_ASSERT_EQUAL(after.page_faults_handled, before.page_faults_handled + 1);
	/* Discarded, and asked for anew. */
	CU_ASSERT_EQUAL(madvise(mem + 3 * PAGE, PAGE, MADV_DONTNEED), 0);
	strcpy(buf, "put");
	CU_ASSERT_EQUAL(asked_at_last(3, buf, 4, true), 3);
	answer(3, "seconds");
	CU_ASSERT_EQUAL(try_hard(3, buf, 3, true), 0);
	CU_ASSERT_STRING_EQUAL(mem + 3 * PAGE, "putonds");
	end();
}

/* More pages than there is room for at a time, answered last first. */
static void test_any_order(void)
{
	int order[NPAGES], n = 0, next;
	char buf[8], text[16];

	if (!start(0, 0))
		return;
	for (int i = 1; i < NPAGES; i++)
		CU_ASSERT_EQUAL(try(i, buf, 8, false), -EAGAIN);
	while (n < NPAGES && (next = asked(n < (int)ODP_FOREIGN_PAGES ? WAIT_MS : 100)) >= 0)
		order[n++] = next;
	CU_ASSERT_EQUAL(n, ODP_FOREIGN_PAGES);
	while (n > 0) {
		next = order[--n];
		snprintf(text, sizeof(text), "page%d", next);
		answer(next, text);
		CU_ASSERT_EQUAL(try_hard(next, buf, 8, false), 0);
		CU_ASSERT_STRING_EQUAL(buf, text);
	}
	CU_ASSERT_EQUAL(asked_at_last(NPAGES - 1, buf, 8, false), NPAGES - 1);
	answer(NPAGES - 1, "last");
	CU_ASSERT_EQUAL(try_hard(NPAGES - 1, buf, 8, false), 0);
	end();
}

static void test_atomic(void)
{
	struct odp_span span;
	uint64_t old = 7;
	int ret;

	if (!start(0, 0))
		return;
	for (int ms = 0;; ms++) {
		odp_span_region(&span, odp_proc_self(kit_proc), odp_region_key(region), PD,
				(uintptr_t)mem + PAGE, 8, 0);
		ret = odp_atomic(&span, ODP_FETCH_ADD, 5, 0, &old);
		if (ret != -EAGAIN || ms == WAIT_MS)
			break;
		if (asked(1) == 1)
			answer(1, "");
	}
	CU_ASSERT_EQUAL(ret, 0);
	CU_ASSERT_EQUAL(old, 0);
	CU_ASSERT_EQUAL(*(uint64_t *)(void *)(mem + PAGE), 5);
	end();
}

static void *answer_one(void *arg)
{
	int i = asked(WAIT_MS);

	(void)arg;
	if (i >= 0)
		answer(i, "advised");
	return NULL;
}

/* A prefetch is the caller's own fault. */
static void test_advise(void)
{
	pthread_t thread;

	if (!start(0, 0))
		return;
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, answer_one, NULL), 0);
	CU_ASSERT_EQUAL(odp_region_advise(region, ODP_PREFETCH_WRITE, (uintptr_t)mem + PAGE, PAGE),
			0);
	pthread_join(thread, NULL);
	CU_ASSERT_STRING_EQUAL(mem + PAGE, "advised");
	end();
}

/* The kernel does not ask: the fault fails, and is not left pending. */
static void cannot_ask(uint64_t features, int flags)
{
	char buf[8];

	if (!start(features, flags))
		return;
	CU_ASSERT_EQUAL(try_hard(1, buf, 8, false), -EFAULT);
	CU_ASSERT_EQUAL(try_hard(1, buf, 8, true), -EFAULT);
	CU_ASSERT_EQUAL(try_hard(0, buf, 8, false), 0);
	end();
}

static void test_cannot_ask(void)
{
	cannot_ask(UFFD_FEATURE_SIGBUS, 0);
	cannot_ask(0, UFFD_USER_MODE_ONLY);
}

/* With the userfaultfd gone, the kernel has nobody to ask. */
static void test_closed(void)
{
	char buf[8];

	if (!start(0, 0))
		return;
	CU_ASSERT_EQUAL(try(1, buf, 8, false), -EAGAIN);
	CU_ASSERT_EQUAL(asked(WAIT_MS), 1);
	close(uffd);
	uffd = -1;
	CU_ASSERT_EQUAL(try_hard(1, buf, 8, false), 0);
	CU_ASSERT_STRING_EQUAL(buf, "");
	strcpy(buf, "found");
	CU_ASSERT_EQUAL(try_hard(2, buf, 6, true), 0);
	CU_ASSERT_STRING_EQUAL(mem + 2 * PAGE, "found");
	end();
}

/* Unmapped while it is asked for: that fault fails, and nothing of it is left for who
 * registers memory at the same address next. */
static void test_unmapped(void)
{
	char *first, buf[8];

	if (!start(0, 0))
		return;
	first = mem;
	CU_ASSERT_EQUAL(try(1, buf, 8, false), -EAGAIN);
	CU_ASSERT_EQUAL(asked(WAIT_MS), 1);
	munmap(mem, LEN);
	CU_ASSERT_EQUAL(
		mmap(mem, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
		mem);
	close(uffd); /* wakes who waits: the touch fails now */
	uffd = -1;
	usleep(100000);
	odp_region_destroy(region);
	munmap(mem, LEN);
	if (!start(0, 0))
		return;
	if (mem != first)
		printf("(at another address) ");
	CU_ASSERT_EQUAL(try(1, buf, 8, false), -EAGAIN);
	CU_ASSERT_EQUAL(asked(WAIT_MS), 1);
	answer(1, "anew");
	CU_ASSERT_EQUAL(try_hard(1, buf, 8, false), 0);
	CU_ASSERT_STRING_EQUAL(buf, "anew");
	end();
}

/* Beside it, memory of another kind is faulted in as ever, in one go with a page that
 * is there. */
static void test_beside(void)
{
	char *whole = kit_private(LEN, "there"), *shared = whole + LEN - 4 * PAGE, two[2 * PAGE];
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	struct odp_region *r;

	if (!open_uffd(0, 0))
		return;
	CU_ASSERT_PTR_EQUAL(mmap(shared, PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			    shared);
	strcpy(shared, "shared");
	reg.range = (struct uffdio_range){(uintptr_t)whole, LEN - 4 * PAGE};
	CU_ASSERT_EQUAL_FATAL(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	r = kit_reg(whole, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_STRING_EQUAL(kit_see(r, whole + PAGE), "there1");
	CU_ASSERT_EQUAL(kit_write(r, whole + PAGE, "put", 4), 0);
	CU_ASSERT_STRING_EQUAL(whole + PAGE, "put");
	CU_ASSERT_STRING_EQUAL(kit_see(r, shared), "shared");
	CU_ASSERT_EQUAL(madvise(shared, PAGE, MADV_DONTNEED), 0);
	CU_ASSERT_EQUAL(kit_read(r, shared - PAGE, two, sizeof(two)), 0);
	CU_ASSERT_STRING_EQUAL(two + PAGE, "shared");
	CU_ASSERT_EQUAL(madvise(whole + LEN - PAGE, PAGE, MADV_DONTNEED), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(r, whole + LEN - PAGE), "");
	odp_region_destroy(r);
	close(uffd);
	munmap(whole, LEN);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a transfer waits for the handler", test_waits},
		{"many pages, in any order", test_any_order},
		{"atomics", test_atomic},
		{"prefetch", test_advise},
		{"a userfaultfd that cannot be asked", test_cannot_ask},
		{"closed while a page is asked for", test_closed},
		{"unmapped while it is asked for", test_unmapped},
		{"other memory in the same region", test_beside},
		CU_TEST_INFO_NULL,
	};

	return kit_suite("foreign", tests);
}
