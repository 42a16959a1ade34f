/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Programs that do what no library likes: each case in a process of its own,
 * since some leave it unusable. Right is a clear error or correct behaviour; a
 * hang, or wrong data without an error, is not. Uses libibverbs alone.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define PAGE 4096u
#define LEN (64 * PAGE)
#define CASE_S 120 /* a hang; a busy machine is slow */

static uint8_t *anon(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static struct ibv_mr *reg(struct pair *p, void *addr, size_t len, bool odp)
{
	struct ibv_mr *mr =
		ibv_reg_mr(p->a.pd, addr, len, ALL_ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0));

	CHECK(mr);
	return mr;
}

/* N bytes from A's buffer to MR (or back): the completion's status, -1 for none. */
static int move(struct pair *p, const struct ibv_mr *mr, const void *addr, uint32_t n, bool write)
{
	struct twr wr = {
		.op = write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
		.flags = IBV_SEND_SIGNALED,
		.len = n,
		.raddr = (uintptr_t)addr,
		.rkey = mr->rkey,
	};
	struct ibv_wc wc;

	if (side_send(&p->b, &wr))
		return -1;
	return side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS) == 1 ? (int)wc.status : -1;
}

/* The device and the CPU see the same in MEM. */
static void check_same(struct pair *p, const struct ibv_mr *mr, uint8_t *mem, uint32_t n,
		       uint64_t seed)
{
	fill_bytes(mem, n, seed);
	CHECK_STATUS(move(p, mr, mem, n, false), IBV_WC_SUCCESS);
	CHECK(side_sum(&p->b, 0, n) == sum_bytes(mem, n));
	side_fill(&p->b, 0, n, seed + 1);
	CHECK_STATUS(move(p, mr, mem, n, true), IBV_WC_SUCCESS);
	CHECK(side_sum(&p->b, 0, n) == sum_bytes(mem, n));
}

static bool up(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	c.len = LEN;
	return pair_up(p, &c, &c);
}

/* ---- descriptors ---- */

static void c_close_low(struct pair *p)
{
	uint8_t *mem = anon(LEN);
	struct ibv_mr *mr, *more;

	REQUIRE(up(p) && mem && (mr = reg(p, mem, LEN, true)));
	/* What libibverbs itself has open (for events) goes, and is not needed here. */
	CHECK_INT(syscall(SYS_close_range, 3, 511, 0), 0);
	check_same(p, mr, mem, LEN, 1);
	CHECK_INT(madvise(mem, LEN, MADV_DONTNEED), 0);
	CHECK_INT(mem[100], 0);
	check_same(p, mr, mem, LEN, 3);
	more = reg(p, anon(LEN), LEN, false);
	if (more)
		check_same(p, more, more->addr, LEN, 5);
}

static void close_ways(int way)
{
	if (way == 0)
		CHECK_INT(close_range(3, ~0u, 0), 0);
	else if (way == 1)
		closefrom(3);
	else
		for (int fd = 3; fd < 4096; fd++)
			close(fd);
}

/* The C library's calls leave the device what it needs: all goes on. */
static void c_closing(struct pair *p)
{
	uint8_t *mem = anon(LEN);
	struct ibv_mr *mr, *more;

	REQUIRE(up(p) && mem && (mr = reg(p, mem, LEN, true)));
	for (int way = 0; way < 3 && !t_failures(); way++) {
		t_note("way %d", way);
		close_ways(way);
		check_same(p, mr, mem, LEN, 1);
		CHECK_INT(madvise(mem, LEN, MADV_DONTNEED), 0);
		CHECK_INT(mem[100], 0);
		check_same(p, mr, mem, LEN, 3);
		for (int odp = 0; odp < 2; odp++) {
			uint8_t *new = anon(LEN);

			REQUIRE((more = reg(p, new, LEN, odp)));
			check_same(p, more, new, LEN, 5);
			CHECK_ERRNO(ibv_dereg_mr(more), 0);
			munmap(new, LEN);
		}
	}
}

/* What is said on stderr from now on can be read there. */
static void listen_begin(void)
{
	int fd = memfd_create("stderr", 0);

	fflush(stderr);
	dup2(fd, 2);
}

static bool heard(const char *word)
{
	char text[4096] = "";

	return pread(2, text, sizeof(text) - 1, 0) > 0 && strstr(text, word);
}

/*
 * By system calls of the program's own, into what libodp has open. Memory that is
 * discarded reads as zeros; the device says that it is of no more use.
 */
static void check_lost(struct pair *p, const struct ibv_mr *mr, uint8_t *mem)
{
	uint64_t end = now_ms() + 20000;

	memset(mem, 5, LEN);
	CHECK_INT(madvise(mem, LEN, MADV_DONTNEED), 0);
	CHECK_INT(mem[100], 0);
	CHECK_INT(mem[LEN - 100], 0);
	CHECK(!ibv_reg_mr(p->a.pd, anon(LEN), LEN, ALL_ACCESS));
	CHECK_INT(errno, EIO);
	CHECK(heard("has closed"));
	CHECK(!ibv_alloc_pd(p->a.ctx));
	CHECK_INT(errno, EIO);
	/* What is posted ends: with an error, or as it would have. */
	while (move(p, mr, mem, LEN, true) == IBV_WC_SUCCESS && now_ms() < end)
		;
	CHECK(now_ms() < end);
}

static void c_close_mid(struct pair *p)
{
	uint8_t *mem = anon(LEN);
	struct ibv_mr *mr;

	REQUIRE(up(p) && mem && (mr = reg(p, mem, LEN, true)));
	listen_begin();
	CHECK_INT(syscall(SYS_close_range, 3, 1023, 0), 0);
	check_lost(p, mr, mem);
}

static void c_close_all(struct pair *p)
{
	uint8_t *mem = anon(LEN), *other = anon(LEN);
	struct ibv_mr *mr;

	REQUIRE(up(p) && mem && other && (mr = reg(p, mem, LEN, false)));
	listen_begin();
	CHECK_INT(syscall(SYS_close_range, 3, ~0u, 0), 0);
	memset(other, 9, LEN);
	CHECK(!ibv_reg_mr(p->a.pd, other, LEN, ALL_ACCESS));
	CHECK_INT(other[5], 9);
	check_lost(p, mr, mem);
	ibv_dereg_mr(mr);
}

/* The event comes, if its own descriptor is still open. */
static void c_close_one(struct pair *p)
{
	struct ibv_async_event event = {.event_type = -1};
	uint8_t *mem = anon(LEN);
	char path[32], target[64];
	struct ibv_mr *mr;

	REQUIRE(up(p) && mem && (mr = reg(p, mem, LEN, true)));
	listen_begin();
	for (int fd = 3; fd < 1024; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		if (strstr(target, "userfaultfd"))
			CHECK_INT(syscall(SYS_close, fd), 0);
	}
	check_lost(p, mr, mem);
	CHECK_INT(ibv_get_async_event(p->a.ctx, &event), 0);
	while (event.event_type == IBV_EVENT_QP_FATAL)
		CHECK_INT(ibv_get_async_event(p->a.ctx, &event), 0);
	CHECK_INT(event.event_type, IBV_EVENT_DEVICE_FATAL);
}

/* A file of the program's, LEN bytes long, in the place of descriptor FD. */
static void file_put(int fd)
{
	int file = (int)syscall(SYS_memfd_create, "user", 0);

	CHECK(file >= 0 && !ftruncate(file, LEN));
	CHECK_INT(dup2(file, fd), fd);
	syscall(SYS_close, file);
}

static void file_check(int fd)
{
	struct stat st;
	uint64_t word = 1;

	CHECK(!fstat(fd, &st));
	CHECK_INT(st.st_size, LEN);
	CHECK_INT(pread(fd, &word, sizeof(word), 0), sizeof(word));
	CHECK_INT(word, 0);
}

/* The descriptor whose name has WORD, -1. */
static int fd_named(const char *word)
{
	char path[32], target[64];

	for (int fd = 3; fd < 1024; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		if (strstr(target, word))
			return fd;
	}
	return -1;
}

/* Device memory whose descriptor was closed is not the file that has the number now. */
static void c_close_dm(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = 4096};
	struct ibv_dm *dm;
	uint32_t word = 5;
	int fd;

	REQUIRE(up(p));
	dm = ibv_alloc_dm(p->a.ctx, &a);
	REQUIRE(dm);
	closefrom(3);
	fd = fd_named("uodp-dm");
	REQUIRE(fd >= 0); /* kept */
	syscall(SYS_close, fd);
	file_put(fd);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 0, &word, sizeof(word)), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	file_check(fd);
}

/* A channel that was closed with all the rest: CQs that are armed have their pipe, and
 * write to nothing else. */
static void c_close_channel(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct stat st;

	c.channel = true;
	REQUIRE(pair_up(p, &c, &c));
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	closefrom(3);
	for (int fd = 3; fd < 1024; fd++)
		if (fstat(fd, &st))
			file_put(fd);
	for (int i = 0; i < 3; i++) {
		CHECK_ERRNO(ibv_req_notify_cq(p->a.scq, 0), 0);
		CHECK_ERRNO(ep_send(&p->a, &w), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	}
	CHECK_ERRNO(ep_modify(&p->a, IBV_QPS_ERR), 0);
	sleep_ms(20);
	CHECK_ERRNO(ibv_destroy_qp(p->a.qp), 0);
	CHECK_ERRNO(ibv_destroy_cq(p->a.scq), 0);
	p->a.qp = NULL;
	p->a.scq = NULL;
	for (int fd = 3; fd < 1024; fd++)
		if (!fstat(fd, &st) && st.st_size == LEN && S_ISREG(st.st_mode))
			file_check(fd);
}

/* ---- mappings ---- */

/* Shared with the parent: how far the case has come, from where a crash is the
 * program's own doing. */
static _Atomic int *own_fault;

static void own_fault_from_here(void)
{
	atomic_store(own_fault, 1);
}

static void c_unmap_private(struct pair *p)
{
	uint64_t start[64], end[64];
	uint8_t *mem = anon(LEN);
	char line[512];
	struct ibv_mr *mr;
	int n = 0;
	FILE *f;

	REQUIRE(up(p) && mem && (mr = reg(p, mem, LEN, true)));
	f = fopen("/proc/self/maps", "r");
	REQUIRE(f);
	while (n < 64 && fgets(line, sizeof(line), f))
		if (strstr(line, "memfd:uodp") &&
		    sscanf(line, "%lx-%lx", (long *)&start[n], (long *)&end[n]) == 2)
			n++;
	fclose(f);
	/* A crash is the program's own doing from here on; going on is not bad either. What
	 * it may not do is to come before, or to be anything but a missing page. */
	REQUIRE(n > 0);
	check_same(p, mr, mem, LEN, 3);
	own_fault_from_here();
	while (n--)
		munmap((void *)(uintptr_t)start[n], end[n] - start[n]);
	move(p, mr, mem, LEN, false);
	_exit(0);
}

/* ---- signal handlers ---- */

static uint8_t *handler_mem;
static _Atomic unsigned handler_turns;

static void handler_later(void)
{
	struct itimerval soon = {{0, 0}, {0, 150}};

	setitimer(ITIMER_REAL, &soon, NULL);
}

/* The next time counts from the end: on a busy machine the page may take longer. */
static void handler(int sig)
{
	unsigned n = atomic_fetch_add(&handler_turns, 1);

	(void)sig;
	handler_mem[n * 7 % 64 * PAGE] ^= 1;
	handler_later();
}

/* Takes the pages away, again and again. */
static void *discarder(void *arg)
{
	_Atomic bool *stop = arg;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (!atomic_load(stop)) {
		madvise(handler_mem, LEN, MADV_DONTNEED);
		usleep(50);
	}
	return NULL;
}

static void c_handler(struct pair *p)
{
	struct itimerval off = {{0, 0}, {0, 0}};
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART};
	_Atomic bool stop = false;
	uint64_t end = now_ms() + CASE_S * 500;
	unsigned turns = 0;
	pthread_t thread;
	struct ibv_mr *mr;

	handler_mem = anon(LEN);
	REQUIRE(up(p) && handler_mem && (mr = reg(p, handler_mem, LEN, true)));
	REQUIRE(!pthread_create(&thread, NULL, discarder, &stop));
	sigaction(SIGALRM, &sa, NULL);
	handler_later();
	for (; turns < 300 || atomic_load(&handler_turns) < 300; turns++) {
		void *heap = malloc(200000);
		uint8_t *mem = anon(8 * PAGE);
		struct ibv_mr *small = reg(p, mem, 8 * PAGE, turns & 1);

		CHECK_STATUS(move(p, mr, handler_mem, LEN, turns & 2), IBV_WC_SUCCESS);
		CHECK_ERRNO(ibv_dereg_mr(small), 0);
		munmap(mem, 8 * PAGE);
		free(heap);
		if (now_ms() > end || t_failures())
			break;
	}
	setitimer(ITIMER_REAL, &off, NULL);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	CHECK(turns > 10 && atomic_load(&handler_turns) > 10);
}

/* ---- limits ---- */

static bool locks_anything(void)
{
	return geteuid() == 0; /* CAP_IPC_LOCK */
}

static void c_limits(struct pair *p)
{
	const int which[] = {RLIMIT_MEMLOCK, RLIMIT_NOFILE, RLIMIT_AS};
	uint8_t *mem = anon(LEN);
	struct ibv_mr *mr, *more;
	struct rlimit old, low;

	REQUIRE(up(p) && mem && (mr = reg(p, mem, LEN, true)));
	for (int i = 0; i < 3 && !t_failures(); i++) {
		t_note("limit %d", i);
		getrlimit(which[i], &old);
		low = (struct rlimit){i == 1 ? 3 : i == 2 ? 1 << 20 : 0, old.rlim_max};
		CHECK_INT(setrlimit(which[i], &low), 0);
		/* What is registered goes on. */
		check_same(p, mr, mem, LEN, (uint64_t)i);
		CHECK_INT(madvise(mem, LEN, MADV_DONTNEED), 0);
		CHECK_INT(mem[3 * PAGE], 0);
		errno = 0;
		more = ibv_reg_mr(p->a.pd, mem, LEN, ALL_ACCESS);
		if (!more)
			CHECK(errno == ENOMEM || errno == EMFILE);
		if (!i && !locks_anything())
			CHECK(!more);
		if (more)
			check_same(p, more, mem, LEN, 50);
		if (more)
			CHECK_ERRNO(ibv_dereg_mr(more), 0);
		CHECK_INT(setrlimit(which[i], &old), 0);
		more = reg(p, mem, LEN, false);
		if (more) {
			check_same(p, more, mem, LEN, 60);
			CHECK_ERRNO(ibv_dereg_mr(more), 0);
		}
	}
}

/* ---- the program's own userfaultfd ---- */

static void c_own_uffd(struct pair *p)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register r = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	uint8_t *mem = anon(LEN);
	struct ibv_mr *mr;

	REQUIRE(up(p) && mem);
	memset(mem, 1, LEN);
	r.range.start = (uintptr_t)mem;
	r.range.len = LEN;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &r)) {
		t_skip("no userfaultfd");
		return;
	}
	for (int odp = 0; odp < 2; odp++) {
		REQUIRE((mr = reg(p, mem, LEN, odp)));
		check_same(p, mr, mem, LEN, 8 + (uint64_t)odp);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	}
}

/* ---- events that come by a way that libodp never saw ---- */

/* A's memory through MR, page N: its first byte, or -1. */
static int seen(struct pair *p, const struct ibv_mr *mr, uint8_t *mem, uint32_t n)
{
	side_fill(&p->b, 0, 8, 99);
	if (move(p, mr, mem + n * PAGE, 8, false) != IBV_WC_SUCCESS)
		return -1;
	return (int)(side_get(&p->b, 0) & 0xff);
}

static void child_cut(int fd, off_t to, off_t back)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(ftruncate(fd, to) || ftruncate(fd, back));
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
}

/* The file's other mapping, which was never registered, and another process: an
 * on-demand region follows, a pinned one keeps what it has. */
static void c_unknown(struct pair *p)
{
	int fd = memfd_create("unknown", MFD_CLOEXEC);
	uint8_t *mem, *other;
	struct ibv_mr *mr[2];

	REQUIRE(up(p) && fd >= 0 && !ftruncate(fd, LEN));
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	other = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(mem != MAP_FAILED && other != MAP_FAILED);
	memset(other, 3, LEN);
	REQUIRE((mr[0] = reg(p, mem, LEN, true)) && (mr[1] = reg(p, mem, LEN, false)));
	CHECK_INT(seen(p, mr[0], mem, 5), 3);
	CHECK_INT(madvise(other + 5 * PAGE, PAGE, MADV_REMOVE), 0);
	CHECK_INT(seen(p, mr[0], mem, 5), 0);
	CHECK_INT(seen(p, mr[1], mem, 5), 3);
	child_cut(fd, 8 * PAGE, LEN);
	CHECK_INT(seen(p, mr[0], mem, 9), 0);
	CHECK_INT(seen(p, mr[1], mem, 9), 3);
	other[9 * PAGE] = 4;
	CHECK_INT(seen(p, mr[0], mem, 9), 4);
	CHECK_INT(seen(p, mr[1], mem, 9), 3);
	/* It goes; this one stays. */
	CHECK_INT(munmap(other, LEN), 0);
	CHECK_INT(seen(p, mr[0], mem, 9), 4);
	CHECK_INT(seen(p, mr[0], mem, 1), 3);
	CHECK_ERRNO(ibv_dereg_mr(mr[0]), 0);
	CHECK_ERRNO(ibv_dereg_mr(mr[1]), 0);
}

/* Private memory, by system calls that no library sees. */
static void c_unseen(struct pair *p)
{
	uint8_t *mem = anon(LEN), *away = anon(PAGE);
	struct ibv_mr *mr[2];

	REQUIRE(up(p) && mem && away);
	memset(mem, 3, LEN);
	REQUIRE((mr[0] = reg(p, mem, LEN, true)) && (mr[1] = reg(p, mem, LEN, false)));
	CHECK_INT(syscall(SYS_madvise, mem, PAGE, MADV_DONTNEED), 0);
	CHECK_INT(mem[0], 0);
	CHECK_INT(seen(p, mr[0], mem, 0), 0);
	CHECK_INT(syscall(SYS_munmap, mem + 2 * PAGE, PAGE), 0);
	CHECK_INT(seen(p, mr[1], mem, 2), 3);
	CHECK(syscall(SYS_mremap, mem + 4 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		      away) == (long)away);
	CHECK_INT(away[0], 3);
	CHECK_INT(seen(p, mr[1], mem, 4), 3);
	CHECK((void *)syscall(SYS_mmap, mem + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == mem + 4 * PAGE);
	mem[4 * PAGE] = 6;
	CHECK_INT(seen(p, mr[0], mem, 4), 6);
	CHECK_INT(seen(p, mr[1], mem, 4), 3);
	CHECK_INT(away[0], 3);
	/* The page that is gone, last: the queue pair does not survive it. */
	CHECK_INT(seen(p, mr[0], mem, 2), -1);
	CHECK_ERRNO(ibv_dereg_mr(mr[0]), 0);
	CHECK_ERRNO(ibv_dereg_mr(mr[1]), 0);
}

/* ---- core dumps ---- */

/* Will ADDR be left out? */
static bool dump_left_out(const void *addr)
{
	unsigned long start, end, at = (unsigned long)addr;
	FILE *f = fopen("/proc/self/smaps", "r");
	bool here = false, out = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %*4s", &start, &end) == 2)
			here = start <= at && at < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			out = strstr(line, " dd");
	}
	if (f)
		fclose(f);
	return out;
}

/* What is said of memory before it is registered holds, and what is said after. */
static void c_dump(struct pair *p)
{
	uint8_t *mem = anon(LEN), *secret = anon(LEN);
	struct ibv_mr *mr;

	REQUIRE(up(p) && mem && secret);
	CHECK_INT(madvise(secret, LEN, MADV_DONTDUMP), 0);
	for (int odp = 0; odp < 2; odp++) {
		t_note("%s", odp ? "on demand" : "pinned");
		REQUIRE((mr = reg(p, mem, LEN, odp)));
		CHECK(!dump_left_out(mem + PAGE));
		check_same(p, mr, mem, LEN, 1);
		CHECK_INT(madvise(mem + PAGE, PAGE, MADV_DONTDUMP), 0);
		CHECK(dump_left_out(mem + PAGE) && !dump_left_out(mem) &&
		      !dump_left_out(mem + 2 * PAGE));
		check_same(p, mr, mem, LEN, 3);
		CHECK_INT(madvise(mem, LEN, MADV_DODUMP), 0);
		CHECK(!dump_left_out(mem + PAGE));
		check_same(p, mr, mem, LEN, 5);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	}
	REQUIRE((mr = reg(p, secret, LEN, true)));
	check_same(p, mr, secret, LEN, 7);
	CHECK(dump_left_out(secret) && dump_left_out(secret + LEN - 1));
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
}

/* ---- ordinary system calls on registered memory ---- */

/* MEM, of which no page is there, is filled and read by system calls. */
static void calls_on(struct pair *p, const struct ibv_mr *mr, uint8_t *mem)
{
	char name[] = "./abuse.XXXXXX";
	int fd = mkstemp(name), direct, fds[2], status;
	uint8_t *copy = anon(LEN);
	struct iovec iov[2] = {{mem, LEN / 2}, {mem + LEN / 2, LEN / 2}};
	struct iovec there = {mem, LEN}, here = {copy, LEN};
	pid_t pid, parent = getpid();

	REQUIRE(fd >= 0 && copy && !pipe(fds));
	fill_bytes(copy, LEN, 21);
	CHECK_INT(pwrite(fd, copy, LEN, 0), LEN);
	CHECK_INT(pread(fd, mem, LEN, 0), LEN);
	CHECK(!memcmp(mem, copy, LEN));
	CHECK_STATUS(move(p, mr, mem, LEN, false), IBV_WC_SUCCESS);
	CHECK(side_sum(&p->b, 0, LEN) == sum_bytes(copy, LEN));

	madvise(mem, LEN, MADV_DONTNEED);
	CHECK_INT(preadv(fd, iov, 2, 0), LEN);
	CHECK(!memcmp(mem, copy, LEN));
	side_fill(&p->b, 0, LEN, 22);
	CHECK_STATUS(move(p, mr, mem, LEN, true), IBV_WC_SUCCESS);

	/* Through the pages themselves, by the disk, both ways. */
	madvise(mem, LEN, MADV_DONTNEED);
	direct = open(name, O_RDWR | O_DIRECT);
	if (direct >= 0) {
		CHECK_INT(pread(direct, mem, LEN, 0), LEN);
		CHECK(!memcmp(mem, copy, LEN));
		fill_bytes(mem, LEN, 23);
		CHECK_INT(pwritev(direct, iov, 2, 0), LEN);
		CHECK_INT(pread(direct, copy, LEN, 0), LEN);
		CHECK(!memcmp(mem, copy, LEN));
		close(direct);
	}
	unlink(name);
	close(fd);

	/* Another process looks, and a debugger does, at a missing page too. */
	madvise(mem + PAGE, PAGE, MADV_DONTNEED);
	memset(copy + PAGE, 0, PAGE);
	pid = fork();
	if (!pid) {
		uint8_t *got = anon(LEN);
		long word;

		here.iov_base = got;
		if (process_vm_readv(parent, &here, 1, &there, 1, 0) != LEN ||
		    memcmp(got, copy, LEN))
			_exit(1);
		if (ptrace(PTRACE_ATTACH, parent, NULL, NULL))
			_exit(3); /* not allowed here */
		if (waitpid(parent, NULL, __WALL) != parent)
			_exit(4);
		word = ptrace(PTRACE_PEEKDATA, parent, mem, NULL);
		ptrace(PTRACE_DETACH, parent, NULL, NULL);
		_exit(memcmp(&word, copy, sizeof(word)) ? 2 : 0);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK(status == 0 || status == 3 << 8);
	CHECK_INT(mlock(mem, LEN), 0);
	CHECK(!memcmp(mem, copy, LEN));
	CHECK_INT(munlock(mem, LEN), 0);
	munmap(copy, LEN);
}

static void c_calls(struct pair *p)
{
	REQUIRE(up(p));
	for (int odp = 0; odp < 2; odp++) {
		uint8_t *mem = anon(LEN);
		/* Pinned pages part from what DONTNEED leaves: then nothing is compared. */
		struct ibv_mr *mr = reg(p, mem, LEN, true),
			      *pin = odp ? NULL : reg(p, mem, LEN, false);

		REQUIRE(mr);
		t_note("%s", odp ? "on demand" : "pinned as well");
		calls_on(p, mr, mem);
		if (pin)
			CHECK_ERRNO(ibv_dereg_mr(pin), 0);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	}
}

/* ---- advice: as for memory that was never registered ---- */

static void c_advice(struct pair *p)
{
	static const struct {
		int advice;
		const char *name;
	} all[] = {
		{MADV_NORMAL, "NORMAL"},       {MADV_RANDOM, "RANDOM"},
		{MADV_SEQUENTIAL, "SEQ"},      {MADV_WILLNEED, "WILLNEED"},
		{MADV_FREE, "FREE"},           {MADV_HUGEPAGE, "HUGEPAGE"},
		{MADV_NOHUGEPAGE, "NOHUGE"},   {MADV_MERGEABLE, "MERGEABLE"},
		{MADV_UNMERGEABLE, "UNMERGE"}, {MADV_DONTDUMP, "DONTDUMP"},
		{MADV_DODUMP, "DODUMP"},       {MADV_COLD, "COLD"},
		{MADV_PAGEOUT, "PAGEOUT"},     {MADV_DONTFORK, "DONTFORK"},
		{MADV_DOFORK, "DOFORK"},       {MADV_DONTNEED, "DONTNEED"},
	};
	uint8_t *plain = anon(LEN), *mem = anon(LEN);
	struct ibv_mr *mr;

	REQUIRE(up(p) && (mr = reg(p, mem + LEN / 4, LEN / 2, true)));
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		int want, got, want_errno, got_errno;

		memset(plain, 1, LEN);
		memset(mem, 1, LEN);
		t_note("MADV_%s", all[i].name);
		errno = 0;
		want = madvise(plain, LEN, all[i].advice);
		want_errno = errno;
		errno = 0;
		got = madvise(mem, LEN, all[i].advice);
		got_errno = errno;
		CHECK_INT(got, want);
		CHECK_ERRNO(got_errno, want_errno);
		if (all[i].advice != MADV_DONTNEED && all[i].advice != MADV_FREE)
			CHECK_INT(mem[LEN / 2], 1);
		check_same(p, mr, mr->addr, LEN / 2, i);
	}
}

/* ---- many small regions over one heap ---- */

static int maps_count(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	int c, n = 0;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static void c_many(struct pair *p)
{
	enum { MANY = 20000, STEP = 8192 };
	struct ibv_mr **mr = calloc(MANY, sizeof(struct ibv_mr *));
	uint8_t *heap = anon((size_t)MANY * STEP);
	int before = maps_count(), i;

	REQUIRE(up(p) && heap && mr);
	for (i = 0; i < MANY && !t_failures(); i++) {
		uint8_t *at = heap + (size_t)((long)i * 7919 % MANY) * STEP;

		*at = (uint8_t)i;
		mr[i] = reg(p, at, 64, i & 1);
	}
	CHECK(maps_count() - before < 8000);
	for (i = 0; i < MANY && !t_failures(); i += 97) {
		CHECK_INT(*(uint8_t *)mr[i]->addr, (uint8_t)i);
		check_same(p, mr[i], mr[i]->addr, 64, (uint64_t)i);
	}
	for (i = 0; i < MANY; i++)
		if (mr[i])
			ibv_dereg_mr(mr[i]);
}

/* ---- the heap ---- */

static void c_realloc(struct pair *p)
{
	size_t size = 1 << 20, next;
	uint8_t *buf = malloc(size);
	struct ibv_mr *mr;
	uint64_t sum;

	REQUIRE(up(p) && buf);
	for (int i = 0; i < 6 && !t_failures(); i++, size = next) {
		fill_bytes(buf, size, (uint64_t)i);
		sum = sum_bytes(buf, size);
		REQUIRE((mr = reg(p, buf, size, i & 1)));
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		next = size * 2 + 12345;
		buf = realloc(buf, next);
		REQUIRE(buf);
		CHECK(sum_bytes(buf, size) == sum);
		/* Fresh pages of a large block are zero. */
		for (size_t at = (size + 2 * PAGE) & ~(size_t)(PAGE - 1); at + PAGE < next;
		     at += PAGE)
			if (!CHECK_INT(buf[at], 0))
				break;
	}
	free(buf);
}

/* The program's break goes down, and up again, under a region. */
static void c_brk(struct pair *p)
{
	uint8_t *top = sbrk(LEN);
	struct ibv_mr *odp, *pin;
	uint64_t sum;

	REQUIRE(up(p));
	top = sbrk(0);
	REQUIRE(sbrk(LEN) == top);
	top = (uint8_t *)(((uintptr_t)top + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
	fill_bytes(top, LEN / 2, 4);
	sum = sum_bytes(top, LEN / 2);
	REQUIRE((odp = reg(p, top, LEN / 2, true)) && (pin = reg(p, top, LEN / 2, false)));
	REQUIRE(sbrk(-(long)LEN) != (void *)-1);
	CHECK_STATUS(move(p, pin, top, LEN / 2, false), IBV_WC_SUCCESS);
	CHECK(side_sum(&p->b, 0, LEN / 2) == sum);
	REQUIRE(sbrk(LEN) != (void *)-1);
	CHECK_INT(top[PAGE], 0);
	check_same(p, odp, top, LEN / 2, 9);
	CHECK_STATUS(move(p, pin, top, LEN / 2, false), IBV_WC_SUCCESS);
	CHECK(side_sum(&p->b, 0, LEN / 2) == sum);
}

/* ---- each case in its own process ---- */

static const struct tcase cases[] = {
	{"close-low", c_close_low, HERE},
	{"closing", c_closing, HERE},
	{"close-mid", c_close_mid, HERE},
	{"close-all", c_close_all, HERE},
	{"close-one", c_close_one, HERE},
	{"close-shared", c_close_one, PEER},
	{"close-dm", c_close_dm, HERE},
	{"close-channel", c_close_channel, HERE},
	{"unmap-private", c_unmap_private, HERE},
	{"handler", c_handler, HERE},
	{"limits", c_limits, HERE},
	{"own-uffd", c_own_uffd, HERE},
	{"calls", c_calls, HERE},
	{"advice", c_advice, HERE},
	{"unknown", c_unknown, HERE},
	{"unseen", c_unseen, HERE},
	{"dump", c_dump, HERE},
	{"many", c_many, HERE},
	{"realloc", c_realloc, HERE},
	{"brk", c_brk, HERE},
};

/* As an ordinary access to what was unmapped ends: no abort, no other signal. */
static bool may_crash(int sig)
{
	return (sig == SIGSEGV || sig == SIGBUS) && atomic_load(own_fault);
}

/* Its exit status; a crash that is its own fault counts as success. */
static int case_run(const char *self, const char *name)
{
	int status = 0;
	pid_t pid;

	atomic_store(own_fault, 0);
	pid = fork();
	if (!pid) {
		setenv("ABUSE_CASE", name, 1);
		execl(self, self, name, NULL);
		_exit(127);
	}
	for (uint64_t end = now_ms() + CASE_S * 1000; !waitpid(pid, &status, WNOHANG);) {
		if (now_ms() > end) {
			printf("FAIL %s: hangs\n", name);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return 1;
		}
		sleep_ms(5);
	}
	if (WIFSIGNALED(status) && may_crash(WTERMSIG(status))) {
		printf("ok   %s: ended by signal %d\n", name, WTERMSIG(status));
		return 0;
	}
	if (WIFSIGNALED(status))
		printf("FAIL %s: ended by signal %d\n", name, WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* In a memfd that the cases' processes have inherited: ABUSE_FD names it. */
static bool own_fault_map(void)
{
	const char *named = getenv("ABUSE_FD");
	int fd = named ? atoi(named) : memfd_create("abuse", 0);
	char text[16];
	void *p;

	if (!named) {
		fd = fcntl(fd, F_DUPFD, 500);
		snprintf(text, sizeof(text), "%d", fd);
		setenv("ABUSE_FD", text, 1);
		if (ftruncate(fd, PAGE))
			return false;
	}
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	own_fault = p;
	return p != MAP_FAILED;
}

int main(int argc, char **argv)
{
	int failed = 0, ret;

	if (!own_fault_map())
		return 1;
	if (getenv("ABUSE_CASE"))
		return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (argc > 1 && !strstr(cases[i].name, argv[1]))
			continue;
		ret = case_run("/proc/self/exe", cases[i].name);
		failed += ret != 0 && ret != 77;
	}
	printf("%d cases failed\n", failed);
	return failed ? 1 : 0;
}
