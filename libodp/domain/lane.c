/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Lanes: one a thread, the service thread's at its own place, the last one
 * shared in turns by threads that found none free. A thread takes its turn
 * before it enters, when it stands in nobody's way; inside, it waits for no
 * thread that could wait for the turn.
 */
#include <assert.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "domain.h"
#include "own.h"

#define FENCE_SPIN_NS 50000u /* a slice is copied in less */
#define FENCE_NAP_NS 50000u
#define FENCE_CHECK_NS 2000000u /* between questions whether the process lives */
#define FENCE_LIMIT_NS 1000000000u
#define FENCE_PATIENCE_NS 1000000u /* with a thread that may wait for us */
#define FENCE_BUSY_NS 30000000000u /* with one that only waits for a CPU */
#define FENCE_GRACE_NS 10000000u   /* for those looked at after the limit */
#define FENCE_ASLEEP_NS 100000000u /* with one that sleeps in the kernel */

__thread struct odp_lane *odp_lane_mine __attribute__((tls_model("initial-exec")));

static pthread_mutex_t lane_turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_once_t lane_once = PTHREAD_ONCE_INIT;
static pthread_key_t lane_key;
static bool lane_key_made;

void odp_lane_share(void)
{
	pthread_mutex_lock(&lane_turn);
}

void odp_lane_unshare(void)
{
	pthread_mutex_unlock(&lane_turn);
}

/* A word that its thread left odd (cancelled inside) would stop every fence. */
static void lane_word_close(_Atomic uint64_t *word)
{
	uint64_t seq = atomic_load_explicit(word, memory_order_relaxed);

	if (seq & 1)
		atomic_store_explicit(word, seq + 1, memory_order_release);
}

static void lane_release(void *arg)
{
	struct odp_lane *lane = arg;

	odp_lane_mine = NULL;
	if (odp_lane_is_shared(lane))
		return;
	lane_word_close(&lane->pool);
	lane_word_close(&lane->va);
	/* release: pairs with the next thread's compare-and-swap. */
	atomic_store_explicit(&lane->tid, 0, memory_order_release);
}

static void lane_key_make(void)
{
	lane_key_made = !pthread_key_create(&lane_key, lane_release);
}

/* seq_cst: a fence that misses the new height was begun by a freezer whose gate
 * the lane's thread will see shut. */
static void lane_height(struct odp_slot *slot, uint32_t high)
{
	uint32_t old = atomic_load_explicit(&slot->lane_high, memory_order_relaxed);

	while (old < high &&
	       !atomic_compare_exchange_weak_explicit(&slot->lane_high, &old, high,
						      memory_order_seq_cst, memory_order_relaxed))
		;
}

static unsigned lane_find(struct odp_lane *lanes, uint32_t tid)
{
	unsigned i;

	/* Without a key nobody would give the lane back: share. */
	for (i = ODP_LANE_SERVICE + 1; lane_key_made && i < ODP_LANE_SHARED; i++) {
		uint32_t none = 0;

		if (!atomic_load_explicit(&lanes[i].tid, memory_order_relaxed) &&
		    /* acquire: pairs with the release store in lane_release(). */
		    atomic_compare_exchange_strong_explicit(
			    &lanes[i].tid, &none, tid, memory_order_acquire, memory_order_relaxed))
			return i;
	}
	return ODP_LANE_SHARED;
}

struct odp_lane *odp_lane_claim(struct odp_proc *proc)
{
	const unsigned nr = proc->self->nr;
	struct odp_lane *lanes = proc->domain->lanes[nr];
	unsigned i;

	pthread_once(&lane_once, lane_key_make);
	i = lane_find(lanes, (uint32_t)gettid());
	if (i != ODP_LANE_SHARED && pthread_setspecific(lane_key, &lanes[i])) {
		atomic_store_explicit(&lanes[i].tid, 0, memory_order_release);
		i = ODP_LANE_SHARED;
	}
	lane_height(proc->self->slot, i + 1);
	odp_lane_mine = &lanes[i];
	return odp_lane_mine;
}

void odp_lane_service(struct odp_proc *proc)
{
	struct odp_lane *lane = &proc->domain->lanes[proc->self->nr][ODP_LANE_SERVICE];

	atomic_store_explicit(&lane->tid, (uint32_t)gettid(), memory_order_relaxed);
	lane_height(proc->self->slot, ODP_LANE_SERVICE + 1);
	odp_lane_mine = lane;
}

void odp_lane_forget(void)
{
	/* Of the parent's threads only the caller is left, outside any lane. */
	pthread_mutex_t turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

	lane_turn = turn;
	odp_lane_mine = NULL;
	if (lane_key_made)
		pthread_setspecific(lane_key, NULL);
}

void odp_freeze(struct odp_proc *proc)
{
	/* seq_cst: before the loads of the lanes; pairs with odp_lane_enter(). */
	atomic_fetch_add_explicit(&proc->self->slot->gate, 1, memory_order_seq_cst);
}

void odp_thaw(struct odp_proc *proc)
{
	/* release: who sees the gate open sees what was done behind it. */
	atomic_fetch_add_explicit(&proc->self->slot->gate, ODP_GATE_THAW, memory_order_seq_cst);
}

static _Atomic uint64_t *held_word(struct odp_proc *proc, unsigned watch, unsigned nr)
{
	return &proc->domain->watches[watch].held[nr / 64];
}

void odp_freeze_peer(struct odp_proc *proc, struct odp_slot *slot, unsigned watch)
{
	unsigned nr = (unsigned)(slot - proc->domain->slots);
	uint64_t old, bit = ODP_GATE_WATCH(watch);

	atomic_fetch_or_explicit(held_word(proc, watch, nr), 1ull << nr % 64, memory_order_seq_cst);
	old = atomic_load_explicit(&slot->gate, memory_order_relaxed);
	/* seq_cst: as odp_freeze(). A new sequence number, though the bit may be set: who is
	 * about to clear it has to look again. */
	while (!atomic_compare_exchange_weak_explicit(&slot->gate, &old,
						      (old | bit) + ODP_GATE_STEP,
						      memory_order_seq_cst, memory_order_relaxed))
		;
}

/* Does a watch that lives keep the gate of slot NR shut with BIT? */
static bool gate_held(struct odp_proc *proc, unsigned nr, unsigned bit)
{
	/* seq_cst: after the gate; a watch that is not below it yet will change that. */
	uint32_t high = atomic_load_explicit(&proc->domain->watches_high, memory_order_seq_cst);

	for (unsigned i = bit; i < high && i < ODP_MAX_WATCHES; i += ODP_GATE_WATCHES)
		if ((atomic_load_explicit(held_word(proc, i, nr), memory_order_seq_cst) >> nr % 64 &
		     1) &&
		    odp_watch_alive(proc, i))
			return true;
	return false;
}

static void gate_release(struct odp_proc *proc, struct odp_slot *slot, unsigned bit)
{
	unsigned nr = (unsigned)(slot - proc->domain->slots);
	/* seq_cst: before HELD; see ODP_GATE_WATCH(). */
	uint64_t old = atomic_load_explicit(&slot->gate, memory_order_seq_cst);

	while ((old & ODP_GATE_WATCH(bit)) && !gate_held(proc, nr, bit) &&
	       !atomic_compare_exchange_weak_explicit(&slot->gate, &old,
						      (old & ~ODP_GATE_WATCH(bit)) + ODP_GATE_STEP,
						      memory_order_seq_cst, memory_order_seq_cst))
		;
}

void odp_thaw_peer(struct odp_proc *proc, struct odp_slot *slot, unsigned watch)
{
	unsigned nr = (unsigned)(slot - proc->domain->slots);

	atomic_fetch_and_explicit(held_word(proc, watch, nr), ~(1ull << nr % 64),
				  memory_order_seq_cst);
	gate_release(proc, slot, watch % ODP_GATE_WATCHES);
}

void odp_gate_heal(struct odp_proc *proc, struct odp_slot *slot)
{
	uint64_t gate = atomic_load_explicit(&slot->gate, memory_order_relaxed);

	for (unsigned bit = 0; bit < ODP_GATE_WATCHES; bit++)
		if (gate & ODP_GATE_WATCH(bit))
			gate_release(proc, slot, bit);
}

struct fence {
	struct odp_proc *proc;
	struct odp_slot *slot; /* at which the lanes are aimed */
	uint64_t limit;        /* when to give up; 0: the clock has not been read yet */
	bool thorough;         /* wait for system calls as long as they take */
	odp_give_up_fn give_up;
	bool all_left;
};

static bool fence_left(_Atomic uint64_t *word, uint64_t inside)
{
	/* acquire: pairs with the release store that left the lane. */
	return atomic_load_explicit(word, memory_order_acquire) != inside;
}

/* Which stay in which lane: never 0, as INSIDE is odd. */
static uint64_t fence_mark(const _Atomic uint64_t *word, uint64_t inside)
{
	return (uint64_t)((uintptr_t)word % ODP_PAGE_SIZE / sizeof(*word)) << 48 |
	       (inside & 0xffffffffffffull);
}

/* When to give up on a lane: the limit is for all of a fence, with some grace
 * for those that come after it; none for a stay that was waited for before. */
static uint64_t fence_limit(struct fence *f, unsigned nr, uint64_t mark, uint64_t now)
{
	if (!f->limit)
		f->limit = now + FENCE_LIMIT_NS;
	if (atomic_load_explicit(&f->proc->stuck[nr], memory_order_relaxed) == mark)
		return now + FENCE_SPIN_NS;
	return f->limit > now + FENCE_GRACE_NS ? f->limit : now + FENCE_GRACE_NS;
}

static void fence_give_up(struct fence *f, unsigned nr, uint64_t mark)
{
	f->all_left = false;
	/* relaxed: a hint that saves waiting. */
	if (atomic_exchange_explicit(&f->proc->stuck[nr], mark, memory_order_relaxed) != mark)
		odp_log(ODP_LOG_WARN,
			"process %d (slot %u) stays inside a transfer: is it stopped?",
			f->proc->domain->slots[nr].pid, nr);
}

/* Is the caller not to wait for a thread of its own process any longer? */
static bool fence_hopeless(struct fence *f, unsigned nr)
{
	return f->give_up && nr == f->proc->self->nr && f->give_up(f->proc);
}

/* The state of the lane's thread as /proc has it, 0 if that cannot be known. */
static char fence_state(struct fence *f, unsigned nr, const _Atomic uint64_t *word)
{
	const struct odp_lane *lanes = f->proc->domain->lanes[nr];
	const struct odp_lane *lane =
		&lanes[((uintptr_t)word - (uintptr_t)lanes) / sizeof(struct odp_lane)];
	char buf[256], *state;
	ssize_t n;
	int fd;

	snprintf(buf, sizeof(buf), "/proc/%d/task/%u/stat", f->proc->domain->slots[nr].pid,
		 atomic_load_explicit(&lane->tid, memory_order_relaxed));
	fd = odp_own_open(buf, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = odp_own_read(fd, buf, sizeof(buf) - 1);
	odp_fd_close(fd);
	buf[n > 0 ? n : 0] = 0;
	state = strrchr(buf, ')');
	return state && state[1] == ' ' ? state[2] : 0;
}

static bool fence_of_call(struct fence *f, unsigned nr, const _Atomic uint64_t *word)
{
	const struct odp_lane *lanes = f->proc->domain->lanes[nr];

	return word == &lanes[((uintptr_t)word - (uintptr_t)lanes) / sizeof(struct odp_lane)].va;
}

/*
 * Is the thread of the lane runnable? On a busy machine a thread may be kept from
 * running for longer than the limit, in the middle of a transfer: it will come out.
 * Of one that is stopped there is no hope: but it is not in a system call, nor will
 * it begin one with what it knew (guard.h).
 */
static bool fence_busy(struct fence *f, unsigned nr, const _Atomic uint64_t *word)
{
	bool call = fence_of_call(f, nr, word);
	char state;

	if (call && !f->thorough)
		return false;
	state = fence_state(f, nr, word);
	/* D: in a call that allocates pages or changes mappings, behind others. Who waits
	 * for a page in a handler, for a userfaultfd, is S. */
	return state == 'R' || (state == 'D' && !call);
}

/*
 * A system call that sleeps on and on may do so because of us: while FUSE waits for
 * the answer to a truncate it writes no page back, and whoever stores to a page that
 * is to be written back sleeps until then. *SINCE: when it was first seen asleep.
 */
static bool fence_asleep(struct fence *f, unsigned nr, const _Atomic uint64_t *word, uint64_t now,
			 uint64_t *since)
{
	if (!f->thorough || !fence_of_call(f, nr, word) || fence_state(f, nr, word) != 'D')
		*since = 0;
	else if (!*since)
		*since = now;
	return *since && now - *since > FENCE_ASLEEP_NS;
}

/* False when the process has died: its other lanes need no look. */
static bool fence_wait(struct fence *f, unsigned nr, _Atomic uint64_t *word, uint64_t inside)
{
	const struct timespec nap = {.tv_nsec = FENCE_NAP_NS};
	const uint64_t mark = fence_mark(word, inside);
	const uint64_t spin = odp_now() + FENCE_SPIN_NS, patience = spin + FENCE_PATIENCE_NS;
	uint64_t limit = fence_limit(f, nr, mark, spin - FENCE_SPIN_NS);
	uint64_t now, check = spin, asleep = 0;

	while (!fence_left(word, inside)) {
		now = odp_now();
		if (now < spin) {
			odp_pause();
			continue;
		}
		if (now >= check) {
			if (!odp_slot_alive(f->proc, nr))
				return false;
			check = now + FENCE_CHECK_NS;
			if (fence_asleep(f, nr, word, now, &asleep)) {
				f->all_left = false;
				return true;
			}
		}
		if (now >= patience && fence_hopeless(f, nr)) {
			f->all_left = false;
			return true;
		}
		if (now >= limit && now < spin + FENCE_BUSY_NS && fence_busy(f, nr, word)) {
			limit = now + FENCE_CHECK_NS;
		} else if (now >= limit) {
			fence_give_up(f, nr, mark);
			return true;
		}
		nanosleep(&nap, NULL);
	}
	return true;
}

static bool fence_word(struct fence *f, unsigned nr, _Atomic uint64_t *word)
{
	/* seq_cst: after the addition that shut the gate; see struct odp_lane. */
	uint64_t seq = atomic_load_explicit(word, memory_order_seq_cst);
	unsigned i;

	if (!(seq & 1))
		return true;
	for (i = 0; i < 100; i++) {
		if (fence_left(word, seq))
			return true;
		odp_pause();
	}
	return fence_wait(f, nr, word, seq);
}

static void fence_slot(struct fence *f, unsigned nr, bool va)
{
	struct odp_domain *dom = f->proc->domain;
	uint32_t i, high;

	/* seq_cst: see lane_height(). */
	high = atomic_load_explicit(&dom->slots[nr].lane_high, memory_order_seq_cst);
	for (i = 0; i < high && i < ODP_MAX_LANES; i++) {
		struct odp_lane *lane = &dom->lanes[nr][i];

		if (!fence_word(f, nr, &lane->pool) || (va && !fence_word(f, nr, &lane->va)))
			return;
	}
}

static void fence_check_caller(bool va)
{
	const struct odp_lane *lane = odp_lane_mine;

	if (!lane || odp_lane_is_shared(lane))
		return;
	assert(!(atomic_load_explicit(&lane->pool, memory_order_relaxed) & 1));
	assert(!va || !(atomic_load_explicit(&lane->va, memory_order_relaxed) & 1));
	(void)va;
}

static bool fence_run(struct fence f, bool va)
{
	unsigned i;

	f.all_left = true;
	fence_check_caller(va);
	for (i = 0; i < ODP_MAX_PROCS / 64; i++) {
		/* seq_cst: pairs with odp_peer_get(), which sets the bit before it
		 * gives a thread anything to enter a lane with. */
		uint64_t bits = atomic_load_explicit(&f.slot->attached[i], memory_order_seq_cst);

		for (; bits; bits &= bits - 1)
			fence_slot(&f, i * 64 + (unsigned)__builtin_ctzll(bits), va);
	}
	return f.all_left;
}

bool odp_fence_peer(struct odp_proc *proc, struct odp_slot *slot, bool va)
{
	return fence_run((struct fence){.proc = proc, .slot = slot, .thorough = true}, va);
}

bool odp_fence(struct odp_proc *proc, bool va)
{
	return fence_run((struct fence){.proc = proc, .slot = proc->self->slot}, va);
}

bool odp_fence_unless(struct odp_proc *proc, odp_give_up_fn give_up)
{
	return fence_run((struct fence){.proc = proc, .slot = proc->self->slot, .give_up = give_up},
			 false);
}
