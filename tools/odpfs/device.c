/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Requests from /dev/fuse before libfuse sees them, and its answers to them: what the
 * kernel can say and no release of libfuse passes on.
 *
 * FUSE_TMPFILE (unknown to libfuse before 3.17) is FUSE_CREATE in all but the number and
 * the name: the kernel gives it "/", which is no name otherwise. So it is made one.
 *
 * FUSE_HANDLE_KILLPRIV_V2: the kernel remembers that a file has no capabilities and no
 * set-ID bits to lose, instead of asking before each write; where there are some, it
 * says that they have to go, by flags of FUSE_WRITE and FUSE_SETATTR.
 *
 * FUSE_SETXATTR_EXT: with an ACL it says whether S_ISGID has to go.
 *
 * The flags arrive as bits that the same fields do not have otherwise.
 */
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "odpfs.h"

/* FUSE_INIT, the first request of all. Set before any other is read. */
static struct {
	uint64_t unique;
	uint32_t offered;
} init;

enum { SETXATTR_OLD_SIZE = 8 }; /* of fuse_setxattr_in, before FUSE_SETXATTR_EXT */

static void init_read(const struct fuse_in_header *in, size_t size)
{
	const struct fuse_init_in *arg = (const void *)(in + 1);

	if (size < sizeof(*in) + offsetof(struct fuse_init_in, flags) + sizeof(arg->flags))
		return;
	init.unique = in->unique;
	init.offered = arg->flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
}

/* The answer of libfuse, in its own memory, to which it does not come back. */
static void init_answer(const struct iovec *iov, int count)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct fuse_init_out *arg;

	if (!init.unique || iov[0].iov_len != sizeof(*out) || out->unique != init.unique ||
	    out->error || count != 2)
		return;
	arg = iov[1].iov_base;
	if (iov[1].iov_len >= offsetof(struct fuse_init_out, flags) + sizeof(arg->flags))
		arg->flags |= init.offered;
}

static void tmpfile_to_create(struct fuse_in_header *in, size_t size)
{
	size_t name = sizeof(*in) + sizeof(struct fuse_create_in);

	if (size >= name + sizeof(TMPFILE_NAME) &&
	    !memcmp((char *)in + name, TMPFILE_NAME, sizeof(TMPFILE_NAME)))
		in->opcode = FUSE_CREATE;
}

static void write_flags(struct fuse_in_header *in, size_t size)
{
	struct fuse_write_in *arg = (void *)(in + 1);

	if (size >= sizeof(*in) + sizeof(*arg) && arg->write_flags & FUSE_WRITE_KILL_SUIDGID)
		arg->flags |= DEVICE_KILL_SUIDGID;
}

/* To the form that libfuse knows; the new size. */
static size_t setxattr_flags(struct fuse_in_header *in, size_t size)
{
	struct fuse_setxattr_in *arg = (void *)(in + 1);
	size_t more = sizeof(*arg) - SETXATTR_OLD_SIZE;
	char *old_end = (char *)arg + SETXATTR_OLD_SIZE;

	if (!(init.offered & FUSE_SETXATTR_EXT) || size < sizeof(*in) + sizeof(*arg))
		return size;
	if (arg->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		arg->flags |= DEVICE_ACL_KILL_SGID;
	memmove(old_end, old_end + more, size - sizeof(*in) - sizeof(*arg));
	in->len -= (uint32_t)more;
	return size - more;
}

static ssize_t device_read(int fd, void *buf, size_t size, void *data)
{
	ssize_t n = read(fd, buf, size);
	struct fuse_in_header *in = buf;

	(void)data;
	if (n < (ssize_t)sizeof(*in))
		return n;
	if (in->opcode == FUSE_INIT)
		init_read(in, (size_t)n);
	else if (in->opcode == FUSE_TMPFILE)
		tmpfile_to_create(in, (size_t)n);
	else if (in->opcode == FUSE_WRITE)
		write_flags(in, (size_t)n);
	else if (in->opcode == FUSE_SETXATTR)
		return (ssize_t)setxattr_flags(in, (size_t)n);
	return n;
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *data)
{
	(void)data;
	init_answer(iov, count);
	return writev(fd, iov, count);
}

/* Of a session that is mounted. */
int device_hook(struct fuse_session *session)
{
	static const struct fuse_custom_io io = {.writev = device_writev, .read = device_read};

	return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
