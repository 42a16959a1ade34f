/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Address handles: the path of a datagram. */
#include <errno.h>
#include <stdlib.h>

#include "uodp.h"

static _Atomic uint32_t num_ahs;

static bool attr_valid(const struct uodp_device *dev, const struct ibv_ah_attr *attr)
{
	const union ibv_gid *gid = &attr->grh.dgid;

	return uodp_path_valid(dev, attr) &&
	       (!attr->is_global || gid->global.subnet_prefix || gid->global.interface_id);
}

struct ibv_ah *uodp_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr)
{
	static _Atomic uint32_t last_num;
	int ret = uodp_pd_check(pd);
	struct uodp_ah *ah;

	if (!ret && !attr->is_global && !to_uodp_device(pd->context->device)->infiniband)
		uodp_hint(UODP_HINT_GRH, 0);
	if (!ret && !attr_valid(to_uodp_device(pd->context->device), attr))
		ret = -EINVAL;
	if (ret) {
		errno = -ret;
		return NULL;
	}
	if (atomic_fetch_add_explicit(&num_ahs, 1, memory_order_relaxed) >= UODP_MAX_AH)
		goto err_count;
	ah = calloc(1, sizeof(*ah));
	if (!ah)
		goto err_count;
	ah->attr = *attr;
	ah->proc = to_uodp_pd(pd)->proc;
	ah->num = atomic_fetch_add_explicit(&last_num, 1, memory_order_relaxed);
	ah->ibah.handle = ah->num;
	uodp_context_hold(pd->context);
	atomic_fetch_add_explicit(&to_uodp_pd(pd)->users, 1, memory_order_relaxed);
	return &ah->ibah;

err_count:
	atomic_fetch_sub_explicit(&num_ahs, 1, memory_order_relaxed);
	errno = ENOMEM;
	return NULL;
}

int uodp_destroy_ah(struct ibv_ah *ibah)
{
	struct uodp_ah *ah = to_uodp_ah(ibah);
	struct ibv_context *ctx = ibah->context;
	int ret = uodp_destroy_check(ctx, ah->proc, ibah->handle, ah->num);

	if (ret < 0)
		return uodp_fail(ret);
	atomic_fetch_sub_explicit(&num_ahs, 1, memory_order_relaxed);
	/* release: pairs with the acquire in uodp_dealloc_pd() */
	if (!ret)
		atomic_fetch_sub_explicit(&to_uodp_pd(ibah->pd)->users, 1, memory_order_release);
	free(ah);
	uodp_context_drop(ctx);
	return 0;
}
