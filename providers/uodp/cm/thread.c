/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The connection manager's thread: it receives, sends again what is not answered, and
 * hears of processes that end. It is a thread as the program's own are: it allocates,
 * and takes cm.lock.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "cm.h"

struct cm cm = {.lock = PTHREAD_MUTEX_INITIALIZER, .wire_fd = -1, .wake_fd = -1};

#define AGAIN_NS 1000000u /* when to look for room in another's mailbox */
#define AGAIN_MAX_NS 64000000u

/* A process that connections lead to. */
struct watched {
	struct cm_node node;
	int fd; /* node_watch() */
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
		if (node_is(&id->peer, node))
			conn_peer_dead(id);
	}
}

void cm_watch(const struct cm_node *node)
{
	struct epoll_event ev = {.events = EPOLLIN};
	struct watched *w;

	for (w = watched; w; w = w->next)
		if (node_is(&w->node, node))
			return;
	if (node_is(node, &cm.self))
		return;
	w = calloc(1, sizeof(*w));
	if (!w)
		return;
	w->node = *node;
	w->fd = node_watch(node);
	ev.data.ptr = w;
	/* Without: time-outs tell, later. */
	if (w->fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, w->fd, &ev)) {
		odp_log(ODP_LOG_WARN, "rdma_cm: cannot watch process %u: %s", node->pid,
			strerror(w->fd < 0 ? -w->fd : errno));
		if (w->fd >= 0)
			odp_fd_close(w->fd);
		free(w);
		return;
	}
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
	odp_fd_close(w->fd);
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

/* Whose time has come; returns when the next one's does, 0: never. No identifier ends
 * by this. */
static uint64_t times_run(void)
{
	uint64_t now = cm_now(), first = 0;

	for (struct cm_id *id = cm.ids; id; id = id->next) {
		if (id->when && id->when <= now) {
			id->when = 0;
			if (id->conn == CONN_SIDR_REQ_SENT)
				sidr_timeout(id);
			else
				conn_timeout(id);
		}
		if (id->when && (!first || id->when < first))
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

static void events_handle(struct epoll_event *ev, int n)
{
	uint64_t count;

	/* First: what a process has sent comes before its end. */
	receive_all();
	for (int i = 0; i < n; i++) {
		if (ev[i].data.ptr == &cm.wake_fd) {
			if (read(cm.wake_fd, &count, sizeof(count)) < 0)
				continue;
		} else if (ev[i].data.ptr != &cm.wire_fd) {
			watch_ended(ev[i].data.ptr);
		}
	}
}

/* Between two looks for room: less and less often, as with a process that is stopped. */
static uint64_t again(bool here, uint64_t next)
{
	static uint64_t pause = AGAIN_NS;
	bool progress;

	if (!wire_flush(here, &progress)) {
		pause = AGAIN_NS;
		return next;
	}
	pause = progress ? AGAIN_NS : pause < AGAIN_MAX_NS ? pause * 2 : pause;
	return sooner(next, cm_now() + pause);
}

/* The thread's directory is its own, and is that of the mailboxes: a program that changes
 * its root does not take it away. */
static bool enter_dir(void)
{
	return !unshare(CLONE_FS) && !fchdir(node_dir());
}

static void *run(void *arg)
{
	struct epoll_event ev[16];
	uint64_t next = 0;
	bool here;

	(void)arg;
	here = enter_dir();
	for (;;) {
		int n = epoll_wait(epoll_fd, ev, 16, wait_ms(next));

		if (n < 0 && errno != EINTR)
			break;
		pthread_mutex_lock(&cm.lock);
		events_handle(ev, n);
		next = again(here, times_run());
		pthread_mutex_unlock(&cm.lock);
	}
	odp_log(ODP_LOG_ERR,
		"rdma_cm: the program has closed descriptors that are not its own "
		"(%s): connections of this process stay as they are",
		strerror(errno));
	pthread_mutex_lock(&cm.lock);
	cm.broken = true;
	pthread_mutex_unlock(&cm.lock);
	return NULL;
}

static int fds_open(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ret = node_open();

	if (!ret)
		ret = wire_open();
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

static int start_locked(void)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int ret;

	if (cm.running)
		return cm.pid == getpid() && !cm.broken ? 0 : -EIO;
	cm.pid = getpid();
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
		odp_fd_close(w->fd);
	watched = NULL;
	wire_forget();
	services_forget();
	node_forget();
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

/* Names of files. The rest goes with the process. */
__attribute__((destructor)) static void cm_end(void)
{
	if (cm.running && cm.pid == getpid())
		node_unlink();
}
