/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Moving bytes between lists of SGEs, as far as that goes now. */
#include <errno.h>

#include "local_step.h"

/* An invalidation, or another thread's fault, is over in a microsecond or two:
 * shorter than it takes to hand the work over. */
#define COPY_SPINS 64

static int iter_span(struct uodp_iter *it, struct odp_span *span, size_t *avail)
{
	const struct uodp_sge *sge;
	int ret;

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
	ret = odp_span_region(span, it->peer, sge->lkey, it->pd, sge->addr + it->off,
			      sge->length - it->off, it->access);
	if (uodp_unlikely(ret) && it->to)
		ret = uodp_span_window(span, it->to, sge->lkey, sge->addr + it->off,
				       sge->length - it->off, it->access);
	if (it->to)
		uodp_span_guard(span, it->to);
	return ret;
}

int uodp_span_window(struct odp_span *span, const struct uodp_dest *dest, uint32_t rkey,
		     uint64_t addr, uint64_t length, uint32_t access)
{
	return odp_span_window(span, dest->mem, rkey, dest->pd, uodp_qp_user(dest->qpn, dest->gen),
			       addr, length, access);
}

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

int uodp_move(struct uodp_exec *x, uint64_t *budget, enum uodp_side *failed)
{
	struct odp_span src, dst;
	size_t n;
	int ret;

	x->fault_until = 0;
	while (x->left) {
		n = x->left;
		*failed = UODP_SRC;
		ret = iter_span(&x->src, &src, &n);
		if (uodp_unlikely(ret))
			return ret;
		*failed = UODP_DST;
		ret = iter_span(&x->dst, &dst, &n);
		if (uodp_unlikely(ret))
			return ret;
		ret = copy_some(&dst, &src, &n);
		if (uodp_unlikely(ret)) {
			*failed = src.err ? UODP_SRC : UODP_DST;
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

void uodp_iter_local(struct uodp_qp *qp, struct uodp_swqe *w, struct uodp_iter *it, uint32_t access)
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
	it->to = NULL;
}

void uodp_iter_remote(struct uodp_exec *x, struct uodp_swqe *w, struct uodp_iter *it,
		      uint32_t access)
{
	x->remote.addr = w->raddr;
	x->remote.length = w->length;
	x->remote.lkey = w->rkey;
	it->peer = x->dest.mem;
	it->sge = &x->remote;
	it->num_sge = 1;
	it->idx = 0;
	it->off = 0;
	it->pd = x->dest.pd;
	it->access = access;
	it->to = &x->dest;
}

int uodp_remote_check(const struct uodp_exec *x, const struct uodp_swqe *w, uint32_t access)
{
	struct odp_span span;

	return uodp_span_remote(&span, &x->dest, w->rkey, w->raddr, w->length, access);
}
