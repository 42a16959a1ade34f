/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Which attributes a QP's transition needs and allows: IBTA table 91 (11.2.5.2), as
 * drivers/infiniband/core/verbs.c has it, and their ranges.
 */
#include <errno.h>

#include "queue.h"

#define STATES (IBV_QPS_ERR + 1)
#define RESET_TO_INIT (IBV_QP_PKEY_INDEX | IBV_QP_PORT)
#define PATH (IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN)
#define RESPONDER (IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER)
#define REQUESTER (IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC)
/* Of what is connected: on the way to RTR, while it runs, and drained. */
#define CONNECT_OPT (IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS)
#define RUN_OPT (CONNECT_OPT | IBV_QP_CUR_STATE | IBV_QP_PATH_MIG_STATE)
#define DRAINED_OPT (CONNECT_OPT | IBV_QP_AV | IBV_QP_PKEY_INDEX | IBV_QP_PATH_MIG_STATE)

/* INI, TGT: the two sorts of XRC. */
enum type { TYPE_RC, TYPE_UC, TYPE_UD, TYPE_INI, TYPE_TGT, TYPES };

struct rule {
	bool valid;
	int need[TYPES];
	int allow[TYPES];
};

#define RUN                                                                                        \
	{                                                                                          \
		[TYPE_RC] = RUN_OPT | IBV_QP_MIN_RNR_TIMER, [TYPE_UC] = RUN_OPT,                   \
		[TYPE_UD] = IBV_QP_CUR_STATE | IBV_QP_QKEY, [TYPE_INI] = RUN_OPT,                  \
		[TYPE_TGT] = RUN_OPT | IBV_QP_MIN_RNR_TIMER,                                       \
	}
#define INIT                                                                                       \
	{                                                                                          \
		[TYPE_RC] = RESET_TO_INIT | IBV_QP_ACCESS_FLAGS,                                   \
		[TYPE_UC] = RESET_TO_INIT | IBV_QP_ACCESS_FLAGS,                                   \
		[TYPE_UD] = RESET_TO_INIT | IBV_QP_QKEY,                                           \
		[TYPE_INI] = RESET_TO_INIT | IBV_QP_ACCESS_FLAGS,                                  \
		[TYPE_TGT] = RESET_TO_INIT | IBV_QP_ACCESS_FLAGS,                                  \
	}

static const struct rule rules[STATES][STATES] = {
	[IBV_QPS_RESET][IBV_QPS_INIT] = {true, .need = INIT},
	[IBV_QPS_INIT][IBV_QPS_INIT] = {true, .allow = INIT},
	[IBV_QPS_INIT][IBV_QPS_RTR] = {true,
				       .need = {[TYPE_RC] = PATH | RESPONDER,
						[TYPE_UC] = PATH,
						[TYPE_INI] = PATH,
						[TYPE_TGT] = PATH | RESPONDER},
				       .allow = {[TYPE_RC] = CONNECT_OPT | IBV_QP_PKEY_INDEX,
						 [TYPE_UC] = CONNECT_OPT | IBV_QP_PKEY_INDEX,
						 [TYPE_UD] = IBV_QP_PKEY_INDEX | IBV_QP_QKEY,
						 [TYPE_INI] = CONNECT_OPT | IBV_QP_PKEY_INDEX,
						 [TYPE_TGT] = CONNECT_OPT | IBV_QP_PKEY_INDEX}},
	[IBV_QPS_RTR][IBV_QPS_RTS] = {true,
				      .need = {[TYPE_RC] = REQUESTER | IBV_QP_SQ_PSN,
					       [TYPE_UC] = IBV_QP_SQ_PSN,
					       [TYPE_UD] = IBV_QP_SQ_PSN,
					       [TYPE_INI] = REQUESTER | IBV_QP_SQ_PSN,
					       [TYPE_TGT] = IBV_QP_TIMEOUT | IBV_QP_SQ_PSN},
				      .allow = RUN},
	[IBV_QPS_RTS][IBV_QPS_RTS] = {true, .allow = RUN},
	[IBV_QPS_RTS][IBV_QPS_SQD] = {true, .allow = {IBV_QP_EN_SQD_ASYNC_NOTIFY,
						      IBV_QP_EN_SQD_ASYNC_NOTIFY,
						      IBV_QP_EN_SQD_ASYNC_NOTIFY,
						      IBV_QP_EN_SQD_ASYNC_NOTIFY,
						      IBV_QP_EN_SQD_ASYNC_NOTIFY}},
	[IBV_QPS_SQD][IBV_QPS_RTS] = {true, .allow = RUN},
	[IBV_QPS_SQD][IBV_QPS_SQD] = {true,
				      .allow = {[TYPE_RC] = DRAINED_OPT | IBV_QP_PORT | REQUESTER |
							    RESPONDER,
						[TYPE_UC] = DRAINED_OPT,
						[TYPE_UD] = IBV_QP_PKEY_INDEX | IBV_QP_QKEY,
						[TYPE_INI] = DRAINED_OPT | IBV_QP_PORT | REQUESTER,
						[TYPE_TGT] = DRAINED_OPT | IBV_QP_PORT |
							     IBV_QP_TIMEOUT | RESPONDER}},
	[IBV_QPS_SQE][IBV_QPS_RTS] = {true,
				      .allow = {[TYPE_UC] = IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS,
						[TYPE_UD] = IBV_QP_CUR_STATE | IBV_QP_QKEY}},
};

static enum type type_of(enum ibv_qp_type type)
{
	switch (type) {
	case IBV_QPT_RC:
		return TYPE_RC;
	case IBV_QPT_UC:
		return TYPE_UC;
	case IBV_QPT_XRC_SEND:
		return TYPE_INI;
	case IBV_QPT_XRC_RECV:
		return TYPE_TGT;
	default:
		return TYPE_UD;
	}
}

static int check_transition(enum type t, enum ibv_qp_state cur, enum ibv_qp_state next, int mask)
{
	const struct rule *r;

	if ((unsigned)next >= STATES || next == IBV_QPS_SQE)
		return -EINVAL;
	r = &rules[cur][next];
	mask &= ~IBV_QP_STATE;
	if (next == IBV_QPS_RESET || next == IBV_QPS_ERR)
		return mask || (cur == IBV_QPS_RESET && next == IBV_QPS_ERR) ? -EINVAL : 0;
	if (!r->valid || (mask & r->need[t]) != r->need[t] || mask & ~(r->need[t] | r->allow[t]))
		return -EINVAL;
	return 0;
}

static int check_av(const struct uodp_device *dev, const struct ibv_ah_attr *av)
{
	if (!av->is_global && !dev->infiniband)
		uodp_hint(UODP_HINT_GRH, 0);
	return uodp_path_valid(dev, av) ? 0 : -EINVAL;
}

/* C11-8, C11-9 and the ranges of table 91. */
static int check_values(const struct uodp_device *dev, const struct ibv_qp_attr *a, int mask)
{
	if ((mask & IBV_QP_PORT && a->port_num != UODP_PORT) ||
	    (mask & IBV_QP_PKEY_INDEX && a->pkey_index) ||
	    (mask & IBV_QP_AV && check_av(dev, &a->ah_attr)) ||
	    (mask & IBV_QP_PATH_MTU && (a->path_mtu < IBV_MTU_256 || a->path_mtu > IBV_MTU_4096)) ||
	    (mask & IBV_QP_DEST_QPN && a->dest_qp_num >> 24) ||
	    (mask & IBV_QP_MAX_QP_RD_ATOMIC && a->max_rd_atomic > UODP_MAX_RD_ATOMIC) ||
	    (mask & IBV_QP_MAX_DEST_RD_ATOMIC && a->max_dest_rd_atomic > UODP_MAX_RD_ATOMIC) ||
	    (mask & IBV_QP_TIMEOUT && a->timeout > 31) ||
	    (mask & IBV_QP_RETRY_CNT && a->retry_cnt > 7) ||
	    (mask & IBV_QP_RNR_RETRY && a->rnr_retry > 7) ||
	    (mask & IBV_QP_MIN_RNR_TIMER && a->min_rnr_timer > 31))
		return -EINVAL;
	/* Alternate paths are of InfiniBand, with more than one port or LID. */
	if (mask & (IBV_QP_ALT_PATH | IBV_QP_PATH_MIG_STATE))
		return -EINVAL;
	return 0;
}

int uodp_modify_mask(enum ibv_qp_type type, int mask)
{
	if (type == IBV_QPT_XRC_SEND)
		return mask & ~RESPONDER;
	if (type == IBV_QPT_XRC_RECV)
		return mask & ~(REQUESTER & ~IBV_QP_TIMEOUT);
	return mask;
}

int uodp_modify_check(const struct uodp_device *dev, enum ibv_qp_type type, enum ibv_qp_state cur,
		      enum ibv_qp_state next, const struct ibv_qp_attr *attr, int mask)
{
	int ret = check_transition(type_of(type), cur, next, mask);

	return ret ? ret : check_values(dev, attr, mask);
}

#define TAKE(bit, field)                                                                           \
	do {                                                                                       \
		if (mask & (bit))                                                                  \
			to->field = a->field;                                                      \
	} while (0)

void uodp_attr_take(struct ibv_qp_attr *to, const struct ibv_qp_attr *a, int mask)
{
	TAKE(IBV_QP_PORT, port_num);
	TAKE(IBV_QP_PKEY_INDEX, pkey_index);
	TAKE(IBV_QP_ACCESS_FLAGS, qp_access_flags);
	TAKE(IBV_QP_QKEY, qkey);
	TAKE(IBV_QP_AV, ah_attr);
	TAKE(IBV_QP_PATH_MTU, path_mtu);
	TAKE(IBV_QP_TIMEOUT, timeout);
	TAKE(IBV_QP_RETRY_CNT, retry_cnt);
	TAKE(IBV_QP_RNR_RETRY, rnr_retry);
	TAKE(IBV_QP_RQ_PSN, rq_psn);
	TAKE(IBV_QP_SQ_PSN, sq_psn);
	TAKE(IBV_QP_MAX_QP_RD_ATOMIC, max_rd_atomic);
	TAKE(IBV_QP_MAX_DEST_RD_ATOMIC, max_dest_rd_atomic);
	TAKE(IBV_QP_MIN_RNR_TIMER, min_rnr_timer);
	TAKE(IBV_QP_DEST_QPN, dest_qp_num);
	to->rq_psn &= 0xffffff;
	to->sq_psn &= 0xffffff;
}

void uodp_attr_publish(struct uodp_qp_shm *shm, const struct ibv_qp_attr *a)
{
	uodp_attr_set(&shm->access,
		      a->qp_access_flags & (ODP_ACCESS_REMOTE_WRITE | ODP_ACCESS_REMOTE_READ |
					    ODP_ACCESS_REMOTE_ATOMIC));
	uodp_attr_set(&shm->qkey, a->qkey);
	uodp_attr_set(&shm->dest_qpn, a->dest_qp_num);
	uodp_attr_set(&shm->rq_psn, a->rq_psn);
	uodp_attr_set(&shm->sq_psn, a->sq_psn);
	uodp_attr_set(&shm->min_rnr_timer, a->min_rnr_timer);
	uodp_attr_set(&shm->max_dest_rd_atomic, a->max_dest_rd_atomic);
	if (a->path_mtu)
		shm->path_mtu = 128u << a->path_mtu;
}
