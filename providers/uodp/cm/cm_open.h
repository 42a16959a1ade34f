/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#ifndef UODP_CM_OPEN_H
#define UODP_CM_OPEN_H

/* Open /dev/infiniband/rdma_cm with the flags of open(2): a descriptor, or -1 with
 * errno. Thread-safe. */
int cm_open(int flags);

/* In a child of fork: forget what is the parent's. Takes no lock and frees nothing. */
void cm_child(void);

#endif
