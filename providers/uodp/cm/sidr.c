/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Service ID resolution, by which datagram queue pairs find each other: IBTA 12.11. */
#include <errno.h>
#include <string.h>

#include "cm.h"

enum { SIDR_SUCCESS = 0, SIDR_UNSUPPORTED = 1, SIDR_REJECT = 2 };
#define PKEY 0xffff

static void ask(struct cm_id *id)
{
	wire_send(&id->peer, &id->sgid, &id->dgid, &id->msg);
	id->when = cm_now() + cm_time(CM_RESPONSE_TIMEOUT);
	cm_wake();
}

/* What the answer SIDR status STATUS makes of it. */
static void refused(struct cm_id *id, int status)
{
	id->conn = CONN_NONE;
	id->when = 0;
	event_queue(id, CM_UNREACHABLE, status);
}

static void find_peer(struct cm_id *id)
{
	union ibv_gid to = addr_gid(&id->dst);

	if (service_find(id->service_id, &to, &id->peer)) {
		cm_watch(&id->peer);
		id->tries = CM_MAX_RETRIES;
		ask(id);
	} else if (id->tries--) {
		id->when = cm_now() + CM_LOOK_NS;
		cm_wake();
	} else {
		id->peer = (struct cm_node){0};
		refused(id, SIDR_UNSUPPORTED); /* what the other end's kernel says then */
	}
}

int sidr_connect(struct cm_id *id, const struct rdma_ucm_conn_param *param)
{
	size_t head = id->src.sa.sa_family == AF_IB ? 0 : CMA_HEADER;

	if (id->state != CM_ROUTE_DONE)
		return -EINVAL;
	if (param->private_data_len > SIDR_REQ_PRIVATE_LEN - head)
		return -EINVAL;
	id->active = true;
	id->local.qpn = param->qp_num & 0xffffff;
	id->service_id = addr_service(id->ps, &id->dst);
	conn_leave(id);
	conn_enter(id);
	id->tid = (uint64_t)id->local_comm << 32;
	mad_init(&id->msg, CM_SIDR_REQ, id->tid);
	mad_set(&id->msg, SIDR_REQ_ID, id->local_comm);
	mad_set(&id->msg, SIDR_REQ_PKEY, PKEY);
	mad_set(&id->msg, SIDR_REQ_SERVICE_ID, id->service_id);
	if (head)
		cma_header_put(id, mad_at(&id->msg, SIDR_REQ_PRIVATE));
	memcpy(mad_at(&id->msg, SIDR_REQ_PRIVATE + (unsigned)head), param->private_data,
	       param->private_data_len);
	id->state = CM_CONNECT;
	id->conn = CONN_SIDR_REQ_SENT;
	id->peer = (struct cm_node){0};
	id->tries = CM_LOOKS;
	find_peer(id);
	return 0;
}

void sidr_timeout(struct cm_id *id)
{
	if (!id->peer.pid)
		find_peer(id);
	else if (id->tries && id->tries--)
		ask(id);
	else
		refused(id, -ETIMEDOUT);
}

/* An answer to the request that ID is of, or that came from NODE for nobody. */
static void answer(struct cm_id *id, uint8_t status, const void *data, size_t len)
{
	mad_init(&id->msg, CM_SIDR_REP, id->tid);
	mad_set(&id->msg, SIDR_REP_ID, id->remote_comm);
	mad_set(&id->msg, SIDR_REP_STATUS, status);
	mad_set(&id->msg, SIDR_REP_SERVICE_ID, id->service_id);
	if (status == SIDR_SUCCESS) {
		mad_set(&id->msg, SIDR_REP_QPN, id->local.qpn);
		mad_set(&id->msg, SIDR_REP_QKEY, id->qkey);
	}
	if (len)
		memcpy(mad_at(&id->msg, SIDR_REP_PRIVATE), data, len);
	wire_send(&id->peer, &id->sgid, &id->dgid, &id->msg);
}

int sidr_accept(struct cm_id *id, const struct rdma_ucm_conn_param *param)
{
	if (id->state != CM_CONNECT || id->conn != CONN_SIDR_REQ_RCVD)
		return -EINVAL;
	if (!param->valid) { /* a success without a queue pair (cma.c) */
		answer(id, SIDR_SUCCESS, NULL, 0);
		id->conn = CONN_ESTABLISHED;
		return 0;
	}
	if (param->private_data_len > SIDR_REP_PRIVATE_LEN) {
		sidr_reject(id, NULL, 0); /* as rdma_accept() */
		return -EINVAL;
	}
	id->local.qpn = param->qp_num & 0xffffff;
	id->qkey = param->qkey && id->src.sa.sa_family == AF_IB ? param->qkey : CM_UD_QKEY;
	answer(id, SIDR_SUCCESS, param->private_data, param->private_data_len);
	id->conn = CONN_ESTABLISHED;
	return 0;
}

int sidr_reject(struct cm_id *id, const void *data, size_t len)
{
	if (id->conn != CONN_SIDR_REQ_RCVD || len > SIDR_REP_PRIVATE_LEN)
		return -EINVAL;
	answer(id, SIDR_REJECT, data, len);
	id->conn = CONN_NONE;
	return 0;
}

void sidr_end(struct cm_id *id)
{
	if (id->conn == CONN_SIDR_REQ_RCVD)
		answer(id, SIDR_REJECT, NULL, 0);
	id->conn = CONN_NONE;
	id->when = 0;
}

static bool tell(struct cm_id *id, struct cm_mad *m, size_t head)
{
	struct cm_queued *q = event_new(id->listener, CM_CONNECT_REQUEST, 0);
	struct rdma_ucm_ud_param *p;

	if (!q)
		return false;
	q->new_id = id;
	id->listener->backlog--;
	p = &q->resp.param.ud;
	p->private_data_len = (uint8_t)(SIDR_REQ_PRIVATE_LEN - head);
	memcpy(p->private_data, mad_at(m, SIDR_REQ_PRIVATE + (unsigned)head), p->private_data_len);
	event_put(q);
	return true;
}

static void unsupported(const struct cm_node *from, const union ibv_gid *sgid,
			const union ibv_gid *dgid, struct cm_mad *m)
{
	struct cm_mad out;

	mad_init(&out, CM_SIDR_REP, mad_tid(m));
	mad_set(&out, SIDR_REP_ID, mad_get(m, SIDR_REQ_ID));
	mad_set(&out, SIDR_REP_STATUS, SIDR_UNSUPPORTED);
	mad_set(&out, SIDR_REP_SERVICE_ID, mad_get(m, SIDR_REQ_SERVICE_ID));
	wire_send(from, dgid, sgid, &out);
}

static void req_receive(const struct cm_node *from, const union ibv_gid *sgid,
			const union ibv_gid *dgid, struct cm_mad *m)
{
	struct cm_id *id = conn_find_passive(from, (uint32_t)mad_get(m, SIDR_REQ_ID), true),
		     *listener;
	size_t head = CMA_HEADER;

	if (id) {
		if (id->conn == CONN_ESTABLISHED) /* the answer was lost */
			wire_send(&id->peer, &id->sgid, &id->dgid, &id->msg);
		return;
	}
	listener =
		listener_find(mad_get(m, SIDR_REQ_SERVICE_ID), mad_at(m, SIDR_REQ_PRIVATE), dgid);
	if (!listener || listener->qp_type != IBV_QPT_UD) {
		unsupported(from, sgid, dgid, m);
		return;
	}
	id = request_id(listener, sgid, dgid, from);
	if (!id)
		return;
	id->tid = mad_tid(m);
	id->remote_comm = (uint32_t)mad_get(m, SIDR_REQ_ID);
	id->qkey = CM_UD_QKEY;
	conn_enter(id);
	id->conn = CONN_SIDR_REQ_RCVD;
	if (listener->src.sa.sa_family == AF_IB)
		head = 0;
	if ((head && !cma_header_get(id, mad_at(m, SIDR_REQ_PRIVATE))) || !tell(id, m, head))
		id_destroy(id);
}

static void rep_receive(const struct cm_node *from, struct cm_mad *m)
{
	struct cm_id *id = conn_find((uint32_t)mad_get(m, SIDR_REP_ID));
	struct rdma_ucm_ud_param *p;
	struct cm_queued *q;
	int status = (int)mad_get(m, SIDR_REP_STATUS);

	if (!id || id->conn != CONN_SIDR_REQ_SENT || !node_is(&id->peer, from))
		return;
	if (status != SIDR_SUCCESS) {
		refused(id, status);
		return;
	}
	id->conn = CONN_NONE;
	id->when = 0;
	id->remote.qpn = (uint32_t)mad_get(m, SIDR_REP_QPN);
	id->qkey = (uint32_t)mad_get(m, SIDR_REP_QKEY);
	q = event_new(id, CM_ESTABLISHED, 0);
	if (!q)
		return;
	p = &q->resp.param.ud;
	p->private_data_len = SIDR_REP_PRIVATE_LEN;
	memcpy(p->private_data, mad_at(m, SIDR_REP_PRIVATE), SIDR_REP_PRIVATE_LEN);
	p->qp_num = id->remote.qpn;
	p->qkey = id->qkey;
	query_ah(id, &p->ah_attr);
	event_put(q);
}

void sidr_receive(const struct cm_node *from, const union ibv_gid *sgid, const union ibv_gid *dgid,
		  struct cm_mad *m)
{
	if (mad_attr(m) == CM_SIDR_REQ)
		req_receive(from, sgid, dgid, m);
	else
		rep_receive(from, m);
}
