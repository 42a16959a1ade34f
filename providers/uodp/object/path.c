/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Paths: by GID on Ethernet, by LID on InfiniBand, with a GRH or without. */
#include <string.h>

#include "uodp.h"

#define LID_UNICAST_END 0xc000 /* IBTA 4.1.3: multicast begins here */
#define LID_NAMED 0x100        /* the first of devices that are not named uodp<N> */

/* Begins as no unicast GID: in front of a LID. */
static const uint8_t lid_mark[14] = {0xff, 0xff, 'L', 'I', 'D'};

uint16_t uodp_lid(const uint8_t gid[16])
{
	const uint8_t *ip = gid + 12; /* device.c: 127.0.0.N+1 of uodp<N> */
	uint32_t host = (uint32_t)(ip[1] & 127) << 16 | (uint32_t)ip[2] << 8 | ip[3];

	if (!ip[1])
		return ip[3];
	return (uint16_t)(LID_NAMED + host % (LID_UNICAST_END - LID_NAMED));
}

bool uodp_path_valid(const struct uodp_device *dev, const struct ibv_ah_attr *attr)
{
	if (attr->port_num != UODP_PORT)
		return false;
	/* rdma_cm's paths are by the address of index 1 on InfiniBand as well. */
	if (attr->is_global)
		return attr->grh.sgid_index < UODP_NUM_GIDS;
	return dev->infiniband && attr->dlid && attr->dlid < LID_UNICAST_END;
}

void uodp_path_dgid(const struct ibv_ah_attr *attr, uint8_t dgid[16])
{
	if (attr->is_global) {
		memcpy(dgid, attr->grh.dgid.raw, 16);
		return;
	}
	memcpy(dgid, lid_mark, sizeof(lid_mark));
	dgid[14] = (uint8_t)(attr->dlid >> 8);
	dgid[15] = (uint8_t)attr->dlid;
}

uint16_t uodp_dgid_lid(const uint8_t dgid[16])
{
	if (memcmp(dgid, lid_mark, sizeof(lid_mark)))
		return 0;
	return (uint16_t)(dgid[14] << 8 | dgid[15]);
}
