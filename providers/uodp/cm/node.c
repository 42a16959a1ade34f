/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The processes that meet in a run directory, in its folder cm/: <pid>.<tag> is one's
 * mailbox, <pid>.<tag>.life a FIFO that it holds open and locked from its start to its
 * end. The end is that of the memory that the connections are in: exit, a signal, or
 * exec, which the process ID outlives. The kernel closes both then, so that whoever has
 * the FIFO open hears of it, and whoever tries its lock knows.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cm.h"

#define LIFE ".life"
#define LOCK_TRIES 1000 /* of a millisecond: its holder may be stopped */

static int dir_fd = -1, life_fd = -1;

static bool same(const struct cm_node *a, const struct cm_node *b)
{
	return a->pid == b->pid && a->tag == b->tag;
}

bool node_is(const struct cm_node *node, const struct cm_node *other)
{
	return same(node, other);
}

int node_dir(void)
{
	char path[IBV_SYSFS_PATH_MAX + 8], run[IBV_SYSFS_PATH_MAX];
	struct stat st;
	int fd;

	if (dir_fd >= 0)
		return dir_fd;
	if (odp_dir_get(run, sizeof(run)))
		return -EIO;
	snprintf(path, sizeof(path), "%s/cm", run);
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || st.st_uid != geteuid() || st.st_mode & 077) {
		close(fd);
		return -EPERM;
	}
	dir_fd = odp_fd_keep(fd);
	return dir_fd;
}

static void life_name(const struct cm_node *node, char name[NODE_NAME])
{
	node_name(node, name);
	strcat(name, LIFE);
}

void node_name(const struct cm_node *node, char name[NODE_NAME])
{
	snprintf(name, NODE_NAME, "%u.%016llx", node->pid, (unsigned long long)node->tag);
}

/* NODE's FIFO, which is its own as long as it lives; -ESRCH: it does not. */
static int life_open(const struct cm_node *node)
{
	char name[NODE_NAME];
	int fd;

	life_name(node, name);
	fd = openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	/* The kernel drops a lock before it tells readers that the last writer is gone: a
	 * lock that is held now is that of a writer that was there when we opened. */
	if (!flock(fd, LOCK_SH | LOCK_NB)) {
		close(fd);
		return -ESRCH;
	}
	return fd;
}

bool node_alive(const struct cm_node *node)
{
	int fd;

	if (same(node, &cm.self))
		return true;
	if (node_dir() < 0)
		return false;
	fd = life_open(node);
	if (fd >= 0)
		close(fd);
	return fd != -ESRCH;
}

int node_watch(const struct cm_node *node)
{
	int fd = life_open(node);

	/* It is over: readable at once. */
	if (fd == -ESRCH)
		fd = eventfd(1, EFD_CLOEXEC);
	return fd < 0 ? fd : odp_fd_keep(fd);
}

/* What processes have left that are no more. One that has its FIFO but not its lock yet
 * holds the directory's (life_make()). */
static void sweep(void)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	unsigned long long tag;
	struct cm_node node;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while (!flock(fd, LOCK_EX | LOCK_NB) && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "%u.%llx", &node.pid, &tag) != 2)
			continue;
		node.tag = tag;
		if (!node_alive(&node))
			unlinkat(dir_fd, entry->d_name, 0);
	}
	closedir(dir);
}

static void dir_lock_shared(int fd)
{
	for (int i = 0; i < LOCK_TRIES && flock(fd, LOCK_SH | LOCK_NB); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static int life_make(void)
{
	int dir = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
	char name[NODE_NAME];

	if (dir < 0)
		return -errno;
	dir_lock_shared(dir);
	life_name(&cm.self, name);
	fd = mkfifoat(dir_fd, name, 0600)
		     ? -1
		     : openat(dir_fd, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		fd = -1;
	}
	if (fd < 0)
		fd = -errno;
	close(dir);
	return fd;
}

int node_open(void)
{
	int ret = node_dir();

	if (ret < 0)
		return ret;
	cm.self = (struct cm_node){(uint32_t)getpid(), (uint64_t)cm_random() << 32 | cm_random()};
	sweep();
	ret = life_make();
	if (ret < 0)
		return ret;
	life_fd = odp_fd_keep(ret);
	return 0;
}

void node_unlink(void)
{
	char name[NODE_NAME];

	life_name(&cm.self, name);
	unlinkat(dir_fd, name, 0);
	node_name(&cm.self, name);
	unlinkat(dir_fd, name, 0);
}

void node_forget(void)
{
	/* The lock goes with the parent's descriptor alone. */
	if (life_fd >= 0)
		odp_fd_close(life_fd);
	if (dir_fd >= 0)
		odp_fd_close(dir_fd);
	life_fd = dir_fd = -1;
}
