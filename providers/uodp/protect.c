/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * The kernel tells its MMU notifiers of mprotect(), but not userfaultfd. So a
 * preloaded provider stands in front of it, and tells libodp afterwards: before
 * the call returns the device has the new rights, as on hardware. A process
 * that has opened no device of ours notices nothing.
 *
 * libodp's own calls go to the kernel directly.
 */
#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uodp.h"

static struct {
	int (*mprotect)(void *addr, size_t len, int prot);
	int (*pkey_mprotect)(void *addr, size_t len, int prot, int pkey);
} next;

/* Calls that come before this one go to the kernel, which is the same. */
__attribute__((constructor)) static void protect_init(void)
{
	next.mprotect = dlsym(RTLD_NEXT, "mprotect");
	next.pkey_mprotect = dlsym(RTLD_NEXT, "pkey_mprotect");
}

static void protected(void *addr, size_t len, int prot)
{
	struct odp_proc *proc = odp_proc_attached();
	int err = errno;

	if (proc && odp_protect(proc, addr, len, prot))
		odp_log(ODP_LOG_WARN,
			"mprotect of %p, %zu bytes: out of memory; "
			"on-demand regions there keep their rights",
			addr, len);
	errno = err;
}

int mprotect(void *addr, size_t len, int prot)
{
	int ret = next.mprotect ? next.mprotect(addr, len, prot)
				: (int)syscall(SYS_mprotect, addr, len, prot);

	if (!ret)
	protected(addr, len, prot);
	return ret;
}

int pkey_mprotect(void *addr, size_t len, int prot, int pkey)
{
	int ret = next.pkey_mprotect ? next.pkey_mprotect(addr, len, prot, pkey)
				     : (int)syscall(SYS_pkey_mprotect, addr, len, prot, pkey);

	if (!ret)
	protected(addr, len, prot);
	return ret;
}
