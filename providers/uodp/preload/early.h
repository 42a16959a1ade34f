/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * System calls before anything else is ready: a sanitizer's runtime maps memory before
 * it can bear a call of an instrumented function, and before the next definition of a
 * function is known. Straight to the kernel, so, and not by syscall(), which this
 * library stands in front of as well (fork.c).
 */
#ifndef UODP_EARLY_H
#define UODP_EARLY_H

#include <errno.h>
#include <sys/syscall.h>

#define UODP_EARLY __attribute__((no_sanitize("thread", "address", "undefined")))

/* As syscall(2): -1 and errno. */
UODP_EARLY static inline long uodp_early_call(long nr, long a, long b, long c, long d, long e,
					      long f)
{
	long ret;
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
#else
#error "uodp is for x86-64 so far"
#endif
	if (ret >= 0 || ret < -4095)
		return ret;
	errno = (int)-ret;
	return -1;
}

#endif
