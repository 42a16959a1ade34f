/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A preloaded library that is the driver of the host's own device host0, whose files
 * host.sh makes. At exit it prints what became of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi/verbs_abi.h"

static int opened, listed;

static bool host_match(struct verbs_sysfs_dev *sysfs)
{
	return !strcmp(sysfs->ibdev_name, "host0");
}

static struct verbs_device *host_alloc(struct verbs_sysfs_dev *sysfs)
{
	(void)sysfs;
	listed++;
	return calloc(1, sizeof(struct verbs_device));
}

static void host_uninit(struct verbs_device *dev)
{
	free(dev);
}

static struct verbs_context *host_open(struct ibv_device *dev, int cmd_fd, void *priv)
{
	(void)dev, (void)priv;
	opened++;
	close(cmd_fd);
	errno = EACCES;
	return NULL;
}

static const struct verbs_device_ops host_ops = {
	.name = "host",
	.match_min_abi_version = 1,
	.match_max_abi_version = 1,
	.match_device = host_match,
	.alloc_device = host_alloc,
	.uninit_device = host_uninit,
	.alloc_context = host_open,
};

__attribute__((constructor)) static void host_init(void)
{
	verbs_register_driver(&host_ops);
}

__attribute__((destructor)) static void host_report(void)
{
	if (listed || opened)
		fprintf(stderr, "host0: listed %d times, opened %d times\n", listed, opened);
}
