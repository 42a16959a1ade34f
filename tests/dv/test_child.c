/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A child of fork: what it has of its parent's device, and a device of its own. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define LEN ((size_t)4 << 20)
#define DM_LEN ((size_t)40 << 20) /* of 64 MiB that a process may have */
#define CHILD_SECS 120

#ifdef __SANITIZE_THREAD__
/* The child opens a device, which starts threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}
#endif

/* FN's answer, from a child; -1 when it died, or hung. */
static int child_run(int (*fn)(struct ep *ep), struct ep *ep)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		alarm(CHILD_SECS);
		_exit(fn(ep));
	}
	if (!CHECK(pid > 0) || !CHECK_INT(waitpid(pid, &status, 0), pid))
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static struct ibv_dm *dm;

/* The data path, whose functions the fork has replaced. */
static int queues_refuse(struct ep *ep)
{
	struct ibv_recv_wr recv = {.wr_id = 1}, *bad_recv;
	struct ibv_send_wr send = {.opcode = IBV_WR_RDMA_WRITE}, *bad_send;
	struct ibv_qp_ex *qpx = ibv_qp_to_qp_ex(ep->qp);
	struct ibv_wc wc;

	if (ibv_post_send(ep->qp, &send, &bad_send) != EIO || bad_send != &send)
		return 10;
	if (ibv_post_recv(ep->qp, &recv, &bad_recv) != EIO || bad_recv != &recv)
		return 11;
	if (ibv_post_srq_recv(ep->srq, &recv, &bad_recv) != EIO)
		return 12;
	if (ibv_poll_cq(ep->scq, 1, &wc) >= 0 || ibv_req_notify_cq(ep->scq, 0) != EIO)
		return 13;
	ibv_wr_start(qpx);
	ibv_wr_rdma_write(qpx, 1, 2);
	ibv_wr_set_sge(qpx, 1, 2, 3);
	return ibv_wr_complete(qpx) == EIO ? 0 : 14;
}

/* Its parent's objects are not the child's to end. Which call answered otherwise. */
static int leave_alone(struct ep *ep)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	struct ibv_qp_init_attr init;
	int ret = queues_refuse(ep);

	if (ret)
		return ret;
	if (ibv_modify_qp(ep->qp, &attr, IBV_QP_STATE) != EIO ||
	    ibv_query_qp(ep->qp, &attr, IBV_QP_STATE, &init) != EIO)
		return 1;
	if (ibv_reg_mr(ep->pd, ep->buf, 4096, 0) || errno != EIO)
		return 2;
	if (ibv_destroy_qp(ep->qp) != EIO || ibv_destroy_srq(ep->srq) != EIO)
		return 3;
	if (ibv_destroy_cq(ep->scq) != EIO || ibv_destroy_cq(ep->rcq) != EIO)
		return 4;
	if (ibv_dereg_mr(ep->mr) != EIO || ibv_free_dm(dm) != EIO || ibv_dealloc_pd(ep->pd) != EIO)
		return 5;
	return ibv_close_device(ep->ctx) ? 6 : 0;
}

/* The context is opened anew by the first verb that asks it for something; what was on
 * it stays the parent's. */
static int use_context(struct ep *ep)
{
	struct ibv_alloc_dm_attr a = {.length = 4096};
	struct ibv_device_attr attr;
	struct ibv_dm *own = ibv_alloc_dm(ep->ctx, &a);
	uint32_t word = 43, back = 0;
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	struct ibv_cq *cq;
	struct ibv_wc wc;
	int ret;

	if (!own || ibv_query_device(ep->ctx, &attr))
		return 20;
	if (ibv_memcpy_to_dm(own, 0, &word, 4) || ibv_memcpy_from_dm(&back, own, 0, 4) ||
	    back != word)
		return 21;
	pd = ibv_alloc_pd(ep->ctx);
	cq = ibv_create_cq(ep->ctx, 16, NULL, NULL, 0);
	mr = pd ? ibv_reg_mr(pd, ep->buf, 4096, IBV_ACCESS_LOCAL_WRITE) : NULL;
	if (!pd || !cq || !mr || ibv_poll_cq(cq, 1, &wc))
		return 22;
	ret = queues_refuse(ep);
	if (ret)
		return ret;
	if (ibv_reg_dm_mr(ep->pd, own, 0, 4096, IBV_ACCESS_ZERO_BASED) || errno != EIO)
		return 23;
	if (ibv_memcpy_to_dm(dm, 0, &word, 4) != EIO || ibv_free_dm(dm) != EIO)
		return 24;
	if (ibv_dereg_mr(mr) || ibv_dealloc_pd(pd) || ibv_destroy_cq(cq) || ibv_free_dm(own))
		return 25;
	if (ibv_close_device(ep->ctx))
		return 26;
	return ibv_destroy_qp(ep->qp) == EIO ? 0 : 27;
}

static void c_objects(struct pair *p)
{
	struct twr w = {.op = IBV_WR_RDMA_WRITE, .flags = IBV_SEND_SIGNALED, .len = 4096};
	struct ibv_alloc_dm_attr a = {.length = 4096};
	struct ep_conf c = RC_CONF;
	struct ibv_wc wc;
	uint32_t word = 42;

	c.srq_wr = 4;
	c.send_ops = IBV_QP_EX_WITH_RDMA_WRITE;
	REQUIRE(pair_up(p, &c, &c));
	dm = ibv_alloc_dm(p->a.ctx, &a);
	REQUIRE(dm);
	CHECK_ERRNO(ibv_memcpy_to_dm(dm, 0, &word, sizeof(word)), 0);
	CHECK_INT(child_run(leave_alone, &p->a), 0);
	CHECK_INT(child_run(use_context, &p->a), 0);
	word = 0;
	CHECK_ERRNO(ibv_memcpy_from_dm(&word, dm, 0, sizeof(word)), 0);
	CHECK_INT(word, 42);
	w.raddr = p->bi.addr;
	w.rkey = p->bi.rkey;
	CHECK_ERRNO(ep_send(&p->a, &w), 0);
	CHECK_INT(ep_poll(p->a.scq, &wc, 1, LONG_MS), 1);
	CHECK_STATUS(wc.status, IBV_WC_SUCCESS);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	pair_down(p);
}

/* ---- a device of the child's own, whatever its parent's threads are at ---- */

static _Atomic bool stop;

/* Advice takes long, under locks of the process's. */
static void *advise(void *arg)
{
	struct ep *ep = arg;
	void *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct ibv_mr *mr =
		ibv_reg_mr(ep->pd, mem, LEN, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
	struct ibv_sge sge = {(uintptr_t)mem, LEN, mr ? mr->lkey : 0};

	while (CHECK(mr) && !stop) {
		CHECK_ERRNO(ibv_advise_mr(ep->pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
					  IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1),
			    0);
		madvise(mem, LEN, MADV_DONTNEED);
	}
	if (mr)
		CHECK_ERRNO(ibv_dereg_mr(mr), 0);
	munmap(mem, LEN);
	return NULL;
}

static int begin_anew(struct ep *ep)
{
	struct ibv_alloc_dm_attr a = {.length = DM_LEN};
	struct ibv_sge sge = {.lkey = ep->mr->lkey, .length = 4096};
	struct ep own = {0};

	ep_open(&own, &ep->conf);
	if (!own.mr)
		return 1;
	/* A key of the parent's alone. */
	sge.lkey = own.mr->lkey == ep->mr->lkey ? ep->mr_other->lkey : ep->mr->lkey;
	if (own.mr_other->lkey != sge.lkey && ibv_advise_mr(own.pd, 0, 0, &sge, 1) != ENOENT)
		return 2;
	if (!ibv_alloc_dm(own.ctx, &a))
		return 3;
	return ibv_close_device(own.ctx) ? 4 : 0;
}

static void c_anew(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = DM_LEN};
	struct ep_conf c = RC_CONF;
	pthread_t thread;

	c.odp = true;
	REQUIRE(pair_up(p, &c, &c));
	dm = ibv_alloc_dm(p->a.ctx, &a);
	REQUIRE(dm);
	stop = false;
	REQUIRE(!pthread_create(&thread, NULL, advise, &p->a));
	for (int i = 0; i < 8 && !t_failures(); i++)
		CHECK_INT(child_run(begin_anew, &p->a), 0);
	stop = true;
	pthread_join(thread, NULL);
	CHECK_ERRNO(ibv_free_dm(dm), 0);
	pair_down(p);
}

/* Device memory by several children at once, on the context that all have inherited. */
static void c_together(struct pair *p)
{
	struct ibv_alloc_dm_attr a = {.length = DM_LEN};
	struct ibv_context *ctx = tdev_open();
	pid_t pids[5];
	int status;

	(void)p;
	for (unsigned i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		if (!pids[i]) {
			alarm(CHILD_SECS);
			_exit(ibv_alloc_dm(ctx, &a) ? 0 : errno);
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(pids); i++) {
		CHECK_INT(waitpid(pids[i], &status, 0), pids[i]);
		CHECK_INT(status, 0);
	}
	CHECK_ERRNO(ibv_close_device(ctx), 0);
}

int main(int argc, char **argv)
{
	static const struct tcase cases[] = {
		{"objects", c_objects, BOTH},
		{"anew", c_anew, HERE},
		{"together", c_together, HERE},
	};

	return t_main(argc, argv, 1, cases, ARRAY_SIZE(cases));
}
