/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * Where the kernel has RDMA, libibverbs lists devices by netlink and not by sysfs, and
 * so the kernel's alone. It goes by sysfs when there is no such netlink family, as in a
 * kernel without RDMA; all it looks for is there.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "files.h"

#define NETLINK_RDMA 20 /* linux/netlink.h */

/* rdma(8) has no other way, and shows the kernel's devices. */
static bool by_netlink_alone(void)
{
	return !strcmp(program_invocation_short_name, "rdma");
}

int socket(int domain, int type, int protocol)
{
	if (uodp_unlikely(domain == AF_NETLINK && protocol == NETLINK_RDMA) &&
	    !by_netlink_alone() && uodp_view_root()) {
		errno = EPROTONOSUPPORT;
		return -1;
	}
	return UODP_NEXT(socket)(domain, type, protocol);
}
