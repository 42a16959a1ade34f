/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Faults that a pager of the program resolves, as requester and responder meet them:
 * the pages of a compressed file; pagers that do not answer, that leave, that die.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "pager.h"

#define PAGES 64u
#define LEN ((size_t)PAGES * PAGER_PAGE)
#define SEED 77
#define SPOILED 40u
#define NEVER_MS 150 /* long enough to see that nothing comes */

static uint8_t contents[LEN];

/* ---- a queue without a thread: the case itself answers ---- */

struct manual {
	struct uodpdv_fault_queue *queue;
	struct ibv_mr *mr;
	uint8_t *mem;
};

static bool manual_open(struct manual *m, struct ep *ep, uint32_t depth)
{
	struct uodpdv_fault_queue_attr qa = {.depth = depth, .group_pages = 1};
	struct uodpdv_fault_attach_attr a = {.context = 5, .dev_id = 6};

	m->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m->mr = ibv_reg_mr(ep->pd, m->mem, LEN, ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	m->queue = uodpdv_create_fault_queue(ep->ctx, &qa, sizeof(qa));
	return CHECK(m->mr) && CHECK(m->queue) &&
	       CHECK_ERRNO(uodpdv_attach_fault_queue(m->mr, m->queue, &a, sizeof(a)), 0);
}

static void manual_close(struct manual *m)
{
	if (m->mr)
		CHECK_ERRNO(ibv_dereg_mr(m->mr), 0);
	if (m->queue)
		CHECK_ERRNO(uodpdv_destroy_fault_queue(m->queue), 0);
	munmap(m->mem, LEN);
}

static bool fault_get(struct manual *m, struct uodpdv_fault_msg *msg)
{
	struct pollfd p = {.fd = m->queue->fd, .events = POLLIN};

	return CHECK_INT(poll(&p, 1, LONG_MS), 1) &&
	       CHECK_INT(read(m->queue->fd, msg, sizeof(*msg)), sizeof(*msg));
}

static void fault_answer(struct manual *m, const struct uodpdv_fault_msg *msg, uint32_t code)
{
	struct uodpdv_fault_response r = {.cookie = msg->cookie, .code = code};

	CHECK_INT(write(m->queue->fd, &r, sizeof(r)), sizeof(r));
}

static int wait_status(struct ep *ep)
{
	struct ibv_wc wc;

	return CHECK_INT(ep_poll(ep->scq, &wc, 1, LONG_MS), 1) ? (int)wc.status : -1;
}

static struct twr to_memory(enum ibv_wr_opcode op, const uint8_t *mem, uint32_t rkey, uint32_t len)
{
	return (struct twr){.id = 1,
			    .op = op,
			    .flags = IBV_SEND_SIGNALED,
			    .len = len,
			    .raddr = (uintptr_t)mem,
			    .rkey = rkey};
}

static bool nothing_comes(struct ep *ep)
{
	struct ibv_wc wc;

	return CHECK_INT(ep_poll(ep->scq, &wc, 1, NEVER_MS), 0);
}

/* ---- the compressed file; in a process of its own too ---- */

enum { OPEN, CLOSE };
static struct pager theirs;

static void pager_hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	int file;

	if (in->what == CLOSE) {
		out->v[0] = theirs.served;
		out->v[1] = theirs.refused;
		pager_close(&theirs);
		close(theirs.file);
		return;
	}
	fill_bytes(contents, LEN, SEED);
	file = pager_file_make(contents, PAGES);
	out->n = file >= 0 && pager_file_spoil(file, SPOILED) &&
		 pager_open(&theirs, ep->pd, file, PAGES, ALL_ACCESS);
	if (!out->n)
		return;
	out->v[0] = (uintptr_t)theirs.mem;
	out->v[1] = theirs.mr->rkey;
}

static bool read_matches(struct pair *p, uint64_t from, uint32_t rkey, uint64_t off, uint32_t len)
{
	struct twr s = to_memory(IBV_WR_RDMA_READ, (uint8_t *)(uintptr_t)from + off, rkey, len);

	memset(p->a.buf, 0xee, len);
	return CHECK_ERRNO(ep_send(&p->a, &s), 0) &&
	       CHECK_STATUS(wait_status(&p->a), IBV_WC_SUCCESS) &&
	       CHECK(!memcmp(p->a.buf, contents + off, len));
}

static void c_file(struct pair *p)
{
	struct hook_msg in = {.what = OPEN}, out = {0};
	struct ep_conf c = RC_CONF;
	uint64_t mem, rkey;
	struct twr s;

	c.len = LEN;
	c.min_rnr_timer = 1;
	fill_bytes(contents, LEN, SEED);
	REQUIRE(pair_up(p, &c, &c));
	side_hook(&p->b, &in, &out);
	REQUIRE(out.n);
	mem = out.v[0];
	rkey = out.v[1];
	/* In the middle of a page, over several; what is there faults no more. */
	read_matches(p, mem, (uint32_t)rkey, 3 * PAGER_PAGE + 100, 20000);
	read_matches(p, mem, (uint32_t)rkey, 0, SPOILED * PAGER_PAGE);
	/* A write into a page of the file changes those bytes alone. */
	memset(p->a.buf, 0x5a, 100);
	memset(contents + 50 * PAGER_PAGE + 8, 0x5a, 100);
	s = to_memory(IBV_WR_RDMA_WRITE, (uint8_t *)(uintptr_t)mem + 50 * PAGER_PAGE + 8,
		      (uint32_t)rkey, 100);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_STATUS(wait_status(&p->a), IBV_WC_SUCCESS);
	read_matches(p, mem, (uint32_t)rkey, 48 * PAGER_PAGE, 16 * PAGER_PAGE);
	/* A page that the file does not have. */
	s = to_memory(IBV_WR_RDMA_READ, (uint8_t *)(uintptr_t)mem + SPOILED * PAGER_PAGE,
		      (uint32_t)rkey, 8);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_STATUS(wait_status(&p->a), IBV_WC_REM_ACCESS_ERR);
	in.what = CLOSE;
	side_hook(&p->b, &in, &out);
	/* Refused once, or again if the answer expired before a busy requester came back. */
	CHECK(out.v[0] >= PAGES - 8 && out.v[1] >= 1);
	pair_down(p);
}

/* ---- every operation ---- */

static const enum ibv_wr_opcode ops[] = {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ,
					 IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_ATOMIC_CMP_AND_SWP};

/* One fault for each; the page's own bytes are used, or it fails with STATUS. */
static void one_fault(struct pair *p, struct manual *m, const struct twr *s, uint32_t code,
		      int status)
{
	struct uodpdv_fault_msg msg;

	CHECK_ERRNO(ep_send(&p->a, s), 0);
	if (!fault_get(m, &msg))
		return;
	CHECK_INT(msg.flags, UODPDV_FAULT_LAST);
	CHECK(msg.lkey == m->mr->lkey && msg.context == 5 && msg.dev_id == 6);
	CHECK(msg.addr == (uintptr_t)m->mem && msg.iova == (uintptr_t)m->mem);
	nothing_comes(&p->a);
	m->mem[0] = 0x42;
	fault_answer(m, &msg, code);
	CHECK_STATUS(wait_status(&p->a), status);
}

static void responder(struct pair *p, enum ibv_wr_opcode op, uint32_t code, int status)
{
	struct ep_conf c = RC_CONF;
	struct manual m;
	struct twr s;

	t_note("responder, opcode %d", op);
	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(manual_open(&m, &p->b.ep, 0));
	s = to_memory(op, m.mem, m.mr->rkey, 8);
	one_fault(p, &m, &s, code, status);
	if (!status && op == IBV_WR_RDMA_READ)
		CHECK_INT(p->a.buf[0], 0x42);
	manual_close(&m);
	pair_down(p);
}

static void requester(struct pair *p, enum ibv_wr_opcode op, uint32_t code, int status)
{
	struct ep_conf c = RC_CONF;
	struct manual m;
	struct twr s;

	t_note("requester, opcode %d", op);
	c.rnr_retry = 0;
	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(manual_open(&m, &p->a, 0));
	s = to_memory(op, (uint8_t *)(uintptr_t)p->bi.addr, p->bi.rkey, 8);
	s.lkey = m.mr->lkey;
	s.off = (uint64_t)((uintptr_t)m.mem - (uintptr_t)p->a.buf);
	one_fault(p, &m, &s, code, status);
	if (!status && op == IBV_WR_RDMA_WRITE)
		CHECK_INT(side_get(&p->b, 0) & 0xff, 0x42);
	manual_close(&m);
	pair_down(p);
}

static void c_ops(struct pair *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(ops) && !t_failures(); i++) {
		requester(p, ops[i], UODPDV_FAULT_SUCCESS, IBV_WC_SUCCESS);
		requester(p, ops[i], UODPDV_FAULT_INVALID, IBV_WC_LOC_PROT_ERR);
		if (p->remote)
			continue;
		responder(p, ops[i], UODPDV_FAULT_SUCCESS, IBV_WC_SUCCESS);
		responder(p, ops[i], UODPDV_FAULT_INVALID, IBV_WC_REM_ACCESS_ERR);
	}
}

/* A receive buffer that is paged. */
static void recv_buffer(struct pair *p, uint32_t code, int sender, int receiver)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_SEND, .flags = IBV_SEND_SIGNALED, .len = 8}, r;
	struct manual m;
	struct ibv_wc wc;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(manual_open(&m, &p->b.ep, 0));
	r = (struct twr){.id = 2,
			 .len = 8,
			 .lkey = m.mr->lkey,
			 .off = (uint64_t)((uintptr_t)m.mem - (uintptr_t)p->b.ep.buf)};
	CHECK_ERRNO(ep_recv(&p->b.ep, &r), 0);
	one_fault(p, &m, &s, code, sender);
	if (CHECK_INT(ep_poll(p->b.ep.rcq, &wc, 1, LONG_MS), 1))
		CHECK_STATUS(wc.status, receiver);
	manual_close(&m);
	pair_down(p);
}

static void c_recv(struct pair *p)
{
	recv_buffer(p, UODPDV_FAULT_SUCCESS, IBV_WC_SUCCESS, IBV_WC_SUCCESS);
	recv_buffer(p, UODPDV_FAULT_INVALID, IBV_WC_REM_OP_ERR, IBV_WC_LOC_PROT_ERR);
}

/* ---- pagers that do not answer ---- */

/* Neither another MR's faults, with a queue or without, nor other pages wait. */
static void c_slow(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct pair other = {.b.fd = -1};
	struct uodpdv_fault_msg msg, second;
	struct manual slow, quick;
	struct twr s;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(pair_up(&other, &c, &c));
	REQUIRE(manual_open(&slow, &p->b.ep, 1));
	REQUIRE(manual_open(&quick, &other.b.ep, 1));
	s = to_memory(IBV_WR_RDMA_WRITE, slow.mem, slow.mr->rkey, 8);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	REQUIRE(fault_get(&slow, &msg));
	for (uint32_t i = 0; i < 20 && !t_failures(); i++) {
		s = to_memory(IBV_WR_RDMA_WRITE, quick.mem + i * PAGER_PAGE, quick.mr->rkey, 8);
		CHECK_ERRNO(ep_send(&other.a, &s), 0);
		if (!fault_get(&quick, &second))
			break;
		fault_answer(&quick, &second, UODPDV_FAULT_SUCCESS);
		CHECK_STATUS(wait_status(&other.a), IBV_WC_SUCCESS);
	}
	nothing_comes(&p->a);
	/* Detached, it is told; and the next fault needs no pager. */
	CHECK_ERRNO(uodpdv_detach_fault_queue(slow.mr), 0);
	CHECK_STATUS(wait_status(&p->a), IBV_WC_REM_ACCESS_ERR);
	s = to_memory(IBV_WR_RDMA_WRITE, quick.mem, quick.mr->rkey, 8);
	CHECK_ERRNO(ep_send(&other.a, &s), 0);
	CHECK_STATUS(wait_status(&other.a), IBV_WC_SUCCESS);
	manual_close(&slow);
	manual_close(&quick);
	pair_down(&other);
	pair_down(p);
}

static void c_destroy(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct manual m;
	struct twr s;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(manual_open(&m, &p->b.ep, 0));
	s = to_memory(IBV_WR_RDMA_WRITE, m.mem, m.mr->rkey, 8);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	nothing_comes(&p->a);
	CHECK_ERRNO(uodpdv_destroy_fault_queue(m.queue), 0);
	m.queue = NULL;
	CHECK_STATUS(wait_status(&p->a), IBV_WC_REM_ACCESS_ERR);
	manual_close(&m);
	pair_down(p);
}

/* The pager is another process, which has the only descriptor, and dies. */
static void c_pager_killed(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct uodpdv_fault_msg msg;
	struct manual m;
	struct twr s;
	int told[2];
	pid_t pid;
	char byte;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(manual_open(&m, &p->b.ep, 0));
	REQUIRE(!pipe(told));
	pid = fork();
	if (!pid) {
		alarm(60);
		if (read(m.queue->fd, &msg, sizeof(msg)) == sizeof(msg) &&
		    write(told[1], "r", 1) == 1)
			pause();
		_exit(1);
	}
	close(m.queue->fd);
	m.queue->fd = -1;
	s = to_memory(IBV_WR_RDMA_WRITE, m.mem, m.mr->rkey, 8);
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(read(told[0], &byte, 1), 1);
	nothing_comes(&p->a);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK_STATUS(wait_status(&p->a), IBV_WC_REM_ACCESS_ERR);
	close(told[0]);
	close(told[1]);
	manual_close(&m);
	pair_down(p);
}

/* A requester dies while its fault is open: its place is free again. */
static void c_peer_killed(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct uodpdv_fault_msg msg;
	struct uodpdv_fault_attach_attr a = {0};
	struct pair local = {.b.fd = -1};
	struct ibv_mr *mr;
	struct manual m;
	struct twr s;

	REQUIRE(side_spawned(&p->b));
	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(manual_open(&m, &p->a, 1));
	s = to_memory(IBV_WR_RDMA_READ, m.mem, m.mr->rkey, 8);
	CHECK_ERRNO(side_send(&p->b, &s), 0);
	REQUIRE(fault_get(&m, &msg));
	side_kill(&p->b, SIGKILL);
	fault_answer(&m, &msg, UODPDV_FAULT_INVALID);
	REQUIRE(pair_up(&local, &c, &c));
	mr = ibv_reg_mr(local.b.ep.pd, m.mem, LEN, ALL_ACCESS | IBV_ACCESS_ON_DEMAND);
	REQUIRE(mr);
	CHECK_ERRNO(uodpdv_attach_fault_queue(mr, m.queue, &a, sizeof(a)), 0);
	s = to_memory(IBV_WR_RDMA_WRITE, m.mem, mr->rkey, 8);
	CHECK_ERRNO(ep_send(&local.a, &s), 0);
	if (fault_get(&m, &msg)) {
		fault_answer(&m, &msg, UODPDV_FAULT_SUCCESS);
		CHECK_STATUS(wait_status(&local.a), IBV_WC_SUCCESS);
	}
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	manual_close(&m);
	pair_down(&local);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

static void c_errors(struct pair *p)
{
	struct uodpdv_fault_queue_attr qa = {.depth = 1025};
	struct uodpdv_fault_attach_attr a = {.reserved = 1};
	struct ep_conf c = RC_CONF;
	struct manual m;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(manual_open(&m, &p->a, 0));
	CHECK(!uodpdv_create_fault_queue(p->a.ctx, &qa, sizeof(qa)) && errno == EINVAL);
	qa = (struct uodpdv_fault_queue_attr){.group_pages = 65};
	CHECK(!uodpdv_create_fault_queue(p->a.ctx, &qa, sizeof(qa)) && errno == EINVAL);
	qa = (struct uodpdv_fault_queue_attr){.comp_mask = 1};
	CHECK(!uodpdv_create_fault_queue(p->a.ctx, &qa, sizeof(qa)) && errno == EOPNOTSUPP);
	CHECK_ERRNO(uodpdv_attach_fault_queue(m.mr, m.queue, &a, sizeof(a)), EINVAL);
	a.reserved = 0;
	CHECK_ERRNO(uodpdv_attach_fault_queue(m.mr, m.queue, &a, sizeof(a)), EBUSY);
	CHECK_ERRNO(uodpdv_attach_fault_queue(p->a.mr, m.queue, &a, sizeof(a)), EINVAL);
	CHECK_ERRNO(uodpdv_detach_fault_queue(p->a.mr), EINVAL);
	manual_close(&m);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"file", c_file, BOTH},
		{"ops", c_ops, BOTH},
		{"recv", c_recv, HERE},
		{"slow", c_slow, HERE},
		{"destroy", c_destroy, HERE},
		{"pager_killed", c_pager_killed, HERE},
		{"peer_killed", c_peer_killed, PEER},
		{"errors", c_errors, HERE},
	};

	t_hook(pager_hook);
	return t_main(argc, argv, 2, cases, ARRAY_SIZE(cases));
}
