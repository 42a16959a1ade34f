/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The provider's queues from inside: wrap-around, overflow, cleaning, arming. */
#include <errno.h>
#include <pthread.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "queue.h"

static struct ibv_context *ctx;
static struct uodp_proc *proc;

static int suite_open(void)
{
	struct ibv_device **list;
	int n;

	setenv("UODP_ONLY", "1", 1);
	list = ibv_get_device_list(&n);
	if (!list || n < 1)
		return 1;
	ctx = ibv_open_device(list[0]);
	ibv_free_device_list(list);
	if (!ctx)
		return 1;
	proc = to_uodp_context(ctx)->proc;
	return 0;
}

static int suite_close(void)
{
	return ibv_close_device(ctx);
}

static int push(struct ibv_cq *cq, uint64_t wr_id, uint32_t qpn, bool solicited)
{
	struct uodp_cqe cqe = {.wr_id = wr_id, .qp_num = qpn, .status = IBV_WC_SUCCESS};

	int ret = uodp_cq_push(proc, proc->self, to_uodp_cq(cq)->index, &cqe, solicited,
			       UODP_PATIENCE_NS);

	uodp_wakes_pass(proc);
	return ret;
}

/* Poll all of CQ; the wr_ids must be FIRST, FIRST + STEP, ... and N of them. */
static void expect(struct ibv_cq *cq, uint64_t first, uint64_t step, unsigned n)
{
	struct ibv_wc wc;
	unsigned got = 0;

	while (ibv_poll_cq(cq, 1, &wc) == 1)
		CU_ASSERT_EQUAL(wc.wr_id, first + step * got++);
	CU_ASSERT_EQUAL(got, n);
}

static void cq_wraps(void)
{
	struct ibv_cq *cq = ibv_create_cq(ctx, 5, NULL, NULL, 0);
	uint64_t next = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(cq);
	for (unsigned round = 0; round < 100; round++) {
		unsigned n = round % 5 + 1;

		for (unsigned i = 0; i < n; i++)
			CU_ASSERT_EQUAL(push(cq, next + i, 1, false), 0);
		expect(cq, next, 1, n);
		next += n;
	}
	CU_ASSERT_EQUAL(ibv_destroy_cq(cq), 0);
}

static void cq_overflows_once(void)
{
	struct ibv_cq *cq = ibv_create_cq(ctx, 3, NULL, NULL, 0);
	struct pollfd pfd = {.fd = ctx->async_fd, .events = POLLIN};
	struct ibv_async_event ev;

	CU_ASSERT_PTR_NOT_NULL_FATAL(cq);
	for (unsigned i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(push(cq, i, 1, false), 0);
	CU_ASSERT_EQUAL(push(cq, 3, 1, false), -EOVERFLOW);
	CU_ASSERT_EQUAL_FATAL(poll(&pfd, 1, 5000), 1);
	CU_ASSERT_EQUAL_FATAL(ibv_get_async_event(ctx, &ev), 0);
	CU_ASSERT_EQUAL(ev.event_type, IBV_EVENT_CQ_ERR);
	CU_ASSERT_PTR_EQUAL(ev.element.cq, cq);
	ibv_ack_async_event(&ev);
	/* It stays broken, silently. */
	CU_ASSERT_EQUAL(push(cq, 4, 1, false), -EOVERFLOW);
	CU_ASSERT_EQUAL(poll(&pfd, 1, 50), 0);
	expect(cq, 0, 1, 3);
	CU_ASSERT_EQUAL(ibv_destroy_cq(cq), 0);
}

static void cq_cleans_one_qp(void)
{
	struct ibv_cq *cq = ibv_create_cq(ctx, 64, NULL, NULL, 0);

	CU_ASSERT_PTR_NOT_NULL_FATAL(cq);
	for (unsigned i = 0; i < 60; i++)
		CU_ASSERT_EQUAL(push(cq, i, i % 3, false), 0);
	uodp_cq_clean(to_uodp_cq(cq), 1);
	uodp_cq_clean(to_uodp_cq(cq), 2);
	expect(cq, 0, 3, 20);
	uodp_cq_clean(to_uodp_cq(cq), 0);
	expect(cq, 0, 1, 0);
	CU_ASSERT_EQUAL(ibv_destroy_cq(cq), 0);
}

static void cq_resizes_with_content(void)
{
	struct ibv_cq *cq = ibv_create_cq(ctx, 4, NULL, NULL, 0);

	CU_ASSERT_PTR_NOT_NULL_FATAL(cq);
	for (unsigned i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(push(cq, i, 1, false), 0);
	CU_ASSERT_EQUAL(ibv_resize_cq(cq, 3), EINVAL);
	CU_ASSERT_EQUAL(ibv_resize_cq(cq, 100), 0);
	CU_ASSERT_EQUAL(cq->cqe, 100);
	for (unsigned i = 4; i < 100; i++)
		CU_ASSERT_EQUAL(push(cq, i, 1, false), 0);
	expect(cq, 0, 1, 100);
	CU_ASSERT_EQUAL(ibv_destroy_cq(cq), 0);
}

static bool event_waits(struct ibv_comp_channel *ch)
{
	struct pollfd pfd = {.fd = ch->fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void event_take(struct ibv_comp_channel *ch, struct ibv_cq *cq)
{
	struct ibv_cq *got;
	void *arg;

	CU_ASSERT_TRUE_FATAL(event_waits(ch));
	CU_ASSERT_EQUAL(ibv_get_cq_event(ch, &got, &arg), 0);
	CU_ASSERT_PTR_EQUAL(got, cq);
	ibv_ack_cq_events(got, 1);
}

static void cq_arms(void)
{
	struct ibv_comp_channel *ch = ibv_create_comp_channel(ctx);
	struct ibv_cq *cq;

	CU_ASSERT_PTR_NOT_NULL_FATAL(ch);
	cq = ibv_create_cq(ctx, 64, NULL, ch, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(cq);
	push(cq, 0, 1, true);
	CU_ASSERT_FALSE(event_waits(ch));
	expect(cq, 0, 1, 1);
	CU_ASSERT_EQUAL(ibv_req_notify_cq(cq, 1), 0);
	push(cq, 1, 1, false);
	CU_ASSERT_FALSE(event_waits(ch));
	push(cq, 2, 1, true);
	event_take(ch, cq);
	push(cq, 3, 1, true); /* one event for each arming */
	CU_ASSERT_FALSE(event_waits(ch));
	/* What is there, and was not polled, counts. */
	ibv_req_notify_cq(cq, 1);
	event_take(ch, cq);
	expect(cq, 1, 1, 3);
	push(cq, 4, 1, false);
	ibv_req_notify_cq(cq, 1);
	CU_ASSERT_FALSE(event_waits(ch));
	ibv_req_notify_cq(cq, 0);
	event_take(ch, cq);
	expect(cq, 4, 1, 1);
	/* Asking for solicited ones does not undo asking for all. */
	ibv_req_notify_cq(cq, 0);
	ibv_req_notify_cq(cq, 1);
	CU_ASSERT_FALSE(event_waits(ch));
	push(cq, 5, 1, false);
	event_take(ch, cq);
	/* Cleaning moves the others: the solicited one is still there. */
	push(cq, 6, 1, true);
	push(cq, 7, 2, false);
	uodp_cq_clean(to_uodp_cq(cq), 2);
	ibv_req_notify_cq(cq, 1);
	event_take(ch, cq);
	CU_ASSERT_EQUAL(ibv_destroy_cq(cq), 0);
	CU_ASSERT_EQUAL(ibv_destroy_comp_channel(ch), 0);
}

static void cq_destroy_purges_events(void)
{
	struct ibv_comp_channel *ch = ibv_create_comp_channel(ctx);
	struct ibv_cq *a, *b;

	CU_ASSERT_PTR_NOT_NULL_FATAL(ch);
	a = ibv_create_cq(ctx, 8, NULL, ch, 0);
	b = ibv_create_cq(ctx, 8, NULL, ch, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	ibv_req_notify_cq(a, 0);
	ibv_req_notify_cq(b, 0);
	push(a, 0, 1, false);
	push(b, 0, 1, false);
	CU_ASSERT_EQUAL(ibv_destroy_cq(a), 0);
	event_take(ch, b);
	CU_ASSERT_FALSE(event_waits(ch));
	CU_ASSERT_EQUAL(ibv_destroy_cq(b), 0);
	CU_ASSERT_EQUAL(ibv_destroy_comp_channel(ch), 0);
}

/* ---- telling after the lock ---- */

static int push_only(struct ibv_cq *cq)
{
	struct uodp_cqe cqe = {.status = IBV_WC_SUCCESS};

	return uodp_cq_push(proc, proc->self, to_uodp_cq(cq)->index, &cqe, false, UODP_PATIENCE_NS);
}

static _Atomic int noted;

/* Notes an event, and tells of it later, or never. */
static void *teller(void *arg)
{
	push_only(arg);
	atomic_store(&noted, 1);
	return NULL;
}

static void *teller_late(void *arg)
{
	teller(arg);
	usleep(100000);
	uodp_wakes_pass(proc);
	atomic_store(&noted, 2);
	return NULL;
}

static struct ibv_cq *cq_noted(struct ibv_comp_channel *ch, void *(*fn)(void *), pthread_t *th)
{
	struct ibv_cq *cq = ibv_create_cq(ctx, 8, NULL, ch, 0);

	CU_ASSERT_PTR_NOT_NULL_FATAL(cq);
	ibv_req_notify_cq(cq, 0);
	atomic_store(&noted, 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(th, NULL, fn, cq), 0);
	while (!atomic_load(&noted))
		usleep(100);
	return cq;
}

/* Nothing is written while the CQ is locked. */
static void event_comes_after_lock(void)
{
	struct ibv_comp_channel *ch = ibv_create_comp_channel(ctx);
	struct ibv_cq *cq = ibv_create_cq(ctx, 8, NULL, ch, 0);

	CU_ASSERT_PTR_NOT_NULL_FATAL(cq);
	ibv_req_notify_cq(cq, 0);
	CU_ASSERT_EQUAL(push_only(cq), 0);
	CU_ASSERT_FALSE(event_waits(ch));
	CU_ASSERT_TRUE(odp_trylock(proc->odp, &to_uodp_cq(cq)->shm->lock));
	odp_unlock(&to_uodp_cq(cq)->shm->lock);
	uodp_wakes_pass(proc);
	event_take(ch, cq);
	CU_ASSERT_EQUAL(ibv_destroy_cq(cq), 0);
	CU_ASSERT_EQUAL(ibv_destroy_comp_channel(ch), 0);
}

/* No event comes after the CQ is gone. */
static void cq_destroy_waits_for_tellers(void)
{
	struct ibv_comp_channel *ch = ibv_create_comp_channel(ctx);
	pthread_t th;
	struct ibv_cq *cq = cq_noted(ch, teller_late, &th);

	CU_ASSERT_EQUAL(ibv_destroy_cq(cq), 0);
	pthread_join(th, NULL);
	CU_ASSERT_FALSE(event_waits(ch));
	CU_ASSERT_EQUAL(ibv_destroy_comp_channel(ch), 0);
}

/* Of one that ended in between nobody knows: memory and index stay what they were. */
static void cq_outlives_lost_teller(void)
{
	struct ibv_comp_channel *ch = ibv_create_comp_channel(ctx);
	pthread_t th;
	struct ibv_cq *cq = cq_noted(ch, teller, &th), *next;
	uint32_t index = to_uodp_cq(cq)->index;

	pthread_join(th, NULL);
	CU_ASSERT_EQUAL(ibv_destroy_cq(cq), 0);
	CU_ASSERT_EQUAL(to_uodp_cq(cq)->index, index);
	CU_ASSERT_PTR_EQUAL(cq->context, ctx);
	proc->cqs->next = index;
	next = ibv_create_cq(ctx, 8, NULL, NULL, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(next);
	CU_ASSERT_NOT_EQUAL(to_uodp_cq(next)->index, index);
	CU_ASSERT_EQUAL(ibv_destroy_cq(next), 0);
	CU_ASSERT_EQUAL(ibv_destroy_comp_channel(ch), 0);
}

static void rq_wraps_and_fills(void)
{
	struct uodp_rq_shm shm = {.mask = 0};
	struct uodp_rq rq = {.ring_off = 0};
	struct ibv_sge sge[2] = {{0x1000, 10, 7}, {0x2000, 20, 8}};
	struct ibv_recv_wr wr = {.sg_list = sge, .num_sge = 2};
	const struct uodp_rwqe *wqe;

	CU_ASSERT_EQUAL_FATAL(uodp_rq_init(proc, &rq, &shm, 5, 2), 0);
	CU_ASSERT_PTR_NULL(uodp_rq_peek(proc->self, &shm));
	for (uint64_t i = 0; i < 100; i++) {
		wr.wr_id = i;
		CU_ASSERT_EQUAL(uodp_rq_post(&rq, &wr), 0);
		wqe = uodp_rq_peek(proc->self, &shm);
		CU_ASSERT_PTR_NOT_NULL_FATAL(wqe);
		CU_ASSERT_EQUAL(wqe->wr_id, i);
		CU_ASSERT_EQUAL(wqe->length, 30);
		CU_ASSERT_EQUAL(wqe->sge[1].lkey, 8);
		uodp_rq_pop(&shm);
	}
	for (unsigned i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(uodp_rq_post(&rq, &wr), 0);
	CU_ASSERT_EQUAL(uodp_rq_post(&rq, &wr), -ENOMEM);
	wr.num_sge = 3;
	CU_ASSERT_EQUAL(uodp_rq_post(&rq, &wr), -EINVAL);
	/* Geometry that another process spoiled is not followed. */
	shm.ring = UINT64_MAX - 64;
	CU_ASSERT_PTR_NULL(uodp_rq_peek(proc->self, &shm));
	shm.ring = rq.ring_off;
	shm.stride = 1u << 20;
	CU_ASSERT_PTR_NULL(uodp_rq_peek(proc->self, &shm));
	uodp_rq_fini(proc, &rq);
}

static void table_hands_out_in_turn(void)
{
	void *slots[3] = {NULL};
	_Atomic uint32_t high = 0;
	struct ibv_context *owners[3] = {NULL};
	struct uodp_table table = {.slots = slots, .owners = owners, .size = 3, .high = &high};
	int obj;

	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(uodp_table_claim(proc, &table, &obj, ctx), i);
	CU_ASSERT_EQUAL(uodp_table_claim(proc, &table, &obj, ctx), -ENOMEM);
	CU_ASSERT_EQUAL(atomic_load(&high), 3);
	uodp_table_release(proc, &table, 1);
	uodp_table_release(proc, &table, 0);
	CU_ASSERT_EQUAL(uodp_table_claim(proc, &table, &obj, ctx), 0);
	CU_ASSERT_EQUAL(uodp_table_claim(proc, &table, &obj, ctx), 1);
	CU_ASSERT_PTR_EQUAL(uodp_table_find(proc, &table, ctx), &obj);
	for (uint32_t i = 0; i < 3; i++)
		uodp_table_release(proc, &table, i);
	CU_ASSERT_PTR_NULL(uodp_table_find(proc, &table, ctx));
}

int main(void)
{
	CU_TestInfo tests[] = {
		{"a CQ wraps around", cq_wraps},
		{"a CQ overflows with one event", cq_overflows_once},
		{"a CQ is cleaned of one QP's completions", cq_cleans_one_qp},
		{"a CQ is resized with what it holds", cq_resizes_with_content},
		{"a CQ is armed for all or for solicited completions", cq_arms},
		{"destroying a CQ removes its events alone", cq_destroy_purges_events},
		{"an event comes after the lock", event_comes_after_lock},
		{"destroying a CQ waits for who tells of it", cq_destroy_waits_for_tellers},
		{"a CQ outlives a teller that is lost", cq_outlives_lost_teller},
		{"a receive queue wraps, fills, and is not trusted", rq_wraps_and_fills},
		{"indexes are handed out in turn", table_hands_out_in_turn},
		CU_TEST_INFO_NULL,
	};
	CU_SuiteInfo suites[] = {
		{"queues", suite_open, suite_close, NULL, NULL, tests},
		CU_SUITE_INFO_NULL,
	};
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS)
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures() + CU_get_number_of_suites_failed();
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
