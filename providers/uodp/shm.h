/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The verbs objects that other processes reach: a requester runs its work on
 * its own CPU and pushes receive completions into the responder's queues here.
 * All of it lives in the arena of the owner's segment; offsets, no pointers.
 */
#ifndef UODP_SHM_H
#define UODP_SHM_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#include <infiniband/verbs.h>
#include <odp/odp.h>

#define UODP_SHM_VERSION 8u

#define UODP_MAX_QP 32768u
#define UODP_MAX_CQ 32768u
#define UODP_MAX_SRQ 8192u
#define UODP_MAX_CQE 4194303u
#define UODP_MAX_WR 32768u
#define UODP_MAX_SGE 32u
#define UODP_MAX_INLINE 1024u
#define UODP_EVENT_RING 1024u
#define UODP_MAX_DM 4096u
#define UODP_MAX_MCAST 8192u

/* A completion; what ibv_poll_cq() turns into struct ibv_wc. */
struct uodp_cqe {
	uint64_t wr_id;
	uint32_t status; /* enum ibv_wc_status */
	uint32_t opcode; /* enum ibv_wc_opcode */
	uint32_t byte_len;
	uint32_t imm; /* network order, or the invalidated rkey */
	uint32_t qp_num;
	uint32_t src_qp;
	uint32_t wc_flags;
	uint32_t vendor_err;
	uint64_t timestamp; /* CLOCK_MONOTONIC ns */
	uint8_t sl;         /* UD receives: enum uodp_sl */
	uint8_t pad0;
	uint16_t slid; /* UD receives on InfiniBand */
	uint8_t pad[12];
};
static_assert(sizeof(struct uodp_cqe) == 64, "one line a completion");

/* The kind of header that a datagram came with, in wc.sl: RoCE has no service level
 * there, and programs (UCX) expect what mlx5 and hns say. */
enum uodp_sl { UODP_SL_IPV6 = 1, UODP_SL_IPV4 = 2 };

/* FULL: no completion is stored any more; STAMPED: each says when it was stored; LOSSY:
 * what finds no room is lost, and nothing else happens. */
enum uodp_cq_flags { UODP_CQ_FULL = 1, UODP_CQ_STAMPED = 2, UODP_CQ_LOSSY = 4 };

enum uodp_arm { UODP_ARM_NONE, UODP_ARM_SOLICITED, UODP_ARM_NEXT };

/*
 * Completion queue. Producers (any process) hold LOCK; the owner consumes.
 * PROD is a release store after the CQE; CONS a release store after its copy.
 */
struct uodp_cq_shm {
	struct odp_lock lock;
	_Atomic uint32_t gen; /* odd while in use */
	uint64_t ring;        /* offset of (mask + 1) CQEs */
	uint32_t mask;
	uint32_t cqe;               /* usable entries */
	int32_t channel_fd;         /* write end of the channel's pipe in the owner, -1 */
	_Atomic uint32_t armed;     /* enum uodp_arm; seq_cst with prod */
	_Atomic uint32_t flags;     /* enum uodp_cq_flags */
	uint32_t channel_id;        /* tells reuse of the descriptor number */
	uint64_t user_handle;       /* struct ibv_cq * in the owner */
	uint32_t solicited;         /* PROD after the last one that a solicited arming is for */
	_Atomic uint32_t notifying; /* threads that are about to write its event (wake.c) */
	uint16_t mod_count;         /* moderation: an event for that many completions, */
	uint16_t mod_period;        /* or after so many microseconds; either 0: at once */
	uint32_t mod_seen;          /* completions since it was armed */
	/* line 2 */
	_Atomic uint32_t prod;
	uint32_t pad1;
	_Atomic uint64_t mod_due; /* ns: when the owner raises the event; 0: none waits */
	uint32_t pad2[12];
	/* line 3 */
	_Atomic uint32_t cons;
	uint32_t pad3[15];
};
static_assert(sizeof(struct uodp_cq_shm) == 192, "three lines a CQ");

struct uodp_sge {
	uint64_t addr;
	uint32_t length;
	uint32_t lkey;
};

/* A posted receive; stride in a ring is uodp_rwqe_size(max_sge). */
struct uodp_rwqe {
	uint64_t wr_id;
	uint32_t num_sge;
	uint32_t length; /* sum over the SGEs */
	struct uodp_sge sge[];
};

/*
 * Receive queue: of a QP, or an SRQ. The owner produces under a private lock;
 * consumers hold LOCK.
 */
struct uodp_rq_shm {
	struct odp_lock lock;
	uint32_t mask;
	uint64_t ring;
	uint32_t max_wr;
	uint32_t max_sge;
	uint32_t stride;
	uint32_t pad0;
	_Atomic uint32_t prod;
	_Atomic uint32_t cons;
	uint32_t limit; /* SRQ: event when fewer are left; 0: disarmed */
	/* Of an XRC target's entry: the SRQ that it was taken from. */
	uint32_t taken_srqn, taken_gen;
	uint32_t pad1[3];
};
static_assert(sizeof(struct uodp_rq_shm) == 64, "one line an RQ");

struct uodp_srq_shm {
	struct uodp_rq_shm rq;
	_Atomic uint32_t gen; /* odd while in use */
	uint32_t pd;
	uint64_t user_handle;
	uint64_t xrcd; /* XRC: its domain, 0: none; */
	uint32_t cq;   /* of the completions */
	uint32_t pad0;
	uint64_t pad[4];
};
static_assert(sizeof(struct uodp_srq_shm) == 128, "two lines an SRQ");

/*
 * The responder's half of a QP. LOCK covers the state and the receive in
 * progress; requesters of other processes take it to deliver a message. They
 * read the attributes without it: what they make of those counts only while
 * EPOCH is what it was when they found the QP.
 */
struct uodp_qp_shm {
	struct odp_lock lock;
	_Atomic uint32_t gen;   /* odd while in use */
	_Atomic uint32_t state; /* enum ibv_qp_state */
	uint32_t qpn;
	uint32_t type; /* enum ibv_qp_type */
	uint32_t pd;
	_Atomic uint32_t dest_qpn; /* RC, UC: who may send here */
	_Atomic uint32_t access;   /* ODP_ACCESS_REMOTE_*, from qp_access_flags */
	_Atomic uint32_t qkey;     /* UD */
	_Atomic uint32_t rq_psn;
	_Atomic uint32_t sq_psn;
	_Atomic uint32_t min_rnr_timer; /* IBTA code 0..31 */
	uint32_t recv_cq;               /* index in the owner's table */
	uint32_t srq;                   /* index + 1, 0: own receive queue */
	uint32_t path_mtu;              /* bytes */
	_Atomic uint32_t max_dest_rd_atomic;
	/* line 2: with an SRQ, one entry: the receive that was taken from it */
	struct uodp_rq_shm rq;
	/* line 3 */
	/* UD: whose datagram uses the receive: EPOCH above, odp_lock_tag() below; 0: nobody's.
	 * Taken under LOCK, given back without it (deliver.c). */
	_Atomic uint64_t turn;
	uint32_t last_wqe_reached;
	uint32_t recv_pd;       /* of the receives: the SRQ's, if there is one */
	uint64_t user_handle;   /* struct ibv_qp * in the owner */
	uint32_t device;        /* index of the device in the owner's list */
	_Atomic uint32_t epoch; /* grows when it enters RTR: a new connection */
	uint8_t gids[2][16];    /* of the device's port, to check the sender's path */
	/* line 4: counters, relaxed, for odpctl */
	_Atomic uint64_t tx_msgs, tx_bytes, rx_msgs, rx_bytes, faults, rnr;
	/* XRC targets: the domain; the record that those who share the QP have of it */
	uint64_t xrcd, target;
};
static_assert(sizeof(struct uodp_qp_shm) == 256, "four lines a QP");

/* What whoever has an XRC target open knows of it; under the QP's lock. */
struct uodp_target_shm {
	uint32_t opens;  /* by ibv_open_qp() */
	uint32_t orphan; /* its maker has destroyed it: it ends with the last of them */
	struct ibv_qp_attr attr;
};

/*
 * The number of an XRC SRQ in the run directory: the slot of its process and its index
 * there. Never 0.
 */
#define UODP_SRQN_INDEX_BITS 13
#define UODP_SRQN(slot, index)                                                                     \
	(1u << 23 | (uint32_t)(slot) << UODP_SRQN_INDEX_BITS | (uint32_t)(index))
#define UODP_SRQN_SLOT(srqn) ((srqn) >> UODP_SRQN_INDEX_BITS & 1023u)
#define UODP_SRQN_INDEX(srqn) ((srqn) & (UODP_MAX_SRQ - 1))
static_assert(UODP_MAX_SRQ == 1u << UODP_SRQN_INDEX_BITS, "an index fits");

/*
 * Device memory: a memfd of the owner's, under a name that says so. Whoever unplugs
 * the device takes the pages away, after a look whether it is still that file.
 */
struct uodp_dm_shm {
	_Atomic uint32_t gen;  /* odd while in use */
	int32_t fd;            /* in the owner */
	uint32_t device;       /* index of the device in the owner's list */
	_Atomic uint32_t held; /* the owner's own: by uodpdv_dmabuf_hold() */
	uint64_t ino;
	uint64_t size;
};
static_assert(sizeof(struct uodp_dm_shm) == 32, "two to a line");
#define UODP_DM_NAME "uodp-dm"

/* A UD QP's membership in a multicast group. */
struct uodp_mcast_shm {
	_Atomic uint32_t gen; /* odd while in use */
	uint32_t qpn;
	uint8_t gid[16];
	uint64_t pad;
};
static_assert(sizeof(struct uodp_mcast_shm) == 32, "two to a line");

/*
 * A slot of the ring of async events on their way to the owner's worker. In the high half
 * which lap it is for; below, 0 while it is free, else UODP_EVENT(). Without a lock, which
 * a stopped process could hold: who fills a slot moves PROD on, and if it does not, the
 * next one does. The lap keeps one that comes back late from filling a slot out of turn.
 */
typedef _Atomic uint64_t uodp_event_t;
#define UODP_EVENT(type, index) (((uint32_t)(type) + 1) << 24 | (index))
#define UODP_EVENT_TYPE(ev) (((uint32_t)(ev) >> 24) - 1)
#define UODP_EVENT_INDEX(ev) ((uint32_t)(ev)&0xffffff)
#define UODP_EVENT_LAP(pos) ((uint64_t)((uint32_t)(pos) / UODP_EVENT_RING) << 32)

/* What regions have counted that are no more. */
struct uodp_odp_sums {
	_Atomic uint64_t page_faults, page_faults_handled;
	_Atomic uint64_t page_invalidations, page_invalidations_handled;
	_Atomic uint64_t page_prefetch;
	uint64_t pad[3];
};

/* A region's tag says whose it is. */
#define UODP_TAG(device) ((device) + 1u)

/* The root object; its offset is odp_peer_root(). */
struct uodp_root {
	uint64_t magic;
	uint32_t version;
	uint32_t num_devices;
	char devices[16][64];                        /* names, for odpctl */
	uint64_t qps, cqs, srqs, dms;                /* offsets of the tables below */
	_Atomic uint32_t qp_high, cq_high, srq_high; /* highest index used + 1 */
	_Atomic uint32_t dm_high, mcast_high;
	uint64_t mcasts; /* a table too */
	/* By device: even while it is plugged in. What was opened at another value is
	 * gone for good (plug.c). Changed by whoever plugs and unplugs. */
	_Atomic uint32_t plug[16];
	struct uodp_odp_sums ended[16]; /* by device */
	/* QPN block -> 1 + ordinal of 256 QPs in the QP table */
	_Atomic uint16_t block_ord[1u << (24 - ODP_QPN_BLOCK_SHIFT)];
	/* async events, raised by peers too (event.c) */
	_Atomic uint32_t event_prod, event_cons;
	/* A QP in ERR has receives that are still to be flushed, by the owner's worker: who
	 * moved it there could not have a lock. Set before the bell is rung. */
	_Atomic uint32_t unflushed;
	uint32_t pad1;
	uodp_event_t events[UODP_EVENT_RING];
};
#define UODP_ROOT_MAGIC 0x746f6f7270646f75ull

#endif
