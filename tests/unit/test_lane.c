/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Lanes, gates and fences. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "domain.h"
#include "suite.h"

static struct odp_proc *self;
static struct odp_peer *me;

static void test_gate(void)
{
	struct odp_lane *lane;
	uint64_t gate;

	CU_ASSERT_EQUAL_FATAL(odp_proc_get(&self), 0);
	me = odp_proc_self(self);
	lane = odp_lane_get(self);
	CU_ASSERT_PTR_EQUAL(lane, odp_lane_get(self));
	CU_ASSERT_FALSE(odp_lane_is_shared(lane));
	gate = me->slot->gate;
	CU_ASSERT_TRUE(odp_lane_enter(lane, me, me));
	CU_ASSERT_EQUAL(lane->pool & 1, 1);
	odp_lane_leave(lane);
	CU_ASSERT_EQUAL(lane->pool & 1, 0);
	odp_freeze(self);
	odp_freeze(self);
	CU_ASSERT_FALSE(odp_lane_enter(lane, me, me));
	CU_ASSERT_EQUAL(lane->pool & 1, 0);
	odp_thaw(self);
	CU_ASSERT_FALSE(odp_lane_enter(lane, me, me));
	odp_thaw(self);
	CU_ASSERT_TRUE(odp_lane_enter(lane, me, me));
	odp_lane_leave(lane);
	/* Who looked before sees that it was shut meanwhile. */
	CU_ASSERT_NOT_EQUAL(me->slot->gate, gate);
	CU_ASSERT_EQUAL(me->slot->gate & ODP_GATE_FROZEN, 0);
	CU_ASSERT_TRUE(odp_fence(self, true));
}

/* ---- A thread inside ---- */

struct inside {
	_Atomic bool entered, leave, va;
	_Atomic uint64_t left; /* when */
};

static void *inside_thread(void *arg)
{
	struct inside *in = arg;
	struct odp_lane *lane = odp_lane_get(self);

	if (in->va)
		odp_lane_va_enter(lane);
	else if (!odp_lane_enter(lane, me, me))
		return NULL;
	in->entered = true;
	while (!in->leave)
		sleep_ms(1);
	in->left = odp_now();
	if (in->va)
		odp_lane_va_leave(lane);
	else
		odp_lane_leave(lane);
	return NULL;
}

static bool is_set(void *flag)
{
	return *(_Atomic bool *)flag;
}

static void *leave_later(void *arg)
{
	sleep_ms(60);
	((struct inside *)arg)->leave = true;
	return NULL;
}

static void fence_waits(bool va)
{
	struct inside in = {.va = va};
	pthread_t thread, timer;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, inside_thread, &in), 0);
	CU_ASSERT_TRUE_FATAL(wait_for(is_set, &in.entered));
	if (va) {
		/* The pool side is empty: nobody to wait for. */
		CU_ASSERT_TRUE(odp_fence(self, false));
		CU_ASSERT_EQUAL(in.left, 0);
	}
	CU_ASSERT_EQUAL_FATAL(pthread_create(&timer, NULL, leave_later, &in), 0);
	odp_freeze(self);
	CU_ASSERT_TRUE(odp_fence(self, va));
	CU_ASSERT_NOT_EQUAL(in.left, 0);
	CU_ASSERT(odp_now() >= in.left);
	odp_thaw(self);
	pthread_join(timer, NULL);
	pthread_join(thread, NULL);
}

static void test_fence_waits(void)
{
	fence_waits(false);
}

static void test_fence_waits_va(void)
{
	fence_waits(true);
}

static void test_lane_returns(void)
{
	struct odp_lane *lanes = self->domain->lanes[me->nr];
	struct inside in = {.leave = true};
	unsigned i, used = 0;

	for (i = 0; i < 200; i++) {
		pthread_t thread;

		CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, inside_thread, &in), 0);
		pthread_join(thread, NULL);
	}
	for (i = 0; i < ODP_MAX_LANES; i++)
		used += lanes[i].tid != 0;
	CU_ASSERT_EQUAL(used, 2); /* this thread and the service thread */
	CU_ASSERT(me->slot->lane_high < 8);
}

/* ---- Many threads against one freezer ---- */

#define THREADS 200
#define ROUNDS 300

struct crowd {
	_Atomic bool stop;
	_Atomic bool shut;         /* true between fence and thaw */
	_Atomic unsigned long bad; /* seen inside while shut */
	_Atomic unsigned long entries;
	_Atomic unsigned shared, started;
	unsigned long plain[THREADS]; /* written inside; read by the freezer */
	pthread_t threads[THREADS];
	unsigned nr[THREADS];
};

static struct crowd crowd;

static void crowd_step(struct odp_lane *lane, unsigned nr)
{
	if (!odp_lane_enter(lane, me, me))
		return;
	if (crowd.shut)
		crowd.bad++;
	crowd.plain[nr]++;
	if (nr % 8 == 0)
		sched_yield(); /* let another one try to be here at the same time */
	if (crowd.shut)
		crowd.bad++;
	/* The other side too, as a fault from inside does. */
	odp_lane_va_enter(lane);
	odp_lane_va_leave(lane);
	odp_lane_leave(lane);
	crowd.entries++;
}

static void *crowd_thread(void *arg)
{
	const unsigned nr = *(unsigned *)arg;
	struct odp_lane *lane = odp_lane_get(self);

	crowd.shared += odp_lane_is_shared(lane);
	crowd.started++;
	while (!crowd.stop) {
		crowd_step(lane, nr);
		sched_yield();
	}
	return NULL;
}

static bool crowd_started(void *arg)
{
	(void)arg;
	return crowd.started == THREADS;
}

static void test_crowd(void)
{
	unsigned long sum = 0, before;
	unsigned i, round;

	for (i = 0; i < THREADS; i++) {
		crowd.nr[i] = i;
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&crowd.threads[i], NULL, crowd_thread, &crowd.nr[i]), 0);
	}
	/* All of them have their lanes at once. */
	CU_ASSERT_TRUE(wait_for(crowd_started, NULL));
	for (round = 0; round < ROUNDS; round++) {
		odp_freeze(self);
		CU_ASSERT_TRUE(odp_fence(self, true));
		crowd.shut = true;
		/* Nobody is inside: these are ours to read. */
		for (i = 0, sum = 0; i < THREADS; i++)
			sum += crowd.plain[i];
		before = sum;
		usleep(100); /* time for one who should not be inside to show it */
		for (i = 0, sum = 0; i < THREADS; i++)
			sum += crowd.plain[i];
		CU_ASSERT_EQUAL(sum, before);
		crowd.shut = false;
		odp_thaw(self);
		usleep(200);
	}
	crowd.stop = true;
	for (i = 0, sum = 0; i < THREADS; i++) {
		pthread_join(crowd.threads[i], NULL);
		sum += crowd.plain[i];
	}
	CU_ASSERT_EQUAL(crowd.bad, 0);
	CU_ASSERT_EQUAL(sum, crowd.entries);
	CU_ASSERT(crowd.entries > THREADS);
	/* All but the service thread's, this thread's and the shared one were had. */
	CU_ASSERT(crowd.shared >= THREADS - (ODP_MAX_LANES - 3));
	CU_ASSERT_TRUE(odp_fence(self, true));
}

/* ---- Another process inside ---- */

static int inside_until(void (*wait)(void))
{
	struct odp_proc *proc;
	struct odp_peer *peer;
	struct odp_lane *lane;

	if (odp_proc_get(&proc) || odp_peer_get(proc, (unsigned)parent_get(), &peer))
		return 1;
	lane = odp_lane_get(proc);
	if (!odp_lane_enter(lane, peer, odp_proc_self(proc)))
		return 2;
	parent_put(odp_proc_slot(proc));
	wait();
	odp_lane_leave(lane);
	return 0;
}

static void wait_asleep(void)
{
	parent_get();
}

static void wait_awake(void)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

	while (!poll(&in, 1, 0))
		;
}

static int role_inside(void)
{
	return inside_until(wait_asleep);
}

static int role_busy(void)
{
	return inside_until(wait_awake);
}

static void inside_start(struct child *c, const char *role)
{
	CU_ASSERT_FATAL(child_start(c, role));
	child_put(c, odp_proc_slot(self));
	CU_ASSERT_FATAL(child_get(c) >= 0);
}

static void *end_later(void *arg)
{
	sleep_ms(60);
	child_put(arg, 1);
	return NULL;
}

/* After the time that a fence gives to a thread that does not run. */
static void *end_much_later(void *arg)
{
	sleep_ms(1500);
	child_put(arg, 1);
	return NULL;
}

static void test_fence_peer(void)
{
	uint64_t start;
	pthread_t timer;
	struct child c;

	inside_start(&c, "inside");
	start = now_ms();
	CU_ASSERT_EQUAL_FATAL(pthread_create(&timer, NULL, end_later, &c), 0);
	CU_ASSERT_TRUE(odp_fence(self, false));
	CU_ASSERT(now_ms() - start >= 55);
	pthread_join(timer, NULL);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

/* It waits for a CPU, maybe, but it will leave. */
static void test_fence_busy_peer(void)
{
	pthread_t timer;
	struct child c;

	inside_start(&c, "busy");
	CU_ASSERT_EQUAL_FATAL(pthread_create(&timer, NULL, end_much_later, &c), 0);
	CU_ASSERT_TRUE(odp_fence(self, false));
	pthread_join(timer, NULL);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

static void test_fence_dead_peer(void)
{
	struct child c;

	inside_start(&c, "inside");
	child_kill(&c);
	CU_ASSERT_TRUE(odp_fence(self, false));
	CU_ASSERT_TRUE(odp_fence(self, true));
}

static bool child_stopped(void *arg)
{
	int status;

	return waitpid(((struct child *)arg)->pid, &status, WUNTRACED | WNOHANG) > 0 &&
	       WIFSTOPPED(status);
}

static bool fence_result;

static void fence_call(void *arg)
{
	fence_result = odp_fence(self, false);
	(void)arg;
}

/* A busy machine makes one of several calls slow, not each of them. */
static uint64_t fence_quickest(void)
{
	uint64_t start, ms = UINT64_MAX;
	char line[512];

	for (unsigned i = 0; i < 5; i++) {
		start = now_ms();
		CU_ASSERT_EQUAL(stderr_lines(fence_call, NULL, line, sizeof(line)), 0);
		CU_ASSERT_FALSE(fence_result);
		if (now_ms() - start < ms)
			ms = now_ms() - start;
	}
	return ms;
}

static void test_fence_stopped_peer(void)
{
	char line[512];
	uint64_t start;
	struct child c;

	inside_start(&c, "inside");
	kill(c.pid, SIGSTOP);
	CU_ASSERT_TRUE(wait_for(child_stopped, &c));
	start = now_ms();
	CU_ASSERT_EQUAL(stderr_lines(fence_call, NULL, line, sizeof(line)), 1);
	CU_ASSERT_FALSE(fence_result);
	CU_ASSERT(now_ms() - start >= 900);
	/* For the same stay nobody waits so long again. */
	CU_ASSERT(fence_quickest() < 500);
	kill(c.pid, SIGCONT);
	CU_ASSERT_EQUAL(child_end(&c), 0);
	CU_ASSERT_TRUE(odp_fence(self, false));
}

/* The gate of an owner that died shut does not stay shut for the next one. */
static int role_freeze(void)
{
	struct odp_proc *proc;

	if (odp_proc_get(&proc))
		return 1;
	parent_put(odp_proc_slot(proc));
	if (proc->self->slot->gate & ODP_GATE_FROZEN)
		return 2;
	odp_freeze(proc);
	parent_put(1);
	return parent_get() == -1 ? 0 : 1;
}

static void test_gate_of_the_dead(void)
{
	struct child c;
	uint64_t gate;
	long slot;

	CU_ASSERT_FATAL(child_start(&c, "freeze"));
	slot = child_get(&c);
	CU_ASSERT_EQUAL(child_get(&c), 1);
	gate = self->domain->slots[slot].gate;
	CU_ASSERT_NOT_EQUAL(gate & ODP_GATE_FROZEN, 0);
	child_kill(&c);
	CU_ASSERT_FATAL(child_start(&c, "freeze"));
	CU_ASSERT_EQUAL(child_get(&c), slot);
	CU_ASSERT_EQUAL(child_get(&c), 1);
	CU_ASSERT(self->domain->slots[slot].gate > gate);
	CU_ASSERT_EQUAL(child_end(&c), 0);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {
		{"inside", role_inside},
		{"busy", role_busy},
		{"freeze", role_freeze},
		{NULL, NULL},
	};
	static CU_TestInfo tests[] = {
		{"a shut gate lets nobody in", test_gate},
		{"a fence waits for a lane", test_fence_waits},
		{"a fence waits for system calls if told", test_fence_waits_va},
		{"a thread's end frees its lane", test_lane_returns},
		{"200 threads and a freezer", test_crowd},
		{"a fence waits for another process", test_fence_peer},
		{"a fence waits for a busy one", test_fence_busy_peer},
		{"a fence does not wait for a dead one", test_fence_dead_peer},
		{"a fence gives up on a stopped one", test_fence_stopped_peer},
		{"the gate of a dead owner opens", test_gate_of_the_dead},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	return suite_run("lane", tests);
}
