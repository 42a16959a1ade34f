/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the owner of an area does to it: events, and the CPU's own accesses. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storm.h"

/* Far from where mmap looks first: what an event leaves unmapped for a moment
 * stays free. A sanitizer's own memory is elsewhere. */
#if defined(__SANITIZE_ADDRESS__)
#define AREA_BASE 0x200000000000ull
#else
#define AREA_BASE 0x4000000000ull
#endif
#define AREA_STRIDE 0x10000000ull
#define AWAY 0x8000000ull

struct area areas[AREAS];

/* Held for reading by who touches an area, for writing while it may not be touched. */
static pthread_rwlock_t touch[AREAS];
static uint64_t seed_owner, step;

static const struct {
	enum view view;
	int access;
} mr_kinds[MRS] = {
	[MR_ALL] = {LIVE, IBV_ACCESS_ON_DEMAND},
	[MR_ODP] = {LIVE, IBV_ACCESS_ON_DEMAND},
	[MR_PIN_A] = {PIN_A, 0},
	[MR_PIN_B] = {PIN_B, 0},
};

static char *page_addr(const struct area *a, uint32_t p)
{
	return a->addr + p * PAGE;
}

static int map_flags(const struct area *a)
{
	switch (a->kind) {
	case PRIVATE:
		return MAP_PRIVATE | MAP_ANONYMOUS;
	case SHARED:
		return MAP_SHARED | MAP_ANONYMOUS;
	default:
		return MAP_SHARED;
	}
}

static void *pages_map(const struct area *a, uint32_t p, uint32_t n, int flags)
{
	return mmap(page_addr(a, p), n * PAGE, PROT_READ | PROT_WRITE, map_flags(a) | flags, a->fd,
		    a->fd < 0 ? 0 : (off_t)(p * PAGE));
}

/* ---- Regions ---- */

static void mr_register(struct area *a, enum mr_nr i, uint32_t start, uint32_t end)
{
	struct area_ctl *c = area_of(a->at);
	struct mr_ctl *mr = &c->mr[i];
	enum view view = mr_kinds[i].view;

	a->mr[i] = ibv_reg_mr(dev.pd, a->addr + start * 8, (end - start) * 8,
			      mr_kinds[i].access | IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
				      IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC);
	if (!a->mr[i])
		die("ibv_reg_mr");
	for (uint32_t p = 0; view != LIVE && p < PAGES; p++)
		atomic_store(&c->page[p].obj[view], p >= start / WORDS && p <= (end - 1) / WORDS
							    ? atomic_load(&c->page[p].obj[LIVE])
							    : 0);
	atomic_store(&mr->rkey, a->mr[i]->rkey);
	atomic_store(&mr->start, start);
	atomic_store(&mr->end, end);
	atomic_fetch_add(&mr->seq, 1);
}

static int ev_register(struct area *a, uint32_t p, uint32_t n)
{
	struct area_ctl *c = area_of(a->at);
	enum mr_nr i = MR_ODP + rng_below(&seed_owner, MRS - MR_ODP);
	uint32_t start = p * WORDS + rng_below(&seed_owner, WORDS);
	uint32_t end = start + WORDS + n * rng_below(&seed_owner, 2 * WORDS);

	atomic_fetch_add(&c->mr[i].seq, 1);
	for (uint32_t q = 0; mr_kinds[i].view != LIVE && q < PAGES; q++)
		atomic_store(&c->page[q].obj[mr_kinds[i].view], 0);
	errno = ibv_dereg_mr(a->mr[i]);
	if (errno)
		die("ibv_dereg_mr");
	if (end > AREA_WORDS)
		end = AREA_WORDS;
	/* Before the key is there: what is written by it carries the new number. */
	atomic_fetch_add(&c->mr[i].gen, 1);
	mr_register(a, i, start, end);
	return (int)i;
}

/* ---- Another process, which has the file too ---- */

struct cut_order {
	int64_t from, to; /* bytes; TO 0: cut there, else punch up to there */
};

static int helper_fd = -1, file_fd = -1;

static void helper_main(int fd)
{
	struct cut_order cut;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(fd, &cut, sizeof(cut)) == sizeof(cut)) {
		err = cut.to ? fallocate(file_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 cut.from, cut.to - cut.from)
			     : ftruncate(file_fd, cut.from);
		err = err ? errno : 0;
		if (write(fd, &err, sizeof(err)) != sizeof(err))
			break;
	}
	_exit(0);
}

/* Before the device is opened. */
void helper_start(void)
{
	int fds[2];
	pid_t pid;

	file_fd = memfd_create("storm", MFD_CLOEXEC);
	if (file_fd < 0 || ftruncate(file_fd, PAGES * PAGE))
		die("memfd_create");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		die("socketpair");
	pid = fork();
	if (!pid) {
		close(fds[0]);
		helper_main(fds[1]);
	}
	if (pid < 0)
		die("fork of the helper");
	close(fds[1]);
	helper_fd = fds[0];
}

void areas_open(void)
{
	for (uint32_t i = 0; i < AREAS; i++) {
		struct area *a = &areas[i];
		struct area_ctl *c;

		a->at = (struct place){self, i};
		a->kind = (enum kind)i;
		a->fd = -1;
		a->addr = (char *)(uintptr_t)(AREA_BASE + i * AREA_STRIDE);
		if (a->kind == MEMFD)
			a->fd = file_fd;
		if (pages_map(a, 0, PAGES, MAP_FIXED_NOREPLACE) != a->addr)
			die("mmap of an area");
		c = area_of(a->at);
		atomic_store(&c->addr, (uintptr_t)a->addr);
		for (uint32_t p = 0; p < PAGES; p++) {
			atomic_store(&c->page[p].obj[LIVE], 1 << 8);
			atomic_store(&c->page[p].version[0], 1);
		}
		for (int m = MR_ALL; m < MRS; m++) {
			atomic_store(&c->mr[m].seq, 1);
			atomic_store(&c->mr[m].gen, 1);
			mr_register(a, (enum mr_nr)m, 0, AREA_WORDS);
		}
		pthread_rwlock_init(&touch[i], NULL);
	}
}

/*
 * ---- The CPU's accesses: not torn, and while the pages are mapped anew, which a
 * sanitizer would take for a race. ----
 */
#define RACY __attribute__((noinline, no_sanitize("thread")))

RACY static void cpu_read(const struct area *a, uint32_t w0, uint32_t n, uint64_t *words)
{
	_Atomic uint64_t *p = (_Atomic uint64_t *)(void *)a->addr + w0;

	for (uint32_t i = 0; i < n; i++)
		words[i] = atomic_load_explicit(&p[i], memory_order_acquire);
}

static void cpu_check(const struct area *a, uint32_t w0, uint32_t n, const char *who)
{
	static _Thread_local uint64_t words[8 * WORDS];
	static _Thread_local uint32_t acked[8 * WORDS];
	struct range r = {.at = a->at, .view = LIVE, .w0 = w0, .n = n < 8 * WORDS ? n : 8 * WORDS};

	range_see(&r);
	range_floor(&r, acked);
	cpu_read(a, r.w0, r.n, words);
	range_check(&r, acked, words, who);
}

RACY static void cpu_store(const struct area *a, uint32_t w0, uint32_t n, uint32_t number)
{
	_Atomic uint64_t *p = (_Atomic uint64_t *)(void *)a->addr + w0;

	for (uint32_t i = 0; i < n; i++)
		atomic_store_explicit(&p[i], word_make(a->at, w0 + i, LIVE, 0, number),
				      memory_order_release);
}

static void cpu_write(const struct area *a, uint32_t w0, uint32_t n, uint32_t number)
{
	struct range r = {.at = a->at, .view = LIVE, .w0 = w0, .n = n};

	range_post(&r, number);
	cpu_store(a, w0, n, number);
	range_acked(&r, number);
}

static uint32_t cpu_pages(uint32_t *n)
{
	uint32_t p = 0, first;

	while (page_role(p) != BY_CPU)
		p++;
	for (first = p; page_role(p) == BY_CPU; p++)
		;
	*n = p - first;
	return first;
}

void *toucher_main(void *arg)
{
	uint64_t seed = ctl->seed * 31 + self * 4 + 2;
	uint32_t number = 0, n, pages, first = cpu_pages(&pages);

	(void)arg;
	while (!atomic_load(&ctl->stop)) {
		uint32_t i = rng_below(&seed, AREAS), w;

		if (pthread_rwlock_tryrdlock(&touch[i])) {
			sched_yield();
			continue;
		}
		n = 1 + rng_below(&seed, 600);
		w = first * WORDS + rng_below(&seed, pages * WORDS - n);
		cpu_write(&areas[i], w, n, ++number);
		n = 1 + rng_below(&seed, 1500);
		w = rng_below(&seed, AREA_WORDS - n);
		cpu_check(&areas[i], w, n, "the CPU");
		pthread_rwlock_unlock(&touch[i]);
		atomic_fetch_add_explicit(&ctl->proc[self].cpu, 1, memory_order_relaxed);
		usleep(rng_below(&seed, 500));
	}
	return NULL;
}

/* ---- Events. Each returns what is remembered of it: 0, or what it did ---- */

static void linger(void)
{
	uint64_t end = now_ns() + rng_below(&seed_owner, 60000);

	if (!rng_below(&seed_owner, 4))
		while (now_ns() < end)
			;
}

/* Every fourth time by the helper. */
static int file_cut(const struct area *a, int64_t from, int64_t to)
{
	struct cut_order cut = {from, to};
	int err;

	if (rng_below(&seed_owner, 4))
		return to ? fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
				      to - from)
			  : ftruncate(a->fd, from);
	if (write(helper_fd, &cut, sizeof(cut)) != sizeof(cut) ||
	    read(helper_fd, &err, sizeof(err)) != sizeof(err))
		die("the helper");
	errno = err;
	return err ? -1 : 0;
}

static int ev_dontneed(struct area *a, uint32_t p, uint32_t n)
{
	bool private = a->kind == PRIVATE;

	if (private)
		objects_begin(a->at, p, n);
	if (madvise(page_addr(a, p), n * PAGE, MADV_DONTNEED))
		die("MADV_DONTNEED");
	if (private)
		objects_end(a->at, p, n);
	return 0;
}

static int ev_punch(struct area *a, uint32_t p, uint32_t n)
{
	if (a->kind == PRIVATE)
		return -1;
	objects_begin(a->at, p, n);
	if (a->kind == SHARED ? madvise(page_addr(a, p), n * PAGE, MADV_REMOVE)
			      : file_cut(a, p * PAGE, (p + n) * PAGE))
		die("hole punch");
	objects_end(a->at, p, n);
	return 0;
}

static int ev_truncate(struct area *a, uint32_t p, uint32_t n)
{
	if (a->kind != MEMFD)
		return -1;
	objects_begin(a->at, p, n);
	window_begin(a->at, p, n);
	if (file_cut(a, p * PAGE, 0))
		die("ftruncate");
	linger();
	if (ftruncate(a->fd, (off_t)(PAGES * PAGE)))
		die("ftruncate");
	window_end(a->at, p, n);
	objects_end(a->at, p, n);
	return 0;
}

static int ev_map_over(struct area *a, uint32_t p, uint32_t n)
{
	bool new = a->kind != MEMFD;

	if (new)
		objects_begin(a->at, p, n);
	if (pages_map(a, p, n, MAP_FIXED) == MAP_FAILED)
		die("map-over");
	if (new)
		objects_end(a->at, p, n);
	return 0;
}

static int ev_unmap(struct area *a, uint32_t p, uint32_t n)
{
	bool new = a->kind != MEMFD;

	if (new)
		objects_begin(a->at, p, n);
	window_begin(a->at, p, n);
	if (munmap(page_addr(a, p), n * PAGE))
		die("munmap");
	linger();
	if (pages_map(a, p, n, MAP_FIXED_NOREPLACE) == MAP_FAILED)
		die("mmap after munmap");
	window_end(a->at, p, n);
	if (new)
		objects_end(a->at, p, n);
	return 0;
}

/* Page by page: a range may by now be many mappings. */
static int ev_move(struct area *a, uint32_t p, uint32_t n)
{
	window_begin(a->at, p, n);
	for (uint32_t i = p; i < p + n; i++)
		if (mremap(page_addr(a, i), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   page_addr(a, i) + AWAY) == MAP_FAILED)
			die("mremap away");
	linger();
	for (uint32_t i = p; i < p + n; i++)
		if (mremap(page_addr(a, i) + AWAY, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   page_addr(a, i)) == MAP_FAILED)
			die("mremap back");
	window_end(a->at, p, n);
	return 0;
}

static int ev_protect(struct area *a, uint32_t p, uint32_t n)
{
	int prot = rng_below(&seed_owner, 2) ? PROT_NONE : PROT_READ;

	window_begin(a->at, p, n);
	if (mprotect(page_addr(a, p), n * PAGE, prot))
		die("mprotect");
	linger();
	if (mprotect(page_addr(a, p), n * PAGE, PROT_READ | PROT_WRITE))
		die("mprotect back");
	window_end(a->at, p, n);
	return prot;
}

/* As realloc does: the mapping loses its end, and grows again where it is. */
static int ev_shrink_grow(struct area *a, uint32_t p, uint32_t n)
{
	bool new = a->kind == PRIVATE;
	int ret = 0;

	if (a->kind == SHARED || p == 0)
		return -1; /* parts of it are as large as they are */
	if (new)
		objects_begin(a->at, p, n);
	window_begin(a->at, p, n);
	if (munmap(page_addr(a, p), n * PAGE))
		die("munmap of the end");
	linger();
	if (mremap(page_addr(a, p - 1), PAGE, (n + 1) * PAGE, 0) == MAP_FAILED) {
		ret = errno;
		if (pages_map(a, p, n, MAP_FIXED_NOREPLACE) == MAP_FAILED)
			die("mmap of the end");
	}
	window_end(a->at, p, n);
	if (new)
		objects_end(a->at, p, n);
	return ret;
}

static int ev_advise(struct area *a, uint32_t p, uint32_t n)
{
	struct ibv_sge sge = {(uintptr_t)page_addr(a, p), (uint32_t)(n * PAGE),
			      a->mr[MR_ALL]->lkey};

	return ibv_advise_mr(dev.pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_ADVISE_MR_FLAG_FLUSH,
			     &sge, 1);
}

/* Nothing is lost by it, and no access fails. */
static int ev_cold(struct area *a, uint32_t p, uint32_t n)
{
	int advice = rng_below(&seed_owner, 2) ? MADV_COLD : MADV_PAGEOUT;

	if (madvise(page_addr(a, p), n * PAGE, advice))
		die("MADV_COLD or MADV_PAGEOUT");
	return advice;
}

/* ---- fork ---- */

/* A child that executes another program, in each of the ways. */
static int ev_spawn(struct area *a, uint32_t p, uint32_t n)
{
	static char *const argv[] = {"true", NULL};
	uint32_t how = rng_below(&seed_owner, 3);
	int status = -1;
	pid_t pid = -1;

	(void)a, (void)p, (void)n;
	if (how == 0)
		errno = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	else
		pid = how == 1 ? vfork() : fork();
	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		die("a child that executes another program");
	return (int)how;
}

static uint64_t child_first[AREA_WORDS], child_second[AREA_WORDS];
static uint32_t child_acked[AREAS][AREA_WORDS];
static struct range child_range[AREAS];

static void child_area(const struct area *a)
{
	struct timespec nap = {0, 1000000};

	cpu_read(a, 0, AREA_WORDS, child_first);
	range_check(&child_range[a->at.area], child_acked[a->at.area], child_first,
		    "a forked child");
	if (a->kind != PRIVATE)
		return;
	nanosleep(&nap, NULL);
	cpu_read(a, 0, AREA_WORDS, child_second);
	for (uint32_t w = 0; w < AREA_WORDS; w++)
		if (child_first[w] != child_second[w]) {
			storm_fail(a->at, w / WORDS,
				   "a forked child's page %u word %u changed from %#llx to %#llx",
				   w / WORDS, w % WORDS, (unsigned long long)child_first[w],
				   (unsigned long long)child_second[w]);
			return;
		}
	/* Nobody but the child may ever see this. */
	memset(a->addr, 0xdb, PAGES * PAGE);
}

static void maps_print(void)
{
	char buf[4096];
	int fd = open("/proc/self/maps", O_RDONLY);
	ssize_t n;

	while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0)
		if (write(1, buf, (size_t)n) != n)
			break;
}

static void child_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	uint64_t off = (uintptr_t)info->si_addr - AREA_BASE;
	struct place at = {self, off / AREA_STRIDE < AREAS ? (uint32_t)(off / AREA_STRIDE) : 0};

	storm_fail(at, (uint32_t)(off % AREA_STRIDE / PAGE), "a forked child got signal %d at %p",
		   sig, info->si_addr);
	maps_print();
	_exit(1);
}

static int ev_fork(struct area *a, uint32_t p, uint32_t n)
{
	int status;
	pid_t pid;

	(void)a, (void)p, (void)n;
	for (uint32_t i = 0; i < AREAS; i++) {
		struct range *r = &child_range[i];

		*r = (struct range){.at = areas[i].at, .view = LIVE, .n = AREA_WORDS};
		range_see(r);
		range_floor(r, child_acked[i]);
	}
	pid = fork();
	if (!pid) {
		struct sigaction sa = {.sa_sigaction = child_fault, .sa_flags = SA_SIGINFO};

		sigaction(SIGSEGV, &sa, NULL);
		sigaction(SIGBUS, &sa, NULL);
		for (uint32_t i = 0; i < AREAS; i++)
			child_area(&areas[i]);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	if (status)
		maps_print();
	if (status)
		storm_fail(areas[0].at, 0, "a forked child ended with status %#x", status);
	atomic_fetch_add_explicit(&ctl->proc[self].forks, 1, memory_order_relaxed);
	return 0;
}

static const struct event {
	const char *name;
	int (*fn)(struct area *a, uint32_t p, uint32_t n); /* -1: not for this kind */
	uint32_t weight;
	bool untouchable; /* the CPU may not touch the area meanwhile */
	bool to_end;      /* all pages from the first one on */
} events[] = {
	{"discard", ev_dontneed, 40, false, false},  {"punch", ev_punch, 25, false, false},
	{"map-over", ev_map_over, 20, false, false}, {"truncate", ev_truncate, 8, true, true},
	{"unmap", ev_unmap, 10, true, false},        {"move", ev_move, 8, true, false},
	{"protect", ev_protect, 8, true, false},     {"shrink", ev_shrink_grow, 6, true, true},
	{"register", ev_register, 30, false, false}, {"advise", ev_advise, 8, false, false},
	{"cold", ev_cold, 8, false, false},          {"spawn", ev_spawn, 1, false, false},
	{"fork", ev_fork, 2, false, false},
};
#define EVENTS (sizeof(events) / sizeof(events[0]))

static const struct event *event_choose(void)
{
	uint32_t sum = 0, at, i;

	for (i = 0; i < EVENTS; i++)
		sum += events[i].weight;
	at = rng_below(&seed_owner, sum);
	for (i = 0; at >= events[i].weight; i++)
		at -= events[i].weight;
	return &events[i];
}

static void event_run(const struct event *ev, struct area *a, uint32_t p, uint32_t n)
{
	pthread_rwlock_t *lock = &touch[a->at.area];
	int ret;

	if (ev->untouchable)
		pthread_rwlock_wrlock(lock);
	if (ev->to_end)
		n = PAGES - p;
	note(a->at, ev->name, p, n, -2, step);
	ret = ev->fn(a, p, n);
	note(a->at, ev->name, p, n, ret, step);
	if (ev->untouchable)
		pthread_rwlock_unlock(lock);
	cpu_check(a, p * WORDS, n * WORDS, "the owner's CPU");
}

void *owner_main(void *arg)
{
	(void)arg;
	seed_owner = ctl->seed * 31 + self * 4 + 1;
	for (step = 1; !atomic_load(&ctl->stop); step++) {
		const struct event *ev = event_choose();
		struct area *a = &areas[rng_below(&seed_owner, AREAS)];
		uint32_t p = rng_below(&seed_owner, PAGES), n = 1 + rng_below(&seed_owner, 8);

		if (strstr(ctl->skip, ev->name))
			continue;
		event_run(ev, a, p, n < PAGES - p ? n : PAGES - p);
		atomic_fetch_add_explicit(&ctl->proc[self].events, 1, memory_order_relaxed);
		if (rng_below(&seed_owner, 4))
			usleep(rng_below(&seed_owner, 400));
	}
	/* For what follows the storm. */
	for (uint32_t i = 0; i < AREAS; i++)
		for (uint32_t p = 0; p < PAGES; p++)
			cpu_check(&areas[i], p * WORDS, WORDS, "the CPU at the end");
	return NULL;
}
