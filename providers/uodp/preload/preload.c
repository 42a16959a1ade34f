/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * libibverbs finds and opens the devices by itself, by their files (path.c). When it
 * finds nothing it says ENOSYS, or lists nothing, whatever the reason; here is the
 * reason.
 */
#include <errno.h>

#include "files.h"

struct ibv_device **ibv_get_device_list(int *num)
{
	struct ibv_device **list = UODP_NEXT(ibv_get_device_list)(num);
	int err = errno, why = uodp_devices_errno();

	if (list && !*list && why) {
		ibv_free_device_list(list);
		list = NULL;
		if (num)
			*num = 0;
	}
	errno = !list && why ? why : err;
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

/* A device of ours is opened by its name alone: what the descriptor of another context
 * stands for is not in it. */
struct ibv_context *ibv_import_device(int cmd_fd)
{
	if (uodp_handle_get(cmd_fd)) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	return UODP_NEXT(ibv_import_device)(cmd_fd);
}
