/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * MRs of dma-bufs, of which there are two sorts. Device memory that was exported
 * (dm_export.c) is a memfd of ours, whose exporter may move or revoke it: what the
 * device sees is what a mapping of it sees, so it follows. A real one, of the
 * kernel's, is mapped by whoever reaches for it, and bracketed with DMA_BUF_IOCTL_SYNC,
 * which is how a program uses it; not every exporter lets itself be mapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "uodp.h"

#define PAGE ((uint64_t)4096)
#define ACCESS_ALLOWED                                                                             \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |               \
	 IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_RELAXED_ORDERING)

enum buffer { BUFFER_OURS, BUFFER_KERNEL };

/* What FD is; -EBADF, -EINVAL: no dma-buf. */
static int buffer_kind(int fd)
{
	char path[32], target[64];
	ssize_t n;

	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	/* Without the seal against growth its pages could come back. */
	if (!strncmp(target, "/memfd:" UODP_DM_NAME " ", sizeof("/memfd:" UODP_DM_NAME)) &&
	    fcntl(fd, F_GET_SEALS) & F_SEAL_GROW)
		return BUFFER_OURS;
	if (!strncmp(target, "/dmabuf:", 8))
		return BUFFER_KERNEL;
	odp_log(ODP_LOG_WARN, "ibv_reg_dmabuf_mr: descriptor %d is no dma-buf (%s)", fd, target);
	return -EINVAL;
}

/* Is [OFFSET, OFFSET+LENGTH) a part of it that an MR can be of? */
static int range_check(int fd, uint64_t offset, size_t length, uint64_t iova)
{
	off_t size = lseek(fd, 0, SEEK_END);
	uint64_t end;

	if (size < 0)
		return -errno;
	if (!length || __builtin_add_overflow(offset, length, &end) || end > (uint64_t)size)
		return -EINVAL;
	return (offset ^ iova) % PAGE ? -EINVAL : 0;
}

static int buffer_sync(int fd, uint64_t flags)
{
	struct dma_buf_sync sync = {.flags = flags | DMA_BUF_SYNC_RW};
	int ret;

	do
		ret = ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
	while (ret && (errno == EINTR || errno == EAGAIN));
	return ret ? -errno : 0;
}

/* Can the kernel copy from a mapping of it? */
static int reach_check(const void *map)
{
	int fd[2], ret = 0;

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	if (write(fd[1], map, 1) != 1)
		ret = errno == EFAULT ? -EOPNOTSUPP : -errno;
	close(fd[0]);
	close(fd[1]);
	if (ret == -EOPNOTSUPP)
		odp_log(ODP_LOG_WARN, "ibv_reg_dmabuf_mr: this dma-buf's memory cannot be read "
				      "through a mapping");
	return ret;
}

static int buffer_begin(int fd, const void *map, int *own)
{
	int ret;

	*own = odp_fd_keep(fcntl(fd, F_DUPFD_CLOEXEC, 0));
	if (*own < 0)
		return -errno;
	ret = buffer_sync(*own, DMA_BUF_SYNC_START);
	if (ret)
		goto err;
	ret = reach_check(map);
	if (!ret)
		return 0;
	buffer_sync(*own, DMA_BUF_SYNC_END);
err:
	odp_fd_close(*own);
	*own = -1;
	return ret == -EOPNOTSUPP || ret == -ENOTTY ? -EOPNOTSUPP : ret;
}

static int buffer_map(int fd, uint64_t offset, size_t length, int access, void **map, size_t *len)
{
	int prot = PROT_READ | (access & IBV_ACCESS_LOCAL_WRITE ? PROT_WRITE : 0);
	uint64_t in = offset % PAGE;

	*len = (in + length + PAGE - 1) & ~(PAGE - 1);
	*map = mmap(NULL, *len, prot, MAP_SHARED, fd, (off_t)(offset - in));
	if (*map == MAP_FAILED)
		return errno == ENODEV ? -EOPNOTSUPP : -errno;
	/* A child has no device. Pages that are there count as no fault. */
	madvise(*map, *len, MADV_DONTFORK);
	madvise(*map, *len, MADV_POPULATE_READ);
	return 0;
}

void uodp_dmabuf_unmap(struct uodp_mr *mr)
{
	if (mr->map_fd >= 0) {
		buffer_sync(mr->map_fd, DMA_BUF_SYNC_END);
		odp_fd_close(mr->map_fd);
	}
	munmap(mr->map, mr->map_len);
}

static int held_check(const struct uodp_proc *proc, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	return uodp_dm_held(proc, st.st_ino) ? -EBUSY : 0;
}

static int args_check(struct ibv_pd *pd, uint64_t offset, size_t length, uint64_t iova, int fd,
		      int access)
{
	int kind, ret = uodp_pd_check(pd);

	if (ret)
		return ret;
	if (access & ~(int)ACCESS_ALLOWED)
		return -EINVAL;
	kind = buffer_kind(fd);
	if (kind < 0)
		return kind;
	ret = range_check(fd, offset, length, iova);
	if (!ret && kind == BUFFER_OURS)
		ret = held_check(to_uodp_context(pd->context)->proc, fd);
	return ret ? ret : kind;
}

struct ibv_mr *uodp_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t length, uint64_t iova,
				  int fd, int access)
{
	struct odp_region_attr attr = {
		.length = length,
		.iova = iova,
		.kind = ODP_ON_DEMAND, /* a dynamic importer: it follows its exporter */
		.backing = ODP_BACKING_VA,
		.policy = ODP_POLICY_ODP,
	};
	int kind = args_check(pd, offset, length, iova, fd, access), own = -1, ret = kind;
	struct uodp_mr *mr;
	size_t len;
	void *map;

	if (ret < 0)
		goto err;
	ret = buffer_map(fd, offset, length, access, &map, &len);
	if (ret)
		goto err;
	if (kind == BUFFER_KERNEL) {
		ret = buffer_begin(fd, map, &own);
		attr.backing = ODP_BACKING_FD;
		attr.fd = own;
		attr.fd_offset = offset - offset % PAGE;
	}
	if (ret)
		goto err_map;
	attr.addr = (char *)map + offset % PAGE;
	ret = uodp_mr_create(pd, &attr, access, &mr);
	if (ret)
		goto err_begun;
	mr->map = map;
	mr->map_len = len;
	mr->map_fd = own;
	return &mr->vmr.ibv_mr;

err_begun:
	if (own >= 0) {
		buffer_sync(own, DMA_BUF_SYNC_END);
		odp_fd_close(own);
	}
err_map:
	munmap(map, len);
err:
	errno = -ret;
	return NULL;
}
