/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Counters of regions, one by one and summed up. */
#include <string.h>

#include "base.h"
#include "pool.h"
#include "region.h"

static void stats_add(struct odp_region_stats *stats, const struct odp_mr_shm *mr)
{
#define ADD(name) stats->name += atomic_load_explicit(&mr->name, memory_order_relaxed)
	ADD(page_faults);
	ADD(page_faults_handled);
	ADD(page_invalidations);
	ADD(page_invalidations_handled);
	ADD(page_prefetch);
	ADD(pages_valid);
#undef ADD
	if (!(odp_mr_flags(mr) & ODP_MR_IMPLICIT)) /* nor by NPAGES, which a revoked one loses */
		stats->pages += (odp_page_up(mr->addr + mr->length) - odp_page_down(mr->addr)) >>
				ODP_PAGE_SHIFT;
}

ODP_EXPORT void odp_region_stats(const struct odp_region *r, struct odp_region_stats *stats)
{
	odp_uffd_acted(r->mem);
	memset(stats, 0, sizeof(*stats));
	stats_add(stats, r->mr);
}

ODP_EXPORT void odp_stats_sum(struct odp_proc *proc, uint32_t tag, struct odp_region_stats *stats)
{
	struct odp_mem *m = proc->mem;
	struct odp_inode *n;

	odp_uffd_acted(m);
	memset(stats, 0, sizeof(*stats));
	odp_mem_lock(m);
	for (n = odp_itree_first(&m->regions, 0, UINT64_MAX); n;
	     n = odp_itree_next(&m->regions, n, 0, UINT64_MAX)) {
		const struct odp_region *r = (struct odp_region *)n;

		if (r->mr->tag == tag)
			stats_add(stats, r->mr);
	}
	odp_mem_unlock(m);
}
