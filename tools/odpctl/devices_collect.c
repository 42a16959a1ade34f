/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The union of the devices in the run directory's tree and in processes. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices.h"

#define DEVICES_MAX 1024u /* names in a directory are free to make */

static struct device *device_get(struct devices *devs, const char *name)
{
	struct device *dev;
	unsigned i;

	for (i = 0; i < devs->count; i++)
		if (!strcmp(devs->list[i].name, name))
			return &devs->list[i];
	if (devs->count == DEVICES_MAX)
		return NULL;
	devs->list = ctl_realloc(devs->list, (devs->count + 1) * sizeof(*dev));
	dev = &devs->list[devs->count++];
	memset(dev, 0, sizeof(*dev));
	strcpy(dev->name, name);
	return dev;
}

static bool name_ok(const char *name)
{
	size_t len =
		strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");

	return len && !name[len] && len < DEVICE_NAME && name[0] != '.';
}

static void tree_collect(struct ctl *ctl, struct devices *devs)
{
	struct dirent *entry;
	DIR *dir;
	int fd = -1;

	if (ctl->dir_fd >= 0)
		fd = openat(ctl->dir_fd, DEVICE_TREE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (name_ok(entry->d_name))
			device_get(devs, entry->d_name);
	closedir(dir);
}

static void qps_collect(struct process *p, struct device **mine)
{
	const struct uodp_qp_shm *qp;
	struct scan s;

	scan_begin(&s, p, p->root->qps, sizeof(*qp), p->root->qp_high,
		   offsetof(struct uodp_qp_shm, gen));
	while ((qp = scan_next(&s)))
		if ((qp->gen & 1) && qp->device < p->root->num_devices && mine[qp->device])
			mine[qp->device]->qps++;
}

static void process_collect(struct ctl *ctl, struct process *p, void *arg)
{
	enum { MAX = sizeof(p->root->devices) / sizeof(p->root->devices[0]) };
	struct device *mine[MAX] = {NULL};
	char name[DEVICE_NAME];
	uint32_t i;

	(void)ctl;
	if (!p->root)
		return;
	/* Two rounds: finding one may move those found before. */
	for (i = 0; i < 2 * p->root->num_devices; i++) {
		const uint32_t d = i % p->root->num_devices;

		text_clean(name, sizeof(name), p->root->devices[d], DEVICE_NAME - 1);
		if (name_ok(name))
			mine[d] = device_get(arg, name);
	}
	for (i = 0; i < p->root->num_devices; i++)
		if (mine[i] && mine[i]->npids < ODP_MAX_PROCS)
			mine[i]->pids[mine[i]->npids++] = p->pid;
	qps_collect(p, mine);
}

static int device_compare(const void *a, const void *b)
{
	const struct device *x = a, *y = b;

	return strverscmp(x->name, y->name);
}

void devices_collect(struct ctl *ctl, struct devices *devs)
{
	devs->list = NULL;
	devs->count = 0;
	tree_collect(ctl, devs);
	domain_each(ctl, process_collect, devs);
	if (devs->count)
		qsort(devs->list, devs->count, sizeof(devs->list[0]), device_compare);
}

void devices_free(struct devices *devs)
{
	free(devs->list);
}
