/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Calls that take pages away from under on-demand regions. Of memory in the pool
 * userfaultfd tells; of other memory a preloaded provider does, which stands in front of
 * the calls and tells libodp after each: before it returns the device's pages are
 * invalid, as the kernel's MMU notifiers leave them. A process that has opened no device
 * of ours notices nothing.
 *
 * mprotect() and madvise() are in protect.c, ftruncate() and fallocate() in shrink.c.
 * What the C library does inside its own functions, and bare system calls, pass by:
 * libodp then finds the pages gone when they are accessed.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "early.h"
#include "uodp.h"

#define PAGE_MASK ((uintptr_t)4095)

#define EARLY __attribute__((no_sanitize("address", "thread")))

static struct {
	void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t off);
	int (*munmap)(void *addr, size_t len);
	void *(*mremap)(void *addr, size_t old_len, size_t new_len, int flags, ...);
	int (*truncate)(const char *path, off_t length);
} next;

/* Calls that come before this one go to the kernel, which is the same, and touch nothing
 * else: a sanitizer may not be ready. */
__attribute__((constructor)) static void change_init(void)
{
	next.mmap = dlsym(RTLD_NEXT, "mmap");
	next.munmap = dlsym(RTLD_NEXT, "munmap");
	next.mremap = dlsym(RTLD_NEXT, "mremap");
	next.truncate = dlsym(RTLD_NEXT, "truncate");
}

/* An address that the program never unmaps; has it come by? */
static char trial;
static _Atomic bool trial_seen;

void uodp_changes_init(void)
{
	int (*call)(void *, size_t) = (int (*)(void *, size_t))dlsym(RTLD_DEFAULT, "munmap");
	int err = errno;

	/* What the program calls by that name may be a sanitizer's, which calls ours. Of
	 * no length: it fails. */
	if (call)
		call(&trial, 0);
	errno = err;
	if (atomic_load_explicit(&trial_seen, memory_order_relaxed))
		odp_changes_told();
}

void uodp_range_changed(const void *addr, size_t len, enum odp_change change)
{
	struct odp_proc *proc = odp_proc_attached();
	int err = errno;

	if (proc)
		odp_range_changed(proc, addr, len, change);
	errno = err;
}

void uodp_file_changed(int fd, off_t start, off_t end)
{
	struct odp_proc *proc = odp_proc_attached();
	int err = errno;
	struct stat st;

	if (proc && odp_follows(proc) && start >= 0 && !fstat(fd, &st))
		odp_file_changed(proc, st.st_dev, st.st_ino, (uint64_t)start,
				 end == INT64_MAX ? UINT64_MAX : (uint64_t)end);
	errno = err;
}

EARLY void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	void *p;

	if (!next.mmap)
		return (void *)uodp_early_call(SYS_mmap, (long)addr, (long)len, prot, flags, fd,
					       off);
	p = next.mmap(addr, len, prot, flags, fd, off);
	if (p != MAP_FAILED && (flags & MAP_FIXED))
		uodp_range_changed(p, len, ODP_CHANGE_REPLACED);
	return p;
}

EARLY int munmap(void *addr, size_t len)
{
	int ret;

	if (!next.munmap)
		return (int)uodp_early_call(SYS_munmap, (long)addr, (long)len, 0, 0, 0, 0);
	if (addr == &trial)
		atomic_store_explicit(&trial_seen, true, memory_order_relaxed);
	ret = next.munmap(addr, len);
	if (!ret)
		uodp_range_changed(addr, len, ODP_CHANGE_REPLACED);
	return ret;
}

/*
 * Memory that was registered is a mapping of its own within the program's, and mremap()
 * takes one at a time, or several private ones. So it is taken part by part, and what is
 * in the pool in halves of what is refused, down to a page: mprotect() may have parted
 * it. The last one grows.
 */
struct pieces {
	char *old, *to;
	size_t old_len, new_len;
	int flags;
	size_t done; /* of OLD_LEN */
};

static int piece_move(struct pieces *p, size_t len, bool in_pool)
{
	size_t half = (len / 2 + PAGE_MASK) & ~PAGE_MASK;
	bool last = p->done + len == p->old_len;
	size_t grown = len + (last ? p->new_len - p->old_len : 0);

	if (next.mremap(p->old + p->done, len, grown, p->flags, p->to + p->done) != MAP_FAILED) {
		p->done += len;
		return 0;
	}
	if (errno != EFAULT || !in_pool || half >= len)
		return -1;
	return piece_move(p, half, true) || piece_move(p, len - half, true) ? -1 : 0;
}

static int pieces_move(struct odp_proc *proc, struct pieces *p)
{
	bool moved;

	while (p->done < p->old_len) {
		size_t left = p->old_len - p->done;
		size_t n = odp_range_moved(proc, p->old + p->done, left, &moved);

		if (piece_move(p, n < left ? n : left, moved))
			return -1;
	}
	return 0;
}

/* All, or none of it: what has moved when there is no memory for more comes back. */
static void *pieces_move_all(struct odp_proc *proc, struct pieces p)
{
	struct pieces back;
	int err;

	if (!pieces_move(proc, &p))
		return p.to;
	err = errno;
	back = (struct pieces){.old = p.to,
			       .to = p.old,
			       .old_len = p.done,
			       .new_len = p.done,
			       .flags = MREMAP_MAYMOVE | MREMAP_FIXED};
	pieces_move(proc, &back);
	errno = err;
	return MAP_FAILED;
}

/* Grow where it is: the last page's mapping does. */
static void *pieces_grow(char *old, size_t old_len, size_t new_len)
{
	char *last = old + old_len - (PAGE_MASK + 1);

	return next.mremap(last, PAGE_MASK + 1, new_len - old_len + PAGE_MASK + 1, 0) == MAP_FAILED
		       ? MAP_FAILED
		       : old;
}

static void *pieces_remap(struct odp_proc *proc, struct pieces p)
{
	const bool fixed = p.flags & MREMAP_FIXED;
	void *ret = MAP_FAILED;

	/* Nothing happens to a range with holes. */
	if (msync(p.old, p.old_len, MS_ASYNC)) {
		errno = EFAULT;
		return MAP_FAILED;
	}
	if (p.new_len > p.old_len && !fixed)
		ret = pieces_grow(p.old, p.old_len, p.new_len);
	if (ret != MAP_FAILED || !(p.flags & MREMAP_MAYMOVE))
		return ret;
	if (!fixed)
		p.to = next.mmap(NULL, p.new_len, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p.to == MAP_FAILED)
		return MAP_FAILED;
	p.flags |= MREMAP_FIXED;
	ret = pieces_move_all(proc, p);
	if (ret == MAP_FAILED && !fixed)
		next.munmap(p.to, p.new_len);
	return ret;
}

/* Is any of it in the pool? */
static bool any_moved(struct odp_proc *proc, char *addr, size_t len)
{
	bool moved = false;

	while (proc && len && !moved) {
		size_t n = odp_range_moved(proc, addr, len, &moved);

		addr += n;
		len -= n;
	}
	return moved;
}

static bool overlap(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* mremap(), of memory in the pool as of private memory. */
static void *remap(char *old, size_t old_len, size_t new_len, int flags, void *to)
{
	const uintptr_t unaligned = ((uintptr_t)old | old_len | new_len) & PAGE_MASK;
	const struct pieces p = {
		.old = old, .old_len = old_len, .new_len = new_len, .flags = flags, .to = to};
	struct odp_proc *proc = odp_proc_attached();
	void *ret;

	/* A second mapping of the same pages: of shared memory alone. */
	if (!old_len && !((uintptr_t)old & PAGE_MASK) && any_moved(proc, old, PAGE_MASK + 1)) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	/* To a fixed address the kernel takes several private mappings (since Linux 6.17),
	 * and stops at one that is not: then it must not begin. */
	if (!unaligned && old_len && new_len >= old_len && flags & MREMAP_FIXED &&
	    !overlap(old, old_len, to, new_len) && any_moved(proc, old, old_len))
		return pieces_remap(proc, p);
	ret = next.mremap(old, old_len, new_len, flags, to);
	if (ret == MAP_FAILED && errno == EFAULT && !unaligned && old_len && new_len >= old_len &&
	    !(flags & MREMAP_FIXED) && any_moved(proc, old, old_len))
		ret = pieces_remap(proc, p);
	return ret;
}

EARLY void *mremap(void *old, size_t old_len, size_t new_len, int flags, ...)
{
	void *to = NULL, *p;
	va_list args;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_start(args, flags);
		to = va_arg(args, void *);
		va_end(args);
	}
	if (!next.mremap)
		return (void *)uodp_early_call(SYS_mremap, (long)old, (long)old_len, (long)new_len,
					       flags, (long)to, 0);
	p = remap(old, old_len, new_len, flags, to);
	if (p == MAP_FAILED)
		return p;
	if (p != old)
		uodp_range_changed(old, old_len, ODP_CHANGE_REPLACED);
	else if (new_len < old_len)
		uodp_range_changed((char *)old + new_len, old_len - new_len, ODP_CHANGE_REPLACED);
	if (flags & MREMAP_FIXED)
		uodp_range_changed(p, new_len, ODP_CHANGE_REPLACED);
	return p;
}

int truncate(const char *path, off_t length)
{
	int ret = next.truncate ? next.truncate(path, length)
				: (int)syscall(SYS_truncate, path, length);
	struct odp_proc *proc = odp_proc_attached();
	int err = errno;
	struct stat st;

	if (!ret && proc && odp_follows(proc) && !stat(path, &st))
		odp_file_changed(proc, st.st_dev, st.st_ino, (uint64_t)length, UINT64_MAX);
	errno = err;
	return ret;
}

/* Their names for programs with offsets of 64 bits, which all are here. */
#undef mmap64
#undef truncate64
void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off)
	__attribute__((alias("mmap")));
int truncate64(const char *path, off_t length) __attribute__((alias("truncate")));
