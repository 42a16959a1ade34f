/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Children that are made past the C library's fork(): they have copies of registered
 * memory as they have of any private memory, or share it with their parent.
 */
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define LEN ((size_t)64 << 10)
#define STACK ((size_t)64 << 10)
#define BEFORE 7
#define AFTER 9

static uint8_t *mem;
static char stack[STACK] __attribute__((aligned(64)));

/* What the child sees in a page that was stored to and in one that was not; then it
 * stores itself. */
static int child(void *arg)
{
	int seen = mem[5000] + mem[LEN - 1];

	(void)arg;
	memset(mem, AFTER, LEN);
	return seen;
}

static pid_t by_under_fork(void)
{
	return _Fork();
}
static pid_t by_clone(void)
{
	return clone(child, stack + STACK, SIGCHLD, NULL);
}
static pid_t by_clone_syscall(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}
static pid_t by_clone3(void)
{
	struct clone_args a = {.exit_signal = SIGCHLD};

	return (pid_t)syscall(SYS_clone3, &a, sizeof(a));
}
static pid_t by_fork_syscall(void)
{
#ifdef SYS_fork
	return (pid_t)syscall(SYS_fork);
#else
	return fork();
#endif
}
static pid_t by_shared_clone(void)
{
	return clone(child, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
}

static const struct way {
	const char *name;
	pid_t (*make)(void);
	bool shared; /* the child has its parent's memory itself */
} ways[] = {
	{"fork", fork, false},
	{"_Fork", by_under_fork, false},
	{"clone", by_clone, false},
	{"SYS_clone", by_clone_syscall, false},
	{"SYS_clone3", by_clone3, false},
	{"SYS_fork", by_fork_syscall, false},
	{"clone with CLONE_VM", by_shared_clone, true},
};

static void way_once(const struct way *w)
{
	int status = -1;
	pid_t pid;

	memset(mem, 0, LEN);
	mem[5000] = BEFORE;
	pid = w->make();
	if (!pid)
		_exit(child(NULL));
	REQUIRE(pid > 0);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	if (CHECK(WIFEXITED(status)))
		CHECK_INT(WEXITSTATUS(status), BEFORE);
	CHECK_INT(mem[5000], w->shared ? AFTER : BEFORE);
	CHECK_INT(mem[LEN - 1], w->shared ? AFTER : 0);
}

/* A page that is missing when the child is made, too. */
static void way_discarded(const struct way *w)
{
	CHECK_ERRNO(madvise(mem, LEN, MADV_DONTNEED) ? errno : 0, 0);
	way_once(w);
}

static void children(struct pair *p, int access)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;

	REQUIRE(pair_up(p, &c, &c));
	for (unsigned i = 0; i < ARRAY_SIZE(ways) && !t_failures(); i++) {
		mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		REQUIRE(mem != MAP_FAILED);
		t_note("%s, not registered", ways[i].name);
		way_once(&ways[i]);
		mr = ibv_reg_mr(p->a.pd, mem, LEN, access);
		REQUIRE(mr);
		t_note("%s, registered", ways[i].name);
		way_once(&ways[i]);
		way_discarded(&ways[i]);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		t_note("%s, deregistered", ways[i].name);
		way_once(&ways[i]);
		munmap(mem, LEN);
	}
	pair_down(p);
}

static void c_pinned(struct pair *p)
{
	children(p, IBV_ACCESS_LOCAL_WRITE);
}

static void c_odp(struct pair *p)
{
	if (tdev()->odp.general_caps & IBV_ODP_SUPPORT)
		children(p, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
	else
		t_skip("no on-demand paging");
}

/* ---- _Fork() in a signal handler, wherever the program may be ---- */

static volatile int made, wrong;

static void on_tick(int sig)
{
	int status, err = errno;
	pid_t pid = _Fork();

	(void)sig;
	if (!pid)
		_exit(mem[5000]);
	made++;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != BEFORE)
		wrong++;
	errno = err;
}

static void register_and_write(struct pair *p, uint8_t *other)
{
	struct ibv_mr *mr = ibv_reg_mr(p->a.pd, other, LEN, IBV_ACCESS_LOCAL_WRITE);
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 4096};
	struct ibv_wc wc;

	REQUIRE(mr);
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
}

static void c_handler(struct pair *p)
{
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
	struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;

	REQUIRE(pair_up(p, &c, &c));
	made = wrong = 0;
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(mem != MAP_FAILED);
	mem[5000] = BEFORE;
	mr = ibv_reg_mr(p->a.pd, mem, LEN, IBV_ACCESS_LOCAL_WRITE);
	REQUIRE(mr);
	sigaction(SIGPROF, &sa, NULL);
	setitimer(ITIMER_PROF, &often, NULL);
	while (made < 100 && !wrong && !t_failures()) {
		uint8_t *other =
			mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		register_and_write(p, other);
		munmap(other, LEN);
	}
	setitimer(ITIMER_PROF, &never, NULL);
	signal(SIGPROF, SIG_DFL);
	CHECK_INT(wrong, 0);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(mem, LEN);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"pinned", c_pinned, HERE},
		{"on demand", c_odp, HERE},
		{"in a signal handler", c_handler, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
