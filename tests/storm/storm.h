/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A storm of memory events under traffic, with a checker that knows what each
 * 8-byte word may be. Only libibverbs and the kernel: it runs on any RDMA device.
 *
 * N processes own AREAS areas each (private anonymous, shared anonymous, memfd)
 * of PAGES pages, with four regions over each: two on demand, two pinned. Every
 * process reads and writes the areas of all, itself included, while each owner
 * does to its areas what programs do to memory.
 *
 * OBJECTS. What a page's address leads to is an object. An event that replaces
 * the page (struct event.destroys) makes a new object, which is zero. On-demand
 * keys and the CPU reach the live object; a pinned key reaches the object that
 * was live when it was registered, for ever. Several keys may reach one object.
 *
 * WORDS. Each word has one writer, whose writes carry growing numbers; a word
 * tells its place (in a checksum), the way it came (live or pinned key, and
 * which registration of that key) and its number. For each word and object:
 *   acked   the highest number whose write is known to be in the object: it was
 *           acknowledged, and no event had begun since before it was posted
 *   live,   the highest number posted by a live key, by a pinned key, while it
 *   pinned  could have reached the object
 *   base    as live, of the object before, at the end of the event between them
 *   floor   acked of the object before, when that event began
 *
 * INVARIANTS, for a read (by key or by the CPU) that began when ACKED was A and
 * found V, no event having begun since:
 *   1. V is zero, or made for this place and whole (no torn words, no strays);
 *      torn only while it is being written
 *   2. V zero: A is zero                      (an acknowledged write is visible)
 *   3. number(V) >= A                                      (and stays the last)
 *   4. number(V) > floor     (nothing from before the event is in the new page)
 *   5. V by a live key: number(V) <= max(live, base)    (none strays into what
 *      a pinned key kept)
 *   6. V by a pinned key: number(V) <= pinned, and that registration is not
 *      older than the object   (none by a pinned key gets into the new page)
 * When an event had begun, V, if whole, is zero or obeys the old object's 4.
 *   7. An access fails only if an event that takes the memory away, or its MR's
 *      re-registration, overlapped it; one by a pinned key only for the latter.
 * Words of the atomic pages count up from zero: 2 and 3 as acked <= V, 5 as
 * V <= live + base, where base is what was under way at the event. In shared and
 * file memory an atomic is a read and a write, between which an event may fall:
 * there base is all that the old object may have held, if any was under way.
 *   8. A child of fork sees what the parent's memory was, and keeps seeing it.
 */
#ifndef TESTS_STORM_H
#define TESTS_STORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <infiniband/verbs.h>

#define PAGE ((size_t)4096)
#define WORDS 512u /* a page */
#define MAX_PROCS 8u
#define AREAS 3u
#define PAGES 24u
#define AREA_WORDS (PAGES * WORDS)
#define SLOTS 4u /* objects: live, one a pinned MR, and a new one */
#define DEPTH 4u /* operations under way from one process to another */
#define OP_WORDS (4 * WORDS)
#define RECVS 8u
#define RING 256u /* events remembered, an area */

enum kind { PRIVATE, SHARED, MEMFD };
enum view { LIVE, PIN_A, PIN_B };
enum mr_nr { MR_ALL, MR_ODP, MR_PIN_A, MR_PIN_B, MRS };

/* ---- What all processes see (model.c); none of it is ever registered ---- */

/* acked, live, pinned: the object's version above, the number in the low half. */
struct word_ctl {
	_Atomic uint64_t acked, live, pinned;
	_Atomic uint32_t floor, base;
};

struct page_ctl {
	_Atomic uint32_t begin, done;   /* events that replace the page */
	_Atomic uint32_t wbegin, wdone; /* times when accesses may fail */
	_Atomic uint64_t obj[3];        /* by view: version << 8 | slot; 0: none */
	_Atomic uint64_t next;          /* what an event under way makes */
	_Atomic uint32_t version[SLOTS];
	_Atomic uint32_t first[SLOTS][3]; /* by view: registrations that may have written */
	_Atomic uint32_t busy[WORDS];     /* atomics under way */
	struct word_ctl w[SLOTS][WORDS];
};

struct mr_ctl {
	_Atomic uint32_t seq; /* odd: being registered anew */
	_Atomic uint32_t rkey, gen;
	_Atomic uint32_t start, end; /* words of the area */
};

struct event_note {
	uint64_t step, ns;
	uint32_t page, n;
	int ret;
	char name[20];
};

struct area_ctl {
	_Atomic uint64_t addr;
	struct mr_ctl mr[MRS];
	_Atomic uint64_t notes;
	struct event_note note[RING];
	struct page_ctl page[PAGES];
};

enum conn_state { CONN_DOWN, CONN_ASKED, CONN_READY, CONN_UP };
struct conn_ctl { /* from the first index's requester to the second's responder */
	_Atomic uint32_t state;
	_Atomic uint32_t epoch; /* how often it was set up: places of SENDs */
	uint32_t req_qpn, rsp_qpn;
};

struct proc_ctl {
	_Atomic uint32_t ready, finished;
	union ibv_gid gid;
	_Atomic uint64_t reads, writes, atomics, sends, errors, events, skipped, forks, checks,
		strict, cpu, reconnects, torn;
	struct area_ctl area[AREAS];
};

struct ctl {
	_Atomic uint32_t stop, failed;
	uint32_t nprocs;
	uint64_t seed;
	uint64_t start_ns;
	char skip[256]; /* events left out */
	struct conn_ctl conn[MAX_PROCS][MAX_PROCS];
	struct proc_ctl proc[];
};

extern struct ctl *ctl;
extern uint32_t self; /* this process's number */

/* ---- model.c, judge.c ---- */
uint64_t now_ns(void);
uint64_t rng(uint64_t *state);
uint32_t rng_below(uint64_t *state, uint32_t n);

/* Who writes page P of area A of OWNER, and how. */
enum role { BY_WRITE, BY_CPU, BY_ATOMIC, BY_SEND };
enum role page_role(uint32_t p);
uint32_t page_writer(uint32_t owner, uint32_t a, uint32_t p);

struct place {
	uint32_t owner, area;
};
static inline struct area_ctl *area_of(struct place at)
{
	return &ctl->proc[at.owner].area[at.area];
}
uint64_t word_make(struct place at, uint32_t w, enum view view, uint32_t gen, uint32_t number);

/* A page as an operation found it when it began. */
struct page_seen {
	uint64_t obj;
	uint32_t begin, wbegin;
	bool quiet, wquiet;
};
struct range {
	struct place at;
	enum view view;
	const struct mr_ctl *mr; /* by key: its region, as it was at MR_SEQ */
	uint32_t mr_seq;
	uint32_t w0, n;               /* words of the area */
	struct page_seen seen[PAGES]; /* by page */
};
void range_see(struct range *r);
/* Say that NUMBER will be written to all words, and see the range. */
void range_post(struct range *r, uint32_t number);
void range_acked(struct range *r, uint32_t number);
/* The same for one atomic that adds one. */
void count_post(struct range *r);
void count_acked(struct range *r);
void count_ended(struct range *r);
/* May an access that failed just now have failed? */
bool range_may_fail(const struct range *r);
/* acked of each word, when a read begins. */
void range_floor(const struct range *r, uint32_t *acked);
/* Judge what was read; a wrong word ends the storm. */
void range_check(const struct range *r, const uint32_t *acked, const uint64_t *words,
		 const char *who);

/* Pages P..P+N-1 are about to get new objects; have got them. */
void objects_begin(struct place at, uint32_t p, uint32_t n);
void objects_end(struct place at, uint32_t p, uint32_t n);
void window_begin(struct place at, uint32_t p, uint32_t n);
void window_end(struct place at, uint32_t p, uint32_t n);
void note(struct place at, const char *name, uint32_t p, uint32_t n, int ret, uint64_t step);
/* The storm is over: say why, and what happened to the page last. */
void storm_fail(struct place at, uint32_t p, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool storm_over(void);

/* ---- conn.c ---- */
struct device {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	union ibv_gid gid;
	int gid_index;
	enum ibv_mtu mtu;
};
extern struct device dev;
void device_open(void);
struct ibv_qp *conn_qp(struct ibv_cq *cq);
/* From RESET to where it can receive; to where it can send. */
void conn_ready(struct ibv_qp *qp, uint32_t peer_qpn, const union ibv_gid *gid);
void conn_send_ready(struct ibv_qp *qp);
void conn_state(struct ibv_qp *qp, enum ibv_qp_state state);
void die(const char *what) __attribute__((noreturn));

/* ---- owner.c ---- */
struct area {
	struct place at;
	enum kind kind;
	char *addr;
	int fd;
	struct ibv_mr *mr[MRS];
};
extern struct area areas[AREAS];
void helper_start(void);
void areas_open(void);
void *owner_main(void *arg);
void *toucher_main(void *arg);

/* ---- requester.c, responder.c ---- */
void *requester_main(void *arg);
void *responder_main(void *arg);
/* Where the K-th SEND of a connection's EPOCH goes. */
struct send_place {
	uint32_t area, w0, n; /* n 0: there is none between these two */
};
struct send_place send_place(uint32_t from, uint32_t to, uint32_t epoch, uint32_t k);

#endif
