/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The QP state machine. Which attributes a transition needs and allows is IBTA
 * table 91 (11.2.5.2), as drivers/infiniband/core/verbs.c has it.
 */
#include <errno.h>
#include <string.h>

#include "queue.h"

#define STATES (IBV_QPS_ERR + 1)
#define CONNECTED_OPT (IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS)
#define RESET_TO_INIT (IBV_QP_PKEY_INDEX | IBV_QP_PORT)

enum type { TYPE_RC, TYPE_UC, TYPE_UD, TYPES };

struct rule {
	bool valid;
	int need[TYPES];
	int allow[TYPES];
};

static const struct rule rules[STATES][STATES] = {
	[IBV_QPS_RESET][IBV_QPS_INIT] = {true,
					 .need = {[TYPE_RC] = RESET_TO_INIT | IBV_QP_ACCESS_FLAGS,
						  [TYPE_UC] = RESET_TO_INIT | IBV_QP_ACCESS_FLAGS,
						  [TYPE_UD] = RESET_TO_INIT | IBV_QP_QKEY}},
	[IBV_QPS_INIT][IBV_QPS_INIT] = {true,
					.allow = {[TYPE_RC] = RESET_TO_INIT | IBV_QP_ACCESS_FLAGS,
						  [TYPE_UC] = RESET_TO_INIT | IBV_QP_ACCESS_FLAGS,
						  [TYPE_UD] = RESET_TO_INIT | IBV_QP_QKEY}},
	[IBV_QPS_INIT][IBV_QPS_RTR] = {true,
				       .need = {[TYPE_RC] = IBV_QP_AV | IBV_QP_PATH_MTU |
							    IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
							    IBV_QP_MAX_DEST_RD_ATOMIC |
							    IBV_QP_MIN_RNR_TIMER,
						[TYPE_UC] = IBV_QP_AV | IBV_QP_PATH_MTU |
							    IBV_QP_DEST_QPN | IBV_QP_RQ_PSN},
				       .allow = {[TYPE_RC] = CONNECTED_OPT | IBV_QP_PKEY_INDEX,
						 [TYPE_UC] = CONNECTED_OPT | IBV_QP_PKEY_INDEX,
						 [TYPE_UD] = IBV_QP_PKEY_INDEX | IBV_QP_QKEY}},
	[IBV_QPS_RTR][IBV_QPS_RTS] =
		{true,
		 .need = {[TYPE_RC] = IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				      IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC,
			  [TYPE_UC] = IBV_QP_SQ_PSN,
			  [TYPE_UD] = IBV_QP_SQ_PSN},
		 .allow = {[TYPE_RC] = CONNECTED_OPT | IBV_QP_CUR_STATE | IBV_QP_MIN_RNR_TIMER |
				       IBV_QP_PATH_MIG_STATE,
			   [TYPE_UC] = CONNECTED_OPT | IBV_QP_CUR_STATE | IBV_QP_PATH_MIG_STATE,
			   [TYPE_UD] = IBV_QP_CUR_STATE | IBV_QP_QKEY}},
	[IBV_QPS_RTS][IBV_QPS_RTS] = {true, .allow = {[TYPE_RC] = CONNECTED_OPT | IBV_QP_CUR_STATE |
								  IBV_QP_MIN_RNR_TIMER |
								  IBV_QP_PATH_MIG_STATE,
						      [TYPE_UC] = CONNECTED_OPT | IBV_QP_CUR_STATE |
								  IBV_QP_PATH_MIG_STATE,
						      [TYPE_UD] = IBV_QP_CUR_STATE | IBV_QP_QKEY}},
	[IBV_QPS_RTS][IBV_QPS_SQD] = {true, .allow = {IBV_QP_EN_SQD_ASYNC_NOTIFY,
						      IBV_QP_EN_SQD_ASYNC_NOTIFY,
						      IBV_QP_EN_SQD_ASYNC_NOTIFY}},
	[IBV_QPS_SQD][IBV_QPS_RTS] = {true, .allow = {[TYPE_RC] = CONNECTED_OPT | IBV_QP_CUR_STATE |
								  IBV_QP_MIN_RNR_TIMER |
								  IBV_QP_PATH_MIG_STATE,
						      [TYPE_UC] = CONNECTED_OPT | IBV_QP_CUR_STATE |
								  IBV_QP_PATH_MIG_STATE,
						      [TYPE_UD] = IBV_QP_CUR_STATE | IBV_QP_QKEY}},
	[IBV_QPS_SQD][IBV_QPS_SQD] =
		{true, .allow = {[TYPE_RC] = CONNECTED_OPT | IBV_QP_PORT |
					     IBV_QP_AV | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
					     IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC |
					     IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_PKEY_INDEX |
					     IBV_QP_MIN_RNR_TIMER | IBV_QP_PATH_MIG_STATE,
				 [TYPE_UC] = CONNECTED_OPT | IBV_QP_AV | IBV_QP_PKEY_INDEX |
					     IBV_QP_PATH_MIG_STATE,
				 [TYPE_UD] = IBV_QP_PKEY_INDEX | IBV_QP_QKEY}},
	[IBV_QPS_SQE][IBV_QPS_RTS] = {true,
				      .allow = {[TYPE_UC] = IBV_QP_CUR_STATE | IBV_QP_ACCESS_FLAGS,
						[TYPE_UD] = IBV_QP_CUR_STATE | IBV_QP_QKEY}},
};

static enum type type_of(const struct uodp_qp *qp)
{
	switch (qp->vqp.qp.qp_type) {
	case IBV_QPT_RC:
		return TYPE_RC;
	case IBV_QPT_UC:
		return TYPE_UC;
	default:
		return TYPE_UD;
	}
}

static int check_transition(const struct uodp_qp *qp, enum ibv_qp_state cur, enum ibv_qp_state next,
			    int mask)
{
	const struct rule *r = &rules[cur][next];
	enum type t = type_of(qp);

	mask &= ~IBV_QP_STATE;
	if (next == IBV_QPS_RESET || next == IBV_QPS_ERR)
		return mask || (cur == IBV_QPS_RESET && next == IBV_QPS_ERR) ? -EINVAL : 0;
	if (!r->valid || (mask & r->need[t]) != r->need[t] || mask & ~(r->need[t] | r->allow[t]))
		return -EINVAL;
	return 0;
}

static int check_av(const struct ibv_ah_attr *av)
{
	if (!av->is_global)
		uodp_hint(UODP_HINT_GRH, 0);
	if (av->port_num != UODP_PORT || !av->is_global || av->grh.sgid_index >= UODP_NUM_GIDS)
		return -EINVAL;
	return 0;
}

/* C11-8, C11-9 and the ranges of table 91. */
static int check_values(const struct ibv_qp_attr *a, int mask)
{
	if ((mask & IBV_QP_PORT && a->port_num != UODP_PORT) ||
	    (mask & IBV_QP_PKEY_INDEX && a->pkey_index) ||
	    (mask & IBV_QP_AV && check_av(&a->ah_attr)) ||
	    (mask & IBV_QP_PATH_MTU && (a->path_mtu < IBV_MTU_256 || a->path_mtu > IBV_MTU_4096)) ||
	    (mask & IBV_QP_DEST_QPN && a->dest_qp_num >> 24) ||
	    (mask & IBV_QP_MAX_QP_RD_ATOMIC && a->max_rd_atomic > UODP_MAX_RD_ATOMIC) ||
	    (mask & IBV_QP_MAX_DEST_RD_ATOMIC && a->max_dest_rd_atomic > UODP_MAX_RD_ATOMIC) ||
	    (mask & IBV_QP_TIMEOUT && a->timeout > 31) ||
	    (mask & IBV_QP_RETRY_CNT && a->retry_cnt > 7) ||
	    (mask & IBV_QP_RNR_RETRY && a->rnr_retry > 7) ||
	    (mask & IBV_QP_MIN_RNR_TIMER && a->min_rnr_timer > 31))
		return -EINVAL;
	/* Alternate paths are of InfiniBand; a RoCE port has none. */
	if (mask & (IBV_QP_ALT_PATH | IBV_QP_PATH_MIG_STATE))
		return -EINVAL;
	return 0;
}

#define TAKE(bit, field)                                                                           \
	do {                                                                                       \
		if (mask & (bit))                                                                  \
			qp->attr.field = a->field;                                                 \
	} while (0)

static void take_values(struct uodp_qp *qp, const struct ibv_qp_attr *a, int mask)
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
	qp->attr.rq_psn &= 0xffffff;
	qp->attr.sq_psn &= 0xffffff;
}

/* What responders and requesters of other processes see (shm->lock held). */
static void publish(struct uodp_qp *qp)
{
	struct uodp_qp_shm *shm = qp->shm;
	const struct ibv_qp_attr *a = &qp->attr;

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

/* What was taken from the SRQ, and not completed, is there for others (shm->lock held). */
static void srq_return(struct uodp_qp *qp)
{
	const struct uodp_rwqe *wqe = uodp_rq_peek(qp->proc->self, &qp->shm->rq);

	if (wqe)
		uodp_rq_return(&qp->srq->rq, wqe);
}

/* Queues empty, attributes forgotten (IBTA 10.3.1.1); sq_lock and shm->lock held. */
static void reset(struct uodp_qp *qp)
{
	struct uodp_rq_shm *rq = &qp->shm->rq;

	uodp_pending_clear(qp);
	memset(&qp->attr, 0, sizeof(qp->attr));
	memset(&qp->conn, 0, sizeof(qp->conn));
	qp->sqd_notify = false;
	qp->sq_tail = qp->sq_head;
	qp->shm->last_wqe_reached = 0;
	if (qp->srq)
		srq_return(qp);
	atomic_store_explicit(&rq->cons, atomic_load_explicit(&rq->prod, memory_order_relaxed),
			      memory_order_relaxed);
	publish(qp);
}

/*
 * No message is taken any more, and what was under way is over when this returns:
 * the program may use the memory for something else. QUIESCE is for program
 * threads; on the service thread at most the slice that is being copied goes on.
 */
static void leave(struct uodp_qp *qp, enum ibv_qp_state next, bool quiesce)
{
	struct uodp_qp_shm *shm = qp->shm;

	uodp_sq_cancel(qp);
	odp_lock(qp->proc->odp, &shm->lock);
	/* seq_cst: before the fence's loads of the lanes; pairs with odp_copy(). */
	atomic_fetch_add_explicit(&shm->epoch, 1, memory_order_seq_cst);
	/* release: who still sees older attributes sees that they do not count */
	atomic_store_explicit(&shm->state, next, memory_order_release);
	odp_unlock(&shm->lock);
	if (quiesce)
		odp_quiesce(qp->proc->odp);
	odp_lock(qp->proc->odp, &shm->lock);
	odp_unlock(&shm->turn); /* whose it was sees the epoch */
	if (next == IBV_QPS_RESET)
		reset(qp);
	else
		uodp_resp_flush(qp->proc, qp->proc->self, shm);
	odp_unlock(&shm->lock);
	uodp_wakes_pass(qp->proc);
}

static void enter(struct uodp_qp *qp, enum ibv_qp_state cur, enum ibv_qp_state next)
{
	struct uodp_qp_shm *shm = qp->shm;

	odp_lock(qp->proc->odp, &shm->lock);
	publish(qp);
	if (next == IBV_QPS_RTR && cur != IBV_QPS_RTR) {
		memset(&qp->conn, 0, sizeof(qp->conn));
		atomic_fetch_add_explicit(&shm->epoch, 1, memory_order_relaxed);
	}
	/* release: who sees the state sees the attributes */
	atomic_store_explicit(&shm->state, next, memory_order_release);
	odp_unlock(&shm->lock);
}

void uodp_qp_error(struct uodp_qp *qp)
{
	if (atomic_load_explicit(&qp->shm->state, memory_order_relaxed) != IBV_QPS_ERR)
		leave(qp, IBV_QPS_ERR, false);
}

void uodp_qp_sq_error(struct uodp_qp *qp)
{
	struct uodp_qp_shm *shm = qp->shm;
	uint32_t state;

	if (type_of(qp) == TYPE_RC) {
		uodp_qp_error(qp);
		return;
	}
	odp_lock(qp->proc->odp, &shm->lock);
	state = atomic_load_explicit(&shm->state, memory_order_relaxed);
	if (state == IBV_QPS_RTS || state == IBV_QPS_SQD)
		atomic_store_explicit(&shm->state, IBV_QPS_SQE, memory_order_relaxed);
	odp_unlock(&shm->lock);
	qp->sqd_notify = false; /* it will never be drained */
}

void uodp_qp_withdraw(struct uodp_qp *qp)
{
	leave(qp, IBV_QPS_RESET, true);
}

/* Attach to the other end's process now, in a program thread: the service
 * thread will then find it attached. */
static void meet_peer(struct uodp_qp *qp)
{
	struct uodp_dest dest;

	if (qp->vqp.qp.qp_type != IBV_QPT_UD)
		uodp_dest_find(qp->proc, qp->attr.dest_qp_num, &dest);
}

static int modify(struct uodp_qp *qp, struct ibv_qp_attr *a, int mask)
{
	enum ibv_qp_state cur, next;
	int ret;

	cur = atomic_load_explicit(&qp->shm->state, memory_order_acquire);
	if (mask & IBV_QP_CUR_STATE && a->cur_qp_state != cur)
		return -EINVAL;
	next = mask & IBV_QP_STATE ? a->qp_state : cur;
	if ((unsigned)next >= STATES || next == IBV_QPS_SQE)
		return -EINVAL;
	ret = check_transition(qp, cur, next, mask);
	if (!ret)
		ret = check_values(a, mask);
	if (ret)
		return ret;
	ret = uodp_context_check(qp->vqp.qp.context);
	if (ret)
		return ret;
	take_values(qp, a, mask);
	if (cur == IBV_QPS_RTS && next == IBV_QPS_SQD)
		qp->sqd_notify = mask & IBV_QP_EN_SQD_ASYNC_NOTIFY && a->en_sqd_async_notify;
	if (next == IBV_QPS_RESET || next == IBV_QPS_ERR)
		leave(qp, next, true);
	else
		enter(qp, cur, next);
	/* Unplugged meanwhile? Who did it may have seen the state before. */
	ret = uodp_context_recheck(qp->vqp.qp.context);
	if (ret)
		leave(qp, IBV_QPS_ERR, true);
	else if (next == IBV_QPS_RTR)
		meet_peer(qp);
	uodp_sq_run(qp); /* flushes in ERR, goes on in RTS, drains in SQD */
	return ret;
}

int uodp_modify_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	int ret = uodp_object_check(ibqp->context, qp->proc, ibqp->handle, qp->index);

	if (ret)
		return uodp_fail(ret);
	uodp_spin_lock(&qp->sq_lock);
	ret = modify(qp, attr, mask);
	uodp_spin_unlock(&qp->sq_lock);
	if (!ret && mask & IBV_QP_STATE && attr->qp_state == IBV_QPS_RESET) {
		/* Completions of the life before are gone too. */
		uodp_cq_clean(qp->send_cq, ibqp->qp_num);
		if (qp->recv_cq != qp->send_cq)
			uodp_cq_clean(qp->recv_cq, ibqp->qp_num);
	}
	return uodp_fail(ret);
}
