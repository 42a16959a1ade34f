/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A second process reads and writes the first one's regions; forks. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "memkit.h"
#include "peer.h"
#include "pool.h"
#include "region.h"
#include "suite.h"
#include "top.h"
#include "transfer.h"

#define LEN (64 * PAGE)

/* ThreadSanitizer otherwise ends a forked child that starts a thread. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

/* ---- The second process: does as it is told through its peer's regions ---- */

enum order { WRITE = 1, READ, ADD, STREAM };

static struct odp_peer *role_peer(void)
{
	struct odp_peer *peer;

	if (kit_start() || odp_peer_get(kit_proc, (unsigned)parent_get(), &peer))
		exit(2);
	return peer;
}

static long do_write(struct odp_peer *peer, uint32_t key, uint64_t addr, size_t n, char seed)
{
	char *buf = malloc(n);
	long ret;

	for (size_t i = 0; i < n; i++)
		buf[i] = (char)(seed + (char)(i * 7));
	ret = kit_peer_write(peer, key, addr, buf, n);
	free(buf);
	return ret;
}

static long do_read(struct odp_peer *peer, uint32_t key, uint64_t addr, size_t n, char seed)
{
	char *buf = malloc(n);
	long ret = kit_peer_read(peer, key, addr, buf, n);

	for (size_t i = 0; i < n && !ret; i++)
		if (buf[i] != (char)(seed + (char)(i * 7)))
			ret = (long)i + 1;
	free(buf);
	return ret;
}

static long do_add(struct odp_peer *peer, uint32_t key, uint64_t addr, size_t times)
{
	struct odp_span s;
	uint64_t old;
	int ret = odp_span_region(&s, peer, key, PD, addr, 8, ODP_ACCESS_REMOTE_ATOMIC);

	while (!ret && times) {
		ret = odp_atomic(&s, ODP_FETCH_ADD, 1, 0, &old);
		if (ret == -EAGAIN)
			ret = 0;
		else
			times--;
	}
	return ret;
}

/* Write until refused. */
static long do_stream(struct odp_peer *peer, uint32_t key, uint64_t addr, size_t n, char seed)
{
	long ret;

	parent_put(0);
	do
		ret = do_write(peer, key, addr, n, seed);
	while (!ret);
	return ret;
}

static int role_second(void)
{
	struct odp_peer *peer = role_peer();
	long what;

	parent_put(1);
	while ((what = parent_get()) > 0) {
		uint32_t key = (uint32_t)parent_get();
		uint64_t addr = (uint64_t)parent_get();
		size_t n = (size_t)parent_get();
		char seed = (char)parent_get();

		switch (what) {
		case WRITE:
			parent_put(do_write(peer, key, addr, n, seed));
			break;
		case READ:
			parent_put(do_read(peer, key, addr, n, seed));
			break;
		case ADD:
			parent_put(do_add(peer, key, addr, n));
			break;
		default:
			parent_put(do_stream(peer, key, addr, n, seed));
		}
	}
	return 0;
}

static void second_start(struct child *c)
{
	CU_ASSERT_FATAL(child_start(c, "second"));
	child_put(c, odp_proc_slot(kit_proc));
	CU_ASSERT_EQUAL_FATAL(child_get(c), 1);
}

static void order(struct child *c, enum order what, struct odp_region *r, void *addr, size_t n,
		  char seed)
{
	child_put(c, what);
	child_put(c, odp_region_key(r));
	child_put(c, (long)(uintptr_t)addr);
	child_put(c, (long)n);
	child_put(c, seed);
}

static long tell(struct child *c, enum order what, struct odp_region *r, void *addr, size_t n,
		 char seed)
{
	order(c, what, r, addr, n, seed);
	return child_get(c);
}

static bool seeded(const char *p, size_t n, char seed)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != (char)(seed + (char)(i * 7)))
			return false;
	return true;
}

/* ---- Tests ---- */

static void test_all_backings(void)
{
	struct child c;

	second_start(&c);
	for (int i = 0; i < 4; i++) {
		char *mem = i & 1 ? kit_shared(LEN, NULL) : kit_private(LEN, NULL);
		struct odp_region *r = kit_reg(mem, LEN, (enum odp_kind)(i >> 1), ODP_BACKING_AUTO);
		size_t n = LEN - 3000;

		CU_ASSERT_PTR_NOT_NULL_FATAL(r);
		CU_ASSERT_EQUAL(tell(&c, WRITE, r, mem + 1001, n, 17), 0);
		CU_ASSERT(seeded(mem + 1001, n, 17));
		CU_ASSERT_EQUAL(mem[1000], 0);
		CU_ASSERT_EQUAL(tell(&c, READ, r, mem + 1001, n, 17), 0);
		mem[1001 + 20000]++;
		CU_ASSERT_EQUAL(tell(&c, READ, r, mem + 1001, n, 17), 20001);
		CU_ASSERT_EQUAL(tell(&c, WRITE, r, mem + 5, 8, 3), 0);
		CU_ASSERT(seeded(mem + 5, 8, 3));
		CU_ASSERT_EQUAL(tell(&c, WRITE, r, mem + 1, LEN, 3), -ERANGE);
		odp_region_destroy(r);
		munmap(mem, LEN);
	}
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* Faults by the other process; its pages arrive in this one without a fault. */
static void test_faults(void)
{
	char *mem = kit_private(LEN, NULL);
	struct odp_region *r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	struct odp_region_stats st;
	struct child c;

	second_start(&c);
	CU_ASSERT_EQUAL(tell(&c, WRITE, r, mem + 8 * PAGE + 5, 4 * PAGE, 1), 0);
	odp_region_stats(r, &st);
	CU_ASSERT_EQUAL(st.page_faults, 5);
	CU_ASSERT_EQUAL(st.page_faults_handled, 5);
	CU_ASSERT(seeded(mem + 8 * PAGE + 5, 4 * PAGE, 1));
	CU_ASSERT_EQUAL(madvise(mem + 9 * PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	odp_region_stats(r, &st);
	if (kit_events()) {
		CU_ASSERT_EQUAL(st.page_invalidations, 2);
		CU_ASSERT_EQUAL(st.page_invalidations_handled, 2);
	}
	CU_ASSERT_EQUAL(tell(&c, READ, r, mem + 8 * PAGE + 5, 4 * PAGE, 1), (long)PAGE - 5 + 1);
	munmap(mem + 9 * PAGE, PAGE);
	CU_ASSERT_EQUAL(tell(&c, READ, r, mem + 9 * PAGE, 100, 1), -EFAULT);
	CU_ASSERT_EQUAL(tell(&c, READ, r, mem + 2 * PAGE, 1, 0), 0);
	odp_region_destroy(r);
	munmap(mem, LEN);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static void test_atomics(void)
{
	struct child a, b;

	second_start(&a);
	second_start(&b);
	for (int i = 0; i < 4; i++) {
		char *mem = i & 1 ? kit_shared(LEN, NULL) : kit_private(LEN, NULL);
		struct odp_region *r = kit_reg(mem, LEN, (enum odp_kind)(i >> 1), ODP_BACKING_AUTO);
		uint64_t *v = (uint64_t *)(mem + 24), want = 4000;

		order(&a, ADD, r, v, 2000, 0);
		order(&b, ADD, r, v, 2000, 0);
		if (!(i & 1)) { /* with the CPU too, in the pool */
			for (int k = 0; k < 2000; k++)
				__atomic_fetch_add(v, 1, __ATOMIC_SEQ_CST);
			want += kit_events() ? 2000 : 0;
		}
		CU_ASSERT_EQUAL(child_get(&a), 0);
		CU_ASSERT_EQUAL(child_get(&b), 0);
		if (i & 1 || kit_events())
			CU_ASSERT_EQUAL(*v, want);
		odp_region_destroy(r);
		munmap(mem, LEN);
	}
	CU_ASSERT_EQUAL(child_end(&a), 0);
	CU_ASSERT_EQUAL(child_end(&b), 0);
}

/* When destroy returns, the other process writes no more. */
static void test_dereg(void)
{
	struct child c;

	second_start(&c);
	for (int i = 0; i < 8; i++) {
		char *mem = i & 1 ? kit_shared(LEN, NULL) : kit_private(LEN, NULL);
		struct odp_region *r =
			kit_reg(mem, LEN, (enum odp_kind)(i >> 1 & 1), ODP_BACKING_AUTO);
		long ended;

		order(&c, STREAM, r, mem, LEN, 9);
		CU_ASSERT_EQUAL(child_get(&c), 0);
		sleep_ms(3);
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
		memset(mem, 0x77, LEN);
		ended = child_get(&c);
		CU_ASSERT(ended == -ENOENT || ended == -EKEYREVOKED);
		for (size_t k = 0; k < LEN; k++)
			CU_ASSERT_EQUAL_FATAL(mem[k], 0x77);
		munmap(mem, LEN);
	}
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* A process killed in mid-transfer hangs nobody. */
static void test_killed(void)
{
	for (int i = 0; i < 6; i++) {
		char *mem = i & 1 ? kit_shared(LEN, NULL) : kit_private(LEN, NULL);
		struct odp_region *r =
			kit_reg(mem, LEN, (enum odp_kind)(i >> 1 & 1), ODP_BACKING_AUTO);
		struct child c;

		second_start(&c);
		order(&c, STREAM, r, mem, LEN, 9);
		CU_ASSERT_EQUAL(child_get(&c), 0);
		sleep_ms(2);
		child_kill(&c);
		CU_ASSERT_EQUAL(madvise(mem, LEN, MADV_DONTNEED), 0);
		CU_ASSERT_EQUAL(kit_write(r, mem, "alive", 6), 0);
		CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
		munmap(mem, LEN);
	}
}

/* One that is stopped neither; what it holds is let go once it has gone on. */
static void test_stopped(void)
{
	char *mem = kit_private(LEN, "old");
	struct odp_region *r = kit_reg(mem, LEN, ODP_PINNED, ODP_BACKING_AUTO);
	struct child c;

	second_start(&c);
	order(&c, STREAM, r, mem, LEN, 9);
	CU_ASSERT_EQUAL(child_get(&c), 0);
	sleep_ms(2);
	kill(c.pid, SIGSTOP);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	munmap(mem, LEN);
	kill(c.pid, SIGCONT);
	child_get(&c);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	mem = kit_private(LEN, "new");
	r = kit_reg(mem, LEN, ODP_PINNED, ODP_BACKING_AUTO);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	CU_ASSERT_STRING_EQUAL(kit_see(r, mem + PAGE), "new1");
	CU_ASSERT_PTR_NULL(kit_proc->mem->zombies);
	odp_region_destroy(r);
	munmap(mem, LEN);
}

static int forked(char *mem, char *heap)
{
	struct odp_region *r;

	if (strcmp(mem + 5 * PAGE, "before5") || strcmp(heap, "heap") || mem[40 * PAGE])
		return 2;
	strcpy(mem + 5 * PAGE, "child");
	strcpy(heap, "child");
	/* The child is a process of its own, with an attachment of its own. */
	if (kit_start())
		return 3;
	r = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	if (!r || strcmp(kit_see(r, mem + 5 * PAGE), "child"))
		return 4;
	if (kit_write(r, mem + 6 * PAGE, "by child", 9) || strcmp(mem + 6 * PAGE, "by child"))
		return 5;
	return 0;
}

static void test_fork(void)
{
	char *mem = kit_private(LEN, NULL), *heap = malloc(100);
	struct odp_region *r[2];
	int status = -1;
	pid_t pid;

	kit_fill(mem, LEN / 2, "before");
	r[0] = kit_reg(mem, LEN, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	strcpy(heap, "heap");
	r[1] = kit_reg(heap, 100, ODP_PINNED, ODP_BACKING_AUTO);
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(forked(mem, heap));
	strcpy(mem + 5 * PAGE, "parent");
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFEXITED(status));
	CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
	/* Both of the parent's views are as they were: nothing of the child's. */
	CU_ASSERT_STRING_EQUAL(kit_see(r[0], mem + 5 * PAGE), "parent");
	CU_ASSERT_STRING_EQUAL(kit_see(r[0], mem + 6 * PAGE), "before6");
	CU_ASSERT_STRING_EQUAL(mem + 6 * PAGE, "before6");
	CU_ASSERT_STRING_EQUAL(heap, "heap");
	CU_ASSERT_EQUAL(kit_write(r[1], heap, "dev", 4), 0);
	CU_ASSERT_STRING_EQUAL(heap, "dev");
	odp_region_destroy(r[0]);
	odp_region_destroy(r[1]);
	munmap(mem, LEN);
	free(heap);
}

/* ---- fork in the midst of signals and threads ---- */

#define MUCH ((size_t)32 << 20) /* takes a child much longer to copy than a tick */

static void tick(int sig)
{
	(void)sig;
}

static size_t pages_unlike(const char *mem, const char *fill)
{
	size_t n = 0;

	for (size_t i = 0; i < MUCH; i += PAGE)
		n += strncmp(mem + i, fill, strlen(fill)) != 0;
	return n;
}

/* The parent goes on when the child has its copy, not when a signal comes. */
static void test_fork_signal(void)
{
	const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
	struct sigaction act = {.sa_handler = tick, .sa_flags = SA_RESTART}, old;
	char *mem = kit_private(MUCH, "before");
	struct odp_region *r = kit_reg(mem, MUCH, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	int status = -1;
	pid_t pid;

	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	fflush(stdout);
	sigaction(SIGALRM, &act, &old);
	setitimer(ITIMER_REAL, &often, NULL);
	pid = fork();
	if (!pid)
		_exit(pages_unlike(mem, "before") != 0);
	kit_fill(mem, MUCH, "after");
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &old, NULL);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	odp_region_destroy(r);
	munmap(mem, MUCH);
}

/* Takes the lock of memory, with every signal blocked. */
static void *deaf_run(void *stop)
{
	sigset_t all;
	bool moved;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	while (!atomic_load((_Atomic bool *)stop))
		odp_range_moved(kit_proc, &all, sizeof(all), &moved);
	return NULL;
}

static void test_fork_mask(void)
{
	_Atomic bool stop = false;
	pthread_t thread;
	sigset_t now;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, deaf_run, &stop), 0);
	fflush(stdout);
	for (int i = 0; i < 40; i++) {
		int status = -1;
		pid_t pid = fork();

		sigprocmask(SIG_SETMASK, NULL, &now);
		if (!pid)
			_exit(sigismember(&now, SIGUSR1));
		CU_ASSERT_EQUAL(sigismember(&now, SIGUSR1), 0);
		CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
		CU_ASSERT_EQUAL(status, 0);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {{"second", role_second}, {NULL, NULL}};
	CU_TestInfo tests[] = {
		{"a second process reads and writes all backings", test_all_backings},
		{"a second process takes the faults", test_faults},
		{"atomics of three processes", test_atomics},
		{"deregistration under a second process", test_dereg},
		{"a second process is killed", test_killed},
		{"a second process is stopped", test_stopped},
		{"fork: a copy for the child", test_fork},
		{"fork: signals while the child copies", test_fork_signal},
		{"fork: the caller's signals, not another thread's", test_fork_mask},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	return kit_suite("mem2", tests);
}
