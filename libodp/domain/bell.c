/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The bell: how any process wakes another's service thread. */
#include "domain.h"
#include "sys.h"

ODP_EXPORT void odp_bell_ring(struct odp_peer *peer)
{
	struct odp_slot *slot = peer->slot;

	/* seq_cst, then load: pairs with service_loop(). A service thread that is
	 * awake looks at the count before it sleeps: no byte is needed. */
	atomic_fetch_add_explicit(&slot->bell_rung, 1, memory_order_seq_cst);
	if (!atomic_load_explicit(&slot->bell_asleep, memory_order_seq_cst))
		return;
	/* A full pipe wakes as well as one byte more. Not the C library's, which is a point
	 * where a thread may be cancelled. */
	odp_sys(SYS_write, peer->bell_fd, "", 1);
}
