/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Regions of huge pages (IBV_ACCESS_HUGETLB). A driver maps such a region in units
 * of a huge page, and its fault handler gives EINVAL where it finds smaller ones
 * (ib_umem_odp_map_dma_and_lock()): those that are there show at registration,
 * others when they are reached.
 */
#include <stdio.h>
#include <string.h>

#include "pool.h"
#include "region.h"

/* Of the mapping that holds AT, for kernels whose maps do not tell it; 0 when
 * there is none. */
static uint64_t smaps_page_size(uint64_t at)
{
	unsigned long start, end, kib;
	FILE *f = odp_own_fopen("/proc/self/smaps");
	uint64_t size = 0;
	char line[512];
	bool here = false;

	if (!f)
		return 0;
	while (!size && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %*4s", &start, &end) == 2)
			here = start <= at && at < end;
		else if (here && sscanf(line, "KernelPageSize: %lu kB", &kib) == 1)
			size = (uint64_t)kib << 10;
	}
	fclose(f);
	return size;
}

/* No access to [start, end), which is not of huge pages. */
static int part_refuse(struct odp_region *r, uint64_t start, uint64_t end)
{
	uint64_t page = (start - r->it.start) >> ODP_PAGE_SHIFT;
	uint64_t last = (end - 1 - r->it.start) >> ODP_PAGE_SHIFT;
	_Atomic odp_entry_t *p;

	for (; (p = odp_region_entry(r, &page, last)); page++) {
		if (atomic_load_explicit(p, memory_order_relaxed) & ODP_E_VALID)
			return -EINVAL;
		/* relaxed: the key's release store publishes it. */
		atomic_store_explicit(p, ODP_E_VA | ODP_E_NOACCESS | ODP_E_NOWRITE,
				      memory_order_relaxed);
	}
	return 0;
}

int odp_huge_check(struct odp_region *r)
{
	uint64_t at = r->it.start, end = r->it.last + 1;
	struct odp_vma vma;
	int ret = 0;

	while (at < end && !ret) {
		if (!odp_vma_next(r->mem, at, end, &vma))
			return part_refuse(r, at, end);
		if (vma.start > at)
			ret = part_refuse(r, at, vma.start);
		at = odp_max(at, vma.start);
		if (!vma.page_size)
			vma.page_size = smaps_page_size(at);
		vma.end = odp_min(vma.end, end);
		if (!ret && vma.page_size <= ODP_PAGE_SIZE)
			ret = part_refuse(r, at, vma.end);
		at = vma.end;
	}
	return ret;
}
