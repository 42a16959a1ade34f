/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* To whom new files belong, and with which mode. */
#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "odpfs.h"

/* The caller's umask counts unless the directory has a default ACL, which the
 * backing file system then applies. */
mode_t owner_mode(fuse_req_t req, struct node *parent, mode_t mode)
{
	if (getxattr(fd_path(parent->fd).text, "system.posix_acl_default", NULL, 0) > 0)
		return mode;
	return mode & ~fuse_req_ctx(req)->umask;
}

/*
 * Root makes files for others: give NAME in DIR_FD (or, with NAME "", DIR_FD itself)
 * to the one who asked. The group of a set-group-ID directory stays. The kernel holds
 * the directory's lock meanwhile, so that nobody sees it half done.
 */
int owner_set(fuse_req_t req, struct node *parent, int dir_fd, const char *name, mode_t mode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	int flags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
	gid_t gid = ctx->gid;
	struct stat st;

	if (!odpfs.owns || (!ctx->uid && !ctx->gid))
		return 0;
	if (fstat(parent->fd, &st))
		return -errno;
	if (st.st_mode & S_ISGID)
		gid = (gid_t)-1;
	if (fchownat(dir_fd, name, ctx->uid, gid, flags))
		return -errno;
	/* A change of owner takes these bits away from a file. */
	if (S_ISREG(mode) && mode & (S_ISUID | S_ISGID)) {
		if (*name ? fchmodat(dir_fd, name, mode & 07777, 0) : fchmod(dir_fd, mode & 07777))
			return -errno;
	}
	return 0;
}
