/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What peer offers: other processes, and the arena of our segment. */
#ifndef ODP_PEER_H
#define ODP_PEER_H

#include "domain.h"

/* ---- arena.c ---- */
int odp_arena_open(struct odp_proc *proc);
void odp_arena_close(struct odp_proc *proc);

/* ---- peer.c ---- */
/* A peer record for slot NR with no descriptors yet. */
struct odp_peer *odp_peer_new(struct odp_proc *proc, unsigned nr);
/* In a child after fork: close the descriptors of all peers. */
void odp_peers_child(struct odp_proc *proc);
/* Pointer to LEN bytes at OFF in PEER's pool (not across a window), or NULL. */
void *odp_pool_ptr(struct odp_peer *peer, uint64_t off, size_t len);

/* ---- peer_watches.c ---- */
/* Do all watches live without which the region may not be reached? In a lane, or with
 * mem_lock in its owner. */
bool odp_watches_keep(struct odp_proc *proc, struct odp_peer *peer, const struct odp_mr_shm *mr);

#endif
