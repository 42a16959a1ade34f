/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Sums per device, of regions that are and that were; names as in `rdma statistic`. */
#include <stdlib.h>
#include <string.h>

#include "devices.h"
#include "totals.h"

enum {
	S_IFNAME,
	S_PROCESSES,
	S_MRS,
	S_MRS_ODP,
	S_VALID,
	S_FAULTS,
	S_FAULTS_HANDLED,
	S_INVALS,
	S_INVALS_HANDLED,
	S_PREFETCH,
	S_TX_MSGS,
	S_TX_BYTES,
	S_RNR,
	S_COLUMNS
};

static const struct column columns[S_COLUMNS] = {
	[S_IFNAME] = {"ifname", "DEVICE", COLUMN_TEXT, 0},
	[S_PROCESSES] = {"processes", "PROCS", COLUMN_NUM, 0},
	[S_MRS] = {"mrs", "MRS", COLUMN_NUM, 0},
	[S_MRS_ODP] = {"mrs_odp", "ODP", COLUMN_NUM, 0},
	[S_VALID] = {"pages_valid", "VALID", COLUMN_NUM, 0},
	[S_FAULTS] = {"page_faults", "FAULTS", COLUMN_NUM, 0},
	[S_FAULTS_HANDLED] = {"page_faults_handled", "HANDLED", COLUMN_NUM, 0},
	[S_INVALS] = {"page_invalidations", "INVALS", COLUMN_NUM, 0},
	[S_INVALS_HANDLED] = {"page_invalidations_handled", "HANDLED", COLUMN_NUM, 0},
	[S_PREFETCH] = {"page_prefetch", "PREF", COLUMN_NUM, 0},
	[S_TX_MSGS] = {"tx_msgs", "TX_MSGS", COLUMN_NUM, 0},
	[S_TX_BYTES] = {"tx_bytes", "TX_BYTES", COLUMN_NUM, 0},
	[S_RNR] = {"rnr", "RNR", COLUMN_NUM, 0},
};

/* By column. */
struct sums {
	uint64_t value[S_COLUMNS];
};

struct stats {
	struct devices devs;
	struct sums *sums; /* one a device of DEVS */
};

static struct sums *sums_find(struct stats *st, const struct process *p, uint32_t device)
{
	char name[DEVICE_NAME];

	if (!p->root || device >= p->root->num_devices)
		return NULL;
	text_clean(name, sizeof(name), p->root->devices[device], DEVICE_NAME - 1);
	for (unsigned i = 0; i < st->devs.count; i++)
		if (!strcmp(st->devs.list[i].name, name))
			return &st->sums[i];
	return NULL;
}

static void ended_add(struct sums *s, const struct uodp_odp_sums *e)
{
	s->value[S_FAULTS] += e->page_faults;
	s->value[S_FAULTS_HANDLED] += e->page_faults_handled;
	s->value[S_INVALS] += e->page_invalidations;
	s->value[S_INVALS_HANDLED] += e->page_invalidations_handled;
	s->value[S_PREFETCH] += e->page_prefetch;
}

static void mr_add(struct sums *s, const struct odp_mr_shm *mr)
{
	s->value[S_MRS]++;
	if (mr->kind != ODP_ON_DEMAND)
		return;
	s->value[S_MRS_ODP]++;
	s->value[S_VALID] += mr->pages_valid;
	s->value[S_FAULTS] += mr->page_faults;
	s->value[S_FAULTS_HANDLED] += mr->page_faults_handled;
	s->value[S_INVALS] += mr->page_invalidations;
	s->value[S_INVALS_HANDLED] += mr->page_invalidations_handled;
	s->value[S_PREFETCH] += mr->page_prefetch;
}

static void process_add(struct ctl *ctl, struct process *p, void *arg)
{
	const struct odp_mr_shm *mr;
	struct stats *st = arg;
	struct sums *sums;
	struct scan s;

	(void)ctl;
	for (uint32_t i = 0; p->root && i < p->root->num_devices; i++) {
		sums = sums_find(st, p, i);
		if (!sums)
			continue;
		sums->value[S_PROCESSES]++;
		ended_add(sums, &p->root->ended[i]);
	}
	scan_begin(&s, p, offsetof(struct odp_seg, mrs), sizeof(*mr), p->regions,
		   offsetof(struct odp_mr_shm, key));
	while ((mr = scan_next_mr(&s))) {
		sums = mr->tag ? sums_find(st, p, mr->tag - UODP_TAG(0)) : NULL;
		if (sums)
			mr_add(sums, mr);
	}
}

/* As the device's files have it: also of queue pairs and processes that are no more. */
static void totals_put(struct sums *s, const char *device)
{
	struct uodp_sums sums;

	uodp_sums_read(device, &sums);
	s->value[S_TX_MSGS] = sums.tx_msgs;
	s->value[S_TX_BYTES] = sums.tx_bytes;
	s->value[S_RNR] = sums.rnr;
}

void stats_show(struct ctl *ctl)
{
	struct stats st;
	struct table t;

	devices_collect(ctl, &st.devs);
	st.sums = ctl_realloc(NULL, (st.devs.count + 1) * sizeof(*st.sums));
	memset(st.sums, 0, (st.devs.count + 1) * sizeof(*st.sums));
	ctl->quiet = true; /* the same again */
	domain_each(ctl, process_add, &st);
	table_begin(&t, ctl, columns, S_COLUMNS);
	for (unsigned i = 0; i < st.devs.count; i++) {
		if (ctl->pid && !st.devs.list[i].npids)
			continue;
		totals_put(&st.sums[i], st.devs.list[i].name);
		table_text(&t, S_IFNAME, st.devs.list[i].name);
		for (unsigned c = S_PROCESSES; c < S_COLUMNS; c++)
			table_num(&t, c, st.sums[i].value[c]);
		table_row(&t);
	}
	table_end(&t);
	free(st.sums);
	devices_free(&st.devs);
}
