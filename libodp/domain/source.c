/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the service thread looks after: layers above it add themselves. */
#include <assert.h>

#include "domain.h"

void odp_source_add(struct odp_proc *proc, const struct odp_source *s)
{
	unsigned n = atomic_load_explicit(&proc->num_sources, memory_order_relaxed);

	assert(n < ODP_SOURCES);
	proc->sources[n] = s;
	/* release: pairs with the acquire of the service thread. */
	atomic_store_explicit(&proc->num_sources, n + 1, memory_order_release);
}
