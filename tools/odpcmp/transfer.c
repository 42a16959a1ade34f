/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Moving probes between the peer's buffer and the region under test. */
#include <errno.h>
#include <infiniband/verbs.h>
#include <unistd.h>

#include "odpcmp.h"

enum { PENDING = -1 };

/* How the work requests under way at both ends ended. */
struct ends {
	int peer;
	int target;
};

/* The parent process ends this if the device never answers. */
static int wait_for(struct rdma *rdma, const int *wanted, struct ends *ends)
{
	struct ibv_wc wc;
	unsigned int idle = 0;
	int num;

	while (*wanted == PENDING) {
		num = ibv_poll_cq(rdma->cq, 1, &wc);
		if (num < 0)
			return -EIO;
		if (num == 1 && wc.qp_num == rdma->peer->qp_num)
			ends->peer = wc.status;
		else if (num == 1 && rdma->target && wc.qp_num == rdma->target->qp_num)
			ends->target = wc.status;
		else if (++idle > 1000)
			usleep(50);
	}
	return 0;
}

static struct ibv_sge sge_of_buf(const struct rdma *rdma, size_t page, size_t len)
{
	return (struct ibv_sge){
		.addr = (uintptr_t)rdma_probe(rdma, page),
		.length = len,
		.lkey = rdma->buf_mr->lkey,
	};
}

static struct ibv_sge sge_of_region(const struct rdma *rdma, const uint8_t *addr)
{
	return (struct ibv_sge){
		.addr = (uintptr_t)addr + rdma->iova_offset,
		.length = PROBE,
		.lkey = rdma->mr->lkey,
	};
}

static int post_recv(struct ibv_qp *qp, struct ibv_sge sge)
{
	struct ibv_recv_wr *bad, wr = {.sg_list = &sge, .num_sge = 1};

	return -ibv_post_recv(qp, &wr, &bad);
}

static int post_send(struct ibv_qp *qp, struct ibv_sge sge)
{
	struct ibv_send_wr *bad, wr = {
					 .sg_list = &sge,
					 .num_sge = 1,
					 .opcode = IBV_WR_SEND,
					 .send_flags = IBV_SEND_SIGNALED,
				 };

	return -ibv_post_send(qp, &wr, &bad);
}

static int transfer(struct rdma *rdma, int opcode, const uint8_t *remote, struct ibv_sge sge)
{
	struct ibv_send_wr *bad,
		wr = {
			.sg_list = &sge,
			.num_sge = 1,
			.opcode = opcode,
			.send_flags = IBV_SEND_SIGNALED,
			.wr.rdma =
				{
					.remote_addr = (uintptr_t)remote + rdma->iova_offset,
					.rkey = rdma->rkey,
				},
		};
	struct ends ends = {PENDING, PENDING};
	int ret;

	ret = -ibv_post_send(rdma->peer, &wr, &bad);
	if (!ret)
		ret = wait_for(rdma, &ends.peer, &ends);
	return ret ? ret : ends.peer;
}

int rdma_transfer(struct rdma *rdma, int opcode, const void *addr, size_t pages, size_t page)
{
	int status = IBV_WC_SUCCESS;
	size_t i;

	for (i = 0; i < pages && status == IBV_WC_SUCCESS; i++)
		status = transfer(rdma, opcode, (const uint8_t *)addr + i * page,
				  sge_of_buf(rdma, i, PROBE));
	return status;
}

int rdma_move(struct rdma *rdma, int opcode, const void *remote)
{
	return transfer(rdma, opcode, remote, sge_of_buf(rdma, 0, rdma->len));
}

static int send_probe(struct rdma *rdma, const uint8_t *from, size_t page)
{
	struct ends ends = {PENDING, PENDING};
	int ret;

	ret = post_recv(rdma->peer, sge_of_buf(rdma, page, PROBE));
	if (!ret)
		ret = post_send(rdma->target, sge_of_region(rdma, from));
	if (!ret)
		ret = wait_for(rdma, &ends.target, &ends);
	if (ret || ends.target != IBV_WC_SUCCESS)
		return ret ? ret : ends.target;
	ret = wait_for(rdma, &ends.peer, &ends);
	return ret ? ret : ends.peer;
}

int rdma_send(struct rdma *rdma, const void *addr, size_t pages, size_t page)
{
	int status = IBV_WC_SUCCESS;
	size_t i;

	for (i = 0; i < pages && status == IBV_WC_SUCCESS; i++)
		status = send_probe(rdma, (const uint8_t *)addr + i * page, i);
	return status;
}

/* Both ends have a say: the peer's request fails, and so does the buffer's. */
static int receive_probe(struct rdma *rdma, const uint8_t *to, size_t page, int *here)
{
	struct ends ends = {PENDING, PENDING};
	int ret;

	ret = post_recv(rdma->target, sge_of_region(rdma, to));
	if (!ret)
		ret = post_send(rdma->peer, sge_of_buf(rdma, page, PROBE));
	if (!ret)
		ret = wait_for(rdma, &ends.peer, &ends);
	if (!ret)
		ret = wait_for(rdma, &ends.target, &ends);
	*here = ends.target;
	return ret ? ret : ends.peer;
}

int rdma_receive(struct rdma *rdma, const void *addr, size_t pages, size_t page, int *here)
{
	int status = IBV_WC_SUCCESS;
	size_t i;

	for (i = 0; i < pages && status == IBV_WC_SUCCESS; i++)
		status = receive_probe(rdma, (const uint8_t *)addr + i * page, i, here);
	return status;
}

static int fetch_add(struct rdma *rdma, const uint8_t *remote, size_t page)
{
	struct ibv_sge sge = sge_of_buf(rdma, page, sizeof(uint64_t));
	struct ibv_send_wr *bad,
		wr = {
			.sg_list = &sge,
			.num_sge = 1,
			.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
			.send_flags = IBV_SEND_SIGNALED,
			.wr.atomic =
				{
					.remote_addr = (uintptr_t)remote + rdma->iova_offset,
					.compare_add = 1,
					.rkey = rdma->rkey,
				},
		};
	struct ends ends = {PENDING, PENDING};
	int ret;

	ret = -ibv_post_send(rdma->peer, &wr, &bad);
	if (!ret)
		ret = wait_for(rdma, &ends.peer, &ends);
	return ret ? ret : ends.peer;
}

int rdma_fetch_add(struct rdma *rdma, const void *addr, size_t pages, size_t page)
{
	int status = IBV_WC_SUCCESS;
	size_t i;

	for (i = 0; i < pages && status == IBV_WC_SUCCESS; i++)
		status = fetch_add(rdma, (const uint8_t *)addr + i * page, i);
	return status;
}
