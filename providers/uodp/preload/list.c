/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Calls that list a directory, or resolve a name as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

char *__realpath_chk(const char *path, char *resolved, size_t room);

static const char *real_of(const char *path, struct uodp_path *p)
{
	if (uodp_unlikely(uodp_path_maybe(AT_FDCWD, path)) &&
	    uodp_path_find(AT_FDCWD, path, p) != UODP_PATH_OTHER)
		return p->real;
	return path;
}

DIR *opendir(const char *path)
{
	struct uodp_path p;
	const char *real = real_of(path, &p);

	if (real == p.real && p.kind == UODP_PATH_NODE) {
		errno = ENOTDIR;
		return NULL;
	}
	return UODP_NEXT(opendir)(real);
}

int chdir(const char *path)
{
	struct uodp_path p;

	return UODP_NEXT(chdir)(real_of(path, &p));
}

int scandir(const char *path, struct dirent ***list, int (*select)(const struct dirent *entry),
	    int (*compare)(const struct dirent **a, const struct dirent **b))
{
	struct uodp_path p;

	return UODP_NEXT(scandir)(real_of(path, &p), list, select, compare);
}

int scandir64(const char *path, struct dirent64 ***list,
	      int (*select)(const struct dirent64 *entry),
	      int (*compare)(const struct dirent64 **a, const struct dirent64 **b))
{
	struct uodp_path p;

	return UODP_NEXT(scandir64)(real_of(path, &p), list, select, compare);
}

char *realpath(const char *path, char *resolved)
{
	struct uodp_path p;

	return UODP_NEXT(realpath)(real_of(path, &p), resolved);
}

char *__realpath_chk(const char *path, char *resolved, size_t room)
{
	struct uodp_path p;

	return UODP_NEXT(__realpath_chk)(real_of(path, &p), resolved, room);
}

char *canonicalize_file_name(const char *path)
{
	struct uodp_path p;

	return UODP_NEXT(canonicalize_file_name)(real_of(path, &p));
}

/* ---- glob(3), whose own calls nobody stands in front of ---- */

static void *glob_opendir(const char *path)
{
	return opendir(path);
}

static void *glob_readdir(void *dir)
{
	return readdir(dir);
}

static void glob_closedir(void *dir)
{
	closedir(dir);
}

static int glob_stat(const char *path, void *st)
{
	return stat(path, st);
}

static int glob_lstat(const char *path, void *st)
{
	return lstat(path, st);
}

typedef int glob_fn(const char *pattern, int flags, int (*error)(const char *path, int err),
		    void *result);

/* NEXT, with calls that go through this library. The fields are the same in glob64_t. */
static int glob_by(glob_fn *next, const char *pattern, int flags,
		   int (*error)(const char *path, int err), void *result)
{
	glob_t *g = result;

	if (!strstr(pattern, "infiniband") || flags & GLOB_ALTDIRFUNC)
		return next(pattern, flags, error, result);
	g->gl_opendir = glob_opendir;
	g->gl_readdir = (__typeof__(g->gl_readdir))glob_readdir;
	g->gl_closedir = glob_closedir;
	g->gl_stat = (__typeof__(g->gl_stat))glob_stat;
	g->gl_lstat = (__typeof__(g->gl_lstat))glob_lstat;
	return next(pattern, flags | GLOB_ALTDIRFUNC, error, result);
}

_Static_assert(sizeof(glob_t) == sizeof(glob64_t), "one layout on 64-bit machines");

int glob(const char *pattern, int flags, int (*error)(const char *path, int err), glob_t *result)
{
	return glob_by((glob_fn *)UODP_NEXT(glob), pattern, flags, error, result);
}

int glob64(const char *pattern, int flags, int (*error)(const char *path, int err),
	   glob64_t *result)
{
	return glob_by((glob_fn *)UODP_NEXT(glob64), pattern, flags, error, result);
}
