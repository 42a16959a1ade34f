/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Requests from /dev/fuse, before libfuse sees them. It knows no FUSE_TMPFILE (its
 * releases before 3.17), which is FUSE_CREATE in all but the number and the name: the
 * kernel gives it "/", which is no name otherwise. So it is made one.
 */
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "odpfs.h"

static void tmpfile_to_create(void *buf, size_t size)
{
	struct fuse_in_header *in = buf;
	size_t name = sizeof(*in) + sizeof(struct fuse_create_in);

	if (in->opcode == FUSE_TMPFILE && size >= name + sizeof(TMPFILE_NAME) &&
	    !memcmp((char *)buf + name, TMPFILE_NAME, sizeof(TMPFILE_NAME)))
		in->opcode = FUSE_CREATE;
}

static ssize_t device_read(int fd, void *buf, size_t size, void *data)
{
	ssize_t n = read(fd, buf, size);

	(void)data;
	if (n >= (ssize_t)sizeof(struct fuse_in_header))
		tmpfile_to_create(buf, (size_t)n);
	return n;
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *data)
{
	(void)data;
	return writev(fd, iov, count);
}

/* Of a session that is mounted. */
int device_hook(struct fuse_session *session)
{
	static const struct fuse_custom_io io = {.writev = device_writev, .read = device_read};

	return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
