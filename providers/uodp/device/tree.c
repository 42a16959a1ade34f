/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tree.h"

/* Open the directory NAME below DIR; made, and made again if it is no directory. */
static int dir_open(int dir, const char *name)
{
	for (int tries = 0; tries < 3; tries++) {
		int fd;

		if (mkdirat(dir, name, 0700) && errno != EEXIST)
			return -errno;
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno != ENOTDIR && errno != ELOOP && errno != ENOENT)
			return -errno;
		if (errno != ENOENT && unlinkat(dir, name, 0) && errno != ENOENT)
			return -errno;
	}
	return -ENOTDIR;
}

/* As dir_open() for every part of the relative PATH. */
static int path_open(int dir, const char *path)
{
	char parts[PATH_MAX];
	char *next = parts, *name;
	int fd = -EINVAL, last = -1;

	strncpy(parts, path, sizeof(parts) - 1);
	parts[sizeof(parts) - 1] = '\0';
	while ((name = strsep(&next, "/")) != NULL) {
		fd = dir_open(last < 0 ? dir : last, name);
		if (last >= 0)
			close(last);
		if (fd < 0)
			break;
		last = fd;
	}
	return fd;
}

static bool file_is(int dir, const char *name, const char *text, size_t len)
{
	char buf[UODP_FILE_MAX + 1];
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return n == (ssize_t)len && !memcmp(buf, text, len);
}

/* A reader sees the old file or the new one, whole. */
static int file_replace(int dir, const char *name, const char *text, size_t len)
{
	char tmp[32];
	ssize_t n;
	int fd, ret = 0;

	snprintf(tmp, sizeof(tmp), ".new.%d", gettid());
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n != (ssize_t)len)
		ret = n < 0 ? -errno : -ENOSPC;
	close(fd);
	if (!ret && renameat(dir, tmp, dir, name)) {
		/* Damaged so far that a directory stands there? An empty one goes. */
		if (errno != EISDIR || unlinkat(dir, name, AT_REMOVEDIR) ||
		    renameat(dir, tmp, dir, name))
			ret = -errno;
	}
	if (ret)
		unlinkat(dir, tmp, 0);
	return ret;
}

void uodp_file_write(struct uodp_dir *dir, const char *name, const char *fmt, ...)
{
	char text[UODP_FILE_MAX];
	va_list args;
	int len;

	if (dir->err)
		return;
	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text) - 1, fmt, args);
	va_end(args);
	if (len > (int)sizeof(text) - 2)
		len = sizeof(text) - 2;
	text[len++] = '\n';
	if (!file_is(dir->fd, name, text, len))
		dir->err = file_replace(dir->fd, name, text, len);
}

static bool link_is(int dir, const char *name, const char *target)
{
	char buf[PATH_MAX];
	ssize_t n = readlinkat(dir, name, buf, sizeof(buf));

	return n == (ssize_t)strlen(target) && !memcmp(buf, target, n);
}

void uodp_link_write(struct uodp_dir *dir, const char *name, const char *target)
{
	char tmp[32];

	if (dir->err || link_is(dir->fd, name, target))
		return;
	snprintf(tmp, sizeof(tmp), ".new.%d", gettid());
	if (symlinkat(target, dir->fd, tmp) && errno != EEXIST) {
		dir->err = -errno;
		return;
	}
	if (renameat(dir->fd, tmp, dir->fd, name))
		dir->err = -errno;
	if (dir->err)
		unlinkat(dir->fd, tmp, 0);
}

struct uodp_dir uodp_dir_open(const char *path)
{
	struct uodp_dir dir = {.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};

	if (dir.fd < 0)
		dir.err = -errno;
	return dir;
}

struct uodp_dir uodp_dir_sub(const struct uodp_dir *dir, const char *path)
{
	struct uodp_dir sub = {.fd = -1, .err = dir->err};

	if (sub.err)
		return sub;
	sub.fd = path_open(dir->fd, path);
	if (sub.fd < 0)
		sub.err = sub.fd;
	return sub;
}

void uodp_dir_close(struct uodp_dir *sub, struct uodp_dir *dir)
{
	if (sub->fd >= 0)
		close(sub->fd);
	if (dir)
		dir->err = sub->err;
}

DIR *uodp_dir_list(const struct uodp_dir *dir)
{
	int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !list)
		close(fd);
	return list;
}
