/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Threads that write without a pause, each through a QP of its own. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "checker.h"

struct requester {
	unsigned int nr;
	struct link_ctl *link;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	_Atomic uint64_t *buf;
	uint64_t rng;
};

/* One message, to one place. */
struct message {
	unsigned int region;
	uint32_t reg, rkey, phase;
	uint64_t addr, at;
	size_t len;
	bool clean;
};

/* False: the check is over. */
static bool reconnect(struct requester *r)
{
	struct link_ctl *c = r->link;
	uint32_t want;

	conn_reset(r->qp);
	atomic_store(&c->req_qpn, r->qp->qp_num);
	want = atomic_fetch_add(&c->want, 1) + 1;
	while (atomic_load(&c->done) != want) {
		/* Nothing is under way. */
		atomic_store(&c->stamped, atomic_load(&ctl->phase));
		if (over())
			return false;
		nap_us(50);
	}
	conn_connect(r->qp, atomic_load(&c->own_qpn));
	return true;
}

static void stamp(struct requester *r, const struct message *m)
{
	for (size_t i = 0; i < m->len / 8; i++)
		atomic_store_explicit(&r->buf[i],
				      word_make(TAG_RDMA, m->phase, m->reg, m->at + 8 * i),
				      memory_order_relaxed);
}

/* Small ones, some of which cross pages, and a few of several slices. */
static bool message_pick(struct requester *r, struct message *m)
{
	const struct region_ctl *c;
	size_t most = rng_below(&r->rng, 12) ? 8192 : MAX_MESSAGE;

	m->region = rng_below(&r->rng, REGIONS);
	c = &ctl->region[m->region];
	m->reg = atomic_load(&c->nr);
	m->rkey = atomic_load(&c->rkey);
	m->addr = atomic_load(&c->addr);
	m->clean = atomic_load(&c->clean);
	m->len = 8 + 8 * (size_t)rng_below(&r->rng, (uint32_t)(most / 8));
	if (most == MAX_MESSAGE && m->len < MAX_MESSAGE / 2)
		m->len += MAX_MESSAGE / 2;
	if (m->len > most)
		m->len = most;
	m->at = 8 * (uint64_t)rng_below(&r->rng, (uint32_t)((FILE_LEN - m->len) / 8 + 1));
	return m->reg && atomic_load(&c->nr) == m->reg;
}

static void message_post(struct requester *r, const struct message *m)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)r->buf, .length = (uint32_t)m->len, .lkey = r->mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE}, *bad;

	wr.wr.rdma.remote_addr = m->addr + m->at;
	wr.wr.rdma.rkey = m->rkey;
	errno = ibv_post_send(r->qp, &wr, &bad);
	if (errno)
		die("ibv_post_send");
}

/* The status, or -1 when the check is over. */
static int message_wait(struct requester *r, struct message *m)
{
	uint64_t limit = now_ns() + 30000000000ull;
	struct ibv_wc wc;
	uint32_t phase;
	int n;

	while (!(n = ibv_poll_cq(r->cq, 1, &wc))) {
		phase = atomic_load(&ctl->phase);
		if (phase != m->phase) {
			m->phase = phase;
			stamp(r, m);
			atomic_store(&r->link->stamped, phase);
		}
		if (now_ns() > limit) {
			fail("a transfer of %zu bytes to %#llx does not end", m->len,
			     (unsigned long long)m->at);
			return -1;
		}
	}
	if (n < 0)
		die("ibv_poll_cq");
	return (int)wc.status;
}

/* An MR that is pinned, and of a policy under which it goes on, has no reason to. */
static void message_failed(const struct message *m, int status)
{
	bool goes_on = !(m->region & 1) &&
		       (ctl->policy == UODPDV_POLICY_PINNED ||
			ctl->policy == UODPDV_POLICY_SCRATCH || ctl->policy == UODPDV_POLICY_DENY);

	if (status != IBV_WC_REM_ACCESS_ERR && status != IBV_WC_RETRY_EXC_ERR)
		fail("a transfer ended with %s", ibv_wc_status_str((enum ibv_wc_status)status));
	else if (goes_on && m->clean && atomic_load(&ctl->region[m->region].nr) == m->reg)
		fail("a transfer of %zu bytes to %#llx through a pinned region ended with %s",
		     m->len, (unsigned long long)m->at,
		     ibv_wc_status_str((enum ibv_wc_status)status));
}

static void message_run(struct requester *r)
{
	struct message m;
	int status;

	m.phase = atomic_load(&ctl->phase);
	atomic_store(&r->link->stamped, m.phase);
	if (!message_pick(r, &m)) {
		nap_us(100);
		return;
	}
	stamp(r, &m);
	message_post(r, &m);
	status = message_wait(r, &m);
	if (status == IBV_WC_SUCCESS) {
		atomic_fetch_add_explicit(&r->link->writes, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&r->link->bytes, m.len, memory_order_relaxed);
	} else if (status > 0) {
		atomic_fetch_add_explicit(&r->link->errors, 1, memory_order_relaxed);
		message_failed(&m, status);
		reconnect(r);
	}
}

static void *thread_main(void *arg)
{
	struct requester *r = arg;

	if (reconnect(r))
		while (!over())
			message_run(r);
	return NULL;
}

static void thread_open(struct requester *r, unsigned int nr)
{
	void *buf =
		mmap(NULL, MAX_MESSAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (buf == MAP_FAILED)
		die("mmap");
	*r = (struct requester){
		.nr = nr, .link = &ctl->link[nr], .rng = ctl->seed * 31 + nr + 1, .buf = buf};
	r->cq = ibv_create_cq(dev.ctx, 16, NULL, NULL, 0);
	r->mr = ibv_reg_mr(dev.pd, buf, MAX_MESSAGE, IBV_ACCESS_LOCAL_WRITE);
	if (!r->cq || !r->mr)
		die("ibv_create_cq, ibv_reg_mr");
	r->qp = conn_qp(r->cq);
}

void requester_run(void)
{
	static struct requester threads[MAX_THREADS];
	pthread_t ids[MAX_THREADS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	device_open();
	for (unsigned int i = 0; i < ctl->threads; i++)
		thread_open(&threads[i], i);
	for (unsigned int i = 0; i < ctl->threads; i++)
		if (pthread_create(&ids[i], NULL, thread_main, &threads[i]))
			die("pthread_create");
	for (unsigned int i = 0; i < ctl->threads; i++)
		pthread_join(ids[i], NULL);
	_exit(0);
}
