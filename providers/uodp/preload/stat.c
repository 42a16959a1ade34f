/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Calls that ask about a file, by its name or by a descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "files.h"

/* Of older programs. */
int __xstat(int ver, const char *path, struct stat *st);
int __xstat64(int ver, const char *path, struct stat64 *st);
int __lxstat(int ver, const char *path, struct stat *st);
int __lxstat64(int ver, const char *path, struct stat64 *st);
int __fxstat(int ver, int fd, struct stat *st);
int __fxstat64(int ver, int fd, struct stat64 *st);
int __fxstatat(int ver, int dirfd, const char *path, struct stat *st, int flags);
int __fxstatat64(int ver, int dirfd, const char *path, struct stat64 *st, int flags);
/* What calls with _FORTIFY_SOURCE become. */
ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room);
ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t size, size_t room);

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one layout on 64-bit machines");

static bool find(int dirfd, const char *path, struct uodp_path *p)
{
	return uodp_unlikely(uodp_path_maybe(dirfd, path)) &&
	       uodp_path_find(dirfd, path, p) != UODP_PATH_OTHER;
}

/* Is the descriptor itself meant? Programs pass NULL, too. */
static bool by_fd(const char *path, int flags)
{
	return flags & AT_EMPTY_PATH && (!path || !*path);
}

/* A directory of ours stands for a device file. */
static void node_fill(const struct uodp_device *dev, struct stat *st)
{
	uodp_node_stat(dev, &st->st_mode, &st->st_rdev);
	st->st_size = 0;
	st->st_blocks = 0;
	st->st_nlink = 1;
}

static int node_stat(const struct uodp_path *p, struct stat *st, int ret)
{
	if (!ret && p->kind == UODP_PATH_NODE)
		node_fill(p->dev, st);
	return ret;
}

/* What fstat() says of FD. Such a directory may have come from another process. */
static int fd_stat(int fd, struct stat *st, int ret)
{
	const struct uodp_handle *h = ret ? NULL : uodp_handle_get(fd);
	const struct uodp_device *dev;

	if (ret)
		return ret;
	if (h && h->ops->node) {
		node_fill(h->dev, st);
	} else if (S_ISDIR(st->st_mode) && (st->st_mode & 07777) == UODP_NODE_MODE) {
		dev = uodp_view_node(st);
		if (dev)
			node_fill(dev, st);
	}
	return ret;
}

/* A device file is a link in the view, which lstat() is not to see. */
static bool follow(const struct uodp_path *p)
{
	return p->kind == UODP_PATH_NODE;
}

#define STAT(name, type)                                                                           \
	int name(const char *path, type *st)                                                       \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		if (!find(AT_FDCWD, path, &p))                                                     \
			return UODP_NEXT(name)(path, st);                                          \
		return node_stat(&p, (struct stat *)st, UODP_NEXT(name)(p.real, st));              \
	}
STAT(stat, struct stat)
STAT(stat64, struct stat64)

#define LSTAT(name, stat_name, type)                                                               \
	int name(const char *path, type *st)                                                       \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		if (!find(AT_FDCWD, path, &p))                                                     \
			return UODP_NEXT(name)(path, st);                                          \
		return node_stat(&p, (struct stat *)st,                                            \
				 follow(&p) ? UODP_NEXT(stat_name)(p.real, st)                     \
					    : UODP_NEXT(name)(p.real, st));                        \
	}
LSTAT(lstat, stat, struct stat)
LSTAT(lstat64, stat64, struct stat64)

#define FSTAT(name, type)                                                                          \
	int name(int fd, type *st)                                                                 \
	{                                                                                          \
		return fd_stat(fd, (struct stat *)st, UODP_NEXT(name)(fd, st));                    \
	}
FSTAT(fstat, struct stat)
FSTAT(fstat64, struct stat64)

#define FSTATAT(name, type)                                                                        \
	int name(int dirfd, const char *path, type *st, int flags)                                 \
	{                                                                                          \
		struct uodp_path p;                                                                \
		int ret;                                                                           \
                                                                                                   \
		if (by_fd(path, flags)) {                                                          \
			ret = UODP_NEXT(name)(dirfd, path, st, flags);                             \
			return fd_stat(dirfd, (struct stat *)st, ret);                             \
		}                                                                                  \
		if (!find(dirfd, path, &p))                                                        \
			return UODP_NEXT(name)(dirfd, path, st, flags);                            \
		if (follow(&p))                                                                    \
			flags &= ~AT_SYMLINK_NOFOLLOW;                                             \
		return node_stat(&p, (struct stat *)st,                                            \
				 UODP_NEXT(name)(AT_FDCWD, p.real, st, flags));                    \
	}
FSTATAT(fstatat, struct stat)
FSTATAT(fstatat64, struct stat64)

#define XSTAT(name, type)                                                                          \
	int name(int ver, const char *path, type *st)                                              \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		if (!find(AT_FDCWD, path, &p))                                                     \
			return UODP_NEXT(name)(ver, path, st);                                     \
		return node_stat(&p, (struct stat *)st, UODP_NEXT(name)(ver, p.real, st));         \
	}
XSTAT(__xstat, struct stat)
XSTAT(__xstat64, struct stat64)

#define LXSTAT(name, stat_name, type)                                                              \
	int name(int ver, const char *path, type *st)                                              \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		if (!find(AT_FDCWD, path, &p))                                                     \
			return UODP_NEXT(name)(ver, path, st);                                     \
		return node_stat(&p, (struct stat *)st,                                            \
				 follow(&p) ? UODP_NEXT(stat_name)(ver, p.real, st)                \
					    : UODP_NEXT(name)(ver, p.real, st));                   \
	}
LXSTAT(__lxstat, __xstat, struct stat)
LXSTAT(__lxstat64, __xstat64, struct stat64)

#define FXSTAT(name, type)                                                                         \
	int name(int ver, int fd, type *st)                                                        \
	{                                                                                          \
		return fd_stat(fd, (struct stat *)st, UODP_NEXT(name)(ver, fd, st));               \
	}
FXSTAT(__fxstat, struct stat)
FXSTAT(__fxstat64, struct stat64)

#define FXSTATAT(name, type)                                                                       \
	int name(int ver, int dirfd, const char *path, type *st, int flags)                        \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		if (!find(dirfd, path, &p))                                                        \
			return UODP_NEXT(name)(ver, dirfd, path, st, flags);                       \
		if (follow(&p))                                                                    \
			flags &= ~AT_SYMLINK_NOFOLLOW;                                             \
		return node_stat(&p, (struct stat *)st,                                            \
				 UODP_NEXT(name)(ver, AT_FDCWD, p.real, st, flags));               \
	}
FXSTATAT(__fxstatat, struct stat)
FXSTATAT(__fxstatat64, struct stat64)

static void node_statx(const struct uodp_device *dev, struct statx *stx)
{
	mode_t mode;
	dev_t rdev;

	uodp_node_stat(dev, &mode, &rdev);
	stx->stx_mode = (uint16_t)mode;
	stx->stx_rdev_major = major(rdev);
	stx->stx_rdev_minor = minor(rdev);
	stx->stx_size = 0;
	stx->stx_blocks = 0;
	stx->stx_nlink = 1;
}

int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *stx)
{
	const struct uodp_handle *h;
	struct uodp_path p;
	int ret;

	if (!find(dirfd, path, &p)) {
		ret = UODP_NEXT(statx)(dirfd, path, flags, mask, stx);
		h = !ret && by_fd(path, flags) ? uodp_handle_get(dirfd) : NULL;
		if (h && h->ops->node)
			node_statx(h->dev, stx);
		return ret;
	}
	if (follow(&p))
		flags &= ~AT_SYMLINK_NOFOLLOW;
	ret = UODP_NEXT(statx)(AT_FDCWD, p.real, flags, mask, stx);
	if (!ret && p.kind == UODP_PATH_NODE)
		node_statx(p.dev, stx);
	return ret;
}

/* ---- rights: what is ours cannot be written but for device files ---- */

static int denied(const struct uodp_path *p, int mode)
{
	if (p->kind != UODP_PATH_TREE || !(mode & W_OK))
		return 0;
	errno = EACCES;
	return -1;
}

#define ACCESS(name)                                                                               \
	int name(const char *path, int mode)                                                       \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		if (!find(AT_FDCWD, path, &p))                                                     \
			return UODP_NEXT(name)(path, mode);                                        \
		if (p.kind == UODP_PATH_NODE)                                                      \
			mode &= ~X_OK;                                                             \
		return denied(&p, mode) ? -1 : UODP_NEXT(name)(p.real, mode);                      \
	}
ACCESS(access)
ACCESS(euidaccess)
ACCESS(eaccess)

int faccessat(int dirfd, const char *path, int mode, int flags)
{
	struct uodp_path p;

	if (!find(dirfd, path, &p))
		return UODP_NEXT(faccessat)(dirfd, path, mode, flags);
	return denied(&p, mode) ? -1 : UODP_NEXT(faccessat)(AT_FDCWD, p.real, mode, flags);
}

/* ---- links ---- */

/* A device file is none. */
static bool no_link(const struct uodp_path *p)
{
	if (p->kind != UODP_PATH_NODE)
		return false;
	errno = EINVAL;
	return true;
}

ssize_t readlink(const char *path, char *buf, size_t size)
{
	struct uodp_path p;

	if (!find(AT_FDCWD, path, &p))
		return UODP_NEXT(readlink)(path, buf, size);
	return no_link(&p) ? -1 : UODP_NEXT(readlink)(p.real, buf, size);
}

ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
	struct uodp_path p;

	if (!find(dirfd, path, &p))
		return UODP_NEXT(readlinkat)(dirfd, path, buf, size);
	return no_link(&p) ? -1 : UODP_NEXT(readlinkat)(AT_FDCWD, p.real, buf, size);
}

ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room)
{
	struct uodp_path p;

	if (!find(AT_FDCWD, path, &p))
		return UODP_NEXT(__readlink_chk)(path, buf, size, room);
	return no_link(&p) ? -1 : UODP_NEXT(__readlink_chk)(p.real, buf, size, room);
}

ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t size, size_t room)
{
	struct uodp_path p;

	if (!find(dirfd, path, &p))
		return UODP_NEXT(__readlinkat_chk)(dirfd, path, buf, size, room);
	return no_link(&p) ? -1 : UODP_NEXT(__readlinkat_chk)(AT_FDCWD, p.real, buf, size, room);
}

/* ---- extended attributes, of which ls(1) asks ---- */

#define GETXATTR(name)                                                                             \
	ssize_t name(const char *path, const char *attr, void *value, size_t size)                 \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		return UODP_NEXT(name)(find(AT_FDCWD, path, &p) ? p.real : path, attr, value,      \
				       size);                                                      \
	}
GETXATTR(getxattr)
GETXATTR(lgetxattr)

#define LISTXATTR(name)                                                                            \
	ssize_t name(const char *path, char *list, size_t size)                                    \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		return UODP_NEXT(name)(find(AT_FDCWD, path, &p) ? p.real : path, list, size);      \
	}
LISTXATTR(listxattr)
LISTXATTR(llistxattr)
