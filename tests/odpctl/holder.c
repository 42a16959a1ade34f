/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A program with verbs objects of every sort, that says on stdout, in one line
 * of JSON, what it has, and keeps it until stdin ends. Stock libibverbs only.
 */
#include <infiniband/verbs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define SOURCE_PAGES 16
#define TARGET_PAGES 64
#define SHARED_PAGES 4
#define ALL_RIGHTS                                                                                 \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |               \
	 IBV_ACCESS_REMOTE_ATOMIC)

static struct ibv_context *ctx;
static struct ibv_pd *pd;
static struct ibv_cq *send_cq, *recv_cq;
static struct ibv_srq *srq;

__attribute__((noreturn)) static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *must(void *p, const char *what)
{
	if (!p)
		fail(what);
	return p;
}

static void done(int ret, const char *what)
{
	if (ret)
		fail(what);
}

static void device_open(const char *name)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	int i;

	for (i = 0; list && list[i] && strcmp(ibv_get_device_name(list[i]), name); i++)
		;
	if (!list || !list[i])
		fail(name);
	ctx = must(ibv_open_device(list[i]), "ibv_open_device");
	ibv_free_device_list(list);
}

static void *memory(size_t pages, int flags, int fd)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

static int shared_file(void)
{
	int fd = memfd_create("held", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, SHARED_PAGES * PAGE))
		fail("memfd");
	return fd;
}

static void *shared_memory(void)
{
	return memory(SHARED_PAGES, MAP_SHARED, shared_file());
}

/* Two private pages, then two of a file. */
static void *mixed_memory(void)
{
	char *p = memory(4, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (mmap(p + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 shared_file(), 0) == MAP_FAILED)
		fail("mmap");
	memset(p, 1, 4 * PAGE);
	return p;
}

static struct ibv_qp *qp_create(enum ibv_qp_type type, struct ibv_srq *with)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = send_cq,
		.recv_cq = recv_cq,
		.srq = with,
		.qp_type = type,
		.cap = {.max_send_wr = 16, .max_recv_wr = 8, .max_send_sge = 1, .max_recv_sge = 1},
	};
	struct ibv_qp_attr init = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qkey = 0x11,
		.qp_access_flags = ALL_RIGHTS,
	};
	struct ibv_qp *qp = must(ibv_create_qp(pd, &attr), "ibv_create_qp");

	done(ibv_modify_qp(qp, &init,
			   IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				   (type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS)),
	     "INIT");
	return qp;
}

static void qp_connect(struct ibv_qp *qp, struct ibv_qp *peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = peer->qp_num,
		.rq_psn = 7,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.ah_attr = {.is_global = 1,
			    .port_num = 1,
			    .grh = {.sgid_index = 1, .hop_limit = 1}},
	};

	done(ibv_query_gid(ctx, 1, 1, &attr.ah_attr.grh.dgid), "ibv_query_gid");
	done(ibv_modify_qp(qp, &attr,
			   IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				   IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				   IBV_QP_MIN_RNR_TIMER),
	     "RTR");
	attr.qp_state = IBV_QPS_RTS;
	attr.sq_psn = 7;
	attr.timeout = 14;
	attr.retry_cnt = attr.rnr_retry = 7;
	attr.max_rd_atomic = 1;
	done(ibv_modify_qp(qp, &attr,
			   IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				   IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC),
	     "RTS");
}

static void recv_post(struct ibv_qp *qp, struct ibv_mr *mr)
{
	struct ibv_sge sge = {(uintptr_t)mr->addr, 4096, mr->lkey};
	struct ibv_recv_wr wr = {.sg_list = &sge, .num_sge = 1}, *bad;

	done(ibv_post_recv(qp, &wr, &bad), "ibv_post_recv");
}

/* One work request, finished well. */
static void run(struct ibv_qp *qp, enum ibv_wr_opcode op, struct ibv_mr *mr, size_t len,
		uint64_t remote, uint32_t rkey)
{
	struct ibv_sge sge = {(uintptr_t)mr->addr, (uint32_t)len, mr->lkey};
	struct ibv_send_wr wr =
				   {
					   .sg_list = &sge,
					   .num_sge = 1,
					   .opcode = op,
					   .send_flags = IBV_SEND_SIGNALED,
					   .wr.rdma = {remote, rkey},
				   },
			   *bad;
	struct ibv_wc wc;
	int n;

	done(ibv_post_send(qp, &wr, &bad), "ibv_post_send");
	while (!(n = ibv_poll_cq(send_cq, 1, &wc)))
		;
	if (n < 0 || wc.status) {
		fprintf(stderr, "holder: %s\n", n < 0 ? "poll" : ibv_wc_status_str(wc.status));
		exit(1);
	}
}

static struct ibv_mr *mr_reg(void *addr, size_t pages, int access, const char *what)
{
	return must(ibv_reg_mr(pd, addr, pages * PAGE, access), what);
}

/* Faults, then an invalidation, then faults again, then a prefetch. */
static void odp_exercise(struct ibv_qp *qp, struct ibv_mr *from, struct ibv_mr *to)
{
	struct ibv_sge last = {(uintptr_t)to->addr + 32 * PAGE, 4 * PAGE, to->lkey};

	run(qp, IBV_WR_RDMA_WRITE, from, 16 * PAGE, (uintptr_t)to->addr, to->rkey);
	done(madvise(to->addr, 4 * PAGE, MADV_DONTNEED), "madvise");
	run(qp, IBV_WR_RDMA_WRITE, from, 16 * PAGE, (uintptr_t)to->addr, to->rkey);
	done(ibv_advise_mr(pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_ADVISE_MR_FLAG_FLUSH, &last,
			   1),
	     "ibv_advise_mr");
}

/* Objects that are gone must not be listed. */
static void used_and_gone(void)
{
	struct ibv_mr *mr = mr_reg(memory(1, MAP_PRIVATE | MAP_ANONYMOUS, -1), 1, 0, "ibv_reg_mr");
	struct ibv_cq *cq = must(ibv_create_cq(ctx, 1, NULL, NULL, 0), "ibv_create_cq");

	done(ibv_destroy_qp(qp_create(IBV_QPT_UC, NULL)), "ibv_destroy_qp");
	done(ibv_destroy_cq(cq), "ibv_destroy_cq");
	done(ibv_dereg_mr(mr), "ibv_dereg_mr");
}

static void mr_say(const char *name, const struct ibv_mr *mr)
{
	printf("\"%s\": {\"lkey\": %u, \"addr\": %lu, \"mrlen\": %zu}, ", name, mr->lkey,
	       (unsigned long)mr->addr, mr->length);
}

int main(int argc, char **argv)
{
	struct ibv_srq_init_attr srq_attr = {.attr = {.max_wr = 16, .max_sge = 1}};
	struct ibv_mr *mrs[5], *pinned, *odp;
	struct ibv_qp *qps[3], *a, *b;
	struct ibv_comp_channel *channel;
	int i;

	device_open(argc > 1 ? argv[1] : "uodp0");
	pd = must(ibv_alloc_pd(ctx), "ibv_alloc_pd");
	channel = must(ibv_create_comp_channel(ctx), "ibv_create_comp_channel");
	send_cq = must(ibv_create_cq(ctx, 100, NULL, NULL, 0), "ibv_create_cq");
	recv_cq = must(ibv_create_cq(ctx, 50, NULL, channel, 0), "ibv_create_cq");
	done(ibv_req_notify_cq(recv_cq, 1), "ibv_req_notify_cq");
	srq = must(ibv_create_srq(pd, &srq_attr), "ibv_create_srq");

	mrs[0] = pinned =
		mr_reg(memory(SOURCE_PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1), SOURCE_PAGES,
		       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ, "pinned");
	mrs[1] = odp = mr_reg(memory(TARGET_PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1), TARGET_PAGES,
			      ALL_RIGHTS | IBV_ACCESS_ON_DEMAND, "on demand");
	mrs[2] = mr_reg(shared_memory(), SHARED_PAGES, IBV_ACCESS_LOCAL_WRITE, "pinned, shared");
	mrs[3] = mr_reg(shared_memory(), SHARED_PAGES,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND, "on demand, shared");
	mrs[4] = mr_reg(mixed_memory(), 4, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND, "mixed");

	qps[0] = a = qp_create(IBV_QPT_RC, NULL);
	qps[1] = b = qp_create(IBV_QPT_RC, NULL);
	qps[2] = qp_create(IBV_QPT_UD, srq);
	qp_connect(a, b);
	qp_connect(b, a);
	for (i = 0; i < 3; i++)
		recv_post(b, pinned);
	odp_exercise(a, pinned, odp);
	run(a, IBV_WR_SEND, pinned, 100, 0, 0);
	used_and_gone();

	printf("{\"pid\": %d, ", getpid());
	mr_say("pinned", pinned);
	mr_say("odp", odp);
	mr_say("pin", mrs[2]);
	mr_say("va", mrs[3]);
	mr_say("mixed", mrs[4]);
	printf("\"a\": %u, \"b\": %u, \"ud\": %u}\n", a->qp_num, b->qp_num, qps[2]->qp_num);
	fflush(stdout);
	while (getchar() != EOF)
		;

	for (i = 0; i < 3; i++)
		done(ibv_destroy_qp(qps[i]), "ibv_destroy_qp");
	for (i = 0; i < 5; i++)
		done(ibv_dereg_mr(mrs[i]), "ibv_dereg_mr");
	done(ibv_destroy_srq(srq), "ibv_destroy_srq");
	done(ibv_destroy_cq(send_cq), "ibv_destroy_cq");
	done(ibv_destroy_cq(recv_cq), "ibv_destroy_cq");
	done(ibv_destroy_comp_channel(channel), "ibv_destroy_comp_channel");
	done(ibv_dealloc_pd(pd), "ibv_dealloc_pd");
	done(ibv_close_device(ctx), "ibv_close_device");
	return 0;
}
