/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The requests that are answered, and what is agreed on with the kernel. */
#include "odpfs.h"

static void want(struct fuse_conn_info *conn, unsigned caps)
{
	conn->want |= conn->capable & caps;
}

static void op_init(void *data, struct fuse_conn_info *conn)
{
	(void)data;
	want(conn, FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_POSIX_ACL |
			   FUSE_CAP_DONT_MASK);
	/* O_TRUNC comes as a truncate of its own; for the bits of set-user-ID files, see
	 * device.c. */
	conn->want &= ~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_HANDLE_KILLPRIV);
	/* Read-ahead and write-back that may be under way at once. */
	conn->max_background = 64;
	conn->congestion_threshold = 48;
}

/*
 * Locks are not here: the kernel keeps them, for all who use the mount, lets their
 * waiters be killed, and drops the locks of those who die.
 */
const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.open = op_open,
	.create = op_create,
	.flush = op_flush,
	.release = op_release,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.copy_file_range = op_copy_file_range,
	.lseek = op_lseek,
	.fallocate = op_fallocate,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
};
