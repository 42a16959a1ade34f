/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A directory that looks like /sys/class/infiniband/<device>: libibverbs reads
 * GIDs and P_Keys from it, since the kernel knows nothing of our devices.
 * Every process writes the same bytes; a file is replaced only when it differs.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "uodp.h"

#ifndef UODP_VERSION
#error "UODP_VERSION is not defined: the project's version, a string"
#endif

#define FILE_MAX 64

struct sysfs_dir {
	int fd;
	int err; /* the first error, -errno; the rest is then skipped */
};

/* Open the directory NAME below DIR; made, and made again if it is no directory. */
static int dir_open(int dir, const char *name)
{
	for (int tries = 0; tries < 3; tries++) {
		int fd;

		if (mkdirat(dir, name, 0700) && errno != EEXIST)
			return -errno;
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno != ENOTDIR && errno != ELOOP && errno != ENOENT)
			return -errno;
		if (errno != ENOENT && unlinkat(dir, name, 0) && errno != ENOENT)
			return -errno;
	}
	return -ENOTDIR;
}

/* As dir_open() for every part of the relative PATH. */
static int path_open(int dir, const char *path)
{
	char parts[IBV_SYSFS_PATH_MAX];
	char *next = parts, *name;
	int fd = -EINVAL, last = -1;

	strncpy(parts, path, sizeof(parts) - 1);
	parts[sizeof(parts) - 1] = '\0';
	while ((name = strsep(&next, "/")) != NULL) {
		fd = dir_open(last < 0 ? dir : last, name);
		if (last >= 0)
			close(last);
		if (fd < 0)
			break;
		last = fd;
	}
	return fd;
}

static bool file_is(int dir, const char *name, const char *text, size_t len)
{
	char buf[FILE_MAX + 1];
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return n == (ssize_t)len && !memcmp(buf, text, len);
}

/* A reader sees the old file or the new one, whole. */
static int file_replace(int dir, const char *name, const char *text, size_t len)
{
	char tmp[32];
	ssize_t n;
	int fd, ret = 0;

	snprintf(tmp, sizeof(tmp), ".new.%d", gettid());
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n != (ssize_t)len)
		ret = n < 0 ? -errno : -ENOSPC;
	close(fd);
	if (!ret && renameat(dir, tmp, dir, name)) {
		/* Damaged so far that a directory stands there? An empty one goes. */
		if (errno != EISDIR || unlinkat(dir, name, AT_REMOVEDIR) ||
		    renameat(dir, tmp, dir, name))
			ret = -errno;
	}
	if (ret)
		unlinkat(dir, tmp, 0);
	return ret;
}

__attribute__((format(printf, 3, 4))) static void file_write(struct sysfs_dir *dir,
							     const char *name, const char *fmt, ...)
{
	char text[FILE_MAX];
	va_list args;
	int len;

	if (dir->err)
		return;
	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text) - 1, fmt, args);
	va_end(args);
	if (len > (int)sizeof(text) - 2)
		len = sizeof(text) - 2;
	text[len++] = '\n';
	if (!file_is(dir->fd, name, text, len))
		dir->err = file_replace(dir->fd, name, text, len);
}

static void subdir_open(struct sysfs_dir *sub, const struct sysfs_dir *dir, const char *path)
{
	sub->err = dir->err;
	sub->fd = -1;
	if (sub->err)
		return;
	sub->fd = path_open(dir->fd, path);
	if (sub->fd < 0)
		sub->err = sub->fd;
}

static void subdir_close(struct sysfs_dir *sub, struct sysfs_dir *dir)
{
	if (sub->fd >= 0)
		close(sub->fd);
	dir->err = sub->err;
}

static void guid_write(struct sysfs_dir *dir, const char *name, uint64_t guid)
{
	file_write(dir, name, "%04x:%04x:%04x:%04x", (unsigned)(guid >> 48),
		   (unsigned)(guid >> 32) & 0xffff, (unsigned)(guid >> 16) & 0xffff,
		   (unsigned)guid & 0xffff);
}

static void gid_write(struct sysfs_dir *dir, unsigned index, const union ibv_gid *gid)
{
	char name[12], text[FILE_MAX];
	int len = 0;

	for (int i = 0; i < 16; i += 2)
		len += snprintf(text + len, sizeof(text) - len, i ? ":%02x%02x" : "%02x%02x",
				gid->raw[i], gid->raw[i + 1]);
	snprintf(name, sizeof(name), "%u", index);
	file_write(dir, name, "%s", text);
}

static void gids_write(struct sysfs_dir *port, const struct uodp_device *dev)
{
	static const char *const dirs[] = {"gids", "gid_attrs/types", "gid_attrs/ndevs"};

	for (unsigned d = 0; d < 3; d++) {
		struct sysfs_dir dir;

		subdir_open(&dir, port, dirs[d]);
		for (unsigned i = 0; i < UODP_NUM_GIDS; i++) {
			char name[12];

			snprintf(name, sizeof(name), "%u", i);
			if (d == 0)
				gid_write(&dir, i, &dev->gids[i]);
			else
				file_write(&dir, name, d == 1 ? "RoCE v2" : "lo");
		}
		subdir_close(&dir, port);
	}
}

static void pkeys_write(struct sysfs_dir *port)
{
	struct sysfs_dir dir;

	subdir_open(&dir, port, "pkeys");
	file_write(&dir, "0", "0xffff");
	subdir_close(&dir, port);
}

static void port_write(struct sysfs_dir *dir, const struct uodp_device *dev)
{
	struct sysfs_dir port;

	subdir_open(&port, dir, "ports/1");
	file_write(&port, "state", "4: ACTIVE");
	file_write(&port, "phys_state", "5: LinkUp");
	file_write(&port, "link_layer", "Ethernet");
	file_write(&port, "rate", "100 Gb/sec (4X EDR)");
	file_write(&port, "lid", "0x0");
	file_write(&port, "lid_mask_count", "0");
	file_write(&port, "sm_lid", "0x0");
	file_write(&port, "sm_sl", "0");
	file_write(&port, "cap_mask", "0x%08x", UODP_PORT_CAPS);
	gids_write(&port, dev);
	pkeys_write(&port);
	subdir_close(&port, dir);
}

int uodp_sysfs_write(const struct uodp_device *dev, const char *run_dir)
{
	struct sysfs_dir run = {.fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	char path[IBV_SYSFS_PATH_MAX];
	struct sysfs_dir dir;

	if (run.fd < 0)
		run.err = -errno;
	snprintf(path, sizeof(path), UODP_SYSFS_DIR "/%s", dev->vdev.device.name);
	subdir_open(&dir, &run, path);
	guid_write(&dir, "node_guid", be64toh(dev->guid));
	guid_write(&dir, "sys_image_guid", be64toh(dev->guid));
	file_write(&dir, "node_type", "1: CA");
	file_write(&dir, "node_desc", "%s", dev->vdev.device.name);
	file_write(&dir, "fw_ver", UODP_VERSION);
	port_write(&dir, dev);
	subdir_close(&dir, &run);
	if (run.fd >= 0)
		close(run.fd);
	if (run.err)
		odp_log(ODP_LOG_ERR, "cannot write %s/%s: %s; no device %s", run_dir, path,
			strerror(-run.err), dev->vdev.device.name);
	return run.err;
}
