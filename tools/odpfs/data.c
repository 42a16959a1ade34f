/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Bytes read and written. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "odpfs.h"

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	char *buf = malloc(size);
	ssize_t n;

	(void)ino;
	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	n = pread(file_of(fi)->fd, buf, size, off);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, buf, (size_t)n);
	free(buf);
}

int data_write(int fd, const char *buf, size_t size, off_t off)
{
	while (size) {
		ssize_t n = pwrite(fd, buf, size, off);

		if (n < 0)
			return -errno;
		buf += n;
		off += n;
		size -= (size_t)n;
	}
	return 0;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct file *file = file_of(fi);
	int err;

	(void)ino;
	if (fi->writepage) {
		err = range_write(file->node, file->fd, buf, size, off);
		if (err)
			full_failed(file->node, -err, off, size);
	} else {
		settle_wait(file->node);
		err = data_write(file->fd, buf, size, off);
		if (!err && fi->flags & DEVICE_KILL_SUIDGID)
			err = attr_drop_ids(file->fd);
	}
	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_write(req, size);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	int fd = file_of(fi)->fd;

	(void)ino;
	fuse_reply_err(req, (datasync ? fdatasync(fd) : fsync(fd)) ? errno : 0);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags)
{
	ssize_t n;

	settle_wait(file_of(fi_out)->node);
	n = copy_file_range(file_of(fi_in)->fd, &off_in, file_of(fi_out)->fd, &off_out, len,
			    (unsigned)flags);
	(void)ino_in;
	(void)ino_out;
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_write(req, (size_t)n);
}

/* The kernel drops these pages from its cache, and writes the dirty ones first. */
void data_flush(const struct node *node, off_t off, off_t len)
{
	inside_inval(node_number(node), off, len);
}

struct seek {
	fuse_req_t req;
	const struct file *file;
	off_t off;
	int whence;
};

static void seek_reply(const struct seek *s)
{
	off_t off = lseek(s->file->fd, s->off, s->whence);

	if (off < 0)
		fuse_reply_err(s->req, errno);
	else
		fuse_reply_lseek(s->req, off);
}

static void seek_after_flush(void *arg)
{
	struct seek *s = arg;

	data_flush(s->file->node, s->off, 0);
	seek_reply(s);
	free(s);
}

/* The kernel asks where data is without having written what it has: a hole in the
 * backing file may be one no more. */
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct seek here = {.req = req, .file = file_of(fi), .off = off, .whence = whence}, *s;

	(void)ino;
	/* Relaxed: see file_new(). */
	if (!atomic_load_explicit(&here.file->node->writers, memory_order_relaxed)) {
		seek_reply(&here);
		return;
	}
	s = malloc(sizeof(*s));
	if (!s) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*s = here;
	aside_run(seek_after_flush, s);
}
