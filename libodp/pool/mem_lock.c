/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The lock over what the memory side knows. */
#include <signal.h>

#include "pool.h"

/*
 * The stack of this thread may lie in a range that another thread converted, and
 * a touch of a page of it that is missing waits for the service thread. Fault in
 * what may be used while the lock is held, before it is held.
 */
static void stack_ready(void)
{
	volatile char probe[16384];

	for (size_t i = 0; i < sizeof(probe); i += ODP_PAGE_SIZE / 2)
		probe[i] = 0;
}

/*
 * A signal handler of the program may touch a page that is missing, and then waits
 * for the service thread, which may be waiting for this lock.
 */
void odp_mem_lock(struct odp_mem *m)
{
	sigset_t all, old;

	stack_ready();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_mutex_lock(&m->mem_lock);
	m->mem_mask = old;
}

void odp_mem_unlock(struct odp_mem *m)
{
	sigset_t old = m->mem_mask;

	pthread_mutex_unlock(&m->mem_lock);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}
