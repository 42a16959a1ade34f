/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Transfers that outlive a truncate. From before it asks us for a truncate until it has
 * the answer, the kernel writes no page of the file back, and whoever stores to a page
 * that is to be written back sleeps until then: a transfer, for one, which a recall
 * can therefore not wait for. With the answer it goes on, finds that the page has gone
 * and ends, unless the file has grown again by then: it would get to new blocks. So
 * the file must not: all that can let it grow passes here. (Writes into the write-back
 * cache do because attributes without a time to live have to be asked for first.)
 */
#include <pthread.h>
#include <time.h>

#include "odpfs.h"

#define LIMIT_NS 1000000000 /* for a transfer that does not come out: of a stopped process */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t settled = PTHREAD_COND_INITIALIZER;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void settle_begin(struct node *node)
{
	/* Relaxed: the answer to the truncate comes after. */
	atomic_fetch_add_explicit(&node->unsettled, 1, memory_order_relaxed);
}

void settle_try(void)
{
	uint64_t limit = now_ns() + LIMIT_NS;

	while (!recall_settle() && now_ns() < limit)
		;
}

void settle_end(struct node *node)
{
	settle_try();
	pthread_mutex_lock(&lock);
	atomic_fetch_sub_explicit(&node->unsettled, 1, memory_order_relaxed);
	pthread_cond_broadcast(&settled);
	pthread_mutex_unlock(&lock);
}

bool settle_is_due(const struct node *node)
{
	return atomic_load_explicit(&node->unsettled, memory_order_relaxed);
}

void settle_wait(struct node *node)
{
	if (!settle_is_due(node))
		return;
	pthread_mutex_lock(&lock);
	while (settle_is_due(node))
		pthread_cond_wait(&settled, &lock);
	pthread_mutex_unlock(&lock);
}
