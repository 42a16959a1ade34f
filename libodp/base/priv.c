/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Private memory of the library's own, apart from the program's heap: power-of-
 * two classes carved from chunks, larger sizes mapped one by one.
 */
#include <string.h>
#include <sys/mman.h>

#include "base.h"
#include "own.h"

#define PRIV_SHIFT_MIN 6
#define PRIV_SHIFT_MAX 18 /* above 256 KiB: a mapping each */
#define PRIV_CHUNK ((size_t)1 << 20)

struct priv_free {
	struct priv_free *next;
};

/* priv_lock protects the two below it. */
static pthread_mutex_t priv_lock = PTHREAD_MUTEX_INITIALIZER;
static struct priv_free *priv_lists[PRIV_SHIFT_MAX + 1];
static char *priv_chunk, *priv_chunk_end;

/* Many of these are sparse tables. They are not to fill with zeros, neither two
 * megabytes at a time nor at once because of an mlockall(MCL_FUTURE). */
static void *priv_map(size_t size)
{
	/* See odp_map_shared(). */
	const int prot = odp_on_valgrind() ? PROT_READ | PROT_WRITE : PROT_NONE;
	void *p =
		odp_own_mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	munlock(p, size);
	odp_own_madvise(p, size, MADV_NOHUGEPAGE);
	/* Not mprotect() or munmap(): the provider's, in front of libc's, would come back
	 * here, or take locks that are held. */
	if (!prot && odp_sys(SYS_mprotect, p, size, PROT_READ | PROT_WRITE)) {
		odp_sys_munmap((uintptr_t)p, size);
		return NULL;
	}
	if (size > PRIV_CHUNK) {
		odp_valgrind_hide(p, size);
		odp_sys_madvise((uintptr_t)p, size, MADV_DONTDUMP);
	}
	return p;
}

static size_t priv_round(size_t size)
{
	return (size + ODP_PAGE_SIZE - 1) & ~(size_t)(ODP_PAGE_SIZE - 1);
}

static unsigned priv_shift(size_t size)
{
	unsigned shift = PRIV_SHIFT_MIN;

	while (((size_t)1 << shift) < size)
		shift++;
	return shift;
}

/* priv_lock held. What is left of the old chunk is lost: less than one piece. */
static void *priv_carve(unsigned shift)
{
	const size_t size = (size_t)1 << shift;
	const size_t align = size < ODP_PAGE_SIZE ? size : ODP_PAGE_SIZE;
	size_t skip = -(uintptr_t)priv_chunk & (align - 1);
	char *p;

	if ((size_t)(priv_chunk_end - priv_chunk) < skip + size) {
		p = priv_map(PRIV_CHUNK);
		if (!p)
			return NULL;
		priv_chunk = p;
		priv_chunk_end = p + PRIV_CHUNK;
		skip = 0;
	}
	p = priv_chunk + skip;
	priv_chunk = p + size;
	return p;
}

ODP_EXPORT void *odp_priv_alloc(size_t size)
{
	struct priv_free *piece;
	unsigned shift;

	if (!size || size > PTRDIFF_MAX - ODP_PAGE_SIZE)
		return NULL;
	if (size > (size_t)1 << PRIV_SHIFT_MAX)
		return priv_map(priv_round(size));
	shift = priv_shift(size);
	pthread_mutex_lock(&priv_lock);
	piece = priv_lists[shift];
	if (piece)
		priv_lists[shift] = piece->next;
	else
		piece = priv_carve(shift);
	pthread_mutex_unlock(&priv_lock);
	if (piece)
		piece->next = NULL; /* the rest is zero since it was freed */
	return piece;
}

ODP_EXPORT void odp_priv_free(void *p, size_t size)
{
	struct priv_free *piece = p;
	unsigned shift;

	if (!p)
		return;
	if (size > (size_t)1 << PRIV_SHIFT_MAX) {
		odp_valgrind_show(p, priv_round(size));
		odp_sys_munmap((uintptr_t)p, priv_round(size));
		return;
	}
	shift = priv_shift(size);
	/* Whole pages go back to the kernel, and come again as zeros. */
	if (((size_t)1 << shift) < ODP_PAGE_SIZE ||
	    odp_sys_madvise((uintptr_t)p, (size_t)1 << shift, MADV_DONTNEED))
		memset(p, 0, (size_t)1 << shift);
	pthread_mutex_lock(&priv_lock);
	piece->next = priv_lists[shift];
	priv_lists[shift] = piece;
	pthread_mutex_unlock(&priv_lock);
}

void odp_priv_child(void)
{
	unsigned shift;

	/* Another thread of the parent may have been in the middle of it. */
	pthread_mutex_init(&priv_lock, NULL);
	for (shift = 0; shift <= PRIV_SHIFT_MAX; shift++)
		priv_lists[shift] = NULL;
	priv_chunk = priv_chunk_end = NULL;
}
