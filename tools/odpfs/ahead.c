/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Leases waited for ahead of a truncate.
 *
 * From before it sends a truncate (FUSE_SETATTR) until it has the answer, the kernel
 * writes no page of the file back, and whoever stores to a page that is due for it sleeps:
 * an owner who is to deregister in time could not. So leases are waited for before that,
 * at a request that the kernel sends when it holds nothing yet: it asks for the file's
 * capabilities (FUSE_GETXATTR of security.capability), which a truncate would take away.
 * That comes from the same thread just before the SETATTR. Two things are in the way:
 *
 * - A write(2) asks the same. A thread that we may look at is seen to be in truncate(2)
 *   or ftruncate(2). Another one (and all that open with O_TRUNC) is found out by its
 *   SETATTR: that is answered with ESTALE, once. The kernel then looks the name up again
 *   and repeats all of it, without a word to the caller; not so for ftruncate(2), which
 *   has no name to look up.
 * - After a write(2) the kernel keeps in mind that there are no capabilities, and does not
 *   ask, until it gets new attributes. Where regions have leases it is given some, when
 *   they are registered and after each write.
 *
 * What is left waits in the SETATTR: an ftruncate(2) of a program that we may not look at,
 * of io_uring, of a file without a name, or that hits the moment after a write.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <odp/odp.h>

#include "odpfs.h"

#define AHEAD_NAME "security.capability"
#define TAKE_NS 2000000000ull  /* for the SETATTR to come, after the answer */
#define STALE_NS 5000000000ull /* for the GETXATTR to come, after ESTALE */

/* A truncate on its way: by thread TID, of NODE. */
struct ahead {
	struct ahead *next; /* the lock; so is STATE */
	enum { AHEAD_STALE, AHEAD_WAITING, AHEAD_READY, AHEAD_TAKEN, AHEAD_DONE } state;
	pid_t tid;
	struct node *node; /* with a lookup of ours but for STALE, where it is a mere number */
	off_t size;
	uint64_t until; /* STALE: forgotten then */
	fuse_req_t req; /* WAITING: what is to be answered */
	struct odp_recall recall;
};

static struct {
	pthread_mutex_t lock;   /* for list work alone */
	pthread_cond_t changed; /* from READY, from TAKEN */
	struct ahead *first;
} list = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* lock */
static void list_add(struct ahead *a)
{
	a->next = list.first;
	list.first = a;
}

/* lock */
static void list_remove(struct ahead *a)
{
	struct ahead **p = &list.first;

	while (*p != a)
		p = &(*p)->next;
	*p = a->next;
}

/* lock */
static struct ahead *list_find(const struct node *node, pid_t tid, int state)
{
	struct ahead *a = list.first;

	while (a && (a->node != node || a->tid != tid || (int)a->state != state))
		a = a->next;
	return a;
}

/* lock: callers that did not come back */
static void list_prune(void)
{
	uint64_t now = now_ns(CLOCK_MONOTONIC);

	for (struct ahead **p = &list.first, *a; (a = *p);) {
		if (a->state == AHEAD_STALE && a->until < now) {
			*p = a->next;
			free(a);
		} else {
			p = &a->next;
		}
	}
}

/* ---- new attributes for the kernel, so that it asks again ---- */

/* A writer keeps it in mind some time after our answer to its question: again and again,
 * and from the beginning when there was another question. */
static void refresh_run(void *arg)
{
	static const long delays_ms[] = {2, 20, 200, 2000};
	const size_t n = sizeof(delays_ms) / sizeof(delays_ms[0]);
	struct node *node = arg;
	unsigned seen = 0;

	for (size_t i = 0;; i++) {
		/* seq_cst, before the attributes are asked for. */
		unsigned now = atomic_load_explicit(&node->refresh, memory_order_seq_cst);

		if (now != seen)
			i = 0;
		seen = now;
		if (i == n && atomic_compare_exchange_strong_explicit(&node->refresh, &now, 0,
								      memory_order_seq_cst,
								      memory_order_seq_cst))
			break;
		nanosleep(&(struct timespec){delays_ms[i % n] / 1000,
					     delays_ms[i % n] % 1000 * 1000000},
			  NULL);
		path_kernel_refresh(node);
	}
	node_put(node, 1);
}

/* Takes over a lookup of NODE. */
static void refresh_start(struct node *node)
{
	if (atomic_fetch_add_explicit(&node->refresh, 1, memory_order_seq_cst))
		node_put(node, 1);
	else
		aside_run(refresh_run, node);
}

void ahead_leased(uint64_t ino)
{
	struct node *node = node_get_number(ino);

	if (node)
		refresh_start(node);
}

/* ---- the question ---- */

/* The size to which TID is about to truncate something, -1: unknown. */
static off_t call_size(pid_t tid)
{
	unsigned long long size = 0;
	char path[40];
	FILE *call;
	long nr = -1;
	int n;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	call = fopen(path, "re");
	if (!call)
		return -1;
	n = fscanf(call, "%ld 0x%*x 0x%llx", &nr, &size);
	fclose(call);
	if (n != 2 || (nr != SYS_ftruncate && nr != SYS_truncate) || size > INT64_MAX)
		return -1;
	return (off_t)size;
}

/* Its SETATTR has been answered with ESTALE: the size, and that is over; else -1. */
static off_t stale_take(const struct node *node, pid_t tid)
{
	struct ahead *a;
	off_t size = -1;

	pthread_mutex_lock(&list.lock);
	list_prune();
	a = list_find(node, tid, AHEAD_STALE);
	if (a) {
		size = a->size;
		list_remove(a);
		free(a);
	}
	pthread_mutex_unlock(&list.lock);
	return size;
}

/* lock: until the SETATTR has come, or will not come any more. */
static void taken_wait(const struct ahead *a)
{
	uint64_t until = now_ns(CLOCK_REALTIME) + TAKE_NS;
	const struct timespec t = {.tv_sec = (time_t)(until / 1000000000),
				   .tv_nsec = (long)(until % 1000000000)};

	while (a->state == AHEAD_READY &&
	       pthread_cond_timedwait(&list.changed, &list.lock, &t) != ETIMEDOUT)
		;
}

static void ahead_answer(const struct ahead *a)
{
	xattr_get(a->req, a->node, AHEAD_NAME, 0);
}

/* It has been interrupted, or is denied, and its SETATTR will be: as one that has been
 * told ESTALE, so that it is not told again. */
static void ahead_give_up(struct ahead *a)
{
	const struct ahead copy = *a;

	pthread_mutex_lock(&list.lock);
	a->state = AHEAD_STALE;
	a->until = now_ns(CLOCK_MONOTONIC) + STALE_NS;
	pthread_mutex_unlock(&list.lock);
	ahead_answer(&copy);
	node_put(copy.node, 1);
}

static void ahead_run(void *arg)
{
	struct ahead *a = arg;

	if (recall_await(a->node, (uint64_t)a->size, UINT64_MAX, &a->recall, a->req)) {
		ahead_give_up(a);
		return;
	}
	pthread_mutex_lock(&list.lock);
	a->state = AHEAD_READY;
	pthread_mutex_unlock(&list.lock);
	ahead_answer(a);
	pthread_mutex_lock(&list.lock);
	taken_wait(a);
	while (a->state == AHEAD_TAKEN)
		pthread_cond_wait(&list.changed, &list.lock);
	list_remove(a);
	pthread_mutex_unlock(&list.lock);
	recall_end(&a->recall);
	node_put(a->node, 1);
	free(a);
}

/* Takes over a lookup of NODE. */
static bool ahead_start(fuse_req_t req, struct node *node, off_t size)
{
	struct ahead *a = malloc(sizeof(*a));

	if (!a)
		return false;
	*a = (struct ahead){.state = AHEAD_WAITING,
			    .tid = fuse_req_ctx(req)->pid,
			    .node = node,
			    .size = size,
			    .req = req};
	pthread_mutex_lock(&list.lock);
	list_add(a);
	pthread_mutex_unlock(&list.lock);
	aside_run(ahead_run, a);
	return true;
}

bool ahead_ask(fuse_req_t req, struct node *node, const char *name, size_t buf_size)
{
	pid_t tid = fuse_req_ctx(req)->pid;
	off_t size;

	if (buf_size || strcmp(name, AHEAD_NAME) || !recall_leased(node, 0))
		return false;
	size = stale_take(node, tid);
	if (size < 0 && tid)
		size = call_size(tid);
	node_ref(node);
	if (size < 0) {
		refresh_start(node); /* a write(2), as far as we know */
		return false;
	}
	if (recall_leased(node, size) && ahead_start(req, node, size))
		return true;
	node_put(node, 1);
	return false;
}

/* ---- the truncate ---- */

static bool stale_add(const struct node *node, pid_t tid, off_t size)
{
	struct ahead *a = malloc(sizeof(*a));

	if (!a)
		return false;
	*a = (struct ahead){.state = AHEAD_STALE,
			    .tid = tid,
			    .node = (struct node *)node,
			    .size = size,
			    .until = now_ns(CLOCK_MONOTONIC) + STALE_NS};
	pthread_mutex_lock(&list.lock);
	list_add(a);
	pthread_mutex_unlock(&list.lock);
	return true;
}

static struct ahead *ready_take(const struct node *node, pid_t tid)
{
	struct ahead *a;

	pthread_mutex_lock(&list.lock);
	a = list_find(node, tid, AHEAD_READY);
	if (a)
		a->state = AHEAD_TAKEN;
	pthread_mutex_unlock(&list.lock);
	return a;
}

int ahead_begin(fuse_req_t req, const struct node *node, off_t size, bool by_name,
		struct ahead **ahead)
{
	pid_t tid = fuse_req_ctx(req)->pid;

	*ahead = ready_take(node, tid);
	if (*ahead || !by_name || !tid || !recall_leased(node, size))
		return 0;
	if (stale_take(node, tid) >= 0)
		return 0;
	return stale_add(node, tid, size) ? -ESTALE : 0;
}

void ahead_end(struct ahead *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&list.lock);
	a->state = AHEAD_DONE;
	pthread_cond_broadcast(&list.changed);
	pthread_mutex_unlock(&list.lock);
}
