/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Moves a range of private anonymous memory to the pool while the program runs.
 *
 * From the moment the old pages are taken away until the pool is mapped in their
 * place, any thread that touches the range waits in a userfaultfd that nobody
 * reads. The thread that does the moving therefore touches only its own stack,
 * libodp's own memory and the pool, makes only system calls, and takes no signal:
 * the heap, the dynamic linker's tables and a handler's data may all be away.
 */
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#include "mem.h"

#define PIECE ((uint64_t)16 << 20) /* others wait while so much is copied */
#define PAGEMAP_CHUNK 512u
#define PAGEMAP_PRESENT ((uint64_t)3 << 62) /* in memory, or in swap */

struct piece {
	uint64_t addr, len, off;
	uint32_t prot;
	bool no_dump;
	struct odp_extent *ext;
};

static int uffd_register(int uffd, uint64_t addr, uint64_t len, uint64_t mode)
{
	struct uffdio_register reg = {.range = {addr, len}, .mode = mode};

	return (int)odp_sys_ioctl(uffd, UFFDIO_REGISTER, &reg);
}

static void uffd_unregister(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_range range = {addr, len};

	odp_sys_ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

static void uffd_wake_all(int uffd, uint64_t addr, uint64_t len)
{
	struct uffdio_range range = {addr, len};

	odp_sys_ioctl(uffd, UFFDIO_WAKE, &range);
}

static int run_copy(struct odp_mem *m, uint64_t off, uint64_t from, uint64_t len)
{
	int ret = odp_pool_populate(m->proc->self, off, len);

	while (!ret && len) {
		uint64_t n = odp_min(len, ODP_WINDOW_MASK + 1 - (off & ODP_WINDOW_MASK));

		odp_sys_copy(odp_pool_ptr(m->proc->self, off, n), (void *)(uintptr_t)from, n);
		off += n;
		from += n;
		len -= n;
	}
	return ret;
}

/* Copy the pages that are there from FROM; the others stay holes. */
static int pages_copy(struct odp_mem *m, uint64_t from, const struct piece *p)
{
	uint64_t map[PAGEMAP_CHUNK];
	uint64_t npages = p->len >> ODP_PAGE_SHIFT;

	for (uint64_t i = 0; i < npages; i += PAGEMAP_CHUNK) {
		uint64_t n = odp_min(npages - i, PAGEMAP_CHUNK), a, b;
		uint64_t at = ((from >> ODP_PAGE_SHIFT) + i) * sizeof(*map);

		if (odp_sys_pread(m->pagemap_fd, map, n * sizeof(*map), at) !=
		    (long)(n * sizeof(*map)))
			return -EIO;
		for (a = 0; a < n; a = b + 1) {
			int ret;

			for (b = a; b < n && (map[b] & PAGEMAP_PRESENT); b++)
				;
			if (a == b)
				continue;
			ret = run_copy(m, p->off + ((i + a) << ODP_PAGE_SHIFT),
				       from + ((i + a) << ODP_PAGE_SHIFT),
				       (b - a) << ODP_PAGE_SHIFT);
			if (ret)
				return ret;
		}
	}
	return 0;
}

/* What was mapped before is mapped again, so that the program takes no faults
 * for pages that it had. */
static void pages_map(struct odp_mem *m, const struct piece *p)
{
	int advice = p->prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
	uint64_t off = p->off, end = p->off + p->len, next;

	if (!(p->prot & (PROT_READ | PROT_WRITE)))
		return;
	for (; off < end; off = next)
		if (odp_pool_run(m, off, end, &next))
			odp_sys_madvise(p->addr + (off - p->off), next - off, advice);
}

/* The pool is mapped, nothing watches it yet: touches see true content or make
 * true zero pages. Record it, then watch. */
static int piece_publish(struct odp_mem *m, const struct piece *p)
{
	int ret;

	odp_uffd_settle(m);
	odp_mem_lock(m);
	ret = odp_umem_add(m, p->addr, p->len, p->off, p->ext, p->prot);
	odp_mem_unlock(m);
	if (!ret)
		ret = uffd_register(m->uffd, p->addr, p->len,
				    UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
	return ret;
}

static bool is_err(long ret)
{
	return ret < 0 && ret > -4096;
}

/*
 * Addresses for the old pages, between two pages that stay inaccessible: the
 * kernel would merge memory that was never touched with an adjacent range it
 * moves there, and then drop the userfaultfd of both.
 */
static long stage_reserve(uint64_t len)
{
	long at = odp_sys_mmap(0, len + 2 * ODP_PAGE_SIZE, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return is_err(at) ? at : at + (long)ODP_PAGE_SIZE;
}

static void stage_release(long stage, uint64_t len)
{
	odp_sys_munmap((uint64_t)stage - ODP_PAGE_SIZE, len + 2 * ODP_PAGE_SIZE);
}

static int pages_take(struct odp_mem *m, const struct piece *p, long stage)
{
	int ret = uffd_register(m->conv_uffd, p->addr, p->len, UFFDIO_REGISTER_MODE_MISSING);
	long at;

	if (ret)
		return ret;
	at = odp_sys_mremap(p->addr, p->len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
			    (uint64_t)stage);
	if (!is_err(at))
		return 0;
	uffd_unregister(m->conv_uffd, p->addr, p->len); /* wakes, too */
	return (int)at;
}

static int piece_move(struct odp_mem *m, const struct piece *p)
{
	long stage = stage_reserve(p->len), at;
	int ret;

	if (is_err(stage))
		return (int)stage;
	ret = pages_take(m, p, stage);
	if (ret)
		goto out_release_stage;
	/* PROT_NONE memory has content too. */
	if (!(p->prot & PROT_READ))
		ret = (int)odp_sys(SYS_mprotect, stage, p->len, PROT_READ);
	if (!ret)
		ret = pages_copy(m, (uint64_t)stage, p);
	if (ret)
		goto err_punch;
	at = odp_sys_mmap(p->addr, p->len, (int)p->prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
			  m->pool_fd, p->off);
	if (at != (long)p->addr) {
		ret = (int)at;
		goto err_punch;
	}
	odp_sys_madvise(p->addr, p->len, MADV_DONTFORK);
	if (p->no_dump)
		odp_sys_madvise(p->addr, p->len, MADV_DONTDUMP);
	pages_map(m, p);
	ret = piece_publish(m, p);
	uffd_wake_all(m->conv_uffd, p->addr, p->len);
	goto out_release_stage;

err_punch:
	odp_pool_punch(m, p->off, p->len); /* unused offsets are holes */
	odp_sys(SYS_mprotect, stage, p->len, p->prot);
	odp_sys_mremap((uint64_t)stage, p->len, MREMAP_MAYMOVE | MREMAP_FIXED, p->addr);
	uffd_wake_all(m->conv_uffd, p->addr, p->len);
out_release_stage:
	stage_release(stage, p->len);
	return ret;
}

/* Map the windows on the pool beforehand: that part takes locks. */
static int windows_map(struct odp_mem *m, uint64_t off, uint64_t len)
{
	for (uint64_t at = off & ~ODP_WINDOW_MASK; at < off + len; at += ODP_WINDOW_MASK + 1)
		if (!odp_pool_ptr(m->proc->self, at, 1))
			return -ENOMEM;
	return 0;
}

static bool regions_cover(struct odp_mem *m, uint64_t start, uint64_t end)
{
	bool found;

	odp_mem_lock(m);
	found = odp_itree_first(&m->regions, start, end - 1);
	odp_mem_unlock(m);
	return found;
}

/*
 * Another region's transfers may be under way in the old pages, by system calls
 * that have looked the page up already: what they write after it was copied would
 * be lost. With the gate shut none begins (run_enter() in copy.c), and those that
 * have begun are waited for.
 */
static int piece_move_alone(struct odp_mem *m, const struct piece *p)
{
	bool covered = regions_cover(m, p->addr, p->addr + p->len);
	int ret;

	if (covered) {
		odp_freeze(m->proc);
		odp_fence(m->proc, true);
	}
	ret = piece_move(m, p);
	if (covered)
		odp_thaw(m->proc);
	return ret;
}

static int pieces_move(struct odp_mem *m, struct piece *p, uint64_t end)
{
	sigset_t old, all;
	int ret = 0;

	sigfillset(&all);
	for (; p->addr < end && !ret; p->addr += p->len, p->off += p->len) {
		p->len = odp_min(end - p->addr, PIECE);
		ret = windows_map(m, p->off, p->len);
		if (ret)
			break;
		odp_sys6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8, 0, 0);
		ret = piece_move_alone(m, p);
		odp_sys6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, 8, 0, 0);
	}
	return ret;
}

int odp_convert(struct odp_mem *m, uint64_t start, uint64_t end, uint32_t prot)
{
	struct piece p = {.addr = start, .prot = prot, .no_dump = odp_dump_left_out(start)};
	int ret = odp_umem_reserve(m, 2);

	if (ret)
		return ret;
	p.ext = odp_extent_create(m, end - start, true);
	if (!p.ext)
		return -ENOMEM;
	odp_mem_lock(m);
	odp_extent_hold(p.ext); /* until all pieces have theirs */
	odp_mem_unlock(m);
	p.off = p.ext->it.start;
	ret = pieces_move(m, &p, end);
	odp_mem_lock(m);
	odp_extent_drop(m, p.ext, true);
	odp_mem_unlock(m);
	if (ret)
		odp_log(ODP_LOG_DEBUG, "%#lx-%#lx cannot move to the pool: %s", (long)start,
			(long)end, strerrordesc_np(-ret));
	return ret;
}
