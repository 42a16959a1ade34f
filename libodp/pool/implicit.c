/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Implicit regions: all of the address space. Their entries are in a sparse
 * table of two levels in the owner's arena, so that a region costs nothing until
 * it is used: a directory of leaf numbers, and leaves of a page each that whoever
 * faults first takes one after the other. A new leaf says that all its pages are
 * in the owner's address space; entries of pages that the pool holds are made by
 * the owner when it adopts them.
 */
#include "pool.h"

#define LEAF_SHIFT 9 /* entries a leaf: a page of them */
#define LEAF_ENTRIES (1u << LEAF_SHIFT)
#define DIR_ENTRIES (ODP_IMPLICIT_PAGES >> LEAF_SHIFT)
#define DIR_SIZE (DIR_ENTRIES * sizeof(uint32_t))
#define LEAVES (1u << 17) /* 256 GiB that were touched or converted */
#define BUSY_SHIFT 10     /* leaves for which one byte says whether there are any */
#define FIRST_LEAF 40u    /* those before it hold what follows */

struct leaf {
	_Atomic odp_entry_t entries[LEAF_ENTRIES];
};

struct implicit {
	_Atomic uint32_t dir[DIR_ENTRIES]; /* 0: no leaf yet */
	union {
		struct {
			_Atomic uint32_t used;
			_Atomic uint8_t busy[DIR_ENTRIES >> BUSY_SHIFT];
		};
		struct leaf leaves[LEAVES];
	};
};
static_assert(offsetof(struct implicit, busy) + (DIR_ENTRIES >> BUSY_SHIFT) <=
		      DIR_SIZE + FIRST_LEAF * ODP_PAGE_SIZE,
	      "the head is in front of the first leaf");
static_assert(sizeof(struct implicit) == DIR_SIZE + LEAVES * ODP_PAGE_SIZE, "no gaps");
static_assert(sizeof(struct implicit) <= ODP_SEG_SIZE / 8, "several fit");

size_t odp_implicit_size(void)
{
	return sizeof(struct implicit);
}

void odp_implicit_init(struct odp_region *r)
{
	atomic_store_explicit(&r->mr->flags, ODP_MR_IMPLICIT, memory_order_relaxed);
	r->mr->npages = 0; /* no array of entries */
}

/* The offset may be a lie of another process. */
static struct implicit *table(const struct odp_peer *peer, const struct odp_mr_shm *mr)
{
	uint64_t off = mr->xlat;

	if (off < ODP_ARENA_OFF || off > ODP_SEG_SIZE - sizeof(struct implicit) ||
	    off % ODP_PAGE_SIZE)
		return NULL;
	return (struct implicit *)((char *)peer->seg + off);
}

/* A leaf of our own, not in the directory yet; 0 when all are used. */
static uint32_t leaf_take(struct implicit *t)
{
	uint32_t n = atomic_load_explicit(&t->used, memory_order_relaxed);

	do {
		if (n >= LEAVES - FIRST_LEAF)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(&t->used, &n, n + 1, memory_order_relaxed,
							memory_order_relaxed));
	n += FIRST_LEAF;
	for (uint32_t i = 0; i < LEAF_ENTRIES; i++)
		atomic_store_explicit(&t->leaves[n].entries[i], ODP_E_VA, memory_order_relaxed);
	return n;
}

static uint32_t leaf_make(struct implicit *t, _Atomic uint32_t *dir)
{
	uint32_t mine = leaf_take(t), none = 0;

	/* relaxed: the owner looks at it when all lanes are fenced. */
	atomic_store_explicit(&t->busy[(dir - t->dir) >> BUSY_SHIFT], 1, memory_order_relaxed);
	/* release: the entries were filled before. Who loses the race wastes a leaf. */
	if (mine && !atomic_compare_exchange_strong_explicit(dir, &none, mine, memory_order_release,
							     memory_order_acquire))
		mine = none;
	return mine;
}

_Atomic odp_entry_t *odp_implicit_entry(const struct odp_peer *peer, const struct odp_mr_shm *mr,
					uint64_t page, bool make)
{
	struct implicit *t = table(peer, mr);
	_Atomic uint32_t *dir;
	uint32_t leaf;

	if (!t || page >= ODP_IMPLICIT_PAGES)
		return NULL;
	dir = &t->dir[page >> LEAF_SHIFT];
	/* acquire: pairs with the release in leaf_make(). */
	leaf = atomic_load_explicit(dir, memory_order_acquire);
	if (!leaf && make)
		leaf = leaf_make(t, dir);
	if (!leaf || leaf >= LEAVES)
		return NULL;
	return &t->leaves[leaf].entries[page & (LEAF_ENTRIES - 1)];
}

_Atomic odp_entry_t *odp_region_entry(struct odp_region *r, uint64_t *page, uint64_t last)
{
	const uint64_t many = ((uint64_t)1 << (LEAF_SHIFT + BUSY_SHIFT)) - 1;
	struct implicit *t;
	_Atomic odp_entry_t *p;

	if (r->xlat)
		return *page <= last ? &r->xlat[*page] : NULL;
	t = table(r->mem->proc->self, r->mr);
	while (t && *page <= last && *page < ODP_IMPLICIT_PAGES) {
		/* To read an untouched directory would be to allocate it. */
		if (!atomic_load_explicit(&t->busy[*page >> LEAF_SHIFT >> BUSY_SHIFT],
					  memory_order_relaxed)) {
			*page = (*page | many) + 1;
			continue;
		}
		p = odp_implicit_entry(r->mem->proc->self, r->mr, *page, false);
		if (p)
			return p;
		*page = (*page | (LEAF_ENTRIES - 1)) + 1;
	}
	return NULL;
}
