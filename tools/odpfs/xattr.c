/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Extended attributes. */
#include <errno.h>
#include <linux/limits.h>
#include <linux/xattr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <odp/odp.h>

#include "odpfs.h"

/* An ACL is a mode too: whoever is outside the group does not give S_ISGID. */
static int drop_sgid(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!(st.st_mode & S_ISGID))
		return 0;
	return chmod(fd_path(fd).text, st.st_mode & 07777 & ~(mode_t)S_ISGID) ? -errno : 0;
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags)
{
	int fd = node_of(ino)->fd, err = 0;

	mode_change_begin();
	if (setxattr(fd_path(fd).text, name, value, size, flags & ~DEVICE_ACL_KILL_SGID))
		err = -errno;
	else if (flags & DEVICE_ACL_KILL_SGID)
		err = drop_sgid(fd);
	mode_change_end();
	fuse_reply_err(req, -err);
}

/* N and BUF are what a call that lists or gets attributes returned and filled. */
static void xattr_reply(fuse_req_t req, ssize_t n, const char *buf, size_t size)
{
	if (n < 0)
		fuse_reply_err(req, errno);
	else if (!size)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

void xattr_get(fuse_req_t req, const struct node *node, const char *name, size_t size)
{
	struct fd_path path = fd_path(node->fd);
	char *buf = size ? malloc(size) : NULL;

	if (size && !buf)
		fuse_reply_err(req, ENOMEM);
	else
		xattr_reply(req, getxattr(path.text, name, buf, size), buf, size);
	free(buf);
}

/* Of the mount, not of the file: libodp asks where its regions would be found. */
static void run_get(fuse_req_t req, size_t size)
{
	const char *run = recall_run();
	ssize_t n = run ? (ssize_t)strlen(run) : -1;

	errno = ENODATA;
	if (size && n > (ssize_t)size)
		fuse_reply_err(req, ERANGE);
	else
		xattr_reply(req, n, run, size);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	if (!strcmp(name, ODP_FS_XATTR))
		run_get(req, size);
	else if (!ahead_ask(req, node_of(ino), name, size))
		xattr_get(req, node_of(ino), name, size);
}

/* Leave the names out that only an administrator sees; the new length. */
static ssize_t trusted_drop(char *list, ssize_t n)
{
	char *from = list, *to = list;

	while (from < list + n) {
		size_t len = strlen(from) + 1;

		if (strncmp(from, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN)) {
			memmove(to, from, len);
			to += len;
		}
		from += len;
	}
	return to - list;
}

/*
 * The whole list is read whatever the caller has room for, since it may see less of it.
 * SIZE: of the caller's buffer, or 0 for the length alone.
 */
static void list_reply(fuse_req_t req, char *list, ssize_t n, size_t size)
{
	if (n > 0 && memmem(list, (size_t)n, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN) &&
	    !caller_is_admin(fuse_req_ctx(req)->pid))
		n = trusted_drop(list, n);
	if (n > 0 && size && (size_t)n > size)
		fuse_reply_err(req, ERANGE);
	else
		xattr_reply(req, n, list, size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	char *list = malloc(XATTR_LIST_MAX);

	if (!list) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	list_reply(req, list, listxattr(fd_path(node_of(ino)->fd).text, list, XATTR_LIST_MAX),
		   size);
	free(list);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fd_path path = fd_path(node_of(ino)->fd);

	fuse_reply_err(req, removexattr(path.text, name) ? errno : 0);
}
