/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The service thread: bells, deadlines, deaths, with io_uring and without. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "domain.h"
#include "peer.h"
#include "region.h"
#include "service.h"
#include "service_priv.h"
#include "suite.h"
#include "top.h"

#define AT_ONCE 1 /* a deadline in the past */

static struct odp_proc *self;

static struct {
	_Atomic unsigned long calls;
	_Atomic uint64_t deadline; /* what the handler answers, until it is due */
	_Atomic bool kept;
	_Atomic pthread_t thread;
	_Atomic bool signals_blocked;
} seen = {.deadline = UINT64_MAX};

static uint64_t handler(void *arg)
{
	sigset_t set;
	int sig;
	bool all = true;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	for (sig = 1; sig < 32; sig++)
		all &= sig == SIGKILL || sig == SIGSTOP || sigismember(&set, sig);
	seen.signals_blocked = all;
	seen.thread = pthread_self();
	if (seen.deadline != AT_ONCE && odp_now() >= seen.deadline) {
		seen.deadline = UINT64_MAX;
		seen.kept = true;
	}
	seen.calls++;
	return arg == &seen ? seen.deadline : 0;
}

static bool is_kept(void *arg)
{
	(void)arg;
	return seen.kept;
}

static bool calls_above(void *n)
{
	return seen.calls > *(unsigned long *)n;
}

static void test_start(void)
{
	const char *env = getenv("UODP_NO_IOURING");
	unsigned long none = 0;

	CU_ASSERT_EQUAL_FATAL(odp_proc_get(&self), 0);
	printf(" (%s)", self->service->poller->name);
	if (env && !strcmp(env, "1"))
		CU_ASSERT_STRING_EQUAL(self->service->poller->name, "ppoll");
	odp_service_set(self, handler, &seen);
	/* Called once to learn the deadline. */
	CU_ASSERT_TRUE(wait_for(calls_above, &none));
	CU_ASSERT_FALSE(pthread_equal(seen.thread, pthread_self()));
	CU_ASSERT_TRUE(seen.signals_blocked);
}

static void test_thread_name(void)
{
	char name[32] = "";

	CU_ASSERT_EQUAL(pthread_getname_np(seen.thread, name, sizeof(name)), 0);
	CU_ASSERT_STRING_EQUAL(name, "uodp-work");
	CU_ASSERT_EQUAL(pthread_getname_np(self->service->thread, name, sizeof(name)), 0);
	CU_ASSERT_STRING_EQUAL(name, "uodp");
}

static void test_bell(void)
{
	unsigned i;

	for (i = 0; i < 100; i++) {
		unsigned long calls = seen.calls;

		odp_bell_ring(odp_proc_self(self));
		CU_ASSERT_TRUE_FATAL(wait_for(calls_above, &calls));
		if (i % 10 == 0)
			sleep_ms(1); /* let it fall asleep */
	}
}

static void test_idle(void)
{
	unsigned long calls;

	/* The last bell may be heard late, and twice. */
	for (unsigned i = 0; i < 20; i++) {
		calls = seen.calls;
		sleep_ms(200);
		if (seen.calls == calls)
			return;
	}
	CU_FAIL("it is called again and again");
}

static void test_deadline(void)
{
	seen.kept = false;
	seen.deadline = odp_now() + 50000000u;
	odp_bell_ring(odp_proc_self(self)); /* to have it asked; the next call is the clock's */
	CU_ASSERT_TRUE(wait_for(is_kept, NULL));
	test_idle();
}

static void test_deadline_past(void)
{
	unsigned long calls = seen.calls + 100;

	/* At once, again and again, without starving bells. */
	seen.deadline = AT_ONCE;
	odp_bell_ring(odp_proc_self(self));
	CU_ASSERT_TRUE(wait_for(calls_above, &calls));
	seen.deadline = UINT64_MAX;
	test_idle();
}

/* ---- Bells between processes ---- */

static struct odp_peer *ring_back;

/* Ring back each time that our bell rings. */
static uint64_t echo(void *arg)
{
	(void)arg;
	if (ring_back)
		odp_bell_ring(ring_back);
	return UINT64_MAX;
}

static int role_echo(void)
{
	struct odp_proc *proc;

	if (odp_proc_get(&proc) || odp_peer_get(proc, (unsigned)parent_get(), &ring_back))
		return 1;
	odp_service_set(proc, echo, NULL);
	parent_put(odp_proc_slot(proc));
	return parent_get() == -1 ? 0 : 1;
}

static void test_bell_between(void)
{
	struct odp_peer *peer;
	struct child c;
	unsigned i;

	CU_ASSERT_FATAL(child_start(&c, "echo"));
	child_put(&c, odp_proc_slot(self));
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)child_get(&c), &peer), 0);
	sleep_ms(20);
	for (i = 0; i < 500; i++) {
		unsigned long calls = seen.calls;

		odp_bell_ring(peer);
		CU_ASSERT_TRUE_FATAL(wait_for(calls_above, &calls));
	}
	CU_ASSERT_EQUAL(child_end(&c), 0);
	/* After its death: no SIGPIPE, however often. */
	for (i = 0; i < 70000; i++)
		odp_bell_ring(peer);
}

static int role_stay(void)
{
	struct odp_proc *proc;

	if (odp_proc_get(&proc))
		return 1;
	parent_put(odp_proc_slot(proc));
	return parent_get() == -1 ? 0 : 1;
}

static void test_death_calls_handler(void)
{
	struct odp_peer *peer;
	struct child c;
	unsigned long calls;

	CU_ASSERT_FATAL(child_start(&c, "stay"));
	CU_ASSERT_EQUAL_FATAL(odp_peer_get(self, (unsigned)child_get(&c), &peer), 0);
	sleep_ms(50);
	calls = seen.calls;
	CU_ASSERT_TRUE(odp_peer_alive(peer));
	child_kill(&c);
	CU_ASSERT_TRUE(wait_for(calls_above, &calls));
	CU_ASSERT_FALSE(odp_peer_alive(peer));
}

/* No ring may be lost, however the threads fall: each waits for its own count. */
static _Atomic unsigned long wanted, served;

static uint64_t serve(void *arg)
{
	(void)arg;
	served = wanted;
	return UINT64_MAX;
}

static void *ringer(void *arg)
{
	unsigned long mine, *failed = arg;
	uint64_t end;
	unsigned i;

	for (i = 0; i < 2000; i++) {
		mine = ++wanted;
		odp_bell_ring(odp_proc_self(self));
		end = now_ms() + 30000;
		while (served < mine && now_ms() < end)
			usleep(1);
		if (served < mine)
			__atomic_add_fetch(failed, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_no_ring_lost(void)
{
	unsigned long failed = 0;
	pthread_t threads[4];
	unsigned i;

	odp_service_set(self, serve, NULL);
	for (i = 0; i < 4; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, ringer, &failed), 0);
	for (i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(pthread_join(threads[i], NULL), 0);
	CU_ASSERT_EQUAL(failed, 0);
	odp_service_set(self, handler, &seen);
}

/* ---- A process that is stopped while it holds a lock ---- */

static struct odp_lock held;
static _Atomic bool waits, had;

static uint64_t take_held(void *arg)
{
	(void)arg;
	waits = true;
	odp_lock(self, &held);
	odp_unlock(&held);
	had = true;
	return UINT64_MAX;
}

static bool is_set(void *flag)
{
	return *(_Atomic bool *)flag;
}

/* What waits for the service thread: missing pages, and what takes pages away. Does not
 * return without it. */
static void memory_events(void)
{
	const size_t len = 64 * 4096;
	struct odp_region_attr attr = {
		.length = len, .kind = ODP_ON_DEMAND, .access = ODP_ACCESS_LOCAL_WRITE};
	struct odp_region *r;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CU_ASSERT_FATAL(p != MAP_FAILED);
	attr.addr = p;
	attr.iova = (uintptr_t)p;
	CU_ASSERT_EQUAL_FATAL(odp_region_create(self, &attr, &r), 0);
	for (unsigned i = 0; i < 8; i++) {
		memset(p, 1, len / 2);
		CU_ASSERT_EQUAL(madvise(p, len / 2, MADV_DONTNEED), 0);
		CU_ASSERT_EQUAL(p[4096], 0);
	}
	CU_ASSERT_EQUAL(munmap(p, len / 2), 0);
	CU_ASSERT_EQUAL(odp_region_destroy(r), 0);
	munmap(p + len / 2, len / 2);
}

/* CPU time of the worker, ns. */
static uint64_t worker_time(void)
{
	struct timespec ts = {0};
	clockid_t clock;

	if (!pthread_getcpuclockid(self->service->worker, &clock))
		clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void test_stopped_holder(void)
{
	struct odp_slot *slot;
	uint64_t wall, cpu;
	struct child c;
	unsigned nr;

	CU_ASSERT_FATAL(child_start(&c, "stay"));
	nr = (unsigned)child_get(&c);
	slot = &self->domain->slots[nr];
	kill(slot->pid, SIGSTOP);
	held.owner = (nr + 1) | atomic_load(&slot->gen) << 16;
	waits = had = false;
	odp_service_set(self, take_held, NULL);
	CU_ASSERT_TRUE_FATAL(wait_for(is_set, &waits));
	sleep_ms(20);

	alarm(60); /* a hang ends the test */
	memory_events();
	alarm(0);
	/* It waits, and does not burn a CPU. */
	wall = odp_now();
	cpu = worker_time();
	sleep_ms(300);
	cpu = worker_time() - cpu;
	wall = odp_now() - wall;
	CU_ASSERT(cpu < wall / 4);
	CU_ASSERT_FALSE(had);

	child_kill(&c);
	CU_ASSERT_TRUE(wait_for(is_set, &had));
	odp_service_set(self, handler, &seen);
}

static void break_bell(void *arg)
{
	unsigned long calls;

	(void)arg;
	/* Not by close(), which ThreadSanitizer rightly finds wrong. */
	syscall(SYS_close, self->bell_rd);
	odp_bell_ring(odp_proc_self(self));
	sleep_ms(100);
	calls = seen.calls;
	odp_bell_ring(odp_proc_self(self));
	if (!wait_for(calls_above, &calls))
		fprintf(stderr, "no bell\nis heard\n");
	sleep_ms(100);
}

/* A program that closes descriptors which are not its own costs speed at most. */
static int role_break(void)
{
	char text[2048];

	if (odp_proc_get(&self))
		return 1;
	signal(SIGPIPE, SIG_IGN);
	odp_service_set(self, handler, &seen);
	return stderr_lines(break_bell, NULL, text, sizeof(text)) > 1;
}

static void test_bell_closed(void)
{
	struct child c;

	CU_ASSERT_FATAL(child_start(&c, "break"));
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* The same once more in a process that does without io_uring. */
static int run_again(void)
{
	struct child c;

	if (getenv("UODP_NO_IOURING"))
		return 0;
	setenv("UODP_NO_IOURING", "1", 1);
	return !child_start(&c, "again") || child_end(&c) != 0;
}

static CU_TestInfo tests[] = {
	{"a handler is called when it is set", test_start},
	{"the thread has a name", test_thread_name},
	{"each bell is answered", test_bell},
	{"nobody calls for nothing", test_idle},
	{"a deadline is kept", test_deadline},
	{"a deadline in the past is now", test_deadline_past},
	{"bells between processes", test_bell_between},
	{"a peer's death calls the handler", test_death_calls_handler},
	{"no ring is lost", test_no_ring_lost},
	{"a stopped process's lock holds up no fault", test_stopped_holder},
	{"a closed bell does not make it spin", test_bell_closed},
	CU_TEST_INFO_NULL,
};

static int role_again(void)
{
	dup2(STDERR_FILENO, STDOUT_FILENO);
	return suite_run("service without io_uring", tests);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {
		{"echo", role_echo},   {"stay", role_stay}, {"break", role_break},
		{"again", role_again}, {NULL, NULL},
	};

	child_main(argc, argv, roles);
	return suite_run("service", tests) | run_again();
}
