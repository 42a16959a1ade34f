/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Slots: one a process, claimed and reaped under the domain's lock.
 *
 * A slot is not given back when its process exits: other threads may be inside
 * a lane until the very end. The kernel drops the lock on the slot's live byte
 * after the last thread has gone; whoever comes next reaps.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "own.h"

static struct flock slot_live_byte(unsigned nr)
{
	return (struct flock){
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = ODP_LIVE_BYTE + (off_t)nr,
		.l_len = 1,
	};
}

/* Does a process other than the caller hold the slot's live byte? */
static bool slot_locked(struct odp_proc *proc, unsigned nr)
{
	struct flock fl = slot_live_byte(nr);

	if (odp_own_fcntl(proc->domain_fd, F_GETLK, ODP_SYS_ARG(&fl)))
		return true; /* cannot tell: never reap the living */
	return fl.l_type != F_UNLCK;
}

bool odp_slot_alive(struct odp_proc *proc, unsigned nr)
{
	return (proc->self && proc->self->nr == nr) || slot_locked(proc, nr);
}

bool odp_slot_lives(uint32_t slot, uint32_t gen)
{
	struct odp_slot *s = &odp_self->domain->slots[slot % ODP_MAX_PROCS];

	return slot < ODP_MAX_PROCS && atomic_load_explicit(&s->gen, memory_order_relaxed) == gen &&
	       atomic_load_explicit(&s->state, memory_order_relaxed) == ODP_SLOT_LIVE &&
	       odp_slot_alive(odp_self, slot);
}

bool odp_watch_alive(struct odp_proc *proc, unsigned index)
{
	struct odp_watch_shm *w = &proc->domain->watches[index];
	struct odp_slot *slot;

	/* acquire: pairs with the release store that completed it. */
	if (!atomic_load_explicit(&w->serial, memory_order_acquire) || w->slot >= ODP_MAX_PROCS)
		return false;
	slot = &proc->domain->slots[w->slot];
	return atomic_load_explicit(&slot->gen, memory_order_acquire) == w->gen &&
	       !(atomic_load_explicit(&slot->life, memory_order_relaxed) & FUTEX_OWNER_DIED) &&
	       atomic_load_explicit(&slot->life_gen, memory_order_relaxed) == w->gen;
}

bool odp_watch_is(struct odp_proc *proc, unsigned index, uint32_t serial)
{
	/* acquire: pairs with the release store that completed it. */
	return index < ODP_MAX_WATCHES &&
	       atomic_load_explicit(&proc->domain->watches[index].serial, memory_order_acquire) ==
		       serial &&
	       odp_watch_alive(proc, index);
}

/* The cheap look first: with a thousand processes each question about a lock
 * walks a thousand locks. */
static bool slot_dead(struct odp_proc *proc, unsigned nr, bool thorough)
{
	pid_t pid = proc->domain->slots[nr].pid;

	if (proc->self && proc->self->nr == nr)
		return false;
	if (!thorough && pid > 0 && pid != getpid() && (!kill(pid, 0) || errno != ESRCH))
		return false;
	return !slot_locked(proc, nr);
}

static void slot_clear_lanes(struct odp_domain *dom, unsigned nr)
{
	struct odp_slot *slot = &dom->slots[nr];
	uint32_t i, high = atomic_load_explicit(&slot->lane_high, memory_order_relaxed);

	for (i = 0; i < high && i < ODP_MAX_LANES; i++) {
		struct odp_lane *lane = &dom->lanes[nr][i];

		/* release: a fence that waits for the dead holder ends here. */
		atomic_store_explicit(&lane->pool, 0, memory_order_release);
		atomic_store_explicit(&lane->va, 0, memory_order_release);
		atomic_store_explicit(&lane->tid, 0, memory_order_relaxed);
	}
	atomic_store_explicit(&slot->lane_high, 0, memory_order_release);
}

static void slot_free_blocks(struct odp_domain *dom, unsigned nr)
{
	unsigned block;

	for (block = 1; block < ODP_QPN_BLOCKS; block++) {
		if (atomic_load_explicit(&dom->qpn_owner[block], memory_order_relaxed) == nr + 1)
			atomic_store_explicit(&dom->qpn_owner[block], 0, memory_order_release);
	}
}

/* Under the domain's lock; every step may be repeated if the reaper dies. */
static void slot_reap(struct odp_domain *dom, unsigned nr)
{
	struct odp_slot *slot = &dom->slots[nr];
	const uint64_t bit = 1ull << (nr % 64);
	uint64_t gate;
	unsigned i;

	for (i = 0; i < ODP_MAX_PROCS; i++) {
		_Atomic uint64_t *word = &dom->slots[i].attached[nr / 64];

		if (atomic_load_explicit(word, memory_order_relaxed) & bit)
			atomic_fetch_and_explicit(word, ~bit, memory_order_relaxed);
	}
	for (i = 0; i < ODP_MAX_PROCS / 64; i++)
		atomic_store_explicit(&slot->attached[i], 0, memory_order_relaxed);
	slot_clear_lanes(dom, nr);
	slot_free_blocks(dom, nr);
	/* Open the gate that its owner left shut; the sequence above it only grows. */
	gate = atomic_load_explicit(&slot->gate, memory_order_relaxed);
	if (gate & ODP_GATE_FROZEN)
		atomic_store_explicit(&slot->gate, (gate | ODP_GATE_FROZEN) + 1,
				      memory_order_relaxed);
	slot->pid = 0;
	slot->seg_fd = slot->pool_fd = slot->bell_fd = slot->uffd_fd = -1;
	/* release: a slot that is seen free is clean. */
	atomic_store_explicit(&slot->state, ODP_SLOT_FREE, memory_order_release);
}

static int slot_find(struct odp_proc *proc, bool thorough)
{
	struct odp_domain *dom = proc->domain;
	int found = -1;
	unsigned nr;

	for (nr = 0; nr < ODP_MAX_PROCS; nr++) {
		if (atomic_load_explicit(&dom->slots[nr].state, memory_order_acquire) !=
		    ODP_SLOT_FREE) {
			if (!slot_dead(proc, nr, thorough))
				continue;
			odp_log(ODP_LOG_DEBUG, "slot %u: process %d has died, reaped", nr,
				dom->slots[nr].pid);
			slot_reap(dom, nr);
		}
		if (found < 0)
			found = (int)nr;
	}
	return found;
}

uint32_t odp_pid_namespace(void)
{
	struct stat st;

	/* The kernel gives namespaces numbers of 32 bits. */
	return odp_own_stat("/proc/self/ns/pid", &st) ? 0 : (uint32_t)st.st_ino;
}

static void slot_fill(struct odp_proc *proc, unsigned nr)
{
	struct odp_domain *dom = proc->domain;
	struct odp_slot *slot = &dom->slots[nr];
	uint32_t gen;

	/* acq_rel: SETUP and the new number come before all else. Who reads fields of
	 * a slot looks at both again afterwards (peer_slot_is_ours). */
	atomic_store_explicit(&slot->state, ODP_SLOT_SETUP, memory_order_relaxed);
	gen = atomic_fetch_add_explicit(&slot->gen, 1, memory_order_acq_rel) + 1;
	slot->pid = getpid();
	slot->pid_ns = odp_pid_namespace();
	slot->start_time = odp_pid_start_time(slot->pid);
	slot->seg_fd = slot->pool_fd = slot->bell_fd = slot->uffd_fd = -1;
	strncpy(slot->comm, program_invocation_short_name, sizeof(slot->comm) - 1);
	slot->comm[sizeof(slot->comm) - 1] = 0;
	atomic_store_explicit(&slot->bell_asleep, 0, memory_order_relaxed);
	atomic_store_explicit(&dom->lanes[nr][ODP_LANE_SHARED].shared, 1, memory_order_relaxed);
	atomic_store_explicit(&slot->lane_high, ODP_LANE_SERVICE + 1, memory_order_relaxed);
	/* Its own lanes are aimed at it too. */
	atomic_fetch_or_explicit(&slot->attached[nr / 64], 1ull << (nr % 64), memory_order_seq_cst);
	atomic_fetch_add_explicit(&dom->claims, 1, memory_order_relaxed);
	proc->lock_owner = (nr + 1) | (gen << 16);
}

static int slot_take(struct odp_proc *proc, unsigned nr)
{
	struct flock fl = slot_live_byte(nr);
	int ret;

	ret = odp_domain_reserve_lanes(proc, nr);
	if (ret) {
		odp_log(ODP_LOG_ERR, "%s: cannot grow: %s: free some space, or set UODP_DIR",
			proc->dir, strerror(-ret));
		return ret;
	}
	if (odp_own_fcntl(proc->domain_fd, F_SETLK, ODP_SYS_ARG(&fl))) {
		ret = -errno;
		odp_log(ODP_LOG_ERR, "%s: slot %u cannot be locked: %s", proc->dir, nr,
			strerror(-ret));
		return ret;
	}
	slot_fill(proc, nr);
	return 0;
}

int odp_slot_claim(struct odp_proc *proc)
{
	int nr, ret;

	ret = odp_domain_lock(proc);
	if (ret)
		return ret;
	nr = slot_find(proc, false);
	if (nr < 0)
		nr = slot_find(proc, true);
	if (nr < 0) {
		odp_log(ODP_LOG_ERR,
			"%s: all %u slots are in use: end some programs, or set UODP_DIR",
			proc->dir, ODP_MAX_PROCS);
		ret = -EUSERS;
		goto out;
	}
	ret = slot_take(proc, (unsigned)nr);
	if (ret)
		goto out;
	ret = nr;
out:
	odp_domain_unlock(proc);
	return ret;
}

int odp_slot_reap(struct odp_proc *proc)
{
	int ret = odp_domain_lock(proc);

	if (ret)
		return ret;
	slot_find(proc, true);
	odp_domain_unlock(proc);
	return 0;
}
