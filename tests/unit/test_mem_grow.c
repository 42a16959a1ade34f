/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Mappings of registered memory that grow into what others hold: the frames that
 * follow in the pool are those of a part that was moved away before.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "memkit.h"
#include "suite.h"

#define HEAD (2 * PAGE)
#define TAIL (30 * PAGE)
#define ROUNDS 300

/* Far from where mmap looks first: what is unmapped for a moment stays free. A
 * sanitizer's own memory is elsewhere. */
#if defined(__SANITIZE_ADDRESS__)
#define BASE 0x200000000000ull
#else
#define BASE 0x4000000000ull
#endif

/* HEAD bytes, behind which the mapping may grow into frames that MOVED holds. */
struct grown {
	char *mem, *moved;
	struct odp_region *demand; /* of head and tail */
};

static bool grown_make(struct grown *g)
{
	char *away = kit_private(TAIL, NULL);

	g->mem = mmap((void *)BASE, HEAD + TAIL, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (g->mem == MAP_FAILED)
		return false;
	kit_fill(g->mem, HEAD + TAIL, "old");
	g->demand = kit_reg(g->mem, HEAD + TAIL, ODP_ON_DEMAND, ODP_BACKING_AUTO);
	g->moved = mremap(g->mem + HEAD, TAIL, TAIL, MREMAP_MAYMOVE | MREMAP_FIXED, away);
	return g->demand && g->moved == away;
}

static bool grown_grow(struct grown *g)
{
	return mremap(g->mem, HEAD, HEAD + TAIL, 0) == g->mem;
}

static void grown_end(struct grown *g)
{
	odp_region_destroy(g->demand);
	munmap(g->mem, HEAD + TAIL);
	munmap(g->moved, TAIL);
}

static void test_new_memory(void)
{
	struct grown g;
	unsigned wrong = 0;

	CU_ASSERT_TRUE_FATAL(grown_make(&g));
	CU_ASSERT_TRUE_FATAL(grown_grow(&g));
	CU_ASSERT_STRING_EQUAL(kit_see(g.demand, g.mem + HEAD + PAGE), "");
	CU_ASSERT_EQUAL(kit_write(g.demand, g.mem + HEAD + 2 * PAGE, "dev", 4), 0);
	for (size_t i = HEAD; i < HEAD + TAIL; i += PAGE) {
		bool device = i == HEAD + 2 * PAGE;

		wrong += strcmp(g.mem + i, device ? "dev" : "") != 0;
		snprintf(g.mem + i, 16, "new%u", (unsigned)(i / PAGE));
	}
	for (size_t i = HEAD; i < HEAD + TAIL; i += PAGE) {
		char want[2][16];

		snprintf(want[0], 16, "old%u", (unsigned)(i / PAGE));
		snprintf(want[1], 16, "new%u", (unsigned)(i / PAGE));
		wrong += strcmp(g.moved + i - HEAD, want[0]) != 0;
		wrong += strcmp(kit_see(g.demand, g.mem + i), want[1]) != 0;
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(madvise(g.mem, HEAD + TAIL, MADV_DONTNEED), 0);
	CU_ASSERT_STRING_EQUAL(g.mem + HEAD + PAGE, "");
	CU_ASSERT_STRING_EQUAL(kit_see(g.demand, g.mem + HEAD + PAGE), "");
	grown_end(&g);
}

/* ---- The part goes while the device touches it ---- */

static _Atomic bool stop;

static void *toucher_run(void *arg)
{
	struct grown *g = arg;
	char buf[8];

	for (size_t i = 0; !atomic_load(&stop); i = (i + PAGE) % TAIL)
		kit_read(g->demand, g->mem + HEAD + i, buf, sizeof(buf));
	return NULL;
}

/* What is mapped there after the grown part has gone stays what it is. */
static unsigned round_run(struct grown *g, int flags, int round)
{
	char *tail = g->mem + HEAD, *at;
	unsigned wrong = 0;

	if (!grown_grow(g) || munmap(tail, TAIL))
		return 1;
	at = mmap(tail, TAIL, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		  -1, 0);
	if (at != tail)
		return 1;
	for (size_t i = 0; i < TAIL; i += PAGE)
		memset(at + i, round, PAGE);
	for (size_t i = 0; i < TAIL; i += PAGE / 8)
		wrong += at[i] != (char)round;
	return wrong + (munmap(tail, TAIL) ? 1 : 0);
}

static void test_replaced(void)
{
	struct grown g;
	unsigned wrong = 0;
	pthread_t thread;

	CU_ASSERT_TRUE_FATAL(grown_make(&g));
	atomic_store(&stop, false);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, toucher_run, &g), 0);
	for (int i = 1; i <= ROUNDS && !wrong; i++)
		wrong += round_run(&g, i & 1 ? MAP_PRIVATE : MAP_SHARED, i);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_STRING_EQUAL(g.moved + PAGE, "old3");
	grown_end(&g);
}

/* A child of fork gets what grew, touched or not, and no memory of the pool's. */
static void test_fork(void)
{
	struct grown g;
	char seen[8];
	int fd[2];
	pid_t pid;

	CU_ASSERT_TRUE_FATAL(grown_make(&g));
	CU_ASSERT_TRUE_FATAL(grown_grow(&g));
	strcpy(g.mem + HEAD + 5 * PAGE, "parent");
	CU_ASSERT_EQUAL_FATAL(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		char ok = !strcmp(g.mem + HEAD + 5 * PAGE, "parent") && !g.mem[HEAD + PAGE] &&
			  !strcmp(g.moved, "old2");

		memset(g.mem, 'c', HEAD + TAIL);
		_exit(write(fd[1], &ok, 1) != 1);
	}
	CU_ASSERT_EQUAL(read(fd[0], seen, 1), 1);
	CU_ASSERT_EQUAL(seen[0], 1);
	CU_ASSERT_STRING_EQUAL(g.mem + HEAD + 5 * PAGE, "parent");
	CU_ASSERT_STRING_EQUAL(kit_see(g.demand, g.mem + HEAD + PAGE), "");
	close(fd[0]);
	close(fd[1]);
	grown_end(&g);
}

/* ---- Two service threads, each writing to the other process's untouched part ---- */

static struct {
	struct odp_peer *peer;
	uint32_t key;
	uint64_t addr;
	size_t at;
	_Atomic int ended; /* 1, or -errno */
} task;

/* On the service thread: as far as it goes now. */
static uint64_t task_run(void *arg)
{
	(void)arg;
	while (!task.ended) {
		struct odp_span dst, src;
		size_t n = 8;
		int ret = odp_span_region(&dst, task.peer, task.key, PD, task.addr + task.at, n,
					  ODP_ACCESS_REMOTE_WRITE);

		odp_span_private(&src, "12345678");
		if (!ret)
			ret = odp_copy(&dst, &src, &n);
		if (ret == -EAGAIN)
			return odp_now() + 50000;
		task.at += PAGE;
		if (ret || task.at == TAIL)
			task.ended = ret ? ret : 1;
	}
	return UINT64_MAX;
}

static bool task_ended(void *arg)
{
	(void)arg;
	return task.ended;
}

static int task_do(long slot, long key, long addr)
{
	int ret = odp_peer_get(kit_proc, (unsigned)slot, &task.peer);

	if (ret)
		return ret;
	task.key = (uint32_t)key;
	task.addr = (uint64_t)addr;
	task.at = 0;
	task.ended = 0;
	odp_service_set(kit_proc, task_run, NULL);
	wait_for(task_ended, NULL);
	odp_service_set(kit_proc, NULL, NULL);
	return task.ended;
}

static int role_partner(void)
{
	if (kit_start())
		return 1;
	for (;;) {
		long slot = parent_get(), key, addr;
		struct grown g;

		if (slot < 0)
			return 0;
		key = parent_get();
		addr = parent_get();
		parent_put(grown_make(&g) && grown_grow(&g) ? (long)odp_proc_slot(kit_proc) : -1);
		parent_put(odp_region_key(g.demand));
		parent_put((long)(uintptr_t)(g.mem + HEAD));
		parent_get();
		parent_put(task_do(slot, key, addr));
		parent_get(); /* ours has been written to */
		grown_end(&g);
	}
}

static void services_once(struct child *c)
{
	long slot, key, addr;
	struct grown g;

	CU_ASSERT_TRUE_FATAL(grown_make(&g));
	CU_ASSERT_TRUE_FATAL(grown_grow(&g));
	child_put(c, (long)odp_proc_slot(kit_proc));
	child_put(c, (long)odp_region_key(g.demand));
	child_put(c, (long)(uintptr_t)(g.mem + HEAD));
	slot = child_get(c);
	key = child_get(c);
	addr = child_get(c);
	CU_ASSERT_TRUE_FATAL(slot >= 0);
	child_put(c, 1);
	CU_ASSERT_EQUAL_FATAL(task_do(slot, key, addr), 1);
	CU_ASSERT_EQUAL_FATAL(child_get(c), 1);
	CU_ASSERT_EQUAL(memcmp(g.mem + HEAD + TAIL - PAGE, "12345678", 8), 0);
	child_put(c, 1);
	grown_end(&g);
}

static void test_services(void)
{
	struct child c;

	CU_ASSERT_FATAL(child_start(&c, "partner"));
	for (int i = 0; i < 50; i++)
		services_once(&c);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* ---- Where the kernel refuses to give the part other memory ---- */

static void remap_forbid(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_remap_file_pages, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		perror("seccomp");
}

static struct grown refused;

static void bus_error(int sig)
{
	(void)sig;
	/* The rest is as it was. */
	_exit(strcmp(refused.moved + PAGE, "old3") || strcmp(refused.mem + PAGE, "old1") ? 1 : 42);
}

static int role_refused(void)
{
	remap_forbid();
	if (kit_start())
		return 1;
	signal(SIGBUS, bus_error);
	if (!grown_make(&refused) || !grown_grow(&refused))
		return 1;
	refused.mem[HEAD + PAGE] = 1;
	return 2;
}

static void test_refused(void)
{
	struct child c;

	if (!kit_events())
		return;
	CU_ASSERT_FATAL(child_start(&c, "refused"));
	CU_ASSERT_EQUAL(child_end(&c), 42);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {
		{"partner", role_partner},
		{"refused", role_refused},
		{NULL, NULL},
	};
	CU_TestInfo tests[] = {
		{"the part that grew is new memory", test_new_memory},
		{"it is unmapped while it is touched", test_replaced},
		{"fork", test_fork},
		{"two service threads touch each other's", test_services},
		{"the kernel refuses", test_refused},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	return kit_suite("Growing", tests);
}
