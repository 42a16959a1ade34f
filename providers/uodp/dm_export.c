/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Device memory in the hands of others: mappings and descriptors of it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uodp.h"

int uodp_dm_export_fd(struct ibv_dm *ibdm)
{
	struct uodp_dm *dm = to_uodp_dm(ibdm);

	if (uodp_context_check(ibdm->context)) {
		errno = EIO;
		return -1;
	}
	return fcntl(dm->fd, F_DUPFD_CLOEXEC, 0);
}

void uodp_dm_unexport(struct uodp_dm *dm)
{
	(void)dm;
}
