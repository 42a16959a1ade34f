/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * One odpfs a backing directory: what a second one took away, the first would not know
 * of, nor its regions. So BACKING is locked (flock(2), as long as the process lives),
 * and the directories above it are, shared: a mount of one of those would show its files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "odpfs.h"

/* How long one that ends is waited for; and one that seems to stay: its device number
 * may have passed to another mount already. */
enum { LEAVING_TRIES = 1000, STAYING_TRIES = 200, LEAVING_MS = 10 };

/* As /proc/locks writes it: MAJOR:MINOR:INODE. */
static bool lock_is_on(const char *line, const struct stat *st, int *pid)
{
	unsigned major_nr, minor_nr;
	unsigned long long ino;

	return sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", pid, &major_nr, &minor_nr, &ino) ==
		       4 &&
	       ino == st->st_ino && makedev(major_nr, minor_nr) == st->st_dev;
}

/* Who holds a lock on the directory, 0 if that cannot be seen. */
static int holder_find(int fd)
{
	char line[256];
	struct stat st;
	FILE *locks;
	int pid, found = 0;

	if (fstat(fd, &st))
		return 0;
	locks = fopen("/proc/locks", "re");
	while (locks && !found && fgets(line, sizeof(line), locks))
		if (lock_is_on(line, &st, &pid) && pid != getpid())
			found = pid;
	if (locks)
		fclose(locks);
	return found > 0 ? found : 0;
}

static void holder_name(int pid, char *name, size_t size)
{
	FILE *comm;

	snprintf(name, size, "/proc/%d/comm", pid);
	comm = fopen(name, "re");
	if (!comm || !fgets(name, (int)size, comm))
		snprintf(name, size, "a program");
	name[strcspn(name, "\n")] = '\0';
	if (comm)
		fclose(comm);
}

/* LEVEL: how far above BACKING. */
static void held_note(int fd, int level)
{
	const char *above = level ? "a directory above it is locked" : "is locked";
	char name[64];
	int pid = holder_find(fd);

	holder_name(pid, name, sizeof(name));
	if (pid)
		odpfs_note("BACKING %s: %s by process %d (%s): one odpfs a backing directory",
			   odpfs.backing, above, pid, name);
	else
		odpfs_note("BACKING %s: %s by another process: one odpfs a backing directory",
			   odpfs.backing, above);
}

/* Is the holder an odpfs that has been unmounted, and ends? */
static bool holder_leaves(int fd)
{
	int pid = holder_find(fd), n, conn = -1;
	char line[512], name[64];
	FILE *mounts;

	holder_name(pid, name, sizeof(name));
	if (!pid || strcmp(name, "odpfs"))
		return false;
	for (n = 3; n < 64 && conn < 0; n++) {
		FILE *info;

		snprintf(line, sizeof(line), "/proc/%d/fdinfo/%d", pid, n);
		info = fopen(line, "re");
		while (info && conn < 0 && fgets(line, sizeof(line), info))
			if (sscanf(line, "fuse_connection: %d", &conn) != 1)
				conn = -1;
		if (info)
			fclose(info);
	}
	if (conn < 0)
		return true; /* a kernel that does not say, or its descriptor is closed */
	mounts = fopen("/proc/self/mountinfo", "re");
	while (mounts && fgets(line, sizeof(line), mounts)) {
		unsigned major_nr, minor_nr;

		if (sscanf(line, "%*d %*d %u:%u", &major_nr, &minor_nr) == 2 && !major_nr &&
		    (int)minor_nr == conn && strstr(line, " fuse.odpfs ")) {
			fclose(mounts);
			return false;
		}
	}
	if (mounts)
		fclose(mounts);
	return true;
}

static int lock_take(int fd, int how)
{
	const struct timespec nap = {.tv_nsec = LEAVING_MS * 1000000};
	int tries = 0;

	while (flock(fd, how | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (tries++ >= STAYING_TRIES && (tries > LEAVING_TRIES || !holder_leaves(fd)))
			return -EBUSY;
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* A directory above that cannot be opened or locked is left out; so is one that somebody
 * else locks for reasons of his own. */
static int above_lock(int fd)
{
	struct stat here, up;
	char name[64];
	int level, err = 0;

	for (level = 1; !err; level++) {
		int next = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (next < 0)
			return 0;
		if (fstat(fd, &here) || fstat(next, &up) ||
		    (here.st_dev == up.st_dev && here.st_ino == up.st_ino)) {
			close(next);
			return 0;
		}
		fd = next; /* stays open with its lock, for good */
		err = lock_take(fd, LOCK_SH);
		if (err == -EBUSY) {
			holder_name(holder_find(fd), name, sizeof(name));
			if (strcmp(name, "odpfs"))
				err = 0;
		} else {
			err = 0;
		}
		if (err)
			held_note(fd, level);
	}
	return err;
}

static int backing_fd = -1;

int backing_lock(int root_fd)
{
	int err;

	backing_fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (backing_fd < 0) /* who may not read it may still serve it */
		return 0;
	err = lock_take(backing_fd, LOCK_EX);
	if (err == -EBUSY) {
		held_note(backing_fd, 0);
		return err;
	}
	if (err) { /* the file system has no locks */
		odpfs_note("BACKING %s cannot be locked against another odpfs: %s", odpfs.backing,
			   strerror(-err));
		return 0;
	}
	return above_lock(backing_fd);
}

/* /proc/locks names the process that took a lock, even after it has gone. */
int backing_relock(void)
{
	if (backing_fd < 0)
		return 0;
	flock(backing_fd, LOCK_UN);
	if (!flock(backing_fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK)
		return 0;
	held_note(backing_fd, 0);
	return -EBUSY;
}
