/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Work that may wait for the mount itself, each piece in a thread of its own. */
#include <pthread.h>
#include <stdlib.h>

#include "odpfs.h"

struct aside {
	void (*fn)(void *arg);
	void *arg;
};

static _Atomic unsigned running;

static void *aside_thread(void *arg)
{
	struct aside aside = *(struct aside *)arg;

	free(arg);
	aside.fn(aside.arg);
	/* Release: pairs with aside_running(): what FN used may be freed after that. */
	atomic_fetch_sub_explicit(&running, 1, memory_order_release);
	return NULL;
}

static bool aside_start(struct aside *aside)
{
	pthread_attr_t attr;
	pthread_t thread;
	bool ok;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 1 << 20);
	ok = !pthread_create(&thread, &attr, aside_thread, aside);
	pthread_attr_destroy(&attr);
	return ok;
}

void aside_run(void (*fn)(void *arg), void *arg)
{
	struct aside *aside = malloc(sizeof(*aside));

	/* Relaxed: the session loop, which runs this, ends before anybody asks. */
	atomic_fetch_add_explicit(&running, 1, memory_order_relaxed);
	if (aside) {
		*aside = (struct aside){fn, arg};
		if (aside_start(aside))
			return;
		free(aside);
	}
	/* A truncate must not fail for want of a thread. There are more workers. */
	fn(arg);
	atomic_fetch_sub_explicit(&running, 1, memory_order_relaxed);
}

unsigned aside_running(void)
{
	return atomic_load_explicit(&running, memory_order_acquire);
}
