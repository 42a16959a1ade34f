/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The arena: shared memory in this process's segment, given out by its owner
 * alone. A buddy allocator over pages; below a page, pages cut into equal
 * pieces. All bookkeeping is private, out of the reach of peers.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base.h"
#include "own.h"
#include "peer.h"

#define ARENA_PAGES ((uint32_t)((ODP_SEG_SIZE - ODP_ARENA_OFF) >> ODP_PAGE_SHIFT))
#define ARENA_ORDERS 23u /* 2^22 pages: half the segment */
#define ARENA_PIECE_SHIFT 6
#define ARENA_PIECES (ODP_PAGE_SHIFT - ARENA_PIECE_SHIFT) /* classes 64 .. 2048 */
#define ARENA_NONE UINT32_MAX

static_assert((1ull << (ARENA_ORDERS - 1)) < ARENA_PAGES, "the largest order fits");

enum arena_page_kind { ARENA_INSIDE, ARENA_FREE, ARENA_USED, ARENA_PIECED };

/* What is known of a page; of a block of pages, its first one speaks. */
struct arena_page {
	uint64_t pieces;     /* PIECED: bit set, piece free */
	uint32_t next, prev; /* in a list */
	uint8_t kind;        /* enum arena_page_kind */
	uint8_t order;       /* FREE, USED: 2^order pages; PIECED: class */
};

/* proc->alloc_lock protects all of it. */
struct arena_list {
	uint32_t head;
};

struct odp_arena {
	struct arena_list blocks[ARENA_ORDERS];  /* free, by order */
	struct arena_list partial[ARENA_PIECES]; /* with a free piece, by class */
	struct arena_page pages[ARENA_PAGES];    /* sparse */
};

static void arena_push(struct odp_arena *a, struct arena_list *list, uint32_t page)
{
	a->pages[page].prev = ARENA_NONE;
	a->pages[page].next = list->head;
	if (list->head != ARENA_NONE)
		a->pages[list->head].prev = page;
	list->head = page;
}

static void arena_unlink(struct odp_arena *a, struct arena_list *list, uint32_t page)
{
	const struct arena_page *p = &a->pages[page];

	if (p->prev != ARENA_NONE)
		a->pages[p->prev].next = p->next;
	else
		list->head = p->next;
	if (p->next != ARENA_NONE)
		a->pages[p->next].prev = p->prev;
}

static void arena_block_put(struct odp_arena *a, uint32_t page, unsigned order)
{
	while (order < ARENA_ORDERS - 1) {
		uint32_t buddy = page ^ (1u << order);

		if (buddy >= ARENA_PAGES || a->pages[buddy].kind != ARENA_FREE ||
		    a->pages[buddy].order != order)
			break;
		arena_unlink(a, &a->blocks[order], buddy);
		a->pages[buddy].kind = ARENA_INSIDE;
		a->pages[page].kind = ARENA_INSIDE;
		page &= ~(1u << order);
		order++;
	}
	a->pages[page].kind = ARENA_FREE;
	a->pages[page].order = (uint8_t)order;
	arena_push(a, &a->blocks[order], page);
}

static uint32_t arena_block_get(struct odp_arena *a, unsigned order)
{
	unsigned from = order;
	uint32_t page;

	while (from < ARENA_ORDERS && a->blocks[from].head == ARENA_NONE)
		from++;
	if (from >= ARENA_ORDERS)
		return ARENA_NONE;
	page = a->blocks[from].head;
	arena_unlink(a, &a->blocks[from], page);
	while (from > order) {
		uint32_t upper = page + (1u << --from);

		a->pages[upper].kind = ARENA_FREE;
		a->pages[upper].order = (uint8_t)from;
		arena_push(a, &a->blocks[from], upper);
	}
	a->pages[page].kind = ARENA_USED;
	a->pages[page].order = (uint8_t)order;
	return page;
}

static uint64_t arena_full(unsigned class)
{
	unsigned n = 1u << (ARENA_PIECES - class);

	return n == 64 ? UINT64_MAX : (1ull << n) - 1;
}

static uint64_t arena_piece_get(struct odp_arena *a, unsigned class)
{
	uint32_t page = a->partial[class].head;
	struct arena_page *p;
	unsigned nr;

	if (page == ARENA_NONE) {
		page = arena_block_get(a, 0);
		if (page == ARENA_NONE)
			return 0;
		a->pages[page].kind = ARENA_PIECED;
		a->pages[page].order = (uint8_t) class;
		a->pages[page].pieces = arena_full(class);
		arena_push(a, &a->partial[class], page);
	}
	p = &a->pages[page];
	nr = (unsigned)__builtin_ctzll(p->pieces);
	p->pieces &= p->pieces - 1;
	if (!p->pieces)
		arena_unlink(a, &a->partial[class], page);
	return ODP_ARENA_OFF + ((uint64_t)page << ODP_PAGE_SHIFT) +
	       ((uint64_t)nr << (ARENA_PIECE_SHIFT + class));
}

static bool arena_piece_put(struct odp_arena *a, uint64_t off, unsigned class)
{
	const uint64_t rel = off - ODP_ARENA_OFF;
	const uint32_t page = (uint32_t)(rel >> ODP_PAGE_SHIFT);
	const uint64_t in_page = rel & (ODP_PAGE_SIZE - 1);
	const uint64_t bit = 1ull << (in_page >> (ARENA_PIECE_SHIFT + class));
	struct arena_page *p = &a->pages[page];

	if (p->kind != ARENA_PIECED || p->order != class || (p->pieces & bit) ||
	    (in_page & ((1ull << (ARENA_PIECE_SHIFT + class)) - 1)))
		return false;
	if (!p->pieces)
		arena_push(a, &a->partial[class], page);
	p->pieces |= bit;
	/* An empty page goes back, unless it is the class's only one. */
	if (p->pieces == arena_full(class) && (p->next != ARENA_NONE || p->prev != ARENA_NONE)) {
		arena_unlink(a, &a->partial[class], page);
		arena_block_put(a, page, 0);
	}
	return true;
}

static unsigned arena_shift(size_t size)
{
	return size <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(size - 1);
}

static bool arena_small(size_t size)
{
	return size <= ODP_PAGE_SIZE / 2;
}

static unsigned arena_class(size_t size)
{
	unsigned shift = arena_shift(size);

	return shift <= ARENA_PIECE_SHIFT ? 0 : shift - ARENA_PIECE_SHIFT;
}

static unsigned arena_order(size_t size)
{
	unsigned shift = arena_shift(size);

	return shift <= ODP_PAGE_SHIFT ? 0 : shift - ODP_PAGE_SHIFT;
}

ODP_EXPORT uint64_t odp_arena_alloc(struct odp_proc *proc, size_t size)
{
	struct odp_arena *a = proc->arena;
	uint32_t page;
	uint64_t off;

	if (!size || size > ODP_SEG_SIZE || arena_order(size) >= ARENA_ORDERS)
		return 0;
	pthread_mutex_lock(&proc->alloc_lock);
	if (arena_small(size)) {
		off = arena_piece_get(a, arena_class(size));
	} else {
		page = arena_block_get(a, arena_order(size));
		off = page == ARENA_NONE ? 0 : ODP_ARENA_OFF + ((uint64_t)page << ODP_PAGE_SHIFT);
	}
	pthread_mutex_unlock(&proc->alloc_lock);
	return off;
}

/* Freed memory is zeroed at once, before anyone else can have it. */
static void arena_wipe(struct odp_proc *proc, uint64_t off, size_t size)
{
	if (!arena_small(size)) {
		size_t len = (size_t)1 << (arena_order(size) + ODP_PAGE_SHIFT);

		/* Not libc's, in front of which the provider's may be (shrink.c). */
		if (!odp_sys6(SYS_fallocate, proc->seg_fd,
			      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (long)off, (long)len, 0,
			      0))
			return;
	}
	memset((char *)proc->self->seg + off, 0, size);
}

static bool arena_owns(const struct odp_arena *a, uint64_t off, size_t size)
{
	const uint64_t rel = off - ODP_ARENA_OFF;
	const struct arena_page *p;

	if (off < ODP_ARENA_OFF || off >= ODP_SEG_SIZE || !size)
		return false;
	p = &a->pages[rel >> ODP_PAGE_SHIFT];
	if (arena_small(size))
		return p->kind == ARENA_PIECED && p->order == arena_class(size);
	return p->kind == ARENA_USED && p->order == arena_order(size) &&
	       !(rel & (ODP_PAGE_SIZE - 1));
}

ODP_EXPORT void odp_arena_free(struct odp_proc *proc, uint64_t off, size_t size)
{
	struct odp_arena *a = proc->arena;
	bool ok;

	if (!off)
		return;
	pthread_mutex_lock(&proc->alloc_lock);
	ok = arena_owns(a, off, size);
	pthread_mutex_unlock(&proc->alloc_lock);
	if (ok) {
		/* Still the caller's: no lock while the kernel frees pages. */
		arena_wipe(proc, off, size);
		pthread_mutex_lock(&proc->alloc_lock);
		if (arena_small(size))
			ok = arena_piece_put(a, off, arena_class(size));
		else
			arena_block_put(a, (uint32_t)((off - ODP_ARENA_OFF) >> ODP_PAGE_SHIFT),
					arena_order(size));
		pthread_mutex_unlock(&proc->alloc_lock);
	}
	if (!ok)
		odp_log(ODP_LOG_ERR, "arena: %zu bytes at %#lx were freed but not allocated", size,
			(unsigned long)off);
}

static void arena_fill(struct odp_arena *a)
{
	uint32_t page = 0;
	unsigned i;

	for (i = 0; i < ARENA_ORDERS; i++)
		a->blocks[i].head = ARENA_NONE;
	for (i = 0; i < ARENA_PIECES; i++)
		a->partial[i].head = ARENA_NONE;
	/* From the largest aligned block down to the odd page at the end. */
	for (i = ARENA_ORDERS; i-- > 0;) {
		while (ARENA_PAGES - page >= 1u << i) {
			a->pages[page].kind = ARENA_FREE;
			a->pages[page].order = (uint8_t)i;
			arena_push(a, &a->blocks[i], page);
			page += 1u << i;
		}
	}
}

/* A file size limit would end the program with SIGXFSZ. */
static int seg_size_allowed(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_FSIZE, &lim) || lim.rlim_cur >= ODP_SEG_SIZE)
		return 0;
	odp_log(ODP_LOG_ERR,
		"segment: the file size limit is %lu bytes: raise it (ulimit -f unlimited)",
		(unsigned long)lim.rlim_cur);
	return -EFBIG;
}

static int seg_create(void)
{
	int fd, ret;

	ret = seg_size_allowed();
	if (ret)
		return ret;
	fd = memfd_create("uodp-segment", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0) {
		ret = -errno;
		odp_log(ODP_LOG_ERR, "segment: memfd_create: %s", strerror(-ret));
		return ret;
	}
	fd = odp_fd_high(fd);
	/* Sealed, so that no process can be made to fault by a shrinking file. */
	if (odp_own_ftruncate(fd, (off_t)ODP_SEG_SIZE) ||
	    odp_own_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		ret = -errno;
		odp_log(ODP_LOG_ERR, "segment: cannot be sized: %s", strerror(-ret));
		odp_fd_close(fd);
		return ret;
	}
	return fd;
}

static void seg_fill(struct odp_proc *proc)
{
	struct odp_seg *seg = proc->self->seg;

	seg->version = ODP_LAYOUT_VERSION;
	seg->slot = proc->self->nr;
	seg->gen = proc->self->gen;
	seg->pid = proc->self->pid;
	seg->size = ODP_SEG_SIZE;
	seg->arena = ODP_ARENA_OFF;
	seg->magic = ODP_SEG_MAGIC; /* published by the slot's state */
}

int odp_arena_open(struct odp_proc *proc)
{
	int ret;

	proc->seg_fd = seg_create();
	if (proc->seg_fd < 0)
		return proc->seg_fd;
	ret = -ENOMEM;
	proc->self->seg = odp_map_shared(proc->seg_fd, 0, ODP_SEG_SIZE);
	if (!proc->self->seg) {
		odp_log(ODP_LOG_ERR,
			"segment: %lu MiB of address space cannot be had: raise ulimit -v",
			(unsigned long)(ODP_SEG_SIZE >> 20));
		goto err_close;
	}
	proc->arena = odp_priv_alloc(sizeof(*proc->arena));
	if (!proc->arena)
		goto err_unmap;
	arena_fill(proc->arena);
	seg_fill(proc);
	proc->self->slot->seg_fd = proc->seg_fd;
	return 0;

err_unmap:
	odp_own_munmap(proc->self->seg, ODP_SEG_SIZE);
	proc->self->seg = NULL;
err_close:
	odp_fd_close(proc->seg_fd);
	proc->seg_fd = -1;
	return ret;
}

void odp_arena_close(struct odp_proc *proc)
{
	odp_priv_free(proc->arena, sizeof(*proc->arena));
	odp_own_munmap(proc->self->seg, ODP_SEG_SIZE);
	odp_fd_close(proc->seg_fd);
}
