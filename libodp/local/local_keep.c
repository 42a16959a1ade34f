/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The keeper: the thread that holds leases and marks. Whoever wants something of it
 * changes the state under the lock and sends it its signal, which is also what the
 * kernel sends when a lease is being broken. Both are looked for, not told apart: a
 * signal that is lost costs a nap.
 */
#include <linux/close_range.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "local.h"

#define NAP_MS 500   /* if a signal was lost */
#define PASSING_MS 1 /* while a call that was let go is on its way */
#define STOLEN_NS 5000000

void odp_local_wake(struct odp_local *l)
{
	pid_t tid = atomic_load_explicit(&l->tid, memory_order_relaxed);

	if (tid)
		odp_sys(SYS_tgkill, getpid(), tid, SIGRTMAX);
}

/* ---- its signals ---- */

/* One that was for the program as a whole: let another thread have it. */
static void signal_return(const struct signalfd_siginfo *si)
{
	const struct timespec nap = {.tv_nsec = STOLEN_NS};
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = (int)si->ssi_signo;
	info.si_code = si->ssi_code == SI_USER ? SI_QUEUE : si->ssi_code;
	info.si_pid = (pid_t)si->ssi_pid;
	info.si_uid = si->ssi_uid;
	info.si_value.sival_ptr = (void *)(uintptr_t)si->ssi_ptr;
	odp_sys(SYS_rt_sigqueueinfo, getpid(), SIGRTMAX, &info);
	nanosleep(&nap, NULL);
}

static void signals_read(struct odp_local *l)
{
	struct signalfd_siginfo si;

	while (odp_sys(SYS_read, l->sig_fd, &si, sizeof(si)) == (long)sizeof(si)) {
		if (si.ssi_code > 0 || si.ssi_code == SI_TKILL)
			continue; /* the kernel's, or ours */
		signal_return(&si);
		return;
	}
}

/* ---- files (lock) ---- */

static int file_watch(struct odp_local *l, struct odp_local_file *f)
{
	if (f->way == ODP_LOCAL_FAN || (f->way == ODP_LOCAL_LEASE && !f->deny))
		return 0;
	if (f->way == ODP_LOCAL_NONE) {
		f->fan_err = odp_fan_mark(l, f);
		if (!f->fan_err)
			return 0;
		if (!f->deny)
			return odp_lease_take(l, f);
	}
	/* A lease holds the other up, it cannot say no. */
	f->sealed = true;
	return odp_seal_take(l, f);
}

static void file_unwatch(struct odp_local *l, struct odp_local_file *f)
{
	if (f->way == ODP_LOCAL_FAN)
		odp_fan_unmark(l, f);
	else if (f->way == ODP_LOCAL_LEASE)
		odp_lease_drop(f);
}

static void file_answer(struct odp_local *l, struct odp_local_file *f)
{
	f->sealed = false;
	f->err = file_watch(l, f);
	f->lost_then = f->lost;
	f->answered = f->asked;
	pthread_cond_broadcast(&l->changed);
}

/* A lease is given back whole, whatever the other wants to do with the file. */
static void lease_look(struct odp_local_file *f)
{
	if (f->n || !odp_lease_broken(f))
		return;
	/* Regions whose key is not out, so that the recall does not find them, ... */
	f->lost++;
	f->local->lost_at = odp_now();
	odp_local_event_add(f, 0, UINT64_MAX);
}

static void event_answer(struct odp_local *l, struct odp_local_file *f, struct odp_local_event *e)
{
	if (e->fd >= 0) {
		odp_fan_answer(l, f, e);
	} else {
		/* ... and those that came since, see that they have been passed by. */
		f->lost++;
		if (f->way == ODP_LOCAL_LEASE)
			odp_lease_drop(f);
		e->state = ODP_LE_DONE;
	}
}

static bool event_step(struct odp_local *l, struct odp_local_file *f, struct odp_local_event *e)
{
	if (e->state == ODP_LE_RECALLED)
		event_answer(l, f, e);
	if (e->state == ODP_LE_PASSING && odp_fan_passed(l, f, e))
		e->state = ODP_LE_DONE;
	if (e->state == ODP_LE_DONE)
		pthread_cond_broadcast(&f->todo);
	return e->state == ODP_LE_PASSING;
}

/* True: a call is on its way, to be looked after soon. */
static bool file_step(struct odp_local *l, struct odp_local_file *f)
{
	if (f->asked != f->answered)
		file_answer(l, f);
	if (f->way == ODP_LOCAL_LEASE)
		lease_look(f);
	/* One at a time, in the order of their coming. */
	return f->n && event_step(l, f, &f->events[f->first]);
}

static void file_free(struct odp_local *l, struct odp_local_file **p)
{
	struct odp_local_file *f = *p;

	file_unwatch(l, f);
	*p = f->next;
	pthread_cond_destroy(&f->todo);
	odp_priv_free(f, sizeof(*f));
}

static bool files_step(struct odp_local *l)
{
	bool passing = false;

	pthread_mutex_lock(&l->lock);
	for (struct odp_local_file **p = &l->files; *p;) {
		passing |= file_step(l, *p);
		if ((*p)->left)
			file_free(l, p);
		else
			p = &(*p)->next;
	}
	pthread_mutex_unlock(&l->lock);
	return passing;
}

static void *keeper_main(void *arg)
{
	struct odp_local *l = arg;
	bool passing;

	while (true) {
		struct pollfd fds[] = {
			{.fd = l->sig_fd, .events = POLLIN},
			{.fd = l->fan_fd, .events = POLLIN},
			{.fd = l->modify_fd, .events = POLLIN},
		};

		odp_fan_modified(l);
		passing = files_step(l);
		poll(fds, 3, passing ? PASSING_MS : NAP_MS);
		if (fds[0].revents)
			signals_read(l);
		if (fds[1].revents)
			odp_fan_read(l);
	}
	return NULL;
}

/* ---- its start ---- */

static int descriptors_open(struct odp_local *l)
{
	sigset_t set;

	/* From here on its table of descriptors is its own. */
	if (odp_sys(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) < 0)
		return -EPERM;
	/* Should anything write a message, it must not be into one of these. */
	for (int i = 0; i < 3; i++)
		if (odp_sys6(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDWR, 0, 0, 0) != i)
			return -EMFILE;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX);
	l->sig_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	l->pid_fd = (int)odp_sys(SYS_pidfd_open, getpid(), 0, 0);
	if (l->sig_fd < 0 || l->pid_fd < 0)
		return -EMFILE;
	odp_fan_open(l);
	return 0;
}

static void *keeper_begin(void *arg)
{
	struct odp_local *l = arg;
	int ret = descriptors_open(l);

	pthread_mutex_lock(&l->lock);
	l->start_err = ret;
	atomic_store_explicit(&l->tid, gettid(), memory_order_relaxed);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	return ret ? NULL : keeper_main(l);
}

/* A handler of the program's may run on none of these threads. */
int odp_local_thread(pthread_t *thread, void *(*fn)(void *), void *arg, const char *name)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(thread, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		return -ret;
	pthread_setname_np(*thread, name);
	pthread_detach(*thread);
	return 0;
}

int odp_keeper_start(struct odp_local *l)
{
	int ret;

	l->sig_fd = l->pid_fd = l->fan_fd = l->modify_fd = -1;
	ret = odp_local_thread(&l->thread, keeper_begin, l, "uodp-keeper");
	if (ret)
		return ret;
	pthread_mutex_lock(&l->lock);
	while (!atomic_load_explicit(&l->tid, memory_order_relaxed))
		pthread_cond_wait(&l->changed, &l->lock);
	ret = l->start_err;
	pthread_mutex_unlock(&l->lock);
	return ret;
}
