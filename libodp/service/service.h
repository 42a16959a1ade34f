/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What service offers: the threads that act for this process. */
#ifndef ODP_SERVICE_H
#define ODP_SERVICE_H

#include "domain.h"

/* ---- service.c ---- */
/* Create the thread; it waits until odp_service_go(), or ends at odp_service_stop(). */
int odp_service_start(struct odp_proc *proc);
void odp_service_go(struct odp_proc *proc);
void odp_service_stop(struct odp_proc *proc);
/* End the thread alone, as the process ends: what others use of it stays. */
void odp_service_end(struct odp_proc *proc);
/* In a child after fork: close the thread's descriptors. */
void odp_service_child(struct odp_proc *proc);

#endif
