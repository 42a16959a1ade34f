/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Which devices there are, and who has them open. */
#ifndef ODPCTL_DEVICES_H
#define ODPCTL_DEVICES_H

#include "odpctl.h"

#define DEVICE_TREE "sys/class/infiniband" /* in the run directory */
#define DEVICE_NAME 64

struct device {
	char name[DEVICE_NAME];
	pid_t pids[ODP_MAX_PROCS];
	unsigned npids;
	uint64_t qps;
};

struct devices {
	struct device *list; /* sorted by name */
	unsigned count;
};

void devices_collect(struct ctl *ctl, struct devices *devs);
void devices_free(struct devices *devs);

#endif
