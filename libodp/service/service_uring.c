/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Waiting with io_uring. Polls are armed one shot at a time: arming costs no
 * system call of its own and looks at the descriptor's state, so that nothing
 * that came meanwhile is missed.
 */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "base.h"
#include "domain.h"
#include "service_priv.h"

#define URING_ENTRIES 256

static int uring_init(struct odp_service *svc, unsigned flags)
{
	struct io_uring_params params = {.flags = flags | IORING_SETUP_CLAMP};

	return io_uring_queue_init_params(URING_ENTRIES, &svc->ring, &params);
}

static int uring_open(struct odp_service *svc)
{
	int ret, fd;

	ret = uring_init(svc, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER);
	if (ret == -EINVAL)
		ret = uring_init(svc, 0);
	if (ret)
		return ret;
	/* A wait with a timeout must not need an entry of its own. */
	if (!(svc->ring.features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(&svc->ring);
		return -EOPNOTSUPP;
	}
	io_uring_ring_dontfork(&svc->ring);
	fd = odp_fd_high(svc->ring.ring_fd);
	svc->ring.ring_fd = svc->ring.enter_ring_fd = fd;
	return 0;
}

static void uring_close(struct odp_service *svc)
{
	/* In a forked child the rings are not mapped; the descriptor is all. */
	if (svc->ring.ring_fd >= 0)
		odp_fd_close(svc->ring.ring_fd);
	svc->ring.ring_fd = -1;
}

static bool uring_poll(struct odp_service *svc, int fd, uint64_t data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&svc->ring);

	if (!sqe) {
		io_uring_submit(&svc->ring);
		sqe = io_uring_get_sqe(&svc->ring);
	}
	if (!sqe)
		return false;
	io_uring_prep_poll_add(sqe, fd, POLLIN);
	io_uring_sqe_set_data64(sqe, data);
	return true;
}

/* The event bits and a peer's address never meet: peers are aligned. */
static bool uring_watch(struct odp_service *svc, struct odp_peer *peer)
{
	return uring_poll(svc, peer->pidfd, (uintptr_t)peer);
}

static void uring_arm(struct odp_service *svc, unsigned what, int fd)
{
	if (fd >= 0 && !((svc->armed | svc->broken) & what) && uring_poll(svc, fd, what))
		svc->armed |= what;
}

static unsigned uring_complete(struct odp_service *svc, const struct io_uring_cqe *cqe)
{
	const uint64_t data = io_uring_cqe_get_data64(cqe);

	if (data == LIBURING_UDATA_TIMEOUT)
		return 0;
	if (data < ODP_EV_END) {
		svc->armed &= ~(unsigned)data;
		return odp_service_polled(svc, (unsigned)data, cqe->res);
	}
	if (cqe->res <= 0 || !(cqe->res & (POLLIN | POLLHUP)))
		return 0; /* lost; odp_peer_check() still asks the kernel */
	odp_service_peer_ended((struct odp_peer *)(uintptr_t)data);
	return ODP_EV_PEER;
}

/* Nothing wakes this thread any more. */
static void uring_lost(struct odp_service *svc)
{
	const struct timespec nap = {.tv_nsec = ODP_DEAF_NS};

	svc->broken = ODP_EV_END - 1;
	odp_proc_lose(svc->proc, "io_uring", svc->ring.ring_fd);
	nanosleep(&nap, NULL);
}

static unsigned uring_wait(struct odp_service *svc, uint64_t timeout)
{
	struct __kernel_timespec ts = {
		.tv_sec = (long long)(timeout / 1000000000u),
		.tv_nsec = (long long)(timeout % 1000000000u),
	};
	struct io_uring_cqe *cqe;
	unsigned ev = 0;
	int ret;

	uring_arm(svc, ODP_EV_BELL, svc->proc->bell_rd);
	for (unsigned i = 0; i < ODP_SOURCES; i++)
		uring_arm(svc, (unsigned)ODP_EV_SOURCE << i, svc->fds[i]);
	ret = io_uring_submit_and_wait_timeout(&svc->ring, &cqe, 1,
					       timeout == ODP_WAIT_FOREVER ? NULL : &ts, NULL);
	if (ret == -EBADF || ret == -EOPNOTSUPP) /* closed; or another file's by now */
		uring_lost(svc);
	while (!io_uring_peek_cqe(&svc->ring, &cqe)) {
		ev |= uring_complete(svc, cqe);
		io_uring_cqe_seen(&svc->ring, cqe);
	}
	return ev;
}

const struct odp_poller odp_poller_uring = {
	.name = "io_uring",
	.open = uring_open,
	.wait = uring_wait,
	.watch = uring_watch,
	.close = uring_close,
};
