/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Every file that the kernel remembers costs a descriptor. Before they run out, the
 * kernel is asked to forget names of files that are not open; it then gives the nodes
 * back. Asking takes the lock of the name's directory, so it has a thread of its own.
 *
 * Directories come last, when there is too little else: whoever is in one that the
 * kernel has forgotten gets no name for it from getcwd() until somebody looks it up. So
 * those that programs are in stay, as far as /proc shows them.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "odpfs.h"

/*
 * A file takes two descriptors while it is open, and one as long as the kernel knows a
 * name of it. Those that programs have open get three quarters of what there is, and no
 * more: so that files can be looked up whatever is open, to be asked about, renamed,
 * removed. Half of what the open ones leave may be used up by files that are not open.
 * Above that, lookups are slowed down: each holds its directory's lock in the kernel, and
 * the one who asks the kernel to forget must be waiting for that lock when it is let go.
 */
#define OTHER_DESCRIPTORS 32 /* of /dev/fuse, libodp, requests under way */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t kick;
	pthread_t thread;
	bool started, kicked, stop; /* the lock */
	size_t limit;               /* descriptors for files */
	/* Relaxed: a count for a limit, with nothing behind it. */
	_Atomic size_t open;
} reclaim = {.lock = PTHREAD_MUTEX_INITIALIZER, .kick = PTHREAD_COND_INITIALIZER};

bool reclaim_open(void)
{
	if (atomic_fetch_add_explicit(&reclaim.open, 1, memory_order_relaxed) <
	    reclaim.limit / 8 * 3)
		return true;
	reclaim_close();
	return false;
}

void reclaim_close(void)
{
	atomic_fetch_sub_explicit(&reclaim.open, 1, memory_order_relaxed);
}

/* Nodes, if each open file has one of its own. */
static size_t idle_count(void)
{
	size_t open = atomic_load_explicit(&reclaim.open, memory_order_relaxed);
	size_t nodes = node_count();

	return nodes > open ? nodes - open : 0;
}

/* Idle nodes, above which it starts; it ends at three quarters of that. */
static size_t idle_high(void)
{
	size_t half = reclaim.limit / 2;
	size_t open = atomic_load_explicit(&reclaim.open, memory_order_relaxed);

	return open < half ? half - open : 0;
}

bool reclaim_is_tight(void)
{
	return idle_count() > idle_high();
}

static bool is_short(void)
{
	return idle_count() > idle_high() + idle_high() / 4;
}

void reclaim_pace(void)
{
	if (!reclaim_is_tight())
		return;
	reclaim_kick();
	if (idle_count() > idle_high() + idle_high() / 4 * 3)
		usleep(10000); /* that thread may wait for a CPU */
	else if (is_short())
		usleep(2000);
}

void reclaim_kick(void)
{
	pthread_mutex_lock(&reclaim.lock);
	reclaim.kicked = true;
	pthread_cond_signal(&reclaim.kick);
	pthread_mutex_unlock(&reclaim.lock);
}

/* Where the programs are that we may look at. */
static void visited_find(struct node_visited *visited)
{
	DIR *dir = opendir("/proc");
	struct dirent *d;
	struct statx st;
	char path[64];

	visited->n = 0;
	while (dir && visited->n < NODE_VISITED && (d = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%.16s/cwd", d->d_name);
		/* Without asking whoever serves another file system. */
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9' &&
		    !statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &st) &&
		    makedev(st.stx_dev_major, st.stx_dev_minor) == odpfs.dev)
			visited->inos[visited->n++] = st.stx_ino;
	}
	if (dir)
		closedir(dir);
}

/* False when there is nothing more to give back. */
static bool reclaim_some(bool directories)
{
	struct node_place places[64];
	struct node_visited visited;
	size_t n;

	if (directories)
		visited_find(&visited);
	n = node_places(places, sizeof(places) / sizeof(places[0]), directories ? &visited : NULL);
	for (size_t i = 0; i < n; i++) {
		inside_forget(places[i].parent, places[i].name);
		free(places[i].name);
	}
	return n > 0;
}

/* One pass over the names at most: those that are in use stay. */
static void reclaim_pass(bool directories)
{
	size_t tries = node_count() / 64 + 1;

	while (idle_count() > idle_high() / 4 * 3 && tries--)
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
		if (is_short())
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

	reclaim.limit = descriptors_raise();
	reclaim.limit -=
		reclaim.limit > 2 * OTHER_DESCRIPTORS ? OTHER_DESCRIPTORS : reclaim.limit / 2;
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
