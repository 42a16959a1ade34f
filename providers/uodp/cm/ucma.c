/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Commands of librdmacm: /dev/infiniband/rdma_cm, drivers/infiniband/core/ucma.c. The
 * program's memory is read and written as the kernel does it, with EFAULT for what is
 * not there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cdev.h"
#include "cm.h"

#define MAX_OPTION 4096u

/* A command, and where its answer goes. */
struct cmd {
	struct cm_file *file;
	const void *in; /* the program's */
	size_t in_len, out_len;
};

/* As copy_from_user() of a whole structure; a shorter one ends in zeros, where the
 * structure has grown since (ECE). */
static int get(const struct cmd *c, void *to, size_t size)
{
	memset(to, 0, size);
	return uodp_user_copy(to, c->in, c->in_len < size ? c->in_len : size);
}

static int put(uint64_t to, const void *from, size_t size)
{
	return uodp_user_copy((void *)(uintptr_t)to, from, size);
}

static size_t at_most(size_t size, size_t max)
{
	return size < max ? size : max;
}

static bool addr_fits(const union cm_addr *a, size_t size)
{
	return size && size == addr_size(a);
}

/* ---- the end of a file ---- */

/* Identifiers go with their channel; requests that nobody has read with their listener. */
static void file_ids_destroy(struct cm_file *file)
{
	struct cm_id *id, *next;

	for (id = cm.ids; id; id = next) {
		next = id->next;
		if (id->file != file || id->listener)
			continue;
		id_destroy(id);
		next = cm.ids; /* others may have gone with it */
	}
}

static void file_end(struct cm_file *file)
{
	struct cm_file **at;

	for (at = &cm.files; *at && *at != file; at = &(*at)->next)
		;
	if (*at) { /* not in a child of fork, whose copy is of the parent's */
		*at = file->next;
		file_ids_destroy(file);
	}
	if (file->fd >= 0)
		odp_fd_close(file->fd);
	/* Never freed: another thread may be about to use it, as it must not be. */
	file->next = cm.closed;
	cm.closed = file;
}

/* A command is done with it. */
static void file_put(struct cm_file *file)
{
	if (!--file->users && file->closed)
		file_end(file);
}

/* ---- one function a command ---- */

static int qp_type_of(const struct rdma_ucm_create_id *cmd)
{
	switch (cmd->ps) {
	case RDMA_PS_TCP:
		return IBV_QPT_RC;
	case RDMA_PS_UDP:
	case RDMA_PS_IPOIB:
		return IBV_QPT_UD;
	case RDMA_PS_IB:
		return cmd->qp_type;
	default:
		return -EINVAL;
	}
}

static int cmd_create_id(const struct cmd *c)
{
	struct rdma_ucm_create_id cmd;
	struct rdma_ucm_create_id_resp resp;
	struct cm_id *id;
	int ret, type;

	if (c->out_len < sizeof(resp))
		return -ENOSPC;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	type = qp_type_of(&cmd);
	if (type < 0)
		return type;
	id = id_create(c->file, cmd.uid, cmd.ps, (uint8_t)type);
	if (!id)
		return -ENOMEM;
	ret = id_handle_new(id);
	resp.id = id->handle;
	if (!ret)
		ret = put(cmd.response, &resp, sizeof(resp));
	if (ret)
		id_destroy(id);
	return ret;
}

static int cmd_destroy_id(const struct cmd *c)
{
	struct rdma_ucm_destroy_id cmd;
	struct rdma_ucm_destroy_id_resp resp;
	struct cm_id *id;
	int ret;

	if (c->out_len < sizeof(resp))
		return -ENOSPC;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	resp.events_reported = id_destroy(id);
	return put(cmd.response, &resp, sizeof(resp));
}

static int cmd_bind_ip(const struct cmd *c)
{
	struct rdma_ucm_bind_ip cmd;
	union cm_addr addr = {.ss = {0}};
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	memcpy(&addr, &cmd.addr, sizeof(cmd.addr));
	if (!addr_size(&addr) || addr_size(&addr) > sizeof(cmd.addr))
		return -EINVAL;
	id = id_get(c->file, cmd.id, &ret);
	return id ? id_bind(id, &addr) : ret;
}

static int cmd_bind(const struct cmd *c)
{
	struct rdma_ucm_bind cmd;
	union cm_addr addr;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	memcpy(&addr, &cmd.addr, sizeof(addr));
	if (cmd.reserved || !addr_fits(&addr, cmd.addr_size))
		return -EINVAL;
	id = id_get(c->file, cmd.id, &ret);
	return id ? id_bind(id, &addr) : ret;
}

static int cmd_resolve_ip(const struct cmd *c)
{
	struct rdma_ucm_resolve_ip cmd;
	union cm_addr src = {.ss = {0}}, dst = {.ss = {0}};
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	memcpy(&src, &cmd.src_addr, sizeof(cmd.src_addr));
	memcpy(&dst, &cmd.dst_addr, sizeof(cmd.dst_addr));
	if ((src.sa.sa_family && (!addr_size(&src) || src.sa.sa_family == AF_IB)) ||
	    !addr_size(&dst) || dst.sa.sa_family == AF_IB)
		return -EINVAL;
	id = id_get(c->file, cmd.id, &ret);
	return id ? id_resolve_addr(id, &src, &dst) : ret;
}

static int cmd_resolve_addr(const struct cmd *c)
{
	struct rdma_ucm_resolve_addr cmd;
	union cm_addr src, dst;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	memcpy(&src, &cmd.src_addr, sizeof(src));
	memcpy(&dst, &cmd.dst_addr, sizeof(dst));
	if (cmd.reserved || (cmd.src_size && !addr_fits(&src, cmd.src_size)) ||
	    !addr_fits(&dst, cmd.dst_size))
		return -EINVAL;
	id = id_get(c->file, cmd.id, &ret);
	return id ? id_resolve_addr(id, cmd.src_size ? &src : NULL, &dst) : ret;
}

static int cmd_resolve_route(const struct cmd *c)
{
	struct rdma_ucm_resolve_route cmd;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	id = id_get(c->file, cmd.id, &ret);
	return id ? id_resolve_route(id) : ret;
}

static int cmd_query_route(const struct cmd *c)
{
	struct rdma_ucm_query_route_resp resp;
	struct rdma_ucm_query cmd;
	struct cm_id *id;
	int ret;

	if (c->out_len < offsetof(struct rdma_ucm_query_route_resp, ibdev_index))
		return -ENOSPC;
	/* Its last member is not the oldest command's. */
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	query_route(id, &resp);
	return put(cmd.response, &resp, at_most(sizeof(resp), c->out_len));
}

static int query_addr_by(const struct cmd *c, const struct rdma_ucm_query *cmd, struct cm_id *id,
			 int (*fn)(struct cm_id *id, struct rdma_ucm_query_addr_resp *resp))
{
	struct rdma_ucm_query_addr_resp resp;

	if (c->out_len < offsetof(struct rdma_ucm_query_addr_resp, ibdev_index))
		return -ENOSPC;
	fn(id, &resp);
	return put(cmd->response, &resp, at_most(sizeof(resp), c->out_len));
}

static int cmd_query(const struct cmd *c)
{
	union {
		struct rdma_ucm_query_path_resp resp;
		uint8_t room[sizeof(struct rdma_ucm_query_path_resp) +
			     sizeof(struct ib_path_rec_data)];
	} path;
	struct rdma_ucm_query cmd;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	switch (cmd.option) {
	case RDMA_USER_CM_QUERY_ADDR:
		return query_addr_by(c, &cmd, id, query_addr);
	case RDMA_USER_CM_QUERY_GID:
		return query_addr_by(c, &cmd, id, query_gid);
	case RDMA_USER_CM_QUERY_PATH:
		if (c->out_len < sizeof(path.resp))
			return -ENOSPC;
		return put(cmd.response, &path, query_path(id, &path.resp, c->out_len));
	default:
		return -ENOSYS;
	}
}

static int cmd_connect(const struct cmd *c)
{
	struct rdma_ucm_connect cmd;
	struct cm_id *id;
	int ret;

	if (c->in_len < offsetof(struct rdma_ucm_connect, ece))
		return -EINVAL;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	if (!cmd.conn_param.valid)
		return -EINVAL;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	return id->qp_type == IBV_QPT_UD ? sidr_connect(id, &cmd.conn_param)
					 : conn_connect(id, &cmd.conn_param, &cmd.ece);
}

static int cmd_listen(const struct cmd *c)
{
	struct rdma_ucm_listen cmd;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	id = id_get(c->file, cmd.id, &ret);
	return id ? id_listen(id, cmd.backlog) : ret;
}

static int cmd_accept(const struct cmd *c)
{
	struct rdma_ucm_accept cmd;
	struct cm_id *id;
	uint64_t uid;
	int ret;

	if (c->in_len < offsetof(struct rdma_ucm_accept, ece))
		return -EINVAL;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	uid = id->uid;
	/* First: what follows is told to that one. */
	if (cmd.conn_param.valid)
		id->uid = cmd.uid;
	ret = id->qp_type == IBV_QPT_UD ? sidr_accept(id, &cmd.conn_param)
					: conn_accept(id, &cmd.conn_param, &cmd.ece);
	if (ret)
		id->uid = uid;
	return ret;
}

static int cmd_reject(const struct cmd *c)
{
	struct rdma_ucm_reject cmd;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	if (!cmd.reason)
		cmd.reason = CM_REJ_CONSUMER_DEFINED;
	/* ucma.c allows the consumer's own and "vendor option not supported" alone. */
	if (cmd.reason != CM_REJ_CONSUMER_DEFINED && cmd.reason != 35)
		return -EINVAL;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	return id->qp_type == IBV_QPT_UD
		       ? sidr_reject(id, cmd.private_data, cmd.private_data_len)
		       : conn_reject(id, cmd.private_data, cmd.private_data_len, cmd.reason);
}

static int cmd_disconnect(const struct cmd *c)
{
	struct rdma_ucm_disconnect cmd;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	/* Of a datagram identifier that has asked or was asked it means nothing (cma.c). */
	if (id->qp_type == IBV_QPT_UD)
		return id->local_comm ? 0 : -EINVAL;
	return conn_disconnect(id);
}

static int cmd_init_qp_attr(const struct cmd *c)
{
	struct rdma_ucm_init_qp_attr cmd;
	struct ib_uverbs_qp_attr resp;
	struct cm_id *id;
	int ret;

	if (c->out_len < sizeof(resp))
		return -ENOSPC;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	if (cmd.qp_state > IBV_QPS_ERR)
		return -EINVAL;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	ret = query_qp_attr(id, cmd.qp_state, &resp);
	return ret ? ret : put(cmd.response, &resp, sizeof(resp));
}

/* The thread is cancelled in its wait. */
static void wait_cancelled(void *arg)
{
	pthread_mutex_lock(&cm.lock);
	file_put(arg);
	pthread_mutex_unlock(&cm.lock);
}

/*
 * Like a wait of the kernel's in write(2): it can be cancelled, and a signal's handler
 * ends it with EINTR, or not, as SA_RESTART says: a futex without a time limit has both,
 * poll(2) has not.
 */
static int futex_wait(uint32_t *at, uint32_t value)
{
	int old, ret;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	ret = syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0) < 0 ? -errno : 0;
	pthread_setcanceltype(old, NULL);
	return ret == -EAGAIN ? 0 : ret;
}

/* Wait for an event, the lock released; -EAGAIN, -EINTR. Of a channel that is closed
 * meanwhile the thread sleeps on, as in the kernel: rping relies on it. */
static int event_wait(struct cm_file *file)
{
	int flags = fcntl(file->fd, F_GETFL), ret;
	uint32_t seq = file->seq;

	if (flags >= 0 && flags & O_NONBLOCK)
		return -EAGAIN;
	pthread_cleanup_push(wait_cancelled, file);
	pthread_mutex_unlock(&cm.lock);
	ret = futex_wait(&file->seq, seq);
	pthread_mutex_lock(&cm.lock);
	pthread_cleanup_pop(0);
	return ret;
}

static int cmd_get_event(const struct cmd *c)
{
	struct cm_file *file = c->file;
	struct rdma_ucm_get_event cmd;
	struct cm_queued *q;
	int ret;

	if (c->out_len < offsetof(struct rdma_ucm_event_resp, reserved))
		return -ENOSPC;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	while (!(q = event_first(file))) {
		ret = event_wait(file);
		if (ret)
			return ret;
	}
	if (q->new_id && q->new_id->handle == UINT32_MAX) {
		ret = id_handle_new(q->new_id);
		if (ret)
			return ret;
	}
	if (q->new_id)
		q->resp.id = q->new_id->handle;
	ret = put(cmd.response, &q->resp, at_most(sizeof(q->resp), c->out_len));
	if (ret)
		return ret;
	if (q->new_id) {
		q->id->backlog++;
		q->new_id->listener = NULL;
	}
	event_pop(file);
	return 0;
}

static int cmd_set_option(const struct cmd *c)
{
	union {
		uint8_t raw[MAX_OPTION];
		struct ib_path_rec_data path;
	} value;
	struct rdma_ucm_set_option cmd;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	if (cmd.optlen > sizeof(value))
		return -EINVAL;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	ret = uodp_user_copy(&value, (void *)(uintptr_t)cmd.optval, cmd.optlen);
	return ret ? ret : id_set_option(id, cmd.level, cmd.optname, &value, cmd.optlen);
}

static int cmd_notify(const struct cmd *c)
{
	struct rdma_ucm_notify cmd;
	struct cm_id *id;
	int ret = get(c, &cmd, sizeof(cmd));

	if (ret)
		return ret;
	id = id_get(c->file, cmd.id, &ret);
	if (!id)
		return ret;
	/* cma.c, rdma_notify(): nothing else means anything to RoCE without migration. */
	return cmd.event == IBV_EVENT_COMM_EST ? conn_established(id) : -EINVAL;
}

static int join(const struct cmd *c, uint64_t response, uint64_t uid, uint32_t handle,
		const union cm_addr *addr, unsigned flags)
{
	struct rdma_ucm_create_id_resp resp;
	struct cm_id *id;
	int ret;

	id = id_get(c->file, handle, &ret);
	if (!id)
		return ret;
	ret = mcast_join(id, uid, addr, flags, &resp.id);
	if (ret)
		return ret;
	ret = put(response, &resp, sizeof(resp));
	if (ret)
		mcast_leave(c->file, resp.id);
	return ret;
}

static int cmd_join_ip_mcast(const struct cmd *c)
{
	struct rdma_ucm_join_ip_mcast cmd;
	union cm_addr addr = {.ss = {0}};
	int ret;

	if (c->out_len < sizeof(struct rdma_ucm_create_id_resp))
		return -ENOSPC;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	memcpy(&addr, &cmd.addr, sizeof(cmd.addr));
	if (!addr_size(&addr) || addr.sa.sa_family == AF_IB)
		return -EINVAL;
	return join(c, cmd.response, cmd.uid, cmd.id, &addr, RDMA_MC_JOIN_FLAG_FULLMEMBER);
}

static int cmd_join_mcast(const struct cmd *c)
{
	struct rdma_ucm_join_mcast cmd;
	union cm_addr addr;
	int ret;

	if (c->out_len < sizeof(struct rdma_ucm_create_id_resp))
		return -ENOSPC;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	memcpy(&addr, &cmd.addr, sizeof(addr));
	if (!addr_fits(&addr, cmd.addr_size))
		return -EINVAL;
	return join(c, cmd.response, cmd.uid, cmd.id, &addr, cmd.join_flags);
}

static int cmd_leave_mcast(const struct cmd *c)
{
	struct rdma_ucm_destroy_id cmd;
	struct rdma_ucm_destroy_id_resp resp;
	int ret;

	if (c->out_len < sizeof(resp))
		return -ENOSPC;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	ret = mcast_leave(c->file, cmd.id);
	if (ret < 0)
		return ret;
	resp.events_reported = (uint32_t)ret;
	return put(cmd.response, &resp, sizeof(resp));
}

static struct cm_file *file_of(int fd);

static int cmd_migrate_id(const struct cmd *c)
{
	struct rdma_ucm_migrate_id cmd;
	struct rdma_ucm_migrate_resp resp;
	struct cm_file *from;
	struct cm_id *id;
	int ret;

	if (c->out_len < sizeof(resp))
		return -ENOSPC;
	ret = get(c, &cmd, sizeof(cmd));
	if (ret)
		return ret;
	if (fcntl((int)cmd.fd, F_GETFD) < 0)
		return -ENOENT;
	from = file_of((int)cmd.fd);
	if (!from)
		return -EINVAL;
	id = id_get(from, cmd.id, &ret);
	if (!id)
		return ret;
	if (from != c->file)
		events_move(id, c->file);
	resp.events_reported = id->events_reported;
	return put(cmd.response, &resp, sizeof(resp));
}

static int (*const commands[])(const struct cmd *c) = {
	[RDMA_USER_CM_CMD_CREATE_ID] = cmd_create_id,
	[RDMA_USER_CM_CMD_DESTROY_ID] = cmd_destroy_id,
	[RDMA_USER_CM_CMD_BIND_IP] = cmd_bind_ip,
	[RDMA_USER_CM_CMD_RESOLVE_IP] = cmd_resolve_ip,
	[RDMA_USER_CM_CMD_RESOLVE_ROUTE] = cmd_resolve_route,
	[RDMA_USER_CM_CMD_QUERY_ROUTE] = cmd_query_route,
	[RDMA_USER_CM_CMD_CONNECT] = cmd_connect,
	[RDMA_USER_CM_CMD_LISTEN] = cmd_listen,
	[RDMA_USER_CM_CMD_ACCEPT] = cmd_accept,
	[RDMA_USER_CM_CMD_REJECT] = cmd_reject,
	[RDMA_USER_CM_CMD_DISCONNECT] = cmd_disconnect,
	[RDMA_USER_CM_CMD_INIT_QP_ATTR] = cmd_init_qp_attr,
	[RDMA_USER_CM_CMD_GET_EVENT] = cmd_get_event,
	[RDMA_USER_CM_CMD_GET_OPTION] = NULL, /* nor has the kernel */
	[RDMA_USER_CM_CMD_SET_OPTION] = cmd_set_option,
	[RDMA_USER_CM_CMD_NOTIFY] = cmd_notify,
	[RDMA_USER_CM_CMD_JOIN_IP_MCAST] = cmd_join_ip_mcast,
	[RDMA_USER_CM_CMD_LEAVE_MCAST] = cmd_leave_mcast,
	[RDMA_USER_CM_CMD_MIGRATE_ID] = cmd_migrate_id,
	[RDMA_USER_CM_CMD_QUERY] = cmd_query,
	[RDMA_USER_CM_CMD_BIND] = cmd_bind,
	[RDMA_USER_CM_CMD_RESOLVE_ADDR] = cmd_resolve_addr,
	[RDMA_USER_CM_CMD_JOIN_MCAST] = cmd_join_mcast,
};

/* ---- the file ---- */

/* As the kernel's ib_safe_file_access(): who opened a file may use it alone. A child of
 * fork is another, and so is who has changed its user or group since. */
static int file_check_owner(const struct cm_file *file)
{
	static _Atomic bool said;

	if (file->pid == getpid() && file->uid == geteuid() && file->gid == getegid())
		return 0;
	/* relaxed: once, about */
	if (!atomic_exchange_explicit(&said, true, memory_order_relaxed))
		odp_log(ODP_LOG_ERR,
			"rdma_cm: an event channel was opened by another process or user: "
			"open one after fork(2) or setuid(2)");
	return -EACCES;
}

static ssize_t file_write(struct uodp_handle *h, const void *buf, size_t n)
{
	struct rdma_ucm_cmd_hdr hdr;
	struct cmd c = {.file = uodp_container_of(h, struct cm_file, handle)};
	int ret;

	if (n < sizeof(hdr))
		return -EINVAL;
	ret = uodp_user_copy(&hdr, buf, sizeof(hdr));
	if (ret)
		return ret;
	if (hdr.cmd >= sizeof(commands) / sizeof(commands[0]) || hdr.in + sizeof(hdr) > n)
		return -EINVAL;
	if (!commands[hdr.cmd])
		return -ENOSYS;
	ret = file_check_owner(c.file);
	if (ret)
		return ret;
	c.in = (const char *)buf + sizeof(hdr);
	c.in_len = hdr.in;
	c.out_len = hdr.out;
	ret = cm_start();
	if (ret)
		return ret;
	pthread_mutex_lock(&cm.lock);
	if (c.file->closed) {
		ret = -EBADF;
	} else {
		c.file->users++;
		ret = commands[hdr.cmd](&c);
		file_put(c.file);
	}
	pthread_mutex_unlock(&cm.lock);
	return ret ? ret : (ssize_t)n;
}

/* The program may have read the descriptor, which it has no reason to: no wait here. */
static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static void file_wake(struct cm_file *file)
{
	file->seq++;
	if (file->users)
		syscall(SYS_futex, &file->seq, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void file_ready(struct cm_file *file, bool ready)
{
	uint64_t n = 1;

	if (ready)
		file_wake(file);
	if (file->ready == ready)
		return;
	file->ready = ready;
	if (ready ? write(file->fd, &n, sizeof(n)) < 0
		  : readable(file->fd) && read(file->fd, &n, sizeof(n)) < 0)
		odp_log(ODP_LOG_WARN, "rdma_cm: an event channel's descriptor: %s",
			strerror(errno));
}

static void file_release(struct uodp_handle *h)
{
	struct cm_file *file = uodp_container_of(h, struct cm_file, handle);

	pthread_mutex_lock(&cm.lock);
	file->closed = true;
	file->users++;
	file_put(file);
	pthread_mutex_unlock(&cm.lock);
}

static const struct uodp_handle_ops file_ops = {
	.write = file_write,
	.release = file_release,
	.node = true,
};

static struct cm_file *file_of(int fd)
{
	struct uodp_handle *h = uodp_handle_get(fd);

	return h && h->ops == &file_ops ? uodp_container_of(h, struct cm_file, handle) : NULL;
}

static struct cm_file *file_new(void)
{
	struct cm_file *file;

	pthread_mutex_lock(&cm.lock);
	file = cm.closed;
	if (file)
		cm.closed = file->next;
	pthread_mutex_unlock(&cm.lock);
	if (!file)
		file = malloc(sizeof(*file));
	if (!file)
		return NULL;
	*file = (struct cm_file){.handle.ops = &file_ops,
				 .fd = -1,
				 .pid = getpid(),
				 .uid = geteuid(),
				 .gid = getegid()};
	file->events_end = &file->events;
	return file;
}

int cm_open(int flags)
{
	struct cm_file *file;
	int fd, ret = cm_start();

	if (ret) {
		errno = -ret;
		return -1;
	}
	file = file_new();
	if (!file)
		return -1;
	fd = eventfd(0, (flags & O_CLOEXEC ? EFD_CLOEXEC : 0) |
				(flags & O_NONBLOCK ? EFD_NONBLOCK : 0));
	file->fd = fd < 0 ? -1 : odp_fd_keep(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	if (file->fd >= 0) {
		pthread_mutex_lock(&cm.lock);
		file->next = cm.files;
		cm.files = file;
		pthread_mutex_unlock(&cm.lock);
		if (uodp_handle_set(fd, &file->handle))
			return fd;
		file_release(&file->handle);
	}
	ret = errno ? errno : EMFILE;
	if (fd >= 0)
		close(fd);
	errno = ret;
	return -1;
}
