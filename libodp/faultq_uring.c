/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
#include <poll.h>
#include <stddef.h>

#include "faultq_uring.h"

#define ARM (POLLIN | POLLRDNORM | POLLPRI | POLLERR)
#define REST_NS 1000000000u /* a rest that never came: the read was canceled */

static void last_set(struct odp_fq_uring *u, uint32_t tid, uint32_t rest, bool ready)
{
	u->last[tid % ODP_FQ_THREADS].tid = tid;
	u->last[tid % ODP_FQ_THREADS].rest = rest;
	u->last[tid % ODP_FQ_THREADS].ready = ready;
}

static void rest_add(struct odp_fq_uring *u, uint32_t size, uint64_t now)
{
	size_t at = 0;

	for (size_t i = 0; i < ODP_FQ_RESTS; i++)
		if (!u->rests[i].size || u->rests[i].until < u->rests[at].until)
			at = i;
	u->rests[at].size = size;
	u->rests[at].until = now + REST_NS;
}

static bool rest_any(struct odp_fq_uring *u, uint64_t now)
{
	bool any = false;

	for (size_t i = 0; i < ODP_FQ_RESTS; i++) {
		if (now > u->rests[i].until)
			u->rests[i].size = 0;
		any |= u->rests[i].size;
	}
	return any;
}

bool odp_fq_uring_poll(struct odp_fq_uring *u, uint32_t tid, uint32_t events, bool readable,
		       uint64_t now)
{
	uint32_t rest = u->last[tid % ODP_FQ_THREADS].rest;

	if (u->last[tid % ODP_FQ_THREADS].tid != tid)
		rest = 0;
	if (events == ARM && rest) {
		rest_add(u, rest, now);
		readable = true;
	} else if (events == POLLIN && rest_any(u, now)) {
		readable = true;
	}
	last_set(u, tid, 0, readable && events == POLLIN);
	return readable;
}

bool odp_fq_uring_rest(struct odp_fq_uring *u, uint32_t size, uint64_t now)
{
	rest_any(u, now);
	for (size_t i = 0; size && i < ODP_FQ_RESTS; i++) {
		if (u->rests[i].size != size)
			continue;
		u->rests[i].size = 0;
		return true;
	}
	return false;
}

void odp_fq_uring_given(struct odp_fq_uring *u, uint32_t tid, uint32_t size, uint32_t got)
{
	last_set(u, tid, size - got, false);
}

bool odp_fq_uring_waits(struct odp_fq_uring *u, uint32_t tid)
{
	bool ready =
		u->last[tid % ODP_FQ_THREADS].tid == tid && u->last[tid % ODP_FQ_THREADS].ready;

	last_set(u, tid, 0, false);
	return !ready;
}
