/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Which run directory, and may it be trusted. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "own.h"

/* Left by su, sudo and containers, XDG_RUNTIME_DIR may name another user's
 * directory, or none: what is made in there would be refused, or in the way. */
static bool xdg_dir_usable(const char *dir)
{
	struct stat st;

	return dir && dir[0] == '/' && !odp_own_stat(dir, &st) && S_ISDIR(st.st_mode) &&
	       st.st_uid == geteuid();
}

static int rundir_absolute(char *dir, size_t size, const char *path)
{
	char cwd[256];
	int n;

	if (path[0] == '/') {
		n = snprintf(dir, size, "%s", path);
	} else {
		if (!getcwd(cwd, sizeof(cwd)))
			return errno == ERANGE ? -ENAMETOOLONG : -errno;
		n = snprintf(dir, size, "%s/%s", cwd, path);
	}
	if (n < 0 || (size_t)n >= size)
		return -ENAMETOOLONG;
	while (n > 1 && dir[n - 1] == '/') /* O_NOFOLLOW follows "link/" */
		dir[--n] = 0;
	return 0;
}

static int rundir_choose(char *dir, size_t size)
{
	const char *env = secure_getenv("UODP_DIR");
	const char *xdg = secure_getenv("XDG_RUNTIME_DIR");
	char path[512];
	int n, ret;

	if (env && *env)
		n = snprintf(path, sizeof(path), "%s", env);
	else if (xdg_dir_usable(xdg))
		n = snprintf(path, sizeof(path), "%s/uodp", xdg);
	else
		n = snprintf(path, sizeof(path), "/dev/shm/uodp-%u", (unsigned)geteuid());
	ret = n < 0 || (size_t)n >= sizeof(path) ? -ENAMETOOLONG : rundir_absolute(dir, size, path);
	if (ret == -ENAMETOOLONG)
		odp_log(ODP_LOG_ERR,
			"run directory: path longer than %zu bytes: set UODP_DIR to a shorter one",
			size - 1);
	return ret;
}

static int rundir_check(const char *dir, const struct stat *st)
{
	if (st->st_uid != geteuid()) {
		odp_log(ODP_LOG_ERR,
			"%s: owned by user %u, not %u: set UODP_DIR to a directory of your own",
			dir, (unsigned)st->st_uid, (unsigned)geteuid());
		return -EACCES;
	}
	if (st->st_mode & 077) {
		odp_log(ODP_LOG_ERR, "%s: open to other users: chmod 700 it, or set UODP_DIR", dir);
		return -EACCES;
	}
	return 0;
}

static int rundir_open(const char *dir)
{
	struct stat st;
	int fd, ret;

	fd = odp_own_open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		if (ret == -ELOOP || ret == -ENOTDIR) {
			odp_log(ODP_LOG_ERR,
				"%s: not a directory of its own (a file or a symbolic link): "
				"remove it, or set UODP_DIR",
				dir);
			return -ENOTDIR;
		}
		if (ret == -EACCES && !odp_own_lstat(dir, &st) && rundir_check(dir, &st))
			return -EACCES;
		odp_log(ODP_LOG_ERR, "%s: cannot be opened: %s: set UODP_DIR to another place", dir,
			strerror(-ret));
		return ret;
	}
	fd = odp_fd_high(fd);
	ret = odp_own_fstat(fd, &st) ? -errno : rundir_check(dir, &st);
	if (ret) {
		odp_fd_close(fd);
		return ret;
	}
	return fd;
}

int odp_rundir_open(char *dir, size_t size)
{
	int ret = rundir_choose(dir, size);

	if (ret)
		return ret;
	if (mkdir(dir, 0700) && errno != EEXIST) {
		ret = -errno;
		odp_log(ODP_LOG_ERR, "%s: cannot be made: %s: set UODP_DIR to a writable place",
			dir, strerror(-ret));
		return ret;
	}
	return rundir_open(dir);
}

static int rundir_close(int fd)
{
	if (fd < 0)
		return fd;
	odp_fd_close(fd);
	return 0;
}

ODP_EXPORT int odp_dir_get(char *buf, size_t size)
{
	return rundir_close(odp_rundir_open(buf, size));
}

ODP_EXPORT int odp_dir_find(char *buf, size_t size)
{
	struct stat st;
	int ret = rundir_choose(buf, size);

	if (ret)
		return ret;
	if (odp_own_lstat(buf, &st) && errno == ENOENT)
		return -ENOENT;
	return rundir_close(rundir_open(buf));
}
