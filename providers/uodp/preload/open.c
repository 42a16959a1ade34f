/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Calls that open a file by its name. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cdev.h"
#include "cm_open.h"
#include "counters.h"
#include "files.h"
#include "uodp.h"

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);

#define WRITES(flags) (((flags)&O_ACCMODE) != O_RDONLY || (flags) & (O_TRUNC | O_CREAT))

static int fail(int err)
{
	errno = err;
	return -1;
}

static int raw_open(int dirfd, const char *path, int flags, mode_t mode)
{
	/* The system call: the C library's function may be another library's by now, and
	 * is none of ours to choose. O_LARGEFILE is what 64-bit programs have anyway. */
	return (int)syscall(SYS_openat, dirfd, path, flags | O_LARGEFILE, mode);
}

/* sysfs has no attribute of ours that can be written, and no file can be made there. */
static int tree_open(const struct uodp_path *p, int flags)
{
	struct stat st;

	if (WRITES(flags)) {
		if (!UODP_NEXT(stat)(p->real, &st) && S_ISDIR(st.st_mode))
			return fail(EISDIR);
		if (!(flags & O_CREAT) && errno == ENOENT && access(p->real, F_OK))
			return fail(ENOENT);
		return fail((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) &&
					    !access(p->real, F_OK)
				    ? EEXIST
				    : EACCES);
	}
	return raw_open(AT_FDCWD, p->real, flags, 0);
}

/* The host's files are opened as they are; none is made in the view. */
static int host_open(const struct uodp_path *p, int flags, mode_t mode)
{
	int fd = raw_open(AT_FDCWD, p->real, flags & ~O_CREAT, mode);

	return fd < 0 && errno == ENOENT && flags & O_CREAT ? fail(EACCES) : fd;
}

static int path_open(const struct uodp_path *p, int flags, mode_t mode)
{
	switch (p->kind) {
	case UODP_PATH_NODE:
		if (flags & O_DIRECTORY)
			return fail(ENOTDIR);
		if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
			return fail(EEXIST);
		return p->dev ? uodp_cdev_open(p->dev, p->real, flags) : cm_open(flags);
	case UODP_PATH_TREE:
		return tree_open(p, flags);
	default:
		return host_open(p, flags, mode);
	}
}

/* Its numbers are those of now. Found in the run directory too, where a program that has
 * opened the directory, or is in it, looks. */
static void counter_open(int dirfd, const char *path, const struct uodp_path *p)
{
	char full[PATH_MAX];

	if (p->kind != UODP_PATH_OTHER)
		uodp_counter_refresh(p->real);
	else if (uodp_path_absolute(dirfd, path, full))
		uodp_counter_refresh(full);
}

/* True, with the call's result in *FD, when PATH is in the view. */
static bool view_open(int dirfd, const char *path, int flags, mode_t mode, int *fd)
{
	struct uodp_path p;

	uodp_path_find(dirfd, path, &p);
	if (uodp_unlikely(uodp_counter_maybe(path)))
		counter_open(dirfd, path, &p);
	if (p.kind == UODP_PATH_OTHER)
		return false;
	*fd = path_open(&p, flags, mode);
	return true;
}

/* A file that was emptied on the way (change.c). */
static int opened(int fd, int flags)
{
	if (fd >= 0 && uodp_unlikely(flags & O_TRUNC))
		uodp_file_changed(fd, 0, INT64_MAX);
	return fd;
}

#define MODE_GET(flags, mode)                                                                      \
	mode_t mode = 0;                                                                           \
	if ((flags) & (O_CREAT | O_TMPFILE)) {                                                     \
		va_list args;                                                                      \
                                                                                                   \
		va_start(args, flags);                                                             \
		mode = va_arg(args, mode_t);                                                       \
		va_end(args);                                                                      \
	}

#define OPEN(name)                                                                                 \
	int name(const char *path, int flags, ...)                                                 \
	{                                                                                          \
		int fd;                                                                            \
		MODE_GET(flags, mode)                                                              \
		if (uodp_unlikely(uodp_path_maybe(AT_FDCWD, path)) &&                              \
		    view_open(AT_FDCWD, path, flags, mode, &fd))                                   \
			return fd;                                                                 \
		return opened(UODP_NEXT(name)(path, flags, mode), flags);                          \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                               \
	int name(int dirfd, const char *path, int flags, ...)                                      \
	{                                                                                          \
		int fd;                                                                            \
		MODE_GET(flags, mode)                                                              \
		if (uodp_unlikely(uodp_path_maybe(dirfd, path)) &&                                 \
		    view_open(dirfd, path, flags, mode, &fd))                                      \
			return fd;                                                                 \
		return opened(UODP_NEXT(name)(dirfd, path, flags, mode), flags);                   \
	}
OPENAT(openat)
OPENAT(openat64)

/* What calls with _FORTIFY_SOURCE become. */
#define OPEN_2(name)                                                                               \
	int name(const char *path, int flags)                                                      \
	{                                                                                          \
		int fd;                                                                            \
                                                                                                   \
		if (uodp_unlikely(uodp_path_maybe(AT_FDCWD, path)) &&                              \
		    view_open(AT_FDCWD, path, flags, 0, &fd))                                      \
			return fd;                                                                 \
		return opened(UODP_NEXT(name)(path, flags), flags);                                \
	}
OPEN_2(__open_2)
OPEN_2(__open64_2)

#define OPENAT_2(name)                                                                             \
	int name(int dirfd, const char *path, int flags)                                           \
	{                                                                                          \
		int fd;                                                                            \
                                                                                                   \
		if (uodp_unlikely(uodp_path_maybe(dirfd, path)) &&                                 \
		    view_open(dirfd, path, flags, 0, &fd))                                         \
			return fd;                                                                 \
		return opened(UODP_NEXT(name)(dirfd, path, flags), flags);                         \
	}
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

/* ---- streams ---- */

/* The flags of a mode such as "r+e". */
static int stream_flags(const char *mode)
{
	int flags = *mode == 'r' ? O_RDONLY : O_WRONLY | O_CREAT;

	if (*mode == 'w')
		flags |= O_TRUNC;
	for (; *mode && *mode != ','; mode++) {
		if (*mode == '+')
			flags = (flags & ~O_ACCMODE) | O_RDWR;
		else if (*mode == 'e')
			flags |= O_CLOEXEC;
		else if (*mode == 'x')
			flags |= O_EXCL;
	}
	return flags;
}

static FILE *opened_stream(FILE *file, const char *mode)
{
	if (file)
		opened(fileno(file), stream_flags(mode));
	return file;
}

static bool view_fopen(const char *path, const char *mode, FILE **file)
{
	int fd;

	if (!view_open(AT_FDCWD, path, stream_flags(mode), 0, &fd))
		return false;
	*file = fd < 0 ? NULL : fdopen(fd, mode);
	if (fd >= 0 && !*file)
		close(fd);
	return true;
}

#define FOPEN(name)                                                                                \
	FILE *name(const char *path, const char *mode)                                             \
	{                                                                                          \
		FILE *file;                                                                        \
                                                                                                   \
		if (uodp_unlikely(uodp_path_maybe(AT_FDCWD, path)) &&                              \
		    view_fopen(path, mode, &file))                                                 \
			return file;                                                               \
		return opened_stream(UODP_NEXT(name)(path, mode), mode);                           \
	}
FOPEN(fopen)
FOPEN(fopen64)

/* Through the name in the view: what is to be read-only there is a file of mode 0444 as
 * far as the kernel goes, and that is all freopen() can be told. */
#define FREOPEN(name)                                                                              \
	FILE *name(const char *path, const char *mode, FILE *stream)                               \
	{                                                                                          \
		struct uodp_path p;                                                                \
                                                                                                   \
		if (!uodp_path_maybe(AT_FDCWD, path) ||                                            \
		    uodp_path_find(AT_FDCWD, path, &p) == UODP_PATH_OTHER)                         \
			return opened_stream(UODP_NEXT(name)(path, mode, stream), mode);           \
		if (WRITES(stream_flags(mode)) && p.kind != UODP_PATH_HOST) {                      \
			fclose(stream);                                                            \
			errno = EACCES;                                                            \
			return NULL;                                                               \
		}                                                                                  \
		return UODP_NEXT(name)(p.real, mode, stream);                                      \
	}
FREOPEN(freopen)
FREOPEN(freopen64)
