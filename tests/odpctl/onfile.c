/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * onfile FILE: two MRs on a file, of its first and its last four pages, and one on memory
 * that is none. Says "ready", waits for a line, and says of each whether a transfer by it
 * still works.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <infiniband/verbs.h>

#define PAGE 4096
#define LEN (4 * PAGE)

static struct ibv_context *ctx;
static struct ibv_pd *pd;
static struct ibv_cq *cq;
static struct ibv_qp *qp;

static void *must(void *p, const char *what)
{
	if (!p || p == MAP_FAILED) {
		perror(what);
		exit(1);
	}
	return p;
}

static void done(int err, const char *what)
{
	if (err) {
		fprintf(stderr, "%s failed\n", what);
		exit(1);
	}
}

/* A UD QP that sends to itself: its own buffer is all that is asked about. */
static void device_open(void)
{
	struct ibv_qp_init_attr init = {.cap = {4, 1, 1, 1, 0}, .qp_type = IBV_QPT_UD};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = 1};
	struct ibv_device **list = must(ibv_get_device_list(NULL), "ibv_get_device_list");

	ctx = must(ibv_open_device(must(list[0], "no device")), "ibv_open_device");
	pd = must(ibv_alloc_pd(ctx), "ibv_alloc_pd");
	cq = must(ibv_create_cq(ctx, 16, NULL, NULL, 0), "ibv_create_cq");
	init.send_cq = init.recv_cq = cq;
	qp = must(ibv_create_qp(pd, &init), "ibv_create_qp");
	done(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY),
	     "INIT");
	attr.qp_state = IBV_QPS_RTR;
	done(ibv_modify_qp(qp, &attr, IBV_QP_STATE), "RTR");
	attr.qp_state = IBV_QPS_RTS;
	done(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN), "RTS");
}

static bool works(struct ibv_mr *mr)
{
	struct ibv_ah_attr ah = {
		.is_global = 1, .grh = {.sgid_index = 1, .hop_limit = 1}, .port_num = 1};
	struct ibv_sge sge = {(uintptr_t)mr->addr, 8, mr->lkey};
	struct ibv_send_wr *bad, wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};
	struct ibv_wc wc;

	done(ibv_query_gid(ctx, 1, 1, &ah.grh.dgid), "ibv_query_gid");
	wr.send_flags = IBV_SEND_SIGNALED;
	wr.wr.ud.ah = must(ibv_create_ah(pd, &ah), "ibv_create_ah");
	wr.wr.ud.remote_qpn = qp->qp_num;
	wr.wr.ud.remote_qkey = 1;
	done(ibv_post_send(qp, &wr, &bad), "ibv_post_send");
	while (!ibv_poll_cq(cq, 1, &wc))
		;
	return wc.status == IBV_WC_SUCCESS;
}

int main(int argc, char **argv)
{
	const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ;
	int fd = argc > 1 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	char *file = fd < 0 ? MAP_FAILED
			    : mmap(NULL, 2 * LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct ibv_mr *mr[3];

	must(file, "FILE");
	device_open();
	mr[0] = must(ibv_reg_mr(pd, file, LEN, access), "ibv_reg_mr");
	mr[1] = must(ibv_reg_mr(pd, file + LEN, LEN, access | IBV_ACCESS_ON_DEMAND), "on demand");
	mr[2] = must(ibv_reg_mr(pd, malloc(LEN), LEN, access), "memory");
	puts("ready");
	fflush(stdout);
	getchar();
	/* What fails goes last: the queue ends with it. */
	printf("memory %d", works(mr[2]));
	printf(" first %d", works(mr[0]));
	printf(" second %d\n", works(mr[1]));
	fflush(stdout);
	_exit(0); /* with all that is open, which a leak checker would tell of */
}
