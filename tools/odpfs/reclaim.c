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

static bool is_short(void)
{
	return node_count() > reclaim.high + reclaim.high / 4;
}

void reclaim_pace(void)
{
	if (!reclaim_is_tight())
		return;
	reclaim_kick();
	if (node_count() > reclaim.high + reclaim.high / 4 * 3)
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
