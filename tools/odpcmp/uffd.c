/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * A userfaultfd that the program itself has on the memory under test, and a
 * thread that answers its faults with zero pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "odpcmp.h"

struct uffd_keeper {
	int uffd;
	int stop;
	size_t page;
	pthread_t thread;
};

static int uffd_open(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int flags = O_CLOEXEC | O_NONBLOCK, fd, err;

	fd = syscall(SYS_userfaultfd, flags);
	if (fd < 0 && errno == EPERM)
		fd = syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	err = errno;
	close(fd);
	return -err;
}

const char *uffd_lacking(const char *dir)
{
	int fd = uffd_open();

	(void)dir;
	if (fd < 0)
		return "userfaultfd is not to be had";
	close(fd);
	return NULL;
}

static void *keeper_run(void *arg)
{
	struct uffd_keeper *keeper = arg;
	struct pollfd fds[] = {
		{.fd = keeper->uffd, .events = POLLIN},
		{.fd = keeper->stop, .events = POLLIN},
	};
	struct uffdio_zeropage zero = {.range.len = keeper->page};
	struct uffd_msg msg;

	while (poll(fds, ARRAY_SIZE(fds), -1) >= 0 || errno == EINTR) {
		if (fds[1].revents)
			break;
		if (read(keeper->uffd, &msg, sizeof(msg)) != sizeof(msg) ||
		    msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		zero.range.start = msg.arg.pagefault.address & ~(uint64_t)(keeper->page - 1);
		ioctl(keeper->uffd, UFFDIO_ZEROPAGE, &zero);
	}
	return NULL;
}

int finish_uffd(struct memory *m)
{
	struct uffdio_register range = {
		.range = {.start = (uintptr_t)m->addr, .len = m->length},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffd_keeper *keeper = calloc(1, sizeof(*keeper));
	int ret;

	if (!keeper)
		return -ENOMEM;
	keeper->page = m->page;
	ret = keeper->uffd = uffd_open();
	if (ret < 0)
		goto err_free;
	ret = keeper->stop = eventfd(0, EFD_CLOEXEC);
	if (ret < 0) {
		ret = -errno;
		goto err_close_uffd;
	}
	ret = ioctl(keeper->uffd, UFFDIO_REGISTER, &range) ? -errno : 0;
	if (!ret)
		ret = -pthread_create(&keeper->thread, NULL, keeper_run, keeper);
	if (ret)
		goto err_close_stop;
	m->keeper = keeper;
	return 0;

err_close_stop:
	close(keeper->stop);
err_close_uffd:
	close(keeper->uffd);
err_free:
	free(keeper);
	return ret;
}

void uffd_keeper_end(struct uffd_keeper *keeper)
{
	uint64_t one = 1;

	if (!keeper || write(keeper->stop, &one, sizeof(one)) != sizeof(one))
		return;
	pthread_join(keeper->thread, NULL);
	close(keeper->stop);
	close(keeper->uffd);
	free(keeper);
}
