/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Completion queues; names as in `rdma resource show cq`. */
#include "odpctl.h"

enum { C_CQN, C_CQE, C_USED, C_POLL, C_ARMED, C_OVERFLOW, C_PID, C_COMM, C_COLUMNS };

static const struct column columns[C_COLUMNS] = {
	[C_CQN] = {"cqn", "CQN", COLUMN_NUM, 0},
	[C_CQE] = {"cqe", "CQE", COLUMN_NUM, 0},
	[C_USED] = {"cqe_used", "USED", COLUMN_NUM, 0},
	[C_POLL] = {"channel", "CHANNEL", COLUMN_TEXT, 0},
	[C_ARMED] = {"armed", "ARMED", COLUMN_TEXT, 0},
	[C_OVERFLOW] = {"overflow", "OVERFLOW", COLUMN_TEXT, 0},
	[C_PID] = {"pid", "PID", COLUMN_NUM, 0},
	[C_COMM] = {"comm", "COMM", COLUMN_TEXT, 0},
};

static const char *armed_name(uint32_t armed)
{
	switch (armed) {
	case UODP_ARM_NONE:
		return "no";
	case UODP_ARM_SOLICITED:
		return "solicited";
	case UODP_ARM_NEXT:
		return "next";
	default:
		return "?";
	}
}

static void process_cqs(struct ctl *ctl, struct process *p, void *arg)
{
	const struct uodp_cq_shm *cq;
	struct table *t = arg;
	struct scan s;

	(void)ctl;
	if (!p->root)
		return;
	scan_begin(&s, p, p->root->cqs, sizeof(*cq), p->root->cq_high,
		   offsetof(struct uodp_cq_shm, gen));
	while ((cq = scan_next(&s))) {
		if (!(cq->gen & 1))
			continue;
		table_num(t, C_CQN, s.next - 1);
		table_num(t, C_CQE, cq->cqe);
		table_num(t, C_USED, cq->prod - cq->cons); /* free-running, modulo 2^32 */
		table_bool(t, C_POLL, cq->channel_fd >= 0);
		table_text(t, C_ARMED, armed_name(cq->armed));
		table_bool(t, C_OVERFLOW, cq->flags & UODP_CQ_FULL);
		table_num(t, C_PID, (uint64_t)p->pid);
		table_text(t, C_COMM, p->comm);
		table_row(t);
	}
}

void cqs_show(struct ctl *ctl)
{
	struct table t;

	table_begin(&t, ctl, columns, C_COLUMNS);
	domain_each(ctl, process_cqs, &t);
	table_end(&t);
}
