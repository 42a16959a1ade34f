/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * io_uring reads of a FUSE file, as its server sees them. io_uring takes the file
 * for one on a disk: what a read gave short of its buffer it asks for again, when a
 * poll says that there is more, and the program is told of nothing before. So such a
 * poll is told that there is, and the second read gets 0 bytes, which ends the first
 * with what it has.
 *
 * How they are known (each from one thread, one straight after the other):
 *   a read with less than it asked for, then a poll of the events ARM: the first
 *   read goes on, with the size that is left;
 *   a poll of POLLIN alone: io_uring asks whether a read would wait. A read that
 *   comes next must not wait, or it would stop the program's thread: EAGAIN has
 *   io_uring come back later.
 * poll, select and epoll ask for POLLHUP too.
 */
#ifndef ODP_FAULTQ_URING_H
#define ODP_FAULTQ_URING_H

#include <stdbool.h>
#include <stdint.h>

#define ODP_FQ_THREADS 64u
#define ODP_FQ_RESTS 32u

struct odp_fq_uring {
	struct {
		uint32_t tid;
		uint32_t rest; /* of its last request, a read */
		bool ready;    /* or a poll of POLLIN, answered with yes */
	} last[ODP_FQ_THREADS];
	struct {
		uint32_t size; /* 0: none */
		uint64_t until;
	} rests[ODP_FQ_RESTS];
};

/* A poll by TID for EVENTS: is it to be told that there is something to read? */
bool odp_fq_uring_poll(struct odp_fq_uring *u, uint32_t tid, uint32_t events, bool readable,
		       uint64_t now);
/* A read by TID of SIZE bytes: is it the rest of one, which gets 0 bytes? */
bool odp_fq_uring_rest(struct odp_fq_uring *u, uint32_t size, uint64_t now);
/* TID's read of SIZE bytes was given GOT. */
void odp_fq_uring_given(struct odp_fq_uring *u, uint32_t tid, uint32_t size, uint32_t got);
/* TID's read has nothing to get: may it wait? */
bool odp_fq_uring_waits(struct odp_fq_uring *u, uint32_t tid);

#endif
