/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What the storm does not do to memory, while a peer keeps reading and writing it:
 * MADV_FREE, the heap's end, exec and exit of the owner.
 *
 * The peer writes growing numbers, page after page, reads each back, and then writes
 * how far it has come into the owner's own buffer. So the owner knows, when something
 * begins, which numbers have arrived: none of them may be lost from memory that stays,
 * and none may be in memory that is new.
 */
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

#define PAGE 4096u
#define PAGES 32u
#define LEN (PAGES * PAGE)
#define BLOCK 64u /* bytes of a page that are written and read */

/* In the owner's buffer. */
enum { AT_DONE = 0, AT_STOP = 8 };
/* In the peer's. */
enum { AT_BLOCK = 0, AT_BACK = BLOCK, AT_COUNT = 2 * BLOCK, AT_FLAG = 2 * BLOCK + 8 };

enum { STREAM, EXEC, EXIT };

static int one(struct ep *ep, enum ibv_wr_opcode op, uint64_t off, uint32_t len, uint64_t raddr,
	       uint32_t rkey)
{
	struct twr s = {.op = op,
			.flags = IBV_SEND_SIGNALED,
			.off = off,
			.len = len,
			.raddr = raddr,
			.rkey = rkey};
	struct ibv_wc wc;

	if (ep_send(ep, &s) || ep_poll(ep->scq, &wc, 1, LONG_MS) != 1)
		return -1;
	return (int)wc.status;
}

static bool torn(const uint64_t *words)
{
	for (unsigned i = 1; i < BLOCK / 8; i++)
		if (words[i] != words[0])
			return true;
	return false;
}

/* V: the memory and its key, the owner's buffer and its key. Ends when it is told to,
 * or by an error: N is its status, V[0] how many reads were torn. */
static void stream(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	uint32_t key = (uint32_t)in->v[1], own = (uint32_t)in->v[3];
	uint64_t *block = (uint64_t *)(void *)(ep->buf + AT_BLOCK), number, at;
	int status = 0;

	memset(out, 0, sizeof(*out));
	for (number = 1; !status && !ep->buf[AT_FLAG]; number++) {
		at = in->v[0] + number % PAGES * PAGE;
		for (unsigned i = 0; i < BLOCK / 8; i++)
			block[i] = number;
		status = one(ep, IBV_WR_RDMA_WRITE, AT_BLOCK, BLOCK, at, key);
		if (!status)
			status = one(ep, IBV_WR_RDMA_READ, AT_BACK, BLOCK, at, key);
		out->v[0] += !status && torn((uint64_t *)(void *)(ep->buf + AT_BACK));
		memcpy(ep->buf + AT_COUNT, &number, 8);
		if (!status)
			status = one(ep, IBV_WR_RDMA_WRITE, AT_COUNT, 8, in->v[2] + AT_DONE, own);
		if (!status)
			status = one(ep, IBV_WR_RDMA_READ, AT_FLAG, 1, in->v[2] + AT_STOP, own);
	}
	out->n = (uint32_t)status;
}

static void hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	if (in->what == EXEC)
		execlp("true", "true", NULL);
	if (in->what != STREAM)
		_exit(0);
	stream(ep, in, out);
}

/* ---- the owner ---- */

static struct hook_msg msg;

static uint64_t done(const struct pair *p)
{
	/* acquire: what it wrote before is here. */
	return __atomic_load_n((uint64_t *)(void *)(p->a.buf + AT_DONE), __ATOMIC_ACQUIRE);
}

/* All pages have been written since. */
static bool go_round(const struct pair *p)
{
	uint64_t end = now_ms() + LONG_MS, from = done(p);

	while (done(p) < from + 2 * PAGES && now_ms() < end)
		sched_yield();
	return CHECK(done(p) >= from + 2 * PAGES);
}

static struct ibv_mr *stream_begin(struct pair *p, void *mem, bool odp)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;

	t_note(odp ? "on demand" : "pinned");
	if (!pair_up(p, &c, &c))
		return NULL;
	mr = ibv_reg_mr(p->a.pd, mem, LEN, ALL_ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0));
	if (!CHECK(mr))
		return NULL;
	memset(p->a.buf, 0, 64);
	msg = (struct hook_msg){.what = STREAM,
				.v = {(uintptr_t)mem, mr->rkey, p->ai.addr, p->ai.rkey}};
	side_hook_begin(&p->b, &msg);
	return mr;
}

/* The status with which the peer stopped: 0, it was told to. */
static int stream_end(struct pair *p, struct ibv_mr *mr)
{
	__atomic_store_n(p->a.buf + AT_STOP, 1, __ATOMIC_RELEASE); /* the peer polls for it */
	side_hook_end(&p->b, &msg);
	CHECK_INT(msg.v[0], 0);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	pair_down(p);
	return (int)msg.n;
}

static uint64_t word(const uint8_t *mem, uint32_t page)
{
	return __atomic_load_n((const uint64_t *)(const void *)(mem + page * PAGE),
			       __ATOMIC_ACQUIRE);
}

/* The last number up to LAST that PAGE was given; 0: none. */
static uint64_t number_of(uint32_t page, uint64_t last)
{
	uint64_t back = (last + PAGES - page) % PAGES;

	return back < last ? last - back : 0;
}

/* ---- memory that is of no use for now ---- */

static void c_free(struct pair *p)
{
	for (int odp = 0; odp < 2 && !t_failures(); odp++) {
		uint8_t *mem =
			mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct ibv_mr *mr;

		REQUIRE(mem != MAP_FAILED);
		mr = stream_begin(p, mem, odp);
		REQUIRE(mr);
		for (int round = 0; round < 30 && go_round(p); round++) {
			uint64_t last = done(p);

			CHECK_INT(madvise(mem, LEN, MADV_FREE), 0);
			/* Kept, or gone; but nothing older. */
			for (uint32_t i = 0; i < PAGES; i++)
				CHECK(!word(mem, i) || word(mem, i) >= number_of(i, last));
		}
		CHECK_INT(stream_end(p, mr), 0);
		munmap(mem, LEN);
	}
}

/* ---- the end of the heap ---- */

struct heap {
	const char *name;
	uint8_t *(*get)(void);
	uint8_t *(*cut_and_grow)(uint8_t *mem); /* where it is then; NULL: elsewhere */
	void (*put)(uint8_t *mem);
};

static uint8_t *page_up(const void *p)
{
	return (uint8_t *)(((uintptr_t)p + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
}

static uint8_t *break_get(void)
{
	return page_up(sbrk(LEN + PAGE));
}

static uint8_t *break_cut_and_grow(uint8_t *mem)
{
	if (brk(mem) || brk(mem + LEN))
		return NULL;
	return mem;
}

static void break_put(uint8_t *mem)
{
	brk(mem);
}

static void *block;

/* Whole pages inside: what malloc() notes down is beside them. */
static uint8_t *block_get(void)
{
	block = malloc(LEN + 2 * PAGE);
	return page_up((uint8_t *)block + 1);
}

static uint8_t *block_cut_and_grow(uint8_t *mem)
{
	free(block);
	block = NULL;
	if (!malloc_trim(0))
		return NULL;
	return block_get() == mem ? mem : NULL;
}

static void block_put(uint8_t *mem)
{
	(void)mem;
	free(block);
}

static const struct heap heaps[] = {
	{"brk", break_get, break_cut_and_grow, break_put},
	{"malloc_trim", block_get, block_cut_and_grow, block_put},
};

/* True when it could be asked. */
static bool heap_round(struct pair *p, const struct heap *heap, bool odp)
{
	uint8_t *mem = heap->get();
	struct ibv_mr *mr;
	uint64_t last;
	int status;
	bool cut;

	memset(mem, 0, LEN);
	mr = stream_begin(p, mem, odp);
	if (!mr)
		return false;
	t_note("%s, %s", heap->name, odp ? "on demand" : "pinned");
	go_round(p);
	last = done(p);
	/* Not with another's memory above it. */
	cut = heap->cut_and_grow(mem) == mem;
	for (int again = 0; cut && again < 200; again++)
		for (uint32_t i = 0; i < PAGES; i++)
			CHECK(!word(mem, i) || (odp && word(mem, i) > last));
	status = stream_end(p, mr);
	CHECK(!status || (odp && status == IBV_WC_REM_ACCESS_ERR));
	heap->put(mem);
	return cut;
}

static void c_heap(struct pair *p)
{
	void *room = malloc(1 << 20);
	int cuts = 0;

	/* What is allocated meanwhile has room below; only we cut. */
	mallopt(M_MMAP_THRESHOLD, 1 << 25);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_TOP_PAD, 0);
	free(room);
	for (int round = 0; round < 6 && !t_failures(); round++)
		for (int odp = 0; odp < 2 && !t_failures(); odp++)
			cuts += heap_round(p, &heaps[round & 1], odp);
	CHECK(cuts); /* a sanitizer's malloc() gives nothing back, but the break is ours */
}

/* ---- an owner that becomes another program, or ends ---- */

static void c_gone(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	int status = 0;

	c.retry_cnt = 1;
	for (int i = 0; i < 4 && !t_failures(); i++) {
		t_note("%s, %s", i & 1 ? "exit" : "exec", i & 2 ? "on demand" : "pinned");
		c.odp = i & 2;
		REQUIRE(side_spawned(&p->b));
		REQUIRE(pair_up(p, &c, &c));
		msg = (struct hook_msg){.what = i & 1 ? EXIT : EXEC};
		CHECK_INT(one(&p->a, IBV_WR_RDMA_WRITE, 0, 8192, p->bi.addr, p->bi.rkey), 0);
		side_hook_begin(&p->b, &msg);
		for (uint64_t limit = now_ms() + LONG_MS; !status && now_ms() < limit;) {
			status = one(&p->a, IBV_WR_RDMA_WRITE, 0, 8192, p->bi.addr, p->bi.rkey);
			if (!status)
				status = one(&p->a, IBV_WR_RDMA_READ, 8192, 8192, p->bi.addr,
					     p->bi.rkey);
		}
		CHECK_STATUS(status, IBV_WC_RETRY_EXC_ERR);
		status = 0;
		side_kill(&p->b, SIGKILL);
		CHECK_ERRNO(ep_close(&p->a), 0);
		memset(p, 0, sizeof(*p));
		p->b.fd = -1;
	}
}

static const struct tcase cases[] = {
	{"MADV_FREE", c_free, PEER},
	{"the heap's end", c_heap, PEER},
	{"exec and exit", c_gone, HERE},
};

int main(int argc, char **argv)
{
	t_hook(hook);
	return t_main(argc, argv, 6, cases, ARRAY_SIZE(cases));
}
