/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * System calls without libc, and a copy without libc. While a range of program
 * memory is being moved (convert.c), the moving thread may touch no memory that
 * could be in that range: errno, the dynamic linker's tables for a symbol not
 * yet bound, the shadow memory of a sanitizer's interceptor. These touch only
 * registers and their arguments. For the same reason no sanitizer looks at them.
 */
#ifndef ODP_SYS_H
#define ODP_SYS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ODP_NO_SANITIZE __attribute__((no_sanitize("thread", "address", "undefined")))

/* Returns what the kernel does: a value, or -errno. */
ODP_NO_SANITIZE static inline long odp_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#else
	long ret = syscall(nr, a, b, c, d, e, f);

	return ret < 0 ? -errno : ret;
#endif
}

#define ODP_SYS_ARG(x) ((long)(x))
#define odp_sys(nr, a, b, c) odp_sys6((nr), ODP_SYS_ARG(a), ODP_SYS_ARG(b), ODP_SYS_ARG(c), 0, 0, 0)

ODP_NO_SANITIZE static inline long odp_sys_ioctl(int fd, unsigned long cmd, void *arg)
{
	return odp_sys(SYS_ioctl, fd, cmd, arg);
}

ODP_NO_SANITIZE static inline long odp_sys_mmap(uint64_t addr, size_t len, int prot, int flags,
						int fd, uint64_t off)
{
	return odp_sys6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, (long)off);
}

ODP_NO_SANITIZE static inline long odp_sys_munmap(uint64_t addr, size_t len)
{
	return odp_sys(SYS_munmap, addr, len, 0);
}

ODP_NO_SANITIZE static inline long odp_sys_mremap(uint64_t old, size_t len, int flags, uint64_t to)
{
	return odp_sys6(SYS_mremap, (long)old, (long)len, (long)len, flags, (long)to, 0);
}

ODP_NO_SANITIZE static inline long odp_sys_madvise(uint64_t addr, size_t len, int advice)
{
	return odp_sys(SYS_madvise, addr, len, advice);
}

ODP_NO_SANITIZE static inline long odp_sys_pread(int fd, void *buf, size_t len, uint64_t off)
{
	return odp_sys6(SYS_pread64, fd, (long)buf, (long)len, (long)off, 0, 0);
}

ODP_NO_SANITIZE static inline long odp_sys_lseek(int fd, uint64_t off, int whence)
{
	return odp_sys(SYS_lseek, fd, off, whence);
}

ODP_NO_SANITIZE static inline void odp_sys_copy(void *dst, const void *src, size_t n)
{
#if defined(__x86_64__)
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
#else
	volatile unsigned char *d = dst;
	const volatile unsigned char *s = src;

	while (n--)
		*d++ = *s++;
#endif
}

#endif
