/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Short ways to register, read and write, for the tests of memory. */
#ifndef UNIT_MEMKIT_H
#define UNIT_MEMKIT_H

#include <stdbool.h>

#include <odp/odp.h>

#define PAGE ((size_t)4096)
#define PD 7u
#define ALL                                                                                        \
	(ODP_ACCESS_LOCAL_WRITE | ODP_ACCESS_REMOTE_WRITE | ODP_ACCESS_REMOTE_READ |               \
	 ODP_ACCESS_REMOTE_ATOMIC)

extern struct odp_proc *kit_proc; /* set by kit_start() */

int kit_start(void); /* attach: 0 or -errno */

/* Attach and run the tests; then all of them again as on a host without
 * userfaultfd, in the same program started anew. What main() returns. */
struct CU_TestInfo;
int kit_suite(const char *name, struct CU_TestInfo *tests);
/* Is there userfaultfd, so that memory is in the pool? */
bool kit_events(void);

/* Register with all rights, iova = address; NULL and kit_err when refused. */
extern _Thread_local int kit_err;
struct odp_region *kit_reg(void *addr, size_t len, enum odp_kind kind, enum odp_backing backing);
struct odp_region *kit_reg_access(void *addr, size_t len, enum odp_kind kind, uint32_t access);

/* Through a region of PEER with KEY, and through one of our own: 0 or -errno. */
int kit_peer_write(struct odp_peer *peer, uint32_t key, uint64_t addr, const void *buf, size_t n);
int kit_peer_read(struct odp_peer *peer, uint32_t key, uint64_t addr, void *buf, size_t n);
int kit_write(struct odp_region *r, void *addr, const void *buf, size_t n);
int kit_read(struct odp_region *r, void *addr, void *buf, size_t n);
/* All of N bytes from SRC to DST, however many calls that takes. */
int kit_copy(struct odp_span *dst, struct odp_span *src, size_t n);

/* What the device reads at ADDR as a string, "?errno" when it cannot. */
const char *kit_see(struct odp_region *r, void *addr);

/* Anonymous memory, each page begins with FILL and its own number. */
char *kit_private(size_t len, const char *fill);
char *kit_shared(size_t len, const char *fill);
void kit_fill(char *p, size_t len, const char *fill);

#endif
