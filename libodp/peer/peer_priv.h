/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the files about peers know of each other. */
#ifndef ODP_PEER_PRIV_H
#define ODP_PEER_PRIV_H

#include "peer.h"

void odp_peer_close_fds(struct odp_peer *peer);
/* Has the process ended? False too where pidfd_open() is forbidden. */
bool odp_peer_pid_ended(const struct odp_peer *peer);
/* Does the peer's slot still belong to the process that the peer was made for? */
bool odp_peer_slot_is_ours(const struct odp_peer *peer);

/* Open descriptor FD of PEER anew through /proc, which needs the right to read
 * the process only; take it, which needs the right to trace it. */
int odp_peer_fd_open(const struct odp_peer *peer, int fd, int flags);
int odp_peer_fd_take(const struct odp_peer *peer, int fd);

/* PEER was replaced; retire, some time later, those that were. peer_lock held. */
void odp_peer_bury(struct odp_proc *proc, struct odp_peer *peer);
void odp_peers_retire(struct odp_proc *proc);

#endif
