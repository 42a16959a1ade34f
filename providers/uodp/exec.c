/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Running a send queue, in order, on the calling thread.
 *
 * step() takes the work request at the head as far as it goes: it returns 0 when
 * the request has ended (x->status says how), or -EAGAIN when it has to wait
 * (x->deadline says until when at the latest), to be called again and go on from
 * where it was. What goes wrong at the responder follows IBTA table 61 and
 * drivers/infiniband/sw/rxe/rxe_resp.c.
 */
#include <errno.h>
#include <string.h>

#include "queue.h"

#define RUN_BUDGET ((uint64_t)4 << 20)  /* bytes a caller moves before it may go */
#define UODP_AT_ONCE 4096u              /* bytes that are copied without ceremony */
#define POLL_PEER_NS 1000000u           /* how often an absent peer is looked for */
#define POLL_BUSY_NS 20000u             /* how often a page in transition is */

/* IBTA table 45: RNR NAK timer field values, in units of 10 us. */
static const uint32_t rnr_10us[32] = { 65536, 1,    2,	  3,	4,    6,    8,	   12,
				       16,    24,   32,	  48,	64,   96,   128,   192,
				       256,   384,  512,  768,	1024, 1536, 2048,  3072,
				       4096,  6144, 8192, 12288, 16384, 24576, 32768, 49152 };

static const uint8_t wc_opcode[] = {
	[IBV_WR_RDMA_WRITE] = IBV_WC_RDMA_WRITE,
	[IBV_WR_RDMA_WRITE_WITH_IMM] = IBV_WC_RDMA_WRITE,
	[IBV_WR_SEND] = IBV_WC_SEND,
	[IBV_WR_SEND_WITH_IMM] = IBV_WC_SEND,
	[IBV_WR_RDMA_READ] = IBV_WC_RDMA_READ,
	[IBV_WR_ATOMIC_CMP_AND_SWP] = IBV_WC_COMP_SWAP,
	[IBV_WR_ATOMIC_FETCH_AND_ADD] = IBV_WC_FETCH_ADD,
	[IBV_WR_SEND_WITH_INV] = IBV_WC_SEND,
};

static int done(struct uodp_exec *x, enum ibv_wc_status status)
{
	x->status = status;
	return 0;
}

static int wait_until(struct uodp_exec *x, uint64_t when)
{
	x->deadline = when;
	return -EAGAIN;
}

/* ---- moving bytes ---- */

static int iter_span(struct uodp_iter *it, struct odp_span *span, size_t *avail)
{
	const struct uodp_sge *sge;

	if (!it->peer) {
		odp_span_private(span, it->data + it->off);
		return 0;
	}
	while (it->idx < it->num_sge && it->off == it->sge[it->idx].length) {
		it->idx++;
		it->off = 0;
	}
	if (it->idx == it->num_sge)
		return -ENOSPC;
	sge = &it->sge[it->idx];
	if (sge->length - it->off < *avail)
		*avail = sge->length - it->off;
	return odp_span_region(span, it->peer, sge->lkey, it->pd, sge->addr + it->off,
			       sge->length - it->off, it->access);
}

/* An invalidation, or another thread's fault, is over in a microsecond or two:
 * shorter than it takes to hand the work over. */
#define COPY_SPINS 64

static int copy_some(struct odp_span *dst, struct odp_span *src, size_t *n)
{
	size_t want = *n;
	int ret;

	for (int i = 0; (ret = odp_copy(dst, src, n)) == -EAGAIN && i < COPY_SPINS; i++) {
		if (dst->err || src->err)
			break; /* a fault that takes its time */
		__builtin_ia32_pause();
		*n = want;
	}
	return ret;
}

enum side { SIDE_SRC, SIDE_DST };

static int move(struct uodp_exec *x, uint64_t *budget, enum side *failed)
{
	struct odp_span src, dst;
	size_t n;
	int ret;

	x->fault_until = 0;
	while (x->left) {
		n = x->left;
		*failed = SIDE_SRC;
		ret = iter_span(&x->src, &src, &n);
		if (uodp_unlikely(ret))
			return ret;
		*failed = SIDE_DST;
		ret = iter_span(&x->dst, &dst, &n);
		if (uodp_unlikely(ret))
			return ret;
		ret = copy_some(&dst, &src, &n);
		if (uodp_unlikely(ret)) {
			*failed = src.err ? SIDE_SRC : SIDE_DST;
			x->fault_until = src.err ? src.when : dst.when;
			return ret;
		}
		x->src.off += n;
		x->dst.off += n;
		x->left -= n;
		*budget -= n < *budget ? n : *budget;
		if (uodp_unlikely(!*budget) && x->left)
			return -EAGAIN;
	}
	return 0;
}

static void iter_local(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_iter *it,
		       uint32_t access)
{
	bool inl = w->flags & IBV_SEND_INLINE;

	it->peer = inl ? NULL : qp->proc->self;
	it->sge = w->sge;
	it->data = w->data;
	it->num_sge = w->num_sge;
	it->idx = 0;
	it->off = 0;
	it->pd = qp->pd->num;
	it->access = access;
}

static void iter_remote(struct uodp_exec *x, struct uodp_swqe *w, struct uodp_iter *it,
			uint32_t access)
{
	x->remote.addr = w->raddr;
	x->remote.length = w->length;
	x->remote.lkey = w->rkey;
	it->peer = x->dest.peer;
	it->sge = &x->remote;
	it->num_sge = 1;
	it->idx = 0;
	it->off = 0;
	it->pd = x->dest.qp->pd;
	it->access = access;
}

/* ---- the other end ---- */

static bool state_receives(uint32_t state)
{
	return state == IBV_QPS_RTR || state == IBV_QPS_RTS || state == IBV_QPS_SQD ||
	       state == IBV_QPS_SQE;
}

static bool dest_receives(const struct uodp_dest *dest)
{
	return odp_peer_alive(dest->peer) &&
	       /* acquire: with the state come the fields set before it */
	       state_receives(atomic_load_explicit(&dest->qp->state, memory_order_acquire)) &&
	       atomic_load_explicit(&dest->qp->gen, memory_order_relaxed) == dest->gen;
}

/* Packets reach a device by its address. */
static bool addressed(const struct uodp_dest *dest, const uint8_t dgid[16])
{
	return !memcmp(dgid, dest->qp->gids[0], 16) || !memcmp(dgid, dest->qp->gids[1], 16);
}

/* Find the QP that this one is connected to, once it is there and means us. */
static bool conn_make(struct uodp_qp *qp)
{
	struct uodp_dest dest;

	if (uodp_dest_find(qp->proc, qp->attr.dest_qp_num, &dest) || !dest_receives(&dest))
		return false;
	dest.epoch = atomic_load_explicit(&dest.qp->epoch, memory_order_relaxed);
	/* Packets with another PSN than the responder waits for are not taken. */
	if (dest.qp->type != qp->shm->type || dest.qp->dest_qpn != qp->shm->qpn ||
	    dest.qp->rq_psn != qp->shm->sq_psn || !addressed(&dest, qp->attr.ah_attr.grh.dgid.raw))
		return false;
	qp->conn = dest;
	return true;
}

static bool conn_ready(struct uodp_qp *qp)
{
	struct uodp_dest *conn = &qp->conn;

	if (uodp_unlikely(!conn->qp) && !conn_make(qp))
		return false;
	return dest_receives(conn) &&
	       atomic_load_explicit(&conn->qp->epoch, memory_order_relaxed) == conn->epoch;
}

static bool connected(const struct uodp_qp *qp)
{
	return qp->vqp.qp.qp_type == IBV_QPT_RC;
}

/* Nobody answers: the transport timer (IBTA 9.7.6.1.3) ends it. */
static int wait_peer(struct uodp_qp *qp, struct uodp_exec *x)
{
	uint64_t now = odp_now(), next = now + POLL_PEER_NS;

	if (!x->give_up)
		x->give_up = qp->attr.timeout ?
				     now + (4096ull << qp->attr.timeout) * (qp->attr.retry_cnt + 1u) :
				     UINT64_MAX;
	if (now >= x->give_up)
		return done(x, IBV_WC_RETRY_EXC_ERR);
	return wait_until(x, next < x->give_up ? next : x->give_up);
}

static int wait_rnr(struct uodp_qp *qp, struct uodp_exec *x)
{
	uint64_t now = odp_now();

	if (now >= x->rnr_until) {
		if (!x->rnr_left)
			return done(x, IBV_WC_RNR_RETRY_EXC_ERR);
		if (x->rnr_left != 7) /* 7: for ever */
			x->rnr_left--;
		uodp_count(&qp->shm->rnr, 1);
		x->rnr_until = now + rnr_10us[x->dest.qp->min_rnr_timer & 31] * 10000ull;
	}
	return wait_until(x, x->rnr_until);
}

/* The responder answers a fault as it does a missing receive. Bytes that arrived
 * since the last time were acknowledged: the count begins anew. */
static int wait_fault(struct uodp_qp *qp, struct uodp_exec *x)
{
	if (x->rnr_at && x->left < x->rnr_at)
		x->rnr_left = qp->attr.rnr_retry;
	x->rnr_at = x->left;
	x->rnr_fault = true;
	return wait_rnr(qp, x);
}

/* THEIRS: if it is a fault, it is the responder's. */
static int move_again(struct uodp_qp *qp, struct uodp_exec *x, uint64_t budget, bool theirs)
{
	/* Out of budget: at once, but by somebody else; else a page is busy. */
	if (!x->fault_until)
		return wait_until(x, budget ? odp_now() + POLL_BUSY_NS : 0);
	/* Our own fault stalls the queue; UC and UD have no NAKs. */
	return theirs && connected(qp) ? wait_fault(qp, x) : wait_until(x, x->fault_until);
}

/* ---- errors that the responder finds ---- */

/* The receive that the message used ends with STATUS too, if it used one. */
static void recv_fail(struct uodp_qp *qp, struct uodp_exec *x, enum ibv_wc_status status)
{
	struct uodp_cqe cqe = { .status = status, .opcode = IBV_WC_RECV };

	uodp_deliver_end(qp, x, &cqe, true);
}

/* What fails at a process that has just ended is no answer of its. */
static bool responder_ended(const struct uodp_exec *x)
{
	return !odp_peer_check(x->dest.peer);
}

/* Class C: an RC responder sends a NAK and goes to ERR; others drop the
 * message in silence. */
static int refuse(struct uodp_qp *qp, struct uodp_exec *x, enum ibv_wc_status status)
{
	if (!connected(qp))
		return done(x, IBV_WC_SUCCESS);
	if (responder_ended(x))
		return wait_peer(qp, x);
	uodp_deliver_error(qp, &x->dest,
			   status == IBV_WC_REM_ACCESS_ERR ? IBV_EVENT_QP_ACCESS_ERR :
							     IBV_EVENT_QP_REQ_ERR);
	return done(x, status);
}

/* Bytes could not be written into the receive's buffer (class A). */
static int recv_broken(struct uodp_qp *qp, struct uodp_exec *x)
{
	if (connected(qp) && responder_ended(x))
		return wait_peer(qp, x);
	recv_fail(qp, x, IBV_WC_LOC_QP_OP_ERR);
	uodp_deliver_error(qp, &x->dest, IBV_EVENT_QP_FATAL);
	return done(x, connected(qp) ? IBV_WC_REM_OP_ERR : IBV_WC_SUCCESS);
}

static int recv_too_small(struct uodp_qp *qp, struct uodp_exec *x)
{
	/* UC and UD: dropped; only an SRQ's receive, already taken, ends. */
	if (!connected(qp)) {
		if (x->dest.qp->srq)
			recv_fail(qp, x, IBV_WC_LOC_LEN_ERR);
		return done(x, IBV_WC_SUCCESS);
	}
	recv_fail(qp, x, IBV_WC_LOC_LEN_ERR);
	return refuse(qp, x, IBV_WC_REM_INV_REQ_ERR);
}

/* ---- the operations ---- */

/* Take a receive: 0 (go on), or what step() is to return. */
static int need_recv(struct uodp_qp *qp, struct uodp_exec *x, uint32_t length, bool *go_on)
{
	int ret = uodp_deliver_begin(qp, x, length);

	*go_on = false;
	switch (ret) {
	case 0:
		*go_on = true;
		return 0;
	case -EAGAIN:
		return connected(qp) ? wait_rnr(qp, x) : done(x, IBV_WC_SUCCESS);
	case -EMSGSIZE:
		return recv_too_small(qp, x);
	case -EINVAL:
		return recv_broken(qp, x);
	default:
		return connected(qp) ? wait_peer(qp, x) : done(x, IBV_WC_SUCCESS);
	}
}

static bool has_imm(const struct uodp_swqe *w)
{
	return w->opcode == IBV_WR_SEND_WITH_IMM || w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

static int send_finish(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	bool ud = qp->vqp.qp.qp_type == IBV_QPT_UD;
	struct uodp_cqe cqe = {
		.status = IBV_WC_SUCCESS,
		.opcode = w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM ? IBV_WC_RECV_RDMA_WITH_IMM :
								    IBV_WC_RECV,
		.byte_len = w->length + (ud ? 40 : 0),
		.imm = w->imm,
		.src_qp = qp->shm->qpn,
		.wc_flags = (ud ? IBV_WC_GRH : 0) | (has_imm(w) ? IBV_WC_WITH_IMM : 0),
	};
	int ret;

	if (w->opcode == IBV_WR_SEND_WITH_INV) {
		cqe.wc_flags |= IBV_WC_WITH_INV;
		if (odp_key_invalidate(x->dest.peer, w->imm, x->dest.qp->pd)) {
			/* Class J: acknowledged, and the responder's QP stops. */
			recv_fail(qp, x, IBV_WC_REM_INV_REQ_ERR);
			uodp_deliver_error(qp, &x->dest, IBV_EVENT_QP_ACCESS_ERR);
			return done(x, IBV_WC_SUCCESS);
		}
	}
	ret = uodp_deliver_end(qp, x, &cqe, w->flags & IBV_SEND_SOLICITED);
	if (ret == -ENOTCONN && connected(qp)) {
		x->phase = UODP_PHASE_NEW; /* lost: it stays unacknowledged */
		return wait_peer(qp, x);
	}
	if (ret == -EOVERFLOW)
		uodp_deliver_error(qp, &x->dest, IBV_EVENT_QP_FATAL);
	return done(x, IBV_WC_SUCCESS);
}

static int send_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		     uint64_t *budget)
{
	enum side failed;
	bool go_on;
	int ret;

	if (x->phase == UODP_PHASE_NEW) {
		ret = need_recv(qp, x, w->length, &go_on);
		if (!go_on)
			return ret;
		iter_local(qp, w, &x->src, 0);
		x->left = w->length;
		x->phase = UODP_PHASE_MOVE;
	}
	ret = move(x, budget, &failed);
	if (ret == -EAGAIN)
		return move_again(qp, x, *budget, failed == SIDE_DST);
	if (ret)
		return failed == SIDE_SRC ? done(x, IBV_WC_LOC_PROT_ERR) : recv_broken(qp, x);
	return send_finish(qp, w, x);
}

/*
 * The usual case, without iterators: one local piece, one copy. False leaves
 * everything as it was, for the general way to find out what is the matter.
 */
static bool rdma_at_once(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, bool write,
			 int *end)
{
	uint32_t there = write ? ODP_ACCESS_REMOTE_WRITE : ODP_ACCESS_REMOTE_READ;
	struct odp_span local, remote;
	size_t n = w->length;
	int ret;

	if (w->flags & IBV_SEND_INLINE)
		odp_span_private(&local, w->data);
	else if (w->num_sge != 1 || !n ||
		 odp_span_region(&local, qp->proc->self, w->sge[0].lkey, qp->pd->num,
				 w->sge[0].addr, n, write ? 0 : ODP_ACCESS_LOCAL_WRITE))
		return false;
	if (!n || n > UODP_AT_ONCE ||
	    odp_span_region(&remote, x->dest.peer, w->rkey, x->dest.qp->pd, w->raddr, n, there))
		return false;
	ret = odp_copy(write ? &remote : &local, write ? &local : &remote, &n);
	/* Not to be asked again: a fault may have been made to fail this once. */
	if (uodp_unlikely(ret == -EFAULT))
		*end = local.err ? done(x, IBV_WC_LOC_PROT_ERR) :
				   refuse(qp, x, IBV_WC_REM_ACCESS_ERR);
	else if (ret || n != w->length)
		return false;
	else
		*end = done(x, IBV_WC_SUCCESS);
	return true;
}

static int write_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		      uint64_t *budget)
{
	bool imm = w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM, go_on;
	enum side failed;
	int ret;

	if (x->phase == UODP_PHASE_NEW) {
		if (!(x->dest.qp->access & ODP_ACCESS_REMOTE_WRITE))
			return refuse(qp, x, IBV_WC_REM_INV_REQ_ERR);
		if (imm) {
			ret = need_recv(qp, x, 0, &go_on);
			if (!go_on)
				return ret;
		} else if (uodp_likely(rdma_at_once(qp, w, x, true, &ret))) {
			return ret;
		}
		iter_local(qp, w, &x->src, 0);
		iter_remote(x, w, &x->dst, ODP_ACCESS_REMOTE_WRITE);
		x->left = w->length;
		x->phase = UODP_PHASE_MOVE;
	}
	ret = move(x, budget, &failed);
	if (uodp_unlikely(ret)) {
		if (ret == -EAGAIN)
			return move_again(qp, x, *budget, failed == SIDE_DST);
		if (failed == SIDE_SRC)
			return done(x, IBV_WC_LOC_PROT_ERR);
		return refuse(qp, x, IBV_WC_REM_ACCESS_ERR);
	}
	return imm ? send_finish(qp, w, x) : done(x, IBV_WC_SUCCESS);
}

static int read_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		     uint64_t *budget)
{
	enum side failed;
	int ret;

	if (x->phase == UODP_PHASE_NEW) {
		if (!(x->dest.qp->access & ODP_ACCESS_REMOTE_READ) ||
		    !x->dest.qp->max_dest_rd_atomic)
			return refuse(qp, x, IBV_WC_REM_INV_REQ_ERR);
		if (uodp_likely(rdma_at_once(qp, w, x, false, &ret)))
			return ret;
		iter_remote(x, w, &x->src, ODP_ACCESS_REMOTE_READ);
		iter_local(qp, w, &x->dst, ODP_ACCESS_LOCAL_WRITE);
		x->left = w->length;
		x->phase = UODP_PHASE_MOVE;
	}
	ret = move(x, budget, &failed);
	if (ret == -EAGAIN)
		return move_again(qp, x, *budget, failed == SIDE_SRC);
	if (ret)
		return failed == SIDE_DST ? done(x, IBV_WC_LOC_PROT_ERR) :
					    refuse(qp, x, IBV_WC_REM_ACCESS_ERR);
	return done(x, IBV_WC_SUCCESS);
}

static int atomic_run(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	enum odp_atomic_op op = w->opcode == IBV_WR_ATOMIC_CMP_AND_SWP ? ODP_CMP_SWAP :
									 ODP_FETCH_ADD;
	struct odp_span span;
	uint64_t old;
	int ret;

	if (!(x->dest.qp->access & ODP_ACCESS_REMOTE_ATOMIC) || !x->dest.qp->max_dest_rd_atomic)
		return refuse(qp, x, IBV_WC_REM_INV_REQ_ERR);
	ret = odp_span_region(&span, x->dest.peer, w->rkey, x->dest.qp->pd, w->raddr,
			      sizeof(old), ODP_ACCESS_REMOTE_ATOMIC);
	if (ret)
		return refuse(qp, x, IBV_WC_REM_ACCESS_ERR);
	if (w->raddr & 7)
		return refuse(qp, x, IBV_WC_REM_INV_REQ_ERR);
	ret = odp_atomic(&span, op, w->compare_add, w->swap, &old);
	if (ret == -EAGAIN && span.err) {
		x->left = sizeof(old);
		return wait_fault(qp, x);
	}
	if (ret == -EAGAIN)
		return wait_until(x, odp_now() + POLL_BUSY_NS);
	if (ret)
		return refuse(qp, x, IBV_WC_REM_ACCESS_ERR);
	memcpy(x->grh, &old, sizeof(old));
	x->phase = UODP_PHASE_MOVE;
	return 0;
}

static int atomic_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		       uint64_t *budget)
{
	enum side failed;
	int ret;

	/* The operation runs once; the old value may have to wait for its page. */
	if (x->phase == UODP_PHASE_NEW) {
		ret = atomic_run(qp, w, x);
		if (ret || x->phase == UODP_PHASE_NEW)
			return ret;
		x->src = (struct uodp_iter){ .data = x->grh };
		iter_local(qp, w, &x->dst, ODP_ACCESS_LOCAL_WRITE);
		x->left = sizeof(uint64_t);
	}
	ret = move(x, budget, &failed);
	if (ret == -EAGAIN)
		return move_again(qp, x, *budget, false);
	return done(x, ret ? IBV_WC_LOC_PROT_ERR : IBV_WC_SUCCESS);
}

static int rc_uc_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
		      uint64_t *budget)
{
	if (uodp_unlikely(!conn_ready(qp)))
		return connected(qp) ? wait_peer(qp, x) : done(x, IBV_WC_SUCCESS);
	x->give_up = 0;
	if (uodp_unlikely(x->rnr_fault)) {
		if (odp_now() < x->rnr_until)
			return wait_until(x, x->rnr_until);
		x->rnr_fault = false;
	}
	if (x->phase == UODP_PHASE_NEW)
		x->dest = qp->conn;
	switch (w->opcode) {
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		return write_step(qp, w, x, budget);
	case IBV_WR_RDMA_READ:
		return read_step(qp, w, x, budget);
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return atomic_step(qp, w, x, budget);
	default:
		return send_step(qp, w, x, budget);
	}
}

/* ---- datagrams ---- */

static bool ud_dest(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	struct uodp_dest *dest = &x->dest;
	uint32_t qkey = w->remote_qkey;

	/* The last destination is remembered: most QPs talk to one. */
	if (qp->conn.qp && qp->conn.qpn == w->remote_qpn && dest_receives(&qp->conn))
		*dest = qp->conn;
	else if (uodp_dest_find(qp->proc, w->remote_qpn, dest) || !dest_receives(dest))
		return false;
	qp->conn = *dest;
	if (qkey & 0x80000000u) /* IBTA 10.2.5: the sender's own */
		qkey = qp->shm->qkey;
	return dest->qp->type == IBV_QPT_UD && dest->qp->qkey == qkey && addressed(dest, w->dgid);
}

static int ud_move_grh(struct uodp_exec *x, uint64_t *budget, enum side *failed)
{
	uint64_t left = x->left;
	struct uodp_iter src = x->src;
	int ret;

	x->src = (struct uodp_iter){ .data = x->grh, .off = (uint32_t)sizeof(x->grh) - x->grh_left };
	x->left = x->grh_left;
	ret = move(x, budget, failed);
	x->grh_left = (uint32_t)x->left;
	x->left = left;
	x->src = src;
	return ret;
}

static int ud_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget)
{
	enum side failed = SIDE_DST;
	bool go_on;
	int ret = 0;

	if (x->phase == UODP_PHASE_NEW) {
		/* IBTA C10-93.1.1: too long for the MTU is dropped without error. */
		if (w->length > UODP_MTU || !ud_dest(qp, w, x))
			return done(x, IBV_WC_SUCCESS);
		ret = need_recv(qp, x, w->length + 40, &go_on);
		if (!go_on)
			return ret;
		uodp_grh_fill(qp, w, x->grh);
		x->grh_left = sizeof(x->grh);
		iter_local(qp, w, &x->src, 0);
		x->left = w->length;
		x->phase = UODP_PHASE_MOVE;
	}
	if (!dest_receives(&x->dest))
		return done(x, IBV_WC_SUCCESS);
	if (x->grh_left)
		ret = ud_move_grh(x, budget, &failed);
	if (!ret)
		ret = move(x, budget, &failed);
	if (ret == -EAGAIN)
		return move_again(qp, x, *budget, failed == SIDE_DST);
	if (ret)
		return failed == SIDE_SRC ? done(x, IBV_WC_LOC_PROT_ERR) : recv_broken(qp, x);
	return send_finish(qp, w, x);
}

/* ---- the queue ---- */

static void begin(struct uodp_qp *qp, struct uodp_exec *x)
{
	x->give_up = 0;
	x->rnr_until = 0;
	x->rnr_left = qp->attr.rnr_retry;
	x->rnr_fault = false;
	x->rnr_at = 0;
}

static int complete(struct uodp_qp *qp, struct uodp_swqe *w, enum ibv_wc_status status)
{
	struct uodp_cqe cqe;

	if (status == IBV_WC_SUCCESS) {
		uodp_count(&qp->shm->tx_msgs, 1);
		uodp_count(&qp->shm->tx_bytes, w->length);
		if (!qp->sq_sig_all && !(w->flags & IBV_SEND_SIGNALED))
			return 0;
	}
	cqe = (struct uodp_cqe){ .wr_id = w->wr_id,
				 .status = status,
				 .opcode = wc_opcode[w->opcode],
				 .byte_len = w->length,
				 .qp_num = qp->shm->qpn };
	return uodp_cq_push(qp->proc, qp->proc->self, qp->send_cq->index, &cqe, false);
}

static void drained(struct uodp_qp *qp)
{
	if (qp->sqd_notify) {
		qp->sqd_notify = false;
		uodp_event_raise(qp->proc, qp->proc->self, IBV_EVENT_SQ_DRAINED, qp->index);
	}
}

static int step(struct uodp_qp *qp, struct uodp_swqe *w, uint64_t *budget)
{
	if (qp->vqp.qp.qp_type == IBV_QPT_UD)
		return ud_step(qp, w, &qp->x, budget);
	return rc_uc_step(qp, w, &qp->x, budget);
}

void uodp_sq_run(struct uodp_qp *qp)
{
	uint64_t budget = RUN_BUDGET;
	enum ibv_wc_status status;
	struct uodp_swqe *w;
	uint32_t state;

	while (qp->sq_tail != qp->sq_head) {
		/* acquire: the responder side may have moved us to ERR */
		state = atomic_load_explicit(&qp->shm->state, memory_order_acquire);
		w = uodp_sq_at(qp, qp->sq_tail);
		if (uodp_likely(state == IBV_QPS_RTS) ||
		    (state == IBV_QPS_SQD && qp->x.phase != UODP_PHASE_NEW)) {
			if (qp->x.phase == UODP_PHASE_NEW && !qp->begun) {
				begin(qp, &qp->x);
				qp->begun = true;
			}
			if (step(qp, w, &budget)) {
				uodp_pending_set(qp);
				return;
			}
			status = qp->x.status;
		} else if (state == IBV_QPS_ERR || state == IBV_QPS_SQE) {
			status = IBV_WC_WR_FLUSH_ERR;
		} else {
			break;
		}
		qp->x.phase = UODP_PHASE_NEW;
		qp->begun = false;
		qp->sq_tail++;
		if (uodp_unlikely(complete(qp, w, status) == -EOVERFLOW) ||
		    (uodp_unlikely(status) && status != IBV_WC_WR_FLUSH_ERR))
			uodp_qp_error(qp);
	}
	uodp_pending_clear(qp);
	if (uodp_unlikely(qp->sqd_notify) &&
	    atomic_load_explicit(&qp->shm->state, memory_order_relaxed) == IBV_QPS_SQD)
		drained(qp);
}
