/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Two QPs of one device, connected to each other. Any verbs device will do. */
#include <errno.h>
#include <infiniband/verbs.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odpcmp.h"

static int verbs_error(void)
{
	return errno ? -errno : -EIO;
}

/* name: of the device that was opened. */
int rdma_open(struct rdma *rdma, const char *device, char *name, size_t name_len)
{
	struct ibv_device **list;
	int i, num, ret = -ENODEV;

	*rdma = (struct rdma){.gid_index = -1};
	list = ibv_get_device_list(&num);
	if (!list)
		return verbs_error();
	for (i = 0; i < num; i++)
		if (!device || !strcmp(ibv_get_device_name(list[i]), device))
			break;
	if (i < num) {
		snprintf(name, name_len, "%s", ibv_get_device_name(list[i]));
		errno = 0;
		rdma->context = ibv_open_device(list[i]);
		ret = rdma->context ? 0 : verbs_error();
	}
	ibv_free_device_list(list);
	return ret;
}

/* RoCE v2 before v1, and IPv4-mapped before the rest: what perftest takes. */
static int gid_rank(const struct ibv_gid_entry *entry)
{
	int rank = 1;

	if (IN6_IS_ADDR_UNSPECIFIED((const struct in6_addr *)entry->gid.raw))
		return 0;
	if (entry->gid_type == IBV_GID_TYPE_ROCE_V2)
		rank += 2;
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)entry->gid.raw))
		rank += 1;
	return rank;
}

static bool gid_exists(struct rdma *rdma, int port, int index)
{
	struct ibv_gid_entry entry;

	return !ibv_query_gid_ex(rdma->context, port, index, &entry, 0) && gid_rank(&entry);
}

static int choose_gid(struct rdma *rdma, int port, int table_len)
{
	struct ibv_gid_entry entry;
	int i, rank, best = -ENOENT, best_rank = 0;

	for (i = 0; i < table_len; i++) {
		if (ibv_query_gid_ex(rdma->context, port, i, &entry, 0))
			continue;
		rank = gid_rank(&entry);
		if (rank > best_rank) {
			best_rank = rank;
			best = i;
		}
	}
	return best;
}

/* Fixes the port and the GID; an InfiniBand port needs none unless one is wanted. */
int rdma_find_gid(struct rdma *rdma, int port, int wanted)
{
	struct ibv_port_attr attr;
	int ret;

	ret = ibv_query_port(rdma->context, port, &attr);
	if (ret)
		return -ret;
	if (attr.state != IBV_PORT_ACTIVE)
		return -ENETDOWN;
	rdma->port = port;
	rdma->gid_index = wanted;
	if (wanted >= 0 && !gid_exists(rdma, port, wanted))
		return -ENOENT;
	if (wanted >= 0 || attr.link_layer == IBV_LINK_LAYER_INFINIBAND)
		return 0;
	ret = choose_gid(rdma, port, attr.gid_tbl_len);
	if (ret < 0)
		return ret;
	rdma->gid_index = ret;
	return 0;
}

static struct ibv_qp *qp_create(struct rdma *rdma)
{
	struct ibv_qp_init_attr attr = {
		.send_cq = rdma->cq,
		.recv_cq = rdma->cq,
		.cap = {.max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 1, .max_recv_sge = 1},
		.qp_type = IBV_QPT_RC,
	};

	return ibv_create_qp(rdma->pd, &attr);
}

static int qp_to_init(struct ibv_qp *qp, int port)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = port,
		.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE |
				   IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_LOCAL_WRITE,
	};

	return ibv_modify_qp(qp, &attr,
			     IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

static int qp_to_rtr(const struct rdma *rdma, struct ibv_qp *qp, uint32_t dest)
{
	struct ibv_port_attr port;
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.dest_qp_num = dest,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.ah_attr = {.port_num = rdma->port},
	};
	int ret;

	ret = ibv_query_port(rdma->context, rdma->port, &port);
	if (ret)
		return ret;
	attr.path_mtu = port.active_mtu;
	attr.ah_attr.dlid = port.lid;
	if (rdma->gid_index >= 0) {
		attr.ah_attr.is_global = 1;
		attr.ah_attr.grh.sgid_index = rdma->gid_index;
		attr.ah_attr.grh.hop_limit = 64;
		if (ibv_query_gid(rdma->context, rdma->port, rdma->gid_index,
				  &attr.ah_attr.grh.dgid))
			return errno ? errno : EIO;
	}
	return ibv_modify_qp(qp, &attr,
			     IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				     IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				     IBV_QP_MIN_RNR_TIMER);
}

static int qp_to_rts(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTS,
		/* A second in all; of a gone peer rdma_rxe never tires with 7. */
		.timeout = 15,
		.retry_cnt = 6,
		.rnr_retry = 7,
		.max_rd_atomic = 1,
	};

	return ibv_modify_qp(qp, &attr,
			     IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				     IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

static void qps_destroy(struct rdma *rdma)
{
	if (rdma->peer)
		ibv_destroy_qp(rdma->peer);
	if (rdma->target)
		ibv_destroy_qp(rdma->target);
	rdma->peer = NULL;
	rdma->target = NULL;
}

/* In state INIT. */
static int qp_create_init(struct rdma *rdma, struct ibv_qp **qp, const char **call)
{
	errno = 0;
	*call = "ibv_create_qp";
	*qp = qp_create(rdma);
	if (!*qp)
		return verbs_error();
	*call = "ibv_modify_qp(INIT)";
	return -qp_to_init(*qp, rdma->port);
}

int rdma_join(struct rdma *rdma, struct ibv_qp *qp, uint32_t dest, const char **call)
{
	int ret;

	*call = "ibv_modify_qp(RTR)";
	ret = qp_to_rtr(rdma, qp, dest);
	if (ret)
		return -ret;
	*call = "ibv_modify_qp(RTS)";
	return -qp_to_rts(qp);
}

static int qps_create(struct rdma *rdma, const char **call)
{
	int ret;

	if ((ret = qp_create_init(rdma, &rdma->peer, call)) ||
	    (ret = qp_create_init(rdma, &rdma->target, call)) ||
	    (ret = rdma_join(rdma, rdma->target, rdma->peer->qp_num, call)))
		return ret;
	rdma->spent = false;
	return rdma_join(rdma, rdma->peer, rdma->target->qp_num, call);
}

static int buffer_create(struct rdma *rdma, const char **call)
{
	size_t len = PAGES * PROBE;
	void *buf = memory_map(2, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	*call = "mmap";
	if (buf == MAP_FAILED)
		return -errno;
	rdma->buf = buf;
	rdma->len = len;
	*call = "ibv_reg_mr of the peer's buffer";
	rdma->buf_mr = ibv_reg_mr(rdma->pd, buf, len, IBV_ACCESS_LOCAL_WRITE);
	return rdma->buf_mr ? 0 : verbs_error();
}

static int objects_create(struct rdma *rdma, const char **call)
{
	errno = 0;
	*call = "ibv_alloc_pd";
	rdma->pd = ibv_alloc_pd(rdma->context);
	if (!rdma->pd)
		return verbs_error();
	*call = "ibv_create_cq";
	rdma->cq = ibv_create_cq(rdma->context, 16, NULL, NULL, 0);
	if (!rdma->cq)
		return verbs_error();
	return buffer_create(rdma, call);
}

/* What fails half way, in the named call, rdma_close() takes down. */
int rdma_connect(struct rdma *rdma, const char **call)
{
	int ret = objects_create(rdma, call);

	return ret ? ret : qps_create(rdma, call);
}

int rdma_connect_half(struct rdma *rdma, struct ibv_qp **qp, const char **call)
{
	int ret = objects_create(rdma, call);

	return ret ? ret : qp_create_init(rdma, qp, call);
}

int rdma_reconnect(struct rdma *rdma, const char **call)
{
	struct ibv_wc wc;

	if (!rdma->spent)
		return 0;
	qps_destroy(rdma);
	while (ibv_poll_cq(rdma->cq, 1, &wc) > 0)
		;
	return qps_create(rdma, call);
}

static int other_register(struct rdma *rdma, struct memory *m, enum mr_kind kind)
{
	enum mr_kind other = kind == MR_PINNED ? MR_ODP : MR_PINNED;
	int access = IBV_ACCESS_LOCAL_WRITE | mr_names[other].access;

	rdma->other_pd = ibv_alloc_pd(rdma->context);
	if (!rdma->other_pd)
		return verbs_error();
	rdma->other_mr = ibv_reg_mr(rdma->other_pd, m->reg_addr, m->reg_length, access);
	return rdma->other_mr ? 0 : verbs_error();
}

/*
 * rdma_rxe (Linux 7.2, ODP) takes an iova for an address. With this one it finds
 * the right entries of its tables all the same, and none beyond their end: it
 * counts pages in 32 bits.
 */
#define IOVA_OFFSET (UINT64_C(1) << 44)

/* -errno is an answer: a device need not have this kind of region. */
int rdma_register(struct rdma *rdma, struct memory *m, enum mr_kind kind, int access)
{
	uint8_t *addr = m->reg_addr;
	size_t length = m->reg_length;
	int ret;

	access |= IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
	if (m->kind->flags & KIND_READ_RIGHTS)
		access = IBV_ACCESS_REMOTE_READ;
	access |= mr_names[kind].access;
	if (m->kind->flags & KIND_LARGE_ODP && kind == MR_ODP) {
		addr = m->base;
		length = m->base_length;
	}
	errno = 0;
	if (m->kind->flags & KIND_TWICE && (ret = other_register(rdma, m, kind)))
		return ret;
	rdma->iova_offset = m->kind->flags & KIND_IOVA ? IOVA_OFFSET : 0;
	if (rdma->policy)
		rdma->mr = dv_reg_mr(rdma->pd, addr, length, access, rdma->policy, rdma->lease_ms);
	else if (rdma->iova_offset)
		rdma->mr = ibv_reg_mr_iova(rdma->pd, addr, length,
					   (uintptr_t)addr + rdma->iova_offset, access);
	else
		rdma->mr = ibv_reg_mr(rdma->pd, addr, length, access);
	if (!rdma->mr)
		return verbs_error();
	rdma->rkey = rdma->mr->rkey;
	return 0;
}

void rdma_deregister(struct rdma *rdma)
{
	if (rdma->mr)
		ibv_dereg_mr(rdma->mr);
	if (rdma->other_mr)
		ibv_dereg_mr(rdma->other_mr);
	if (rdma->other_pd)
		ibv_dealloc_pd(rdma->other_pd);
	rdma->mr = NULL;
	rdma->other_mr = NULL;
	rdma->other_pd = NULL;
}

void rdma_close(struct rdma *rdma)
{
	qps_destroy(rdma);
	rdma_deregister(rdma);
	if (rdma->buf_mr)
		ibv_dereg_mr(rdma->buf_mr);
	if (rdma->buf)
		munmap(rdma->buf, rdma->len);
	if (rdma->cq)
		ibv_destroy_cq(rdma->cq);
	if (rdma->pd)
		ibv_dealloc_pd(rdma->pd);
	if (rdma->context)
		ibv_close_device(rdma->context);
	*rdma = (struct rdma){.gid_index = -1};
}
