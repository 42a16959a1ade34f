/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Identifiers, until they connect: drivers/infiniband/core/cma.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cm.h"

#define MAX_BACKLOG 1024u /* net.rdma_ucm.max_backlog */

/* ---- handles: the lowest free number, as idr_alloc() gives them ---- */

int id_handle_new(struct cm_id *id)
{
	uint32_t i;

	for (i = cm.free_handle; i < cm.num_handles && cm.handles[i]; i++)
		;
	if (i == cm.num_handles) {
		uint32_t n = cm.num_handles ? cm.num_handles * 2 : 64;
		struct cm_id **more = realloc(cm.handles, n * sizeof(*more));

		if (!more)
			return -ENOMEM;
		memset(more + cm.num_handles, 0, (n - cm.num_handles) * sizeof(*more));
		cm.handles = more;
		cm.num_handles = n;
	}
	cm.handles[i] = id;
	cm.free_handle = i + 1;
	id->handle = i;
	return 0;
}

static void handle_free(struct cm_id *id)
{
	if (id->handle == UINT32_MAX)
		return;
	cm.handles[id->handle] = NULL;
	if (id->handle < cm.free_handle)
		cm.free_handle = id->handle;
	id->handle = UINT32_MAX;
}

struct cm_id *id_get(struct cm_file *file, uint32_t handle, int *err)
{
	struct cm_id *id = handle < cm.num_handles ? cm.handles[handle] : NULL;

	*err = !id ? -ENOENT : id->file != file ? -EINVAL : 0;
	return *err ? NULL : id;
}

struct cm_id *id_create(struct cm_file *file, uint64_t uid, uint16_t ps, uint8_t qp_type)
{
	struct cm_id *id = calloc(1, sizeof(*id));

	if (!id)
		return NULL;
	id->handle = UINT32_MAX;
	id->file = file;
	id->uid = uid;
	id->ps = ps;
	id->qp_type = qp_type;
	id->mtu = IBV_MTU_4096;
	/* Now: the program asks for it before it accepts. */
	id->local.psn = cm_random() & 0xffffff;
	id->next = cm.ids;
	if (cm.ids)
		cm.ids->at = &id->next;
	id->at = &cm.ids;
	cm.ids = id;
	return id;
}

uint32_t id_destroy(struct cm_id *id)
{
	uint32_t reported = id->events_reported;

	if (id->qp_type == IBV_QPT_UD)
		sidr_end(id);
	else
		conn_end(id);
	mcasts_drop(id);
	events_drop(id);
	conn_leave(id);
	service_drop(id);
	handle_free(id);
	*id->at = id->next;
	if (id->next)
		id->next->at = id->at;
	free(id);
	return reported;
}

/* ---- addresses ---- */

static bool privileged(uint16_t port)
{
	FILE *f = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
	int start = 1024;

	if (f && fscanf(f, "%d", &start) != 1)
		start = 1024;
	if (f)
		fclose(f);
	return port && port < start && geteuid();
}

/* The port spaces that a mask of a service ID allows (cma.c, cma_select_ib_ps()). */
static int ib_service_choose(struct cm_id *id)
{
	struct sockaddr_ib *ib = &id->src.ib;
	uint64_t mask = be64toh(ib->sib_sid_mask), sid = be64toh(ib->sib_sid) & mask;
	uint64_t space = 0;

	if ((id->ps == RDMA_PS_IB || id->ps == RDMA_PS_TCP) && sid == (RDMA_IB_IP_PS_TCP & mask))
		space = RDMA_IB_IP_PS_TCP;
	else if ((id->ps == RDMA_PS_IB || id->ps == RDMA_PS_UDP) &&
		 sid == (RDMA_IB_IP_PS_UDP & mask))
		space = RDMA_IB_IP_PS_UDP;
	else if ((id->ps == RDMA_PS_IB || id->ps == RDMA_PS_TCP) &&
		 (sid & ~(uint64_t)0xffff) == RDMA_IB_IP_PS_TCP)
		space = RDMA_IB_IP_PS_TCP;
	else if ((id->ps == RDMA_PS_IB || id->ps == RDMA_PS_UDP) &&
		 (sid & ~(uint64_t)0xffff) == RDMA_IB_IP_PS_UDP)
		space = RDMA_IB_IP_PS_UDP;
	else if (id->ps == RDMA_PS_IB)
		space = RDMA_IB_PS_IB;
	if (!space)
		return -EADDRNOTAVAIL;
	ib->sib_sid = htobe64(space | addr_port(&id->src));
	ib->sib_sid_mask = htobe64(UINT64_MAX);
	return 0;
}

static int port_get(struct cm_id *id)
{
	int ret;

	if (id->src.sa.sa_family == AF_IB) {
		ret = ib_service_choose(id);
		if (ret)
			return ret;
	}
	if (privileged(addr_port(&id->src)))
		return -EACCES;
	return service_bind(id);
}

int id_bind(struct cm_id *id, const union cm_addr *addr)
{
	int ret = 0;

	if (addr->sa.sa_family != AF_INET && addr->sa.sa_family != AF_INET6 &&
	    addr->sa.sa_family != AF_IB)
		return -EAFNOSUPPORT;
	if (id->state != CM_IDLE)
		return -EINVAL;
	if (!addr_any(addr)) {
		id->dev = addr_device(addr, &ret);
		if (!id->dev)
			return ret;
	}
	memset(&id->src, 0, sizeof(id->src));
	memcpy(&id->src, addr, addr_size(addr));
	if (!id->afonly_set)
		id->afonly = addr->sa.sa_family == AF_INET;
	ret = port_get(id);
	if (ret) {
		id->dev = NULL;
		memset(&id->src, 0, sizeof(id->src));
		return ret;
	}
	id->state = CM_ADDR_BOUND;
	return 0;
}

/* The source that leads to DST, where the program has chosen none. */
static int bind_for(struct cm_id *id, const union cm_addr *src, const union cm_addr *dst)
{
	union cm_addr any = {.sa.sa_family = dst->sa.sa_family};

	if (src && src->sa.sa_family)
		return id_bind(id, src);
	if (dst->sa.sa_family == AF_IB) {
		any.ib.sib_pkey = dst->ib.sib_pkey;
		any.ib.sib_sid = htobe64((uint64_t)id->ps << 16);
		any.ib.sib_sid_mask = htobe64(RDMA_IB_IP_PS_MASK);
	}
	return id_bind(id, &any);
}

/* From here to a local address is from that address. */
static int route_find(struct cm_id *id)
{
	uint16_t port = addr_port(&id->src);
	int err;

	if (addr_any(&id->dst)) { /* the loopback address is meant (cma.c) */
		if (id->dst.sa.sa_family == AF_INET)
			id->dst.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		else if (id->dst.sa.sa_family == AF_INET6)
			id->dst.in6.sin6_addr = in6addr_loopback;
	}
	if (!addr_multicast(&id->dst) && !addr_device(&id->dst, &err))
		return err == -EADDRNOTAVAIL ? -ENETUNREACH : err;
	if (addr_any(&id->src)) {
		union cm_addr src = id->dst;

		if (addr_multicast(&id->dst)) {
			memset(&src, 0, sizeof(src));
			src.sa.sa_family = id->dst.sa.sa_family;
			if (src.sa.sa_family == AF_INET)
				src.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
			else
				src.in6.sin6_addr = in6addr_loopback;
		}
		id->src = src;
		addr_port_set(&id->src, port);
	}
	id->dev = addr_device(&id->src, &err);
	return id->dev ? 0 : err;
}

int id_resolve_addr(struct cm_id *id, const union cm_addr *src, const union cm_addr *dst)
{
	int ret;

	if (id->state == CM_IDLE) {
		ret = bind_for(id, src, dst);
		if (ret)
			return ret;
	}
	if (id->state != CM_ADDR_BOUND)
		return -EINVAL;
	if (id->src.sa.sa_family != dst->sa.sa_family)
		return -EINVAL;
	memset(&id->dst, 0, sizeof(id->dst));
	memcpy(&id->dst, dst, addr_size(dst));
	ret = route_find(id);
	if (ret) {
		id->dev = addr_any(&id->src) ? NULL : id->dev;
		return event_queue(id, CM_ADDR_ERROR, ret);
	}
	id->sgid = addr_device_gid(id->dev, &id->src);
	id->dgid = addr_gid(&id->dst);
	if (!addr_multicast(&id->dst))
		id->dgid = addr_device_gid(id->dev, &id->dst);
	id->state = CM_ADDR_DONE;
	return event_queue(id, CM_ADDR_RESOLVED, 0);
}

int id_resolve_route(struct cm_id *id)
{
	if (id->state != CM_ADDR_DONE)
		return -EINVAL;
	id->state = CM_ROUTE_DONE;
	id->has_path = true;
	return event_queue(id, CM_ROUTE_RESOLVED, 0);
}

int id_listen(struct cm_id *id, uint32_t backlog)
{
	static const union cm_addr any = {.in = {.sin_family = AF_INET}};
	int ret;

	id->backlog = backlog > 0 && backlog < MAX_BACKLOG ? backlog : MAX_BACKLOG;
	if (id->state == CM_IDLE) {
		ret = id_bind(id, &any);
		if (ret)
			return ret;
	}
	if (id->state != CM_ADDR_BOUND)
		return -EINVAL;
	ret = service_listen(id);
	if (ret)
		return ret;
	id->service_id = addr_service(id->ps, &id->src);
	id->state = CM_LISTEN;
	return 0;
}

/* ---- options ---- */

static int set_bool(bool *what, const void *value, size_t len)
{
	int v;

	if (len != sizeof(v))
		return -EINVAL;
	memcpy(&v, value, sizeof(v));
	*what = v;
	return 0;
}

static int set_id_option(struct cm_id *id, uint32_t name, const void *value, size_t len)
{
	bool reuse, afonly;
	int ret;

	switch (name) {
	case RDMA_OPTION_ID_TOS:
		if (len != 1)
			return -EINVAL;
		id->tos = *(const uint8_t *)value;
		return 0;
	case RDMA_OPTION_ID_REUSEADDR:
		ret = set_bool(&reuse, value, len);
		/* cma.c, rdma_set_reuseaddr(): others may rely on it once it is bound. */
		if (!ret && id->state != CM_IDLE && (!reuse || id->state == CM_LISTEN))
			ret = -EINVAL;
		if (!ret)
			id->reuseaddr = reuse;
		return ret;
	case RDMA_OPTION_ID_AFONLY:
		ret = set_bool(&afonly, value, len);
		if (!ret && id->state != CM_IDLE && id->state != CM_ADDR_BOUND)
			ret = -EINVAL;
		if (ret)
			return ret;
		id->afonly_set = true;
		id->afonly = afonly;
		return 0;
	case RDMA_OPTION_ID_ACK_TIMEOUT:
		if (len != 1)
			return -EINVAL;
		if (id->qp_type != IBV_QPT_RC && id->qp_type != IBV_QPT_XRC_SEND)
			return -EINVAL;
		id->timeout = *(const uint8_t *)value & 31;
		id->timeout_set = true;
		return 0;
	default:
		return -ENOSYS;
	}
}

/* A path that the program has found by itself: as a resolved route. */
static int set_ib_path(struct cm_id *id, const struct ib_path_rec_data *path, size_t len)
{
	const uint32_t flags = IB_PATH_GMP | IB_PATH_PRIMARY | IB_PATH_BIDIRECTIONAL;

	if (len % sizeof(*path))
		return -EINVAL;
	for (; len && path->flags != flags; len -= sizeof(*path), path++)
		;
	if (!len)
		return -EINVAL;
	return id_resolve_route(id);
}

int id_set_option(struct cm_id *id, uint32_t level, uint32_t name, const void *value, size_t len)
{
	if (level == RDMA_OPTION_ID)
		return set_id_option(id, name, value, len);
	if (level == RDMA_OPTION_IB && name == RDMA_OPTION_IB_PATH)
		return set_ib_path(id, value, len);
	return -ENOSYS;
}
