/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What takes blocks away from a file: truncate, and fallocate in most of its modes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include <odp/odp.h>

#include "odpfs.h"

bool space_truncate_waits(struct node *node, off_t size)
{
	return recall_waits(node, (uint64_t)size, UINT64_MAX);
}

/*
 * Does a truncate to SIZE take anything away? The kernel's idea of the size counts,
 * which is ahead of ours while it has data to write. It is asked only if regions are
 * there: a recall of bytes that no region is on is harmless.
 */
static bool truncate_takes(struct node *node, off_t size)
{
	struct stat st;
	off_t now;

	if (fstat(node->fd, &st) || size < st.st_size)
		return true;
	/* Relaxed: see file_new(). */
	if (!atomic_load_explicit(&node->writers, memory_order_relaxed))
		return false;
	if (!space_truncate_waits(node, size) || path_kernel_size(node, &now))
		return true;
	return size < now;
}

/* FD: open for writing, or -1. */
int space_truncate(struct node *node, int fd, off_t size, bool *unsettled, fuse_req_t req)
{
	bool takes = truncate_takes(node, size);
	struct odp_recall recall;
	int err = 0;

	*unsettled = false;
	settle_wait(node);

	if (takes)
		err = recall_begin(node, (uint64_t)size, UINT64_MAX, &recall, req);
	if (err)
		return err;
	if (fd >= 0 ? ftruncate(fd, size) : truncate(fd_path(node->fd).text, size))
		err = -errno;
	if (takes && recall_end(&recall)) {
		settle_begin(node);
		*unsettled = true;
	}
	return err;
}

struct allocate {
	fuse_req_t req;
	struct node *node;
	int fd, mode;
	off_t off, len;
	bool apart; /* in a thread of its own */
};

static bool allocate_takes(const struct allocate *a)
{
	return a->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_COLLAPSE_RANGE |
			  FALLOC_FL_INSERT_RANGE);
}

/* Collapse and insert move all that follows. */
static uint64_t allocate_end(const struct allocate *a)
{
	if (a->mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
		return UINT64_MAX;
	return (uint64_t)a->off + (uint64_t)a->len;
}

/*
 * Nobody is to lose a region to a call that the backing file system does not know. It is
 * tried on a file that has no name and no blocks; where there is none, it will do.
 */
static bool mode_known(const struct allocate *a)
{
	int fd, err = 0;

	if (a->node->dev != node_of(FUSE_ROOT_ID)->dev)
		return true;
	fd = openat(odpfs.root_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return true;
	if (fallocate(fd, a->mode, 0, 4096))
		err = errno;
	close(fd);
	return err != EOPNOTSUPP;
}

/* With regions there, pages are dirtied all the time: have the kernel drop them now, as
 * long as what it writes back of them is left out, and not only after the answer. */
static int allocate_take(const struct allocate *a)
{
	struct range taken;
	int err = 0;

	range_take(&taken, a->node, (uint64_t)a->off, allocate_end(a));
	if (fallocate(a->fd, a->mode, a->off, a->len))
		err = -errno;
	else if (a->apart)
		data_flush(a->node, a->off, a->len);
	range_close(&taken);
	return err;
}

static int allocate_do(const struct allocate *a)
{
	struct odp_recall recall = {0};
	int err;

	settle_wait(a->node);
	if (!allocate_takes(a))
		return fallocate(a->fd, a->mode, a->off, a->len) ? -errno : 0;
	if (a->apart && !mode_known(a))
		return -EOPNOTSUPP;
	err = recall_begin(a->node, (uint64_t)a->off, allocate_end(a), &recall, a->req);
	if (err)
		return err;
	/* Here the kernel writes back, so that they do not sleep for ever. */
	if (recall.stuck)
		settle_try();
	err = allocate_take(a);
	recall_end(&recall);
	return err;
}

static void allocate_run(void *arg)
{
	struct allocate *a = arg;

	fuse_reply_err(a->req, -allocate_do(a));
	free(a);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	struct allocate *a = malloc(sizeof(*a));

	if (!a) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*a = (struct allocate){.req = req,
			       .node = node_of(ino),
			       .fd = file_of(fi)->fd,
			       .mode = mode,
			       .off = off,
			       .len = len};
	a->apart = allocate_takes(a) && recall_waits(a->node, (uint64_t)off, allocate_end(a));
	if (a->apart)
		aside_run(allocate_run, a);
	else
		allocate_run(a);
}
