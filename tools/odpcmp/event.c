/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What can happen to registered memory. Most events strike the window alone. */
#include <errno.h>
#include <sys/mman.h>

#include "odpcmp.h"

static int none_apply(struct memory *m)
{
	(void)m;
	return 0;
}

static int advise(struct memory *m, int advice)
{
	return madvise(memory_window(m), m->window, advice) ? -errno : 0;
}

static int dontneed_apply(struct memory *m)
{
	return advise(m, MADV_DONTNEED);
}

static int free_apply(struct memory *m)
{
	return advise(m, MADV_FREE);
}

static int remove_apply(struct memory *m)
{
	return advise(m, MADV_REMOVE);
}

static int cold_apply(struct memory *m)
{
	return advise(m, MADV_COLD);
}

static int pageout_apply(struct memory *m)
{
	return advise(m, MADV_PAGEOUT);
}

const struct event events[] = {
	{
		.name = "none",
		.help = "nothing happens",
		.class = CLASS_NONE,
		.usual = true,
		.apply = none_apply,
	},
	{
		.name = "truncate",
		.help = "the file is cut; the window is past its end",
		.class = CLASS_FILE,
		.flags = EVENT_NO_NEW_DATA,
		.usual = true,
		.fs_usual = true,
		.apply = event_truncate,
	},
	{
		.name = "truncate-grow",
		.help = "the file is cut and grown to its old size",
		.class = CLASS_FILE,
		.usual = true,
		.fs_usual = true,
		.apply = event_truncate_grow,
	},
	{
		.name = "truncate-grow-zero",
		.help = "the same, and the program writes nothing",
		.class = CLASS_FILE,
		.flags = EVENT_UNTOUCHED,
		.apply = event_truncate_grow,
	},
	{
		.name = "other-truncate",
		.help = "another process cuts the file",
		.class = CLASS_FILE,
		.flags = EVENT_NO_NEW_DATA | EVENT_HELPER,
		.fs_usual = true,
		.apply = event_truncate_other,
	},
	{
		.name = "other-truncate-grow",
		.help = "another process cuts the file and grows it",
		.class = CLASS_FILE,
		.flags = EVENT_HELPER,
		.apply = event_truncate_grow_other,
	},
	{
		.name = "punch",
		.help = "fallocate() punches a hole into the file",
		.class = CLASS_FILE,
		.usual = true,
		.fs_usual = true,
		.apply = event_punch,
	},
	{
		.name = "punch-zero",
		.help = "the same, and the program writes nothing",
		.class = CLASS_FILE,
		.flags = EVENT_UNTOUCHED,
		.apply = event_punch,
	},
	{
		.name = "other-punch",
		.help = "another process punches a hole",
		.class = CLASS_SPACE,
		.flags = EVENT_HELPER,
		.apply = event_punch_other,
	},
	{
		.name = "zero",
		.help = "fallocate() zeroes a range of the file",
		.class = CLASS_SPACE,
		.fs_usual = true,
		.apply = event_zero,
	},
	{
		.name = "other-zero",
		.help = "another process zeroes a range",
		.class = CLASS_SPACE,
		.flags = EVENT_HELPER,
		.apply = event_zero_other,
	},
	{
		.name = "open-trunc",
		.help = "the file is opened with O_TRUNC",
		.class = CLASS_SPACE,
		.flags = EVENT_NO_NEW_DATA,
		.fs_usual = true,
		.apply = event_open_trunc,
	},
	{
		.name = "other-open-trunc",
		.help = "another process opens the file with O_TRUNC",
		.class = CLASS_SPACE,
		.flags = EVENT_NO_NEW_DATA | EVENT_HELPER,
		.apply = event_open_trunc_other,
	},
	{
		.name = "munmap",
		.help = "the window, a part of the region, is unmapped",
		.class = CLASS_UNMAP,
		.flags = EVENT_NO_NEW_DATA,
		.usual = true,
		.fs_usual = true,
		.apply = event_munmap,
	},
	{
		.name = "munmap-all",
		.help = "all of the region is unmapped",
		.class = CLASS_RESIZE,
		.flags = EVENT_NO_NEW_DATA,
		.apply = event_munmap_all,
	},
	{
		.name = "dontneed",
		.help = "madvise(MADV_DONTNEED)",
		.class = CLASS_ADVISE,
		.usual = true,
		.apply = dontneed_apply,
	},
	{
		.name = "dontneed-zero",
		.help = "the same, and the program writes nothing",
		.class = CLASS_ADVISE,
		.flags = EVENT_UNTOUCHED,
		.apply = dontneed_apply,
	},
	{
		.name = "free",
		.help = "madvise(MADV_FREE)",
		.class = CLASS_FREE,
		.apply = free_apply,
	},
	{
		.name = "remove",
		.help = "madvise(MADV_REMOVE)",
		.class = CLASS_REMOVE,
		.usual = true,
		.apply = remove_apply,
	},
	{
		.name = "cold",
		.help = "madvise(MADV_COLD)",
		.class = CLASS_RECLAIM,
		.apply = cold_apply,
	},
	{
		.name = "pageout",
		.help = "madvise(MADV_PAGEOUT)",
		.class = CLASS_RECLAIM,
		.apply = pageout_apply,
	},
	{
		.name = "mmap-over",
		.help = "mmap(MAP_FIXED) of anonymous memory over the window",
		.class = CLASS_UNMAP,
		.usual = true,
		.apply = event_mmap_over,
	},
	{
		.name = "mremap",
		.help = "mremap() moves the window away",
		.class = CLASS_MOVE,
		.flags = EVENT_NO_NEW_DATA,
		.usual = true,
		.apply = event_mremap,
	},
	{
		.name = "mremap-grow",
		.help = "mremap() grows the mapping in place",
		.class = CLASS_RESIZE,
		.apply = event_mremap_grow,
	},
	{
		.name = "mremap-shrink",
		.help = "mremap() cuts the window off",
		.class = CLASS_RESIZE,
		.flags = EVENT_NO_NEW_DATA,
		.apply = event_mremap_shrink,
	},
	{
		.name = "mprotect",
		.help = "mprotect(PROT_READ)",
		.class = CLASS_PROTECT,
		.flags = EVENT_NO_NEW_DATA,
		.usual = true,
		.apply = event_mprotect_read,
	},
	{
		.name = "mprotect-none",
		.help = "mprotect(PROT_NONE)",
		.class = CLASS_PROTECT,
		.flags = EVENT_NO_NEW_DATA,
		.apply = event_mprotect_none,
	},
	{
		.name = "mprotect-back",
		.help = "mprotect(PROT_NONE), then reading and writing again",
		.class = CLASS_PROTECT,
		.apply = event_mprotect_back,
	},
	{
		.name = "brk",
		.help = "the data segment ends before the window",
		.class = CLASS_BRK,
		.flags = EVENT_NO_NEW_DATA,
		.apply = event_brk,
	},
	{
		.name = "brk-grow",
		.help = "the same, and it grows again",
		.class = CLASS_BRK,
		.apply = event_brk_grow,
	},
	{
		.name = "malloc-trim",
		.help = "realloc() to less, malloc_trim(), realloc() to more",
		.class = CLASS_TRIM,
		.apply = event_malloc_trim,
	},
	{
		.name = "fork-child",
		.help = "fork(); the child writes, and lives on",
		.class = CLASS_FORK,
		.usual = true,
		.apply = event_fork_child,
	},
	{
		.name = "fork-parent",
		.help = "fork(); the parent writes, the child lives on",
		.class = CLASS_FORK,
		.usual = true,
		.apply = event_fork_parent,
	},
	{
		.name = "fork-exit",
		.help = "fork(); the child writes and ends, the parent writes",
		.class = CLASS_FORKS,
		.apply = event_fork_exit,
	},
	{
		.name = "fork-exec",
		.help = "fork(); the child executes another program",
		.class = CLASS_FORKS,
		.apply = event_fork_exec,
	},
	{
		.name = "fork-thread",
		.help = "fork() while another thread writes beside the window",
		.class = CLASS_FORKS,
		.apply = event_fork_thread,
	},
	{
		.name = "vfork",
		.help = "vfork(); the child executes another program",
		.class = CLASS_FORKS,
		.apply = event_vfork,
	},
	{
		.name = "spawn",
		.help = "posix_spawn() of another program",
		.class = CLASS_FORKS,
		.apply = event_spawn,
	},
	{
		.name = "exit",
		.help = "the process that registered the memory ends",
		.class = CLASS_END,
		.flags = EVENT_OWNER_ENDS,
		.apply = event_owner_exits,
	},
	{
		.name = "exec",
		.help = "the process that registered it executes another program",
		.class = CLASS_END,
		.flags = EVENT_OWNER_ENDS,
		.apply = event_owner_execs,
	},
};

const size_t num_events = ARRAY_SIZE(events);
_Static_assert(ARRAY_SIZE(events) <= MAX_EVENTS, "raise MAX_EVENTS");
