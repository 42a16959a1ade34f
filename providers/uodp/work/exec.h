/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Running the work request at the head of a send queue: what the steps share. A
 * step returns 0 when the request has ended (x->status says how), or -EAGAIN when
 * it has to wait (x->deadline says until when at the latest).
 */
#ifndef UODP_EXEC_H
#define UODP_EXEC_H

#include <errno.h>

#include "queue.h"

#define UODP_POLL_BUSY_NS 20000u /* how often a page in transition is looked at */

enum uodp_side { UODP_SRC, UODP_DST };

static inline int uodp_exec_done(struct uodp_exec *x, enum ibv_wc_status status)
{
	x->status = status;
	return 0;
}

static inline int uodp_exec_wait(struct uodp_exec *x, uint64_t when)
{
	x->deadline = when;
	return -EAGAIN;
}

/* RC: what goes wrong is answered; UC and UD drop it in silence. */
static inline bool uodp_reliable(const struct uodp_qp *qp)
{
	return qp->vqp.qp.qp_type == IBV_QPT_RC;
}

/* ---- dest.c ---- */
/* Can DEST take a message now? */
bool uodp_dest_receives(const struct uodp_dest *dest);
/* Packets reach a device by its address. */
bool uodp_dest_addressed(const struct uodp_dest *dest, const uint8_t dgid[16]);
/* Is the QP that this one is connected to there, and connected to this one? */
bool uodp_conn_ready(struct uodp_qp *qp);

/* ---- move.c ---- */
/* Move x->left bytes from x->src to x->dst, at most *BUDGET of them: 0 when all
 * are there; -EAGAIN; or an error of *FAILED side. */
int uodp_move(struct uodp_exec *x, uint64_t *budget, enum uodp_side *failed);
void uodp_iter_local(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_iter *it,
		     uint32_t access);
void uodp_iter_remote(struct uodp_exec *x, struct uodp_swqe *w, struct uodp_iter *it,
		      uint32_t access);

/* ---- wait.c ---- */
int uodp_wait_peer(struct uodp_qp *qp, struct uodp_exec *x);
int uodp_wait_rnr(struct uodp_qp *qp, struct uodp_exec *x);
int uodp_wait_fault(struct uodp_qp *qp, struct uodp_exec *x);
int uodp_wait_move(struct uodp_qp *qp, struct uodp_exec *x, uint64_t budget, bool theirs);
void uodp_recv_fail(struct uodp_qp *qp, struct uodp_exec *x, enum ibv_wc_status status);
int uodp_refuse(struct uodp_qp *qp, struct uodp_exec *x, enum ibv_wc_status status);
int uodp_recv_broken(struct uodp_qp *qp, struct uodp_exec *x);

/* ---- rdma.c, send.c: the operations ---- */
int uodp_write_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
int uodp_read_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
int uodp_atomic_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		     uint64_t *budget);
int uodp_send_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
int uodp_ud_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
/* Take a receive: *GO_ON, or what the step is to return. */
int uodp_need_recv(struct uodp_qp *qp, struct uodp_exec *x, uint32_t length, bool *go_on);
/* Complete the receive, and with it the request. */
int uodp_send_finish(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x);

#endif
