/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A process that is stopped while it holds the lock of another's CQ, QP or SRQ: nothing
 * but the work that needs the lock waits, and that is done, once, when it goes on.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "pair.h"
#include "queue.h"
#include "suite.h"

#define LONG_MS 30000u
#define QUIET_MS 50u /* nothing comes for so long: it waits */

static struct ibv_context *ctx;
static struct child holder;

enum what { QP_LOCK, CQ_LOCK, SRQ_LOCK };

/* ---- the other process ---- */

static struct ibv_context *device_open(void)
{
	struct ibv_device **list;
	struct ibv_context *c;
	int n;

	setenv("UODP_ONLY", "1", 1);
	list = ibv_get_device_list(&n);
	if (!list || n < 1)
		return NULL;
	c = ibv_open_device(list[0]);
	ibv_free_device_list(list);
	return c;
}

static struct odp_lock *lock_of(const struct uodp_dest *d, enum what what, uint32_t index)
{
	switch (what) {
	case QP_LOCK:
		return &d->qp->lock;
	case CQ_LOCK:
		return &uodp_cq_shm(d->peer, index)->lock;
	default:
		return &uodp_srq_shm(d->peer, index)->rq.lock;
	}
}

/* For each three numbers (what, a QP number, an index): take the lock, stop, release it. */
static int hold(void)
{
	struct uodp_proc *proc;
	struct odp_lock *lock;
	struct uodp_dest d;
	long what, index;

	ctx = device_open();
	if (!ctx)
		return 1;
	proc = to_uodp_context(ctx)->proc;
	parent_put(1);
	while ((what = parent_get()) >= 0) {
		if (uodp_dest_find(proc, (uint32_t)parent_get(), &d))
			return 2;
		index = parent_get();
		lock = lock_of(&d, (enum what)what, (uint32_t)index);
		odp_lock(proc->odp, lock);
		raise(SIGSTOP);
		odp_unlock(lock);
		parent_put(1);
	}
	return 0;
}

/* It has the lock, and is stopped, when this returns. */
static void stop_with(enum what what, const struct ibv_qp *qp, uint32_t index)
{
	int status;

	child_put(&holder, what);
	child_put(&holder, qp->qp_num);
	child_put(&holder, index);
	CU_ASSERT_EQUAL_FATAL(waitpid(holder.pid, &status, WUNTRACED), holder.pid);
	CU_ASSERT_TRUE_FATAL(WIFSTOPPED(status));
}

static void go_on(void)
{
	kill(holder.pid, SIGCONT);
	CU_ASSERT_EQUAL_FATAL(child_get(&holder), 1);
}

static uint32_t cq_index(struct ibv_cq *cq)
{
	return to_uodp_cq(cq)->index;
}

/* What must go on meanwhile. */
static void others_work(void)
{
	CU_ASSERT_TRUE(pair_works(ctx));
}

static void one(struct ibv_cq *cq, uint64_t id, enum ibv_wc_status status)
{
	struct ibv_wc wc;

	CU_ASSERT_EQUAL_FATAL(end_poll(cq, &wc, 1, LONG_MS), 1);
	CU_ASSERT_EQUAL(wc.wr_id, id);
	CU_ASSERT_EQUAL(wc.status, status);
}

static void none(struct ibv_cq *cq)
{
	struct ibv_wc wc;

	CU_ASSERT_EQUAL(end_poll(cq, &wc, 1, QUIET_MS), 0);
}

static void drop(struct end *a, struct end *b)
{
	none(a->scq);
	none(b->rcq);
	CU_ASSERT_EQUAL(end_drop(a), 0);
	CU_ASSERT_EQUAL(end_drop(b), 0);
}

/* A message waits for the lock, and one behind it; both are there once afterwards. */
static void messages(enum ibv_qp_type type, enum ibv_wr_opcode op, enum what what, bool srq)
{
	const struct ibv_mr *remote;
	struct end a, b;
	uint32_t index;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, type, srq));
	remote = op == IBV_WR_RDMA_WRITE_WITH_IMM ? b.mr : NULL;
	index = what == SRQ_LOCK ? to_uodp_srq(b.srq)->index : cq_index(b.rcq);
	for (uint64_t id = 0; id < 3; id++)
		CU_ASSERT_EQUAL(end_recv(&b, 10 + id), 0);
	memset(a.buf, 7, END_LEN);
	stop_with(what, b.qp, index);
	CU_ASSERT_EQUAL(end_send(&a, op, 1, 64, remote, 0), 0);
	CU_ASSERT_EQUAL(end_send(&a, op, 2, 64, remote, 0), 0);
	none(a.scq);
	none(b.rcq);
	others_work();
	go_on();
	for (uint64_t id = 1; id <= 2; id++) {
		one(a.scq, id, IBV_WC_SUCCESS);
		one(b.rcq, 9 + id, IBV_WC_SUCCESS);
	}
	CU_ASSERT_EQUAL(b.buf[63], 7);
	CU_ASSERT_EQUAL(atomic_load(&to_uodp_qp(a.qp)->shm->tx_msgs), 2);
	CU_ASSERT_EQUAL(atomic_load(&to_uodp_qp(b.qp)->shm->rx_msgs), 2);
	drop(&a, &b);
}

static void qp_lock(void)
{
	messages(IBV_QPT_RC, IBV_WR_SEND, QP_LOCK, false);
	messages(IBV_QPT_RC, IBV_WR_RDMA_WRITE_WITH_IMM, QP_LOCK, false);
	messages(IBV_QPT_UC, IBV_WR_SEND, QP_LOCK, false);
}

static void recv_cq_lock(void)
{
	messages(IBV_QPT_RC, IBV_WR_SEND, CQ_LOCK, false);
	messages(IBV_QPT_RC, IBV_WR_RDMA_WRITE_WITH_IMM, CQ_LOCK, false);
}

static void srq_lock(void)
{
	messages(IBV_QPT_RC, IBV_WR_SEND, SRQ_LOCK, true);
}

/* The data is there; what waits is the completion, on the requester's own CQ. */
static void send_cq_lock(void)
{
	struct end a, b;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_RC, false));
	stop_with(CQ_LOCK, a.qp, cq_index(a.scq));
	for (uint64_t id = 1; id <= 3; id++) {
		a.buf[0] = (char)id;
		CU_ASSERT_EQUAL(end_send(&a, IBV_WR_RDMA_WRITE, id, 8, b.mr, 0), 0);
	}
	CU_ASSERT_EQUAL(b.buf[0], 1);
	none(a.scq);
	others_work();
	/* One that has ended has succeeded, whatever comes then. */
	CU_ASSERT_EQUAL(
		ibv_modify_qp(a.qp, &(struct ibv_qp_attr){.qp_state = IBV_QPS_ERR}, IBV_QP_STATE),
		0);
	go_on();
	one(a.scq, 1, IBV_WC_SUCCESS);
	one(a.scq, 2, IBV_WC_WR_FLUSH_ERR);
	one(a.scq, 3, IBV_WC_WR_FLUSH_ERR);
	CU_ASSERT_EQUAL(b.buf[0], 1);
	CU_ASSERT_EQUAL(atomic_load(&to_uodp_qp(a.qp)->shm->tx_msgs), 1);
	drop(&a, &b);
}

/* The key is invalidated once, though the completion is tried often. */
static void invalidates_once(void)
{
	struct end a, b;
	struct ibv_wc wc;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_RC, false));
	CU_ASSERT_EQUAL(end_recv(&b, 10), 0);
	stop_with(CQ_LOCK, b.qp, cq_index(b.rcq));
	CU_ASSERT_EQUAL(end_send(&a, IBV_WR_SEND_WITH_INV, 1, 8, NULL, b.mr->rkey), 0);
	none(a.scq);
	go_on();
	one(a.scq, 1, IBV_WC_SUCCESS);
	CU_ASSERT_EQUAL_FATAL(end_poll(b.rcq, &wc, 1, LONG_MS), 1);
	CU_ASSERT_EQUAL(wc.status, IBV_WC_SUCCESS);
	CU_ASSERT_EQUAL(wc.wc_flags, IBV_WC_WITH_INV);
	drop(&a, &b);
}

/* What the responder has to say comes when it can be said, with one event. */
static void refusal(enum what what)
{
	struct pollfd pfd = {.fd = ctx->async_fd, .events = POLLIN};
	struct ibv_async_event ev;
	struct ibv_mr none_such;
	struct end a, b;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_RC, false));
	none_such = *b.mr;
	none_such.rkey ^= 0x100;
	CU_ASSERT_EQUAL(end_recv(&b, 10), 0);
	CU_ASSERT_EQUAL(end_recv(&b, 11), 0);
	stop_with(what, b.qp, cq_index(b.rcq));
	CU_ASSERT_EQUAL(end_send(&a, IBV_WR_RDMA_WRITE_WITH_IMM, 1, 8, &none_such, 0), 0);
	none(a.scq);
	others_work();
	go_on();
	one(a.scq, 1, IBV_WC_REM_ACCESS_ERR);
	one(b.rcq, 10, IBV_WC_LOC_ACCESS_ERR);
	one(b.rcq, 11, IBV_WC_WR_FLUSH_ERR);
	CU_ASSERT_EQUAL_FATAL(poll(&pfd, 1, LONG_MS), 1);
	CU_ASSERT_EQUAL_FATAL(ibv_get_async_event(ctx, &ev), 0);
	CU_ASSERT_EQUAL(ev.event_type, IBV_EVENT_QP_ACCESS_ERR);
	CU_ASSERT_PTR_EQUAL(ev.element.qp, b.qp);
	ibv_ack_async_event(&ev);
	CU_ASSERT_EQUAL(poll(&pfd, 1, QUIET_MS), 0);
	drop(&a, &b);
}

static void refused_later(void)
{
	refusal(QP_LOCK);
	refusal(CQ_LOCK);
}

/* A datagram does not wait for ever, and does not spoil the receive. */
static void datagram_is_lost(void)
{
	struct ibv_ah_attr av = {.is_global = 1, .port_num = 1};
	struct ibv_sge sge;
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND}, *bad;
	struct end a, b;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_UD, false));
	CU_ASSERT_EQUAL(ibv_query_gid(ctx, 1, 0, &av.grh.dgid), 0);
	sge = (struct ibv_sge){(uintptr_t)a.buf, 8, a.mr->lkey};
	wr.wr.ud.ah = ibv_create_ah(a.pd, &av);
	wr.wr.ud.remote_qpn = b.qp->qp_num;
	wr.wr.ud.remote_qkey = 1;
	CU_ASSERT_EQUAL(end_recv(&b, 10), 0);
	for (enum what what = QP_LOCK; what <= CQ_LOCK; what++) {
		stop_with(what, b.qp, cq_index(b.rcq));
		wr.wr_id = what;
		CU_ASSERT_EQUAL(ibv_post_send(a.qp, &wr, &bad), 0);
		one(a.scq, what, IBV_WC_SUCCESS);
		go_on();
		none(b.rcq);
	}
	CU_ASSERT_EQUAL(ibv_post_send(a.qp, &wr, &bad), 0);
	one(a.scq, wr.wr_id, IBV_WC_SUCCESS);
	one(b.rcq, 10, IBV_WC_SUCCESS);
	ibv_destroy_ah(wr.wr.ud.ah);
	drop(&a, &b);
}

/* ---- the owner's own verbs ---- */

static int move(struct ibv_qp *qp, enum ibv_qp_state state)
{
	struct ibv_qp_attr a = {.qp_state = state};

	return ibv_modify_qp(qp, &a, IBV_QP_STATE);
}

/* ERR is entered at once; the receives are flushed as soon as they can be. */
static void flush_goes_on(enum what what)
{
	struct end a, b;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_RC, false));
	for (uint64_t id = 0; id < 5; id++)
		CU_ASSERT_EQUAL(end_recv(&b, id), 0);
	stop_with(what, b.qp, cq_index(b.rcq));
	CU_ASSERT_EQUAL(move(b.qp, IBV_QPS_ERR), 0);
	CU_ASSERT_EQUAL(end_recv(&b, 5), 0);
	none(b.rcq);
	others_work();
	go_on();
	for (uint64_t id = 0; id < 6; id++)
		one(b.rcq, id, IBV_WC_WR_FLUSH_ERR);
	drop(&a, &b);
}

static void flushed_later(void)
{
	flush_goes_on(QP_LOCK);
	flush_goes_on(CQ_LOCK);
}

static void reset_times_out(void)
{
	struct end a, b;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_RC, false));
	stop_with(QP_LOCK, b.qp, 0);
	CU_ASSERT_EQUAL(move(b.qp, IBV_QPS_RESET), ETIMEDOUT);
	CU_ASSERT_EQUAL(atomic_load(&to_uodp_qp(b.qp)->shm->state), IBV_QPS_ERR);
	others_work();
	go_on();
	CU_ASSERT_EQUAL(move(b.qp, IBV_QPS_RESET), 0);
	drop(&a, &b);
}

/* What is in use still, by who is stopped, is never anybody else's. */
static void destroyed_meanwhile(void)
{
	struct uodp_proc *proc = to_uodp_context(ctx)->proc;
	struct end a, b, c;
	uint32_t index;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_RC, true));
	index = to_uodp_qp(b.qp)->index;
	stop_with(QP_LOCK, b.qp, 0);
	CU_ASSERT_EQUAL(ibv_destroy_qp(b.qp), 0);
	b.qp = NULL;
	proc->qps->next = index;
	CU_ASSERT_TRUE_FATAL(end_make(&c, ctx, IBV_QPT_RC, false));
	CU_ASSERT_NOT_EQUAL(to_uodp_qp(c.qp)->index, index);
	go_on();
	index = to_uodp_srq(b.srq)->index;
	stop_with(SRQ_LOCK, c.qp, index);
	CU_ASSERT_EQUAL(ibv_destroy_srq(b.srq), 0);
	b.srq = NULL;
	go_on();
	index = cq_index(b.rcq);
	stop_with(CQ_LOCK, c.qp, index);
	CU_ASSERT_EQUAL(ibv_resize_cq(b.rcq, 500), ETIMEDOUT);
	CU_ASSERT_EQUAL(ibv_destroy_cq(b.rcq), 0);
	b.rcq = NULL;
	proc->cqs->next = index;
	CU_ASSERT_EQUAL(end_drop(&c), 0);
	go_on();
	CU_ASSERT_TRUE_FATAL(end_make(&c, ctx, IBV_QPT_RC, false));
	CU_ASSERT_NOT_EQUAL(cq_index(c.scq), index);
	CU_ASSERT_EQUAL(end_drop(&c), 0);
	CU_ASSERT_EQUAL(end_drop(&b), 0);
	CU_ASSERT_EQUAL(end_drop(&a), 0);
}

/* Rather an event too many than one that is missed. */
static void arming_wakes(void)
{
	struct pollfd pfd = {.events = POLLIN};
	struct ibv_cq *cq;
	struct end a, b;
	void *arg;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_RC, false));
	pfd.fd = b.ch->fd;
	CU_ASSERT_EQUAL(end_recv(&b, 10), 0);
	stop_with(CQ_LOCK, b.qp, cq_index(b.rcq));
	CU_ASSERT_EQUAL(end_send(&a, IBV_WR_SEND, 1, 8, NULL, 0), 0);
	CU_ASSERT_EQUAL(ibv_req_notify_cq(b.rcq, 0), 0);
	CU_ASSERT_EQUAL_FATAL(poll(&pfd, 1, 0), 1);
	CU_ASSERT_EQUAL(ibv_get_cq_event(b.ch, &cq, &arg), 0);
	CU_ASSERT_PTR_EQUAL(cq, b.rcq);
	go_on();
	CU_ASSERT_EQUAL(ibv_req_notify_cq(b.rcq, 0), 0);
	CU_ASSERT_EQUAL_FATAL(poll(&pfd, 1, LONG_MS), 1);
	CU_ASSERT_EQUAL(ibv_get_cq_event(b.ch, &cq, &arg), 0);
	one(b.rcq, 10, IBV_WC_SUCCESS);
	one(a.scq, 1, IBV_WC_SUCCESS);
	ibv_ack_cq_events(b.rcq, 2);
	drop(&a, &b);
}

/* A holder that dies is no holder. */
static void killed_holder(void)
{
	struct end a, b;

	CU_ASSERT_TRUE_FATAL(pair_make(&a, &b, ctx, IBV_QPT_RC, false));
	CU_ASSERT_EQUAL(end_recv(&b, 10), 0);
	stop_with(CQ_LOCK, b.qp, cq_index(b.rcq));
	CU_ASSERT_EQUAL(end_send(&a, IBV_WR_SEND, 1, 8, NULL, 0), 0);
	none(a.scq);
	child_kill(&holder);
	one(a.scq, 1, IBV_WC_SUCCESS);
	one(b.rcq, 10, IBV_WC_SUCCESS);
	drop(&a, &b);
}

int main(int argc, char **argv)
{
	static const struct child_role roles[] = {{"hold", hold}, {NULL, NULL}};
	CU_TestInfo tests[] = {
		{"a message waits for a QP's lock alone", qp_lock},
		{"a message waits for a receive CQ's lock alone", recv_cq_lock},
		{"a message waits for an SRQ's lock alone", srq_lock},
		{"a completion waits for its CQ's lock", send_cq_lock},
		{"a key is invalidated once", invalidates_once},
		{"a refusal waits", refused_later},
		{"a datagram is lost at last", datagram_is_lost},
		{"a flush goes on later", flushed_later},
		{"RESET times out, in ERR", reset_times_out},
		{"what is destroyed leaves its record", destroyed_meanwhile},
		{"arming wakes rather than waits", arming_wakes},
		{"a holder that dies is none", killed_holder},
		CU_TEST_INFO_NULL,
	};

	child_main(argc, argv, roles);
	ctx = device_open();
	if (!ctx || !child_start(&holder, "hold") || child_get(&holder) != 1) {
		fprintf(stderr, "no device, or no other process\n");
		return 1;
	}
	return suite_run("stuck", tests);
}
