/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/* Open devices. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cdev.h"
#include "queue.h"

#define COMP_VECTORS 1

/* What is not here answers EOPNOTSUPP. */
static const struct verbs_context_ops context_ops = {
	.advise_mr = uodp_advise_mr,
	.alloc_dm = uodp_alloc_dm,
	.alloc_mw = uodp_alloc_mw,
	.alloc_null_mr = uodp_alloc_null_mr,
	.alloc_parent_domain = uodp_alloc_parent_domain,
	.alloc_pd = uodp_alloc_pd,
	.alloc_td = uodp_alloc_td,
	.async_event = uodp_async_event,
	.attach_mcast = uodp_attach_mcast,
	.bind_mw = uodp_bind_mw,
	.close_xrcd = uodp_close_xrcd,
	.cq_event = uodp_cq_event,
	.create_ah = uodp_create_ah,
	.create_cq = uodp_create_cq,
	.create_cq_ex = uodp_create_cq_ex,
	.create_qp = uodp_create_qp,
	.create_qp_ex = uodp_create_qp_ex,
	.create_srq = uodp_create_srq,
	.create_srq_ex = uodp_create_srq_ex,
	.dealloc_mw = uodp_dealloc_mw,
	.dealloc_pd = uodp_dealloc_pd,
	.dealloc_td = uodp_dealloc_td,
	.dereg_mr = uodp_dereg_mr,
	.destroy_ah = uodp_destroy_ah,
	.destroy_cq = uodp_destroy_cq,
	.destroy_qp = uodp_destroy_qp,
	.destroy_srq = uodp_destroy_srq,
#if UODP_IBVERBS_RELEASE >= 62
	.dm_export_dmabuf_fd = uodp_dm_export_fd,
#endif
	.detach_mcast = uodp_detach_mcast,
	.free_context = uodp_free_context,
	.free_dm = uodp_free_dm,
	.get_srq_num = uodp_get_srq_num,
	.modify_cq = uodp_modify_cq,
	.modify_qp = uodp_modify_qp,
	.modify_srq = uodp_modify_srq,
	.open_qp = uodp_open_qp,
	.open_xrcd = uodp_open_xrcd,
	.poll_cq = uodp_poll_cq,
	.post_recv = uodp_post_recv,
	.post_send = uodp_post_send,
	.post_srq_recv = uodp_post_srq_recv,
	.query_device_ex = uodp_query_device_ex,
	.query_port = uodp_query_port,
	.query_qp = uodp_query_qp,
	.query_rt_values = uodp_query_rt_values,
	.query_srq = uodp_query_srq,
	.reg_dm_mr = uodp_reg_dm_mr,
	.reg_dmabuf_mr = uodp_reg_dmabuf_mr,
	.reg_mr = uodp_reg_mr,
	.req_notify_cq = uodp_req_notify_cq,
	.rereg_mr = uodp_rereg_mr,
	.resize_cq = uodp_resize_cq,
};

/* Let odpctl show which devices this process knows (proc->lock held). */
static void names_publish(struct uodp_proc *proc)
{
	struct uodp_device *devs;
	unsigned n = uodp_devices(&devs);

	if (proc->root->num_devices)
		return;
	for (unsigned i = 0; i < n; i++)
		memcpy(proc->root->devices[i], devs[i].name, sizeof(proc->root->devices[i]));
	/* release: pairs with the acquire of who looks for a name (unplug.c) */
	__atomic_store_n(&proc->root->num_devices, n, __ATOMIC_RELEASE);
}

static void context_link(struct uodp_context *ctx)
{
	struct uodp_proc *proc = ctx->proc;

	pthread_mutex_lock(&proc->lock);
	names_publish(proc);
	ctx->next = proc->contexts;
	proc->contexts = ctx;
	pthread_mutex_unlock(&proc->lock);
}

static void context_unlink(struct uodp_context *ctx)
{
	struct uodp_context **at;

	pthread_mutex_lock(&ctx->proc->lock);
	for (at = &ctx->proc->contexts; *at; at = &(*at)->next) {
		if (*at == ctx) {
			*at = ctx->next;
			break;
		}
	}
	pthread_mutex_unlock(&ctx->proc->lock);
}

/* CMD_FD, a descriptor of the device's file (cdev.c), becomes the context's. */
static struct uodp_context *context_create(struct ibv_device *ibdev, int cmd_fd)
{
	struct uodp_context *ctx;

	ctx = _verbs_init_and_alloc_context(ibdev, cmd_fd, sizeof(*ctx),
					    &((struct uodp_context *)NULL)->vctx, 0);
	if (!ctx)
		return NULL;
	ctx->dev = to_uodp_device(ibdev);
	ctx->async = UODP_PIPE_NONE;
	atomic_store_explicit(&ctx->refs, 1, memory_order_relaxed);
	ctx->vctx.context.num_comp_vectors = COMP_VECTORS;
	verbs_set_ops(&ctx->vctx, &context_ops);
	return ctx;
}

/* Its descriptors; what libibverbs would close later is not open any more. */
static void context_close(struct uodp_context *ctx)
{
	int *fds[] = {&ctx->vctx.context.async_fd, &ctx->vctx.context.cmd_fd};

	uodp_cdev_bind(ctx->vctx.context.cmd_fd, NULL);
	uodp_pipe_close(&ctx->async);
	for (unsigned i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

static void context_destroy(struct uodp_context *ctx)
{
	context_close(ctx);
	uodp_context_drop(&ctx->vctx.context);
}

struct verbs_context *uodp_alloc_context(struct ibv_device *ibdev, int cmd_fd, void *priv)
{
	struct uodp_context *ctx;
	struct uodp_proc *proc;
	int ret;

	(void)priv;
	ret = uodp_proc_get(&proc);
	if (!ret)
		/* Once more: the directory may be another than when it was listed. */
		ret = uodp_sysfs_write(to_uodp_device(ibdev), odp_proc_dir(proc->odp));
	if (ret) {
		close(cmd_fd);
		errno = -ret;
		return NULL;
	}
	ctx = context_create(ibdev, cmd_fd);
	if (!ctx)
		return NULL;
	ctx->proc = proc;
	ret = uodp_pipe(&ctx->vctx.context.async_fd, &ctx->async);
	if (ret) {
		context_destroy(ctx);
		errno = -ret;
		return NULL;
	}
	context_link(ctx);
	ret = uodp_link_open(ctx);
	if (ret) {
		context_unlink(ctx);
		context_destroy(ctx);
		errno = -ret;
		return NULL;
	}
	uodp_cdev_bind(cmd_fd, &ctx->vctx.context);
	return &ctx->vctx;
}

/* ---- a context that a child of fork has inherited ---- */

static pthread_mutex_t adopt_lock = PTHREAD_MUTEX_INITIALIZER;

void uodp_adopt_child(void)
{
	pthread_mutex_init(&adopt_lock, NULL);
}

__attribute__((constructor)) static void adopt_init(void)
{
	pthread_atfork(NULL, NULL, uodp_adopt_child);
}

/* A pipe of the child's own under the number that the program knows. */
static int adopt_async(struct uodp_context *ctx, struct uodp_pipe *p)
{
	int rd, flags = fcntl(ctx->vctx.context.async_fd, F_GETFL), ret;

	ret = uodp_pipe(&rd, p);
	if (ret)
		return ret;
	if (flags >= 0)
		fcntl(rd, F_SETFL, flags & O_NONBLOCK);
	ret = dup3(rd, ctx->vctx.context.async_fd, O_CLOEXEC) < 0 ? -errno : 0;
	close(rd);
	if (ret)
		uodp_pipe_close(p);
	return ret;
}

/* The parent's objects stay on it, and are counted: its memory is not freed. */
static int context_adopt(struct uodp_context *ctx)
{
	struct uodp_proc *proc;
	struct uodp_pipe async;
	int ret = uodp_proc_get(&proc);

	if (!ret)
		ret = uodp_sysfs_write(ctx->dev, odp_proc_dir(proc->odp));
	if (!ret)
		ret = adopt_async(ctx, &async);
	if (ret)
		return ret;
	uodp_pipe_close(&ctx->async);
	ctx->async = async;
	ctx->pds = NULL;
	ctx->channels = NULL;
	ctx->xrcds = NULL;
	ctx->proc = proc;
	ret = uodp_link_open(ctx);
	if (!ret)
		context_link(ctx);
	return ret;
}

int uodp_context_enter(struct ibv_context *ibctx)
{
	struct uodp_context *ctx = to_uodp_context(ibctx);
	int ret = 0;

	if (uodp_unlikely(ctx->proc != uodp_self && !ctx->closed)) {
		pthread_mutex_lock(&adopt_lock);
		if (ctx->proc != uodp_self)
			ret = context_adopt(ctx);
		pthread_mutex_unlock(&adopt_lock);
	}
	return ret ? ret : uodp_context_check(ibctx);
}

/* ---- the end ---- */

static void drop_qps(struct uodp_context *ctx)
{
	struct uodp_qp *qp;

	while ((qp = uodp_table_find(ctx->proc, ctx->proc->qps, &ctx->vctx.context)))
		uodp_qp_drop(qp);
}

static void drop_srqs(struct uodp_context *ctx)
{
	struct uodp_srq *srq;

	while ((srq = uodp_table_find(ctx->proc, ctx->proc->srqs, &ctx->vctx.context)))
		uodp_srq_drop(srq);
}

static void drop_cqs(struct uodp_context *ctx)
{
	struct uodp_cq *cq;

	while ((cq = uodp_table_find(ctx->proc, ctx->proc->cqs, &ctx->vctx.context)))
		uodp_cq_drop(cq);
}

static void drop_dms(struct uodp_context *ctx)
{
	struct uodp_dm *dm;

	while ((dm = uodp_table_find(ctx->proc, ctx->proc->dms, &ctx->vctx.context)))
		uodp_dm_drop(dm);
}

/*
 * A program may close a device and leave its objects. The kernel would clean up then,
 * and so do we; their memory, and CTX's, stays until the program destroys them.
 */
void uodp_free_context(struct ibv_context *ibctx)
{
	struct uodp_context *ctx = to_uodp_context(ibctx);

	if (ctx->closed)
		return; /* for the second time: some objects keep it */
	/* In a child the objects are the parent's, and stay. */
	if (ctx->proc == uodp_self) {
		drop_qps(ctx);
		drop_srqs(ctx);
		drop_cqs(ctx);
		uodp_mw_drop_all(ibctx);
		uodp_xrcd_drop_all(ibctx);
		uodp_mr_drop_all(ibctx);
		drop_dms(ctx);
		uodp_pd_drop_all(ibctx);
		uodp_channel_drop_all(ibctx);
		uodp_link_close(ctx);
		context_unlink(ctx);
		uodp_ops_end(ctx);
	}
	ctx->closed = true;
	context_destroy(ctx);
}
