/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Device faults, resolved by the thread that runs the transfer, in whatever
 * process it is, inside the pool side of its lane. Being there is what makes it
 * safe without further locks: no invalidation starts before the lane is left.
 * Of several threads that find a page missing, each may make the page in the
 * pool (that is idempotent); the one whose compare-and-swap wins counts it.
 */
#include "pool.h"

static bool entry_usable(odp_entry_t e, bool write)
{
	odp_entry_t need = ODP_E_POOL | ODP_E_VALID | (write ? ODP_E_WRITE : 0);

	return (e & (ODP_E_WHERE | ODP_E_VALID | (write ? ODP_E_WRITE : 0))) == need;
}

static bool entry_missing(odp_entry_t e, bool write)
{
	odp_entry_t deny = ODP_E_NOACCESS | (write ? ODP_E_NOWRITE : 0);

	return (e & ODP_E_WHERE) == ODP_E_POOL && !(e & deny) && !entry_usable(e, write);
}

/* How many pages from PAGE on are missing too and lie in frames one after the
 * other, at most WANT. */
static uint64_t run_length(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page,
			   odp_entry_t first, uint64_t want, bool write)
{
	uint64_t n;

	for (n = 1; n < want; n++) {
		_Atomic odp_entry_t *p = odp_xlat_entry(peer, mr, page + n);
		odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;

		if (!entry_missing(e, write) ||
		    (e & ODP_E_FRAME) != (first & ODP_E_FRAME) + (n << ODP_PAGE_SHIFT))
			break;
	}
	return n;
}

static uint64_t run_validate(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page,
			     uint64_t n)
{
	uint64_t won = 0;

	for (uint64_t i = 0; i < n; i++) {
		_Atomic odp_entry_t *p = odp_xlat_entry(peer, mr, page + i);
		odp_entry_t e, new;

		if (!p)
			break;
		e = atomic_load_explicit(p, memory_order_relaxed);
		if ((e & ODP_E_WHERE) != ODP_E_POOL || (e & (ODP_E_VALID | ODP_E_NOACCESS)))
			continue;
		new = e | ODP_E_VALID | (e & ODP_E_NOWRITE ? 0 : ODP_E_WRITE);
		/* release: who sees VALID finds the page in the pool. */
		won += atomic_compare_exchange_strong_explicit(p, &e, new, memory_order_release,
							       memory_order_relaxed);
	}
	return won;
}

static int fault_refuse(struct odp_mr_shm *mr, bool advice)
{
	if (!advice)
		atomic_fetch_add_explicit(&mr->page_faults, 1, memory_order_relaxed);
	return -EFAULT;
}

int odp_fault_pool(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page, uint64_t want,
		   bool write, bool advice)
{
	_Atomic odp_entry_t *p = odp_xlat_entry(peer, mr, page);
	odp_entry_t e = p ? atomic_load_explicit(p, memory_order_relaxed) : 0;
	uint64_t n, run, off = e & ODP_E_FRAME;

	if (entry_usable(e, write))
		return 0; /* another thread was faster */
	if (!entry_missing(e, write))
		return fault_refuse(mr, advice);
	run = run_length(peer, mr, page, e, want, write);
	if (odp_pool_populate(peer, off, run << ODP_PAGE_SHIFT))
		return fault_refuse(mr, advice);
	n = run_validate(peer, mr, page, run);
	atomic_fetch_add_explicit(&mr->pages_valid, n, memory_order_relaxed);
	if (advice) {
		atomic_fetch_add_explicit(&mr->page_prefetch, n, memory_order_relaxed);
	} else {
		atomic_fetch_add_explicit(&mr->page_faults, n, memory_order_relaxed);
		atomic_fetch_add_explicit(&mr->page_faults_handled, n, memory_order_relaxed);
	}
	/* For the CPU too, as HMM does; if that fails its own fault will. */
	if (peer->uffd >= 0)
		odp_uffd_map(peer->uffd, odp_page_down(mr->addr) + (page << ODP_PAGE_SHIFT),
			     run << ODP_PAGE_SHIFT);
	return 0;
}
