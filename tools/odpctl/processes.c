/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The attached processes. */
#include <json-c/json.h>
#include <string.h>

#include "odpctl.h"

enum {
	P_SLOT,
	P_PID,
	P_COMM,
	P_UPTIME,
	P_DEVICES,
	P_QPS,
	P_CQS,
	P_SRQS,
	P_MRS,
	P_PINNED,
	P_ODP,
	P_POOL,
	P_LANES,
	P_COLUMNS
};

static const struct column columns[P_COLUMNS] = {
	[P_SLOT] = {"slot", "SLOT", COLUMN_NUM, 0},
	[P_PID] = {"pid", "PID", COLUMN_NUM, 0},
	[P_COMM] = {"comm", "COMM", COLUMN_TEXT, 0},
	[P_UPTIME] = {"uptime", "UPTIME", COLUMN_NUM, 0},
	[P_DEVICES] = {"devices", NULL, COLUMN_TEXT, 0},
	[P_QPS] = {"qps", "QPS", COLUMN_NUM, 0},
	[P_CQS] = {"cqs", "CQS", COLUMN_NUM, 0},
	[P_SRQS] = {"srqs", "SRQS", COLUMN_NUM, 0},
	[P_MRS] = {"mrs", "MRS", COLUMN_NUM, 0},
	[P_PINNED] = {"pinned_bytes", "PINNED", COLUMN_NUM, 0},
	[P_ODP] = {"odp_bytes", "ODP", COLUMN_NUM, 0},
	[P_POOL] = {"pool_bytes", "POOL", COLUMN_NUM, 0},
	[P_LANES] = {"lanes", "LANES", COLUMN_NUM, 0},
};

static void row_devices(struct table *t, const struct process *p)
{
	struct json_object *names = t->json ? json_object_new_array() : NULL;
	char name[sizeof(p->root->devices[0])];
	uint32_t i;

	for (i = 0; names && p->root && i < p->root->num_devices; i++) {
		text_clean(name, sizeof(name), p->root->devices[i], sizeof(name) - 1);
		json_object_array_add(names, json_object_new_string(name));
	}
	table_both(t, P_DEVICES, NULL, names);
}

static void row_counts(struct table *t, const struct process *p)
{
	struct counts c = {0};
	uint64_t pool;

	counts_add(&c, p);
	table_num(t, P_QPS, c.qps);
	table_num(t, P_CQS, c.cqs);
	table_num(t, P_SRQS, c.srqs);
	table_num(t, P_MRS, c.mrs);
	table_num(t, P_PINNED, c.pinned);
	table_num(t, P_ODP, c.odp);
	if (process_pool(p, &pool))
		table_num(t, P_POOL, pool);
}

static void process_row(struct ctl *ctl, struct process *p, void *arg)
{
	struct table *t = arg;
	uint64_t uptime;

	(void)ctl;
	table_num(t, P_SLOT, p->slot);
	if (p->pid)
		table_num(t, P_PID, (uint64_t)p->pid);
	table_text(t, P_COMM, p->comm);
	if (process_uptime(p, &uptime))
		table_num(t, P_UPTIME, uptime);
	row_devices(t, p);
	if (p->seg_fd >= 0)
		row_counts(t, p);
	table_num(t, P_LANES, p->lanes);
	table_row(t);
}

void processes_show(struct ctl *ctl)
{
	struct table t;

	table_begin(&t, ctl, columns, P_COLUMNS);
	domain_each(ctl, process_row, &t);
	table_end(&t);
}
