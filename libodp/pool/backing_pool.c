/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The pool: a sparse memfd of page frames. Offsets are plenty, memory is only
 * what was touched; a hole reads as zeros and becomes a page on first touch.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "base.h"
#include "domain.h"
#include "peer.h"
#include "pool.h"

#define MIB ((uint64_t)1 << 20)
#define GUARD_MAX ((uint64_t)32 << 30)
#define RUN_PAGES 1024u

/* Free offsets for LEN bytes, or ODP_POOL_SIZE; next fit. */
static uint64_t offsets_find(struct odp_mem *m, uint64_t len)
{
	uint64_t at = m->pool_next;
	bool wrapped = false;

	for (;;) {
		struct odp_inode *busy;

		if (at + len > ODP_POOL_SIZE) {
			if (wrapped)
				return ODP_POOL_SIZE;
			wrapped = true;
			at = 0;
			continue;
		}
		busy = odp_itree_first(&m->extents, at, at + len - 1);
		if (!busy)
			return at;
		at = busy->last + 1;
	}
}

/*
 * Offsets for LEN bytes and a guard. A program that grows the mapping with
 * mremap maps the offsets that follow: the guard keeps them nobody's. realloc()
 * grows large blocks that way, so it is many times the size while that is cheap.
 */
static uint64_t extent_place(struct odp_mem *m, uint64_t len, bool guarded, uint64_t *total)
{
	*total = len;
	if (!guarded)
		return offsets_find(m, len);
	for (uint64_t times = 16;; times /= 4) {
		uint64_t guard = times ? odp_min(odp_max(len * times, MIB), GUARD_MAX) : MIB;
		uint64_t at;

		guard = odp_max(guard, odp_min(len, GUARD_MAX));
		*total = len + guard;
		at = offsets_find(m, *total);
		if (at != ODP_POOL_SIZE || !times)
			return at;
	}
}

bool odp_extent_enter(struct odp_mem *m, struct odp_extent *ext, uint64_t len, bool guarded)
{
	uint64_t at = ODP_POOL_SIZE, total;

	if (len < ODP_POOL_SIZE / 2)
		at = extent_place(m, len, guarded, &total);
	if (at == ODP_POOL_SIZE)
		return false;
	ext->guarded = guarded;
	ext->it.start = at;
	ext->it.last = at + total - 1;
	odp_itree_insert(&m->extents, &ext->it);
	m->pool_next = at + total;
	return true;
}

struct odp_extent *odp_extent_create(struct odp_mem *m, uint64_t len, bool guarded)
{
	struct odp_extent *ext = odp_priv_alloc(sizeof(*ext));
	bool ok;

	if (!ext)
		return NULL;
	odp_mem_lock(m);
	ok = odp_extent_enter(m, ext, len, guarded);
	odp_mem_unlock(m);
	if (ok)
		return ext;
	odp_priv_free(ext, sizeof(*ext));
	return NULL;
}

void odp_extent_hold(struct odp_extent *ext)
{
	ext->live++;
}

void odp_extent_drop(struct odp_mem *m, struct odp_extent *ext, bool fenced)
{
	/* 0: dead already, and in the list, which it must not enter twice. */
	if (!ext->live || --ext->live)
		return;
	ext->fenced = fenced;
	ext->suspect |= !fenced;
	ext->next = m->dead;
	m->dead = ext;
}

struct odp_extent *odp_extent_find(struct odp_mem *m, uint64_t off)
{
	return (struct odp_extent *)odp_itree_first(&m->extents, off, off);
}

void odp_frames_get(struct odp_mem *m, struct odp_extent *ext, uint64_t off, uint64_t n)
{
	uint32_t *ref = &m->refs[off >> ODP_PAGE_SHIFT];

	for (uint64_t i = 0; i < n; i++)
		if (!ref[i]++)
			ext->live++;
}

void odp_pool_punch(struct odp_mem *m, uint64_t off, uint64_t len)
{
	odp_sys6(SYS_fallocate, m->pool_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (long)off,
		 (long)len, 0, 0);
}

/*
 * Frames without a count give their memory back at once: their offsets are not
 * used again before the extent is dead and fenced, so a stopped peer that still
 * writes to one harms nobody.
 */
void odp_frames_put(struct odp_mem *m, uint64_t off, uint64_t n, bool fenced)
{
	struct odp_extent *ext = odp_extent_find(m, off);
	uint32_t *ref = &m->refs[off >> ODP_PAGE_SHIFT];
	uint64_t run = 0, i;

	/* Dead: no frame of it has a count; what is asked for is a peer's invention, or
	 * has been done. */
	if (!ext || !ext->live)
		return;
	odp_extent_hold(ext);
	ext->suspect |= !fenced;
	for (i = 0; i < n; i++) {
		/* 0: an entry that a peer has written to named it. */
		if (ref[i] && --ref[i] == 0) {
			ext->live--;
			run++;
		} else if (run) {
			odp_pool_punch(m, off + ((i - run) << ODP_PAGE_SHIFT),
				       run << ODP_PAGE_SHIFT);
			run = 0;
		}
	}
	if (run)
		odp_pool_punch(m, off + ((i - run) << ODP_PAGE_SHIFT), run << ODP_PAGE_SHIFT);
	odp_extent_drop(m, ext, fenced);
}

static int touch_pages(char *p, uint64_t len)
{
	/* A write fault, and no change to what is there: kernels before 5.14. */
	for (uint64_t i = 0; i < len; i += ODP_PAGE_SIZE)
		__atomic_fetch_or(&p[i], 0, __ATOMIC_RELAXED);
	return 0;
}

int odp_pool_populate(struct odp_peer *peer, uint64_t off, uint64_t len)
{
	while (len) {
		uint64_t n = odp_min(len, ODP_WINDOW_MASK + 1 - (off & ODP_WINDOW_MASK));
		char *p = odp_pool_ptr(peer, off, n);
		long ret;

		if (!p)
			return -ENOMEM;
		ret = odp_sys_madvise((uintptr_t)p, n, MADV_POPULATE_WRITE);
		if (ret == -EINVAL)
			ret = touch_pages(p, n);
		if (ret)
			return (int)ret;
		off += n;
		len -= n;
	}
	return 0;
}

/* Pages from OFF on that are in memory, at least one, at most LIMIT. Not by
 * SEEK_HOLE, which would look through all data up to the next hole. */
static uint64_t data_run(struct odp_mem *m, uint64_t off, uint64_t limit)
{
	unsigned char there[RUN_PAGES];
	uint64_t len = odp_min(limit - off, ODP_WINDOW_MASK + 1 - (off & ODP_WINDOW_MASK));
	uint64_t n = odp_min(len >> ODP_PAGE_SHIFT, RUN_PAGES), i;
	void *p = odp_pool_ptr(m->proc->self, off, n << ODP_PAGE_SHIFT);

	if (!p || odp_sys(SYS_mincore, p, n << ODP_PAGE_SHIFT, there))
		return off + ODP_PAGE_SIZE;
	for (i = 1; i < n && (there[i] & 1); i++)
		;
	return off + (i << ODP_PAGE_SHIFT);
}

bool odp_pool_run(struct odp_mem *m, uint64_t off, uint64_t limit, uint64_t *end)
{
	long data = odp_sys_lseek(m->pool_fd, off, SEEK_DATA);

	if (data < 0 || (uint64_t)data > off) {
		*end = data < 0 ? limit : odp_min((uint64_t)data, limit);
		return false;
	}
	*end = data_run(m, off, limit);
	return true;
}

/* Take what may be freed off the list. */
static struct odp_extent *dead_take(struct odp_mem *m)
{
	struct odp_extent *take = NULL, **p = &m->dead, *ext;

	while ((ext = *p)) {
		if (!ext->fenced) {
			p = &ext->next;
			continue;
		}
		*p = ext->next;
		odp_itree_remove(&m->extents, &ext->it);
		/* All frames were punched when their count fell to zero; but a process
		 * that was inside a lane then may have written to one since. */
		if (ext->suspect)
			odp_pool_punch(m, ext->it.start, ext->it.last + 1 - ext->it.start);
		ext->next = take;
		take = ext;
	}
	return take;
}

/* With the gate shut since before the fence, no lane holds a frame of any extent
 * that is dead by now. */
static void dead_fence(struct odp_mem *m)
{
	odp_freeze(m->proc);
	if (odp_fence(m->proc, false)) {
		odp_mem_lock(m);
		for (struct odp_extent *ext = m->dead; ext; ext = ext->next)
			ext->fenced = true;
		odp_mem_unlock(m);
	}
	odp_thaw(m->proc);
}

void odp_pool_reap(struct odp_mem *m)
{
	struct odp_extent *ext, *next;
	bool unfenced = false;

	odp_mem_lock(m);
	for (ext = m->dead; ext; ext = ext->next)
		unfenced |= !ext->fenced;
	odp_mem_unlock(m);
	if (unfenced)
		dead_fence(m);
	odp_mem_lock(m);
	ext = dead_take(m);
	odp_mem_unlock(m);
	for (; ext; ext = next) {
		next = ext->next;
		odp_priv_free(ext, sizeof(*ext));
	}
}
