/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The memory under test, what is written into it, and how the program sees it. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odpcmp.h"

enum {
	PAGES = 4,
	WINDOW_PAGES = 2,	/* the last ones: truncation strikes the end */
};

/*
 * A library that maps something between the event and the transfer must not
 * land in the hole that the event made. Automatic mappings go to the top as long
 * as there is room, so the memory under test gets a corner of its own below; the
 * second one is for sanitizers, whose shadow covers the first.
 */
void *memory_map(unsigned int slot, size_t length, int prot, int flags, int fd)
{
	static const unsigned int corner_bits[] = { 36, 45 };
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

int memory_create(struct memory *m, const struct kind *kind, const char *dir)
{
	int ret;

	*m = (struct memory){ .kind = kind, .fd = -1, .child_fd = -1 };
	m->page = sysconf(_SC_PAGESIZE);
	m->length = PAGES * m->page;
	m->window = WINDOW_PAGES * m->page;
	m->offset = m->length - m->window;

	if (kind->open) {
		m->fd = kind->open(dir, m->length);
		if (m->fd < 0)
			return m->fd;
	}
	m->addr = memory_map(0, m->length, PROT_READ | PROT_WRITE, kind->map_flags, m->fd);
	if (m->addr == MAP_FAILED) {
		ret = -errno;
		goto err_close;
	}
	ret = memory_write(m, m->addr, m->length, TAG_OLD);
	if (ret)
		goto err_unmap;
	return 0;

err_unmap:
	munmap(m->addr, m->length);
err_close:
	if (m->fd >= 0)
		close(m->fd);
	return ret;
}

void memory_destroy(struct memory *m)
{
	fork_child_end(m);
	if (m->moved)
		munmap(m->moved, m->window);
	munmap(m->addr, m->length);
	if (m->fd >= 0)
		close(m->fd);
}

static uint64_t word_of(enum tag tag, size_t at, size_t page)
{
	return (uint64_t)tag << 56 | (uint64_t)(at / page) << 32 | (uint32_t)(at % page);
}

void pattern_fill(void *buf, size_t len, size_t page, enum tag tag)
{
	uint64_t *word = buf;
	size_t at;

	for (at = 0; at < len; at += sizeof(*word))
		*word++ = word_of(tag, at, page);
}

static enum tag word_tag(uint64_t word, size_t at, size_t page)
{
	enum tag tag = word >> 56;

	if (!word)
		return TAG_ZERO;
	if (tag != TAG_OLD && tag != TAG_NEW && tag != TAG_CHILD && tag != TAG_REMOTE)
		return TAG_ALIEN;
	return word == word_of(tag, at, page) ? tag : TAG_ALIEN;
}

/* What all probes in buf say, which must hold one filling from its start. */
enum tag pattern_find(const void *buf, size_t len, size_t page)
{
	const uint64_t *words = buf;
	enum tag found = word_tag(*words, 0, page), tag;
	size_t at;

	for (at = 0; at < len; at += sizeof(*words)) {
		if (at % page >= PROBE)
			continue;
		tag = word_tag(words[at / sizeof(*words)], at, page);
		if (tag == TAG_ALIEN)
			return tag;
		if (tag != found)
			found = TAG_MIXED;
	}
	return found;
}

/*
 * Accesses past the end of a file or without a mapping raise a signal. One that
 * hits another thread (a provider may have some) is not ours to swallow.
 */
static sigjmp_buf guard;
static __thread volatile sig_atomic_t guarded;

static void guard_hit(int sig)
{
	if (guarded)
		siglongjmp(guard, 1);
	signal(sig, SIG_DFL);
	raise(sig);
}

static int guarded_copy(void *to, const void *from, size_t len)
{
	struct sigaction act = { .sa_handler = guard_hit }, old_bus, old_segv;
	int ret = -EFAULT;

	sigaction(SIGBUS, &act, &old_bus);
	sigaction(SIGSEGV, &act, &old_segv);
	if (!sigsetjmp(guard, 1)) {
		guarded = 1;
		memcpy(to, from, len);
		/* The caller's next look must be at memory, not at a register. */
		__asm__ volatile("" ::: "memory");
		ret = 0;
	}
	guarded = 0;
	sigaction(SIGSEGV, &old_segv, NULL);
	sigaction(SIGBUS, &old_bus, NULL);
	return ret;
}

int cpu_read(void *buf, const void *from, size_t len)
{
	return guarded_copy(buf, from, len);
}

int cpu_write(void *to, const void *buf, size_t len)
{
	return guarded_copy(to, buf, len);
}

/*
 * The window's filling starts anew at its first page, so that the window, the
 * peer's buffer and the place it moved to all hold the same words.
 */
int memory_write(struct memory *m, uint8_t *to, size_t len, enum tag tag)
{
	uint8_t *buf = malloc(len);
	size_t head = to == m->addr && len > m->offset ? m->offset : 0;
	int ret;

	if (!buf)
		return -ENOMEM;
	pattern_fill(buf, head, m->page, tag);
	pattern_fill(buf + head, len - head, m->page, tag);
	ret = cpu_write(to, buf, len);
	free(buf);
	return ret;
}

/* Looks at a window's worth of memory at from. */
enum tag memory_see(const struct memory *m, const uint8_t *from)
{
	void *buf = malloc(m->window);
	enum tag tag = TAG_NOTHING;

	if (buf && !cpu_read(buf, from, m->window))
		tag = pattern_find(buf, m->window, m->page);
	free(buf);
	return tag;
}

enum tag memory_see_file(const struct memory *m)
{
	void *buf = malloc(m->window);
	enum tag tag = TAG_NOTHING;

	if (buf && pread(m->fd, buf, m->window, m->offset) == (ssize_t)m->window)
		tag = pattern_find(buf, m->window, m->page);
	free(buf);
	return tag;
}
