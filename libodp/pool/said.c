/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What the program has said of private memory stays said when that moves to the pool,
 * and can be said of it afterwards: that it is left out of core dumps, wiped in or kept
 * from a child of fork, locked, of huge pages or not, read in some order, on some NUMA
 * nodes. The kernel keeps most of it for a shared mapping as well, and is told again;
 * of fork, which is libodp's own for the pool, the records tell.
 *
 * Only smaps shows it, which is slow to read, so nobody looks before the first time.
 */
#include <stdio.h>
#include <string.h>

#include "base.h"
#include "pool.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#define MPOL_F_ADDR 2
#define MPOL_DEFAULT 0
#define MPOL_MF_MOVE 2
#define NODES 1024u

static const struct said {
	char flag[4]; /* in smaps */
	int advice;   /* of which it comes; 0: mlock() */
	uint32_t bit;
	bool kernel; /* for shared mappings too */
} saids[] = {
	{" dd", MADV_DONTDUMP, ODP_SAID_NODUMP, true},
	{" wf", MADV_WIPEONFORK, ODP_SAID_WIPE, false},
	{" dc", MADV_DONTFORK, ODP_SAID_NOFORK, false},
	{" nh", MADV_NOHUGEPAGE, 1u << 3, true},
	{" hg", MADV_HUGEPAGE, 1u << 4, true},
	{" sr", MADV_SEQUENTIAL, 1u << 5, true},
	{" rr", MADV_RANDOM, 1u << 6, true},
	{" lo", 0, ODP_SAID_LOCKED, true},
};
#define SAIDS (sizeof(saids) / sizeof(*saids))

static _Atomic bool noted, noted_nofork, noted_kept;

ODP_EXPORT void odp_advice_note(int advice)
{
	if (advice == MADV_DONTFORK)
		atomic_store_explicit(&noted_nofork, true, memory_order_relaxed);
	else
		atomic_store_explicit(&noted_kept, true, memory_order_relaxed);
	/* relaxed: registration of that memory follows in the program's own order. */
	atomic_store_explicit(&noted, true, memory_order_relaxed);
}

bool odp_said_kept(void)
{
	return atomic_load_explicit(&noted_kept, memory_order_relaxed);
}

static uint32_t line_parse(const char *line)
{
	uint32_t said = 0;

	for (unsigned i = 0; i < SAIDS; i++)
		if (strstr(line, saids[i].flag))
			said |= saids[i].bit;
	return said;
}

uint32_t odp_said(uint64_t addr)
{
	unsigned long start, end;
	bool here = false, found = false;
	uint32_t said = 0;
	char line[512];
	FILE *f;

	if (!atomic_load_explicit(&noted, memory_order_relaxed))
		return 0;
	f = odp_own_fopen("/proc/self/smaps");
	while (f && !found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %*4s", &start, &end) == 2)
			here = start <= addr && addr < end;
		found = here && !strncmp(line, "VmFlags:", 8);
		if (found)
			said = line_parse(line);
	}
	if (f)
		fclose(f);
	/* ibv_fork_init() has libibverbs say it of all that it registers. */
	if (!atomic_load_explicit(&noted_nofork, memory_order_relaxed))
		said &= ~ODP_SAID_NOFORK;
	return said;
}

void odp_said_again(uint64_t addr, uint64_t len, uint32_t said, bool private)
{
	for (unsigned i = 0; i < SAIDS; i++) {
		if (!(said & saids[i].bit) || !(private || saids[i].kernel))
			continue;
		if (saids[i].advice)
			odp_sys_madvise(addr, len, saids[i].advice);
		else if (!private) /* as it comes: to fault now would be to wait for ourselves */
			odp_sys(SYS_mlock2, addr, len, MLOCK_ONFAULT);
	}
}

void odp_said_nodes(uint64_t from, uint64_t to, uint64_t len)
{
	unsigned long mask[NODES / (8 * sizeof(long))] = {0};
	int mode = MPOL_DEFAULT;

	if (odp_sys6(SYS_get_mempolicy, (long)&mode, (long)mask, NODES, (long)from, MPOL_F_ADDR,
		     0) ||
	    mode == MPOL_DEFAULT)
		return;
	odp_sys6(SYS_mbind, (long)to, (long)len, mode, (long)mask, NODES, MPOL_MF_MOVE);
}

/* What ADVICE adds to what was said, and what it takes back. */
static bool advice_bits(int advice, uint32_t *set, uint32_t *clear)
{
	*set = *clear = 0;
	switch (advice) {
	case MADV_WIPEONFORK:
		*set = ODP_SAID_WIPE;
		return true;
	case MADV_KEEPONFORK:
		*clear = ODP_SAID_WIPE;
		return true;
	case MADV_DONTFORK:
		*set = ODP_SAID_NOFORK;
		return true;
	case MADV_DOFORK:
		*clear = ODP_SAID_NOFORK;
		return true;
	default:
		return false;
	}
}

ODP_EXPORT int odp_range_advise(struct odp_proc *proc, const void *addr, size_t length, int advice)
{
	struct odp_mem *m = proc->mem;
	uint64_t start = (uintptr_t)addr, end = start + length;
	uint32_t set, clear;
	struct odp_inode *n;
	int ret;

	if (!advice_bits(advice, &set, &clear) || start & ODP_PAGE_MASK || length & ODP_PAGE_MASK ||
	    end <= start)
		return -EINVAL;
	ret = odp_umem_reserve(m, 2);
	if (ret)
		return ret;
	odp_mem_lock(m);
	if (odp_umem_split(m, start) || odp_umem_split(m, end))
		ret = -ENOMEM;
	for (n = ret ? NULL : odp_itree_first(&m->umems, start, end - 1); n;
	     n = odp_itree_next(&m->umems, n, start, end - 1))
		((struct odp_umem *)n)->said = (((struct odp_umem *)n)->said | set) & ~clear;
	odp_mem_unlock(m);
	return ret;
}
