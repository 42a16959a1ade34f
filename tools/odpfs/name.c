/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Names made, moved and taken away. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "odpfs.h"

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char text[PATH_MAX + 1];
	ssize_t n = readlinkat(node_of(ino)->fd, "", text, sizeof(text) - 1);

	if (n < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	text[n] = '\0';
	fuse_reply_readlink(req, text);
}

/* Answer for a name that has been made; OK is what the making call returned. */
static void made_reply(fuse_req_t req, int ok, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *dir = node_of(parent);
	struct fuse_entry_param e;
	int err = ok ? -errno : 0;

	if (!err) {
		err = owner_set(req, dir, dir->fd, name, mode);
		if (!err)
			err = entry_find(parent, name, &e);
		if (err)
			unlinkat(dir->fd, name, S_ISDIR(mode) ? AT_REMOVEDIR : 0);
	}
	entry_reply(req, err, &e);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct node *dir = node_of(parent);

	mode = owner_mode(req, dir, mode);
	made_reply(req, mknodat(dir->fd, name, mode, rdev), parent, name, mode);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *dir = node_of(parent);

	mode = owner_mode(req, dir, mode);
	made_reply(req, mkdirat(dir->fd, name, mode), parent, name, mode | S_IFDIR);
}

void op_symlink(fuse_req_t req, const char *text, fuse_ino_t parent, const char *name)
{
	made_reply(req, symlinkat(text, node_of(parent)->fd, name), parent, name, S_IFLNK);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	struct fd_path from = fd_path(node_of(ino)->fd);
	int err = 0;

	if (linkat(AT_FDCWD, from.text, node_of(parent)->fd, name, AT_SYMLINK_FOLLOW))
		err = -errno;
	else
		err = entry_find(parent, name, &e);
	entry_reply(req, err, &e);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, unlinkat(node_of(parent)->fd, name, 0) ? errno : 0);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, unlinkat(node_of(parent)->fd, name, AT_REMOVEDIR) ? errno : 0);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags)
{
	int from = node_of(parent)->fd, to = node_of(new_parent)->fd;

	fuse_reply_err(req, renameat2(from, name, to, new_name, flags) ? errno : 0);
}
