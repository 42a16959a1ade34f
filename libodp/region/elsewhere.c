/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Files of an odpfs whose watch is in another run directory: another user's, on a mount
 * with allow_other, or another UODP_DIR. It would never find a region here, so there is
 * none. The mount says itself where its watch is: an attribute that every odpfs has
 * (ODP_FS_XATTR), asked for by the mount point, as /proc/self/mountinfo has it.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "local.h"
#include "own.h"
#include "pool.h"
#include "region.h"

#define MOUNTS_CHUNK 65536u
#define FS_TYPE " - fuse.odpfs "

/* What is asked, and the answer. */
struct question {
	uint64_t dev;
	bool found; /* an odpfs */
	int err;    /* of the last mount point that was asked, 0: it has a watch */
	char run[PATH_MAX];
};

/* "\040" and the like, in place. */
static void unescape(char *path)
{
	char *to = path;

	for (const char *from = path; *from; to++) {
		if (from[0] == '\\' && isdigit(from[1]) && isdigit(from[2]) && isdigit(from[3])) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* A line of mountinfo: the mount point, cut out, if it is an odpfs with device DEV. */
static char *line_mountpoint(char *line, uint64_t dev)
{
	unsigned major, minor;
	int at = 0;
	char *path;

	if (!strstr(line, FS_TYPE) ||
	    sscanf(line, "%*u %*u %u:%u %*s %n", &major, &minor, &at) != 2 || !at ||
	    makedev(major, minor) != dev)
		return NULL;
	path = line + at;
	path[strcspn(path, " ")] = '\0';
	unescape(path);
	return path;
}

/* True: the question is answered. */
static bool line_ask(char *line, struct question *q)
{
	const char *path = line_mountpoint(line, q->dev);
	long n;

	if (!path)
		return false;
	q->found = true;
	n = odp_sys6(SYS_getxattr, (long)path, (long)ODP_FS_XATTR, (long)q->run, sizeof(q->run) - 1,
		     0, 0);
	q->err = n < 0 ? (int)n : 0;
	q->run[n > 0 ? n : 0] = '\0';
	return !q->err || q->err == -ENODATA || q->err == -EOPNOTSUPP || q->err == -ENOTCONN;
}

/* The lines in BUF, N bytes; how many of them are left, of one without an end. */
static size_t lines_ask(char *buf, size_t n, struct question *q, bool *answered)
{
	char *line = buf, *end;

	while (!*answered && (end = memchr(line, '\n', n - (size_t)(line - buf)))) {
		*end = '\0';
		*answered = line_ask(line, q);
		line = end + 1;
	}
	n -= (size_t)(line - buf);
	memmove(buf, line, n);
	return n;
}

static int mounts_ask(struct question *q)
{
	char *buf = odp_priv_alloc(MOUNTS_CHUNK);
	int fd = odp_own_open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	bool answered = false;
	size_t kept = 0;
	ssize_t n = 0;

	if (!buf) {
		if (fd >= 0)
			odp_own_close(fd);
		return -ENOMEM;
	}
	while (fd >= 0 && !answered && kept < MOUNTS_CHUNK &&
	       (n = read(fd, buf + kept, MOUNTS_CHUNK - kept)) > 0)
		kept = lines_ask(buf, kept + (size_t)n, q, &answered);
	if (fd >= 0)
		odp_own_close(fd);
	odp_priv_free(buf, MOUNTS_CHUNK);
	return 0;
}

/* ---- which are known to be none ---- */

/* conv_lock: forget all when a mount has come or gone. */
static void plain_renew(struct odp_mem *m)
{
	struct pollfd fd = {.events = POLLPRI};

	if (m->mounts_fd < 0)
		m->mounts_fd =
			odp_fd_high(odp_own_open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
	fd.fd = m->mounts_fd;
	if (m->mounts_fd < 0 || odp_sys6(SYS_poll, (long)&fd, 1, 0, 0, 0, 0) != 0)
		m->nplain = 0;
}

static bool plain_has(const struct odp_mem *m, uint64_t dev)
{
	for (unsigned i = 0; i < m->nplain && i < ODP_PLAIN_DEVS; i++)
		if (m->plain[i] == dev)
			return true;
	return false;
}

static void plain_add(struct odp_mem *m, uint64_t dev)
{
	m->plain[m->nplain++ % ODP_PLAIN_DEVS] = dev;
}

/* ---- a region ---- */

/* May it be of such a mount? FUSE has no device: major 0. */
static bool vma_suspect(const struct odp_vma *vma)
{
	return vma->kind == ODP_VMA_OTHER && vma->ino && !major(vma->dev);
}

/* The device of the next file from *AT on that has to be asked about, 0: none. *AT: behind
 * it (conv_lock). */
static uint64_t dev_next(struct odp_region *r, uint64_t *at, bool *renewed)
{
	uint64_t end = r->it.last + 1;
	struct odp_vma vma;

	while (*at < end && odp_vma_next(r->mem, *at, end, &vma)) {
		*at = vma.end;
		if (!vma_suspect(&vma) || odp_file_watch(r->mem->proc, vma.dev, vma.ino))
			continue;
		if (!*renewed)
			plain_renew(r->mem);
		*renewed = true;
		if (!plain_has(r->mem, vma.dev))
			return vma.dev;
	}
	return 0;
}

static int refuse(const struct odp_region *r, const struct question *q)
{
	if (q->err == -ENOTCONN)
		odp_log(ODP_LOG_ERR, "%#lx: this file's odpfs has died", (long)r->it.start);
	else if (q->err)
		odp_log(ODP_LOG_ERR,
			"%#lx: this file is on an odpfs that cannot be asked for its run directory "
			"(%s): is its mount point out of reach?",
			(long)r->it.start, strerrordesc_np(-q->err));
	else
		odp_log(ODP_LOG_ERR,
			"%#lx: this file is on an odpfs that watches the regions of another run "
			"directory, %s, and would not find one here: use that (UODP_DIR), as its "
			"user, or mount with uodp=off",
			(long)r->it.start, q->run);
	return -EOPNOTSUPP;
}

/* 0: DEV is of no odpfs, or one that watches nothing. */
static int dev_check(struct odp_region *r, uint64_t dev, bool *plain)
{
	struct question q = {.dev = dev};
	int ret = mounts_ask(&q);

	*plain = !q.found || q.err == -ENODATA || q.err == -EOPNOTSUPP;
	if (ret || *plain)
		return ret;
	if (q.err == -ENOTCONN && r->policy < ODP_POLICY_REVOKE &&
	    odp_policy_env() < ODP_POLICY_REVOKE)
		return 0;
	return refuse(r, &q);
}

/* The lock is not held over the question: the file system may take its time. */
int odp_files_elsewhere(struct odp_region *r)
{
	bool renewed = false, plain = false;
	uint64_t at = r->it.start, dev = 0;
	struct odp_mem *m = r->mem;
	int ret = 0;

	do {
		pthread_mutex_lock(&m->conv_lock);
		if (plain)
			plain_add(m, dev);
		dev = dev_next(r, &at, &renewed);
		pthread_mutex_unlock(&m->conv_lock);
		if (dev)
			ret = dev_check(r, dev, &plain);
	} while (dev && !ret);
	return ret;
}
