/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Devices: those that the run directory describes, those that processes know. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices.h"

enum {
	D_IFNAME,
	D_GUID,
	D_PORT,
	D_STATE,
	D_PHYS,
	D_LINK_LAYER,
	D_GIDS,
	D_QPS,
	D_PROCESSES,
	D_PIDS,
	D_COLUMNS
};

static const struct column columns[D_COLUMNS] = {
	[D_IFNAME] = {"ifname", "DEVICE", COLUMN_TEXT, 0},
	[D_GUID] = {"node_guid", "NODE_GUID", COLUMN_TEXT, 0},
	[D_PORT] = {"port", "PORT", COLUMN_NUM, 0},
	[D_STATE] = {"state", "STATE", COLUMN_TEXT, 0},
	[D_PHYS] = {"physical_state", NULL, COLUMN_TEXT, 0},
	[D_LINK_LAYER] = {"link_layer", NULL, COLUMN_TEXT, 0},
	[D_GIDS] = {"gids", "GIDS", COLUMN_TEXT, 28},
	[D_QPS] = {"qps", "QPS", COLUMN_NUM, 0},
	[D_PROCESSES] = {"processes", "PROCS", COLUMN_NUM, 0},
	[D_PIDS] = {"pids", "PIDS", COLUMN_TEXT, 24},
};

#define GIDS_MAX 16

/* A line of a file of the device's directory; false: there is none. */
static bool file_read(int dir, const char *path, char *buf, size_t size)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	char raw[128];
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, raw, sizeof(raw) - 1);
	close(fd);
	if (n <= 0)
		return false;
	raw[n] = '\0';
	text_clean(buf, size, raw, strcspn(raw, "\n"));
	return true;
}

/* The word behind the number, as in "4: ACTIVE". */
static void row_file(struct table *t, unsigned column, int dir, const char *path)
{
	char text[64], *colon;

	if (!file_read(dir, path, text, sizeof(text)))
		return;
	colon = strstr(text, ": ");
	table_text(t, column, colon ? colon + 2 : text);
}

static void gid_add(struct json_object *gids, unsigned index, const char *gid, const char *type)
{
	struct json_object *one = json_object_new_object();

	json_object_object_add(one, "index", json_object_new_int((int)index));
	json_object_object_add(one, "gid", json_object_new_string(gid));
	json_object_object_add(one, "type", json_object_new_string(type));
	json_object_array_add(gids, one);
}

static void row_gids(struct table *t, int dir)
{
	struct json_object *gids = t->json ? json_object_new_array() : NULL;
	char path[64], gid[64], type[32], all[TABLE_CELL] = "";
	unsigned char raw[16];
	unsigned i;

	for (i = 0; i < GIDS_MAX; i++) {
		const size_t len = strlen(all);

		snprintf(path, sizeof(path), "ports/1/gids/%u", i);
		if (!file_read(dir, path, gid, sizeof(gid)) || inet_pton(AF_INET6, gid, raw) != 1)
			break;
		snprintf(path, sizeof(path), "ports/1/gid_attrs/types/%u", i);
		if (!file_read(dir, path, type, sizeof(type)))
			strcpy(type, "?");
		inet_ntop(AF_INET6, raw, gid, sizeof(gid));
		if (gids)
			gid_add(gids, i, gid, type);
		snprintf(all + len, sizeof(all) - len, "%s%s", len ? " " : "", gid);
	}
	table_both(t, D_GIDS, all, gids);
}

static void row_tree(struct table *t, const struct ctl *ctl, const char *name)
{
	char path[sizeof(DEVICE_TREE) + DEVICE_NAME];
	int dir;

	snprintf(path, sizeof(path), DEVICE_TREE "/%s", name);
	dir = openat(ctl->dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return;
	row_file(t, D_GUID, dir, "node_guid");
	if (faccessat(dir, "unplugged", F_OK, 0))
		row_file(t, D_STATE, dir, "ports/1/state");
	else
		table_text(t, D_STATE, "UNPLUGGED");
	row_file(t, D_PHYS, dir, "ports/1/phys_state");
	row_file(t, D_LINK_LAYER, dir, "ports/1/link_layer");
	row_gids(t, dir);
	close(dir);
}

static void row_pids(struct table *t, const struct device *dev)
{
	struct json_object *pids = t->json ? json_object_new_array() : NULL;
	char all[TABLE_CELL] = "";
	unsigned i;

	for (i = 0; i < dev->npids; i++) {
		const size_t len = strlen(all);

		if (pids)
			json_object_array_add(pids, json_object_new_int(dev->pids[i]));
		if (len + 16 < sizeof(all))
			snprintf(all + len, sizeof(all) - len, "%s%d", len ? " " : "",
				 dev->pids[i]);
		else if (all[len - 1] != '.')
			strcat(all, " ...");
	}
	table_both(t, D_PIDS, all, pids);
}

void devices_show(struct ctl *ctl)
{
	struct devices devs;
	struct table t;
	unsigned i;

	devices_collect(ctl, &devs);
	table_begin(&t, ctl, columns, D_COLUMNS);
	for (i = 0; i < devs.count; i++) {
		const struct device *dev = &devs.list[i];

		if (ctl->pid && !dev->npids)
			continue;
		table_text(&t, D_IFNAME, dev->name);
		table_num(&t, D_PORT, 1);
		row_tree(&t, ctl, dev->name);
		table_num(&t, D_QPS, dev->qps);
		table_num(&t, D_PROCESSES, dev->npids);
		row_pids(&t, dev);
		table_row(&t);
	}
	table_end(&t);
	devices_free(&devs);
}
