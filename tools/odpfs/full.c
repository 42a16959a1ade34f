/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A backing file system that is full, or a quota. With the write-back cache write(2)
 * has long succeeded when a page finds no room. What is done then:
 *
 * The next write(2) to the file fails. The kernel asks for a file's attributes before a
 * write when it has none that are valid, and write(2) returns the error that it gets. It
 * asks in the name of the open file, which stat(2) does not. read(2) does, but wants the
 * size alone, which in the write-back cache is the kernel's own: it asks only when the
 * attributes are too old. So for a file that has failed the kernel gets attributes that
 * hold for long, and then hears that they are invalid: the file is armed, and whoever
 * asks in the name of an open file writes. That goes on until there is room for what had
 * found none.
 *
 * The kernel's size of the file goes back to what is stored. It takes a size from nobody
 * but the answer to a truncate, so inside.c truncates the file, by way of the mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "odpfs.h"

#define PROBE_MAX (1 << 20)

/* Of what nodes have in node.full; over no system call. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Held by who changes what the kernel knows of a file, over calls that wait for the mount;
 * never in a session worker. */
static pthread_mutex_t cut_lock = PTHREAD_MUTEX_INITIALIZER;
/* The one truncate of our own that is under way, if any. */
static struct {
	const struct node *node; /* this and all below: lock */
	int path_fd;             /* of the file, on the mount */
	off_t kernel_size;
} cut;

/* Relaxed: whoever misses a failure is told by the next request, or by fsync(2). */
bool full_is(const struct node *node)
{
	return atomic_load_explicit(&node->full.err, memory_order_relaxed);
}

static void err_set(struct node *node, int err)
{
	atomic_store_explicit(&node->full.err, err, memory_order_relaxed);
}

void full_clear(struct node *node)
{
	if (!full_is(node))
		return;
	pthread_mutex_lock(&lock);
	err_set(node, 0);
	node->full.armed = false;
	pthread_mutex_unlock(&lock);
}

/*
 * After an answer with attributes. The kernel drops what it was told before it heard that
 * something is invalid, so this is for one thread at a time: cut_lock.
 */
static void arm(struct node *node)
{
	fuse_lowlevel_notify_inval_inode(odpfs.session, node_number(node), -1, 0);
	pthread_mutex_lock(&lock);
	node->full.armed = full_is(node);
	pthread_mutex_unlock(&lock);
}

static void arm_run(void *arg)
{
	pthread_mutex_lock(&cut_lock);
	arm(arg);
	pthread_mutex_unlock(&cut_lock);
	node_put(arg, 1);
}

void full_answered(struct node *node)
{
	aside_run(arm_run, node);
}

/* ---- The size ---- */

static bool kernel_size(int path_fd, off_t *size)
{
	struct statx st;

	if (statx(path_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &st))
		return false;
	*size = (off_t)st.stx_size;
	return true;
}

static off_t stored_size(const struct node *node)
{
	struct stat st;

	return fstat(node->fd, &st) ? -1 : st.st_size;
}

static void cut_announce(const struct node *node, int path_fd, off_t size)
{
	pthread_mutex_lock(&lock);
	cut.node = node;
	cut.path_fd = path_fd;
	cut.kernel_size = size;
	pthread_mutex_unlock(&lock);
}

bool full_is_cut(fuse_req_t req)
{
	return fuse_req_ctx(req)->pid == inside_pid();
}

/* The kernel lets nobody write meanwhile: if the file has the size still that it had when
 * all of it had been written back, there is nothing that can be lost. */
int full_cut_allowed(const struct node *node, off_t size)
{
	off_t now, then;
	int path_fd;

	pthread_mutex_lock(&lock);
	path_fd = cut.node == node && full_is(node) ? cut.path_fd : -1;
	then = cut.kernel_size;
	pthread_mutex_unlock(&lock);
	return path_fd >= 0 && kernel_size(path_fd, &now) && now == then &&
			       stored_size(node) == size
		       ? 0
		       : -EAGAIN;
}

/* Regions are not cut off for want of room. */
static void cut_file(struct node *node, int path_fd)
{
	off_t stored, now;
	int err;

	/* What is dirty is written, or fails too. The file is not opened for it: its close
	 * would take the error away that a program's close is to have. */
	inside_sync();
	stored = stored_size(node);
	if (stored < 0 || !kernel_size(path_fd, &now) || now <= stored ||
	    recall_waits(node, (uint64_t)stored, UINT64_MAX))
		return;
	cut_announce(node, path_fd, now);
	err = inside_cut(path_fd, stored);
	if (err && err != -EAGAIN && err != -EACCES)
		odpfs_note("a file that found no room keeps its size");
	cut_announce(NULL, -1, 0);
}

/* A file that has no name, or none any more, keeps its size, and is asked about by read(2)
 * now and then. */
static void set_right(struct node *node)
{
	int path_fd = path_open(node);

	pthread_mutex_lock(&cut_lock);
	if (path_fd >= 0 && full_is(node)) {
		cut_file(node, path_fd);
		inside_refresh(path_fd); /* attributes that hold for long: see attr_reply() */
	}
	arm(node);
	pthread_mutex_unlock(&cut_lock);
	if (path_fd >= 0)
		close(path_fd);
}

/* ---- Failures ---- */

static bool busy_leave(struct node *node)
{
	bool done;

	pthread_mutex_lock(&lock);
	done = !node->full.again;
	node->full.again = false;
	node->full.busy = !done;
	pthread_mutex_unlock(&lock);
	return done;
}

static void failed_run(void *arg)
{
	struct node *node = arg;

	do
		set_right(node);
	while (!busy_leave(node));
	node_put(node, 1);
}

void full_failed(struct node *node, int err, off_t off, size_t size)
{
	uint64_t start = (uint64_t)off, end = start + size;
	bool start_run;

	pthread_mutex_lock(&lock);
	if (!full_is(node) || start < node->full.start)
		node->full.start = start;
	if (!full_is(node) || end > node->full.end)
		node->full.end = end;
	err_set(node, err);
	start_run = !node->full.busy;
	node->full.again = node->full.busy;
	node->full.busy = true;
	pthread_mutex_unlock(&lock);
	if (start_run) {
		node_ref(node);
		aside_run(failed_run, node);
	}
}

/* ---- The next write ---- */

/* Room for what had found none, or for the beginning of it: then it is the file's. */
static int probe(struct node *node, int fd)
{
	uint64_t start, len;
	int err = 0;

	pthread_mutex_lock(&lock);
	start = node->full.start;
	len = node->full.end - start;
	pthread_mutex_unlock(&lock);
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)start,
		      (off_t)(len < PROBE_MAX ? len : PROBE_MAX)))
		err = errno;
	else
		atomic_store_explicit(&node->full.probed, true, memory_order_relaxed);
	return err == ENOSPC || err == EDQUOT ? -err : 0;
}

/* Other errors, as that of a place where the backing file system can have no data: once. */
static int told_once(struct node *node, int err)
{
	set_right(node);
	full_clear(node);
	return -err;
}

int full_write(struct node *node, int fd)
{
	int err = atomic_load_explicit(&node->full.err, memory_order_relaxed);
	bool armed;

	pthread_mutex_lock(&lock);
	armed = node->full.armed;
	pthread_mutex_unlock(&lock);
	if (!armed || settle_is_due(node))
		return 0;
	if (err != ENOSPC && err != EDQUOT)
		return err ? told_once(node, err) : 0;
	err = probe(node, fd);
	if (err)
		set_right(node);
	else
		full_clear(node);
	return err;
}

/* Relaxed: the kernel has let the file go. */
void full_trim(struct node *node, int fd)
{
	struct stat st;

	if (!atomic_exchange_explicit(&node->full.probed, false, memory_order_relaxed))
		return;
	if (!fstat(fd, &st) && ftruncate(fd, st.st_size))
		odpfs_note("room beyond the end of a file is not given back");
}
