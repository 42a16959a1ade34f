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
#include <sys/sysmacros.h>

#include "uodp.h"

#define DEFAULT_DEVICES "uodp0"
#define NAME_MAX_LEN 63

static struct uodp_device devices[UODP_MAX_DEVICES];
static unsigned num_devices;
static int devices_errno; /* why there is none */
static pthread_once_t devices_once = PTHREAD_ONCE_INIT;

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
	uint32_t hash = name_hash(dev->name);
	/* EUI-64 of the locally administered address 02:75:6f:hh:hh:hh */
	uint8_t eui[8] = {0x00, 0x75, 0x6f, 0xff, 0xfe, hash >> 16, hash >> 8, hash};
	union ibv_gid *gid = dev->gids;

	memcpy(&dev->guid, eui, sizeof(eui));
	gid[0].raw[0] = 0xfe;
	gid[0].raw[1] = 0x80;
	memcpy(gid[0].raw + 8, eui, sizeof(eui));
	gid[1].raw[10] = 0xff;
	gid[1].raw[11] = 0xff;
	device_ipv4(dev->name, gid[1].raw + 12);
}

/* As the kernel's major number of uverbs devices with minor numbers that it does not
 * use; they follow from the name, so that any process knows whose file it has been sent. */
static dev_t device_number(const char *name)
{
	int n = name_number(name);

	return makedev(231, n >= 0 ? 0x40000 + (unsigned)n : 0x80000 + name_hash(name) % 0x80000);
}

/* Is LAYER one, and which? */
static bool layer_parse(const char *layer, size_t len, bool *infiniband)
{
	*infiniband = len == 10 && !strncasecmp(layer, "infiniband", len);
	return *infiniband || (len == 8 && !strncasecmp(layer, "ethernet", len));
}

/*
 * $UODP_LINK_LAYER: LAYER, or NAME=LAYER, or several of them with commas; what names a
 * device counts before what names none.
 */
static bool infiniband_wanted(const char *name, bool tell)
{
	const char *env = secure_getenv("UODP_LINK_LAYER");
	bool all = false, one = false, named = false, ib;

	for (const char *at = env; at && *at; at += *at == ',') {
		size_t len = strcspn(at, ","), eq = strcspn(at, "=,");
		const char *layer = at[eq] == '=' ? at + eq + 1 : at;

		if (!layer_parse(layer, (size_t)(at + len - layer), &ib)) {
			if (tell)
				odp_log(ODP_LOG_ERR,
					"UODP_LINK_LAYER: \"%.*s\" is neither infiniband nor "
					"ethernet, nor NAME=one of them: not used",
					(int)(len < 64 ? len : 64), at);
		} else if (layer == at) {
			all = ib;
		} else if (strlen(name) == eq && !strncmp(name, at, eq)) {
			named = true;
			one = ib;
		}
		at += len;
	}
	return named ? one : all;
}

static bool device_init(struct uodp_device *dev, const char *name, unsigned index, const char *dir)
{
	int n;

	memset(dev, 0, sizeof(*dev));
	dev->index = index;
	strcpy(dev->name, name);
	strcpy(dev->ndev, "lo");
	dev->rdev = device_number(name);
	device_address(dev);
	dev->lid = uodp_lid(dev->gids[1].raw);
	dev->infiniband = infiniband_wanted(name, !index);
	n = snprintf(dev->path, sizeof(dev->path), "%s/%s/%s", dir,
		     dev->infiniband ? UODP_SYSFS_IB_DIR : UODP_SYSFS_DIR, name);
	if (n < (int)sizeof(dev->path))
		return true;
	odp_log(ODP_LOG_ERR,
		"the path %s is too long for the device %s: set UODP_DIR to a shorter one", dir,
		name);
	return false;
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
		if (!strcmp(devices[i].name, name))
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
	int ret;

	if (!name_valid(name))
		name_skip(skipped, name,
			  "not a device name (1 to 63 of A-Z a-z 0-9 _ . -, no dot first)");
	else if (name_taken(name))
		name_skip(skipped, name, "it is there twice; once is enough");
	else if (num_devices == UODP_MAX_DEVICES)
		name_skip(skipped, name, "more than 16 devices");
	else {
		ret = device_init(dev, name, num_devices, dir) ? uodp_sysfs_write(dev, dir)
							       : -ENAMETOOLONG;
		if (ret)
			devices_errno = -ret;
		else
			num_devices++;
	}
}

static void devices_init(void)
{
	const char *env = secure_getenv("UODP_DEVICES");
	char dir[IBV_SYSFS_PATH_MAX];
	struct skipped skipped = {0};
	char *list, *next, *name;

	devices_errno = -odp_dir_get(dir, sizeof(dir));
	if (devices_errno)
		return;
	list = strdup(env && *env ? env : DEFAULT_DEVICES);
	if (!list) {
		devices_errno = ENOMEM;
		return;
	}
	uodp_files_raw++;
	for (next = list; (name = strsep(&next, ",")) != NULL;)
		device_add(name, dir, &skipped);
	uodp_files_raw--;
	skipped_tell(&skipped);
	free(list);
	if (num_devices)
		devices_errno = 0; /* those that failed have had their line */
	else if (!devices_errno)
		devices_errno = EINVAL; /* no name that can be one */
}

unsigned uodp_devices(struct uodp_device **devs)
{
	pthread_once(&devices_once, devices_init);
	*devs = devices;
	return num_devices;
}

int uodp_devices_errno(void)
{
	struct uodp_device *devs;

	uodp_devices(&devs);
	return devices_errno;
}

/* ---- as libibverbs knows them ---- */

static struct uodp_device *device_named(const char *name)
{
	struct uodp_device *devs;
	unsigned n = uodp_devices(&devs);

	for (unsigned i = 0; i < n; i++)
		if (!strcmp(devs[i].name, name))
			return &devs[i];
	return NULL;
}

/* A kernel's device of the same name has another number. */
static bool device_match(struct verbs_sysfs_dev *sysfs)
{
	const struct uodp_device *dev = device_named(sysfs->ibdev_name);

	return dev && sysfs->sysfs_cdev == dev->rdev && uodp_device_plugged(dev) &&
	       uodp_abi_check();
}

static struct verbs_device *device_alloc(struct verbs_sysfs_dev *sysfs)
{
	struct uodp_listed *listed = calloc(1, sizeof(*listed));

	if (!listed)
		return NULL;
	listed->dev = device_named(sysfs->ibdev_name);
	return &listed->vdev;
}

static void device_uninit(struct verbs_device *vdev)
{
	free(uodp_container_of(vdev, struct uodp_listed, vdev));
}

static const struct verbs_device_ops device_ops = {
	.name = "uodp",
	.match_min_abi_version = 1,
	.match_max_abi_version = 1,
	.match_device = device_match,
	.alloc_context = uodp_alloc_context,
	.alloc_device = device_alloc,
	.uninit_device = device_uninit,
};

/* libibverbs finds drivers by this call, whether it loaded this library or found it
 * in the process already. */
__attribute__((constructor)) static void driver_register(void)
{
	verbs_register_driver(&device_ops);
}

bool uodp_is_device(const struct ibv_device *dev)
{
	const struct verbs_device *vdev = uodp_container_of(dev, struct verbs_device, device);

	return dev && vdev->ops == &device_ops;
}

uint32_t uodp_device_port_caps(const struct uodp_device *dev)
{
	return IBV_PORT_CM_SUP | (dev->infiniband ? 0 : IBV_PORT_IP_BASED_GIDS);
}

unsigned uodp_device_num_gids(const struct uodp_device *dev)
{
	/* The other one is an IP address, which InfiniBand has none of. */
	return dev->infiniband ? 1 : UODP_NUM_GIDS;
}

int uodp_device_gid(const struct uodp_device *dev, unsigned index, union ibv_gid *gid)
{
	if (index >= UODP_NUM_GIDS)
		return -EINVAL;
	*gid = dev->gids[index];
	return 0;
}
