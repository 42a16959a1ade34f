/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The files that show what a device has counted: ports/1/counters and ports/1/hw_counters. */
#ifndef UODP_COUNTERS_H
#define UODP_COUNTERS_H

#include "tree.h"
#include "uodp.h"

/* The files, in the directory of a port; what is there is left as it is. */
void uodp_counters_make(struct uodp_dir *port);
/* Does PATH end with what may be the name of a counter's file? Cheap. */
bool uodp_counter_maybe(const char *path);
/*
 * Write what has been counted into the counter's file PATH, if it is one of a device of
 * this process: an absolute name with ".../NAME/ports/1/..." at its end. Keeps errno.
 */
void uodp_counter_refresh(const char *path);

#endif
