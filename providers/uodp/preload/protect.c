/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The kernel tells its MMU notifiers of mprotect(), but not userfaultfd. So a
 * preloaded provider stands in front of it, and tells libodp afterwards: before
 * the call returns the device has the new rights, as on hardware. A process
 * that has opened no device of ours notices nothing.
 *
 * madvise() has its events, but memory that has moved to the pool is a shared
 * mapping, and would be refused what it was granted before; and memory that moves
 * must stay out of core dumps if it was.
 *
 * libodp's own calls go to the kernel directly.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uodp.h"

#define PAGE_MASK ((uintptr_t)4095)

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static struct {
	int (*madvise)(void *addr, size_t len, int advice);
	int (*mlock)(const void *addr, size_t len);
	int (*mlock2)(const void *addr, size_t len, unsigned flags);
	int (*mlockall)(int flags);
	int (*mprotect)(void *addr, size_t len, int prot);
	int (*pkey_mprotect)(void *addr, size_t len, int prot, int pkey);
} next;

/* Calls that come before this one go to the kernel, which is the same. */
__attribute__((constructor)) static void protect_init(void)
{
	next.madvise = dlsym(RTLD_NEXT, "madvise");
	next.mlock = dlsym(RTLD_NEXT, "mlock");
	next.mlock2 = dlsym(RTLD_NEXT, "mlock2");
	next.mlockall = dlsym(RTLD_NEXT, "mlockall");
	next.mprotect = dlsym(RTLD_NEXT, "mprotect");
	next.pkey_mprotect = dlsym(RTLD_NEXT, "pkey_mprotect");
}

static void rights_changed(void *addr, size_t len, int prot)
{
	struct odp_proc *proc = odp_proc_attached();
	int err = errno;

	if (proc && odp_protect(proc, addr, len, prot))
		odp_log(ODP_LOG_WARN,
			"mprotect of %p, %zu bytes: out of memory; "
			"on-demand regions there keep their rights",
			addr, len);
	errno = err;
}

int mprotect(void *addr, size_t len, int prot)
{
	int ret = next.mprotect ? next.mprotect(addr, len, prot)
				: (int)syscall(SYS_mprotect, addr, len, prot);

	if (!ret)
		rights_changed(addr, len, prot);
	return ret;
}

int pkey_mprotect(void *addr, size_t len, int prot, int pkey)
{
	int ret = next.pkey_mprotect ? next.pkey_mprotect(addr, len, prot, pkey)
				     : (int)syscall(SYS_pkey_mprotect, addr, len, prot, pkey);

	if (!ret)
		rights_changed(addr, len, prot);
	return ret;
}

static int madvise_next(void *addr, size_t len, int advice)
{
	return next.madvise ? next.madvise(addr, len, advice)
			    : (int)syscall(SYS_madvise, addr, len, advice);
}

/* Memory in the pool is kept, which MADV_FREE leaves open; the rest is advised. */
static int free_parts(struct odp_proc *proc, char *addr, size_t len)
{
	while (len) {
		bool moved;
		size_t n = odp_range_moved(proc, addr, len, &moved);

		if (!moved && madvise_next(addr, n, MADV_FREE))
			return -1;
		addr += n;
		len -= n;
	}
	return 0;
}

/*
 * Nobody hears of this any more (odp_proc_lost()), and to discard what is in the
 * pool is to take it out of it: a reader must not find what was there before.
 */
static int discard_parts(struct odp_proc *proc, char *addr, size_t len)
{
	while (len) {
		bool moved;
		size_t n = odp_range_moved(proc, addr, len, &moved);

		if (moved && madvise_next(addr, n, MADV_REMOVE))
			return -1;
		addr += n;
		len -= n;
	}
	return 0;
}

static int madvise_parts(struct odp_proc *proc, char *addr, size_t len, int advice)
{
	int ret;

	/*
	 * The kernel frees private memory only, and what was registered is not that. It
	 * must not be asked: it tells userfaultfd that the range is gone before it
	 * refuses.
	 */
	if (advice == MADV_FREE)
		return free_parts(proc, addr, len);
	ret = madvise_next(addr, len, advice);
	if (!ret && odp_proc_lost(proc))
		ret = discard_parts(proc, addr, len);
	return ret;
}

/* As the kernel has it for private memory: what is guarded is discarded first. (A shared
 * mapping would show it again when the guard goes.) */
static int guard_parts(struct odp_proc *proc, char *addr, size_t len)
{
	while (len) {
		bool moved;
		size_t n = odp_range_moved(proc, addr, len, &moved);

		if ((moved && madvise_next(addr, n, MADV_DONTNEED)) ||
		    madvise_next(addr, n, MADV_GUARD_INSTALL))
			return -1;
		addr += n;
		len -= n;
	}
	return 0;
}

/* Blocks are removed from shared mappings alone, as far as the first that is not one. */
static int remove_parts(struct odp_proc *proc, char *addr, size_t len)
{
	while (len) {
		bool moved;
		size_t n = odp_range_moved(proc, addr, len, &moved);

		if (moved) {
			errno = EINVAL;
			return -1;
		}
		if (uodp_madvise_remove(proc, addr, n, madvise_next))
			return -1;
		addr += n;
		len -= n;
	}
	return 0;
}

/* What is said of memory for good. */
static bool advice_stays(int advice)
{
	switch (advice) {
	case MADV_DONTDUMP:
	case MADV_WIPEONFORK:
	case MADV_DONTFORK:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_SEQUENTIAL:
	case MADV_RANDOM:
		return true;
	default:
		return false;
	}
}

static bool of_fork(int advice)
{
	return advice == MADV_WIPEONFORK || advice == MADV_KEEPONFORK || advice == MADV_DONTFORK ||
	       advice == MADV_DOFORK;
}

/*
 * Of memory in the pool it is libodp that makes the child's copy, so that nothing of a
 * region is lost at a fork: libibverbs need not keep it from the child.
 */
static int fork_parts(struct odp_proc *proc, char *addr, size_t len, int advice, bool verbs)
{
	while (len) {
		bool moved;
		size_t n = odp_range_moved(proc, addr, len, &moved);
		int ret = 0;

		if (moved && !(verbs && advice == MADV_DONTFORK))
			ret = odp_range_advise(proc, addr, n, advice);

		if (ret)
			errno = -ret;
		if (ret || (!moved && madvise_next(addr, n, advice)))
			return -1;
		addr += n;
		len -= n;
	}
	return 0;
}

static int madvise_call(void *addr, size_t len, int advice, bool verbs)
{
	struct odp_proc *proc = odp_proc_attached();
	size_t pages = (len + PAGE_MASK) & ~PAGE_MASK;
	uintptr_t begin = (uintptr_t)addr;

	if (advice_stays(advice) && !verbs)
		odp_advice_note(advice);
	if (!proc || begin & PAGE_MASK || pages < len || begin + pages < begin)
		return madvise_next(addr, len, advice);
	if (advice == MADV_REMOVE)
		return remove_parts(proc, addr, pages);
	if (advice == MADV_GUARD_INSTALL)
		return guard_parts(proc, addr, pages);
	if (of_fork(advice))
		return fork_parts(proc, addr, pages, advice, verbs);
	if (advice != MADV_FREE && advice != MADV_DONTNEED)
		return madvise_next(addr, len, advice);
	return madvise_parts(proc, addr, pages, advice);
}

/* Does ADVICE take pages out of the page tables, and how? */
static bool discards(int advice, enum odp_change *change)
{
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_GUARD_INSTALL:
		*change = ODP_CHANGE_DISCARDED;
		return true;
	case MADV_FREE:
	case MADV_PAGEOUT:
		*change = ODP_CHANGE_AWAY;
		return true;
	default:
		return false;
	}
}

/* Is CALLER in libibverbs, which has ibv_fork_init() to follow? */
static bool in_verbs(const void *caller)
{
	Dl_info info;

	return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "/libibverbs.so");
}

int madvise(void *addr, size_t len, int advice)
{
	bool verbs = of_fork(advice) && in_verbs(__builtin_return_address(0));
	int ret = madvise_call(addr, len, advice, verbs), err = errno;
	struct odp_proc *proc = odp_proc_attached();
	enum odp_change change;

	/* ENOMEM: what is mapped of the range has been advised all the same. */
	if (!proc || (ret && err != ENOMEM))
		return ret;
	if (advice == MADV_REMOVE)
		odp_range_removed(proc, addr, len);
	else if (discards(advice, &change))
		odp_range_changed(proc, addr, len, change);
	errno = err;
	return ret;
}

/* What is locked stays locked when it moves. */
int mlock(const void *addr, size_t len)
{
	odp_advice_note(0);
	return next.mlock ? next.mlock(addr, len) : (int)syscall(SYS_mlock, addr, len);
}

int mlock2(const void *addr, size_t len, unsigned flags)
{
	odp_advice_note(0);
	return next.mlock2 ? next.mlock2(addr, len, flags)
			   : (int)syscall(SYS_mlock2, addr, len, flags);
}

int mlockall(int flags)
{
	odp_advice_note(0);
	return next.mlockall ? next.mlockall(flags) : (int)syscall(SYS_mlockall, flags);
}
