/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Files opened and closed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odpfs.h"

struct file *file_of(const struct fuse_file_info *fi)
{
	return (struct file *)(uintptr_t)fi->fh;
}

/*
 * The flags for the backing file. The kernel appends and truncates by itself, and reads
 * what it only has to write in part.
 */
static int backing_flags(int flags)
{
	int access = (flags & O_ACCMODE) == O_WRONLY ? O_RDWR : flags & O_ACCMODE;

	return access | (flags & (O_SYNC | O_DSYNC | O_NOATIME)) | O_CLOEXEC;
}

/* Takes the descriptor FD over, and a lookup of NODE. */
static struct file *file_new(int fd, struct node *node, int flags)
{
	struct file *file = malloc(sizeof(*file));

	if (!file) {
		close(fd);
		return NULL;
	}
	file->fd = fd;
	file->node = node;
	file->writer = (flags & O_ACCMODE) != O_RDONLY;
	/* Relaxed, both: the kernel has no file before our reply, which is a system call;
	 * who reads them for a later request is ordered after it by that. */
	atomic_fetch_add_explicit(&node->files, 1, memory_order_relaxed);
	if (file->writer)
		atomic_fetch_add_explicit(&node->writers, 1, memory_order_relaxed);
	return file;
}

static void file_free(struct file *file)
{
	/* Relaxed: as above; the kernel has written everything back by now. */
	atomic_fetch_sub_explicit(&file->node->files, 1, memory_order_relaxed);
	if (file->writer &&
	    atomic_fetch_sub_explicit(&file->node->writers, 1, memory_order_relaxed) == 1)
		full_trim(file->node, file->fd);
	close(file->fd);
	reclaim_close();
	node_put(file->node, 1);
	free(file);
}

/* A descriptor or -errno; the kernel has made sure that the caller may. */
static int backing_open(const struct node *node, struct fuse_file_info *fi)
{
	struct fd_path path = fd_path(node->fd);
	int flags = backing_flags(fi->flags);
	int fd = open(path.text, flags);

	if (fd >= 0 || errno != EACCES)
		return fd < 0 ? -errno : fd;
	if ((fi->flags & O_ACCMODE) != O_WRONLY)
		return mode_open(node->fd, flags);
	/* May be written, not read: then nothing of it can be cached. */
	fi->direct_io = 1;
	fd = open(path.text, (flags & ~O_ACCMODE) | O_WRONLY);
	return fd < 0 ? -errno : fd;
}

static int file_open(struct node *node, struct fuse_file_info *fi, struct file **file)
{
	int fd;

	if (!reclaim_open())
		return -ENFILE;
	fd = backing_open(node, fi);
	if (fd < 0) {
		reclaim_close();
		return fd;
	}
	node_ref(node);
	*file = file_new(fd, node, fi->flags);
	if (*file)
		return 0;
	node_put(node, 1);
	reclaim_close();
	return -ENOMEM;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct file *file;
	int err = file_open(node_of(ino), fi, &file);

	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	fi->fh = (uintptr_t)file;
	fi->keep_cache = !fi->direct_io; /* nobody else changes the file */
	if (fuse_reply_open(req, fi) == -ENOENT)
		file_free(file);
}

/*
 * A name that was not there when the kernel looked: if it is now, the kernel shall look
 * again, and then open it as any file that exists.
 */
static int name_create(struct node *dir, const char *name, int flags, mode_t mode)
{
	int fd = openat(dir->fd, name, backing_flags(flags) | O_CREAT | O_EXCL, mode);

	if (fd < 0)
		return errno == EEXIST && !(flags & O_EXCL) ? -ESTALE : -errno;
	return fd;
}

static int tmpfile_create(struct node *dir, int flags, mode_t mode)
{
	int fd = openat(dir->fd, ".", backing_flags(flags) | O_TMPFILE, mode);

	return fd < 0 ? -errno : fd;
}

/* The entry of the file that is open as FD; its node has two lookups then, the kernel's
 * and the open file's. */
static int created_entry(fuse_req_t req, int fd, fuse_ino_t parent, const char *name, mode_t mode,
			 struct fuse_entry_param *e)
{
	int err = owner_set(req, node_of(parent), fd, "", mode);
	int path_fd;

	if (err)
		return err;
	path_fd = open(fd_path(fd).text, O_PATH | O_CLOEXEC);
	if (path_fd < 0)
		return -errno;
	err = entry_of_fd(path_fd, parent, name, e);
	if (!err)
		node_ref(node_of(e->ino));
	return err;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct node *dir = node_of(parent);
	bool nameless = !strcmp(name, TMPFILE_NAME);
	struct fuse_entry_param e;
	struct file *file;
	int fd, err;

	reclaim_pace();
	if (!reclaim_open()) {
		fuse_reply_err(req, ENFILE);
		return;
	}
	mode = owner_mode(req, dir, mode);
	fd = nameless ? tmpfile_create(dir, fi->flags, mode)
		      : name_create(dir, name, fi->flags, mode);
	if (fd < 0) {
		reclaim_close();
		fuse_reply_err(req, -fd);
		return;
	}
	err = created_entry(req, fd, parent, nameless ? NULL : name, mode | S_IFREG, &e);
	if (err) {
		close(fd);
		goto err_unlink;
	}
	file = file_new(fd, node_of(e.ino), fi->flags);
	if (!file) {
		node_put(node_of(e.ino), 2);
		err = -ENOMEM;
		goto err_unlink;
	}
	fi->fh = (uintptr_t)file;
	fi->keep_cache = 1;
	if (fuse_reply_create(req, &e, fi) == -ENOENT) {
		node_put(node_of(e.ino), 1);
		file_free(file);
	}
	return;

err_unlink:
	reclaim_close();
	if (!nameless)
		unlinkat(dir->fd, name, 0);
	fuse_reply_err(req, -err);
}

/* Closing a copy of the descriptor asks a backing file system that keeps its errors
 * until then. */
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int copy = dup(file_of(fi)->fd);

	(void)ino;
	fuse_reply_err(req, copy >= 0 && close(copy) ? errno : 0);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	file_free(file_of(fi));
	fuse_reply_err(req, 0);
}
