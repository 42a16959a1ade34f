/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Why a work request waits, and for how long. */
#include <errno.h>

#include "exec.h"

#define POLL_PEER_NS 1000000u /* how often an absent peer is looked for */

/* IBTA table 45: RNR NAK timer field values, in units of 10 us. */
static const uint32_t rnr_10us[32] = {65536, 1,    2,    3,     4,     6,     8,     12,
				      16,    24,   32,   48,    64,    96,    128,   192,
				      256,   384,  512,  768,   1024,  1536,  2048,  3072,
				      4096,  6144, 8192, 12288, 16384, 24576, 32768, 49152};

/* Nobody answers: the transport timer (IBTA 9.7.6.1.3) ends it. */
int uodp_wait_peer(struct uodp_qp *qp, struct uodp_exec *x)
{
	uint64_t now = odp_now(), next = now + POLL_PEER_NS;

	if (!x->give_up)
		x->give_up = qp->attr.timeout ? now + (4096ull << qp->attr.timeout) *
								(qp->attr.retry_cnt + 1u)
					      : UINT64_MAX;
	if (now >= x->give_up)
		return uodp_exec_done(x, IBV_WC_RETRY_EXC_ERR);
	return uodp_exec_wait(x, next < x->give_up ? next : x->give_up);
}

int uodp_wait_rnr(struct uodp_qp *qp, struct uodp_exec *x)
{
	uint64_t now = odp_now();

	if (now >= x->rnr_until) {
		if (!x->rnr_left)
			return uodp_exec_done(x, IBV_WC_RNR_RETRY_EXC_ERR);
		if (x->rnr_left != 7) /* 7: for ever */
			x->rnr_left--;
		uodp_count(&qp->shm->rnr, 1);
		x->rnr_until =
			now + rnr_10us[uodp_attr(&x->dest.qp->min_rnr_timer) & 31] * 10000ull;
	}
	return uodp_exec_wait(x, x->rnr_until);
}

/* The responder answers a fault as it does a missing receive. Bytes that arrived
 * since the last time were acknowledged: the count begins anew. */
int uodp_wait_fault(struct uodp_qp *qp, struct uodp_exec *x)
{
	if (x->rnr_at && x->left < x->rnr_at)
		x->rnr_left = qp->attr.rnr_retry;
	x->rnr_at = x->left;
	x->rnr_fault = true;
	return uodp_wait_rnr(qp, x);
}

int uodp_wait_lock(struct uodp_exec *x)
{
	x->again_ns = x->again_ns ? x->again_ns * 2 : UODP_POLL_BUSY_NS;
	if (x->again_ns > POLL_PEER_NS)
		x->again_ns = POLL_PEER_NS;
	uodp_exec_wait(x, odp_now() + x->again_ns);
	x->stuck = true;
	return -EAGAIN;
}

/* THEIRS: if it is a fault, it is the responder's. */
int uodp_wait_move(struct uodp_qp *qp, struct uodp_exec *x, uint64_t budget, bool theirs)
{
	/* Out of budget: at once, but by somebody else; else a page is busy. */
	if (!x->fault_until)
		return uodp_exec_wait(x, budget ? odp_now() + UODP_POLL_BUSY_NS : 0);
	/* Our own fault stalls the queue; UC and UD have no NAKs. */
	return theirs && uodp_reliable(qp) ? uodp_wait_fault(qp, x)
					   : uodp_exec_wait(x, x->fault_until);
}
