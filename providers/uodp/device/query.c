/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* What the device and its port say of themselves. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "uodp.h"

#ifndef UODP_VERSION
#error "UODP_VERSION is not defined: the project's version, a string"
#endif

#define VENDOR_NONE 0xffffff /* as the kernel's software devices */
#define ACK_DELAY 15         /* 4.096 us * 2^15 = 134 ms: a busy host's scheduler */

/* Of the kernel's ABI, not named by every release of verbs.h that can do it. */
#define ODP_SUPPORT_ATOMIC_WRITE (1u << 7)
#define DEVICE_ATOMIC_WRITE (1ull << 40)

/* Codes of the port's management data. */
enum { WIDTH_4X = 2, SPEED_EDR = 32, PHYS_LINK_UP = 5, ONE_VL = 1, SUBNET_TIMEOUT = 18 };

static void device_limits(struct ibv_device_attr *attr)
{
	attr->max_mr_size = UINT64_MAX;
	attr->page_size_cap = ~(uint64_t)4095;
	attr->max_mr = 1 << 20;
	attr->max_mw = UODP_MAX_MW;
	attr->max_pd = UODP_MAX_PD;
	attr->max_ah = UODP_MAX_AH;
	attr->max_qp = UODP_MAX_QP;
	attr->max_qp_wr = UODP_MAX_WR;
	attr->max_sge = UODP_MAX_SGE;
	attr->max_sge_rd = UODP_MAX_SGE;
	attr->max_qp_rd_atom = UODP_MAX_RD_ATOMIC;
	attr->max_qp_init_rd_atom = UODP_MAX_RD_ATOMIC;
	attr->max_res_rd_atom = UODP_MAX_RD_ATOMIC * UODP_MAX_QP;
	attr->max_cq = UODP_MAX_CQ;
	attr->max_cqe = UODP_MAX_CQE;
	attr->max_srq = UODP_MAX_SRQ;
	attr->max_srq_wr = UODP_MAX_WR;
	attr->max_srq_sge = UODP_MAX_SGE;
	attr->max_mcast_grp = UODP_MAX_MCAST;
	attr->max_mcast_qp_attach = UODP_MAX_QP;
	attr->max_total_mcast_qp_attach = UODP_MAX_MCAST;
	attr->max_pkeys = 1;
	attr->phys_port_cnt = 1;
	attr->local_ca_ack_delay = ACK_DELAY;
}

static void device_fill(const struct uodp_device *dev, struct ibv_device_attr *attr)
{
	snprintf(attr->fw_ver, sizeof(attr->fw_ver), "%s", UODP_VERSION);
	attr->node_guid = dev->guid;
	attr->sys_image_guid = dev->guid;
	attr->vendor_id = VENDOR_NONE;
	attr->device_cap_flags = IBV_DEVICE_CURR_QP_STATE_MOD | IBV_DEVICE_SYS_IMAGE_GUID |
				 IBV_DEVICE_RC_RNR_NAK_GEN | IBV_DEVICE_SRQ_RESIZE |
				 IBV_DEVICE_UD_AV_PORT_ENFORCE | IBV_DEVICE_XRC |
				 IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B;
	/* Not GLOB: on memory outside the pool the CPU's atomics do not count. */
	attr->atomic_cap = IBV_ATOMIC_HCA;
	device_limits(attr);
}

static void odp_fill(struct ibv_odp_caps *caps)
{
	const uint32_t ud = IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV | IBV_ODP_SUPPORT_SRQ_RECV;
	const uint32_t uc = ud | IBV_ODP_SUPPORT_WRITE;

	caps->general_caps = IBV_ODP_SUPPORT | IBV_ODP_SUPPORT_IMPLICIT;
	caps->per_transport_caps.ud_odp_caps = ud;
	caps->per_transport_caps.uc_odp_caps = uc;
	caps->per_transport_caps.rc_odp_caps =
		uc | IBV_ODP_SUPPORT_READ | IBV_ODP_SUPPORT_ATOMIC | ODP_SUPPORT_ATOMIC_WRITE;
}

/* SIZE is that of the caller's header, perhaps older or newer than ours; for
 * ibv_query_device() it covers orig_attr alone. */
int uodp_query_device_ex(struct ibv_context *ctx, const struct ibv_query_device_ex_input *in,
			 struct ibv_device_attr_ex *attr, size_t size)
{
	struct ibv_device_attr_ex full;

	int ret = uodp_context_enter(ctx);

	if (ret)
		return uodp_fail(ret);
	if ((in && in->comp_mask) || size < sizeof(attr->orig_attr))
		return uodp_fail(-EINVAL);
	memset(&full, 0, sizeof(full));
	device_fill(to_uodp_context(ctx)->dev, &full.orig_attr);
	odp_fill(&full.odp_caps);
	full.xrc_odp_caps = full.odp_caps.per_transport_caps.rc_odp_caps | IBV_ODP_SUPPORT_SRQ_RECV;
	full.device_cap_flags_ex = full.orig_attr.device_cap_flags | DEVICE_ATOMIC_WRITE;
	full.phys_port_cnt_ex = 1;
	full.completion_timestamp_mask = UINT64_MAX;
	full.hca_core_clock = 1000000; /* kHz: nanoseconds (cq_ex.c) */
	full.cq_mod_caps.max_cq_count = UINT16_MAX;
	full.cq_mod_caps.max_cq_period = UINT16_MAX;
	full.max_dm_size = uodp_dm_limit();

	memset(attr, 0, size);
	memcpy(attr, &full, size < sizeof(full) ? size : sizeof(full));
	return 0;
}

/* libibverbs has zeroed ATTR. */
int uodp_query_port(struct ibv_context *ctx, uint8_t port, struct ibv_port_attr *attr)
{
	const struct uodp_device *dev = to_uodp_device(ctx->device);
	int ret = uodp_context_enter(ctx);

	if (!ret && port != UODP_PORT)
		ret = -EINVAL;
	if (ret)
		return uodp_fail(ret);
	attr->state = IBV_PORT_ACTIVE;
	attr->phys_state = PHYS_LINK_UP;
	attr->link_layer = dev->infiniband ? IBV_LINK_LAYER_INFINIBAND : IBV_LINK_LAYER_ETHERNET;
	attr->max_mtu = IBV_MTU_4096;
	attr->active_mtu = IBV_MTU_4096;
	attr->gid_tbl_len = (int)uodp_device_num_gids(dev);
	attr->pkey_tbl_len = 1;
	attr->port_cap_flags = uodp_device_port_caps(dev);
	attr->max_msg_sz = UODP_MAX_MSG;
	attr->max_vl_num = ONE_VL;
	attr->active_width = WIDTH_4X;
	attr->active_speed = SPEED_EDR;
	if (dev->infiniband) {
		attr->lid = dev->lid;
		attr->sm_lid = dev->lid; /* as if the subnet were managed from here */
		attr->subnet_timeout = SUBNET_TIMEOUT;
	} else {
		attr->flags = IBV_QPF_GRH_REQUIRED;
	}
	return 0;
}
