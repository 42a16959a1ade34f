/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Memory that stays where it is: the kernel copies to and from the owner's
 * address space, faults pages in and checks the mapping's rights.
 */
#include <sys/uio.h>

#include "backing.h"
#include "domain.h"
#include "guard.h"
#include "pool.h"

static struct odp_lane *service_lane(const struct odp_peer *peer)
{
	return &odp_self->domain->lanes[peer->nr][ODP_LANE_SERVICE];
}

/*
 * The copy may fault on a page for which the owner's service thread must answer. If
 * that is the caller, it answers beforehand. If the caller is another process's,
 * the two could wait for each other, so only one of a chain waits: none for a
 * service thread that is in such a call itself. Its lane, like the caller's, was
 * entered before this (seq_cst on both sides): the last of a ring sees the first.
 */
static bool may_wait(const struct odp_peer *peer, uint64_t addr, size_t n)
{
	const struct odp_proc *proc = odp_self;

	if (odp_lane_mine != service_lane(proc->self))
		return true;
	if (peer == proc->self)
		return proc->mem->uffd < 0 || odp_uffd_ready(proc->mem, addr, n);
	return !(atomic_load_explicit(&service_lane(peer)->va, memory_order_seq_cst) & 1);
}

ssize_t odp_va_io(struct odp_peer *peer, uint64_t addr, void *buf, size_t n, bool write,
		  uint64_t gate)
{
	struct iovec local = {buf, n}, remote = {(void *)(uintptr_t)addr, n};
	ssize_t ret;

	if (!odp_peer_alive(peer))
		return -EFAULT;
	if (!may_wait(peer, addr, n))
		return -EAGAIN;
	ret = odp_guard_sys6(&peer->slot->gate, gate,
			     write ? SYS_process_vm_writev : SYS_process_vm_readv, peer->pid,
			     (long)&local, 1, (long)&remote, 1, 0);
	if (ret > 0 || ret == -ERESTART)
		return ret;
	/* Its first thread has ended, the others are about to: it answers no more.
	 * release: pairs with odp_peer_alive(). */
	if (ret == -ESRCH)
		atomic_store_explicit(&peer->dead, true, memory_order_release);
	if (ret == -EPERM)
		odp_log(ODP_LOG_WARN,
			"process %d may not be traced: its memory outside the pool is out of reach",
			(int)peer->pid);
	return ret == -EAGAIN || ret == -EINTR ? -EAGAIN : -EFAULT;
}
