/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * After a truncate returns, no byte of the new content of the file is written by a
 * transfer that began before it: a checker under load, for every policy.
 *
 * Four kinds of processes share one file on odpfs: the owner, which registers
 * regions over it; the requesters, whose threads write into these by RDMA; this one,
 * the truncater, which takes the file's blocks away again and again, writes new
 * content, and looks at every word.
 *
 * PHASES. The truncater counts: 2k+1 from before the K-th truncate is called, 2k+2
 * from when it has returned. Each word that is transferred carries the phase and the
 * registration of the key that it was written by. A requester stamps its source again
 * while the transfer is under way, as soon as the phase changes, and says when it has:
 * so the slices (ODP_SLICE bytes) of one transfer differ, and after all have said so
 * nobody has anything older left that a transfer could still begin to carry. Only then
 * does the truncater let the file grow, and writes new content. (Where a policy says
 * that no region gets from the old blocks to the new ones it mostly does so at once.)
 *
 * INVARIANTS, for a word of what was taken away, after the K-th truncate:
 *   1. it is the new content, or was written by RDMA to this very place, in phase
 *      2k+2 or later: nothing came out of a slice that began before, however long it
 *      took
 *   2. under every policy but odp, it was written through a region that was not there
 *      before that truncate: no region gets from the old blocks to the new ones
 *   3. the same holds for the backing file once it is synchronised
 * Holes that are punched are never past the end, so that a slice may begin right
 * after the call has returned, with what it was stamped with before: for these, 2
 * holds, and of 1 that nothing is older than that.
 *   4. deny: the truncate fails with ETXTBSY, and every word stays what it was, or
 *      becomes what RDMA writes
 * In some rounds the owner, the requesters or both are stopped (SIGSTOP) in the middle
 * of what they do until the truncate has returned, or killed:
 *   6. the truncate ends all the same, and what is left of the others goes on
 *   5. a transfer fails only if its region was revoked or ended, its owner killed, or
 *      if it reached past the end of the file; pinned regions for the last only if they
 *      were registered while a truncate was under way
 */
#ifndef TESTS_CHECKER_H
#define TESTS_CHECKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <infiniband/uodpdv.h>

#define PAGE ((size_t)4096)
#define FILE_LEN ((size_t)4 << 20)
#define MAX_MESSAGE ((size_t)1 << 20)
#define MAX_THREADS 16u
#define REGIONS 4u /* the even ones pinned, the odd ones on demand */
#define MAX_REGISTRATIONS (1u << 20)

/* ---- words (word.c) ---- */

enum { TAG_RDMA = 0xc5, TAG_NEW = 0x4e };

static inline uint64_t word_make(unsigned int tag, uint32_t phase, uint32_t reg, uint64_t at)
{
	return (uint64_t)tag << 56 | (uint64_t)(phase & 0xfffff) << 36 |
	       (uint64_t)(reg & 0xfffff) << 16 | (at / 8 & 0xffff);
}
static inline unsigned int word_tag(uint64_t word)
{
	return (unsigned int)(word >> 56);
}
static inline uint32_t word_phase(uint64_t word)
{
	return (uint32_t)(word >> 36) & 0xfffff;
}
static inline uint32_t word_reg(uint64_t word)
{
	return (uint32_t)(word >> 16) & 0xfffff;
}

/* ---- what all processes share ---- */

struct region_ctl {
	_Atomic uint32_t nr; /* of its registration; 0: none now */
	_Atomic uint32_t rkey;
	_Atomic uint64_t addr;
	_Atomic uint32_t clean; /* no truncate was under way meanwhile */
};

/* From a requester's QP to one of the owner's. */
struct link_ctl {
	_Atomic uint32_t want, done; /* connections asked for, made */
	_Atomic uint32_t req_qpn, own_qpn;
	_Atomic uint32_t stamped; /* nothing older than this phase is left to be sent */
	_Atomic uint64_t writes, bytes, errors;
};

struct ctl {
	_Atomic uint32_t stop, failed;
	_Atomic uint32_t phase;
	_Atomic uint32_t registrations, revocations, leases_kept, refused;
	uint32_t policy, lease_ms, threads;
	uint64_t seed;
	struct region_ctl region[REGIONS];
	struct link_ctl link[MAX_THREADS];
	_Atomic uint32_t reg_phase[MAX_REGISTRATIONS]; /* when it had been made */
};
extern struct ctl *ctl;

extern const char *const policy_names[UODPDV_POLICY_DENY + 1];

uint64_t now_ns(void);
void nap_us(unsigned int us);
uint64_t rng(uint64_t *state);
uint32_t rng_below(uint64_t *state, uint32_t n);
bool over(void);
/* Says why, once, and stops everybody. */
void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void die(const char *what) __attribute__((noreturn));

/* ---- conn.c ---- */
struct device {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	union ibv_gid gid;
};
extern struct device dev;
void device_open(void);
struct ibv_qp *conn_qp(struct ibv_cq *cq);
/* From any state to INIT; on to where it can receive and send. */
void conn_reset(struct ibv_qp *qp);
void conn_connect(struct ibv_qp *qp, uint32_t dest);

/* ---- owner.c, requester.c: processes; truncater.c ---- */
void owner_run(int fd) __attribute__((noreturn));
void requester_run(void) __attribute__((noreturn));

struct rounds {
	int fd;           /* on odpfs */
	const char *path; /* of it there */
	const char *back; /* and of the file in the backing directory */
	uint64_t rng;
	uint32_t done[8];     /* by kind of truncate */
	uint64_t words, rdma; /* looked at; of these, written by RDMA */
	uint64_t slowest_ns;
	pid_t pids[2];        /* owner and requester, that may be stopped, */
	bool killed[2];       /* and killed */
	unsigned int torment; /* one of so many rounds does so; 0: none */
	uint32_t stops, kills;
};
bool round_begin_content(struct rounds *r);
/* One truncate, and what comes after it. */
void round_run(struct rounds *r);
void rounds_print(const struct rounds *r);

#endif
