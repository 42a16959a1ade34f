/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Blocks of queue pair numbers, each owned by one slot. */
#include <errno.h>

#include "domain.h"

/*
 * The search goes round the space: a block that was just freed is the last to
 * be given again, so that a late packet to an old number finds nobody.
 */
static int qpn_block_find(struct odp_domain *dom, unsigned nr)
{
	/* relaxed: a hint; the compare-and-swap below decides. */
	unsigned start = atomic_load_explicit(&dom->qpn_next, memory_order_relaxed);
	unsigned i;

	for (i = 0; i < ODP_QPN_BLOCKS; i++) {
		unsigned block = (start + i) % ODP_QPN_BLOCKS;
		uint16_t none = 0;

		/* acq_rel: pairs with the release store that freed the block. */
		if (!block || !atomic_compare_exchange_strong_explicit(
				      &dom->qpn_owner[block], &none, (uint16_t)(nr + 1),
				      memory_order_acq_rel, memory_order_relaxed))
			continue;
		atomic_store_explicit(&dom->qpn_next, block + 1, memory_order_relaxed);
		return (int)block;
	}
	return -ENOSPC;
}

ODP_EXPORT int odp_qpn_block_alloc(struct odp_proc *proc, unsigned *block)
{
	int ret = qpn_block_find(proc->domain, proc->self->nr);

	if (ret == -ENOSPC && !odp_slot_reap(proc))
		ret = qpn_block_find(proc->domain, proc->self->nr);
	if (ret < 0)
		return ret;
	*block = (unsigned)ret;
	return 0;
}

ODP_EXPORT void odp_qpn_block_free(struct odp_proc *proc, unsigned block)
{
	uint16_t owner = (uint16_t)(proc->self->nr + 1);

	if (block >= ODP_QPN_BLOCKS ||
	    /* release: pairs with the next owner's compare-and-swap. */
	    !atomic_compare_exchange_strong_explicit(&proc->domain->qpn_owner[block], &owner, 0,
						     memory_order_release, memory_order_relaxed))
		odp_log(ODP_LOG_ERR, "queue pair number block %u freed by one who does not own it",
			block);
}

ODP_EXPORT int odp_qpn_block_slot(struct odp_proc *proc, unsigned block)
{
	unsigned owner;

	if (!block || block >= ODP_QPN_BLOCKS)
		return -ENOENT;
	/* acquire: pairs with the owner's compare-and-swap. */
	owner = atomic_load_explicit(&proc->domain->qpn_owner[block], memory_order_acquire);
	return owner && owner <= ODP_MAX_PROCS ? (int)owner - 1 : -ENOENT;
}
