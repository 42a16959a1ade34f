/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The service thread. Program threads wait for it, so it waits for none of
 * them, in this process or another: from odp_service_go() on it calls no malloc, no
 * stdio, takes no lock in shared memory, and no other that somebody holds over program
 * memory. What may wait is the worker's (worker.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "own.h"
#include "service_priv.h"

static void service_sem_wait(sem_t *sem)
{
	while (sem_wait(sem) && errno == EINTR)
		;
}

void odp_service_peer_ended(struct odp_peer *peer)
{
	/* release: pairs with odp_peer_alive(). */
	atomic_store_explicit(&peer->dead, true, memory_order_release);
}

unsigned odp_service_polled(struct odp_service *svc, unsigned what, int events)
{
	unsigned i;

	if (events >= 0 && (events & POLLIN))
		return what;
	/* Somebody closed our descriptor. To poll again would spin. */
	if (what == ODP_EV_BELL) {
		svc->broken |= what;
		odp_proc_lose(svc->proc, "bell", svc->proc->bell_rd);
		return 0;
	}
	i = (unsigned)__builtin_ctz(what / ODP_EV_SOURCE);
	odp_proc_lose(svc->proc, svc->proc->sources[i]->name, svc->fds[i]);
	if (svc->proc->sources[i]->recover && svc->proc->sources[i]->recover(svc->proc))
		return what;
	svc->broken |= what;
	return 0;
}

static void service_drain_bell(struct odp_proc *proc)
{
	char buf[256];

	while (read(proc->bell_rd, buf, sizeof(buf)) == (ssize_t)sizeof(buf))
		;
}

/* True when some could not be taken yet. */
static bool service_take_incoming(struct odp_service *svc)
{
	struct odp_peer *peer, *next;

	/* acquire: pairs with the release in peer_hand_over(). */
	peer = atomic_exchange_explicit(&svc->proc->incoming, NULL, memory_order_acquire);
	for (; peer; peer = next) {
		next = peer->watch_next;
		peer->watch_next = svc->waiting;
		svc->waiting = peer;
	}
	while (svc->waiting && svc->poller->watch(svc, svc->waiting))
		svc->waiting = svc->waiting->watch_next;
	return svc->waiting;
}

static void sources_ready(struct odp_proc *proc, unsigned ev)
{
	for (unsigned i = 0; i < ODP_SOURCES; i++)
		if (ev & (unsigned)ODP_EV_SOURCE << i)
			proc->sources[i]->ready(proc);
}

static void sources_pass(struct odp_proc *proc, bool peer_ended)
{
	/* acquire: pairs with odp_source_add(). */
	unsigned n = atomic_load_explicit(&proc->num_sources, memory_order_acquire);

	for (unsigned i = 0; i < n; i++)
		if (proc->sources[i]->pass)
			proc->sources[i]->pass(proc, peer_ended);
}

/* Their descriptors, before the first wait. */
static void sources_open(struct odp_service *svc)
{
	/* acquire: pairs with odp_source_add(). */
	unsigned n = atomic_load_explicit(&svc->proc->num_sources, memory_order_acquire);

	for (unsigned i = 0; i < n; i++)
		if (svc->proc->sources[i]->fd)
			svc->fds[i] = svc->proc->sources[i]->fd(svc->proc);
}

static void service_loop(struct odp_service *svc)
{
	struct odp_proc *proc = svc->proc;
	struct odp_slot *slot = proc->self->slot;
	uint32_t rung, seen = 0;
	uint64_t timeout;
	unsigned ev;
	bool lost = false;

	/* relaxed: the bell that follows the change wakes this thread. */
	while (!atomic_load_explicit(&svc->stop, memory_order_relaxed)) {
		/* Deaf, it has to look for itself. */
		timeout = svc->broken & ODP_EV_BELL ? ODP_DEAF_NS : ODP_WAIT_FOREVER;
		if (service_take_incoming(svc))
			timeout = 0;
		/* seq_cst store, then load: pairs with odp_bell_ring(). */
		atomic_store_explicit(&slot->bell_asleep, 1, memory_order_seq_cst);
		rung = atomic_load_explicit(&slot->bell_rung, memory_order_seq_cst);
		ev = svc->poller->wait(svc, rung == seen ? timeout : 0);
		atomic_store_explicit(&slot->bell_asleep, 0, memory_order_relaxed);
		/* First those who wait: threads in page faults and in munmap. */
		sources_ready(proc, ev);
		if (ev & ODP_EV_BELL)
			service_drain_bell(proc);
		/* acquire: what the ringer wrote before it rang is seen. */
		rung = atomic_load_explicit(&slot->bell_rung, memory_order_acquire);
		sources_pass(proc, ev & ODP_EV_PEER);
		if (rung != seen || (ev & (ODP_EV_PEER | ODP_EV_BELL)) ||
		    lost != odp_proc_lost(proc))
			odp_worker_call(svc);
		lost = odp_proc_lost(proc);
		seen = rung;
	}
}

static const struct odp_poller *service_poller_open(struct odp_service *svc)
{
	const char *env = secure_getenv("UODP_NO_IOURING");
	int ret;

	if (env && strcmp(env, "0") && strcmp(env, "1") && *env)
		odp_log(ODP_LOG_WARN, "UODP_NO_IOURING=%.32s is not 0 or 1: using 0", env);
	if ((!env || strcmp(env, "1")) && !odp_on_valgrind()) {
		ret = odp_poller_uring.open(svc);
		if (!ret)
			return &odp_poller_uring;
		odp_log(ODP_LOG_DEBUG, "io_uring: %s: the service thread uses ppoll",
			strerror(-ret));
	}
	odp_poller_poll.open(svc);
	return &odp_poller_poll;
}

/*
 * Hold slot->life by this thread's robust list, whose entry and the futex may be
 * far apart. libc's own list of this thread is given up: it holds no other
 * robust lock.
 */
static void service_hold_life(struct odp_service *svc)
{
	struct odp_slot *slot = svc->proc->self->slot;

	svc->robust_entry.next = &svc->robust.list;
	svc->robust.list.next = &svc->robust_entry;
	svc->robust.futex_offset = (char *)&slot->life - (char *)&svc->robust_entry;
	svc->robust.list_op_pending = NULL;
	atomic_store_explicit(&slot->life, (uint32_t)gettid(), memory_order_relaxed);
	/* release: who sees the generation sees whom it belongs to. */
	atomic_store_explicit(&slot->life_gen, svc->proc->self->gen, memory_order_release);
	if (ODP_OWN(SYS_set_robust_list, &svc->robust, sizeof(svc->robust), 0, 0, 0))
		odp_log(ODP_LOG_WARN, "set_robust_list: %s: peers notice this process's end late",
			strerror(errno));
}

static void *service_main(void *arg)
{
	struct odp_service *svc = arg;

	odp_lane_service(svc->proc);
	service_hold_life(svc);
	svc->poller = service_poller_open(svc);
	sem_post(&svc->opened);
	service_sem_wait(&svc->go);
	sources_open(svc);
	service_loop(svc);
	svc->poller->close(svc);
	return NULL;
}

static int service_open_bell(struct odp_proc *proc)
{
	int fds[2], ret;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK)) {
		ret = -errno;
		odp_log(ODP_LOG_ERR, "service thread: pipe: %s", strerror(-ret));
		return ret;
	}
	proc->bell_rd = odp_fd_high(fds[0]);
	proc->self->bell_fd = odp_fd_high(fds[1]);
	proc->self->slot->bell_fd = proc->self->bell_fd;
	return 0;
}

static void service_close_bell(struct odp_proc *proc)
{
	odp_fd_close(proc->bell_rd);
	odp_fd_close(proc->self->bell_fd);
	proc->bell_rd = proc->self->bell_fd = -1;
}

/* It may be in a handler, which it leaves first. */
static void service_end_worker(struct odp_service *svc)
{
	/* relaxed: the release of the call that follows publishes it. */
	atomic_store_explicit(&svc->stop, true, memory_order_relaxed);
	odp_worker_call(svc);
	pthread_join(svc->worker, NULL);
}

/* No signal of the program's may run on these threads. */
static int service_create_thread(pthread_t *thread, void *(*main)(void *), void *arg,
				 const char *name)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(thread, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		odp_log(ODP_LOG_ERR, "service thread: cannot be created: %s", strerror(ret));
		return -ret;
	}
	pthread_setname_np(*thread, name);
	return 0;
}

static int service_create_threads(struct odp_service *svc)
{
	int ret = service_create_thread(&svc->worker, odp_worker_main, svc, "uodp-work");

	if (ret)
		return ret;
	ret = service_create_thread(&svc->thread, service_main, svc, "uodp");
	if (ret)
		service_end_worker(svc);
	return ret;
}

int odp_service_start(struct odp_proc *proc)
{
	struct odp_service *svc = odp_priv_alloc(sizeof(*svc));
	int ret;

	if (!svc)
		return -ENOMEM;
	svc->proc = proc;
	for (unsigned i = 0; i < ODP_SOURCES; i++)
		svc->fds[i] = -1;
	sem_init(&svc->opened, 0, 0);
	sem_init(&svc->go, 0, 0);
	ret = service_open_bell(proc);
	if (ret)
		goto err_free;
	ret = service_create_threads(svc);
	if (ret)
		goto err_close_bell;
	service_sem_wait(&svc->opened);
	proc->service = svc;
	return 0;

err_close_bell:
	service_close_bell(proc);
err_free:
	odp_priv_free(svc, sizeof(*svc));
	return ret;
}

void odp_service_go(struct odp_proc *proc)
{
	sem_post(&proc->service->go);
}

void odp_service_end(struct odp_proc *proc)
{
	struct odp_service *svc = proc->service;

	service_end_worker(svc);
	sem_post(&svc->go);
	odp_bell_ring(proc->self);
	pthread_join(svc->thread, NULL);
}

void odp_service_stop(struct odp_proc *proc)
{
	struct odp_service *svc = proc->service;

	odp_service_end(proc);
	service_close_bell(proc);
	odp_priv_free(svc, sizeof(*svc));
	proc->service = NULL;
}

void odp_service_child(struct odp_proc *proc)
{
	proc->service->poller->close(proc->service);
	service_close_bell(proc);
}

ODP_EXPORT void odp_service_set(struct odp_proc *proc, odp_service_fn fn, void *arg)
{
	pthread_mutex_lock(&proc->handler_lock);
	proc->handler = fn;
	proc->handler_arg = arg;
	pthread_mutex_unlock(&proc->handler_lock);
	odp_bell_ring(proc->self); /* to learn the first deadline */
}
