/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Paths of what is known by a descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "odpfs.h"

struct fd_path fd_path(int fd)
{
	struct fd_path path;

	snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", fd);
	return path;
}

static ssize_t path_of_fd(int fd, char *path, size_t size)
{
	ssize_t n = readlink(fd_path(fd).text, path, size - 1);

	if (n >= 0)
		path[n] = '\0';
	return n;
}

static int path_on_mount(const struct node *node, char *below, size_t size)
{
	char root[PATH_MAX], path[PATH_MAX];
	ssize_t root_len = path_of_fd(odpfs.root_fd, root, sizeof(root));

	if (root_len < 0 || path_of_fd(node->fd, path, sizeof(path)) < 0)
		return -errno;
	if (root_len == 1)
		root_len = 0;
	if (strncmp(path, root, (size_t)root_len) || path[root_len] != '/')
		return -ENOENT;
	snprintf(below, size, "%s%s", odpfs.mountpoint, path + root_len);
	return 0;
}

static int kernel_stat(const struct node *node, int flags, off_t *size)
{
	char below[2 * PATH_MAX];
	int err = path_on_mount(node, below, sizeof(below));
	uint64_t ino;

	if (!err)
		err = inside_stat(below, flags, &ino, size);
	if (err)
		return err;
	return ino == attr_ino(node->dev, node->ino) ? 0 : -ENOENT;
}

/*
 * With the write-back cache the kernel alone knows a file's size while it has data that
 * it has not written yet. It tells it without asking us (AT_STATX_DONT_SYNC), by a path
 * below the mount point. A file without a name there: -ENOENT.
 */
int path_kernel_size(struct node *node, off_t *size)
{
	return kernel_stat(node, AT_STATX_DONT_SYNC, size);
}

void path_kernel_refresh(const struct node *node)
{
	off_t size;

	kernel_stat(node, AT_STATX_FORCE_SYNC, &size);
}

int path_open(const struct node *node)
{
	char below[2 * PATH_MAX];
	int err = path_on_mount(node, below, sizeof(below)), fd;
	uint64_t ino;

	fd = err ? err : inside_open(below, &ino);
	if (fd < 0 || ino == attr_ino(node->dev, node->ino))
		return fd;
	close(fd);
	return -ENOENT;
}

/* The mount's device number as programs see it; also before the session loop runs. */
int path_mount_dev(uint64_t *dev)
{
	struct statx st;

	if (statx(AT_FDCWD, odpfs.mountpoint, AT_STATX_DONT_SYNC, STATX_TYPE, &st))
		return -errno;
	*dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	return 0;
}
