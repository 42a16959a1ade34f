/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * MRs of memory that others export: B exports device memory, A and B have MRs of it,
 * while B moves it and takes it away.
 */
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>

#include "harness.h"

#define PAGE 4096u
#define LEN (64u << 10)
#define SKEW 12u /* of MRs' addresses, in a page */
#define IOVA 0x7000000000ull

/* ---- the exporter: B ---- */

enum {
	H_EXPORT = 1,
	H_FREE,
	H_FILL,
	H_MOVE,
	H_REVOKE,
	H_HOLD,
	H_RELEASE,
	H_ROUNDS,
	H_WORD,
	H_IMPORT,
	H_UNIMPORT,
	H_KERNEL,
	H_KERNEL_FREE,
};

static struct {
	struct ibv_dm *dm;
	struct ibv_mr *mr; /* the exporter's own */
	uint8_t *map;
	int fd;
} ex;

/* A descriptor of another process's, as if it had come over a socket. */
static int fd_of(pid_t pid, int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int own = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	close(pidfd);
	return own;
}

static bool ex_open(struct ep *ep)
{
	struct ibv_alloc_dm_attr a = {.length = LEN};

	ex.dm = ibv_alloc_dm(ep->ctx, &a);
	if (!CHECK(ex.dm))
		return false;
	ex.fd = uodpdv_dmabuf_export(ex.dm);
	ex.map = uodpdv_dm_map(ex.dm);
	ex.mr = ibv_reg_dmabuf_mr(ep->pd, SKEW, LEN - SKEW, IOVA + SKEW, ex.fd, ALL_ACCESS);
	return CHECK(ex.fd >= 0) && CHECK(ex.map) && CHECK(ex.mr);
}

static void ex_close(void)
{
	CHECK_ERRNO(ibv_dereg_mr(ex.mr), 0);
	CHECK_ERRNO(uodpdv_dm_unmap(ex.dm, ex.map), 0);
	CHECK_ERRNO(ibv_free_dm(ex.dm), 0);
	close(ex.fd);
}

/* One of the kernel's, of a memfd that MAP maps too. */
static bool kernel_open(struct ep *ep)
{
	struct udmabuf_create create = {.flags = UDMABUF_FLAGS_CLOEXEC, .size = LEN};
	int dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	int mem = memfd_create("backing", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (!CHECK(dev >= 0 && mem >= 0 && !ftruncate(mem, LEN)) ||
	    !CHECK_INT(fcntl(mem, F_ADD_SEALS, F_SEAL_SHRINK), 0))
		return false;
	create.memfd = (uint32_t)mem;
	ex.fd = ioctl(dev, UDMABUF_CREATE, &create);
	ex.map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, mem, 0);
	ex.mr = ibv_reg_dmabuf_mr(ep->pd, SKEW, LEN - SKEW, IOVA + SKEW, ex.fd, ALL_ACCESS);
	close(dev);
	close(mem);
	return CHECK(ex.fd >= 0 && ex.map != MAP_FAILED) && CHECK(ex.mr);
}

static void kernel_close(void)
{
	CHECK_ERRNO(ibv_dereg_mr(ex.mr), 0);
	munmap(ex.map, LEN);
	close(ex.fd);
}

/* Generation after generation: every word is the generation's, then it moves. */
static void ex_rounds(uint64_t from, uint64_t to)
{
	for (uint64_t gen = from; gen < to; gen++) {
		CHECK_ERRNO(uodpdv_dmabuf_hold(ex.dm), 0);
		for (uint64_t *p = (uint64_t *)ex.map; p < (uint64_t *)(ex.map + LEN); p++)
			*(volatile uint64_t *)p = gen;
		CHECK_ERRNO(uodpdv_dmabuf_release(ex.dm), 0);
		if (gen & 1)
			CHECK_ERRNO(uodpdv_dmabuf_move(ex.dm), 0);
	}
}

static void hook(struct ep *ep, const struct hook_msg *in, struct hook_msg *out)
{
	out->v[0] = 0;
	switch (in->what) {
	case H_EXPORT:
		out->v[0] = ex_open(ep);
		out->v[1] = (uint64_t)ex.fd;
		out->v[2] = ex.mr ? ex.mr->rkey : 0;
		break;
	case H_FREE:
		ex_close();
		break;
	case H_FILL:
		fill_bytes(ex.map, LEN, in->v[0]);
		break;
	case H_WORD:
		memcpy(&out->v[0], ex.map + in->v[0], 8);
		break;
	case H_MOVE:
		out->v[0] = (uint64_t)uodpdv_dmabuf_move(ex.dm);
		break;
	case H_REVOKE:
		out->v[0] = (uint64_t)uodpdv_dmabuf_revoke(ex.dm);
		break;
	case H_HOLD:
		out->v[0] = (uint64_t)uodpdv_dmabuf_hold(ex.dm);
		break;
	case H_RELEASE:
		out->v[0] = (uint64_t)uodpdv_dmabuf_release(ex.dm);
		break;
	case H_IMPORT:
		ex.fd = fd_of((pid_t)in->v[0], (int)in->v[1]);
		ex.mr = ibv_reg_dmabuf_mr(ep->pd, SKEW, LEN - SKEW, IOVA + SKEW, ex.fd, ALL_ACCESS);
		out->v[0] = CHECK(ex.mr) ? ex.mr->rkey : 0;
		break;
	case H_UNIMPORT:
		CHECK_ERRNO(ibv_dereg_mr(ex.mr), 0);
		close(ex.fd);
		break;
	case H_KERNEL:
		out->v[0] = kernel_open(ep);
		out->v[1] = (uint64_t)ex.fd;
		out->v[2] = ex.mr ? ex.mr->rkey : 0;
		break;
	case H_KERNEL_FREE:
		kernel_close();
		break;
	case H_ROUNDS:
		ex_rounds(in->v[0], in->v[1]);
		break;
	}
	out->v[3] = (uint64_t)t_failures();
}

static struct hook_msg b_do(struct pair *p, uint32_t what, uint64_t v0, uint64_t v1)
{
	static struct hook_msg in, out;

	in = (struct hook_msg){.what = what, .v = {v0, v1}};
	out = (struct hook_msg){0};
	side_hook(&p->b, &in, &out);
	if (p->remote)
		CHECK_INT(out.v[3], 0);
	return out;
}

/* ---- the importer: A ---- */

struct import {
	int fd;
	struct ibv_mr *mr;
	uint8_t *map;  /* what the program sees of it */
	uint32_t rkey; /* of the exporter's own MR */
};

static bool open_all(struct pair *p, struct import *im)
{
	struct ep_conf c = RC_CONF;
	struct hook_msg out;

	if (!pair_up(p, &c, &c))
		return false;
	out = b_do(p, H_EXPORT, 0, 0);
	if (!CHECK(out.v[0]))
		return false;
	im->rkey = (uint32_t)out.v[2];
	im->fd = fd_of(p->remote ? p->b.pid : getpid(), (int)out.v[1]);
	im->map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, im->fd, 0);
	im->mr = ibv_reg_dmabuf_mr(p->a.pd, SKEW, LEN - SKEW, IOVA + SKEW, im->fd, ALL_ACCESS);
	return CHECK(im->fd >= 0 && im->map != MAP_FAILED) && CHECK(im->mr);
}

static void close_import(struct import *im)
{
	CHECK_ERRNO(ibv_dereg_mr(im->mr), 0);
	munmap(im->map, LEN);
	close(im->fd);
}

static void close_all(struct pair *p, struct import *im)
{
	b_do(p, H_FREE, 0, 0);
	close_import(im);
	pair_down(p);
}

/* From, or to, A's buffer and [OFF, OFF+LEN) of the memory, by KEY. */
static int rdma(struct pair *p, enum ibv_wr_opcode op, uint32_t rkey, uint64_t off, uint32_t len)
{
	struct twr w = {.id = 1,
			.op = op,
			.flags = IBV_SEND_SIGNALED,
			.len = len,
			.raddr = IOVA + off,
			.rkey = rkey};
	struct ibv_wc wc;

	if (!CHECK_ERRNO(ep_send(&p->a, &w), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

/* [OFF, OFF+LEN) of A's MR as the local end, B's buffer as the remote one. */
static int local(struct pair *p, struct import *im, enum ibv_wr_opcode op, uint64_t off,
		 uint32_t len)
{
	struct ibv_sge sge = {IOVA + off, len, im->mr->lkey};
	struct ibv_send_wr wr = {.opcode = op,
				 .send_flags = IBV_SEND_SIGNALED,
				 .sg_list = &sge,
				 .num_sge = 1,
				 .wr.rdma = {p->bi.addr, p->bi.rkey}},
			   *bad;
	struct ibv_wc wc;

	if (!CHECK_ERRNO(ibv_post_send(p->a.qp, &wr, &bad), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

static sigjmp_buf fatal;

static void on_bus(int sig)
{
	siglongjmp(fatal, sig);
}

static bool bus(volatile uint8_t *addr)
{
	struct sigaction sa = {.sa_handler = on_bus}, old;
	int sig;

	sigaction(SIGBUS, &sa, &old);
	sig = sigsetjmp(fatal, 1);
	if (!sig)
		(void)*addr;
	sigaction(SIGBUS, &old, NULL);
	return sig == SIGBUS;
}

/* ---- cases ---- */

static void refused(struct ibv_pd *pd, uint64_t off, size_t len, uint64_t iova, int fd, int access,
		    int err)
{
	errno = 0;
	CHECK(!ibv_reg_dmabuf_mr(pd, off, len, iova, fd, access));
	CHECK_ERRNO(errno, err);
}

static void c_refused(struct pair *p)
{
	struct import im;
	int fd, null;

	REQUIRE(open_all(p, &im));
	fd = memfd_create("not-ours", MFD_CLOEXEC);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	CHECK_ERRNO(ftruncate(fd, LEN), 0);
	refused(p->a.pd, 0, PAGE, 0, -1, ALL_ACCESS, EBADF);
	refused(p->a.pd, 0, PAGE, 0, 4000000, ALL_ACCESS, EBADF);
	refused(p->a.pd, 0, PAGE, 0, fd, ALL_ACCESS, EINVAL);
	refused(p->a.pd, 0, PAGE, 0, null, ALL_ACCESS, EINVAL);
	refused(p->a.pd, 0, LEN + 1, 0, im.fd, ALL_ACCESS, EINVAL);
	refused(p->a.pd, LEN, 1, 0, im.fd, ALL_ACCESS, EINVAL);
	refused(p->a.pd, UINT64_MAX, 2, UINT64_MAX, im.fd, ALL_ACCESS, EINVAL);
	refused(p->a.pd, 0, 0, 0, im.fd, ALL_ACCESS, EINVAL);
	refused(p->a.pd, 1, PAGE, 2, im.fd, ALL_ACCESS, EINVAL);
	refused(p->a.pd, 0, PAGE, 0, im.fd, ALL_ACCESS | IBV_ACCESS_ON_DEMAND, EINVAL);
	refused(p->a.pd, 0, PAGE, 0, im.fd, IBV_ACCESS_REMOTE_WRITE, EINVAL);
	CHECK(ibv_rereg_mr(im.mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, p->a.buf, PAGE, 0));
	CHECK(im.mr->context == p->a.ctx && im.mr->pd == p->a.pd && im.mr->length == LEN - SKEW);
	close(fd);
	close(null);
	close_all(p, &im);
}

/* Not exported, held twice, and what else the exporter may get wrong. */
static void c_exporter(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = PAGE};
	struct ibv_context *ctx = tdev_open();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_dm *dm = ibv_alloc_dm(ctx, &a);
	struct ibv_mr *mr;
	int fd;

	(void)p;
	REQUIRE(pd && dm);
	CHECK_ERRNO(uodpdv_dmabuf_hold(dm), EINVAL);
	CHECK_ERRNO(uodpdv_dmabuf_move(dm), EINVAL);
	CHECK_ERRNO(uodpdv_dmabuf_release(dm), EINVAL);
	mr = ibv_reg_dm_mr(pd, dm, 0, PAGE, IBV_ACCESS_ZERO_BASED);
	REQUIRE(mr);
	CHECK_INT(uodpdv_dmabuf_export(dm), -1);
	CHECK_ERRNO(errno, EBUSY);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	fd = uodpdv_dmabuf_export(dm);
	CHECK(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	/* Nobody can make it grow again, nor keep it from being cut off. */
	CHECK(ftruncate(fd, 2 * PAGE) && errno == EPERM);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) && errno == EPERM);
	mr = ibv_reg_dm_mr(pd, dm, 0, PAGE, IBV_ACCESS_ZERO_BASED);
	REQUIRE(mr);
	CHECK_ERRNO(uodpdv_dmabuf_hold(dm), 0);
	CHECK_ERRNO(uodpdv_dmabuf_hold(dm), EBUSY);
	CHECK_ERRNO(uodpdv_dmabuf_move(dm), EBUSY);
	/* Not to wait for what only this thread will do. */
	refused(pd, 0, PAGE, 0, fd, IBV_ACCESS_LOCAL_WRITE, EBUSY);
	CHECK(!ibv_reg_dm_mr(pd, dm, 0, PAGE, IBV_ACCESS_ZERO_BASED) && errno == EBUSY);
	CHECK_ERRNO(uodpdv_dmabuf_release(dm), 0);
	CHECK_ERRNO(uodpdv_dmabuf_revoke(dm), 0);
	CHECK_ERRNO(uodpdv_dmabuf_revoke(dm), EIO);
	CHECK(!ibv_reg_dm_mr(pd, dm, 0, PAGE, IBV_ACCESS_ZERO_BASED));
	CHECK_ERRNO(errno, EIO);
	CHECK_INT(uodpdv_dmabuf_export(dm), -1);
	CHECK_ERRNO(errno, EIO);
	refused(pd, 0, PAGE, 0, fd, IBV_ACCESS_LOCAL_WRITE, EINVAL); /* nothing is left of it */
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	/* Freed while it is held, and without an end. */
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	dm = ibv_alloc_dm(ctx, &a);
	close(fd);
	fd = uodpdv_dmabuf_export(dm);
	CHECK_ERRNO(uodpdv_dmabuf_hold(dm), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	close(fd);
	CHECK_ERRNO(ibv_dealloc_pd(pd), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

/* Every operation, on the importer's and the exporter's MR. */
static void c_transfer(struct pair *p)
{
	struct twr w = {.id = 3, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct import im;
	struct ibv_wc wc;
	uint64_t word;

	REQUIRE(open_all(p, &im));
	fill_bytes(p->a.buf, LEN, 1);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, im.rkey, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
	CHECK(!memcmp(im.map + SKEW, p->a.buf, LEN - SKEW));
	b_do(p, H_FILL, 2, 0);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, im.rkey, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
	CHECK(!memcmp(im.map + SKEW, p->a.buf, LEN - SKEW));
	CHECK_STATUS(local(p, &im, IBV_WR_RDMA_WRITE, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
	CHECK(side_sum(&p->b, 0, LEN - SKEW) == sum_bytes(im.map + SKEW, LEN - SKEW));
	side_fill(&p->b, 0, LEN, 3);
	CHECK_STATUS(local(p, &im, IBV_WR_RDMA_READ, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
	CHECK(side_sum(&p->b, 0, LEN - SKEW) == sum_bytes(im.map + SKEW, LEN - SKEW));

	memcpy(&word, im.map + 64, 8);
	w.op = IBV_WR_ATOMIC_FETCH_AND_ADD;
	w.raddr = IOVA + 64;
	w.rkey = im.rkey;
	w.compare_add = 5;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_INT(b_do(p, H_WORD, 64, 0).v[0], word + 5);
	/* Outside: at both ends of it. */
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, im.rkey, LEN - 8, 9), IBV_WC_REM_ACCESS_ERR);
	close_all(p, &im);
}

static void c_move(struct pair *p)
{
	struct import im;

	REQUIRE(open_all(p, &im));
	for (int i = 0; i < 5; i++) {
		b_do(p, H_FILL, 10 + (uint64_t)i, 0);
		CHECK_ERRNO((int)b_do(p, H_MOVE, 0, 0).v[0], 0);
		fill_bytes(p->a.buf, LEN, 0);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, im.rkey, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
		CHECK(!memcmp(p->a.buf, im.map + SKEW, LEN - SKEW));
		CHECK_STATUS(local(p, &im, IBV_WR_RDMA_WRITE, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
		fill_bytes(p->a.buf, LEN, 10 + (uint64_t)i);
		CHECK(side_sum(&p->b, 0, LEN - SKEW) == sum_bytes(p->a.buf + SKEW, LEN - SKEW));
	}
	close_all(p, &im);
}

/* Held: nothing arrives; released: all of it does. Only a remote B can hold while A
 * waits, as its own transfers wait too. */
static void c_hold(struct pair *p)
{
	struct twr w = {.id = 1, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 4096};
	struct import im;
	struct ibv_wc wc;

	REQUIRE(open_all(p, &im));
	b_do(p, H_FILL, 1, 0);
	CHECK_ERRNO((int)b_do(p, H_HOLD, 0, 0).v[0], 0);
	memset(p->a.buf, 0xee, LEN);
	w.raddr = IOVA + PAGE;
	w.rkey = im.rkey;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, 50), 0);
	CHECK(im.map[PAGE] != 0xee || im.map[PAGE + 1] != 0xee);
	CHECK_ERRNO((int)b_do(p, H_RELEASE, 0, 0).v[0], 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK(!memcmp(im.map + PAGE, p->a.buf, 4096));
	close_all(p, &im);
}

static void c_revoke(struct pair *p)
{
	for (int i = 0; i < 3; i++) {
		struct import im;

		REQUIRE(open_all(p, &im));
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, im.rkey, SKEW, 8), IBV_WC_SUCCESS);
		CHECK_ERRNO((int)b_do(p, H_REVOKE, 0, 0).v[0], 0);
		CHECK(bus(im.map) && bus(im.map + LEN - 1));
		/* What a revoked MR of the kernel's gives: its key is good for nothing. */
		if (i == 0)
			CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, im.rkey, SKEW, 8),
				     IBV_WC_REM_ACCESS_ERR);
		else
			CHECK_STATUS(local(p, &im, i == 1 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
					   SKEW, 8),
				     IBV_WC_LOC_PROT_ERR);
		close_all(p, &im);
	}
}

/* Ordinary MRs of a mapping: one on demand fails as an importer's, a pinned one keeps
 * what it has, for itself. */
static void c_ordinary(struct pair *p)
{
	for (int pinned = 0; pinned < 2; pinned++) {
		struct twr w = {.id = 1, .op = IBV_WR_RDMA_READ, .flags = IBV_SEND_SIGNALED};
		struct ep_conf c = RC_CONF;
		struct ibv_alloc_dm_attr a = {.length = LEN};
		struct uodpdv_mr_init_attr init = {0};
		struct ibv_dm *dm;
		struct ibv_mr *mr;
		struct ibv_wc wc;
		uint8_t *map;

		REQUIRE(pair_up(p, &c, &c));
		dm = ibv_alloc_dm(p->b.ep.ctx, &a);
		REQUIRE(dm);
		close(uodpdv_dmabuf_export(dm));
		map = uodpdv_dm_map(dm);
		fill_bytes(map, LEN, 6);
		/* Said so, whatever the environment says. */
		init.backing = pinned ? UODPDV_BACKING_PIN : UODPDV_BACKING_VA;
		mr = uodpdv_reg_mr(p->b.ep.pd, map, LEN,
				   ALL_ACCESS | (pinned ? 0 : IBV_ACCESS_ON_DEMAND), &init,
				   sizeof(init));
		if (!mr && pinned && errno == EOPNOTSUPP) {
			t_skip("nothing can be pinned here");
			CHECK_ERRNO(uodpdv_dm_unmap(dm, map), 0);
			CHECK_ERRNO(ibv_free_dm(dm), 0);
			pair_down(p);
			return;
		}
		REQUIRE(mr);
		w.raddr = (uintptr_t)map;
		w.rkey = mr->rkey;
		w.len = LEN;
		CHECK_ERRNO(ep_send(&p->a, &w), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_ERRNO(uodpdv_dmabuf_revoke(dm), 0);
		CHECK(bus(map));
		memset(p->a.buf, 0, LEN);
		CHECK_ERRNO(ep_send(&p->a, &w), 0);
		CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, pinned ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR);
		if (pinned) {
			fill_bytes(p->b.ep.buf, LEN, 6);
			CHECK(!memcmp(p->a.buf, p->b.ep.buf, LEN));
		}
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		CHECK_ERRNO(uodpdv_dm_unmap(dm, map), 0);
		CHECK_ERRNO(ibv_free_dm(dm), 0);
		pair_down(p);
	}
}

/* What is freed is taken from those who map it still; what is new is empty. */
static void c_freed(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = LEN};
	struct ibv_context *ctx = tdev_open();
	static const uint8_t zero[LEN];

	(void)p;
	for (int i = 0; i < 20; i++) {
		struct ibv_dm *dm = ibv_alloc_dm(ctx, &a);
		uint8_t *map, *other;
		int fd;

		REQUIRE(dm);
		fd = uodpdv_dmabuf_export(dm);
		map = uodpdv_dm_map(dm);
		other = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		REQUIRE(map && other != MAP_FAILED);
		CHECK(!memcmp(map, zero, LEN));
		memset(map, 0xa5, LEN);
		CHECK(other[LEN - 1] == 0xa5);
		CHECK_ERRNO(ibv_free_dm(dm), 0);
		CHECK(bus(map) && bus(other + LEN - 1));
		munmap(map, LEN);
		munmap(other, LEN);
		close(fd);
	}
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

/* ---- under traffic ---- */

#define ROUNDS 60u

struct reader {
	struct pair *p;
	struct import *im;
	_Atomic uint64_t seen; /* the generation that is there for sure */
	_Atomic bool stop;
	_Atomic uint64_t reads;
};

/* Every page is of one generation, and of none before the one that was there. */
static void *reader_run(void *arg)
{
	struct reader *r = arg;
	uint64_t *buf = (uint64_t *)r->p->a.buf;

	while (!r->stop) {
		uint64_t page = PAGE * (1 + r->reads % (LEN / PAGE - 1)), before = r->seen;

		if (!CHECK_STATUS(rdma(r->p, IBV_WR_RDMA_READ, r->im->rkey, page, PAGE),
				  IBV_WC_SUCCESS))
			break;
		for (unsigned i = 1; i < PAGE / 8; i++)
			if (!CHECK_INT(buf[i], buf[0]))
				return NULL;
		CHECK(buf[0] >= before);
		r->reads++;
	}
	return NULL;
}

static void c_traffic(struct pair *p)
{
	struct reader r = {.p = p};
	struct import im;
	pthread_t thread;

	REQUIRE(open_all(p, &im));
	r.im = &im;
	b_do(p, H_ROUNDS, 1, 2);
	pthread_create(&thread, NULL, reader_run, &r);
	for (uint64_t gen = 2; gen < ROUNDS; gen += 2) {
		b_do(p, H_ROUNDS, gen, gen + 2);
		/* Whatever is read from now on is stale if it is older. */
		r.seen = gen + 1;
		sleep_ms(1);
	}
	r.stop = true;
	pthread_join(thread, NULL);
	CHECK(r.reads > 10);
	close_all(p, &im);
}

static void *revoked_run(void *arg)
{
	struct reader *r = arg;
	int status = 0;

	while (!status) {
		status = rdma(r->p, IBV_WR_RDMA_WRITE, r->im->rkey, SKEW, LEN - SKEW);
		r->reads++;
	}
	CHECK_STATUS(status, IBV_WC_REM_ACCESS_ERR);
	return NULL;
}

static void c_revoke_traffic(struct pair *p)
{
	uint64_t reads;

	for (int i = 0; i < 8; i++) {
		struct reader r = {.p = p};
		struct import im;
		pthread_t thread;

		REQUIRE(open_all(p, &im));
		r.im = &im;
		pthread_create(&thread, NULL, revoked_run, &r);
		for (uint64_t end = now_ms() + LONG_MS; r.reads < 3 && now_ms() < end;)
			sleep_ms(1);
		CHECK(r.reads >= 3);
		CHECK_ERRNO((int)b_do(p, H_REVOKE, 0, 0).v[0], 0);
		/* The one that was under way, and the one that fails. */
		reads = r.reads;
		pthread_join(thread, NULL);
		CHECK(r.reads <= reads + 2);
		close_all(p, &im);
	}
}

/* ---- an exporter, or an importer, that is not well ---- */

/* A's device memory, which B imports: its mapping, and B's key. */
static struct ibv_dm *export_to_b(struct pair *p, uint8_t **map, uint32_t *rkey)
{
	struct ibv_alloc_dm_attr a = {.length = LEN};
	struct ep_conf c = RC_CONF;
	struct ibv_dm *dm;
	int fd;

	if (!pair_up(p, &c, &c))
		return NULL;
	dm = ibv_alloc_dm(p->a.ctx, &a);
	if (!CHECK(dm))
		return NULL;
	fd = uodpdv_dmabuf_export(dm);
	*map = uodpdv_dm_map(dm);
	*rkey = (uint32_t)b_do(p, H_IMPORT, (uint64_t)getpid(), (uint64_t)fd).v[0];
	close(fd);
	return CHECK(*map && *rkey) ? dm : NULL;
}

/* An importer that is stopped holds nobody up for long, and its MR follows. */
static void c_stopped(struct pair *p)
{
	struct ibv_dm *dm;
	uint64_t began;
	uint32_t rkey;
	uint8_t *map;

	dm = export_to_b(p, &map, &rkey);
	REQUIRE(dm);
	kill(p->b.pid, SIGSTOP);
	began = now_ms();
	for (int i = 0; i < 3; i++) {
		fill_bytes(map, LEN, 40 + (uint64_t)i);
		CHECK_ERRNO(uodpdv_dmabuf_move(dm), 0);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, rkey, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
		CHECK(!memcmp(p->a.buf, map + SKEW, LEN - SKEW));
	}
	CHECK_ERRNO(uodpdv_dmabuf_revoke(dm), 0);
	CHECK(now_ms() - began < LONG_MS);
	CHECK(bus(map));
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, rkey, SKEW, 8), IBV_WC_REM_ACCESS_ERR);
	kill(p->b.pid, SIGCONT);
	CHECK_ERRNO(uodpdv_dm_unmap(dm, map), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	b_do(p, H_UNIMPORT, 0, 0);
	pair_down(p);
}

/* The exporter is killed while it holds: importers go on with what is there. */
static void c_killed(struct pair *p)
{
	struct import im;
	struct ep_conf c = RC_CONF;
	struct ep self, other;
	struct ep_info si, oi;
	struct twr w = {.id = 1, .op = IBV_WR_RDMA_READ, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ibv_wc wc;

	REQUIRE(open_all(p, &im));
	REQUIRE(!ep_open(&self, &c) && !ep_open(&other, &c));
	REQUIRE(!ep_init(&self) && !ep_init(&other));
	ep_info(&self, &si);
	ep_info(&other, &oi);
	REQUIRE(!ep_rtr(&self, &oi) && !ep_rtr(&other, &si));
	REQUIRE(!ep_rts(&self) && !ep_rts(&other));
	b_do(p, H_FILL, 7, 0);
	CHECK_ERRNO((int)b_do(p, H_HOLD, 0, 0).v[0], 0);
	side_kill(&p->b, SIGKILL);
	/* From one end to the other of this process: nothing is held any more. */
	w.raddr = oi.addr;
	w.rkey = oi.rkey;
	CHECK_ERRNO(ep_send(&self, &w), 0);
	CHECK_INT(ep_poll(self.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	fill_bytes(self.buf, LEN, 7);
	CHECK(!memcmp(self.buf, im.map, LEN));
	close_import(&im);
	CHECK_ERRNO(ep_close(&self), 0);
	CHECK_ERRNO(ep_close(&other), 0);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

/* An importer is killed while the exporter moves: it is not waited for. */
static void c_importer_killed(struct pair *p)
{
	struct ibv_dm *dm;
	uint32_t rkey;
	uint8_t *map;

	dm = export_to_b(p, &map, &rkey);
	REQUIRE(dm);
	fill_bytes(map, LEN, 1);
	for (int i = 0; i < 10; i++) {
		if (i == 5)
			side_kill(&p->b, SIGKILL);
		CHECK_ERRNO(uodpdv_dmabuf_move(dm), 0);
	}
	fill_bytes(p->a.buf, LEN, 1);
	CHECK(!memcmp(map, p->a.buf, LEN));
	CHECK_ERRNO(uodpdv_dmabuf_revoke(dm), 0);
	CHECK(bus(map));
	CHECK_ERRNO(uodpdv_dm_unmap(dm, map), 0);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	CHECK_ERRNO(ep_close(&p->a), 0);
}

/* ---- the kernel's own ---- */

static bool udmabuf_there(void)
{
	if (!access("/dev/udmabuf", R_OK | W_OK))
		return true;
	t_skip("/dev/udmabuf: %s", strerror(errno));
	return false;
}

/* B's, by its rkey, and A's own MR of the same as a local buffer. */
static void c_udmabuf(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr w = {.id = 3,
			.op = IBV_WR_ATOMIC_FETCH_AND_ADD,
			.flags = IBV_SEND_SIGNALED,
			.len = 8,
			.raddr = IOVA + PAGE,
			.compare_add = 5};
	uint8_t want[LEN];
	struct hook_msg out;
	struct import im;
	struct ibv_wc wc;
	uint64_t word;

	if (!udmabuf_there())
		return;
	REQUIRE(pair_up(p, &c, &c));
	out = b_do(p, H_KERNEL, 0, 0);
	REQUIRE(out.v[0]);
	w.rkey = (uint32_t)out.v[2];
	im.fd = fd_of(p->remote ? p->b.pid : getpid(), (int)out.v[1]);
	REQUIRE(im.fd >= 0);
	refused(p->a.pd, 0, LEN + PAGE, 0, im.fd, ALL_ACCESS, EINVAL);
	im.mr = ibv_reg_dmabuf_mr(p->a.pd, SKEW, LEN - SKEW, IOVA + SKEW, im.fd, ALL_ACCESS);
	REQUIRE(im.mr);

	fill_bytes(want, LEN, 5);
	b_do(p, H_FILL, 5, 0);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, w.rkey, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
	CHECK(!memcmp(p->a.buf, want + SKEW, LEN - SKEW));
	fill_bytes(p->a.buf, LEN, 6);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, w.rkey, 3 * PAGE - 4, 2 * PAGE), IBV_WC_SUCCESS);
	memcpy(want + 3 * PAGE - 4, p->a.buf, 2 * PAGE);
	for (uint64_t off = 0; off < LEN; off += 248) {
		memcpy(&word, want + off, 8);
		CHECK_INT(b_do(p, H_WORD, off, 0).v[0], word);
	}
	memcpy(&word, want + PAGE, 8);
	REQUIRE(CHECK_ERRNO(ep_send(&p->a, &w), 0));
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK(!memcmp(p->a.buf, &word, 8));
	CHECK_INT(b_do(p, H_WORD, PAGE, 0).v[0], word + 5);

	b_do(p, H_FILL, 7, 0);
	fill_bytes(want, LEN, 7);
	CHECK_STATUS(local(p, &im, IBV_WR_RDMA_WRITE, SKEW, LEN - SKEW), IBV_WC_SUCCESS);
	CHECK(side_sum(&p->b, 0, LEN - SKEW) == sum_bytes(want + SKEW, LEN - SKEW));
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, w.rkey, LEN - 4, 8), IBV_WC_REM_ACCESS_ERR);
	CHECK_ERRNO(ibv_dereg_mr(im.mr), 0);
	close(im.fd);
	b_do(p, H_KERNEL_FREE, 0, 0);
	pair_down(p);
}

/* Exporters that follow each other read what the process has told those before. */
static void c_again(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = PAGE};
	struct ep_conf c = RC_CONF;

	REQUIRE(pair_up(p, &c, &c));
	for (int i = 0; i < 50 && !t_failures(); i++) {
		struct ibv_dm *dm = ibv_alloc_dm(p->a.ctx, &a);
		int fd = dm ? uodpdv_dmabuf_export(dm) : -1;

		for (int n = i ? 1 : 3000; n && CHECK(fd >= 0) && !t_failures(); n--) {
			struct ibv_mr *one = ibv_reg_dmabuf_mr(p->a.pd, 0, PAGE, 0, fd, 0);
			struct ibv_mr *two = ibv_reg_dmabuf_mr(p->a.pd, 0, PAGE, 0, fd, 0);

			if (CHECK(one))
				CHECK_ERRNO(ibv_dereg_mr(one), 0);
			if (CHECK(two))
				CHECK_ERRNO(ibv_dereg_mr(two), 0);
		}
		close(fd);
		CHECK_ERRNO(ibv_free_dm(dm), 0);
	}
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"refused", c_refused, HERE},
		{"exporter", c_exporter, HERE},
		{"transfer", c_transfer, BOTH},
		{"move", c_move, BOTH},
		{"hold", c_hold, PEER},
		{"revoke", c_revoke, BOTH},
		{"ordinary", c_ordinary, HERE},
		{"freed", c_freed, HERE},
		{"again", c_again, HERE},
		{"traffic", c_traffic, BOTH},
		{"revoke-traffic", c_revoke_traffic, BOTH},
		{"stopped", c_stopped, PEER},
		{"udmabuf", c_udmabuf, BOTH},
		/* The last, each with a B that is gone then. */
		{"killed", c_killed, PEER},
		{"importer-killed", c_importer_killed, PEER},
	};

	t_hook(hook);
	return t_main(argc, argv, 2, cases, ARRAY_SIZE(cases));
}
