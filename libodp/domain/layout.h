/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory that processes share: the domain file of a run directory, and each
 * process's segment. Fixed-width types and offsets only; whoever reads a value
 * that another process wrote checks it before use.
 */
#ifndef ODP_LAYOUT_H
#define ODP_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base.h"

#define ODP_LAYOUT_VERSION 8u

#define ODP_MAX_PROCS 1024u
#define ODP_MAX_LANES 64u                   /* a process: see below */
#define ODP_LANE_SERVICE 0u                 /* the service thread's own: it waits for no thread */
#define ODP_LANE_SHARED (ODP_MAX_LANES - 1) /* of all threads that find none free */
#define ODP_MAX_REGIONS (1u << 20)
#define ODP_QPN_BLOCKS (1u << (24 - ODP_QPN_BLOCK_SHIFT))

/*
 * A lane says where a thread is: a word is odd while the thread is inside a
 * transfer of that sort. Written only by the thread that holds the lane.
 *
 * Invariant: a thread reads or writes pool frames, and reads translation
 * entries it acts on, only while its POOL word is odd and after it saw the
 * owner's gate open. An invalidator shuts the gate, then waits until every
 * lane has been even once: after that nobody holds a stale translation.
 * Ordering: the store that makes a lane odd and the load of the gate are
 * seq_cst, as are the addition that shuts the gate and the loads of the lanes
 * (store-buffering, Dekker): one of the two sees the other.
 *
 * VA is odd while the thread is in a system call that copies to or from the
 * owner's address space or a pinned buffer. Such a call may wait for the
 * owner's service thread, so only deregistration waits for it, never the
 * service thread.
 */
struct odp_lane {
	_Atomic uint64_t pool;
	_Atomic uint64_t va;
	_Atomic uint32_t tid;    /* 0: free */
	_Atomic uint32_t shared; /* the last lane: its threads take turns (lane.c) */
	uint32_t pad[10];
};
static_assert(sizeof(struct odp_lane) == ODP_CACHELINE, "one line a lane");

/*
 * A gate is shut while any freezer is inside. The owner's own are counted in the
 * low 16 bits: freeze adds 1, thaw adds ODP_GATE_THAW. The watches (watch.c) have the
 * 16 bits above them, of which each is shared by as many as have it: whose gate a watch
 * keeps shut stands in its record (HELD), so that whoever finds a gate shut may open it
 * for watches whose process has died (odp_gate_heal()).
 * A fault that saw another value before it began retries.
 *
 * Invariant: from odp_freeze_peer() to odp_thaw_peer() of a watch that lives its bit is
 * set. Setting: HELD first, then the bit, and always a new sequence number. Clearing: the
 * gate is read, then HELD of all that share the bit (seq_cst, all of it); nobody has it:
 * the gate is exchanged if it is still what was read. A watch whose HELD was not seen
 * changes the gate after that, so the exchange fails. A watch that dies between the two
 * steps of either leaves HELD without the bit, which shuts nothing, or the bit without
 * HELD, which is cleared.
 */
#define ODP_GATE_OWN ((uint64_t)0xffff)
#define ODP_GATE_WATCHES 16u
#define ODP_GATE_WATCH(i) ((uint64_t)0x10000 << (i) % ODP_GATE_WATCHES)
#define ODP_GATE_FROZEN ((uint64_t)0xffffffff)
#define ODP_GATE_STEP ((uint64_t)1 << 32) /* the sequence */
#define ODP_GATE_THAW (ODP_GATE_STEP - 1)

enum odp_slot_state { ODP_SLOT_FREE, ODP_SLOT_SETUP, ODP_SLOT_LIVE };

/*
 * One attached process. Claimed and reaped under the domain's lock; the holder
 * lives as long as it holds the fcntl write lock on byte ODP_LIVE_BYTE + slot
 * of the domain file, which the kernel drops when it dies.
 */
struct odp_slot {
	_Atomic uint32_t state; /* enum odp_slot_state; LIVE is a release store */
	_Atomic uint32_t gen;   /* grows by one at each claim */
	int32_t pid;
	int32_t seg_fd; /* descriptor numbers in that process, -1: none */
	int32_t pool_fd;
	int32_t bell_fd; /* write end of the service thread's pipe */
	int32_t uffd_fd;
	uint32_t pid_ns;     /* that PID is a number of: inode of /proc/self/ns/pid, 0: unknown */
	uint64_t start_time; /* field 22 of /proc/PID/stat */
	char comm[16];
	/* A ringer adds to RUNG, then writes to the bell if ASLEEP; the service thread
	 * sets ASLEEP, then looks at RUNG (both seq_cst): one sees the other. */
	_Atomic uint32_t bell_rung;
	_Atomic uint32_t bell_asleep;
	/* line 2 */
	_Atomic uint64_t gate; /* ODP_GATE_FROZEN bits: freezers now; above: how often thawed */
	_Atomic uint32_t lane_high; /* lanes ever used */
	_Atomic uint32_t life;      /* a robust futex that the service thread holds: the kernel
				     * sets FUTEX_OWNER_DIED before anybody can wait for the
				     * process, after exit, a kill or exec (futex(2)) */
	_Atomic uint32_t life_gen;  /* the generation that LIFE is of; stored first */
	uint32_t pad1[11];
	/* lines 3, 4: bit s set: the process in slot s may be in a lane aimed here */
	_Atomic uint64_t attached[ODP_MAX_PROCS / 64];
};
static_assert(sizeof(struct odp_slot) == 4 * ODP_CACHELINE, "slot layout");
static_assert(offsetof(struct odp_slot, gate) == ODP_CACHELINE, "gate has its own line");

#define ODP_MAX_WATCHES 1024u

/*
 * Who must be told of regions on a file, or on all files of a file system. Claimed
 * under the domain's lock; it ends with its process. A registration sets its
 * slot's bit in NEWS, then adds to BELL and wakes it (futex).
 *
 * The watch's thread need not have seen a registration: a recall adds to RECALLING, then
 * reads NEWS; a registration sets its bit in NEWS, then looks at RECALLING (seq_cst, all):
 * one sees the other. With a recall under way the registration waits (file.c).
 */
struct odp_watch_shm {
	_Atomic uint32_t serial; /* unique in the domain, 0: free; release store, last */
	uint32_t slot, gen;      /* the process that watches */
	uint32_t lease_ms;
	uint64_t dev, ino; /* INO 0: every file */
	uint32_t policy;   /* enum odp_policy that it names */
	_Atomic uint32_t bell;
	_Atomic uint32_t recalling; /* recalls that have begun and not ended */
	uint32_t pad0;
	uint64_t pad[2];
	_Atomic uint64_t news[ODP_MAX_PROCS / 64];
	_Atomic uint64_t held[ODP_MAX_PROCS / 64]; /* slots whose gates it keeps shut */
};
static_assert(sizeof(struct odp_watch_shm) == 5 * ODP_CACHELINE, "watch layout");

enum odp_said { ODP_SAID_NO_UFFD = 1 };

#define ODP_DOMAIN_MAGIC 0x6e6d6f6470646f75ull /* "uodpdomn" */
/* Bytes of the domain file used as fcntl locks, past everything that is data. */
#define ODP_LOCK_BYTE ((off_t)1 << 40)
#define ODP_LIVE_BYTE (ODP_LOCK_BYTE + 4096)

/* File "domain" in the run directory, mapped by every attached process. */
struct odp_domain {
	uint64_t magic;
	uint32_t version;
	uint32_t size_check;           /* sizeof(struct odp_domain) */
	_Atomic uint64_t claims;       /* how often a slot was claimed, for reports */
	_Atomic uint32_t qpn_next;     /* where the search for a free block begins */
	uint32_t watch_serial;         /* the last one given */
	_Atomic uint32_t watches_high; /* watches ever in use at a time */
	/* Warnings about the host that a process of this run directory has given already:
	 * bits, enum odp_said. */
	_Atomic uint32_t said;
	uint32_t pad0[6];
	uint8_t pad[4096 - 64];
	struct odp_slot slots[ODP_MAX_PROCS];
	_Atomic uint16_t qpn_owner[ODP_QPN_BLOCKS]; /* slot + 1, 0: free */
	struct odp_watch_shm watches[ODP_MAX_WATCHES];
	struct odp_lane lanes[ODP_MAX_PROCS][ODP_MAX_LANES];
};
static_assert(offsetof(struct odp_domain, slots) == 4096, "domain layout");
static_assert(offsetof(struct odp_domain, lanes) % 4096 == 0, "lanes of a slot fill whole pages");

/*
 * Translation entry: one a page of a region, 64 bits.
 *   VALID  the page may be used; WRITE too for writing.
 *   where  (bits 4,5) POOL: bits 12.. are the frame's offset in the pool, also
 *          while the page is not valid, so that any process can fault it in;
 *          VA: the owner's address space; PIN: the region's pinned buffers, or, with
 *          bits 12.. not zero, the owner's descriptor of a pipe, plus one.
 *   NOWRITE, NOACCESS: the mapping's protection, which a fault respects.
 *   ORPHAN: the page's file has taken it away; a frame that is nobody else's has
 *          its place until the region ends (recall.c), and no event changes that.
 *   PARTED: pinned: what the program has at the address now is another page, or none.
 *   FRESH  VA: VALID because a pager says so; the access to come maps the page.
 * Zero: not known yet.
 */
typedef uint64_t odp_entry_t;
#define ODP_E_VALID ((odp_entry_t)1 << 0)
#define ODP_E_WRITE ((odp_entry_t)1 << 1)
#define ODP_E_NOWRITE ((odp_entry_t)1 << 2)
#define ODP_E_NOACCESS ((odp_entry_t)1 << 3)
#define ODP_E_WHERE ((odp_entry_t)3 << 4)
#define ODP_E_POOL ((odp_entry_t)1 << 4)
#define ODP_E_VA ((odp_entry_t)2 << 4)
#define ODP_E_PIN ((odp_entry_t)3 << 4)
#define ODP_E_ORPHAN ((odp_entry_t)1 << 6)
#define ODP_E_FRESH ((odp_entry_t)1 << 7)
#define ODP_E_PARTED ((odp_entry_t)1 << 8)
#define ODP_E_FRAME (~(ODP_PAGE_SIZE - 1))

/*
 * The shared record of a region. The owner writes it before the release store
 * of KEY and clears KEY, with a fence over all lanes, before it changes or
 * reuses anything else: readers check KEY inside a lane.
 */
struct odp_mr_shm {
	_Atomic uint32_t key; /* 0: free */
	uint32_t pd;
	uint32_t access;       /* ODP_ACCESS_* */
	uint8_t kind;          /* enum odp_kind */
	uint8_t backing : 4;   /* enum odp_backing, of most of its pages; FD: of all */
	uint8_t seen : 4;      /* enum odp_seen */
	uint8_t writable;      /* the device may write */
	_Atomic uint8_t flags; /* ODP_MR_* */
	uint64_t addr;         /* in the owner */
	uint64_t iova;
	uint64_t length;
	uint64_t xlat;   /* segment offset of npages entries */
	uint64_t npages; /* from addr rounded down; implicit (implicit.c) or revoked: 0 */
	union {
		struct {
			uint32_t pin_first; /* first registered buffer of the owner's;
					     * FD: first page behind the descriptor */
			uint32_t pin_count; /* of these, or of pipes */
		};
		uint64_t shadow; /* ODP_MR_SHADOW: the second mapping, of the first page */
	};
	/* counters, relaxed: struct odp_region_stats */
	_Atomic uint64_t page_faults;
	_Atomic uint64_t page_faults_handled;
	_Atomic uint64_t page_invalidations;
	_Atomic uint64_t page_invalidations_handled;
	_Atomic uint64_t page_prefetch;
	_Atomic uint64_t pages_valid;
	_Atomic uint64_t inject;       /* what its faults suffer (inject.c), 0: as the process */
	_Atomic uint32_t inject_count; /* faults that were asked about it */
	uint32_t tag;                  /* the upper layer's */
};
static_assert(sizeof(struct odp_mr_shm) == 128, "two lines a region");

/*
 * A window on a region (window.c) has a record in the same table, since its key is of the
 * same space. KEY, PD, KIND and TAG are where a region has them; with PD 0, which is no
 * domain's number, nothing but odp_span_window() can find a right here, so that looking a
 * region's key up costs what it did without windows.
 *
 * KEY is 0 while the window is not bound. A bound one is ended by exchanging KEY for 0, by
 * the owner, or by a peer that releases it. The rest is the owner's, who adds one to SEQ
 * before and after it changes any of it: who reads looks at SEQ and KEY again afterwards.
 */
#define ODP_KIND_WINDOW 3u
struct odp_window_shm {
	_Atomic uint32_t key; /* 0: not bound */
	uint32_t no_pd;       /* 0 */
	uint32_t access;      /* ODP_ACCESS_REMOTE_* */
	uint8_t kind;         /* ODP_KIND_WINDOW */
	uint8_t exclusive;    /* one user's, who may end it by its key */
	uint8_t pad0[2];
	_Atomic uint32_t seq;
	_Atomic uint32_t region; /* key of the region that it is bound to */
	uint64_t iova;           /* of its first byte, by the region's addresses */
	uint64_t base;           /* the same, as users of the window's key have it */
	uint64_t length;
	uint64_t user; /* exclusive: whose */
	uint32_t pd;
	uint32_t pad1[16];
	uint32_t tag; /* 0 */
};
static_assert(sizeof(struct odp_window_shm) == sizeof(struct odp_mr_shm), "one table");
static_assert(offsetof(struct odp_window_shm, no_pd) == offsetof(struct odp_mr_shm, pd) &&
		      offsetof(struct odp_window_shm, kind) == offsetof(struct odp_mr_shm, kind) &&
		      offsetof(struct odp_window_shm, tag) == offsetof(struct odp_mr_shm, tag),
	      "a window is no region");

#define ODP_MR_IMPLICIT 1u /* all of the address space */
#define ODP_MR_HUGE 2u     /* of huge pages only */
#define ODP_MR_SHADOW 4u   /* reached through a second mapping of its files (file.c) */
#define ODP_MR_REVOKED 8u  /* every access fails; NPAGES is 0 */
#define ODP_MR_FOREIGN 16u /* over memory with a userfaultfd of the program's own */
#define ODP_MR_POLICY 5    /* bits from here on: enum odp_policy, the strictest of its files */

enum odp_file_state {
	ODP_FILE_FREE,    /* set by the watch; by the owner if that is gone */
	ODP_FILE_ASKED,   /* by the owner: complete, to be taken notice of */
	ODP_FILE_KNOWN,   /* by the watch: recalls find it */
	ODP_FILE_REFUSED, /* by the watch, which could not: see ERROR */
	ODP_FILE_GONE,    /* by the owner: to be forgotten */
};

/*
 * A part of a region that maps a part of a file which somebody watches. Written by
 * the owner while it is FREE. Every change of STATE is announced by its index in
 * the ring of the segment.
 */
struct odp_file_shm {
	_Atomic uint32_t state; /* enum odp_file_state; also a futex of the owner's */
	int32_t error;
	uint32_t watch; /* serial */
	uint32_t key;   /* the region's */
	uint64_t ino;
	uint64_t start; /* in the file, bytes */
	uint64_t npages;
	uint64_t page;  /* of the region, at START */
	uint64_t spare; /* PINNED, SCRATCH: pool offset of the frame that takes the place of
			 * the region's first page, or of every page */
	uint32_t lease_ms;
	uint8_t policy;         /* enum odp_policy, never DEFAULT */
	_Atomic uint8_t notice; /* 1 << enum odp_notice: for the owner */
	uint8_t notify;         /* it wants to hear of ODP_NOTICE_PARTED */
	uint8_t ended;          /* the owner has been told that the watch has ended */
	uint64_t cookie;        /* the region's, for the owner's notices */
	uint32_t watch_nr;      /* of the watch's record in the domain */
	uint32_t next;          /* the region's next in seg->region_files, + 1; 0: none */
	uint64_t pad[6];
};
static_assert(sizeof(struct odp_file_shm) == 2 * ODP_CACHELINE, "two lines a file");

#define ODP_MAX_FILES (1u << 16) /* a process */

/*
 * Pages for which a userfaultfd of the owner's program is to be asked, by threads of
 * the owner's: at most one a page, so that a handler may answer in any order.
 */
#define ODP_FOREIGN_PAGES 64u
struct odp_foreign_shm {
	_Atomic uint32_t bell; /* pages asked for so far; also a futex of the owner's */
	uint32_t pad;
	/* 0: free; else an address, and enum odp_foreign_state in the bits below it */
	_Atomic uint64_t pages[ODP_FOREIGN_PAGES];
	_Atomic uint64_t failed_at[ODP_FOREIGN_PAGES]; /* FAILED since, odp_now() */
	_Atomic uint32_t keys[ODP_FOREIGN_PAGES];      /* of the region that asked */
};

enum odp_foreign_state {
	ODP_FOREIGN_ASKED = 1, /* by whoever runs a transfer */
	ODP_FOREIGN_TAKEN,     /* by the owner: a thread waits for the handler */
	ODP_FOREIGN_FAILED,    /* by the owner: the page is not to be had */
};

#define ODP_SEG_MAGIC 0x676573706464706full

/*
 * The kernel gives a ring this many registered buffers: a process opens one ring after
 * the other as it needs them. A buffer's number counts through all of them. Enough for a
 * buffer for each region, and as many for regions that take several.
 */
#define ODP_PIN_SLOTS 16384u
#define ODP_PIN_RINGS 128u
static_assert(ODP_PIN_RINGS * ODP_PIN_SLOTS >= 2 * ODP_MAX_REGIONS, "one for each region");

/* Where things are in the pin ring's mapping (one for both queues): what only
 * the creator of an io_uring is told. entries 0: there is no ring. */
struct odp_pin_ring {
	_Atomic uint32_t entries; /* of the submission queue; release store, last */
	uint32_t cq_entries;
	uint32_t ring_len, sqes_len;
	uint32_t sq_head, sq_tail, sq_array;
	uint32_t cq_head, cq_tail, cqes;
	uint32_t pad[6];
};
static_assert(sizeof(struct odp_pin_ring) == 64, "one line");

/* A process's segment, a sparse memfd. */
struct odp_seg {
	uint64_t magic;
	uint32_t version;
	uint32_t slot;
	uint32_t gen;
	int32_t pid;
	uint64_t size;                 /* bytes of the whole memfd */
	uint64_t arena;                /* offset where the arena starts */
	_Atomic uint64_t root;         /* offset of the upper layer's root object */
	struct odp_lock atomics;       /* serializes atomics that the CPU cannot do */
	struct odp_lock ring;          /* serializes submissions to the pin ring */
	_Atomic uint32_t regions_high; /* highest region index ever used + 1 */
	uint32_t pad0;
	struct odp_pin_ring pin;       /* of all rings; written before the first of pin_fds */
	_Atomic uint64_t inject;       /* what faults suffer (inject.c), 0: nothing */
	_Atomic uint64_t inject_table; /* offset of the faults that take their time, 0: none */
	_Atomic uint32_t inject_count;
	_Atomic uint32_t files_high;    /* highest file index ever used + 1 */
	_Atomic uint32_t files_head;    /* announcements so far; release store */
	_Atomic uint32_t notices;       /* notices so far */
	_Atomic uint64_t faultq;        /* offset of the fault queues (faultq.h), 0: none */
	_Atomic uint32_t faultq_rung;   /* bit q: queue q has got a fault */
	_Atomic uint32_t watches_ended; /* watches of regions here that were destroyed, so far */
	_Atomic uint64_t foreign;       /* offset of struct odp_foreign_shm, 0: none */
	/* The descriptors of the rings, + 1; 0: none yet. Release store. */
	_Atomic int32_t pin_fds[ODP_PIN_RINGS];
	uint8_t pad[4096 - 184 - 4 * ODP_PIN_RINGS];
	struct odp_mr_shm mrs[ODP_MAX_REGIONS];
	struct odp_file_shm files[ODP_MAX_FILES];
	_Atomic uint32_t files_ring[ODP_MAX_FILES]; /* indexes of files that changed */
	/* By a key's index: a record, + 1, for each watch without which the region may not be
	 * reached (ODP_POLICY_REVOKE and stricter); 0: none. Written before the key. */
	uint32_t region_files[ODP_MAX_REGIONS];
	/* By a watch's number: its serial, when it is attached here and reads NEWS itself.
	 * The last is the process's own. */
	_Atomic uint32_t files_ready[ODP_MAX_WATCHES + 1];
	uint8_t pad2[4096 - sizeof(uint32_t)];
	/* arena follows, at .arena */
};
static_assert(offsetof(struct odp_seg, mrs) == 4096, "segment layout");

#define ODP_ARENA_OFF sizeof(struct odp_seg)
static_assert(ODP_ARENA_OFF % ODP_PAGE_SIZE == 0, "the arena is page-aligned");

#define ODP_SEG_SIZE ((uint64_t)32 << 30) /* address space, not memory */
#define ODP_POOL_SIZE ((uint64_t)1 << 42) /* offsets in the pool's memfd */
#define ODP_WINDOW_SHIFT 30               /* peers map the pool in such pieces */
#define ODP_WINDOWS (ODP_POOL_SIZE >> ODP_WINDOW_SHIFT)

#endif
