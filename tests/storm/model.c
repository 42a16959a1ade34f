/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What each word may be: see storm.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storm.h"

struct ctl *ctl;
uint32_t self;

/* Short names; the default order is seq_cst, which the begin counters need. */
#define LOAD(p) atomic_load_explicit(&(p), memory_order_seq_cst)
#define STORE(p, v) atomic_store_explicit(&(p), (v), memory_order_seq_cst)
#define GET(p) atomic_load_explicit(&(p), memory_order_acquire)
#define PUT(p, v) atomic_store_explicit(&(p), (v), memory_order_release)

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

/* 63..48 a checksum of place and rest, 47..46 view, 45..29 registration, number. */
#define NUMBER_BITS 29
#define GEN_MASK 0x1ffffu

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

static enum view word_view(uint64_t v)
{
	return v >> 46 & 3;
}

static uint32_t word_gen(uint64_t v)
{
	return (uint32_t)(v >> NUMBER_BITS) & GEN_MASK;
}

static uint32_t word_number(uint64_t v)
{
	return (uint32_t)v & ((1u << NUMBER_BITS) - 1);
}

/* Made for this place, and whole. */
static bool word_own(struct place at, uint32_t w, uint64_t v)
{
	return v >> 48 == word_sum(at, w, v & 0xffffffffffffull) && word_view(v) <= PIN_B &&
	       word_number(v);
}

/* ---- Objects ---- */

static uint32_t obj_slot(uint64_t obj)
{
	return (uint32_t)obj & 0xff;
}

static uint64_t obj_entry(uint64_t obj, uint32_t number)
{
	return obj >> 8 << 32 | number;
}

/* The number in an entry that belongs to OBJ, else 0. */
static uint32_t entry_number(_Atomic uint64_t *e, uint64_t obj)
{
	uint64_t v = GET(*e);

	return v >> 32 == obj >> 8 ? (uint32_t)v : 0;
}

static struct page_ctl *page_at(struct place at, uint32_t p)
{
	return &area_of(at)->page[p];
}

static uint32_t max32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static struct word_ctl *word_at(struct page_ctl *pg, uint64_t obj, uint32_t w)
{
	return &pg->w[obj_slot(obj)][w % WORDS];
}

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
			for (uint32_t w = 0; w < WORDS; w++)
				STORE(word_at(pg, new, w)->base, 0);
	}
}

/* What was under way at the event may be in either object. */
static void bases_set(struct page_ctl *pg, uint64_t old, uint64_t new, bool counts)
{
	const uint32_t limit = MAX_PROCS * DEPTH;

	for (uint32_t w = 0; w < WORDS; w++) {
		struct word_ctl *o = word_at(pg, old, w), *n = word_at(pg, new, w);
		uint32_t live = entry_number(&o->live, old), base = LOAD(o->base);

		if (counts) {
			base += live - entry_number(&o->acked, old);
			STORE(n->base, base < limit ? base : limit);
		} else {
			STORE(n->base, max32(live, base));
		}
	}
}

void objects_end(struct place at, uint32_t p, uint32_t n)
{
	for (uint32_t i = p; i < p + n; i++) {
		struct page_ctl *pg = page_at(at, i);
		uint64_t new = LOAD(pg->next);

		bases_set(pg, LOAD(pg->obj[LIVE]), new, page_role(i) == BY_ATOMIC);
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

/* Nothing has happened since that changes what the page's words may be. */
static bool page_same(const struct range *r, uint32_t p)
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
	range_post(r, 1);
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

/* ---- The judgement ---- */

static const char *pinned_judge(struct page_ctl *pg, uint64_t obj, struct word_ctl *c, uint64_t v)
{
	if (word_number(v) > entry_number(&c->pinned, obj))
		return "not yet written to this page by a pinned key";
	if (word_gen(v) < (LOAD(pg->first[obj_slot(obj)][word_view(v)]) & GEN_MASK))
		return "written by a pinned key that kept the page before";
	return NULL;
}

/*
 * Not whole. The kernel copies byte by byte if it likes, as it does for a device
 * of its own that is software: so a word may be seen half written, but only while
 * somebody writes it.
 */
static const char *torn_judge(uint64_t obj, struct word_ctl *c, uint32_t acked)
{
	uint32_t live = max32(entry_number(&c->live, obj), LOAD(c->base));

	if (max32(live, entry_number(&c->pinned, obj)) <= acked)
		return "no word of this place, or a torn one that nobody writes";
	atomic_fetch_add_explicit(&ctl->proc[self].torn, 1, memory_order_relaxed);
	return NULL;
}

static const char *count_judge(uint64_t obj, struct word_ctl *c, uint32_t acked, uint64_t v)
{
	/* base after live: an event in between would only make it smaller. */
	uint32_t live = entry_number(&c->live, obj);

	if (v < acked)
		return "acknowledged atomics are missing";
	return v > (uint64_t)live + LOAD(c->base) ? "more than were asked for" : NULL;
}

static const char *word_judge(const struct range *r, uint32_t w, uint32_t acked, uint64_t v)
{
	struct page_ctl *pg = page_at(r->at, w / WORDS);
	uint64_t obj = r->seen[w / WORDS].obj;
	struct word_ctl *c = word_at(pg, obj, w);

	if (page_role(w / WORDS) == BY_ATOMIC)
		return count_judge(obj, c, acked, v);
	if (!v)
		return acked ? "an acknowledged write is missing" : NULL;
	if (!word_own(r->at, w, v))
		return torn_judge(obj, c, acked);
	if (word_number(v) < acked)
		return "an acknowledged later write is missing";
	if (word_number(v) <= LOAD(c->floor))
		return "from before the last event";
	if (word_view(v) != LIVE)
		return pinned_judge(pg, obj, c, v);
	if (word_number(v) > max32(entry_number(&c->live, obj), LOAD(c->base)))
		return "not written to this page";
	return NULL;
}

/* An event has begun meanwhile: from this object or from a later one. */
static const char *word_judge_late(const struct range *r, uint32_t w, uint64_t v)
{
	struct page_ctl *pg = page_at(r->at, w / WORDS);
	uint64_t obj = r->seen[w / WORDS].obj;
	uint32_t floor = LOAD(word_at(pg, obj, w)->floor);

	if (!v || r->view != LIVE)
		return NULL;
	if (page_role(w / WORDS) == BY_ATOMIC)
		return v > UINT32_MAX ? "no count" : NULL;
	if (!word_own(r->at, w, v))
		return NULL;
	if (word_number(v) <= floor && LOAD(pg->version[obj_slot(obj)]) == obj >> 8)
		return "from before the last event but one";
	return NULL;
}

static void word_fail(const struct range *r, uint32_t i, uint32_t acked, uint64_t v,
		      const char *who, const char *why)
{
	uint32_t w = r->w0 + i, p = w / WORDS;
	uint64_t obj = r->seen[p].obj;
	struct word_ctl *c = word_at(page_at(r->at, p), obj, w);

	storm_fail(r->at, p,
		   "%s: page %u word %u: got %#llx (view %u, registration %u, number %u): %s\n"
		   "  expected: acked %u, live %u, pinned %u, base %u, floor %u, of object %llu, "
		   "by way of %s; words %u+%u, event %u of %u, first registrations %u %u",
		   who, p, w % WORDS, (unsigned long long)v, word_view(v), word_gen(v),
		   word_number(v), why, acked, entry_number(&c->live, obj),
		   entry_number(&c->pinned, obj), LOAD(c->base), LOAD(c->floor),
		   (unsigned long long)obj >> 8,
		   r->view == LIVE    ? "the live page"
		   : r->view == PIN_A ? "pinned A"
				      : "pinned B",
		   r->w0, r->n, r->seen[p].begin, LOAD(page_at(r->at, p)->begin),
		   LOAD(page_at(r->at, p)->first[obj_slot(obj)][PIN_A]),
		   LOAD(page_at(r->at, p)->first[obj_slot(obj)][PIN_B]));
}

void range_check(const struct range *r, const uint32_t *acked, const uint64_t *words,
		 const char *who)
{
	struct proc_ctl *me = &ctl->proc[self];
	uint64_t strict = 0;

	for (uint32_t i = 0; i < r->n && !storm_over(); i++) {
		uint32_t w = r->w0 + i;
		const char *why = word_judge(r, w, acked[i], words[i]);
		bool same = page_same(r, w / WORDS);

		/* The judgement holds only if nothing began before its end. */
		if (!same)
			why = word_judge_late(r, w, words[i]);
		strict += same;
		if (why)
			word_fail(r, i, acked[i], words[i], who, why);
	}
	atomic_fetch_add_explicit(&me->checks, r->n, memory_order_relaxed);
	atomic_fetch_add_explicit(&me->strict, strict, memory_order_relaxed);
}

/* ---- Reports ---- */

void note(struct place at, const char *name, uint32_t p, uint32_t n, int ret, uint64_t step)
{
	struct area_ctl *a = area_of(at);
	struct event_note *e = &a->note[LOAD(a->notes) % RING];

	e->step = step;
	e->ns = now_ns();
	e->page = p;
	e->n = n;
	e->ret = ret;
	strncpy(e->name, name, sizeof(e->name) - 1);
	atomic_fetch_add(&a->notes, 1);
}

static void notes_print(struct place at, uint32_t p)
{
	struct area_ctl *a = area_of(at);
	uint64_t now = now_ns(), n = LOAD(a->notes), i = n > RING ? n - RING : 0, shown = 0;

	for (; i < n && shown < 24; n--) {
		struct event_note *e = &a->note[(n - 1) % RING];

		if (p < e->page || p >= e->page + e->n)
			continue;
		dprintf(1, "  %8.3f ms ago, step %llu: %s, pages %u+%u -> %d\n",
			(double)(now - e->ns) / 1e6, (unsigned long long)e->step, e->name, e->page,
			e->n, e->ret);
		shown++;
	}
}

void storm_fail(struct place at, uint32_t p, const char *fmt, ...)
{
	static const char *const kinds[] = {"private", "shared", "memfd"};
	char line[1024];
	va_list ap;

	if (atomic_exchange(&ctl->failed, 1))
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	dprintf(1,
		"MISMATCH (seed %llu) after %.3f s, seen by process %u in area %s of process %u:\n"
		"  %s\n  last events of the page:\n",
		(unsigned long long)ctl->seed, (double)(now_ns() - ctl->start_ns) / 1e9, self,
		kinds[at.area], at.owner, line);
	notes_print(at, p);
	STORE(ctl->stop, 1);
}

bool storm_over(void)
{
	return GET(ctl->failed);
}
