/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Which attachment this process has, and whether it still works. */
#include "domain.h"

struct odp_proc *odp_self;

ODP_EXPORT struct odp_proc *odp_proc_attached(void)
{
	/* acquire: pairs with the release store in odp_self_set(). */
	return __atomic_load_n(&odp_self, __ATOMIC_ACQUIRE);
}

void odp_self_set(struct odp_proc *proc)
{
	__atomic_store_n(&odp_self, proc, __ATOMIC_RELEASE);
}

void odp_proc_lose(struct odp_proc *proc, const char *what, int fd)
{
	/* release: pairs with odp_proc_lost(). */
	if (!atomic_exchange_explicit(&proc->lost, true, memory_order_release))
		odp_log(ODP_LOG_ERR,
			"the program has closed a descriptor of this library (%d, its %s) by a "
			"system call of its own: registered memory can no longer be followed, and "
			"the device fails; see odp_fd_kept(3)",
			fd, what);
}

ODP_EXPORT bool odp_proc_lost(const struct odp_proc *proc)
{
	return atomic_load_explicit(&proc->lost, memory_order_acquire);
}
