/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* From a QP number to the QP, in this process or another. */
#include <errno.h>

#include "queue.h"

static struct uodp_root *peer_root(struct odp_peer *peer)
{
	struct uodp_root *root = odp_peer_ptr(peer, odp_peer_root(peer), sizeof(*root));

	if (!root || root->magic != UODP_ROOT_MAGIC || root->version != UODP_SHM_VERSION)
		return NULL;
	return root;
}

struct uodp_qp_shm *uodp_qp_shm(struct odp_peer *peer, uint32_t index)
{
	struct uodp_root *root = peer_root(peer);

	if (!root || index >= UODP_MAX_QP)
		return NULL;
	return odp_peer_ptr(peer, root->qps + index * sizeof(struct uodp_qp_shm),
			    sizeof(struct uodp_qp_shm));
}

struct uodp_srq_shm *uodp_srq_shm(struct odp_peer *peer, uint32_t index)
{
	struct uodp_root *root = peer_root(peer);

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
	root = peer_root(peer);
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
	return 0;
}

uint32_t uodp_qp_index(struct odp_peer *peer, const struct uodp_qp_shm *qp)
{
	const struct uodp_qp_shm *first = uodp_qp_shm(peer, 0);

	return first ? (uint32_t)(qp - first) : UODP_MAX_QP;
}
