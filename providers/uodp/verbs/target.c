/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * XRC target QPs. They send nothing and have no receives of their own; what there is, is
 * state and attributes, which any process of the domain may change that has opened the QP
 * by its number (ibv_open_qp(3)). So both are in the maker's shared memory, under the QP's
 * lock.
 *
 * The QP lives as long as somebody has it open, but no longer than its maker's process.
 * Asynchronous events come to the maker alone.
 */
#include <errno.h>
#include <string.h>

#include "queue.h"

int uodp_target_init(struct uodp_qp *qp)
{
	qp->shm->target = odp_arena_alloc(qp->proc->odp, sizeof(*qp->target));
	if (!qp->shm->target)
		return -ENOMEM;
	qp->target = odp_peer_ptr(qp->proc->self, qp->shm->target, sizeof(*qp->target));
	memset(qp->target, 0, sizeof(*qp->target));
	qp->shm->xrcd = qp->xrcd->id;
	/* What shm_init() will make of it. */
	qp->target_gen = atomic_load_explicit(&qp->shm->gen, memory_order_relaxed) + 1;
	return 0;
}

void uodp_target_fini(struct uodp_qp *qp)
{
	odp_arena_free(qp->proc->odp, qp->shm->target, sizeof(*qp->target));
	qp->shm->target = 0;
	qp->shm->xrcd = 0;
}

/* The QP's lock; without it -EIO: the QP has ended with its maker; -ETIMEDOUT: somebody
 * has it, who is stopped. */
static int target_lock(struct uodp_qp *qp)
{
	struct uodp_qp_shm *shm = qp->shm;

	if (qp->opened && !odp_peer_check(qp->conn.peer))
		return -EIO;
	if (!uodp_lock(qp->proc, &shm->lock, UODP_OWNER_NS))
		return -ETIMEDOUT;
	if (atomic_load_explicit(&shm->gen, memory_order_relaxed) == qp->target_gen)
		return 0;
	odp_unlock(&shm->lock);
	return -EIO;
}

/* ---- attributes ---- */

static bool ends_life(enum ibv_qp_state state)
{
	return state == IBV_QPS_RESET || state == IBV_QPS_ERR;
}

static void move_locked(struct uodp_qp *qp, enum ibv_qp_state cur, enum ibv_qp_state next)
{
	struct uodp_qp_shm *shm = qp->shm;

	if (next == IBV_QPS_RESET)
		memset(&qp->target->attr, 0, sizeof(qp->target->attr));
	uodp_attr_publish(shm, &qp->target->attr);
	if (ends_life(next) || (next == IBV_QPS_RTR && cur != IBV_QPS_RTR))
		/* seq_cst: before the fence's loads of the lanes; pairs with odp_copy(). */
		atomic_fetch_add_explicit(&shm->epoch, 1, memory_order_seq_cst);
	/* release: who sees the state sees the attributes */
	atomic_store_explicit(&shm->state, next, memory_order_release);
	/* What a lock is in the way of waits for the maker's worker, or for the next message. */
	if (ends_life(next))
		uodp_resp_flush(qp->proc, qp->opened ? qp->conn.peer : qp->proc->self, shm);
}

static int modify_locked(struct uodp_qp *qp, const struct ibv_qp_attr *a, int mask)
{
	enum ibv_qp_state cur, next;
	int ret;

	cur = atomic_load_explicit(&qp->shm->state, memory_order_relaxed);
	if (mask & IBV_QP_CUR_STATE && a->cur_qp_state != cur)
		return -EINVAL;
	next = mask & IBV_QP_STATE ? a->qp_state : cur;
	ret = uodp_modify_check(to_uodp_device(qp->vqp.qp.context->device), IBV_QPT_XRC_RECV, cur,
				next, a, mask);
	if (ret)
		return ret;
	uodp_attr_take(&qp->target->attr, a, mask);
	move_locked(qp, cur, next);
	return 0;
}

int uodp_target_modify(struct uodp_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	int ret = uodp_context_check(qp->vqp.qp.context);

	if (!ret)
		ret = target_lock(qp);
	if (ret)
		return ret;
	ret = modify_locked(qp, attr, mask);
	odp_unlock(&qp->shm->lock);
	uodp_wakes_pass(qp->proc);
	if (!ret && mask & IBV_QP_STATE && ends_life(attr->qp_state))
		odp_quiesce(qp->proc->odp);
	return ret;
}

int uodp_target_query(struct uodp_qp *qp, struct ibv_qp_attr *attr)
{
	int ret = target_lock(qp);

	if (ret)
		return ret;
	*attr = qp->target->attr;
	attr->qp_state = atomic_load_explicit(&qp->shm->state, memory_order_relaxed);
	odp_unlock(&qp->shm->lock);
	attr->cur_qp_state = attr->qp_state;
	attr->path_mig_state = IBV_MIG_MIGRATED;
	return 0;
}

/* ---- handles ---- */

/* Nobody has it any more, and its maker's handle is gone: requesters find none. */
static void orphan_end(struct uodp_qp *qp)
{
	move_locked(qp, IBV_QPS_ERR, IBV_QPS_RESET);
	atomic_fetch_add_explicit(&qp->shm->gen, 1, memory_order_release);
}

bool uodp_target_leave(struct uodp_qp *qp)
{
	bool goes_on = false;
	int ret = target_lock(qp);

	/* A use too many is counted then, or none may be lost: it ends with its maker. */
	if (ret == -ETIMEDOUT && !qp->opened)
		qp->target->orphan = true;
	if (ret)
		return ret == -ETIMEDOUT && !qp->opened;
	if (!qp->opened) {
		goes_on = qp->target->opens;
		qp->target->orphan = goes_on;
	} else if (!--qp->target->opens && qp->target->orphan) {
		orphan_end(qp);
	}
	odp_unlock(&qp->shm->lock);
	uodp_wakes_pass(qp->proc);
	return goes_on;
}

static int target_find(struct uodp_qp *qp, uint32_t qpn)
{
	struct uodp_dest *dest = &qp->conn;
	int ret = uodp_dest_find(qp->proc, qpn, dest);

	if (ret || !odp_peer_alive(dest->peer) || dest->qp->type != IBV_QPT_XRC_RECV ||
	    dest->qp->xrcd != qp->xrcd->id)
		return -EINVAL;
	qp->shm = dest->qp;
	qp->target_gen = dest->gen;
	qp->target = odp_peer_ptr(dest->peer, dest->qp->target, sizeof(*qp->target));
	return qp->target ? 0 : -EINVAL;
}

static int target_open(struct uodp_qp *qp, uint32_t qpn)
{
	int ret = target_find(qp, qpn);

	if (!ret)
		ret = target_lock(qp);
	if (ret)
		return -EINVAL;
	qp->target->opens++;
	odp_unlock(&qp->shm->lock);
	return 0;
}

/* As the kernel's ib_open_qp(): EINVAL for whatever is no target of the domain. */
static int open_check(const struct ibv_context *ctx, const struct ibv_qp_open_attr *attr)
{
	const uint32_t need = IBV_QP_OPEN_ATTR_NUM | IBV_QP_OPEN_ATTR_XRCD | IBV_QP_OPEN_ATTR_TYPE;

	if (attr->comp_mask & ~(need | IBV_QP_OPEN_ATTR_CONTEXT))
		return -EOPNOTSUPP;
	if ((attr->comp_mask & need) != need || !attr->xrcd || attr->qp_type != IBV_QPT_XRC_RECV)
		return -EINVAL;
	return uodp_xrcd_check(ctx, attr->xrcd);
}

static void verbs_init(struct uodp_qp *qp, struct ibv_context *ctx,
		       const struct ibv_qp_open_attr *attr)
{
	struct ibv_qp *ibqp = &qp->vqp.qp;

	ibqp->context = ctx;
	if (attr->comp_mask & IBV_QP_OPEN_ATTR_CONTEXT)
		ibqp->qp_context = attr->qp_context;
	ibqp->qp_type = IBV_QPT_XRC_RECV;
	ibqp->qp_num = attr->qp_num;
	ibqp->handle = qp->index;
	ibqp->state = atomic_load_explicit(&qp->shm->state, memory_order_relaxed);
	pthread_mutex_init(&ibqp->mutex, NULL);
	pthread_cond_init(&ibqp->cond, NULL);
}

static int handle_create(struct ibv_context *ctx, const struct ibv_qp_open_attr *attr,
			 struct uodp_qp **out)
{
	struct uodp_qp *qp = odp_priv_alloc(sizeof(*qp));
	int ret;

	if (!qp)
		return -ENOMEM;
	qp->proc = to_uodp_context(ctx)->proc;
	qp->xrcd = to_uodp_xrcd(attr->xrcd);
	qp->opened = true;
	uodp_transport_choose(qp);
	ret = uodp_qp_claim(qp->proc, qp, ctx);
	if (ret)
		goto err_free;
	ret = target_open(qp, attr->qp_num);
	if (ret)
		goto err_index;
	verbs_init(qp, ctx, attr);
	atomic_fetch_add_explicit(&qp->xrcd->users, 1, memory_order_relaxed);
	uodp_context_hold(ctx);
	*out = qp;
	return 0;

err_index:
	uodp_table_release(qp->proc, qp->proc->qps, qp->index);
err_free:
	odp_priv_free(qp, sizeof(*qp));
	return ret;
}

struct ibv_qp *uodp_open_qp(struct ibv_context *ctx, struct ibv_qp_open_attr *attr)
{
	struct uodp_qp *qp;
	int ret = uodp_context_check(ctx);

	if (!ret)
		ret = open_check(ctx, attr);
	if (!ret)
		ret = handle_create(ctx, attr, &qp);
	if (!ret)
		return &qp->vqp.qp;
	errno = -ret;
	return NULL;
}
