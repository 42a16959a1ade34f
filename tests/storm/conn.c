/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The device, and RC queue pairs in their states. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storm.h"

#define PORT 1

struct device dev;

void die(const char *what)
{
	int err = errno;

	dprintf(1, "process %u: %s: %s\n", self, what, strerror(err));
	atomic_store(&ctl->failed, 1);
	atomic_store(&ctl->stop, 1);
	_exit(1);
}

/* RoCE v2 with an IPv4 address if there is one. */
static int gid_choose(int n)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct ibv_gid_entry e;

	for (int i = 0; i < n; i++)
		if (!ibv_query_gid_ex(dev.ctx, PORT, (uint32_t)i, &e, 0) &&
		    e.gid_type == IBV_GID_TYPE_ROCE_V2 && !memcmp(e.gid.raw, mapped, 12))
			return i;
	return 0;
}

void device_open(void)
{
	const char *name = getenv("UODP_TEST_DEVICE");
	struct ibv_device_attr_ex attr = {.comp_mask = 0};
	struct ibv_port_attr port;
	struct ibv_device **list;
	int n;

	name = name ? name : "uodp0";
	list = ibv_get_device_list(&n);
	for (int i = 0; list && i < n; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			dev.ctx = ibv_open_device(list[i]);
	if (!dev.ctx)
		die("no RDMA device (UODP_TEST_DEVICE)");
	ibv_free_device_list(list);
	dev.pd = ibv_alloc_pd(dev.ctx);
	if (!dev.pd || ibv_query_port(dev.ctx, PORT, &port))
		die("ibv_alloc_pd, ibv_query_port");
	if (ibv_query_device_ex(dev.ctx, NULL, &attr) ||
	    !(attr.odp_caps.general_caps & IBV_ODP_SUPPORT))
		die("no on-demand paging");
	dev.mtu = port.active_mtu;
	dev.gid_index = gid_choose(port.gid_tbl_len);
	if (ibv_query_gid(dev.ctx, PORT, dev.gid_index, &dev.gid))
		die("ibv_query_gid");
}

struct ibv_qp *conn_qp(struct ibv_cq *cq)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = cq,
		.recv_cq = cq,
		.cap = {.max_send_wr = DEPTH,
			.max_recv_wr = RECVS,
			.max_send_sge = 1,
			.max_recv_sge = 1},
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
	};
	struct ibv_qp *qp = ibv_create_qp(dev.pd, &attr);

	if (!qp)
		die("ibv_create_qp");
	return qp;
}

void conn_state(struct ibv_qp *qp, enum ibv_qp_state state)
{
	struct ibv_qp_attr attr = {.qp_state = state};

	errno = ibv_modify_qp(qp, &attr, IBV_QP_STATE);
	if (errno)
		die("ibv_modify_qp to RESET or ERR");
}

void conn_ready(struct ibv_qp *qp, uint32_t peer_qpn, const union ibv_gid *gid)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = PORT,
		.qp_access_flags =
			IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC,
	};

	errno = ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	if (errno)
		die("ibv_modify_qp to INIT");
	attr.qp_state = IBV_QPS_RTR;
	attr.path_mtu = dev.mtu;
	attr.dest_qp_num = peer_qpn;
	attr.max_dest_rd_atomic = 4;
	attr.min_rnr_timer = 1;
	attr.ah_attr.is_global = 1;
	attr.ah_attr.grh.dgid = *gid;
	attr.ah_attr.grh.sgid_index = (uint8_t)dev.gid_index;
	attr.ah_attr.grh.hop_limit = 64;
	attr.ah_attr.port_num = PORT;
	errno = ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				      IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				      IBV_QP_MIN_RNR_TIMER);
	if (errno)
		die("ibv_modify_qp to RTR");
}

void conn_send_ready(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTS,
		.timeout = 18,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.max_rd_atomic = 4,
	};

	errno = ibv_modify_qp(qp, &attr,
			      IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				      IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC);
	if (errno)
		die("ibv_modify_qp to RTS");
}
