/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The devices that $UODP_DEVICES names. Addresses follow from a device's name
 * alone, so that processes that were given other lists agree on them.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uodp.h"

#define DEFAULT_DEVICES "uodp0"
#define NAME_MAX_LEN 63

static struct uodp_device devices[UODP_MAX_DEVICES];
static unsigned num_devices;
static pthread_once_t devices_once = PTHREAD_ONCE_INIT;

static const struct verbs_device_ops device_ops = {
	.name = "uodp",
	.alloc_context = uodp_alloc_context,
};

static uint32_t name_hash(const char *name)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	while (*name)
		hash = (hash ^ (unsigned char)*name++) * 16777619u;
	return hash;
}

/* N of the name uodp<N>, 0 to 253 without leading zeros, or -1. */
static int name_number(const char *name)
{
	char canonical[16];
	int n;

	if (sscanf(name, "uodp%d", &n) != 1 || n < 0 || n > 253)
		return -1;
	snprintf(canonical, sizeof(canonical), "uodp%d", n);
	return strcmp(name, canonical) ? -1 : n;
}

/* uodp<N> has 127.0.0.<1+N>; other names an address in 127.128.0.0/9. */
static void device_ipv4(const char *name, uint8_t ip[4])
{
	uint32_t hash = name_hash(name);
	int n = name_number(name);

	ip[0] = 127;
	ip[1] = 128 | (hash >> 16 & 127);
	ip[2] = hash >> 8;
	ip[3] = hash;
	if (n >= 0) {
		ip[1] = 0;
		ip[2] = 0;
		ip[3] = 1 + n;
	}
}

static void device_address(struct uodp_device *dev)
{
	uint32_t hash = name_hash(dev->vdev.device.name);
	/* EUI-64 of the locally administered address 02:75:6f:hh:hh:hh */
	uint8_t eui[8] = {0x00, 0x75, 0x6f, 0xff, 0xfe, hash >> 16, hash >> 8, hash};
	union ibv_gid *gid = dev->gids;

	memcpy(&dev->guid, eui, sizeof(eui));
	gid[0].raw[0] = 0xfe;
	gid[0].raw[1] = 0x80;
	memcpy(gid[0].raw + 8, eui, sizeof(eui));
	gid[1].raw[10] = 0xff;
	gid[1].raw[11] = 0xff;
	device_ipv4(dev->vdev.device.name, gid[1].raw + 12);
}

/* False, after a line on stderr, when the run directory's path is too long. */
static bool device_path(struct uodp_device *dev, const char *dir)
{
	struct verbs_sysfs_dev *sysfs = &dev->sysfs;
	const char *name = dev->vdev.device.name;
	int n = snprintf(sysfs->ibdev_path, sizeof(sysfs->ibdev_path), "%s/" UODP_SYSFS_DIR "/%s",
			 dir, name);

	if (n < (int)sizeof(sysfs->ibdev_path))
		return true;
	odp_log(ODP_LOG_ERR,
		"the path %s is too long for the device %s: set UODP_DIR to a shorter one", dir,
		name);
	return false;
}

static bool device_init(struct uodp_device *dev, const char *name, unsigned index, const char *dir)
{
	struct ibv_device *ibdev = &dev->vdev.device;
	struct verbs_sysfs_dev *sysfs = &dev->sysfs;

	memset(dev, 0, sizeof(*dev));
	dev->index = index;
	ibdev->node_type = IBV_NODE_CA;
	ibdev->transport_type = IBV_TRANSPORT_IB;
	strcpy(ibdev->name, name);
	if (!device_path(dev, dir))
		return false;
	device_address(dev);

	/* No kernel device: a name that no file in /dev/infiniband has. */
	snprintf(ibdev->dev_name, sizeof(ibdev->dev_name), "uodp_verbs%u", index);
	strcpy(ibdev->ibdev_path, sysfs->ibdev_path);
	strcpy(ibdev->dev_path, sysfs->ibdev_path);

	strcpy(sysfs->sysfs_name, ibdev->dev_name);
	strcpy(sysfs->ibdev_name, name);
	sysfs->flags = VERBS_SYSFS_NODE_GUID_KNOWN;
	sysfs->node_guid = be64toh(dev->guid);
	sysfs->node_type = IBV_NODE_CA;
	sysfs->ibdev_idx = -1;
	sysfs->num_ports = 1;

	dev->vdev.ops = &device_ops;
	dev->opener = dev->vdev; /* as it is now, without sysfs */
	dev->vdev.sysfs = sysfs;
	/* The table's own reference: it never falls to 0. */
	atomic_init(&dev->vdev.refcount, 1);
	atomic_init(&dev->opener.refcount, 1);
	return true;
}

static bool name_valid(const char *name)
{
	size_t len =
		strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");

	return !name[len] && len > 0 && len <= NAME_MAX_LEN && *name != '.';
}

static bool name_taken(const char *name)
{
	for (unsigned i = 0; i < num_devices; i++)
		if (!strcmp(devices[i].vdev.device.name, name))
			return true;
	return false;
}

_Static_assert(UODP_MAX_DEVICES == 16, "as a message has it");

/* Names that were not taken: the first, and why. */
struct skipped {
	unsigned count;
	const char *name, *why;
};

static void name_skip(struct skipped *skipped, const char *name, const char *why)
{
	if (!skipped->count++) {
		skipped->name = name;
		skipped->why = why;
	}
}

static void skipped_tell(const struct skipped *s)
{
	char more[32] = "";

	if (!s->count)
		return;
	if (s->count > 1)
		snprintf(more, sizeof(more), " and %u more", s->count - 1);
	odp_log(ODP_LOG_ERR, "UODP_DEVICES: \"%.64s\"%s skipped: %s", s->name, more, s->why);
}

/* Add the device NAME, or note why not. */
static void device_add(const char *name, const char *dir, struct skipped *skipped)
{
	struct uodp_device *dev = &devices[num_devices];

	if (!name_valid(name))
		name_skip(skipped, name,
			  "not a device name (1 to 63 of A-Z a-z 0-9 _ . -, no dot first)");
	else if (name_taken(name))
		name_skip(skipped, name, "it is there twice; once is enough");
	else if (num_devices == UODP_MAX_DEVICES)
		name_skip(skipped, name, "more than 16 devices");
	else if (device_init(dev, name, num_devices, dir) && !uodp_sysfs_write(dev, dir))
		num_devices++;
}

static void devices_init(void)
{
	const char *env = secure_getenv("UODP_DEVICES");
	char dir[IBV_SYSFS_PATH_MAX];
	struct skipped skipped = {0};
	char *list, *next, *name;

	if (odp_dir_get(dir, sizeof(dir)))
		return;
	list = strdup(env && *env ? env : DEFAULT_DEVICES);
	if (!list)
		return;
	for (next = list; (name = strsep(&next, ",")) != NULL;)
		device_add(name, dir, &skipped);
	skipped_tell(&skipped);
	free(list);
}

unsigned uodp_devices(struct uodp_device **devs)
{
	pthread_once(&devices_once, devices_init);
	*devs = devices;
	return num_devices;
}

bool uodp_is_device(const struct ibv_device *dev)
{
	uintptr_t at = (uintptr_t)dev;

	return at >= (uintptr_t)devices && at < (uintptr_t)(devices + UODP_MAX_DEVICES);
}

int uodp_device_gid(const struct uodp_device *dev, unsigned index, union ibv_gid *gid)
{
	if (index >= UODP_NUM_GIDS)
		return -EINVAL;
	*gid = dev->gids[index];
	return 0;
}
