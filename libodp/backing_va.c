/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory that stays where it is: the kernel copies to and from the owner's
 * address space, faults pages in and checks the mapping's rights.
 */
#include <sys/uio.h>

#include "mem.h"

/* The thread that answers this process's own faults. */
static bool waits_for_itself(const struct odp_peer *peer)
{
	const struct odp_proc *proc = odp_self;

	return peer == proc->self && proc->mem->uffd >= 0 &&
	       odp_lane_mine == &proc->domain->lanes[peer->nr][ODP_LANE_SERVICE];
}

ssize_t odp_va_io(struct odp_peer *peer, uint64_t addr, void *buf, size_t n, bool write)
{
	struct iovec local = {buf, n}, remote = {(void *)(uintptr_t)addr, n};
	ssize_t ret;

	if (!odp_peer_alive(peer))
		return -EFAULT;
	if (waits_for_itself(peer) && !odp_uffd_ready(odp_self->mem, addr, n))
		return -EAGAIN;
	ret = write ? process_vm_writev(peer->pid, &local, 1, &remote, 1, 0)
		    : process_vm_readv(peer->pid, &local, 1, &remote, 1, 0);
	if (ret > 0)
		return ret;
	/* Its first thread has ended, the others are about to: it answers no more.
	 * release: pairs with odp_peer_alive(). */
	if (ret < 0 && errno == ESRCH)
		atomic_store_explicit(&peer->dead, true, memory_order_release);
	if (ret < 0 && errno == EPERM)
		odp_log(ODP_LOG_WARN,
			"process %d may not be traced: its memory outside the pool is out of reach",
			(int)peer->pid);
	return ret < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : -EFAULT;
}
