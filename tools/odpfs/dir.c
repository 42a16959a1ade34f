/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Directories read. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "odpfs.h"

/* An open directory. The lock is held over calls into the backing directory, and is
 * wanted only by those who read through the same open directory. */
struct dir {
	struct dir *next_open, **at_open; /* in open_dirs */
	int fd;
	struct node *node; /* with a lookup of its own */
	pthread_mutex_t lock;
	off_t off;        /* of the entry at NEXT */
	size_t next, end; /* in BUF */
	char buf[32 << 10] __attribute__((aligned(8)));
};

/* The kernel does not tell of a close any more once the mount has gone. */
static struct dir *open_dirs;
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

static void dir_link(struct dir *dir)
{
	pthread_mutex_lock(&open_lock);
	dir->next_open = open_dirs;
	dir->at_open = &open_dirs;
	if (open_dirs)
		open_dirs->at_open = &dir->next_open;
	open_dirs = dir;
	pthread_mutex_unlock(&open_lock);
}

static void dir_unlink(struct dir *dir)
{
	pthread_mutex_lock(&open_lock);
	*dir->at_open = dir->next_open;
	if (dir->next_open)
		dir->next_open->at_open = dir->at_open;
	pthread_mutex_unlock(&open_lock);
}

static struct dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir *)(uintptr_t)fi->fh;
}

static void dir_free(struct dir *dir)
{
	dir_unlink(dir);
	/* Relaxed: as that of file_free(). */
	atomic_fetch_sub_explicit(&dir->node->files, 1, memory_order_relaxed);
	close(dir->fd);
	reclaim_close();
	node_put(dir->node, 1);
	pthread_mutex_destroy(&dir->lock);
	free(dir);
}

static int backing_opendir(const struct node *node)
{
	int fd;

	if (!reclaim_open())
		return -ENFILE;
	fd = openat(node->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	reclaim_close();
	return -errno;
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct dir *dir = malloc(sizeof(*dir));

	if (!dir) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	dir->fd = backing_opendir(node_of(ino));
	if (dir->fd < 0) {
		fuse_reply_err(req, -dir->fd);
		free(dir);
		return;
	}
	dir->node = node_of(ino);
	node_ref(dir->node);
	/* Relaxed: see file_new(). */
	atomic_fetch_add_explicit(&dir->node->files, 1, memory_order_relaxed);
	pthread_mutex_init(&dir->lock, NULL);
	dir_link(dir);
	dir->off = 0;
	dir->next = dir->end = 0;
	fi->fh = (uintptr_t)dir;
	fi->cache_readdir = fi->keep_cache = 1; /* nobody else changes it */
	if (fuse_reply_open(req, fi) == -ENOENT)
		dir_free(dir);
}

/* The entry at OFF: NULL at the end, or with *ERR set. */
static struct dirent64 *dir_entry(struct dir *dir, off_t off, int *err)
{
	if (off != dir->off) {
		if (lseek(dir->fd, off, SEEK_SET) < 0) {
			*err = -errno;
			return NULL;
		}
		dir->off = off;
		dir->next = dir->end = 0;
	}
	if (dir->next == dir->end) {
		ssize_t n = getdents64(dir->fd, dir->buf, sizeof(dir->buf));

		dir->next = 0;
		dir->end = n > 0 ? (size_t)n : 0;
		if (n < 0)
			*err = -errno;
		if (n <= 0)
			return NULL;
	}
	return (struct dirent64 *)(dir->buf + dir->next);
}

static void dir_step(struct dir *dir, const struct dirent64 *d)
{
	dir->next += d->d_reclen;
	dir->off = d->d_off;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* One entry in the kernel's form: its size, which may be above SIZE: not added then. */
static size_t entry_add(fuse_req_t req, fuse_ino_t ino, char *buf, size_t size,
			const struct dirent64 *d, bool plus)
{
	struct fuse_entry_param e = {0};
	size_t n;

	e.attr.st_ino = attr_ino(node_of(ino)->dev, d->d_ino);
	e.attr.st_mode = (mode_t)d->d_type << 12;
	if (!plus)
		return fuse_add_direntry(req, buf, size, d->d_name, &e.attr, d->d_off);
	/* Without a node number the kernel takes the name alone. */
	if (!is_dots(d->d_name) && !reclaim_is_tight()) {
		struct fuse_entry_param found;

		if (!entry_find(ino, d->d_name, &found))
			e = found;
	}
	n = fuse_add_direntry_plus(req, buf, size, d->d_name, &e, d->d_off);
	if (n > size && e.ino)
		node_put(node_of(e.ino), 1);
	return n;
}

/* Lookups that the kernel was not told of. */
static void plus_undo(const char *buf, size_t size)
{
	struct fuse_direntplus plus;

	for (size_t at = 0; at + FUSE_NAME_OFFSET_DIRENTPLUS <= size;) {
		memcpy(&plus, buf + at, FUSE_NAME_OFFSET_DIRENTPLUS);
		if (plus.entry_out.nodeid)
			node_put(node_of(plus.entry_out.nodeid), 1);
		at += FUSE_DIRENTPLUS_SIZE(&plus);
	}
}

static void dir_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct dir *dir,
		     bool plus)
{
	char *buf = malloc(size);
	const struct dirent64 *d;
	size_t used = 0;
	int err = 0;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	pthread_mutex_lock(&dir->lock);
	for (; (d = dir_entry(dir, off, &err)); off = dir->off) {
		size_t n = entry_add(req, ino, buf + used, size - used, d, plus);

		if (n > size - used)
			break;
		used += n;
		dir_step(dir, d);
	}
	pthread_mutex_unlock(&dir->lock);
	if (err && !used)
		fuse_reply_err(req, -err);
	else if (fuse_reply_buf(req, buf, used) == -ENOENT && plus)
		plus_undo(buf, used);
	free(buf);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	dir_read(req, ino, size, off, dir_of(fi), false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	reclaim_pace();
	dir_read(req, ino, size, off, dir_of(fi), true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	dir_free(dir_of(fi));
	fuse_reply_err(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	int fd = dir_of(fi)->fd;

	(void)ino;
	fuse_reply_err(req, (datasync ? fdatasync(fd) : fsync(fd)) ? errno : 0);
}

void dir_fini(void)
{
	while (open_dirs)
		dir_free(open_dirs);
}
