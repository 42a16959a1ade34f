/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Queue pairs; names as in `rdma resource show qp`. */
#include <infiniband/verbs.h>
#include <stdio.h>

#include "odpctl.h"

enum {
	Q_IFNAME,
	Q_PORT,
	Q_LINK,
	Q_LQPN,
	Q_RQPN,
	Q_TYPE,
	Q_STATE,
	Q_RQ_PSN,
	Q_SQ_PSN,
	Q_PDN,
	Q_PID,
	Q_COMM,
	Q_TX_MSGS,
	Q_TX_BYTES,
	Q_RX_MSGS,
	Q_RX_BYTES,
	Q_RNR,
	Q_RQ,
	Q_RQ_MAX,
	Q_SRQN,
	Q_RCQN,
	Q_COLUMNS
};

static const struct column columns[Q_COLUMNS] = {
	[Q_IFNAME] = {"ifname", NULL, COLUMN_TEXT, 0},
	[Q_PORT] = {"port", NULL, COLUMN_NUM, 0},
	[Q_LINK] = {NULL, "LINK", COLUMN_TEXT, 0},
	[Q_LQPN] = {"lqpn", "LQPN", COLUMN_NUM, 0},
	[Q_RQPN] = {"rqpn", "RQPN", COLUMN_NUM, 0},
	[Q_TYPE] = {"type", "TYPE", COLUMN_TEXT, 0},
	[Q_STATE] = {"state", "STATE", COLUMN_TEXT, 0},
	[Q_RQ_PSN] = {"rq-psn", NULL, COLUMN_NUM, 0},
	[Q_SQ_PSN] = {"sq-psn", NULL, COLUMN_NUM, 0},
	[Q_PDN] = {"pdn", NULL, COLUMN_NUM, 0},
	[Q_PID] = {"pid", "PID", COLUMN_NUM, 0},
	[Q_COMM] = {"comm", "COMM", COLUMN_TEXT, 0},
	[Q_TX_MSGS] = {"tx_msgs", "TX_MSGS", COLUMN_NUM, 0},
	[Q_TX_BYTES] = {"tx_bytes", "TX_BYTES", COLUMN_NUM, 0},
	[Q_RX_MSGS] = {"rx_msgs", "RX_MSGS", COLUMN_NUM, 0},
	[Q_RX_BYTES] = {"rx_bytes", "RX_BYTES", COLUMN_NUM, 0},
	[Q_RNR] = {"rnr", "RNR", COLUMN_NUM, 0},
	[Q_RQ] = {"rq_posted", "RQ", COLUMN_NUM, 0},
	[Q_RQ_MAX] = {"rq_max", NULL, COLUMN_NUM, 0},
	[Q_SRQN] = {"srqn", "SRQN", COLUMN_NUM, 0},
	[Q_RCQN] = {"rcqn", "RCQN", COLUMN_NUM, 0},
};

static const char *type_name(uint32_t type)
{
	switch (type) {
	case IBV_QPT_RC:
		return "RC";
	case IBV_QPT_UC:
		return "UC";
	case IBV_QPT_UD:
		return "UD";
	case IBV_QPT_XRC_SEND:
		return "XRC_SEND";
	case IBV_QPT_XRC_RECV:
		return "XRC_RECV";
	default:
		return "?";
	}
}

static const char *state_name(uint32_t state)
{
	static const char *const names[] = {
		[IBV_QPS_RESET] = "RESET", [IBV_QPS_INIT] = "INIT", [IBV_QPS_RTR] = "RTR",
		[IBV_QPS_RTS] = "RTS",     [IBV_QPS_SQD] = "SQD",   [IBV_QPS_SQE] = "SQE",
		[IBV_QPS_ERR] = "ERR",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static void row_link(struct table *t, const struct process *p, uint32_t device)
{
	char name[sizeof(p->root->devices[0])], link[sizeof(name) + 2] = "";

	if (device >= p->root->num_devices)
		return;
	text_clean(name, sizeof(name), p->root->devices[device], sizeof(name) - 1);
	table_text(t, Q_IFNAME, name);
	table_num(t, Q_PORT, 1);
	snprintf(link, sizeof(link), "%s/1", name);
	table_text(t, Q_LINK, link);
}

/* A connected QP that has left INIT knows its peer. */
static bool has_peer(const struct uodp_qp_shm *qp)
{
	return qp->type != IBV_QPT_UD && qp->state != IBV_QPS_RESET && qp->state != IBV_QPS_INIT;
}

static void row_queues(struct table *t, const struct uodp_qp_shm *qp)
{
	table_num(t, Q_RCQN, qp->recv_cq);
	if (qp->srq) {
		table_num(t, Q_SRQN, qp->srq - 1);
		return;
	}
	table_num(t, Q_RQ, qp->rq.prod - qp->rq.cons); /* free-running, modulo 2^32 */
	table_num(t, Q_RQ_MAX, qp->rq.max_wr);
}

static void qp_row(struct table *t, const struct process *p, const struct uodp_qp_shm *qp)
{
	row_link(t, p, qp->device);
	table_num(t, Q_LQPN, qp->qpn);
	if (has_peer(qp))
		table_num(t, Q_RQPN, qp->dest_qpn);
	table_text(t, Q_TYPE, type_name(qp->type));
	table_text(t, Q_STATE, state_name(qp->state));
	table_num(t, Q_RQ_PSN, qp->rq_psn);
	table_num(t, Q_SQ_PSN, qp->sq_psn);
	table_num(t, Q_PDN, qp->pd);
	table_num(t, Q_PID, (uint64_t)p->pid);
	table_text(t, Q_COMM, p->comm);
	table_num(t, Q_TX_MSGS, qp->tx_msgs);
	table_num(t, Q_TX_BYTES, qp->tx_bytes);
	table_num(t, Q_RX_MSGS, qp->rx_msgs);
	table_num(t, Q_RX_BYTES, qp->rx_bytes);
	table_num(t, Q_RNR, qp->rnr);
	row_queues(t, qp);
	table_row(t);
}

static void process_qps(struct ctl *ctl, struct process *p, void *arg)
{
	const struct uodp_qp_shm *qp;
	struct scan s;

	(void)ctl;
	if (!p->root)
		return;
	scan_begin(&s, p, p->root->qps, sizeof(*qp), p->root->qp_high,
		   offsetof(struct uodp_qp_shm, gen));
	while ((qp = scan_next(&s)))
		if (qp->gen & 1)
			qp_row(arg, p, qp);
}

void qps_show(struct ctl *ctl)
{
	struct table t;

	table_begin(&t, ctl, columns, Q_COLUMNS);
	domain_each(ctl, process_qps, &t);
	table_end(&t);
}
