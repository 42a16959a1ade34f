/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Names looked up and forgotten. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "odpfs.h"

/* The entry for FD (O_PATH, taken over); with one more lookup of its node. */
int entry_of_fd(int fd, fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	struct node *node;
	int err;

	*e = (struct fuse_entry_param){.attr_timeout = odpfs.timeout,
				       .entry_timeout = odpfs.timeout};
	err = node_get(fd, parent, name, &node, &e->attr);
	if (err)
		return err;
	attr_fix(&e->attr);
	if (settle_is_due(node))
		e->attr_timeout = 0;
	e->ino = node_number(node);
	return 0;
}

int entry_find(fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	int fd = openat(node_of(parent)->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return entry_of_fd(fd, parent, name, e);
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
