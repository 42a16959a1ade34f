/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Registration and what changes a region afterwards: refusals, re-registration,
 * advice, mprotect, and a device that is closed with everything left open. */
#include <dirent.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

#define LEN 65536

static void reg_refused(struct ep *ep, void *addr, size_t len, int access, int want)
{
	struct ibv_mr *mr;

	errno = 0;
	mr = ibv_reg_mr(ep->pd, addr, len, access);
	t_note("access %#x", access);
	if (CHECK(!mr))
		CHECK_ERRNO(errno, want);
	else
		ibv_dereg_mr(mr);
}

static void c_refused(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ep *a = &p->a;

	REQUIRE(pair_up(p, &c, &c));
	reg_refused(a, a->buf, LEN, IBV_ACCESS_REMOTE_WRITE, EINVAL);
	reg_refused(a, a->buf, LEN, IBV_ACCESS_REMOTE_ATOMIC, EINVAL);
	reg_refused(a, a->buf, LEN, IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_WRITE, EINVAL);
	reg_refused(a, a->buf, LEN, 1 << 15, EINVAL);
	reg_refused(a, a->buf, SIZE_MAX - 4096, IBV_ACCESS_LOCAL_WRITE, EINVAL);
	if (!(tdev()->odp.general_caps & IBV_ODP_SUPPORT_IMPLICIT))
		reg_refused(a, NULL, SIZE_MAX, IBV_ACCESS_ON_DEMAND, EINVAL);
	reg_refused(a, a->buf, 0, IBV_ACCESS_LOCAL_WRITE, EINVAL);
	reg_refused(a, NULL, 0, IBV_ACCESS_LOCAL_WRITE, EINVAL);
	if (tdev()->odp.general_caps & IBV_ODP_SUPPORT)
		reg_refused(a, a->buf, 0, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND, EINVAL);
	pair_down(p);
}

/* ---- no bytes ---- */

/* A work request of OP whose one SGE has no bytes, at ADDR by LKEY. */
static void no_bytes(struct pair *p, enum ibv_wr_opcode op, struct ibv_mr *mr, uint64_t addr,
		     uint64_t raddr)
{
	struct ibv_sge sge = {.addr = addr, .lkey = mr->lkey};
	struct ibv_send_wr wr = {.opcode = op,
				 .sg_list = &sge,
				 .num_sge = 1,
				 .send_flags = IBV_SEND_SIGNALED},
			   *bad;
	struct ibv_wc wc;

	wr.wr.rdma.remote_addr = raddr;
	wr.wr.rdma.rkey = mr->rkey;
	CHECK_ERRNO(ibv_post_send(p->a.qp, &wr, &bad), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
}

/* What moves nothing needs no address; and no byte is ever inside. */
static void no_bytes_use(struct pair *p, struct ibv_mr *mr, uint8_t *at)
{
	struct ibv_sge sge = {.addr = (uintptr_t)at + 123456, .lkey = mr->lkey};
	struct ibv_recv_wr recv = {.sg_list = &sge, .num_sge = 1}, *bad;
	struct ibv_wc wc;

	for (int far = 0; far < 2; far++) {
		uint64_t addr = (uintptr_t)at + (far ? 1u << 20 : 0);

		no_bytes(p, IBV_WR_RDMA_WRITE, mr, addr, addr);
		no_bytes(p, IBV_WR_RDMA_READ, mr, addr, addr);
		CHECK_ERRNO(ibv_post_recv(p->b.ep.qp, &recv, &bad), 0);
		no_bytes(p, IBV_WR_SEND, mr, addr, 0);
		CHECK_INT(side_poll(&p->b, RECV_CQ, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
		CHECK_INT(wc.byte_len, 0);
	}
}

static void no_bytes_region(int access, uint8_t *at, bool there)
{
	struct twr one = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 1};
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;
	struct pair p;
	struct ibv_wc wc;

	memset(&p, 0, sizeof(p));
	p.b.fd = -1;
	REQUIRE(pair_up(&p, &c, &c));
	mr = ibv_reg_mr(p.b.ep.pd, at, 0, access);
	if (!there && !(access & IBV_ACCESS_ON_DEMAND)) {
		CHECK(!mr);
		CHECK_ERRNO(errno, EFAULT);
	} else if (CHECK(mr)) {
		CHECK_INT(mr->length, 0);
		no_bytes_use(&p, mr, at);
		one.raddr = (uintptr_t)at;
		one.rkey = mr->rkey;
		CHECK_ERRNO(ep_send(&p.a, &one), 0);
		CHECK_INT(ep_poll(p.a.scq, &wc, 1, LONG_MS), 1);
		CHECK_STATUS(wc.status, IBV_WC_REM_ACCESS_ERR);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	}
	pair_down(&p);
}

/* As rdma_rxe of Linux 7.3 has it: inside a page it is accepted. */
static void c_no_bytes(struct pair *p)
{
	uint8_t *mem = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)p;
	REQUIRE(mem != MAP_FAILED);
	munmap(mem + 4096, 4096);
	for (int odp = 0; odp < 2; odp++) {
		if (odp && !(tdev()->odp.general_caps & IBV_ODP_SUPPORT))
			break;
		no_bytes_region(ALL_ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0), mem + 100, true);
		no_bytes_region(ALL_ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0), mem + 4096 + 5,
				false);
	}
	munmap(mem, 4096);
}

/* Windows or not, an MR may be meant for them: the kernel's common check lets it pass. */
static void c_mw_bind(struct pair *p)
{
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 64};
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;

	c.mr_access |= IBV_ACCESS_MW_BIND;
	REQUIRE(pair_up(p, &c, &c));
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	pair_down(p);
}

/* Nothing is there to pin; on demand that shows at the first access. */
static void c_unmapped(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	void *hole;

	REQUIRE(pair_up(p, &c, &c));
	hole = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(hole != MAP_FAILED);
	munmap(hole, LEN);
	reg_refused(&p->a, hole, LEN, IBV_ACCESS_LOCAL_WRITE, EFAULT);
	pair_down(p);
}

/* A hint that a device does not know is no error. */
static void c_optional(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;

	REQUIRE(pair_up(p, &c, &c));
	mr = ibv_reg_mr(p->a.pd, p->a.buf, LEN, IBV_ACCESS_RELAXED_ORDERING);
	if (CHECK(mr))
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	mr = ibv_reg_mr_iova(p->a.pd, p->a.buf, LEN, (uintptr_t)p->a.buf + 8, 0);
	if (!CHECK(!mr))
		ibv_dereg_mr(mr);
	else
		CHECK_ERRNO(errno, EINVAL);
	pair_down(p);
}

static int write_status(struct pair *p, uint64_t raddr, uint32_t rkey)
{
	struct twr w = {.op = IBV_WR_RDMA_WRITE,
			.flags = IBV_SEND_SIGNALED,
			.len = 8,
			.raddr = raddr,
			.rkey = rkey};
	struct ibv_wc wc;

	if (!CHECK_ERRNO(ep_send(&p->a, &w), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

/* An own iova is the address that peers use, whatever the buffer's is. */
static void c_iova(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ep *b = &p->b.ep;
	struct ibv_mr *mr;
	uint64_t page = 0x123456789000;

	REQUIRE(pair_up(p, &c, &c));
	page += (uintptr_t)b->buf & 4095;
	mr = ibv_reg_mr_iova(b->pd, b->buf, LEN, page, ALL_ACCESS);
	REQUIRE(mr);
	memset(p->a.buf, 0x5a, 8);
	memset(b->buf, 0, LEN);
	CHECK_STATUS(write_status(p, page + 512, mr->rkey), IBV_WC_SUCCESS);
	CHECK_INT(b->buf[512], 0x5a);
	CHECK_STATUS(write_status(p, page + LEN, mr->rkey), IBV_WC_REM_ACCESS_ERR);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	pair_down(p);
}

/* ---- ibv_rereg_mr ---- */

static bool rereg_there(struct ibv_mr *mr)
{
	if (!ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, ALL_ACCESS))
		return true;
	t_skip("this device does not re-register");
	return false;
}

static void c_rereg_access(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;

	REQUIRE(pair_up(p, &c, &c));
	mr = p->b.ep.mr;
	if (rereg_there(mr)) {
		CHECK_STATUS(write_status(p, p->bi.addr, mr->rkey), IBV_WC_SUCCESS);
		CHECK_INT(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
				       IBV_ACCESS_REMOTE_READ),
			  0);
		CHECK_STATUS(write_status(p, p->bi.addr, mr->rkey), IBV_WC_REM_ACCESS_ERR);
	}
	pair_down(p);
}

static void c_rereg_pd(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ep *b = &p->b.ep;

	REQUIRE(pair_up(p, &c, &c));
	if (rereg_there(b->mr)) {
		CHECK_INT(ibv_rereg_mr(b->mr_other, IBV_REREG_MR_CHANGE_PD, b->pd, NULL, 0, 0), 0);
		CHECK_ERRNO(ibv_dealloc_pd(b->pd_other), 0);
		b->pd_other = NULL;
		CHECK_STATUS(write_status(p, p->bi.addr, b->mr_other->rkey), IBV_WC_SUCCESS);
	}
	pair_down(p);
}

static void c_rereg_move(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct ibv_mr *mr;
	uint8_t *to;

	REQUIRE(pair_up(p, &c, &c));
	to = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(to != MAP_FAILED);
	mr = ibv_reg_mr(p->b.ep.pd, p->b.ep.buf, LEN, ALL_ACCESS);
	REQUIRE(mr);
	if (rereg_there(mr)) {
		memset(p->a.buf, 0x77, 8);
		if (CHECK_INT(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, to, LEN, 0),
			      0)) {
			CHECK(mr->addr == to);
			CHECK_STATUS(write_status(p, (uintptr_t)to + 64, mr->rkey), IBV_WC_SUCCESS);
			CHECK_INT(to[64], 0x77);
		}
		/* Wrong at once: the region stays what it is. */
		CHECK_INT(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, to, 0, 0), -1);
		CHECK_INT(ibv_rereg_mr(mr, 1 << 10, NULL, to, LEN, 0), -1);
		CHECK_STATUS(write_status(p, (uintptr_t)to, mr->rkey), IBV_WC_SUCCESS);
	}
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(to, LEN);
	pair_down(p);
}

/* ---- on demand ---- */

static bool odp_up(struct pair *p)
{
	struct ep_conf c = RC_CONF;

	if (!(tdev()->odp.general_caps & IBV_ODP_SUPPORT)) {
		t_skip("no on-demand paging");
		return false;
	}
	c.odp = true;
	return pair_up(p, &c, &c);
}

#define ADVISE(pd, advice, flags, ...)                                                             \
	ibv_advise_mr(pd, advice, flags, &(struct ibv_sge){__VA_ARGS__}, 1)
#define FLUSH IBV_ADVISE_MR_FLAG_FLUSH

static void c_advise(struct pair *p)
{
	uint64_t at;
	uint32_t key;
	struct ibv_mr *ro, *pinned;
	struct ep *a = &p->a;

	if (!odp_up(p))
		return;
	at = (uintptr_t)a->buf;
	key = a->mr->lkey;
	for (int advice = 0; advice < 3; advice++) {
		t_note("advice %d", advice);
		CHECK_ERRNO(ADVISE(a->pd, advice, FLUSH, at, LEN, key), 0);
		CHECK_ERRNO(ADVISE(a->pd, advice, 0, at + 1, 1, key), 0);
	}
	CHECK_ERRNO(ADVISE(a->pd, 0, FLUSH << 1, at, LEN, key), EINVAL);
	if (!tdev()->rxe) { /* which has one errno for all of these */
		CHECK_ERRNO(ADVISE(a->pd, 99, FLUSH, at, LEN, key), EOPNOTSUPP);
		CHECK_ERRNO(ADVISE(a->pd, 0, FLUSH, at, LEN, key ^ 0xff), ENOENT);
		CHECK_ERRNO(ADVISE(a->pd, 0, FLUSH, at, LEN, 0xffffff00), ENOENT);
		CHECK_ERRNO(ADVISE(a->pd_other, 0, FLUSH, at, LEN, key), EPERM);
		CHECK_ERRNO(ADVISE(a->pd, 0, FLUSH, at + 1, LEN, key), EFAULT);
		CHECK_ERRNO(ADVISE(a->pd, 0, FLUSH, at - 1, 1, key), EFAULT);
		ro = ibv_reg_mr(a->pd, a->buf, LEN, IBV_ACCESS_ON_DEMAND);
		REQUIRE(ro);
		CHECK_ERRNO(ADVISE(a->pd, IBV_ADVISE_MR_ADVICE_PREFETCH, FLUSH, at, LEN, ro->lkey),
			    0);
		CHECK_ERRNO(ADVISE(a->pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, FLUSH, at, LEN,
				   ro->lkey),
			    EPERM);
		CHECK_ERRNO(ibv_dereg_mr(ro), 0);
		pinned = ibv_reg_mr(a->pd, a->buf, LEN, 0);
		REQUIRE(pinned);
		CHECK_ERRNO(ADVISE(a->pd, 0, FLUSH, at, LEN, pinned->lkey), ENOENT);
		CHECK_ERRNO(ibv_dereg_mr(pinned), 0);
	}
	pair_down(p);
}

static int read_status(struct pair *p)
{
	struct twr w = {.op = IBV_WR_RDMA_READ, .flags = IBV_SEND_SIGNALED, .len = 8};
	struct ibv_wc wc;

	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	if (!CHECK_ERRNO(ep_send(&p->a, &w), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

/* The device has the rights that the mapping has now. */
static void c_mprotect(struct pair *p)
{
	struct ep *b = &p->b.ep;

	if (!odp_up(p))
		return;
	memset(b->buf, 0x11, LEN);
	CHECK_STATUS(write_status(p, p->bi.addr, p->bi.rkey), IBV_WC_SUCCESS);
	CHECK_INT(mprotect(b->map, b->map_len, PROT_READ), 0);
	CHECK_STATUS(read_status(p), IBV_WC_SUCCESS);
	CHECK_INT(mprotect(b->map, b->map_len, PROT_READ | PROT_WRITE), 0);
	CHECK_STATUS(write_status(p, p->bi.addr, p->bi.rkey), IBV_WC_SUCCESS);
	CHECK_INT(mprotect(b->map, b->map_len, PROT_READ), 0);
	CHECK_STATUS(write_status(p, p->bi.addr, p->bi.rkey), IBV_WC_REM_ACCESS_ERR);
	CHECK_INT(mprotect(b->map, b->map_len, PROT_READ | PROT_WRITE), 0);
	pair_down(p);
}

/* ---- closing ---- */

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static void open_and_leave(void *buf)
{
	struct ibv_context *ctx = tdev_open();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_cq *cq = ibv_create_cq(ctx, 16, NULL, NULL, 0);
	struct ibv_srq_init_attr srq_attr = {.attr = {.max_wr = 8, .max_sge = 1}};
	struct ibv_srq *srq = ibv_create_srq(pd, &srq_attr);
	struct ibv_qp_init_attr attr = {
		.send_cq = cq,
		.recv_cq = cq,
		.srq = srq,
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = 4, .max_send_sge = 1},
	};

	struct ibv_mr *mr = ibv_reg_mr(pd, buf, LEN, ALL_ACCESS);

	struct ibv_qp *qp = ibv_create_qp(pd, &attr);

	CHECK(qp && mr);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
	/* Only their memory is left. */
	CHECK_ERRNO(ibv_destroy_qp(qp), 0);
	CHECK_ERRNO(ibv_destroy_srq(srq), 0);
	CHECK_ERRNO(ibv_destroy_cq(cq), 0);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	CHECK_ERRNO(ibv_dealloc_pd(pd), 0);
}

/* More often than any table has room: a closed device's objects are gone. */
static void c_close(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	int before;

	if (tdev()->rxe) {
		t_skip("its library leaks these");
		return;
	}
	REQUIRE(pair_up(p, &c, &c));
	open_and_leave(p->a.buf);
	before = count_fds();
	for (int i = 0; i < 200 && !t_failures(); i++)
		open_and_leave(p->a.buf);
	CHECK_INT(count_fds(), before);
	CHECK_STATUS(write_status(p, p->bi.addr, p->bi.rkey), IBV_WC_SUCCESS);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"refused", c_refused, HERE},   {"meant for memory windows", c_mw_bind, HERE},
		{"unmapped", c_unmapped, HERE}, {"optional", c_optional, HERE},
		{"iova", c_iova, HERE},         {"rereg-access", c_rereg_access, HERE},
		{"rereg-pd", c_rereg_pd, HERE}, {"rereg-move", c_rereg_move, HERE},
		{"advise", c_advise, HERE},     {"mprotect", c_mprotect, HERE},
		{"close", c_close, HERE},       {"no bytes", c_no_bytes, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
