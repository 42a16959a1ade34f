/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Several threads at one QP, at one CQ, at both ends; nothing is lost or mixed up. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "harness.h"

#define THREADS 4

static int rounds(void)
{
	return tdev()->rxe ? 100 : 1000;
}

struct job {
	struct pair *p;
	int nr, bad;
	_Atomic int *left; /* completions still to come, all threads together */
};

static void run(struct pair *p, void *(*fn)(void *), _Atomic int *left)
{
	struct job jobs[THREADS];
	pthread_t threads[THREADS];
	int i;

	for (i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){p, i, 0, left};
		if (pthread_create(&threads[i], NULL, fn, &jobs[i]))
			abort();
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		CHECK_INT(jobs[i].bad, 0);
	}
}

/* Post WRITEs to a slot of one's own, and poll whatever comes. */
static void *post_and_poll(void *arg)
{
	struct job *j = arg;
	struct pair *p = j->p;
	struct twr s = {.op = IBV_WR_RDMA_WRITE,
			.flags = IBV_SEND_SIGNALED,
			.off = (uint64_t)j->nr * 256,
			.len = 200};
	uint64_t end = now_ms() + LONG_MS;
	struct ibv_wc wc[4];
	int i, n, k, err;

	s.raddr = p->bi.addr + s.off;
	s.rkey = p->bi.rkey;
	for (i = 0; i < rounds();) {
		s.id = (uint64_t)j->nr << 32 | (uint64_t)i;
		err = ep_send(&p->a, &s);
		if (!err)
			i++;
		else if (err != ENOMEM || now_ms() > end)
			j->bad++, i++;
		n = ibv_poll_cq(p->a.scq, 4, wc);
		for (k = 0; k < n; k++)
			j->bad += wc[k].status != IBV_WC_SUCCESS;
		if (n > 0)
			atomic_fetch_sub_explicit(j->left, n, memory_order_relaxed);
	}
	return NULL;
}

static void c_one_qp(struct pair *p)
{
	_Atomic int left = THREADS * rounds();
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;

	c.cap.max_send_wr = 16;
	REQUIRE(pair_up(p, &c, &c));
	fill_bytes(p->a.buf, THREADS * 256, 6);
	run(p, post_and_poll, &left);
	while (atomic_load_explicit(&left, memory_order_relaxed) > 0) {
		REQUIRE(ep_poll(p->a.scq, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		atomic_fetch_sub_explicit(&left, 1, memory_order_relaxed);
	}
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 5), 0);
	CHECK_INT(side_sum(&p->b, 256, 200), sum_bytes(p->a.buf + 256, 200));
	CHECK_INT(side_sum(&p->b, 768, 200), sum_bytes(p->a.buf + 768, 200));
	pair_down(p);
}

/* Register, use, deregister: in all threads at once, over one QP. */
static void *reg_loop(void *arg)
{
	struct job *j = arg;
	struct pair *p = j->p;
	struct ibv_mr *mr;
	uint8_t *mem;
	int i;

	for (i = 0; i < rounds() / 10; i++) {
		mem = aligned_alloc(4096, 3 * 4096);
		memset(mem, j->nr * 16 + (i & 15), 3 * 4096);
		mr = ibv_reg_mr(p->a.pd, mem + 100, 2 * 4096,
				ALL_ACCESS | (i & 1 && !tdev()->rxe ? IBV_ACCESS_ON_DEMAND : 0));
		if (!mr) {
			j->bad++;
			free(mem);
			continue;
		}
		j->bad += mem[5000] != (uint8_t)(j->nr * 16 + (i & 15));
		j->bad += ibv_dereg_mr(mr) != 0;
		j->bad += mem[5000] != (uint8_t)(j->nr * 16 + (i & 15));
		free(mem);
	}
	return NULL;
}

static void c_reg(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	run(p, reg_loop, NULL);
	pair_down(p);
}

/* Objects made and destroyed in all threads at once. */
static void *object_loop(void *arg)
{
	struct job *j = arg;
	struct ep_conf c = RC_CONF;
	struct ep_info info;
	struct ep ep;
	int i;

	for (i = 0; i < rounds() / 50; i++) {
		c.srq_wr = i & 1 ? 16 : 0;
		if (ep_open(&ep, &c)) {
			j->bad++;
		} else {
			ep_info(&ep, &info);
			j->bad += ep_init(&ep) || ep_rtr(&ep, &info) || ep_rts(&ep);
		}
		j->bad += ep_close(&ep) != 0;
	}
	return NULL;
}

static void c_objects(struct pair *p)
{
	run(p, object_loop, NULL);
}

/* Each thread has a pair of its own; all use the same two processors. */
static void *pair_loop(void *arg)
{
	struct job *j = arg;
	struct ep_conf c = RC_CONF;
	struct ep_info ai, bi;
	struct ep a, b;
	struct ibv_wc wc;
	struct twr s = {.op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 3000};
	int i;

	j->bad += ep_open(&a, &c) || ep_open(&b, &c);
	if (j->bad)
		return NULL;
	ep_info(&a, &ai);
	ep_info(&b, &bi);
	j->bad += ep_init(&a) || ep_rtr(&a, &bi) || ep_rts(&a);
	j->bad += ep_init(&b) || ep_rtr(&b, &ai) || ep_rts(&b);
	for (i = 0; i < rounds() / 4 && !j->bad; i++) {
		fill_bytes(a.buf, 3000, (uint64_t)i * THREADS + (uint64_t)j->nr);
		j->bad += ep_recv(&b, &(struct twr){.id = 3, .off = 77, .len = 3000});
		j->bad += ep_send(&a, &s);
		j->bad += ep_poll(b.rcq, &wc, 1, LONG_MS) != 1 || wc.status;
		j->bad += ep_poll(a.scq, &wc, 1, LONG_MS) != 1 || wc.status;
		j->bad += memcmp(a.buf, b.buf + 77, 3000) != 0;
	}
	j->bad += ep_close(&a) || ep_close(&b);
	return NULL;
}

static void c_pairs(struct pair *p)
{
	run(p, pair_loop, NULL);
}

/* ---- Memory that the CPU uses all the while ---- */

#define WORDS 64 /* one a page, for each thread its own line there */

struct busy {
	uint8_t *mem;
	_Atomic bool stop;
};

struct busy_thread {
	struct busy *busy;
	int nr;
	uint64_t count;
};

static volatile uint64_t *word_of(struct busy *b, int page, int nr)
{
	return (volatile uint64_t *)(void *)(b->mem + page * 4096 + 64 * (1 + nr));
}

/* Add one to each page's word, in turn: a lost store shows at the end. */
static void *count_up(void *arg)
{
	struct busy_thread *t = arg;
	int page;

	while (!atomic_load_explicit(&t->busy->stop, memory_order_relaxed)) {
		for (page = 0; page < WORDS; page++)
			++*word_of(t->busy, page, t->nr);
		t->count++;
	}
	return NULL;
}

/* The device writes to its own line of each page; A registers, uses, drops. */
static void busy_rounds(struct pair *p, struct busy *b)
{
	struct twr s = {.id = 1, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_mr *mr;
	struct ibv_wc wc;
	int i, page, odp;

	for (i = 0; i < 10 && !t_failures(); i++) {
		odp = !tdev()->rxe && i & 1 ? IBV_ACCESS_ON_DEMAND : 0;
		t_note("round %d, %s", i, odp ? "on demand" : "pinned");
		mr = ibv_reg_mr(p->a.pd, b->mem, WORDS * 4096, ALL_ACCESS | odp);
		REQUIRE(mr);
		page = i % WORDS;
		side_fill(&p->b, 0, 64, (uint64_t)i + 5);
		s.raddr = (uintptr_t)b->mem + (uint64_t)page * 4096;
		s.rkey = mr->rkey;
		CHECK_ERRNO(side_send(&p->b, &s), 0);
		REQUIRE(side_poll(&p->b, SEND_CQ, &wc, 1, LONG_MS) == 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(sum_bytes(b->mem + page * 4096, 64), side_sum(&p->b, 0, 64));
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	}
}

/* Memory that was never registered before, each time. */
static void busy_once(struct pair *p)
{
	struct busy_thread threads[2];
	struct busy b = {.mem = NULL};
	pthread_t t[2];
	int i, page;

	b.mem = mmap(NULL, WORDS * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	REQUIRE(b.mem != MAP_FAILED);
	memset(b.mem, 0, WORDS * 4096 / 2); /* half of it present, half of it not */
	for (i = 0; i < 2; i++) {
		threads[i] = (struct busy_thread){&b, i, 0};
		if (pthread_create(&t[i], NULL, count_up, &threads[i]))
			abort();
	}
	busy_rounds(p, &b);
	atomic_store_explicit(&b.stop, true, memory_order_relaxed);
	for (i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	t_note("lost stores");
	for (i = 0; i < 2; i++)
		for (page = 0; page < WORDS; page++)
			CHECK_INT(*word_of(&b, page, i), threads[i].count);
	munmap(b.mem, WORDS * 4096);
}

static void c_busy(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	int i;

	c.timeout = 18;
	REQUIRE(pair_up(p, &c, &c));
	for (i = 0; i < (tdev()->rxe ? 3 : 20) && !t_failures(); i++)
		busy_once(p);
	pair_down(p);
}

/* ---- Both ends at full speed against each other ---- */

enum { FLOOD = 1 };

/* Send N messages and receive N, reposting; check that what came is in order. */
static int flood(struct ep *ep, const struct hook_msg *m)
{
	struct twr s = {.op = IBV_WR_SEND_WITH_IMM, .flags = IBV_SEND_SIGNALED, .len = 1000};
	struct twr r = {.off = 4096, .len = 1000};
	uint32_t n = m->n, posted = 0, sent = 0, got = 0;
	uint64_t end = now_ms() + 4 * LONG_MS; /* a busy machine lets both creep */
	struct ibv_wc wc[8];
	int i, k;

	for (i = 0; i < 16; i++)
		if (ep_recv(ep, &r))
			return 1;
	while ((sent < n || got < n) && now_ms() < end) {
		if (posted < n && posted - sent < 16) {
			s.imm = posted;
			s.id = posted;
			if (ep_send(ep, &s))
				return 2;
			posted++;
		}
		k = ibv_poll_cq(ep->scq, 8, wc);
		for (i = 0; i < k; i++, sent++)
			if (wc[i].status || wc[i].wr_id != sent)
				return 3;
		k = ibv_poll_cq(ep->rcq, 8, wc);
		for (i = 0; i < k; i++, got++) {
			if (wc[i].status || be32toh(wc[i].imm_data) != got)
				return 4;
			if (ep_recv(ep, &r))
				return 5;
		}
	}
	return sent == n && got == n ? 0 : 6;
}

static void flood_hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	memset(out, 0, sizeof(*out));
	out->n = (uint32_t)flood(ep, in);
}

static void c_flood(struct pair *p)
{
	static struct hook_msg m, out;
	struct ep_conf c = RC_CONF;

	m.n = tdev()->rxe ? 500 : 5000;
	c.timeout = 18;
	REQUIRE(pair_up(p, &c, &c));
	side_hook_begin(&p->b, &m);
	CHECK_INT(flood(&p->a, &m), 0);
	side_hook_end(&p->b, &out);
	CHECK_INT(out.n, 0);
	pair_down(p);
}

static const struct tcase cases[] = {
	{"one QP and CQ, several threads", c_one_qp, BOTH},
	{"registering in several threads", c_reg, HERE},
	{"objects in several threads", c_objects, HERE},
	{"a pair a thread", c_pairs, HERE},
	{"registering memory in use", c_busy, BOTH},
	{"both ends flood", c_flood, PEER},
};

int main(int argc, char **argv)
{
	t_hook(flood_hook);
	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
