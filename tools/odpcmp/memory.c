/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The memory under test, and how the program writes and sees it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odpcmp.h"

/*
 * A library that maps something between the event and the transfer must not
 * land in the hole that the event made. Automatic mappings go to the top as long
 * as there is room, so the memory under test gets a corner of its own below; the
 * second one is for sanitizers, whose shadow covers the first.
 */
void *memory_map(unsigned int slot, size_t length, int prot, int flags, int fd)
{
	static const unsigned int corner_bits[] = {36, 45};
	void *addr = MAP_FAILED;
	uint64_t hint;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(corner_bits) && addr == MAP_FAILED; i++) {
		hint = (UINT64_C(1) << corner_bits[i]) + ((uint64_t)slot << 24);
		if (hint <= UINTPTR_MAX)
			addr = mmap((void *)(uintptr_t)hint, length, prot,
				    flags | MAP_FIXED_NOREPLACE, fd, 0);
	}
	return addr == MAP_FAILED ? mmap(NULL, length, prot, flags, fd, 0) : addr;
}

static int place_mapping(struct memory *m)
{
	void *addr = memory_map(0, m->length, PROT_READ | PROT_WRITE, m->kind->map_flags, m->fd);

	if (addr == MAP_FAILED)
		return -errno;
	m->addr = addr;
	return 0;
}

static int fill(struct memory *m)
{
	size_t head = PAGES - WINDOW_PAGES;
	int ret = memory_write(m, m->addr, head, TAG_OLD);

	if (ret || m->kind->flags & KIND_UNTOUCHED)
		return ret;
	return memory_write(m, memory_window(m), WINDOW_PAGES, TAG_OLD);
}

int memory_create(struct memory *m, const struct kind *kind, const char *dir)
{
	int ret = 0;

	*m = (struct memory){.kind = kind, .fd = -1, .child_fd = -1, .helper_fd = -1};
	m->page = kind->flags & KIND_HUGE ? huge_page_size() : (size_t)sysconf(_SC_PAGESIZE);
	m->length = PAGES * m->page;
	m->window = WINDOW_PAGES * m->page;
	m->offset = m->length - m->window;

	if (kind->open) {
		ret = kind->open(dir, m->length);
		if (ret < 0)
			return ret;
		m->fd = ret;
	}
	ret = kind->place ? kind->place(m) : place_mapping(m);
	if (ret)
		goto err_destroy;
	if (!m->reg_addr) {
		m->reg_addr = m->addr;
		m->reg_length = m->length;
	}
	ret = fill(m);
	if (!ret && kind->finish)
		ret = kind->finish(m);
	if (ret)
		goto err_destroy;
	return 0;

err_destroy:
	memory_destroy(m);
	return ret;
}

void memory_destroy(struct memory *m)
{
	fork_child_end(m);
	helper_end(m);
	uffd_keeper_end(m->keeper);
	if (m->moved)
		munmap(m->moved, m->window);
	if (m->block)
		free(m->block);
	else if (m->base)
		munmap(m->base, m->base_length);
	else if (m->addr && !(m->kind->flags & KIND_ONCE))
		munmap(m->addr, m->length);
	if (m->fd >= 0)
		close(m->fd);
}

static int write_page(struct memory *m, uint8_t *to, const void *buf)
{
	if (!(m->kind->flags & KIND_READ_ONLY) || m->fd < 0)
		return cpu_write(to, buf, FILL);
	/* What is mapped for reading is written through the file. */
	return pwrite(m->fd, buf, FILL, to - m->addr) == FILL ? 0 : -EIO;
}

/*
 * The window's filling starts anew at its first page, so that the window, the
 * peer's buffer and the place it moved to all hold the same words.
 */
int memory_write(struct memory *m, uint8_t *to, size_t pages, enum tag tag)
{
	uint64_t buf[FILL / sizeof(uint64_t)];
	size_t i;
	int ret = 0;

	for (i = 0; i < pages && !ret; i++) {
		pattern_fill(buf, FILL, i, tag);
		ret = write_page(m, to + i * m->page, buf);
	}
	return ret;
}

/* RDMA has no business behind the probe. */
static enum tag page_find(const uint8_t *buf, size_t page)
{
	const uint64_t *rest = (const uint64_t *)(buf + PROBE);
	size_t i;

	for (i = 0; i < (FILL - PROBE) / sizeof(*rest); i++)
		if (rest[i] >> 56 == TAG_REMOTE)
			return TAG_ALIEN;
	return pattern_find(buf, PROBE, page);
}

enum tag memory_see(const struct memory *m, const uint8_t *from)
{
	_Alignas(uint64_t) uint8_t buf[FILL];
	enum tag seen = TAG_NOTHING, tag;
	size_t i;

	for (i = 0; i < WINDOW_PAGES; i++) {
		tag = cpu_read(buf, from + i * m->page, FILL) ? TAG_NOTHING : page_find(buf, i);
		seen = i ? tag_join(seen, tag) : tag;
	}
	return seen;
}

enum tag memory_see_file(const struct memory *m)
{
	_Alignas(uint64_t) uint8_t buf[FILL];
	enum tag seen = TAG_NOTHING, tag;
	size_t i;

	for (i = 0; i < WINDOW_PAGES; i++) {
		tag = TAG_NOTHING;
		if (pread(m->fd, buf, FILL, m->offset + i * m->page) == FILL)
			tag = page_find(buf, i);
		seen = i ? tag_join(seen, tag) : tag;
	}
	return seen;
}

int memory_renew(struct memory *m)
{
	int ret = memory_write(m, memory_window(m), WINDOW_PAGES, TAG_NEW);

	return ret == -EFAULT && m->kind->flags & KIND_READ_ONLY ? 0 : ret;
}
