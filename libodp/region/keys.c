/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Keys: a 24-bit index and a variant of 8 bits that changes with each reuse.
 * Freed indexes wait in a queue, so that a stale key is noticed for long.
 */
#include "region.h"

#define REUSE_AFTER 4096u

int odp_key_alloc(struct odp_mem *m, uint32_t *key)
{
	struct odp_seg *seg = m->proc->self->seg;
	uint32_t i;

	if (m->key_high < ODP_MAX_REGIONS && m->free_count < REUSE_AFTER) {
		i = m->key_high++;
		/* release: whoever lists the regions sees the record zeroed. */
		atomic_store_explicit(&seg->regions_high, m->key_high, memory_order_release);
	} else if (m->free_count) {
		i = m->free_keys[m->free_head];
		m->free_head = (m->free_head + 1) % ODP_MAX_REGIONS;
		m->free_count--;
	} else {
		return -ENOMEM;
	}
	if (!++m->variants[i])
		m->variants[i] = 1; /* so that no key is 0 */
	*key = i << 8 | m->variants[i];
	return 0;
}

void odp_key_free(struct odp_mem *m, uint32_t key)
{
	m->free_keys[(m->free_head + m->free_count) % ODP_MAX_REGIONS] = key >> 8;
	m->free_count++;
}
