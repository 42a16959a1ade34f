/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Files whose blocks are taken back, as verbs see it. The test watches a memfd
 * itself, in place of a file system.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <infiniband/uodpdv.h>
#include <odp/odp.h>

#include "harness.h"

#define PAGE 4096u
#define PAGES 16u
#define LEN ((size_t)PAGES * PAGE)
#define CUT (8 * PAGE)

struct file {
	int fd;
	uint64_t ino;
	uint8_t *mem;
	struct odp_watch *watch;
};

static bool file_open(struct file *f, enum odp_policy policy)
{
	struct odp_watch_attr attr = {.policy = policy, .lease_ms = 100};
	struct odp_proc *proc;
	struct stat st;

	f->fd = memfd_create("policy", MFD_CLOEXEC);
	if (!CHECK_INT(ftruncate(f->fd, LEN), 0) || !CHECK_INT(fstat(f->fd, &st), 0))
		return false;
	attr.dev = st.st_dev;
	attr.ino = f->ino = st.st_ino;
	f->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	return CHECK(f->mem != MAP_FAILED) && CHECK_ERRNO(-odp_proc_get(&proc), 0) &&
	       CHECK_ERRNO(-odp_watch_create(proc, &attr, &f->watch), 0);
}

static void file_close(struct file *f)
{
	odp_watch_destroy(f->watch);
	munmap(f->mem, LEN);
	close(f->fd);
}

static int cut(struct file *f, struct odp_recall *rc)
{
	int ret = odp_recall_begin(f->watch, f->ino, CUT, UINT64_MAX, rc);

	if (ret)
		return -ret;
	CHECK_INT(ftruncate(f->fd, CUT), 0);
	CHECK_INT(ftruncate(f->fd, LEN), 0);
	odp_recall_end(f->watch, rc);
	return 0;
}

static struct ibv_mr *reg(struct ibv_pd *pd, struct file *f, int access, uint32_t policy,
			  uint32_t lease_ms)
{
	struct uodpdv_mr_init_attr a = {
		.comp_mask = UODPDV_MR_INIT_ATTR_POLICY, .policy = policy, .lease_ms = lease_ms};

	if (lease_ms)
		a.comp_mask |= UODPDV_MR_INIT_ATTR_LEASE;
	return uodpdv_reg_mr(pd, f->mem, LEN, access, &a, sizeof(a));
}

static struct uodpdv_mr_attr attr_of(struct ibv_mr *mr)
{
	struct uodpdv_mr_attr a = {0};

	CHECK_ERRNO(uodpdv_query_mr(mr, &a, sizeof(a)), 0);
	return a;
}

static int rdma(struct pair *p, enum ibv_wr_opcode op, struct ibv_mr *mr, const void *addr,
		uint32_t len)
{
	struct twr s = {.id = 1,
			.op = op,
			.flags = IBV_SEND_SIGNALED,
			.len = len,
			.raddr = (uintptr_t)addr,
			.rkey = mr->rkey};
	struct ibv_wc wc;

	if (!CHECK_ERRNO(ep_send(&p->a, &s), 0) ||
	    !CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1))
		return -1;
	return (int)wc.status;
}

/* The next event of B's context: its type, and the lkey that it names. */
static int mr_event(struct ibv_context *ctx, int ms, uint32_t *lkey)
{
	struct pollfd pfd = {.fd = ctx->async_fd, .events = POLLIN};
	struct ibv_async_event ev;

	if (poll(&pfd, 1, ms) <= 0 || !CHECK_INT(ibv_get_async_event(ctx, &ev), 0))
		return -1;
	*lkey = (uint32_t)ev.element.port_num;
	ibv_ack_async_event(&ev);
	return (int)ev.event_type;
}

static const int kinds[] = {0, IBV_ACCESS_ON_DEMAND};

static void c_follow(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct odp_recall rc;
	struct ibv_mr *mr;
	struct file f;

	REQUIRE(pair_up(p, &c, &c));
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		REQUIRE(file_open(&f, ODP_POLICY_DEFAULT));
		mr = reg(p->b.ep.pd, &f, ALL_ACCESS | kinds[i], UODPDV_POLICY_ODP, 0);
		REQUIRE(mr);
		CHECK_INT(attr_of(mr).policy, UODPDV_POLICY_ODP);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, f.mem + CUT, PAGE), IBV_WC_SUCCESS);
		CHECK_ERRNO(cut(&f, &rc), 0);
		CHECK_INT(f.mem[CUT], 0);
		memset(p->a.buf, 7, PAGE);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, f.mem + CUT, PAGE), IBV_WC_SUCCESS);
		CHECK_INT(f.mem[CUT], 7);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		file_close(&f);
	}
	pair_down(p);
}

static void c_pinned(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct odp_recall rc;
	struct ibv_mr *mr;
	struct file f;

	REQUIRE(pair_up(p, &c, &c));
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		REQUIRE(file_open(&f, ODP_POLICY_DEFAULT));
		mr = reg(p->b.ep.pd, &f, ALL_ACCESS | kinds[i], UODPDV_POLICY_PINNED, 0);
		REQUIRE(mr);
		memset(f.mem + CUT, 3, PAGE);
		CHECK_ERRNO(cut(&f, &rc), 0);
		CHECK_INT(f.mem[CUT], 0);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, f.mem + CUT, PAGE), IBV_WC_SUCCESS);
		CHECK_INT(p->a.buf[0], 3);
		memset(p->a.buf, 4, PAGE);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, f.mem + CUT, PAGE), IBV_WC_SUCCESS);
		CHECK_INT(f.mem[CUT], 0);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		file_close(&f);
	}
	pair_down(p);
}

/* Remote accesses as to a revoked dma-buf, and the keys stay taken. */
/* What is refused: below the cut, where the blocks stay, above it, and to read. */
static const struct {
	enum ibv_wr_opcode op;
	uint32_t at;
} refused[] = {{IBV_WR_RDMA_WRITE, 0}, {IBV_WR_RDMA_WRITE, CUT}, {IBV_WR_RDMA_READ, 0}};

static void revoke_refuses(struct pair *p, int access, unsigned k)
{
	struct ep_conf c = RC_CONF;
	struct odp_recall rc;
	struct ibv_mr *mr;
	struct file f;
	uint64_t sum;
	uint32_t lkey;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(file_open(&f, ODP_POLICY_REVOKE));
	mr = reg(p->b.ep.pd, &f, ALL_ACCESS | access, UODPDV_POLICY_DEFAULT, 0);
	REQUIRE(mr);
	CHECK_INT(attr_of(mr).policy, UODPDV_POLICY_REVOKE);
	CHECK_INT(attr_of(mr).revoked, 0);
	CHECK_STATUS(rdma(p, refused[k].op, mr, f.mem + refused[k].at, 8), IBV_WC_SUCCESS);
	CHECK_ERRNO(cut(&f, &rc), 0);
	CHECK_INT(rc.revoked, 1);
	CHECK_INT(attr_of(mr).revoked, 1);
	CHECK_INT(mr_event(p->b.ep.ctx, LONG_MS, &lkey), UODPDV_EVENT_MR_REVOKED);
	CHECK_INT(lkey, mr->lkey);
	fill_bytes((uint8_t *)f.mem, LEN, k);
	sum = sum_bytes((uint8_t *)f.mem, LEN);
	memset(p->a.buf, 0xee, PAGE);
	CHECK_STATUS(rdma(p, refused[k].op, mr, f.mem + refused[k].at, 8), IBV_WC_REM_ACCESS_ERR);
	CHECK(sum_bytes((uint8_t *)f.mem, LEN) == sum);
	CHECK_INT(((uint8_t *)p->a.buf)[0], 0xee);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	file_close(&f);
	pair_down(p);
}

static void c_revoke(struct pair *p)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		for (unsigned k = 0; k < ARRAY_SIZE(refused) && !t_failures(); k++)
			revoke_refuses(p, kinds[i], k);
}

static int own_truncate(int fd, void *mem)
{
	(void)mem;
	return ftruncate(fd, CUT);
}

static int own_punch(int fd, void *mem)
{
	(void)mem;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CUT, PAGE);
}

static int own_remove(int fd, void *mem)
{
	(void)fd;
	return madvise((char *)mem + CUT, PAGE, MADV_REMOVE);
}

static int own_truncate64(int fd, void *mem)
{
	(void)mem;
	return ftruncate64(fd, CUT);
}

/* What the program does through its own descriptor to a file that no file system watches. */
static void c_own(struct pair *p)
{
	static int (*const acts[])(int fd, void *mem) = {own_truncate, own_punch, own_truncate64,
							 own_remove};
	struct ep_conf c = RC_CONF;
	struct file f = {0};
	struct ibv_mr *mr;

	for (unsigned i = 0; i < ARRAY_SIZE(acts) * ARRAY_SIZE(kinds); i++) {
		REQUIRE(pair_up(p, &c, &c));
		f.fd = memfd_create("own", MFD_CLOEXEC);
		REQUIRE(f.fd >= 0 && !ftruncate(f.fd, LEN));
		f.mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
		REQUIRE(f.mem != MAP_FAILED);
		mr = reg(p->b.ep.pd, &f, ALL_ACCESS | kinds[i / ARRAY_SIZE(acts)],
			 UODPDV_POLICY_REVOKE, 0);
		REQUIRE(mr);
		CHECK_INT(ftruncate(f.fd, LEN), 0); /* takes nothing */
		CHECK_INT(attr_of(mr).revoked, 0);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, f.mem + CUT, 8), IBV_WC_SUCCESS);
		CHECK_INT(acts[i % ARRAY_SIZE(acts)](f.fd, f.mem), 0);
		CHECK_INT(attr_of(mr).revoked, 1);
		CHECK_STATUS(rdma(p, IBV_WR_RDMA_WRITE, mr, f.mem, 8), IBV_WC_REM_ACCESS_ERR);
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
		munmap(f.mem, LEN);
		close(f.fd);
		pair_down(p);
	}
}

/* A local buffer. */
static void c_revoke_local(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct twr s = {.id = 1, .op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .nsge = 1};
	struct odp_recall rc;
	struct ibv_mr *mr;
	struct ibv_wc wc;
	struct file f;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(file_open(&f, ODP_POLICY_DEFAULT));
	mr = reg(p->a.pd, &f, ALL_ACCESS, UODPDV_POLICY_REVOKE, 0);
	REQUIRE(mr);
	CHECK_ERRNO(cut(&f, &rc), 0);
	s.raddr = p->bi.addr;
	s.rkey = p->bi.rkey;
	s.lkey = mr->lkey;
	s.sge[0] = (struct ibv_sge){
		.addr = (uintptr_t)f.mem - (uintptr_t)p->a.buf, .length = 8, .lkey = mr->lkey};
	CHECK_ERRNO(ep_send(&p->a, &s), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_LOC_PROT_ERR);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	file_close(&f);
	pair_down(p);
}

static volatile sig_atomic_t sigios;

static void on_sigio(int sig)
{
	(void)sig;
	sigios++;
}

/* An event, and SIGIO for who catches it; then the time is over. */
static void c_lease(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct sigaction sa = {.sa_handler = on_sigio}, old;
	struct odp_recall rc;
	struct ibv_mr *mr;
	struct file f;
	uint32_t lkey;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(file_open(&f, ODP_POLICY_DEFAULT));
	mr = reg(p->b.ep.pd, &f, ALL_ACCESS, UODPDV_POLICY_LEASE, 50);
	REQUIRE(mr);
	sigios = 0;
	sigaction(SIGIO, &sa, &old);
	CHECK_ERRNO(cut(&f, &rc), 0);
	sigaction(SIGIO, &old, NULL);
	CHECK(rc.waited_ns >= 50000000);
	CHECK_INT(sigios, 1);
	CHECK_INT(mr_event(p->b.ep.ctx, LONG_MS, &lkey), UODPDV_EVENT_MR_LEASE);
	CHECK_INT(lkey, mr->lkey);
	CHECK_INT(mr_event(p->b.ep.ctx, LONG_MS, &lkey), UODPDV_EVENT_MR_REVOKED);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	file_close(&f);
	pair_down(p);
}

static void c_deny(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct odp_recall rc;
	struct ibv_mr *mr;
	struct file f;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(file_open(&f, ODP_POLICY_LEASE));
	mr = reg(p->b.ep.pd, &f, ALL_ACCESS | IBV_ACCESS_ON_DEMAND, UODPDV_POLICY_DENY, 0);
	REQUIRE(mr);
	CHECK_ERRNO(cut(&f, &rc), ETXTBSY);
	CHECK_STATUS(rdma(p, IBV_WR_RDMA_READ, mr, f.mem + CUT, 8), IBV_WC_SUCCESS);
	CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	CHECK_ERRNO(cut(&f, &rc), 0);
	file_close(&f);
	pair_down(p);
}

/* ---- a recall that comes while the region is being registered ---- */

#define BIG_LEN ((size_t)256 << 20) /* takes long to pin */

struct early {
	struct file *f;
	_Atomic bool stop;
	_Atomic uint32_t found; /* regions */
};

static void *recall_early(void *arg)
{
	struct early *e = arg;
	struct odp_recall rc;

	while (!e->stop && !e->found) {
		if (odp_recall_begin(e->f->watch, e->f->ino, 0, UINT64_MAX, &rc))
			continue;
		e->found = rc.regions;
		odp_recall_end(e->f->watch, &rc);
	}
	return NULL;
}

/* Its owner is told all the same. */
static void c_lease_early(struct pair *p)
{
	struct uodpdv_mr_init_attr a = {.comp_mask = UODPDV_MR_INIT_ATTR_POLICY,
					.policy = UODPDV_POLICY_LEASE};
	struct ibv_context *ctx = tdev_open();
	struct ibv_pd *pd = ibv_alloc_pd(ctx);
	struct ibv_mr *mr;
	pthread_t thread;
	struct early e;
	struct file f;
	uint32_t lkey;

	(void)p;
	REQUIRE(pd && file_open(&f, ODP_POLICY_DEFAULT));
	munmap(f.mem, LEN);
	CHECK_INT(ftruncate(f.fd, BIG_LEN), 0);
	f.mem = mmap(NULL, BIG_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
	REQUIRE(f.mem != MAP_FAILED);
	e = (struct early){.f = &f};
	REQUIRE(!pthread_create(&thread, NULL, recall_early, &e));
	mr = uodpdv_reg_mr(pd, f.mem, BIG_LEN, ALL_ACCESS, &a, sizeof(a));
	if (!mr && errno == ENOMEM) {
		t_skip("not allowed to pin %zu MiB", BIG_LEN >> 20);
	} else {
		CHECK_INT(mr_event(ctx, LONG_MS, &lkey), UODPDV_EVENT_MR_LEASE);
		CHECK(!mr || mr->lkey == lkey);
	}
	e.stop = true;
	if (mr)
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	pthread_join(thread, NULL);
	munmap(f.mem, BIG_LEN);
	f.mem = mmap(NULL, LEN, PROT_READ, MAP_SHARED, f.fd, 0);
	file_close(&f);
	CHECK_ERRNO(ibv_dealloc_pd(pd), 0);
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

static void c_bad(struct pair *p)
{
	struct ep_conf c = RC_CONF;
	struct uodpdv_mr_init_attr a = {.comp_mask = UODPDV_MR_INIT_ATTR_POLICY};
	struct file f;

	REQUIRE(pair_up(p, &c, &c));
	REQUIRE(file_open(&f, ODP_POLICY_DEFAULT));
	CHECK(!reg(p->b.ep.pd, &f, ALL_ACCESS, UODPDV_POLICY_DENY + 1, 0) && errno == EINVAL);
	a.policy = UODPDV_POLICY_REVOKE;
	/* What lies under all of memory cannot be known. */
	CHECK(!uodpdv_reg_mr(p->b.ep.pd, NULL, SIZE_MAX, ALL_ACCESS | IBV_ACCESS_ON_DEMAND, &a,
			     sizeof(a)) &&
	      errno == EOPNOTSUPP);
	a.comp_mask = 1 << 10;
	CHECK(!uodpdv_reg_mr(p->b.ep.pd, f.mem, LEN, ALL_ACCESS, &a, sizeof(a)) &&
	      errno == EOPNOTSUPP);
	file_close(&f);
	pair_down(p);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"follow", c_follow, HERE},
		{"pinned", c_pinned, HERE},
		{"revoke", c_revoke, HERE},
		{"revoke, local", c_revoke_local, HERE},
		{"own calls", c_own, HERE},
		{"lease", c_lease, HERE},
		{"deny", c_deny, HERE},
		{"bad", c_bad, HERE},
		{"lease, early", c_lease_early, HERE},
	};

	return t_main(argc, argv, 0, cases, ARRAY_SIZE(cases));
}
