/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Pages of the owner's address space that count as valid and are no longer in its page
 * tables: truncated by another process, discarded by a system call that nobody in the
 * owner saw (follow.c), reclaimed. The kernel has called its MMU notifiers for these, so
 * a device would fault them in again. One look serves many pages: its cost is that of
 * the system call.
 *
 * What this cannot see: a page that went and that the program has touched since, or that
 * was accessed within a moment of the last look.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base.h"
#include "domain.h"
#include "pool.h"
#include "transfer.h"

/* The kernel's struct pm_scan_arg and page_region (Linux 6.7), for headers that lack them. */
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct scan_range {
	uint64_t start, end, categories;
};
#define PAGEMAP_SCAN_CMD _IOWR('f', 16, struct scan_arg)
#define SCAN_THERE ((uint64_t)3 << 3) /* PAGE_IS_PRESENT, PAGE_IS_SWAPPED */
#define SCAN_RANGES 8u

/* What one fault of the kernel's may map with the page itself, if the file still has it
 * (fault_around_bytes): to be looked at before, since it hides that it was gone. */
#define LOOK_AROUND ((uint64_t)64 << 10)
/* A look holds for so much memory, for so long: a system call for each access would cost
 * a small one half its speed. Where faults are to be slow, to fail or to be answered by a
 * pager, each access looks. */
#define LOOK_BLOCK ((uint64_t)1 << 20)
#define LOOK_NS 200000u
#define LOOKS 8u
#define READ_PAGES 256u

/* Of PEER, opened when it is first needed: the descriptor, or negative. */
static int pagemap_of(struct odp_peer *peer)
{
	char path[40];
	int fd, none = 0;

	if (peer->self)
		return odp_self->mem->pagemap_fd;
	/* relaxed: a number. */
	fd = atomic_load_explicit(&peer->pagemap, memory_order_relaxed);
	if (odp_likely(fd))
		return fd - 1;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)peer->pid);
	fd = odp_own_open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !odp_peer_check(peer)) { /* the pid may be another's by now */
		if (fd >= 0)
			odp_fd_close(fd);
		return -1;
	}
	fd = odp_fd_high(fd);
	if (atomic_compare_exchange_strong_explicit(&peer->pagemap, &none, fd + 1,
						    memory_order_relaxed, memory_order_relaxed))
		return fd;
	odp_fd_close(fd); /* another thread was faster */
	return none - 1;
}

struct look {
	struct odp_span *span;
	uint64_t base;  /* address of the region's first page */
	uint64_t found; /* pages */
};

static void range_forget(struct look *l, uint64_t start, uint64_t end)
{
	for (; start < end; start += ODP_PAGE_SIZE) {
		_Atomic odp_entry_t *p = odp_xlat_entry(l->span->peer, l->span->mr,
							(start - l->base) >> ODP_PAGE_SHIFT);

		if (p && !(atomic_load_explicit(p, memory_order_relaxed) & ODP_E_FRESH))
			l->found += odp_entry_forget(p);
	}
}

/* False: the kernel has no such call. */
static bool look_scan(struct look *l, int fd, uint64_t start, uint64_t end)
{
	struct scan_range ranges[SCAN_RANGES];
	struct scan_arg arg = {
		.size = sizeof(arg),
		.end = end,
		.vec = (uintptr_t)ranges,
		.vec_len = SCAN_RANGES,
		.category_inverted = SCAN_THERE,
		.category_mask = SCAN_THERE,
	};

	while (start < end) {
		long n;

		arg.start = start;
		n = odp_sys_ioctl(fd, PAGEMAP_SCAN_CMD, &arg);
		if (n < 0)
			return n != -ENOTTY && n != -EINVAL;
		odp_valgrind_defined(ranges, (size_t)n * sizeof(*ranges));
		for (long i = 0; i < n; i++)
			range_forget(l, ranges[i].start, ranges[i].end);
		if (arg.walk_end <= start)
			break;
		start = arg.walk_end;
	}
	return true;
}

static void look_read(struct look *l, int fd, uint64_t start, uint64_t end)
{
	uint64_t map[READ_PAGES];

	while (start < end) {
		uint64_t n = odp_min((end - start) >> ODP_PAGE_SHIFT, READ_PAGES);
		long got = odp_sys_pread(fd, map, n * sizeof(*map),
					 (start >> ODP_PAGE_SHIFT) * sizeof(*map));

		for (uint64_t i = 0; got > 0 && i < (uint64_t)got / sizeof(*map); i++)
			if (!(map[i] & ODP_PAGEMAP_THERE))
				range_forget(l, start + (i << ODP_PAGE_SHIFT),
					     start + ((i + 1) << ODP_PAGE_SHIFT));
		start += n << ODP_PAGE_SHIFT;
	}
}

/* What this thread has looked at: a block of a region, and until when that holds. */
struct looked {
	const struct odp_mr_shm *mr;
	uint64_t block; /* its number and the region's key */
	uint64_t until;
};
static __thread struct looked looks[LOOKS] __attribute__((tls_model("initial-exec")));

/* Has N bytes at ADDR been looked at a moment ago? If not they have now. */
static bool looked_at(const struct odp_span *span, uint64_t addr, uint64_t n)
{
	uint64_t block = addr / LOOK_BLOCK, now = odp_now(), tag = block << 32 ^ span->key;
	struct looked *l = &looks[(block ^ span->key >> 8) % LOOKS];

	if (l->mr == span->mr && l->block == tag && now < l->until &&
	    (addr + n - 1) / LOOK_BLOCK == block)
		return true;
	*l = (struct looked){span->mr, tag, now + LOOK_NS};
	return false;
}

/* From and up to where to look, for an access of N bytes at ADDR; UNIT: a power of two. */
static void look_range(const struct look *l, uint64_t addr, uint64_t n, uint64_t unit,
		       uint64_t *start, uint64_t *end)
{
	uint64_t last = l->base + (odp_mr_npages(l->span->mr) << ODP_PAGE_SHIFT);

	*start = odp_max(l->base, addr & ~(unit - 1));
	*end = odp_min(last, (addr + n + unit - 1) & ~(unit - 1));
	/* An implicit region's entries are made on use: not ahead. */
	if (last <= addr) {
		*start = odp_page_down(addr);
		*end = odp_page_up(addr + n);
	}
}

bool odp_va_gone(struct odp_span *span, uint64_t addr, uint64_t n)
{
	static _Atomic bool no_scan;
	struct look l = {.span = span, .base = odp_page_down(span->mr->addr)};
	bool always = odp_inject_active(span);
	uint64_t start, end;
	int fd;

	if (span->mr->kind != ODP_ON_DEMAND || (!always && looked_at(span, addr, n)))
		return false;
	fd = odp_peer_alive(span->peer) ? pagemap_of(span->peer) : -1;
	if (fd < 0)
		return false;
	look_range(&l, addr, n, always ? LOOK_AROUND : LOOK_BLOCK, &start, &end);
	/* relaxed: to try once too often does no harm. */
	if (atomic_load_explicit(&no_scan, memory_order_relaxed) ||
	    !look_scan(&l, fd, start, end)) {
		atomic_store_explicit(&no_scan, true, memory_order_relaxed);
		look_read(&l, fd, start, end);
	}
	if (l.found)
		odp_forgotten(span->mr, l.found);
	return l.found;
}
