/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What can happen to registered memory. Every event strikes the window alone. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "odpcmp.h"

static int none_apply(struct memory *m)
{
	(void)m;
	return 0;
}

static int truncate_apply(struct memory *m)
{
	return ftruncate(m->fd, m->offset) ? -errno : 0;
}

static int truncate_grow_apply(struct memory *m)
{
	int ret = truncate_apply(m);

	if (ret)
		return ret;
	return ftruncate(m->fd, m->length) ? -errno : 0;
}

static int punch_apply(struct memory *m)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(m->fd, mode, m->offset, m->window) ? -errno : 0;
}

static int munmap_apply(struct memory *m)
{
	return munmap(memory_window(m), m->window) ? -errno : 0;
}

static int advise(struct memory *m, int advice)
{
	return madvise(memory_window(m), m->window, advice) ? -errno : 0;
}

static int dontneed_apply(struct memory *m)
{
	return advise(m, MADV_DONTNEED);
}

static int remove_apply(struct memory *m)
{
	return advise(m, MADV_REMOVE);
}

static int mmap_over_apply(struct memory *m)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	void *addr;

	addr = mmap(memory_window(m), m->window, PROT_READ | PROT_WRITE, flags, -1, 0);
	return addr == MAP_FAILED ? -errno : 0;
}

static int mremap_apply(struct memory *m)
{
	void *to = memory_map(1, m->window, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (to == MAP_FAILED)
		return -errno;
	if (mremap(memory_window(m), m->window, m->window, flags, to) == MAP_FAILED)
		return -errno;
	m->moved = to;
	return 0;
}

static int mprotect_apply(struct memory *m)
{
	return mprotect(memory_window(m), m->window, PROT_READ) ? -errno : 0;
}

const struct event events[] = {
	{
		.name = "none",
		.help = "nothing happens",
		.apply = none_apply,
	},
	{
		.name = "truncate",
		.help = "the file is cut; the window is past its end",
		.flags = EVENT_NEEDS_FILE | EVENT_NO_NEW_DATA,
		.apply = truncate_apply,
	},
	{
		.name = "truncate-grow",
		.help = "the file is cut and grown to its old size",
		.flags = EVENT_NEEDS_FILE,
		.apply = truncate_grow_apply,
	},
	{
		.name = "punch",
		.help = "fallocate() punches a hole into the file",
		.flags = EVENT_NEEDS_FILE,
		.apply = punch_apply,
	},
	{
		.name = "munmap",
		.help = "the window is unmapped",
		.flags = EVENT_NO_NEW_DATA,
		.apply = munmap_apply,
	},
	{
		.name = "dontneed",
		.help = "madvise(MADV_DONTNEED)",
		.apply = dontneed_apply,
	},
	{
		.name = "remove",
		.help = "madvise(MADV_REMOVE)",
		.flags = EVENT_NEEDS_SHARED,
		.apply = remove_apply,
	},
	{
		.name = "mmap-over",
		.help = "mmap(MAP_FIXED) of anonymous memory over the window",
		.apply = mmap_over_apply,
	},
	{
		.name = "mremap",
		.help = "mremap() moves the window away",
		.flags = EVENT_NO_NEW_DATA,
		.apply = mremap_apply,
	},
	{
		.name = "mprotect",
		.help = "mprotect(PROT_READ)",
		.flags = EVENT_NO_NEW_DATA,
		.apply = mprotect_apply,
	},
	{
		.name = "fork-child",
		.help = "fork(); the child writes, and lives on",
		.apply = event_fork_child,
	},
	{
		.name = "fork-parent",
		.help = "fork(); the parent writes, the child lives on",
		.apply = event_fork_parent,
	},
};

const size_t num_events = ARRAY_SIZE(events);
_Static_assert(ARRAY_SIZE(events) <= MAX_EVENTS, "raise MAX_EVENTS");

bool event_suits(const struct event *event, const struct kind *kind)
{
	unsigned int needs = event->flags & (EVENT_NEEDS_FILE | EVENT_NEEDS_SHARED);

	return (kind->flags & needs) == needs;
}
