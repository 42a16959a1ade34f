/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* From a QP number to the QP, in this process or another. */
#include <errno.h>
#include <string.h>

#include "local_step.h"

struct uodp_root *uodp_peer_root(struct odp_peer *peer)
{
	struct uodp_root *root = odp_peer_ptr(peer, odp_peer_root(peer), sizeof(*root));

	if (!root || root->magic != UODP_ROOT_MAGIC || root->version != UODP_SHM_VERSION)
		return NULL;
	return root;
}

struct uodp_qp_shm *uodp_qp_shm(struct odp_peer *peer, uint32_t index)
{
	struct uodp_root *root = uodp_peer_root(peer);

	if (!root || index >= UODP_MAX_QP)
		return NULL;
	return odp_peer_ptr(peer, root->qps + index * sizeof(struct uodp_qp_shm),
			    sizeof(struct uodp_qp_shm));
}

struct uodp_srq_shm *uodp_srq_shm(struct odp_peer *peer, uint32_t index)
{
	struct uodp_root *root = uodp_peer_root(peer);

	if (!root || index >= UODP_MAX_SRQ)
		return NULL;
	return odp_peer_ptr(peer, root->srqs + index * sizeof(struct uodp_srq_shm),
			    sizeof(struct uodp_srq_shm));
}

int uodp_dest_find(struct uodp_proc *proc, uint32_t qpn, struct uodp_dest *dest)
{
	uint32_t block = qpn >> ODP_QPN_BLOCK_SHIFT, ord, gen;
	struct uodp_qp_shm *qp;
	struct uodp_root *root;
	struct odp_peer *peer;
	int slot, ret;

	if (qpn >> 24)
		return -ENOENT;
	slot = odp_qpn_block_slot(proc->odp, block);
	if (slot < 0)
		return -ENOENT;
	ret = odp_peer_get(proc->odp, (unsigned)slot, &peer);
	if (ret)
		return ret;
	root = uodp_peer_root(peer);
	if (!root)
		return -ENOENT;
	/* acquire: pairs with the release when the block was added (qpn.c) */
	ord = atomic_load_explicit(&root->block_ord[block], memory_order_acquire);
	if (!ord)
		return -ENOENT;
	qp = uodp_qp_shm(peer, ((ord - 1) << ODP_QPN_BLOCK_SHIFT) |
				       (qpn & ((1u << ODP_QPN_BLOCK_SHIFT) - 1)));
	if (!qp)
		return -ENOENT;
	/* acquire: an odd generation shows a QP that is set up */
	gen = atomic_load_explicit(&qp->gen, memory_order_acquire);
	if (!(gen & 1) || qp->qpn != qpn)
		return -ENOENT;
	dest->peer = peer;
	dest->qp = qp;
	dest->qpn = qpn;
	dest->gen = gen;
	dest->epoch = atomic_load_explicit(&qp->epoch, memory_order_relaxed);
	dest->pd = qp->pd;
	dest->mem = peer;
	dest->srq = NULL;
	return 0;
}

uint32_t uodp_qp_index(struct odp_peer *peer, const struct uodp_qp_shm *qp)
{
	const struct uodp_qp_shm *first = uodp_qp_shm(peer, 0);

	return first ? (uint32_t)(qp - first) : UODP_MAX_QP;
}

/* ---- is it there, and does it mean us? ---- */

static bool state_receives(uint32_t state)
{
	return state == IBV_QPS_RTR || state == IBV_QPS_RTS || state == IBV_QPS_SQD ||
	       state == IBV_QPS_SQE;
}

bool uodp_dest_receives(const struct uodp_dest *dest)
{
	return odp_peer_alive(dest->peer) &&
	       /* acquire: with the state come the fields set before it */
	       state_receives(atomic_load_explicit(&dest->qp->state, memory_order_acquire)) &&
	       atomic_load_explicit(&dest->qp->gen, memory_order_relaxed) == dest->gen &&
	       atomic_load_explicit(&dest->qp->epoch, memory_order_relaxed) == dest->epoch;
}

bool uodp_dest_receives_locked(const struct uodp_dest *dest)
{
	return state_receives(atomic_load_explicit(&dest->qp->state, memory_order_relaxed)) &&
	       atomic_load_explicit(&dest->qp->gen, memory_order_relaxed) == dest->gen &&
	       atomic_load_explicit(&dest->qp->epoch, memory_order_relaxed) == dest->epoch;
}

bool uodp_dest_addressed(const struct uodp_dest *dest, const uint8_t dgid[16])
{
	uint16_t lid = uodp_dgid_lid(dgid);

	if (lid)
		return lid == uodp_lid(dest->qp->gids[1]);
	return !memcmp(dgid, dest->qp->gids[0], 16) || !memcmp(dgid, dest->qp->gids[1], 16);
}

/*
 * RC takes no packet with another PSN than it waits for. UC goes on from any that
 * begins a message (IBTA 9.8.2.2), and every message begins here.
 */
static bool psn_expected(const struct uodp_qp *qp, const struct uodp_dest *dest)
{
	return uodp_attr(&dest->qp->rq_psn) == uodp_attr(&qp->shm->sq_psn);
}

static uint32_t type_wanted(const struct uodp_qp *qp)
{
	return qp->shm->type == IBV_QPT_XRC_SEND ? IBV_QPT_XRC_RECV : qp->shm->type;
}

/* Find the QP that this one is connected to, once it is there and means us. */
static bool conn_make(struct uodp_qp *qp)
{
	struct uodp_dest dest;
	uint8_t dgid[16];

	uodp_path_dgid(&qp->attr.ah_attr, dgid);
	if (uodp_dest_find(qp->proc, qp->attr.dest_qp_num, &dest) || !uodp_dest_receives(&dest))
		return false;
	if (dest.qp->type != type_wanted(qp) || uodp_attr(&dest.qp->dest_qpn) != qp->shm->qpn ||
	    (uodp_reliable(qp) && !psn_expected(qp, &dest)) || !uodp_dest_addressed(&dest, dgid))
		return false;
	qp->conn = dest;
	return true;
}

bool uodp_conn_ready(struct uodp_qp *qp)
{
	struct uodp_dest *conn = &qp->conn;

	if (uodp_unlikely(!conn->qp) && !conn_make(qp))
		return false;
	return uodp_dest_receives(conn);
}
