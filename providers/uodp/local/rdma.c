/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* RDMA WRITE and READ, and atomics. */
#include <errno.h>

#include "local_step.h"

/*
 * The usual case, without iterators: one local piece, one copy. False leaves
 * everything as it was, for the general way to find out what is the matter.
 */
static inline bool rdma_at_once(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
				bool write, int *end)
{
	uint32_t there = write ? ODP_ACCESS_REMOTE_WRITE : ODP_ACCESS_REMOTE_READ;
	struct odp_span *local = &x->own, remote;
	size_t n = w->length;
	int ret;

	if (n - 1 >= UODP_AT_ONCE || w->num_sge != 1 ||
	    uodp_span_remote(&remote, &x->dest, w->rkey, w->raddr, n, there))
		return false;
	/* What a WRITE sends has been checked already. */
	if (!write && odp_span_region(local, qp->proc->self, w->sge[0].lkey, qp->pd->num,
				      w->sge[0].addr, n, ODP_ACCESS_LOCAL_WRITE))
		return false;
	uodp_span_guard(&remote, &x->dest);
	ret = odp_copy(write ? &remote : local, write ? local : &remote, &n);
	/* Not to be asked again: a fault may have been made to fail this once. */
	if (uodp_unlikely(ret == -EFAULT))
		*end = local->err ? uodp_exec_done(x, IBV_WC_LOC_PROT_ERR)
				  : uodp_refuse(qp, w, x, IBV_WC_REM_ACCESS_ERR);
	else if (ret || n != w->length)
		return false;
	else
		*end = uodp_exec_done(x, IBV_WC_SUCCESS);
	return true;
}

/* Begin a WRITE in the general way: what allows it, then a receive. */
static int write_begin(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, bool *go_on)
{
	int ret;

	*go_on = false;
	if (uodp_remote_check(x, w, ODP_ACCESS_REMOTE_WRITE))
		return uodp_refuse(qp, w, x, IBV_WC_REM_ACCESS_ERR);
	if (w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
		ret = uodp_need_recv(qp, x, 0, go_on);
		if (!*go_on)
			return ret;
	}
	*go_on = true;
	uodp_iter_local(qp, w, &x->src, 0);
	uodp_iter_remote(x, w, &x->dst, ODP_ACCESS_REMOTE_WRITE);
	x->left = w->length;
	x->phase = UODP_PHASE_MOVE;
	return 0;
}

int uodp_write_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget)
{
	bool imm = w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM, go_on;
	enum uodp_side failed;
	int ret;

	if (x->phase == UODP_PHASE_NEW) {
		if (!(uodp_attr(&x->dest.qp->access) & ODP_ACCESS_REMOTE_WRITE))
			return uodp_refuse(qp, w, x, IBV_WC_REM_INV_REQ_ERR);
		if (!imm && uodp_likely(rdma_at_once(qp, w, x, true, &ret)))
			return ret;
		ret = write_begin(qp, w, x, &go_on);
		if (!go_on)
			return ret;
	}
	ret = uodp_move(x, budget, &failed);
	if (uodp_unlikely(ret)) {
		if (ret == -EAGAIN)
			return uodp_wait_move(qp, x, *budget, failed == UODP_DST);
		if (failed == UODP_SRC)
			return uodp_exec_done(x, IBV_WC_LOC_PROT_ERR);
		return uodp_refuse(qp, w, x, IBV_WC_REM_ACCESS_ERR);
	}
	return imm ? uodp_send_finish(qp, w, x) : uodp_exec_done(x, IBV_WC_SUCCESS);
}

/*
 * READ and atomics write to their SGEs what the responder has answered: hardware looks
 * at these keys when the answer is there, and so reports what is wrong at the responder
 * first (rdma-unit-test: ReadInvalidRKeyAndInvalidLKey, FetchAddUnalignedInvalidLKey).
 */
static int read_begin(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, bool *go_on)
{
	*go_on = false;
	if (uodp_remote_check(x, w, ODP_ACCESS_REMOTE_READ))
		return uodp_refuse(qp, w, x, IBV_WC_REM_ACCESS_ERR);
	if (!uodp_own_sges_ok(qp, w, ODP_ACCESS_LOCAL_WRITE))
		return uodp_exec_done(x, IBV_WC_LOC_PROT_ERR);
	*go_on = true;
	uodp_iter_remote(x, w, &x->src, ODP_ACCESS_REMOTE_READ);
	uodp_iter_local(qp, w, &x->dst, ODP_ACCESS_LOCAL_WRITE);
	x->left = w->length;
	x->phase = UODP_PHASE_MOVE;
	return 0;
}

int uodp_read_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget)
{
	enum uodp_side failed;
	bool go_on;
	int ret;

	if (x->phase == UODP_PHASE_NEW) {
		if (!(uodp_attr(&x->dest.qp->access) & ODP_ACCESS_REMOTE_READ) ||
		    !uodp_attr(&x->dest.qp->max_dest_rd_atomic))
			return uodp_refuse(qp, w, x, IBV_WC_REM_INV_REQ_ERR);
		if (uodp_likely(rdma_at_once(qp, w, x, false, &ret)))
			return ret;
		ret = read_begin(qp, w, x, &go_on);
		if (!go_on)
			return ret;
	}
	ret = uodp_move(x, budget, &failed);
	if (ret == -EAGAIN)
		return uodp_wait_move(qp, x, *budget, failed == UODP_SRC);
	if (ret)
		return failed == UODP_DST ? uodp_exec_done(x, IBV_WC_LOC_PROT_ERR)
					  : uodp_refuse(qp, w, x, IBV_WC_REM_ACCESS_ERR);
	return uodp_exec_done(x, IBV_WC_SUCCESS);
}

/* *SPAN, if W may be done there: 0, or what is wrong. */
static enum ibv_wc_status atomic_check(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
				       struct odp_span *span)
{
	if (!(uodp_attr(&x->dest.qp->access) & ODP_ACCESS_REMOTE_ATOMIC) ||
	    !uodp_attr(&x->dest.qp->max_dest_rd_atomic) || w->raddr & 7)
		return IBV_WC_REM_INV_REQ_ERR;
	if (uodp_span_remote(span, &x->dest, w->rkey, w->raddr, sizeof(x->old),
			     ODP_ACCESS_REMOTE_ATOMIC))
		return IBV_WC_REM_ACCESS_ERR;
	uodp_span_guard(span, &x->dest);
	/* Hardware changes the word all the same; nobody can want that. */
	return uodp_own_sges_ok(qp, w, ODP_ACCESS_LOCAL_WRITE) ? IBV_WC_SUCCESS
							       : IBV_WC_LOC_PROT_ERR;
}

static int atomic_run(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x)
{
	enum odp_atomic_op op =
		w->opcode == IBV_WR_ATOMIC_CMP_AND_SWP ? ODP_CMP_SWAP : ODP_FETCH_ADD;
	enum ibv_wc_status status;
	struct odp_span span;
	int ret;

	status = atomic_check(qp, w, x, &span);
	if (status == IBV_WC_LOC_PROT_ERR)
		return uodp_exec_done(x, status);
	if (status)
		return uodp_refuse(qp, w, x, status);
	ret = odp_atomic(&span, op, w->compare_add, w->swap, &x->old);
	if (ret == -EAGAIN && span.err) {
		x->left = sizeof(x->old);
		return uodp_wait_fault(qp, x);
	}
	if (ret == -EAGAIN)
		return uodp_exec_wait(x, odp_now() + UODP_POLL_BUSY_NS);
	if (ret)
		return uodp_refuse(qp, w, x, IBV_WC_REM_ACCESS_ERR);
	x->phase = UODP_PHASE_MOVE;
	return 0;
}

int uodp_atomic_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x, uint64_t *budget)
{
	enum uodp_side failed;
	int ret;

	/* The operation runs once; the old value may have to wait for its page. */
	if (x->phase == UODP_PHASE_NEW) {
		ret = atomic_run(qp, w, x);
		if (ret || x->phase == UODP_PHASE_NEW)
			return ret;
		x->src = (struct uodp_iter){.data = (char *)&x->old};
		uodp_iter_local(qp, w, &x->dst, ODP_ACCESS_LOCAL_WRITE);
		x->left = sizeof(x->old);
	}
	ret = uodp_move(x, budget, &failed);
	if (ret == -EAGAIN)
		return uodp_wait_move(qp, x, *budget, false);
	return uodp_exec_done(x, ret ? IBV_WC_LOC_PROT_ERR : IBV_WC_SUCCESS);
}

/* ---- ATOMIC WRITE (IBTA annex A19): eight bytes that are seen all at once ---- */

/* Its value, which may have to wait for its page. */
static int atomic_write_gather(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
			       uint64_t *budget)
{
	enum uodp_side failed;

	if (x->phase == UODP_PHASE_NEW) {
		uodp_iter_local(qp, w, &x->src, 0);
		x->dst = (struct uodp_iter){.data = (char *)&x->old};
		x->left = sizeof(x->old);
		x->phase = UODP_PHASE_GATHER;
	}
	return uodp_move(x, budget, &failed);
}

static enum ibv_wc_status atomic_write_check(struct uodp_swqe *w, struct uodp_exec *x,
					     struct odp_span *span)
{
	/* A WRITE by its right, and an atomic in what it takes of the responder. */
	if (!(uodp_attr(&x->dest.qp->access) & ODP_ACCESS_REMOTE_WRITE) ||
	    !uodp_attr(&x->dest.qp->max_dest_rd_atomic) || w->raddr & 7)
		return IBV_WC_REM_INV_REQ_ERR;
	if (uodp_span_remote(span, &x->dest, w->rkey, w->raddr, sizeof(x->old),
			     ODP_ACCESS_REMOTE_WRITE))
		return IBV_WC_REM_ACCESS_ERR;
	uodp_span_guard(span, &x->dest);
	return IBV_WC_SUCCESS;
}

int uodp_atomic_write_step(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_exec *x,
			   uint64_t *budget)
{
	enum ibv_wc_status status;
	struct odp_span span;
	uint64_t old;
	int ret;

	if (w->length != sizeof(x->old))
		return uodp_exec_done(x, IBV_WC_LOC_LEN_ERR);
	ret = atomic_write_gather(qp, w, x, budget);
	if (ret == -EAGAIN)
		return uodp_wait_move(qp, x, *budget, false);
	if (ret)
		return uodp_exec_done(x, IBV_WC_LOC_PROT_ERR);
	status = atomic_write_check(w, x, &span);
	if (status)
		return uodp_refuse(qp, w, x, status);
	ret = odp_atomic(&span, ODP_STORE, x->old, 0, &old);
	if (ret == -EAGAIN && span.err)
		return uodp_wait_fault(qp, x);
	if (ret == -EAGAIN)
		return uodp_exec_wait(x, odp_now() + UODP_POLL_BUSY_NS);
	return ret ? uodp_refuse(qp, w, x, IBV_WC_REM_ACCESS_ERR)
		   : uodp_exec_done(x, IBV_WC_SUCCESS);
}
