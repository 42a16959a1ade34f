/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * May a verb use the object that it was given? Not one that has lost its device (see
 * device/life.c), nor one whose handle is not its own.
 *
 * A handle is the number by which the kernel knows an object. The program can write to
 * it, and a kernel's driver then finds no such object, or another's: here it is compared
 * with what was given out. Of the object that a verb is about a wrong one is ENOENT, of
 * one that it is given to use EINVAL.
 */
#include <errno.h>

#include "queue.h"

static bool inherited(const struct uodp_proc *proc)
{
	return proc != uodp_self;
}

int uodp_object_check(const struct ibv_context *ctx, const struct uodp_proc *proc, uint32_t handle,
		      uint32_t given)
{
	if (inherited(proc) || to_uodp_context((struct ibv_context *)ctx)->closed)
		return -EIO;
	return handle == given ? 0 : -ENOENT;
}

int uodp_destroy_check(const struct ibv_context *ctx, const struct uodp_proc *proc, uint32_t handle,
		       uint32_t given)
{
	if (inherited(proc))
		return -EIO;
	if (handle != given)
		return -ENOENT;
	return to_uodp_context((struct ibv_context *)ctx)->closed;
}

int uodp_pd_check(const struct ibv_pd *ibpd)
{
	const struct uodp_pd *pd = to_uodp_pd((struct ibv_pd *)ibpd);
	int ret = uodp_object_check(ibpd->context, pd->proc, ibpd->handle, pd->num);

	if (ret)
		return ret == -ENOENT ? -EINVAL : ret;
	return uodp_context_check(ibpd->context);
}

int uodp_mr_check(const struct ibv_mr *ibmr)
{
	const struct uodp_mr *mr;

	if (!uodp_is_device(ibmr->context->device))
		return -EOPNOTSUPP;
	mr = to_uodp_mr((struct ibv_mr *)ibmr);
	return uodp_object_check(ibmr->context, mr->proc, ibmr->handle, mr->handle);
}

void uodp_shell_stays(const char *what)
{
	odp_log(ODP_LOG_WARN,
		"an unread event of a destroyed %s cannot be removed: its memory stays until the "
		"program ends",
		what);
}
