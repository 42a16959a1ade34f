/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What model.c and judge.c share: words, objects, entries. */
#ifndef TESTS_STORM_MODEL_H
#define TESTS_STORM_MODEL_H

#include "storm.h"

/* Short names; the default order is seq_cst, which the begin counters need. */
#define LOAD(p) atomic_load_explicit(&(p), memory_order_seq_cst)
#define STORE(p, v) atomic_store_explicit(&(p), (v), memory_order_seq_cst)
#define GET(p) atomic_load_explicit(&(p), memory_order_acquire)
#define PUT(p, v) atomic_store_explicit(&(p), (v), memory_order_release)

/* A word: 63..48 a checksum of place and rest, 47..46 view, 45..29 registration,
 * number. */
#define NUMBER_BITS 29
#define GEN_MASK 0x1ffffu

static inline enum view word_view(uint64_t v)
{
	return v >> 46 & 3;
}

static inline uint32_t word_gen(uint64_t v)
{
	return (uint32_t)(v >> NUMBER_BITS) & GEN_MASK;
}

static inline uint32_t word_number(uint64_t v)
{
	return (uint32_t)v & ((1u << NUMBER_BITS) - 1);
}

/* Made for this place, and whole. */
bool word_own(struct place at, uint32_t w, uint64_t v);
/* Nothing has happened since R was seen that changes what page P's words may be. */
bool page_same(const struct range *r, uint32_t p);

static inline uint32_t obj_slot(uint64_t obj)
{
	return (uint32_t)obj & 0xff;
}

static inline uint64_t obj_entry(uint64_t obj, uint32_t number)
{
	return obj >> 8 << 32 | number;
}

/* The number in an entry that belongs to OBJ, else 0. */
static inline uint32_t entry_number(_Atomic uint64_t *e, uint64_t obj)
{
	uint64_t v = GET(*e);

	return v >> 32 == obj >> 8 ? (uint32_t)v : 0;
}

static inline struct page_ctl *page_at(struct place at, uint32_t p)
{
	return &area_of(at)->page[p];
}

static inline uint32_t max32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static inline struct word_ctl *word_at(struct page_ctl *pg, uint64_t obj, uint32_t w)
{
	return &pg->w[obj_slot(obj)][w % WORDS];
}

#endif
