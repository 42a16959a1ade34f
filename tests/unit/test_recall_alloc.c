/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A recall allocates nothing: while it runs, in the process of whoever takes the blocks
 * away, every allocation fails, and none may even be tried. Those of the C library are
 * wrapped by the linker; system calls that give memory raise SIGSYS in the thread that
 * recalls, which ends afterwards, since such a filter stays.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "memkit.h"
#include "suite.h"

#define PAGES 64
#define LEN (PAGES * PAGE)

static __thread bool forbidden;
static atomic_int tried, last_call;

/* ---- the C library ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);

static bool refuse(int call)
{
	if (!forbidden)
		return false;
	atomic_fetch_add(&tried, 1);
	atomic_store(&last_call, call);
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return refuse(-1) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return refuse(-2) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return refuse(-3) ? NULL : __real_realloc(p, size);
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	return refuse(SYS_mmap) ? MAP_FAILED : __real_mmap(addr, len, prot, flags, fd, off);
}

/* ---- system calls ---- */

/* A sanitizer's runtime allocates whenever it likes. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FILTERS 1
#else
#define FILTERS 0
#endif

#if FILTERS
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	atomic_fetch_add(&tried, 1);
	atomic_store(&last_call, info->si_syscall);
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = -ENOMEM;
}

#define TRAP(nr)                                                                                   \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

static bool calls_forbid(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		TRAP(SYS_mmap),
		TRAP(SYS_mremap),
		TRAP(SYS_brk),
		TRAP(SYS_fallocate),
		TRAP(SYS_memfd_create),
		TRAP(SYS_clone3),
		TRAP(SYS_clone),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(*code), code};
	struct sigaction sa = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};

	sigaction(SIGSYS, &sa, NULL);
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}
#else
static bool calls_forbid(void)
{
	return true;
}
#endif

/* ---- recalls ---- */

struct job {
	struct odp_watch *watch;
	uint64_t ino;
	struct odp_recall rc;
	int ret;
	bool filtered, shut; /* no allocation could have gone unseen */
};

static void *job_run(void *arg)
{
	struct job *j = arg;
	void *volatile p;

	j->filtered = calls_forbid();
	forbidden = true;
	/* The net itself. */
	p = malloc(16);
	j->shut = !p && atomic_exchange(&tried, 0) == 1;
#if FILTERS
	j->shut &= syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			   -1 &&
		   atomic_exchange(&tried, 0) == 1;
#endif
	j->ret = odp_recall_begin(j->watch, j->ino, 3 * PAGE, UINT64_MAX, &j->rc);
	if (!j->ret)
		odp_recall_end(j->watch, &j->rc);
	forbidden = false;
	return NULL;
}

static void policy_run(enum odp_policy policy, enum odp_kind kind)
{
	struct odp_watch_attr wattr = {.lease_ms = 50};
	struct odp_region_attr attr = {
		.length = LEN, .pd = PD, .access = ALL, .kind = kind, .policy = policy};
	int fd = memfd_create("alloc", MFD_CLOEXEC);
	struct odp_region *r;
	struct stat st;
	struct job j = {0};
	pthread_t th;

	CU_ASSERT_EQUAL_FATAL(ftruncate(fd, LEN), 0);
	CU_ASSERT_EQUAL_FATAL(fstat(fd, &st), 0);
	wattr.dev = st.st_dev;
	wattr.ino = j.ino = st.st_ino;
	attr.addr = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(attr.addr, MAP_FAILED);
	attr.iova = (uintptr_t)attr.addr;
	kit_fill(attr.addr, LEN, "old");
	CU_ASSERT_EQUAL_FATAL(odp_watch_create(kit_proc, &wattr, &j.watch), 0);
	CU_ASSERT_EQUAL_FATAL(odp_region_create(kit_proc, &attr, &r), 0);
	atomic_store(&tried, 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&th, NULL, job_run, &j), 0);
	pthread_join(th, NULL);
	CU_ASSERT_TRUE(j.filtered);
	CU_ASSERT_TRUE(j.shut);
	CU_ASSERT_EQUAL(j.ret, policy == ODP_POLICY_DENY ? -ETXTBSY : 0);
	CU_ASSERT_EQUAL(j.rc.regions, policy == ODP_POLICY_DENY ? 0 : 1);
	CU_ASSERT_EQUAL(odp_region_revoked(r),
			policy >= ODP_POLICY_REVOKE && policy != ODP_POLICY_DENY);
	if (atomic_load(&tried))
		printf("policy %s: %d allocations, the last one by %d\n", odp_policy_name(policy),
		       atomic_load(&tried), atomic_load(&last_call));
	CU_ASSERT_EQUAL(atomic_load(&tried), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	odp_watch_destroy(j.watch);
	munmap(attr.addr, LEN);
	close(fd);
}

static void test_none(void)
{
	/* Who kills itself tells nothing. */
	for (int p = ODP_POLICY_ODP; p <= ODP_POLICY_DENY; p++)
		for (int kind = ODP_PINNED; p != ODP_POLICY_KILL && kind <= ODP_ON_DEMAND; kind++)
			policy_run((enum odp_policy)p, (enum odp_kind)kind);
}

int main(void)
{
	CU_TestInfo tests[] = {{"a recall allocates nothing", test_none}, CU_TEST_INFO_NULL};

	return kit_suite("recall_alloc", tests);
}
