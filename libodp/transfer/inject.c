/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Faults that take their time, or fail, on purpose. A policy is one word, of the
 * process in its segment or of the region in its record, so that whoever runs a
 * transfer finds the owner's.
 *
 * A fault that is to take its time is a mark in a table of the owner's: the page
 * in the upper half, the time at which it may be resolved in the lower one.
 * Nobody waits: who meets the mark before that time comes back later; who meets it
 * after resolves the page, then takes the mark away.
 */
#include <stdlib.h>

#include "faultq_ask.h"
#include "transfer.h"

#define POLICY_SET ((uint64_t)1 << 63) /* a region's own; the bit below: ODP_FQ_MR */
#define LATENCY_MAX 1000000000u
#define LATENCY_PERCENT_SHIFT 32
#define FAIL_PERCENT_SHIFT 39
#define FAIL_NTH_SHIFT 46
#define PERCENT_MASK 127u

#define MARKS 4096u
#define MARK_TRIES 16u
#define STALE_US 10000000 /* a mark that nobody came back for */

static uint64_t policy_pack(const struct odp_fault_policy *p)
{
	unsigned percent = p->latency_percent ? p->latency_percent : 100;

	return (uint64_t)p->latency_us |
	       (uint64_t)(p->latency_us ? percent : 0) << LATENCY_PERCENT_SHIFT |
	       (uint64_t)p->fail_percent << FAIL_PERCENT_SHIFT |
	       (uint64_t)p->fail_nth << FAIL_NTH_SHIFT;
}

static bool policy_ok(const struct odp_fault_policy *p)
{
	return p->latency_us <= LATENCY_MAX && p->latency_percent <= 100 && p->fail_percent <= 100;
}

static int table_make(struct odp_proc *proc)
{
	struct odp_seg *seg = proc->self->seg;
	const size_t size = MARKS * sizeof(uint64_t);
	uint64_t off, none = 0;

	if (atomic_load_explicit(&seg->inject_table, memory_order_relaxed))
		return 0;
	off = odp_arena_alloc(proc, size);
	if (!off)
		return -ENOMEM;
	/* release: pairs with the acquire in table_get(). */
	if (!atomic_compare_exchange_strong_explicit(&seg->inject_table, &none, off,
						     memory_order_release, memory_order_relaxed))
		odp_arena_free(proc, off, size);
	return 0;
}

/* A pager's bit stays. */
static void word_set(_Atomic uint64_t *word, uint64_t value)
{
	uint64_t old = atomic_load_explicit(word, memory_order_relaxed);

	/* release: after the table that it needs. */
	while (!atomic_compare_exchange_weak_explicit(word, &old, value | (old & ODP_FQ_MR),
						      memory_order_release, memory_order_relaxed))
		;
}

static int policy_set(struct odp_proc *proc, _Atomic uint64_t *word, uint64_t flags,
		      const struct odp_fault_policy *policy)
{
	int ret = 0;

	if (policy && !policy_ok(policy))
		return -EINVAL;
	if (policy && policy->latency_us)
		ret = table_make(proc);
	if (!ret)
		word_set(word, policy ? policy_pack(policy) | flags : 0);
	return ret;
}

ODP_EXPORT int odp_region_fault_policy(struct odp_region *r, const struct odp_fault_policy *policy)
{
	return policy_set(r->mem->proc, &r->mr->inject, POLICY_SET, policy);
}

ODP_EXPORT int odp_proc_fault_policy(struct odp_proc *proc, const struct odp_fault_policy *policy)
{
	return policy_set(proc, &proc->self->seg->inject, 0, policy);
}

/* ---- the environment ---- */

/* A decimal number up to MAX; its end, or NULL. */
static const char *number(const char *s, unsigned long max, unsigned long *v)
{
	const char *begin = s;

	for (*v = 0; *s >= '0' && *s <= '9' && *v <= max; s++)
		*v = *v * 10 + (unsigned long)(*s - '0');
	return s > begin && *v <= max ? s : NULL;
}

/* "MICROSECONDS[:PERCENT]" */
static bool latency_parse(const char *s, struct odp_fault_policy *p)
{
	unsigned long us, percent = 100;

	s = number(s, LATENCY_MAX, &us);
	if (s && *s == ':')
		s = number(s + 1, 100, &percent);
	if (!s || *s)
		return false;
	p->latency_us = percent ? (uint32_t)us : 0;
	p->latency_percent = (uint8_t)percent;
	return true;
}

/* "PERCENT", "PERCENT%" or "1/N" */
static bool fail_parse(const char *s, struct odp_fault_policy *p)
{
	unsigned long v, nth;

	s = number(s, 100, &v);
	if (s && *s == '/' && v == 1) {
		s = number(s + 1, UINT16_MAX, &nth);
		if (!s || *s || !nth)
			return false;
		p->fail_nth = (uint16_t)nth;
		return true;
	}
	if (s && *s == '%')
		s++;
	if (!s || *s)
		return false;
	p->fail_percent = (uint8_t)v;
	return true;
}

void odp_inject_env(struct odp_proc *proc)
{
	const char *latency = getenv("UODP_FAULT_LATENCY"), *fail = getenv("UODP_FAULT_FAIL");
	struct odp_fault_policy p = {0};

	if (latency && *latency && !latency_parse(latency, &p))
		odp_log(ODP_LOG_ERR, "UODP_FAULT_LATENCY=%s is not MICROSECONDS[:PERCENT]: ignored",
			latency);
	if (fail && *fail && !fail_parse(fail, &p))
		odp_log(ODP_LOG_ERR, "UODP_FAULT_FAIL=%s is neither PERCENT nor 1/N: ignored",
			fail);
	if ((p.latency_us || p.fail_percent || p.fail_nth) && odp_proc_fault_policy(proc, &p))
		odp_log(ODP_LOG_ERR, "no memory for slow faults: they are as fast as they are");
}

/* ---- faults ---- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static bool percent_hit(uint64_t random, uint64_t policy, unsigned shift)
{
	return random % 100 < ((policy >> shift) & PERCENT_MASK);
}

static _Atomic uint64_t *table_get(struct odp_peer *peer)
{
	/* acquire: pairs with the release in table_make(). */
	uint64_t off = atomic_load_explicit(&peer->seg->inject_table, memory_order_acquire);

	return odp_peer_ptr(peer, off, MARKS * sizeof(uint64_t));
}

/* The time in MARK relative to NOW, in microseconds; the clock wraps. */
static int32_t mark_left(uint64_t mark, uint64_t now_us)
{
	return (int32_t)((uint32_t)mark - (uint32_t)now_us);
}

static void mark_find(_Atomic uint64_t *table, uint64_t tag, struct odp_pending *pending)
{
	for (unsigned i = 0; i < MARK_TRIES; i++) {
		_Atomic uint64_t *slot = &table[(tag + i) % MARKS];
		uint64_t mark = atomic_load_explicit(slot, memory_order_relaxed);

		if (mark >> 32 == tag) {
			pending->slot = slot;
			pending->mark = mark;
			return;
		}
	}
}

/* False when there is no room: the fault is then as fast as it is. */
static bool mark_make(_Atomic uint64_t *table, uint64_t tag, uint64_t now_us, uint32_t latency)
{
	for (unsigned i = 0; i < MARK_TRIES; i++) {
		_Atomic uint64_t *slot = &table[(tag + i) % MARKS];
		uint64_t old = atomic_load_explicit(slot, memory_order_relaxed);

		if (old && mark_left(old, now_us) > -STALE_US)
			continue;
		/* relaxed: the mark is all there is to see. */
		if (atomic_compare_exchange_strong_explicit(
			    slot, &old, tag << 32 | (uint32_t)(now_us + latency),
			    memory_order_relaxed, memory_order_relaxed))
			return true;
	}
	return false;
}

/* Whose policy it is counts, so that every Nth is every Nth of those. */
static bool fault_fails(_Atomic uint32_t *count, uint64_t policy, uint64_t *random)
{
	uint32_t n = atomic_fetch_add_explicit(count, 1, memory_order_relaxed) + 1;
	uint32_t nth = (policy >> FAIL_NTH_SHIFT) & UINT16_MAX;

	*random = mix(*random ^ n);
	return (nth && n % nth == 0) || percent_hit(*random, policy, FAIL_PERCENT_SHIFT);
}

static int fault_decide(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page,
			uint64_t policy, struct odp_pending *pending, uint64_t *when)
{
	_Atomic uint64_t *table = (uint32_t)policy ? table_get(peer) : NULL;
	uint64_t tag = mix((uint64_t)(mr->key >> 8) << 40 ^ page) >> 32 | 1, random = odp_now();
	uint64_t now = random, now_us = now / 1000;
	int32_t left;

	if (table)
		mark_find(table, tag, pending);
	if (pending->slot) {
		left = mark_left(pending->mark, now_us);
		if (left <= 0)
			return 0;
		*when = now + (uint64_t)left * 1000;
		return -EINPROGRESS;
	}
	if (fault_fails(policy & POLICY_SET ? &mr->inject_count : &peer->seg->inject_count, policy,
			&random)) {
		atomic_fetch_add_explicit(&mr->page_faults, 1, memory_order_relaxed);
		return -EFAULT;
	}
	if (!table || !percent_hit(mix(random), policy, LATENCY_PERCENT_SHIFT) ||
	    !mark_make(table, tag, now_us, (uint32_t)policy))
		return 0;
	*when = now + (uint64_t)(uint32_t)policy * 1000;
	return -EINPROGRESS;
}

/* With ODP_FQ_MR, if the region's faults go to a pager. */
static uint64_t policy_get(const struct odp_peer *peer, const struct odp_mr_shm *mr)
{
	/* acquire: pairs with the release in word_set(), and of who attaches a queue. */
	uint64_t policy = atomic_load_explicit(&mr->inject, memory_order_acquire);

	return policy & POLICY_SET
		       ? policy
		       : (policy & ODP_FQ_MR) |
				 atomic_load_explicit(&peer->seg->inject, memory_order_acquire);
}

bool odp_inject_active(const struct odp_span *span)
{
	return span->peer && span->mr && (policy_get(span->peer, span->mr) & ~POLICY_SET);
}

int odp_inject(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page, uint64_t length,
	       bool write, struct odp_pending *pending, uint64_t *when)
{
	uint64_t policy = policy_get(peer, mr);
	int ret;

	pending->slot = NULL;
	if (odp_likely(!(policy & ~POLICY_SET)))
		return 0;
	if (policy & ODP_FQ_MR) {
		ret = odp_faultq_ask(peer, mr, page, length, write, when);
		policy &= ~ODP_FQ_MR;
		if (ret || !(policy & ~POLICY_SET))
			return ret;
	}
	return fault_decide(peer, mr, page, policy, pending, when);
}

void odp_inject_end(const struct odp_pending *pending)
{
	uint64_t mark = pending->mark;

	/* Unless another thread was faster. */
	if (odp_unlikely(pending->slot))
		atomic_compare_exchange_strong_explicit(pending->slot, &mark, 0,
							memory_order_relaxed, memory_order_relaxed);
}
