/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The device, and RC queue pairs that are connected again after each error. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checker.h"

#define PORT 1

struct device dev;

void device_open(void)
{
	const char *name = getenv("UODP_TEST_DEVICE");
	struct ibv_device **list;
	int n;

	list = ibv_get_device_list(&n);
	for (int i = 0; list && i < n; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name ? name : "uodp0"))
			dev.ctx = ibv_open_device(list[i]);
	if (!dev.ctx)
		die("no device of uodp's (UODP_TEST_DEVICE)");
	ibv_free_device_list(list);
	dev.pd = ibv_alloc_pd(dev.ctx);
	if (!dev.pd || ibv_query_gid(dev.ctx, PORT, 0, &dev.gid))
		die("ibv_alloc_pd, ibv_query_gid");
}

struct ibv_qp *conn_qp(struct ibv_cq *cq)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = cq,
		.recv_cq = cq,
		.cap = {.max_send_wr = 4, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1},
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
	};
	struct ibv_qp *qp = ibv_create_qp(dev.pd, &attr);

	if (!qp)
		die("ibv_create_qp");
	return qp;
}

void conn_reset(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};

	errno = ibv_modify_qp(qp, &attr, IBV_QP_STATE);
	if (errno)
		die("ibv_modify_qp to RESET");
	attr.qp_state = IBV_QPS_INIT;
	attr.port_num = PORT;
	attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
	errno = ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	if (errno)
		die("ibv_modify_qp to INIT");
}

void conn_connect(struct ibv_qp *qp, uint32_t dest)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_4096,
		.dest_qp_num = dest,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 1,
		.ah_attr = {.is_global = 1,
			    .port_num = PORT,
			    .grh = {.dgid = dev.gid, .hop_limit = 64}},
	};

	errno = ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				      IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				      IBV_QP_MIN_RNR_TIMER);
	if (errno)
		die("ibv_modify_qp to RTR");
	attr.qp_state = IBV_QPS_RTS;
	attr.timeout = 14;
	attr.retry_cnt = 7;
	attr.rnr_retry = 7;
	attr.max_rd_atomic = 1;
	errno = ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				      IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC);
	if (errno)
		die("ibv_modify_qp to RTS");
}
