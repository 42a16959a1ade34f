/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A system call that does not begin once a gate has changed.
 *
 * Who shuts a gate waits for threads in system calls that copy, but cannot wait for
 * a thread that is stopped (SIGSTOP) after it looked at the gate and before it is in
 * the kernel: continued minutes later, it would write to pages that are somebody
 * else's by then. A restartable sequence (rseq(2), which glibc 2.35 registers) makes
 * the look and the entry into the kernel one step: a thread that is interrupted
 * between them, by whatever, goes on at the abort label instead.
 */
#ifndef ODP_GUARD_H
#define ODP_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>

#include "sys.h"

#if defined(__x86_64__) && __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#define ODP_HAVE_GUARD 1
#endif

/* Is there more than the look itself? */
static inline bool odp_guard_works(void)
{
#ifdef ODP_HAVE_GUARD
	return __rseq_size > 0;
#else
	return false;
#endif
}

/* As odp_sys6(), but -ERESTART, with nothing done, if *GATE was not WANT or the
 * thread was interrupted before the call. */
ODP_NO_SANITIZE static inline long odp_guard_sys6(const _Atomic uint64_t *gate, uint64_t want,
						  long nr, long a, long b, long c, long d, long e,
						  long f)
{
#ifdef ODP_HAVE_GUARD
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	if (__rseq_size > 0) {
		__asm__ volatile(
			/* struct rseq_cs: version, flags, start, length, abort */
			".pushsection __rseq_cs, \"aw\"\n\t"
			".balign 32\n"
			"3:\n\t"
			".long 0, 0\n\t"
			".quad 1f, 2f - 1f, 4f\n\t"
			".popsection\n\t"
			"leaq 3b(%%rip), %%rax\n\t"
			"movq %%rax, %%fs:8(%[rseq])\n"
			"1:\n\t"
			"cmpq %[want], %[gate]\n\t"
			"jne 4f\n\t"
			"movq %[nr], %%rax\n\t"
			"syscall\n"
			"2:\n\t"
			/* The signature that the kernel looks for stands before the label. */
			".pushsection __rseq_failure, \"ax\"\n\t"
			".byte 0x0f, 0xb9, 0x3d\n\t"
			".long 0x53053053\n"
			"4:\n\t"
			"movq %[restart], %%rax\n\t"
			"jmp 5f\n\t"
			".popsection\n"
			"5:\n\t"
			"movq $0, %%fs:8(%[rseq])\n\t"
			: "=&a"(ret)
			: [nr] "r"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			  "r"(r9), [gate] "m"(*gate), [want] "r"(want), [rseq] "r"(__rseq_offset),
			  [restart] "i"(-ERESTART)
			: "rcx", "r11", "memory", "cc");
		return ret;
	}
#endif
	if (atomic_load_explicit(gate, memory_order_seq_cst) != want)
		return -ERESTART;
	return odp_sys6(nr, a, b, c, d, e, f);
}

#endif
