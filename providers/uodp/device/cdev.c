/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * What /dev/infiniband/uverbs<N> does. libibverbs opens it and asks the provider for
 * most things; what it asks the kernel for arrives here: by write(), the commands of
 * rdma/ib_user_verbs.h. An ioctl() fails with ENOTTY, after which libibverbs takes the
 * older way: write(), and the files of sysfs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <rdma/ib_user_verbs.h>

#include "cdev.h"
#include "uodp.h"

/* An open device file. */
struct cdev {
	struct uodp_handle handle; /* first */
	/* Set and cleared by whoever opens and closes the context, which no other thread
	 * may use then (ibv_close_device(3)). */
	struct ibv_context *_Atomic ctx;
};

int uodp_user_copy(void *to, const void *from, size_t n)
{
	struct iovec here = {.iov_base = to, .iov_len = n};
	struct iovec there = {.iov_base = (void *)from, .iov_len = n};
	ssize_t ret;

	if (!n)
		return 0;
	ret = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
	if (ret == (ssize_t)n)
		return 0;
	if (ret >= 0 || errno == EFAULT)
		return -EFAULT;
	memcpy(to, from, n); /* not allowed here: bad pointers are the caller's problem */
	return 0;
}

/* A command of exactly SIZE bytes, its header included. */
static int command_get(void *cmd, size_t size, const void *buf, size_t n)
{
	return n < size ? -EINVAL : uodp_user_copy(cmd, buf, size);
}

static ssize_t create_comp_channel(struct uodp_handle *h, const void *buf, size_t n)
{
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_create_comp_channel core;
	} cmd;
	struct ib_uverbs_create_comp_channel_resp resp;
	struct ibv_context *ctx;
	int fd, ret;

	ret = command_get(&cmd, sizeof(cmd), buf, n);
	if (ret)
		return ret;
	if (cmd.hdr.out_words * 4u < sizeof(resp))
		return -ENOSPC;
	ctx = atomic_load_explicit(&uodp_container_of(h, struct cdev, handle)->ctx,
				   memory_order_acquire);
	ret = ctx ? uodp_context_enter(ctx) : -EINVAL;
	if (ret)
		return ret;
	fd = uodp_channel_create(ctx);
	if (fd < 0)
		return fd;
	resp.fd = (uint32_t)fd;
	ret = uodp_user_copy((void *)(uintptr_t)cmd.core.response, &resp, sizeof(resp));
	if (ret) {
		close(fd);
		return ret;
	}
	return (ssize_t)n;
}

static ssize_t cdev_write(struct uodp_handle *h, const void *buf, size_t n)
{
	struct ib_uverbs_cmd_hdr hdr;
	int ret = command_get(&hdr, sizeof(hdr), buf, n);

	if (ret)
		return ret;
	/* As drivers/infiniband/core/uverbs_main.c, verify_hdr(). */
	if (hdr.in_words * 4u != n)
		return -EINVAL;
	if (hdr.command == IB_USER_VERBS_CMD_CREATE_COMP_CHANNEL)
		return create_comp_channel(h, buf, n);
	return -EOPNOTSUPP;
}

static void cdev_release(struct uodp_handle *h)
{
	free(uodp_container_of(h, struct cdev, handle));
}

static const struct uodp_handle_ops cdev_ops = {
	.write = cdev_write,
	.release = cdev_release,
	.node = true,
};

int uodp_cdev_open(const struct uodp_device *dev, const char *real, int flags)
{
	struct cdev *cdev;
	int fd;

	fd = (int)syscall(SYS_openat, AT_FDCWD, real, O_RDONLY | O_DIRECTORY | (flags & O_CLOEXEC));
	if (fd < 0)
		return -1;
	cdev = calloc(1, sizeof(*cdev));
	if (cdev) {
		cdev->handle.ops = &cdev_ops;
		cdev->handle.dev = dev;
		if (uodp_handle_set(fd, &cdev->handle))
			return fd;
		free(cdev);
	}
	close(fd);
	errno = cdev ? EMFILE : ENOMEM;
	return -1;
}

void uodp_cdev_bind(int fd, struct ibv_context *ctx)
{
	struct uodp_handle *h = uodp_handle_get(fd);

	if (h && h->ops == &cdev_ops)
		atomic_store_explicit(&uodp_container_of(h, struct cdev, handle)->ctx, ctx,
				      memory_order_release);
}
