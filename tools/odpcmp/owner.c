/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What cells share whose owner of the memory is a process of its own: a socket between
 * it and the peer, and a QP on either side. */
#include <errno.h>
#include <infiniband/verbs.h>
#include <sys/socket.h>

#include "odpcmp.h"

bool owner_get(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len;
}

bool owner_put(int fd, const void *buf, size_t len)
{
	return send(fd, buf, len, MSG_NOSIGNAL) == (ssize_t)len;
}

bool owner_open_half(const struct group *group, struct rdma *rdma, bool owner,
		     struct answer *answer)
{
	const char *call = "opening the device";
	char name[64];
	int ret;

	ret = rdma_open(rdma, group->env->device, name, sizeof(name));
	if (!ret) {
		rdma->port = group->env->port;
		rdma->gid_index = group->env->gid_index;
		ret = rdma_connect_half(rdma, owner ? &rdma->target : &rdma->peer, &call);
	}
	answer_step(answer, call);
	if (ret)
		answer_step_failed(answer, ret);
	return !ret;
}

bool owner_accept(int fd, struct rdma *rdma)
{
	const char *call;
	uint32_t dest;

	return owner_get(fd, &dest, sizeof(dest)) && !rdma_join(rdma, rdma->target, dest, &call) &&
	       owner_put(fd, "", 1);
}

int owner_connect(int fd, struct rdma *rdma, uint32_t dest)
{
	const char *call;
	char ready;
	int ret;

	ret = rdma_join(rdma, rdma->peer, dest, &call);
	if (ret)
		return ret;
	if (!owner_put(fd, &rdma->peer->qp_num, sizeof(rdma->peer->qp_num)) ||
	    !owner_get(fd, &ready, 1))
		return -ECHILD;
	return 0;
}
