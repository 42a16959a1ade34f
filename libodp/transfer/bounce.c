/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Bounce buffers: copies between two owners that no one mapping reaches go through one. */
#include "transfer.h"

char *odp_bounce_get(struct odp_mem *m)
{
	uint32_t used = atomic_load_explicit(&m->bounce_used, memory_order_relaxed);
	int i;

	do {
		if (used == (1u << ODP_BOUNCES) - 1)
			return NULL;
		i = __builtin_ctz(~used);
		/* acquire: after the last user's release in odp_bounce_put(). */
	} while (!atomic_compare_exchange_weak_explicit(&m->bounce_used, &used, used | 1u << i,
							memory_order_acquire,
							memory_order_relaxed));
	return m->bounces + i * ODP_BOUNCE_SIZE;
}

void odp_bounce_put(struct odp_mem *m, char *buf)
{
	unsigned i = (unsigned)((size_t)(buf - m->bounces) / ODP_BOUNCE_SIZE);

	/* release: our use of the buffer happens before the next one's. */
	atomic_fetch_and_explicit(&m->bounce_used, ~(1u << i), memory_order_release);
}
