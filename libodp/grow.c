/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * mremap lets a program grow a mapping of the pool as far as it likes: past its
 * guard the pool's offsets are another mapping's. Nothing of that part has been
 * touched when the first fault there comes, so it becomes plain private memory,
 * as it would be had the range never been registered.
 *
 * Mapping over a watched range raises an event and waits until it is read, which
 * the service thread must not do itself. A helper thread does, for as long as
 * that takes: made by clone() with a stack of its own and nothing else, so it
 * makes system calls and touches no more than that stack.
 */
#include <sched.h>
#include <signal.h>

#include "grow.h"

#define HELPER_STACK ((size_t)64 << 10)
#define HELPER_FLAGS                                                                               \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |        \
	 CLONE_CHILD_CLEARTID)

/* clone() by the name that sanitizers do not put their own under. */
int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);

static struct {
	uint64_t start, end;
	uint32_t prot;
	uint32_t tid; /* cleared by the kernel when the helper has ended */
	char *stack;
} helper;

ODP_NO_SANITIZE static int helper_run(void *arg)
{
	(void)arg;
	odp_sys_mmap(helper.start, helper.end - helper.start, (int)helper.prot,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	odp_sys(SYS_exit, 0, 0, 0);
	return 0;
}

static bool helper_busy(void)
{
	/* acquire: the kernel's store ends the helper's use of all of it. */
	return __atomic_load_n(&helper.tid, __ATOMIC_ACQUIRE);
}

/* From the page of ADDR to the end of the mapping, as long as no record begins
 * and the frames are none that the mapping may have (mem_lock). */
static void range_find(struct odp_mem *m, uint64_t addr)
{
	struct odp_vma vma;
	struct odp_umem *um;
	uint64_t end, off;

	helper.start = odp_page_down(addr);
	helper.end = helper.start + ODP_PAGE_SIZE;
	helper.prot = PROT_READ | PROT_WRITE;
	if (!odp_umem_look(m, helper.start, &vma))
		return;
	helper.prot = vma.prot;
	um = odp_umem_first(m, helper.start, vma.end);
	end = um ? um->it.start : vma.end;
	off = vma.off + (helper.end - vma.start);
	for (; helper.end < end && !odp_extent_vacant(m, off); off += ODP_PAGE_SIZE)
		helper.end += ODP_PAGE_SIZE;
	/* The rest keeps a record next to it, for fork.c to find. */
	if (helper.end < end)
		odp_umem_extend(m, helper.end);
}

bool odp_grow_covers(uint64_t start, uint64_t end)
{
	return helper_busy() && start < helper.end && end > helper.start;
}

static bool helper_start(void)
{
	sigset_t all, old;
	int tid;

	/* No handler of the program's may run on that stack. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	tid = __clone(helper_run, helper.stack + HELPER_STACK, HELPER_FLAGS, NULL, NULL, NULL,
		      &helper.tid);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return tid > 0;
}

/* When the mapping is there, its event wakes all who wait for it (uffd.c). */
void odp_grow_replace(struct odp_mem *m, uint64_t addr)
{
	if (helper_busy())
		return;
	if (!helper.stack)
		helper.stack = odp_mem_map(HELPER_STACK);
	pthread_mutex_lock(&m->mem_lock);
	range_find(m, addr);
	__atomic_store_n(&helper.tid, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&m->mem_lock);
	if (helper.stack && helper_start())
		return;
	__atomic_store_n(&helper.tid, 0, __ATOMIC_RELAXED);
	odp_log(ODP_LOG_ERR, "no memory for a mapping grown past the pool's guard at %#lx",
		(long)addr);
}
