/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Moves a range of private anonymous memory to the pool while the program runs.
 *
 * From the moment the old pages are taken away until the pool is mapped in their
 * place, any thread that touches the range waits in a userfaultfd that nobody
 * reads. The thread that does the moving therefore touches only its own stack,
 * libodp's own memory and the pool, makes only system calls, and takes no signal:
 * the heap, the dynamic linker's tables and a handler's data may all be away.
 *
 * More than what is being registered may move (place.c), so other threads may unmap
 * parts meanwhile, as is their right, and map something else there. What lies at the
 * addresses is therefore looked at before anything is done to it. The kernel has no call
 * that looks and acts: what is mapped there in the microsecond between is replaced.
 */
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base.h"
#include "domain.h"
#include "peer.h"
#include "pool.h"

#define PIECE ((uint64_t)16 << 20) /* others wait while so much is copied */
#define PAGEMAP_CHUNK 512u

struct piece {
	uint64_t addr, len, off;
	uint64_t stage; /* where its old pages are */
	uint32_t prot;
	uint32_t said;   /* by the program, of the memory */
	bool unrecorded; /* some of it is mapped, and there is no record of it */
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

/* Nobody is to wait there for a page, whatever the range consists of by now. */
static void conv_release(struct odp_mem *m, const struct piece *p)
{
	struct uffdio_range range = {p->addr, p->len};
	uint64_t at = p->addr, end = p->addr + p->len;
	struct odp_vma vma;

	if (!odp_sys_ioctl(m->conv_uffd, UFFDIO_UNREGISTER, &range))
		return;
	for (; at < end && odp_vma_next(m, at, end, &vma); at = vma.end)
		uffd_unregister(m->conv_uffd, odp_max(at, vma.start),
				odp_min(end, vma.end) - odp_max(at, vma.start));
	uffd_wake_all(m->conv_uffd, p->addr, p->len);
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

			for (b = a; b < n && (map[b] & ODP_PAGEMAP_THERE); b++)
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

/* What was there before is mapped again, so that the program takes no faults for
 * pages that it had. */
static void pages_map(struct odp_mem *m, const struct piece *p)
{
	uint64_t off = p->off, end = p->off + p->len, next;

	if (!(p->prot & (PROT_READ | PROT_WRITE)))
		return;
	for (; off < end; off = next)
		if (odp_pool_run(m, off, end, &next))
			odp_uffd_map(m->uffd, p->addr + (off - p->off), next - off);
}

/* Up to where from AT the pool is mapped as P says; 0: it is not (mem_lock). */
static uint64_t part_end(struct odp_mem *m, const struct piece *p, uint64_t at)
{
	struct odp_vma vma;

	if (!odp_umem_look(m, at, &vma) || vma.off + (at - vma.start) != p->off + (at - p->addr))
		return 0;
	return odp_min(vma.end, p->addr + p->len);
}

/* Watch [at, end) and record it; -ENOENT: it has changed (mem_lock). */
static int part_publish(struct odp_mem *m, const struct piece *p, uint64_t at, uint64_t end)
{
	int ret = odp_uffd_watch(m, at, end - at);

	/* From here on an event tells when it goes, and is acted on after this. */
	if (part_end(m, p, at) < end) {
		uffd_unregister(m->uffd, at, end - at);
		return -ENOENT;
	}
	if (ret)
		return ret;
	odp_sys_madvise(at, end - at, MADV_DONTFORK);
	odp_said_again(at, end - at, p->said, false);
	odp_said_nodes(p->stage, at, end - at);
	ret = odp_umem_add(m, at, end - at, p->off + (at - p->addr), p->ext, p->prot);
	if (!ret)
		odp_umem_find(m, at)->said = p->said;
	return ret;
}

/* The pool is mapped, nothing watches it yet: touches see true content or make
 * true zero pages. What is still there is watched and recorded; of the rest, nothing
 * stays. */
static int piece_publish(struct odp_mem *m, const struct piece *p)
{
	uint64_t at = p->addr, end;
	int ret = 0;

	odp_uffd_settle(m);
	odp_mem_lock(m);
	while (at < p->addr + p->len && (!ret || ret == -ENOENT)) {
		end = part_end(m, p, at);
		ret = end ? part_publish(m, p, at, end) : 0;
		if (!end)
			odp_pool_punch(m, p->off + (at - p->addr), ODP_PAGE_SIZE);
		if (!ret)
			at = end ? end : at + ODP_PAGE_SIZE;
	}
	odp_mem_unlock(m);
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
	conv_release(m, p);
	return (int)at;
}

/* What has been taken may be other than it was when P was made; to be read, in any
 * case: PROT_NONE memory has content too. */
static int stage_ready(struct odp_mem *m, struct piece *p, uint64_t stage)
{
	struct odp_vma vma;

	if (!odp_vma_next(m, stage, stage + 1, &vma))
		return -ENOENT;
	p->prot = vma.prot;
	if (vma.kind != ODP_VMA_ANON)
		return -ENOENT;
	return vma.prot & PROT_READ ? 0 : (int)odp_sys(SYS_mprotect, stage, p->len, PROT_READ);
}

/* Are the addresses still what pages_take() left: one mapping, registered, so that
 * the kernel joins it to no other? */
static bool place_kept(struct odp_mem *m, const struct piece *p)
{
	struct odp_vma vma;

	return odp_vma_next(m, p->addr, p->addr + 1, &vma) && vma.kind == ODP_VMA_ANON &&
	       vma.prot == p->prot && vma.start == p->addr && vma.end == p->addr + p->len;
}

/* Into what is left of the old mapping, which alone is registered. */
static void pages_return(struct odp_mem *m, const struct piece *p, uint64_t stage)
{
	uint64_t entry;

	for (uint64_t pos = 0; pos < p->len; pos += ODP_PAGE_SIZE) {
		struct uffdio_copy copy = {
			.dst = p->addr + pos, .src = stage + pos, .len = ODP_PAGE_SIZE};

		if (odp_sys_pread(m->pagemap_fd, &entry, sizeof(entry),
				  ((stage + pos) >> ODP_PAGE_SHIFT) * sizeof(entry)) ==
			    sizeof(entry) &&
		    (entry & ODP_PAGEMAP_THERE))
			odp_sys_ioctl(m->conv_uffd, UFFDIO_COPY, &copy);
	}
	conv_release(m, p);
}

static int piece_move(struct odp_mem *m, struct piece *p)
{
	long stage = stage_reserve(p->len), at;
	int ret;

	if (is_err(stage))
		return (int)stage;
	ret = pages_take(m, p, stage);
	if (ret)
		goto out_release_stage;
	p->stage = (uint64_t)stage;
	if (p->said & ODP_SAID_LOCKED) /* or it would count twice */
		odp_sys(SYS_munlock, stage, p->len, 0);
	ret = stage_ready(m, p, (uint64_t)stage);
	if (!ret)
		ret = pages_copy(m, (uint64_t)stage, p);
	if (ret)
		goto err_punch;
	if (!place_kept(m, p)) {
		ret = -ENOENT;
		goto err_punch;
	}
	at = odp_sys_mmap(p->addr, p->len, (int)p->prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
			  m->pool_fd, p->off);
	if (at != (long)p->addr) {
		ret = (int)at;
		goto err_punch;
	}
	ret = piece_publish(m, p);
	p->unrecorded |= ret && ret != -ENOENT;
	pages_map(m, p);
	uffd_wake_all(m->conv_uffd, p->addr, p->len);
	goto out_release_stage;

err_punch:
	odp_pool_punch(m, p->off, p->len); /* unused offsets are holes */
	if (place_kept(m, p)) {
		odp_sys(SYS_mprotect, stage, p->len, p->prot);
		odp_sys_mremap((uint64_t)stage, p->len, MREMAP_MAYMOVE | MREMAP_FIXED, p->addr);
		uffd_wake_all(m->conv_uffd, p->addr, p->len);
	} else {
		pages_return(m, p, (uint64_t)stage);
	}
out_release_stage:
	stage_release(stage, p->len);
	return ret;
}

int odp_pool_windows(struct odp_mem *m, uint64_t off, uint64_t len)
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
 * have begun are waited for. If one stays inside, its process is stopped, and the pages
 * stay where they are.
 */
static int piece_move_alone(struct odp_mem *m, struct piece *p)
{
	bool covered = regions_cover(m, p->addr, p->addr + p->len);
	int ret;

	if (!covered)
		return piece_move(m, p);
	odp_freeze(m->proc);
	ret = odp_fence(m->proc, true) ? piece_move(m, p) : -EBUSY;
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
		ret = odp_pool_windows(m, p->off, p->len);
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
	struct piece p = {.addr = start, .prot = prot, .said = odp_said(start)};
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
	/* Mapped without a record: nobody will tell when the program unmaps it, so the
	 * offsets are nobody else's, ever. */
	if (!p.unrecorded) {
		odp_mem_lock(m);
		odp_extent_drop(m, p.ext, true);
		odp_mem_unlock(m);
	}
	if (ret)
		odp_log(ODP_LOG_DEBUG, "%#lx-%#lx cannot move to the pool: %s", (long)start,
			(long)end, strerrordesc_np(-ret));
	return ret;
}
