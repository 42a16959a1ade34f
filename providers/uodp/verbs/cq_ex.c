/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Extended CQs: completions that are read field by field.
 *
 * ibv_start_poll() takes the CQ's lock and ibv_end_poll() gives it back, as on mlx5, so
 * that the fields are those of one thread's completion; a CQ of one thread has no lock.
 * A completion is the program's from the call that found it: it is copied, and its slot
 * is free for the next.
 *
 * The raw clock is CLOCK_MONOTONIC in nanoseconds, which all processes share, whoever
 * pushed the completion. ibv_query_rt_values_ex(3) gives it in tv_nsec alone, as mlx5
 * gives its cycles: programs take it for that.
 */
#include <errno.h>
#include <time.h>

#include "queue.h"

#define WC_FLAGS                                                                                   \
	(IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP |                             \
	 IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK)
#define STAMPS (IBV_WC_EX_WITH_COMPLETION_TIMESTAMP | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK)

static struct uodp_cq *to_cq(struct ibv_cq_ex *cqx)
{
	return to_uodp_cq(ibv_cq_ex_to_cq(cqx));
}

static int64_t wall_less_monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec - (int64_t)odp_now();
}

/* The next completion becomes the current one; ENOENT: there is none. */
static int take(struct ibv_cq_ex *cqx)
{
	struct uodp_cq *cq = to_cq(cqx);
	struct uodp_cq_shm *shm = cq->shm;
	uint32_t cons = atomic_load_explicit(&shm->cons, memory_order_relaxed);

	/* acquire: pairs with the release of prod in push_locked() */
	if (atomic_load_explicit(&shm->prod, memory_order_acquire) == cons)
		return ENOENT;
	cq->cur = cq->ring[cons & cq->mask];
	/* release: the slot has been read, producers may reuse it */
	atomic_store_explicit(&shm->cons, cons + 1, memory_order_release);
	cqx->wr_id = cq->cur.wr_id;
	cqx->status = cq->cur.status;
	return 0;
}

static int start(struct ibv_cq_ex *cqx, const struct ibv_poll_cq_attr *attr)
{
	struct uodp_cq *cq = to_cq(cqx);

	if (attr->comp_mask)
		return EINVAL;
	/* As ibv_poll_cq(): a poller lends its CPU to sends that wait. */
	if (uodp_cq_looks_empty(cq)) {
		if (uodp_likely(!atomic_load_explicit(&cq->proc->npending, memory_order_relaxed)))
			return ENOENT;
		uodp_progress(cq->proc, false);
	}
	return 0;
}

static int start_poll_alone(struct ibv_cq_ex *cqx, struct ibv_poll_cq_attr *attr)
{
	int ret = start(cqx, attr);

	if (!ret)
		ret = take(cqx);
	if (!ret && cqx->read_completion_wallclock_ns)
		to_cq(cqx)->wall = wall_less_monotonic();
	return ret;
}

static int start_poll(struct ibv_cq_ex *cqx, struct ibv_poll_cq_attr *attr)
{
	struct uodp_cq *cq = to_cq(cqx);
	int ret = start(cqx, attr);

	if (ret)
		return ret;
	uodp_spin_lock(&cq->lock);
	ret = take(cqx);
	if (ret)
		uodp_spin_unlock(&cq->lock); /* ibv_end_poll() is not called then */
	else if (cqx->read_completion_wallclock_ns)
		cq->wall = wall_less_monotonic();
	return ret;
}

static void end_poll_alone(struct ibv_cq_ex *cqx)
{
	(void)cqx;
}

static void end_poll(struct ibv_cq_ex *cqx)
{
	uodp_spin_unlock(&to_cq(cqx)->lock);
}

static enum ibv_wc_opcode read_opcode(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.opcode;
}

static uint32_t read_vendor_err(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.vendor_err;
}

static unsigned int read_wc_flags(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.wc_flags;
}

static uint32_t read_byte_len(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.byte_len;
}

/* The invalidated rkey as well (ibv_wc_read_invalidated_rkey()). */
static __be32 read_imm_data(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.imm;
}

static uint32_t read_qp_num(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.qp_num;
}

static uint32_t read_src_qp(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.src_qp;
}

static uint32_t read_slid(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.slid;
}

static uint8_t read_dlid_path_bits(struct ibv_cq_ex *cqx)
{
	(void)cqx;
	return 0;
}

static uint8_t read_sl(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.sl;
}

static uint64_t read_completion_ts(struct ibv_cq_ex *cqx)
{
	return to_cq(cqx)->cur.timestamp;
}

/* By the difference of the clocks as it is now, as mlx5 takes it from the kernel: a step
 * of the wall clock in between counts. */
static uint64_t read_completion_wallclock_ns(struct ibv_cq_ex *cqx)
{
	const struct uodp_cq *cq = to_cq(cqx);

	return cq->cur.timestamp + (uint64_t)cq->wall;
}

static void fields_init(struct ibv_cq_ex *cqx, uint64_t want)
{
	cqx->read_opcode = read_opcode;
	cqx->read_vendor_err = read_vendor_err;
	cqx->read_wc_flags = read_wc_flags;
	if (want & IBV_WC_EX_WITH_BYTE_LEN)
		cqx->read_byte_len = read_byte_len;
	if (want & IBV_WC_EX_WITH_IMM)
		cqx->read_imm_data = read_imm_data;
	if (want & IBV_WC_EX_WITH_QP_NUM)
		cqx->read_qp_num = read_qp_num;
	if (want & IBV_WC_EX_WITH_SRC_QP)
		cqx->read_src_qp = read_src_qp;
	if (want & IBV_WC_EX_WITH_SLID)
		cqx->read_slid = read_slid;
	if (want & IBV_WC_EX_WITH_SL)
		cqx->read_sl = read_sl;
	if (want & IBV_WC_EX_WITH_DLID_PATH_BITS)
		cqx->read_dlid_path_bits = read_dlid_path_bits;
	if (want & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP)
		cqx->read_completion_ts = read_completion_ts;
	if (want & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK)
		cqx->read_completion_wallclock_ns = read_completion_wallclock_ns;
}

static int attr_check(const struct ibv_context *ctx, const struct ibv_cq_init_attr_ex *attr,
		      uint32_t *flags)
{
	*flags = attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS ? attr->flags : 0;
	/* VLAN tags, flow tags and tag matching belong to things that are not there. */
	if (attr->wc_flags & ~(uint64_t)WC_FLAGS)
		return -EOPNOTSUPP;
	if (attr->comp_mask & ~(uint32_t)(IBV_CQ_INIT_ATTR_MASK_FLAGS | IBV_CQ_INIT_ATTR_MASK_PD))
		return -EOPNOTSUPP;
	if (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_PD &&
	    (!attr->parent_domain || attr->parent_domain->context != ctx ||
	     uodp_pd_check(attr->parent_domain) || !to_uodp_pd(attr->parent_domain)->of))
		return -EINVAL;
	if (*flags &
	    ~(uint32_t)(IBV_CREATE_CQ_ATTR_SINGLE_THREADED | IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN))
		return -EOPNOTSUPP;
	return 0;
}

struct ibv_cq_ex *uodp_create_cq_ex(struct ibv_context *ctx, struct ibv_cq_init_attr_ex *attr)
{
	struct ibv_cq_ex *cqx;
	struct uodp_cq *cq;
	uint32_t flags, shm_flags = 0;
	int ret = attr_check(ctx, attr, &flags);

	if (attr->wc_flags & STAMPS)
		shm_flags |= UODP_CQ_STAMPED;
	if (!ret && flags & IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN)
		shm_flags |= UODP_CQ_LOSSY;
	if (!ret)
		ret = uodp_cq_make(ctx, attr, shm_flags, &cq);
	if (ret) {
		errno = -ret;
		return NULL;
	}
	if (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_PD) {
		cq->parent = to_uodp_pd(attr->parent_domain);
		atomic_fetch_add_explicit(&cq->parent->users, 1, memory_order_relaxed);
	}
	cqx = &cq->vcq.cq_ex;
	cqx->start_poll = start_poll;
	cqx->end_poll = end_poll;
	if (flags & IBV_CREATE_CQ_ATTR_SINGLE_THREADED) {
		cqx->start_poll = start_poll_alone;
		cqx->end_poll = end_poll_alone;
	}
	cqx->next_poll = take;
	fields_init(cqx, attr->wc_flags);
	return cqx;
}

static int dead_start_poll(struct ibv_cq_ex *cqx, struct ibv_poll_cq_attr *attr)
{
	(void)cqx, (void)attr;
	return uodp_fail(-EIO);
}

static int dead_next_poll(struct ibv_cq_ex *cqx)
{
	(void)cqx;
	return uodp_fail(-EIO);
}

/* Its fields stay: they are of memory that is there. */
void uodp_cq_ops_end(struct uodp_cq *cq)
{
	struct ibv_cq_ex *cqx = &cq->vcq.cq_ex;

	if (!cqx->start_poll)
		return;
	cqx->start_poll = dead_start_poll;
	cqx->next_poll = dead_next_poll;
	cqx->end_poll = end_poll_alone;
}

int uodp_query_rt_values(struct ibv_context *ctx, struct ibv_values_ex *values)
{
	int ret = uodp_context_enter(ctx);

	if (!ret && values->comp_mask & ~(uint32_t)IBV_VALUES_MASK_RAW_CLOCK)
		ret = -EOPNOTSUPP;
	if (!ret && values->comp_mask & IBV_VALUES_MASK_RAW_CLOCK)
		values->raw_clock = (struct timespec){.tv_nsec = (long)odp_now()};
	return uodp_fail(ret);
}
