/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* One translation entry: where it is, and what it says. */
#include "pool.h"

_Atomic odp_entry_t *odp_xlat_entry(const struct odp_peer *peer, const struct odp_mr_shm *mr,
				    uint64_t page)
{
	uint64_t off = mr->xlat + page * sizeof(odp_entry_t);

	if (odp_unlikely(odp_mr_flags(mr) & (ODP_MR_IMPLICIT | ODP_MR_REVOKED)))
		return odp_mr_flags(mr) & ODP_MR_REVOKED ? NULL
							 : odp_implicit_entry(peer, mr, page, true);
	if (page >= odp_mr_npages(mr) || off < ODP_ARENA_OFF ||
	    off > ODP_SEG_SIZE - sizeof(odp_entry_t) || off % sizeof(odp_entry_t))
		return NULL;
	return (_Atomic odp_entry_t *)((char *)peer->seg + off);
}

odp_entry_t odp_xlat_prot(uint32_t prot)
{
	if (!(prot & (PROT_READ | PROT_WRITE)))
		return ODP_E_NOACCESS | ODP_E_NOWRITE;
	return prot & PROT_WRITE ? 0 : ODP_E_NOWRITE;
}

odp_entry_t odp_pin_entry(const struct odp_region *r, uint64_t page)
{
	int fd = r->hold ? r->hold->fds[page / ODP_PIPE_PAGES] : r->fd;

	return ODP_E_PIN | (uint64_t)(fd + 1) << ODP_PAGE_SHIFT;
}
