/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A fault queue's descriptor as one end of a pair of sockets, where there is no
 * FUSE: groups are packets, and write() cannot refuse. What is bad is logged.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base.h"
#include "faultq.h"

#define GROUP_MAX (ODP_FQ_PAGES * sizeof(struct odp_fault_msg))
#define RESPONSES 4096u

struct pair_queue {
	struct odp_fq_server server;
	struct odp_fault_queue *q;
	int fd, wake;
	pthread_t thread;
	_Atomic bool stop;
	bool closed;      /* the program's end */
	size_t held;      /* bytes in OUT that the socket had no room for */
	unsigned reports; /* of bad responses */
	_Alignas(8) char out[GROUP_MAX];
	struct odp_fault_response in[RESPONSES];
};

/* True while there is more to send than the socket takes. */
static bool groups_send(struct pair_queue *p)
{
	for (;;) {
		ssize_t n;

		if (!p->held) {
			n = odp_faultq_pull(p->q, p->out, sizeof(p->out), 1);
			if (n <= 0)
				return false;
			p->held = (size_t)n;
		}
		if (odp_sys6(SYS_sendto, p->fd, (long)p->out, (long)p->held,
			     MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0) < 0)
			return true;
		p->held = 0;
	}
}

static void responses_take(struct pair_queue *p)
{
	long n = odp_sys6(SYS_recvfrom, p->fd, (long)p->in, sizeof(p->in), MSG_DONTWAIT, 0, 0);
	ssize_t taken;

	if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) {
		/* The last copy of the program's end is closed. */
		p->closed = true;
		odp_faultq_deafen(p->q);
	}
	if (n <= 0)
		return;
	taken = odp_faultq_push(p->q, p->in, (size_t)n);
	if (taken != n && p->reports++ < 10)
		odp_log(ODP_LOG_WARN,
			"fault queue: %ld of %ld bytes written are no good: a bad code or cookie",
			n - (taken > 0 ? (long)taken : 0), n);
}

static void pair_main(void *arg)
{
	struct pair_queue *p = arg;
	bool more = false;
	uint64_t n;

	/* acquire: pairs with the release in pair_close(). */
	while (!atomic_load_explicit(&p->stop, memory_order_acquire)) {
		struct pollfd fds[2] = {
			{p->closed ? -1 : p->fd, (short)(POLLIN | (more ? POLLOUT : 0)), 0},
			{p->wake, POLLIN, 0}};

		if (odp_sys6(SYS_ppoll, (long)fds, 2, 0, 0, 0, 0) < 0)
			continue;
		if (fds[1].revents)
			odp_sys(SYS_read, p->wake, &n, sizeof(n));
		if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
			responses_take(p);
		if (!p->closed)
			more = groups_send(p);
	}
}

static void pair_close(struct odp_fq_server *server)
{
	struct pair_queue *p = (struct pair_queue *)server;
	const uint64_t one = 1;

	atomic_store_explicit(&p->stop, true, memory_order_release);
	odp_sys(SYS_write, p->wake, &one, sizeof(one));
	pthread_join(p->thread, NULL);
	/* Also for readers of copies that are still open. */
	shutdown(p->fd, SHUT_RDWR);
	odp_fd_close(p->fd);
	odp_priv_free(p, sizeof(*p));
}

static void *pair_thread(void *arg)
{
	pair_main(arg);
	return NULL;
}

static int thread_start(struct pair_queue *p)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&p->thread, NULL, pair_thread, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!ret)
		pthread_setname_np(p->thread, "uodp-faults");
	return -ret;
}

int odp_faultq_pair(struct odp_fault_queue *q, int wake)
{
	struct pair_queue *p = odp_priv_alloc(sizeof(*p));
	int fds[2], ret;

	if (!p)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds)) {
		ret = -errno;
		goto err_free;
	}
	p->server.close = pair_close;
	p->q = q;
	p->wake = wake;
	p->fd = odp_fd_high(fds[1]);
	ret = thread_start(p);
	if (ret)
		goto err_close;
	q->fd = fds[0];
	q->checked = false;
	q->server = &p->server;
	return 0;

err_close:
	odp_fd_close(fds[0]);
	odp_fd_close(p->fd);
err_free:
	odp_priv_free(p, sizeof(*p));
	return ret;
}
