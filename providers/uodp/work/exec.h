/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Running the work request at the head of a send queue: what can be checked here is
 * checked, then the transport takes steps; what these share stands here. A step returns 0 when the request has ended (x->status says how), or -EAGAIN when
 * it has to wait (x->deadline says until when at the latest).
 */
#ifndef UODP_EXEC_H
#define UODP_EXEC_H

#include <errno.h>

#include "queue.h"
#include "transport.h"

#define UODP_POLL_BUSY_NS 20000u /* how often a page in transition is looked at */

static inline int uodp_exec_done(struct uodp_exec *x, enum ibv_wc_status status)
{
	x->status = status;
	return 0;
}

static inline int uodp_exec_wait(struct uodp_exec *x, uint64_t when)
{
	x->deadline = when;
	x->stuck = false;
	return -EAGAIN;
}

/* RC, XRC: what goes wrong is answered; UC and UD drop it in silence. */
static inline bool uodp_reliable(const struct uodp_qp *qp)
{
	return qp->vqp.qp.qp_type == IBV_QPT_RC || qp->vqp.qp.qp_type == IBV_QPT_XRC_SEND;
}

/* ---- check.c: what needs nothing of the other end ---- */
/* May W use all of its own SGEs in the way that ACCESS says? */
bool uodp_own_sges_ok(const struct uodp_qp *qp, const struct uodp_swqe *w, uint32_t access);
/* uodp_own_check() of what is not the usual case. */
enum ibv_wc_status uodp_own_check_rest(const struct uodp_qp *qp, const struct uodp_swqe *w);

/* No status: what uodp_own_check() has of a request that the other end has no part in. */
#define UODP_WC_OURS ((enum ibv_wc_status)0xffff)

/*
 * Before W is begun, and each time it is tried again: the form of the request, and for
 * what sends bytes its SGEs (key, PD, bounds, state of the MR). When all is well, and
 * they are in one piece, x->own is that piece. A request that fails here has touched
 * nothing of the peer's.
 */
static inline enum ibv_wc_status uodp_own_check(struct uodp_qp *qp, struct uodp_swqe *w,
						struct uodp_exec *x)
{
	if (w->opcode == IBV_WR_RDMA_READ)
		return IBV_WC_SUCCESS;
	if (w->flags & IBV_SEND_INLINE) {
		odp_span_private(&x->own, w->data);
		return IBV_WC_SUCCESS;
	}
	if (uodp_unlikely(w->num_sge != 1 || !(1u << w->opcode & UODP_GATHER_OPS)))
		return uodp_own_check_rest(qp, w);
	return uodp_unlikely(odp_span_region(&x->own, qp->proc->self, w->sge[0].lkey, qp->pd->num,
					     w->sge[0].addr, w->length, 0))
		       ? IBV_WC_LOC_PROT_ERR
		       : IBV_WC_SUCCESS;
}

/* ---- window.c ---- */
/* Run W, which UODP_WC_OURS was said of. */
int uodp_window_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x);

/* ---- wait.c ---- */
int uodp_wait_peer(struct uodp_qp *qp, struct uodp_exec *x);
int uodp_wait_rnr(struct uodp_qp *qp, struct uodp_exec *x);
int uodp_wait_fault(struct uodp_qp *qp, struct uodp_exec *x);
/* Somebody has a shared lock for longer than he should. */
int uodp_wait_lock(struct uodp_exec *x);
int uodp_wait_move(struct uodp_qp *qp, struct uodp_exec *x, uint64_t budget, bool theirs);

#endif
