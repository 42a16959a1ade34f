/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Each command, and each with what it must refuse, by the kernel's errno (ucma.c). */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ucma.h"

static int ch;

static const struct {
	unsigned cmd;
	const char *name;
	size_t in, out;
	size_t id;       /* where the identifier's number is, or NO */
	size_t response; /* where the address of the answer is, or NO */
} commands[] = {
#define NO SIZE_MAX
#define C(name, type, out, id, response)                                                           \
	{                                                                                          \
		RDMA_USER_CM_CMD_##name, #name, sizeof(struct rdma_ucm_##type), out, id, response  \
	}
#define ID(type) offsetof(struct rdma_ucm_##type, id)
#define RESP(type) offsetof(struct rdma_ucm_##type, response)
	C(CREATE_ID, create_id, sizeof(struct rdma_ucm_create_id_resp), NO, RESP(create_id)),
	C(DESTROY_ID, destroy_id, sizeof(struct rdma_ucm_destroy_id_resp), ID(destroy_id), NO),
	C(BIND_IP, bind_ip, 0, ID(bind_ip), NO),
	C(RESOLVE_IP, resolve_ip, 0, ID(resolve_ip), NO),
	C(RESOLVE_ROUTE, resolve_route, 0, ID(resolve_route), NO),
	C(QUERY_ROUTE, query, offsetof(struct rdma_ucm_query_route_resp, ibdev_index), ID(query),
	  RESP(query)),
	C(CONNECT, connect, 0, ID(connect), NO),
	C(LISTEN, listen, 0, ID(listen), NO),
	C(ACCEPT, accept, 0, ID(accept), NO),
	C(REJECT, reject, 0, ID(reject), NO),
	C(DISCONNECT, disconnect, 0, ID(disconnect), NO),
	C(INIT_QP_ATTR, init_qp_attr, sizeof(struct ib_uverbs_qp_attr), ID(init_qp_attr), NO),
	C(GET_EVENT, get_event, offsetof(struct rdma_ucm_event_resp, reserved), NO, NO),
	C(SET_OPTION, set_option, 0, ID(set_option), NO),
	C(NOTIFY, notify, 0, ID(notify), NO),
	C(JOIN_IP_MCAST, join_ip_mcast, sizeof(struct rdma_ucm_create_id_resp), ID(join_ip_mcast),
	  NO),
	C(LEAVE_MCAST, destroy_id, sizeof(struct rdma_ucm_destroy_id_resp), ID(destroy_id), NO),
	C(MIGRATE_ID, migrate_id, sizeof(struct rdma_ucm_migrate_resp), ID(migrate_id), NO),
	C(QUERY, query, offsetof(struct rdma_ucm_query_addr_resp, ibdev_index), ID(query),
	  RESP(query)),
	C(BIND, bind, 0, ID(bind), NO),
	C(RESOLVE_ADDR, resolve_addr, 0, ID(resolve_addr), NO),
	C(JOIN_MCAST, join_mcast, sizeof(struct rdma_ucm_create_id_resp), ID(join_mcast), NO),
};

/* Its parameters valid but for what a case makes of them. */
static void fill(unsigned i, uint8_t *in, uint32_t id)
{
	static uint64_t answer[128];
	union {
		uint8_t raw[1024];
		struct rdma_ucm_create_id create;
		struct rdma_ucm_bind_ip bind_ip;
		struct rdma_ucm_bind bind;
		struct rdma_ucm_resolve_ip resolve_ip;
		struct rdma_ucm_resolve_addr resolve_addr;
		struct rdma_ucm_connect connect;
		struct rdma_ucm_join_ip_mcast join_ip;
		struct rdma_ucm_join_mcast join;
		struct rdma_ucm_migrate_id migrate;
		uint64_t response;
	} c = {.raw = {0}};
	struct sockaddr_in sin = {.sin_family = AF_INET};

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	switch (commands[i].cmd) {
	case RDMA_USER_CM_CMD_CREATE_ID:
		c.create.ps = RDMA_PS_TCP;
		c.create.response = (uintptr_t)answer;
		break;
	case RDMA_USER_CM_CMD_BIND_IP:
		memcpy(&c.bind_ip.addr, &sin, sizeof(sin));
		break;
	case RDMA_USER_CM_CMD_BIND:
		c.bind.addr_size = sizeof(sin);
		memcpy(&c.bind.addr, &sin, sizeof(sin));
		break;
	case RDMA_USER_CM_CMD_RESOLVE_IP:
		memcpy(&c.resolve_ip.dst_addr, &sin, sizeof(sin));
		break;
	case RDMA_USER_CM_CMD_RESOLVE_ADDR:
		c.resolve_addr.dst_size = sizeof(sin);
		memcpy(&c.resolve_addr.dst_addr, &sin, sizeof(sin));
		break;
	case RDMA_USER_CM_CMD_CONNECT:
		c.connect.conn_param.valid = 1;
		break;
	case RDMA_USER_CM_CMD_JOIN_IP_MCAST:
		c.join_ip.response = (uintptr_t)answer;
		memcpy(&c.join_ip.addr, &sin, sizeof(sin));
		break;
	case RDMA_USER_CM_CMD_JOIN_MCAST:
		c.join.response = (uintptr_t)answer;
		c.join.addr_size = sizeof(sin);
		memcpy(&c.join.addr, &sin, sizeof(sin));
		break;
	case RDMA_USER_CM_CMD_MIGRATE_ID:
		c.migrate.fd = (uint32_t)ch;
		c.migrate.response = (uintptr_t)answer;
		break;
	default:
		if (commands[i].out)
			c.response = (uintptr_t)answer;
	}
	if (commands[i].id != NO)
		memcpy(c.raw + commands[i].id, &id, sizeof(id));
	memcpy(in, c.raw, commands[i].in);
}

static void test_header(void)
{
	struct rdma_ucm_cmd_hdr hdr = {.cmd = RDMA_USER_CM_CMD_CREATE_ID, .in = 1};
	char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t n = 0; n < sizeof(hdr); n++)
		CHECK_INT(write(ch, &hdr, n) < 0 ? errno : 0, EINVAL);
	CHECK_INT(write(ch, &hdr, sizeof(hdr)) < 0 ? errno : 0, EINVAL);
	CHECK_INT(write(ch, page, sizeof(hdr)) < 0 ? errno : 0, EFAULT);
	CHECK_INT(ch_write(ch, RDMA_USER_CM_CMD_GET_OPTION, "", 0, 0), -ENOSYS);
	for (unsigned cmd = 26; cmd < 100; cmd++)
		CHECK_INT(ch_write(ch, cmd, "", 0, 0), -EINVAL);
	CHECK_INT(ch_write(ch, UINT32_MAX, "", 0, 0), -EINVAL);
	munmap(page, 4096);
}

static void test_out_short(void)
{
	uint8_t in[1024];

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		fill(i, in, (uint32_t)id_new(ch, RDMA_PS_TCP, 2));
		for (size_t out = 0; out < commands[i].out; out++)
			if (!CHECK_INT(ch_write(ch, commands[i].cmd, in, commands[i].in, out),
				       -ENOSPC))
				printf("  %s, out %zu\n", commands[i].name, out);
	}
}

static void test_in_unmapped(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(page + 4096, 4096, PROT_NONE);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		struct rdma_ucm_cmd_hdr hdr = {
			.cmd = commands[i].cmd, .in = (uint16_t)commands[i].in, .out = 1024};
		char *at = page + 4096 - sizeof(hdr);

		memcpy(at, &hdr, sizeof(hdr));
		if (!CHECK_INT(write(ch, at, sizeof(hdr) + commands[i].in) < 0 ? errno : 0, EFAULT))
			printf("  %s\n", commands[i].name);
	}
	munmap(page, 8192);
}

static void test_ids(void)
{
	int other = ch_open(), theirs = id_new(other, RDMA_PS_TCP, 2);
	uint8_t in[1024];

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		unsigned cmd = commands[i].cmd;

		if (commands[i].id == NO)
			continue;
		fill(i, in, 0x7fffff);
		if (!CHECK_INT(ch_write(ch, cmd, in, commands[i].in, 1024), -ENOENT))
			printf("  %s\n", commands[i].name);
		fill(i, in, UINT32_MAX);
		if (!CHECK_INT(ch_write(ch, cmd, in, commands[i].in, 1024), -ENOENT))
			printf("  %s\n", commands[i].name);
		if (cmd == RDMA_USER_CM_CMD_LEAVE_MCAST)
			continue; /* numbers of its own */
		fill(i, in, (uint32_t)theirs);
		if (!CHECK_INT(ch_write(ch, cmd, in, commands[i].in, 1024), -EINVAL))
			printf("  %s\n", commands[i].name);
	}
	close(other);
}

static void test_response_unmapped(void)
{
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rdma_ucm_create_id create = {.response = (uintptr_t)page, .ps = RDMA_PS_TCP};
	struct rdma_ucm_get_event event = {.response = (uintptr_t)page};
	int fd = ch_open(), id, next;

	id = id_new(fd, RDMA_PS_TCP, 2);
	CHECK_INT(id_destroy(fd, id), 0);
	CHECK_INT(ch_write(fd, RDMA_USER_CM_CMD_CREATE_ID, &create, sizeof(create), 4), -EFAULT);
	/* It left nothing: the number is given again. */
	next = id_new(fd, RDMA_PS_TCP, 2);
	CHECK_INT(next, id);
	CHECK_INT(id_resolve_addr(fd, id, ip4(test_addr(), 1)), 0);
	CHECK_INT(ch_event(fd, NULL, EVENT_MS), RDMA_CM_EVENT_ADDR_RESOLVED);
	CHECK_INT(id_destroy(fd, id), 1);
	/* An event that could not be told stays. */
	id = id_new(fd, RDMA_PS_TCP, 2);
	CHECK_INT(id_resolve_addr(fd, id, ip4(test_addr(), 1)), 0);
	usleep(100000);
	CHECK_INT(ch_write(fd, RDMA_USER_CM_CMD_GET_EVENT, &event, sizeof(event),
			   sizeof(struct rdma_ucm_event_resp)),
		  -EFAULT);
	CHECK_INT(ch_event(fd, NULL, EVENT_MS), RDMA_CM_EVENT_ADDR_RESOLVED);
	CHECK_INT(id_destroy(fd, id), 1);
	munmap(page, 4096);
	close(fd);
}

static void test_port_spaces(void)
{
	CHECK_INT(id_new(ch, 0, 2), -EINVAL);
	CHECK_INT(id_new(ch, 0xffff, 2), -EINVAL);
	CHECK(id_new(ch, RDMA_PS_TCP, 0) >= 0);
	CHECK(id_new(ch, RDMA_PS_UDP, 0) >= 0);
	CHECK(id_new(ch, RDMA_PS_IPOIB, 0) >= 0);
	CHECK(id_new(ch, RDMA_PS_IB, 2) >= 0);
}

static void test_states(void)
{
	struct ib_uverbs_qp_attr attr;
	int id = id_new(ch, RDMA_PS_TCP, 2);

	CHECK_INT(id_resolve_route(ch, id), -EINVAL);
	CHECK_INT(id_connect(ch, id, NULL, 0), -EINVAL);
	CHECK_INT(id_accept(ch, id, NULL, 0), -EINVAL);
	CHECK_INT(id_accepted(ch, id), -EINVAL);
	CHECK_INT(id_reject(ch, id, 0, NULL, 0), -EINVAL);
	CHECK_INT(id_disconnect(ch, id), -EINVAL);
	CHECK_INT(id_attr(ch, id, IBV_QPS_INIT, &attr), -EINVAL);
	CHECK_INT(id_bind(ch, id, ip4(test_addr(), 0)), 0);
	CHECK_INT(id_bind(ch, id, ip4(test_addr(), 0)), -EINVAL);
	CHECK_INT(id_resolve_route(ch, id), -EINVAL);
	CHECK_INT(id_connect(ch, id, NULL, 0), -EINVAL);
	CHECK_INT(id_attr(ch, id, IBV_QPS_INIT, &attr), 0);
	CHECK_INT(attr.qp_attr_mask,
		  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	CHECK_INT(id_attr(ch, id, IBV_QPS_ERR + 1, &attr), -EINVAL);
	CHECK_INT(id_listen(ch, id, 1), 0);
	CHECK_INT(id_listen(ch, id, 1), -EINVAL);
	CHECK_INT(id_resolve_addr(ch, id, ip4(test_addr(), 1)), -EINVAL);
	CHECK_INT(id_accept(ch, id, NULL, 0), -EINVAL);
	CHECK_INT(id_destroy(ch, id), 0);
	CHECK_INT(id_destroy(ch, id), -ENOENT);
	/* Not bound: to any address and port. */
	id = id_new(ch, RDMA_PS_TCP, 2);
	CHECK_INT(id_listen(ch, id, 1), 0);
	CHECK(id_port(ch, id) > 0);
	CHECK_INT(id_destroy(ch, id), 0);
}

static void test_addresses(void)
{
	struct rdma_ucm_bind bind = {.addr_size = sizeof(struct sockaddr_in)};
	struct rdma_ucm_resolve_addr res = {.dst_size = sizeof(struct sockaddr_in)};
	struct rdma_ucm_bind_ip bind_ip = {0};
	int id = id_new(ch, RDMA_PS_TCP, 2);
	struct sockaddr_in *sin = (struct sockaddr_in *)&bind.addr;

	bind.id = bind_ip.id = res.id = (uint32_t)id;
	for (unsigned family = 0; family < 64; family++) {
		sin->sin_family = (sa_family_t)family;
		memcpy(&bind_ip.addr, sin, sizeof(*sin));
		memcpy(&res.dst_addr, sin, sizeof(*sin));
		if (family == AF_INET)
			continue;
		CHECK_INT(ch_write(ch, RDMA_USER_CM_CMD_BIND, &bind, sizeof(bind), 0), -EINVAL);
		CHECK_INT(ch_write(ch, RDMA_USER_CM_CMD_RESOLVE_ADDR, &res, sizeof(res), 0),
			  -EINVAL);
		if (family != AF_INET6)
			CHECK_INT(ch_write(ch, RDMA_USER_CM_CMD_BIND_IP, &bind_ip, sizeof(bind_ip),
					   0),
				  -EINVAL);
	}
	sin->sin_family = AF_INET;
	for (unsigned size = 0; size < 140; size++) {
		if (size == sizeof(*sin))
			continue;
		bind.addr_size = (uint16_t)size;
		CHECK_INT(ch_write(ch, RDMA_USER_CM_CMD_BIND, &bind, sizeof(bind), 0), -EINVAL);
	}
	bind.addr_size = sizeof(*sin);
	bind.reserved = 1;
	CHECK_INT(ch_write(ch, RDMA_USER_CM_CMD_BIND, &bind, sizeof(bind), 0), -EINVAL);
	/* Nobody's here (TEST-NET-1). */
	CHECK_INT(id_bind(ch, id, ip4("192.0.2.1", 0)), -EADDRNOTAVAIL);
	CHECK_INT(id_bind(ch, id, ip6("2001:db8::1", 0)), -EADDRNOTAVAIL);
	/* A source and a destination of two families. */
	CHECK_INT(id_bind(ch, id, ip4(test_addr(), 0)), 0);
	CHECK_INT(id_resolve_addr(ch, id, ip6("::1", 1)), -EINVAL);
	CHECK_INT(id_destroy(ch, id), 0);
}

static void test_options(void)
{
	int id = id_new(ch, RDMA_PS_TCP, 2), ud = id_new(ch, RDMA_PS_UDP, 4), value = 1;
	struct ib_path_rec_data path = {.flags = 1};

	CHECK_INT(id_option(ch, id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &value, 1), 0);
	CHECK_INT(id_option(ch, id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &value, 4), -EINVAL);
	CHECK_INT(id_option(ch, id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &value, 1), 0);
	CHECK_INT(id_option(ch, ud, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &value, 1),
		  -EINVAL);
	CHECK_INT(id_option(ch, id, RDMA_OPTION_ID, 99, &value, 1), -ENOSYS);
	CHECK_INT(id_option(ch, id, 99, 0, &value, 1), -ENOSYS);
	CHECK_INT(id_option(ch, id, RDMA_OPTION_IB, 99, &value, 1), -ENOSYS);
	CHECK_INT(id_option(ch, id, RDMA_OPTION_IB, RDMA_OPTION_IB_PATH, &path, sizeof(path)),
		  -EINVAL);
	CHECK_INT(id_option(ch, id, RDMA_OPTION_IB, RDMA_OPTION_IB_PATH, &path, 1), -EINVAL);
	CHECK_INT(id_option(ch, id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, (void *)8, 1), -EFAULT);
	CHECK_INT(id_option(ch, id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, NULL, 1u << 30), -EINVAL);
	/* Given up only while unbound; taken at any time before it listens. */
	CHECK_INT(id_int_option(ch, id, RDMA_OPTION_ID_REUSEADDR, 1), 0);
	CHECK_INT(id_int_option(ch, id, RDMA_OPTION_ID_REUSEADDR, 0), 0);
	CHECK_INT(id_int_option(ch, id, RDMA_OPTION_ID_AFONLY, 1), 0);
	CHECK_INT(id_bind(ch, id, ip4(test_addr(), 0)), 0);
	CHECK_INT(id_int_option(ch, id, RDMA_OPTION_ID_REUSEADDR, 0), -EINVAL);
	CHECK_INT(id_int_option(ch, id, RDMA_OPTION_ID_REUSEADDR, 1), 0);
	CHECK_INT(id_int_option(ch, id, RDMA_OPTION_ID_AFONLY, 1), 0);
	CHECK_INT(id_listen(ch, id, 1), 0);
	CHECK_INT(id_int_option(ch, id, RDMA_OPTION_ID_REUSEADDR, 1), -EINVAL);
	CHECK_INT(id_int_option(ch, id, RDMA_OPTION_ID_AFONLY, 1), -EINVAL);
	id_destroy(ch, id);
	id_destroy(ch, ud);
}

static void test_numbers(void)
{
	int fd = ch_open(), a = id_new(fd, RDMA_PS_TCP, 2), b = id_new(fd, RDMA_PS_TCP, 2);

	CHECK_INT(b, a + 1);
	CHECK_INT(id_destroy(fd, a), 0);
	CHECK_INT(id_new(fd, RDMA_PS_UDP, 4), a); /* the lowest that is free */
	close(fd);
}

/* A child of fork is another who has not opened the channel. */
static void test_fork(void)
{
	int fd = ch_open(), id = id_new(fd, RDMA_PS_TCP, 2), status;
	pid_t pid = fork();

	if (!pid) {
		int own,
			ok = id_new(fd, RDMA_PS_TCP, 2) == -EACCES && id_destroy(fd, id) == -EACCES;

		close(fd);
		own = ch_open();
		ok = ok && own >= 0 && id_new(own, RDMA_PS_TCP, 2) >= 0 &&
		     id_listen(own, 0, 1) == 0;
		_exit(!ok);
	}
	waitpid(pid, &status, 0);
	CHECK_INT(status, 0);
	/* The parent's has not changed. */
	CHECK_INT(id_resolve_addr(fd, id, ip4(test_addr(), 1)), 0);
	CHECK_INT(ch_event(fd, NULL, EVENT_MS), RDMA_CM_EVENT_ADDR_RESOLVED);
	CHECK_INT(id_destroy(fd, id), 1);
	close(fd);
}

static void test_setuid(void)
{
	int status;
	pid_t pid = geteuid() ? 0 : fork();

	if (geteuid())
		return;
	if (!pid) {
		int fd = ch_open(), ok = id_new(fd, RDMA_PS_TCP, 2) >= 0;

		ok = ok && !setgid(65534) && !setuid(65534) &&
		     id_new(fd, RDMA_PS_TCP, 2) == -EACCES;
		_exit(!ok);
	}
	waitpid(pid, &status, 0);
	CHECK_INT(status, 0);
}

struct waiter {
	int fd, ret;
	_Atomic bool begun;
	pthread_t thread;
};

static void *waiter_run(void *arg)
{
	struct waiter *w = arg;
	struct rdma_ucm_event_resp resp;
	struct rdma_ucm_get_event cmd = {.response = (uintptr_t)&resp};

	w->begun = true;
	w->ret = ch_write(w->fd, RDMA_USER_CM_CMD_GET_EVENT, &cmd, sizeof(cmd), sizeof(resp));
	return w;
}

static void waiter_start(struct waiter *w, int fd)
{
	*w = (struct waiter){.fd = fd, .ret = 1};
	CHECK_INT(pthread_create(&w->thread, NULL, waiter_run, w), 0);
	while (!w->begun)
		usleep(1000);
	usleep(100000);
}

static void nothing(int sig)
{
	(void)sig;
}

/* A thread that waits for events: cancelled, interrupted, its channel closed. */
static void test_wait(void)
{
	struct sigaction sa = {.sa_handler = nothing};
	int fd = ch_open(), id;
	struct waiter w;
	void *ret;

	waiter_start(&w, fd);
	pthread_cancel(w.thread);
	pthread_join(w.thread, &ret);
	CHECK(ret == PTHREAD_CANCELED);

	sigaction(SIGUSR1, &sa, NULL);
	waiter_start(&w, fd);
	pthread_kill(w.thread, SIGUSR1);
	pthread_join(w.thread, &ret);
	CHECK_INT(w.ret, -EINTR);

	sa.sa_flags = SA_RESTART;
	sigaction(SIGUSR1, &sa, NULL);
	waiter_start(&w, fd);
	pthread_kill(w.thread, SIGUSR1);
	usleep(100000);
	CHECK_INT(w.ret, 1); /* it waits on */
	id = id_new(fd, RDMA_PS_TCP, 2);
	CHECK_INT(id_resolve_addr(fd, id, ip4(test_addr(), 1)), 0);
	pthread_join(w.thread, &ret);
	CHECK_INT(w.ret, 0);

	/* The kernel ends a file after the last call on it: the thread waits on. */
	waiter_start(&w, fd);
	close(fd);
	usleep(50000);
	CHECK_INT(w.ret, 1);
	fd = ch_open(); /* must not be the one that the thread waits on */
	id = id_new(fd, RDMA_PS_TCP, 2);
	CHECK_INT(id_resolve_addr(fd, id, ip4(test_addr(), 1)), 0);
	CHECK_INT(ch_event(fd, NULL, EVENT_MS), RDMA_CM_EVENT_ADDR_RESOLVED);
	CHECK_INT(w.ret, 1);
	pthread_cancel(w.thread);
	pthread_join(w.thread, &ret);
	CHECK(ret == PTHREAD_CANCELED);
	close(fd);
}

static void test_migrate(void)
{
	int a = ch_open(), b = ch_open(), id = id_new(a, RDMA_PS_TCP, 2), null;

	null = open("/dev/null", O_RDONLY);
	CHECK_INT(id_migrate(b, id, 1000000), -ENOENT);
	CHECK_INT(id_migrate(b, id, null), -EINVAL);
	CHECK_INT(id_migrate(b, id, b), -EINVAL);
	CHECK_INT(id_resolve_addr(a, id, ip4(test_addr(), 1)), 0);
	CHECK_INT(ch_event(a, NULL, EVENT_MS), RDMA_CM_EVENT_ADDR_RESOLVED);
	CHECK_INT(id_resolve_route(a, id), 0);
	usleep(100000);
	CHECK_INT(id_migrate(b, id, a), 1);
	/* What was not read yet comes on the new channel, and no more on the old one. */
	CHECK_INT(ch_event(a, NULL, NONE_MS), -ETIMEDOUT);
	CHECK_INT(ch_event(b, NULL, EVENT_MS), RDMA_CM_EVENT_ROUTE_RESOLVED);
	CHECK_INT(id_disconnect(a, id), -EINVAL);
	close(a);
	CHECK_INT(id_destroy(b, id), 2);
	close(b);
	close(null);
}

static void test_nonblock(void)
{
	struct rdma_ucm_event_resp resp;
	struct rdma_ucm_get_event cmd = {.response = (uintptr_t)&resp};
	int fd = ch_open();

	fcntl(fd, F_SETFL, O_NONBLOCK);
	CHECK_INT(ch_write(fd, RDMA_USER_CM_CMD_GET_EVENT, &cmd, sizeof(cmd), sizeof(resp)),
		  -EAGAIN);
	close(fd);
}

int main(void)
{
	ch = ch_open();
	if (ch < 0) {
		printf("skip: /dev/infiniband/rdma_cm: %s\n", strerror(-ch));
		return 77;
	}
	RUN(test_header);
	RUN(test_out_short);
	RUN(test_in_unmapped);
	RUN(test_ids);
	RUN(test_response_unmapped);
	RUN(test_port_spaces);
	RUN(test_states);
	RUN(test_addresses);
	RUN(test_options);
	RUN(test_numbers);
#ifdef __SANITIZE_THREAD__
	printf("skip test_fork, test_setuid: the thread sanitizer has no threads in a child\n");
	(void)test_fork, (void)test_setuid;
#else
	RUN(test_fork);
	RUN(test_setuid);
#endif
	RUN(test_wait);
	RUN(test_migrate);
	RUN(test_nonblock);
	close(ch);
	printf("%d failures\n", t_failed);
	return !!t_failed;
}
