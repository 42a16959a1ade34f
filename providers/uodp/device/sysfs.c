/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A device's directories in the run directory, which look as those of a kernel's
 * device do below /sys/class/infiniband and /sys/class/infiniband_verbs: libibverbs
 * and others read them in that place (preload/path.c). Every process writes the same.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "counters.h"
#include "tree.h"
#include "uodp.h"

#ifndef UODP_VERSION
#error "UODP_VERSION is not defined: the project's version, a string"
#endif

static void guid_write(struct uodp_dir *dir, const char *name, uint64_t guid)
{
	uodp_file_write(dir, name, "%04x:%04x:%04x:%04x", (unsigned)(guid >> 48),
			(unsigned)(guid >> 32) & 0xffff, (unsigned)(guid >> 16) & 0xffff,
			(unsigned)guid & 0xffff);
}

static void indexed_write(struct uodp_dir *dir, unsigned index, const char *text)
{
	char name[12];

	snprintf(name, sizeof(name), "%u", index);
	uodp_file_write(dir, name, "%s", text);
}

static void gid_write(struct uodp_dir *dir, unsigned index, const union ibv_gid *gid)
{
	char text[UODP_FILE_MAX];
	int len = 0;

	for (int i = 0; i < 16; i += 2)
		len += snprintf(text + len, sizeof(text) - len, i ? ":%02x%02x" : "%02x%02x",
				gid->raw[i], gid->raw[i + 1]);
	indexed_write(dir, index, text);
}

static void gids_write(struct uodp_dir *port, const struct uodp_device *dev)
{
	const unsigned n = uodp_device_num_gids(dev);
	struct uodp_dir gids = uodp_dir_sub(port, "gids");
	struct uodp_dir types, ndevs;

	for (unsigned i = 0; i < n; i++)
		gid_write(&gids, i, &dev->gids[i]);
	uodp_dir_close(&gids, port);
	types = uodp_dir_sub(port, "gid_attrs/types");
	for (unsigned i = 0; i < n; i++)
		indexed_write(&types, i, dev->infiniband ? "IB/RoCE v1" : "RoCE v2");
	uodp_dir_close(&types, port);
	ndevs = uodp_dir_sub(port, "gid_attrs/ndevs");
	for (unsigned i = 0; i < n && !dev->infiniband; i++)
		indexed_write(&ndevs, i, dev->ndev);
	uodp_dir_close(&ndevs, port);
}

static void pkeys_write(struct uodp_dir *port)
{
	struct uodp_dir dir = uodp_dir_sub(port, "pkeys");

	uodp_file_write(&dir, "0", "0xffff");
	uodp_dir_close(&dir, port);
}

static void port_write(struct uodp_dir *dir, const struct uodp_device *dev)
{
	struct uodp_dir port = uodp_dir_sub(dir, "ports/1");

	uodp_file_write(&port, "state", "4: ACTIVE");
	uodp_file_write(&port, "phys_state", "5: LinkUp");
	uodp_file_write(&port, "link_layer", dev->infiniband ? "InfiniBand" : "Ethernet");
	uodp_file_write(&port, "rate", "100 Gb/sec (4X EDR)");
	uodp_file_write(&port, "lid", "0x%x", dev->infiniband ? dev->lid : 0);
	uodp_file_write(&port, "lid_mask_count", "0");
	uodp_file_write(&port, "sm_lid", "0x%x", dev->infiniband ? dev->lid : 0);
	uodp_file_write(&port, "sm_sl", "0");
	uodp_file_write(&port, "cap_mask", "0x%08x", uodp_device_port_caps(dev));
	uodp_counters_make(&port);
	gids_write(&port, dev);
	pkeys_write(&port);
	uodp_dir_close(&port, dir);
}

/* What a bus device has: here the network interface alone is real. */
static void parent_write(struct uodp_dir *dir, const struct uodp_device *dev)
{
	struct uodp_dir parent = uodp_dir_sub(dir, "device");
	struct uodp_dir sub;
	char text[UODP_FILE_MAX];

	uodp_file_write(&parent, "modalias", "uodp:%s", dev->name);
	uodp_file_write(&parent, "numa_node", "-1");
	sub = uodp_dir_sub(&parent, "net");
	snprintf(text, sizeof(text), "/sys/class/net/%s", dev->ndev);
	uodp_link_write(&sub, dev->ndev, text);
	uodp_dir_close(&sub, &parent);
	sub = uodp_dir_sub(&parent, "infiniband");
	uodp_link_write(&sub, dev->name, "../..");
	uodp_dir_close(&sub, &parent);
	sub = uodp_dir_sub(&parent, "infiniband_verbs");
	snprintf(text, sizeof(text), "../../../../infiniband_verbs/uverbs%u", dev->uverbs);
	uodp_link_write(&sub, strrchr(text, '/') + 1, text);
	uodp_dir_close(&sub, &parent);
	uodp_dir_close(&parent, dir);
}

static void device_write(struct uodp_dir *run, const struct uodp_device *dev)
{
	char path[IBV_SYSFS_PATH_MAX];
	struct uodp_dir dir;

	snprintf(path, sizeof(path), "%s/%s", dev->infiniband ? UODP_SYSFS_IB_DIR : UODP_SYSFS_DIR,
		 dev->name);
	dir = uodp_dir_sub(run, path);
	guid_write(&dir, "node_guid", be64toh(dev->guid));
	guid_write(&dir, "sys_image_guid", be64toh(dev->guid));
	uodp_file_write(&dir, "node_type", "1: CA");
	uodp_file_write(&dir, "node_desc", "%s", dev->name);
	uodp_file_write(&dir, "fw_ver", UODP_VERSION);
	uodp_file_write(&dir, "board_id", "uodp");
	uodp_file_write(&dir, "hca_type", "uodp");
	uodp_file_write(&dir, "hw_rev", "0");
	uodp_file_write(&dir, "uevent", "NAME=%s", dev->name);
	port_write(&dir, dev);
	parent_write(&dir, dev);
	uodp_dir_close(&dir, run);
}

/* ---- its number among the uverbs devices ---- */

/* Is uverbs<N> in DIR that of the device NAME (NULL: of any)? */
static bool uverbs_is(const struct uodp_dir *dir, unsigned n, const char *name)
{
	char path[32], line[IBV_SYSFS_NAME_MAX + 1] = "";
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "uverbs%u/ibdev", n);
	fd = openat(dir->fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, line, sizeof(line) - 1);
	close(fd);
	line[strcspn(line, "\n")] = '\0';
	return len > 0 && (!name || !strcmp(line, name));
}

/* The number that the device NAME has in DIR, or -1. */
static int uverbs_find(const struct uodp_dir *dir, const char *name)
{
	DIR *entries = uodp_dir_list(dir);
	const struct dirent *entry;
	int found = -1;
	unsigned n;

	while (entries && found < 0 && (entry = readdir(entries)))
		if (sscanf(entry->d_name, "uverbs%u", &n) == 1 && uverbs_is(dir, n, name))
			found = (int)n;
	if (entries)
		closedir(entries);
	return found;
}

/* The first number that none of the host's own devices has: they keep theirs. */
static unsigned uverbs_base(void)
{
	DIR *dir = opendir("/sys/class/infiniband_verbs");
	const struct dirent *entry;
	unsigned base = 0, n;

	while (dir && (entry = readdir(dir)))
		if (sscanf(entry->d_name, "uverbs%u", &n) == 1 && n >= base)
			base = n + 1;
	if (dir)
		closedir(dir);
	/* With room for those that are plugged in later. */
	return base ? base + 64 : 0;
}

/* In ALL, the directory infiniband_verbs. */
static void uverbs_fill(struct uodp_dir *all, const struct uodp_device *dev)
{
	char name[16], device[UODP_FILE_MAX];
	struct uodp_dir dir;

	snprintf(name, sizeof(name), "uverbs%u", dev->uverbs);
	dir = uodp_dir_sub(all, name);
	uodp_file_write(&dir, "abi_version", "1");
	uodp_file_write(&dir, "dev", "%u:%u", major(dev->rdev), minor(dev->rdev));
	uodp_file_write(&dir, "uevent", "MAJOR=%u\nMINOR=%u\nDEVNAME=infiniband/%s",
			major(dev->rdev), minor(dev->rdev), name);
	snprintf(device, sizeof(device), "../../infiniband/%s/device", dev->name);
	uodp_link_write(&dir, "device", device);
	uodp_file_write(&dir, "ibdev", "%s", dev->name);
	uodp_dir_close(&dir, all);
}

/* The same number in every process of the run directory, for good. */
static void uverbs_write(struct uodp_dir *run, struct uodp_device *dev)
{
	struct uodp_dir all = uodp_dir_sub(run, "sys/class/infiniband_verbs");
	int n;

	if (!all.err && flock(all.fd, LOCK_EX))
		all.err = -errno;
	if (all.err) {
		uodp_dir_close(&all, run);
		return;
	}
	n = uverbs_find(&all, dev->name);
	if (n < 0)
		for (n = (int)uverbs_base(); uverbs_is(&all, n, NULL); n++)
			;
	/* Written once: others read it without a lock. */
	if (dev->uverbs != (unsigned)n)
		dev->uverbs = (unsigned)n;
	uverbs_fill(&all, dev);
	flock(all.fd, LOCK_UN);
	uodp_dir_close(&all, run);
}

/* The directory that is opened in the place of a character device: it cannot be
 * written, nor mapped, and its inode tells which device it is. */
static void node_write(struct uodp_dir *run, const struct uodp_device *dev)
{
	char path[IBV_SYSFS_PATH_MAX];
	struct uodp_dir dir;

	snprintf(path, sizeof(path), UODP_NODE_DIR "/%s", dev->name);
	dir = uodp_dir_sub(run, path);
	if (!dir.err && fchmod(dir.fd, UODP_NODE_MODE))
		dir.err = -errno;
	uodp_dir_close(&dir, run);
}

/* The same device as those see it for whom its link layer is InfiniBand. */
static void infiniband_write(struct uodp_dir *run, const struct uodp_device *dev)
{
	struct uodp_dir all = uodp_dir_sub(run, UODP_SYSFS_IB_DIR "_verbs");

	uverbs_fill(&all, dev);
	uodp_dir_close(&all, run);
	device_write(run, dev);
}

int uodp_sysfs_write(struct uodp_device *dev, const char *run_dir)
{
	struct uodp_dir run = uodp_dir_open(run_dir);
	struct uodp_device ethernet;
	int err;

	uverbs_write(&run, dev);
	/* Always: other processes have it so, and its files say whether it is plugged in. */
	ethernet = *dev;
	ethernet.infiniband = false;
	node_write(&run, dev);
	device_write(&run, &ethernet);
	if (dev->infiniband)
		infiniband_write(&run, dev);
	err = run.err;
	uodp_dir_close(&run, NULL);
	if (err)
		odp_log(ODP_LOG_ERR,
			"cannot write the files of device %s below %s/sys: %s; no such device",
			dev->name, run_dir, strerror(-err));
	return err;
}
