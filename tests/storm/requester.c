/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The active ends: random operations on the areas of all, and their judgement. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storm.h"

#define HANG_NS 90000000000ull /* others may load the machine */

struct op {
	bool busy;
	enum ibv_wr_opcode opcode;
	uint32_t target, number;
	struct range r;
	uint64_t posted_ns, compare;
	uint64_t *buf;
	uint32_t lkey;
	uint32_t acked[OP_WORDS];
};

struct end {
	struct ibv_qp *qp;
	bool up, broken;
	uint32_t busy, k;
	struct op op[DEPTH];
};

static struct end ends[MAX_PROCS];
static struct ibv_cq *cq;
static uint64_t seed;
static uint32_t number;

static void count(_Atomic uint64_t *c)
{
	atomic_fetch_add_explicit(c, 1, memory_order_relaxed);
}

/* ---- Buffers of our own: half of them pinned, half on demand ---- */

static void buffers_open(void)
{
	const size_t size = OP_WORDS * 8, half = MAX_PROCS * DEPTH / 2 * size;
	static struct ibv_mr *mr[2]; /* they last as long as the process: no leak */
	char *p;

	p = mmap(NULL, 2 * half, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	mr[0] = ibv_reg_mr(dev.pd, p, half, IBV_ACCESS_LOCAL_WRITE);
	mr[1] = ibv_reg_mr(dev.pd, p + half, half, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
	if (!mr[0] || !mr[1])
		die("ibv_reg_mr of buffers");
	for (uint32_t i = 0; i < MAX_PROCS * DEPTH; i++) {
		struct op *op = &ends[i / DEPTH].op[i % DEPTH];

		op->buf = (uint64_t *)(void *)(p + (i & 1) * half + i / 2 * size);
		op->lkey = mr[i & 1]->lkey;
	}
}

/* The requester's own pages may be missing, too. */
static void buffer_lose(uint32_t i, struct op *op)
{
	if ((i & 1) && !rng_below(&seed, 16))
		madvise(op->buf, OP_WORDS * 8, MADV_DONTNEED);
}

/* ---- Building an operation ---- */

static uint32_t length_choose(uint32_t max)
{
	uint32_t limit = rng_below(&seed, 3) ? 24 : OP_WORDS;

	limit = limit < max ? limit : max;
	return 1 + rng_below(&seed, limit);
}

/* Words [*from, *to) of pages that this process may write in this way. */
static bool pages_own(struct place at, enum role role, uint32_t *from, uint32_t *to)
{
	uint32_t turn = rng_below(&seed, PAGES), p, q;

	for (uint32_t i = 0; i < PAGES; i++) {
		p = (turn + i) % PAGES;
		if (page_role(p) != role ||
		    (role != BY_ATOMIC && page_writer(at.owner, at.area, p) != self))
			continue;
		for (q = p; q < PAGES && page_role(q) == role &&
			    (role == BY_ATOMIC || page_writer(at.owner, at.area, q) == self);
		     q++)
			;
		*from = p * WORDS;
		*to = q * WORDS;
		return true;
	}
	return false;
}

/* Choose area, region and words. */
static bool range_choose(struct op *op, enum role role)
{
	struct range *r = &op->r;
	enum mr_nr m = (enum mr_nr)rng_below(&seed, MRS);
	struct mr_ctl *mr;
	uint32_t from = 0, to = AREA_WORDS, start, end;

	memset(r, 0, sizeof(*r));
	r->at = (struct place){op->target, rng_below(&seed, AREAS)};
	mr = &area_of(r->at)->mr[m];
	r->mr = mr;
	r->mr_seq = atomic_load(&mr->seq);
	r->view = m == MR_PIN_A ? PIN_A : m == MR_PIN_B ? PIN_B : LIVE;
	start = atomic_load(&mr->start);
	end = atomic_load(&mr->end);
	if (r->mr_seq & 1)
		return false;
	if (op->opcode != IBV_WR_RDMA_READ && !pages_own(r->at, role, &from, &to))
		return false;
	from = from > start ? from : start;
	to = to < end ? to : end;
	if (from >= to)
		return false;
	r->n = role == BY_ATOMIC ? 1 : length_choose(to - from);
	r->w0 = from + rng_below(&seed, to - from - r->n + 1);
	return true;
}

static void words_fill(struct op *op)
{
	uint32_t gen = op->r.view == LIVE ? 0 : atomic_load(&op->r.mr->gen);

	for (uint32_t i = 0; i < op->r.n; i++)
		op->buf[i] = word_make(op->r.at, op->r.w0 + i, op->r.view, gen, op->number);
}

static bool build_read(struct op *op)
{
	if (!range_choose(op, BY_WRITE))
		return false;
	range_see(&op->r);
	range_floor(&op->r, op->acked);
	return true;
}

static bool build_write(struct op *op)
{
	if (!range_choose(op, BY_WRITE))
		return false;
	op->number = ++number;
	range_post(&op->r, op->number);
	words_fill(op);
	return true;
}

static bool build_atomic(struct op *op)
{
	if (!range_choose(op, BY_ATOMIC))
		return false;
	/* What the word is before the atomic is checked, as by a read. */
	count_post(&op->r);
	range_floor(&op->r, op->acked);
	op->compare = op->acked[0];
	return true;
}

static bool build_send(struct op *op, uint32_t k)
{
	uint32_t epoch = atomic_load(&ctl->conn[self][op->target].epoch);
	struct send_place at = send_place(self, op->target, epoch, k);

	if (!at.n)
		return false;
	memset(&op->r, 0, sizeof(op->r));
	op->r.at = (struct place){op->target, at.area};
	op->r.w0 = at.w0;
	op->r.n = at.n;
	op->number = ++number;
	range_post(&op->r, op->number);
	words_fill(op);
	return true;
}

static bool op_build(struct op *op, uint32_t k)
{
	uint32_t dice = rng_below(&seed, 100);

	if (dice < 45) {
		op->opcode = IBV_WR_RDMA_READ;
		return build_read(op);
	}
	if (dice < 80) {
		op->opcode = IBV_WR_RDMA_WRITE;
		return build_write(op);
	}
	if (dice < 92) {
		op->opcode = dice & 1 ? IBV_WR_ATOMIC_FETCH_AND_ADD : IBV_WR_ATOMIC_CMP_AND_SWP;
		return build_atomic(op);
	}
	op->opcode = IBV_WR_SEND;
	return build_send(op, k);
}

static bool op_is_atomic(const struct op *op)
{
	return op->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD || op->opcode == IBV_WR_ATOMIC_CMP_AND_SWP;
}

static void op_post(struct end *e, uint32_t i, struct op *op)
{
	uint64_t raddr = atomic_load(&area_of(op->r.at)->addr) + (uint64_t)op->r.w0 * 8;
	struct ibv_sge sge = {(uintptr_t)op->buf, op->r.n * 8, op->lkey};
	struct ibv_send_wr *bad, wr = {
					 .wr_id = op->target * DEPTH + i,
					 .sg_list = &sge,
					 .num_sge = 1,
					 .opcode = op->opcode,
				 };

	if (op_is_atomic(op)) {
		wr.wr.atomic.remote_addr = raddr;
		wr.wr.atomic.compare_add =
			op->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD ? 1 : op->compare;
		wr.wr.atomic.swap = op->compare + 1;
		wr.wr.atomic.rkey = atomic_load(&op->r.mr->rkey);
	} else if (op->opcode != IBV_WR_SEND) {
		wr.wr.rdma.remote_addr = raddr;
		wr.wr.rdma.rkey = atomic_load(&op->r.mr->rkey);
	}
	/* With the key of a later registration the number would be a wrong one. */
	if (op->r.mr && atomic_load(&op->r.mr->seq) != op->r.mr_seq) {
		if (op_is_atomic(op))
			count_ended(&op->r);
		return;
	}
	op->busy = true;
	op->posted_ns = now_ns();
	e->busy++;
	if (op->opcode == IBV_WR_SEND)
		e->k++;
	errno = ibv_post_send(e->qp, &wr, &bad);
	if (errno)
		die("ibv_post_send");
}

/* ---- Ends of operations ---- */

static void op_succeeded(struct op *op)
{
	struct proc_ctl *me = &ctl->proc[self];

	switch (op->opcode) {
	case IBV_WR_RDMA_READ:
		range_check(&op->r, op->acked, op->buf, "RDMA READ");
		count(&me->reads);
		break;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		range_check(&op->r, op->acked, op->buf, "atomic");
		if (op->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD || op->buf[0] == op->compare)
			count_acked(&op->r);
		count(&me->atomics);
		break;
	case IBV_WR_SEND:
		range_acked(&op->r, op->number);
		count(&me->sends);
		break;
	default:
		range_acked(&op->r, op->number);
		count(&me->writes);
		break;
	}
}

static void op_failed(struct end *e, struct op *op, const struct ibv_wc *wc)
{
	bool first = !e->broken;

	e->broken = true;
	if (wc->status == IBV_WC_WR_FLUSH_ERR && !first)
		return;
	count(&ctl->proc[self].errors);
	if ((wc->status != IBV_WC_REM_ACCESS_ERR && wc->status != IBV_WC_REM_OP_ERR) ||
	    !range_may_fail(&op->r))
		storm_fail(op->r.at, op->r.w0 / WORDS,
			   "operation %d by process %u on words %u+%u, view %u: %s (%#x)",
			   (int)op->opcode, self, op->r.w0, op->r.n, op->r.view,
			   ibv_wc_status_str(wc->status), wc->vendor_err);
}

static int ends_poll(void)
{
	struct ibv_wc wc[16];
	int n = ibv_poll_cq(cq, 16, wc);

	if (n < 0)
		die("ibv_poll_cq");
	for (int i = 0; i < n; i++) {
		struct end *e = &ends[wc[i].wr_id / DEPTH];
		struct op *op = &e->op[wc[i].wr_id % DEPTH];

		if (wc[i].status == IBV_WC_SUCCESS)
			op_succeeded(op);
		else
			op_failed(e, op, &wc[i]);
		if (op_is_atomic(op))
			count_ended(&op->r);
		op->busy = false;
		e->busy--;
	}
	return n;
}

static void hang_check(void)
{
	uint64_t now = now_ns();

	for (uint32_t t = 0; t < ctl->nprocs; t++)
		for (uint32_t i = 0; i < DEPTH; i++) {
			struct op *op = &ends[t].op[i];

			if (op->busy && now - op->posted_ns > HANG_NS)
				storm_fail(op->r.at, op->r.w0 / WORDS,
					   "operation %d on words %u+%u does not end",
					   (int)op->opcode, op->r.w0, op->r.n);
		}
}

/* ---- Connections ---- */

/* True when E may be used; otherwise one step nearer to it. */
static bool end_up(uint32_t t)
{
	struct conn_ctl *c = &ctl->conn[self][t];
	struct end *e = &ends[t];

	if (e->up && !e->broken)
		return true;
	if (e->up && !e->busy) {
		conn_state(e->qp, IBV_QPS_RESET);
		e->up = e->broken = false;
		atomic_store(&c->state, CONN_ASKED);
		count(&ctl->proc[self].reconnects);
	} else if (!e->up && atomic_load(&c->state) == CONN_READY) {
		conn_ready(e->qp, c->rsp_qpn, &ctl->proc[t].gid);
		conn_send_ready(e->qp);
		e->k = 0;
		e->up = true;
		atomic_store(&c->state, CONN_UP);
	}
	return false;
}

static void end_use(uint32_t t)
{
	struct end *e = &ends[t];
	uint32_t i;

	for (i = 0; i < DEPTH && e->op[i].busy; i++)
		;
	if (i == DEPTH)
		return;
	e->op[i].target = t;
	buffer_lose(t * DEPTH + i, &e->op[i]);
	if (op_build(&e->op[i], e->k))
		op_post(e, i, &e->op[i]);
	else
		count(&ctl->proc[self].skipped);
}

static bool ends_busy(void)
{
	for (uint32_t t = 0; t < ctl->nprocs; t++)
		if (ends[t].busy)
			return true;
	return false;
}

static void ends_open(void)
{
	cq = ibv_create_cq(dev.ctx, MAX_PROCS * DEPTH * 2, NULL, NULL, 0);
	if (!cq)
		die("ibv_create_cq");
	for (uint32_t t = 0; t < ctl->nprocs; t++) {
		ends[t].qp = conn_qp(cq);
		ctl->conn[self][t].req_qpn = ends[t].qp->qp_num;
	}
}

void *requester_main(void *arg)
{
	_Atomic uint32_t *go = arg;
	uint64_t turn = 0;

	seed = ctl->seed * 31 + self * 4 + 3;
	buffers_open();
	ends_open();
	atomic_fetch_add(go, 1);
	/* All must be there before anybody asks. */
	for (uint32_t t = 0; t < ctl->nprocs; t++)
		while (!atomic_load(&ctl->proc[t].ready) && !storm_over())
			usleep(1000);
	for (uint32_t t = 0; t < ctl->nprocs; t++)
		atomic_store(&ctl->conn[self][t].state, CONN_ASKED);
	while ((!atomic_load(&ctl->stop) || ends_busy()) && !storm_over()) {
		uint32_t t = rng_below(&seed, ctl->nprocs);

		if (!atomic_load(&ctl->stop) && end_up(t))
			end_use(t);
		if (!ends_poll() && !(turn % 16))
			sched_yield();
		if (!(++turn % 4096))
			hang_check();
	}
	for (uint32_t t = 0; t < ctl->nprocs; t++)
		if (!storm_over() && ibv_destroy_qp(ends[t].qp))
			die("ibv_destroy_qp");
	return NULL;
}
