/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What a device has counted over all processes of the run directory.
 *
 * Queue pairs count in shared memory (struct uodp_qp_shm). When one goes, what it has
 * counted is added to the device's file of totals, under that file's lock, in which the
 * queue pair's own counters become 0: whoever adds all of them up under the lock gets the
 * same before and after, so that a sum never falls. A process that is killed takes with it
 * what its queue pairs had.
 */
#ifndef UODP_TOTALS_H
#define UODP_TOTALS_H

#include "shm.h"

struct uodp_sums {
	uint64_t tx_msgs, tx_bytes, rx_msgs, rx_bytes, faults, rnr;
};

/* The file of totals of a device, "totals/NAME" in the run directory. */
#define UODP_TOTALS_DIR "totals"
#define UODP_TOTALS_MAGIC 0x736c6174706f6475ull
struct uodp_totals {
	uint64_t magic;
	struct uodp_sums sums;
};

/* Add what QP has counted to the totals of its device, NAME; nobody counts there any more.
 * Keeps errno. */
void uodp_totals_add(const char *name, struct uodp_qp_shm *qp);
/* What the device NAME has counted. Needs no context, and does not attach. */
void uodp_sums_read(const char *name, struct uodp_sums *s);

#endif
