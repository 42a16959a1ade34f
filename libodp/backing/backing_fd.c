/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Bytes behind a descriptor that can be mapped, as a dma-buf's. The kernel copies from
 * no other process's mapping of device pages, so whoever executes a transfer maps them
 * for it, and copies by system calls: they fail where a load would be a SIGBUS.
 */
#include <fcntl.h>

#include "backing.h"
#include "domain.h"

int odp_entry_fd(struct odp_peer *peer, odp_entry_t entry, int flags)
{
	uint64_t nr = (entry >> ODP_PAGE_SHIFT) - 1;
	long fd = -EPERM;

	if (nr > INT32_MAX)
		return -EBADF;
	if (peer->self)
		return (int)nr;
	if (!odp_peer_alive(peer))
		return -ESRCH;
	if (peer->pidfd >= 0)
		fd = odp_sys(SYS_pidfd_getfd, peer->pidfd, nr, 0);
	return fd >= 0 ? (int)fd : odp_peer_fd(peer, (int)nr, flags);
}

void odp_entry_fd_put(const struct odp_peer *peer, int fd)
{
	if (!peer->self)
		odp_fd_close(fd);
}

/* From one side to the other of our own pipe: bytes done, 0: none (pin_pipe). */
static ssize_t bytes_pass(struct odp_mem *m, void *to, const void *from, size_t n)
{
	ssize_t put = odp_own_write(m->pipe_wr, from, n), got;

	if (put <= 0)
		return 0;
	got = (ssize_t)odp_pin_take(m, to, (size_t)put);
	if (got < put)
		odp_pin_drain(m);
	return got;
}

ssize_t odp_fd_io(struct odp_peer *peer, const struct odp_mr_shm *mr, odp_entry_t entry,
		  uint64_t pos, void *buf, size_t n, bool write)
{
	uint64_t in = pos & ODP_PAGE_MASK, at = ((uint64_t)mr->pin_first << ODP_PAGE_SHIFT) + pos;
	int fd = odp_entry_fd(peer, entry, O_RDWR), prot = PROT_READ | (write ? PROT_WRITE : 0);
	struct odp_mem *m = odp_self->mem;
	size_t len;
	ssize_t ret;
	long map;

	if (fd < 0)
		return -EFAULT;
	n = odp_min(n, ODP_BOUNCE_SIZE);
	len = odp_page_up(in + n);
	map = odp_sys_mmap(0, len, prot, MAP_SHARED, fd, at - in);
	odp_entry_fd_put(peer, fd);
	if (map < 0 && map > -4096)
		return -EFAULT;
	pthread_mutex_lock(&m->pin_pipe);
	ret = write ? bytes_pass(m, (char *)map + in, buf, n)
		    : bytes_pass(m, buf, (char *)map + in, n);
	pthread_mutex_unlock(&m->pin_pipe);
	odp_sys_munmap((uint64_t)map, len);
	return ret > 0 ? ret : -EFAULT;
}
