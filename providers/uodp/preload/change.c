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

#include "uodp.h"

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
		return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, off);
	p = next.mmap(addr, len, prot, flags, fd, off);
	if (p != MAP_FAILED && (flags & MAP_FIXED))
		uodp_range_changed(p, len, ODP_CHANGE_REPLACED);
	return p;
}

EARLY int munmap(void *addr, size_t len)
{
	int ret;

	if (!next.munmap)
		return (int)syscall(SYS_munmap, addr, len);
	if (addr == &trial)
		atomic_store_explicit(&trial_seen, true, memory_order_relaxed);
	ret = next.munmap(addr, len);
	if (!ret)
		uodp_range_changed(addr, len, ODP_CHANGE_REPLACED);
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
		return (void *)syscall(SYS_mremap, old, old_len, new_len, flags, to);
	p = next.mremap(old, old_len, new_len, flags, to);
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
