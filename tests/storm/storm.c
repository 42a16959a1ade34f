/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * storm [--seconds N] [--procs N] [--seed N] [--skip EVENT,...]: see storm.h for
 * what it checks, owner.c for the events.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storm.h"

#define END_S 60 /* for all to finish what is under way */

static void wait_all(bool finished)
{
	uint64_t limit = now_ns() + END_S * 1000000000ull;

	for (uint32_t i = 0; i < ctl->nprocs; i++)
		while (!atomic_load(finished ? &ctl->proc[i].finished : &ctl->proc[i].ready) &&
		       !storm_over()) {
			if (now_ns() > limit) {
				errno = ETIMEDOUT;
				die("waiting for the others");
			}
			usleep(1000);
		}
}

static void thread_start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	errno = pthread_create(t, NULL, fn, arg);
	if (errno)
		die("pthread_create");
}

static int proc_main(void)
{
	static _Atomic uint32_t go;
	pthread_t owner, toucher, requester, responder;
	struct proc_ctl *me = &ctl->proc[self];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	helper_start();
	device_open();
	me->gid = dev.gid;
	areas_open();
	thread_start(&requester, requester_main, &go);
	thread_start(&responder, responder_main, &go);
	while (atomic_load(&go) < 2)
		usleep(1000);
	atomic_store(&me->ready, 1);
	wait_all(false);
	thread_start(&owner, owner_main, NULL);
	thread_start(&toucher, toucher_main, NULL);
	pthread_join(owner, NULL);
	pthread_join(toucher, NULL);
	pthread_join(requester, NULL);
	atomic_store(&me->finished, 1);
	wait_all(true);
	atomic_store(&me->finished, 2);
	pthread_join(responder, NULL);
	return storm_over() ? 1 : 0;
}

static uint64_t sum(size_t off)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < ctl->nprocs; i++)
		n += atomic_load((_Atomic uint64_t *)((char *)&ctl->proc[i] + off));
	return n;
}
#define SUM(field) (unsigned long long)sum(offsetof(struct proc_ctl, field))

static void report(double seconds)
{
	printf("%.1f s, seed %llu, %u processes: %llu READs, %llu WRITEs, %llu atomics, %llu "
	       "SENDs; "
	       "%llu access errors as expected, %llu reconnections\n"
	       "%llu events, %llu of them forks; %llu turns of the CPU; %llu words judged, "
	       "%llu exactly, %llu seen half written\n",
	       seconds, (unsigned long long)ctl->seed, ctl->nprocs, SUM(reads), SUM(writes),
	       SUM(atomics), SUM(sends), SUM(errors), SUM(reconnects), SUM(events), SUM(forks),
	       SUM(cpu), SUM(checks), SUM(strict), SUM(torn));
}

/* Nothing happened is a failure too. */
static bool report_enough(void)
{
	if (SUM(reads) && SUM(writes) && SUM(atomics) && SUM(sends) && SUM(events) && SUM(strict))
		return true;
	printf("some kind of operation never succeeded\n");
	return false;
}

/* Wait for the processes; true if all ended well, killing those that do not end. */
static bool children_reap(const pid_t *pids, uint64_t limit)
{
	bool ok = true;

	for (uint32_t i = 0; i < ctl->nprocs; i++) {
		int status = 0;
		pid_t got;

		while (!(got = waitpid(pids[i], &status, WNOHANG)) && now_ns() < limit)
			usleep(10000);
		if (!got) {
			printf("process %u (pid %d) does not end\n", i, (int)pids[i]);
			kill(pids[i], SIGKILL);
			waitpid(pids[i], &status, 0);
			ok = false;
		} else if (status) {
			printf("process %u ended with status %#x\n", i, status);
			ok = false;
		}
	}
	return ok;
}

static void storm_wait(double seconds, const pid_t *pids)
{
	uint64_t end = ctl->start_ns + (uint64_t)(seconds * 1e9);
	siginfo_t info;

	(void)pids;
	while (now_ns() < end && !storm_over()) {
		info.si_pid = 0;
		/* One that ends early has failed, whatever it says. */
		if (!waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid) {
			printf("pid %d ended too early\n", (int)info.si_pid);
			atomic_store(&ctl->failed, 1);
		}
		usleep(20000);
	}
	atomic_store(&ctl->stop, 1);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seconds", required_argument, NULL, 's'},
		{"procs", required_argument, NULL, 'p'},
		{"skip", required_argument, NULL, 'x'},
		{"seed", required_argument, NULL, 'r'},
		{NULL, 0, NULL, 0},
	};
	uint64_t seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
	const char *skip = "";
	uint32_t nprocs = 4;
	double seconds = 60;
	pid_t pids[MAX_PROCS];
	size_t size;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seconds = atof(optarg);
		else if (c == 'p')
			nprocs = (uint32_t)atoi(optarg);
		else if (c == 'x')
			skip = optarg;
		else if (c == 'r')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	if (nprocs < 1 || nprocs > MAX_PROCS || seconds <= 0) {
		fprintf(stderr, "storm: --procs is 1 to %u, --seconds above 0\n", MAX_PROCS);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	size = sizeof(*ctl) + nprocs * sizeof(struct proc_ctl);
	ctl = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (ctl == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	ctl->nprocs = nprocs;
	ctl->seed = seed;
	snprintf(ctl->skip, sizeof(ctl->skip), "%s", skip);
	ctl->start_ns = now_ns();
	printf("storm: seed %llu, %u processes, %.0f s\n", (unsigned long long)seed, nprocs,
	       seconds);
	for (uint32_t i = 0; i < nprocs; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			self = i;
			exit(proc_main());
		}
	}
	storm_wait(seconds, pids);
	bool ok = children_reap(pids, now_ns() + 2 * END_S * 1000000000ull);

	report((double)(now_ns() - ctl->start_ns) / 1e9);
	return ok && !storm_over() && report_enough() ? 0 : 1;
}
