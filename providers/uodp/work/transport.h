/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What carries work requests to the other end. A transport is a folder with one of
 * these; verbs/transport.c lists them.
 */
#ifndef UODP_TRANSPORT_H
#define UODP_TRANSPORT_H

#include "queue.h"

struct uodp_transport {
	const char *name;
	/* Does it reach what QP's attributes name? Asked in order; sq_lock is held. */
	bool (*reaches)(const struct uodp_qp *qp);
	/* QP has got its address: prepare what only a program thread can (sq_lock). NULL:
	 * nothing. */
	void (*meet)(struct uodp_qp *qp);
	/* Take W, which was checked, as far as it goes: 0 when it has ended (X->status says
	 * how), -EAGAIN when it has to wait (X->deadline says until when at the latest).
	 * At most *BUDGET bytes, which are counted down. */
	int (*step)(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
	/* The request in X, which was begun, goes no further: give back what it holds of the
	 * peer's. */
	void (*cancel)(struct uodp_qp *qp, struct uodp_exec *x);
};

#endif
