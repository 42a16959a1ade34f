/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * libodp: memory regions that a software device reaches, pinned or on demand.
 *
 * A process attaches once to a run directory (odp_proc_get). It registers
 * ranges of its memory as regions; every attached process can then move bytes
 * between its own regions and those of others by key (odp_copy), on its own
 * CPU, without the owner's help.
 *
 * Errors are negative errno values unless a comment says otherwise. Every
 * function may be called from any thread, except from inside a handler that
 * odp_service_set() installed where a comment forbids it.
 */
#ifndef ODP_ODP_H
#define ODP_ODP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct odp_proc;   /* this process's attachment; one a process */
struct odp_peer;   /* an attached process (this one too) as seen from here */
struct odp_region; /* a region that this process registered */
struct odp_window; /* a key of its own for a part of one */
struct odp_mr_shm; /* the shared record of a region; opaque to callers */

/* ---- Attaching to a run directory (domain.c, peer.c, arena.c) ---- */

/*
 * Attach this process to its run directory and start its service thread; later
 * calls return the same attachment (it lives until the process ends, because
 * memory that was registered keeps depending on it). The directory is
 * $UODP_DIR, else $XDG_RUNTIME_DIR/uodp, else /dev/shm/uodp-<uid>; it is made
 * with mode 0700. After fork the child has none until it calls this again.
 *
 * Errors: -EACCES (directory not owned by the caller or open to others), -ENOTDIR,
 * -EPROTO (made by another version, or corrupt), -EMFILE/-EUSERS (all slots in
 * use), -ENOMEM, or what the failing system call gave. One line on stderr says
 * what to do.
 */
int odp_proc_get(struct odp_proc **proc);

/* The attachment if odp_proc_get() has made it, else NULL. A plain load. */
struct odp_proc *odp_proc_attached(void);

/*
 * Check the run directory, make it if there is none, and copy its path to BUF,
 * without attaching. Errors as odp_proc_get(), with the same line on stderr;
 * -ENAMETOOLONG when SIZE is too small.
 */
int odp_dir_get(char *buf, size_t size);
/* As odp_dir_get(), but -ENOENT, with no line and the path in BUF, when there is
 * none: for those who only look. */
int odp_dir_find(char *buf, size_t size);

/* The run directory's path; owned by PROC. */
const char *odp_proc_dir(const struct odp_proc *proc);
/* PROC's slot number, 0 to ODP_MAX_PROCS - 1. */
unsigned odp_proc_slot(const struct odp_proc *proc);
/* PROC seen as a peer of itself; never dead, needs no put. */
struct odp_peer *odp_proc_self(struct odp_proc *proc);

/*
 * The peer in SLOT, attached on first use (its segment is mapped; its fds are
 * opened through /proc). The pointer stays valid until the process ends; when
 * the slot's process has died and another took the slot, this returns another
 * pointer. -ENOENT: nobody there; -EACCES: may not be traced by the caller.
 * Not from the service thread.
 */
int odp_peer_get(struct odp_proc *proc, unsigned slot, struct odp_peer **peer);

/* False from the moment that the peer's process has ended, or called exec, be it
 * by a kill: before anybody can have waited for it. Plain loads. */
bool odp_peer_alive(const struct odp_peer *peer);
/* As odp_peer_alive(), but asks the kernel (poll on the pidfd). */
bool odp_peer_check(struct odp_peer *peer);
unsigned odp_peer_slot(const struct odp_peer *peer);
pid_t odp_peer_pid(const struct odp_peer *peer);

/*
 * Address of LEN bytes at OFF in PEER's segment, or NULL when they are not
 * wholly inside its arena: offsets read from shared memory are not trusted.
 */
void *odp_peer_ptr(const struct odp_peer *peer, uint64_t off, size_t len);
/* Offset of the root object that the layer above published, 0 if none yet. */
uint64_t odp_peer_root(const struct odp_peer *peer);
/* Publish OFF as this process's root object (release store). */
void odp_root_set(struct odp_proc *proc, uint64_t off);

/*
 * A file descriptor of this process that is the same open file as, or a newly
 * opened end of, descriptor FD of PEER. Pipes and memfds are opened through
 * /proc/PID/fd (FLAGS as for open(2); a pipe opened for writing is opened for
 * reading too, so that its owner's death raises no SIGPIPE); anything else is
 * taken with pidfd_getfd.
 * The caller closes it. -ESRCH, -EACCES, -EPERM, -EBADF.
 */
int odp_peer_fd(struct odp_peer *peer, int fd, int flags);

/*
 * The first descriptor from FD on that libodp keeps open for its own use, -1 when
 * there is none, as in a child after fork. A program that closes all descriptors but
 * those it knows must leave these, without which nothing can follow what becomes of
 * registered memory. Changes nothing and takes no lock: from any thread, a signal
 * handler, a child after vfork.
 */
int odp_fd_kept(int fd);

/*
 * FD becomes one of those that libodp keeps (odp_fd_kept()), under a number that programs
 * do not use, if there is one: that number; what is negative comes back. It ends with
 * odp_fd_close(), which is close() for any other descriptor. From any thread; not from a
 * signal handler.
 */
int odp_fd_keep(int fd);
void odp_fd_close(int fd);

/*
 * True from the moment that libodp has found such a descriptor closed all the same:
 * what becomes of memory can no longer be told, and no more of it can be registered.
 * The service handler is called when it becomes true. A plain load.
 */
bool odp_proc_lost(const struct odp_proc *proc);

/*
 * Zeroed shared memory in this process's segment: page-multiples come
 * page-aligned, smaller sizes 64-byte aligned. Returns the offset, 0 when full.
 * Peers reach it with odp_peer_ptr(). Freed with the same size.
 * Not from the service thread.
 */
uint64_t odp_arena_alloc(struct odp_proc *proc, size_t size);
void odp_arena_free(struct odp_proc *proc, uint64_t off, size_t size);

/* Zeroed private memory that is never a program's heap page, so that it may be
 * touched while program memory is being moved or is missing. NULL when out of
 * memory. Page-granular for sizes of a page and more; smaller objects share
 * pages. Freed with the same size. Not from the service thread. */
void *odp_priv_alloc(size_t size);
void odp_priv_free(void *p, size_t size);

/*
 * Blocks of 256 queue pair numbers, unique in the run directory. BLOCK is
 * 1..65535 (block 0 holds the reserved QP numbers 0 and 1 and is never given).
 */
#define ODP_QPN_BLOCK_SHIFT 8
int odp_qpn_block_alloc(struct odp_proc *proc, unsigned *block);
void odp_qpn_block_free(struct odp_proc *proc, unsigned block);
/* The slot that owns BLOCK, or -ENOENT. A plain load. */
int odp_qpn_block_slot(struct odp_proc *proc, unsigned block);

/* ---- The service thread (service.c) ---- */

/*
 * One thread a process, an io_uring loop. It reads userfaultfd events and
 * faults, watches peers' pidfds, and calls FN(ARG) when the bell rings, when a
 * deadline that FN returned has come, and when a peer died. FN returns the
 * CLOCK_MONOTONIC time in ns at which it wants to be called next, or
 * UINT64_MAX. FN must not wait for a program thread, call malloc, or touch
 * program memory except through odp_copy().
 */
typedef uint64_t (*odp_service_fn)(void *arg);
void odp_service_set(struct odp_proc *proc, odp_service_fn fn, void *arg);
/* Make PEER's service thread call its handler soon. Safe from anywhere. */
void odp_bell_ring(struct odp_peer *peer);
/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t odp_now(void);

/* ---- A lock in shared memory that survives its owner (lock.c) ---- */

/*
 * Held for tens of nanoseconds around shared queues. A waiter spins, then
 * yields, and takes the lock over when the holder's process has died; what the
 * lock protects must therefore be consistent at every store. Zero is unlocked.
 */
struct odp_lock {
	uint32_t owner; /* 0, or slot + 1 in the low 16 bits and a tag above */
};
void odp_lock(struct odp_proc *proc, struct odp_lock *lock);
bool odp_trylock(struct odp_proc *proc, struct odp_lock *lock);
/* As odp_trylock(), but waits a moment, and takes the lock from a dead holder: for
 * locks that are held for longer, by one of the holder's threads for another. */
bool odp_lock_try(struct odp_proc *proc, struct odp_lock *lock);
/* Waits at most NS nanoseconds, or for 0 as odp_lock_try() does; false: its holder, which
 * lives, has it still. For locks whose holder may be a process that is stopped. */
bool odp_lock_for(struct odp_proc *proc, struct odp_lock *lock, uint64_t ns);
void odp_unlock(struct odp_lock *lock);
/* What odp_lock() stores for this process, and whether the process that such a value is
 * of lives: for words of shared memory that are not locks but have a holder. */
uint32_t odp_lock_tag(const struct odp_proc *proc);
bool odp_lock_tag_alive(struct odp_proc *proc, uint32_t tag);

/* ---- Regions (region.c) ---- */

enum {
	/* The values of enum ibv_access_flags. */
	ODP_ACCESS_LOCAL_WRITE = 1 << 0,
	ODP_ACCESS_REMOTE_WRITE = 1 << 1,
	ODP_ACCESS_REMOTE_READ = 1 << 2,
	ODP_ACCESS_REMOTE_ATOMIC = 1 << 3,
	ODP_ACCESS_BIND = 1 << 4, /* windows may be bound to the region */
};

/* NULL: no memory at all. What is read there is zero, what is written is lost. */
enum odp_kind { ODP_PINNED, ODP_ON_DEMAND, ODP_NULL };

/* Where a region's bytes live; AUTO is what $UODP_BACKING says, by default the
 * best that the memory and the host allow. */
enum odp_backing {
	ODP_BACKING_AUTO,
	ODP_BACKING_POOL, /* frames that every process maps */
	ODP_BACKING_VA,   /* the owner's address space */
	ODP_BACKING_PIN,  /* pages pinned through io_uring, or held by pipes */
	ODP_BACKING_FD,   /* what a descriptor of the owner's maps, as a dma-buf's */
};

/*
 * What becomes of a region when the blocks of a file under it go away (truncate,
 * hole punch and the like); in order of strictness. A region's policy is the
 * strictest of those that are named for it: in its attributes, in $UODP_POLICY,
 * by the file system (odp_watch_create()). DEFAULT names none; where none is
 * named it is ODP or PINNED, by the region's kind.
 *
 *   ODP      the translation follows the file: an access to a block that is gone
 *            faults the new one in, or is an error past the end of the file
 *   PINNED   accesses go on, to copies of the old pages that are nobody else's
 *   SCRATCH  accesses go on, to memory outside the file; what is written is lost
 *   REVOKE   accesses fail until the region is destroyed
 *   LEASE    its owner is told, and has the lease-break time to destroy it, while
 *            the truncate waits; then as REVOKE
 *   KILL     as LEASE, with SIGKILL at the end
 *   DENY     the truncate fails with ETXTBSY while the region lives
 */
enum odp_policy {
	ODP_POLICY_DEFAULT,
	ODP_POLICY_ODP,
	ODP_POLICY_PINNED,
	ODP_POLICY_SCRATCH,
	ODP_POLICY_REVOKE,
	ODP_POLICY_LEASE,
	ODP_POLICY_KILL,
	ODP_POLICY_DENY,
};

struct odp_region_attr {
	void *addr;
	size_t length;   /* bytes; 0: see odp_region_create() */
	uint64_t iova;   /* the address that work requests use for ADDR */
	uint32_t pd;     /* protection domain number, checked on access */
	uint32_t access; /* ODP_ACCESS_* */
	enum odp_kind kind;
	enum odp_backing backing;
	bool huge;    /* on demand: of huge pages only (IBV_ACCESS_HUGETLB) */
	uint32_t tag; /* the caller's, for odp_stats_sum() */
	enum odp_policy policy;
	uint32_t lease_ms;  /* LEASE, KILL: the lease-break time; 0: see odp_watch_attr */
	int fd;             /* ODP_BACKING_FD: what ADDR is a shared mapping of; stays the
			    * caller's, who may close it when the region is there */
	uint64_t fd_offset; /* of ADDR's page there, in bytes */
	uint64_t cookie;    /* the caller's, for odp_notice_fn */
	bool notify;        /* pinned: tell (ODP_NOTICE_PARTED) when pages part from what the
			     * program has at their addresses */
};

/*
 * ODP_BACKING_FD is for memory that the kernel copies from no other process's mapping,
 * device memory: whoever executes a transfer maps the descriptor for it. On demand only,
 * with no policy of files; the mapping at ADDR is not looked at.
 */

/*
 * ADDR NULL with LENGTH SIZE_MAX, on demand, is implicit: all of the process's
 * memory, now and later, by its own addresses (IOVA must be 0, HUGE false,
 * BACKING AUTO or VA). No page of it is valid at first.
 */

/*
 * ODP_NULL has no address, the length SIZE_MAX, IOVA 0, no remote right and no more
 * attributes than PD, TAG and COOKIE.
 */

/*
 * Register memory. Pinned: every page is resolved now, and kept until
 * odp_region_destroy() whatever happens to the mapping. On demand: pages follow
 * the program's mapping; those present now are valid without a fault.
 *
 * LENGTH 0 inside a page is a region of that page to which no access succeeds.
 *
 * Errors as ibv_reg_mr(3): -EINVAL (length 0 at the start of a page, wrap-around, REMOTE_WRITE or
 * REMOTE_ATOMIC without LOCAL_WRITE), -EFAULT (pinned: unmapped, not
 * accessible, or a writable shared mapping of a disk file), -ENOMEM (region
 * table full, RLIMIT_MEMLOCK for pinned memory, no memory). HUGE: -EINVAL when a
 * smaller page is there; where one could only come later, access fails.
 * Not from the service thread.
 */
int odp_region_create(struct odp_proc *proc, const struct odp_region_attr *attr,
		      struct odp_region **region);

/*
 * Deregister: when it returns, no transfer of any process touches the memory
 * through this region, and none will. REGION is freed. -EBUSY: a window is bound to it,
 * and nothing has changed.
 */
int odp_region_destroy(struct odp_region *region);

/* The key (lkey and rkey): 24-bit index, 8-bit variant; never 0. */
uint32_t odp_region_key(const struct odp_region *region);

/* Pinned or on demand; and where most of its bytes are, never AUTO. */
enum odp_kind odp_region_kind(const struct odp_region *region);
enum odp_backing odp_region_backing(const struct odp_region *region);

/*
 * How an on-demand region hears that pages of it go, for what hangs on faults: counters,
 * latency, failure, pagers. (What its accesses reach is right in any case.) 0: pinned,
 * or of a dma-buf.
 */
enum odp_seen {
	ODP_SEEN_KERNEL = 1 << 0, /* the kernel tells, whoever does it */
	ODP_SEEN_CALLS = 1 << 1,  /* calls of the program's through the C library tell */
	ODP_SEEN_ACCESS = 1 << 2, /* the next access finds it, if the program has not touched
				   * the page meanwhile */
};
unsigned odp_region_seen(const struct odp_region *region);

/* Change PD, access (both: not while transfers run). -EBUSY: a window is bound to it. */
int odp_region_modify(struct odp_region *region, uint32_t pd, uint32_t access);

/* ---- Windows (window.c) ---- */

/*
 * A window is a second key for a part of a region, with rights of its own for other
 * processes. It is made once, and costs nothing to give and to take back afterwards.
 * Its key comes out of the regions' space; what a region's owner, pager or file does to
 * the region's pages is done to the window's.
 */
struct odp_window_attr {
	uint32_t pd;    /* of the window, of regions it is bound to, and of its users */
	bool exclusive; /* bound for one user at a time, who may end it by its key */
};

/* -ENOMEM: no key left, no memory. Not from the service thread. */
int odp_window_create(struct odp_proc *proc, const struct odp_window_attr *attr,
		      struct odp_window **window);
/* The binding ends as by odp_window_unbind(); WINDOW is freed. Not from the service thread. */
void odp_window_destroy(struct odp_window *window);
/* Its last key; the next binding's has another variant (the low 8 bits). */
uint32_t odp_window_key(const struct odp_window *window);
/* Tells it from every other of the process that has had, or will have, its index. */
uint64_t odp_window_serial(const struct odp_window *window);

struct odp_window_bind {
	uint32_t key;    /* that the window is to have: its index and any variant */
	uint64_t serial; /* the window's: who waited may be late */
	uint32_t region; /* key */
	uint32_t pd;     /* who asks */
	uint32_t access; /* ODP_ACCESS_REMOTE_* */
	uint64_t iova;   /* first byte, by the region's addresses */
	uint64_t length; /* 0: not bound, but with another key */
	uint64_t base;   /* the address that users of the window use for IOVA */
	uint64_t user;   /* exclusive: who alone may use it */
};
/*
 * Bind a window, in place of what it was bound to. *ENDED: accesses by its old key may be
 * under way; odp_quiesce() or odp_settle() waits for them. From any thread, the service
 * thread too.
 *
 * Errors: -ENOENT (no such window or region), -EPERM (another PD), -EACCES (no
 * ODP_ACCESS_BIND, or one needs ODP_ACCESS_LOCAL_WRITE there), -ERANGE, -EINVAL (a right
 * that a window has not, exclusive without bytes), -EBUSY (exclusive, and bound).
 */
int odp_window_bind(struct odp_proc *proc, const struct odp_window_bind *bind, bool *ended);
/* End the binding that an exclusive window has by KEY; *ENDED and threads as above. -ENOENT:
 * no such key is bound; -EPERM: another PD, or not exclusive. */
int odp_window_unbind(struct odp_proc *proc, uint32_t key, uint32_t pd, bool *ended);

enum odp_advice { ODP_PREFETCH, ODP_PREFETCH_WRITE, ODP_PREFETCH_NO_FAULT };
/* Fault [iova, iova+length) in, as ibv_advise_mr(3). -EFAULT: outside the
 * region, or a page that cannot be resolved; -EPERM: WRITE on a read-only
 * region. */
int odp_region_advise(struct odp_region *region, enum odp_advice advice, uint64_t iova,
		      size_t length);

/* Invalidate [addr, addr+length) of this process in every on-demand region, as
 * if the kernel had called an MMU notifier: the next access faults. */
int odp_invalidate(struct odp_proc *proc, void *addr, size_t length);

/*
 * Whoever changes the protection of [addr, addr+length) with mprotect(2) calls
 * this after it, before anyone may count on the change: there is no event that
 * would tell. On-demand regions then refuse what PROT forbids; pinned ones go
 * on as before.
 */
int odp_protect(struct odp_proc *proc, void *addr, size_t length, int prot);

/*
 * The pages of [addr, addr+length), or of [start, end) of the file DEV, INO (as fstat(2)
 * has them; END UINT64_MAX: all that follows), are not what they were: the program has
 * unmapped, replaced or discarded them, or taken them from the file. Called after it.
 * Of memory in the pool the kernel tells by itself; of other memory that on-demand
 * regions have nobody does, and their counters, slow faults and pagers would miss it.
 * Cheap where no region has such memory, which odp_follows() tells. From any thread but
 * the service thread; takes locks of libodp's: not while one of its callbacks runs.
 */
enum odp_change {
	ODP_CHANGE_REPLACED,  /* unmapped, replaced, taken from the file: pinned regions go on
			       * without the program */
	ODP_CHANGE_DISCARDED, /* so do those over private memory */
	ODP_CHANGE_AWAY,      /* out of the page tables; pinned pages stay there */
};
void odp_range_changed(struct odp_proc *proc, const void *addr, size_t length,
		       enum odp_change change);
void odp_file_changed(struct odp_proc *proc, dev_t dev, ino_t ino, uint64_t start, uint64_t end);
bool odp_follows(const struct odp_proc *proc);
/* The same of MADV_REMOVE, which takes the pages from the file, for all mappings of it. */
void odp_range_removed(struct odp_proc *proc, const void *addr, size_t length);
/* All calls of this program that do so are told of, but bare system calls: by whoever
 * sees to it, before anything is registered; regions say so (odp_region_seen()). */
void odp_changes_told(void);

/*
 * Is the page at ADDR in the pool? Then it is a shared mapping for system calls
 * that tell these from private ones. Returns for how many of LENGTH bytes the
 * answer in MOVED holds.
 */
size_t odp_range_moved(struct odp_proc *proc, const void *addr, size_t length, bool *moved);
/*
 * For whoever says something of private memory that is to stay when it moves (madvise(),
 * mlock(): 0), before the first time: from now on registration looks what was said of
 * what it moves. MADV_DONTFORK counts from when it was noted once: it may be another
 * library's, which fears for memory that devices use. From any thread, attached or not.
 */
void odp_advice_note(int advice);
/*
 * MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_DONTFORK or MADV_DOFORK, said of whole pages
 * that are in the pool, which fork() treats as libodp does and not as the kernel would.
 * 0, -EINVAL (another advice, unaligned), -ENOMEM.
 */
int odp_range_advise(struct odp_proc *proc, const void *addr, size_t length, int advice);

/*
 * Around whatever makes a child with memory of its own and runs no handlers of
 * pthread_atfork(3), as _Fork(3) and clone(2): the child gets its copies of memory in the
 * pool, and is detached. If odp_fork_begin() returns true the same thread calls
 * odp_fork_end() in the parent, child or no child, and in the child, before that touches
 * such memory; false: a fork of this thread is under way, whose handlers see to it.
 * Signals are blocked in between. The child may not share its parent's descriptors
 * (CLONE_FILES), nor the parent wait in the kernel for the child (CLONE_VFORK).
 * Async-signal-safe. odp_fork_end() keeps errno.
 */
bool odp_fork_begin(void);
void odp_fork_end(bool child);

struct odp_region_stats {                    /* names as `rdma statistic show mr` */
	uint64_t page_faults;                /* pages a transfer found missing */
	uint64_t page_faults_handled;        /* of these, resolved */
	uint64_t page_invalidations;         /* pages an invalidation covered; pinned: pages
					      * that are no longer what the program has there */
	uint64_t page_invalidations_handled; /* of these, valid before */
	uint64_t page_prefetch;              /* pages brought in by advice */
	uint64_t pages;                      /* pages that the region spans; implicit: 0 */
	uint64_t pages_valid;                /* entries valid now */
};
void odp_region_stats(const struct odp_region *region, struct odp_region_stats *stats);
/* The sums over the regions of PROC that have TAG now. */
void odp_stats_sum(struct odp_proc *proc, uint32_t tag, struct odp_region_stats *stats);

/* What is done to the faults of transfers (not to those of advice, nor of CPUs). */
struct odp_fault_policy {
	uint32_t latency_us;     /* how long a fault takes at least, up to 10^9 */
	uint8_t latency_percent; /* of so many of them; 0: of all */
	uint8_t fail_percent;    /* so many fail as if there were no page ... */
	uint16_t fail_nth;       /* ... and every Nth; 0: none */
};
/*
 * Set it for a region, or for all regions of the process that have none of their
 * own: at first $UODP_FAULT_LATENCY and $UODP_FAULT_FAIL, which odp_proc_get()
 * reads. NULL: as the process; for the process: nothing. Whoever runs the
 * transfer, it is the policy of the owner of the memory that counts.
 * -EINVAL: a percentage above 100, a latency above 10^9; -ENOMEM.
 */
int odp_region_fault_policy(struct odp_region *region, const struct odp_fault_policy *policy);
int odp_proc_fault_policy(struct odp_proc *proc, const struct odp_fault_policy *policy);

/* ---- Faults resolved by a pager of the program (faultq.c) ---- */

/*
 * A queue hands the faults that transfers have on regions to the program, through
 * one descriptor, in the manner of iommufd. The transfers wait meanwhile, as for a
 * fault that takes its time (odp_copy() gives -EAGAIN).
 */
struct odp_fault_queue;

struct odp_fault_queue_attr {
	uint32_t depth;       /* groups open at once, up to 1024; 0: 64. Further faults wait */
	uint32_t group_pages; /* messages in a group, up to 64; 0: 16 */
};

#define ODP_FAULT_LAST 1u /* of its group */
enum { ODP_FAULT_READ = 1 << 0, ODP_FAULT_WRITE = 1 << 1 };

/* One missing page. Those that one access found belong to one group, which is read
 * as a whole and answered once. */
struct odp_fault_msg {
	uint32_t flags;   /* ODP_FAULT_LAST */
	uint32_t dev_id;  /* as attached */
	uint32_t key;     /* of the region */
	uint32_t group;   /* counts the queue's groups */
	uint32_t perm;    /* ODP_FAULT_READ, or both */
	uint32_t length;  /* hint: bytes that the access wants from here on */
	uint64_t iova;    /* where the page begins, as work requests have it ... */
	uint64_t addr;    /* ... and the program */
	uint64_t context; /* as attached */
	uint32_t cookie;  /* for the response; the same in all of a group */
	uint32_t reserved[3];
};

enum odp_fault_code { ODP_FAULT_SUCCESS, ODP_FAULT_INVALID };

struct odp_fault_response {
	uint32_t cookie;
	uint32_t code; /* enum odp_fault_code */
};

/*
 * read() gives whole groups in the order in which they came, waits when there is
 * none (O_NONBLOCK: EAGAIN), EINVAL when the next does not fit. write() takes
 * responses. SUCCESS: the pages are as the program's mapping has them now; those
 * that it has not fail. INVALID: one access that waits for them fails, as if there
 * were no page; others ask again. EINVAL: a bad code, or a cookie of no group that
 * was read and is open; responses before a bad one count. poll() says readable when
 * there is a group, and writable always. When the last copy of the descriptor is
 * closed, all faults fail.
 * Starts a thread. -EINVAL, -ENOSPC (16 queues), -ENOMEM, -EMFILE.
 */
int odp_fault_queue_create(struct odp_proc *proc, const struct odp_fault_queue_attr *attr,
			   struct odp_fault_queue **queue);
/* Closes the descriptor unless KEEP_FD; detaches what is attached. A child of fork
 * calls this for its copy too. */
void odp_fault_queue_destroy(struct odp_fault_queue *queue, bool keep_fd);
int odp_fault_queue_fd(const struct odp_fault_queue *queue);
/* False: there is no FUSE here, write() accepts anything, and what is bad is said on
 * stderr alone. */
bool odp_fault_queue_checked(const struct odp_fault_queue *queue);

/* From here on faults on REGION go to QUEUE; pages that are valid stay so. -EINVAL:
 * not on demand, or of another process; -EBUSY: it has a queue. */
int odp_fault_queue_attach(struct odp_fault_queue *queue, struct odp_region *region,
			   uint32_t dev_id, uint64_t context);
/* What is open of REGION is answered with INVALID, then faults are resolved as usual.
 * odp_region_destroy() drops what is open. -EINVAL: it has no queue. */
int odp_fault_queue_detach(struct odp_region *region);

/* ---- Transfers (access.c, copy.c, atomic.c) ---- */

/*
 * A place in a region, or in plain private memory. Set up with odp_span_region()
 * or odp_span_private(); odp_copy() advances it.
 */
struct odp_span {
	struct odp_peer *peer; /* NULL: private memory at ADDR */
	struct odp_mr_shm *mr;
	uint64_t addr; /* iova, or the private address */
	uint32_t key;
	int err;       /* set when odp_copy() failed on this side */
	uint64_t when; /* with -EAGAIN in ERR: odp_now() when the fault ends */
	/* Transfers happen only while *GUARD is GUARD_VALUE; NULL: always. Its owner,
	 * the peer, changes it and calls odp_quiesce(): none happens after that. */
	const uint32_t *guard;
	uint32_t guard_value;
};

/*
 * Look KEY up in PEER and check that PD may use [iova, iova+length) with all of
 * ACCESS. Zero length needs no key. -ENOENT: no such key; -EPERM: other PD;
 * -EACCES: a right is missing; -ERANGE: out of bounds or wrap-around.
 */
int odp_span_region(struct odp_span *span, struct odp_peer *peer, uint32_t key, uint32_t pd,
		    uint64_t iova, uint64_t length, uint32_t access);

/*
 * The same for the key of a window of PEER's, asked when odp_span_region() has said no:
 * USER may use it in PD. ACCESS has a remote right. -ENOENT: it is none, or not bound;
 * else as above (-EPERM: other PD, or user).
 */
int odp_span_window(struct odp_span *span, struct odp_peer *peer, uint32_t key, uint32_t pd,
		    uint64_t user, uint64_t iova, uint64_t length, uint32_t access);

/* Private memory of the calling process that no program maps or unmaps: a
 * work queue's inline data, a bounce buffer, the stack. */
static inline void odp_span_private(struct odp_span *span, void *ptr)
{
	span->peer = NULL;
	span->mr = NULL;
	span->addr = (uintptr_t)ptr;
	span->key = 0;
	span->err = 0;
	span->when = 0;
}

/*
 * Copy up to *LEN bytes from SRC to DST, both advanced by what was copied, which
 * is stored in *LEN: at most one slice (ODP_SLICE bytes), so that invalidations
 * never wait long. The last bytes of a copy become visible last, with a release
 * store. Missing pages of on-demand regions are faulted in by the caller's
 * thread.
 *
 * 0: progress was made. -EAGAIN: none: call again later. The side whose page is
 * being faulted in (a fault that takes its time, see odp_region_fault_policy())
 * has .err set to -EAGAIN and .when to the end of it; with .err 0 on both sides
 * a region is in transition for a moment. -EFAULT: no page can be had;
 * -EKEYREVOKED: the region is gone; the side that failed has .err set to the same
 * value.
 */
#define ODP_SLICE ((size_t)256 << 10)
int odp_copy(struct odp_span *dst, struct odp_span *src, size_t *len);

/*
 * Take the remote rights away from the region with KEY in PEER, as a send with
 * invalidate does: later remote accesses by the key fail with -EACCES.
 * -ENOENT: no such key; -EPERM: other PD.
 */
int odp_key_invalidate(struct odp_peer *peer, uint32_t key, uint32_t pd);

/*
 * The same for a window: the binding that PEER's exclusive window has by KEY ends, if it is
 * USER's, in PD. USER has nothing under way by it. -ENOENT, -EPERM as above.
 */
int odp_window_release(struct odp_peer *peer, uint32_t key, uint32_t pd, uint64_t user);

/*
 * Wait until every transfer to or from this process's memory that has begun is
 * over, but at most a second for one of a stopped process. Not from the service
 * thread.
 */
void odp_quiesce(struct odp_proc *proc);
/* The same, but for the system calls of those outside the pool, of which one may go on for
 * the slice that it is in. From any thread. */
void odp_settle(struct odp_proc *proc);

enum odp_atomic_op { ODP_FETCH_ADD, ODP_CMP_SWAP, ODP_STORE /* of COMPARE_ADD */ };
/*
 * 8-byte atomic on SPAN (naturally aligned: the caller checks), old value in
 * *OLD, values in host order. Atomic against the CPU on pool memory; against
 * other odp_atomic() calls on all memory. Errors as odp_copy().
 */
int odp_atomic(struct odp_span *span, enum odp_atomic_op op, uint64_t compare_add, uint64_t swap,
	       uint64_t *old);

/* ---- Files whose blocks go away (file.c, watch.c, recall.c) ---- */

/* The policy called NAME ("odp", "pinned" ... "deny", "default"): 0 or -EINVAL. */
int odp_policy_parse(const char *name, enum odp_policy *policy);
/* Its name; "?" for a number that is none. */
const char *odp_policy_name(enum odp_policy policy);

/* Whoever can hold a truncate up until no region stands on the blocks any more:
 * a file system in user space, an exporter of memory. */
struct odp_watch;

/* An extended attribute of each file of a file system that has a watch of all of its
 * files, and whose type is fuse.odpfs: the run directory of that. Regions on it that are
 * registered elsewhere would not be found, and are refused. */
#define ODP_FS_XATTR "system.odpfs.run"

struct odp_watch_attr {
	uint64_t dev;           /* st_dev of the files, as the programs that map them see it */
	uint64_t ino;           /* st_ino of the one file, 0: all of DEV */
	enum odp_policy policy; /* for regions on them; DEFAULT: names none */
	uint32_t lease_ms;      /* lease-break time for regions without one; 0: what
				 * $UODP_LEASE_MS, else /proc/sys/fs/lease-break-time says */
	/* NULL, or called when a region of policy LEASE or KILL on file INO becomes known,
	 * before its registration succeeds; by the watch's thread, with a lock held: it
	 * must not call back here, nor wait. */
	void (*leased)(void *arg, uint64_t ino);
	void *arg;
};

/*
 * From here on a registration over such a file, in any process of the run
 * directory, is made known to the caller's process before it succeeds. Errors:
 * -EEXIST (watched already, by a process that lives), -ENOSPC (16 watches in the
 * run directory), -ENOMEM, -EINVAL. Starts a thread.
 */
int odp_watch_create(struct odp_proc *proc, const struct odp_watch_attr *attr,
		     struct odp_watch **watch);
/* The regions stay, and follow their mappings. No recall may be open. */
void odp_watch_destroy(struct odp_watch *watch);

/* The strictest policy of the regions on bytes [start, end) of file INO; DEFAULT
 * when there are none. LEASE and above may make odp_recall_begin() wait. */
enum odp_policy odp_watch_policy(struct odp_watch *watch, uint64_t ino, uint64_t start,
				 uint64_t end);

/* One taking away of blocks; the caller's memory, from begin to end. */
struct odp_recall {
	uint64_t ino, start, end;  /* filled in by odp_recall_begin() */
	struct odp_recall *next;   /* private */
	uint32_t regions;          /* on the blocks; */
	uint32_t revoked, killed;  /* of these; */
	uint32_t stuck;            /* owners to whom transfers are under way still */
	enum odp_policy strictest; /* of their policies */
	uint64_t pages;            /* whose translation changed */
	uint64_t waited_ns;        /* for leases */
	uint64_t held[16];         /* private */
};

/*
 * Bytes [start, end) of file INO are about to go (END UINT64_MAX: to the end of the
 * file). When this returns 0 every region there has been dealt with as its policy
 * says, whatever its owner does: no transfer that began before touches the blocks
 * any more. Take them away then, and call odp_recall_end(). Registrations on that
 * range wait from begin to end. It allocates nothing and fails with -ETXTBSY alone,
 * when a region's policy is DENY: nothing has changed then, and nothing is to be
 * ended. It waits for leases; for transfers under way; at most a second for each
 * process that is stopped inside one.
 */
int odp_recall_begin(struct odp_watch *watch, uint64_t ino, uint64_t start, uint64_t end,
		     struct odp_recall *recall);
/* The same, but it waits for leases only until GIVEN_UP(ARG), which is asked every 10 ms
 * and must not call back here, is true: then -EINTR, nothing has changed, and nothing
 * is to be ended. The owners have been told, and their time runs on. */
int odp_recall_begin_unless(struct odp_watch *watch, uint64_t ino, uint64_t start, uint64_t end,
			    struct odp_recall *recall, bool (*given_up)(void *arg), void *arg);
/* Only what odp_recall_begin_unless() waits for first: leases, whose time is over then, and
 * killed owners' ends. Until odp_recall_end() registrations on that range wait, so that a
 * recall of it that begins before waits for no lease. */
int odp_recall_await(struct odp_watch *watch, uint64_t ino, uint64_t start, uint64_t end,
		     struct odp_recall *recall, bool (*given_up)(void *arg), void *arg);
void odp_recall_end(struct odp_watch *watch, struct odp_recall *recall);

/*
 * The same for what this process is about to do itself through its descriptor FD, if it
 * watches that file for regions of its own (a lease is not broken for its holder): bytes
 * [start, end) of it go. 1: do it, then call odp_own_recall_end(); 0: nobody minds; else
 * as odp_recall_begin(). A preloaded provider calls these around ftruncate(2),
 * fallocate(2) and madvise(2). Any thread; not in a signal handler.
 */
int odp_own_recall_begin(struct odp_proc *proc, int fd, uint64_t start, uint64_t end,
			 struct odp_recall *recall);
/* The same for MADV_REMOVE on *LENGTH bytes at ADDR, of which *LENGTH are one mapping:
 * do that much, and come back for the rest. */
int odp_own_remove_begin(struct odp_proc *proc, const void *addr, size_t *length,
			 struct odp_recall *recall);
void odp_own_recall_end(struct odp_proc *proc, struct odp_recall *recall);

/*
 * A transfer whose system call sleeps is not waited for longer than a tenth of a second:
 * it may sleep until the caller is done (recall->stuck says that there is one). It goes
 * on afterwards, with pages that it finds then. Wait, between odp_recall_end() and the
 * moment when there are new blocks where old ones have gone, until this gives true: every
 * transfer to memory of known owners that was under way has come out.
 */
bool odp_watch_settle(struct odp_watch *watch);

/*
 * As odp_recall_begin(), for blocks that are not going but changing: until
 * odp_recall_end() transfers to and from the memory of the processes that have
 * regions there wait, all of it, so that none sees anything half done. To be ended
 * soon; should the caller die, they go on.
 */
int odp_recall_hold(struct odp_watch *watch, uint64_t ino, uint64_t start, uint64_t end,
		    struct odp_recall *recall);

/* Accesses to REGION fail from now on, as after a recall with REVOKE; when this
 * returns no transfer is under way. Its key stays taken until it is destroyed. */
void odp_region_revoke(struct odp_region *region);
bool odp_region_revoked(const struct odp_region *region);
/* The same for every region of PEER that has TAG, whether or not PEER runs; how many
 * that were. Waits for transfers under way, at most a second for those of a stopped
 * process. Not from the service thread. */
unsigned odp_peer_revoke(struct odp_proc *proc, struct odp_peer *peer, uint32_t tag);
/* The same for PEER's region with KEY alone: 0, or -ENOENT (there is none, or it is
 * revoked). */
int odp_peer_revoke_key(struct odp_proc *proc, struct odp_peer *peer, uint32_t key);
/* The strictest policy of the files under it; DEFAULT: nobody recalls any of them. */
enum odp_policy odp_region_policy(const struct odp_region *region);

/* What a region's owner is told of a recall. */
enum odp_notice {
	ODP_NOTICE_LEASE,
	ODP_NOTICE_REVOKED,
	ODP_NOTICE_PARTED,
	ODP_NOTICE_UNWATCHED, /* its file's watch has ended: nothing will be recalled */
};
/*
 * FN is called in the service thread, under the rules of odp_service_fn, with the
 * key of each region that a recall waits for, or has revoked, and the cookie that it was
 * created with. That may be before odp_region_create() has returned: while it brings
 * pages in, a recall finds the region.
 * Or of a pinned one that has asked to be told, and lost coherence: pages of it are no longer
 * what the program has there.
 * Or of one whose file nobody watches any more: the file system has died, or let go. What
 * has a policy of revoke or stricter is revoked then.
 */
typedef void (*odp_notice_fn)(void *arg, uint32_t key, uint64_t cookie, enum odp_notice notice);
void odp_notice_set(struct odp_proc *proc, odp_notice_fn fn, void *arg);

/* ---- Messages (log.c) ---- */

/* One line on stderr, "uodp: ..."; keeps errno; UODP_LOG=0 silences all but
 * errors, 2 adds debugging. Uses no malloc and no stdio: safe in any thread. */
enum odp_log_level { ODP_LOG_ERR, ODP_LOG_WARN, ODP_LOG_DEBUG };
void odp_log(enum odp_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- What this host can do (caps.c) ---- */

struct odp_cap {
	const char *name; /* "userfaultfd", "io_uring", "pidfd_getfd", "ptrace" ... */
	bool present;
	char detail[96];  /* what was found, or the errno of the probe */
	const char *cost; /* what is lost without it */
	char remedy[96];  /* a command that root gives this user it with; empty: none known */
};
/* Probe the host; fills up to N entries, returns how many there are. */
int odp_caps(struct odp_cap *caps, int n);

#ifdef __cplusplus
}
#endif

#endif
