/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a program does to memory outside the pool, through the C library's functions, is
 * seen by its on-demand MRs when the call returns, whatever backs them: invalidations are
 * counted, the next access of each page is a fault, and what hangs on faults happens.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "harness.h"

#define PAGE 4096u
#define PAGES 16u
#define LEN ((size_t)PAGES * PAGE)
#define ODP (ALL_ACCESS | IBV_ACCESS_ON_DEMAND)

struct target {
	int fd;
	uint8_t *mem;
	struct ibv_mr *mr;
	char path[64];
};

static bool target_fill(struct target *t)
{
	if (ftruncate(t->fd, (off_t)LEN))
		return false;
	memset(t->mem, 'a', LEN);
	return true;
}

static bool target_open(struct target *t, struct ep *ep, bool named)
{
	snprintf(t->path, sizeof(t->path), "/dev/shm/uodp-test-follow.%d", (int)getpid());
	t->fd = named ? open(t->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
		      : memfd_create("test-follow", MFD_CLOEXEC);
	t->mem = ftruncate(t->fd, (off_t)LEN)
			 ? MAP_FAILED
			 : mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
	t->mr = t->mem != MAP_FAILED && target_fill(t) ? ibv_reg_mr(ep->pd, t->mem, LEN, ODP)
						       : NULL;
	return CHECK(t->mr);
}

static void target_close(struct target *t)
{
	CHECK_ERRNO(ibv_dereg_mr(t->mr), 0);
	munmap(t->mem, LEN);
	close(t->fd);
	if (t->path[0])
		unlink(t->path);
}

static struct uodpdv_odp_stats stats(const struct target *t)
{
	struct uodpdv_odp_stats s = {0};

	CHECK_ERRNO(uodpdv_query_mr_stats(t->mr, &s, sizeof(s)), 0);
	return s;
}

/* ---- the events: each takes the N pages from PAGE on away ---- */

struct event {
	const char *name;
	bool (*run)(struct target *t, unsigned page, unsigned n);
	bool tail, stays, named; /* all that follow go too; the addresses stay; needs a name */
	bool all;                /* whatever PAGE is */
};

static bool e_ftruncate(struct target *t, unsigned page, unsigned n)
{
	(void)n;
	return !ftruncate(t->fd, (off_t)page * PAGE);
}

static bool e_truncate(struct target *t, unsigned page, unsigned n)
{
	(void)n;
	return !truncate(t->path, (off_t)page * PAGE);
}

static bool e_open(struct target *t, unsigned page, unsigned n)
{
	int fd = open(t->path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	(void)page, (void)n;
	return fd >= 0 && !close(fd);
}

static bool e_fopen(struct target *t, unsigned page, unsigned n)
{
	FILE *f = fopen(t->path, "w");

	(void)page, (void)n;
	return f && !fclose(f);
}

static bool e_punch(struct target *t, unsigned page, unsigned n)
{
	return !fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)page * PAGE,
			  (off_t)n * PAGE);
}

static bool e_remove(struct target *t, unsigned page, unsigned n)
{
	return !madvise(t->mem + page * PAGE, (size_t)n * PAGE, MADV_REMOVE);
}

static bool e_dontneed(struct target *t, unsigned page, unsigned n)
{
	return !madvise(t->mem + page * PAGE, (size_t)n * PAGE, MADV_DONTNEED);
}

static bool e_mprotect(struct target *t, unsigned page, unsigned n)
{
	return !mprotect(t->mem + page * PAGE, (size_t)n * PAGE, PROT_READ) &&
	       !mprotect(t->mem + page * PAGE, (size_t)n * PAGE, PROT_READ | PROT_WRITE);
}

static bool e_mmap(struct target *t, unsigned page, unsigned n)
{
	uint8_t *at = t->mem + page * PAGE;

	return mmap(at, (size_t)n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, t->fd,
		    (off_t)page * PAGE) == at;
}

static bool e_munmap(struct target *t, unsigned page, unsigned n)
{
	return !munmap(t->mem + page * PAGE, (size_t)n * PAGE);
}

static bool e_mremap(struct target *t, unsigned page, unsigned n)
{
	void *to = mremap(t->mem + page * PAGE, (size_t)n * PAGE, (size_t)2 * n * PAGE,
			  MREMAP_MAYMOVE);

	return to != MAP_FAILED && !munmap(to, (size_t)2 * n * PAGE);
}

static bool e_shrink(struct target *t, unsigned page, unsigned n)
{
	(void)n;
	return mremap(t->mem, LEN, (size_t)page * PAGE, 0) == t->mem;
}

static const struct event events[] = {
	{"ftruncate", e_ftruncate, true, true, false, false},
	{"truncate", e_truncate, true, true, true, false},
	{"open(O_TRUNC)", e_open, true, true, true, true},
	{"fopen(\"w\")", e_fopen, true, true, true, true},
	{"fallocate(PUNCH_HOLE)", e_punch, false, true, false, false},
	{"madvise(REMOVE)", e_remove, false, true, false, false},
	{"madvise(DONTNEED)", e_dontneed, false, true, false, false},
	{"mprotect", e_mprotect, false, true, false, false},
	{"mmap(FIXED)", e_mmap, false, true, false, false},
	{"munmap", e_munmap, false, false, false, false},
	{"mremap", e_mremap, false, false, false, false},
	{"mremap, shorter", e_shrink, true, false, false, false},
};

/* A READ by the peer of a byte of PAGE: its status. */
static int peer_read(struct pair *p, const struct target *t, unsigned page)
{
	struct twr s = {.id = 1,
			.op = IBV_WR_RDMA_READ,
			.flags = IBV_SEND_SIGNALED,
			.len = 1,
			.raddr = (uintptr_t)t->mem + page * PAGE,
			.rkey = t->mr->rkey};
	struct ibv_wc wc;

	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	return CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1) ? (int)wc.status : -1;
}

#define FIRST 3u
#define COUNT 2u

static void counted(const struct target *t, uint64_t invalidations, uint64_t faults)
{
	CHECK_INT(stats(t).page_invalidations, invalidations);
	CHECK_INT(stats(t).page_invalidations_handled, invalidations);
	CHECK_INT(stats(t).page_faults, faults);
	CHECK_INT(stats(t).page_faults_handled, faults);
}

static void event_run(struct pair *p, const struct event *e)
{
	const struct ep_conf c = RC_CONF;
	const unsigned gone = e->all ? PAGES : e->tail ? PAGES - FIRST : COUNT;
	struct uodpdv_mr_attr attr = {0};
	struct target t;

	t_note("%s", e->name);
	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_open(&t, &p->b.ep, e->named));
	CHECK_ERRNO(uodpdv_query_mr(t.mr, &attr, sizeof(attr)), 0);
	CHECK_INT(attr.seen, UODPDV_SEEN_CALLS | UODPDV_SEEN_ACCESS);
	counted(&t, 0, 0);
	CHECK_STATUS(peer_read(p, &t, FIRST), IBV_WC_SUCCESS);
	CHECK(e->run(&t, FIRST, COUNT));
	counted(&t, gone, 0);
	if (!e->all)
		CHECK_STATUS(peer_read(p, &t, 0), IBV_WC_SUCCESS);
	if (e->stays) {
		/* That the program has been there before hides nothing. */
		CHECK(target_fill(&t));
		for (unsigned i = 0; i < PAGES; i++)
			CHECK_STATUS(peer_read(p, &t, i), IBV_WC_SUCCESS);
		counted(&t, gone, gone);
	} else {
		CHECK_STATUS(peer_read(p, &t, FIRST), IBV_WC_REM_ACCESS_ERR);
	}
	target_close(&t);
	pair_down(p);
}

static void c_events(struct pair *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(events) && !t_failures(); i++)
		event_run(p, &events[i]);
}

/* A fault after an event takes its time, or fails, as the first one did. */
static void c_faults(struct pair *p)
{
	const struct uodpdv_fault_attr fails = {.fail_nth = 1}, slow = {.latency_us = 100000};
	const struct ep_conf c = RC_CONF;
	struct target t;
	uint64_t begin;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_open(&t, &p->b.ep, false));
	CHECK_ERRNO(uodpdv_set_fault(t.mr, &slow, sizeof(slow)), 0);
	CHECK_INT(ftruncate(t.fd, 0), 0);
	CHECK(target_fill(&t));
	begin = now_ms();
	CHECK_STATUS(peer_read(p, &t, 0), IBV_WC_SUCCESS);
	CHECK(now_ms() - begin >= 99);
	CHECK_ERRNO(uodpdv_set_fault(t.mr, &fails, sizeof(fails)), 0);
	CHECK_STATUS(peer_read(p, &t, 0), IBV_WC_SUCCESS);
	CHECK_INT(ftruncate(t.fd, 0), 0);
	CHECK(target_fill(&t));
	CHECK_STATUS(peer_read(p, &t, 0), IBV_WC_REM_ACCESS_ERR);
	target_close(&t);
	pair_down(p);
}

/* An implicit MR has all memory; what is done elsewhere is not its pages' matter. */
static void c_implicit(struct pair *p)
{
	const struct ep_conf c = RC_CONF;
	struct target t;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_open(&t, &p->b.ep, false));
	CHECK_ERRNO(ibv_dereg_mr(t.mr), 0);
	t.mr = ibv_reg_mr(p->b.ep.pd, NULL, SIZE_MAX, ODP);
	REQUIRE(t.mr);
	for (unsigned i = 0; i < 4; i++)
		CHECK_STATUS(peer_read(p, &t, i), IBV_WC_SUCCESS);
	counted(&t, 0, 4);
	CHECK(e_dontneed(&t, 1, 8));
	counted(&t, 3, 4);
	CHECK_INT(ftruncate(t.fd, 0), 0);
	counted(&t, 4, 4);
	target_close(&t);
	pair_down(p);
}

/* ---- pinned: the pages stay, and are the device's alone ---- */

struct part {
	const char *name;
	bool (*run)(struct target *t, unsigned page, unsigned n);
	bool file, memory; /* pages part: of a memfd, of private memory */
	bool fd;           /* needs a file */
};

static const struct part parts[] = {
	{"ftruncate", e_ftruncate, true, false, true},
	{"fallocate(PUNCH_HOLE)", e_punch, true, false, true},
	{"madvise(REMOVE)", e_remove, true, false, true},
	{"madvise(DONTNEED)", e_dontneed, false, true, false},
	{"mprotect", e_mprotect, false, false, false},
	{"mmap(FIXED)", e_mmap, true, false, true},
	{"munmap", e_munmap, true, true, false},
	{"mremap", e_mremap, true, true, false},
};

static bool target_pin(struct target *t, struct ep *ep, bool file, uint64_t mask)
{
	const struct uodpdv_mr_init_attr attr = {.comp_mask = mask};

	t->path[0] = 0;
	t->fd = file ? memfd_create("test-follow", MFD_CLOEXEC) : -1;
	t->mem = file && ftruncate(t->fd, (off_t)LEN)
			 ? MAP_FAILED
			 : mmap(NULL, LEN, PROT_READ | PROT_WRITE,
				file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, t->fd, 0);
	t->mr = t->mem == MAP_FAILED
			? NULL
			: uodpdv_reg_mr(ep->pd, t->mem, LEN, ALL_ACCESS, &attr, sizeof(attr));
	return CHECK(t->mr);
}

/* Does an event of MR's come within MS? */
static bool parted_event(struct ibv_mr *mr, int ms)
{
	struct pollfd pfd = {.fd = mr->context->async_fd, .events = POLLIN};
	struct ibv_async_event ev;

	if (poll(&pfd, 1, ms) != 1 || ibv_get_async_event(mr->context, &ev))
		return false;
	CHECK_INT(ev.event_type, UODPDV_EVENT_MR_PARTED);
	CHECK_INT(ev.element.port_num, mr->lkey);
	ibv_ack_async_event(&ev);
	return true;
}

static void part_run(struct pair *p, const struct part *e, bool file)
{
	const unsigned gone = e->run == e_ftruncate ? PAGES - FIRST : COUNT;
	const bool parts_now = file ? e->file : e->memory;
	struct target t;

	t_note("%s of %s", e->name, file ? "a memfd" : "private memory");
	REQUIRE(target_pin(&t, &p->b.ep, file, UODPDV_MR_INIT_ATTR_NOTIFY));
	memset(t.mem, 'a', LEN);
	CHECK_INT(stats(&t).page_invalidations, 0);
	CHECK(e->run(&t, FIRST, COUNT));
	CHECK_INT(stats(&t).page_invalidations, parts_now ? gone : 0);
	CHECK_INT(parted_event(t.mr, parts_now ? LONG_MS : 20), parts_now);
	CHECK_STATUS(peer_read(p, &t, FIRST), IBV_WC_SUCCESS);
	/* Once a page. */
	CHECK(e_munmap(&t, FIRST, COUNT));
	CHECK_INT(stats(&t).page_invalidations, parts_now ? gone : COUNT);
	CHECK_INT(parted_event(t.mr, parts_now ? 20 : LONG_MS), !parts_now);
	target_close(&t);
}

static void c_parts(struct pair *p)
{
	const struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	for (size_t i = 0; i < ARRAY_SIZE(parts) && !t_failures(); i++) {
		part_run(p, &parts[i], true);
		if (!parts[i].fd)
			part_run(p, &parts[i], false);
	}
	pair_down(p);
}

/* Nobody is told who has not asked. */
static void c_parts_unasked(struct pair *p)
{
	const struct ep_conf c = RC_CONF;
	struct target t;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(target_pin(&t, &p->b.ep, true, 0));
	memset(t.mem, 'a', LEN);
	CHECK(e_punch(&t, FIRST, COUNT));
	CHECK_INT(stats(&t).page_invalidations, COUNT);
	CHECK(!parted_event(t.mr, 50));
	target_close(&t);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"events", c_events, HERE},
		{"faults", c_faults, HERE},
		{"implicit", c_implicit, HERE},
		{"pinned parts", c_parts, HERE},
		{"pinned parts, unasked", c_parts_unasked, HERE},
	};

	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
