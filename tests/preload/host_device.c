/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A preloaded library that plays a host with an RDMA device of the kernel's:
 * behind the provider in LD_PRELOAD, it stands where libibverbs' own list would
 * come from. At exit it prints what became of its device.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi/verbs_abi.h"

static struct verbs_device_ops host_ops = {.name = "host"};
static struct verbs_device host = {
	.device = {.node_type = IBV_NODE_CA, .transport_type = IBV_TRANSPORT_IB, .name = "host0"},
	.ops = &host_ops,
};
static struct verbs_sysfs_dev host_sysfs = {.flags = VERBS_SYSFS_NODE_GUID_KNOWN,
					    .node_guid = 0x1122334455667788};
static int opened;

__attribute__((constructor)) static void host_init(void)
{
	host.sysfs = &host_sysfs;
	atomic_init(&host.refcount, 1);
}

__attribute__((destructor)) static void host_report(void)
{
	fprintf(stderr, "host0: %d references, opened %d times\n", atomic_load(&host.refcount) - 1,
		opened);
}

struct ibv_device **ibv_get_device_list(int *num)
{
	struct ibv_device **(*next)(int *) = dlsym(RTLD_NEXT, "ibv_get_device_list");
	struct ibv_device **list = next(NULL);

	/* What is really there would only confuse. */
	if (list)
		ibv_free_device_list(list);
	if (getenv("HOST_DEVICE_NONE")) {
		errno = atoi(getenv("HOST_DEVICE_NONE"));
		return NULL;
	}
	list = calloc(2, sizeof(*list));
	list[0] = &host.device;
	atomic_fetch_add(&host.refcount, 1);
	if (num)
		*num = 1;
	return list;
}

struct ibv_context *ibv_open_device(struct ibv_device *dev)
{
	struct ibv_context *(*next)(struct ibv_device *) = dlsym(RTLD_NEXT, "ibv_open_device");

	if (dev != &host.device)
		return next(dev);
	opened++;
	errno = EACCES;
	return NULL;
}
