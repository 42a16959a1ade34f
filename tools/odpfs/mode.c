/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Files of our own that we may not read, though the kernel may: it runs programs that
 * are only executable. (Root may read all files, so this is for ordinary users.) The
 * owner lends itself the right to read for the time of one open(2); nobody else gets any.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <unistd.h>

#include "odpfs.h"

/* Held by who lends, and by who changes a mode meanwhile; over calls into the backing
 * file system. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Odd while a mode is lent. Sequentially consistent, as a sequence lock without its
 * subtleties: this is no hot path, and what it guards are system calls. */
static _Atomic unsigned lends;

void mode_change_begin(void)
{
	if (!odpfs.owns)
		pthread_mutex_lock(&lock);
}

void mode_change_end(void)
{
	if (!odpfs.owns)
		pthread_mutex_unlock(&lock);
}

int mode_stat(int fd, struct stat *st)
{
	for (;;) {
		unsigned before = atomic_load(&lends);
		int err = fstat(fd, st) ? -errno : 0;

		if (!(before & 1) && atomic_load(&lends) == before)
			return err;
		pthread_mutex_lock(&lock);
		pthread_mutex_unlock(&lock);
	}
}

/* Can the mode be what it was afterwards? chmod(2) takes S_ISGID from those outside. */
static bool can_lend(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid() && !(st->st_mode & S_IRUSR) &&
	       (!(st->st_mode & S_ISGID) || group_member(st->st_gid));
}

int mode_open(int path_fd, int flags)
{
	struct fd_path path = fd_path(path_fd);
	struct stat st;
	int fd = -1, err = EACCES;

	mode_change_begin();
	atomic_fetch_add(&lends, 1);
	if (!fstat(path_fd, &st) && can_lend(&st) &&
	    !chmod(path.text, (st.st_mode & 07777) | S_IRUSR)) {
		fd = open(path.text, flags);
		err = errno;
		if (chmod(path.text, st.st_mode & 07777))
			odpfs_note("a mode of %04o could not be restored", st.st_mode & 07777);
	}
	atomic_fetch_add(&lends, 1);
	mode_change_end();
	return fd < 0 ? -err : fd;
}
