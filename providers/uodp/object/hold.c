/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* A context is there as long as an object holds it; and whether it still has its device. */
#include <errno.h>
#include <stdlib.h>

#include "queue.h"

void uodp_context_hold(struct ibv_context *ctx)
{
	/* relaxed: the caller's own hold keeps it */
	atomic_fetch_add_explicit(&to_uodp_context(ctx)->refs, 1, memory_order_relaxed);
}

static void context_free(struct uodp_context *ctx)
{
	verbs_uninit_context(&ctx->vctx);
	free(ctx);
}

/* True for the last. */
static bool context_unref(struct uodp_context *ctx)
{
	/* acq_rel: whoever frees it comes after all that others did with it. */
	return atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) == 1;
}

void uodp_context_drop(struct ibv_context *ibctx)
{
	struct uodp_context *ctx = to_uodp_context(ibctx);

	if (context_unref(ctx))
		context_free(ctx);
}

void uodp_context_drop_late(struct ibv_context *ibctx)
{
	static _Atomic(struct uodp_context *) late;
	struct uodp_context *ctx = to_uodp_context(ibctx);

	if (!context_unref(ctx))
		return;
	/* acq_rel: the one before is whole, and so is ours for who comes next. */
	ctx = atomic_exchange_explicit(&late, ctx, memory_order_acq_rel);
	if (ctx)
		context_free(ctx);
}

int uodp_context_check(const struct ibv_context *ibctx)
{
	const struct uodp_context *ctx = to_uodp_context((struct ibv_context *)ibctx);

	if (uodp_unlikely(ctx->proc != uodp_self || ctx->closed))
		return -EIO;
	return uodp_unlikely(uodp_link_gone(ctx->proc, ctx->link)) ? -EIO : 0;
}

int uodp_context_recheck(const struct ibv_context *ibctx)
{
	/* seq_cst: pairs with the fence in unplug.c, between the change of the number
	 * and the look for what there is. */
	atomic_thread_fence(memory_order_seq_cst);
	return uodp_context_check(ibctx);
}
