/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Multicast groups, as RoCE has them: nobody is asked, the address is the group. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"

#define MULTICAST_QPN 0xffffff

static int handle_new(struct cm_mcast *mc)
{
	uint32_t i;

	for (i = 0; i < cm.num_mcasts && cm.mcasts[i]; i++)
		;
	if (i == cm.num_mcasts) {
		uint32_t n = cm.num_mcasts ? cm.num_mcasts * 2 : 16;
		struct cm_mcast **more = realloc(cm.mcasts, n * sizeof(*more));

		if (!more)
			return -ENOMEM;
		memset(more + cm.num_mcasts, 0, (n - cm.num_mcasts) * sizeof(*more));
		cm.mcasts = more;
		cm.num_mcasts = n;
	}
	cm.mcasts[i] = mc;
	mc->handle = i;
	return 0;
}

static void mcast_free(struct cm_mcast *mc)
{
	struct cm_mcast **at;

	for (at = &mc->id->mcasts; *at != mc; at = &(*at)->next)
		;
	*at = mc->next;
	events_drop_mcast(mc);
	cm.mcasts[mc->handle] = NULL;
	free(mc);
}

static int join_tell(struct cm_mcast *mc)
{
	struct cm_queued *q = event_new(mc->id, CM_MULTICAST_JOIN, 0);
	struct rdma_ucm_ud_param *p;

	if (!q)
		return -ENOMEM;
	q->mcast = mc;
	q->resp.uid = mc->uid;
	q->resp.id = mc->handle;
	p = &q->resp.param.ud;
	p->qp_num = MULTICAST_QPN;
	p->qkey = mc->id->qkey ? mc->id->qkey : CM_UD_QKEY;
	query_ah(mc->id, &p->ah_attr);
	memcpy(p->ah_attr.grh.dgid, mc->mgid.raw, 16);
	event_put(q);
	return 0;
}

int mcast_join(struct cm_id *id, uint64_t uid, const union cm_addr *addr, unsigned flags,
	       uint32_t *handle)
{
	struct cm_mcast *mc;
	int ret;

	if (flags > RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER)
		return -EINVAL;
	if (id->qp_type != IBV_QPT_UD)
		return -EINVAL;
	if (addr_any(addr))
		return -EINVAL;
	if (!id->dev || (id->state != CM_ADDR_BOUND && id->state != CM_ADDR_DONE))
		return -EINVAL;
	mc = calloc(1, sizeof(*mc));
	if (!mc)
		return -ENOMEM;
	mc->id = id;
	mc->uid = uid;
	memcpy(&mc->addr, addr, addr_size(addr));
	/* RoCE v2: an IPv4 group is its mapped address (cma.c, cma_iboe_set_mgid()). */
	mc->mgid = addr_gid(addr);
	ret = handle_new(mc);
	if (ret) {
		free(mc);
		return ret;
	}
	mc->next = id->mcasts;
	id->mcasts = mc;
	ret = join_tell(mc);
	if (ret)
		mcast_free(mc);
	else
		*handle = mc->handle;
	return ret;
}

int mcast_leave(struct cm_file *file, uint32_t handle)
{
	struct cm_mcast *mc = handle < cm.num_mcasts ? cm.mcasts[handle] : NULL;
	int reported;

	if (!mc)
		return -ENOENT;
	if (mc->id->file != file)
		return -EINVAL;
	events_drop_mcast(mc);
	reported = (int)mc->events_reported;
	mcast_free(mc);
	return reported;
}

void mcasts_drop(struct cm_id *id)
{
	while (id->mcasts)
		mcast_free(id->mcasts);
}
