/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the files of top know of each other. */
#ifndef ODP_TOP_H
#define ODP_TOP_H

#include "domain.h"

/* ---- open.c ---- */
/* Called once by odp_proc_get, before the service thread loops, with PROC
 * complete but for odp_self: creates pool memfd, userfaultfd, pin ring, fills
 * slot->pool_fd, uffd_fd. Undoes its own work when it fails. */
int odp_mem_open(struct odp_proc *proc);

/* ---- proc.c ---- */
/* In a child of fork, which starts with nothing of its parent's. Async-signal-safe. */
void odp_proc_child(void);

#endif
