/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A mapping that the program grew past its guard, or into what others hold (grow.c). */
#ifndef ODP_GROW_H
#define ODP_GROW_H

#include "pool.h"

/* ADDR, in a mapping of the pool, has no record, and the frame that is mapped there
 * is not free: give the mapping others from there on, and a record. If something
 * else is mapped there by now, nothing is done. Service thread, mem_lock. */
void odp_grow(struct odp_mem *m, uint64_t addr);

#endif
