/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A second mapping of a region's files, for the device alone: what the program does to
 * its own does not matter to it. */
#include "pool.h"
#include "region.h"

static uint64_t shadow_size(const struct odp_region *r)
{
	return r->npages << ODP_PAGE_SHIFT;
}

static long shadow_part(const struct odp_region *r, const struct odp_part *p)
{
	uint64_t to = r->mr->shadow + (p->start - r->it.start);
	struct odp_vma vma;
	long ret;

	for (uint64_t at = p->start, end; at < p->end; to += end - at, at = end) {
		if (!odp_vma_next(r->mem, at, p->end, &vma) || vma.start > at)
			return -EFAULT;
		end = odp_min(vma.end, p->end);
		/* From a shared mapping, length 0 makes a second one (mremap(2)). */
		ret = odp_sys6(SYS_mremap, (long)at, 0, (long)(end - at),
			       MREMAP_MAYMOVE | MREMAP_FIXED, (long)to, 0);
		if (ret < 0)
			return ret;
		/* A recall reads what is mapped without a fault, which may have to wait
		 * for the truncate itself (save.c). */
		odp_sys_madvise(to, end - at, MADV_POPULATE_READ);
	}
	return 0;
}

int odp_shadow_map(struct odp_region *r)
{
	uint64_t size = shadow_size(r);
	long ret = odp_sys_mmap(0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				0);

	if (ret < 0 && ret > -4096)
		return -ENOMEM;
	r->mr->shadow = (uint64_t)ret;
	atomic_fetch_or_explicit(&r->mr->flags, ODP_MR_SHADOW, memory_order_relaxed);
	for (unsigned i = 0; i < r->nparts; i++) {
		if (!r->parts[i].watch || !r->parts[i].shared)
			continue;
		ret = shadow_part(r, &r->parts[i]);
		if (ret < 0)
			return (int)ret;
	}
	ret = odp_sys_madvise(r->mr->shadow, size, MADV_DONTFORK);
	return ret < 0 ? (int)ret : 0;
}

void odp_shadow_unmap(struct odp_region *r)
{
	if (!r->mr || !(odp_mr_flags(r->mr) & ODP_MR_SHADOW))
		return;
	odp_sys_munmap(r->mr->shadow, shadow_size(r));
	atomic_fetch_and_explicit(&r->mr->flags, (uint8_t)~ODP_MR_SHADOW, memory_order_relaxed);
	r->mr->shadow = 0;
}
