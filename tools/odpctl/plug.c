/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Taking a device away from its processes, and giving it back: the subcommands that
 * act. They attach to the run directory, as a program with a device does. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "devices.h"

/* Before anything is made in a directory that knows no such device. */
static void device_check(struct ctl *ctl)
{
	char path[sizeof(DEVICE_TREE) + DEVICE_NAME];
	int n = snprintf(path, sizeof(path), DEVICE_TREE "/%s", ctl->device);

	if (ctl->dir_fd < 0 || n >= (int)sizeof(path) || strchr(ctl->device, '/') ||
	    !*ctl->device || ctl->device[0] == '.' || faccessat(ctl->dir_fd, path, F_OK, 0))
		ctl_die(ctl, "there is no device %.63s in this run directory", ctl->device);
}

static void failed(struct ctl *ctl, const char *what, int err)
{
	if (err == ESRCH)
		ctl_die(ctl, "process %d is not attached to this run directory", (int)ctl->pid);
	ctl_die(ctl, "%s: cannot %s it%s: %s", ctl->device, what,
		err == EACCES || err == EPERM ? " for all processes" : "", strerror(err));
}

static void json_print(struct ctl *ctl, const struct uodpdv_unplug_info *info)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "ifname", json_object_new_string(ctl->device));
	if (info) {
		json_object_object_add(o, "processes", json_object_new_int64(info->processes));
		json_object_object_add(o, "qps", json_object_new_int64(info->qps));
		json_object_object_add(o, "mrs", json_object_new_int64(info->mrs));
		json_object_object_add(o, "dms", json_object_new_int64(info->dms));
	}
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_SPACED));
	json_object_put(o);
}

void unplug_run(struct ctl *ctl)
{
	struct uodpdv_unplug_info info = {0};
	int ret;

	device_check(ctl);
	ret = uodpdv_unplug(ctl->device, ctl->pid, &info, sizeof(info));
	if (ret)
		failed(ctl, "unplug", ret);
	if (ctl->json)
		json_print(ctl, &info);
	else
		printf("%s: unplugged; processes: %u, queue pairs: %u, memory regions: %u, "
		       "device memories: %u\n",
		       ctl->device, info.processes, info.qps, info.mrs, info.dms);
}

void plug_run(struct ctl *ctl)
{
	int ret;

	device_check(ctl);
	ret = uodpdv_plug(ctl->device, ctl->pid);
	if (ret)
		failed(ctl, "plug", ret);
	if (ctl->json)
		json_print(ctl, NULL);
	else
		printf("%s: plugged in\n", ctl->device);
}
