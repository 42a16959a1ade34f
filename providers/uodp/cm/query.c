/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What an identifier's addresses, path and queue pair attributes are. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "cm.h"

#define PKEY 0xffff
#define NO_INDEX UINT32_MAX /* libibverbs numbers no device that is found by sysfs */

static void device_put(const struct cm_id *id, uint64_t *guid, uint8_t *port)
{
	if (!id->dev)
		return;
	*guid = id->dev->guid;
	*port = UODP_PORT;
}

static void path_put(const struct cm_id *id, struct ib_user_path_rec *path)
{
	memcpy(path->dgid, id->dgid.raw, 16);
	memcpy(path->sgid, id->sgid.raw, 16);
	path->pkey = htobe16(PKEY);
	if (!id->has_path)
		return;
	path->reversible = 1;
	path->numb_path = 1;
	path->mtu_selector = path->rate_selector = path->packet_life_time_selector = 2;
	path->mtu = id->mtu;
	path->rate = IBV_RATE_100_GBPS;
	path->packet_life_time = CM_LIFE_TIME;
	path->hop_limit = 64;
	path->traffic_class = id->tos;
}

int query_route(struct cm_id *id, struct rdma_ucm_query_route_resp *resp)
{
	memset(resp, 0, sizeof(*resp));
	resp->ibdev_index = NO_INDEX;
	memcpy(&resp->src_addr, &id->src, sizeof(resp->src_addr));
	memcpy(&resp->dst_addr, &id->dst, sizeof(resp->dst_addr));
	if (!id->dev)
		return 0;
	device_put(id, (uint64_t *)&resp->node_guid, &resp->port_num);
	resp->num_paths = id->has_path;
	path_put(id, &resp->ib_route[0]);
	return 0;
}

static void addr_header(const struct cm_id *id, struct rdma_ucm_query_addr_resp *resp)
{
	memset(resp, 0, sizeof(*resp));
	resp->ibdev_index = NO_INDEX;
	device_put(id, (uint64_t *)&resp->node_guid, &resp->port_num);
	if (id->dev)
		resp->pkey = htobe16(PKEY);
}

int query_addr(struct cm_id *id, struct rdma_ucm_query_addr_resp *resp)
{
	addr_header(id, resp);
	resp->src_size = (uint16_t)addr_size(&id->src);
	memcpy(&resp->src_addr, &id->src, resp->src_size);
	resp->dst_size = (uint16_t)addr_size(&id->dst);
	memcpy(&resp->dst_addr, &id->dst, resp->dst_size);
	return 0;
}

static void ib_addr_put(const struct cm_id *id, void *out, const union cm_addr *a,
			const union ibv_gid *gid)
{
	struct sockaddr_ib ib = {.sib_family = AF_IB,
				 .sib_pkey = htobe16(PKEY),
				 .sib_sid = htobe64(addr_service(id->ps, a)),
				 .sib_sid_mask = htobe64(UINT64_MAX)};

	if (a->sa.sa_family == AF_IB)
		ib = a->ib;
	else
		memcpy(&ib.sib_addr, gid->raw, 16);
	memcpy(out, &ib, sizeof(ib));
}

int query_gid(struct cm_id *id, struct rdma_ucm_query_addr_resp *resp)
{
	addr_header(id, resp);
	resp->src_size = resp->dst_size = sizeof(struct sockaddr_ib);
	ib_addr_put(id, &resp->src_addr, &id->src, &id->sgid);
	ib_addr_put(id, &resp->dst_addr, &id->dst, &id->dgid);
	return 0;
}

/* A path record as the subnet administrator has it (IBTA 15.2.5.16), 64 bytes. */
static void sa_path_put(const struct cm_id *id, uint8_t *r)
{
	uint16_t pkey = htobe16(PKEY);

	memset(r, 0, 64);
	memcpy(r + 8, id->dgid.raw, 16);
	memcpy(r + 24, id->sgid.raw, 16);
	r[47] = 64; /* hop limit, behind 20 bits of flow label */
	r[48] = id->tos;
	r[49] = 0x80 | 1; /* reversible, one path */
	memcpy(r + 50, &pkey, 2);
	r[54] = 2 << 6 | id->mtu; /* selector 2: exactly */
	r[55] = 2 << 6 | IBV_RATE_100_GBPS;
	r[56] = 2 << 6 | CM_LIFE_TIME;
}

size_t query_path(struct cm_id *id, struct rdma_ucm_query_path_resp *resp, size_t out)
{
	size_t size = sizeof(*resp);

	memset(resp, 0, sizeof(*resp));
	resp->num_paths = id->has_path;
	if (id->has_path && out >= size + sizeof(resp->path_data[0])) {
		resp->path_data[0].flags = IB_PATH_GMP | IB_PATH_PRIMARY | IB_PATH_BIDIRECTIONAL;
		resp->path_data[0].reserved = 0;
		sa_path_put(id, (uint8_t *)resp->path_data[0].path_rec);
		size += sizeof(resp->path_data[0]);
	}
	return size;
}

void query_ah(const struct cm_id *id, struct ib_uverbs_ah_attr *ah)
{
	memset(ah, 0, sizeof(*ah));
	memcpy(ah->grh.dgid, id->dgid.raw, 16);
	ah->grh.sgid_index = id->dev ? gid_index(id->dev, &id->sgid) : 0;
	ah->grh.hop_limit = 64;
	ah->grh.traffic_class = id->tos;
	ah->is_global = 1;
	ah->port_num = UODP_PORT;
}

/* ---- queue pair attributes: cm.c, ib_cm_init_qp_attr(), and cma.c ---- */

static bool reliable(const struct cm_id *id)
{
	return id->qp_type != IBV_QPT_UC && id->qp_type != IBV_QPT_UD;
}

static void init_attr(const struct cm_id *id, struct ib_uverbs_qp_attr *a)
{
	a->qp_attr_mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
	a->port_num = UODP_PORT;
	if (id->qp_type == IBV_QPT_UD) {
		a->qkey = id->qkey ? id->qkey : CM_UD_QKEY;
		a->qp_attr_mask |= IBV_QP_QKEY;
		return;
	}
	a->qp_attr_mask |= IBV_QP_ACCESS_FLAGS;
	if (id->conn == CONN_NONE)
		return;
	a->qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
	if (id->local.responder_resources)
		a->qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
}

static void rtr_attr(const struct cm_id *id, struct ib_uverbs_qp_attr *a)
{
	a->qp_attr_mask =
		IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	query_ah(id, &a->ah_attr);
	a->path_mtu = id->mtu;
	a->dest_qp_num = id->remote.qpn;
	a->rq_psn = id->remote.psn;
	if (reliable(id)) {
		a->qp_attr_mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
		a->max_dest_rd_atomic = id->local.responder_resources;
	}
}

static void rts_attr(const struct cm_id *id, struct ib_uverbs_qp_attr *a)
{
	a->qp_attr_mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
	a->sq_psn = id->local.psn;
	if (reliable(id)) {
		a->qp_attr_mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				   IBV_QP_MAX_QP_RD_ATOMIC;
		a->timeout = id->ack_timeout;
		a->retry_cnt = id->local.retry_count;
		a->rnr_retry = id->local.rnr_retry;
		a->max_rd_atomic = id->local.initiator_depth;
	}
}

/* Are both sides' parameters known, and the connection not over? */
static bool connecting(const struct cm_id *id)
{
	return id->conn == CONN_REQ_RCVD || id->conn == CONN_REP_SENT ||
	       id->conn == CONN_REP_RCVD || id->conn == CONN_ESTABLISHED;
}

int query_qp_attr(struct cm_id *id, enum ibv_qp_state state, struct ib_uverbs_qp_attr *a)
{
	memset(a, 0, sizeof(*a));
	if (!id->dev)
		return -EINVAL;
	a->qp_state = state;
	/* cma.c, rdma_init_qp_attr(): without a connection whatever state is asked for. */
	if (!id->local_comm || id->qp_type == IBV_QPT_UD) {
		if (id->state == CM_LISTEN && id->qp_type != IBV_QPT_UD)
			return -EINVAL;
		init_attr(id, a);
		return 0;
	}
	if (state == IBV_QPS_INIT && (connecting(id) || id->conn == CONN_REQ_SENT))
		init_attr(id, a);
	else if (state == IBV_QPS_RTR && connecting(id))
		rtr_attr(id, a);
	else if (state == IBV_QPS_RTS && connecting(id))
		rts_attr(id, a);
	else
		return -EINVAL;
	return 0;
}
