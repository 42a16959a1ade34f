/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Every file that the kernel remembers costs a descriptor. Before they run out, the
 * kernel is asked to forget names of files that are not open; it then gives the nodes
 * back. Asking takes the lock of the name's directory, so it has a thread of its own.
 *
 * Directories come last, when there is too little else: whoever is in one that the
 * kernel has forgotten is told of no name for it until somebody looks it up again.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "odpfs.h"

/*
 * Open files and directories need descriptors too: names get half of them. Above that,
 * lookups are slowed down: each holds its directory's lock in the kernel, and the one
 * who asks the kernel to forget must be waiting for that lock when it is let go.
 */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t kick;
	pthread_t thread;
	bool started, kicked, stop; /* the lock */
	size_t high, low;           /* nodes: when it starts, and where it ends */
} reclaim = {.lock = PTHREAD_MUTEX_INITIALIZER, .kick = PTHREAD_COND_INITIALIZER};

bool reclaim_is_tight(void)
{
	return node_count() > reclaim.high;
}

void reclaim_pace(void)
{
	size_t count = node_count();

	if (count <= reclaim.high)
		return;
	reclaim_kick();
	if (count > reclaim.high + reclaim.high / 4 * 3)
		usleep(50000); /* that thread may wait for a CPU */
	else if (count > reclaim.high + reclaim.high / 4)
		usleep(2000);
}

void reclaim_kick(void)
{
	pthread_mutex_lock(&reclaim.lock);
	reclaim.kicked = true;
	pthread_cond_signal(&reclaim.kick);
	pthread_mutex_unlock(&reclaim.lock);
}

/* False when there is nothing more to give back. */
static bool reclaim_some(bool directories)
{
	struct node_place places[64];
	size_t n = node_places(places, sizeof(places) / sizeof(places[0]), directories);

	for (size_t i = 0; i < n; i++) {
		fuse_lowlevel_notify_inval_entry(odpfs.session, places[i].parent, places[i].name,
						 strlen(places[i].name));
		free(places[i].name);
	}
	return n > 0;
}

/* One pass over the names at most: those that are in use stay. */
static void reclaim_pass(bool directories)
{
	size_t tries = node_count() / 64 + 1;

	while (node_count() > reclaim.low && tries--)
		if (!reclaim_some(directories))
			break;
}

static void *reclaim_thread(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&reclaim.lock);
	while (!reclaim.stop) {
		if (!reclaim.kicked) {
			pthread_cond_wait(&reclaim.kick, &reclaim.lock);
			continue;
		}
		pthread_mutex_unlock(&reclaim.lock);
		reclaim_pass(false);
		if (reclaim_is_tight())
			reclaim_pass(true);
		pthread_mutex_lock(&reclaim.lock);
		reclaim.kicked = false;
	}
	pthread_mutex_unlock(&reclaim.lock);
	return NULL;
}

/* As many descriptors as the system lets this process have. */
static size_t descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 1024;
	if (limit.rlim_max < 1 << 20) {
		struct rlimit more = {1 << 20, 1 << 20};

		if (!setrlimit(RLIMIT_NOFILE, &more)) /* root may */
			return more.rlim_cur;
	}
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}

int reclaim_start(void)
{
	int err;

	reclaim.high = descriptors_raise() / 2;
	reclaim.low = reclaim.high / 4 * 3;
	err = pthread_create(&reclaim.thread, NULL, reclaim_thread, NULL);
	reclaim.started = !err;
	return -err;
}

void reclaim_stop(void)
{
	if (!reclaim.started)
		return;
	pthread_mutex_lock(&reclaim.lock);
	reclaim.stop = true;
	pthread_cond_signal(&reclaim.kick);
	pthread_mutex_unlock(&reclaim.lock);
	pthread_join(reclaim.thread, NULL);
}
