/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A mapping that the program grew past its guard (grow.c). Service thread only. */
#ifndef ODP_GROW_H
#define ODP_GROW_H

#include "mem.h"

/* ADDR is missing, and the pool has no frame for it: give it memory of its own. */
void odp_grow_replace(struct odp_mem *m, uint64_t addr);

#endif
