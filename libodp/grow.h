/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A mapping that the program grew past its guard, or into what others hold (grow.c). */
#ifndef ODP_GROW_H
#define ODP_GROW_H

#include "mem.h"

/* ADDR is missing, and the pool has no frame for it: give it memory of its own.
 * Service thread only. */
void odp_grow_replace(struct odp_mem *m, uint64_t addr);
/* Is that under way for some of [start, end)? (mem_lock) */
bool odp_grow_covers(uint64_t start, uint64_t end);

#endif
