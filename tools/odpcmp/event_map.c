/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What happens to the mapping, the data segment and the heap. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odpcmp.h"

int event_munmap(struct memory *m)
{
	return munmap(memory_window(m), m->window) ? -errno : 0;
}

int event_munmap_all(struct memory *m)
{
	return munmap(m->addr, m->length) ? -errno : 0;
}

int event_mmap_over(struct memory *m)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	void *addr;

	addr = mmap(memory_window(m), m->window, PROT_READ | PROT_WRITE, flags, -1, 0);
	return addr == MAP_FAILED ? -errno : 0;
}

int event_mremap(struct memory *m)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	void *to;

	/* Where huge pages may go as well: slots begin at multiples of 16 MiB. */
	to = memory_map(1, m->window, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (to == MAP_FAILED)
		return -errno;
	if (mremap(memory_window(m), m->window, m->window, flags, to) == MAP_FAILED)
		return -errno;
	m->moved = to;
	return 0;
}

/* In place: the region does not change. */
int event_mremap_grow(struct memory *m)
{
	if (mremap(m->addr, m->length, m->length + m->window, 0) == MAP_FAILED)
		return -errno;
	m->base = m->addr;
	m->base_length = m->length + m->window;
	return 0;
}

int event_mremap_shrink(struct memory *m)
{
	return mremap(m->addr, m->length, m->offset, 0) == MAP_FAILED ? -errno : 0;
}

int event_mprotect_read(struct memory *m)
{
	return mprotect(memory_window(m), m->window, PROT_READ) ? -errno : 0;
}

int event_mprotect_none(struct memory *m)
{
	m->hidden = true;
	return mprotect(memory_window(m), m->window, PROT_NONE) ? -errno : 0;
}

int event_mprotect_back(struct memory *m)
{
	int ret = event_mprotect_none(m);

	if (ret)
		return ret;
	m->hidden = false;
	return mprotect(memory_window(m), m->window, PROT_READ | PROT_WRITE) ? -errno : 0;
}

/* -EBUSY: somebody else has moved the end of the data segment since. */
int event_brk(struct memory *m)
{
	if (sbrk(0) != m->addr + m->length)
		return -EBUSY;
	return sbrk(-(intptr_t)m->window) == (void *)-1 ? -errno : 0;
}

int event_brk_grow(struct memory *m)
{
	int ret = event_brk(m);

	if (ret)
		return ret;
	return sbrk(m->window) == (void *)-1 ? -errno : 0;
}

/*
 * The block shrinks to half a page before the window, what is free is given to
 * the system, and the block grows again.
 */
int event_malloc_trim(struct memory *m)
{
	size_t length = m->length + m->page;
	uint64_t word;

	if (realloc(m->block, m->offset - m->page / 2) != m->block)
		return -ENOTSUP;
	malloc_trim(0);
	if (realloc(m->block, length) != m->block)
		return -ENOTSUP;
	/* malloc() may have left the pages alone: then nothing has happened. */
	if (cpu_read(&word, memory_window(m) + m->page, sizeof(word)) || word)
		return -ENOTSUP;
	return 0;
}
