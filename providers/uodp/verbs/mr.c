/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Memory regions: the verbs side of libodp's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "uodp.h"

#define ACCESS_RIGHTS                                                                              \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |               \
	 IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND)
#define ACCESS_KNOWN                                                                               \
	(ACCESS_RIGHTS | IBV_ACCESS_ON_DEMAND | IBV_ACCESS_HUGETLB | IBV_ACCESS_ZERO_BASED |       \
	 IBV_ACCESS_OPTIONAL_RANGE)

#define PAGE_MASK ((uintptr_t)4095)

/*
 * The process's MRs by the index in their keys, for ibv_advise_mr(). A leaf is
 * allocated when its first MR comes, and kept.
 */
#define LEAF_SHIFT 10
#define LEAF_SIZE (1u << LEAF_SHIFT)
#define NUM_LEAVES (1u << (24 - LEAF_SHIFT))

int uodp_mrs_init(struct uodp_proc *proc)
{
	pthread_mutex_init(&proc->mrs_lock, NULL);
	proc->mrs = odp_priv_alloc(NUM_LEAVES * sizeof(*proc->mrs));
	return proc->mrs ? 0 : -ENOMEM;
}

static struct uodp_mr **mr_slot(struct uodp_proc *proc, uint32_t key)
{
	uint32_t index = key >> 8;
	struct uodp_mr ***leaf = &proc->mrs[index >> LEAF_SHIFT];

	if (!*leaf)
		*leaf = odp_priv_alloc(LEAF_SIZE * sizeof(**leaf));
	return *leaf ? *leaf + (index & (LEAF_SIZE - 1)) : NULL;
}

/* Make room for KEY; setting it later cannot fail then. */
static int slot_reserve(struct uodp_proc *proc, uint32_t key)
{
	struct uodp_mr **slot;

	pthread_mutex_lock(&proc->mrs_lock);
	slot = mr_slot(proc, key);
	pthread_mutex_unlock(&proc->mrs_lock);
	return slot ? 0 : -ENOMEM;
}

/* KEY stands for MR from now on, or no longer. */
static void slot_set(struct uodp_mr *mr, uint32_t key, bool yes)
{
	struct uodp_context *ctx = to_uodp_context(mr->vmr.ibv_mr.context);

	pthread_mutex_lock(&ctx->proc->mrs_lock);
	*mr_slot(ctx->proc, key) = yes ? mr : NULL;
	pthread_mutex_unlock(&ctx->proc->mrs_lock);
}

static struct uodp_mr *mr_find(const struct uodp_proc *proc, uint32_t key)
{
	struct uodp_mr **leaf = proc->mrs[key >> 8 >> LEAF_SHIFT];
	struct uodp_mr *mr = leaf ? leaf[key >> 8 & (LEAF_SIZE - 1)] : NULL;

	return mr && odp_region_key(mr->region) == key ? mr : NULL;
}

/* Those of the optional range, relaxed ordering among them, are hints. */
static int access_check(int access)
{
	return access & ~ACCESS_KNOWN ? -EINVAL : 0;
}

/* What libodp knows of them. A window is never bound to a zero-based MR (rdma_rxe). */
static uint32_t access_rights(int access)
{
	return (uint32_t)(access & ACCESS_RIGHTS &
			  ~(access & IBV_ACCESS_ZERO_BASED ? IBV_ACCESS_MW_BIND : 0));
}

/* Lengths that end beyond the address space, but for one: all of it, on demand. */
static int range_check(void *addr, size_t length, uint64_t iova, int access)
{
	bool implicit = length == SIZE_MAX && !addr && (access & IBV_ACCESS_ON_DEMAND);

	if (length == SIZE_MAX && (!implicit || iova || (access & IBV_ACCESS_HUGETLB)))
		return -EINVAL;
	/* An MR's pages are those of its memory; one of offsets has no address of its own. */
	if (access & IBV_ACCESS_ZERO_BASED)
		return 0;
	return ((uintptr_t)addr ^ iova) & PAGE_MASK ? -EINVAL : 0;
}

/* The address of the first byte for work requests: *IOVA, which is ADDR where nothing else
 * was asked for, or 0. No kernel driver knows the flag; this is what ibv_reg_mr(3) says of
 * it, and another address at the same time contradicts it. */
static int zero_base(const void *addr, uint64_t *iova, int access)
{
	if (!(access & IBV_ACCESS_ZERO_BASED))
		return 0;
	if (*iova && *iova != (uintptr_t)addr)
		return -EINVAL;
	*iova = 0;
	return 0;
}

/* ATTR, which is complete but for what follows from PD and ACCESS. */
static int region_create(struct ibv_pd *pd, struct odp_region_attr *attr, int access,
			 struct odp_region **region)
{
	struct uodp_context *ctx = to_uodp_context(pd->context);
	int ret = uodp_pd_check(pd);

	attr->pd = to_uodp_pd(pd)->num;
	attr->access = access_rights(access);
	attr->tag = UODP_TAG(ctx->dev->index);
	if (ret)
		return ret;
	attr->cookie = ctx->link->id;
	ret = odp_region_create(ctx->proc->odp, attr, region);
	if (ret && odp_proc_lost(ctx->proc->odp)) {
		uodp_lost(ctx->proc);
		odp_bell_ring(odp_proc_self(ctx->proc->odp));
	}
	if (ret)
		return ret;
	ret = slot_reserve(ctx->proc, odp_region_key(*region));
	if (!ret)
		ret = uodp_context_recheck(pd->context);
	if (ret)
		odp_region_destroy(*region);
	return ret;
}

/* Memory of the program's. */
static int memory_create(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, int access,
			 const struct uodp_mr_wish *wish, struct odp_region **region)
{
	struct odp_region_attr attr = {
		.addr = addr,
		.length = length,
		.iova = iova,
		.kind = access & IBV_ACCESS_ON_DEMAND ? ODP_ON_DEMAND : ODP_PINNED,
		.backing = wish->backing,
		.policy = wish->policy,
		.lease_ms = wish->lease_ms,
		.notify = wish->notify,
		/* The flag is about on-demand paging alone. */
		.huge = (access & IBV_ACCESS_HUGETLB) && (access & IBV_ACCESS_ON_DEMAND),
	};
	int ret = access_check(access);

	if (!ret)
		ret = range_check(addr, length, iova, access);
	return ret ? ret : region_create(pd, &attr, access, region);
}

static void mr_set_region(struct uodp_mr *mr, struct odp_region *region, uint64_t iova)
{
	struct ibv_mr *ibmr = &mr->vmr.ibv_mr;

	mr->region = region;
	mr->iova = iova;
	ibmr->lkey = odp_region_key(region);
	ibmr->rkey = ibmr->lkey;
	mr->handle = ibmr->handle = ibmr->lkey >> 8;
	slot_set(mr, ibmr->lkey, true);
}

/* End REGION; what it has counted stays in the device's sums. */
static int region_end(struct ibv_context *ibctx, struct odp_region *region)
{
	struct uodp_context *ctx = to_uodp_context(ibctx);
	struct uodp_odp_sums *sums = &ctx->proc->root->ended[ctx->dev->index];
	struct odp_region_stats stats;
	int ret;

	odp_region_stats(region, &stats);
	ret = odp_region_destroy(region);
	if (ret)
		return ret;
#define ADD(name) atomic_fetch_add_explicit(&sums->name, stats.name, memory_order_relaxed)
	ADD(page_faults);
	ADD(page_faults_handled);
	ADD(page_invalidations);
	ADD(page_invalidations_handled);
	ADD(page_prefetch);
#undef ADD
	return 0;
}

static void mr_init(struct uodp_mr *mr, struct ibv_pd *pd, int access, struct odp_region *region,
		    uint64_t iova)
{
	mr->vmr.mr_type = VERBS_MR_TYPE_MR;
	mr->vmr.access = access;
	mr->vmr.ibv_mr.context = pd->context;
	mr->vmr.ibv_mr.pd = pd;
	mr->map_fd = -1;
	mr->proc = to_uodp_pd(pd)->proc;
	mr_set_region(mr, region, iova);
	uodp_context_hold(pd->context);
	atomic_fetch_add_explicit(&to_uodp_pd(pd)->users, 1, memory_order_relaxed);
}

int uodp_mr_create(struct ibv_pd *pd, struct odp_region_attr *attr, int access,
		   struct uodp_mr **out)
{
	struct uodp_mr *mr = calloc(1, sizeof(*mr));
	struct odp_region *region;
	int ret;

	if (!mr)
		return -ENOMEM;
	ret = region_create(pd, attr, access, &region);
	if (ret) {
		free(mr);
		return ret;
	}
	mr_init(mr, pd, access, region, attr->iova);
	*out = mr;
	return 0;
}

struct ibv_mr *uodp_reg_mr_wish(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				int access, const struct uodp_mr_wish *wish)
{
	struct odp_region *region;
	struct uodp_mr *mr;
	int ret = -ENOMEM;

	mr = calloc(1, sizeof(*mr));
	if (!mr)
		goto err;
	ret = zero_base(addr, &iova, access);
	if (!ret)
		ret = memory_create(pd, addr, length, iova, access, wish, &region);
	if (ret)
		goto err;
	mr->wish = *wish;
	mr_init(mr, pd, access, region, iova);
	return &mr->vmr.ibv_mr;

err:
	free(mr);
	errno = -ret;
	return NULL;
}

struct ibv_mr *uodp_reg_mr(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, int access)
{
	static const struct uodp_mr_wish none;

	return uodp_reg_mr_wish(pd, addr, length, iova, access, &none);
}

struct ibv_mr *uodp_alloc_null_mr(struct ibv_pd *pd)
{
	struct odp_region_attr attr = {.length = SIZE_MAX, .kind = ODP_NULL};
	struct uodp_mr *mr;
	int ret = uodp_mr_create(pd, &attr, IBV_ACCESS_LOCAL_WRITE, &mr);

	if (ret) {
		errno = -ret;
		return NULL;
	}
	mr->vmr.mr_type = VERBS_MR_TYPE_NULL;
	mr->vmr.ibv_mr.length = SIZE_MAX;
	mr->vmr.ibv_mr.rkey = 0; /* it is for one's own SGEs alone */
	return &mr->vmr.ibv_mr;
}

/* Deregister; -errno when that fails, and all is as it was. */
static int mr_end(struct uodp_mr *mr)
{
	struct ibv_mr *ibmr = &mr->vmr.ibv_mr;
	uint32_t key = odp_region_key(mr->region);
	int ret;

	slot_set(mr, key, false);
	ret = region_end(ibmr->context, mr->region);
	if (ret) {
		slot_set(mr, key, true);
		return ret;
	}
	mr->region = NULL;
	/* release: pairs with the acquire in uodp_free_dm() */
	if (mr->dm)
		atomic_fetch_sub_explicit(&mr->dm->users, 1, memory_order_release);
	if (mr->map)
		uodp_dmabuf_unmap(mr);
	/* release: pairs with the acquire in uodp_dealloc_pd() */
	atomic_fetch_sub_explicit(&to_uodp_pd(ibmr->pd)->users, 1, memory_order_release);
	return 0;
}

int uodp_dereg_mr(struct verbs_mr *vmr)
{
	struct uodp_mr *mr = to_uodp_mr(&vmr->ibv_mr);
	struct ibv_context *ctx = vmr->ibv_mr.context;
	int ret = uodp_destroy_check(ctx, mr->proc, vmr->ibv_mr.handle, mr->handle);

	if (!ret)
		ret = mr_end(mr);
	if (ret < 0)
		return uodp_fail(ret);
	free(mr);
	uodp_context_drop(ctx);
	return 0;
}

/* From the index *AT on, which is moved behind it. The lock keeps an MR that another
 * context's thread deregisters meanwhile. */
static struct uodp_mr *mr_of_context(struct ibv_context *ctx, uint32_t *at)
{
	struct uodp_proc *proc = to_uodp_context(ctx)->proc;
	struct uodp_mr *found = NULL;

	pthread_mutex_lock(&proc->mrs_lock);
	while (*at < NUM_LEAVES * LEAF_SIZE && !found) {
		struct uodp_mr **leaf = proc->mrs[*at >> LEAF_SHIFT], *mr;

		if (!leaf) {
			*at = (*at | (LEAF_SIZE - 1)) + 1;
			continue;
		}
		mr = leaf[(*at)++ & (LEAF_SIZE - 1)];
		if (mr && mr->vmr.ibv_mr.context == ctx)
			found = mr;
	}
	pthread_mutex_unlock(&proc->mrs_lock);
	return found;
}

void uodp_mr_drop_all(struct ibv_context *ctx)
{
	struct uodp_mr *mr;
	uint32_t at = 0;

	while ((mr = mr_of_context(ctx, &at)))
		mr_end(mr);
}

/* A region cannot move or change its kind: another takes its place, with other
 * keys, as the man page allows. */
static int mr_replace(struct uodp_mr *mr, struct ibv_pd *pd, void *addr, size_t length,
		      uint64_t iova, int access)
{
	struct odp_region *old = mr->region, *region;
	int ret;

	ret = memory_create(pd, addr, length, iova, access, &mr->wish, &region);
	if (ret)
		return ret;
	slot_set(mr, odp_region_key(old), false);
	ret = region_end(mr->vmr.ibv_mr.context, old);
	if (ret) { /* a window is bound to it */
		slot_set(mr, odp_region_key(old), true);
		odp_region_destroy(region);
		return ret;
	}
	mr_set_region(mr, region, iova);
	return 0;
}

static void mr_set_pd(struct uodp_mr *mr, struct ibv_pd *pd)
{
	atomic_fetch_add_explicit(&to_uodp_pd(pd)->users, 1, memory_order_relaxed);
	/* release: pairs with the acquire in uodp_dealloc_pd() */
	atomic_fetch_sub_explicit(&to_uodp_pd(mr->vmr.ibv_mr.pd)->users, 1, memory_order_release);
	mr->vmr.ibv_mr.pd = pd;
}

/* An MR of memory that is not the program's: the kernel's drivers change nothing of
 * device memory's, and of a dma-buf's not where it is, nor that its pages are its
 * exporter's. One that is mapped to be read stays so. */
static int rereg_foreign(const struct uodp_mr *mr, int flags, int access)
{
	if (mr->dm || access & ~(ACCESS_RIGHTS | IBV_ACCESS_RELAXED_ORDERING))
		return -EINVAL;
	if (access & ~mr->vmr.access & IBV_ACCESS_LOCAL_WRITE)
		return -EOPNOTSUPP;
	return flags & IBV_REREG_MR_CHANGE_TRANSLATION ? -EOPNOTSUPP : 0;
}

/* Pages that were pinned for reading may not be fit to be written. */
static bool needs_region(int from, int to)
{
	return (from ^ to) & (IBV_ACCESS_ON_DEMAND | IBV_ACCESS_HUGETLB | IBV_ACCESS_ZERO_BASED) ||
	       (!(to & IBV_ACCESS_ON_DEMAND) && to & ~from & IBV_ACCESS_LOCAL_WRITE);
}

int uodp_rereg_mr(struct verbs_mr *vmr, int flags, struct ibv_pd *pd, void *addr, size_t length,
		  int access)
{
	struct uodp_mr *mr = to_uodp_mr(&vmr->ibv_mr);
	struct ibv_mr *ibmr = &vmr->ibv_mr;
	uint64_t iova = (uintptr_t)addr;
	int ret;

	if (!(flags & IBV_REREG_MR_CHANGE_PD))
		pd = ibmr->pd;
	if (!(flags & IBV_REREG_MR_CHANGE_ACCESS))
		access = vmr->access;
	if (!(flags & IBV_REREG_MR_CHANGE_TRANSLATION)) {
		addr = ibmr->addr;
		length = ibmr->length;
		iova = vmr->access & ~access & IBV_ACCESS_ZERO_BASED ? (uintptr_t)addr : mr->iova;
	}
	ret = uodp_mr_check(ibmr);
	if (!ret)
		ret = uodp_context_check(ibmr->context);
	if (!ret)
		ret = !pd || pd->context != ibmr->context ? -EINVAL
		      : mr->dm || mr->map                 ? rereg_foreign(mr, flags, access)
							  : access_check(access);
	if (!ret) {
		if ((flags & IBV_REREG_MR_CHANGE_TRANSLATION) ||
		    needs_region(vmr->access, access)) {
			ret = zero_base(addr, &iova, access);
			if (!ret)
				ret = mr_replace(mr, pd, addr, length, iova, access);
		} else {
			ret = odp_region_modify(mr->region, to_uodp_pd(pd)->num,
						access_rights(access));
		}
	}
	if (ret)
		return uodp_fail(ret);
	vmr->access = access;
	if (pd != ibmr->pd)
		mr_set_pd(mr, pd);
	return 0;
}

static int advice_from_verbs(enum ibv_advise_mr_advice from, enum odp_advice *to)
{
	switch (from) {
	case IBV_ADVISE_MR_ADVICE_PREFETCH:
		*to = ODP_PREFETCH;
		return 0;
	case IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE:
		*to = ODP_PREFETCH_WRITE;
		return 0;
	case IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT:
		*to = ODP_PREFETCH_NO_FAULT;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int advise_check(struct ibv_pd *pd, enum odp_advice advice, const struct ibv_sge *sge,
			struct uodp_mr **found)
{
	struct uodp_mr *mr = mr_find(to_uodp_context(pd->context)->proc, sge->lkey);

	/* Advice is about pages that come and go: others are not known here. */
	if (!mr || !(mr->vmr.access & IBV_ACCESS_ON_DEMAND))
		return -ENOENT;
	if (mr->vmr.ibv_mr.pd != pd)
		return -EPERM;
	if (advice == ODP_PREFETCH_WRITE && !(mr->vmr.access & IBV_ACCESS_LOCAL_WRITE))
		return -EPERM;
	*found = mr;
	return 0;
}

/*
 * IBV_ADVISE_MR_FLAG_FLUSH makes no difference: the pages are there when this
 * returns.
 */
int uodp_advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags,
		   struct ibv_sge *sg, uint32_t n)
{
	struct uodp_proc *proc = to_uodp_context(pd->context)->proc;
	enum odp_advice what;
	struct uodp_mr *mr;
	int ret;

	ret = uodp_pd_check(pd);
	if (!ret)
		ret = advice_from_verbs(advice, &what);
	if (!ret && ((flags & ~IBV_ADVISE_MR_FLAG_FLUSH) || !n || !sg))
		ret = -EINVAL;
	if (ret)
		return uodp_fail(ret);

	pthread_mutex_lock(&proc->mrs_lock); /* so that no MR goes meanwhile */
	for (uint32_t i = 0; i < n && !ret; i++)
		ret = advise_check(pd, what, &sg[i], &mr);
	for (uint32_t i = 0; i < n && !ret; i++) {
		ret = advise_check(pd, what, &sg[i], &mr);
		if (!ret)
			ret = odp_region_advise(mr->region, what, sg[i].addr, sg[i].length);
	}
	pthread_mutex_unlock(&proc->mrs_lock);
	return uodp_fail(ret);
}
