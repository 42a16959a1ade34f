/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The memory side of libodp: what a process knows of its memory, and the private
 * anonymous part of it, which the pool holds.
 *
 * Locks, in the order in which they are taken:
 *   conv_lock  one registration that looks at or changes the program's mappings
 *              at a time; may be held while program memory is touched, so the
 *              service thread never takes it.
 *   mem_lock   the trees, frame counts and regions below. Never held while
 *              program memory is touched or a program-visible fault can happen:
 *              the service thread takes it to answer exactly those faults. Taken
 *              with odp_mem_lock(), which first makes sure of the stack.
 *   pin_slots  the table of registered buffers; not by the service thread.
 *   pin_pipe   the pipe to and from pinned buffers; held around system calls that
 *              touch bounce buffers and pinned pages only.
 *
 * Who changes translation entries: registration fills them before the key is
 * published; a faulting thread sets VALID with a compare-and-swap inside the
 * pool side of its lane with the owner's gate open; everything else is done by
 * the owner with its gate shut and all lanes fenced. So a thread in a lane sees
 * no entry lose a right, and no invalidation sees a fault half done: that is the
 * whole of the collision-retry protocol. (A page that is not a pool frame may
 * become one at any time: both ways reach the same bytes. And VALID of such a page is
 * a matter of counters and faults alone: whoever finds it gone from the page tables
 * takes it away, gone.c.)
 */
#ifndef ODP_POOL_H
#define ODP_POOL_H

#include <signal.h>
#include <sys/mman.h>

#include "itree.h"
#include "own.h"
#include "peer.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define ODP_WINDOW_MASK (((uint64_t)1 << ODP_WINDOW_SHIFT) - 1)

/*
 * Offsets of the pool that belong together: a converted range with the guard
 * behind it, or a pinned region's spare frames. Freed as a whole, when no frame
 * is mapped or pinned any more and no lane can still hold one.
 */
struct odp_extent {
	struct odp_inode it;     /* pool offsets, guard included */
	uint64_t live;           /* frames with a count, + 1 for a region's spares */
	struct odp_extent *next; /* in mem->dead */
	bool fenced;             /* dead, and no lane can hold a frame of it */
	bool suspect;            /* some frame was released without a fence */
	bool guarded;            /* a mapping's: may be grown into */
};

/* A converted range of the program's addresses: linear in the pool. */
struct odp_umem {
	struct odp_inode it; /* addresses */
	uint64_t off;        /* pool offset of it.start */
	struct odp_extent *ext;
	uint32_t prot;
	uint32_t said;         /* ODP_SAID_* */
	struct odp_umem *next; /* in mem->spare */
};

/* Pipes that hold the pages of a region (backing_pipe.c), in mem->holds. In a child of
 * fork that list is as it was at some moment: each change of it is one store. */
struct odp_hold {
	struct odp_hold *_Atomic next;
	unsigned n;
	int fds[];
};

struct odp_region {
	struct odp_inode it;     /* page-rounded addresses */
	struct odp_inode follow; /* the same, in mem->follows */
	struct odp_mem *mem;
	struct odp_mr_shm *mr;
	_Atomic odp_entry_t *xlat; /* NULL: implicit */
	size_t xlat_size;
	uint64_t npages;
	struct odp_hold *hold; /* backing_pipe.c: what holds its pages */
	int fd;                /* backing_fd.c: where its pages are; -1: not there */
	uint32_t fd_page;
	struct odp_extent *spares; /* pinned in the pool: a frame per page for orphans */
	uint64_t locked;           /* bytes counted against RLIMIT_MEMLOCK */
	uint32_t key;
	enum odp_kind kind;
	bool in_tree;
	bool followed; /* follow.c */
	bool notify;   /* its owner wants to be told that pages parted ... */
	bool parted;   /* ... and will be: in mem->parted, by the next one (mem_lock) */
	struct odp_region *parted_next;
	enum odp_policy policy; /* that its attributes name */
	uint32_t lease_ms;
	uint64_t cookie;        /* the caller's */
	struct odp_part *parts; /* file.c: in the order of their addresses */
	unsigned nparts;
	struct odp_window *windows; /* bound to it, and some that were (mem_lock) */
	struct odp_region *next;    /* in mem->zombies */
};

/* In an entry of /proc/PID/pagemap: in memory, or in swap. */
#define ODP_PAGEMAP_THERE ((uint64_t)3 << 62)

#define ODP_BOUNCE_SIZE ((size_t)64 << 10)
#define ODP_BOUNCES 16

/* Who is told of moments in the life of this process's regions. */
struct odp_region_observer {
	/* The key is gone and every lane was outside since: forget the region. */
	void (*end)(struct odp_region *r);
	struct odp_region_observer *next;
};

#define ODP_PLAIN_DEVS 8u

struct odp_mem {
	struct odp_proc *proc;
	int pool_fd;
	uint64_t pool_dev, pool_ino;
	int uffd; /* -1: no events, nothing is converted */
	int conv_uffd;
	int fdinfo_fd; /* of uffd: how many faults wait */
	int pagemap_fd;
	int maps_fd;
	int mounts_fd; /* tells when a mount has come or gone: see elsewhere.c */
	/* Devices that are no odpfs with a watch, the last few of NPLAIN (conv_lock). */
	uint64_t plain[ODP_PLAIN_DEVS];
	unsigned nplain;
	bool query_maps;            /* the kernel answers PROCMAP_QUERY */
	enum odp_backing backing;   /* $UODP_BACKING */
	uint64_t probe;             /* a registered, present page: see odp_uffd_settle() */
	_Atomic uint64_t event_seq; /* odd between the read of an event and its end */

	pthread_mutex_t conv_lock; /* PTHREAD_MUTEX_ERRORCHECK */
	char *maps_buf;            /* conv_lock */
	char *look_buf;            /* mem_lock */

	pthread_mutex_t mem_lock; /* all of the next block */
	sigset_t mem_mask;        /* of the program's thread that holds it */
	struct odp_itree umems;
	unsigned numems;
	bool moved; /* there has been one */
	bool quiet; /* the process ends: no fault waits for the service thread */
	struct odp_itree regions;
	struct odp_itree follows;  /* regions with pages that are not the pool's */
	struct odp_region *parted; /* pinned ones whose owner is to be told */
	struct odp_itree extents;
	uint32_t *refs;         /* by frame: 1 mapped, + 1 a pinned region */
	struct odp_umem *spare; /* for splits, which must not allocate */
	unsigned nspare;
	struct odp_extent *dead;    /* await a fence and a thread that may free */
	struct odp_region *zombies; /* destroyed, but a stopped peer may be inside */
	uint64_t pool_next;         /* where the search for free offsets begins */
	uint32_t *free_keys;        /* indexes in the order in which they were freed */
	uint32_t free_head, free_count;
	uint8_t *variants; /* last 8-bit variant of each index */
	/* By the index of their keys: regions from the release of the key on. */
	struct odp_region **regions_at;
	struct odp_window **windows_at;
	uint64_t window_serial; /* the last one given */
	uint32_t file_next;     /* where the search for a free file record begins */
	uint32_t key_high;
	struct odp_local *_Atomic local;               /* local.c: set once */
	struct odp_region_observer *_Atomic observers; /* never leave it */

	_Atomic uint32_t num_follows; /* in follows */
	_Atomic uint64_t locked;      /* bytes pinned */

	_Atomic uint32_t ask_threads, ask_idle; /* foreign.c */

	/* pinned buffers */
	pthread_mutex_t pin_slots;
	uint64_t *pin_used; /* bit map; pin_slots, as the next three */
	uint32_t pin_low;   /* no buffer below is free */
	uint32_t pin_rings; /* that are open */
	int pin_fds[ODP_PIN_RINGS];
	pthread_mutex_t pin_pipe;
	int pipe_rd, pipe_wr;
	int null_fd; /* -1: not yet open */
	bool pin_ok;
	struct odp_hold *_Atomic holds; /* written under pin_slots */
	struct odp_pin_view *pins;      /* [ODP_MAX_PROCS][ODP_PIN_RINGS], sparse; pin_pipe */

	_Atomic uint32_t bounce_used;
	char *bounces;
	int fork_pipe[2];
};

/* Memory of libodp's own, sparse; not from the program's heap. */
static inline void *odp_mem_map(size_t size)
{
	void *p = odp_own_mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* ---- mem_lock.c ---- */
void odp_mem_lock(struct odp_mem *m);
void odp_mem_unlock(struct odp_mem *m);
/* ---- uffd.c ---- */
/* A userfaultfd that also answers for faults in the kernel, or -errno. */
int odp_uffd_open(uint64_t features);
/* The command with which root allows it to this user, where that was EPERM or EACCES. */
void odp_uffd_remedy(char *text, size_t size);
int odp_uffd_init(struct odp_mem *m);
/*
 * Hear of [addr, addr+len), a mapping of the pool: when it goes, moves or is
 * discarded, and when a page is touched that is not mapped yet. Holes would fill by
 * themselves; but the caller of madvise() goes on when its event is read, and what it
 * stores then must come after the discarding, so it waits for who does that.
 */
int odp_uffd_watch(struct odp_mem *m, uint64_t addr, uint64_t len);
/* From here on events alone: no fault waits for the service thread. */
void odp_uffd_quiet(struct odp_mem *m);
/* Wait until every event raised before now has been acted on. */
void odp_uffd_settle(struct odp_mem *m);
/* By the service thread: see that it will not wait for itself when it reads or
 * writes [addr, addr+len) by a system call. False: later. */
bool odp_uffd_ready(struct odp_mem *m, uint64_t addr, uint64_t len);
/* Is there an event that has not been read? */
bool odp_uffd_pending(struct odp_mem *m);
/* The same for the events of calls that have returned. */
void odp_uffd_acted(struct odp_mem *m);
/* Map frames that the pool holds at ADDR in the owner's address space, as far as
 * that goes without an error. */
void odp_uffd_map(int uffd, uint64_t addr, uint64_t len);
extern const struct odp_source odp_uffd_source;

/* ---- uffd_find.c ---- */
/* The userfaultfd is closed: take it back from a peer; false if none has it. */
bool odp_uffd_recover(struct odp_proc *proc);

/* ---- backing_pool.c ---- */
/* Offsets for LEN bytes; guarded: with room for the mapping to grow. */
struct odp_extent *odp_extent_create(struct odp_mem *m, uint64_t len, bool guarded);
/* The same with a zeroed node EXT that the caller has; false: no room (mem_lock). */
bool odp_extent_enter(struct odp_mem *m, struct odp_extent *ext, uint64_t len, bool guarded);
void odp_extent_hold(struct odp_extent *ext);                                 /* mem_lock */
void odp_extent_drop(struct odp_mem *m, struct odp_extent *ext, bool fenced); /* mem_lock */
struct odp_extent *odp_extent_find(struct odp_mem *m, uint64_t off);          /* mem_lock */
/* Count the N frames at OFF of EXT once more, once less (mem_lock). */
void odp_frames_get(struct odp_mem *m, struct odp_extent *ext, uint64_t off, uint64_t n);
void odp_frames_put(struct odp_mem *m, uint64_t off, uint64_t n, bool fenced);
void odp_pool_punch(struct odp_mem *m, uint64_t off, uint64_t len);
/* Allocate the holes in [off, off+len) and map them in this process's view. */
int odp_pool_populate(struct odp_peer *peer, uint64_t off, uint64_t len);
/* Is there data at OFF, or a hole? *END (<= LIMIT): up to where at least. Data
 * that is swapped out may end a run. */
bool odp_pool_run(struct odp_mem *m, uint64_t off, uint64_t limit, uint64_t *end);
/* Free what a fence has made free (no lock held, not the service thread). */
void odp_pool_reap(struct odp_mem *m);

enum odp_vma_kind { ODP_VMA_ANON, ODP_VMA_POOL, ODP_VMA_OTHER };
struct odp_vma {
	uint64_t start, end, off;
	uint64_t page_size; /* 0: not told by /proc/self/maps */
	uint64_t dev, ino;  /* of a file, INO 0: none */
	uint32_t prot;
	enum odp_vma_kind kind;
	bool shared;
};

/* ---- umem.c: all under mem_lock but the first two ---- */
int odp_umem_reserve(struct odp_mem *m, unsigned n);
/* Fill the reserve of records up; by the service thread, the gate open. */
void odp_umem_refill(struct odp_mem *m);
struct odp_umem *odp_umem_find(struct odp_mem *m, uint64_t addr);
/* The first that overlaps [start, end). */
struct odp_umem *odp_umem_first(struct odp_mem *m, uint64_t start, uint64_t end);
bool odp_umem_covers(struct odp_mem *m, uint64_t start, uint64_t end);
/* Record [start, start+len) at OFF; joined to the record before it if linear. */
int odp_umem_add(struct odp_mem *m, uint64_t start, uint64_t len, uint64_t off,
		 struct odp_extent *ext, uint32_t prot);
/* The program has grown a mapping into the guard: make ADDR's record, with the
 * pages before it that have none; NULL if that part cannot be the pool's. */
struct odp_umem *odp_umem_extend(struct odp_mem *m, uint64_t addr);
/* The program's mapping of the pool at ADDR; false if it is none. */
bool odp_umem_look(struct odp_mem *m, uint64_t addr, struct odp_vma *vma);
/* The extent in which the frame at OFF may be given to a mapping; NULL: none. */
struct odp_extent *odp_extent_vacant(struct odp_mem *m, uint64_t off);
/* Make AT the start of a record, if it lies inside one. */
int odp_umem_split(struct odp_mem *m, uint64_t at);
/* Cut [start, end) out of UM, which it overlaps; allocates nothing and cannot fail: what
 * there is no record for is forgotten, and its frames, still counted, stay as they are. */
void odp_umem_cut(struct odp_mem *m, struct odp_umem *um, uint64_t start, uint64_t end);
/* Forget a record (the frames' counts are the caller's matter). */
void odp_umem_remove(struct odp_mem *m, struct odp_umem *um);

/* ---- orphan.c: in an invalidation, under mem_lock ---- */
/*
 * The page at ADDR of UM goes, and perhaps those behind it, below END. Where pinned
 * regions have its frame, they and the address part here: up to where that has been done;
 * ADDR: the frame is the address's alone.
 */
uint64_t odp_frames_part(struct odp_mem *m, struct odp_umem *um, uint64_t addr, uint64_t end,
			 bool fenced);
/* The first address, from ADDR to END, whose frame (OFF on) is not its own alone. */
uint64_t odp_frames_shared_from(struct odp_mem *m, uint64_t addr, uint64_t end, uint64_t off);
/* Pinned regions with the frames OFF on, of [addr, end), go on with copies. */
void odp_frames_orphan(struct odp_mem *m, uint64_t addr, uint64_t end, uint64_t off, bool fenced);

/* ---- maps.c ---- */
int odp_maps_open(struct odp_mem *m);
/* The mapping at AT; false if there is none (mem_lock). */
bool odp_vma_at(struct odp_mem *m, uint64_t at, struct odp_vma *vma);
/* The first mapping that ends above AT; false if it starts at END or above
 * (conv_lock). */
bool odp_vma_next(struct odp_mem *m, uint64_t at, uint64_t end, struct odp_vma *vma);

/* The same from AT on, below END (mem_lock). */
bool odp_vma_from(struct odp_mem *m, uint64_t at, uint64_t end, struct odp_vma *vma);

/* ---- follow.c (mem_lock but for the last) ---- */
/* R has pages that are not the pool's: whoever sees these change tells it. */
void odp_follow(struct odp_region *r);
void odp_unfollow(struct odp_region *r);
/* Make the page invalid, if it is valid and in the owner's address space: true. */
bool odp_entry_forget(_Atomic odp_entry_t *p);
/* Does the program's side tell of its calls? */
bool odp_changes_are_told(void);
/* R, pinned: what was at [start, end) is no longer what the program has there. */
void odp_region_part(struct odp_region *r, uint64_t start, uint64_t end);
/* The next region whose owner is to be told that it parted; false: there is none. */
bool odp_parted_next(struct odp_mem *m, uint32_t *key, uint64_t *cookie);
/* N pages of MR were forgotten: count them. */
void odp_forgotten(struct odp_mr_shm *mr, uint64_t n);

/* ---- said.c ---- */
#define ODP_SAID_NODUMP 1u
#define ODP_SAID_WIPE 2u   /* a child of fork sees zeros */
#define ODP_SAID_NOFORK 4u /* a child of fork does not have it */
#define ODP_SAID_LOCKED (1u << 7)
/* What the program has said of the mapping at ADDR: bits (conv_lock). */
uint32_t odp_said(uint64_t addr);
/* Tell the kernel so of [addr, addr+len): private memory, or a mapping of the pool. */
void odp_said_again(uint64_t addr, uint64_t len, uint32_t said, bool private);
/* [to, to+len) is bound to the NUMA nodes that FROM is bound to. */
void odp_said_nodes(uint64_t from, uint64_t to, uint64_t len);
/* Has anything ever been said that the kernel keeps with a mapping, and a new mapping in
 * its place would lose? */
bool odp_said_kept(void);

/* ---- convert.c (conv_lock) ---- */
/* Move [start, end), part of one private anonymous mapping, to the pool. */
/* Map our own windows on that part of the pool beforehand, which takes locks and may fail:
 * odp_pool_ptr() does not from then on. 0 or -ENOMEM. */
int odp_pool_windows(struct odp_mem *m, uint64_t off, uint64_t len);
int odp_convert(struct odp_mem *m, uint64_t start, uint64_t end, uint32_t prot);

/* ---- entry.c ---- */
/* The entry of PAGE, NULL if the record is not to be trusted; of an implicit
 * region made on first use. */
_Atomic odp_entry_t *odp_xlat_entry(const struct odp_peer *peer, const struct odp_mr_shm *mr,
				    uint64_t page);
/* What an entry says of memory that the program has mapped with PROT. */
odp_entry_t odp_xlat_prot(uint32_t prot);
#define ODP_PIPE_PAGES 64u /* that one pipe holds */
/* What finds PAGE of R: ODP_E_PIN, with the descriptor if there is one. */
odp_entry_t odp_pin_entry(const struct odp_region *r, uint64_t page);

/* ---- xlat.c ---- */
/* Fill a new region's entries (mem_lock); where: ODP_E_VA or ODP_E_PIN for pages
 * that the pool does not hold. */
void odp_xlat_fill(struct odp_region *r, odp_entry_t where);
/* Entries of on-demand regions in [start, end) that are not pool frames become
 * the frames that now lie there (mem_lock). */
void odp_xlat_adopt(struct odp_mem *m, uint64_t start, uint64_t end);

/* ---- invalidate.c: gate shut, lanes fenced, mem_lock held ---- */
void odp_inv_remove(struct odp_mem *m, uint64_t start, uint64_t end, bool fenced);
void odp_inv_unmap(struct odp_mem *m, uint64_t start, uint64_t end, bool fenced);
void odp_inv_remap(struct odp_mem *m, uint64_t from, uint64_t to, uint64_t len, bool fenced);

/* relaxed: all but REVOKED are there when the key is, and that one is followed by
 * a fence over all lanes. */
static inline unsigned odp_mr_flags(const struct odp_mr_shm *mr)
{
	return atomic_load_explicit(&mr->flags, memory_order_relaxed);
}

/* relaxed: it changes once more after the key was published, when the region is
 * revoked, and that is followed, or preceded, by a fence over all lanes. */
static inline uint64_t odp_mr_npages(const struct odp_mr_shm *mr)
{
	return __atomic_load_n(&mr->npages, __ATOMIC_RELAXED);
}

/* Every access fails from here on. With the gate shut and all lanes fenced; or
 * followed by a fence, if none may wait for the caller (revoke.c). */
static inline void odp_mr_revoke(struct odp_mr_shm *mr)
{
	atomic_fetch_or_explicit(&mr->flags, ODP_MR_REVOKED, memory_order_relaxed);
	/* The fast path looks at nothing else; opening the gate publishes it. */
	__atomic_store_n(&mr->npages, 0, __ATOMIC_RELAXED);
}

/* Has it registered buffers, or pipes? */
static inline bool odp_mr_pinned(const struct odp_mr_shm *mr)
{
	return !(odp_mr_flags(mr) & ODP_MR_SHADOW) && mr->pin_count;
}

/* ---- fault.c: inside the pool side of a lane, the owner's gate open ---- */
/* Resolve the page (and those after it that are missing too, up to WANT pages).
 * 0, or -EFAULT. ADVICE counts as prefetch, not as fault. */
int odp_fault_pool(struct odp_peer *peer, struct odp_mr_shm *mr, uint64_t page, uint64_t want,
		   bool write, bool advice);

/* ---- implicit.c ---- */
#define ODP_IMPLICIT_PAGES ((uint64_t)1 << (48 - ODP_PAGE_SHIFT))
size_t odp_implicit_size(void);
void odp_implicit_init(struct odp_region *r);
_Atomic odp_entry_t *odp_implicit_entry(const struct odp_peer *peer, const struct odp_mr_shm *mr,
					uint64_t page, bool make);
/* Entries that exist, one after the other: that of *PAGE or the next one, with
 * *PAGE set to its page; NULL when there is none up to LAST. */
_Atomic odp_entry_t *odp_region_entry(struct odp_region *r, uint64_t *page, uint64_t last);

#endif
