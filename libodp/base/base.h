/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* The ground: descriptors, private memory, what the environment says. */
#ifndef ODP_BASE_H
#define ODP_BASE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "odp/odp.h"

#define ODP_EXPORT __attribute__((visibility("default")))
#define odp_likely(x) __builtin_expect(!!(x), 1)
#define odp_unlikely(x) __builtin_expect(!!(x), 0)

static inline void odp_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
}

#define ODP_PAGE_SHIFT 12
#define ODP_PAGE_SIZE ((uint64_t)1 << ODP_PAGE_SHIFT)
#define ODP_CACHELINE 64
#define ODP_PAGE_MASK (ODP_PAGE_SIZE - 1)

static inline uint64_t odp_page_down(uint64_t x)
{
	return x & ~ODP_PAGE_MASK;
}
static inline uint64_t odp_page_up(uint64_t x)
{
	return (x + ODP_PAGE_MASK) & ~ODP_PAGE_MASK;
}
static inline uint64_t odp_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}
static inline uint64_t odp_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ---- fd.c ---- */
/* Move FD out of the way of programs that count on low numbers, or close all they
 * know nothing of; closes FD. What it returns ends with odp_fd_close() (odp.h). */
int odp_fd_high(int fd);
/* It is the caller's from here on, to be closed by close(). */
void odp_fd_release(int fd);
/* Raise the soft limit of open files to the hard one; false if that is no help. */
bool odp_fd_limit_raise(void);
/* Field 22 of /proc/PID/stat, 0 when there is no such process. */
uint64_t odp_pid_start_time(pid_t pid);
/* Is it in the middle of its end? It may be without descriptors already. */
bool odp_pid_exiting(pid_t pid);
/* The number in a file such as /proc/sys/kernel/..., -1 when it cannot be read. */
int odp_proc_sys_int(const char *path);
/* SIZE bytes of FD, shared, sparse, not inherited by fork, not in core dumps. */
void *odp_map_shared(int fd, uint64_t off, size_t size);

/* ---- valgrind.c ---- */
/* Does this process run under valgrind? False where this library was built without
 * valgrind's header. */
bool odp_on_valgrind(void);
/*
 * [p, p+size) is a large sparse table: memcheck is not to look for pointers in it, which
 * would allocate all of its pages, nor to report who uses it. SHOW: before it is unmapped.
 */
void odp_valgrind_hide(void *p, size_t size);
void odp_valgrind_show(void *p, size_t size);
/* Something that valgrind does not see has written there, or may at any time. */
void odp_valgrind_defined(void *p, size_t size);

/* ---- priv.c ---- */
/* In a child after fork: forget what the parent's threads were in the middle of. */
void odp_priv_child(void);

/* ---- policy.c ---- */
/* What $UODP_POLICY and $UODP_LEASE_MS say; DEFAULT and 0 without. */
enum odp_policy odp_policy_env(void);
uint32_t odp_lease_env(void);

#endif
