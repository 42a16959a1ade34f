/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* This process's attachment: made once, left to the kernel to end. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "peer.h"
#include "pool.h"
#include "service.h"
#include "top.h"

static pthread_mutex_t proc_lock = PTHREAD_MUTEX_INITIALIZER;
static bool proc_handlers; /* under proc_lock: for fork and exit */

/*
 * The child has neither the parent's service thread, nor its locks, nor its
 * segments (MADV_DONTFORK): it starts with nothing. Its copies of the
 * descriptors are closed, so that they keep no memory of a dead parent.
 */
void odp_proc_child(void)
{
	struct odp_proc *parent = odp_self;

	odp_self = NULL;
	pthread_mutex_init(&proc_lock, NULL);
	odp_domain_child();
	odp_priv_child();
	odp_lane_forget();
	if (!parent)
		return;
	odp_peers_child(parent);
	odp_service_child(parent);
	odp_fd_close(parent->seg_fd);
	odp_fd_close(parent->domain_fd); /* POSIX locks are not inherited: none is dropped */
	odp_fd_close(parent->dir_fd);
}

/*
 * Peers copy with process_vm_* and take descriptors with pidfd_getfd. Where Yama
 * lets only ancestors do that (1), a process may name whom it trusts: here any
 * process that could trace it otherwise, which means those of the same user.
 * 0 needs no permission, 2 and 3 know none.
 */
static void proc_allow_peers(void)
{
	if (odp_proc_sys_int("/proc/sys/kernel/yama/ptrace_scope") == 1)
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}

static struct odp_proc *proc_new(void)
{
	struct odp_proc *proc = odp_priv_alloc(sizeof(*proc));

	if (!proc)
		return NULL;
	pthread_mutex_init(&proc->peer_lock, NULL);
	pthread_mutex_init(&proc->alloc_lock, NULL);
	pthread_mutex_init(&proc->handler_lock, NULL);
	pthread_mutex_init(&proc->faultq_lock, NULL);
	proc->domain_fd = proc->dir_fd = proc->seg_fd = proc->bell_rd = -1;
	return proc;
}

static int proc_open_self(struct odp_proc *proc)
{
	int nr = odp_slot_claim(proc);

	if (nr < 0)
		return nr;
	proc->self = odp_peer_new(proc, (unsigned)nr);
	if (!proc->self)
		return -ENOMEM;
	proc->self->self = true;
	atomic_store_explicit(&proc->peers[nr], proc->self, memory_order_release);
	return 0;
}

static void proc_publish(struct odp_proc *proc)
{
	struct odp_peer *self = proc->self;

	self->pool_fd = self->slot->pool_fd;
	self->uffd = self->slot->uffd_fd;
	/* release: pairs with the acquire loads of those who attach. */
	atomic_store_explicit(&self->slot->state, ODP_SLOT_LIVE, memory_order_release);
	odp_self_set(proc);
	odp_service_go(proc);
}

static int proc_open(struct odp_proc *proc)
{
	int ret;

	ret = odp_domain_open(proc);
	if (ret)
		return ret;
	ret = proc_open_self(proc);
	if (ret)
		goto err_close_domain;
	ret = odp_arena_open(proc);
	if (ret)
		goto err_free_self;
	ret = odp_service_start(proc);
	if (ret)
		goto err_close_arena;
	ret = odp_mem_open(proc);
	if (ret)
		goto err_stop_service;
	proc_publish(proc);
	return 0;

err_stop_service:
	odp_service_stop(proc);
	odp_lane_forget(); /* odp_mem_open() may have claimed one */
err_close_arena:
	odp_arena_close(proc);
err_free_self:
	odp_priv_free(proc->self, sizeof(*proc->self));
err_close_domain:
	odp_domain_close(proc);
	return ret;
}

/*
 * Leak checkers stop all threads when a program ends, the service thread too, and then
 * read every page: none may wait for it any more. Not a destructor: those of this
 * library may run after such a check.
 */
static void proc_exit(void)
{
	struct odp_proc *proc = odp_proc_attached();

	if (proc)
		odp_uffd_quiet(proc->mem);
}

/* Memcheck warns of what it is still told to overlook, and the service thread must not
 * use it after that. */
__attribute__((destructor)) static void proc_exit_valgrind(void)
{
	struct odp_proc *proc = odp_proc_attached();

	if (!odp_on_valgrind() || !proc)
		return;
	odp_service_end(proc);
	odp_valgrind_show(NULL, SIZE_MAX);
}

static int proc_handlers_set(void)
{
	int ret;

	if (proc_handlers)
		return 0;
	ret = pthread_atfork(NULL, NULL, odp_proc_child);
	if (!ret && atexit(proc_exit))
		ret = ENOMEM;
	proc_handlers = !ret;
	return -ret;
}

static int proc_make(void)
{
	struct odp_proc *proc;
	int ret = proc_handlers_set();

	if (ret)
		return ret;
	proc = proc_new();
	if (!proc)
		return -ENOMEM;
	proc_allow_peers();
	ret = proc_open(proc);
	if (ret)
		odp_priv_free(proc, sizeof(*proc));
	return ret;
}

ODP_EXPORT int odp_proc_get(struct odp_proc **proc)
{
	int ret = 0;

	*proc = odp_proc_attached();
	if (*proc)
		return 0;
	pthread_mutex_lock(&proc_lock);
	if (!odp_self)
		ret = proc_make();
	*proc = odp_self;
	pthread_mutex_unlock(&proc_lock);
	return ret;
}

ODP_EXPORT const char *odp_proc_dir(const struct odp_proc *proc)
{
	return proc->dir;
}

ODP_EXPORT unsigned odp_proc_slot(const struct odp_proc *proc)
{
	return proc->self->nr;
}

ODP_EXPORT struct odp_peer *odp_proc_self(struct odp_proc *proc)
{
	return proc->self;
}

ODP_EXPORT void odp_root_set(struct odp_proc *proc, uint64_t off)
{
	/* release: pairs with odp_peer_root(). */
	atomic_store_explicit(&proc->self->seg->root, off, memory_order_release);
}
