/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* From a name that a program uses to the file in the view of its devices. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "counters.h"
#include "files.h"

#define SYS "/sys/class/infiniband"
#define DEV "/dev/infiniband"
#define MISC "/sys/class/misc/rdma_cm"

bool uodp_path_maybe(int dirfd, const char *path)
{
	if (!path || uodp_unlikely(uodp_files_raw))
		return false;
	/* Whatever the directory is that the name is relative to. */
	if (uodp_unlikely(uodp_counter_maybe(path)))
		return true;
	if (*path == '/')
		return (path[1] == 's' || path[1] == 'd' || path[1] == '/' || path[1] == '.') &&
		       (strstr(path, "infiniband") || strstr(path, "rdma_cm"));
	(void)dirfd;
	return *path == 'i' && !strncmp(path, "infiniband", 10);
}

/* PATH without "//", "." and "..", into OUT; false if it does not fit. */
static bool clean(const char *path, char out[PATH_MAX])
{
	size_t len = 0;

	while (*path) {
		size_t n;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		if (!n)
			break;
		if (n == 2 && !strncmp(path, "..", 2)) {
			while (len && out[--len] != '/')
				;
		} else if (n != 1 || *path != '.') {
			if (len + n + 2 > PATH_MAX)
				return false;
			out[len++] = '/';
			memcpy(out + len, path, n);
			len += n;
		}
		path += n;
	}
	out[len] = '\0';
	return true;
}

bool uodp_path_absolute(int dirfd, const char *path, char out[PATH_MAX])
{
	char dir[PATH_MAX], link[32], both[PATH_MAX];
	ssize_t n;

	if (*path == '/')
		return clean(path, out);
	if (dirfd == AT_FDCWD)
		strcpy(link, "/proc/self/cwd");
	else
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = UODP_NEXT(readlink)(link, dir, sizeof(dir) - 1);
	if (n <= 0)
		return false;
	dir[n] = '\0';
	return snprintf(both, sizeof(both), "%s/%s", dir, path) < (int)sizeof(both) &&
	       clean(both, out);
}

/* The rest of PATH behind PREFIX and one of its endings; NULL: another path. */
static const char *rest(const char *path, const char *prefix, const char *ending)
{
	size_t n = strlen(prefix);

	if (strncmp(path, prefix, n))
		return NULL;
	path += n;
	n = strlen(ending);
	if (strncmp(path, ending, n) || (path[n] && path[n] != '/'))
		return NULL;
	return path + n;
}

/* REST is "" or begins with '/': is its first part the name of a device of ours? */
static bool device_in(const char *rest)
{
	struct uodp_device *devs;
	unsigned n = uodp_devices(&devs);
	size_t len;

	if (!*rest)
		return true; /* the directory itself is made here */
	rest++;
	len = strcspn(rest, "/");
	for (unsigned i = 0; i < n; i++)
		if (strlen(devs[i].name) == len && !memcmp(devs[i].name, rest, len))
			return true;
	return false;
}

static const struct uodp_device *uverbs_of(const char *rest)
{
	unsigned n;
	int end = 0;

	if (sscanf(rest, "/uverbs%u%n", &n, &end) != 1 || (rest[end] && rest[end] != '/'))
		return NULL;
	return uodp_view_device(n);
}

static enum uodp_path_kind classify(const char *path, struct uodp_path *p)
{
	const char *tail;

	if ((tail = rest(path, SYS, "")))
		return device_in(tail) ? UODP_PATH_TREE : UODP_PATH_HOST;
	if ((tail = rest(path, SYS, "_verbs")))
		return !*tail || !strcmp(tail, "/abi_version") || uverbs_of(tail) ? UODP_PATH_TREE
										  : UODP_PATH_HOST;
	if ((tail = rest(path, SYS, "_mad")))
		return !*tail || !strcmp(tail, "/abi_version") ? UODP_PATH_TREE : UODP_PATH_HOST;
	if (rest(path, MISC, ""))
		return UODP_PATH_TREE;
	tail = rest(path, DEV, "");
	if (!tail)
		return UODP_PATH_OTHER;
	if (!*tail)
		return UODP_PATH_TREE;
	if (!strcmp(tail, "/rdma_cm"))
		return UODP_PATH_NODE;
	p->dev = uverbs_of(tail);
	return p->dev ? UODP_PATH_NODE : UODP_PATH_HOST;
}

static bool prefixed(const char *path)
{
	return !strncmp(path, SYS, strlen(SYS)) || !strncmp(path, DEV, strlen(DEV)) ||
	       !strncmp(path, MISC, strlen(MISC));
}

enum uodp_path_kind uodp_path_find(int dirfd, const char *path, struct uodp_path *p)
{
	char full[PATH_MAX];
	const char *root;
	int err = errno;

	p->kind = UODP_PATH_OTHER;
	p->dev = NULL;
	if (!uodp_path_absolute(dirfd, path, full) || !(prefixed(path) || prefixed(full)))
		goto out;
	root = uodp_view_root();
	if (!root)
		goto out;
	p->kind = classify(full, p);
	if (p->kind == UODP_PATH_OTHER) {
		/* Out of the view again, by "..". */
		p->kind = UODP_PATH_HOST;
		root = "";
	}
	/* A slash at the end asks for what a link leads to. */
	if (snprintf(p->real, sizeof(p->real), "%s%s%s", root, full,
		     path[strlen(path) - 1] == '/' ? "/" : "") >= (int)sizeof(p->real))
		p->kind = UODP_PATH_OTHER;
out:
	errno = err;
	return p->kind;
}

void uodp_node_stat(const struct uodp_device *dev, mode_t *mode, dev_t *rdev)
{
	*mode = S_IFCHR | 0666;
	*rdev = dev ? dev->rdev : uodp_view_rdma_cm();
}
