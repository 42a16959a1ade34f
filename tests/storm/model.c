/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Objects, and what was written to them: see storm.h. */
#include <time.h>

#include "model.h"

struct ctl *ctl;
uint32_t self;

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t rng(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint32_t rng_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)(rng(state) >> 32) % n;
}

/* ---- Who writes what ---- */

enum role page_role(uint32_t p)
{
	if (p < 14)
		return BY_WRITE;
	if (p < 18)
		return BY_CPU;
	return p < 20 ? BY_ATOMIC : BY_SEND;
}

uint32_t page_writer(uint32_t owner, uint32_t a, uint32_t p)
{
	uint32_t turn = p < 8 ? 0 : p < 14 ? 1 : 2;

	if (page_role(p) == BY_CPU)
		return owner;
	return (owner + a + turn) % ctl->nprocs;
}

static uint64_t word_sum(struct place at, uint32_t w, uint64_t rest)
{
	uint64_t x = ((uint64_t)at.owner << 40 | (uint64_t)at.area << 32 | w) + 1;

	x = (x ^ rest * 0xbf58476d1ce4e5b9ull) * 0x9e3779b97f4a7c15ull;
	return (x ^ x >> 29) * 0x94d049bb133111ebull >> 48;
}

uint64_t word_make(struct place at, uint32_t w, enum view view, uint32_t gen, uint32_t number)
{
	uint64_t rest = (uint64_t)view << 46 | (uint64_t)(gen & GEN_MASK) << NUMBER_BITS | number;

	return word_sum(at, w, rest) << 48 | rest;
}

bool word_own(struct place at, uint32_t w, uint64_t v)
{
	return v >> 48 == word_sum(at, w, v & 0xffffffffffffull) && word_view(v) <= PIN_B &&
	       word_number(v);
}

/* ---- Objects ---- */

static uint32_t slot_free(struct page_ctl *pg)
{
	for (uint32_t s = 0;; s++) {
		bool used = false;

		for (int v = LIVE; v <= PIN_B; v++)
			used |= LOAD(pg->obj[v]) && obj_slot(LOAD(pg->obj[v])) == s;
		if (!used)
			return s;
	}
}

/* Pinned keys of before may not have written to it; those of later may. */
static uint64_t obj_new(struct area_ctl *a, struct page_ctl *pg)
{
	uint32_t s = slot_free(pg), version = (uint32_t)(LOAD(pg->obj[LIVE]) >> 8) + 1;

	STORE(pg->version[s], version);
	STORE(pg->first[s][PIN_A], LOAD(a->mr[MR_PIN_A].gen) + 1);
	STORE(pg->first[s][PIN_B], LOAD(a->mr[MR_PIN_B].gen) + 1);
	return (uint64_t)version << 8 | s;
}

static void floors_set(struct page_ctl *pg, uint64_t old, uint64_t new)
{
	for (uint32_t w = 0; w < WORDS; w++) {
		struct word_ctl *o = word_at(pg, old, w), *n = word_at(pg, new, w);

		STORE(n->floor, max32(LOAD(o->floor), entry_number(&o->acked, old)));
		STORE(n->base, 0);
	}
}

/* How many were under way, and how many had been asked for: floor is not used
 * otherwise. In this order: one that is counted twice does no harm. */
static void counts_begin(struct page_ctl *pg, uint64_t old, uint64_t new)
{
	for (uint32_t w = 0; w < WORDS; w++) {
		struct word_ctl *n = word_at(pg, new, w);

		STORE(n->floor, entry_number(&word_at(pg, old, w)->live, old));
		STORE(n->base, LOAD(pg->busy[w]));
	}
}

void objects_begin(struct place at, uint32_t p, uint32_t n)
{
	for (uint32_t i = p; i < p + n; i++) {
		struct page_ctl *pg = page_at(at, i);
		uint64_t new = obj_new(area_of(at), pg);

		STORE(pg->next, new);
		/* Before the loads of acked: who acknowledges later sees it. */
		atomic_fetch_add(&pg->begin, 1);
		if (page_role(i) != BY_ATOMIC)
			floors_set(pg, LOAD(pg->obj[LIVE]), new);
		else
			counts_begin(pg, LOAD(pg->obj[LIVE]), new);
	}
}

/* What was under way at the event may be in either object. */
static void bases_set(struct page_ctl *pg, uint64_t old, uint64_t new)
{
	for (uint32_t w = 0; w < WORDS; w++) {
		struct word_ctl *o = word_at(pg, old, w), *n = word_at(pg, new, w);

		STORE(n->base, max32(entry_number(&o->live, old), LOAD(o->base)));
	}
}

static void counts_end(struct page_ctl *pg, uint64_t old, uint64_t new, bool whole)
{
	for (uint32_t w = 0; w < WORDS; w++) {
		struct word_ctl *o = word_at(pg, old, w), *n = word_at(pg, new, w);
		uint32_t live = entry_number(&o->live, old);
		uint32_t under_way = LOAD(n->base) + live - LOAD(n->floor);

		if (under_way && !whole)
			under_way = live + LOAD(o->base);
		STORE(n->base, under_way);
	}
}

void objects_end(struct place at, uint32_t p, uint32_t n)
{
	for (uint32_t i = p; i < p + n; i++) {
		struct page_ctl *pg = page_at(at, i);
		uint64_t new = LOAD(pg->next);

		if (page_role(i) == BY_ATOMIC)
			counts_end(pg, LOAD(pg->obj[LIVE]), new, at.area == PRIVATE);
		else
			bases_set(pg, LOAD(pg->obj[LIVE]), new);
		STORE(pg->obj[LIVE], new);
		atomic_fetch_add(&pg->done, 1);
	}
}

void window_begin(struct place at, uint32_t p, uint32_t n)
{
	for (uint32_t i = p; i < p + n; i++)
		atomic_fetch_add(&page_at(at, i)->wbegin, 1);
}

void window_end(struct place at, uint32_t p, uint32_t n)
{
	for (uint32_t i = p; i < p + n; i++)
		atomic_fetch_add(&page_at(at, i)->wdone, 1);
}

/* ---- Operations ---- */

static uint32_t range_first(const struct range *r)
{
	return r->w0 / WORDS;
}

static uint32_t range_last(const struct range *r)
{
	return (r->w0 + r->n - 1) / WORDS;
}

void range_see(struct range *r)
{
	for (uint32_t p = range_first(r); p <= range_last(r); p++) {
		struct page_ctl *pg = page_at(r->at, p);
		struct page_seen *s = &r->seen[p];

		/* done before begin: equal means that none was under way at the second. */
		do {
			uint32_t wdone = LOAD(pg->wdone), done;

			s->wbegin = LOAD(pg->wbegin);
			s->wquiet = s->wbegin == wdone;
			done = LOAD(pg->done);
			s->begin = LOAD(pg->begin);
			s->quiet = s->begin == done;
			s->obj = LOAD(pg->obj[r->view]);
		} while (LOAD(pg->begin) != s->begin);
	}
}

/* The words of R in page P: from *W, so many. */
static uint32_t page_words(const struct range *r, uint32_t p, uint32_t *w)
{
	uint32_t end = (p + 1) * WORDS;

	*w = r->w0 > p * WORDS ? r->w0 : p * WORDS;
	if (end > r->w0 + r->n)
		end = r->w0 + r->n;
	return end - *w;
}

static void count_entry(_Atomic uint64_t *e, uint64_t obj)
{
	uint64_t old = LOAD(*e), new;

	do {
		if (old >> 32 > obj >> 8)
			return; /* the slot is another object's by now */
		new = old >> 32 == obj >> 8 ? old + 1 : obj_entry(obj, 1);
	} while (!atomic_compare_exchange_weak(e, &old, new));
}

static void page_mark(struct range *r, uint32_t p, uint64_t obj, uint32_t number)
{
	struct page_ctl *pg = page_at(r->at, p);
	uint32_t w, n = obj ? page_words(r, p, &w) : 0; /* none: an MR that is going */

	for (; n; n--, w++) {
		struct word_ctl *c = word_at(pg, obj, w);
		_Atomic uint64_t *e = r->view == LIVE ? &c->live : &c->pinned;

		if (page_role(p) == BY_ATOMIC)
			count_entry(&c->live, obj);
		else
			PUT(*e, obj_entry(obj, number));
	}
}

/* Mark every object that the write could reach: again, if an event began. */
void range_post(struct range *r, uint32_t number)
{
	for (uint32_t p = range_first(r); p <= range_last(r); p++) {
		struct page_ctl *pg = page_at(r->at, p);
		struct page_seen *s = &r->seen[p];
		uint32_t done;

		s->wbegin = LOAD(pg->wbegin);
		s->wquiet = LOAD(pg->wdone) == s->wbegin;
		do {
			done = LOAD(pg->done);
			s->begin = LOAD(pg->begin);
			s->quiet = s->begin == done;
			s->obj = LOAD(pg->obj[r->view]);
			page_mark(r, p, s->obj, number);
			if (!s->quiet && r->view == LIVE)
				page_mark(r, p, LOAD(pg->next), number);
		} while (LOAD(pg->begin) != s->begin || LOAD(pg->done) != done);
	}
}

static bool mr_same(const struct range *r)
{
	return !r->mr || LOAD(r->mr->seq) == r->mr_seq;
}

bool page_same(const struct range *r, uint32_t p)
{
	const struct page_seen *s = &r->seen[p];

	if (r->view != LIVE)
		return mr_same(r);
	return s->quiet && LOAD(page_at(r->at, p)->begin) == s->begin;
}

void range_acked(struct range *r, uint32_t number)
{
	for (uint32_t p = range_first(r); p <= range_last(r); p++) {
		struct page_ctl *pg = page_at(r->at, p);
		uint64_t obj = r->seen[p].obj;
		uint32_t w, n = page_words(r, p, &w);

		if (!page_same(r, p) || LOAD(pg->version[obj_slot(obj)]) != obj >> 8)
			continue;
		for (; n; n--, w++)
			PUT(word_at(pg, obj, w)->acked, obj_entry(obj, number));
	}
}

void count_post(struct range *r)
{
	/* Before it is asked for: see counts_begin(). */
	atomic_fetch_add(&page_at(r->at, range_first(r))->busy[r->w0 % WORDS], 1);
	range_post(r, 1);
}

void count_ended(struct range *r)
{
	atomic_fetch_sub(&page_at(r->at, range_first(r))->busy[r->w0 % WORDS], 1);
}

void count_acked(struct range *r)
{
	uint32_t p = range_first(r);
	uint64_t obj = r->seen[p].obj;

	if (page_same(r, p))
		count_entry(&word_at(page_at(r->at, p), obj, r->w0)->acked, obj);
}

bool range_may_fail(const struct range *r)
{
	if (!mr_same(r))
		return true;
	if (r->view != LIVE)
		return false;
	for (uint32_t p = range_first(r); p <= range_last(r); p++) {
		const struct page_seen *s = &r->seen[p];

		if (!s->wquiet || LOAD(page_at(r->at, p)->wbegin) != s->wbegin)
			return true;
	}
	return false;
}

void range_floor(const struct range *r, uint32_t *acked)
{
	for (uint32_t i = 0; i < r->n; i++) {
		uint32_t w = r->w0 + i, p = w / WORDS;
		uint64_t obj = r->seen[p].obj;

		acked[i] = entry_number(&word_at(page_at(r->at, p), obj, w)->acked, obj);
	}
}
