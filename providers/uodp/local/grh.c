/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What stands before a datagram's payload at the receiver. */
#include <string.h>

#include "local_step.h"

bool uodp_sends_ipv4(const struct uodp_swqe *w)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return !memcmp(w->dgid, mapped, sizeof(mapped));
}

/*
 * RoCE v2 (Annex 17, A17.4.5.1): 40 bytes before the payload; for IPv4 the last
 * 20 of them are the IPv4 header, whose checksum tells receivers which it is.
 */
void uodp_grh_fill(const struct uodp_qp *qp, const struct uodp_swqe *w, char grh[UODP_GRH])
{
	const struct uodp_device *dev = to_uodp_device(qp->vqp.qp.context->device);
	uint8_t *p = (uint8_t *)grh;
	uint32_t sum = 0, vtf;
	union ibv_gid sgid;

	memset(p, 0, 40);
	/* On InfiniBand there may be none: the 40 bytes say nothing then. */
	if (uodp_dgid_lid(w->dgid) || uodp_device_gid(dev, w->sgid_index, &sgid))
		return;
	if (!dev->infiniband && uodp_sends_ipv4(w)) {
		uint8_t *ip = p + 20;
		uint32_t len = 20 + 8 + 12 + 8 + w->length + 4;

		ip[0] = 0x45;
		ip[1] = w->traffic_class;
		ip[2] = (uint8_t)(len >> 8);
		ip[3] = (uint8_t)len;
		ip[6] = 0x40; /* don't fragment */
		ip[8] = w->hop_limit ? w->hop_limit : 64;
		ip[9] = 17;
		memcpy(ip + 12, sgid.raw + 12, 4);
		memcpy(ip + 16, w->dgid + 12, 4);
		for (int i = 0; i < 20; i += 2)
			sum += (uint32_t)ip[i] << 8 | ip[i + 1];
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = ~sum;
		ip[10] = (uint8_t)(sum >> 8);
		ip[11] = (uint8_t)sum;
		return;
	}
	vtf = 6u << 28 | (uint32_t)w->traffic_class << 20 | (w->flow_label & 0xfffff);
	p[0] = (uint8_t)(vtf >> 24);
	p[1] = (uint8_t)(vtf >> 16);
	p[2] = (uint8_t)(vtf >> 8);
	p[3] = (uint8_t)vtf;
	p[4] = (uint8_t)((w->length + 32) >> 8);
	p[5] = (uint8_t)(w->length + 32);
	p[6] = dev->infiniband ? 0x1b : 17; /* IBTA 8.3.3: IBA; RoCE v2: UDP */
	p[7] = w->hop_limit ? w->hop_limit : 64;
	memcpy(p + 8, sgid.raw, 16);
	memcpy(p + 24, w->dgid, 16);
}
