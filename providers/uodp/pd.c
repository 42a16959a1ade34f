/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Protection domains: a number that regions and queue pairs must share. */
#include <errno.h>
#include <stdlib.h>

#include "uodp.h"

static _Atomic uint32_t num_pds;

/* A number that no protection domain of this process had before. */
static uint32_t number_next(struct uodp_proc *proc)
{
	uint32_t num;

	pthread_mutex_lock(&proc->lock);
	num = ++proc->next_pd;
	pthread_mutex_unlock(&proc->lock);
	return num;
}

struct ibv_pd *uodp_alloc_pd(struct ibv_context *ctx)
{
	struct uodp_pd *pd;

	if (atomic_fetch_add_explicit(&num_pds, 1, memory_order_relaxed) >= UODP_MAX_PD)
		goto err_count;
	pd = calloc(1, sizeof(*pd));
	if (!pd)
		goto err_count;
	pd->num = number_next(to_uodp_context(ctx)->proc);
	pd->ibpd.handle = pd->num;
	return &pd->ibpd;

err_count:
	atomic_fetch_sub_explicit(&num_pds, 1, memory_order_relaxed);
	errno = ENOMEM;
	return NULL;
}

int uodp_dealloc_pd(struct ibv_pd *ibpd)
{
	struct uodp_pd *pd = to_uodp_pd(ibpd);

	/* acquire: pairs with the release of the last user's decrement */
	if (atomic_load_explicit(&pd->users, memory_order_acquire))
		return EBUSY;
	atomic_fetch_sub_explicit(&num_pds, 1, memory_order_relaxed);
	free(pd);
	return 0;
}
