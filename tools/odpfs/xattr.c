/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Extended attributes. */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "odpfs.h"

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags)
{
	struct fd_path path = fd_path(node_of(ino)->fd);

	fuse_reply_err(req, setxattr(path.text, name, value, size, flags) ? errno : 0);
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

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fd_path path = fd_path(node_of(ino)->fd);
	char *buf = size ? malloc(size) : NULL;

	if (size && !buf)
		fuse_reply_err(req, ENOMEM);
	else
		xattr_reply(req, getxattr(path.text, name, buf, size), buf, size);
	free(buf);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fd_path path = fd_path(node_of(ino)->fd);
	char *buf = size ? malloc(size) : NULL;

	if (size && !buf)
		fuse_reply_err(req, ENOMEM);
	else
		xattr_reply(req, listxattr(path.text, buf, size), buf, size);
	free(buf);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fd_path path = fd_path(node_of(ino)->fd);

	fuse_reply_err(req, removexattr(path.text, name) ? errno : 0);
}
