/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Direct verbs: fault queues. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include <infiniband/uodpdv.h>

#include "uodp.h"

#define SAME(field, other)                                                                         \
	_Static_assert(offsetof(struct uodpdv_fault_msg, field) ==                                 \
			       offsetof(struct odp_fault_msg, other),                              \
		       "libodp writes the messages")
SAME(flags, flags);
SAME(dev_id, dev_id);
SAME(lkey, key);
SAME(group, group);
SAME(perm, perm);
SAME(length, length);
SAME(iova, iova);
SAME(addr, addr);
SAME(context, context);
SAME(cookie, cookie);
_Static_assert(sizeof(struct uodpdv_fault_msg) == 64 && sizeof(struct odp_fault_msg) == 64 &&
		       sizeof(struct uodpdv_fault_response) == 8 &&
		       (int)UODPDV_FAULT_LAST == ODP_FAULT_LAST &&
		       (int)UODPDV_FAULT_WRITE == ODP_FAULT_WRITE &&
		       (int)UODPDV_FAULT_INVALID == ODP_FAULT_INVALID,
	       "the same numbers");

struct fault_queue {
	struct uodpdv_fault_queue dv;
	struct odp_fault_queue *odp;
};

struct uodpdv_fault_queue *uodpdv_create_fault_queue(struct ibv_context *context,
						     const struct uodpdv_fault_queue_attr *attr,
						     uint32_t inlen)
{
	struct uodpdv_fault_queue_attr a;
	struct odp_fault_queue_attr odp;
	struct fault_queue *q = NULL;
	int ret = EOPNOTSUPP;

	if (!uodp_is_device(context->device))
		goto err;
	ret = uodp_attr_get(&a, sizeof(a), attr, inlen);
	if (!ret && a.comp_mask)
		ret = EOPNOTSUPP;
	/* Inherited, or closed; unplugged is no hindrance. */
	if (!ret &&
	    (to_uodp_context(context)->proc != uodp_self || to_uodp_context(context)->closed))
		ret = EIO;
	if (ret)
		goto err;
	q = calloc(1, sizeof(*q));
	ret = ENOMEM;
	if (!q)
		goto err;
	odp = (struct odp_fault_queue_attr){.depth = a.depth, .group_pages = a.group_pages};
	ret = -odp_fault_queue_create(to_uodp_context(context)->proc->odp, &odp, &q->odp);
	if (ret)
		goto err;
	q->dv.context = context;
	q->dv.fd = odp_fault_queue_fd(q->odp);
	q->dv.checked = odp_fault_queue_checked(q->odp);
	return &q->dv;

err:
	free(q);
	errno = ret;
	return NULL;
}

int uodpdv_destroy_fault_queue(struct uodpdv_fault_queue *queue)
{
	struct fault_queue *q = (struct fault_queue *)queue;

	odp_fault_queue_destroy(q->odp, q->dv.fd < 0);
	free(q);
	return 0;
}

int uodpdv_attach_fault_queue(struct ibv_mr *mr, struct uodpdv_fault_queue *queue,
			      const struct uodpdv_fault_attach_attr *attr, uint32_t inlen)
{
	struct fault_queue *q = (struct fault_queue *)queue;
	struct uodpdv_fault_attach_attr a;
	int ret = uodp_mr_check(mr);

	if (ret)
		return -ret;
	ret = uodp_attr_get(&a, sizeof(a), attr, inlen);
	if (ret)
		return ret;
	if (a.comp_mask)
		return EOPNOTSUPP;
	if (a.reserved || !(to_uodp_mr(mr)->vmr.access & IBV_ACCESS_ON_DEMAND))
		return EINVAL;
	return -odp_fault_queue_attach(q->odp, to_uodp_mr(mr)->region, a.dev_id, a.context);
}

int uodpdv_detach_fault_queue(struct ibv_mr *mr)
{
	int ret = uodp_mr_check(mr);

	if (ret)
		return -ret;
	return -odp_fault_queue_detach(to_uodp_mr(mr)->region);
}
