/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Which watches a peer's regions depend on. */
#include "domain.h"
#include "peer.h"

bool odp_watches_keep(struct odp_proc *proc, struct odp_peer *peer, const struct odp_mr_shm *mr)
{
	const struct odp_seg *seg = peer->seg;
	/* Written before the key, and stays until the lanes were fenced. */
	uint32_t at = seg->region_files[mr - seg->mrs];

	/* No more than one for each watch, whatever the owner wrote. */
	for (unsigned n = 0; at && n <= ODP_MAX_WATCHES; n++) {
		const struct odp_file_shm *f = &seg->files[at - 1];

		if (at > ODP_MAX_FILES || !odp_watch_is(proc, f->watch_nr, f->watch))
			return false;
		at = f->next;
	}
	return !at;
}
