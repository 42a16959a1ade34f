/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What transfer offers: accesses to a region, by whichever process executes them. */
#ifndef ODP_TRANSFER_H
#define ODP_TRANSFER_H

#include "pool.h"

/* ---- access.c: inside a lane ---- */
/* Is KEY that of a window of PEER's which is bound to the region with key REGION? KEY is one
 * that odp_span_window() has looked up. */
bool odp_window_leads(struct odp_peer *peer, uint32_t key, uint32_t region);

/* ---- inject.c: inside the pool side of a lane ---- */
/* A fault that was made to take its time, from odp_inject() to odp_inject_end(). */
struct odp_pending {
	_Atomic uint64_t *slot; /* NULL: none */
	uint64_t mark;
};
void odp_inject_env(struct odp_proc *proc);
/* May the fault on PAGE, of a transfer that wants LENGTH bytes from there, be
 * resolved now? 0; -EINPROGRESS: at *WHEN; -EFAULT: it is made to fail; -EAGAIN: it
 * has been resolved. */
int odp_inject(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page, uint64_t length,
	       bool write, struct odp_pending *pending, uint64_t *when);
void odp_inject_end(const struct odp_pending *pending);
/* Do faults of SPAN suffer anything? */
bool odp_inject_active(const struct odp_span *span);

/* ---- gone.c: in the system-call side ---- */
/* Are pages that SPAN, N bytes at ADDR of its owner's, takes for valid gone? They are
 * invalid then. */
bool odp_va_gone(struct odp_span *span, uint64_t addr, uint64_t n);

/* ---- copy.c ---- */
/* N bytes between BUF, private, and SPAN, not advanced: bytes done, or -errno. */
ssize_t odp_span_io(struct odp_span *span, void *buf, size_t n, bool write);

/* Does the program's address lie at a multiple of N? */
static inline bool odp_span_aligned(const struct odp_span *span, size_t n)
{
	return !((span->addr - span->mr->iova + span->mr->addr) & (n - 1));
}
/* Eight bytes of SPAN, not in the pool, become FN(old, ARG), and no move to the
 * pool comes in between. -ENOTBLK: in the pool, or over a page's end. */
typedef uint64_t (*odp_update_fn)(uint64_t old, const void *arg);
int odp_span_update(struct odp_span *span, odp_update_fn fn, const void *arg, uint64_t *old);

/* N bytes (a power of two) of SPAN, to be written, as an aligned pointer into the
 * pool: 0 with the lane entered; else -errno, -ENOTBLK when it is not there. */
int odp_span_frame(struct odp_lane *lane, struct odp_span *span, size_t n, void **ptr);

/* ---- bounce.c ---- */
/* One of the shared bounce buffers (ODP_BOUNCE_SIZE), NULL when all are in use. */
char *odp_bounce_get(struct odp_mem *m);
void odp_bounce_put(struct odp_mem *m, char *buf);

#endif
