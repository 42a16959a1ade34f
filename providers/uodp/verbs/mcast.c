/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Multicast groups of UD QPs. A process's memberships stand in its shared memory, where
 * whoever sends to the group looks for them (local/mcast.c).
 */
#include <errno.h>
#include <string.h>

#include "queue.h"

/* IPv6 multicast, or IPv4's mapped (rdma_is_multicast_addr()). */
static bool is_group(const uint8_t *gid)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return gid[0] == 0xff || (!memcmp(gid, mapped, 12) && (gid[12] & 0xf0) == 0xe0);
}

/* An Ethernet port has no LIDs: what is given for one says nothing. */
static int check(struct ibv_qp *ibqp, const union ibv_gid *gid)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	int ret = uodp_object_check(ibqp->context, qp->proc, ibqp->handle, qp->index);

	if (!ret)
		ret = uodp_context_check(ibqp->context);
	if (!ret && (ibqp->qp_type != IBV_QPT_UD || !is_group(gid->raw)))
		ret = -EINVAL;
	return ret;
}

/* QP's membership, or (QP NULL) a free one; lock held. */
static struct uodp_mcast_shm *find(struct uodp_proc *proc, const struct uodp_qp *qp,
				   const union ibv_gid *gid)
{
	uint32_t high = qp ? atomic_load_explicit(&proc->root->mcast_high, memory_order_relaxed)
			   : UODP_MAX_MCAST;

	for (uint32_t i = 0; i < high; i++) {
		struct uodp_mcast_shm *m = &proc->mcasts_shm[i];
		bool used = atomic_load_explicit(&m->gen, memory_order_relaxed) & 1;

		if (qp ? used && m->qpn == qp->vqp.qp.qp_num && !memcmp(m->gid, gid->raw, 16)
		       : !used)
			return m;
	}
	return NULL;
}

static void enter(struct uodp_proc *proc, struct uodp_mcast_shm *m, const struct uodp_qp *qp,
		  const union ibv_gid *gid)
{
	uint32_t end = (uint32_t)(m - proc->mcasts_shm) + 1;

	m->qpn = qp->vqp.qp.qp_num;
	memcpy(m->gid, gid->raw, 16);
	/* release: who sees an odd generation sees the rest */
	atomic_fetch_add_explicit(&m->gen, 1, memory_order_release);
	if (atomic_load_explicit(&proc->root->mcast_high, memory_order_relaxed) < end)
		atomic_store_explicit(&proc->root->mcast_high, end, memory_order_release);
}

int uodp_attach_mcast(struct ibv_qp *ibqp, const union ibv_gid *gid, uint16_t lid)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	struct uodp_proc *proc = qp->proc;
	struct uodp_mcast_shm *m;
	int ret = check(ibqp, gid);

	(void)lid;
	if (ret)
		return uodp_fail(ret);
	pthread_mutex_lock(&proc->lock);
	/* Twice is once, as in the kernel. */
	if (!find(proc, qp, gid)) {
		m = find(proc, NULL, gid);
		if (m) {
			enter(proc, m, qp, gid);
			qp->mcasts++;
		} else {
			ret = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&proc->lock);
	return uodp_fail(ret);
}

/* Lock held. */
static void leave(struct uodp_qp *qp, struct uodp_mcast_shm *m)
{
	atomic_fetch_add_explicit(&m->gen, 1, memory_order_release);
	qp->mcasts--;
}

int uodp_detach_mcast(struct ibv_qp *ibqp, const union ibv_gid *gid, uint16_t lid)
{
	struct uodp_qp *qp = to_uodp_qp(ibqp);
	struct uodp_mcast_shm *m;
	int ret = check(ibqp, gid);

	(void)lid;
	if (ret)
		return uodp_fail(ret);
	pthread_mutex_lock(&qp->proc->lock);
	m = find(qp->proc, qp, gid);
	if (m)
		leave(qp, m);
	pthread_mutex_unlock(&qp->proc->lock);
	return uodp_fail(m ? 0 : -EINVAL);
}

void uodp_mcast_leave_all(struct uodp_qp *qp)
{
	pthread_mutex_lock(&qp->proc->lock);
	for (uint32_t i = 0; i < UODP_MAX_MCAST && qp->mcasts; i++) {
		struct uodp_mcast_shm *m = &qp->proc->mcasts_shm[i];

		if (atomic_load_explicit(&m->gen, memory_order_relaxed) & 1 &&
		    m->qpn == qp->vqp.qp.qp_num)
			leave(qp, m);
	}
	pthread_mutex_unlock(&qp->proc->lock);
}
