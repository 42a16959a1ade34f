/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A datagram to a multicast group: one to each QP that is attached to it, in whatever
 * process of the run directory, one after the other; the sender's own too, as Linux has
 * it unless it is blocked. To each it is a datagram as any: who has no receive, or
 * another Q_Key, gets none.
 */
#include <string.h>

#include "local_step.h"

static struct uodp_mcast_shm *member_at(struct odp_peer *peer, uint32_t index)
{
	struct uodp_root *root = uodp_peer_root(peer);

	/* acquire: pairs with the release when it grew */
	if (!root || index >= UODP_MAX_MCAST ||
	    index >= atomic_load_explicit(&root->mcast_high, memory_order_acquire))
		return NULL;
	return odp_peer_ptr(peer, root->mcasts + index * sizeof(struct uodp_mcast_shm),
			    sizeof(struct uodp_mcast_shm));
}

/* Is M a member of the group that W is for: *QPN. */
static bool is_member(const struct uodp_mcast_shm *m, const struct uodp_swqe *w, uint32_t *qpn)
{
	/* acquire: an odd generation shows the rest */
	uint32_t gen = atomic_load_explicit(&m->gen, memory_order_acquire);
	bool same = gen & 1 && !memcmp(m->gid, w->dgid, 16);

	*qpn = m->qpn;
	/* acquire: what was read before is of this generation */
	atomic_thread_fence(memory_order_acquire);
	return same && atomic_load_explicit(&m->gen, memory_order_relaxed) == gen;
}

bool uodp_mcast_next(struct uodp_qp *qp, const struct uodp_swqe *w, struct uodp_exec *x,
		     uint32_t *qpn)
{
	const struct uodp_mcast_shm *m;
	struct odp_peer *peer;

	for (; x->mc_slot < UODP_SLOTS; x->mc_slot++, x->mc_index = 0) {
		if (odp_peer_get(qp->proc->odp, x->mc_slot, &peer) || !odp_peer_alive(peer))
			continue;
		while ((m = member_at(peer, x->mc_index))) {
			x->mc_index++;
			if (is_member(m, w, qpn))
				return true;
		}
	}
	return false;
}
