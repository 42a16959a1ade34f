/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Faults that a pager of the owner resolves, as the requester sees them: tables of
 * groups in the owner's segment. faultq/faultq.h has the owner's side.
 */
#ifndef ODP_FAULTQ_ASK_H
#define ODP_FAULTQ_ASK_H

#include "transfer.h"

#define ODP_FQ_QUEUES 16u
#define ODP_FQ_DEPTH 1024u /* at most */
#define ODP_FQ_PAGES 64u   /* of a group, at most */

/* A bit of odp_mr_shm.inject: its faults are looked for in the owner's queues. */
#define ODP_FQ_MR ((uint64_t)1 << 62)

/*
 *   FREE -> FILLING   by who runs the transfer
 *   -> POSTED         by the same
 *   -> READ           by the owner, when the pager has read it
 *   -> FREE, INVALID  by the owner, when it is answered
 *   -> FREE           by who comes back to an INVALID one
 */
enum odp_fq_state { ODP_FQ_FREE, ODP_FQ_FILLING, ODP_FQ_POSTED, ODP_FQ_READ, ODP_FQ_INVALID };

/* All relaxed but WORD, which is checked again after the others were read. */
struct odp_fq_group {
	_Atomic uint64_t word; /* see odp_fq_word() */
	_Atomic uint64_t seq;  /* order in which they were posted */
	_Atomic uint64_t first;
	_Atomic uint64_t pages; /* bit n: page FIRST + n is missing */
	_Atomic uint64_t at;    /* when it was posted, when it was found INVALID */
	_Atomic uint32_t key;
	_Atomic uint32_t round; /* how often this place was used */
	_Atomic uint32_t length;
	_Atomic uint32_t write;
	_Atomic uint32_t slot, gen; /* who posted it */
};
static_assert(sizeof(struct odp_fq_group) == ODP_CACHELINE, "one line");

struct odp_fq_table {
	_Atomic uint32_t depth; /* groups that may be used */
	_Atomic uint32_t high;  /* that ever could */
	_Atomic uint32_t pages; /* of a group, at most */
	_Atomic uint32_t deaf;  /* nobody reads it any more */
	_Atomic uint64_t seq;
	uint64_t pad[5];
	struct odp_fq_group groups[ODP_FQ_DEPTH];
};

/* In the owner's arena, made with the first queue, never freed. */
struct odp_fq_shared {
	_Atomic uint8_t queue_of[ODP_MAX_REGIONS]; /* by key index: queue + 1, and a bit */
	struct odp_fq_table tables[ODP_FQ_QUEUES];
};
#define ODP_FQ_DETACHED 0x80u /* marks may be left, no group is made */

/* The state, 20 bits of LOW and 32 of HIGH: while FILLING slot and generation of
 * who does; else the key's index and the round. */
static inline uint64_t odp_fq_word(enum odp_fq_state state, uint32_t low, uint32_t high)
{
	return (uint64_t)state | (uint64_t)(low & 0xfffff) << 3 | (uint64_t)high << 23;
}
static inline enum odp_fq_state odp_fq_state(uint64_t word)
{
	return (enum odp_fq_state)(word & 7);
}
static inline uint32_t odp_fq_low(uint64_t word)
{
	return word >> 3 & 0xfffff;
}
static inline uint32_t odp_fq_high(uint64_t word)
{
	return (uint32_t)(word >> 23);
}
static inline uint64_t odp_fq_with_state(uint64_t word, enum odp_fq_state state)
{
	return (word & ~(uint64_t)7) | (uint64_t)state;
}
static inline bool odp_fq_change(struct odp_fq_group *g, uint64_t word, enum odp_fq_state state)
{
	/* acq_rel: what was written to the group, or to the entries, comes first. */
	return atomic_compare_exchange_strong_explicit(&g->word, &word,
						       odp_fq_with_state(word, state),
						       memory_order_acq_rel, memory_order_relaxed);
}

/* ---- faultq_ask.c: inside the pool side of a lane, any process ---- */
/* May the fault on PAGE, of a transfer that wants LENGTH bytes from there, be
 * resolved as others are? 0; -EINPROGRESS: ask again at *WHEN; -EAGAIN: now;
 * -EFAULT: it fails. */
int odp_faultq_ask(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page, uint64_t length,
		   bool write, uint64_t *when);

#endif
