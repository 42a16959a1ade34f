/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Is a word what it may be? And if not, what happened. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model.h"

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
