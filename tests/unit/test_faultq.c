/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Faults that a pager of the program resolves: what its descriptor does. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domain.h"
#include "faultq.h"
#include "memkit.h"
#include "pool.h"
#include "region.h"
#include "suite.h"
#include "top.h"
#include "transfer.h"

#define PAGES 64u
#define LEN (PAGES * PAGE)
#define WAIT_MS 30000
#define MSG sizeof(struct odp_fault_msg)

/* ThreadSanitizer otherwise ends a forked child that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

static const enum odp_backing backings[] = {ODP_BACKING_AUTO, ODP_BACKING_VA};

/* A queue with one region of missing pages. */
struct setup {
	struct odp_fault_queue *q;
	struct odp_region *r;
	char *mem;
	int fd;
	bool fuse;
};

static void setup(struct setup *s, enum odp_backing backing, uint32_t depth, uint32_t pages)
{
	struct odp_fault_queue_attr attr = {.depth = depth, .group_pages = pages};

	CU_ASSERT_EQUAL_FATAL(odp_fault_queue_create(kit_proc, &attr, &s->q), 0);
	s->fd = odp_fault_queue_fd(s->q);
	s->fuse = odp_fault_queue_checked(s->q);
	s->mem = kit_private(LEN, NULL);
	s->r = kit_reg(s->mem, LEN, ODP_ON_DEMAND, backing);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s->r);
	CU_ASSERT_EQUAL(odp_fault_queue_attach(s->q, s->r, 3, 0x1122334455667788), 0);
}

static void teardown(struct setup *s)
{
	if (s->r)
		odp_region_destroy(s->r);
	if (s->q)
		odp_fault_queue_destroy(s->q, false);
	munmap(s->mem, LEN);
}

/* One call for N bytes at AT: what it returned. -EAGAIN without a fault says that the
 * region's process is busy for a moment: again, then. */
static int once(struct odp_region *r, char *at, size_t n, bool write)
{
	uint32_t access = write ? ODP_ACCESS_REMOTE_WRITE : ODP_ACCESS_REMOTE_READ;
	uint64_t end = odp_now() + WAIT_MS * 1000000ull;
	static char buf[8 * PAGE];
	struct odp_span span, mine;
	size_t len;
	int ret;

	do {
		len = n;
		ret = odp_span_region(&span, odp_proc_self(kit_proc), odp_region_key(r), PD,
				      (uintptr_t)at, n, access);
		odp_span_private(&mine, buf);
		if (!ret)
			ret = write ? odp_copy(&span, &mine, &len) : odp_copy(&mine, &span, &len);
	} while (ret == -EAGAIN && span.err != -EAGAIN && odp_now() < end);
	if (ret == -EAGAIN)
		CU_ASSERT_EQUAL(span.err, -EAGAIN);
	return ret;
}

/* What it returns when it has stopped asking to come back. */
static int settled(struct odp_region *r, char *at, size_t n)
{
	uint64_t end = odp_now() + WAIT_MS * 1000000ull;
	int ret;

	while ((ret = once(r, at, n, false)) == -EAGAIN && odp_now() < end)
		usleep(100);
	return ret;
}

static short revents(int fd, int ms)
{
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};

	poll(&p, 1, ms);
	return p.revents;
}

/* POLLOUT is always there: wait by looking again. */
static bool readable(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, WAIT_MS) == 1 && (p.revents & POLLIN);
}

static ssize_t get(int fd, struct odp_fault_msg *m, size_t n)
{
	return readable(fd) ? read(fd, m, n * MSG) : -1;
}

static ssize_t answer(int fd, uint32_t cookie, uint32_t code)
{
	struct odp_fault_response r = {cookie, code};

	return write(fd, &r, sizeof(r));
}

/* ---- groups ---- */

static void groups(enum odp_backing backing)
{
	struct odp_fault_msg m[8];
	struct setup s;

	setup(&s, backing, 0, 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 5 * PAGE + 100, 2 * PAGE, true), -EAGAIN);
	if (s.fuse) { /* not wholly: not at all */
		errno = 0;
		CU_ASSERT(get(s.fd, m, 2) == -1 && errno == EINVAL);
	}
	CU_ASSERT_EQUAL_FATAL(get(s.fd, m, 8), 3 * MSG);
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(m[i].flags, i == 2 ? ODP_FAULT_LAST : 0);
		CU_ASSERT_EQUAL(m[i].dev_id, 3);
		CU_ASSERT_EQUAL(m[i].key, odp_region_key(s.r));
		CU_ASSERT_EQUAL(m[i].perm, ODP_FAULT_READ | ODP_FAULT_WRITE);
		CU_ASSERT_EQUAL(m[i].iova, (uintptr_t)s.mem + (5 + i) * PAGE);
		CU_ASSERT_EQUAL(m[i].addr, (uintptr_t)s.mem + (5 + i) * PAGE);
		CU_ASSERT_EQUAL(m[i].length, (3 - i) * PAGE);
		CU_ASSERT_EQUAL(m[i].context, 0x1122334455667788);
		CU_ASSERT(m[i].cookie == m[0].cookie && m[i].group == m[0].group);
	}
	/* The same access again makes no second group. */
	CU_ASSERT_EQUAL(once(s.r, s.mem + 5 * PAGE + 100, 2 * PAGE, true), -EAGAIN);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 6 * PAGE, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(revents(s.fd, 0), POLLOUT);
	s.mem[6 * PAGE] = 'p';
	CU_ASSERT_EQUAL(answer(s.fd, m[0].cookie, ODP_FAULT_SUCCESS), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem + 5 * PAGE, 3 * PAGE), 0);
	CU_ASSERT_STRING_EQUAL(kit_see(s.r, s.mem + 6 * PAGE), "p");
	/* A read of the next page, and two groups in one read(). */
	CU_ASSERT_EQUAL(once(s.r, s.mem + 8 * PAGE, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 20 * PAGE, 1, false), -EAGAIN);
	if (s.fuse) {
		CU_ASSERT_EQUAL_FATAL(get(s.fd, m, 8), 2 * MSG);
		CU_ASSERT_EQUAL(m[0].perm, ODP_FAULT_READ);
		CU_ASSERT_EQUAL(m[1].iova, (uintptr_t)s.mem + 20 * PAGE);
		CU_ASSERT_EQUAL(m[1].group, m[0].group + 1);
		CU_ASSERT_NOT_EQUAL(m[1].cookie, m[0].cookie);
	}
	teardown(&s);
}

static void test_groups(void)
{
	for (unsigned i = 0; i < 2; i++)
		groups(backings[i]);
}

/* ---- answers ---- */

static void test_write(void)
{
	struct odp_fault_response r[4];
	struct odp_fault_msg m[4];
	struct setup s;

	setup(&s, ODP_BACKING_AUTO, 0, 1);
	if (!s.fuse) {
		teardown(&s);
		return;
	}
	for (unsigned i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(once(s.r, s.mem + i * PAGE, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL_FATAL(get(s.fd, m, 3), 3 * MSG);
	/* Not known: never given, and not read yet (cookies are not secret). */
	CU_ASSERT(answer(s.fd, 0, 0) == -1 && errno == EINVAL);
	for (uint32_t place = 0; place < ODP_FQ_DEPTH; place++) {
		uint32_t c = (m[2].cookie & ~(ODP_FQ_DEPTH - 1)) | place;

		if (c != m[0].cookie && c != m[1].cookie && c != m[2].cookie)
			CU_ASSERT_EQUAL(answer(s.fd, c, 0), -1);
	}
	CU_ASSERT(answer(s.fd, m[0].cookie, 2) == -1 && errno == EINVAL);
	CU_ASSERT(write(s.fd, r, 7) == -1 && errno == EINVAL);
	/* Two good ones, a bad one, a good one. */
	for (unsigned i = 0; i < 3; i++)
		r[i] = (struct odp_fault_response){m[i].cookie, ODP_FAULT_SUCCESS};
	r[3] = r[2];
	r[2].code = 77;
	CU_ASSERT_EQUAL(write(s.fd, r, sizeof(r)), 16);
	CU_ASSERT_EQUAL(settled(s.r, s.mem + PAGE, 1), 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 2 * PAGE, 1, false), -EAGAIN);
	/* Once only. */
	CU_ASSERT(answer(s.fd, m[0].cookie, 0) == -1 && errno == EINVAL);
	CU_ASSERT_EQUAL(write(s.fd, r + 3, 8), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem + 2 * PAGE, 1), 0);
	teardown(&s);
}

static void invalid(enum odp_backing backing)
{
	struct odp_fault_msg m[4];
	struct setup s;

	setup(&s, backing, 0, 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 4), MSG);
	CU_ASSERT_EQUAL(answer(s.fd, m[0].cookie, ODP_FAULT_INVALID), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem, 1), -EFAULT);
	/* The next access asks anew. */
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 4), MSG);
	CU_ASSERT_EQUAL(answer(s.fd, m[0].cookie, ODP_FAULT_SUCCESS), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem, 1), 0);
	/* There now: no fault. Invalidated: a fault again. */
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, true), 0);
	CU_ASSERT_EQUAL(odp_invalidate(kit_proc, s.mem, PAGE), 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, true), -EAGAIN);
	teardown(&s);
}

static void test_invalid(void)
{
	for (unsigned i = 0; i < 2; i++)
		invalid(backings[i]);
}

/* SUCCESS for a page that the program does not have. */
static void test_no_page(void)
{
	struct odp_fault_msg m[4];
	struct setup s;

	setup(&s, ODP_BACKING_AUTO, 0, 0);
	munmap(s.mem + 4 * PAGE, PAGE);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 4 * PAGE, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 4), MSG);
	CU_ASSERT_EQUAL(answer(s.fd, m[0].cookie, ODP_FAULT_SUCCESS), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem + 4 * PAGE, 1), -EFAULT);
	teardown(&s);
}

/* ---- the descriptor ---- */

/* A ring that another test has left may interrupt once more. */
static int epoll_one(int ep, int ms)
{
	struct epoll_event ev;
	int n;

	do
		n = epoll_wait(ep, &ev, 1, ms);
	while (n < 0 && errno == EINTR);
	return n;
}

static void *ask_later(void *arg)
{
	struct setup *s = arg;

	usleep(50000);
	CU_ASSERT_EQUAL(once(s->r, s->mem, 1, false), -EAGAIN);
	return NULL;
}

static void test_poll(void)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	struct odp_fault_msg m[4];
	pthread_t thread;
	struct setup s;
	int ep = epoll_create1(0);

	setup(&s, ODP_BACKING_AUTO, 0, 0);
	CU_ASSERT_EQUAL(revents(s.fd, 0), POLLOUT);
	CU_ASSERT_EQUAL(epoll_ctl(ep, EPOLL_CTL_ADD, s.fd, &ev), 0);
	CU_ASSERT_EQUAL(epoll_one(ep, 0), 0);
	pthread_create(&thread, NULL, ask_later, &s);
	CU_ASSERT_EQUAL(epoll_one(ep, WAIT_MS), 1);
	CU_ASSERT_EQUAL(revents(s.fd, 0), POLLIN | POLLOUT);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(read(s.fd, m, sizeof(m)), MSG);
	CU_ASSERT_EQUAL(revents(s.fd, 0), POLLOUT);
	CU_ASSERT_EQUAL(answer(s.fd, m[0].cookie, ODP_FAULT_SUCCESS), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem, 1), 0);
	/* A read that waits. */
	odp_invalidate(kit_proc, s.mem, PAGE);
	pthread_create(&thread, NULL, ask_later, &s);
	CU_ASSERT_EQUAL(read(s.fd, m, sizeof(m)), MSG);
	pthread_join(thread, NULL);
	fcntl(s.fd, F_SETFL, O_NONBLOCK);
	CU_ASSERT(read(s.fd, m, sizeof(m)) == -1 && errno == EAGAIN);
	close(ep);
	teardown(&s);
}

static void *read_until_end(void *arg)
{
	struct odp_fault_msg m[4];
	int fd = *(int *)arg;

	return (void *)(intptr_t)read(fd, m, sizeof(m));
}

static void test_destroy(void)
{
	struct odp_fault_msg m[4];
	pthread_t thread;
	struct setup s;
	void *ret;

	setup(&s, ODP_BACKING_AUTO, 0, 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 4), MSG);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 9 * PAGE, 1, false), -EAGAIN);
	CU_ASSERT(readable(s.fd));
	CU_ASSERT_EQUAL(get(s.fd, m + 1, 3), MSG);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 18 * PAGE, 1, false), -EAGAIN);
	CU_ASSERT(readable(s.fd));
	CU_ASSERT_EQUAL(get(s.fd, m + 1, 3), MSG);
	pthread_create(&thread, NULL, read_until_end, &s.fd);
	usleep(50000);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 27 * PAGE, 1, false), -EAGAIN);
	pthread_join(thread, &ret);
	CU_ASSERT_EQUAL((intptr_t)ret, (intptr_t)MSG);
	/* With nothing to read, a reader waits, and learns of the end. */
	pthread_create(&thread, NULL, read_until_end, &s.fd);
	usleep(50000);
	CU_ASSERT_EQUAL(pthread_tryjoin_np(thread, NULL), EBUSY);
	odp_fault_queue_destroy(s.q, true);
	s.q = NULL;
	pthread_join(thread, &ret);
	CU_ASSERT((intptr_t)ret <= 0);
	close(s.fd);
	/* All of them are INVALID. */
	for (unsigned i = 0; i <= 27; i += 9) {
		CU_ASSERT_EQUAL(once(s.r, s.mem + i * PAGE, 1, false), -EFAULT);
		CU_ASSERT_EQUAL(once(s.r, s.mem + i * PAGE, 1, false), 0);
	}
	CU_ASSERT_EQUAL(odp_fault_queue_detach(s.r), -EINVAL);
	teardown(&s);
}

static void test_detach(void)
{
	struct odp_fault_msg m[4];
	struct setup s;

	setup(&s, ODP_BACKING_AUTO, 0, 0);
	CU_ASSERT_EQUAL(odp_fault_queue_attach(s.q, s.r, 0, 0), -EBUSY);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 4), MSG);
	CU_ASSERT_EQUAL(odp_fault_queue_detach(s.r), 0);
	if (s.fuse)
		CU_ASSERT(answer(s.fd, m[0].cookie, 0) == -1 && errno == EINVAL);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EFAULT);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), 0);
	CU_ASSERT_EQUAL(odp_fault_queue_detach(s.r), -EINVAL);
	/* And back. */
	CU_ASSERT_EQUAL(odp_fault_queue_attach(s.q, s.r, 0, 0), 0);
	odp_invalidate(kit_proc, s.mem, PAGE);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 4), MSG);
	/* The MR ends: nothing is left of it. */
	odp_region_destroy(s.r);
	s.r = NULL;
	if (s.fuse)
		CU_ASSERT(answer(s.fd, m[0].cookie, 0) == -1 && errno == EINVAL);
	CU_ASSERT_EQUAL(revents(s.fd, 0), POLLOUT);
	teardown(&s);
}

/* All copies closed: nobody will answer. */
static void test_close(void)
{
	struct setup s;
	int other;

	setup(&s, ODP_BACKING_AUTO, 0, 0);
	other = dup(s.fd);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	close(s.fd);
	CU_ASSERT(readable(other));
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	close(other);
	CU_ASSERT_EQUAL(settled(s.r, s.mem, 1), -EFAULT);
	CU_ASSERT_EQUAL(settled(s.r, s.mem + 9 * PAGE, 1), -EFAULT);
	odp_fault_queue_destroy(s.q, true);
	s.q = NULL;
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), 0);
	teardown(&s);
}

/* ---- bounds ---- */

static void test_depth(void)
{
	struct odp_fault_msg m[8];
	struct setup s, t;

	setup(&s, ODP_BACKING_AUTO, 2, 1);
	setup(&t, ODP_BACKING_AUTO, 2, 1);
	for (unsigned i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(once(s.r, s.mem + i * PAGE, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 1), MSG);
	CU_ASSERT_EQUAL(get(s.fd, m + 1, 1), MSG);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 2 * PAGE, 1, false), -EAGAIN);
	usleep(20000);
	CU_ASSERT_EQUAL(revents(s.fd, 0), POLLOUT);
	/* Another queue is as empty as before. */
	CU_ASSERT_EQUAL(once(t.r, t.mem, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(t.fd, m + 2, 1), MSG);
	CU_ASSERT_EQUAL(answer(t.fd, m[2].cookie, ODP_FAULT_SUCCESS), 8);
	CU_ASSERT_EQUAL(settled(t.r, t.mem, 1), 0);
	/* A place is free: whose turn it is gets it. */
	CU_ASSERT_EQUAL(answer(s.fd, m[0].cookie, ODP_FAULT_SUCCESS), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem, 1), 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem + 2 * PAGE, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 1), MSG);
	CU_ASSERT_EQUAL(m[0].iova, (uintptr_t)s.mem + 2 * PAGE);
	teardown(&s);
	teardown(&t);
}

static void test_limits(void)
{
	struct odp_fault_queue_attr attr = {.depth = ODP_FQ_DEPTH + 1};
	struct odp_fault_queue *q[ODP_FQ_QUEUES], *one;
	struct odp_region *r;
	char *mem = kit_private(LEN, "a");
	unsigned n;

	CU_ASSERT_EQUAL(odp_fault_queue_create(kit_proc, &attr, &one), -EINVAL);
	attr = (struct odp_fault_queue_attr){.group_pages = ODP_FQ_PAGES + 1};
	CU_ASSERT_EQUAL(odp_fault_queue_create(kit_proc, &attr, &one), -EINVAL);
	attr = (struct odp_fault_queue_attr){.depth = ODP_FQ_DEPTH, .group_pages = ODP_FQ_PAGES};
	for (n = 0; n < ODP_FQ_QUEUES; n++)
		CU_ASSERT_EQUAL_FATAL(odp_fault_queue_create(kit_proc, &attr, &q[n]), 0);
	CU_ASSERT_EQUAL(odp_fault_queue_create(kit_proc, &attr, &one), -ENOSPC);
	r = kit_reg(mem, LEN, ODP_PINNED, ODP_BACKING_AUTO);
	CU_ASSERT_EQUAL(odp_fault_queue_attach(q[0], r, 0, 0), -EINVAL);
	odp_region_destroy(r);
	while (n--)
		odp_fault_queue_destroy(q[n], false);
	munmap(mem, LEN);
}

/* Other ways to make faults slow do not take the queue away. */
static void test_policy(void)
{
	struct odp_fault_policy p = {.latency_us = 1000};
	struct odp_fault_msg m[4];
	struct setup s;

	setup(&s, ODP_BACKING_AUTO, 0, 0);
	CU_ASSERT_EQUAL(odp_region_fault_policy(s.r, &p), 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(get(s.fd, m, 4), MSG);
	CU_ASSERT_EQUAL(odp_region_fault_policy(s.r, NULL), 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	CU_ASSERT_EQUAL(answer(s.fd, m[0].cookie, ODP_FAULT_SUCCESS), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem, 1), 0);
	teardown(&s);
}

/* ---- io_uring ---- */

static int cqe_take(struct io_uring *ring, int *res)
{
	struct __kernel_timespec ts = {.tv_sec = WAIT_MS / 1000};
	struct io_uring_cqe *cqe;
	int ret = io_uring_wait_cqe_timeout(ring, &cqe, &ts), id;

	if (ret)
		return ret;
	*res = cqe->res;
	id = (int)cqe->user_data;
	io_uring_cqe_seen(ring, cqe);
	return id;
}

static void read_post(struct io_uring *ring, int fd, struct odp_fault_msg *m, int id,
		      unsigned flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_read(sqe, fd, m, 8 * MSG, (uint64_t)-1);
	sqe->flags |= (uint8_t)flags;
	sqe->user_data = (uint64_t)id;
}

static int answer_posted(struct io_uring *ring, int fd, uint32_t cookie)
{
	struct odp_fault_response r = {cookie, ODP_FAULT_SUCCESS};
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	int res = -1, id;

	io_uring_prep_write(sqe, fd, &r, sizeof(r), (uint64_t)-1);
	sqe->user_data = 100;
	io_uring_submit(ring);
	id = cqe_take(ring, &res);
	CU_ASSERT_EQUAL(id, 100);
	return res;
}

/* Reads that were posted before there was anything, with more room than it needs:
 * each fault ends one of them, at once. */
static void uring_reads(unsigned flags)
{
	struct odp_fault_msg m[4][8];
	struct io_uring ring;
	struct setup s;
	int res, id, seen = 0;

	if (io_uring_queue_init(16, &ring, 0))
		return;
	setup(&s, ODP_BACKING_AUTO, 0, 0);
	for (int i = 0; i < 4; i++)
		read_post(&ring, s.fd, m[i], i, flags);
	CU_ASSERT_EQUAL(io_uring_submit(&ring), 4);
	usleep(20000);
	for (unsigned i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(once(s.r, s.mem + 9 * i * PAGE, 2 * PAGE, false), -EAGAIN);
		id = cqe_take(&ring, &res);
		CU_ASSERT_FATAL(id >= 0 && id < 4 && !(seen >> id & 1));
		seen |= 1 << id;
		CU_ASSERT_EQUAL(res, 2 * (int)MSG);
		CU_ASSERT_EQUAL(m[id][0].iova, (uintptr_t)s.mem + 9 * i * PAGE);
		CU_ASSERT_EQUAL(answer_posted(&ring, s.fd, m[id][0].cookie), 8);
		CU_ASSERT_EQUAL(settled(s.r, s.mem + 9 * i * PAGE, 2 * PAGE), 0);
	}
	if (s.fuse)
		CU_ASSERT_EQUAL(answer_posted(&ring, s.fd, m[0][0].cookie), -EINVAL);
	io_uring_queue_exit(&ring);
	teardown(&s);
}

static void test_uring(void)
{
	uring_reads(0);
	uring_reads(IOSQE_ASYNC);
}

/* ---- fork ---- */

/* A child's copies: closed without delay, and they keep nothing alive. */
static void test_fork(void)
{
	struct odp_fault_msg m[4];
	struct setup s;
	int status = -1, end[2];
	pid_t pid;

	setup(&s, ODP_BACKING_AUTO, 0, 0);
	CU_ASSERT_EQUAL(pipe(end), 0);
	CU_ASSERT_EQUAL(once(s.r, s.mem, 1, false), -EAGAIN);
	pid = fork();
	if (!pid) {
		char c;

		close(end[1]);
		alarm(60);
		read(end[0], &c, 1); /* the parent has destroyed its queue */
		if (read(s.fd, m, sizeof(m)) > 0)
			_exit(2);
		odp_fault_queue_destroy(s.q, false);
		_exit(0);
	}
	close(end[0]);
	CU_ASSERT_EQUAL(get(s.fd, m, 4), MSG);
	CU_ASSERT_EQUAL(answer(s.fd, m[0].cookie, ODP_FAULT_SUCCESS), 8);
	CU_ASSERT_EQUAL(settled(s.r, s.mem, 1), 0);
	teardown(&s);
	close(end[1]);
	waitpid(pid, &status, 0);
	CU_ASSERT_EQUAL(status, 0);
}

/* As where there is no FUSE. */
static void test_pair(void)
{
	setenv("UODP_NO_FUSE", "1", 1);
	test_groups();
	test_invalid();
	test_poll();
	test_detach();
	test_close();
	test_destroy();
	test_depth();
	test_uring();
	test_fork();
	unsetenv("UODP_NO_FUSE");
}

int main(int argc, char **argv)
{
	CU_TestInfo tests[] = {{"whole groups", test_groups},
			       {"responses", test_write},
			       {"INVALID", test_invalid},
			       {"no page", test_no_page},
			       {"poll", test_poll},
			       {"destroy", test_destroy},
			       {"detach", test_detach},
			       {"close", test_close},
			       {"depth", test_depth},
			       {"limits", test_limits},
			       {"with a policy", test_policy},
			       {"io_uring", test_uring},
			       {"fork", test_fork},
			       {"sockets", test_pair},
			       CU_TEST_INFO_NULL};

	(void)argc;
	(void)argv;
	return kit_suite("fault queue", tests);
}
