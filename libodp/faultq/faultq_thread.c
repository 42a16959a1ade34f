/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A thread with a table of open files of its own: what it holds is closed when the
 * process ends, and no child of fork has a copy that keeps it open; nor does the
 * thread keep open what the program closes.
 */
#include <semaphore.h>
#include <string.h>

#include "faultq.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2u
#endif

struct start {
	void (*fn)(void *);
	void *arg;
	int low, high;
	bool own;
	sem_t started;
};

static bool files_leave(const struct start *s)
{
	if (odp_sys(SYS_close_range, s->high + 1, ~0u, CLOSE_RANGE_UNSHARE))
		return false;
	if (s->high > s->low + 1)
		odp_sys(SYS_close_range, s->low + 1, s->high - 1, 0);
	if (s->low > 0)
		odp_sys(SYS_close_range, 0, s->low - 1, 0);
	return true;
}

static void *thread_main(void *arg)
{
	struct start *s = arg;
	void (*fn)(void *) = s->fn;

	arg = s->arg;
	s->own = files_leave(s);
	sem_post(&s->started); /* S is gone now */
	fn(arg);
	return NULL;
}

int odp_faultq_thread(pthread_t *thread, void (*fn)(void *), void *arg, int a, int b, bool *own)
{
	struct start s = {.fn = fn, .arg = arg, .low = a < b ? a : b, .high = a < b ? b : a};
	sigset_t all, old;
	int ret;

	sem_init(&s.started, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(thread, NULL, thread_main, &s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		odp_log(ODP_LOG_ERR, "fault queue: no thread: %s", strerrordesc_np(ret));
		return -ret;
	}
	pthread_setname_np(*thread, "uodp-faults");
	while (sem_wait(&s.started) && errno == EINTR)
		;
	*own = s.own;
	sem_destroy(&s.started);
	return 0;
}
