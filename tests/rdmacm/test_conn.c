/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Connections: the events that both sides see, in order, with their statuses and private
 * data; and what the survivor sees when the other side's process ends at any step.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ucma.h"

#define REJ_CONSUMER 28
#define REJ_INVALID_SERVICE 8

static uint8_t data[256];

static int next(int fd, struct rdma_ucm_event_resp *resp)
{
	return ch_event(fd, resp, EVENT_MS);
}

/* Between two channels of one process. */
struct pair {
	int a, b;             /* active, passive */
	int listen, to, from; /* identifiers: B's, A's, B's of the request */
	size_t head;          /* of rdma_cm's own in a request's private data */
};

static void pair_request(struct pair *p, unsigned ps, const struct sockaddr *at,
			 const struct sockaddr *dst)
{
	struct sockaddr_in6 to;
	struct rdma_ucm_event_resp resp;
	uint16_t port;

	memcpy(&to, dst, dst->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(to));
	p->a = ch_open();
	p->b = ch_open();
	p->listen = listener(p->b, ps, at, &port);
	to.sin6_port = htons(port); /* at the same place in both families */
	p->to = ready(p->a, ps, (struct sockaddr *)&to);
	CHECK_INT(id_connect(p->a, p->to, data, 50), 0);
	CHECK_INT(next(p->b, &resp), RDMA_CM_EVENT_CONNECT_REQUEST);
	CHECK_INT(resp.uid, 1); /* the listener's */
	p->from = (int)resp.id;
	if (ps == RDMA_PS_UDP) {
		CHECK_INT(resp.param.ud.private_data_len, 216 - 36);
		CHECK(!memcmp(resp.param.ud.private_data, data, 50));
	} else {
		CHECK_INT(resp.param.conn.private_data_len, 92 - 36);
		CHECK(!memcmp(resp.param.conn.private_data, data, 50));
		CHECK_INT(resp.param.conn.qp_num, 0x123456);
		/* What the other side may ask is what this one has to answer. */
		CHECK_INT(resp.param.conn.responder_resources, 2);
		CHECK_INT(resp.param.conn.initiator_depth, 3);
		CHECK_INT(resp.param.conn.retry_count, 5);
		CHECK_INT(resp.param.conn.rnr_retry_count, 6);
	}
}

static void pair_connect(struct pair *p, const struct sockaddr *at, const struct sockaddr *dst)
{
	struct rdma_ucm_event_resp resp;

	pair_request(p, RDMA_PS_TCP, at, dst);
	CHECK_INT(id_accept(p->b, p->from, data + 7, 196), 0);
	CHECK_INT(next(p->a, &resp), RDMA_CM_EVENT_CONNECT_RESPONSE);
	CHECK_INT(resp.status, 0);
	CHECK_INT(resp.param.conn.private_data_len, 196);
	CHECK(!memcmp(resp.param.conn.private_data, data + 7, 196));
	CHECK_INT(ch_event(p->b, NULL, NONE_MS), -ETIMEDOUT); /* before the RTU */
	CHECK_INT(id_accepted(p->a, p->to), 0);
	CHECK_INT(id_accepted(p->a, p->to), -EINVAL);
	CHECK_INT(next(p->b, &resp), RDMA_CM_EVENT_ESTABLISHED);
	CHECK_INT(resp.uid, 2);
	CHECK_INT(resp.id, p->from);
}

static void pair_close(struct pair *p)
{
	close(p->a);
	close(p->b);
}

/* DISCONNECTED on both sides, and TIMEWAIT_EXIT, whoever begins. */
static void pair_disconnect(struct pair *p)
{
	CHECK_INT(id_disconnect(p->a, p->to), 0);
	CHECK_INT(next(p->b, NULL), RDMA_CM_EVENT_DISCONNECTED);
	CHECK_INT(ch_event(p->a, NULL, NONE_MS), -ETIMEDOUT); /* before the DREP */
	CHECK_INT(id_disconnect(p->b, p->from), 0);
	CHECK_INT(next(p->a, NULL), RDMA_CM_EVENT_DISCONNECTED);
	CHECK_INT(next(p->b, NULL), RDMA_CM_EVENT_TIMEWAIT_EXIT);
	CHECK_INT(next(p->a, NULL), RDMA_CM_EVENT_TIMEWAIT_EXIT);
	CHECK_INT(id_disconnect(p->a, p->to), 0);
	CHECK_INT(ch_event(p->b, NULL, NONE_MS), -ETIMEDOUT);
	CHECK_INT(id_destroy(p->a, p->to), 5);
	CHECK_INT(id_destroy(p->b, p->from), 3);
	CHECK_INT(id_destroy(p->b, p->listen), 1);
}

static void test_connect(void)
{
	struct pair p;

	pair_connect(&p, ip4(test_addr(), 0), ip4(test_addr(), 0));
	pair_disconnect(&p);
	pair_close(&p);
	pair_connect(&p, ip4("0.0.0.0", 0), ip4(test_addr(), 0));
	pair_disconnect(&p);
	pair_close(&p);
}

static void test_connect_ipv6(void)
{
	struct pair p;

	if (getenv("RDMACM_TEST_ADDR"))
		return; /* of IPv4 */
	pair_connect(&p, ip6("::1", 0), ip6("::1", 0));
	pair_disconnect(&p);
	pair_close(&p);
	/* Of both families. */
	pair_connect(&p, ip6("::", 0), ip4("127.0.0.1", 0));
	pair_disconnect(&p);
	pair_close(&p);
}

static void test_reject(void)
{
	struct rdma_ucm_event_resp resp;
	struct pair p;

	pair_request(&p, RDMA_PS_TCP, ip4(test_addr(), 0), ip4(test_addr(), 0));
	CHECK_INT(id_reject(p.b, p.from, 5, NULL, 0), -EINVAL); /* not a consumer's reason */
	CHECK_INT(id_reject(p.b, p.from, 0, data, 149), -EINVAL);
	CHECK_INT(id_reject(p.b, p.from, 0, data, 148), 0);
	CHECK_INT(next(p.a, &resp), RDMA_CM_EVENT_REJECTED);
	CHECK_INT(resp.status, REJ_CONSUMER);
	CHECK_INT(resp.param.conn.private_data_len, 148);
	CHECK(!memcmp(resp.param.conn.private_data, data, 148));
	CHECK_INT(id_accept(p.b, p.from, NULL, 0), -EINVAL);
	CHECK_INT(id_reject(p.b, p.from, 0, NULL, 0), -EINVAL);
	CHECK_INT(id_connect(p.a, p.to, NULL, 0), -EINVAL);
	pair_close(&p);
}

/* The active side does not want the answer. */
static void test_reject_rep(void)
{
	struct rdma_ucm_event_resp resp;
	struct pair p;

	pair_request(&p, RDMA_PS_TCP, ip4(test_addr(), 0), ip4(test_addr(), 0));
	CHECK_INT(id_accept(p.b, p.from, NULL, 0), 0);
	CHECK_INT(id_accept(p.b, p.from, NULL, 0), -EINVAL);
	/* rdma_accept() rejects what it cannot accept. */
	CHECK_INT(next(p.a, &resp), RDMA_CM_EVENT_CONNECT_RESPONSE);
	CHECK_INT(next(p.a, &resp), RDMA_CM_EVENT_REJECTED);
	CHECK_INT(resp.status, REJ_CONSUMER);
	pair_close(&p);
	pair_request(&p, RDMA_PS_TCP, ip4(test_addr(), 0), ip4(test_addr(), 0));
	CHECK_INT(id_accept(p.b, p.from, NULL, 0), 0);
	CHECK_INT(next(p.a, &resp), RDMA_CM_EVENT_CONNECT_RESPONSE);
	CHECK_INT(id_reject(p.a, p.to, 0, data, 9), 0);
	CHECK_INT(next(p.b, &resp), RDMA_CM_EVENT_REJECTED);
	CHECK_INT(resp.status, REJ_CONSUMER);
	CHECK(!memcmp(resp.param.conn.private_data, data, 9));
	pair_close(&p);
}

static void test_nobody(void)
{
	struct rdma_ucm_event_resp resp;
	int fd = ch_open(), id = ready(fd, RDMA_PS_TCP, ip4(test_addr(), 9));

	CHECK_INT(id_connect(fd, id, NULL, 0), 0);
	CHECK_INT(next(fd, &resp), RDMA_CM_EVENT_REJECTED);
	CHECK_INT(resp.status, REJ_INVALID_SERVICE);
	id_destroy(fd, id);
	id = ready(fd, RDMA_PS_UDP, ip4(test_addr(), 9));
	CHECK_INT(id_connect(fd, id, NULL, 0), 0);
	CHECK_INT(next(fd, &resp), RDMA_CM_EVENT_UNREACHABLE);
	CHECK_INT(resp.status, 1); /* IB_SIDR_UNSUPPORTED */
	close(fd);
}

static void test_private_data(void)
{
	int fd = ch_open(), id = ready(fd, RDMA_PS_TCP, ip4(test_addr(), 9));
	struct pair p;

	CHECK_INT(id_connect(fd, id, data, 92 - 36 + 1), -EINVAL);
	CHECK_INT(id_connect(fd, id, data, 255), -EINVAL);
	CHECK_INT(id_connect(fd, id, data, 92 - 36), 0);
	id_destroy(fd, id);
	id = ready(fd, RDMA_PS_UDP, ip4(test_addr(), 9));
	CHECK_INT(id_connect(fd, id, data, 216 - 36 + 1), -EINVAL);
	CHECK_INT(id_connect(fd, id, data, 216 - 36), 0);
	close(fd);
	pair_request(&p, RDMA_PS_TCP, ip4(test_addr(), 0), ip4(test_addr(), 0));
	CHECK_INT(id_accept(p.b, p.from, data, 197), -EINVAL); /* and is rejected */
	CHECK_INT(next(p.a, NULL), RDMA_CM_EVENT_REJECTED);
	pair_close(&p);
	pair_request(&p, RDMA_PS_UDP, ip4(test_addr(), 0), ip4(test_addr(), 0));
	CHECK_INT(id_accept(p.b, p.from, data, 137), -EINVAL);
	CHECK_INT(next(p.a, NULL), RDMA_CM_EVENT_UNREACHABLE);
	pair_close(&p);
}

static void test_ud(void)
{
	struct rdma_ucm_event_resp resp;
	struct pair p;

	pair_request(&p, RDMA_PS_UDP, ip4(test_addr(), 0), ip4(test_addr(), 0));
	CHECK_INT(id_accept(p.b, p.from, data + 3, 136), 0);
	CHECK_INT(next(p.a, &resp), RDMA_CM_EVENT_ESTABLISHED);
	CHECK_INT(resp.param.ud.private_data_len, 136);
	CHECK(!memcmp(resp.param.ud.private_data, data + 3, 136));
	CHECK_INT(resp.param.ud.qp_num, 0x123456);
	CHECK_INT(resp.param.ud.qkey, 0x01234567);
	CHECK_INT(resp.param.ud.ah_attr.is_global, 1);
	CHECK_INT(ch_event(p.b, NULL, NONE_MS), -ETIMEDOUT); /* it is told nothing */
	CHECK_INT(id_disconnect(p.a, p.to), 0);
	CHECK_INT(ch_event(p.b, NULL, NONE_MS), -ETIMEDOUT);
	pair_close(&p);
	pair_request(&p, RDMA_PS_UDP, ip4(test_addr(), 0), ip4(test_addr(), 0));
	CHECK_INT(id_reject(p.b, p.from, 0, data, 5), 0);
	CHECK_INT(next(p.a, &resp), RDMA_CM_EVENT_UNREACHABLE);
	CHECK_INT(resp.status, 2); /* IB_SIDR_REJECT */
	pair_close(&p);
}

/* Destroyed without a word: as the kernel's cm_destroy_id(). */
static void test_destroy(void)
{
	struct rdma_ucm_event_resp resp;
	struct pair p;

	pair_request(&p, RDMA_PS_TCP, ip4(test_addr(), 0), ip4(test_addr(), 0));
	id_destroy(p.b, p.from);
	CHECK_INT(next(p.a, &resp), RDMA_CM_EVENT_REJECTED);
	CHECK_INT(resp.status, REJ_CONSUMER);
	pair_close(&p);
	pair_connect(&p, ip4(test_addr(), 0), ip4(test_addr(), 0));
	id_destroy(p.b, p.from);
	CHECK_INT(next(p.a, NULL), RDMA_CM_EVENT_DISCONNECTED);
	pair_close(&p);
	pair_connect(&p, ip4(test_addr(), 0), ip4(test_addr(), 0));
	close(p.a);
	CHECK_INT(next(p.b, NULL), RDMA_CM_EVENT_DISCONNECTED);
	close(p.b);
}

/* Requests that nobody has read go with their listener, or move with it. */
static void test_unread(void)
{
	int a = ch_open(), b = ch_open(), c = ch_open(), id, from;
	struct rdma_ucm_event_resp resp;
	uint16_t port;
	int l = listener(b, RDMA_PS_TCP, ip4(test_addr(), 0), &port);

	id = ready(a, RDMA_PS_TCP, ip4(test_addr(), port));
	CHECK_INT(id_connect(a, id, NULL, 0), 0);
	usleep(100000);
	CHECK_INT(id_migrate(c, l, b), 0);
	CHECK_INT(ch_event(b, NULL, NONE_MS), -ETIMEDOUT);
	CHECK_INT(next(c, &resp), RDMA_CM_EVENT_CONNECT_REQUEST);
	from = (int)resp.id;
	CHECK_INT(id_accept(b, from, NULL, 0), -EINVAL); /* it is C's */
	CHECK_INT(id_accept(c, from, NULL, 0), 0);
	CHECK_INT(next(a, NULL), RDMA_CM_EVENT_CONNECT_RESPONSE);
	id = ready(a, RDMA_PS_TCP, ip4(test_addr(), port));
	CHECK_INT(id_connect(a, id, NULL, 0), 0);
	usleep(100000);
	CHECK_INT(id_destroy(c, l), 1);
	CHECK_INT(next(a, &resp), RDMA_CM_EVENT_REJECTED);
	CHECK_INT(resp.status, REJ_CONSUMER);
	CHECK_INT(resp.id, id);
	CHECK_INT(ch_event(c, NULL, NONE_MS), -ETIMEDOUT);
	close(a);
	close(b);
	close(c);
}

/* As many as the backlog says wait to be read; the rest is asked again, by the
 * protocol's time. */
static void test_backlog(void)
{
	int a = ch_open(), b = ch_open(), ids[5], n = 0;
	struct rdma_ucm_event_resp resp;
	uint16_t port;
	int l = id_new(b, RDMA_PS_TCP, 2);

	CHECK_INT(id_bind(b, l, ip4(test_addr(), 0)), 0);
	CHECK_INT(id_listen(b, l, 2), 0);
	port = (uint16_t)id_port(b, l);
	for (int i = 0; i < 5; i++) {
		ids[i] = ready(a, RDMA_PS_TCP, ip4(test_addr(), port));
		CHECK_INT(id_connect(a, ids[i], NULL, 0), 0);
	}
	usleep(200000);
	while (ch_event(b, &resp, NONE_MS) == RDMA_CM_EVENT_CONNECT_REQUEST)
		n++;
	CHECK_INT(n, 2);
	while (n < 5 && next(b, &resp) == RDMA_CM_EVENT_CONNECT_REQUEST)
		n++;
	CHECK_INT(n, 5);
	close(a);
	close(b);
}

/* ---- ports: cma.c, cma_check_port() ---- */

static int bound(int fd, unsigned ps, const struct sockaddr *sa, int reuse, int *err)
{
	int id = id_new(fd, ps, 2);

	CHECK_INT(id_int_option(fd, id, RDMA_OPTION_ID_REUSEADDR, reuse), 0);
	*err = id_bind(fd, id, sa);
	return id;
}

static void test_ports(void)
{
	int fd = ch_open(), err, a, b, c, status;
	uint16_t port;
	pid_t pid;

	a = bound(fd, RDMA_PS_TCP, ip4(test_addr(), 0), 0, &err);
	CHECK_INT(err, 0);
	port = (uint16_t)id_port(fd, a);
	CHECK(port >= 1024);
	bound(fd, RDMA_PS_TCP, ip4(test_addr(), port), 0, &err);
	CHECK_INT(err, -EADDRINUSE);
	bound(fd, RDMA_PS_TCP, ip4(test_addr(), port), 1, &err);
	CHECK_INT(err, -EADDRINUSE);
	bound(fd, RDMA_PS_TCP, ip4("0.0.0.0", port), 0, &err);
	CHECK_INT(err, -EADDRNOTAVAIL);
	b = bound(fd, RDMA_PS_UDP, ip4(test_addr(), port), 0, &err);
	CHECK_INT(err, 0); /* another space */
	id_destroy(fd, b);
	pid = fork();
	if (!pid) {
		int own = ch_open();

		bound(own, RDMA_PS_TCP, ip4(test_addr(), port), 0, &err);
		_exit(err != -EADDRINUSE);
	}
	waitpid(pid, &status, 0);
	CHECK_INT(status, 0);
	id_destroy(fd, a);
	a = bound(fd, RDMA_PS_TCP, ip4(test_addr(), port), 1, &err);
	CHECK_INT(err, 0); /* free again */
	b = bound(fd, RDMA_PS_TCP, ip4(test_addr(), port), 1, &err);
	CHECK_INT(err, 0); /* both want to share */
	CHECK_INT(id_listen(fd, a, 1), -EADDRINUSE);
	id_destroy(fd, b);
	CHECK_INT(id_listen(fd, a, 1), 0);
	bound(fd, RDMA_PS_TCP, ip4(test_addr(), port), 1, &err);
	CHECK_INT(err, -EADDRINUSE); /* one that listens shares no more */
	id_destroy(fd, a);
	/* Two families, where both say so. */
	a = id_new(fd, RDMA_PS_TCP, 2);
	CHECK_INT(id_int_option(fd, a, RDMA_OPTION_ID_AFONLY, 1), 0);
	CHECK_INT(id_bind(fd, a, ip6("::", port)), 0);
	c = bound(fd, RDMA_PS_TCP, ip4("0.0.0.0", port), 0, &err);
	CHECK_INT(err, 0);
	id_destroy(fd, a);
	id_destroy(fd, c);
	a = bound(fd, RDMA_PS_TCP, ip6("::", port), 0, &err);
	CHECK_INT(err, 0);
	bound(fd, RDMA_PS_TCP, ip4("0.0.0.0", port), 0, &err);
	CHECK_INT(err, -EADDRNOTAVAIL);
	close(fd);
}

static void test_privileged(void)
{
	pid_t pid;
	int status;

	if (geteuid()) {
		int fd = ch_open(), err;

		bound(fd, RDMA_PS_TCP, ip4(test_addr(), 80), 0, &err);
		CHECK_INT(err, -EACCES);
		close(fd);
		return;
	}
	pid = fork();
	if (!pid) {
		int fd, err, ok;

		fd = ch_open();
		bound(fd, RDMA_PS_TCP, ip4(test_addr(), 80), 0, &err);
		ok = !err;
		close(fd);
		_exit(!ok);
	}
	waitpid(pid, &status, 0);
	CHECK_INT(status, 0);
}

/* ---- ends of processes ---- */

enum how { BY_KILL, BY_EXIT, BY_EXEC, BY_CHROOT_KILL };
enum step { AT_REQUEST, AT_RESPONSE, AT_ESTABLISHED, AT_DISCONNECT };
static const char *const hows[] = {"kill", "exit", "exec", "chroot, kill"};
static const char *const steps[] = {"request", "response", "established", "disconnect"};

/* In the child: tell the parent, and end. */
static void end(int to, enum how how, uint16_t port)
{
	static char *const argv[] = {"sleep", "20", NULL};

	if (how == BY_EXIT)
		usleep(50000); /* others end when the parent has seen enough */
	if (write(to, &port, sizeof(port)) < 0)
		_exit(1);
	if (how == BY_EXIT)
		exit(0);
	if (how == BY_EXEC)
		execvp("sleep", argv);
	for (;;)
		pause();
}

static void child_passive(enum step step, enum how how, int to)
{
	struct rdma_ucm_event_resp resp;
	int fd = ch_open(), id;
	uint16_t port;

	listener(fd, RDMA_PS_TCP, ip4(test_addr(), 0), &port);
	if (how == BY_CHROOT_KILL && chroot("/var/empty") && chroot("/tmp"))
		_exit(1);
	if (write(to, &port, sizeof(port)) < 0)
		_exit(1);
	next(fd, &resp);
	id = (int)resp.id;
	if (step >= AT_RESPONSE)
		id_accept(fd, id, NULL, 0);
	if (step >= AT_ESTABLISHED)
		next(fd, NULL);
	if (step >= AT_DISCONNECT)
		id_disconnect(fd, id);
	end(to, how, 0);
}

static void child_active(enum step step, enum how how, int to, uint16_t port)
{
	int fd = ch_open(), id = ready(fd, RDMA_PS_TCP, ip4(test_addr(), port));

	if (how == BY_CHROOT_KILL && chroot("/var/empty") && chroot("/tmp"))
		_exit(1);
	id_connect(fd, id, NULL, 0);
	if (step >= AT_RESPONSE)
		next(fd, NULL);
	if (step >= AT_ESTABLISHED)
		id_accepted(fd, id);
	if (step >= AT_DISCONNECT) {
		usleep(50000);
		id_disconnect(fd, id);
	}
	end(to, how, 0);
}

static uint16_t child_says(int fd)
{
	uint16_t port = 0;

	CHECK_INT(read(fd, &port, sizeof(port)), sizeof(port));
	return port;
}

static void child_end(pid_t pid, enum how how)
{
	if (how != BY_EXIT && how != BY_EXEC)
		kill(pid, SIGKILL);
}

static void child_reap(pid_t pid, int fd)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd);
}

static void active_survives(enum step step, enum how how)
{
	struct rdma_ucm_event_resp resp;
	int fds[2], fd, id;
	uint16_t port;
	pid_t pid;

	CHECK_INT(pipe(fds), 0);
	pid = fork();
	if (!pid)
		child_passive(step, how, fds[1]);
	close(fds[1]);
	port = child_says(fds[0]);
	fd = ch_open();
	id = ready(fd, RDMA_PS_TCP, ip4(test_addr(), port));
	CHECK_INT(id_connect(fd, id, NULL, 0), 0);
	if (step >= AT_RESPONSE)
		CHECK_INT(next(fd, NULL), RDMA_CM_EVENT_CONNECT_RESPONSE);
	if (step >= AT_ESTABLISHED)
		CHECK_INT(id_accepted(fd, id), 0);
	if (step >= AT_DISCONNECT)
		CHECK_INT(next(fd, NULL), RDMA_CM_EVENT_DISCONNECTED);
	child_says(fds[0]);
	child_end(pid, how);
	if (step <= AT_RESPONSE) {
		CHECK_INT(next(fd, &resp), RDMA_CM_EVENT_REJECTED);
		CHECK_INT(resp.status, REJ_CONSUMER);
	} else if (step == AT_ESTABLISHED) {
		CHECK_INT(next(fd, &resp), RDMA_CM_EVENT_DISCONNECTED);
		CHECK_INT(resp.status, 0);
	}
	if (step >= AT_ESTABLISHED) {
		CHECK_INT(id_disconnect(fd, id), 0);
		CHECK_INT(next(fd, NULL), RDMA_CM_EVENT_TIMEWAIT_EXIT);
	}
	close(fd);
	child_reap(pid, fds[0]);
}

static void passive_survives(enum step step, enum how how)
{
	struct rdma_ucm_event_resp resp;
	int fds[2], fd = ch_open(), id;
	uint16_t port;
	pid_t pid;

	listener(fd, RDMA_PS_TCP, ip4(test_addr(), 0), &port);
	CHECK_INT(pipe(fds), 0);
	pid = fork();
	if (!pid)
		child_active(step, how, fds[1], port);
	close(fds[1]);
	CHECK_INT(next(fd, &resp), RDMA_CM_EVENT_CONNECT_REQUEST);
	id = (int)resp.id;
	if (step >= AT_RESPONSE)
		CHECK_INT(id_accept(fd, id, NULL, 0), 0);
	if (step >= AT_ESTABLISHED)
		CHECK_INT(next(fd, NULL), RDMA_CM_EVENT_ESTABLISHED);
	if (step >= AT_DISCONNECT)
		CHECK_INT(next(fd, NULL), RDMA_CM_EVENT_DISCONNECTED);
	child_says(fds[0]);
	child_end(pid, how);
	if (step == AT_REQUEST) {
		/* It has no uid yet: nobody is told, and the accept fails. */
		CHECK_INT(ch_event(fd, NULL, 500), -ETIMEDOUT);
		CHECK_INT(id_accept(fd, id, NULL, 0), -EINVAL);
	} else if (step == AT_RESPONSE) {
		CHECK_INT(next(fd, &resp), RDMA_CM_EVENT_REJECTED);
		CHECK_INT(resp.status, REJ_CONSUMER);
	} else if (step == AT_ESTABLISHED) {
		CHECK_INT(next(fd, &resp), RDMA_CM_EVENT_DISCONNECTED);
	}
	if (step >= AT_ESTABLISHED) {
		CHECK_INT(id_disconnect(fd, id), 0);
		CHECK_INT(next(fd, NULL), RDMA_CM_EVENT_TIMEWAIT_EXIT);
	}
	close(fd);
	child_reap(pid, fds[0]);
}

static void test_ends(void)
{
	static char what[64];

	for (unsigned how = BY_KILL; how <= BY_CHROOT_KILL; how++) {
		if (how == BY_CHROOT_KILL && geteuid())
			continue;
		for (unsigned step = AT_REQUEST; step <= AT_DISCONNECT; step++) {
			snprintf(what, sizeof(what), "passive side's %s at %s", hows[how],
				 steps[step]);
			t_case = what;
			active_survives(step, how);
			snprintf(what, sizeof(what), "active side's %s at %s", hows[how],
				 steps[step]);
			passive_survives(step, how);
		}
	}
}

/* Its services go as well, also by exec, which the process outlives. */
static void test_end_frees_port(void)
{
	int fds[2], fd = ch_open(), err;
	uint16_t port;
	pid_t pid;

	CHECK_INT(pipe(fds), 0);
	pid = fork();
	if (!pid)
		child_passive(AT_REQUEST, BY_EXEC, fds[1]);
	close(fds[1]);
	port = child_says(fds[0]);
	bound(fd, RDMA_PS_TCP, ip4(test_addr(), port), 0, &err);
	CHECK_INT(err, -EADDRINUSE);
	err = ready(fd, RDMA_PS_TCP, ip4(test_addr(), port));
	CHECK_INT(id_connect(fd, err, NULL, 0), 0);
	CHECK_INT(next(fd, NULL), RDMA_CM_EVENT_REJECTED);
	CHECK_INT(waitpid(pid, NULL, WNOHANG), 0); /* it runs on */
	bound(fd, RDMA_PS_TCP, ip4(test_addr(), port), 0, &err);
	CHECK_INT(err, 0);
	close(fd);
	child_reap(pid, fds[0]);
}

/* ---- many, that get no answer ---- */

#define MANY 10000

static void many_ask(uint16_t port, int to)
{
	int fd = ch_open();

	t_failed = 0;
	for (int i = 0; i < MANY; i++) {
		int id = ready(fd, RDMA_PS_TCP, ip4(test_addr(), port));

		if (id_connect(fd, id, NULL, 0))
			_exit(1);
	}
	if (t_failed)
		_exit(1);
	end(to, BY_KILL, 0);
}

static void test_half_open(void)
{
	struct rdma_ucm_event_resp resp;
	int fds[2], fd = ch_open(), n = 0;
	struct timespec a, b;
	uint16_t port;
	pid_t pid;

	listener(fd, RDMA_PS_TCP, ip4(test_addr(), 0), &port);
	CHECK_INT(pipe(fds), 0);
	clock_gettime(CLOCK_MONOTONIC, &a);
	pid = fork();
	if (!pid)
		many_ask(port, fds[1]);
	close(fds[1]);
	while (n < MANY && next(fd, &resp) == RDMA_CM_EVENT_CONNECT_REQUEST)
		n++;
	CHECK_INT(n, MANY);
	child_says(fds[0]);
	/* And others are served. */
	{
		int other = ch_open(), id = ready(other, RDMA_PS_TCP, ip4(test_addr(), port));

		CHECK_INT(id_connect(other, id, NULL, 0), 0);
		CHECK_INT(next(fd, &resp), RDMA_CM_EVENT_CONNECT_REQUEST);
		CHECK_INT(id_accept(fd, (int)resp.id, NULL, 0), 0);
		CHECK_INT(next(other, NULL), RDMA_CM_EVENT_CONNECT_RESPONSE);
		close(other);
	}
	child_reap(pid, fds[0]);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%d half-open connections in %.1f s\n", n,
	       (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
	close(fd);
}

int main(void)
{
	int fd = ch_open();

	if (fd < 0) {
		printf("skip: /dev/infiniband/rdma_cm: %s\n", strerror(-fd));
		return 77;
	}
	close(fd);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + 1);
	RUN(test_connect);
	RUN(test_connect_ipv6);
	RUN(test_reject);
	RUN(test_reject_rep);
	RUN(test_nobody);
	RUN(test_private_data);
	RUN(test_ud);
	RUN(test_destroy);
	RUN(test_unread);
	RUN(test_backlog);
	RUN(test_ports);
	RUN(test_privileged);
	RUN(test_ends);
	RUN(test_end_frees_port);
	RUN(test_half_open);
	printf("%d failures\n", t_failed);
	return !!t_failed;
}
