/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Leases: telling the owners of regions that blocks are going, and waiting for them. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "pool.h"
#include "watch.h"

#define KILL_WAIT_NS 5000000000ull
#define LEASE_NAP_NS 10000000

/* ---- telling the owner ---- */

void odp_notice_give(struct odp_node *node, enum odp_notice what)
{
	struct odp_file_shm *f = odp_node_record(node);

	atomic_fetch_or_explicit(&f->notice, (uint8_t)(1u << what), memory_order_relaxed);
	/* release: pairs with notices_pass(). */
	atomic_fetch_add_explicit(&node->peer->seg->notices, 1, memory_order_release);
	odp_bell_ring(node->peer);
}

/* SIGIO ends a program that does not expect it. */
static bool catches_sigio(pid_t pid)
{
	char path[32], buf[2048], *s;
	unsigned long long mask = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	fd = odp_own_open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = odp_own_read(fd, buf, sizeof(buf) - 1);
	odp_fd_close(fd);
	if (n <= 0)
		return false;
	buf[n] = 0;
	s = strstr(buf, "\nSigCgt:");
	return s && sscanf(s, "\nSigCgt: %llx", &mask) == 1 && (mask >> (SIGIO - 1) & 1);
}

static void owner_signal(const struct odp_peer *peer, int sig)
{
	if (peer->self)
		kill(peer->pid, sig);
	else
		odp_sys6(SYS_pidfd_send_signal, peer->pidfd, sig, 0, 0, 0, 0);
}

static void lease_tell(struct odp_node *node)
{
	node->told = true;
	node->deadline = odp_now() + (uint64_t)node->lease_ms * 1000000;
	odp_notice_give(node, ODP_NOTICE_LEASE);
	if (catches_sigio(node->peer->pid))
		owner_signal(node->peer, SIGIO);
}

/* ---- leases ---- */

static bool leased(const struct odp_node *node)
{
	return (node->policy == ODP_POLICY_LEASE || node->policy == ODP_POLICY_KILL) &&
	       !node->revoked && odp_node_live(node);
}

static void cond_nap(struct odp_watch *w)
{
	odp_cond_wait(&w->changed, &w->lock, odp_now() + LEASE_NAP_NS);
}

/* Is a lease running? Who holds one is told (lock). */
static bool leases_run(struct odp_watch *w, const struct odp_recall *rc)
{
	bool run = false;

	for (struct odp_node *n = odp_node_first(w, rc); n; n = odp_node_next(rc, n)) {
		if (!leased(n))
			continue;
		if (!n->told)
			lease_tell(n);
		run |= odp_now() < n->deadline;
	}
	return run;
}

bool odp_leases_wait(struct odp_watch *w, struct odp_recall *rc, bool (*given_up)(void *arg),
		     void *arg)
{
	uint64_t began = odp_now();
	bool stay = true;

	while (stay && leases_run(w, rc)) {
		cond_nap(w);
		stay = !given_up || !given_up(arg);
	}
	rc->waited_ns = odp_now() - began;
	return stay;
}

/* Its memory is about to go: wait for that, so that no store of its own comes
 * later, but not for ever (lock, given up meanwhile). */
static void killed_wait(struct odp_watch *w, struct odp_peer *peer)
{
	uint64_t limit = odp_now() + KILL_WAIT_NS;

	while (odp_peer_alive(peer) && odp_now() < limit)
		cond_nap(w);
}

static struct odp_node *kill_next(struct odp_watch *w, const struct odp_recall *rc)
{
	struct odp_node *n = odp_node_first(w, rc);

	/* A file system does not kill itself, before it has served its callers. */
	while (n && !(n->policy == ODP_POLICY_KILL && leased(n) && (w->local || !n->peer->self)))
		n = odp_node_next(rc, n);
	return n;
}

void odp_leases_kill(struct odp_watch *w, struct odp_recall *rc)
{
	struct odp_node *n;

	while ((n = kill_next(w, rc))) {
		struct odp_peer *peer = n->peer;

		odp_log(ODP_LOG_WARN,
			"process %d keeps a region on blocks that go away: killed (policy kill)",
			(int)peer->pid);
		owner_signal(peer, SIGKILL);
		rc->killed++;
		n->users++;
		killed_wait(w, peer);
		n->policy = ODP_POLICY_REVOKE; /* should it live on */
		odp_node_put(w, n);
	}
}

/* ---- the owner's side ---- */

ODP_EXPORT void odp_notice_set(struct odp_proc *proc, odp_notice_fn fn, void *arg)
{
	pthread_mutex_lock(&proc->handler_lock);
	proc->notice = fn;
	proc->notice_arg = arg;
	pthread_mutex_unlock(&proc->handler_lock);
}

/* With the lock under which a record gets a new region: what it was told is not said of
 * the next. */
static void record_pass(struct odp_mem *m, struct odp_file_shm *f, odp_notice_fn fn, void *arg)
{
	uint32_t state, key;
	uint64_t cookie;
	uint8_t bits;
	bool notify;

	odp_mem_lock(m);
	/* relaxed: ordered by the count of notices. */
	bits = atomic_exchange_explicit(&f->notice, 0, memory_order_relaxed);
	state = atomic_load_explicit(&f->state, memory_order_relaxed);
	/* Of a region that has ended nothing is told: its record may be free by now. */
	if (state != ODP_FILE_KNOWN && state != ODP_FILE_ASKED)
		bits = 0;
	key = f->key;
	cookie = f->cookie;
	notify = f->notify;
	odp_mem_unlock(m);
	if (bits & 1u << ODP_NOTICE_LEASE)
		fn(arg, key, cookie, ODP_NOTICE_LEASE);
	if (bits & 1u << ODP_NOTICE_REVOKED)
		fn(arg, key, cookie, ODP_NOTICE_REVOKED);
	if ((bits & 1u << ODP_NOTICE_PARTED) && notify)
		fn(arg, key, cookie, ODP_NOTICE_PARTED);
	if (bits & 1u << ODP_NOTICE_UNWATCHED)
		fn(arg, key, cookie, ODP_NOTICE_UNWATCHED);
}

static void notices_pass(struct odp_proc *proc, bool peer_ended)
{
	struct odp_seg *seg = proc->self->seg;
	/* acquire: pairs with notice_give(). */
	uint32_t now = atomic_load_explicit(&seg->notices, memory_order_acquire);
	odp_notice_fn fn;
	uint32_t high, key;
	uint64_t cookie;
	void *arg;

	(void)peer_ended;
	if (now == proc->notices_seen)
		return;
	proc->notices_seen = now;
	pthread_mutex_lock(&proc->handler_lock);
	fn = proc->notice;
	arg = proc->notice_arg;
	pthread_mutex_unlock(&proc->handler_lock);
	high = atomic_load_explicit(&seg->files_high, memory_order_relaxed);
	for (uint32_t i = 0; fn && i < high && i < ODP_MAX_FILES; i++)
		if (atomic_load_explicit(&seg->files[i].notice, memory_order_relaxed))
			record_pass(proc->mem, &seg->files[i], fn, arg);
	while (fn && odp_parted_next(proc->mem, &key, &cookie))
		fn(arg, key, cookie, ODP_NOTICE_PARTED);
}

const struct odp_source odp_notices_source = {.name = "notices", .pass = notices_pass};
