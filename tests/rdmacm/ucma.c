/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "ucma.h"

int t_failed;
const char *t_case = "";

static int result(ssize_t ret)
{
	return ret < 0 ? -errno : 0;
}

int ch_open(void)
{
	int fd = open("/dev/infiniband/rdma_cm", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int ch_write(int fd, unsigned cmd, const void *in, size_t n, size_t out)
{
	struct {
		struct rdma_ucm_cmd_hdr hdr;
		uint8_t in[1024];
	} buf = {.hdr = {.cmd = cmd, .in = (uint16_t)n, .out = (uint16_t)out}};

	memcpy(buf.in, in, n);
	return result(write(fd, &buf, sizeof(buf.hdr) + n));
}

int ch_event(int fd, struct rdma_ucm_event_resp *resp, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct rdma_ucm_event_resp own;
	struct rdma_ucm_get_event cmd;
	int ret;

	if (!resp)
		resp = &own;
	cmd.response = (uintptr_t)resp;
	memset(resp, 0, sizeof(*resp));
	if (poll(&p, 1, ms) < 1)
		return -ETIMEDOUT;
	ret = ch_write(fd, RDMA_USER_CM_CMD_GET_EVENT, &cmd, sizeof(cmd), sizeof(*resp));
	return ret ? ret : (int)resp->event;
}

int id_new(int fd, unsigned ps, unsigned qp_type)
{
	struct rdma_ucm_create_id_resp resp;
	struct rdma_ucm_create_id cmd = {.uid = 1,
					 .response = (uintptr_t)&resp,
					 .ps = (uint16_t)ps,
					 .qp_type = (uint8_t)qp_type};
	int ret = ch_write(fd, RDMA_USER_CM_CMD_CREATE_ID, &cmd, sizeof(cmd), sizeof(resp));

	return ret ? ret : (int)resp.id;
}

int id_destroy(int fd, int id)
{
	struct rdma_ucm_destroy_id_resp resp;
	struct rdma_ucm_destroy_id cmd = {.response = (uintptr_t)&resp, .id = (uint32_t)id};
	int ret = ch_write(fd, RDMA_USER_CM_CMD_DESTROY_ID, &cmd, sizeof(cmd), sizeof(resp));

	return ret ? ret : (int)resp.events_reported;
}

static uint16_t size_of(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

int id_bind(int fd, int id, const struct sockaddr *sa)
{
	struct rdma_ucm_bind cmd = {.id = (uint32_t)id, .addr_size = size_of(sa)};

	memcpy(&cmd.addr, sa, cmd.addr_size);
	return ch_write(fd, RDMA_USER_CM_CMD_BIND, &cmd, sizeof(cmd), 0);
}

int id_listen(int fd, int id, uint32_t backlog)
{
	struct rdma_ucm_listen cmd = {.id = (uint32_t)id, .backlog = backlog};

	return ch_write(fd, RDMA_USER_CM_CMD_LISTEN, &cmd, sizeof(cmd), 0);
}

int id_port(int fd, int id)
{
	struct rdma_ucm_query_addr_resp resp;
	struct rdma_ucm_query cmd = {.response = (uintptr_t)&resp,
				     .id = (uint32_t)id,
				     .option = RDMA_USER_CM_QUERY_ADDR};
	int ret = ch_write(fd, RDMA_USER_CM_CMD_QUERY, &cmd, sizeof(cmd), sizeof(resp));

	/* At the same place in both families. */
	return ret ? ret : ntohs(((struct sockaddr_in *)&resp.src_addr)->sin_port);
}

int id_resolve_addr(int fd, int id, const struct sockaddr *dst)
{
	struct rdma_ucm_resolve_addr cmd = {
		.id = (uint32_t)id, .timeout_ms = 2000, .dst_size = size_of(dst)};

	memcpy(&cmd.dst_addr, dst, cmd.dst_size);
	return ch_write(fd, RDMA_USER_CM_CMD_RESOLVE_ADDR, &cmd, sizeof(cmd), 0);
}

int id_resolve_route(int fd, int id)
{
	struct rdma_ucm_resolve_route cmd = {.id = (uint32_t)id, .timeout_ms = 2000};

	return ch_write(fd, RDMA_USER_CM_CMD_RESOLVE_ROUTE, &cmd, sizeof(cmd), 0);
}

static void param(struct rdma_ucm_conn_param *p, const void *data, size_t len)
{
	*p = (struct rdma_ucm_conn_param){.qp_num = 0x123456,
					  .private_data_len = (uint8_t)len,
					  .responder_resources = 3,
					  .initiator_depth = 2,
					  .flow_control = 1,
					  .retry_count = 5,
					  .rnr_retry_count = 6,
					  .valid = 1};
	if (len)
		memcpy(p->private_data, data, len);
}

int id_connect(int fd, int id, const void *data, size_t len)
{
	struct rdma_ucm_connect cmd = {.id = (uint32_t)id};

	param(&cmd.conn_param, data, len);
	return ch_write(fd, RDMA_USER_CM_CMD_CONNECT, &cmd, sizeof(cmd), 0);
}

int id_accept(int fd, int id, const void *data, size_t len)
{
	struct rdma_ucm_accept cmd = {.id = (uint32_t)id, .uid = 2};

	param(&cmd.conn_param, data, len);
	return ch_write(fd, RDMA_USER_CM_CMD_ACCEPT, &cmd, sizeof(cmd), 0);
}

int id_accepted(int fd, int id)
{
	struct rdma_ucm_accept cmd = {.id = (uint32_t)id};

	return ch_write(fd, RDMA_USER_CM_CMD_ACCEPT, &cmd, sizeof(cmd), 0);
}

int id_reject(int fd, int id, uint8_t reason, const void *data, size_t len)
{
	struct rdma_ucm_reject cmd = {
		.id = (uint32_t)id, .private_data_len = (uint8_t)len, .reason = reason};

	if (len)
		memcpy(cmd.private_data, data, len);
	return ch_write(fd, RDMA_USER_CM_CMD_REJECT, &cmd, sizeof(cmd), 0);
}

int id_disconnect(int fd, int id)
{
	struct rdma_ucm_disconnect cmd = {.id = (uint32_t)id};

	return ch_write(fd, RDMA_USER_CM_CMD_DISCONNECT, &cmd, sizeof(cmd), 0);
}

int id_option(int fd, int id, unsigned level, unsigned name, const void *value, size_t len)
{
	struct rdma_ucm_set_option cmd = {.optval = (uintptr_t)value,
					  .id = (uint32_t)id,
					  .level = level,
					  .optname = name,
					  .optlen = (uint32_t)len};

	return ch_write(fd, RDMA_USER_CM_CMD_SET_OPTION, &cmd, sizeof(cmd), 0);
}

int id_int_option(int fd, int id, unsigned name, int value)
{
	return id_option(fd, id, RDMA_OPTION_ID, name, &value, sizeof(value));
}

int id_attr(int fd, int id, unsigned state, struct ib_uverbs_qp_attr *attr)
{
	struct rdma_ucm_init_qp_attr cmd = {
		.response = (uintptr_t)attr, .id = (uint32_t)id, .qp_state = state};

	return ch_write(fd, RDMA_USER_CM_CMD_INIT_QP_ATTR, &cmd, sizeof(cmd), sizeof(*attr));
}

int id_migrate(int fd, int id, int from)
{
	struct rdma_ucm_migrate_resp resp;
	struct rdma_ucm_migrate_id cmd = {
		.response = (uintptr_t)&resp, .id = (uint32_t)id, .fd = (uint32_t)from};
	int ret = ch_write(fd, RDMA_USER_CM_CMD_MIGRATE_ID, &cmd, sizeof(cmd), sizeof(resp));

	return ret ? ret : (int)resp.events_reported;
}

const struct sockaddr *ip4(const char *addr, uint16_t port)
{
	static struct sockaddr_in sin;

	sin = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, addr, &sin.sin_addr);
	return (struct sockaddr *)&sin;
}

const struct sockaddr *ip6(const char *addr, uint16_t port)
{
	static struct sockaddr_in6 sin6;

	sin6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
	inet_pton(AF_INET6, addr, &sin6.sin6_addr);
	return (struct sockaddr *)&sin6;
}

const char *test_addr(void)
{
	const char *addr = getenv("RDMACM_TEST_ADDR");

	return addr ? addr : "127.0.0.1";
}

int listener(int fd, unsigned ps, const struct sockaddr *addr, uint16_t *port)
{
	int id = id_new(fd, ps, 2);

	CHECK_INT(id_bind(fd, id, addr), 0);
	CHECK_INT(id_listen(fd, id, 0), 0);
	*port = (uint16_t)id_port(fd, id);
	return id;
}

int ready(int fd, unsigned ps, const struct sockaddr *dst)
{
	int id = id_new(fd, ps, 2);

	CHECK_INT(id_resolve_addr(fd, id, dst), 0);
	CHECK_INT(ch_event(fd, NULL, EVENT_MS), RDMA_CM_EVENT_ADDR_RESOLVED);
	CHECK_INT(id_resolve_route(fd, id), 0);
	CHECK_INT(ch_event(fd, NULL, EVENT_MS), RDMA_CM_EVENT_ROUTE_RESOLVED);
	return id;
}
