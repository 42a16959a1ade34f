/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A system call that does not begin once its gate has changed, wherever the thread was
 * stopped before it: at every single instruction, which takes a tracer.
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <signal.h>

#include <CUnit/Basic.h>

#include "guard.h"

#define OPEN 1u
#define SHUT 2u
#define RESTARTED 42
#define MAX_STEPS 2000

static _Atomic uint64_t *gate;

/* Stops, then writes a byte to FD if the gate is open. */
ODP_NO_SANITIZE static void victim(int fd)
{
	static const char byte = 'x';
	long ret;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	odp_sys(SYS_kill, odp_sys(SYS_getpid, 0, 0, 0), SIGSTOP, 0);
	ret = odp_guard_sys6(gate, OPEN, SYS_write, fd, (long)&byte, 1, 0, 0, 0);
	odp_sys(SYS_exit_group, ret == 1 ? 0 : ret == -ERESTART ? RESTARTED : 1, 0, 0);
}

static bool written(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* Shut the gate after STEPS instructions. True while the call had not begun by then. */
static bool shut_after(int steps, int *before, int *late)
{
	int fds[2], status = 0;
	bool begun;
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	atomic_store(gate, OPEN);
	pid = fork();
	if (!pid)
		victim(fds[1]);
	waitpid(pid, &status, 0);
	CU_ASSERT_FATAL(WIFSTOPPED(status));
	for (int i = 0; i < steps && WIFSTOPPED(status); i++) {
		ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
		waitpid(pid, &status, 0);
	}
	begun = written(fds[0]) || !WIFSTOPPED(status);
	atomic_store(gate, SHUT);
	if (WIFSTOPPED(status)) {
		ptrace(PTRACE_CONT, pid, NULL, NULL);
		waitpid(pid, &status, 0);
	}
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) != 1);
	if (!begun) {
		*before += WEXITSTATUS(status) == RESTARTED;
		*late += written(fds[0]);
	}
	close(fds[0]);
	close(fds[1]);
	return !begun;
}

static void test_every_step(void)
{
	int before = 0, late = 0, steps = 0;

	if (!odp_guard_works()) {
		printf("(no restartable sequences: skipped) ");
		return;
	}
	while (steps < MAX_STEPS && shut_after(steps, &before, &late))
		steps++;
	printf("(%d instructions) ", steps);
	CU_ASSERT(steps < MAX_STEPS);
	CU_ASSERT(before > 5);
	CU_ASSERT_EQUAL(late, 0);
}

static void test_plain(void)
{
	int fds[2];

	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	atomic_store(gate, OPEN);
	CU_ASSERT_EQUAL(odp_guard_sys6(gate, SHUT, SYS_write, fds[1], (long)"x", 1, 0, 0, 0),
			-ERESTART);
	CU_ASSERT_FALSE(written(fds[0]));
	CU_ASSERT_EQUAL(odp_guard_sys6(gate, OPEN, SYS_write, fds[1], (long)"x", 1, 0, 0, 0), 1);
	CU_ASSERT(written(fds[0]));
	CU_ASSERT_EQUAL(odp_guard_sys6(gate, OPEN, SYS_write, -1, (long)"x", 1, 0, 0, 0), -EBADF);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"open and shut", test_plain},
		{"stopped at every instruction", test_every_step},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {{"guard", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};

	gate = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (gate == MAP_FAILED || CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	return CU_get_number_of_failures() ? 1 : 0;
}
