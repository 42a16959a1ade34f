/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * libibverbs finds and opens the devices by itself, by their files (path.c). When it
 * finds nothing it says ENOSYS, whatever the reason; here is the reason.
 */
#include <errno.h>

#include "files.h"

struct ibv_device **ibv_get_device_list(int *num)
{
	struct ibv_device **list = UODP_NEXT(ibv_get_device_list)(num);
	int err = errno;

	if (!list && uodp_devices_errno())
		err = uodp_devices_errno();
	errno = err;
	return list;
}

/* libibverbs returns EBUSY; programs look at errno as well. */
int ibv_destroy_comp_channel(struct ibv_comp_channel *ch)
{
	int ret = UODP_NEXT(ibv_destroy_comp_channel)(ch);

	if (ret)
		errno = ret;
	return ret;
}
