/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What backing offers: memory that the pool does not hold. */
#ifndef ODP_BACKING_H
#define ODP_BACKING_H

#include "pool.h"

#define ODP_PIN_SHIFT 30 /* a registered buffer holds at most this much */

/* A pin ring of a process, as mapped here. */
struct odp_pin_view {
	_Atomic uint32_t gen; /* of the peer it belongs to, + 1; 0: none */
	int ring_fd;
	char *ring;
	size_t ring_len;
	void *sqes;
	size_t sqes_len;
	struct odp_pin_ring pin; /* as it was, and was checked, when this was mapped */
};

/* ---- foreign.c ---- */
/* Have threads that ask the program's own userfaultfd (conv_lock). Complains itself if
 * that cannot be: nobody is asked then, and what is missing stays so. */
void odp_foreign_start(struct odp_mem *m);
/* Are the N bytes at ADDR there, or to be had without asking? 0; -EINPROGRESS: the
 * program's handler is being asked, come back at *WHEN; -EFAULT: it was, in vain.
 * Waits for nobody; outside the pool side. */
int odp_foreign_ready(struct odp_peer *peer, uint32_t key, uint64_t addr, size_t n, uint64_t *when);

/* ---- backing_va.c, backing_pin.c, backing_pipe.c: outside the pool side ---- */
/* Copy N bytes between BUF and the owner's address ADDR: bytes done, or -errno;
 * -ERESTART: the owner's gate is not GATE any more, or could have changed. */
ssize_t odp_va_io(struct odp_peer *peer, uint64_t addr, void *buf, size_t n, bool write,
		  uint64_t gate);
int odp_pin_open(struct odp_mem *m);
/* In a child of fork: let go of what the parent's rings hold. */
void odp_pin_child(struct odp_mem *m);
bool odp_pin_usable(const struct odp_mem *m);
int odp_pin_register(struct odp_region *r);
void odp_pin_unregister(struct odp_region *r);
ssize_t odp_pin_io(struct odp_peer *peer, const struct odp_mr_shm *mr, uint64_t addr, void *buf,
		   size_t n, bool write);
/* Up to N bytes out of our own pipe: how many (pin_pipe). */
size_t odp_pin_take(struct odp_mem *m, void *buf, size_t n);
/* Empty our own pipe: never leave bytes of one transfer for the next (pin_pipe). */
void odp_pin_drain(struct odp_mem *m);

/* Hold R's pages, all readable and there, for reading alone: 0 or -errno (conv_lock). */
int odp_pipe_register(struct odp_region *r);
void odp_pipe_unregister(struct odp_region *r);
/* Read N bytes at POS, from the start of the region's first page, as ENTRY says. */
ssize_t odp_pipe_io(struct odp_peer *peer, odp_entry_t entry, uint64_t pos, void *buf, size_t n);
/* The descriptor that ENTRY (ODP_E_PIN) names, of PEER's, for one transfer: or -errno. */
int odp_entry_fd(struct odp_peer *peer, odp_entry_t entry, int flags);
void odp_entry_fd_put(const struct odp_peer *peer, int fd);
/* backing_fd.c: as odp_pipe_io(), both ways. */
ssize_t odp_fd_io(struct odp_peer *peer, const struct odp_mr_shm *mr, odp_entry_t entry,
		  uint64_t pos, void *buf, size_t n, bool write);
/* In a child of fork: let go of what the parent holds. */
void odp_pipe_child(struct odp_mem *m);

#endif
