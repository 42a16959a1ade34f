/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Direct verbs: uodpdv.h. */
#include <errno.h>
#include <string.h>

#include <infiniband/uodpdv.h>

#include "uodp.h"

#define MR_INIT_KNOWN                                                                              \
	(UODPDV_MR_INIT_ATTR_IOVA | UODPDV_MR_INIT_ATTR_POLICY | UODPDV_MR_INIT_ATTR_LEASE |       \
	 UODPDV_MR_INIT_ATTR_NOTIFY)

_Static_assert((int)UODPDV_BACKING_AUTO == ODP_BACKING_AUTO &&
		       (int)UODPDV_BACKING_POOL == ODP_BACKING_POOL &&
		       (int)UODPDV_BACKING_VA == ODP_BACKING_VA &&
		       (int)UODPDV_BACKING_PIN == ODP_BACKING_PIN &&
		       (int)UODPDV_BACKING_FD == ODP_BACKING_FD,
	       "the same numbers");
_Static_assert((int)UODPDV_POLICY_DENY == (int)ODP_POLICY_DENY &&
		       (int)UODPDV_POLICY_LEASE == (int)ODP_POLICY_LEASE,
	       "the same numbers");

/* Copy IN, of the caller's size, to ATTR, of ours: a caller that is older says
 * nothing of what is new; one that is newer may only ask for what we know. */
int uodp_attr_get(void *attr, size_t size, const void *in, uint32_t inlen)
{
	const uint8_t *p = in;

	if (inlen < sizeof(uint64_t))
		return EINVAL;
	memset(attr, 0, size);
	memcpy(attr, in, inlen < size ? inlen : size);
	for (size_t i = size; i < inlen; i++)
		if (p[i])
			return EOPNOTSUPP;
	return 0;
}

static int attr_put(void *out, uint32_t inlen, const void *attr, size_t size)
{
	if (inlen < sizeof(uint64_t))
		return EINVAL;
	memset(out, 0, inlen);
	memcpy(out, attr, inlen < size ? inlen : size);
	return 0;
}

static bool context_ours(const struct ibv_context *ctx)
{
	return uodp_is_device(ctx->device);
}

bool uodpdv_is_supported(struct ibv_device *device)
{
	return uodp_is_device(device);
}

struct ibv_mr *uodpdv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access,
			     const struct uodpdv_mr_init_attr *attr, uint32_t inlen)
{
	struct uodpdv_mr_init_attr a;
	struct uodp_mr_wish wish;
	uint64_t iova = (uintptr_t)addr;
	struct ibv_mr *mr;
	int ret = EOPNOTSUPP;

	if (!context_ours(pd->context))
		goto err;
	ret = uodp_attr_get(&a, sizeof(a), attr, inlen);
	if (ret)
		goto err;
	ret = EOPNOTSUPP;
	if (a.comp_mask & ~(uint64_t)MR_INIT_KNOWN)
		goto err;
	ret = EINVAL;
	if (a.reserved || a.backing > UODPDV_BACKING_PIN)
		goto err;
	wish = (struct uodp_mr_wish){.backing = (enum odp_backing)a.backing};
	if (a.comp_mask & UODPDV_MR_INIT_ATTR_POLICY)
		wish.policy = (enum odp_policy)a.policy;
	if (a.comp_mask & UODPDV_MR_INIT_ATTR_LEASE)
		wish.lease_ms = a.lease_ms;
	wish.notify = a.comp_mask & UODPDV_MR_INIT_ATTR_NOTIFY;
	if (a.comp_mask & UODPDV_MR_INIT_ATTR_IOVA)
		iova = a.iova;
	mr = uodp_reg_mr_wish(pd, addr, length, iova, access, &wish);
	if (mr) /* what libibverbs fills in after the provider's own function */
		mr->addr = addr;
	if (mr)
		mr->length = length;
	return mr;

err:
	errno = ret;
	return NULL;
}

static struct odp_region *region_of(struct ibv_mr *mr)
{
	return to_uodp_mr(mr)->region;
}

int uodpdv_query_mr(struct ibv_mr *mr, struct uodpdv_mr_attr *attr, uint32_t inlen)
{
	struct uodpdv_mr_attr a = {0};
	struct odp_region_stats stats;

	int ret = uodp_mr_check(mr);

	if (ret)
		return -ret;
	odp_region_stats(region_of(mr), &stats);
	/* Device memory is that only in how libodp goes about it. */
	a.on_demand = odp_region_kind(region_of(mr)) == ODP_ON_DEMAND && !to_uodp_mr(mr)->dm;
	a.backing = odp_region_backing(region_of(mr));
	a.pages = stats.pages;
	a.pages_valid = stats.pages_valid;
	a.policy = odp_region_policy(region_of(mr));
	a.revoked = odp_region_revoked(region_of(mr));
	a.seen = odp_region_seen(region_of(mr));
	return attr_put(attr, inlen, &a, sizeof(a));
}

#define STATS_EACH(op)                                                                             \
	op(page_faults);                                                                           \
	op(page_faults_handled);                                                                   \
	op(page_invalidations);                                                                    \
	op(page_invalidations_handled);                                                            \
	op(page_prefetch)

static void stats_set(struct uodpdv_odp_stats *to, const struct odp_region_stats *from)
{
#define SET(name) to->name = from->name
	STATS_EACH(SET);
#undef SET
}

int uodpdv_query_mr_stats(struct ibv_mr *mr, struct uodpdv_odp_stats *stats, uint32_t inlen)
{
	struct odp_region_stats region;
	struct uodpdv_odp_stats s;
	int ret = uodp_mr_check(mr);

	if (ret)
		return -ret;
	odp_region_stats(region_of(mr), &region);
	stats_set(&s, &region);
	return attr_put(stats, inlen, &s, sizeof(s));
}

int uodpdv_query_device_stats(struct ibv_context *ibctx, struct uodpdv_odp_stats *stats,
			      uint32_t inlen)
{
	struct uodpdv_odp_stats s;
	struct odp_region_stats live;
	struct uodp_odp_sums *ended;
	struct uodp_context *ctx;

	if (!context_ours(ibctx))
		return EOPNOTSUPP;
	ctx = to_uodp_context(ibctx);
	if (ctx->proc != uodp_self || ctx->closed)
		return EIO;
	ended = &ctx->proc->root->ended[ctx->dev->index];
	odp_stats_sum(ctx->proc->odp, UODP_TAG(ctx->dev->index), &live);
	stats_set(&s, &live);
#define ADD(name) s.name += atomic_load_explicit(&ended->name, memory_order_relaxed)
	STATS_EACH(ADD);
#undef ADD
	return attr_put(stats, inlen, &s, sizeof(s));
}

int uodpdv_invalidate_range(struct ibv_mr *ibmr, uint64_t iova, size_t length)
{
	int ret = uodp_mr_check(ibmr);
	struct uodp_mr *mr;
	uint64_t off;

	if (ret)
		return -ret;
	mr = to_uodp_mr(ibmr);
	off = iova - mr->iova;
	if (!(mr->vmr.access & IBV_ACCESS_ON_DEMAND) || !length || iova < mr->iova ||
	    off > ibmr->length || length > ibmr->length - off)
		return EINVAL;
	return -odp_invalidate(to_uodp_context(ibmr->context)->proc->odp, (char *)ibmr->addr + off,
			       length);
}

int uodpdv_invalidate_mr(struct ibv_mr *mr)
{
	if (!context_ours(mr->context))
		return EOPNOTSUPP;
	return uodpdv_invalidate_range(mr, to_uodp_mr(mr)->iova, mr->length);
}

int uodpdv_set_fault(struct ibv_mr *mr, const struct uodpdv_fault_attr *attr, uint32_t inlen)
{
	struct odp_fault_policy policy;
	struct uodpdv_fault_attr a;
	int ret = uodp_mr_check(mr);

	if (ret)
		return -ret;
	if (!attr)
		return -odp_region_fault_policy(region_of(mr), NULL);
	ret = uodp_attr_get(&a, sizeof(a), attr, inlen);
	if (ret)
		return ret;
	if (a.comp_mask)
		return EOPNOTSUPP;
	if (a.latency_percent > 100 || a.fail_percent > 100 || a.fail_nth > UINT16_MAX)
		return EINVAL;
	policy = (struct odp_fault_policy){.latency_us = a.latency_us,
					   .latency_percent = (uint8_t)a.latency_percent,
					   .fail_percent = (uint8_t)a.fail_percent,
					   .fail_nth = (uint16_t)a.fail_nth};
	return -odp_region_fault_policy(region_of(mr), &policy);
}
