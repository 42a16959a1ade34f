/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The passive ends: receive buffers in the areas, and queue pairs set up anew. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "storm.h"

struct end {
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	uint32_t posted, done, k;
	bool broken;
};

static struct end ends[MAX_PROCS];

struct send_place send_place(uint32_t from, uint32_t to, uint32_t epoch, uint32_t k)
{
	uint64_t seed = (uint64_t)from << 56 ^ (uint64_t)to << 48 ^ (uint64_t)epoch << 24 ^ k;
	uint32_t first = 0, end = PAGES, n, a;

	while (page_role(first) != BY_SEND)
		first++;
	for (a = 0; a < AREAS && page_writer(to, a, first) != from; a++)
		;
	if (a == AREAS)
		return (struct send_place){0, 0, 0};
	rng(&seed);
	n = 1 + rng_below(&seed, rng_below(&seed, 4) ? 64 : 2 * WORDS);
	return (struct send_place){a, first * WORDS + rng_below(&seed, (end - first) * WORDS - n),
				   n};
}

static void recv_post(uint32_t from)
{
	uint32_t epoch = atomic_load(&ctl->conn[from][self].epoch);
	struct end *e = &ends[from];
	struct send_place at = send_place(from, self, epoch, e->k);
	struct area *a = &areas[at.area];
	struct ibv_sge sge = {(uintptr_t)a->addr + at.w0 * 8, at.n * 8, a->mr[MR_ALL]->lkey};
	struct ibv_recv_wr *bad, wr = {.sg_list = &sge, .num_sge = 1};

	if (!at.n)
		return;
	errno = ibv_post_recv(e->qp, &wr, &bad);
	if (errno)
		die("ibv_post_recv");
	e->k++;
	e->posted++;
}

static void end_poll(uint32_t from)
{
	struct end *e = &ends[from];
	struct ibv_wc wc[RECVS];
	int n = ibv_poll_cq(e->cq, RECVS, wc);

	if (n < 0)
		die("ibv_poll_cq");
	e->done += (uint32_t)n;
	for (int i = 0; i < n; i++) {
		e->broken |= wc[i].status != IBV_WC_SUCCESS;
		if (!e->broken)
			recv_post(from);
	}
}

/* The requester's end is in RESET; make ours new too. */
static void end_renew(uint32_t from)
{
	struct conn_ctl *c = &ctl->conn[from][self];
	struct end *e = &ends[from];
	uint64_t limit = now_ns() + 20000000000ull;

	if (e->posted || atomic_load(&c->epoch))
		conn_state(e->qp, IBV_QPS_ERR);
	e->broken = true;
	while (e->done != e->posted) {
		end_poll(from);
		if (now_ns() > limit) {
			storm_fail((struct place){self, 0}, 0,
				   "%u of %u receives were never flushed", e->posted - e->done,
				   e->posted);
			return;
		}
	}
	conn_state(e->qp, IBV_QPS_RESET);
	atomic_fetch_add(&c->epoch, 1);
	e->k = 0;
	e->broken = false;
	conn_ready(e->qp, c->req_qpn, &ctl->proc[from].gid);
	for (uint32_t i = 0; i < RECVS; i++)
		recv_post(from);
	atomic_store(&c->state, CONN_READY);
}

static void events_drain(void)
{
	struct ibv_async_event ev;

	while (!ibv_get_async_event(dev.ctx, &ev)) {
		if (ev.event_type == IBV_EVENT_DEVICE_FATAL)
			storm_fail((struct place){self, 0}, 0, "the device reported a fatal error");
		ibv_ack_async_event(&ev);
	}
}

void *responder_main(void *arg)
{
	_Atomic uint32_t *go = arg;

	fcntl(dev.ctx->async_fd, F_SETFL, O_NONBLOCK);
	for (uint32_t i = 0; i < ctl->nprocs; i++) {
		ends[i].cq = ibv_create_cq(dev.ctx, RECVS * 2, NULL, NULL, 0);
		if (!ends[i].cq)
			die("ibv_create_cq");
		ends[i].qp = conn_qp(ends[i].cq);
		ctl->conn[i][self].rsp_qpn = ends[i].qp->qp_num;
	}
	atomic_fetch_add(go, 1);
	/* As long as anybody may still ask. */
	while (atomic_load(&ctl->proc[self].finished) < 2 && !storm_over()) {
		for (uint32_t i = 0; i < ctl->nprocs; i++) {
			end_poll(i);
			if (atomic_load(&ctl->conn[i][self].state) == CONN_ASKED)
				end_renew(i);
		}
		events_drain();
		sched_yield();
	}
	for (uint32_t i = 0; i < ctl->nprocs; i++)
		if (ibv_destroy_qp(ends[i].qp) || ibv_destroy_cq(ends[i].cq))
			die("destroying a queue pair");
	return NULL;
}
