/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Memory that is more than one call of mmap(). */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "odpcmp.h"

/* In the heap proper, where malloc() would take mmap() for that much. */
int place_heap(struct memory *m)
{
	void *block;

	mallopt(M_MMAP_THRESHOLD, 1 << 25);
	if (posix_memalign(&block, m->page, m->length + m->page))
		return -ENOMEM;
	m->block = block;
	m->addr = block;
	return 0;
}

/*
 * malloc() gets some room first, so that it need not grow beyond what is to be
 * the end of the data segment.
 */
int place_brk(struct memory *m)
{
	uint8_t *end;

	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_MMAP_THRESHOLD, 1 << 25);
	free(malloc(1 << 22));
	end = sbrk(0);
	if (sbrk(m->length + (-(uintptr_t)end & (m->page - 1))) == (void *)-1)
		return -errno;
	m->addr = (uint8_t *)sbrk(0) - m->length;
	return 0;
}

enum { LARGEST_PAGE = 1 << 16 };

int place_bss(struct memory *m)
{
	static _Alignas(LARGEST_PAGE) uint8_t room[PAGES * LARGEST_PAGE];

	if (m->length > sizeof(room))
		return -EOVERFLOW;
	m->addr = room;
	return 0;
}

static uint8_t *stack_room;

void place_stack_set(uint8_t *room)
{
	stack_room = room;
}

int place_stack(struct memory *m)
{
	uintptr_t addr = ((uintptr_t)stack_room + m->page - 1) & ~(m->page - 1);

	if (!stack_room || m->length + m->page > STACK_ROOM)
		return -EOVERFLOW;
	m->addr = (uint8_t *)addr;
	return 0;
}

static int place_base(struct memory *m, unsigned int slot, size_t length, int flags)
{
	void *base;

	flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	base = memory_map(slot, length, PROT_READ | PROT_WRITE, flags, -1);
	if (base == MAP_FAILED)
		return -errno;
	m->base = base;
	m->base_length = length;
	return 0;
}

int place_overcommit(struct memory *m)
{
	enum { FAR = 1 << 12 }; /* a slot with nothing behind it */
	struct sysinfo info;
	size_t length;
	int ret;

	if (sysinfo(&info))
		return -errno;
	length = (info.totalram + info.totalswap) * info.mem_unit / 2 * 3;
	length &= ~(m->page - 1);
	ret = place_base(m, FAR, length, MAP_NORESERVE);
	if (ret)
		return ret;
	m->addr = m->base + length - m->length;
	return 0;
}

/* The last pages of a huge page, which is registered as a whole. */
int place_thp(struct memory *m)
{
	size_t huge = huge_page_size();
	uint8_t *addr;
	int ret;

	ret = place_base(m, 0, 2 * huge, 0);
	if (ret)
		return ret;
	addr = (uint8_t *)(((uintptr_t)m->base + huge - 1) & ~(huge - 1));
	if (madvise(addr, huge, MADV_HUGEPAGE))
		return -errno;
	m->reg_addr = addr;
	m->reg_length = huge;
	m->addr = addr + huge - m->length;
	return 0;
}

int place_unaligned(struct memory *m)
{
	enum { SKIP = 1027, MORE = 5 };
	int ret = place_base(m, 0, m->length, 0);

	if (ret)
		return ret;
	m->addr = m->base;
	m->reg_addr = m->addr + SKIP;
	m->reg_length = m->length - m->page + PROBE + MORE - SKIP;
	return 0;
}

static int map_over(uint8_t *addr, size_t length, int flags, int fd)
{
	void *got = mmap(addr, length, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);

	return got == MAP_FAILED ? -errno : 0;
}

/* Private, shared, a memfd, and private again: the window has the last two. */
int place_mixed(struct memory *m)
{
	int ret = place_base(m, 0, m->length, 0), fd;

	if (ret)
		return ret;
	m->addr = m->base;
	ret = map_over(m->addr + m->page, m->page, MAP_SHARED | MAP_ANONYMOUS, -1);
	if (ret)
		return ret;
	fd = memfd_create(PROGRAM, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = ftruncate(fd, m->page) ? -errno
				     : map_over(m->addr + 2 * m->page, m->page, MAP_SHARED, fd);
	close(fd);
	return ret;
}

int place_read_only(struct memory *m)
{
	void *addr = memory_map(0, m->length, PROT_READ, MAP_SHARED, m->fd);

	if (addr == MAP_FAILED)
		return -errno;
	m->addr = addr;
	return 0;
}

int finish_read_only(struct memory *m)
{
	return mprotect(m->addr, m->length, PROT_READ) ? -errno : 0;
}

int finish_no_access(struct memory *m)
{
	m->hidden = true;
	return mprotect(m->addr, m->length, PROT_NONE) ? -errno : 0;
}
