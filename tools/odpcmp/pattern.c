/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What is written into memory: each word says who wrote it, and where it belongs. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "odpcmp.h"

uint64_t pattern_word(enum tag tag, size_t page, size_t at)
{
	return (uint64_t)tag << 56 | (uint64_t)page << 32 | at;
}

void pattern_fill(void *buf, size_t len, size_t page, enum tag tag)
{
	uint64_t *word = buf;
	size_t at;

	for (at = 0; at < len; at += sizeof(*word))
		*word++ = pattern_word(tag, page, at);
}

enum tag pattern_word_tag(uint64_t word, size_t page, size_t at)
{
	enum tag tag = word >> 56;

	if (!word)
		return TAG_ZERO;
	if (tag != TAG_OLD && tag != TAG_NEW && tag != TAG_CHILD && tag != TAG_REMOTE &&
	    tag != TAG_BEFORE)
		return TAG_ALIEN;
	return word == pattern_word(tag, page, at) ? tag : TAG_ALIEN;
}

enum tag tag_join(enum tag a, enum tag b)
{
	if (a == TAG_NOTHING || b == TAG_NOTHING)
		return TAG_NOTHING;
	if (a == TAG_ALIEN || b == TAG_ALIEN)
		return TAG_ALIEN;
	return a == b ? a : TAG_MIXED;
}

enum tag pattern_find(const void *buf, size_t len, size_t page)
{
	const uint64_t *words = buf;
	enum tag found = pattern_word_tag(words[0], page, 0);
	size_t at;

	for (at = sizeof(*words); at < len; at += sizeof(*words))
		found = tag_join(found, pattern_word_tag(words[at / sizeof(*words)], page, at));
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
	struct sigaction act = {.sa_handler = guard_hit}, old_bus, old_segv;
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
