/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The connection manager's thread: it receives, sends again what is not answered, and
 * hears of processes that end. It is a thread as the program's own are: it allocates,
 * and takes cm.lock.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cm.h"

struct cm cm = {.lock = PTHREAD_MUTEX_INITIALIZER, .wire_fd = -1, .wake_fd = -1};

#define AGAIN_NS 1000000u /* when to look for room in another's mailbox */

/* A process that connections lead to. */
struct watched {
	struct cm_node node;
	int pidfd;
	struct watched *next;
};
static struct watched *watched;
static int epoll_fd = -1;

uint64_t cm_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint32_t cm_random(void)
{
	uint32_t n = 0;

	if (getrandom(&n, sizeof(n), GRND_NONBLOCK) < 0)
		n = (uint32_t)cm_now();
	return n;
}

void cm_wake(void)
{
	uint64_t one = 1;

	if (write(cm.wake_fd, &one, sizeof(one)) < 0)
		return; /* it is full: the thread is on its way */
}

static void node_dead(const struct cm_node *node)
{
	struct cm_id *id, *next;

	for (id = cm.ids; id; id = next) {
		next = id->next;
		if (id->peer.pid == node->pid && id->peer.start == node->start)
			conn_peer_dead(id);
	}
}

void cm_watch(const struct cm_node *node)
{
	struct epoll_event ev = {.events = EPOLLIN};
	struct watched *w;

	for (w = watched; w; w = w->next)
		if (w->node.pid == node->pid && w->node.start == node->start)
			return;
	if (node->pid == cm.self.pid && node->start == cm.self.start)
		return;
	w = calloc(1, sizeof(*w));
	if (!w)
		return;
	w->node = *node;
	w->pidfd = (int)syscall(SYS_pidfd_open, node->pid, 0);
	ev.data.ptr = w;
	/* Without: time-outs tell, later. */
	if (w->pidfd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, w->pidfd, &ev)) {
		if (w->pidfd >= 0)
			close(w->pidfd);
		free(w);
		return;
	}
	w->pidfd = odp_fd_keep(w->pidfd);
	w->next = watched;
	watched = w;
}

static void watch_ended(struct watched *w)
{
	struct watched **at;

	for (at = &watched; *at && *at != w; at = &(*at)->next)
		;
	if (!*at)
		return;
	*at = w->next;
	node_dead(&w->node);
	odp_fd_close(w->pidfd);
	free(w);
}

static void receive_all(void)
{
	union ibv_gid sgid, dgid;
	struct cm_node from;
	struct cm_mad mad;

	while (wire_receive(&from, &sgid, &dgid, &mad)) {
		if (mad_attr(&mad) == CM_SIDR_REQ || mad_attr(&mad) == CM_SIDR_REP)
			sidr_receive(&from, &sgid, &dgid, &mad);
		else
			conn_receive(&from, &sgid, &dgid, &mad);
	}
}

/* Whose time has come; returns when the next one's does, 0: never. */
static uint64_t times_run(void)
{
	uint64_t now = cm_now(), first = 0;
	struct cm_id *id, *next;

	for (id = cm.ids; id; id = next) {
		next = id->next;
		if (!id->when)
			continue;
		if (id->when <= now) {
			id->when = 0;
			if (id->conn == CONN_SIDR_REQ_SENT)
				sidr_timeout(id);
			else
				conn_timeout(id);
			/* It may be gone, and others with it. */
			return now;
		}
		if (!first || id->when < first)
			first = id->when;
	}
	return first;
}

static int wait_ms(uint64_t until)
{
	uint64_t now = cm_now();

	if (!until)
		return -1;
	return until <= now ? 0 : (int)((until - now) / 1000000u) + 1;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a && a < b ? a : b;
}

static void *run(void *arg)
{
	struct epoll_event ev[16];
	uint64_t next = 0, count;

	(void)arg;
	for (;;) {
		int n = epoll_wait(epoll_fd, ev, 16, wait_ms(next));

		pthread_mutex_lock(&cm.lock);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == &cm.wire_fd)
				receive_all();
			else if (ev[i].data.ptr != &cm.wake_fd)
				watch_ended(ev[i].data.ptr);
			else if (read(cm.wake_fd, &count, sizeof(count)) < 0)
				continue;
		}
		next = times_run();
		if (wire_flush())
			next = sooner(next, cm_now() + AGAIN_NS);
		pthread_mutex_unlock(&cm.lock);
	}
	return NULL;
}

static int fds_open(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ret = wire_open();

	if (ret)
		return ret;
	cm.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (cm.wake_fd < 0 || epoll_fd < 0)
		return -errno;
	cm.wake_fd = odp_fd_keep(cm.wake_fd);
	epoll_fd = odp_fd_keep(epoll_fd);
	ev.data.ptr = &cm.wire_fd;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, cm.wire_fd, &ev))
		return -errno;
	ev.data.ptr = &cm.wake_fd;
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, cm.wake_fd, &ev) ? -errno : 0;
}

static uint64_t own_start(void)
{
	FILE *f = fopen("/proc/self/stat", "re");
	char buf[512] = "", *p;
	unsigned long long start = 0;

	if (f && fgets(buf, sizeof(buf), f) && (p = strrchr(buf, ')')))
		sscanf(p,
		       ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
		       "%*d %llu",
		       &start);
	if (f)
		fclose(f);
	return start;
}

static int start_locked(void)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int ret;

	if (cm.running)
		return cm.pid == getpid() ? 0 : -EIO;
	cm.pid = getpid();
	cm.self = (struct cm_node){(uint32_t)cm.pid, own_start()};
	ret = fds_open();
	if (ret)
		return ret;
	cm.next_comm = cm_random();
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = -pthread_create(&thread, &attr, run, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	cm.running = !ret;
	return ret;
}

/* What is open is the parent's. It begins anew. */
void cm_child(void)
{
	if (!cm.running)
		return;
	odp_fd_close(cm.wire_fd);
	odp_fd_close(cm.wake_fd);
	odp_fd_close(epoll_fd);
	for (struct watched *w = watched; w; w = w->next)
		odp_fd_close(w->pidfd);
	watched = NULL;
	wire_forget();
	cm = (struct cm){.lock = PTHREAD_MUTEX_INITIALIZER, .wire_fd = -1, .wake_fd = -1};
	epoll_fd = -1;
}

static void fork_prepare(void)
{
	pthread_mutex_lock(&cm.lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&cm.lock);
}

static void once_run(void)
{
	pthread_atfork(fork_prepare, fork_parent, cm_child);
}

int cm_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int ret;

	pthread_once(&once, once_run);
	pthread_mutex_lock(&cm.lock);
	ret = start_locked();
	pthread_mutex_unlock(&cm.lock);
	return ret;
}

/* A mailbox is a file. */
__attribute__((destructor)) static void cm_end(void)
{
	if (cm.running && cm.pid == getpid())
		wire_close();
}
