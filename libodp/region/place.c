/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Decides where a new region's memory lives, and takes it there. conv_lock is
 * held throughout, so no other registration changes the mappings meanwhile; that
 * the program does so itself is its own race.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "backing.h"
#include "base.h"
#include "domain.h"
#include "pool.h"
#include "region.h"

/* What a range consists of. */
struct survey {
	bool hole;     /* nothing mapped */
	bool noaccess; /* PROT_NONE */
	bool nowrite;
	bool fixed;  /* something that cannot be in the pool */
	bool pool;   /* something that can, or is */
	bool moved;  /* all of it is in the pool already */
	bool shadow; /* a watched file, shared: reached through a second mapping */
	bool other;  /* something fixed that is not */
	const struct odp_region *r;
};

struct range {
	uint64_t start, end;
};

#define STACK_BELOW ((uint64_t)64 << 10)
#define STACK_ABOVE ((uint64_t)256 << 10)
#define STACK_MAX ((uint64_t)64 << 20)
#define TLS_BELOW ((uint64_t)128 << 10) /* where the C library does not tell */
#define TLS_ABOVE ((uint64_t)8 << 10)

static uint64_t tls_below = TLS_BELOW;

/* The size of a thread's static TLS, from the dynamic linker's interface for tools:
 * memory that the program maps right below it is not to be taken for ours. */
__attribute__((constructor)) static void tls_size_get(void)
{
	void (*get)(size_t * size, size_t * align) =
		(void (*)(size_t *, size_t *))dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info");
	/* The interface for debuggers tells how much of it is the thread's block, which is
	 * above. */
	const uint32_t *block = dlsym(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
	size_t size = 0, align = 0;

	if (get)
		get(&size, &align);
	if (block && *block < size)
		size -= *block;
	if (size && size < TLS_BELOW)
		tls_below = size;
}

/*
 * Pages that the moving thread itself needs: its stack with, in threads other
 * than the first, the thread's block of libc above it; and its TLS; and our own
 * variables.
 */
static void own_pages(struct range out[3])
{
	uint64_t sp = (uintptr_t)__builtin_frame_address(0), tls = (uintptr_t)pthread_self();
	bool joined = tls > sp && tls - sp < STACK_MAX;

	out[0].start = odp_page_down(sp - STACK_BELOW);
	out[0].end = odp_page_up(joined ? tls + TLS_ABOVE : sp + STACK_ABOVE);
	out[1].start = odp_page_down(tls - tls_below);
	out[1].end = odp_page_up(tls + TLS_ABOVE);
	out[2].start = odp_page_down((uintptr_t)&odp_self);
	out[2].end = out[2].start + ODP_PAGE_SIZE;
}

/* The first part of R, from its start, that is wholly own pages or wholly not. */
static bool own_split(struct range *r)
{
	struct range own[3];
	bool inside = false;

	own_pages(own);
	for (int i = 0; i < 3; i++) {
		if (r->start >= own[i].start && r->start < own[i].end) {
			r->end = odp_min(r->end, own[i].end);
			inside = true;
		} else if (own[i].start > r->start) {
			r->end = odp_min(r->end, own[i].start);
		}
	}
	return inside;
}

/* Pages under a registered buffer must stay what that buffer holds. */
static bool pin_overlaps(struct odp_mem *m, uint64_t start, uint64_t end)
{
	struct odp_inode *n;
	bool found = false;

	odp_mem_lock(m);
	for (n = odp_itree_first(&m->regions, start, end - 1); n && !found;
	     n = odp_itree_next(&m->regions, n, start, end - 1))
		found = odp_mr_pinned(((struct odp_region *)n)->mr);
	odp_mem_unlock(m);
	return found;
}

/* Records of addresses that the pool has left without an event. */
static void stale_drop(struct odp_mem *m, uint64_t start, uint64_t end)
{
	bool stale, fenced;

	odp_mem_lock(m);
	stale = odp_umem_first(m, start, end);
	odp_mem_unlock(m);
	if (!stale)
		return;
	odp_freeze(m->proc);
	fenced = odp_fence(m->proc, false);
	odp_mem_lock(m);
	odp_inv_unmap(m, start, end, fenced);
	odp_mem_unlock(m);
	odp_thaw(m->proc);
}

/* Parts of the pool that the program mapped itself, growing a mapping. */
static bool grown_adopt(struct odp_mem *m, uint64_t start, uint64_t end)
{
	bool ok = true;

	odp_mem_lock(m);
	for (uint64_t at = start; at < end && ok; at += ODP_PAGE_SIZE) {
		struct odp_umem *um = odp_umem_find(m, at);

		if (!um)
			um = odp_umem_extend(m, at);
		if (!um) { /* grow.c does it, by way of a fault */
			odp_mem_unlock(m);
			odp_sys_madvise(at, ODP_PAGE_SIZE, MADV_POPULATE_READ);
			odp_mem_lock(m);
			um = odp_umem_find(m, at);
		}
		if (um)
			at = um->it.last + 1 - ODP_PAGE_SIZE;
		else
			ok = false;
	}
	odp_mem_unlock(m);
	return ok;
}

static void survey_prot(struct survey *s, uint32_t prot)
{
	s->noaccess |= !(prot & (PROT_READ | PROT_WRITE));
	s->nowrite |= !(prot & PROT_WRITE);
}

/* May [start, end) of VMA be in the pool? In *END how far the answer holds. */
static bool vma_poolable(struct odp_mem *m, const struct odp_vma *vma, uint64_t start,
			 uint64_t *end)
{
	struct range r = {start, *end};

	if (m->uffd < 0 || vma->kind == ODP_VMA_OTHER)
		return false;
	if (vma->kind == ODP_VMA_POOL)
		return grown_adopt(m, start, *end);
	if (own_split(&r)) {
		*end = r.end;
		return false;
	}
	*end = r.end;
	return !pin_overlaps(m, r.start, r.end);
}

typedef int (*part_fn)(struct odp_mem *m, const struct odp_vma *vma, uint64_t start, uint64_t end,
		       bool poolable, struct survey *s);

/* Call FN for each part of [start, end) that is mapped and of one kind. */
static int parts_walk(struct odp_mem *m, uint64_t start, uint64_t end, part_fn fn, struct survey *s)
{
	uint64_t at = start, part;
	struct odp_vma vma;
	int ret = 0;

	while (at < end && !ret) {
		if (!odp_vma_next(m, at, end, &vma)) {
			s->hole = true;
			break;
		}
		if (vma.start > at) {
			s->hole = true;
			at = vma.start;
		}
		part = odp_min(vma.end, end);
		bool poolable = vma_poolable(m, &vma, at, &part);

		ret = fn(m, &vma, at, part, poolable, s);
		at = part;
	}
	return ret;
}

static int part_survey(struct odp_mem *m, const struct odp_vma *vma, uint64_t start, uint64_t end,
		       bool poolable, struct survey *s)
{
	const struct odp_part *part = odp_part_find(s->r, start);

	survey_prot(s, vma->prot);
	if (poolable)
		s->pool = true;
	else
		s->fixed = true;
	if (part && part->shared)
		s->shadow = true;
	else if (!poolable)
		s->other = true;
	if (vma->kind != ODP_VMA_POOL)
		stale_drop(m, start, end);
	return 0;
}

/*
 * Each piece of a mapping that moves alone is a mapping more, and the kernel allows
 * a process some 65,530. So a program with thousands of small regions has the
 * neighbourhood moved too.
 */
static uint64_t block_size(struct odp_mem *m)
{
	unsigned n;

	odp_mem_lock(m);
	n = m->numems;
	odp_mem_unlock(m);
	if (n < 1024)
		return ODP_PAGE_SIZE;
	if (n < 4096)
		return (uint64_t)256 << 10;
	return n < 16384 ? (uint64_t)2 << 20 : (uint64_t)64 << 20;
}

static bool block_convert(struct odp_mem *m, const struct odp_vma *vma, uint64_t start,
			  uint64_t end)
{
	uint64_t size = block_size(m);
	struct range r = {odp_max(vma->start, start & ~(size - 1)),
			  odp_min(vma->end, (end + size - 1) & ~(size - 1))};
	uint64_t limit = r.end;

	if ((r.start == start && r.end == end) || own_split(&r) || r.end != limit ||
	    pin_overlaps(m, r.start, r.end))
		return false;
	return !odp_convert(m, r.start, r.end, vma->prot);
}

static int part_convert(struct odp_mem *m, const struct odp_vma *vma, uint64_t start, uint64_t end,
			bool poolable, struct survey *s)
{
	int ret = 0;

	if (poolable && vma->kind == ODP_VMA_ANON && !block_convert(m, vma, start, end))
		ret = odp_convert(m, start, end, vma->prot);
	if (ret)
		s->fixed = s->other = true;
	if (ret == -EBUSY) {
		atomic_fetch_or_explicit(&s->r->mr->flags, ODP_MR_FOREIGN, memory_order_relaxed);
		odp_foreign_start(m);
	}
	return 0;
}

/* Wholly in the pool already: nothing to look up. */
static bool survey_records(struct odp_mem *m, uint64_t start, uint64_t end, struct survey *s)
{
	bool covered;

	odp_mem_lock(m);
	covered = odp_umem_covers(m, start, end);
	for (uint64_t at = start; covered && at < end;) {
		struct odp_umem *um = odp_umem_find(m, at);

		survey_prot(s, um->prot);
		at = um->it.last + 1;
	}
	odp_mem_unlock(m);
	s->pool = s->moved = covered;
	return covered;
}

/* ---- pinned memory is there at once, whichever way ---- */

/* Unmapped by another thread meanwhile, frames are nobody's, and must be holes. */
static void pool_unresolve(struct odp_mem *m, uint64_t off, uint64_t end)
{
	odp_mem_lock(m);
	for (; off < end; off += ODP_PAGE_SIZE)
		if (!m->refs[off >> ODP_PAGE_SHIFT])
			odp_pool_punch(m, off, ODP_PAGE_SIZE);
	odp_mem_unlock(m);
}

/* Frames for the holes of [start, end), which the pool holds. */
static int pool_resolve(struct odp_mem *m, uint64_t start, uint64_t end)
{
	for (uint64_t at = start; at < end;) {
		uint64_t off, limit, next;
		struct odp_umem *um;
		int ret = 0;

		odp_mem_lock(m);
		um = odp_umem_first(m, at, end);
		if (um) {
			at = odp_max(at, um->it.start);
			off = um->off + (at - um->it.start);
			limit = off + (odp_min(um->it.last + 1, end) - at);
		}
		odp_mem_unlock(m);
		if (!um)
			break;
		for (; off < limit && !ret; at += next - off, off = next)
			if (!odp_pool_run(m, off, limit, &next)) {
				ret = odp_pool_populate(m->proc->self, off, next - off);
				odp_uffd_map(m->uffd, at, next - off);
				pool_unresolve(m, off, next);
			}
		if (ret)
			return -ENOMEM;
	}
	return 0;
}

static int pages_resolve(const struct odp_region *r, bool write)
{
	long ret = odp_sys_madvise(r->it.start, r->npages << ODP_PAGE_SHIFT,
				   write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);

	if (ret == -EINVAL || !ret) /* or a kernel before 5.14 */
		return 0;
	return ret == -ENOMEM ? -ENOMEM : -EFAULT;
}

static int spares_get(struct odp_region *r)
{
	const uint64_t len = r->npages << ODP_PAGE_SHIFT;

	/* Those for files that go away serve both. */
	if (!r->spares) {
		r->spares = odp_extent_create(r->mem, len, false);
		if (!r->spares)
			return -ENOMEM;
		odp_mem_lock(r->mem);
		odp_extent_hold(r->spares);
		odp_mem_unlock(r->mem);
	}
	/* What may have to be copied there later must not fail. */
	return odp_pool_windows(r->mem, r->spares->it.start, len);
}

/*
 * Private pages that are still the file's become the mapping's own, as with any
 * long-term pin (mm/gup.c, gup_must_unshare()). Those that the program may write do
 * not stay: a pipe's hold does not keep the kernel from giving it a copy, of a page of
 * zeros or after a fork.
 */
static int part_unshare(struct odp_mem *m, const struct odp_vma *vma, uint64_t start, uint64_t end,
			bool poolable, struct survey *s)
{
	long ret;

	(void)m, (void)poolable, (void)s;
	if (vma->shared)
		return 0;
	if (vma->prot & PROT_WRITE)
		return -EOPNOTSUPP;
	if (odp_sys(SYS_mprotect, start, end - start, vma->prot | PROT_WRITE))
		return -EOPNOTSUPP; /* nothing has changed */
	odp_sys_madvise(start, end - start, MADV_POPULATE_WRITE);
	ret = odp_sys(SYS_mprotect, start, end - start, vma->prot);
	if (!ret)
		return 0;
	odp_log(ODP_LOG_ERR, "%#lx-%#lx, which the program may only read, stays writable: %s",
		(long)start, (long)end, strerrordesc_np((int)-ret));
	return (int)ret;
}

/* For reading alone, where a pin for writing is refused. MOVE: memory that can be in
 * the pool may move there, where its pages stay. */
static int pin_to_read(struct odp_region *r, struct survey *s, bool move)
{
	uint64_t start = r->it.start, end = r->it.last + 1;
	int ret;

	if (move)
		parts_walk(r->mem, start, end, part_convert, s);
	ret = pool_resolve(r->mem, start, end);
	if (!ret)
		ret = parts_walk(r->mem, start, end, part_unshare, s);
	return ret ? ret : odp_pipe_register(r);
}

static int place_pin(struct odp_region *r, bool write, struct survey *s, enum odp_backing *backing)
{
	static _Atomic bool warned;
	enum odp_backing wish = *backing;
	int ret = pages_resolve(r, write);

	if (ret)
		return ret;
	*backing = ODP_BACKING_PIN;
	ret = odp_pin_usable(r->mem) ? odp_pin_register(r) : -EOPNOTSUPP;
	if (!ret || ret == -ENOMEM)
		return ret;
	if (write && ret != -EOPNOTSUPP)
		return -EFAULT;
	if (!write)
		ret = pin_to_read(r, s, wish == ODP_BACKING_AUTO);
	if (!ret)
		return ret;
	if (wish == ODP_BACKING_PIN)
		return -EOPNOTSUPP;
	if (!atomic_exchange(&warned, true))
		odp_log(ODP_LOG_WARN,
			"memory outside the pool cannot be pinned here (%s): it follows its "
			"mapping%s",
			strerrordesc_np(-ret),
			ret == -EOPNOTSUPP ? ""
					   : "; see RLIMIT_NOFILE and fs.pipe-user-pages-soft");
	odp_log(ODP_LOG_DEBUG, "%#lx: not pinned (%s)", (long)r->it.start, strerrordesc_np(-ret));
	*backing = ODP_BACKING_VA;
	return spares_get(r);
}

/* Over a file whose blocks may be taken back, which the kernel would not pin: its
 * pages are reached through a mapping that the program does not know of. */
static int place_shadow(struct odp_region *r, bool write, struct survey *s,
			enum odp_backing *backing)
{
	struct odp_mem *m = r->mem;
	int ret;

	if (*backing == ODP_BACKING_POOL || *backing == ODP_BACKING_PIN)
		return -EOPNOTSUPP;
	if (s->pool && !s->moved)
		parts_walk(m, r->it.start, r->it.last + 1, part_convert, s);
	if (s->other) {
		odp_log(ODP_LOG_WARN,
			"%#lx: a watched file and memory of another kind under one pinned region: "
			"register them apart",
			(long)r->it.start);
		return -EOPNOTSUPP;
	}
	ret = pool_resolve(m, r->it.start, r->it.last + 1);
	if (!ret)
		ret = pages_resolve(r, write);
	if (!ret)
		ret = odp_shadow_map(r);
	if (!ret)
		ret = spares_get(r);
	*backing = ODP_BACKING_VA;
	return ret;
}

static int place_pinned(struct odp_region *r, bool write, struct survey *s,
			enum odp_backing *backing)
{
	struct odp_mem *m = r->mem;
	int ret;

	if (s->hole || s->noaccess || (write && s->nowrite))
		return -EFAULT;
	if (s->shadow)
		return place_shadow(r, write, s, backing);
	if (*backing == ODP_BACKING_AUTO || *backing == ODP_BACKING_POOL) {
		if (!s->fixed && !s->moved)
			parts_walk(m, r->it.start, r->it.last + 1, part_convert, s);
		if (!s->fixed) {
			*backing = ODP_BACKING_POOL;
			ret = pool_resolve(m, r->it.start, r->it.last + 1);
			return ret ? ret : spares_get(r);
		}
		if (*backing == ODP_BACKING_POOL)
			return -EOPNOTSUPP;
	}
	return place_pin(r, write, s, backing);
}

/* Is any of it in the pool now? */
static bool pool_holds(const struct odp_region *r)
{
	bool any;

	odp_mem_lock(r->mem);
	any = odp_umem_first(r->mem, r->it.start, r->it.last + 1);
	odp_mem_unlock(r->mem);
	return any;
}

static int place_on_demand(struct odp_region *r, struct survey *s, enum odp_backing *backing)
{
	if (*backing == ODP_BACKING_POOL && (s->fixed || s->hole))
		return -EOPNOTSUPP;
	if (*backing != ODP_BACKING_VA && s->pool && !s->moved)
		parts_walk(r->mem, r->it.start, r->it.last + 1, part_convert, s);
	if (*backing == ODP_BACKING_POOL && s->fixed)
		return -EOPNOTSUPP;
	if (*backing == ODP_BACKING_AUTO)
		*backing = pool_holds(r) ? ODP_BACKING_POOL : ODP_BACKING_VA;
	return 0;
}

int odp_place(struct odp_region *r, bool write, enum odp_backing *backing)
{
	struct odp_mem *m = r->mem;
	struct survey s = {.r = r};

	if (*backing == ODP_BACKING_AUTO)
		*backing = m->backing;
	/* The records may still tell of what was unmapped before this call. */
	odp_uffd_settle(m);
	if (odp_proc_lost(m->proc))
		return -EIO;
	if (!survey_records(m, r->it.start, r->it.last + 1, &s))
		parts_walk(m, r->it.start, r->it.last + 1, part_survey, &s);
	if (r->kind == ODP_PINNED)
		return place_pinned(r, write, &s, backing);
	return place_on_demand(r, &s, backing);
}
