/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The transport between processes of one host: the requester's thread does the
 * responder's part too, in the responder's shared memory.
 *
 * work/ has checked what can be checked without the other end; from here on, in this
 * order: is the peer there, has it a receive, do its keys allow it.
 */
#ifndef UODP_LOCAL_STEP_H
#define UODP_LOCAL_STEP_H

#include "work/exec.h"

#define UODP_GRH 40u
#define UODP_AT_ONCE 4096u /* bytes that are copied without ceremony */

extern const struct uodp_transport uodp_local_transport;

/* UD: many send to one QP. */
static inline bool uodp_takes_turns(const struct uodp_qp *qp)
{
	return qp->vqp.qp.qp_type == IBV_QPT_UD;
}

/* ---- dest.c ---- */
/* Can DEST take a message now? */
bool uodp_dest_receives(const struct uodp_dest *dest);
/* The same of a QP whose lock is held, whether its process lives or not. */
bool uodp_dest_receives_locked(const struct uodp_dest *dest);
/* Packets reach a device by its address. */
bool uodp_dest_addressed(const struct uodp_dest *dest, const uint8_t dgid[16]);
/* Is the QP that this one is connected to there, and connected to this one? */
bool uodp_conn_ready(struct uodp_qp *qp);

/* ---- move.c ---- */
enum uodp_side { UODP_SRC, UODP_DST };
/* Move x->left bytes from x->src to x->dst, at most *BUDGET of them: 0 when all
 * are there; -EAGAIN; or an error of *FAILED side. */
int uodp_move(struct uodp_exec *x, uint64_t *budget, enum uodp_side *failed);
void uodp_iter_local(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_iter *it,
		     uint32_t access);
void uodp_iter_remote(struct uodp_exec *x, struct uodp_swqe *w, struct uodp_iter *it,
		      uint32_t access);
/* SPAN of the responder's memory, by the key of an MR or a window: as odp_span_region(). */
int uodp_span_window(struct odp_span *span, const struct uodp_dest *dest, uint32_t rkey,
		     uint64_t addr, uint64_t length, uint32_t access);
static inline int uodp_span_remote(struct odp_span *span, const struct uodp_dest *dest,
				   uint32_t rkey, uint64_t addr, uint64_t length, uint32_t access)
{
	int ret = odp_span_region(span, dest->mem, rkey, dest->pd, addr, length, access);

	return uodp_likely(!ret) ? 0 : uodp_span_window(span, dest, rkey, addr, length, access);
}
/* May W do with the responder's memory what takes ACCESS? 0 or -errno. */
int uodp_remote_check(const struct uodp_exec *x, const struct uodp_swqe *w, uint32_t access);

/* ---- xrc.c ---- */
/* Is the SRQ that a message uses still what it was? */
bool uodp_xsrq_there(const struct uodp_dest *dest);
/* Complete the receive that was taken from it; nothing, when it is not there. */
int uodp_xsrq_complete(struct uodp_proc *proc, const struct uodp_dest *dest,
		       const struct uodp_cqe *cqe, bool solicited, uint64_t patience);
/* Find the SRQ that W names, or look at it again. */
int uodp_xrc_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, bool *go_on);

/* ---- mcast.c ---- */
#define UODP_MULTICAST_QPN 0xffffffu
#define UODP_SLOTS 1024u /* of processes in a run directory */
/* The next member of the group that W is for, from x->mc_slot and mc_index on: *QPN. */
bool uodp_mcast_next(struct uodp_qp *qp, const struct uodp_swqe *w, struct uodp_exec *x,
		     uint32_t *qpn);

/* ---- deliver.c ---- */
/* Take a receive for the message in X. 0; -EAGAIN: none posted (RNR);
 * -ENOTCONN: the QP cannot receive; -EBUSY: somebody has a lock, or UD, not our turn;
 * -EMSGSIZE: the message does not fit; -EINVAL: the receive is malformed. After 0 and the
 * last two there is a receive to be completed, or given back by uodp_deliver_cancel(). */
int uodp_deliver_begin(struct uodp_qp *qp, struct uodp_exec *x, uint32_t length);
/* Complete it with CQE (whose wr_id is filled in here). -ENOTCONN: the QP left
 * its state meanwhile, the message is lost. -EBUSY: somebody has a lock; nothing was
 * done. -EOVERFLOW: the CQ was full. */
int uodp_deliver_end(struct uodp_qp *qp, struct uodp_exec *x, struct uodp_cqe *cqe, bool solicited);
/* The message goes no further: its receive is for the next one. */
void uodp_deliver_cancel(struct uodp_qp *qp, struct uodp_exec *x);
/* Complete the next receive of DEST's own queue, if it has one, with CQE. -EBUSY. */
int uodp_deliver_fail_head(struct uodp_qp *qp, const struct uodp_dest *dest, struct uodp_cqe *cqe);
/* The responder found an error: its QP goes to ERR, with EVENT. -EBUSY: somebody has its
 * lock; nothing was done. */
int uodp_deliver_error(struct uodp_qp *qp, const struct uodp_dest *dest, enum ibv_event_type event);

/* ---- grh.c ---- */
/* Is W sent with an IPv4 header? */
bool uodp_sends_ipv4(const struct uodp_swqe *w);
/* The 40 bytes before a datagram's payload. */
void uodp_grh_fill(const struct uodp_qp *qp, const struct uodp_swqe *w, char grh[UODP_GRH]);

/* ---- refuse.c: errors that the responder finds ---- */
/* Somebody has what the message needs of the responder's: a lock, or the receive that his
 * datagram uses. Datagrams are lost at last. */
int uodp_wait_busy(struct uodp_qp *qp, struct uodp_exec *x);
/* Do what ENDING says, now or (UODP_PHASE_FAIL) as far as that goes. */
int uodp_msg_fail(struct uodp_qp *qp, struct uodp_exec *x, struct uodp_ending ending);
int uodp_msg_fail_step(struct uodp_qp *qp, struct uodp_exec *x);
/* Class C: the request is refused with STATUS. */
int uodp_refuse(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		enum ibv_wc_status status);
/* Class A: the receive ends with STATUS, and the responder's QP goes to ERR. */
int uodp_recv_broken(struct uodp_qp *qp, struct uodp_exec *x, enum ibv_wc_status status);

/* ---- rdma.c, send.c: the operations ---- */
int uodp_write_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
int uodp_read_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
int uodp_atomic_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		     uint64_t *budget);
int uodp_atomic_write_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
			   uint64_t *budget);
int uodp_send_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
int uodp_ud_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget);
/* Take a receive: *GO_ON, or what the step is to return. */
int uodp_need_recv(struct uodp_qp *qp, struct uodp_exec *x, uint32_t length, bool *go_on);
/* Complete the receive, and with it the request. */
int uodp_send_finish(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x);
/* Go on with what is left when all bytes are there, or an error was found. */
int uodp_msg_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x);

#endif
