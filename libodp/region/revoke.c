/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* All of a process's regions of one tag, revoked by whoever may reach them. */
#include "domain.h"
#include "region.h"

/* A record as another process has it: looked at once, to be made sure of inside. */
static bool record_meant(const struct odp_mr_shm *mr, uint32_t key, uint32_t tag)
{
	/* seq_cst: in the lane it pairs with odp_region_destroy(), which clears the key
	 * before its fence. */
	return key && atomic_load_explicit(&mr->key, memory_order_seq_cst) == key &&
	       __atomic_load_n(&mr->tag, __ATOMIC_RELAXED) == tag &&
	       !(odp_mr_flags(mr) & ODP_MR_REVOKED);
}

static bool record_revoke(struct odp_lane *lane, struct odp_mr_shm *mr, uint32_t key, uint32_t tag)
{
	bool meant;

	if (!record_meant(mr, key, tag))
		return false;
	/* The owner's deregistration waits for this lane: see recall.c. */
	odp_lane_va_enter(lane);
	meant = record_meant(mr, key, tag);
	if (meant) {
		odp_mr_revoke(mr);
		atomic_store_explicit(&mr->pages_valid, 0, memory_order_relaxed);
	}
	odp_lane_va_leave(lane);
	return meant;
}

static void revoked(struct odp_proc *proc, struct odp_peer *peer)
{
	/* A copy by system call that was prepared before, and has not begun, looks again
	 * (run_enter(), guard.h), also in a process that is stopped now. seq_cst: before
	 * the loads of the lanes; whoever enters one from here on sees the records as they
	 * are. */
	atomic_fetch_add_explicit(&peer->slot->gate, ODP_GATE_STEP, memory_order_seq_cst);
	odp_fence_peer(proc, peer->slot, true);
}

ODP_EXPORT unsigned odp_peer_revoke(struct odp_proc *proc, struct odp_peer *peer, uint32_t tag)
{
	struct odp_seg *seg = peer->seg;
	uint32_t high = atomic_load_explicit(&seg->regions_high, memory_order_acquire);
	unsigned count = 0;

	for (uint32_t i = 0; i < high && i < ODP_MAX_REGIONS; i++) {
		struct odp_mr_shm *mr = &seg->mrs[i];

		count += record_revoke(odp_lane_get(proc), mr,
				       atomic_load_explicit(&mr->key, memory_order_acquire), tag);
	}
	revoked(proc, peer);
	return count;
}

ODP_EXPORT int odp_peer_revoke_key(struct odp_proc *proc, struct odp_peer *peer, uint32_t key)
{
	struct odp_mr_shm *mr = &peer->seg->mrs[key >> 8];

	if (!key || key >> 8 >= ODP_MAX_REGIONS ||
	    !record_revoke(odp_lane_get(proc), mr, key,
			   __atomic_load_n(&mr->tag, __ATOMIC_RELAXED)))
		return -ENOENT;
	revoked(proc, peer);
	return 0;
}
