/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Connections of RC, UC and XRC queue pairs: IBTA 12.9, as drivers/infiniband/core/cm.c
 * and cma.c have it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"

#define REP_EECN CM_FIELD(16, 0, 24)
#define PKEY 0xffff

/* ---- by our number of a connection ---- */

struct cm_id *conn_find(uint32_t local_comm)
{
	struct cm_id *id = cm.conns[local_comm % CM_HASH];

	while (id && id->local_comm != local_comm)
		id = id->hash_next;
	return id;
}

static struct cm_id **remote_bucket(const struct cm_node *node, uint32_t remote_comm)
{
	return &cm.remotes[(remote_comm ^ node->tag) % CM_HASH];
}

static void remote_enter(struct cm_id *id)
{
	struct cm_id **head = remote_bucket(&id->peer, id->remote_comm);

	id->remote_next = *head;
	if (*head)
		(*head)->remote_at = &id->remote_next;
	id->remote_at = head;
	*head = id;
}

static void remote_leave(struct cm_id *id)
{
	if (!id->remote_at)
		return;
	*id->remote_at = id->remote_next;
	if (id->remote_next)
		id->remote_next->remote_at = id->remote_at;
	id->remote_at = NULL;
}

struct cm_id *conn_find_passive(const struct cm_node *node, uint32_t remote_comm, bool ud)
{
	struct cm_id *id = *remote_bucket(node, remote_comm);

	while (id && (id->conn == CONN_NONE || id->remote_comm != remote_comm ||
		      (id->qp_type == IBV_QPT_UD) != ud || !node_is(&id->peer, node)))
		id = id->remote_next;
	return id;
}

void conn_enter(struct cm_id *id)
{
	if (!id->active)
		remote_enter(id);
	do {
		id->local_comm = cm.next_comm++;
	} while (!id->local_comm || conn_find(id->local_comm));
	id->hash_next = cm.conns[id->local_comm % CM_HASH];
	cm.conns[id->local_comm % CM_HASH] = id;
}

void conn_leave(struct cm_id *id)
{
	struct cm_id **at = &cm.conns[id->local_comm % CM_HASH];

	if (!id->local_comm)
		return;
	while (*at != id)
		at = &(*at)->hash_next;
	*at = id->hash_next;
	id->local_comm = 0;
	remote_leave(id);
}

/* ---- sending ---- */

static void wait_set(struct cm_id *id, uint64_t ns)
{
	id->when = cm_now() + ns;
	cm_wake();
}

static void send_once(struct cm_id *id, const struct cm_mad *mad)
{
	wire_send(&id->peer, &id->sgid, &id->dgid, mad);
}

/* Send id->msg until it is answered. */
static void send_asking(struct cm_id *id)
{
	id->tries = CM_MAX_RETRIES;
	id->mra = false;
	send_once(id, &id->msg);
	wait_set(id, cm_time(CM_RESPONSE_TIMEOUT));
}

static void msg_init(struct cm_id *id, struct cm_mad *mad, enum cm_attr attr)
{
	mad_init(mad, attr, id->tid);
	mad_set(mad, MSG_LOCAL_COMM, id->local_comm);
	mad_set(mad, MSG_REMOTE_COMM, id->remote_comm);
}

static void send_rej(struct cm_id *id, enum cm_about about, uint16_t reason, const void *data,
		     size_t len)
{
	struct cm_mad mad;

	msg_init(id, &mad, CM_REJ);
	mad_set(&mad, REJ_ABOUT, about);
	mad_set(&mad, REJ_REASON, reason);
	if (len)
		memcpy(mad_at(&mad, REJ_PRIVATE), data, len);
	send_once(id, &mad);
}

static void send_mra(struct cm_id *id, enum cm_about about)
{
	struct cm_mad mad;

	msg_init(id, &mad, CM_MRA);
	mad_set(&mad, MRA_ABOUT, about);
	mad_set(&mad, MRA_TIMEOUT, CM_MRA_TIMEOUT);
	send_once(id, &mad);
}

static void send_drep(struct cm_id *id)
{
	struct cm_mad mad;

	msg_init(id, &mad, CM_DREP);
	send_once(id, &mad);
}

static void send_dreq(struct cm_id *id)
{
	msg_init(id, &id->msg, CM_DREQ);
	mad_set(&id->msg, DREQ_REMOTE_QPN, id->remote.qpn);
}

/* To FROM, of whose message MAD nothing is known here. */
static void answer_unknown(const struct cm_node *from, const union ibv_gid *sgid,
			   const union ibv_gid *dgid, struct cm_mad *mad, enum cm_attr attr,
			   enum cm_about about, uint16_t reason)
{
	struct cm_mad out;

	mad_init(&out, attr, mad_tid(mad));
	mad_set(&out, MSG_REMOTE_COMM, mad_get(mad, MSG_LOCAL_COMM));
	if (mad_attr(mad) != CM_REQ)
		mad_set(&out, MSG_LOCAL_COMM, mad_get(mad, MSG_REMOTE_COMM));
	if (attr == CM_REJ) {
		mad_set(&out, REJ_ABOUT, about);
		mad_set(&out, REJ_REASON, reason);
	}
	wire_send(from, dgid, sgid, &out);
}

/* ---- ends ---- */

static void idle(struct cm_id *id)
{
	id->conn = CONN_NONE;
	id->when = 0;
}

static void timewait(struct cm_id *id)
{
	id->conn = CONN_TIMEWAIT;
	wait_set(id, cm_time(id->ack_timeout ? id->ack_timeout : CM_LIFE_TIME + 1));
}

/* The connection is over: told once. */
static void disconnected(struct cm_id *id, int status)
{
	if (id->state != CM_CONNECT)
		return;
	id->state = CM_DISCONNECT;
	event_queue(id, CM_DISCONNECTED, status);
}

static void rejected(struct cm_id *id, uint16_t reason, const void *data)
{
	struct cm_queued *q = event_new(id, CM_REJECTED, reason);

	idle(id);
	if (!q)
		return;
	if (data) {
		q->resp.param.conn.private_data_len = REJ_PRIVATE_LEN;
		memcpy(q->resp.param.conn.private_data, data, REJ_PRIVATE_LEN);
	}
	event_put(q);
}

/* ---- the CMA header: annex A11.4 ---- */

static void put_ip(uint8_t at[16], const union cm_addr *a)
{
	if (a->sa.sa_family == AF_INET)
		memcpy(at + 12, &a->in.sin_addr, 4);
	else
		memcpy(at, &a->in6.sin6_addr, 16);
}

void cma_header_put(const struct cm_id *id, uint8_t *data)
{
	uint16_t port = htons(addr_port(&id->src));

	memset(data, 0, CMA_HEADER);
	data[1] = (id->src.sa.sa_family == AF_INET ? 4 : 6) << 4;
	memcpy(data + 2, &port, 2);
	put_ip(data + 4, &id->src);
	put_ip(data + 20, &id->dst);
}

static void get_ip(union cm_addr *a, bool v4, const uint8_t at[16], uint16_t port)
{
	memset(a, 0, sizeof(*a));
	if (v4) {
		a->in.sin_family = AF_INET;
		memcpy(&a->in.sin_addr, at + 12, 4);
	} else {
		a->in6.sin6_family = AF_INET6;
		memcpy(&a->in6.sin6_addr, at, 16);
	}
	addr_port_set(a, port);
}

bool cma_header_get(struct cm_id *id, const uint8_t *data)
{
	unsigned version = data[1] >> 4;
	uint16_t port;

	if (data[0] || (version != 4 && version != 6))
		return false;
	memcpy(&port, data + 2, 2);
	get_ip(&id->dst, version == 4, data + 4, ntohs(port));
	get_ip(&id->src, version == 4, data + 20, (uint16_t)id->service_id);
	return true;
}

static void ib_addrs_set(struct cm_id *id)
{
	id->src.ib = (struct sockaddr_ib){.sib_family = AF_IB,
					  .sib_pkey = htobe16(PKEY),
					  .sib_sid = htobe64(id->service_id),
					  .sib_sid_mask = htobe64(UINT64_MAX)};
	id->dst.ib = id->src.ib;
	id->dst.ib.sib_sid = 0;
	memcpy(&id->src.ib.sib_addr, id->sgid.raw, 16);
	memcpy(&id->dst.ib.sib_addr, id->dgid.raw, 16);
}

static size_t header_size(const struct cm_id *id)
{
	return id->src.sa.sa_family == AF_IB ? 0 : CMA_HEADER;
}

/* ---- the active side ---- */

static uint8_t min7(uint8_t n)
{
	return n < 7 ? n : 7;
}

static void param_get(struct cm_conn_param *p, const struct rdma_ucm_conn_param *in)
{
	p->qpn = in->qp_num & 0xffffff;
	p->responder_resources = in->responder_resources;
	p->initiator_depth = in->initiator_depth;
	p->retry_count = min7(in->retry_count);
	p->rnr_retry = min7(in->rnr_retry_count);
	p->flow_control = in->flow_control & 1;
	p->srq = in->srq != 0;
}

static unsigned transport(uint8_t qp_type)
{
	switch (qp_type) {
	case IBV_QPT_UC:
		return 1;
	case IBV_QPT_XRC_SEND:
	case IBV_QPT_XRC_RECV:
		return 3;
	default:
		return 0;
	}
}

static uint8_t qp_type_of(struct cm_mad *mad)
{
	switch (mad_get(mad, REQ_TRANSPORT)) {
	case 0:
		return IBV_QPT_RC;
	case 1:
		return IBV_QPT_UC;
	case 3:
		return mad_get(mad, REQ_EXT_TRANSPORT) == 1 ? IBV_QPT_XRC_RECV : 0;
	default:
		return 0;
	}
}

static void req_make(struct cm_id *id)
{
	struct cm_mad *m = &id->msg;

	mad_init(m, CM_REQ, id->tid);
	mad_set(m, REQ_LOCAL_COMM, id->local_comm);
	mad_set(m, REQ_SERVICE_ID, id->service_id);
	mad_set(m, REQ_CA_GUID, be64toh(id->dev->guid));
	mad_set(m, REQ_QPN, id->local.qpn);
	mad_set(m, REQ_INITIATOR_DEPTH, id->local.initiator_depth);
	mad_set(m, REQ_RESPONDER_RESOURCES, id->local.responder_resources);
	mad_set(m, REQ_REMOTE_TIMEOUT, CM_RESPONSE_TIMEOUT);
	mad_set(m, REQ_TRANSPORT, transport(id->qp_type));
	mad_set(m, REQ_EXT_TRANSPORT, transport(id->qp_type) == 3);
	mad_set(m, REQ_FLOW_CONTROL, id->local.flow_control);
	mad_set(m, REQ_PSN, id->local.psn);
	mad_set(m, REQ_LOCAL_TIMEOUT, CM_RESPONSE_TIMEOUT);
	mad_set(m, REQ_RETRY_COUNT, id->local.retry_count);
	mad_set(m, REQ_PKEY, PKEY);
	mad_set(m, REQ_MTU, id->mtu);
	mad_set(m, REQ_RNR_RETRY, id->local.rnr_retry);
	mad_set(m, REQ_MAX_RETRIES, CM_MAX_RETRIES);
	mad_set(m, REQ_SRQ, id->local.srq);
	/* No LIDs: RoCE. */
	mad_set(m, REQ_LOCAL_LID, PKEY);
	mad_set(m, REQ_REMOTE_LID, PKEY);
	memcpy(mad_at(m, REQ_LOCAL_GID), id->sgid.raw, 16);
	memcpy(mad_at(m, REQ_REMOTE_GID), id->dgid.raw, 16);
	mad_set(m, REQ_RATE, IBV_RATE_100_GBPS);
	mad_set(m, REQ_TRAFFIC_CLASS, id->tos);
	mad_set(m, REQ_HOP_LIMIT, 64);
	mad_set(m, REQ_SUBNET_LOCAL, 1);
	mad_set(m, REQ_ACK_TIMEOUT, id->ack_timeout);
}

static void find_peer(struct cm_id *id)
{
	union ibv_gid to = addr_gid(&id->dst);

	if (service_find(id->service_id, &to, &id->peer)) {
		cm_watch(&id->peer);
		send_asking(id);
	} else if (id->tries--) {
		wait_set(id, CM_LOOK_NS);
	} else {
		/* What the other end's kernel says then. */
		odp_log(ODP_LOG_DEBUG, "rdma_cm: nobody listens on service %#llx",
			(unsigned long long)id->service_id);
		id->peer = (struct cm_node){0};
		rejected(id, CM_REJ_INVALID_SERVICE_ID, NULL);
	}
}

int conn_connect(struct cm_id *id, const struct rdma_ucm_conn_param *param,
		 const struct rdma_ucm_ece *ece)
{
	size_t head = header_size(id);

	if (id->state != CM_ROUTE_DONE)
		return -EINVAL;
	if (param->private_data_len > REQ_PRIVATE_LEN - head)
		return -EINVAL;
	id->ece = *ece;
	id->active = true;
	param_get(&id->local, param);
	id->ack_timeout = id->timeout_set ? id->timeout : CM_LIFE_TIME + 1;
	id->service_id = addr_service(id->ps, &id->dst);
	id->remote_comm = 0;
	conn_leave(id);
	conn_enter(id);
	id->tid = (uint64_t)id->local_comm << 32 | cm_random();
	req_make(id);
	if (head)
		cma_header_put(id, mad_at(&id->msg, REQ_PRIVATE));
	memcpy(mad_at(&id->msg, REQ_PRIVATE + (unsigned)head), param->private_data,
	       param->private_data_len);
	id->state = CM_CONNECT;
	id->conn = CONN_REQ_SENT;
	id->peer = (struct cm_node){0};
	id->tries = CM_LOOKS;
	find_peer(id);
	return 0;
}

static void rep_receive(struct cm_id *id, struct cm_mad *m)
{
	struct cm_queued *q;
	struct rdma_ucm_conn_param *p;

	if (id->conn == CONN_REP_RCVD) {
		send_mra(id, CM_ABOUT_REP);
		return;
	}
	if (id->conn == CONN_ESTABLISHED && id->active) {
		send_once(id, &id->msg); /* the RTU was lost */
		return;
	}
	if (id->conn != CONN_REQ_SENT)
		return;
	id->remote_comm = (uint32_t)mad_get(m, MSG_LOCAL_COMM);
	id->remote.qpn = (uint32_t)mad_get(m, transport(id->qp_type) == 3 ? REP_EECN : REP_QPN);
	id->remote.psn = (uint32_t)mad_get(m, REP_PSN);
	/* What one side can answer is what the other may ask. */
	id->local.initiator_depth = (uint8_t)mad_get(m, REP_RESPONDER_RESOURCES);
	id->local.responder_resources = (uint8_t)mad_get(m, REP_INITIATOR_DEPTH);
	id->local.rnr_retry = (uint8_t)mad_get(m, REP_RNR_RETRY);
	id->conn = CONN_REP_RCVD;
	id->when = 0;
	q = event_new(id, CM_CONNECT_RESPONSE, 0);
	if (!q)
		return;
	p = &q->resp.param.conn;
	p->private_data_len = REP_PRIVATE_LEN;
	memcpy(p->private_data, mad_at(m, REP_PRIVATE), REP_PRIVATE_LEN);
	p->responder_resources = id->local.responder_resources;
	p->initiator_depth = id->local.initiator_depth;
	p->flow_control = (uint8_t)mad_get(m, REP_FLOW_CONTROL);
	p->rnr_retry_count = id->local.rnr_retry;
	p->srq = (uint8_t)mad_get(m, REP_SRQ);
	p->qp_num = id->remote.qpn;
	event_put(q);
}

/* The program has brought its queue pair to RTS. */
static int rtu_send(struct cm_id *id)
{
	if (id->conn != CONN_REP_RCVD)
		return -EINVAL;
	msg_init(id, &id->msg, CM_RTU);
	id->conn = CONN_ESTABLISHED;
	send_once(id, &id->msg);
	return 0;
}

/* ---- the passive side ---- */

struct cm_id *listener_find(uint64_t sid, const uint8_t *header, const union ibv_gid *dgid)
{
	struct cm_id *best = NULL;
	union ibv_gid to = *dgid;

	/* The address that is meant, which the path's GID may stand for. */
	if (!header[0] && (header[1] >> 4 == 4 || header[1] >> 4 == 6))
		memcpy(to.raw, header + 20, sizeof(to));
	if (!header[0] && header[1] >> 4 == 4)
		to.raw[10] = to.raw[11] = 0xff;
	for (struct cm_id *id = cm.ids; id; id = id->next) {
		union ibv_gid gid = addr_gid(&id->src);

		if (id->state != CM_LISTEN || id->service_id != sid)
			continue;
		if (addr_any(&id->src)) {
			if (best || (id->afonly && id->src.sa.sa_family == AF_INET6 &&
				     IN6_IS_ADDR_V4MAPPED(&to)))
				continue;
		} else if (memcmp(&gid, id->src.sa.sa_family == AF_IB ? dgid : &to, sizeof(gid))) {
			continue;
		}
		best = id;
	}
	return best;
}

struct cm_id *request_id(struct cm_id *listener, const union ibv_gid *sgid,
			 const union ibv_gid *dgid, const struct cm_node *from)
{
	struct uodp_device *devs;
	unsigned n = uodp_devices(&devs);
	struct cm_id *id;

	if (!listener->backlog)
		return NULL;
	id = id_create(listener->file, 0, listener->ps, listener->qp_type);
	if (!id)
		return NULL;
	id->listener = listener;
	id->service_id = listener->service_id;
	id->state = CM_CONNECT;
	id->sgid = *dgid;
	id->dgid = *sgid;
	id->peer = *from;
	id->has_path = true;
	for (unsigned i = 0; i < n && !id->dev; i++)
		for (unsigned g = 0; g < UODP_NUM_GIDS && !id->dev; g++)
			if (!memcmp(&devs[i].gids[g], dgid, sizeof(*dgid)))
				id->dev = &devs[i];
	if (!id->dev)
		id->dev = n ? &devs[0] : NULL;
	return id;
}

static void req_get(struct cm_id *id, struct cm_mad *m)
{
	id->tid = mad_tid(m);
	id->remote_comm = (uint32_t)mad_get(m, REQ_LOCAL_COMM);
	id->remote.qpn = (uint32_t)mad_get(m, REQ_QPN);
	id->remote.psn = (uint32_t)mad_get(m, REQ_PSN);
	id->local.psn = id->remote.psn; /* as cma.c: one for both directions */
	id->local.initiator_depth = (uint8_t)mad_get(m, REQ_RESPONDER_RESOURCES);
	id->local.responder_resources = (uint8_t)mad_get(m, REQ_INITIATOR_DEPTH);
	id->local.retry_count = (uint8_t)mad_get(m, REQ_RETRY_COUNT);
	id->local.rnr_retry = (uint8_t)mad_get(m, REQ_RNR_RETRY);
	id->mtu = (uint8_t)mad_get(m, REQ_MTU);
	if (id->mtu < IBV_MTU_256 || id->mtu > IBV_MTU_4096)
		id->mtu = IBV_MTU_1024;
	id->ack_timeout = (uint8_t)mad_get(m, REQ_ACK_TIMEOUT);
	id->tos = (uint8_t)mad_get(m, REQ_TRAFFIC_CLASS);
}

static bool request_tell(struct cm_id *id, struct cm_mad *m, size_t head)
{
	struct cm_queued *q = event_new(id->listener, CM_CONNECT_REQUEST, 0);
	struct rdma_ucm_conn_param *p;

	if (!q)
		return false;
	q->new_id = id;
	id->listener->backlog--;
	p = &q->resp.param.conn;
	p->private_data_len = (uint8_t)(REQ_PRIVATE_LEN - head);
	memcpy(p->private_data, mad_at(m, REQ_PRIVATE + (unsigned)head), p->private_data_len);
	p->responder_resources = id->local.responder_resources;
	p->initiator_depth = id->local.initiator_depth;
	p->flow_control = (uint8_t)mad_get(m, REQ_FLOW_CONTROL);
	p->retry_count = id->local.retry_count;
	p->rnr_retry_count = id->local.rnr_retry;
	p->srq = (uint8_t)mad_get(m, REQ_SRQ);
	p->qp_num = id->remote.qpn;
	event_put(q);
	return true;
}

/* The request was sent again, since no answer has come. */
static void request_again(struct cm_id *id)
{
	if (id->conn == CONN_REQ_RCVD)
		send_mra(id, CM_ABOUT_REQ); /* the program has not decided yet */
	else if (id->conn == CONN_REP_SENT)
		send_once(id, &id->msg);
}

static void req_receive(const struct cm_node *from, const union ibv_gid *sgid,
			const union ibv_gid *dgid, struct cm_mad *m)
{
	struct cm_id *id = conn_find_passive(from, (uint32_t)mad_get(m, REQ_LOCAL_COMM), false),
		     *listener;
	size_t head = CMA_HEADER;

	if (id) {
		request_again(id);
		return;
	}
	listener = listener_find(mad_get(m, REQ_SERVICE_ID), mad_at(m, REQ_PRIVATE), dgid);
	if (!listener) {
		answer_unknown(from, sgid, dgid, m, CM_REJ, CM_ABOUT_REQ,
			       CM_REJ_INVALID_SERVICE_ID);
		return;
	}
	if (listener->qp_type && transport(listener->qp_type) != mad_get(m, REQ_TRANSPORT)) {
		answer_unknown(from, sgid, dgid, m, CM_REJ, CM_ABOUT_REQ, CM_REJ_CONSUMER_DEFINED);
		return;
	}
	/* No room: it may come again (cm.c, cm_destroy_id()). */
	id = request_id(listener, sgid, dgid, from);
	if (!id)
		return;
	id->qp_type = qp_type_of(m);
	req_get(id, m);
	conn_enter(id);
	id->conn = CONN_REQ_RCVD;
	if (listener->src.sa.sa_family == AF_IB) {
		head = 0;
		ib_addrs_set(id);
	} else if (!cma_header_get(id, mad_at(m, REQ_PRIVATE))) {
		id_destroy(id); /* with a REJ */
		return;
	}
	cm_watch(from);
	if (!request_tell(id, m, head))
		id_destroy(id);
}

static int rep_send(struct cm_id *id, const struct rdma_ucm_conn_param *param)
{
	struct cm_mad *m = &id->msg;

	if (param->private_data_len > REP_PRIVATE_LEN)
		return -EINVAL;
	id->local.qpn = param->qp_num & 0xffffff;
	id->local.responder_resources = param->responder_resources;
	id->local.initiator_depth = param->initiator_depth;
	id->local.srq = param->srq != 0;
	msg_init(id, m, CM_REP);
	mad_set(m, transport(id->qp_type) == 3 ? REP_EECN : REP_QPN, id->local.qpn);
	mad_set(m, REP_PSN, id->local.psn);
	mad_set(m, REP_RESPONDER_RESOURCES, id->local.responder_resources);
	mad_set(m, REP_INITIATOR_DEPTH, id->local.initiator_depth);
	mad_set(m, REP_ACK_DELAY, 15);
	mad_set(m, REP_FLOW_CONTROL, param->flow_control & 1);
	mad_set(m, REP_RNR_RETRY, min7(param->rnr_retry_count));
	mad_set(m, REP_SRQ, id->local.srq);
	mad_set(m, REP_CA_GUID, be64toh(id->dev->guid));
	memcpy(mad_at(m, REP_PRIVATE), param->private_data, param->private_data_len);
	id->conn = CONN_REP_SENT;
	send_asking(id);
	return 0;
}

int conn_accept(struct cm_id *id, const struct rdma_ucm_conn_param *param,
		const struct rdma_ucm_ece *ece)
{
	int ret;

	if (id->state != CM_CONNECT)
		return -EINVAL;
	id->ece = *ece;
	if (!param->valid)
		return rtu_send(id);
	ret = id->conn == CONN_REQ_RCVD && !id->active ? rep_send(id, param) : -EINVAL;
	if (ret) /* as rdma_accept() */
		conn_reject(id, NULL, 0, CM_REJ_CONSUMER_DEFINED);
	return ret;
}

static void established(struct cm_id *id)
{
	id->conn = CONN_ESTABLISHED;
	id->when = 0;
	event_queue(id, CM_ESTABLISHED, 0);
}

int conn_established(struct cm_id *id)
{
	if (id->conn == CONN_ESTABLISHED)
		return -EISCONN;
	if (id->conn != CONN_REP_SENT)
		return -EINVAL;
	established(id);
	return 0;
}

int conn_reject(struct cm_id *id, const void *data, size_t len, uint8_t reason)
{
	if (len > REJ_PRIVATE_LEN)
		return -EINVAL;
	switch (id->conn) {
	case CONN_REQ_SENT:
	case CONN_REQ_RCVD:
		send_rej(id, CM_ABOUT_REQ, reason, data, len);
		break;
	case CONN_REP_RCVD:
		send_rej(id, CM_ABOUT_REP, reason, data, len);
		break;
	case CONN_REP_SENT:
		send_rej(id, CM_ABOUT_OTHER, reason, data, len);
		break;
	default:
		return -EINVAL;
	}
	idle(id);
	return 0;
}

/* ---- the end ---- */

int conn_disconnect(struct cm_id *id)
{
	/* There is a connection, or was; what has ended already is no error (cma.c). */
	if (!id->local_comm)
		return -EINVAL;
	if (id->conn == CONN_ESTABLISHED) {
		send_dreq(id);
		id->conn = CONN_DREQ_SENT;
		send_asking(id);
	} else if (id->conn == CONN_DREQ_RCVD) {
		send_drep(id);
		timewait(id);
	}
	return 0;
}

void conn_end(struct cm_id *id)
{
	switch (id->conn) {
	case CONN_REQ_SENT:
		if (id->peer.pid)
			send_rej(id, CM_ABOUT_REQ, CM_REJ_TIMEOUT, NULL, 0);
		break;
	case CONN_REQ_RCVD:
		send_rej(id, CM_ABOUT_REQ, CM_REJ_CONSUMER_DEFINED, NULL, 0);
		break;
	case CONN_REP_RCVD:
		send_rej(id, CM_ABOUT_REP, CM_REJ_CONSUMER_DEFINED, NULL, 0);
		break;
	case CONN_REP_SENT:
		send_rej(id, CM_ABOUT_OTHER, CM_REJ_CONSUMER_DEFINED, NULL, 0);
		break;
	case CONN_ESTABLISHED:
		send_dreq(id);
		send_once(id, &id->msg);
		break;
	case CONN_DREQ_RCVD:
		send_drep(id);
		break;
	default:
		break;
	}
	idle(id);
}

static void dreq_receive(struct cm_id *id)
{
	switch (id->conn) {
	case CONN_REP_SENT: /* the RTU was lost */
	case CONN_DREQ_SENT:
	case CONN_ESTABLISHED:
		id->when = 0;
		id->conn = CONN_DREQ_RCVD;
		disconnected(id, 0);
		break;
	case CONN_TIMEWAIT:
		send_drep(id);
		break;
	default:
		break;
	}
}

static void drep_receive(struct cm_id *id)
{
	if (id->conn != CONN_DREQ_SENT && id->conn != CONN_DREQ_RCVD)
		return;
	timewait(id);
	disconnected(id, 0);
}

static void mra_receive(struct cm_id *id, struct cm_mad *m)
{
	enum cm_about about = mad_get(m, MRA_ABOUT);

	if ((id->conn != CONN_REQ_SENT || about != CM_ABOUT_REQ) &&
	    (id->conn != CONN_REP_SENT || about != CM_ABOUT_REP))
		return;
	id->mra = true;
	wait_set(id, cm_time((unsigned)mad_get(m, MRA_TIMEOUT)) + cm_time(CM_RESPONSE_TIMEOUT));
}

static void rej_receive(struct cm_id *id, struct cm_mad *m)
{
	uint16_t reason = (uint16_t)mad_get(m, REJ_REASON);

	switch (id->conn) {
	case CONN_REQ_SENT:
	case CONN_REQ_RCVD:
	case CONN_REP_SENT:
	case CONN_REP_RCVD:
		rejected(id, reason, mad_at(m, REJ_PRIVATE));
		break;
	case CONN_ESTABLISHED:
	case CONN_DREQ_SENT:
		timewait(id);
		rejected(id, reason, mad_at(m, REJ_PRIVATE));
		break;
	default:
		break;
	}
}

static bool from_peer(const struct cm_id *id, const struct cm_node *from)
{
	return id && id->qp_type != IBV_QPT_UD && node_is(&id->peer, from);
}

/* A REJ or MRA of one who does not know our number has its own alone. */
static struct cm_id *addressee(const struct cm_node *from, struct cm_mad *m)
{
	uint32_t to = (uint32_t)mad_get(m, MSG_REMOTE_COMM);
	uint32_t theirs = (uint32_t)mad_get(m, MSG_LOCAL_COMM);
	struct cm_id *id = to ? conn_find(to) : conn_find_passive(from, theirs, false);

	if (!from_peer(id, from))
		return NULL;
	/* Of an older connection that had the same number? */
	return id->remote_comm && theirs && id->remote_comm != theirs ? NULL : id;
}

void conn_receive(const struct cm_node *from, const union ibv_gid *sgid, const union ibv_gid *dgid,
		  struct cm_mad *m)
{
	struct cm_id *id;

	if (mad_attr(m) == CM_REQ) {
		req_receive(from, sgid, dgid, m);
		return;
	}
	id = addressee(from, m);
	if (!id) {
		if (mad_attr(m) == CM_DREQ)
			answer_unknown(from, sgid, dgid, m, CM_DREP, 0, 0);
		return;
	}
	switch (mad_attr(m)) {
	case CM_REP:
		rep_receive(id, m);
		break;
	case CM_RTU:
		if (id->conn == CONN_REP_SENT)
			established(id);
		break;
	case CM_MRA:
		mra_receive(id, m);
		break;
	case CM_REJ:
		rej_receive(id, m);
		break;
	case CM_DREQ:
		dreq_receive(id);
		break;
	case CM_DREP:
		drep_receive(id);
		break;
	default:
		break;
	}
}

void conn_timeout(struct cm_id *id)
{
	if (id->conn == CONN_TIMEWAIT) {
		idle(id);
		event_queue(id, CM_TIMEWAIT_EXIT, 0);
		return;
	}
	if (id->conn == CONN_REQ_SENT && !id->peer.pid) {
		find_peer(id);
		return;
	}
	if (id->tries && id->tries--) {
		send_once(id, &id->msg);
		wait_set(id, cm_time(CM_RESPONSE_TIMEOUT));
		return;
	}
	switch (id->conn) {
	case CONN_REQ_SENT:
	case CONN_REP_SENT:
		idle(id);
		event_queue(id, CM_UNREACHABLE, -ETIMEDOUT);
		break;
	case CONN_DREQ_SENT:
		timewait(id);
		disconnected(id, -ETIMEDOUT);
		break;
	default:
		break;
	}
}

/* The kernel destroys the identifiers of a process that ends, see conn_end(). */
void conn_peer_dead(struct cm_id *id)
{
	switch (id->conn) {
	case CONN_REQ_SENT:
	case CONN_REP_RCVD:
	case CONN_REP_SENT:
		rejected(id, CM_REJ_CONSUMER_DEFINED, NULL);
		break;
	case CONN_REQ_RCVD:
		rejected(id, CM_REJ_TIMEOUT, NULL);
		break;
	case CONN_ESTABLISHED:
		id->conn = CONN_DREQ_RCVD;
		disconnected(id, 0);
		break;
	case CONN_DREQ_SENT:
	case CONN_DREQ_RCVD:
		timewait(id);
		disconnected(id, 0);
		break;
	case CONN_SIDR_REQ_SENT:
		idle(id);
		event_queue(id, CM_UNREACHABLE, -ETIMEDOUT);
		break;
	default:
		break;
	}
}
