/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Names looked up and forgotten. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "odpfs.h"

static void entry_fill(struct node *node, struct fuse_entry_param *e)
{
	attr_fix(&e->attr);
	e->attr_timeout = settle_is_due(node) ? 0 : odpfs.timeout;
	e->entry_timeout = odpfs.timeout;
	e->ino = node_number(node);
	if (e->attr_timeout > 0 && full_is(node)) {
		e->attr_timeout = FULL_TIMEOUT;
		node_ref(node);
		full_answered(node);
	}
}

/* The entry for FD (O_PATH, taken over); with one more lookup of its node. */
int entry_of_fd(int fd, fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	struct node *node;
	int err;

	*e = (struct fuse_entry_param){0};
	err = node_get(fd, parent, name, &node, &e->attr);
	if (!err)
		entry_fill(node, e);
	return err;
}

/* Files that are known take no descriptor, not even for a moment: when these run out, the
 * kernel must not think that a file has gone which it asks about once more. */
static bool entry_known(fuse_ino_t parent, const char *name, const struct stat *st,
			struct fuse_entry_param *e)
{
	struct node *node = node_get_known(st->st_dev, st->st_ino, parent, name);

	if (!node)
		return false;
	*e = (struct fuse_entry_param){0};
	if (mode_stat(node->fd, &e->attr)) {
		node_put(node, 1);
		return false;
	}
	entry_fill(node, e);
	return true;
}

int entry_find(fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	int dir_fd = node_of(parent)->fd, fd;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (entry_known(parent, name, &st, e))
		return 0;
	fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		return entry_of_fd(fd, parent, name, e);
	if (errno != EMFILE)
		return -errno;
	reclaim_kick();
	return -ENFILE;
}

/* Who asked may be gone: then the kernel does not count the lookup. */
void entry_reply(fuse_req_t req, int err, const struct fuse_entry_param *e)
{
	if (err)
		fuse_reply_err(req, -err);
	else if (fuse_reply_entry(req, e) == -ENOENT)
		node_put(node_of(e->ino), 1);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	int err;

	reclaim_pace();
	err = entry_find(parent, name, &e);
	entry_reply(req, err, &e);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	node_put(node_of(ino), lookups);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_put(node_of(forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}
