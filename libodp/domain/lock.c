/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A spin lock in shared memory that outlives its holder. */
#include <sched.h>
#include <time.h>

#include "domain.h"
#include "sys.h"

#define LOCK_SPINS 200
#define LOCK_CHECK_NS 1000000u
#define LOCK_YIELD_NS 2000000u /* then the waiter sleeps between looks: */
#define LOCK_NAP_NS 500000u

ODP_EXPORT uint64_t odp_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* acquire: pairs with the release store in odp_unlock(). */
static bool lock_swap(struct odp_lock *lock, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&lock->owner, &from, to, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static bool lock_holder_alive(struct odp_proc *proc, uint32_t owner)
{
	const unsigned nr = (owner & 0xffff) - 1;
	uint32_t gen;

	if (nr >= ODP_MAX_PROCS)
		return false; /* rubbish: no process of this domain */
	gen = atomic_load_explicit(&proc->domain->slots[nr].gen, memory_order_relaxed);
	return (gen & 0xffff) == owner >> 16 && odp_slot_alive(proc, nr);
}

static bool lock_steal(struct odp_proc *proc, struct odp_lock *lock)
{
	uint32_t owner = __atomic_load_n(&lock->owner, __ATOMIC_RELAXED);

	if (!owner || lock_holder_alive(proc, owner) || !lock_swap(lock, owner, proc->lock_owner))
		return false;
	odp_log(ODP_LOG_DEBUG, "took over a lock from slot %u, whose process has died",
		(owner & 0xffff) - 1);
	return true;
}

/* Gives up after LIMIT ns: false. */
__attribute__((noinline)) static bool lock_wait(struct odp_proc *proc, struct odp_lock *lock,
						uint64_t limit)
{
	const struct timespec nap = {.tv_nsec = LOCK_NAP_NS};
	uint64_t now, check = 0, sleep = 0, end = 0;
	unsigned i;

	for (;;) {
		for (i = 0; i < LOCK_SPINS; i++) {
			if (!__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) &&
			    lock_swap(lock, 0, proc->lock_owner))
				return true;
			odp_pause();
		}
		sched_yield();
		now = odp_now();
		if (!check) {
			check = now + LOCK_CHECK_NS;
			sleep = now + LOCK_YIELD_NS;
			end = limit < UINT64_MAX - now ? now + limit : UINT64_MAX;
		}
		if (now >= end)
			return lock_steal(proc, lock);
		if (now >= check) {
			if (lock_steal(proc, lock))
				return true;
			check = now + LOCK_CHECK_NS;
		}
		/* Nobody holds a lock that long who runs: it is stopped, or kept from its
		 * CPU, which a waiter should not burn. No point of cancellation. */
		if (now >= sleep)
			odp_sys(SYS_nanosleep, &nap, NULL, 0);
	}
}

ODP_EXPORT void odp_lock(struct odp_proc *proc, struct odp_lock *lock)
{
	if (odp_unlikely(!lock_swap(lock, 0, proc->lock_owner)))
		lock_wait(proc, lock, UINT64_MAX);
}

ODP_EXPORT bool odp_lock_for(struct odp_proc *proc, struct odp_lock *lock, uint64_t ns)
{
	if (odp_likely(lock_swap(lock, 0, proc->lock_owner)))
		return true;
	return ns ? lock_wait(proc, lock, ns) : odp_lock_try(proc, lock);
}

ODP_EXPORT bool odp_trylock(struct odp_proc *proc, struct odp_lock *lock)
{
	return lock_swap(lock, 0, proc->lock_owner);
}

ODP_EXPORT bool odp_lock_try(struct odp_proc *proc, struct odp_lock *lock)
{
	unsigned i;

	for (i = 0; i < LOCK_SPINS; i++) {
		if (lock_swap(lock, 0, proc->lock_owner))
			return true;
		odp_pause();
	}
	return lock_steal(proc, lock);
}

ODP_EXPORT uint32_t odp_lock_tag(const struct odp_proc *proc)
{
	return proc->lock_owner;
}

ODP_EXPORT bool odp_lock_tag_alive(struct odp_proc *proc, uint32_t tag)
{
	return lock_holder_alive(proc, tag);
}

ODP_EXPORT void odp_unlock(struct odp_lock *lock)
{
	/* release: what the lock protected is seen by the next holder. */
	__atomic_store_n(&lock->owner, 0, __ATOMIC_RELEASE);
}
