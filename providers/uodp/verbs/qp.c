/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Queue pairs: making and destroying them. */
#include <errno.h>
#include <string.h>

#include "queue.h"
#include "totals.h"

/* Add 256 QPs to the table, with the QP numbers of a block of our own. */
static int table_grow(struct uodp_proc *proc)
{
	uint32_t ord = proc->qps->size >> ODP_QPN_BLOCK_SHIFT;
	unsigned block;
	int ret;

	if (proc->qps->size == UODP_MAX_QP)
		return -ENOMEM;
	ret = odp_qpn_block_alloc(proc->odp, &block);
	if (ret)
		return ret;
	proc->ord_block[ord] = (uint16_t)block;
	/* release: pairs with the acquire in uodp_dest_find() */
	atomic_store_explicit(&proc->root->block_ord[block], (uint16_t)(ord + 1),
			      memory_order_release);
	pthread_mutex_lock(&proc->pin_lock);
	proc->qps->size += 1u << ODP_QPN_BLOCK_SHIFT;
	proc->qps->next = ord << ODP_QPN_BLOCK_SHIFT;
	pthread_mutex_unlock(&proc->pin_lock);
	return 0;
}

int uodp_qp_claim(struct uodp_proc *proc, struct uodp_qp *qp, struct ibv_context *ctx)
{
	int ret;

	pthread_mutex_lock(&proc->grow_lock);
	ret = uodp_table_claim(proc, proc->qps, qp, ctx);
	if (ret < 0) {
		ret = table_grow(proc);
		if (!ret)
			ret = uodp_table_claim(proc, proc->qps, qp, ctx);
	}
	pthread_mutex_unlock(&proc->grow_lock);
	if (ret < 0)
		return ret;
	qp->index = (uint32_t)ret;
	return 0;
}

static uint32_t qpn_of(const struct uodp_proc *proc, uint32_t index)
{
	return (uint32_t)proc->ord_block[index >> ODP_QPN_BLOCK_SHIFT] << ODP_QPN_BLOCK_SHIFT |
	       (index & ((1u << ODP_QPN_BLOCK_SHIFT) - 1));
}

static bool srq_known(const struct ibv_srq *ibsrq)
{
	const struct uodp_srq *srq = to_uodp_srq((struct ibv_srq *)ibsrq);

	return !uodp_object_check(ibsrq->context, srq->proc, ibsrq->handle, srq->index);
}

/* Is that sort of QP there? */
static int check_sort(const struct ibv_qp_init_attr_ex *a)
{
	const uint32_t types = 1u << IBV_QPT_RC | 1u << IBV_QPT_UC | 1u << IBV_QPT_UD |
			       1u << IBV_QPT_XRC_SEND | 1u << IBV_QPT_XRC_RECV;
	uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS |
			 IBV_QP_INIT_ATTR_CREATE_FLAGS | IBV_QP_INIT_ATTR_XRCD;
	uint32_t more = a->comp_mask & ~known;

	if ((unsigned)a->qp_type >= 32 || !(types & 1u << a->qp_type)) {
		uodp_hint(UODP_HINT_QP_TYPE, a->qp_type);
		return -EOPNOTSUPP;
	}
	if (a->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS)
		more |= a->create_flags;
	if (!more)
		return 0;
	uodp_hint(UODP_HINT_QP_EX, more);
	return -EOPNOTSUPP;
}

static int check_caps(const struct ibv_qp_init_attr_ex *a)
{
	const struct ibv_qp_cap *cap = &a->cap;

	if (cap->max_send_wr > UODP_MAX_WR || cap->max_send_sge > UODP_MAX_SGE ||
	    cap->max_inline_data > UODP_MAX_INLINE)
		return -EINVAL;
	if (!a->srq && a->qp_type != IBV_QPT_XRC_SEND &&
	    (cap->max_recv_wr > UODP_MAX_WR || cap->max_recv_sge > UODP_MAX_SGE))
		return -EINVAL;
	return 0;
}

/* The kernel finds a context's own objects only. */
static int check_receiving(const struct ibv_context *ctx, const struct ibv_qp_init_attr_ex *a)
{
	if (!a->recv_cq || a->recv_cq->context != ctx || !uodp_cq_known(a->recv_cq))
		return -EINVAL;
	return a->srq && (a->srq->context != ctx || !srq_known(a->srq)) ? -EINVAL : 0;
}

static int check_init(const struct ibv_context *ctx, const struct ibv_qp_init_attr_ex *a)
{
	int ret = check_sort(a);

	if (ret)
		return ret;
	if (a->qp_type == IBV_QPT_XRC_RECV)
		return a->comp_mask & IBV_QP_INIT_ATTR_XRCD && a->xrcd
			       ? uodp_xrcd_check(ctx, a->xrcd)
			       : -EINVAL;
	if (!(a->comp_mask & IBV_QP_INIT_ATTR_PD) || !a->pd || !a->send_cq)
		return -EINVAL;
	if (a->pd->context != ctx || uodp_pd_check(a->pd) || a->send_cq->context != ctx ||
	    !uodp_cq_known(a->send_cq))
		return -EINVAL;
	if (a->qp_type != IBV_QPT_XRC_SEND)
		ret = check_receiving(ctx, a);
	return ret ? ret : check_caps(a);
}

static int sq_init(struct uodp_qp *qp, struct ibv_qp_init_attr_ex *a)
{
	uint32_t packet = a->qp_type == IBV_QPT_UD ? 40 + UODP_MTU : 0;
	struct ibv_qp_cap *cap = &a->cap;
	uint32_t entries, payload;

	if (qp->xrcd) {
		memset(cap, 0, sizeof(*cap)); /* a target sends nothing */
		return 0;
	}
	cap->max_send_wr = cap->max_send_wr ? cap->max_send_wr : 1;
	cap->max_send_sge = cap->max_send_sge ? cap->max_send_sge : 1;
	payload = cap->max_send_sge * (uint32_t)sizeof(struct uodp_sge);
	if (payload < cap->max_inline_data)
		payload = cap->max_inline_data;
	entries = uodp_pow2(cap->max_send_wr);
	qp->sq_stride = ((uint32_t)offsetof(struct uodp_swqe, sge) + payload + 63) & ~63u;
	/* There may be room for more than was asked for, which programs live on that ask
	 * for none and send a few bytes inline; mlx5 and rxe give what they have too. */
	payload = qp->sq_stride - (uint32_t)offsetof(struct uodp_swqe, sge);
	cap->max_inline_data = payload < UODP_MAX_INLINE ? payload : UODP_MAX_INLINE;
	qp->sq_size = (size_t)entries * qp->sq_stride + packet;
	qp->sq_mask = entries - 1;
	qp->sq = odp_priv_alloc(qp->sq_size);
	if (!qp->sq)
		return -ENOMEM;
	qp->packet = qp->sq + (size_t)entries * qp->sq_stride;
	return 0;
}

/* What the init attributes say of receiving. */
static int rq_init(struct uodp_qp *qp, struct ibv_qp_cap *cap)
{
	if (!qp->recv_cq) {
		/* XRC: a target's one entry takes what any SRQ has */
		cap->max_recv_wr = 0;
		cap->max_recv_sge = 0;
		return uodp_rq_init(qp->proc, &qp->rq, &qp->shm->rq, qp->xrcd ? 1 : 0,
				    qp->xrcd ? UODP_MAX_SGE : 0);
	}
	if (qp->srq) {
		cap->max_recv_wr = 0;
		cap->max_recv_sge = 0;
		return uodp_rq_init(qp->proc, &qp->rq, &qp->shm->rq, 1, qp->srq->shm->rq.max_sge);
	}
	cap->max_recv_sge = cap->max_recv_sge ? cap->max_recv_sge : 1;
	return uodp_rq_init(qp->proc, &qp->rq, &qp->shm->rq, cap->max_recv_wr, cap->max_recv_sge);
}

static void shm_init(struct uodp_qp *qp)
{
	struct uodp_qp_shm *shm = qp->shm;
	struct uodp_device *dev = to_uodp_device(qp->vqp.qp.context->device);

	shm->qpn = qp->vqp.qp.qp_num;
	shm->type = qp->vqp.qp.qp_type;
	shm->pd = qp->pd ? qp->pd->num : 0;
	uodp_attr_set(&shm->dest_qpn, 0);
	uodp_attr_set(&shm->access, 0);
	uodp_attr_set(&shm->qkey, 0);
	shm->recv_cq = qp->recv_cq ? qp->recv_cq->index : UODP_MAX_CQ;
	shm->srq = qp->srq ? qp->srq->index + 1 : 0;
	shm->path_mtu = UODP_MTU;
	shm->last_wqe_reached = 0;
	shm->user_handle = (uintptr_t)&qp->vqp.qp;
	shm->device = dev->index;
	for (int i = 0; i < UODP_NUM_GIDS; i++)
		memcpy(shm->gids[i], dev->gids[i].raw, sizeof(shm->gids[i]));
	shm->recv_pd = qp->srq ? qp->srq->shm->pd : shm->pd;
	atomic_store_explicit(&shm->turn, 0, memory_order_relaxed);
	atomic_store_explicit(&shm->tx_msgs, 0, memory_order_relaxed);
	atomic_store_explicit(&shm->tx_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&shm->rx_msgs, 0, memory_order_relaxed);
	atomic_store_explicit(&shm->rx_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&shm->rnr, 0, memory_order_relaxed);
	atomic_store_explicit(&shm->state, IBV_QPS_RESET, memory_order_relaxed);
	/* release: pairs with the acquire in uodp_dest_find() */
	atomic_fetch_add_explicit(&shm->gen, 1, memory_order_release);
}

static void verbs_init(struct uodp_qp *qp, struct ibv_context *ctx, struct ibv_qp_init_attr_ex *a)
{
	struct ibv_qp *ibqp = &qp->vqp.qp;

	ibqp->context = ctx;
	ibqp->qp_context = a->qp_context;
	/* What was given, whether or not QPs of the type have it: as libibverbs does for the
	 * kernel's drivers, and librdmacm expects. */
	ibqp->pd = a->comp_mask & IBV_QP_INIT_ATTR_PD ? a->pd : NULL;
	ibqp->send_cq = a->send_cq;
	ibqp->recv_cq = a->recv_cq;
	ibqp->srq = a->srq;
	ibqp->qp_type = a->qp_type;
	ibqp->state = IBV_QPS_RESET;
	ibqp->qp_num = qpn_of(qp->proc, qp->index);
	ibqp->handle = qp->index;
	pthread_mutex_init(&ibqp->mutex, NULL);
	pthread_cond_init(&ibqp->cond, NULL);
}

static void users_add(struct uodp_qp *qp, uint32_t n)
{
	_Atomic uint32_t *users[] = {
		qp->pd ? &qp->pd->users : NULL,           qp->send_cq ? &qp->send_cq->users : NULL,
		qp->recv_cq ? &qp->recv_cq->users : NULL, qp->srq ? &qp->srq->users : NULL,
		qp->xrcd ? &qp->xrcd->users : NULL,
	};

	for (unsigned i = 0; i < sizeof(users) / sizeof(users[0]); i++)
		if (users[i])
			atomic_fetch_add_explicit(users[i], n, memory_order_acq_rel);
}

/* What it is made of; the rest of ATTR says nothing of QPs of its type. */
static void parts_take(struct uodp_qp *qp, const struct ibv_qp_init_attr_ex *a)
{
	if (a->qp_type == IBV_QPT_XRC_RECV) {
		qp->xrcd = to_uodp_xrcd(a->xrcd);
		return;
	}
	qp->pd = to_uodp_pd(a->pd);
	qp->send_cq = to_uodp_cq(a->send_cq);
	qp->sq_sig_all = a->sq_sig_all;
	if (a->qp_type == IBV_QPT_XRC_SEND)
		return;
	qp->recv_cq = to_uodp_cq(a->recv_cq);
	qp->srq = a->srq ? to_uodp_srq(a->srq) : NULL;
}

static int qp_create(struct ibv_context *ibctx, struct ibv_qp_init_attr_ex *a, struct uodp_qp **out)
{
	struct uodp_context *ctx = to_uodp_context(ibctx);
	struct uodp_proc *proc = ctx->proc;
	struct uodp_qp *qp;
	int ret;

	qp = odp_priv_alloc(sizeof(*qp));
	if (!qp)
		return -ENOMEM;
	qp->proc = proc;
	parts_take(qp, a);
	qp->async_wr = ctx->async.wr;
	qp->link = ctx->link;
	uodp_transport_choose(qp);
	ret = uodp_qp_claim(proc, qp, ibctx);
	if (ret)
		goto err_free;
	qp->shm = &proc->qps_shm[qp->index];
	ret = sq_init(qp, a);
	if (ret)
		goto err_index;
	ret = rq_init(qp, &a->cap);
	if (ret)
		goto err_sq;
	if (qp->xrcd) {
		ret = uodp_target_init(qp);
		if (ret)
			goto err_rq;
	}
	qp->cap = a->cap;
	verbs_init(qp, ibctx, a);
	if (a->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) {
		ret = uodp_wr_api_init(qp, a->send_ops_flags);
		if (ret)
			goto err_target;
	}
	shm_init(qp);
	users_add(qp, 1);
	pthread_mutex_lock(&proc->pin_lock);
	proc->live[qp->index] = qp;
	pthread_mutex_unlock(&proc->pin_lock);
	uodp_context_hold(ibctx);
	*out = qp;
	return 0;

err_target:
	if (qp->target)
		uodp_target_fini(qp);
err_rq:
	uodp_rq_fini(proc, &qp->rq);
err_sq:
	if (qp->sq)
		odp_priv_free(qp->sq, qp->sq_size);
err_index:
	uodp_table_release(proc, proc->qps, qp->index);
err_free:
	odp_priv_free(qp, sizeof(*qp));
	return ret;
}

struct ibv_qp *uodp_create_qp_ex(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr)
{
	struct uodp_qp *qp;
	int ret = uodp_context_check(ctx);

	if (!ret)
		ret = check_init(ctx, attr);
	if (!ret)
		ret = qp_create(ctx, attr, &qp);
	if (ret) {
		errno = -ret;
		return NULL;
	}
	return &qp->vqp.qp;
}

struct ibv_qp *uodp_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct ibv_qp_init_attr_ex ex = {.comp_mask = IBV_QP_INIT_ATTR_PD, .pd = pd};
	struct ibv_qp *qp;

	/* The plain attributes come first, their last padding is not ours. */
	memcpy(&ex, attr, offsetof(struct ibv_qp_init_attr_ex, comp_mask));
	qp = uodp_create_qp_ex(pd->context, &ex);
	if (qp)
		attr->cap = ex.cap;
	return qp;
}

/* The service thread refers to it no more. */
static void forget(struct uodp_qp *qp)
{
	struct uodp_proc *proc = qp->proc;
	bool busy;

	pthread_mutex_lock(&proc->pin_lock);
	proc->live[qp->index] = NULL;
	pthread_mutex_unlock(&proc->pin_lock);
	do {
		pthread_mutex_lock(&proc->pin_lock);
		busy = qp->refs;
		pthread_mutex_unlock(&proc->pin_lock);
		if (busy)
			sched_yield();
	} while (busy);
}

/* Nobody finds the QP any more, and who was in it has left. False: one is stopped in it. */
static bool withdraw(struct uodp_qp *qp)
{
	bool left;

	uodp_spin_lock(&qp->sq_lock);
	left = uodp_qp_withdraw(qp);
	uodp_spin_unlock(&qp->sq_lock);
	/* Those who take the lock from now on see the state, which is RESET or ERR. */
	atomic_fetch_add_explicit(&qp->shm->gen, 1, memory_order_release);
	forget(qp);
	uodp_spin_lock(&qp->sq_lock);
	uodp_pending_clear(qp);
	uodp_spin_unlock(&qp->sq_lock);
	return left;
}

/* Nobody can have begun anything with it when this returns, and completions of it are
 * gone. False: one that is stopped may still complete a receive. */
static bool unlive(struct uodp_qp *qp)
{
	bool left = withdraw(qp);

	if (qp->send_cq)
		uodp_cq_clean(qp->send_cq, qp->vqp.qp.qp_num);
	if (qp->recv_cq && qp->recv_cq != qp->send_cq)
		uodp_cq_clean(qp->recv_cq, qp->vqp.qp.qp_num);
	return left;
}

/* What it has of its own, and its number; not what is shared, unless all have LEFT. */
static void parts_free(struct uodp_qp *qp, bool left)
{
	struct uodp_proc *proc = qp->proc;

	if (qp->sq)
		odp_priv_free(qp->sq, qp->sq_size);
	if (!left) {
		uodp_table_retire(proc, proc->qps, qp->index);
		return;
	}
	if (qp->target)
		uodp_target_fini(qp);
	uodp_rq_fini(proc, &qp->rq);
	uodp_table_release(proc, proc->qps, qp->index);
}

/* False: its memory must stay. */
static bool qp_end(struct uodp_qp *qp)
{
	struct ibv_qp *ibqp = &qp->vqp.qp;
	bool purged, left = true, goes_on = qp->target && uodp_target_leave(qp);

	if (goes_on)
		forget(qp);
	else if (!qp->opened) {
		left = unlive(qp);
		uodp_totals_add(to_uodp_device(ibqp->context->device)->name, qp->shm);
	}
	purged = uodp_events_purge(ibqp->context, (uintptr_t)ibqp);
	uodp_wait_acks(&ibqp->mutex, &ibqp->cond, &ibqp->events_completed,
		       atomic_load_explicit(&qp->async_reported, memory_order_acquire));
	users_add(qp, (uint32_t)-1);
	if (goes_on)
		uodp_table_retire(qp->proc, qp->proc->qps, qp->index);
	else if (qp->opened)
		uodp_table_release(qp->proc, qp->proc->qps, qp->index);
	else
		parts_free(qp, left);
	return purged;
}

int uodp_destroy_qp(struct ibv_qp *ibqp)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	struct ibv_context *ctx = ibqp->context;
	int ret = uodp_destroy_check(ctx, qp->proc, ibqp->handle, qp->index);

	if (!ret && qp->mcasts)
		ret = -EBUSY;
	if (ret < 0)
		return uodp_fail(ret);
	if (!ret && !qp_end(qp)) {
		uodp_shell_stays("QP");
		return 0;
	}
	odp_priv_free(qp, sizeof(*qp));
	uodp_context_drop(ctx);
	return 0;
}

void uodp_qp_drop(struct uodp_qp *qp)
{
	qp->vqp.qp.events_completed =
		atomic_load_explicit(&qp->async_reported, memory_order_relaxed);
	if (qp->vqp.comp_mask & VERBS_QP_EX)
		uodp_wr_ops_end(&qp->vqp.qp_ex);
	uodp_mcast_leave_all(qp);
	qp_end(qp);
}

int uodp_query_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask,
		  struct ibv_qp_init_attr *init)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	int ret = uodp_object_check(ibqp->context, qp->proc, ibqp->handle, qp->index);

	(void)mask;
	if (!ret)
		ret = uodp_context_check(ibqp->context);
	if (ret)
		return uodp_fail(ret);
	if (qp->target) {
		*init = (struct ibv_qp_init_attr){.qp_context = ibqp->qp_context,
						  .qp_type = ibqp->qp_type};
		return uodp_fail(uodp_target_query(qp, attr));
	}
	uodp_spin_lock(&qp->sq_lock);
	*attr = qp->attr;
	attr->qp_state = atomic_load_explicit(&qp->shm->state, memory_order_acquire);
	attr->cur_qp_state = attr->qp_state;
	attr->cap = qp->cap;
	attr->sq_draining = attr->qp_state == IBV_QPS_SQD && qp->x.phase != UODP_PHASE_NEW;
	attr->path_mig_state = IBV_MIG_MIGRATED;
	uodp_spin_unlock(&qp->sq_lock);
	*init = (struct ibv_qp_init_attr){.qp_context = ibqp->qp_context,
					  .send_cq = ibqp->send_cq,
					  .recv_cq = ibqp->recv_cq,
					  .srq = ibqp->srq,
					  .cap = qp->cap,
					  .qp_type = ibqp->qp_type,
					  .sq_sig_all = qp->sq_sig_all};
	return 0;
}
