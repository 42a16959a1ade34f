/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The copy itself. Programs poll the last byte of what they wait for: so the
 * last bytes are stored last, with release. Not instrumented by sanitizers: a
 * device's stores are not in the program's order, by nature.
 */
#ifndef ODP_MOVE_H
#define ODP_MOVE_H

#include <stdint.h>
#include <string.h>

#include "sys.h"

#if defined(__SANITIZE_THREAD__)
#define ODP_SANITIZE_THREAD 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ODP_SANITIZE_THREAD 1
#endif
#endif

typedef uint64_t __attribute__((may_alias, aligned(1))) odp_u64_any;
typedef uint32_t __attribute__((may_alias, aligned(1))) odp_u32_any;
typedef uint16_t __attribute__((may_alias, aligned(1))) odp_u16_any;
typedef uint64_t __attribute__((may_alias)) odp_u64_alias;
typedef uint32_t __attribute__((may_alias)) odp_u32_alias;
typedef uint16_t __attribute__((may_alias)) odp_u16_alias;

static inline void odp_move_bulk(char *dst, const char *src, size_t n)
{
#ifdef ODP_SANITIZE_THREAD
	odp_sys_copy(dst, src, n);
#else
	memcpy(dst, src, n);
#endif
}

/* The last N < 8 bytes, DST 8-aligned: descending powers of two keep each store
 * aligned and the last byte for the last of them. */
ODP_NO_SANITIZE static inline void odp_move_tail(char *dst, const char *src, size_t n)
{
	if (n & 4) {
		__atomic_store_n((odp_u32_alias *)dst, *(const odp_u32_any *)src, __ATOMIC_RELEASE);
		dst += 4;
		src += 4;
	}
	if (n & 2) {
		__atomic_store_n((odp_u16_alias *)dst, *(const odp_u16_any *)src, __ATOMIC_RELEASE);
		dst += 2;
		src += 2;
	}
	if (n & 1)
		__atomic_store_n(dst, *src, __ATOMIC_RELEASE);
}

/* Less than 8 bytes from an unaligned DST: one after the other. */
ODP_NO_SANITIZE static inline void odp_move_bytes(char *dst, const char *src, size_t n)
{
	for (; n; n--)
		__atomic_store_n(dst++, *src++, __ATOMIC_RELEASE);
}

ODP_NO_SANITIZE static inline void odp_move(char *dst, const char *src, size_t n)
{
	size_t tail;

	if (n == 8 && !((uintptr_t)dst & 7)) {
		__atomic_store_n((odp_u64_alias *)dst, *(const odp_u64_any *)src, __ATOMIC_RELEASE);
		return;
	}
	if (n < 8) {
		if ((uintptr_t)dst & 7)
			odp_move_bytes(dst, src, n);
		else
			odp_move_tail(dst, src, n);
		return;
	}
	tail = (uintptr_t)(dst + n) & 7;
	if (!tail || n < 8 + tail)
		tail = tail ? tail : 8;
	odp_move_bulk(dst, src, n - tail);
	dst += n - tail;
	src += n - tail;
	if (tail == 8)
		__atomic_store_n((odp_u64_alias *)dst, *(const odp_u64_any *)src, __ATOMIC_RELEASE);
	else
		odp_move_tail(dst, src, tail);
}

#endif
