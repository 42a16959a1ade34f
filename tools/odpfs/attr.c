/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Attributes: getattr, setattr, statfs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "odpfs.h"

/*
 * The inode number that programs see, in stat and in /proc/PID/maps, and by which
 * libodp knows the file. Files of other file systems below BACKING get the hash of
 * their device mixed in: numbers below 2^48 then never meet in practice.
 */
uint64_t attr_ino(dev_t dev, ino_t ino)
{
	uint64_t h = dev;

	if (dev == node_of(FUSE_ROOT_ID)->dev)
		return ino;
	h = (h + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return ino ^ (h | 1ull << 63);
}

void attr_fix(struct stat *st)
{
	st->st_ino = attr_ino(st->st_dev, st->st_ino);
}

static void attr_reply(fuse_req_t req, struct node *node, double timeout)
{
	bool full = timeout > 0 && full_is(node);
	struct stat st;
	int err = mode_stat(node->fd, &st);

	if (err) {
		fuse_reply_err(req, -err);
		return;
	}
	attr_fix(&st);
	if (full)
		node_ref(node); /* the kernel may forget it once it has the answer */
	fuse_reply_attr(req, &st, full ? FULL_TIMEOUT : timeout);
	if (full)
		full_answered(node);
}

struct ask {
	fuse_req_t req;
	struct file *file;
};

static void ask_run(void *arg)
{
	struct ask *ask = arg;
	struct node *node = ask->file->node;
	int err = full_write(node, ask->file->fd);

	if (err)
		fuse_reply_err(ask->req, -err);
	else
		attr_reply(ask->req, node, odpfs.timeout);
	free(ask);
}

/* Somebody wants to write: see full.c. */
static void ask_reply(fuse_req_t req, struct file *file)
{
	struct ask *ask = malloc(sizeof(*ask));

	if (!ask) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*ask = (struct ask){.req = req, .file = file};
	aside_run(ask_run, ask);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);

	settle_wait(node);
	if (fi && full_is(node) && file_of(fi)->writer)
		ask_reply(req, file_of(fi));
	else
		attr_reply(req, node, odpfs.timeout);
}

/* As every file system of the kernel does; S_ISGID without S_IXGRP is another thing. */
static int ids_drop(int fd)
{
	struct stat st;
	mode_t mode;

	if (fstat(fd, &st))
		return -errno;
	mode = st.st_mode & ~(mode_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	if (!S_ISREG(mode) || mode == st.st_mode)
		return 0;
	return chmod(fd_path(fd).text, mode & 07777) ? -errno : 0;
}

int attr_drop_ids(int fd)
{
	int err;

	mode_change_begin();
	err = ids_drop(fd);
	mode_change_end();
	return err;
}

struct setattr {
	fuse_req_t req;
	struct node *node;
	int fd; /* of the open file that it came through, or -1 */
	int which;
	struct stat attr;
	bool unsettled;
	struct ahead *ahead;
};

static int set_mode(const struct setattr *s)
{
	if (s->fd >= 0)
		return fchmod(s->fd, s->attr.st_mode);
	return chmod(fd_path(s->node->fd).text, s->attr.st_mode);
}

static int set_owner(const struct setattr *s)
{
	uid_t uid = s->which & FUSE_SET_ATTR_UID ? s->attr.st_uid : (uid_t)-1;
	gid_t gid = s->which & FUSE_SET_ATTR_GID ? s->attr.st_gid : (gid_t)-1;

	return fchownat(s->node->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

static int set_rights(const struct setattr *s)
{
	int err = 0;

	mode_change_begin();
	if ((s->which & FUSE_SET_ATTR_MODE && set_mode(s)) ||
	    (s->which & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) && set_owner(s)))
		err = -errno;
	mode_change_end();
	return err;
}

static struct timespec time_of(int which, int given, int now, struct timespec t)
{
	if (which & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (which & given)
		return t;
	return (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(struct setattr *s)
{
	struct timespec t[2] = {
		time_of(s->which, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, s->attr.st_atim),
		time_of(s->which, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, s->attr.st_mtim)};

	return utimensat(s->node->fd, "", t, AT_EMPTY_PATH);
}

static int set_size(struct setattr *s)
{
	int err;

	if (full_is_cut(s->req))
		return full_cut_allowed(s->node, s->attr.st_size);
	err = space_truncate(s->node, s->fd, s->attr.st_size, &s->unsettled, s->req);
	if (!err)
		full_clear(s->node);
	return err;
}

/*
 * Besides a truncate by somebody without CAP_FSETID: chown(2) that changes neither owner
 * nor group arrives as a change of the times of status alone; before a write the kernel
 * sends what changes nothing at all. It does that for the sake of capabilities too, when
 * root writes, who may keep these bits.
 */
static bool drops_ids(const struct setattr *s)
{
	if (s->which & FUSE_SET_ATTR_SIZE)
		return s->which & DEVICE_SETATTR_KILL_SUIDGID;
	if (s->which & ~FUSE_SET_ATTR_CTIME)
		return false;
	return s->which || fuse_req_ctx(s->req)->uid;
}

/* The size goes first: it alone can be refused after the kernel has agreed. */
static int setattr_do(struct setattr *s)
{
	int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME;
	int err;

	if (s->which & FUSE_SET_ATTR_SIZE) {
		err = set_size(s);
		if (err)
			return err;
	}
	err = set_rights(s);
	if (err)
		return err;
	if (s->which & times && set_times(s))
		return -errno;
	return drops_ids(s) ? attr_drop_ids(s->node->fd) : 0;
}

static void setattr_run(void *arg)
{
	struct setattr *s = arg;
	struct node *node = s->node;
	int err = setattr_do(s);

	ahead_end(s->ahead);
	if (s->unsettled)
		node_ref(node); /* the kernel may forget it once it has the answer */
	if (err)
		fuse_reply_err(s->req, -err);
	else
		attr_reply(s->req, node, s->unsettled ? 0 : odpfs.timeout);
	if (s->unsettled) {
		settle_end(node);
		node_put(node, 1);
	}
	free(s);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int which,
		struct fuse_file_info *fi)
{
	struct setattr *s = malloc(sizeof(*s));

	if (!s) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*s = (struct setattr){.req = req,
			      .node = node_of(ino),
			      .fd = fi ? file_of(fi)->fd : -1,
			      .which = which,
			      .attr = *attr};
	if (!(which & FUSE_SET_ATTR_SIZE) || !space_truncate_waits(s->node, attr->st_size)) {
		setattr_run(s);
	} else if (ahead_begin(req, s->node, attr->st_size, !fi, &s->ahead)) {
		free(s);
		fuse_reply_err(req, ESTALE);
	} else {
		aside_run(setattr_run, s);
	}
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;

	if (fstatvfs(node_of(ino)->fd, &st))
		fuse_reply_err(req, errno);
	else
		fuse_reply_statfs(req, &st);
}
